"""Both sides of the proposition, what is refuted of its readings, and planted errors."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.engine.derivation import Derivation
from proofs.engine.witness import Chosen
from proofs.proposition_4_1 import before_rope as proposition_4_1_before_rope
from proofs.proposition_4_1 import cosine as proposition_4_1_cosine
from proofs.proposition_4_1 import counterexamples as proposition_4_1_counterexamples
from proofs.proposition_4_1 import softmax as proposition_4_1_softmax
from proofs.proposition_4_1 import two_sided as proposition_4_1_two_sided
from proofs.proposition_4_1.attacks import (
    after_rope,
    before_attack,
    cosine_attack,
    oscillation_attack,
    two_sided_attack,
)
from proofs.proposition_4_1.before_rope import (
    BEFORE_LOWER,
    BEFORE_LOWER_ATTAINED,
    BEFORE_LOWER_SHARP,
    BEFORE_UPPER,
    BEFORE_UPPER_ATTAINED,
    BEFORE_UPPER_SHARP,
    ONE_STEP,
    POSITIVE,
    WITHOUT_TURN,
)
from proofs.proposition_4_1.cosine import (
    SIMILAR_IS_ENOUGH,
    SIMILAR_IS_ENOUGH_ATTAINED,
    SIMILAR_IS_NEEDED,
    SIMILAR_IS_NEEDED_ATTAINED,
)
from proofs.proposition_4_1.proof import PROOF
from proofs.proposition_4_1.softmax import OPPOSITE_KEYS, OSCILLATION_ABOVE, OSCILLATION_BELOW
from proofs.proposition_4_1.two_sided import (
    CHANNEL_CHANGE,
    EQUAL_KEYS,
    HOUSEHOLDER,
    LONGEST_ALONG_STEP,
    ORTHOGONAL_KEYS,
    TWO_SIDED_LOWER,
    TWO_SIDED_UPPER,
)
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import theta
from tappa_theory.theorems.proposition_4_1 import (
    KEYS,
    LOWER,
    LOWER_BEFORE,
    NECESSARY,
    OSCILLATION_LOWER,
    OSCILLATION_UPPER,
    SIGMA,
    SIMILARITY,
    STEP,
    SUFFICIENT,
    THEOREM,
    UPPER,
    UPPER_BEFORE,
)

BOUNDS = {
    "two_sided_lower": TWO_SIDED_LOWER,
    "two_sided_upper": TWO_SIDED_UPPER,
    "before_lower": BEFORE_LOWER,
    "before_upper": BEFORE_UPPER,
    "oscillation_below": OSCILLATION_BELOW,
    "oscillation_above": OSCILLATION_ABOVE,
    "enough": SIMILAR_IS_ENOUGH,
    "needed": SIMILAR_IS_NEEDED,
}
SHARP = (
    EQUAL_KEYS,
    LONGEST_ALONG_STEP,
    ORTHOGONAL_KEYS,
    BEFORE_LOWER_ATTAINED,
    BEFORE_UPPER_ATTAINED,
    *BEFORE_LOWER_SHARP,
    BEFORE_UPPER_SHARP,
    OPPOSITE_KEYS,
    SIMILAR_IS_ENOUGH_ATTAINED,
    SIMILAR_IS_NEEDED_ATTAINED,
)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    parts = THEOREM.auxiliary
    assert PROOF.theorem is THEOREM
    assert THEOREM.bound == UPPER == TWO_SIDED_UPPER.end
    assert parts["lower"] == LOWER == TWO_SIDED_LOWER.start
    assert parts["lower_before"] == LOWER_BEFORE == BEFORE_LOWER.start
    assert parts["upper_before"] == UPPER_BEFORE == BEFORE_UPPER.end
    assert parts["oscillation_lower"] == OSCILLATION_LOWER == OSCILLATION_BELOW.start
    assert parts["oscillation_upper"] == OSCILLATION_UPPER == OSCILLATION_ABOVE.end
    assert parts["sufficient"] == SUFFICIENT == SIMILAR_IS_ENOUGH.end
    assert parts["necessary"] == NECESSARY == SIMILAR_IS_NEEDED.end
    assert SIMILAR_IS_NEEDED.start == 1 - SIMILARITY
    assert PROOF.verdict == "repaired"


@pytest.mark.parametrize("name", BOUNDS)
def test_no_bound_survives_one_percent(name):
    derivation = BOUNDS[name]
    assert derivation.ok
    links = (
        *derivation.links[:-1],
        replace(derivation.links[-1], right=derivation.end * sp.Rational(99, 100)),
    )
    assert not replace(derivation, links=links).ok


@pytest.mark.parametrize("name", BOUNDS)
def test_every_hypothesis_is_needed(name):
    derivation = BOUNDS[name]
    for dropped in derivation.hypotheses:
        kept = tuple(h for h in derivation.hypotheses if h != dropped)
        assert not replace(derivation, hypotheses=kept).ok, dropped
    for dropped in derivation.facts:
        kept = tuple(fact for fact in derivation.facts if fact is not dropped)
        assert not replace(derivation, facts=kept).ok, dropped.claim


@pytest.mark.parametrize("derivation", SHARP, ids=lambda derivation: derivation.title)
def test_no_witness_attains_another_value(derivation):
    assert derivation.ok
    for number, link in enumerate(derivation.links):
        wrong = list(derivation.links)
        wrong[number] = replace(link, right=link.right * sp.Rational(101, 100))
        assert not replace(derivation, links=tuple(wrong)).ok
    for number, choice in enumerate(derivation.hypotheses):
        if not isinstance(choice, Chosen):
            kept = tuple(h for h in derivation.hypotheses if h is not choice)
            # that kappa is not 0 is not missed: it cancels before anything divides by it
            assert not isinstance(choice, sp.Eq) or not replace(derivation, hypotheses=kept).ok
            continue
        symbol, value = choice.args
        changed = list(derivation.hypotheses)
        changed[number] = Chosen(symbol, 2 * value)
        if symbol != STEP:  # a longer step is as good a witness of both ends
            assert not replace(derivation, hypotheses=tuple(changed)).ok, symbol


def test_the_equal_keys_attain_both_sides():
    assert EQUAL_KEYS.proves(LOWER, "=", UPPER)
    assert OPPOSITE_KEYS.proves(OSCILLATION_LOWER, "=", OSCILLATION_UPPER)
    keys, step = np.full((7, 1), 3.0) @ np.array([[0.6, 0.8, 0.0]]), np.array([0.6, 0.8, 0.0])
    sigma = np.linalg.svd(keys, compute_uv=False)[0]
    assert sigma / np.sqrt(7) == pytest.approx(3.0)
    assert np.max(np.abs(keys @ step)) == pytest.approx(3.0)


def test_the_witnesses_before_rope_attain_the_registry():
    for derivation in BEFORE_LOWER_SHARP:
        assert derivation.proves(ONE_STEP, "=", LOWER_BEFORE)
    assert BEFORE_UPPER_SHARP.proves(ONE_STEP, "=", UPPER_BEFORE)


def householder(step):
    """Orthogonal rows, all with the same product with the step."""
    goal = np.full(len(step), np.linalg.norm(step) / np.sqrt(len(step)))
    normal = step - goal
    return np.eye(len(step)) - 2 * np.outer(normal, normal) / (normal @ normal)


@pytest.mark.parametrize("channels", [1, 2, 5, 32])
def test_the_lower_side_before_rope_is_attained_in_every_dimension(channels):
    random = np.random.default_rng(channels)
    theta = random.uniform(0, np.pi, channels)
    old = random.standard_normal(channels) + 1j * random.standard_normal(channels)
    gamma, kappa = 0.7, 1.3
    new = old - (1 + gamma) * (1 - np.exp(-1j * theta)) * old
    step = after_rope(new, 6, theta) - after_rope(old, 5, theta)
    keys = kappa * householder(step)
    turned = np.sqrt(np.sum(4 * np.sin(theta / 2) ** 2 * np.abs(old) ** 2))
    values = {"lambda": 1.0, "sigma": np.linalg.svd(keys, compute_uv=False)[-1]}
    values |= {"n": 2 * channels, "step_before": np.linalg.norm(new - old), "turned": turned}
    allowed = evaluate(LOWER_BEFORE, {name: np.asarray(v) for name, v in values.items()})
    assert np.max(np.abs(keys @ step)) == pytest.approx(float(allowed), rel=1e-12)
    assert float(allowed) > 0.01


def test_what_joins_the_sides_to_the_logits_and_what_the_witnesses_need():
    assert CHANNEL_CHANGE.ok
    assert CHANNEL_CHANGE.start.subs(theta, 0) != CHANNEL_CHANGE.start
    right = CHANNEL_CHANGE.links[-1]
    wrong = (CHANNEL_CHANGE.links[0], replace(right, right=right.right.subs(theta, -theta)))
    assert not replace(CHANNEL_CHANGE, links=wrong).ok
    for derivation in (HOUSEHOLDER, POSITIVE, WITHOUT_TURN):
        assert derivation.ok
        for dropped in derivation.hypotheses:
            kept = tuple(h for h in derivation.hypotheses if h is not dropped)
            assert not replace(derivation, hypotheses=kept).ok, dropped


def test_every_derivation_of_a_module_is_part_of_a_claim():
    claimed = {id(d) for claim in PROOF.claims for d in claim.derivations}
    modules = (
        proposition_4_1_two_sided,
        proposition_4_1_before_rope,
        proposition_4_1_softmax,
        proposition_4_1_cosine,
        proposition_4_1_counterexamples,
    )
    named = [(name, v) for module in modules for name, v in vars(module).items()]
    lost = {name for name, v in named if isinstance(v, Derivation) and id(v) not in claimed}
    assert len(claimed) > 25
    assert lost <= {"LOW_BELOW_TOP"}


@pytest.mark.parametrize(
    ("attack", "weaker"),
    [
        (lambda bound=None: two_sided_attack(True, 3, 2, 1, bound), LOWER),
        (lambda bound=None: two_sided_attack(False, 2, 2, 2, bound), 1 / UPPER),
        (lambda bound=None: before_attack(False, bound), 1 / UPPER_BEFORE),
        (lambda bound=None: oscillation_attack(False, 3, 2, bound), 1 / OSCILLATION_UPPER),
        (lambda bound=None: cosine_attack(False, bound), 1 / SUFFICIENT),
    ],
    ids=["lower", "upper", "before", "oscillation", "cosine"],
)
def test_an_attack_breaks_a_bound_off_by_two_percent(attack, weaker):
    assert run_attack(attack(), starts=3).ok
    wrong = weaker * sp.Rational(102, 100)
    wrong = wrong if weaker is LOWER else 1 / wrong
    attacked = run_attack(attack(wrong), starts=3)
    assert attacked.best > 1.01
    assert not attacked.ok


def test_the_smallest_singular_value_alone_fails_with_few_keys():
    # sigma of two keys in four dimensions, and the whole step instead of its projection
    def ratio(x):
        keys, step = x[:8].reshape(2, 4), x[8:]
        sigma = np.linalg.svd(keys, compute_uv=False)[-1]
        allowed = sigma / np.sqrt(2) * np.linalg.norm(step)
        observed = np.max(np.abs(keys @ step))
        return allowed / observed if observed > 0 else 0.0

    attack = two_sided_attack(True, 2, 4, 2)
    assert run_attack(replace(attack, ratio=ratio, size=12, corners=()), starts=2).best > 1.5


def test_attacks_take_zero_vectors_and_repeated_keys():
    for attack in PROOF.attacks:
        ratios = [attack.ratio(corner) for corner in attack.corners]
        assert all(0 <= ratio <= 1 + attack.rounding for ratio in ratios)
    assert PROOF.attacks[0].ratio(np.zeros(PROOF.attacks[0].size)) == 0
    assert SIGMA.is_nonnegative
    assert KEYS.is_positive
