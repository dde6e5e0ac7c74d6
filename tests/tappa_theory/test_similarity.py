"""Similarities against the T x T Gram matrix, padding, bad input, memory, and RoPE itself."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, unrotate
from tappa_theory.similarity import adjacent, all_lags, all_pairs, lag, window

U64 = 2.0**-53
quick = settings(max_examples=60)


def lag_2(x, valid=None):
    return lag(x, 2, valid)


def window_3(x, valid=None):
    return window(x, 3, valid)


MEASURES = (adjacent, lag_2, all_pairs, window_3)


def tolerance(length, components):
    """A dot product of unit vectors errs by (d + 8) u; sums of up to T^2 of them add T^2 more u.

    Before the division by N (N - 1) or by the number of pairs, so this is generous by that much.
    """
    return 4 * U64 * (components + length**2 + 8)


def gram_mean(x, counted, wanted):
    """Mean of cos(x_s, x_t) over the counted pairs s < t for which wanted(t - s), one by one."""
    total, pairs = 0.0, 0
    for s in range(len(x)):
        for t in range(s + 1, len(x)):
            if counted[s] and counted[t] and wanted(t - s):
                total += x[s] @ x[t] / (np.sqrt(x[s] @ x[s]) * np.sqrt(x[t] @ x[t]))
                pairs += 1
    return total / pairs if pairs else None


def by_gram(measure, x, valid):
    """What `measure` of one item (T, d) must be; None where no pair is left."""
    counted = valid & np.any(x != 0, axis=-1)
    if measure is adjacent:
        return gram_mean(x, counted, lambda distance: distance == 1)
    if measure is lag_2:
        return gram_mean(x, counted, lambda distance: distance == 2)
    if measure is window_3:
        last = np.flatnonzero(valid)[-3:]
        counted = counted & np.isin(np.arange(len(x)), last)
    return gram_mean(x, counted, lambda distance: True)


def value_or_none(measure, x, valid):
    try:
        return float(measure(x, valid))
    except InputError:
        return None


@st.composite
def texts(draw, max_length=9):
    """Vectors (T, 2M) of any scale, some of them zero, and a mask (T,) that hides some."""
    length = draw(st.integers(0, max_length))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = random.standard_normal((length, 2 * draw(st.integers(1, 4))))
    x += draw(st.sampled_from([0.0, 3.0]))
    x *= 10.0 ** random.integers(-20, 20, (length, 1))
    x[random.random(length) < draw(st.sampled_from([0.0, 0.3]))] = 0
    valid = random.random(length) >= draw(st.sampled_from([0.0, 0.3]))
    return x, valid


@pytest.mark.parametrize("measure", MEASURES)
@quick
@given(texts())
def test_equals_the_gram_matrix_on_numpy_and_torch(measure, text):
    x, valid = text
    expected = by_gram(measure, x, valid)
    found = value_or_none(measure, x, valid)
    on_torch = value_or_none(measure, torch.asarray(x), torch.asarray(valid))
    if expected is None:
        assert found is None
        assert on_torch is None
    else:
        assert found == pytest.approx(expected, abs=tolerance(*x.shape))
        assert on_torch == pytest.approx(expected, abs=tolerance(*x.shape))


@pytest.mark.parametrize("measure", MEASURES)
@quick
@given(texts())
def test_a_channel_counts_as_two_components(measure, text):
    x, valid = text
    channels = x[:, ::2] + 1j * x[:, 1::2]
    expected = value_or_none(measure, x, valid)
    for z, mask in [(channels, valid), (torch.asarray(channels), torch.asarray(valid))]:
        found = value_or_none(measure, z, mask)
        assert (found is None) == (expected is None)
        assert found is None or found == pytest.approx(expected, abs=tolerance(*x.shape))


@pytest.mark.parametrize("measure", [*MEASURES, all_lags])
@pytest.mark.parametrize("filler", [0.0, 7.5, np.nan, np.inf])
def test_what_padding_holds_changes_nothing(measure, filler):
    x = np.random.default_rng(3).standard_normal((9, 4))
    valid = np.array([0, 0, 1, 1, 0, 1, 1, 1, 0], dtype=bool)
    padded = np.where(valid[:, None], x, filler)
    assert np.array_equal(measure(padded, valid), measure(x, valid))
    assert not np.allclose(measure(x, valid), measure(x, np.ones(9, dtype=bool)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("left", "right"), [(5, 0), (0, 5), (2, 3)])
def test_a_padded_text_is_as_similar_as_the_text(measure, left, right):
    random = np.random.default_rng(4)
    x = random.standard_normal((7, 4))
    padded = np.concatenate([random.standard_normal((left, 4)), x, np.ones((right, 4))])
    valid = np.arange(12) - left
    valid = (valid >= 0) & (valid < 7)
    assert measure(padded, valid) == pytest.approx(measure(x), abs=tolerance(12, 4))


@pytest.mark.parametrize("measure", [*MEASURES, all_lags])
def test_a_batch_equals_its_items(measure):
    random = np.random.default_rng(5)
    x = random.standard_normal((2, 3, 8, 4))
    x[1, 2, 4] = 0
    valid = random.random((2, 3, 8)) < 0.8
    found = measure(x, valid)
    assert found.dtype == np.float64
    for item in np.ndindex(2, 3):
        expected = measure(x[item], valid[item])
        assert np.allclose(found[item], expected, rtol=0, atol=tolerance(8, 4))
    assert np.ptp(found.reshape(6, -1), axis=0).max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_is_measured_in_float64(dtype):
    x = (300 * torch.asarray(np.random.default_rng(6).standard_normal((20, 8)))).to(dtype)
    found = all_pairs(x)
    assert found.dtype == torch.float64
    assert found == all_pairs(x.double())


@pytest.mark.parametrize("kind", [np.asarray, torch.asarray])
@pytest.mark.parametrize(
    ("measure", "length"),
    [
        (adjacent, 0),
        (adjacent, 1),
        (lag_2, 1),
        (lag_2, 2),
        (all_pairs, 0),
        (all_pairs, 1),
        (window_3, 0),
        (window_3, 1),
        (all_lags, 0),
    ],
)
def test_too_short_a_text_is_refused(measure, length, kind):
    with pytest.raises(InputError, match="longer text"):
        measure(kind(np.ones((length, 2))))


@pytest.mark.parametrize("measure", [*MEASURES, all_lags])
def test_one_item_of_zeros_is_refused_in_a_batch(measure):
    x = np.ones((2, 6, 2))
    x[1] = 0
    with pytest.raises(InputError, match="nonzero"):
        measure(x)


@pytest.mark.parametrize("measure", [*MEASURES, all_lags])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(measure, value):
    x = np.ones((6, 2))
    x[4, 1] = value
    with pytest.raises(InputError, match="not finite"):
        measure(x)


@pytest.mark.parametrize("bad", [0, -1])
def test_lag_and_window_sizes_are_checked(bad):
    with pytest.raises(InputError, match="lag of"):
        lag(np.ones((4, 2)), bad)
    with pytest.raises(InputError, match="window of"):
        window(np.ones((4, 2)), bad + 1)


@quick
@given(texts(max_length=40))
def test_all_lags_holds_every_lag(text):
    x, valid = text
    counted = valid & np.any(x != 0, axis=-1)
    if not counted.any():
        with pytest.raises(InputError):
            all_lags(x, valid)
        return
    expected = np.zeros(len(x))
    expected[0] = 1
    for distance in range(1, len(x)):
        if np.any(counted[distance:] & counted[:-distance]):
            expected[distance] = lag(x, distance, valid)
    # a transform of length 2T and its inverse err by a few u log2(2T) of the energy, T
    limit = 32 * U64 * len(x) * np.log2(4 * len(x))
    on_torch = all_lags(torch.asarray(x), torch.asarray(valid))
    assert np.allclose(all_lags(x, valid), expected, rtol=0, atol=limit)
    assert np.allclose(on_torch.numpy(), expected, rtol=0, atol=limit)


def test_all_pairs_of_a_long_text_needs_a_few_copies_of_it():
    x = np.random.default_rng(7).standard_normal((16_384, 64))
    tracemalloc.start()
    all_pairs(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # unit vectors, the zeros for excluded rows and the choice between them: three copies; one more
    # for the vectors (T,) of norms and masks, of which each is 1/64 copy
    assert peak <= 4 * x.nbytes
    assert 4 * x.nbytes < 16_384**2 * 8 / 50


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.5, 2.0))
def test_a_constant_query_is_constant_before_rope_and_turns_after(seed, distance, scaling):
    random = np.random.default_rng(seed)
    frequencies = np.concatenate([random.uniform(0, np.pi, 3), np.zeros(1)])
    rope = Rope(frequencies, "half", 6, scaling)
    z = np.tile(random.standard_normal(4) + 1j * random.standard_normal(4), (20, 1))
    positions = np.arange(20) + random.integers(0, 1000)
    turned = rotate(z, rope, positions)
    energy = np.abs(z[0]) ** 2 * np.array([scaling**2] * 3 + [1.0])
    expected = np.sum(energy * np.cos(distance * frequencies)) / np.sum(energy)
    # angles below 1,020 pi are rounded by u times themselves, twice in a pair
    limit = tolerance(20, 8) + 2 * U64 * 1020 * np.pi
    assert lag(turned, distance) == pytest.approx(expected, abs=limit)
    restored = unrotate(turned, rope, positions)
    for measure in MEASURES:
        assert measure(restored) == pytest.approx(1, abs=limit)
