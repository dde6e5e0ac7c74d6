"""One head, measured: every number against its definition, and null where there is none."""

import json
import math
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from gpu_check.heads import (
    LISTED,
    SMALL_DRIFT,
    SMALL_ROTATION,
    Measured,
    Subject,
    finish,
    measure,
    prepare,
)
from gpu_check.pairs import Head
from gpu_check.vectors import vectors
from gpu_check.visibility import Visibility
from tappa_theory import patterns
from tappa_theory.rope import Rope, rotate, to_vectors
from tappa_theory.theorems import SHIFT_THEOREMS

ROPE = Rope(np.array([0.6, 0.1, 0.0]), "half", 4, attention_scaling=1.2, type="yarn")
SCALE = 0.4
LENGTH = 140


def wander(length: int, seed: int, step: float = 0.3) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = random.standard_normal((2, length, 3))
    values = 1.5 + step * noise
    return values[0] + 1j * values[1]


def measured(
    z: np.ndarray,
    w: np.ndarray,
    rope: Rope = ROPE,
    window: int | None = None,
    valid: torch.Tensor | None = None,
    lag: int | None = None,
) -> Measured:
    return measure(subject(z, w, Visibility(len(z), window, valid), rope), lag)


def subject(
    z: np.ndarray,
    w: np.ndarray,
    visibility: Visibility,
    rope: Rope = ROPE,
    softcap: float | None = None,
) -> Subject:
    positions = torch.arange(len(z))
    z_, w_ = torch.tensor(z), torch.tensor(w)
    query, key = (to_vectors(rotate(x, rope, positions), rope) for x in (z_, w_))
    head = Head(z_, w_, rope, SCALE, visibility)
    return Subject(3, 7, 2, query, key, head, softcap, angle_deviation=1e-6)


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.vdot(x, y).real / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.fixture(scope="module")
def wandering() -> dict[str, Any]:
    z, w = wander(LENGTH, 0), wander(LENGTH, 1)
    return {"z": z, "w": w, "all": measured(z, w, lag=9)}


def test_similarities_and_drifts_are_means_over_steps(wandering):
    z, w, result = wandering["z"], wandering["w"], wandering["all"].result
    steps = range(LENGTH - 1)
    positions = np.arange(LENGTH)
    q = to_vectors(rotate(z, ROPE, positions), ROPE)
    k = to_vectors(rotate(w, ROPE, positions), ROPE)
    assert (result.layer, result.head, result.kv_head) == (3, 7, 2)
    assert result.angle_deviation == 1e-6

    def adjacent(x):
        return np.mean([cosine(x[t], x[t + 1]) for t in steps])

    def pairs(x):
        both = [cosine(x[s], x[t]) for s in range(len(x)) for t in range(s)]
        return np.mean(both)

    assert result.q_similarity == pytest.approx(
        {
            "adjacent_pre": adjacent(z),
            "adjacent_post": adjacent(q),
            "all_pairs_pre": pairs(z),
            "window_post": pairs(q[-32:]),
        }
    )
    assert result.k_similarity == pytest.approx(
        {"adjacent_pre": adjacent(w), "all_pairs_post": pairs(k)}
    )

    def drift(x, step=1):
        return np.mean(
            [
                np.linalg.norm(x[t + step] - x[t]) / np.linalg.norm(x[t])
                for t in range(LENGTH - step)
            ]
        )

    assert result.drift["query_pre"] == pytest.approx(drift(z))
    assert result.drift["query_post"] == pytest.approx(drift(q))
    assert result.drift["key_pre"] == pytest.approx(drift(w))
    hypotheses = {name: result.theorems[name].hypotheses for name in SHIFT_THEOREMS}
    assert hypotheses["re_access"]["query_drift"] == pytest.approx(drift(z))
    assert hypotheses["sequential"]["key_drift"] == pytest.approx(drift(w))
    assert hypotheses["seasonal"]["query_drift"] == pytest.approx(drift(z, 9))
    spacing = result.theorems["periodic_sequential"].shift[1]
    assert spacing == 10  # 2 pi / 0.6
    assert hypotheses["periodic_sequential"]["key_drift"] == pytest.approx(drift(w, spacing))


