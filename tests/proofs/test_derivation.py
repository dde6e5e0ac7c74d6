"""Derivations and what joins them: lemmas, terms, weights; none may certify what does not hold."""

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from proofs.engine.certificates import Evidence, Identity, Meaning, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.engine.relations import eq, le, lt

x, y, v = sp.symbols("x y v", real=True)
n = sp.Symbol("n", nonnegative=True)
p = sp.Symbol("p", positive=True)
k = sp.Symbol("k", integer=True)
a, b = sp.symbols("a b", complex=True)
ZERO, ONE = sp.Integer(0), sp.Integer(1)


class Anything:
    def certify(self, left, relation, right, hypotheses):
        return Evidence(True, "test", "whatever")


class Seen:
    """Certifies everything, and keeps the hypotheses that it is given."""

    def __init__(self):
        self.hypotheses = []

    def certify(self, left, relation, right, hypotheses):
        self.hypotheses.append(hypotheses)
        return Evidence(True, "test", "")


class Raises:
    def __init__(self, error):
        self.error = error

    def certify(self, left, relation, right, hypotheses):
        raise self.error


def derivation(start, *links, **more):
    """A derivation of (relation, right) pairs by the solver."""
    steps = tuple(Link(relation, right, "", Solver()) for relation, right in links)
    return Derivation("test", start, steps, **more)


SQUARE = derivation(ZERO, ("<=", x**2))
BELOW = derivation(x, ("<", x + n), hypotheses=(lt(0, n),))
PRODUCT = derivation(ZERO, ("<=", x * y), hypotheses=(le(0, x), le(0, y)))


def test_every_link_starts_where_the_one_before_ends():
    chain = derivation(x, ("<=", x + n), ("=", n + x), ("<", x + n + 1))
    assert [(step.left, step.right) for step in chain.steps()] == [
        (x, x + n),
        (x + n, n + x),
        (x + n, x + n + 1),
    ]
    assert chain.ok
    assert chain.proves(x, "<", x + n + 1)
    assert chain.proves(x, "<=", x + n + 1)
    for left, relation, right in (
        (x, "=", x + n + 1),
        (x, "<", x + n),
        (x + n, "<", x + n + 1),
        (x + n + 1, "<", x),
        (x, ">", x + n + 1),
    ):
        assert not chain.proves(left, relation, right)
    # one link that fails is enough
    broken = derivation(x, ("<=", x + n), ("<=", x), ("<=", x + 1))
    assert [step.evidence.ok for step in broken.steps()] == [True, False, True]
    assert not broken.ok
    assert not broken.proves(x, "<=", x + 1)


def test_the_relation_of_a_chain_is_the_one_its_links_give():
    assert derivation(x, ("=", x)).relation == "="
    assert derivation(x, ("=", x), ("<=", x + n)).relation == "<="
    assert derivation(x, ("<", x + 1), ("=", x + 1)).relation == "<"
    assert not derivation(x, ("=", x), ("<=", x + n)).proves(x, "<", x + n)
    assert not derivation(x, ("=", x)).proves(x, "<", x)


@pytest.mark.parametrize("relation", [">", ">=", "!=", "", "=<"])
def test_other_relations_and_empty_derivations_are_refused(relation):
    with pytest.raises(ValueError, match="a derivation uses"):
        derivation(x, (relation, x - 1))
    with pytest.raises(ValueError, match="a derivation uses"):
        derivation(x, ("=", x), facts=(Fact(x, relation, x - 1, "", Solver()),))
    with pytest.raises(ValueError, match="no link"):
        Derivation("empty", x, ())


