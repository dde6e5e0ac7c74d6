"""The lifetime's derivations, and that none of them certifies a smaller bound."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.engine.derivation import Derivation
from proofs.engine.witness import chosen
from proofs.lifetime import angle as lifetime_angle
from proofs.lifetime import bounds as lifetime_bounds
from proofs.lifetime import proof as lifetime
from proofs.lifetime import sharpness as lifetime_sharpness
from proofs.lifetime.angle import (
    ACROSS_CAUCHY,
    ACROSS_D,
    ACROSS_P,
    ACROSS_PRODUCT,
    LARGEST_TURN,
    LATER_LEAD,
    LONGER_QUERY,
    NORMS_IMPLY,
    SHARP_LEAD,
    SHARP_TURN,
    STAYS_AHEAD,
    psi,
)
from proofs.lifetime.attacks import (
    ATTACKS,
    angle_attack,
    gap_attack,
    margin_attack,
    new_key_attack,
    norms_attack,
    steps_attack,
)
from proofs.lifetime.bounds import (
    CHANGE,
    MARGIN_LATER,
    NORMS,
    NORMS_WEAKER,
    NOT_OVERTAKEN,
    ONE_STEP,
    OVERTAKING,
    STAYS,
    STEPS,
    TOP_K,
    TWICE_THE_BOUND,
)
from proofs.lifetime.proof import PROOF
from proofs.lifetime.sharpness import (
    ACROSS,
    SHARP_GAP,
    SHARP_LEFT,
    SHARP_MARGIN,
    SHARP_NEW_KEY,
    SHARP_STEPS,
)
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import z_s
from tappa_theory.theorems.attention_distance import OSCILLATION
from tappa_theory.theorems.lifetime import (
    BY_ANGLE,
    BY_NORMS,
    BY_STEPS,
    MARGIN,
    MARGIN_CHANGE,
    NEW_KEY,
    STEP_OF,
    THEOREM,
)

EXACT = [sp.Rational(99, 100), sp.Rational(101, 100)]


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    assert THEOREM.bound == MARGIN_CHANGE
    assert CHANGE.proves(sp.Abs(MARGIN_LATER - MARGIN), "<=", THEOREM.bound)
    assert not CHANGE.hypotheses
    ends = {
        "by_norms": NORMS,
        "by_angle": LARGEST_TURN,
        "by_steps": STEPS,
        "step": ONE_STEP,
        "new_key": OVERTAKING,
        "oscillation": TWICE_THE_BOUND,
    }
    for name, derivation in ends.items():
        assert derivation.ok
        assert derivation.end == THEOREM.auxiliary[name]
    assert set(ends) | {"margin"} == set(THEOREM.auxiliary)
    assert SHARP_MARGIN.proves(MARGIN - MARGIN_LATER, "=", MARGIN_CHANGE)
    assert PROOF.proving_the_bound() == ("margin", "top_k")
    assert PROOF.verdict == "holds"


@pytest.mark.parametrize("factor", EXACT)
def test_no_other_constant_is_certified(factor):
    turns = (LARGEST_TURN, SHARP_TURN, SHARP_LEAD, ACROSS_PRODUCT, ACROSS_P, ACROSS_D)
    for sharp in (SHARP_MARGIN, SHARP_NEW_KEY, SHARP_STEPS, SHARP_GAP, *turns):
        assert not with_end(sharp, factor * sharp.end).ok


def test_a_smaller_constant_is_not_proved():
    weaker = (NORMS_WEAKER, ACROSS_CAUCHY, NORMS_IMPLY, LONGER_QUERY)
    for bound in (CHANGE, NORMS, *weaker, OVERTAKING, TWICE_THE_BOUND, ONE_STEP):
        assert not with_end(bound, EXACT[0] * bound.end).ok
    first, *others = LATER_LEAD.links
    more = replace(first, right=EXACT[1] * first.right)
    start = EXACT[1] * LATER_LEAD.start
    assert not replace(LATER_LEAD, start=start, links=(more, *others)).ok


NEEDED = [STAYS, NOT_OVERTAKEN, TOP_K, TWICE_THE_BOUND, STEPS]
NEEDED += [LATER_LEAD, STAYS_AHEAD, LARGEST_TURN, NORMS_IMPLY, LONGER_QUERY]


@pytest.mark.parametrize("derivation", NEEDED)
def test_every_hypothesis_is_needed(derivation):
    for dropped in derivation.hypotheses:
        kept = tuple(known for known in derivation.hypotheses if known != dropped)
        assert not replace(derivation, hypotheses=kept, example={}).ok


def test_a_turn_as_large_as_the_bound_proves_nothing():
    loose = [
        sp.Le(*h.args, evaluate=False) if isinstance(h, sp.Lt) and psi in h.args else h
        for h in STAYS_AHEAD.hypotheses
    ]
    assert tuple(loose) != STAYS_AHEAD.hypotheses
    assert not replace(STAYS_AHEAD, hypotheses=tuple(loose)).ok


def turns(keys, query, later):
    """(top key, angle of the query, by_angle of every rival, change by norms, margins)."""
    logits = keys @ query
    top = int(np.argmax(logits))
    rivals = np.delete(np.arange(len(keys)), top)
    margins = logits[top] - logits[rivals]
    distance = np.linalg.norm(keys[top] - keys[rivals], axis=1)
    norms = np.linalg.norm(query), np.linalg.norm(later)
    angle = np.arccos(np.clip(query @ later / np.prod(norms), -1, 1))
    values = {"lead": margins, "query_norm": norms[0], "key_distance": distance, "lambda": 1.0}
    allowed = evaluate(BY_ANGLE, {name: np.asarray(value) for name, value in values.items()})
    move = np.asarray(np.linalg.norm(later - query))
    changes = evaluate(
        BY_NORMS, {"query_move": move, "key_distance": distance, "lambda": np.asarray(1.0)}
    )
    return top, angle, allowed, changes, margins


def test_a_query_that_turns_by_less_than_the_angle_keeps_its_top_key():
    random = np.random.default_rng(3)
    by_norms, by_angle, lost = 0, 0, 0
    for _ in range(500):
        keys, query = random.standard_normal((6, 5)), random.standard_normal(5)
        size = random.uniform(0.3, 3)
        later = size * (query + random.uniform(0, 0.5) * random.standard_normal(5))
        top, angle, allowed, changes, margins = turns(keys, query, later)
        certified = angle < allowed.min()
        by_norms += bool(np.all(changes < margins))
        by_angle += certified
        assert certified or not np.all(changes < margins)
        lost += certified and int(np.argmax(keys @ later)) != top
    assert lost == 0
    assert by_angle > by_norms + 50
    assert by_norms > 3


def test_the_angle_is_the_largest():
    """The plane of the witness: just below the angle the key is ahead, just above behind."""
    keys = np.array([[np.sin(0.7), np.cos(0.7)], [0.0, 0.0]])
    query = np.array([2.0, 0.0])
    for share, top in ((0.999, 0), (1.001, 1)):
        turn = share * 0.7
        later = 5 * np.array([np.cos(turn), -np.sin(turn)])
        before, angle, allowed, _, _ = turns(keys, query, later)
        assert before == 0
        assert allowed == pytest.approx(0.7)
        assert (angle < allowed.min()) == (top == 0)
        assert np.argmax(keys @ later) == top


def test_torch_computes_the_same_angle():
    torch = pytest.importorskip("torch")
    values = {"lead": [0.1, 1.0, 3.0], "query_norm": [1.0, 2.0, 1.0]}
    values |= {"key_distance": [1.0, 4.0, 3.0], "lambda": [0.5, 1.0, 1.0]}
    tensors = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}
    arrays = {name: np.array(v) for name, v in values.items()}
    assert np.allclose(evaluate(BY_ANGLE, tensors).numpy(), evaluate(BY_ANGLE, arrays))


def test_an_oscillation_that_may_equal_the_gap_proves_nothing():
    *others, strict = TOP_K.hypotheses
    loose = sp.Le(strict.lhs, strict.rhs, evaluate=False)
    assert not replace(TOP_K, hypotheses=(*others, loose)).ok


def test_a_turned_witness_attains_nothing():
    aside = {**ACROSS, z_s: sp.I * ACROSS[z_s]}
    assert not replace(SHARP_MARGIN, hypotheses=chosen(aside)).ok
    assert not with_end(SHARP_LEFT, -SHARP_LEFT.end).ok


def test_the_runner_up_is_not_the_only_rival():
    """The counterexample's numbers, through plain softmax order."""
    query, later = np.array([1.0, 0.0]), np.array([1.0, 0.5])
    keys = np.array([[1.0, 0.0], [0.9, 0.0], [0.0, 4.0]])
    before, after = keys @ query, keys @ later
    assert list(np.argsort(-before)) == [0, 1, 2]
    assert np.argmax(after) == 2
    changes = np.linalg.norm(later - query) * np.linalg.norm(keys - keys[0], axis=1)
    margins = before[0] - before
    assert changes[1] < margins[1]
    assert changes[2] > margins[2]


