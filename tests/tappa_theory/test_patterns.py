"""The five patterns on drawn maps, and the lines, spacing and season read off them."""

import numpy as np
import pytest
import torch

from tappa_theory import patterns
from tappa_theory.errors import InputError
from tappa_theory.patterns import PATTERNS, THRESHOLDS, Lines, classify, read_lines, season

LENGTH = 256


def softmax(logits: np.ndarray) -> np.ndarray:
    masked = np.where(np.tril(np.ones_like(logits)) > 0, logits, -np.inf)
    weights = np.exp(masked - masked.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def columns(*keys: int, height: float = 9.0) -> np.ndarray:
    logits = np.zeros((LENGTH, LENGTH))
    logits[:, list(keys)] = height
    return softmax(logits)


def diagonals(*offsets: int, height: float = 9.0) -> np.ndarray:
    t, i = np.indices((LENGTH, LENGTH))
    return softmax(np.where(np.isin(t - i, offsets), height, 0.0))


def seasons(period: int) -> np.ndarray:
    """Each phase of the rows attends to one phase of the keys, in no order: no line at all."""
    partner = np.random.default_rng(0).permutation(period)
    t = np.arange(LENGTH)
    return softmax(np.where(partner[t % period][:, None] == t % period, 9.0, 0.0))


def read(attention: np.ndarray, kind=np.asarray) -> tuple[Lines, int | None, float]:
    """(lines, L, strength) of a map from its later rows, in numpy or torch."""
    first = patterns.observed_rows(LENGTH)
    rows, later = kind(np.arange(first, LENGTH)), kind(attention[first:])
    by_key = patterns.column_sums(later, rows)
    flags = kind(patterns.columns_of(by_key, rows))
    lines = read_lines(by_key, patterns.offset_sums(later, rows, flags), rows)
    rest = np.where(np.asarray(flags), 0.0, attention[first:])
    count = len(rest)
    alike = [(rest[: count - lag] * rest[lag:]).sum() / (count - lag) for lag in range(count)]
    moved = np.mean([rest[r, :-1] @ rest[r + 1, 1:] for r in range(count - 1)]) / alike[0]
    lag, strength = season(kind(np.array(alike) / alike[0]), moved)
    return lines, lag, strength * lines.rest


def pattern(attention: np.ndarray) -> str:
    lines, _, strength = read(attention)
    return classify(lines, strength)


RANDOM = np.random.default_rng(0)
MAPS = {
    "sink": (columns(0), "re_access"),
    "two columns": (columns(0, 17), "re_access"),
    "previous token": (diagonals(1), "sequential"),
    "itself": (diagonals(0), "sequential"),
    "parallel diagonals": (diagonals(*range(0, LENGTH, 12)), "periodic_sequential"),
    "two diagonals": (diagonals(2, 14), "sequential"),
    "uneven diagonals": (diagonals(1, 5, 40, 44), "sequential"),
    "season": (seasons(20), "seasonal"),
    "uniform": (softmax(np.zeros((LENGTH, LENGTH))), "unpredictable"),
    "random": (softmax(RANDOM.standard_normal((LENGTH, LENGTH)) * 3), "unpredictable"),
    "jumps": (softmax(12.0 * np.eye(LENGTH)[RANDOM.permutation(LENGTH)]), "unpredictable"),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_drawn_map_shows_its_pattern(name):
    attention, expected = MAPS[name]
    assert pattern(attention) == expected
    assert expected in PATTERNS


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("name", MAPS)
def test_a_whole_map_is_read_at_once(name, kind):
    attention, expected = MAPS[name]
    lines, lag, strength = read(attention)
    found = patterns.observe(kind(attention))
    assert found.pattern == expected
    assert (found.lines.columns, found.lines.offsets) == (lines.columns, lines.offsets)
    assert (found.season_lag, found.season) == (lag, pytest.approx(strength))


def test_a_map_too_small_for_a_pattern_is_refused():
    with pytest.raises(InputError, match="a map of 127 positions given; patterns need 128"):
        patterns.observe(np.eye(127))


@pytest.mark.parametrize("name", MAPS)
def test_torch_reads_what_numpy_reads(name):
    attention, _ = MAPS[name]
    (lines, lag, strength), (other, other_lag, other_strength) = (
        read(attention, kind) for kind in (np.asarray, torch.as_tensor)
    )
    assert (other.columns, other.offsets, other_lag) == (lines.columns, lines.offsets, lag)
    assert (other.column, other.diagonal) == pytest.approx((lines.column, lines.diagonal))
    assert other.spacing == lines.spacing
    assert other_strength == pytest.approx(strength)


def test_parallel_diagonals_are_no_season_of_their_own():
    found, lag, strength = read(diagonals(*range(0, LENGTH, 12)))
    assert (found.spacing, lag) == (12, 12)
    assert strength < 0.1
    assert found.rest == pytest.approx(1 - found.diagonal)


def test_parallel_diagonals_that_keys_make_uneven_stay_diagonals():
    t, i = np.indices((LENGTH, LENGTH))
    keys = np.random.default_rng(0).standard_normal(LENGTH)
    for spread, least, most in ((0.0, 0.0, 0.01), (1.0, 0.1, 0.25)):
        lines, lag, strength = read(softmax(20 * np.cos((t - i) * np.pi / 12) + spread * keys))
        assert classify(lines, strength) == "periodic_sequential"
        assert lag == 24
        assert least <= strength < most


def test_moved_rows_are_compared_at_the_same_distances():
    attention = softmax(np.random.default_rng(3).standard_normal((40, 40)))
    rows = np.array([10, 11, 12, 20, 21])  # 12 and 20 are no neighbours
    expected = sum(
        attention[t, i] * attention[t + 1, i + 1] for t in (10, 11, 20) for i in range(39)
    )
    found = patterns.moved_products(attention[rows], rows)
    assert float(found) == pytest.approx(expected)
    assert patterns.moved_similarity(6.0, 8.0, rows) == pytest.approx(6 / 3 / (8 / 5))
    assert patterns.moved_similarity(0.0, 0.0, rows[:1]) == 0.0
    shifts = diagonals(0, 7, 20, height=30.0)[64:]
    rows = np.arange(64, LENGTH)
    products = float(patterns.moved_products(shifts, rows))
    assert patterns.moved_similarity(products, (shifts**2).sum(), rows) == pytest.approx(1)


def test_columns_are_named_and_hold_their_attention():
    attention = columns(0, 17)
    lines, _, _ = read(attention)
    assert lines.columns == (0, 17)
    assert lines.offsets == ()
    assert lines.diagonal == 0
    assert lines.column == pytest.approx(attention[64:, [0, 17]].sum(axis=1).mean())


def test_offsets_are_named_and_hold_their_attention():
    attention = diagonals(3, 20)
    lines, _, _ = read(attention)
    assert lines.offsets == (3, 20)
    assert (lines.columns, lines.column) == ((), 0.0)
    on_lines = [attention[t, t - 3] + attention[t, t - 20] for t in range(64, LENGTH)]
    assert lines.diagonal == pytest.approx(np.mean(on_lines))


@pytest.mark.parametrize("spacing", [5, 12, 31])
def test_parallel_diagonals_have_a_spacing(spacing):
    lines, _, _ = read(diagonals(*range(0, 5 * spacing, spacing)))
    assert lines.spacing == spacing


def test_spacing_needs_three_peaks_evenly_apart():
    spacing = {
        offsets: read(diagonals(*offsets))[0].spacing
        for offsets in ((10, 20), (10, 20, 30), (10, 20, 32), (10, 20, 40), (4, 5, 6, 7))
    }
    assert spacing[10, 20] is None
    assert spacing[10, 20, 30] == 10
    assert spacing[10, 20, 32] == 11  # 10 and 12: a spread of 1/11
    assert spacing[10, 20, 40] is None  # 10 and 20: a spread of 1/3
    assert spacing[4, 5, 6, 7] is None  # one broad line


def test_a_diagonal_is_no_column_and_a_column_no_diagonal():
    """A key at distance below `local` belongs to the diagonal, a key on a column to the column."""
    rows = np.arange(64, LENGTH)
    attention = diagonals(1, height=30.0)[64:]
    assert patterns.column_sums(attention, rows).max() < 1e-6
    sink = columns(0, height=30.0)[64:]
    by_key = patterns.column_sums(sink, rows)
    assert by_key[0] == pytest.approx(len(rows))
    flags = patterns.columns_of(by_key, rows)
    assert flags.nonzero()[0].tolist() == [0]
    assert patterns.offset_sums(sink, rows, flags).max() < 1e-6
    assert patterns.offset_sums(sink, rows, ~flags).sum() == pytest.approx(len(rows))


def test_the_local_zone_of_a_column_counts_for_its_offsets():
    rows = np.array([40])
    attention = np.zeros((1, 64))
    attention[0, [5, 20]] = 0.4, 0.6
    assert patterns.column_sums(attention, rows)[[5, 20]].tolist() == [0.4, 0.0]
    flags = np.zeros(64, dtype=bool)
    flags[[5, 20]] = True
    offsets = patterns.offset_sums(attention, rows, flags)
    assert offsets[[35, 20]].tolist() == [0.0, 0.6]
    assert offsets.sum() == 0.6


def test_offset_sums_run_along_the_diagonals():
    attention = softmax(np.random.default_rng(3).standard_normal((40, 40)))
    rows = np.arange(10, 40)
    found = patterns.offset_sums(attention[10:], rows, np.zeros(40, dtype=bool))
    for offset in range(40):
        expected = sum(attention[t, t - offset] for t in rows if t >= offset)
        assert found[offset] == pytest.approx(expected)


def test_a_line_must_reach_its_prominence_over_half_of_the_rows():
    rows = np.arange(64, LENGTH)
    least = THRESHOLDS.prominence * np.mean(1 / (rows + 1))
    late = LENGTH - len(rows) // 2 - THRESHOLDS.local  # the last key that half of the rows look at
    for key, level, expected in ((5, 1.001, True), (5, 0.999, False)):
        sums = np.zeros(LENGTH)
        sums[key] = level * least * np.count_nonzero(rows - key >= THRESHOLDS.local)
        assert patterns.columns_of(sums, rows)[key] == expected
    for key, expected in ((late, True), (late + 1, False)):
        sums = np.zeros(LENGTH)
        sums[key] = 100.0
        assert patterns.columns_of(sums, rows)[key] == expected


def test_the_thresholds_are_the_documented_ones():
    assert (THRESHOLDS.visible, THRESHOLDS.prominence, THRESHOLDS.local) == (0.3, 8.0, 32)
    assert (THRESHOLDS.warmup, THRESHOLDS.shortest) == (0.25, 128)
    assert (THRESHOLDS.spacing_peaks, THRESHOLDS.spacing_spread) == (3, 0.2)
    assert patterns.observed_rows(1023) == 255


def lines(column: float, diagonal: float, spacing: float | None = None) -> Lines:
    return Lines((), (), column, diagonal, spacing)


@pytest.mark.parametrize(
    ("shares", "strength", "expected"),
    [
        (lines(0.3, 0.0), 0.0, "re_access"),
        (lines(0.29, 0.29, 6.0), 0.29, "unpredictable"),
        (lines(0.4, 0.5), 0.1, "sequential"),
        (lines(0.4, 0.5, 6.0), 0.1, "periodic_sequential"),
        (lines(0.4, 0.5, 6.0), 0.6, "seasonal"),
        (lines(0.0, 0.0), 0.0, "unpredictable"),
    ],
)
def test_most_attention_decides(shares, strength, expected):
    assert classify(shares, strength) == expected


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_season_is_where_similarity_peaks_by_lag(kind):
    lags = np.arange(200)
    period, strength = season(kind(0.5 + 0.3 * np.cos(2 * np.pi * lags / 20)))
    assert period == 20
    assert strength == pytest.approx(0.6)


def test_a_season_is_more_than_neighbours_at_the_same_distances_have_in_common():
    lags = np.arange(200)
    alike = 0.5 + 0.3 * np.cos(2 * np.pi * lags / 20)
    for moved, expected in ((-0.5, 0.6), (0.2, 0.6), (0.5, 0.3), (0.8, 0.0), (0.9, 0.0)):
        assert season(alike, moved) == (20, pytest.approx(expected, abs=1e-12))


def test_slow_decay_is_no_season():
    lag, strength = season(np.exp(-np.arange(200) / 30))
    assert strength < 0.1
    assert lag is not None
    assert season(np.ones(200))[1] == 0.0
    assert season(-np.ones(7)) == (None, 0.0)
    assert season(np.ones(8))[0] == 2


def test_opposite_queries_are_no_more_than_unlike():
    lag, strength = season(np.cos(2 * np.pi * np.arange(200) / 20))
    assert (lag, strength) == (20, pytest.approx(1.0))


def test_a_season_is_looked_for_up_to_a_quarter_of_the_text():
    spike = np.zeros(100)
    spike[26] = 1.0  # beyond T/4
    assert season(spike)[1] < 1.0
    spike[25] = 1.0
    assert season(spike) == (25, 1.0)
