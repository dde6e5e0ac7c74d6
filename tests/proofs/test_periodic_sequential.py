"""The proof of the periodic theorem: certified as it stands, and open with an error planted."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.engine.derivation import Derivation
from proofs.lemmas.rows import Row, changed, x
from proofs.periodic_sequential import attacks, counterexamples, discrete, maxima, sharpness
from proofs.periodic_sequential import proof as periodic_sequential
from proofs.periodic_sequential.proof import CLAIMS, PROOF
from proofs.periodic_sequential.row import (
    AUXILIARY,
    CURVATURE,
    CURVATURE_OF_ONE,
    SLOPE,
    SLOPE_OF_ONE,
    Differentiated,
    at_angle,
    beta,
    crest,
    kappa,
    phase,
    rho,
)
from tappa_theory.shift_identity import QUERY_DRIFT, lam, theta, theta_star, z, z_s
from tappa_theory.theorems.periodic_sequential import THEOREM, minor

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
    distance = sp.Abs(x - crest)
    assert maxima.DISPLACED.proves(distance, "<=", at_angle(AUXILIARY["displacement"]))
    assert maxima.SPACING_BOUND.end == at_angle(AUXILIARY["spacing"])
    assert at_angle(AUXILIARY["displacement"]) == beta / theta_star
    assert periodic_sequential.SPACING.end == THEOREM.bound.subs(z_s, z)
    assert PROOF.proving_the_bound() == ("keys_apart",)
    assert discrete.NEAR_CREST.end == at_angle(AUXILIARY["crest"])
    assert discrete.NEAR_TROUGH.end == at_angle(AUXILIARY["trough"])
    assert discrete.KAPPAS[0].start == AUXILIARY["kappa_j"]
    for sign in (1, -1):
        spacing = AUXILIARY["period"] + sign * at_angle(AUXILIARY["spacing"])
        assert sharpness.spaced(sign)[-1].end == spacing
    assert maxima.IN_ONE_DIRECTION.end == AUXILIARY["condition"]
    assert SLOPE_OF_ONE.end.has(sp.sin)
    assert sp.simplify(SLOPE_OF_ONE.end / SLOPE).is_Mul
    assert sp.simplify(CURVATURE / SLOPE) == theta / theta_star
    assert AUXILIARY["crest"] - AUXILIARY["trough"] == theta_star


HUNDRED = sp.Rational(99, 100)


def test_a_derivative_is_taken_and_nothing_else():
    square, zero = sp.Derivative(x**2, x), sp.Integer(0)
    assert Differentiated().certify(square, "=", 2 * x, ()).ok
    assert not Differentiated().certify(square, "=", x, ()).ok
    assert not Differentiated().certify(square, "<=", 2 * x, ()).ok
    assert not Differentiated().certify(zero, "=", zero, ()).ok


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_spacing_of_every_share_is_that_of_the_maxima(share, sign):
    angle = np.arcsin(share)
    speed = np.pi / (2 * np.pi + 2 * sign * angle)
    values = np.array([1.0, speed]), np.array([1.0, share / speed])
    phases = np.array([0.0, sign * np.pi / 2 + sign * speed * angle])
    (first,), (second,) = (attacks.maxima(*values, phases, crest) for crest in (0, 1))
    assert second - first == pytest.approx(2 * np.pi + 2 * sign * angle, abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        ending(maxima.DISPLACED, HUNDRED * beta / theta_star),
        ending(maxima.SPACING_BOUND, sp.Rational(199, 100) * beta / theta_star),
        ending(maxima.SPACED, sp.Rational(199, 100) * maxima.reach),
        ending(periodic_sequential.SPACING, HUNDRED * THEOREM.bound),
        ending(periodic_sequential.SPACING, QUERY_DRIFT),
        ending(SLOPE_OF_ONE, -SLOPE * sp.cos(theta * x + phase)),
        ending(CURVATURE_OF_ONE, -SLOPE * sp.cos(theta * x + phase)),
        ending(maxima.SUPPORT, HUNDRED * kappa * maxima.TILT),
        ending(maxima.FASTER, kappa * rho),
        ending(maxima.FASTER, kappa),
        ending(maxima.NEAR_CREST, HUNDRED * beta),
        *(replace(maxima.NEAR_CREST, hypotheses=maxima.NEAR_CREST.hypotheses[:k]) for k in (2, 3)),
        ending(maxima.ROOT_OF_SQUARES, HUNDRED),
        ending(counterexamples.ANY_FACTOR[0], sp.Rational(1, 101)),
        replace(counterexamples.ANY_FACTOR[2], start=sp.Integer(700)),
        replace(
            counterexamples.ANY_FACTOR[1], hypotheses=counterexamples.ANY_FACTOR[1].hypotheses[1:]
        ),
        *(
            replace(derivation, hypotheses=derivation.hypotheses[:count])
            for derivation, count in zip(sharpness.spaced(1), (0, 0, 1, 1, 0, 1), strict=True)
        ),
        ending(sharpness.spaced(-1)[-1], sharpness.spaced(1)[-1].end),
        ending(discrete.NEAR_CREST, HUNDRED * discrete.NEAR_CREST.end),
        ending(discrete.NEAR_TROUGH, HUNDRED * discrete.NEAR_TROUGH.end),
        replace(discrete.NEAR_TROUGH, hypotheses=discrete.NEAR_TROUGH.hypotheses[:-2]),
        ending(discrete.rest(discrete.DRIFT_NEXT, "next"), discrete.SLOW),
        *(
            replace(derivation, hypotheses=derivation.hypotheses[:1])
            for derivation in (*discrete.AT_CREST, *discrete.AT_TROUGH)
        ),
        replace(discrete.NEXT_STILL, hypotheses=discrete.NEXT_STILL.hypotheses[:-1]),
        ending(discrete.KAPPAS[1], HUNDRED * sp.sin(beta)),
        discrete.attained_by_drift(
            "trough",
            discrete.half + beta,
            beta - discrete.half,
            discrete.AT_TROUGH[1].hypotheses[-2:],
        )[1],
        ending(discrete.TURN_NEXT, -discrete.TURN_NEXT.end),
        ending(discrete.NOT_RISING, sp.sin(discrete.psi) - sp.Rational(1, 100)),
        ending(sharpness.AGAINST, sp.Rational(1, 100)),
        ending(
            discrete.TWO_ARCS,
            discrete.CREST_FACTOR * (discrete.CREST_FACTOR + discrete.TROUGH_FACTOR),
        ),
        replace(maxima.SHARP_CREST, hypotheses=maxima.SHARP_CREST.hypotheses[1:]),
        replace(maxima.SHARP_TROUGH, hypotheses=maxima.SHARP_TROUGH.hypotheses[:-1]),
        replace(maxima.NO_EDGE, hypotheses=maxima.NO_EDGE.hypotheses[:1]),
        replace(maxima.SHORT, hypotheses=maxima.SHORT.hypotheses[:-1]),
        replace(maxima.BAND_START, hypotheses=maxima.BAND_START.hypotheses[:1]),
        replace(sharpness.WRONG_WAY, hypotheses=sharpness.WRONG_WAY.hypotheses[:-1]),
        replace(
            sharpness.SLOW_AND_FAST, start=sp.sqrt(sp.Rational(101, 100) * AUXILIARY["squares"])
        ),
        ending(sharpness.SLOW_AND_FAST, sharpness.CONDITION_OF_TWO),
        *(
            replace(
                sharpness.SLOW_AND_FAST,
                hypotheses=tuple(h for h in sharpness.SLOW_AND_FAST.hypotheses if h != dropped),
            )
            for dropped in sharpness.SLOW_AND_FAST.hypotheses
        ),
        replace(discrete.TROUGH_NEEDS, hypotheses=discrete.TROUGH_NEEDS.hypotheses[1:]),
        replace(discrete.TWO_ARCS, hypotheses=discrete.SIDES[:1] + discrete.SIDES[2:]),
    ],
)
def test_an_error_in_a_derivation_leaves_it_open(wrong):
    assert not wrong.ok


def test_the_drift_of_the_dominant_channel_counts():
    competitor = discrete.of_a_competitor(discrete.NEXT, "next")
    assert competitor.ok
    assert not ending(competitor, AUXILIARY["slow_rotation"].subs(minor, 1)).ok
    part, size = discrete.of_the_dominant(discrete.NEXT, "next")
    assert size.start == lam * sp.Abs(part.end / lam)
    assert not ending(size, HUNDRED * AUXILIARY["neighbour_drift"]).ok


@pytest.mark.parametrize(
    "row", [counterexamples.SHORT_ROW, sharpness.LONG_ROW, discrete.OFF_CENTRE]
)
def test_a_row_with_other_sizes_is_no_instance(row):
    (frequency, size, phase), *others = row.channels
    wrong = Row(((frequency, size * sp.Rational(101, 100), phase), *others))
    place = sp.Rational(151, 100) if row is discrete.OFF_CENTRE else sp.Integer(1)
    assert all(step.step().evidence.ok for step in row.maximum(place))
    assert not all(step.step().evidence.ok for step in wrong.maximum(place))


def test_two_maxima_need_both_shares():
    assert not all(step.step().evidence.ok for step in sharpness.TWO_TOPS.enough())
    slower = Row((sharpness.TWO_TOPS.channels[0], sharpness.TWO_TOPS.channels[2]))
    assert all(step.step().evidence.ok for step in slower.enough())


def test_kappa_of_a_row_follows_the_definition():
    for row, expected in ((discrete.DISCRETE, 0.5), (discrete.IN_TROUGH, np.sqrt(0.5))):
        star, *others = [tuple(float(part) for part in channel) for channel in row.channels]
        turned = sum(2 * np.sin(f / 2) * size for f, size, _ in others)
        assert turned / (2 * np.sin(star[0] / 2) * star[1]) == pytest.approx(expected, abs=1e-15)
        assert float(discrete.kappa_at(row)) == pytest.approx(expected, abs=1e-15)


def test_maxima_are_found_where_they_are():
    frequency, energy = np.array([0.5, 0.2]), np.array([1.0, 0.0])
    assert attacks.maxima(frequency, energy, np.array([0.3, 0.0]), 0) == pytest.approx([-0.6])
    channels = sharpness.TWO_TOPS.channels
    values = [np.array([float(part) for part in parts]) for parts in zip(*channels, strict=True)]
    values[2] = values[2] + values[0] * (10 + 0.67 * 1.5)
    values[2][0] = 0.0
    assert len(attacks.maxima(*values, 0)) == 2
    values[1][1] = 0.0  # without the faster competitor
    assert len(attacks.maxima(*values, 0)) == 1


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
    monkeypatch.setattr(attacks, "DIRECTIONS", np.zeros(1))
    assert run_attack(PROOF.attacks[2], starts=6).best >= 2


def test_an_attack_breaks_a_bound_that_is_too_small():
    assert run_attack(changed(HUNDRED * THEOREM.bound, (0, 7), N=7.0), starts=0).best > 1.005
    assert not run_attack(changed(2 * THEOREM.bound, (0, 7), N=7.0), starts=0).ok
