"""Channel energies, dominance and periods against cases worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tappa_theory.energy import best_lag, channel_energy, channel_gain, period
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope


def rope(frequencies, rotary_pairs=None, scaling=1.0):
    pairs = len(frequencies) if rotary_pairs is None else rotary_pairs
    return Rope(np.array(frequencies), "half", 2 * pairs, scaling)


def queries_and_keys(kind=np.asarray):
    """Two positions, three channels: mean |z| = (2, 3, 4), mean |w| = (3, 1, 5)."""
    z = kind(np.array([[1, 3j, -4], [-3j, 3, 4j]]))
    w = kind(np.array([[2 + 0j, 1, 3 + 4j], [4j, -1, -5]]))
    return z, w


@pytest.mark.parametrize("kind", [np.asarray, torch.asarray])
def test_energy_dominance_kappa_and_curvature_by_hand(kind):
    found = channel_energy(*queries_and_keys(kind), rope([0.5, 0.25, 0.125]))
    # A = (6, 3, 20); A theta = (3, .75, 2.5); A theta^2 = (1.5, .1875, .3125)
    assert found.energy == pytest.approx((6, 3, 20), rel=1e-15)
    assert found.dominant_channel == 2
    assert found.dominant_share == pytest.approx(20 / 29, rel=1e-15)
    assert found.frequency_dominant_channel == 0
    assert found.kappa == pytest.approx(3.25 / 3, rel=1e-15)
    assert found.curvature == pytest.approx(0.5 / 1.5, rel=1e-15)


def test_a_channel_that_does_not_turn_has_energy_but_no_weight():
    found = channel_energy(*queries_and_keys(), rope([0.5, 0.25, 0], rotary_pairs=2))
    assert found.dominant_channel == 2
    assert found.frequency_dominant_channel == 0
    assert found.kappa == pytest.approx(0.75 / 3, rel=1e-15)
    assert found.curvature == pytest.approx(0.1875 / 1.5, rel=1e-15)


@pytest.mark.parametrize("slow", [5e-324, 1e-200, 1e-155])
def test_a_channel_too_slow_for_its_square_does_not_turn(slow):
    found = channel_energy(*queries_and_keys(), rope([slow, slow / 2, 0.0]))
    assert (found.frequency_dominant_channel, found.kappa, found.curvature) == (None, None, None)
    beside = channel_energy(*queries_and_keys(), rope([0.5, slow, 0.0]))
    assert (beside.frequency_dominant_channel, beside.kappa, beside.curvature) == (0, 0.0, 0.0)


def test_without_rope_no_channel_dominates_by_frequency():
    found = channel_energy(*queries_and_keys(), Rope.none(6))
    assert found.energy == pytest.approx((6, 3, 20), rel=1e-15)
    assert found.frequency_dominant_channel is None
    assert found.kappa is None
    assert found.curvature is None


def test_attention_scaling_enters_squared_on_rotary_channels_only():
    partial = rope([0.5, 0.25, 0], rotary_pairs=2, scaling=3.0)
    assert channel_gain(partial, 0.125).tolist() == [1.125, 1.125, 0.125]
    found = channel_energy(*queries_and_keys(), partial)
    assert found.energy == pytest.approx((54, 27, 20), rel=1e-15)
    assert found.dominant_channel == 0
    # a factor that all turning channels share leaves their weights in proportion
    assert found.kappa == pytest.approx(0.75 / 3, rel=1e-15)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_kappa_is_the_sum_over_the_other_channels(seed, channels):
    random = np.random.default_rng(seed)
    z, w = random.standard_normal((2, 6, channels)) + 1j * random.standard_normal((2, 6, channels))
    frequencies = random.uniform(0.01, 1, channels)
    found = channel_energy(z, w, rope(frequencies))
    weighted = [
        sum(abs(value) for value in z[:, m]) * sum(abs(value) for value in w[:, m]) * frequencies[m]
        for m in range(channels)
    ]
    star = max(range(channels), key=weighted.__getitem__)
    others = [m for m in range(channels) if m != star]
    assert found.frequency_dominant_channel == star
    kappa = sum(weighted[m] / weighted[star] for m in others)
    curvature = sum(
        weighted[m] / weighted[star] * frequencies[m] / frequencies[star] for m in others
    )
    # a sum of nonnegative terms errs by no more than its terms, relative to itself
    limit = 4 * (channels + 8) * 2.0**-53
    assert found.kappa == pytest.approx(kappa, rel=limit, abs=0)
    assert found.curvature == pytest.approx(curvature, rel=limit, abs=0)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_no_energy_or_no_number_is_refused(bad, side):
    pair = list(queries_and_keys())
    pair[side] = np.full((2, 3), bad, dtype=complex)
    with pytest.raises(InputError, match="no channel energies"):
        channel_energy(*pair, rope([0.5, 0.25, 0.125]))


def test_the_period_of_a_frequency():
    assert period(math.pi) == 2
    assert period(2 * math.pi / 17) == pytest.approx(17, rel=1e-15)
    assert period(0.0) == math.inf


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 16), st.booleans())
def test_best_lag_finds_a_planted_period(seed, planted, padded):
    random = np.random.default_rng(seed)
    season = random.standard_normal((planted, 32)) + 1j * random.standard_normal((planted, 32))
    # a slow turn by a common factor makes one period more alike than two
    z = season[np.arange(64) % planted] * np.exp(0.01j * np.arange(64))[:, None]
    valid = None
    if padded:
        z = np.concatenate([z, np.tile(z[:1], (8, 1))])
        valid = np.arange(72) < 64
    assert best_lag(z, valid) == planted
    mask = None if valid is None else torch.asarray(valid)
    assert best_lag(torch.asarray(z), mask) == planted


def test_best_lag_needs_eight_positions_and_looks_no_further_than_a_quarter():
    z = np.random.default_rng(1).standard_normal((8, 3)) + 0j
    assert best_lag(z[:7]) is None
    assert best_lag(z) == 2
    assert best_lag(np.tile(np.eye(5), (3, 1)) + 0j) in (2, 3)  # the period 5 is beyond 15/4
    assert best_lag(np.tile(np.eye(5), (4, 1)) + 0j) == 5
    with pytest.raises(InputError, match="nonzero"):
        best_lag(np.zeros((8, 3), dtype=complex))
