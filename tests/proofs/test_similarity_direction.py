"""Which similarity: the derivations, the examples, and what must not be certified."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.engine.instances import floats
from proofs.similarity_direction import proof as direction
from proofs.similarity_direction.proof import (
    ALONG,
    APART,
    ATTAINED,
    COLUMN,
    COLUMN_STAYS,
    COSINES,
    DIAGONAL,
    DIAGONAL_STAYS,
    KEY_ALONG,
    OTHER_SIMILARITY,
    PROOF,
    REPEATS,
    WHOLE,
    WHOLE_KEY,
    direction_attack,
)
from tappa_theory.shift_identity import s, u, z, z_s
from tappa_theory.theorems.proposition_4_1 import KEY_NORM_MAX, SUFFICIENT
from tappa_theory.theorems.similarity_direction import (
    DRIFT,
    KEY_NORM,
    PRODUCT,
    REPEATED,
    THEOREM,
    WITH_KEY_STEP,
)

LESS, MORE = sp.Rational(99, 100), sp.Rational(101, 100)


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    assert THEOREM.bound == REPEATED == WHOLE.end
    assert THEOREM.auxiliary["with_key_step"] == WITH_KEY_STEP == WHOLE_KEY.end
    assert SUFFICIENT.subs(KEY_NORM_MAX, KEY_NORM) == REPEATED
    assert PROOF.proving_the_bound() == ("bound",)
    assert PROOF.verdict == "holds"


@pytest.mark.parametrize(
    "derivation",
    [APART, REPEATS, COLUMN, DIAGONAL, COSINES, ALONG, KEY_ALONG, *OTHER_SIMILARITY, ATTAINED],
    ids=lambda derivation: derivation.title,
)
def test_no_other_identity_is_certified(derivation):
    assert not with_end(derivation, derivation.end * MORE).ok
    assert not with_end(derivation, -derivation.end).ok


@pytest.mark.parametrize("derivation", [WHOLE, WHOLE_KEY], ids=("query", "key"))
def test_no_smaller_bound_is_certified_and_every_hypothesis_is_needed(derivation):
    assert not with_end(derivation, derivation.end * LESS).ok
    for dropped in derivation.hypotheses:
        kept = tuple(h for h in derivation.hypotheses if h != dropped)
        assert not replace(derivation, hypotheses=kept).ok


def test_the_key_of_the_witness_is_as_long_as_the_drift():
    assert not replace(ATTAINED, hypotheses=()).ok


def test_the_shifts_may_not_be_exchanged():
    at_column = COLUMN.start.subs(s, 2)
    assert not replace(COLUMN, start=direction.CHANGE.subs(u, s)).ok
    assert not replace(DIAGONAL, start=direction.CHANGE.subs(u, 0)).ok
    assert DRIFT.subs(u, s) == z_s - z
    assert at_column != DIAGONAL.start


def test_the_other_pattern_does_not_stay():
    against = sp.exp(-sp.I * s * direction.theta) * z
    moved = direction.SHIFT_DIFFERENCE.subs(u, s).subs({z_s: against, direction.w_u: direction.w})
    assert not replace(COLUMN_STAYS, start=moved).ok
    kept = direction.SHIFT_DIFFERENCE.subs(u, 0).subs({z_s: z, direction.w_u: direction.w})
    assert not replace(DIAGONAL_STAYS, start=kept).ok


def test_a_planted_error_in_an_instance_is_seen():
    for claim in PROOF.claims:
        for instance in claim.instances:
            assert instance.step().evidence.ok
            wrong = replace(instance, observed=instance.allowed - 1, replay=None)
            assert not wrong.step().evidence.ok


@pytest.mark.parametrize(
    ("bound", "shift", "repeats"),
    [(REPEATED, (1, 0), True), (REPEATED, (3, 3), True), (WITH_KEY_STEP, (1, 1), False)],
)
def test_an_attack_sees_a_planted_error(bound, shift, repeats):
    for factor in (LESS, MORE):
        attack = direction_attack(bound * factor, shift, "planted", repeats)
        attacked = run_attack(replace(attack, corners=attack.corners[1:2]), starts=1)
        assert not attacked.ok
        assert (attacked.best > 1.005) if factor == LESS else (attacked.best < 0.995)


@pytest.mark.parametrize(("pattern", "other"), [(0, 3), (3, 0)], ids=("column", "diagonal"))
def test_the_wrong_similarity_breaks_the_bound(pattern, other):
    # three steps that keep the other pattern: similarity 1 there, and a bound of 0
    values = {"z": 1 + 0j, "w": 1 + 0j, "w_u": 1 + 0j, "theta": 1.0, "s": 3.0, "t": 4.0, "i": 2.0}
    values |= {"z_s": np.exp(-1j * (3 - other)), "lambda": 1.0}
    norms = {"query_norm": 1.0, "query_norm_s": 1.0, "key_norm": 1.0, "lambda": 1.0}
    changed = {
        u_: abs(float(floats(direction.SHIFT_DIFFERENCE, **values, u=float(u_)))) for u_ in (0, 3)
    }
    bound = {
        u_: floats(REPEATED, **norms, similarity=floats(PRODUCT, **values, u=float(u_)))
        for u_ in (0, 3)
    }
    assert changed[other] == pytest.approx(0, abs=1e-12)
    assert changed[pattern] > bound[other] + 0.1
    assert changed[pattern] <= bound[pattern] + 1e-12


def test_an_attack_takes_the_degenerate_corners():
    for attack in PROOF.attacks:
        assert attack.ratio(attack.corners[0]) == 0.0
        assert all(0 <= attack.ratio(corner) <= 1 + 1e-9 for corner in attack.corners)
