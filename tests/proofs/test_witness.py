"""Values chosen for symbols: what may be put where, and what is refused."""

import pytest
import sympy as sp

from proofs.engine.certificates import Solver
from proofs.engine.witness import AtChosen, Chosen, chosen

x, y = sp.symbols("x y", real=True)
size = sp.Symbol("r", nonnegative=True)
z, w = sp.symbols("z w", complex=True)


def test_a_relation_is_shown_at_the_chosen_values():
    given = chosen({x: y + 1, z: x * w})
    assert AtChosen().certify(z - w, "=", y * w, given).ok
    assert not AtChosen().certify(z, "=", y * w, given).ok
    assert AtChosen(by=Solver()).certify(x**2, "<=", 2 * y**2 + 2, given).ok
    # relations among the hypotheses are put in too
    positive = [sp.Gt(x, 1, evaluate=False), *given]
    assert AtChosen(by=Solver()).certify(sp.Integer(0), "<", y, positive).ok
    assert not AtChosen(by=Solver()).certify(sp.Integer(0), "<", y, given).ok


def test_only_the_named_symbols_are_replaced():
    given = chosen({x: y + 1, z: x * w})
    assert AtChosen((z,)).certify(z, "=", x * w, given).ok
    assert not AtChosen((z,)).certify(z, "=", (y + 1) * w, given).ok
    assert not AtChosen((w,)).certify(z, "=", x * w, given).ok


@pytest.mark.parametrize(
    "given",
    [
        (),
        (Chosen(x, y), Chosen(x, 2 * y)),  # twice
        (Chosen(x, x + 1),),  # by itself
        (Chosen(z, x * w), Chosen(x, y)),  # by what comes later
        (Chosen(x, 1 / y),),  # y may be 0
        (Chosen(size, y),),  # y may be negative
        (Chosen(x, sp.sqrt(y)),),  # and then has no root
        (Chosen(x, sp.Max(0, 1 / y)),),
        (Chosen(x, sp.log(size)),),
        (Chosen(x, z),),  # z may be complex
        (Chosen(x + 1, y),),
    ],
)
def test_choices_that_mean_nothing_are_refused(given):
    assert AtChosen().certify(y, "=", y, chosen({w: z})).ok
    assert not AtChosen().certify(y, "=", y, given).ok


def test_what_is_chosen_must_be_a_number_of_its_kind_by_the_hypotheses():
    root = chosen({x: sp.sqrt(y)})
    assert not AtChosen(by=Solver()).certify(sp.Integer(0), "<=", y, root).ok
    assert not AtChosen(by=Solver()).certify(sp.Integer(0), "<=", x**2, root).ok
    known = (sp.Ge(y, 0, evaluate=False), *root)
    assert AtChosen(by=Solver()).certify(sp.Integer(0), "<=", x**2, known).ok
    whole = sp.Symbol("k", integer=True)
    assert not AtChosen().certify(whole, "=", y, chosen({whole: y})).ok
    # a hypothesis that fails at the chosen values proves nothing
    impossible = (sp.Gt(x, 1, evaluate=False), *chosen({x: sp.Integer(0)}))
    assert not AtChosen(by=Solver()).certify(y, "<=", y - 1, impossible).ok


def test_choices_are_written_as_definitions():
    assert sp.latex(Chosen(x, y + 1)) == "x := y + 1"


def test_what_a_side_divides_by_must_not_vanish_at_the_values():
    """The quotient is 1 wherever it exists, and sympy cancels before anything is certified."""
    size, sigma = sp.symbols("kappa sigma", nonnegative=True)
    at = AtChosen()
    hypotheses = chosen({sigma: size})
    assert not at.certify(size / sigma, "=", sp.Integer(1), hypotheses).ok
    assert at.certify(size / sigma, "=", sp.Integer(1), (*hypotheses, sp.Gt(size, 0))).ok
    assert at.certify(size / (1 + sigma**2), "=", size / (1 + size**2), hypotheses).ok
