"""Balls: they contain the values, cover the domain with its ends, and give up in finite time."""

import mpmath
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from proofs.engine import balls
from proofs.engine.balls import Balls, ball, number, positive
from proofs.engine.relations import eq, le, lt

x = sp.Symbol("x", real=True)
n = sp.Symbol("n", nonnegative=True)
p = sp.Symbol("p", positive=True)
ZERO, ONE, TWO = map(sp.Integer, (0, 1, 2))


def between(low, high, symbol=x):
    return (le(low, symbol), le(symbol, high))


FUNCTIONS = [sp.sin, sp.cos, sp.exp, sp.atan, sp.tanh, sp.Abs, lambda e: sp.sqrt(1 + e**2)]
FUNCTIONS += [lambda e: sp.log(2 + e**2), lambda e: 1 / (1 + e**2), lambda e: e**3]
EXPRESSIONS = st.recursive(
    st.sampled_from([x, sp.Rational(1, 3), sp.pi, sp.E, sp.Integer(-2)]),
    lambda parts: st.one_of(
        st.tuples(parts, parts).map(lambda two: two[0] + two[1]),
        st.tuples(parts, parts).map(lambda two: two[0] * two[1]),
        st.tuples(st.sampled_from(FUNCTIONS), parts).map(lambda two: two[0](sp.sin(two[1]))),
    ),
    max_leaves=5,
)


@given(
    EXPRESSIONS, st.integers(-20, 20), st.integers(1, 8), st.lists(st.integers(0, 16), max_size=4)
)
def test_a_ball_contains_every_value(expression, start, width, places):
    import flint

    flint.ctx.prec = 128
    low = sp.Rational(start, 4)
    high = low + sp.Rational(width, 16)
    found = ball(expression, {x: ball(low, {}).union(ball(high, {}))})
    for place in (0, 16, *places):
        point = low + (high - low) * sp.Rational(place, 16)
        with mpmath.workdps(60):
            exact = sp.N(expression.subs(x, point), 60)
        # as narrow as the digits: overlap is containment but for the last of 55
        shown = flint.arb(mpmath.nstr(exact._to_mpmath(200), 55), "1e-45")
        assert found.overlaps(shown)


@pytest.mark.parametrize(
    ("left", "right", "low", "high", "orders"),
    [
        (sp.sin(x), x, ZERO, ONE, (3, 0)),
        (ZERO, sp.sin(x), ZERO, sp.pi, (1, 1)),
        (x, sp.pi * sp.sin(x / 2), ZERO, sp.pi, (1, 1)),
        (1 + x, sp.exp(x), ZERO, ONE, (2, 0)),
        (1 + x, sp.exp(x), -ONE, ZERO, (0, 2)),
        (sp.log(1 + x), x, ZERO, TWO, (2, 0)),
    ],
)
def test_what_vanishes_at_an_end(left, right, low, high, orders):
    here = between(low, high)
    assert Balls(x, low, high, *orders).certify(left, "<=", right, here).ok
    # equal at an end, unless the variable stays away from it
    assert not Balls(x, low, high, *orders).certify(left, "<", right, here).ok
    away = (lt(low, x) if orders[0] else le(low, x), lt(x, high) if orders[1] else le(x, high))
    assert Balls(x, low, high, *orders).certify(left, "<", right, away).ok
    # any other order is refused
    for wrong in (1, -1):
        other = tuple(max(0, order + wrong) if order else 0 for order in orders)
        assert not Balls(x, low, high, *other).certify(left, "<=", right, here).ok
    assert not Balls(x, low, high, *orders).certify(right, "<=", left, here).ok
    shifted = right - sp.Rational(1, 10**6)
    assert not Balls(x, low, high, *orders).certify(left, "<=", shifted, here).ok
    assert not Balls(x, low, high, *orders).certify(left, ">", right, here).ok


@pytest.mark.parametrize("relation", ["=", ">", ">=", "!="])
def test_other_relations_are_refused(relation):
    assert not Balls(x, ZERO, ONE).certify(ZERO, relation, ONE, between(ZERO, ONE)).ok


