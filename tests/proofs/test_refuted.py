"""Points against a relation that no prover decides."""

import sympy as sp

from proofs.engine.certificates import Meaning
from proofs.engine.relations import le
from proofs.engine.witness import chosen
from proofs.mutation.refuted import point_against

x = sp.Symbol("x", real=True)
y = sp.Symbol("y", real=True)
n = sp.Symbol("n", integer=True, positive=True)
z = sp.Symbol("z", complex=True)


def test_a_false_relation_has_a_point_against_it():
    values = point_against(sp.Abs(x), "=", x, ())
    assert values is not None
    assert values[x] < 0
    assert point_against(x**2 + 1, "<=", sp.Abs(x), ()) is not None
    assert point_against(sp.Abs(z), "=", sp.re(z), ()) is not None


def test_a_true_relation_has_none():
    assert point_against(sp.sin(x) ** 2 + sp.cos(x) ** 2, "=", sp.Integer(1), ()) is None
    assert point_against(2 * sp.Abs(x), "<=", x**2 + 1, ()) is None
    assert point_against(n + 1, "<=", 2 * n, ()) is None  # equal at n = 1


def test_a_false_relation_by_less_than_the_digits_is_left_open():
    assert point_against(x**2 + sp.Float(10, 60) ** -50, "<=", x**2, ()) is None


def test_hypotheses_hold_at_the_point():
    values = point_against(x, "<=", sp.Integer(0), (le(sp.Integer(1), x),))
    assert values is not None
    assert values[x] >= 1
    assert point_against(sp.Abs(x), "=", x, (le(sp.Integer(0), x),)) is None


def test_chosen_symbols_have_their_values():
    assert point_against(x, "=", 2 * y, chosen({x: 2 * y})) is None
    assert point_against(x, "=", 3 * y, chosen({x: 2 * y})) is not None


def test_another_meaning_leaves_the_relation_open():
    assert point_against(x, "=", 2 * y, (Meaning(x, y),)) is None


def test_values_that_leave_a_side_undefined_tell_nothing():
    assert point_against(1 / (x - x), "=", x, ()) is None
