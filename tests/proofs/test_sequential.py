"""Theorem 5.2: every claim is certified, and planted errors are not."""

import dataclasses

import numpy as np
import pytest
import sympy as sp

from proofs import sequential
from proofs.attack import run_attack
from proofs.sequential import PROOF
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import KEY_DRIFT, QUERY_DRIFT, lam
from tappa_theory.theorems.sequential import (
    CONSTANT,
    EPSILON,
    GLOBAL_CONSTANT,
    KEY_ANGLE,
    KEY_NORM_MAX,
    KEY_NORM_U,
    QUERY_ANGLE,
    QUERY_NORM,
    QUERY_NORM_MAX,
    SUPREMUM,
    THEOREM,
)

CLAIMS = {claim.id: claim for claim in PROOF.claims}
A, B = sequential.A, sequential.B


def ending(derivation, end, index=-1):
    """The derivation with another term, all certificates kept."""
    links = list(derivation.links)
    links[index] = dataclasses.replace(links[index], right=end)
    return dataclasses.replace(derivation, links=tuple(links))


def without(derivation, index):
    kept = derivation.hypotheses[:index] + derivation.hypotheses[index + 1 :]
    return dataclasses.replace(derivation, hypotheses=kept)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_claim_is_certified(name):
    failed = [step for step in CLAIMS[name].steps() if not step.evidence.ok]
    assert not failed
    assert CLAIMS[name].ok


def test_the_theorem_holds_and_every_bound_is_the_registrys():
    assert PROOF.verdict == "holds"
    assert sequential.ONE_STEP.links[1].right == THEOREM.bound
    assert sequential.SEVERAL.links[1].right == THEOREM.auxiliary["several_steps"]
    assert sequential.PAIR.end == THEOREM.published.bound
    assert sequential.PAIR.end == THEOREM.auxiliary["constant"] * EPSILON
    assert sequential.NEVER_REACHED.end == THEOREM.auxiliary["global_constant"] * EPSILON
    assert sequential.NEVER_REACHED.relation == "<"
    supremum = THEOREM.auxiliary["supremum"]
    named = supremum.xreplace({QUERY_ANGLE: A, KEY_ANGLE: B})
    assert not named.has(sp.asin)
    assert named.free_symbols == {A, B, lam, QUERY_NORM_MAX, KEY_NORM_MAX}
    for derivation in (
        sequential.SMALL_STEPS,
        sequential.LARGE_STEPS,
        sequential.ATTAINED_SMALL,
        sequential.ATTAINED_LARGE,
    ):
        assert derivation.end == named
    assert sequential.SMALL_STEPS.start == sequential.LARGE_STEPS.start == sequential.START


@pytest.mark.parametrize(
    ("derivation", "wrong", "index"),
    [
        (sequential.ONE_STEP, QUERY_DRIFT, -1),
        (sequential.ONE_STEP, QUERY_DRIFT + KEY_DRIFT / 2, -1),
        (sequential.AFTER_ROPE, QUERY_DRIFT + KEY_DRIFT, -1),
        (sequential.DIAGONAL_SHARP, sequential.DIAGONAL_SHARP.end * sp.Rational(101, 100), -1),
        # C of a pair: 1% less, one norm left out, the wrong step
        (sequential.PAIR, sp.Rational(99, 100) * CONSTANT * EPSILON, -1),
        (sequential.PAIR, lam * KEY_NORM_U * EPSILON, -1),
        (sequential.PAIR, lam * sp.Max(KEY_NORM_U, QUERY_NORM) * EPSILON, -1),
        (sequential.PAIR, CONSTANT * sp.Min(*EPSILON.args), -1),
        # the supremum: 1% less, always capped, never capped
        (sequential.LARGE_STEPS, sp.Rational(99, 100) * sequential.CAPPED, 1),
        (sequential.SMALL_STEPS, sp.Rational(99, 100) * sequential.CAPPED * sp.sin(A + B), 3),
        (sequential.SMALL_STEPS, sequential.CAPPED * sp.sin(A) * sp.sin(B), 3),
        (sequential.SMALL_STEPS, sequential.CAPPED, -1),
        (sequential.LARGE_STEPS, sequential.CAPPED * sp.sin(A + B), -1),
        (sequential.ATTAINED_SMALL, sp.Rational(101, 100) * sequential.SUPREMUM_NAMED, -1),
        # one constant: too small
        (sequential.NEVER_REACHED, sp.Rational(99, 100) * GLOBAL_CONSTANT * EPSILON, -1),
        (sequential.NEVER_REACHED, lam * sp.Max(QUERY_NORM_MAX, KEY_NORM_MAX) * EPSILON, -1),
    ],
)
def test_a_wrong_term_is_not_certified(derivation, wrong, index):
    assert derivation.ok
    assert not ending(derivation, wrong, index).ok


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (name, index)
        for name in ("PAIR", "PARALLELOGRAM", "LARGE_STEPS", "SMALL_STEPS", "NEVER_REACHED", "BEST")
        for index, _ in enumerate(getattr(sequential, name).hypotheses)
        # how far the steps go plays no part where the cap is reached
        if not (name == "LARGE_STEPS" and index in (8, 9))
    ],
)
def test_every_hypothesis_is_needed(name, index):
    assert not without(getattr(sequential, name), index).ok


def test_the_registrys_supremum_lies_below_the_constant_and_meets_it_for_small_steps():
    values = {"query_norm_max": 2.0, "key_norm_max": 3.0, "lambda": 0.125}
    steps = np.geomspace(1e-4, 10, 60)
    arrays = {name: np.full(60, value) for name, value in values.items()}
    arrays |= {"query_step": steps, "key_step": steps}
    ratio = evaluate(SUPREMUM, arrays) / evaluate(GLOBAL_CONSTANT * EPSILON, arrays)
    assert np.all(ratio < 1)
    assert np.all(np.diff(ratio) < 1e-12)
    assert ratio[0] > 1 - (1e-4 / 4) ** 2 - 1e-12
    assert evaluate(SUPREMUM, arrays)[-1] == 2 * 0.125 * 6.0


@pytest.mark.parametrize("attack", PROOF.attacks, ids=lambda attack: attack.name)
def test_no_attack_gets_above_and_every_one_reaches_the_bound(attack):
    found = run_attack(attack, starts=4)
    assert found.ok
    assert found.best <= 1 + attack.rounding


ATTACKS = {
    "constant": (sequential.pair_attack, CONSTANT * EPSILON),
    "supremum": (sequential.pair_attack, SUPREMUM),
    "global": (sequential.small_steps_attack, GLOBAL_CONSTANT * EPSILON),
}


@pytest.mark.parametrize("factor", [0.99, 1.01])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_notices_a_bound_that_is_off_by_a_hundredth(name, factor):
    attack, bound = ATTACKS[name]
    found = run_attack(attack(factor * bound, name), starts=4)
    assert not found.ok
    assert (found.best > 1) == (factor < 1)


def test_an_attack_breaks_a_supremum_without_its_cap():
    uncapped = SUPREMUM.replace(
        sp.Min, lambda *parts: parts[-1] if sp.pi / 2 in parts else sp.Min(*parts)
    )
    assert uncapped != SUPREMUM
    found = run_attack(sequential.pair_attack(uncapped, "uncapped"), starts=4)
    assert found.best > 1.5
