"""Paths: the adjacent cosine that is asked for is the one that comes out, at every step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.generators.paths import (
    NORM_LEVELS,
    ar1_tolerance,
    drifting,
    norms,
    on_channels,
    phases,
    unit_path,
)
from tappa_theory.errors import InputError

UNIT_ROUNDOFF = 2.0**-53
COSINES = st.one_of(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 0.999, 1.0]), st.floats(-1, 1))
SEEDS = st.integers(0, 2**32 - 1)


def cosines(x: np.ndarray) -> np.ndarray:
    """Cosine of each row with the next."""
    inner = np.sum(x[1:] * x[:-1].conj(), axis=-1).real
    length = np.linalg.norm(x, axis=-1)
    return inner / (length[1:] * length[:-1])


def rounding(components: int) -> float:
    """Of a cosine: a sum of so many products, on either side of a vector that was normalised."""
    return (32 + 16 * components) * UNIT_ROUNDOFF


@given(cosine=COSINES, dim=st.integers(2, 64), length=st.integers(2, 40), seed=SEEDS)
def test_every_cosine_of_a_unit_path_is_the_one_asked_for(cosine, dim, length, seed):
    path = unit_path(np.random.default_rng(seed), length, dim, cosine)
    assert path.shape == (length, dim)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 1, atol=rounding(dim), rtol=0)
    np.testing.assert_allclose(cosines(path), cosine, atol=rounding(dim), rtol=0)


def test_a_unit_path_is_random_in_all_else():
    paths = [unit_path(np.random.default_rng(seed), 3, 8, 0.5) for seed in range(400)]
    later = [float(path[0] @ path[2]) for path in paths]
    # two steps from the start it has c^2 in the mean: steps go anywhere around the last vector
    assert np.mean(later) == pytest.approx(0.25, abs=6 * np.std(later) / 20)
    assert np.std([path[0, 0] for path in paths]) > 0.2


@pytest.mark.parametrize(("dim", "cosine"), [(1, 0.5), (0, 1.0), (4, 1.5), (4, -1.01), (4, np.nan)])
def test_impossible_cosines_are_refused(dim, cosine):
    with pytest.raises(InputError, match="cosine"):
        unit_path(np.random.default_rng(0), 5, dim, cosine)


@given(
    cosine=COSINES,
    channels=st.integers(1, 24),
    length=st.integers(2, 64),
    levels=st.one_of(st.none(), st.integers(1, 5)),
    seed=SEEDS,
)
def test_phases_have_the_cosine_on_every_channel(cosine, channels, length, levels, seed):
    path = phases(np.random.default_rng(seed), length, channels, cosine, levels)
    tolerance = 4 * (length * np.pi + 4) * UNIT_ROUNDOFF
    np.testing.assert_allclose(np.abs(path), 1, atol=4 * UNIT_ROUNDOFF, rtol=0)
    for channel in path.T:
        np.testing.assert_allclose(cosines(channel[:, None]), cosine, atol=tolerance, rtol=0)
    if levels is not None and levels * np.arccos(cosine) < np.pi:
        assert np.abs(np.angle(path)).max() <= levels * np.arccos(cosine) + tolerance
    weighted = on_channels(path, np.arange(1.0, channels + 1))
    slack = tolerance + rounding(2 * channels)
    np.testing.assert_allclose(cosines(weighted), cosine, atol=slack, rtol=0)


def test_phases_within_one_step_have_the_mean_that_is_told():
    path = phases(np.random.default_rng(0), 4000, 50, 0.3, levels=1)
    # correlated over a few steps: 200,000 numbers count as 20,000 at least
    assert path.mean() == pytest.approx((1 + 0.3) / 2, abs=6 / np.sqrt(20000))


@given(
    cosine=COSINES,
    share=st.floats(0, 1),
    ratio=st.sampled_from([1.0, 1.1, 3.0]),
    norm=st.sampled_from([1.0, 12.0]),
    kind=st.sampled_from(["steps", "smooth"]),
    channels=st.integers(2, 24),
    length=st.integers(2, 40),
    seed=SEEDS,
)
def test_cosine_norm_ratio_and_constant_part_are_exact(
    cosine, share, ratio, norm, kind, channels, length, seed
):
    mean = np.exp(1j * np.arange(channels))
    share *= (1 + cosine) / 2
    x = drifting(
        np.random.default_rng(seed),
        length,
        channels,
        cosine=cosine,
        norm=norm,
        norm_ratio=ratio,
        kind=kind,
        mean_share=share,
        mean=mean,
    )
    # (c - s) / (1 - s) loses digits where nearly all is constant, and gives them back at once
    tolerance = 4 * rounding(2 * channels)
    np.testing.assert_allclose(cosines(x), cosine, atol=tolerance, rtol=0)
    lengths = np.linalg.norm(x, axis=1)
    found = np.maximum(lengths[1:] / lengths[:-1], lengths[:-1] / lengths[1:])
    np.testing.assert_allclose(found, ratio, rtol=tolerance)
    assert lengths.min() >= norm * ratio**-NORM_LEVELS * (1 - tolerance)
    assert lengths.max() <= norm * ratio**NORM_LEVELS * (1 + tolerance)
    if share:  # otherwise no direction is set apart
        along = (x @ mean.conj()).real / np.linalg.norm(mean)
        np.testing.assert_allclose(along / lengths, np.sqrt(share), atol=tolerance, rtol=0)


@given(cosine=st.floats(0.5, 1), channels=st.integers(2, 24), seed=SEEDS)
def test_smooth_paths_have_no_fast_part(cosine, channels, seed):
    x = drifting(np.random.default_rng(seed), 40, channels, cosine=cosine, kind="smooth")
    # no tone has a cosine below 2 c - 1, so that second differences are at most 4 (1 - c)
    second = np.linalg.norm(x[2:] - 2 * x[1:-1] + x[:-2], axis=1)
    assert second.max() <= 4 * (1 - cosine) + rounding(2 * channels)


@given(
    cosine=st.one_of(st.sampled_from([-0.5, 0.0, 0.999, 1.0]), st.floats(-0.9, 1)),
    share=st.floats(0, 1),
    channels=st.integers(8, 64),
    length=st.integers(32, 256),
    seed=SEEDS,
)
def test_ar1_has_the_cosine_in_the_mean_within_the_tolerance_that_is_told(
    cosine, share, channels, length, seed
):
    share *= max(min(1.0, (1 + cosine) / 2) - 1e-9, 0.0)
    x = drifting(
        np.random.default_rng(seed), length, channels, cosine=cosine, kind="ar1", mean_share=share
    )
    tolerance = ar1_tolerance(cosine, length, channels, share)
    assert abs(cosines(x).mean() - cosine) <= tolerance + rounding(2 * channels)


def test_the_tolerance_of_ar1_is_not_idle():
    """A coefficient that is wrong by 0.1 is outside of it."""
    x = drifting(np.random.default_rng(3), 512, 32, cosine=0.6, kind="ar1")
    assert abs(cosines(x).mean() - 0.5) > ar1_tolerance(0.5, 512, 32)
    assert ar1_tolerance(0.5, 512, 32) < 0.07


def test_an_ar1_process_is_stationary():
    rng = np.random.default_rng(0)
    draws = np.stack(
        [drifting(rng, 40, 8, cosine=0.9, kind="ar1", norm=3.0, mean_share=0.2) for _ in range(400)]
    )
    energy = np.sum(np.abs(draws) ** 2, axis=-1)
    error = 6 * energy.std(axis=0) / np.sqrt(400)
    assert np.all(np.abs(energy.mean(axis=0) - 9.0) <= error)


@pytest.mark.parametrize(
    ("dials", "what"),
    [
        ({"cosine": 0.0, "mean_share": 0.6}, "constant part"),
        ({"cosine": 0.5, "mean_share": -0.1}, "constant part"),
        ({"cosine": 2.0}, "cosine"),
        ({"cosine": 0.5, "norm_ratio": 0.5}, "norm ratio"),
    ],
)
def test_impossible_dials_are_refused(dials, what):
    with pytest.raises(InputError, match=what):
        drifting(np.random.default_rng(0), 10, 4, **dials)


def test_one_channel_with_a_constant_part_cannot_turn_smoothly():
    with pytest.raises(InputError, match="plane"):
        drifting(np.random.default_rng(0), 9, 1, cosine=0.5, kind="smooth", mean_share=0.5)


def test_weights_spread_the_energy_and_keep_its_sum():
    path = phases(np.random.default_rng(0), 5, 4, 0.5)
    spread = on_channels(path, np.array([0.0, 1.0, 2.0, 1.0]))
    np.testing.assert_allclose(np.abs(spread) ** 2, [[0, 1, 2, 1]] * 5, atol=1e-15)
    for weights in ([0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(InputError, match="weights"):
            on_channels(path[:, :2], np.array(weights))


def test_norms_walk_and_do_not_only_alternate():
    found = norms(np.random.default_rng(0), 200, 2.0)
    assert set(np.log2(found)) == set(range(-NORM_LEVELS, NORM_LEVELS + 1))
