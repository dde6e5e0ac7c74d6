"""The shift bound's derivations, and that none of them certifies a smaller bound."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.engine.derivation import Derivation
from proofs.engine.witness import chosen
from proofs.shift_bound import proof as shift_bound
from proofs.shift_bound.proof import (
    ALIGNED,
    ALONG,
    BETTER_DRIFT,
    CHANNEL,
    IDENTITY,
    LEAST_ENERGY,
    MODULUS,
    NEVER_WEAKER,
    ORDERS,
    OTHER_ORDERS,
    POLAR,
    PROOF,
    SHARP,
    SHARP_RESONANT,
    TIGHTER,
    TURNED_ALIKE,
    UNIT_TURN,
    WITNESS,
    shift_attack,
)
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import (
    ALPHA,
    BOUND,
    KEY_DRIFT,
    LOGIT,
    MODULUS_SQUARED,
    PSI,
    QUERY_DRIFT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    TIGHTER_BOUND,
    lam,
    psi,
    rotation_residual,
    z,
    z_s,
)

RESIDUAL = rotation_residual(ALPHA)
TERMS = (QUERY_DRIFT, KEY_DRIFT, RESIDUAL)
EXACT = [sp.Rational(99, 100), sp.Rational(101, 100)]


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    assert PROOF.theorem.bound == BOUND
    assert PROOF.theorem.auxiliary["tighter"] == TIGHTER_BOUND
    assert IDENTITY.proves(SHIFTED_LOGIT - LOGIT, "=", SHIFT_DIFFERENCE)
    assert CHANNEL.proves(sp.Abs(SHIFT_DIFFERENCE), "<=", BOUND)
    assert TIGHTER.proves(sp.Abs(SHIFT_DIFFERENCE), "<=", TIGHTER_BOUND)
    assert NEVER_WEAKER.proves(TIGHTER_BOUND, "<=", BOUND)
    for witness in (SHARP, SHARP_RESONANT):
        assert witness.proves(SHIFT_DIFFERENCE, "=", BOUND)
    assert MODULUS.end == MODULUS_SQUARED.subs(POLAR, simultaneous=True)
    assert PROOF.verdict == "holds"
    assert not CHANNEL.hypotheses
    assert not TIGHTER.hypotheses


@pytest.mark.parametrize("term", TERMS, ids=("query", "key", "turn"))
@pytest.mark.parametrize("factor", [0, *EXACT])
def test_no_other_constant_is_certified(term, factor):
    wrong = BOUND + (factor - 1) * term
    assert not with_end(CHANNEL, wrong).ok
    assert not with_end(SHARP, wrong).ok
    for order in OTHER_ORDERS:
        assert not with_end(order, order.end - term).ok


def test_a_wrong_sign_or_angle_of_the_identity_is_seen():
    turned = SHIFT_DIFFERENCE.subs(shift_bound.theta, -shift_bound.theta)
    assert not with_end(IDENTITY, turned).ok
    assert not with_end(IDENTITY, -SHIFT_DIFFERENCE).ok
    assert not with_end(MODULUS, MODULUS.end + 1).ok
    half = MODULUS_SQUARED.subs(psi, -psi).subs(POLAR, simultaneous=True)
    assert not with_end(MODULUS, half).ok


@pytest.mark.parametrize("least", [LEAST_ENERGY, BETTER_DRIFT], ids=("energy", "drift"))
def test_the_minima_need_all_orders_and_all_of_their_terms(least):
    assert least.ok
    assert not with_end(least, sp.Rational(99, 100) * least.end).ok
    for dropped in least.hypotheses:
        kept = tuple(h for h in least.hypotheses if h != dropped)
        assert not replace(least, hypotheses=kept).ok


def test_the_six_orders_are_all_there_are():
    assert len({order.bound for order in ORDERS}) == 6 == len(OTHER_ORDERS) + 1
    for order in ORDERS:
        assert sp.expand(sum(order.changes) - shift_bound.CHANGE) == 0
    random = np.random.default_rng(4)
    parts = random.standard_normal((4, 300)) + 1j * random.standard_normal((4, 300))
    values = dict(zip(("z", "z_s", "w", "w_u"), parts, strict=True))
    values |= {"theta": random.uniform(0, 1, 300), "s": np.asarray(3), "u": np.asarray(1)}
    values |= {"lambda": np.asarray(1.0)}
    bounds = np.array([evaluate(order.bound, values) for order in ORDERS])
    assert np.allclose(evaluate(TIGHTER_BOUND, values), bounds.min(axis=0), rtol=1e-13)
    # each of the six is the best one somewhere
    assert set(bounds.argmin(axis=0)) == set(range(6))


def test_a_turn_that_is_not_the_conjugate_does_not_align():
    for derivation in (ALIGNED, UNIT_TURN):
        for dropped in derivation.hypotheses:
            kept = tuple(h for h in derivation.hypotheses if h != dropped)
            assert not replace(derivation, hypotheses=kept).ok, dropped
    assert ALIGNED.end == lam * sp.Abs(shift_bound.CHANGE)
    assert not replace(TURNED_ALIKE, hypotheses=()).ok


@pytest.mark.parametrize("symbol", [z, z_s], ids=str)
def test_a_turned_witness_attains_nothing(symbol):
    turned = {**WITNESS, symbol: sp.I * WITNESS[symbol]}
    assert not replace(SHARP, hypotheses=chosen(turned)).ok
    along = {**ALONG, z: -ALONG[z]}
    resonance = [h for h in SHARP_RESONANT.hypotheses if isinstance(h, sp.Eq)]
    assert not replace(SHARP_RESONANT, hypotheses=(*resonance, *chosen(along))).ok


def test_the_second_witness_needs_the_resonance():
    loose = [h for h in SHARP_RESONANT.hypotheses if not isinstance(h, sp.Eq)]
    assert not replace(SHARP_RESONANT, hypotheses=tuple(loose)).ok


def test_the_exact_modulus_is_what_numbers_say():
    random = np.random.default_rng(3)
    parts = random.standard_normal((4, 50)) + 1j * random.standard_normal((4, 50))
    values = dict(zip(("z", "z_s", "w", "w_u"), parts, strict=True))
    values |= {"theta": random.uniform(0, 1, 50), "s": np.asarray(3), "u": np.asarray(1)}
    angle = np.exp(2j * values["theta"])
    change = angle * parts[1] * np.conj(parts[3]) - parts[0] * np.conj(parts[2])
    exact = evaluate(MODULUS_SQUARED.subs(psi, PSI), values)
    assert np.allclose(exact, np.abs(change) ** 2, rtol=1e-12, atol=1e-12)
    tighter = evaluate(TIGHTER_BOUND, values | {"lambda": np.asarray(1.0)})
    bound = evaluate(BOUND, values | {"lambda": np.asarray(1.0)})
    assert np.all(np.sqrt(exact) <= tighter * (1 + 1e-12))
    assert np.all(tighter <= bound * (1 + 1e-12))
    assert np.any(tighter > 0.99 * bound)
    assert np.any(tighter < 0.9 * bound)


@pytest.mark.parametrize("term", [QUERY_DRIFT, RESIDUAL], ids=("query", "turn"))
def test_an_attack_breaks_a_bound_that_is_too_small(term):
    weakened = shift_attack(BOUND - sp.Rational(1, 50) * term, (1, 0), "weakened")
    attacked = run_attack(weakened, starts=1)
    assert attacked.best > 1.005
    assert not attacked.ok


def test_an_attack_notices_a_bound_that_is_too_large():
    attacked = run_attack(shift_attack(BOUND * sp.Rational(101, 100), (1, 1), "loose"), starts=1)
    assert attacked.best < 0.995
    assert not attacked.ok


def test_an_attack_takes_the_degenerate_corners():
    attack = shift_attack(BOUND, (2, 5), "corners")
    ratios = [attack.ratio(corner) for corner in attack.corners]
    assert all(0 <= ratio <= 1 for ratio in ratios)
    assert attack.ratio(np.zeros(attack.size)) == 0
    assert run_attack(attack, starts=3).ok


def test_every_derivation_of_the_module_is_part_of_a_claim():
    claimed = {id(d) for claim in PROOF.claims for d in claim.derivations}
    lost = [
        name
        for name, value in vars(shift_bound).items()
        if isinstance(value, Derivation)
        and id(value) not in claimed
        and name
        not in {
            "REAL_PART",
            "TRIANGLE_3",
            "LEAST_ENERGY",
            "BETTER_DRIFT",
            "FIRST_OF_TWO",
            "FIRST_OF_THREE",
        }  # used as lemmas
    ]
    assert not lost
    assert lam.is_positive
