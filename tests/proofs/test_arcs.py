"""Certificates over sines, cosines and equal parts: what they certify, and what they must not."""

import pytest
import sympy as sp

from proofs.engine import arcs
from proofs.engine.arcs import Arcsine, ByCosines, Same
from proofs.engine.certificates import Evidence, Identity, Solver
from proofs.engine.derivation import Derivation

psi = sp.Symbol("psi", nonnegative=True)
r, d = sp.symbols("r d", positive=True)
v = sp.Symbol("v", real=True)


def le(left, right):
    return sp.Le(left, right, evaluate=False)


UP_TO_PI = le(psi, sp.pi)
CHORD = le(2 * r * sp.sin(psi / 2), d)
ARC = 2 * sp.asin(sp.Min(1, d / (2 * r)))


class Anything:
    def certify(self, left, relation, right, hypotheses):
        return Evidence(True, "test", "whatever")


def test_every_fact_of_the_module_is_certified():
    found = [value for value in vars(arcs).values() if isinstance(value, Derivation)]
    assert len(found) == 5
    assert all(derivation.ok for derivation in found)


def test_an_arcsine_by_its_sine():
    assert Arcsine(Solver()).certify(psi, "<=", ARC, (UP_TO_PI, CHORD)).ok
    uncapped = 2 * sp.asin(d / (2 * r))
    assert Arcsine(Solver()).certify(psi, "<=", uncapped, (UP_TO_PI, CHORD, le(d, 2 * r))).ok


@pytest.mark.parametrize(
    ("relation", "right", "hypotheses"),
    [
        ("<=", ARC, (UP_TO_PI,)),  # nothing is known of the sine
        ("<=", ARC, (CHORD,)),  # an angle beyond pi has a small sine too
        ("<=", ARC, (le(psi, 2 * sp.pi), CHORD)),
        ("<", ARC, (UP_TO_PI, CHORD)),
        ("=", ARC, (UP_TO_PI, CHORD)),
        ("<=", ARC / 2, (UP_TO_PI, CHORD)),
        ("<=", 2 * sp.asin(sp.Min(1, d / (2 * r)) * sp.Rational(99, 100)), (UP_TO_PI, CHORD)),
        ("<=", 2 * sp.asin(d / (2 * r)), (UP_TO_PI, CHORD)),  # d/2r may exceed 1
        ("<=", -ARC, (UP_TO_PI, CHORD)),
        ("<=", d / r, (UP_TO_PI, CHORD)),
    ],
)
def test_an_arcsine_needs_its_range_its_domain_and_its_sine(relation, right, hypotheses):
    assert not Arcsine(Solver()).certify(psi, relation, right, hypotheses).ok


def test_an_arcsine_is_refused_outside_its_domain_whatever_the_sine():
    given = (UP_TO_PI,)
    any_sign = 2 * sp.asin(sp.Min(1, v / r))
    assert not Arcsine(Anything()).certify(psi, "<=", any_sign, given).ok
    no_sign = 2 * sp.asin(sp.Min(1, d / v))
    assert not Arcsine(Anything()).certify(psi, "<=", no_sign, given).ok
    no_root = 2 * sp.asin(d / r)
    assert not Arcsine(Anything(), squared=True).certify(psi, "<=", no_root, given).ok
    two_roots = 2 * sp.asin(sp.sqrt(v) * sp.sqrt(v - 1))
    assert not Arcsine(Anything(), squared=True).certify(psi, "<=", two_roots, given).ok


def test_squares_of_sines_need_an_angle_that_is_not_negative():
    right, known = sp.asin(sp.sqrt(d)), sp.Eq(sp.sin(v) ** 2, d, evaluate=False)
    given = (le(v, sp.pi / 2), known)
    assert not Arcsine(Solver(), squared=True).certify(v, "=", right, given).ok
    given = (*given, sp.Ge(v, 0, evaluate=False))
    assert Arcsine(Solver(), squared=True).certify(v, "=", right, given).ok


def test_angles_by_cosines_between_0_and_pi_only():
    acute = sp.Gt(sp.cos(psi), 0, evaluate=False)
    assert ByCosines(Solver()).certify(psi, "<=", sp.pi / 2, (UP_TO_PI, acute)).ok
    assert ByCosines(Solver()).certify(psi, "<", sp.pi / 2, (UP_TO_PI, acute)).ok
    assert not ByCosines(Solver()).certify(psi, "<=", sp.pi / 2, (acute,)).ok
    assert not ByCosines(Solver()).certify(psi, "<=", sp.pi / 2, (UP_TO_PI,)).ok
    assert not ByCosines(Solver()).certify(psi, "<=", sp.pi / 3, (UP_TO_PI, acute)).ok
    assert not ByCosines(Anything()).certify(v, "<=", sp.pi / 2, (le(v, sp.pi),)).ok
    assert not ByCosines(Anything()).certify(psi, "<=", -sp.pi / 2, (UP_TO_PI,)).ok
    assert not ByCosines(Anything()).certify(psi, "=", sp.pi / 2, (UP_TO_PI,)).ok


@pytest.mark.parametrize(
    "nearly",
    [
        le(psi, sp.pi * sp.Rational(1001, 1000)),
        le(2 * psi, 2 * sp.pi),  # the same, but it is not looked for
        sp.Ge(psi, sp.pi, evaluate=False),
        sp.Eq(psi, 4, evaluate=False),
        le(v, sp.pi),
    ],
)
def test_the_range_of_an_angle_is_looked_for_as_it_is_written(nearly):
    assert not Arcsine(Anything()).certify(psi, "<=", ARC, (nearly,)).ok
    assert not ByCosines(Anything()).certify(psi, "<=", sp.pi / 2, (nearly,)).ok
    assert not ByCosines(Anything()).certify(sp.pi / 2, "<=", psi, (nearly,)).ok


def test_numbers_outside_the_range_of_an_arccosine_are_refused():
    for left, right in ((sp.pi, 2 * sp.pi), (-sp.Integer(1), sp.pi), (sp.Integer(4), sp.pi)):
        assert not ByCosines(Anything()).certify(left, "<=", right, ()).ok
    assert ByCosines(Solver()).certify(sp.pi / 3, "<", sp.pi / 2, ()).ok
    assert not ByCosines(Solver()).certify(sp.pi / 2, "<=", sp.pi / 3, ()).ok


def test_parts_are_not_equal_where_both_terms_have_no_value():
    given = (sp.Eq(v, psi, evaluate=False),)
    for left, right in (
        (1 / (v - psi), 2 / (v - psi)),
        (psi / (v - psi), 1 / (v - psi)),
        (sp.log(v - psi), 2 * sp.log(v - psi)),
    ):
        assert not Same(v, psi, Solver()).certify(left, "=", right, given).ok


def test_equal_parts_make_equal_terms():
    smaller = sp.Min(sp.pi / 2, v)
    given = (le(v, sp.pi / 2),)
    same = Same(smaller, v, Solver())
    assert same.certify(sp.sin(v), "=", sp.sin(smaller), given).ok
    assert not same.certify(sp.sin(v), "=", sp.sin(smaller), ()).ok
    assert not same.certify(sp.sin(v), "=", 2 * sp.sin(smaller), given).ok
    assert not same.certify(sp.sin(v), "<=", sp.sin(smaller), given).ok
    assert not same.certify(sp.sin(v), "=", sp.sin(v), given).ok
    assert not Same(v, v + 1, Identity()).certify(sp.sin(v), "=", sp.sin(v + 1), ()).ok
