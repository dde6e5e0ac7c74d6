"""Patterns predicted from queries, keys and channel energies alone, on heads made to show them."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tappa_theory.errors import InputError
from tappa_theory.patterns import observed_rows, season
from tappa_theory.prediction import (
    HIGH_SIMILARITY,
    ROWS,
    mean_query_map,
    predict,
    predict_published,
)
from tappa_theory.rope import Rope, rotate, to_vectors
from tappa_theory.similarity import all_lags, all_pairs

LENGTH, SCALE = 256, 0.5
SLOW = Rope(np.array([0.001, 0.0005, 0.0002, 0.0]), "half", 8)


def noise(shape: tuple[int, ...], size: float, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((2, *shape)) * size
    return values[0] + 1j * values[1]


def predicted(z: np.ndarray, w: np.ndarray, rope: Rope, scale: float = SCALE):
    keys = to_vectors(rotate(w, rope, np.arange(len(w))), rope)
    return predict(z, w, rope, scale, float(all_pairs(keys)))


def sink_head() -> tuple[np.ndarray, np.ndarray]:
    """Queries alike, one key that suits them."""
    z = np.array([3, 3, 3, 3]) + noise((LENGTH, 4), 0.3)
    w = noise((LENGTH, 4), 0.3, seed=1)
    w[0] = 2.0
    return z, w


def test_a_constant_query_and_a_sink_predict_a_column():
    found = predicted(*sink_head(), SLOW)
    assert found.pattern == "re_access"
    assert found.lines.columns == (0,)
    assert found.lines.column > 0.8


def coherent(rope: Rope, power: float | list[float], offset: int) -> tuple[np.ndarray, ...]:
    """Constant queries and keys whose channels all agree at one distance."""
    w = power * np.ones((LENGTH, len(rope.frequencies)))
    z = w * np.exp(-1j * offset * rope.frequencies)
    return z + noise(z.shape, 0.02), w + noise(w.shape, 0.02, seed=1)


@pytest.mark.parametrize("offset", [0, 1, 7])
def test_channels_that_agree_at_one_distance_predict_a_diagonal(offset):
    rope = Rope(np.array([2.9, 2.2, 1.7, 1.3, 0.9, 0.6, 0.37, 0.21]), "half", 16)
    found = predicted(*coherent(rope, 2.0, offset), rope)
    assert found.pattern == "sequential"
    assert offset in found.lines.offsets


@pytest.mark.parametrize("spacing", [10, 16, 24, 32])
def test_one_fast_channel_predicts_parallel_diagonals_one_period_apart(spacing):
    rope = Rope(np.array([2 * math.pi / spacing, 0.0001]), "half", 4)
    found = predicted(*coherent(rope, [12.0, 1.0], 0), rope)
    assert found.pattern == "periodic_sequential"
    assert found.lines.spacing == pytest.approx(spacing)
    assert found.lines.offsets[0] == 0


def test_queries_that_retrieve_predict_nothing():
    """Each query looks for some key of its own: similar to no other, and nothing to foresee."""
    w = np.exp(1j * np.random.default_rng(0).uniform(0, 6.3, (LENGTH, 4))) * 2
    targets = np.random.default_rng(1).integers(0, np.arange(LENGTH) + 1)
    turned = rotate(w[targets], SLOW, targets)
    z = 3 * rotate(turned, SLOW, -np.arange(LENGTH))
    found = predicted(z, w, SLOW)
    assert found.pattern == "unpredictable"
    assert max(found.lines.column, found.lines.diagonal, found.season) < 0.3


def test_queries_that_repeat_predict_a_season():
    period = 20
    z = noise((period, 4), 1.0)[np.arange(LENGTH) % period]
    found = predicted(z, noise((LENGTH, 4), 0.1, seed=1), SLOW)
    assert found.pattern == "seasonal"
    assert found.season_lag == period
    assert found.season > 0.8
    fast = Rope(np.array([1.0, 0.7, 0.3, 0.2]), "half", 8)  # turns that do not come round
    assert predicted(z, noise((LENGTH, 4), 0.1, seed=1), fast).pattern != "seasonal"


def test_a_season_counts_only_off_the_columns():
    z, w = sink_head()
    z = z + 0.5 * noise((20, 4), 1.0)[np.arange(LENGTH) % 20]
    found = predicted(z, w, SLOW)
    assert found.pattern == "re_access"
    assert found.season < 1.2 * found.lines.rest


def test_the_mean_query_map_is_the_attention_of_the_mean_query():
    rope = Rope(np.array([0.9, 0.2, 0.0]), "half", 4, attention_scaling=1.4, type="yarn")
    z, w = noise((150, 3), 1.0) + 1, noise((150, 3), 1.0, seed=1)
    similarity, window = 0.3, 90
    rows, attention = mean_query_map(z, w, rope, SCALE, similarity, window)
    assert rows[0] == observed_rows(150)
    assert rows[-1] == 149
    assert len(rows) == min(ROWS, 150 - observed_rows(150))
    gain = SCALE * np.array([1.96, 1.96, 1.0])
    mean, variance = z.mean(axis=0), z.var(axis=0)
    for row, found in zip(rows, attention, strict=True):
        expected = np.zeros(150)
        for i in range(max(0, row - window + 1), row + 1):
            turn = np.exp(1j * (row - i) * rope.frequencies)
            logit = (gain * mean * w[i].conj() * turn).real.sum()
            spread = (gain**2 * variance * abs(w[i]) ** 2).sum() / 2
            expected[i] = np.exp(logit + (1 - similarity) * spread / 2)
        assert found == pytest.approx(expected / expected.sum(), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("similarity", [1.0, 1.7])
def test_keys_all_alike_add_no_spread(similarity):
    z, w = noise((150, 4), 2.0), noise((150, 4), 1.0, seed=1)
    still = np.broadcast_to(z.mean(axis=0), z.shape).copy()
    _, found = mean_query_map(z, w, SLOW, SCALE, similarity)
    _, expected = mean_query_map(still, w, SLOW, SCALE, 0.0)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("make", [sink_head, lambda: coherent(SLOW, 1.0, 3)])
def test_torch_predicts_what_numpy_predicts(make):
    z, w = make()
    one = predict(z, w, SLOW, SCALE, 0.2)
    other = predict(torch.tensor(z), torch.tensor(w), SLOW, SCALE, 0.2)
    assert other.pattern == one.pattern
    assert other.lines.columns == one.lines.columns
    assert other.lines.column == pytest.approx(one.lines.column)
    assert (other.season_lag, other.season) == (one.season_lag, pytest.approx(one.season))


def test_diagonals_that_repeat_predict_no_season():
    """Constant content: rows repeat after the period of the channel, and move along as they do."""
    rope = Rope(np.array([2 * math.pi / 20, 0.0001]), "half", 4)
    z, w = coherent(rope, [12.0, 1.0], 0)
    found = predicted(z, w, rope)
    assert found.pattern == "periodic_sequential"
    assert found.season < 1e-5
    turned = rotate(z, rope, np.arange(LENGTH))
    lag, strength = season(all_lags(turned))
    assert (lag, strength > 0.5) == (20, True)  # by itself it looks like one


class Sizes(TorchDispatchMode):
    """Remembers the largest tensor that any torch operation returned."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(part, torch.Tensor):
                self.largest = max(self.largest, part.numel())
        return result


