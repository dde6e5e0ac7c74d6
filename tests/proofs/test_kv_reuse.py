"""Discarded keys: their later mass and the error without them, certified, attained, attacked."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.attention_distance.attacks import allowed, head_rows, masses
from proofs.attention_distance.rows import CLOSE
from proofs.engine.attack import run_attack
from proofs.engine.derivation import Derivation
from proofs.kv_reuse import attacks as kv_reuse_attacks
from proofs.kv_reuse import proof as kv_reuse
from proofs.kv_reuse import rows as kv_reuse_rows
from proofs.kv_reuse.attacks import error_attack, mass_attack, output_error, value_distance
from proofs.kv_reuse.proof import PROOF
from proofs.kv_reuse.rows import (
    ATTAINED_IN_ROW,
    ATTAINED_OUTPUT,
    ERROR_ATTAINED,
    ERROR_FROM_BOUND,
    ERROR_WITH_NEW_KEY,
    FROM_KEPT,
    IN_ROW,
    KEPT_AVERAGE,
    LATER,
    MASS_FROM_BOUND,
    NEW_KEYS,
    OUTPUT,
    OUTPUT_CHANGE,
    WEIGHTED_ERROR,
)
from tappa_theory.theorems.attention_distance import GAINED, MASS, MASS_LATER, OMEGA, OSCILLATION
from tappa_theory.theorems.kv_reuse import MASS_IN_ROW, OUTPUT_ERROR, THEOREM, VALUE_DISTANCE

OFF = [sp.Rational(99, 100), sp.Rational(101, 100)]


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    assert PROOF.verdict == "holds"
    assert PROOF.proving_the_bound() == ("output",)
    held = THEOREM.auxiliary
    assert OUTPUT.end == THEOREM.bound == OUTPUT_ERROR
    assert IN_ROW.end == held["mass_in_row"]
    assert LATER.end == held["mass_later"]
    assert MASS_FROM_BOUND.end == held["mass_later_from_bound"]
    assert ERROR_FROM_BOUND.end == held["output_error_from_bound"]
    assert ATTAINED_IN_ROW.end == MASS_IN_ROW


def test_no_smaller_constant_is_certified():
    for bound in (IN_ROW, LATER, OUTPUT, WEIGHTED_ERROR, FROM_KEPT, NEW_KEYS):
        assert not with_end(bound, OFF[0] * bound.end).ok, bound.title
        slower = bound.end.subs(OMEGA, OMEGA / 2)
        assert slower == bound.end or not with_end(bound, slower).ok
    attained = (ATTAINED_IN_ROW, ATTAINED_OUTPUT, ERROR_ATTAINED, ERROR_WITH_NEW_KEY)
    for factor in OFF:
        for equal in (*attained, OUTPUT_CHANGE, KEPT_AVERAGE):
            assert not with_end(equal, factor * equal.end).ok, equal.title


def test_the_error_is_attained_by_the_bound_alone():
    assert ERROR_ATTAINED.proves(ERROR_ATTAINED.start, "=", OUTPUT_ERROR)
    below = MASS + (1 - MASS) * sp.exp(-OMEGA)
    other = sp.Rational(99, 100) - MASS
    for wrong in (MASS / below**2, MASS / (MASS + other * sp.exp(-OMEGA))):
        assert not with_end(ERROR_ATTAINED, wrong * VALUE_DISTANCE).ok


@pytest.mark.parametrize("omega", [1e-3, 1.0, 9.0])
@pytest.mark.parametrize("new", [-np.inf, 0.5])
def test_two_keys_attain_the_error(omega, new):
    """The witness in float64, through softmax and the renormalised output."""
    before = np.array([-0.4, 0.3])
    after = masses(np.array([*(before + 0.2 + np.array([omega, 0.0])), new]))
    values, discarded = np.array([[2.5], [1.0], [1.0]]), np.array([True, False, False])
    numbers = {"omega": omega, "mass": masses(before)[0], "value_distance": 1.5}
    error = output_error(after, values, discarded, 2)
    assert error == pytest.approx((1 - after[2]) * allowed(OUTPUT_ERROR, **numbers), rel=1e-12)


@pytest.mark.parametrize(
    "derivation", [NEW_KEYS, OUTPUT_CHANGE, KEPT_AVERAGE, FROM_KEPT, WEIGHTED_ERROR]
)
def test_every_hypothesis_is_needed(derivation):
    for dropped in derivation.hypotheses:
        kept = tuple(h for h in derivation.hypotheses if h != dropped)
        assert not replace(derivation, hypotheses=kept, example={}).ok, dropped


def test_the_mass_needs_factors_that_are_close():
    for derivation in (IN_ROW, LATER, OUTPUT):
        kept = tuple(h for h in derivation.hypotheses if h != CLOSE)
        assert not replace(derivation, hypotheses=kept).ok


def test_the_output_changes_as_the_derivation_says():
    random = np.random.default_rng(6)
    for norm in (1, 2, np.inf):
        for _ in range(50):
            weights = masses(3 * random.standard_normal(5))
            values = random.standard_normal((5, 3))
            discarded = np.arange(5) < random.integers(1, 5)
            kept = np.where(discarded, 0, weights)
            point = kept @ values / kept.sum()
            change = (weights * discarded) @ (values - point)
            error = output_error(weights, values, discarded, norm)
            assert np.isclose(error, np.linalg.norm(change, norm), rtol=1e-9, atol=1e-12)
            bound = weights[discarded].sum() * value_distance(values, discarded, norm)
            assert error <= bound * (1 + 1e-12)


def test_rows_of_a_head_keep_the_mass_below_its_bound():
    random = np.random.default_rng(7)
    bound = MASS_LATER.subs(OMEGA, OSCILLATION)
    gained = 0.0
    for shift in ((1, 0), (2, 0)):
        for _ in range(300):
            point = random.uniform(-1, 1, 2 * (4 + shift[0]) + 1)
            before, after, values = head_rows(point, shift)
            mass, later = float(masses(before)[0]), float(masses(after)[0])
            allows = allowed(bound, mass=mass, bound_max=values["bound_max"])
            share = later / (1 - values["gained"])
            assert share <= allows * (1 + 1e-9)
            assert later <= (1 - values["gained"]) * allows * (1 + 1e-9)
            gained = max(gained, (share - mass) / max(allows - mass, 1e-3))
    assert gained > 0.5


@pytest.mark.parametrize("omega", [1e-9, 1.0, 50.0, 800.0])
def test_the_bound_is_computed_at_every_size(omega):
    assert allowed(MASS_LATER, mass=1.0, omega=omega) == 1
    assert allowed(OUTPUT_ERROR, mass=0.2, omega=omega, value_distance=0.0) == 0
    assert 0.2 <= allowed(MASS_LATER, mass=0.2, omega=omega) <= 1


def weakened(monkeypatch, name, expression):
    """An attack on another expression in the place of the registry's."""
    monkeypatch.setattr(kv_reuse_attacks, name, expression)