def test_a_fact_is_used_only_once_it_is_earned():
    earned = Fact(ZERO, "<=", x, "", Solver())
    later = Fact(ZERO, "<=", x**3, "", Solver())
    links = (Link("<=", x + x**3, "", Solver()),)
    good = Derivation("facts", ZERO, links, hypotheses=(le(1, x),), facts=(earned, later))
    assert good.ok
    # a fact that is not true makes the links after it worthless
    bad = Derivation("facts", ZERO, links, hypotheses=(le(-1, x),), facts=(earned, later))
    assert [step.evidence.ok for step in bad.steps()] == [False, True, True]
    assert not bad.ok
    # a fact sees the hypotheses and the facts before it: neither itself nor those after it
    first, second = Seen(), Seen()
    facts = (Fact(ZERO, "<=", x, "", first), Fact(ZERO, "<", y, "", second))
    Derivation(
        "seen", x, (Link("=", x, "", Identity()),), facts=facts, hypotheses=(le(0, v),)
    ).steps()
    assert first.hypotheses == [(le(0, v),)]
    assert second.hypotheses == [(le(0, v), le(0, x))]


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), TypeError("x"), KeyError("x"), NotImplementedError(), RecursionError()],
)
def test_a_certificate_that_breaks_certifies_nothing(error):
    broken = Derivation("broken", x, (Link("=", x, "", Raises(error)),))
    assert not broken.ok
    assert type(error).__name__ in broken.steps()[0].evidence.detail


@pytest.mark.parametrize(
    "hypotheses",
    [
        (lt(x, 0), lt(0, x)),
        (sp.false,),
        (eq(k, sp.Rational(1, 2)),),
        (eq(sp.Symbol("e", even=True), 3),),
        (lt(p, 0),),
        (le(1, x), le(x, 3), eq(sp.sin(x), 0)),  # a sine and its angle are one thing
        (le(sp.Rational(3142, 1000), x), le(x, sp.pi)),  # pi is no number near 3
        (lt(x, sp.log(x)),),
    ],
)
def test_what_is_shown_of_no_instance_is_not_shown(hypotheses):
    vacuous = Derivation("vacuous", x, (Link("=", x, "", Identity()),), hypotheses=hypotheses)
    assert vacuous.steps()[0].evidence.ok
    assert not vacuous.instance().ok
    assert not vacuous.ok
    assert not vacuous.proves(x, "=", x)
    # neither is what uses it
    assert not Lemma(vacuous, {}).certify(x, "=", x, hypotheses).ok


def test_an_example_must_be_an_instance():
    def of(example, *hypotheses):
        links = (Link("=", x, "", Identity()),)
        return Derivation("example", x, links, hypotheses=hypotheses, example=example)

    log = lt(0, sp.log(x))
    assert of({x: sp.Integer(3)}, log).ok
    assert of({x: sp.E}, eq(sp.log(x), 1)).ok
    assert of({x: sp.pi / 6}, eq(2 * sp.sin(x), 1), le(x, sp.pi / 6), sp.Ne(x, 1)).ok
    assert not of({x: sp.Rational(1, 2)}, log).ok
    assert not of({x: ONE}, log).ok
    assert not of({x: sp.Float(3.0)}, log).ok
    assert not of({x: sp.I}, le(0, y), eq(x**2, -1)).ok
    assert not of({x: y}, log).ok
    assert not of({x: sp.Integer(3)}, log, lt(x, y)).ok  # y has no value
    assert not of({p: -ONE, x: ONE}, lt(p, x)).ok
    assert not of({k: sp.Rational(1, 2)}, lt(0, k)).ok
    assert not of({x: sp.Integer(3)}, sp.Ne(x, 3)).ok


class Told(Meaning):
    pass


def test_a_lemma_at_other_expressions():
    assert Lemma(SQUARE, {x: y + 1}).certify(ZERO, "<=", (y + 1) ** 2, ()).ok
    assert Lemma(SQUARE, {x: sp.re(a)}).certify(ZERO, "<=", sp.re(a) ** 2, ()).ok
    assert Lemma(PRODUCT, {x: y, y: x}).certify(ZERO, "<=", x * y, (le(0, x), le(0, y))).ok
    assert Lemma(BELOW, {n: p}).certify(x, "<", x + p, ()).ok
    assert Lemma(BELOW, {n: y}).certify(x, "<=", x + y, (lt(0, y),)).ok