def test_energies_rotation_and_dominance(wandering):
    z, w, result = wandering["z"], wandering["w"], wandering["all"].result
    energy = abs(z).mean(axis=0) * abs(w).mean(axis=0) * np.array([1.44, 1.44, 1.0])
    assert result.channel_energy == pytest.approx(energy)
    assert result.dominant_channel == energy.argmax()
    assert result.dominant_share == pytest.approx(energy.max() / energy.sum())
    assert result.frequency_dominant_channel == 0
    kappa = energy[1] * 0.1 / (energy[0] * 0.6)
    assert result.kappa == pytest.approx(kappa)
    assert result.curvature == pytest.approx(kappa / 6)
    residual = (energy * 2 * abs(np.sin(ROPE.frequencies / 2))).sum() / energy.sum()
    found = result.theorems["re_access"].hypotheses
    assert found["rotation"] == pytest.approx(residual)
    assert found["met"] == (residual <= SMALL_ROTATION and found["query_drift"] <= SMALL_DRIFT)
    seasonal = result.theorems["seasonal"].hypotheses
    angle = 9 * ROPE.frequencies[energy.argmax()] / 2
    assert seasonal["dominant_resonance_error"] == pytest.approx(2 * abs(math.sin(angle)))
    assert "rotation" not in result.theorems["sequential"].hypotheses


@pytest.mark.parametrize(
    ("step", "frequency", "name", "met"),
    [
        (0.02, 0.01, "re_access", True),
        (2.00, 0.01, "re_access", False),  # the queries jump
        (0.02, 2.50, "re_access", False),  # the channels turn
        (0.02, 2.50, "sequential", True),  # which does not matter to the diagonal
        (2.00, 0.01, "sequential", False),
        (0.02, 0.60, "periodic_sequential", True),
        (2.00, 0.60, "periodic_sequential", False),
    ],
)
def test_hypotheses_are_met_only_where_the_theorem_needs_it(step, frequency, name, met):
    rope = Rope(np.array([frequency, 0.0, 0.0]), "half", 6)
    z, w = wander(LENGTH, 0, step), wander(LENGTH, 1, step)
    assert measured(z, w, rope).result.theorems[name].hypotheses["met"] is met


def test_competing_channels_break_the_periodic_hypothesis():
    rope = Rope(np.array([0.6, 0.5, 0.0]), "half", 6)
    found = measured(wander(LENGTH, 0, 0.02), wander(LENGTH, 1, 0.02), rope).result
    hypotheses = found.theorems["periodic_sequential"].hypotheses
    assert hypotheses["kappa"] < 1
    assert hypotheses["kappa"] ** 2 + hypotheses["curvature"] ** 2 > 1
    assert hypotheses["met"] is False


def test_drift_in_attention_is_taken_over_the_observed_rows(wandering):
    attention, result = wandering["all"].attention, wandering["all"].result
    first = patterns.observed_rows(LENGTH)
    q = to_vectors(rotate(wandering["z"], ROPE, np.arange(LENGTH)), ROPE)
    distance = [1 - cosine(q[t], q[t + 1]) for t in range(first, LENGTH - 1)]
    kl, metric = attention.divergence[first:], attention.key_metric[first:]
    drift = result.drift
    assert drift["kl"] == pytest.approx(kl.mean())
    assert drift["key_metric"] == pytest.approx(metric.mean())
    assert drift["kl_bound"] == pytest.approx((attention.oscillation[first:] ** 2 / 8).mean())
    assert drift["spearman_cosine_kl"] == pytest.approx(spearmanr(distance, kl).statistic)
    assert drift["spearman_key_metric_kl"] == pytest.approx(spearmanr(metric, kl).statistic)
    assert 0 < drift["kl"] < drift["kl_bound"]


def test_what_is_predicted_stands_beside_what_is_observed(wandering):
    everything, result = wandering["all"], wandering["all"].result
    seen, expected = everything.attention, everything.prediction
    assert result.pattern_observed == seen.pattern
    assert result.pattern_predicted == expected.pattern
    assert result.predictability == seen.recall
    assert result.pattern_scores["observed"]["season"] == seen.season
    assert result.pattern_scores["predicted"]["column"] == expected.lines.column
    told = {name: result.theorems[name].prediction for name in SHIFT_THEOREMS}
    assert told["re_access"]["observed"] == seen.lines.column
    assert told["re_access"]["columns_predicted"] == list(expected.lines.columns[:LISTED])
    assert told["sequential"]["predicted"] == expected.lines.diagonal
    assert told["seasonal"]["observed"] == seen.season_lag
    assert told["periodic_sequential"]["predicted"] == pytest.approx(2 * math.pi / 0.6)
    dominant = ROPE.frequencies[result.dominant_channel]
    published = told["periodic_sequential"]["published"]
    assert published == (None if dominant == 0 else pytest.approx(2 * math.pi / dominant))
    assert told["periodic_sequential"]["maxima_pairs"] > 0
    assert told["periodic_sequential"]["maxima_outside"] == 0


