"""What a head's attention map shows, row block by row block, without holding a T x T matrix.

Everything *observed* comes from here, and from the attention map alone: columns, offsets and
season, predictability, and how much one row differs from the next.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from gpu_check.visibility import Visibility
from tappa_theory import drift, patterns
from tappa_theory.arrays import to_numpy
from tappa_theory.predictability import TOP, shift_aware_recall

ROWS = 128
"""Query rows of a block on a processor, whose caches hold what one step leaves for the next."""
CELLS = 2**25
"""Entries of a block elsewhere: with fewer, a GPU waits for what starts its kernels."""
SHARE = 2**10
"""Bytes of a GPU's memory for each of them, at least: some twenty such blocks live at a time in
each of `check.GPU_THREADS`."""
KEPT = 2048
"""Longest text whose map a processor keeps for the second pass, and does not compute again."""
KEPT_BLOCKS = 4
"""Blocks of a map that other devices keep."""
REPEATED = 16
"""Rows before its own that a block shows again, for what compares a row with an earlier one."""
SKETCH = 64
"""Random signs per row, in whose inner products rows are compared at every lag."""


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention map of one head, as measured; the numbers of steps are per row t -> t + 1.

    lines, season, season_lag, pattern: see `tappa_theory.patterns`; None for a text too short.
    recall: shift-aware recall, mean over the steps. divergence: KL(P_t || P_{t+1}) on the keys of
    row t, nats; key_metric: its second-order value; oscillation: max - min of the logit change.
    The three are (T - 1,), float64, NaN-free; step s belongs to the step from row s.
    """

    row_std: torch.Tensor
    lines: patterns.Lines | None
    season: float | None
    season_lag: int | None
    pattern: patterns.Pattern | None
    recall: float | None
    divergence: np.ndarray
    key_metric: np.ndarray
    oscillation: np.ndarray


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows of a map over the keys 0..W-1 that any of them can see.

    first: position of the first row. repeated: number of rows, from the first on, that the block
    before showed, too. rows: (R,) positions. logits: (R, W), -inf where hidden. attention: (R, W).
    start: number of keys from key 0 on that all rows see; visible: (R, W - start) bool, which of
    the other keys each row sees.
    """

    first: int
    repeated: int
    rows: torch.Tensor
    logits: torch.Tensor
    attention: torch.Tensor
    start: int
    visible: torch.Tensor

    def repeating(self, count: int) -> "Block":
        """The block with at most so many repeated rows."""
        skip = max(self.repeated - count, 0)
        return Block(
            self.first + skip,
            self.repeated - skip,
            self.rows[skip:],
            self.logits[skip:],
            self.attention[skip:],
            self.start,
            self.visible[skip:],
        )

    @property
    def stop(self) -> int:
        """The position after the last row."""
        return self.first + len(self.rows)


def fused(numbers: torch.Tensor) -> bool:
    """Whether kernels take the place of many passes over the numbers: on a CUDA device."""
    return numbers.device.type == "cuda"


def rows_of_block(length: int, device: torch.device) -> int:
    """Rows of a block of a text of that length."""
    if device.type == "cpu":
        return ROWS
    return max(ROWS, _cells(device) // length)


def _cells(device: torch.device) -> int:
    """Entries of a block that leave memory for what is made of it."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return CELLS
    return min(CELLS, torch.cuda.get_device_properties(device).total_memory // SHARE)


def _kept(length: int, device: torch.device) -> bool:
    """Are there few enough entries to keep all blocks?"""
    if device.type == "cpu":
        return length <= KEPT
    return length <= KEPT_BLOCKS * rows_of_block(length, device)


def row_blocks(
    query: torch.Tensor, key: torch.Tensor, visibility: Visibility, softcap: float | None
) -> Iterator[Block]:
    """Blocks of consecutive rows; each repeats the last rows of those before, `REPEATED` at most.

    query, key: (T, F) logit features, float64.
    """
    length, device = visibility.length, query.device
    size = rows_of_block(length, device)
    for begin in range(0, length, size):
        first, stop = max(begin - REPEATED, 0), min(begin + size, length)
        rows = torch.arange(first, stop, device=device)
        logits = query[first:stop] @ key[:stop].T
        if softcap is not None:
            logits = logits.div_(softcap).tanh_().mul_(softcap)
        start = same_start(visibility, first)
        visible = visibility.block(rows, torch.arange(start, stop, device=device))
        logits[:, start:].masked_fill_(~visible, -torch.inf)
        attention = torch.softmax(logits, dim=-1)
        if visibility.valid is not None:
            # A row of padding sees nothing; its attention is zero, not NaN.
            attention.nan_to_num_(nan=0.0)
        yield Block(first, begin - first, rows, logits, attention, start, visible)


def same_start(visibility: Visibility, first: int) -> int:
    """Number of keys from key 0 on that the row `first` and all later ones see.

    0 with a sliding window or padding, where it takes more to tell.
    """
    return first if visibility.window is None and visibility.valid is None else 0


def observe(
    query: torch.Tensor,
    key: torch.Tensor,
    visibility: Visibility,
    softcap: float | None = None,
    watchers: Sequence[Callable[[Block], None]] = (),
) -> Attention:
    """Measure the attention map of one head from its logit features, (T, F) float64 each.

    watchers: called with every block, in order.
    """
    length, device = visibility.length, query.device
    blocks: Iterable[Block] = row_blocks(query, key, visibility, softcap)
    kept = _kept(length, device)
    if kept:
        blocks = list(blocks)
    rows = _observed(visibility)
    row_std = torch.zeros(length, dtype=torch.float64, device=device)
    column_sum = torch.zeros(length, dtype=torch.float64, device=device)
    steps = _Steps(visibility)
    for block in blocks:
        new = block.repeating(0)
        spread, change = _rows_and_steps(block.repeating(1), steps.shrinking)
        row_std[new.first : new.stop] = spread
        steps.add(block.repeating(1), change)
        for watch in watchers:
            watch(block)
        part = _observed_part(new, rows)
        if part is not None:
            column_sum[: part.attention.shape[1]] += _column_sums(part)
    lines = season = season_lag = pattern = None
    if visibility.tokens >= patterns.THRESHOLDS.shortest and len(rows):
        again = blocks if kept else row_blocks(query, key, visibility, softcap)
        columns = patterns.columns_of(column_sum, rows)
        found = _second_pass(again, rows, columns)
        lines = patterns.read_lines(column_sum, found.offset_sum, rows)
        moved = patterns.moved_similarity(found.moved, found.energy, rows)
        season_lag, strength = patterns.season(patterns.lag_similarity(found.sketch), moved)
        season = strength * lines.rest
        pattern = patterns.classify(lines, season)
    divergence, key_metric, oscillation = steps.changes()
    return Attention(
        row_std=row_std,
        lines=lines,
        season=season,
        season_lag=season_lag,
        pattern=pattern,
        recall=steps.mean_recall(patterns.observed_rows(length)),
        divergence=divergence,
        key_metric=key_metric,
        oscillation=oscillation,
    )


def _rows_and_steps(block: Block, shrinking: bool) -> tuple[torch.Tensor, drift.StepChange]:
    """The standard deviation of the logits of each row but the repeated ones; all its steps.

    shrinking: whether a row may not see what the one before saw.
    """
    if fused(block.logits):
        from gpu_check.kernels.row_steps import row_steps

        found = row_steps(block.logits, block.attention, block.first)
        change = drift.change_of_sums(
            found.largest, found.smallest, found.exponentials, found.variance
        )
        return found.std[block.repeated :], change
    attention = block.attention[:-1]
    if shrinking:
        attention = attention * (block.visible[:-1] & block.visible[1:])
        total = attention.sum(dim=1, keepdim=True)
        attention = attention / torch.where(total > 0, total, 1.0)
    change = drift.step_change(block.logits[1:] - block.logits[:-1], attention)
    return _row_std(block.repeating(0)), change


def _row_std(block: Block) -> torch.Tensor:
    start = block.start
    count = (block.visible.sum(dim=1) + start).clamp_(min=1)
    before, tail = block.logits[:, :start], block.logits[:, start:]
    hidden = ~block.visible
    total = before.sum(dim=1) + tail.masked_fill(hidden, 0.0).sum(dim=1)
    mean = (total / count)[:, None]
    norm = torch.linalg.vector_norm
    squares = norm(before - mean, dim=1) ** 2
    squares += norm((tail - mean).masked_fill_(hidden, 0.0), dim=1) ** 2
    return (squares / count).sqrt_()


def _observed(visibility: Visibility) -> np.ndarray:
    """Positions of the rows that count: after the warm-up, not padding."""
    rows = np.arange(patterns.observed_rows(visibility.length), visibility.length)
    return rows if visibility.valid is None else rows[to_numpy(visibility.valid)[rows]]


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of a block that count: positions, on the device (R,) and the first; attention (R, W)."""

    first: int
    last: int
    rows: torch.Tensor
    attention: torch.Tensor


def _observed_part(block: Block, observed: np.ndarray) -> _Part | None:
    """The rows of a block that are among the observed ones."""
    begin, end = np.searchsorted(observed, (block.first, block.stop))
    if begin == end:
        return None
    first, last = int(observed[begin]), int(observed[end - 1])
    index: slice | torch.Tensor = slice(first - block.first, last + 1 - block.first)
    if end - begin < last + 1 - first:
        index = torch.tensor(observed[begin:end] - block.first, device=block.rows.device)
    return _Part(first, last, block.rows[index], block.attention[index])


def _column_sums(part: _Part) -> torch.Tensor:
    """`patterns.column_sums`; keys that are local to none of the rows take no mask."""
    far = max(part.first - patterns.THRESHOLDS.local + 1, 0)
    near = patterns.column_sums(part.attention[:, far:], part.rows - far)
    return torch.cat([part.attention[:, :far].sum(dim=0), near])


class _Steps:
    """Collects what the steps from one row to the next show."""

    def __init__(self, visibility: Visibility) -> None:
        # Only then can a row lose keys that the row before could see.
        self.shrinking = visibility.window is not None or visibility.valid is not None
        # (n,) and (3, n) by block: recall; divergence, key metric and oscillation
        self.recall: list[torch.Tensor] = []
        self.change: list[torch.Tensor] = []

    def add(self, block: Block, change: drift.StepChange) -> None:
        if len(block.rows) < 2:
            return
        self.change.append(torch.stack([change.divergence, change.key_metric, change.oscillation]))
        recall = torch.full_like(change.divergence, torch.nan)
        if block.attention.shape[1] > TOP:
            recall = shift_aware_recall(block.attention)
            if self.shrinking:  # nothing leads from a row of padding to the next
                recall = torch.where(block.visible[:-1].any(dim=1), recall, torch.nan)
        self.recall.append(recall)

    def changes(self) -> np.ndarray:
        """(3, T - 1): divergence, key metric and oscillation of every step."""
        return to_numpy(torch.cat(self.change, dim=1)) if self.change else np.zeros((3, 0))

    def mean_recall(self, first: int) -> float | None:
        if not self.recall:
            return None
        values = to_numpy(torch.cat(self.recall))[max(first, TOP) :]
        values = values[np.isfinite(values)]
        return float(values.mean()) if values.size else None


@dataclass(frozen=True, eq=False)
class _OffColumns:
    """What the second pass finds off the columns.

    offset_sum: (T,) attention by offset. sketch: (R, SKETCH) of the rows. moved, energy: as in
    `patterns.moved_similarity`.
    """

    offset_sum: torch.Tensor
    sketch: torch.Tensor
    moved: float
    energy: float


def _second_pass(blocks: Iterable[Block], rows: np.ndarray, columns: np.ndarray) -> _OffColumns:
    state: tuple[torch.Tensor, ...] | None = None
    sketches, before, row = [], torch.zeros(0), -2
    for block in blocks:
        part = _observed_part(block.repeating(0), rows)
        if part is None:
            continue
        attention, width = part.attention, part.attention.shape[1]
        if state is None:
            state = _prepared(columns, attention.device)
        flags, kept, signs, offset_sum, energy, moved = state
        first = part.first if part.last - part.first + 1 == len(part.rows) else None
        offset_sum[:width] += patterns.offset_sums(attention, part.rows, flags[:width], first)
        rest = attention * kept[:width]
        sketches.append(rest @ signs[:width])
        energy += torch.linalg.vector_norm(rest) ** 2
        moved += patterns.moved_products(rest, part.rows)
        if part.first == row + 1:  # the row before ended the part before
            moved += (before * rest[0, 1 : len(before) + 1]).sum()
        row, before = part.last, rest[-1].clone()
    assert state is not None
    *_, offset_sum, energy, moved = state
    return _OffColumns(
        offset_sum.cpu(), torch.cat(sketches), *torch.stack([moved, energy]).tolist()
    )


def _prepared(columns: np.ndarray, device: torch.device) -> tuple[torch.Tensor, ...]:
    """On the device: which keys are columns, 1 where they are not, signs, and empty sums."""
    length = len(columns)
    flags = torch.tensor(columns, device=device)
    energy, moved = torch.zeros(2, dtype=torch.float64, device=device)
    offset_sum = torch.zeros(length, dtype=torch.float64, device=device)
    return flags, (~flags).to(torch.float64), _signs(length, device), offset_sum, energy, moved


@lru_cache(maxsize=4)
def _signs(length: int, device: torch.device) -> torch.Tensor:
    """(T, SKETCH) random signs, the same for every head."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(length, SKETCH))
    return torch.tensor(signs, device=device)