@pytest.mark.parametrize(
    ("lemma", "left", "relation", "right", "hypotheses"),
    [
        (Lemma(SQUARE, {x: sp.sqrt(y)}), ZERO, "<=", y, ()),  # y < 0 has no root
        (Lemma(SQUARE, {x: 1 / y}), ZERO, "<=", 1 / y**2, ()),
        (Lemma(SQUARE, {x: sp.I * y}), ZERO, "<=", -(y**2), ()),
        (Lemma(SQUARE, {x: a}), ZERO, "<=", a**2, ()),
        (Lemma(SQUARE, {x: sp.Max(0, 1 / y)}), ZERO, "<=", sp.Max(0, 1 / y) ** 2, ()),
        (Lemma(SQUARE, {x: sp.oo}), ZERO, "<=", sp.oo, ()),
        (Lemma(SQUARE, {x: sp.nan}), ZERO, "<=", sp.nan, ()),
        (Lemma(SQUARE, {x: y}), ZERO, "<", y**2, ()),
        (Lemma(SQUARE, {x: y}), ZERO, "=", y**2, ()),
        (Lemma(SQUARE, {x: y}), y**2, "<=", ZERO, ()),
        (Lemma(SQUARE, {x: y}), ZERO, "<=", y**2 - 1, ()),
        (Lemma(SQUARE, {x + 1: y}), ZERO, "<=", x**2, ()),
        (Lemma(PRODUCT, {}), ZERO, "<=", x * y, ()),
        (Lemma(PRODUCT, {}), ZERO, "<=", x * y, (le(0, x),)),
        (Lemma(PRODUCT, {x: y}), ZERO, "<=", y**2, (le(0, x),)),
        (Lemma(PRODUCT, {x: -y}), ZERO, "<=", -(y**2), (le(0, y),)),
        (Lemma(PRODUCT, {x: y, y: -y}), ZERO, "<=", -(y**2), (le(0, x), le(0, y))),
        (Lemma(BELOW, {}), x, "<", x + n, ()),
        (Lemma(BELOW, {n: y}), x, "<", x + y, (le(0, y),)),
        (Lemma(BELOW, {n: sp.Symbol("n", real=True)}), x, "<", x + sp.Symbol("n", real=True), ()),
    ],
)
def test_a_lemma_where_it_does_not_hold(lemma, left, relation, right, hypotheses):
    assert lemma.derivation.ok
    assert not lemma.certify(left, relation, right, hypotheses).ok


@pytest.mark.parametrize(
    ("kind", "values", "others"),
    [
        ("integer", [k, ZERO, 2 * k], [x, sp.Rational(1, 2), k / 2]),
        ("even", [2 * k, ZERO], [k, ONE]),
        ("prime", [sp.Integer(3)], [sp.Integer(4), k]),
        ("irrational", [sp.sqrt(2), sp.pi], [x, ONE]),
        ("noninteger", [sp.Rational(1, 2)], [sp.Integer(2), x]),
        ("transcendental", [sp.pi], [sp.sqrt(2), x]),
        ("positive", [p, ONE, sp.exp(x)], [n, x, a, 1 / x]),
        ("negative", [-p], [-n, x]),
        ("nonzero", [p, -p], [n, a, sp.I]),
        ("real", [x, k, sp.log(p), sp.Abs(a)], [a, sp.I, sp.log(n), sp.sqrt(x), sp.exp(a), 1 / n]),
        ("complex", [a, x, sp.I, sp.exp(a)], [1 / a, 1 / (x - y), sp.log(x), sp.zoo]),
        ("imaginary", [sp.I, 2 * sp.I], [x, a, ZERO]),
    ],
)
def test_a_symbol_stands_for_what_is_of_its_kind(kind, values, others):
    symbol = sp.Symbol("q", **{kind: True})
    lemma = Derivation("itself", symbol, (Link("=", symbol, "", Anything()),))
    for value in values:
        assert Lemma(lemma, {symbol: value}).certify(value, "=", value, ()).ok
    for value in others:
        assert not Lemma(lemma, {symbol: value}).certify(value, "=", value, ()).ok


@pytest.mark.parametrize(
    ("kind", "value"), [("integer", k), ("zero", a), ("rational", sp.Rational(1, 2))]
)
def test_what_a_symbol_is_not_its_value_must_not_be_either(kind, value):
    symbol = sp.Symbol("q", **{kind: False})
    lemma = Derivation("itself", symbol, (Link("=", symbol, "", Anything()),))
    assert not Lemma(lemma, {symbol: value}).certify(value, "=", value, ()).ok
    good = sp.pi if kind != "zero" else ONE
    assert Lemma(lemma, {symbol: good}).certify(good, "=", good, ()).ok