def test_the_paper_s_rule_is_asked_as_well():
    slow = Rope(np.array([0.001, 0.0, 0.0]), "half", 6)
    assert measured(wander(LENGTH, 0), wander(LENGTH, 1), slow).result.pattern_published == (
        "re_access"
    )
    jumping = measured(wander(LENGTH, 0, 5.0), wander(LENGTH, 1), slow).result
    assert jumping.pattern_published == "unpredictable"


def nulls(result: Any) -> str:
    """The result as strict JSON: raises on NaN and infinity."""
    return json.dumps(asdict(result), allow_nan=False)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 20, 127, 128])
def test_texts_of_any_length_give_numbers_or_null(length):
    result = measured(wander(length, 0), wander(length, 1)).result
    nulls(result)
    found = result.theorems
    assert (result.pattern_observed is None) == (length < 128)
    assert (result.pattern_predicted is None) == (length < 128)
    assert (result.pattern_published is None) == (length < 128)
    assert found["re_access"].applicable == found["sequential"].applicable == (length >= 2)
    assert found["seasonal"].applicable == (length >= 8)
    assert found["periodic_sequential"].applicable == (length > 20)
    for theorem in found.values():
        assert (theorem.reason is None) == theorem.applicable
        assert (theorem.max_ratio is None) == (theorem.pairs == 0)
        assert theorem.violations == 0


@pytest.mark.parametrize(("zero_queries", "zero_keys"), [(True, False), (False, True)])
def test_zero_queries_or_keys_give_null(zero_queries, zero_keys):
    z = wander(LENGTH, 0) * (not zero_queries)
    w = wander(LENGTH, 1) * (not zero_keys)
    result = measured(z, w).result
    nulls(result)
    assert result.dominant_channel is None
    assert result.channel_energy is None
    assert result.pattern_predicted is None
    assert (result.q_similarity["adjacent_pre"] is None) == zero_queries
    assert (result.k_similarity["adjacent_pre"] is None) == zero_keys
    for theorem in result.theorems.values():
        assert not theorem.applicable
        assert theorem.reason == "every query or every key is zero"


def test_why_a_theorem_does_not_apply():
    z, w = wander(LENGTH, 0), wander(LENGTH, 1)
    still = Rope.none(6)
    assert measured(z, w, still).result.theorems["periodic_sequential"].reason == (
        "no channel of this layer turns"
    )
    window = measured(z, w, window=20).result.theorems["periodic_sequential"]
    assert window.reason == "two periods of 10 do not fit into 20 positions"
    assert measured(z, w, window=21).result.theorems["periodic_sequential"].applicable
    short = measured(wander(12, 0), wander(12, 1), lag=40).result.theorems["seasonal"]
    assert short.reason == "the lag 40 does not fit into 12 tokens"
    narrow = measured(z, w, window=5, lag=9).result.theorems["seasonal"]
    assert narrow.reason == "no pair is visible both before and after the shift"
    assert narrow.pairs == 0


def test_the_lag_is_the_one_at_which_queries_are_most_alike():
    z = wander(20, 0, 1.0)[np.arange(LENGTH) % 20] + 0.01 * wander(LENGTH, 2)
    assert measured(z, wander(LENGTH, 1)).result.theorems["seasonal"].shift == (20, 0)
    assert measured(z, wander(LENGTH, 1), lag=3).result.theorems["seasonal"].shift == (3, 0)