@pytest.mark.parametrize(
    "hypotheses",
    [
        (),
        (le(0, x),),
        (le(x, 1),),
        between(-1, 1),
        between(0, sp.Rational(11, 10)),
        between(0, sp.oo),
        (eq(x, 0), le(x, 1)),
        (sp.Or(le(0, x), le(x, 5)), le(x, 1)),
    ],
)
def test_the_variable_must_be_known_to_lie_in_the_domain(hypotheses):
    assert not Balls(x, ZERO, ONE).certify(ZERO, "<", x + 1, hypotheses).ok
    assert Balls(x, ZERO, ONE).certify(ZERO, "<", x + 1, between(0, ONE)).ok
    assert Balls(n, ZERO, ONE).certify(ZERO, "<", n + 1, (le(n, 1),)).ok
    assert not Balls(n, ONE, TWO).certify(ZERO, "<", n, (le(n, 2),)).ok
    assert Balls(p, ZERO, ONE, 1).certify(ZERO, "<", p, (le(p, 1),)).ok
    assert not Balls(n, ZERO, ONE, 1).certify(ZERO, "<", n, (le(n, 1),)).ok


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (ZERO, 1 / x),  # a pole inside
        (ZERO, 1 / x**2),
        (ZERO, 1 / sp.Abs(x)),
        (ZERO, sp.tan(x + sp.pi / 2) ** 2 + 1),
        (ZERO, sp.sqrt(x) + 1),  # a branch point inside
        (ZERO, sp.log(x) ** 2 + 1),
        (ZERO, sp.asin(2 * x) + 3),
        (ZERO, x ** sp.Rational(1, 3) + 2),
        (1 / x, 1 / x + 1),  # the difference is 1
        (sp.sqrt(x), sp.sqrt(x) + 1),
        (sp.log(x) + sp.sin(x), sp.log(x) + 2),
        (ZERO, sp.exp(1 / x)),
        (ZERO, sp.Abs(x)),  # 0 in the middle
        (ZERO, sp.floor(x) + 2),
        (ZERO, sp.Function("f")(x)),
        (ZERO, sp.oo),
        (ZERO, sp.Float(1.0) + x * 0),
    ],
)
def test_what_has_no_value_inside_is_not_certified(left, right, monkeypatch):
    monkeypatch.setattr(balls, "MAX_BOXES", 300)
    for relation in ("<", "<="):
        assert not Balls(x, -ONE, ONE).certify(left, relation, right, between(-1, 1)).ok


@pytest.mark.parametrize(
    ("right", "order"),
    [
        (sp.sqrt(x), 1),  # the slope has no value at 0
        (x * sp.log(x), 1),
        (sp.Abs(x), 1),
        (x**2 * sp.sin(1 / x), 1),
        (x - x**3, 3),  # its derivatives below the third do not vanish
        (x**2 - x**3, 1),
        (-x, 1),
        (1 / x - 1 / x + x, -1),
    ],
)
def test_an_end_needs_its_derivatives(right, order):
    assert not Balls(x, ZERO, ONE, order).certify(ZERO, "<=", right, between(0, 1)).ok


def test_a_pole_that_both_sides_have_at_an_end_is_seen():
    assert not Balls(x, ZERO, ONE, 1).certify(1 / x, "<=", 1 / x + x, between(0, 1)).ok
    assert Balls(x, ZERO, ONE, 1).certify(x**2, "<=", x**2 + x, between(0, 1)).ok


def test_odd_domains_are_refused():
    here = between(0, 1)
    for low, high in ((ONE, ZERO), (ZERO, ZERO), (ZERO, -ONE)):
        assert not Balls(x, low, high).certify(ZERO, "<", x + 2, here).ok
    assert not Balls(x, ZERO, ONE, near=ZERO, zero_at_low=1).certify(ZERO, "<=", x, here).ok
    assert not Balls(x, ZERO, ONE, near=-ONE, zero_at_low=1).certify(ZERO, "<=", x, here).ok
    # the two ends may meet
    wide = Balls(x, ZERO, ONE, 1, 1, near=sp.Rational(1, 2) - sp.Rational(1, 100))
    assert wide.certify(ZERO, "<=", x * (1 - x), here).ok
    assert not Balls(x, ZERO, ONE, 1, 1, near=TWO).certify(ZERO, "<=", x * (1 - x), here).ok


def test_other_symbols_are_refused():
    assert not Balls(x, ZERO, ONE).certify(ZERO, "<", n + 1, between(0, 1)).ok
    assert not Balls(x, ZERO, ONE).certify(n, "<", n + 1, between(0, 1)).ok
    with pytest.raises(ValueError, match="other symbols"):
        positive(n + 1, x, ZERO, ONE)


def test_too_many_boxes_are_undecided(monkeypatch):
    monkeypatch.setattr(balls, "MAX_BOXES", 50)
    found = positive(
        sp.sin(50 * x) ** 2 + sp.cos(50 * x) ** 2 - sp.Rational(999, 1000), x, ZERO, ONE
    )
    assert not found.ok
    assert "undecided after 50" in found.detail


def test_what_is_false_is_said_to_be():
    found = positive(sp.sin(x) - 2, x, ZERO, ONE)
    assert "false" in found.detail


@pytest.mark.parametrize(
    "expression",
    [
        sp.log(-2),
        1 / (sp.sin(1) ** 2 + sp.cos(1) ** 2 - 1),
        sp.I,
        sp.asin(2),
        sp.oo,
        sp.zoo,
        sp.nan,
    ],
)
def test_what_is_no_real_number_is_refused(expression):
    with pytest.raises(ValueError, match=r"no finite real number|has no ball"):
        number(expression)
    assert bool(number(sp.sqrt(2)) > number(sp.Rational(14142135623, 10**10)))