def test_attacks_break_a_bound_that_is_too_small(monkeypatch):
    slower = sp.Rational(9, 10) * OMEGA
    weakened(monkeypatch, "MASS_IN_ROW", MASS_IN_ROW.subs(OMEGA, slower))
    weakened(monkeypatch, "OUTPUT_ERROR", sp.Rational(98, 100) * OUTPUT_ERROR)
    for attack in (mass_attack(), error_attack()):
        attacked = run_attack(attack, starts=1)
        assert attacked.best > 1.005
        assert not attacked.ok


def test_attacks_notice_a_bound_that_is_too_large(monkeypatch):
    weakened(monkeypatch, "MASS_IN_ROW", (1 - GAINED / 2) * MASS_LATER.subs(OMEGA, 2 * OMEGA))
    weakened(monkeypatch, "OUTPUT_ERROR", sp.Rational(102, 100) * OUTPUT_ERROR)
    for attack in (mass_attack(), error_attack()):
        attacked = run_attack(attack, starts=1)
        assert attacked.best < 0.999
        assert not attacked.ok


def test_attacks_take_the_degenerate_corners():
    for attack in PROOF.attacks:
        assert all(attack.ratio(corner) <= 1 + 1e-9 for corner in attack.corners)
        assert run_attack(attack, starts=1).ok


def test_every_derivation_is_part_of_a_claim():
    claimed = {id(d) for claim in PROOF.claims for d in claim.derivations}
    lost = [
        name
        for module in (kv_reuse, kv_reuse_rows)
        for name, value in vars(module).items()
        if isinstance(value, Derivation) and id(value) not in claimed
    ]
    assert set(lost) <= {"AVERAGE"}  # used as a lemma
