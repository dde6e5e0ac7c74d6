"""Theorem 5.1: every claim is certified, and planted errors are not."""

import dataclasses

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.engine.claims import Exact
from proofs.re_access import attacks, column, turn
from proofs.re_access.proof import PROOF
from proofs.re_access.turn import turned
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import QUERY_DRIFT, lam, rotation_residual, theta, w, w_u, z, z_s
from tappa_theory.theorems.re_access import (
    ARC,
    ARC_EXACT,
    ARC_LINEAR,
    ARC_ONE_NORM,
    ARC_ONE_NORM_LINEAR,
    CHORD,
    GAP,
    KEY_BOUND,
    RADIUS,
    SEVERAL_STEPS,
    THEOREM,
)

CLAIMS = {claim.id: claim for claim in PROOF.claims}


def ending(derivation, end, index=-1):
    """The derivation with another end, all certificates kept."""
    links = list(derivation.links)
    links[index] = dataclasses.replace(links[index], right=end)
    return dataclasses.replace(derivation, links=tuple(links))


def without(derivation, *dropped):
    kept = tuple(h for h in derivation.hypotheses if h not in dropped)
    assert len(kept) == len(derivation.hypotheses) - len(dropped)
    return dataclasses.replace(derivation, hypotheses=kept)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_claim_is_certified(name):
    failed = [step for step in CLAIMS[name].steps() if not step.evidence.ok]
    assert not failed
    assert CLAIMS[name].ok


def test_the_theorem_is_repaired_and_every_bound_is_the_registrys():
    assert PROOF.verdict == "repaired"
    assert PROOF.proving_the_bound() == ("one_step",)
    assert turn.BOTH.proves(turn.psi, "<=", turned(THEOREM.auxiliary["arc"]))
    assert turn.LINEAR.proves(turn.psi, "<=", turned(THEOREM.auxiliary["arc_linear"]))
    assert turn.EXACT_TURN.proves(turn.psi, "=", turned(THEOREM.auxiliary["arc_exact"]))
    assert turn.ONE.proves(turn.psi, "<=", turned(THEOREM.auxiliary["arc_one_norm"]))
    assert column.ONE_STEP.end == THEOREM.bound.subs(w_u, w)
    assert column.TAU_STEPS.end == THEOREM.auxiliary["several_steps"].subs(w_u, w)


def test_a_turn_of_a_complex_number_is_what_the_symbols_say():
    random = np.random.default_rng(0)
    before, after = random.standard_normal((2, 50)) + 1j * random.standard_normal((2, 50))
    angle = np.abs(np.angle(after / before))
    values = {"z": before, "z_s": after}
    assert np.allclose(evaluate(THEOREM.published.observed, values), angle, rtol=1e-12)
    assert np.allclose(evaluate(ARC_EXACT, values), angle, rtol=1e-6)
    flipped = after / before * np.conj(before)  # the other way round: same norms, same chord
    mirrored = {"z": np.conj(before), "z_s": np.conj(after)}
    assert np.allclose(evaluate(ARC_EXACT, mirrored), evaluate(ARC_EXACT, values))
    assert np.allclose(np.abs(flipped), np.abs(after))


@pytest.mark.parametrize(
    ("derivation", "wrong"),
    [
        # the published step in place of its repair
        (turn.BOTH, turned(CHORD / RADIUS)),
        (turn.LINEAR, turned(CHORD / RADIUS)),
        (turn.ONE, turned(CHORD / RADIUS)),
        # a constant off by 1%
        (turn.BOTH, turned(2 * sp.asin(sp.Min(1, CHORD / (sp.Rational(202, 100) * RADIUS))))),
        (turn.BOTH, turned(sp.Rational(99, 100) * ARC)),
        (turn.LINEAR, turned(sp.Rational(99, 100) * ARC_LINEAR)),
        (turn.ONE, turned(sp.asin(sp.Rational(99, 100) * CHORD / RADIUS))),
        # a sign
        (
            turn.EXACT_TURN,
            turned(
                2
                * sp.asin(
                    sp.sqrt(
                        (CHORD**2 - (sp.Abs(z) + sp.Abs(z_s)) ** 2) / (4 * sp.Abs(z) * sp.Abs(z_s))
                    )
                )
            ),
        ),
        # the sharper of the two arcs where it does not hold
        (turn.ONE, turned(ARC)),
        # half of what a turn can change
        (column.ONE_STEP, QUERY_DRIFT.subs(w_u, w) + rotation_residual(theta) / 2),
        (column.ONE_STEP, QUERY_DRIFT.subs(w_u, w)),
        (column.TAU_STEPS, QUERY_DRIFT.subs(w_u, w) + rotation_residual(theta)),
        (column.COLUMN_SHARP, column.COLUMN_SHARP.end * sp.Rational(101, 100)),
        (column.COLUMN_SHARP_RESONANT, column.COLUMN_SHARP_RESONANT.end + lam),
    ],
)
def test_a_wrong_end_is_not_certified(derivation, wrong):
    assert derivation.ok
    assert not ending(derivation, wrong).ok