def test_a_certified_key_stays_on_top_of_random_rows():
    random = np.random.default_rng(7)
    certified, lost = 0, 0
    for _ in range(300):
        angle = random.uniform(0, 1, 4)
        query, drift = (random.standard_normal(8).view(complex) for _ in range(2))
        keys = random.standard_normal((12, 8)).view(complex)
        later, t, s = query + 0.02 * drift, 20, 1
        places = np.arange(12)

        def row(q, at, keys=keys, places=places, angle=angle):
            turns = np.exp(1j * (at - places)[:, None] * angle)
            return (q * np.conj(keys) * turns).real.sum(axis=1)

        before, after = row(query, t), row(later, t + s)
        top = int(np.argmax(before))
        values = {"z": query, "z_s": later, "w": keys[top], "w_u": keys, "theta": angle}
        values |= {"s": np.asarray(s), "lambda": np.asarray(1.0)}
        values |= {"u": (places - top)[:, None]}
        bounds = evaluate(THEOREM.bound, values).sum(axis=1)
        margins = before[top] - before
        assert np.all(np.abs(after[top] - after - margins) <= bounds + 1e-12)
        rivals = places != top
        if np.all(bounds[rivals] < margins[rivals]):
            certified += 1
            lost += int(np.argmax(after)) != top
    assert certified > 3
    assert lost == 0


