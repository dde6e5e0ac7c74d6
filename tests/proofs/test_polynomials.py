"""Polynomials with known squares: a ring, its normal forms, and the limit on their size."""

import math

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from proofs.engine import polynomials
from proofs.engine.polynomials import ONE, ZERO, Ring, key

X, C, S, R, M = sp.symbols("x c s r m", real=True)
NUMBERS = st.integers(-4, 4)
POINTS = st.tuples(st.floats(-2, 2), st.floats(-3, 3))


def new_ring():
    """A ring with a free x, a cosine and sine, r = sqrt(2 + x^2) and m = max(x, c)."""
    ring = Ring()
    x, c = ring.variable(X), ring.variable(C)
    s = ring.variable(S, ring.difference(ONE, ring.product(c, c)))
    r = ring.variable(R, ring.sum((ring.constant(sp.Integer(2)), ring.product(x, x))))
    m = ring.variable_of_two(M, ring.sum((x, c)), ring.product(x, c))
    return ring, {X: x, C: c, S: s, R: r, M: m}


def at(point):
    x, angle = point
    values = {X: x, C: math.cos(angle), S: math.sin(angle), R: math.sqrt(2 + x * x)}
    return values | {M: max(x, math.cos(angle))}


def value(expression, point):
    return float(sp.sympify(expression).subs(at(point)))


@st.composite
def polynomial(draw, ring, variables):
    """A random element: a sum of products of at most three variables."""
    terms = draw(
        st.lists(st.tuples(NUMBERS, st.lists(st.sampled_from(list(variables)), max_size=3)))
    )
    parts = []
    for number, symbols in terms:
        part = ring.constant(sp.Rational(number, 3))
        for symbol in symbols:
            part = ring.product(part, variables[symbol])
        parts.append(part)
    return ring.sum(parts)


@given(st.data(), POINTS)
def test_the_axioms_of_a_ring_hold_and_values_are_kept(data, point):
    ring, variables = new_ring()
    a, b, c = (data.draw(polynomial(ring, variables)) for _ in range(3))
    assert ring.sum((a, b)) == ring.sum((b, a))
    assert ring.product(a, b) == ring.product(b, a)
    assert ring.product(a, ring.product(b, c)) == ring.product(ring.product(a, b), c)
    both = ring.sum((ring.product(a, b), ring.product(a, c)))
    assert ring.product(a, ring.sum((b, c))) == both
    assert ring.difference(a, a) == ZERO
    assert ring.product(a, ONE) == a
    # values of the normal form are those of the plain product
    left, right = value(ring.expression(a), point), value(ring.expression(b), point)
    assert value(ring.expression(ring.product(a, b)), point) == pytest.approx(
        left * right, abs=1e-8 * (1 + abs(left)) * (1 + abs(right))
    )


@given(st.data())
def test_no_square_that_is_known_is_left(data):
    ring, variables = new_ring()
    a = ring.power(data.draw(polynomial(ring, variables)), 2)
    shown = sp.Poly(ring.expression(a), *variables)
    assert all(max(powers[2:]) <= 1 for powers in shown.monoms())


def test_what_is_zero_by_the_definitions_has_the_normal_form_zero():
    ring, v = new_ring()
    squares = ring.sum((ring.product(v[C], v[C]), ring.product(v[S], v[S])))
    assert squares == ONE
    first, second = ring.difference(v[M], v[X]), ring.difference(v[M], v[C])
    assert ring.product(first, second) == ZERO
    assert ring.product(first, v[M]) != ZERO


@given(st.data(), POINTS)
def test_a_denominator_is_cleared_by_its_powers(data, point):
    ring, v = new_ring()
    inverse = sp.Symbol("inverse", real=True)
    i, below = ring.variable(inverse), ring.sum((v[R], ONE))  # r + 1 > 0
    parts = [data.draw(polynomial(ring, v)) for _ in range(3)]
    whole = ring.sum(ring.product(part, ring.power(i, k)) for k, part in enumerate(parts))
    cleared = ring.times_inverse_of(whole, inverse, below)
    assert not ring.expression(cleared).has(inverse)
    size = value(ring.expression(below), point)
    most = max((k for k, part in enumerate(parts) if part), default=0)
    expected = sum(
        value(ring.expression(p), point) * size ** (most - k) for k, p in enumerate(parts)
    )
    assert value(ring.expression(cleared), point) == pytest.approx(expected, abs=1e-6)


def test_numbers_and_keys():
    ring, v = new_ring()
    assert ring.number(ZERO) == 0
    assert ring.number(ring.constant(sp.Rational(2, 3))) == sp.Rational(2, 3)
    assert ring.number(v[X]) is None
    assert key(ring.sum((v[X], v[C]))) == key(ring.sum((v[C], v[X])))
    assert key(v[X]) != key(v[C])


def test_powers_from_before_a_square_was_known_are_reduced_too():
    ring = Ring()
    x, c, early = ring.variable(X), ring.variable(C), ring.power(ring.variable(M), 5)
    m = ring.variable_of_two(M, ring.sum((x, c)), ring.product(x, c))
    assert early != ring.power(m, 5)
    assert ring.product(early, ONE) == ring.power(m, 5)


def test_a_ring_refuses_what_is_too_large(monkeypatch):
    monkeypatch.setattr(polynomials, "MOST_PRODUCTS", 1_000)
    ring, v = new_ring()
    whole = ring.sum((v[X], v[C], v[R], ONE))
    with pytest.raises(ValueError, match="too many terms"):
        ring.power(whole, 30)