@pytest.mark.parametrize(
    ("derivation", "index"),
    [
        (derivation, index)
        for derivation in (
            turn.BOTH,
            turn.LINEAR,
            turn.ONE,
            column.STAYS_AHEAD,
        )
        for index, _ in enumerate(derivation.hypotheses)
    ],
)
def test_every_hypothesis_is_needed(derivation, index):
    assert not without(derivation, derivation.hypotheses[index]).ok


def test_a_gap_must_exceed_both_bounds():
    ahead = column.STAYS_AHEAD
    lead = ahead.hypotheses[-1].lhs
    for wrong in (
        sp.Ge(lead, GAP, evaluate=False),
        sp.Gt(lead, KEY_BOUND, evaluate=False),
        sp.Gt(lead, sp.Rational(99, 100) * GAP, evaluate=False),
    ):
        kept = (*ahead.hypotheses[:-1], wrong)
        assert not dataclasses.replace(ahead, hypotheses=kept).ok


@pytest.mark.parametrize(
    ("derivation", "wrong"),
    [
        (turn.ONE_LINEAR, turned(sp.Rational(99, 100) * ARC_ONE_NORM_LINEAR)),
        (turn.ONE_NEAR, turned(ARC_ONE_NORM_LINEAR / 4)),
        (turn.OPPOSITE, turn.OPPOSITE.end + 1),
        (turn.SMALL_TURNS, turn.SMALL_TURNS.end * sp.Rational(99, 100)),
        (turn.CHORD_OVER_NORM, turn.psi),
        (column.TAU_FOLD, column.TAU_FOLD.end * sp.Rational(99, 100)),
        (column.LEAD, 2 * column.LEAD.end),
        (column.LEAD_TOGETHER, column.LEAD_TOGETHER.end / 2),
        (column.SEPARATE_IS_LARGER, column.SEPARATE_IS_LARGER.end * sp.Rational(99, 100)),
    ],
)
def test_what_joins_the_parts_has_no_other_end(derivation, wrong):
    assert derivation.ok
    assert not ending(derivation, wrong).ok


def test_the_turn_of_one_norm_and_the_gap_of_both_keys_are_the_registrys():
    parts = THEOREM.auxiliary
    assert turn.ONE_LINEAR.proves(turn.psi, "<=", turned(parts["arc_one_norm_linear"]))
    assert column.LEAD_TOGETHER.end == parts["gap_together"]
    assert column.SEPARATE_IS_LARGER.start == parts["gap_together"]
    for dropped in turn.ONE_FAR.hypotheses:
        assert not without(turn.ONE_FAR, dropped).ok
    assert not without(column.TAU_FOLD, *column.TAU_FOLD.hypotheses).ok


def test_instances_are_decided_and_not_believed():
    for name in ("arc_is_longer", "arc_is_longer_one_norm", "no_gap", "new_key"):
        for instance in CLAIMS[name].instances:
            assert instance.step().evidence.ok
            turned_round = Exact("", instance.observed, "<", instance.allowed)
            assert not turned_round.step().evidence.ok
    (instance,) = CLAIMS["arc_is_longer"].instances
    assert (instance.allowed, instance.observed) == (1, sp.pi / 3)


@pytest.mark.parametrize("attack", PROOF.attacks, ids=lambda attack: attack.name)
def test_no_attack_gets_above_and_every_one_reaches_the_bound(attack):
    found = run_attack(attack, starts=4)
    assert found.ok
    assert found.best <= 1 + attack.rounding


ATTACKS = {
    "column": (attacks.column_attack, SEVERAL_STEPS),
    "arc": (lambda bound, name: attacks.arc_attack(name, bound, 1e-7), ARC),
    "linear": (lambda bound, name: attacks.arc_attack(name, bound, 1e-7), ARC_LINEAR),
    "gap": (attacks.gap_attack, GAP),
}


@pytest.mark.parametrize("factor", [0.99, 1.01])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_notices_a_bound_that_is_off_by_a_hundredth(name, factor):
    attack, bound = ATTACKS[name]
    found = run_attack(attack(factor * bound, name), starts=2)
    assert not found.ok
    assert (found.best > 1) == (factor < 1)


def test_an_attack_breaks_the_published_step():
    bound = CHORD / RADIUS
    found = run_attack(attacks.arc_attack("published", bound, 1e-7), starts=2)
    assert not found.ok
    assert found.best == pytest.approx(np.pi / 2, rel=1e-6)


def test_the_arc_for_one_norm_is_no_larger_than_a_quarter_turn():
    values = {"z": np.array([1.0 + 0j]), "z_s": np.array([1e-3 + 0j]), "radius": np.array(1.0)}
    assert evaluate(ARC_ONE_NORM, values)[0] < np.pi / 2