WEAKER = [
    (margin_attack, MARGIN_CHANGE),
    (norms_attack, BY_NORMS),
    (steps_attack, BY_STEPS),
    # of an angle, what is too large is wrong
    (angle_attack, BY_ANGLE / sp.Rational(98, 100) ** 2),
    (new_key_attack, NEW_KEY),
    (gap_attack, OSCILLATION),
]


@pytest.mark.parametrize(("attack", "bound"), WEAKER, ids=lambda each: str(each)[:12])
def test_an_attack_breaks_a_bound_that_is_too_small(attack, bound):
    attacked = run_attack(attack(sp.Rational(98, 100) * bound, "weakened"), starts=1)
    assert attacked.best > 1.005
    assert not attacked.ok


def test_an_attack_notices_a_bound_that_is_too_large():
    for attack in (
        margin_attack(sp.Rational(101, 100) * MARGIN_CHANGE, "loose"),
        angle_attack(sp.Rational(98, 100) * BY_ANGLE, "loose"),
    ):
        attacked = run_attack(attack, starts=1)
        assert attacked.best < 0.995
        assert not attacked.ok


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_attacks_take_the_degenerate_corners(attack):
    assert all(attack.ratio(corner) <= 1 + attack.rounding for corner in attack.corners)
    assert attack.ratio(np.zeros(attack.size)) == 0


def test_every_derivation_is_part_of_a_claim():
    claimed = {id(d) for claim in PROOF.claims for d in claim.derivations}
    lost = [
        name
        for module in (lifetime, lifetime_angle, lifetime_bounds, lifetime_sharpness)
        for name, value in vars(module).items()
        if isinstance(value, Derivation)
        and id(value) not in claimed
        and name not in {"REAL_PART", "TRIANGLE", "BELOW_MODULUS"}  # used as lemmas
        and name not in {"SINE_NONNEGATIVE", "COSINE_NONNEGATIVE"}
    ]
    assert not lost


def test_a_step_is_its_drift_and_its_turn():
    values = {"step_before": np.asarray(0.5), "theta": np.array([np.pi]), "z": np.array([2.0 + 0j])}
    assert evaluate(STEP_OF, values) == pytest.approx(4.5)
