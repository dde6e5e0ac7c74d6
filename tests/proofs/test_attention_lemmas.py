"""Facts about softmax rows: no smaller constant is certified, nor less than the hypotheses."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.certificates import Identity, Solver
from proofs.engine.relations import le, lt
from proofs.lemmas.attention import (
    ABOVE_LOW,
    AVERAGE,
    BELOW_HIGH,
    BOUNDS_ADD_UP,
    FACTOR,
    FACTORS,
    MIXTURE,
    ODDS,
    TOTAL_VARIATION,
    Average,
    Changes,
    Exponentials,
    Mixture,
    Weighed,
)
from tappa_theory.theorems.attention_distance import OMEGA

LEMMAS = (
    *(ABOVE_LOW, BELOW_HIGH, ODDS, TOTAL_VARIATION, MIXTURE, AVERAGE, BOUNDS_ADD_UP),
    *(FACTOR, FACTORS),
)
x, y = sp.symbols("x y", real=True)
name = sp.Symbol("r", positive=True)
STEP = Exponentials(Solver())


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("lemma", LEMMAS, ids=lambda lemma: lemma.title)
def test_the_lemmas_are_certified_and_sharp(lemma):
    assert lemma.ok
    assert not with_end(lemma, sp.Rational(99, 100) * lemma.end).ok
    assert not with_end(lemma, -lemma.end).ok


@pytest.mark.parametrize("lemma", [ODDS, FACTORS], ids=lambda lemma: lemma.title)
def test_every_hypothesis_is_needed(lemma):
    for dropped in lemma.hypotheses:
        kept = tuple(h for h in lemma.hypotheses if h != dropped)
        assert not replace(lemma, hypotheses=kept).ok


def test_exponentials_are_positive_and_ordered():
    assert STEP.certify(sp.Integer(1), "<", sp.exp(OMEGA), []).ok
    assert STEP.certify(sp.Integer(0), "<", sp.exp(x), []).ok
    assert STEP.certify(sp.exp(x), "<", sp.exp(y), [lt(x, y)]).ok
    assert STEP.certify(sp.exp(x / 2), "<=", sp.exp(y / 3), [le(3 * x, 2 * y)]).ok
    assert STEP.certify(sp.exp(x) * sp.exp(y), "=", sp.exp(x + y), []).ok
    assert STEP.certify(sp.tanh(x / 2), "=", (sp.exp(x) - 1) / (sp.exp(x) + 1), []).ok


@pytest.mark.parametrize(
    ("left", "relation", "right", "given"),
    [
        (sp.Integer(1), "<", sp.exp(x), []),
        (sp.exp(x), "<=", sp.exp(y), []),
        (sp.exp(y), "<=", sp.exp(x), [lt(x, y)]),
        (sp.exp(x), "<=", sp.exp(y), [le(x, y + 1)]),
        (sp.exp(x / 2), "<=", sp.exp(y / 3), [le(2 * x, 3 * y)]),
        (sp.exp(x + y), "=", sp.exp(x) + sp.exp(y), []),
        (sp.tanh(x), "=", (sp.exp(x) - 1) / (sp.exp(x) + 1), []),
        (sp.exp(x**2), "=", sp.exp(x) ** 2, []),
        (sp.exp(OMEGA), "<=", 1 + OMEGA, []),
    ],
    ids=str,
)
def test_what_is_false_of_exponentials_is_not_certified(left, relation, right, given):
    assert not STEP.certify(left, relation, right, given).ok


def test_a_name_of_an_exponential_has_no_other_meaning():
    named = Exponentials(Solver(), {name: OMEGA / 2})
    assert named.certify(sp.Integer(1), "<", sp.exp(OMEGA), []).ok
    assert not named.certify(sp.Integer(1), "<", sp.exp(OMEGA), [lt(name, 1)]).ok
    assert not named.certify(name, "<=", sp.exp(OMEGA), []).ok
    assert not named.certify(sp.Integer(1), "<", sp.exp(OMEGA / 3), []).ok
    for wrong in (sp.exp(OMEGA), 2 * OMEGA / 3, OMEGA + x, sp.Integer(1)):
        assert not Exponentials(Solver(), {name: wrong}).certify(sp.exp(OMEGA), "<=", x, []).ok
    sign = sp.Symbol("r", real=True)
    assert not Exponentials(Solver(), {sign: x}).certify(sp.Integer(0), "<", sp.exp(x), []).ok


def test_turns_stay_what_they_are():
    turn = sp.exp(sp.I * x)
    by = Exponentials(Identity())
    assert by.certify(turn * sp.conjugate(turn) * sp.exp(y), "=", sp.exp(y), []).ok
    assert not by.certify(turn * sp.exp(y), "=", sp.exp(y), []).ok


def built(meaning, entries, given=None):
    """Values of a meaning's symbols for a list, one entry of {name: number} after the other."""

    def fill(values, entry):
        numbers = {dummy: entry[dummy.name] for v in values for dummy in v.atoms(sp.Dummy)}
        return [value.subs(numbers) for value in values]

    shortest = meaning.shortest()
    first = 1 if any(value.atoms(sp.Dummy) for value in shortest) else 0
    values = fill(shortest, entries[0])
    for entry in entries[first:]:
        now = dict(zip(meaning.args, values, strict=True))
        values = [v.subs(now, simultaneous=True) for v in fill(meaning.longer(), entry)]
    return [float(value.subs(given or {})) for value in values]


def test_the_meanings_are_what_they_say():
    random = np.random.default_rng(5)
    a, b, c, d = sp.symbols("a b c d", positive=True)
    weights, factors = random.uniform(0, 1, 4), random.uniform(0.1, 3, 4)
    entries = [{"m": m, "f": f} for m, f in zip(weights, factors, strict=True)]
    says = [weights.sum(), weights @ factors, factors.min(), factors.max()]
    assert np.allclose(built(Weighed(a, b, c, d), entries), says)
    numbers = random.standard_normal(5)
    says = [numbers.sum(), np.abs(numbers).sum(), np.maximum(numbers, 0).sum()]
    assert np.allclose(built(Changes(a, b, c), [{"x": n} for n in numbers]), says)
    values = random.standard_normal(4)
    entries = [{"x": m, "y": v} for m, v in zip(weights, values, strict=True)]
    point = sp.Symbol("point", real=True)
    found = built(Average(a, b, c, point), entries, {point: 0.3})
    assert np.allclose(found, [weights.sum(), weights @ values, weights @ (values - 0.3), 0.3])
    # the norm of a sum is no larger than what the entry allows, by the slack that is left
    vectors = random.standard_normal((4, 3))
    norms, sums = np.linalg.norm(vectors, axis=1), np.cumsum(weights[:, None] * vectors, axis=0)
    before = np.array([0.0, *np.linalg.norm(sums, axis=1)[:-1]])
    slack = before + weights * norms - np.linalg.norm(sums, axis=1)
    assert np.all(slack >= -1e-12)
    rows = zip(weights, norms, slack, strict=True)
    entries = [{"x": m, "y": size, "slack": less} for m, size, less in rows]
    found = built(Mixture(a, b, c), entries)
    assert np.allclose(found, [weights.sum(), np.linalg.norm(sums[-1]), norms.max()])
