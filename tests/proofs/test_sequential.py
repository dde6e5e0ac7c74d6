"""Theorem 5.2: every claim is certified, and planted errors are not."""

import dataclasses

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.sequential import attacks, attained, diagonal, supremum
from proofs.sequential.proof import PROOF
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
A, B = supremum.A, supremum.B


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
    assert diagonal.ONE_STEP.end == THEOREM.bound
    assert diagonal.SEVERAL.end == THEOREM.auxiliary["several_steps"]
    assert diagonal.PAIR.end == THEOREM.published.bound
    assert diagonal.PAIR.end == THEOREM.auxiliary["constant"] * EPSILON
    assert supremum.NEVER_REACHED.end == THEOREM.auxiliary["global_constant"] * EPSILON
    assert supremum.NEVER_REACHED.relation == "<"
    named = THEOREM.auxiliary["supremum"].xreplace({QUERY_ANGLE: A, KEY_ANGLE: B})
    assert not named.has(sp.asin)
    assert named.free_symbols == {A, B, lam, QUERY_NORM_MAX, KEY_NORM_MAX}
    for derivation in (
        supremum.SMALL_STEPS,
        supremum.LARGE_STEPS,
        attained.ATTAINED_SMALL,
        attained.ATTAINED_LARGE,
        attained.BEST,
    ):
        assert derivation.end == named
    assert supremum.SMALL_STEPS.start == supremum.LARGE_STEPS.start == supremum.START


@pytest.mark.parametrize(
    ("derivation", "wrong", "index"),
    [
        (diagonal.ONE_STEP, QUERY_DRIFT, -1),
        (diagonal.ONE_STEP, QUERY_DRIFT + KEY_DRIFT / 2, -1),
        (diagonal.NO_TURN, KEY_DRIFT, -1),
        (diagonal.CANCELS, 2 * diagonal.CHANGE, -1),
        (diagonal.CANCELS, diagonal.CANCELS.links[0].right / 2, 0),
        (diagonal.SEVERAL_DRIFTS, sp.Rational(99, 100) * diagonal.SEVERAL_DRIFTS.end, -1),
        (diagonal.CHANGES_SUM, diagonal.times * diagonal.D_1, -1),
        (diagonal.PAIR_SHARP_SUM, sp.Rational(101, 100) * CONSTANT * EPSILON, -1),
        (diagonal.AFTER_ROPE, QUERY_DRIFT + KEY_DRIFT, -1),
        (diagonal.DIAGONAL_SHARP, diagonal.DIAGONAL_SHARP.end * sp.Rational(101, 100), -1),
        # C of a pair: 1% less, one norm left out, the wrong step
        (diagonal.PAIR, sp.Rational(99, 100) * CONSTANT * EPSILON, -1),
        (diagonal.PAIR, lam * KEY_NORM_U * EPSILON, -1),
        (diagonal.PAIR, lam * sp.Max(KEY_NORM_U, QUERY_NORM) * EPSILON, -1),
        (diagonal.PAIR, CONSTANT * sp.Min(*EPSILON.args), -1),
        # the supremum: 1% less, always capped, never capped
        (supremum.LARGE_STEPS, sp.Rational(99, 100) * supremum.CAPPED, 2),
        (supremum.SMALL_STEPS, sp.Rational(99, 100) * supremum.CAPPED * sp.sin(A + B), 4),
        (supremum.SMALL_STEPS, supremum.CAPPED * sp.sin(A) * sp.sin(B), 4),
        (supremum.SMALL_STEPS, supremum.CAPPED, -1),
        (supremum.LARGE_STEPS, supremum.CAPPED * sp.sin(A + B), -1),
        (attained.ATTAINED_SMALL, sp.Rational(101, 100) * supremum.SUPREMUM_NAMED, -1),
        (attained.BEST, sp.Rational(101, 100) * supremum.SUPREMUM_NAMED, -1),
        # one constant: too small
        (supremum.NEVER_REACHED, sp.Rational(99, 100) * GLOBAL_CONSTANT * EPSILON, -1),
        (supremum.NEVER_REACHED, lam * sp.Max(QUERY_NORM_MAX, KEY_NORM_MAX) * EPSILON, -1),
    ],
)
def test_a_wrong_term_is_not_certified(derivation, wrong, index):
    assert derivation.ok
    assert not ending(derivation, wrong, index).ok


@pytest.mark.parametrize(
    ("derivation", "index"),
    [
        (derivation, index)
        for derivation in (
            diagonal.PAIR,
            diagonal.NO_TURN,
            diagonal.CHANGES_SUM,
            supremum.PARALLELOGRAM,
            supremum.LARGE_STEPS,
            supremum.SMALL_STEPS,
            supremum.NEVER_REACHED,
            attained.BEST,
        )
        for index, _ in enumerate(derivation.hypotheses)
    ],
)
def test_every_hypothesis_is_needed(derivation, index):
    assert not without(derivation, index).ok


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
    "constant": (attacks.pair_attack, CONSTANT * EPSILON),
    "supremum": (attacks.pair_attack, SUPREMUM),
    "global": (attacks.small_steps_attack, GLOBAL_CONSTANT * EPSILON),
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
    found = run_attack(attacks.pair_attack(uncapped, "uncapped"), starts=4)
    assert found.best > 1.5
