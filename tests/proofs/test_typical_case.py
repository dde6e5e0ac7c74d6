"""Typical case: the identities of sums, the share of large changes, and planted errors."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import Attack, run_attack
from proofs.typical_case import proof as typical_case
from proofs.typical_case.proof import (
    APART,
    ATTAINED,
    CAUSAL,
    CONSTANT,
    MARKOV,
    MASKED,
    PROOF,
    RECTANGLE,
    ROW_VARIANCE,
    SCALE,
    SHAPE,
    SIZE,
    predicted,
)
from tappa_theory.theorems.typical_case import EXCEEDING, THEOREM

MORE = sp.Rational(101, 100)


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    assert THEOREM.bound == EXCEEDING == MARKOV.end
    assert PROOF.proving_the_bound() == ("exceeding",)
    assert PROOF.verdict == "holds"


@pytest.mark.parametrize(
    "derivation", [RECTANGLE, MASKED, ROW_VARIANCE, CONSTANT, APART, MARKOV, ATTAINED]
)
def test_nothing_else_is_certified(derivation):
    assert not with_end(derivation, derivation.end * MORE).ok
    assert not with_end(derivation, derivation.end / MORE).ok
    assert not with_end(derivation, -derivation.end).ok


@pytest.mark.parametrize("derivation", [CONSTANT, APART, MARKOV])
def test_the_hypothesis_is_needed(derivation):
    assert not replace(derivation, hypotheses=()).ok


def test_a_row_without_its_own_keys_is_not_the_mean_under_a_mask():
    without = MASKED.end.subs(typical_case.mask, sp.IndexedBase("other", nonnegative=True))
    assert not with_end(MASKED, without).ok


def pair_by_pair(moves, keys, seen):
    """The mean square, one pair at a time."""
    squares = [
        (SCALE * sum(moves[t, c] * keys[i, c] for c in range(SHAPE[2]))) ** 2
        for t in range(len(moves))
        for i in range(len(keys))
        if seen[t, i]
    ]
    return sum(squares) / len(squares)


@pytest.mark.parametrize("seen", [np.ones(SHAPE[:2]), CAUSAL], ids=("all", "causal"))
def test_the_trace_is_the_mean_over_pairs(seen):
    random = np.random.default_rng(2)
    moves, keys = random.normal(size=(SHAPE[0], 2)), random.normal(size=(SHAPE[1], 2))
    exact = pair_by_pair(moves, keys, seen)
    assert predicted(moves, keys, seen) == pytest.approx(exact, rel=1e-12)
    assert predicted(moves, keys, seen) != pytest.approx(1.01 * exact, rel=1e-3)


def test_the_mask_matters():
    random = np.random.default_rng(2)
    moves, keys = random.normal(size=(SHAPE[0], 2)), random.normal(size=(SHAPE[1], 2))
    everything = predicted(moves, keys, np.ones(SHAPE[:2]))
    assert predicted(moves, keys, CAUSAL) != pytest.approx(everything, rel=0.05)


def test_attacks_see_a_wrong_trace_and_a_wrong_share():
    for attack in PROOF.attacks:
        one = replace(attack, corners=(attack.corners[0], np.full(attack.size, 0.5)))
        for factor in (0.99, 1.02) if attack is not PROOF.attacks[1] else (1.02,):
            wrong = replace(one, ratio=lambda x, a=attack, f=factor: f * a.ratio(x))
            assert not run_attack(wrong, starts=0).ok


def test_zero_vectors_change_nothing():
    for attack in PROOF.attacks:
        assert attack.ratio(np.zeros(attack.size)) == 0.0
    assert isinstance(PROOF.attacks[0], Attack)
    assert PROOF.attacks[0].size == SIZE