@pytest.mark.parametrize("tail", [20, 60])
def test_a_padded_text_is_measured_like_the_text_alone(tail):
    length = 160
    z, w = wander(length + tail, 0), wander(length + tail, 1)
    z[length:], w[length:] = 100 - 30j, -80j
    valid = torch.arange(length + tail) < length
    alone = measured(z[:length], w[:length], lag=9).result
    padded = measured(z, w, valid=valid, lag=9).result
    nulls(padded)
    for name in ("q_similarity", "k_similarity", "channel_energy", "kappa"):
        assert getattr(padded, name) == pytest.approx(getattr(alone, name)), name
    for name in SHIFT_THEOREMS:
        one, other = alone.theorems[name], padded.theorems[name]
        assert (other.pairs, other.violations) == (one.pairs, 0)
        assert other.worst == pytest.approx(one.worst)
        assert other.max_ratio == pytest.approx(one.max_ratio)
        assert other.published_violations == one.published_violations
        assert other.published_checked == one.published_checked
        assert other.hypotheses == pytest.approx(one.hypotheses)
        assert other.informative == one.informative
    assert padded.drift["query_pre"] == pytest.approx(alone.drift["query_pre"])
    assert padded.drift["kl"] < padded.drift["kl_bound"]
    # The warm-up is a share of the whole length, so means over the observed rows differ a little.
    assert padded.drift["kl"] == pytest.approx(alone.drift["kl"], rel=0.2)
    assert padded.drift["kl_bound"] == pytest.approx(alone.drift["kl_bound"], rel=0.2)
    assert padded.predictability == pytest.approx(alone.predictability, rel=0.05)


def test_nothing_but_padding_gives_null():
    nothing = torch.zeros(LENGTH, dtype=torch.bool)
    result = measured(wander(LENGTH, 0), wander(LENGTH, 1), valid=nothing).result
    nulls(result)
    assert result.pattern_observed is None
    assert result.drift["kl"] is None
    assert not any(theorem.applicable for theorem in result.theorems.values())


def numbers(found: Any) -> dict[str, Any]:
    """By place: every leaf of dataclasses, dicts, lists and arrays."""
    if isinstance(found, torch.Tensor | np.ndarray):
        return {"": np.asarray(found)}
    if is_dataclass(found) and not isinstance(found, type):
        found = {each.name: getattr(found, each.name) for each in fields(found)}
    if isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        return {"": found}
    return {
        f"{name}/{place}": leaf
        for name, value in found.items()
        for place, leaf in numbers(value).items()
    }


ORDER = 8 * LENGTH**2 * 2.0**-53
"""Sums of up to all pairs may be taken in another order: a unit in the last place a term, and some
more for what is made of several such sums."""
HIDDEN = {
    "plain": (LENGTH, None, None, None),
    "soft-cap": (LENGTH, None, None, 1.5),
    "window": (LENGTH, 33, None, None),
    "padding": (LENGTH, None, range(11), None),
    "hole": (LENGTH, 60, range(70, 75), 2.0),
    "as many tokens as heads": (4, None, None, None),
    "one token": (1, None, None, None),
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("at_once", [2, 99])
def test_heads_of_a_layer_are_measured_together_as_each_alone(name, at_once, monkeypatch):
    from gpu_check import heads

    length, window, padding, softcap = HIDDEN[name]
    valid = torch.ones(length, dtype=torch.bool)
    valid[list(padding or ())] = False
    visibility = Visibility(length, window, valid if padding else None)
    queries = [wander(length, seed, step) for seed, step in enumerate((0.3, 0.01, 2.0))]
    queries.append(0 * queries[0])
    keys = [wander(length, 9)] * 2 + [wander(length, 8, 1.0)] * 2
    subjects = [
        subject(z, w, visibility, softcap=softcap) for z, w in zip(queries, keys, strict=True)
    ]
    monkeypatch.setattr(heads, "heads_together", lambda length, device: at_once)
    for one, alone in zip(prepare(subjects, vectors(subjects)), subjects, strict=True):
        row_std = one.measured.attention.row_std
        found = finish(one, one.measured.check.run(one.claims, row_std))
        expected = measure(alone)
        for part in ("result", "attention", "prediction", "moments"):
            own, other = (numbers(getattr(each, part)) for each in (found, expected))
            assert own.keys() == other.keys()
            for place, value in own.items():
                if isinstance(value, float | np.ndarray):
                    near = pytest.approx(other[place], rel=ORDER, abs=ORDER, nan_ok=True)
                    assert value == near, (part, place)
                elif place != "rope/":
                    assert value == other[place], (part, place)