def test_a_lemma_with_a_meaning_needs_that_meaning():
    lemma = derivation(ZERO, ("<=", x**2), hypotheses=(Told(x),))
    assert Lemma(lemma, {x: y}).certify(ZERO, "<=", y**2, (Told(y),)).ok
    assert not Lemma(lemma, {x: y}).certify(ZERO, "<=", y**2, (Told(x),)).ok
    assert not Lemma(lemma, {x: y}).certify(ZERO, "<=", y**2, ()).ok


def test_a_lemma_that_is_not_certified_is_no_lemma():
    false = derivation(ONE, ("<=", x**2))
    assert not Lemma(false, {x: y}).certify(ONE, "<=", y**2, ()).ok
    assert not Lemma(false, {x: sp.Integer(2)}).certify(ONE, "<=", sp.Integer(4), ()).ok


@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3), st.booleans())
def test_what_a_lemma_gives_at_numbers_holds(at_x, at_y, more, strict):
    relation = "<" if strict else "<="
    left, right = ZERO, sp.Integer(at_x * at_y)
    given_here = Lemma(PRODUCT, {x: sp.Integer(at_x), y: sp.Integer(at_y)})
    found = given_here.certify(left, relation, right + more, ())
    assert found.ok == (at_x >= 0 and at_y >= 0 and not strict and more == 0)


def test_terms():
    def terms(*parts):
        return Terms(tuple((*part, Solver()) for part in parts))

    two = terms((n, ZERO, x**2), (p, y, y + 1))
    assert two.certify(p * y, "<=", n * x**2 + p * (y + 1), ()).ok
    assert not two.certify(p * y, "<", n * x**2 + p * (y + 1), ()).ok
    assert not two.certify(p * y, "<=", n * x**2 + p * y, ()).ok
    assert not two.certify(p * y + 1, "<=", n * x**2 + p * (y + 1), ()).ok
    assert not terms((-p, ZERO, x**2)).certify(ZERO, "<=", -p * x**2, ()).ok
    assert not terms((x, ZERO, y**2)).certify(ZERO, "<=", x * y**2, ()).ok
    assert not terms((x, ZERO, y**2)).certify(ZERO, "<=", x * y**2, (le(0, x),)).ok
    assert not terms((n, x**2, ZERO)).certify(n * x**2, "<=", ZERO, ()).ok
    weight = sp.Max(0, 1 / x)  # sympy takes it for a number at 0 as well
    assert not terms((weight, ZERO, y**2)).certify(ZERO, "<=", weight * y**2, ()).ok
    assert terms((weight, ZERO, y**2)).certify(ZERO, "<=", weight * y**2, (lt(0, x),)).ok
    assert terms((-x, p * 2, p + p)).certify(-2 * x * p, "=", -x * 2 * p, ()).ok


def test_scaled():
    assert Scaled(n, Solver()).certify(ZERO, "<=", n * x**2, ()).ok
    assert Scaled(p, Solver()).certify(p * x, "<", p * (x + 1), ()).ok
    for weight, left, relation, right in (
        (n, n * x, "<", n * (x + 1)),  # n may be 0
        (-p, -p * x, "<=", -p * (x - 1)),
        (x, x * y, "<=", x * (y + 1)),
        (n, ZERO, "<=", ONE),  # 1/n
        (n, -ONE, "<=", ZERO),
        (sp.Max(0, 1 / x), ZERO, "<=", sp.Max(0, 1 / x) * y**2),
        (p, p * (x + 1), "<=", p * x),
        (ZERO, ONE, "<=", ZERO),
        (a, a * x, "<=", a * (x + 1)),
    ):
        assert not Scaled(weight, Solver()).certify(left, relation, right, ()).ok
    # a weight that may be 0 must not be divided by, whatever the certificate says
    assert not Scaled(n, Anything()).certify(-ONE, "<=", ZERO, ()).ok
    assert not Scaled(n, Anything()).certify(ZERO, "<=", ONE, ()).ok
    assert not Scaled(n, Anything()).certify(n, "<", 2 * n, ()).ok
    assert Scaled(n, Anything()).certify(-n, "<=", ZERO, ()).ok
