"""The five attention patterns, and how one is read off an attention map, seen or predicted.

A *column* is a key that rows go on attending to, an *offset* a distance t - i that rows go on
attending at. Each is a line of the map if its mean attention is `prominence` times what uniform
attention would give it, over at least half of the rows looked at. How much attention lies on
columns, on offsets, and how much rows one period apart have in common, decides the pattern.

Maps are (..., R, T): R rows of attention at the query positions `rows`, T keys; numpy or torch.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.signal import find_peaks

from tappa_theory.arrays import Array, asarray_like, namespace, to_numpy
from tappa_theory.errors import InputError
from tappa_theory.similarity import lag_products

Pattern = Literal["re_access", "sequential", "periodic_sequential", "seasonal", "unpredictable"]

PATTERNS: tuple[Pattern, ...] = (
    "re_access",
    "sequential",
    "periodic_sequential",
    "seasonal",
    "unpredictable",
)


@dataclass(frozen=True)
class Thresholds:
    """What counts as a line, a pattern and a period; the same for seen and predicted maps.

    visible: share of attention from which a pattern counts as shown. prominence: mean attention of
    a line over that of uniform attention. local: keys nearer than this many positions do not count
    for a column, so that a diagonal is no column. warmup: share of the rows, from the top, that is
    left out. spacing_peaks, spacing_spread: peaks of the offset profile that make a period, and
    their largest relative spread. shortest: positions needed to speak of a pattern at all.
    """

    visible: float = 0.3
    prominence: float = 8.0
    local: int = 32
    warmup: float = 0.25
    spacing_peaks: int = 3
    spacing_spread: float = 0.2
    shortest: int = 128


THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Lines:
    """The lines of an attention map and the attention they hold.

    columns: key positions. offsets: distances t - i. column, diagonal: mean share of a row's
    attention on columns (beyond the local zone) and on offsets (off the columns), 0..1.
    spacing: distance of the offsets from each other, positions, where they are evenly spaced.
    """

    columns: tuple[int, ...]
    offsets: tuple[int, ...]
    column: float
    diagonal: float
    spacing: float | None

    @property
    def rest(self) -> float:
        """Share of attention that lies on no line, 0..1."""
        return max(1 - self.column - self.diagonal, 0.0)


def observed_rows(length: int) -> int:
    """The first row that is looked at in a text of that length."""
    return int(length * THRESHOLDS.warmup)


def distances(rows: Array, length: int) -> Array:
    """(R, T) t - i of every row and key."""
    xp = namespace(rows)
    keys = xp.arange(length, dtype=rows.dtype, device=rows.device)
    return rows[:, None] - keys[None, :]


def column_sums(attention: Array, rows: Array) -> Array:
    """(..., T): attention on each key, summed over the rows from which the key is not local."""
    xp = namespace(attention, rows)
    far = distances(rows, attention.shape[-1]) >= THRESHOLDS.local
    return xp.sum(xp.where(far, attention, xp.zeros_like(attention)), axis=-2)


def offset_sums(attention: Array, rows: Array, columns: Array, first: int | None = None) -> Array:
    """(..., T): attention at each distance t - i, off the columns, summed over the rows.

    columns: (..., T) bool, the keys that are columns. first: the first of rows known to be
    consecutive; None to find out.
    """
    xp = namespace(attention, rows)
    distance = distances(rows, attention.shape[-1])
    on_column = columns[..., None, :] & (distance >= THRESHOLDS.local)
    rest = xp.where(on_column, xp.zeros_like(attention), attention)
    if first is None and bool(xp.all(rows[1:] - rows[:-1] == 1)):
        first = int(rows[0])
    if first is not None:
        return _diagonal_sums(rest, first)
    # Row t read backwards from key t: entry o of the result is the attention at distance o.
    index = xp.broadcast_to(xp.clip(distance, 0, None), attention.shape)
    by_offset = xp.take_along_axis(rest, index, axis=-1)
    return xp.sum(xp.where(distance >= 0, by_offset, xp.zeros_like(by_offset)), axis=-2)


def _diagonal_sums(attention: Array, first: int) -> Array:
    """`offset_sums` of consecutive rows from `first` on, several times faster than by index.

    With the keys reversed and each row read one entry later than the row above, entries at the
    same distance stand in the same column.
    """
    xp = namespace(attention)
    rows, keys = attention.shape[-2:]
    lead = attention.shape[:-2]
    padding = xp.zeros((*lead, rows, rows), dtype=attention.dtype, device=attention.device)
    flat = xp.reshape(xp.concat([xp.flip(attention, axis=-1), padding], axis=-1), (*lead, -1))
    skewed = xp.reshape(flat[..., : rows * (keys + rows - 1)], (*lead, rows, keys + rows - 1))
    sums = xp.sum(skewed, axis=-2)
    before = keys - 1 - first  # entries of keys that lie ahead of the first row
    if before >= 0:
        sums = sums[..., before : before + keys]
    else:
        none = xp.zeros((*lead, -before), dtype=attention.dtype, device=attention.device)
        sums = xp.concat([none, sums], axis=-1)[..., :keys]
    missing = keys - sums.shape[-1]
    rest = xp.zeros((*lead, missing), dtype=attention.dtype, device=attention.device)
    return xp.concat([sums, rest], axis=-1) if missing else sums


def _lines(sums: np.ndarray, counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    uniform = float(np.mean(1.0 / (rows + 1)))
    mean = sums / np.maximum(counts, 1)
    return (counts >= len(rows) / 2) & (mean >= THRESHOLDS.prominence * uniform)


def columns_of(sums: Array, rows: Array) -> np.ndarray:
    """(..., T) bool: which keys are columns, from `column_sums` of heads over all `rows`."""
    numbers = to_numpy(rows)
    counts = _rows_from(numbers, np.arange(sums.shape[-1]) + THRESHOLDS.local)
    return _lines(to_numpy(sums), counts, numbers)


def _rows_from(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """How many of the rows (ascending) lie at each position or later."""
    return len(rows) - np.searchsorted(rows, positions)


def read_lines(column_sum: Array, offset_sum: Array, rows: Array) -> Lines:
    """The lines of one head from its `column_sums` and `offset_sums`, (T,), over all `rows`."""
    numbers, length = to_numpy(rows), column_sum.shape[-1]
    columns = columns_of(column_sum, rows)
    reach = _rows_from(numbers, np.arange(length))
    offset_totals = to_numpy(offset_sum)
    offsets = _lines(offset_totals, reach, numbers)
    return Lines(
        columns=tuple(np.flatnonzero(columns).tolist()),
        offsets=tuple(np.flatnonzero(offsets).tolist()),
        column=float(to_numpy(column_sum)[columns].sum() / len(numbers)),
        diagonal=float(offset_totals[offsets].sum() / len(numbers)),
        spacing=_spacing(offset_totals / np.maximum(reach, 1), offsets),
    )


def _spacing(profile: np.ndarray, lines: np.ndarray) -> float | None:
    """Mean distance of the peaks of the offset profile, if they are enough and evenly spaced."""
    height = np.where(lines, profile, 0.0)
    peaks, _ = find_peaks(np.concatenate([[0.0], height, [0.0]]), prominence=height.max() / 10)
    gaps = np.diff(peaks)
    if len(peaks) < THRESHOLDS.spacing_peaks or gaps.min() < 2:
        return None
    return float(gaps.mean()) if gaps.std() <= THRESHOLDS.spacing_spread * gaps.mean() else None


def lag_similarity(rows: Array) -> Array:
    """(..., R) similarity of rows of attention off the columns that lie each lag apart.

    Mean over t of <P_t, P_{t+L}>, over what it would be if both rows were equal. rows: (..., R, n)
    consecutive rows, or sketches of them that keep inner products up to a factor.
    """
    xp = namespace(rows)
    products = lag_products(rows)
    counts = xp.arange(rows.shape[-2], 0, -1, dtype=xp.float64, device=rows.device)
    energy = products[..., :1] / rows.shape[-2]
    return products / counts / xp.clip(energy, 1e-30, None)


def moved_products(attention: Array, rows: Array) -> Array:
    """(...): sum over t of <P_t, P_{t+1}>, row t + 1 read one key later, where `rows` has both.

    attention: (..., R, T) rows of attention at the ascending positions `rows`.
    """
    xp = namespace(attention, rows)
    follows = rows[1:] - rows[:-1] == 1
    products = xp.sum(attention[..., :-1, :-1] * attention[..., 1:, 1:], axis=-1)
    return xp.sum(xp.where(follows, products, xp.zeros_like(products)), axis=-1)


def moved_similarity(products: float, energy: float, rows: Array) -> float:
    """Similarity of adjacent rows, off the columns, compared at the same distances t - i.

    products: `moved_products` of all `rows`; energy: sum of their |P_t|^2. As in `lag_similarity`,
    the mean of the products over what it would be if rows were equal: 1 for a map of diagonals.
    """
    numbers = to_numpy(rows)
    pairs = int((np.diff(numbers) == 1).sum())
    return products / max(pairs, 1) / max(energy / len(numbers), 1e-30)


def season(lag_similarity: Array, moved: float = 0.0) -> tuple[int | None, float]:
    """(L, strength) of the period that a similarity by lag shows best.

    lag_similarity: (T,) similarity of rows, or of queries, that lie each lag apart. moved:
    `moved_similarity` of the rows. A period L is one where rows L apart are more alike than rows
    half a period nearer and farther are, and than neighbours are at the same distances: the
    strength is the lesser of the two differences. So a pattern that distance alone explains is no
    season, though parallel diagonals repeat as well. L runs over 2..T/4; (None, 0) if the text is
    too short. Of the strength only the share of attention off the lines is a season: times
    `Lines.rest`, it is what `classify` takes.
    """
    # Queries can be opposite, attention rows have nothing in common at worst: one scale for both.
    values = np.maximum(to_numpy(lag_similarity), 0.0)
    longest = len(values) // 4
    if longest < 2:
        return None, 0.0
    lags = np.arange(2, longest + 1)
    half = lags // 2
    strength = values[lags] - np.maximum((values[lags - half] + values[lags + half]) / 2, moved)
    best = int(strength.argmax())
    return int(lags[best]), max(float(strength[best]), 0.0)


def classify(lines: Lines, season_strength: float) -> Pattern:
    """The pattern with most attention behind it; unpredictable if none reaches `visible`."""
    diagonal: Pattern = "sequential" if lines.spacing is None else "periodic_sequential"
    shares: dict[Pattern, float] = {
        "re_access": lines.column,
        diagonal: lines.diagonal,
        "seasonal": season_strength,
    }
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= THRESHOLDS.visible else "unpredictable"


@dataclass(frozen=True)
class Observed:
    """What an attention map shows: its lines, its season (strength and lag), and the pattern."""

    lines: Lines
    season: float
    season_lag: int | None
    pattern: Pattern


def observe(attention: Array) -> Observed:
    """Read the whole causal attention map (T, T) of one head.

    Raises InputError if T is below `THRESHOLDS.shortest`.
    """
    xp = namespace(attention)
    length = attention.shape[-1]
    if length < THRESHOLDS.shortest:
        raise InputError(
            f"a map of {length} positions given; patterns need {THRESHOLDS.shortest} or more"
        )
    rows = xp.arange(observed_rows(length), length, device=attention.device)
    part = attention[observed_rows(length) :]
    (lines,), columns = lines_of(part[None, ...], rows)
    rest = xp.where(columns, xp.zeros_like(part), part)
    moved = moved_similarity(float(moved_products(rest, rows)), float(xp.sum(rest**2)), rows)
    return shown(lines, lag_similarity(rest), moved)


def lines_of(attention: Array, rows: Array) -> tuple[list[Lines], Array]:
    """(lines of each head, which keys are columns: (H, T) bool) of maps (H, R, T) at `rows`."""
    by_key = column_sums(attention, rows)
    columns = asarray_like(columns_of(by_key, rows), by_key)
    by_offset = offset_sums(attention, rows, columns)
    sums, positions = zip(to_numpy(by_key), to_numpy(by_offset), strict=True), to_numpy(rows)
    return [read_lines(*each, positions) for each in sums], columns


def shown(lines: Lines, lag_similarity: Array, moved: float) -> Observed:
    """What lines and a season make of a map; the similarities as in `season`."""
    lag, strength = season(lag_similarity, moved)
    strength *= lines.rest
    return Observed(lines, strength, lag, classify(lines, strength))