def test_no_logit_of_all_pairs_is_formed():
    length = 8192
    z, w = (torch.tensor(noise((length, 4), 1.0, seed)) for seed in (0, 1))
    with Sizes() as sizes:
        predict(z, w, SLOW, SCALE, 0.0)
    assert ROWS * length <= sizes.largest < length**2 / 16


def test_zero_queries_are_refused():
    with pytest.raises(InputError, match="nonzero"):
        predict(np.zeros((150, 4), dtype=complex), noise((150, 4), 1.0), SLOW, SCALE, 0.0)


@pytest.mark.parametrize(
    ("q_similarity", "k_similarity", "frequency", "expected"),
    [
        (0.79, 0.99, 0.001, "unpredictable"),
        (0.79, 0.99, 1.0, "unpredictable"),
        (0.8, 0.1, 0.001, "re_access"),
        (0.9, 0.9, 0.0, "re_access"),
        (0.9, 0.79, 1.0, "sequential"),
        (0.9, 0.8, 1.0, "periodic_sequential"),
        (0.9, 0.9, 2 * math.pi / 512, "periodic_sequential"),
        (0.9, 0.9, 2 * math.pi / 513, "re_access"),
    ],
)
def test_the_published_rule(q_similarity, k_similarity, frequency, expected):
    assert HIGH_SIMILARITY == 0.8
    assert predict_published(q_similarity, k_similarity, frequency, 1024) == expected
