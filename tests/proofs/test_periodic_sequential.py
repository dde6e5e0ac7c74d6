"""The proof of the periodic theorem: certified as it stands, and open with an error planted."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs import periodic_sequential as proof
from proofs.attack import run_attack
from proofs.derivation import Derivation
from proofs.periodic_sequential import (
    AUXILIARY,
    CLAIMS,
    CURVATURE,
    PROOF,
    SLOPE,
    STAR,
    THEOREM,
    Row,
    at_angle,
)
from proofs.rows import changed
from tappa_theory.shift_identity import QUERY_DRIFT

BY_ID = {claim.id: claim for claim in CLAIMS}


def ending(derivation: Derivation, right: sp.Expr) -> Derivation:
    """The derivation with another last term."""
    last = replace(derivation.links[-1], right=right)
    return replace(derivation, links=(*derivation.links[:-1], last))


@pytest.mark.parametrize("name", BY_ID)
def test_every_claim_is_certified(name):
    claim = BY_ID[name]
    assert [step.claim for step in claim.steps() if not step.evidence.ok] == []
    assert claim.ok


def test_the_published_form_is_repaired():
    assert PROOF.verdict == "repaired"
    assert len(BY_ID) == len(CLAIMS)


def test_what_is_proved_is_the_registry():
    distance = sp.Abs(proof.x - proof.crest)
    assert proof.DISPLACED.proves(distance, "<=", at_angle(AUXILIARY["displacement"]))
    assert proof.SPACING_BOUND.end == at_angle(AUXILIARY["spacing"])
    assert at_angle(AUXILIARY["displacement"]) == proof.beta / STAR
    assert proof.SPACING.end == THEOREM.bound
    assert proof.IN_ONE_DIRECTION.end == AUXILIARY["condition"]
    assert proof.SLOPE_OF_ONE.end.has(sp.sin)
    assert sp.simplify(proof.SLOPE_OF_ONE.end / SLOPE).is_Mul
    assert sp.simplify(CURVATURE / SLOPE) == proof.theta / STAR
    assert AUXILIARY["crest"] - AUXILIARY["trough"] == STAR


HUNDRED = sp.Rational(99, 100)


@pytest.mark.parametrize(
    "wrong",
    [
        ending(proof.DISPLACED, HUNDRED * proof.beta / STAR),
        ending(proof.SPACING_BOUND, sp.Rational(199, 100) * proof.beta / STAR),
        ending(proof.SPACED, sp.Rational(199, 100) * proof.reach),
        ending(proof.SPACING, HUNDRED * THEOREM.bound),
        ending(proof.SPACING, QUERY_DRIFT),
        ending(proof.SLOPE_OF_ONE, -SLOPE * sp.cos(proof.theta * proof.x + proof.phase)),
        ending(proof.CURVATURE_OF_ONE, -SLOPE * sp.cos(proof.theta * proof.x + proof.phase)),
        ending(proof.SUPPORT, HUNDRED * proof.kappa * proof.TILT),
        ending(proof.FASTER, proof.kappa * proof.rho),
        ending(proof.FASTER, proof.kappa),
        ending(proof.TURN_NEXT, -proof.TURN_NEXT.end),
        ending(proof.NOT_RISING, sp.sin(proof.psi) - sp.Rational(1, 100)),
        ending(proof.AGAINST, sp.Rational(1, 100)),
        ending(
            proof.TWO_ARCS,
            (sp.cos(proof.y) - sp.cos(proof.half + proof.beta))
            * (sp.cos(proof.y) - sp.cos(proof.beta - proof.half)),
        ),
        replace(proof.SHARP_CREST, hypotheses=proof.SHARP_CREST.hypotheses[1:]),
        replace(proof.SHARP_TROUGH, hypotheses=proof.SHARP_TROUGH.hypotheses[:-1]),
        replace(proof.NO_EDGE, hypotheses=proof.NO_EDGE.hypotheses[:1]),
        replace(proof.SHORT, hypotheses=proof.SHORT.hypotheses[:-1]),
        replace(proof.BAND_START, hypotheses=proof.BAND_START.hypotheses[:1]),
        replace(proof.WRONG_WAY, hypotheses=proof.WRONG_WAY.hypotheses[:-1]),
        replace(proof.TROUGH_NEEDS, hypotheses=proof.TROUGH_NEEDS.hypotheses[1:]),
        replace(proof.TWO_ARCS, hypotheses=proof.SIDES[:1] + proof.SIDES[2:]),
    ],
)
def test_an_error_in_a_derivation_leaves_it_open(wrong):
    assert not wrong.ok


def test_the_drift_of_the_dominant_channel_counts():
    competitor = proof.of_a_competitor(proof.NEXT, "next")
    assert competitor.ok
    assert not ending(competitor, AUXILIARY["slow_rotation"].subs(proof.minor, 1)).ok
    part, size = proof.of_the_dominant(proof.NEXT, "next")
    assert size.start == proof.lam * sp.Abs(part.end / proof.lam)
    assert not ending(size, HUNDRED * AUXILIARY["neighbour_drift"]).ok


@pytest.mark.parametrize("row", [proof.SHORT_ROW, proof.LONG_ROW, proof.OFF_CENTRE])
def test_a_row_with_other_sizes_is_no_instance(row):
    (frequency, size, phase), *others = row.channels
    wrong = Row(((frequency, size * sp.Rational(101, 100), phase), *others))
    place = sp.Rational(151, 100) if row is proof.OFF_CENTRE else sp.Integer(1)
    assert all(step.step().evidence.ok for step in row.maximum(place))
    assert not all(step.step().evidence.ok for step in wrong.maximum(place))


def test_two_maxima_need_both_shares():
    assert not all(step.step().evidence.ok for step in proof.TWO_TOPS.enough())
    slower = Row((proof.TWO_TOPS.channels[0], proof.TWO_TOPS.channels[2]))
    assert all(step.step().evidence.ok for step in slower.enough())


def test_kappa_of_a_row_follows_the_definition():
    for row, expected in ((proof.DISCRETE, 0.5), (proof.IN_TROUGH, np.sqrt(0.5))):
        star, *others = [tuple(float(part) for part in channel) for channel in row.channels]
        turned = sum(2 * np.sin(f / 2) * size for f, size, _ in others)
        assert turned / (2 * np.sin(star[0] / 2) * star[1]) == pytest.approx(expected, abs=1e-15)
        assert float(proof.kappa_at(row)) == pytest.approx(expected, abs=1e-15)


def test_maxima_are_found_where_they_are():
    frequency, energy = np.array([0.5, 0.2]), np.array([1.0, 0.0])
    assert proof.maxima(frequency, energy, np.array([0.3, 0.0]), 0) == pytest.approx([-0.6])
    channels = proof.TWO_TOPS.channels
    values = [np.array([float(part) for part in parts]) for parts in zip(*channels, strict=True)]
    values[2] = values[2] + values[0] * (10 + 0.67 * 1.5)
    values[2][0] = 0.0
    assert len(proof.maxima(*values, 0)) == 2
    values[1][1] = 0.0  # without the faster competitor
    assert len(proof.maxima(*values, 0)) == 1


@pytest.mark.parametrize("attack", PROOF.attacks, ids=lambda attack: attack.name)
def test_an_attack_reaches_the_bound_and_does_not_pass(attack):
    assert run_attack(attack, starts=2).ok


@pytest.mark.parametrize("name", ["displacement", "spacing", "crest"])
def test_an_attack_breaks_a_constant_that_is_too_small(name, monkeypatch):
    monkeypatch.setitem(AUXILIARY, name, HUNDRED * AUXILIARY[name])
    index = ["displacement", "spacing", "", "crest"].index(name)
    assert run_attack(PROOF.attacks[index], starts=3).best > 1.005


def test_an_attack_breaks_a_condition_that_is_too_weak(monkeypatch):
    # kappa < 1 alone: the condition at v = 0
    monkeypatch.setattr(proof, "DIRECTIONS", np.zeros(1))
    assert run_attack(PROOF.attacks[2], starts=6).best >= 2


def test_an_attack_breaks_a_bound_that_is_too_small():
    assert run_attack(changed(HUNDRED * THEOREM.bound, (0, 7), N=7.0), starts=0).best > 1.005
    assert not run_attack(changed(2 * THEOREM.bound, (0, 7), N=7.0), starts=0).ok
