"""Distance of two rows: certified, attained, and no smaller bound is certified or survives."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.attention_distance.attacks import (
    allowed,
    head_attack,
    head_rows,
    masses,
    row_distance,
    rows_attack,
    set_attack,
)
from proofs.attention_distance.attained import ATTAINED, MASS_ATTAINED, ON_HEAD, TURNING, TWO_KEYS
from proofs.attention_distance.proof import PROOF
from proofs.attention_distance.rows import (
    CASES,
    CLOSE,
    FARTHEST,
    GAIN,
    GROWTH,
    MASS_GROWS,
    ONLY_APPENDED,
    SAME,
    SET_GAINS,
)
from proofs.attention_distance.shifts import (
    BOTH_CHANGES,
    COLUMN,
    FROM_BOUND,
    KEPT,
    KEYS_APART,
    NEVER_WIDER,
    ONLY_GAINING,
    SAME_KEYS_FROM_BOUND,
)
from proofs.engine.attack import run_attack
from proofs.engine.derivation import Derivation
from tappa_theory.separable import evaluate
from tappa_theory.theorems.attention_distance import (
    APPENDED,
    DISTANCE,
    EXCESS,
    GAINED,
    KEY_DISTANCE,
    MASS_LATER,
    OMEGA,
    OSCILLATION,
    SAME_KEYS,
    THEOREM,
)

OFF = [sp.Rational(99, 100), sp.Rational(101, 100)]
FROM_THE_BOUND = {OMEGA: OSCILLATION}


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    assert PROOF.verdict == "holds"
    assert PROOF.proving_the_bound() == ("distance",)
    assert FARTHEST.end == THEOREM.bound == DISTANCE
    held = THEOREM.auxiliary
    assert SET_GAINS.end == held["excess"]
    assert MASS_GROWS.end == held["mass_later"]
    assert SAME.end == held["same_keys"]
    assert ONLY_APPENDED.end == held["appended"]
    assert BOTH_CHANGES.end == held["oscillation"]
    assert FROM_BOUND.end == held["gaining_and_losing"]
    assert ONLY_GAINING.end == held["only_gaining"]
    assert SAME_KEYS_FROM_BOUND.end == held["same_keys_from_bound"]
    apart = {KEY_DISTANCE: KEYS_APART.start}
    assert COLUMN.end == NEVER_WIDER.start == held["column_oscillation"].subs(apart)


@pytest.mark.parametrize("factor", OFF, ids=str)
def test_no_other_constant_is_certified(factor):
    smaller = min(factor, 2 - factor)
    for bound in (GAIN, MASS_GROWS, BOTH_CHANGES, NEVER_WIDER, GROWTH):
        assert not with_end(bound, smaller * bound.end).ok, bound.title
    exact = (*CASES, *ATTAINED, *ON_HEAD, *TURNING, MASS_ATTAINED, TWO_KEYS, SAME, ONLY_APPENDED)
    for equal in exact:
        if equal.relation == "=" and equal.end != 0:
            assert not with_end(equal, factor * equal.end).ok, equal.title
    rate = 2 if factor > 1 else sp.Rational(1, 2)
    assert not with_end(SAME, SAME_KEYS.subs(OMEGA, rate * OMEGA)).ok
    assert not with_end(TWO_KEYS, SAME_KEYS.subs(OMEGA, rate * OSCILLATION)).ok


@pytest.mark.parametrize(
    "derivation", [GAIN, BOTH_CHANGES, GROWTH, KEPT, ONLY_APPENDED, FROM_BOUND, *CASES, *ATTAINED]
)
def test_every_hypothesis_is_needed(derivation):
    # of these the set of keys itself is not needed: only what is said of its masses
    for dropped in derivation.hypotheses:
        kept = tuple(h for h in derivation.hypotheses if h != dropped)
        assert not replace(derivation, hypotheses=kept, example={}).ok, dropped


def test_rows_need_factors_that_are_close():
    for derivation in (MASS_GROWS, SET_GAINS, FARTHEST):
        kept = tuple(h for h in derivation.hypotheses if h != CLOSE)
        assert not replace(derivation, hypotheses=kept).ok


def test_a_flipped_sign_of_the_witness_attains_nothing():
    for derivation in (*ON_HEAD, *TURNING, TWO_KEYS):
        assert not replace(derivation, start=-derivation.start - 1).ok, derivation.title
    for derivation in (*TURNING, TWO_KEYS):
        assert not replace(derivation, start=-derivation.start).ok, derivation.title


def test_the_formula_is_the_best_of_two_keys():
    random = np.random.default_rng(2)
    share = np.linspace(0, 1, 20001)
    for _ in range(40):
        gained, lost, omega = random.uniform((0, 0, 0.05), (0.95, 0.95, 6))
        ratio = np.exp(omega)
        later = share * ratio / (1 - share + share * ratio)
        best = np.max((1 - gained) * later - (1 - lost) * share)
        values = {"gained": gained, "lost": lost, "omega": omega}
        assert np.isclose(allowed(EXCESS, **values), best, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("omega", [1e-9, 1e-3, 1.0, 50.0, 800.0])
def test_the_formula_is_computed_at_every_size(omega):
    assert np.isclose(allowed(DISTANCE, omega=omega, gained=0.0, lost=0.0), np.tanh(omega / 4))
    assert np.isclose(allowed(APPENDED, omega=omega, gained=1.0), 1.0)
    either = allowed(DISTANCE, omega=omega, gained=0.3, lost=0.2)
    assert np.isclose(either, allowed(DISTANCE, omega=omega, gained=0.2, lost=0.3))
    assert 0.3 <= either * (1 + 1e-12) <= 1 + 1e-12


def test_torch_computes_the_same():
    torch = pytest.importorskip("torch")
    numbers = {"omega": [0.1, 1.0, 7.0], "gained": [0.0, 0.3, 0.9], "lost": [0.1, 0.0, 0.2]}
    for expression in (DISTANCE, APPENDED, SAME_KEYS):
        arrays = {name: np.array(value) for name, value in numbers.items()}
        tensors = {name: torch.tensor(v, dtype=torch.float64) for name, v in numbers.items()}
        assert np.allclose(evaluate(expression, tensors).numpy(), evaluate(expression, arrays))


@pytest.mark.parametrize(
    ("shift", "gained", "lost"),
    [
        ((1, 0), [2], []),
        ((2, 0), [2, 3], []),
        ((1, 1), [-1], []),
        ((2, 2), [-2, -1], []),
        ((2, 1), [-1, 2], []),
        ((0, 1), [-1], [2]),
    ],
)
def test_rows_of_a_head_gain_and_lose_these_keys(shift, gained, lost):
    """Keys of the earlier row are 0 and 1, and 2 where the key moves ahead of the query."""
    random = np.random.default_rng(4)
    size = 2 * (2 + 2 + max(shift)) + 1
    bound = DISTANCE.subs(FROM_THE_BOUND)
    seen = 0.0
    for _ in range(300):
        before, after, values = head_rows(random.uniform(-1, 1, size), shift)
        index = np.arange(len(before)) - shift[1]
        assert list(index[np.isinf(before) & np.isfinite(after)]) == gained
        assert list(index[np.isfinite(before) & np.isinf(after)]) == lost
        assert np.isclose(values["gained"], masses(after)[np.isinf(before)].sum())
        distance = row_distance(before, after)
        assert distance <= allowed(bound, **values) * (1 + 1e-9)
        if not lost:
            assert distance <= allowed(APPENDED.subs(FROM_THE_BOUND), **values) * (1 + 1e-9)
        excess = allowed(EXCESS.subs(FROM_THE_BOUND), **values)
        seen = max(seen, (distance - values["gained"]) / max(excess, 1e-3))
    assert seen > 0.2


def test_an_attack_breaks_a_bound_that_is_too_small():
    weakened = GAINED + sp.Rational(98, 100) * EXCESS
    for attack in (
        rows_attack(weakened, "weakened", True),
        rows_attack(SAME_KEYS.subs(OMEGA, sp.Rational(98, 100) * OMEGA), "weakened", False),
        head_attack((1, 0), weakened.subs(FROM_THE_BOUND).subs("lost", 0), "weakened"),
    ):
        attacked = run_attack(attack, starts=1)
        assert attacked.best > 1.005
        assert not attacked.ok


def test_an_attack_notices_a_bound_that_is_too_large():
    loose = GAINED + sp.Rational(102, 100) * EXCESS
    attacked = run_attack(rows_attack(loose, "loose", True), starts=1)
    assert attacked.best < 0.995
    assert not attacked.ok


def test_an_attack_takes_the_degenerate_corners():
    for attack in PROOF.attacks:
        assert all(attack.ratio(corner) <= 1 + 1e-9 for corner in attack.corners)
    assert run_attack(set_attack(), starts=1).ok
    assert allowed(MASS_LATER, mass=0.0, omega=3.0) == 0
    assert allowed(MASS_LATER, mass=1.0, omega=3.0) == 1


def test_every_derivation_is_part_of_a_claim():
    from proofs.attention_distance import attained as attention_distance_attained
    from proofs.attention_distance import proof as attention_distance
    from proofs.attention_distance import rows as attention_distance_rows
    from proofs.attention_distance import shifts

    claimed = {id(d) for claim in PROOF.claims for d in claim.derivations}
    modules = (attention_distance, attention_distance_attained, attention_distance_rows, shifts)
    used_as_lemmas = {"REAL_PRODUCT", "PRODUCT", "REAL_PART", "TRIANGLE"}
    lost = [
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Derivation) and id(value) not in claimed
    ]
    assert set(lost) <= used_as_lemmas
