"""Instances of hypotheses: found where there is one, and only where it is one of the real thing."""

import pytest
import sympy as sp

from proofs.engine.certificates import instance
from proofs.engine.relations import eq, le, lt
from proofs.engine.values import at_example, instance_of

x, y, A, B = sp.symbols("x y A B", real=True)
size = sp.Symbol("Q", nonnegative=True)
k = sp.Symbol("k", integer=True)
even, prime = sp.Symbol("e", even=True), sp.Symbol("p", prime=True)
irrational = sp.Symbol("r", irrational=True)
z = sp.Symbol("z", complex=True)


@pytest.mark.parametrize(
    "hypotheses",
    [
        (le(x, y), lt(0, x)),
        (eq(x**2, 2),),
        (eq(sp.sin(A), y), le(1, A), le(A, 3)),
        (eq(2 * size * sp.sin(A), sp.Min(2 * size, x)), lt(0, x), le(A + B, sp.pi / 2), lt(0, B)),
        (sp.Ne(sp.sin(k * A / 2), 0), lt(0, sp.Abs(z))),
        (lt(3, even),),
        (lt(2, prime),),
        (eq(irrational, sp.pi),),
        (le(0, A), le(A, sp.pi), lt(sp.Abs(z * sp.exp(sp.I * A) - z), sp.Abs(z)), lt(1, sp.Abs(z))),
    ],
)
def test_instances_are_found(hypotheses):
    assert instance_of(hypotheses).ok


@pytest.mark.parametrize(
    "hypotheses",
    [
        (eq(sp.cos(x), 1), eq(x, 1)),
        (eq(sp.sin(x), 0), le(1, x), le(x, 3)),
        (lt(sp.pi, x), lt(x, sp.Rational(3141592, 10**6))),
        (eq(even, 1),),
        (eq(prime, 4),),
        (eq(irrational, 4),),
    ],
)
def test_what_is_an_instance_of_polynomials_only_is_none(hypotheses):
    assert instance(hypotheses).ok  # to z3 alone
    found = instance_of(hypotheses)
    assert not found.ok
    assert "give an example" in found.detail


@pytest.mark.parametrize(
    "hypotheses",
    [(lt(x, y), lt(y, x)), (eq(sp.cos(x), 2),), (eq(k, sp.Rational(1, 2)),), (sp.false,)],
)
def test_there_is_no_instance(hypotheses):
    assert not instance_of(hypotheses).ok


def test_an_example_is_checked_exactly():
    assert at_example((eq(sp.cos(A), sp.Rational(1, 2)),), {A: sp.pi / 3}).ok
    assert at_example((le(sp.sqrt(2), x),), {x: sp.sqrt(2)}).ok
    assert at_example((sp.Or(lt(x, 0), lt(1, x)),), {x: sp.Integer(2)}).ok
    assert at_example((lt(1, x) & lt(x, 3),), {x: sp.Integer(2)}).ok
    near = sp.Rational(14142135623730951, 10**16)
    for hypothesis, value in (
        (eq(sp.sqrt(2), x), near),
        (le(near, x), sp.sqrt(2)),
        (lt(sp.sqrt(2), x), sp.sqrt(2)),
        (sp.Ne(x, sp.sqrt(2), evaluate=False), sp.sqrt(2)),
        (sp.Or(lt(x, 0), lt(1, x)), sp.Rational(1, 2)),
        (lt(x, y), sp.Integer(0)),
        (lt(0, sp.log(x)), -sp.Integer(2)),
    ):
        assert not at_example((hypothesis,), {x: value}).ok
