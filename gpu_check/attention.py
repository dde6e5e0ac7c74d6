"""What the attention maps of heads show, row block by row block, without holding a T x T matrix.

Everything *observed* comes from here, and from the attention map alone: columns, offsets and
season, predictability, and how much one row differs from the next.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from gpu_check.visibility import Visibility
from tappa_theory import drift, patterns
from tappa_theory.arrays import to_numpy
from tappa_theory.predictability import TOP, shift_aware_recall

ROWS = 128
"""Query rows of a block on a processor, whose caches hold what one step leaves for the next; the
fewest elsewhere."""
CELLS = 2**26
"""Entries of a block elsewhere: with fewer, a GPU waits for what starts its kernels."""
SHARE = 2**9
"""Bytes of a GPU's memory for each of them, at least: some twenty blocks of float64 live at a time,
beside the model and the features of two layers."""
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
    """Consecutive rows of the maps of H heads over the keys 0..W-1 that any of them can see.

    first: position of the first row. repeated: number of rows, from the first on, that the block
    before showed, too. rows: (R,) positions. logits: (H, R, W), -inf where hidden. attention:
    (H, R, W). start: number of keys from key 0 on that all rows see; visible: (R, W - start) bool,
    which of the other keys each row sees.
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
            self.logits[:, skip:],
            self.attention[:, skip:],
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


def heads_together(length: int, device: torch.device) -> int:
    """Heads whose maps are looked at together: no more than fit into a block of the fewest rows."""
    return max(cells(device) // ((ROWS + REPEATED) * length), 1)


def rows_of_block(length: int, device: torch.device, heads: int = 1) -> int:
    """Rows of a block of that many heads of a text of that length."""
    if device.type == "cpu":
        return ROWS
    return max(ROWS, cells(device) // (heads * length))


def cells(device: torch.device) -> int:
    """Entries of a block on a GPU, of which many fit into its memory."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return CELLS
    return min(CELLS, torch.cuda.get_device_properties(device).total_memory // SHARE)


def _kept(heads: int, length: int, device: torch.device) -> bool:
    """Are there few enough entries to keep all blocks?"""
    if device.type == "cpu":
        return length <= KEPT
    return length <= KEPT_BLOCKS * rows_of_block(length, device, heads)


def row_blocks(
    query: torch.Tensor, key: torch.Tensor, visibility: Visibility, softcap: float | None
) -> Iterator[Block]:
    """Blocks of consecutive rows; each repeats the last rows of those before, `REPEATED` at most.

    query, key: (H, T, F) logit features, float64.
    """
    length, device = visibility.length, query.device
    size = rows_of_block(length, device, len(query))
    for begin in range(0, length, size):
        first, stop = max(begin - REPEATED, 0), min(begin + size, length)
        rows = torch.arange(first, stop, device=device)
        logits = query[:, first:stop] @ key[:, :stop].mT
        if softcap is not None:
            logits = logits.div_(softcap).tanh_().mul_(softcap)
        start = same_start(visibility, first)
        visible = visibility.block(rows, torch.arange(start, stop, device=device))
        logits[..., start:].masked_fill_(~visible, -torch.inf)
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
) -> list[Attention]:
    """Measure the attention maps of heads from their logit features, (H, T, F) float64 each.

    watchers: called with every block, in order.
    """
    heads, length, device = len(query), visibility.length, query.device
    blocks: Iterable[Block] = row_blocks(query, key, visibility, softcap)
    kept = _kept(heads, length, device)
    if kept:
        blocks = list(blocks)
    rows = _observed(visibility)
    row_std, column_sum = torch.zeros((2, heads, length), dtype=torch.float64, device=device)
    steps = _Steps(visibility)
    for block in blocks:
        new = block.repeating(0)
        spread, change = _rows_and_steps(block.repeating(1), steps.shrinking)
        row_std[:, new.first : new.stop] = spread
        steps.add(block.repeating(1), change)
        for watch in watchers:
            watch(block)
        part = _observed_part(new, rows)
        if part is not None:
            column_sum[:, : part.attention.shape[-1]] += _column_sums(part)
    shown: Sequence[patterns.Observed | None] = [None] * heads
    if visibility.tokens >= patterns.THRESHOLDS.shortest and len(rows):
        again = blocks if kept else row_blocks(query, key, visibility, softcap)
        shown = _observed_patterns(again, rows, to_numpy(column_sum), device)
    changes = steps.changes(heads)
    recalls = steps.mean_recalls(patterns.observed_rows(length), heads)
    return [
        Attention(
            row_std=row_std[head],
            lines=seen.lines if seen else None,
            season=seen.season if seen else None,
            season_lag=seen.season_lag if seen else None,
            pattern=seen.pattern if seen else None,
            recall=recalls[head],
            divergence=changes[0, head],
            key_metric=changes[1, head],
            oscillation=changes[2, head],
        )
        for head, seen in enumerate(shown)
    ]


def _observed_patterns(
    blocks: Iterable[Block], rows: np.ndarray, column_sum: np.ndarray, device: torch.device
) -> list[patterns.Observed]:
    """What the maps show, from a second pass; column_sum: (H, T)."""
    found = _second_pass(blocks, rows, patterns.columns_of(column_sum, rows), device)
    shown = []
    for columns, offsets, similarity, moved, energy in zip(column_sum, *found, strict=True):
        lines = patterns.read_lines(columns, offsets, rows)
        alike = patterns.moved_similarity(float(moved), float(energy), rows)
        shown.append(patterns.shown(lines, similarity, alike))
    return shown


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
        return found.std[:, block.repeated :], change
    attention = block.attention[:, :-1]
    if shrinking:
        attention = attention * (block.visible[:-1] & block.visible[1:])
        total = attention.sum(dim=-1, keepdim=True)
        attention = attention / torch.where(total > 0, total, 1.0)
    change = drift.step_change(block.logits[:, 1:] - block.logits[:, :-1], attention)
    return _row_std(block.repeating(0)), change


def _row_std(block: Block) -> torch.Tensor:
    start = block.start
    count = (block.visible.sum(dim=-1) + start).clamp_(min=1)
    before, tail = block.logits[..., :start], block.logits[..., start:]
    hidden = ~block.visible
    total = before.sum(dim=-1) + tail.masked_fill(hidden, 0.0).sum(dim=-1)
    mean = (total / count)[..., None]
    norm = torch.linalg.vector_norm
    squares = norm(before - mean, dim=-1) ** 2
    squares += norm((tail - mean).masked_fill_(hidden, 0.0), dim=-1) ** 2
    return (squares / count).sqrt_()


def _observed(visibility: Visibility) -> np.ndarray:
    """Positions of the rows that count: after the warm-up, not padding."""
    rows = np.arange(patterns.observed_rows(visibility.length), visibility.length)
    return rows if visibility.valid is None else rows[to_numpy(visibility.valid)[rows]]


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of a block that count: positions of the first and the last, and on the device of all
    (R,); attention (H, R, W)."""

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
    return _Part(first, last, block.rows[index], block.attention[:, index])


def _column_sums(part: _Part) -> torch.Tensor:
    """`patterns.column_sums`; keys that are local to none of the rows take no mask."""
    far = max(part.first - patterns.THRESHOLDS.local + 1, 0)
    near = patterns.column_sums(part.attention[..., far:], part.rows - far)
    return torch.cat([part.attention[..., :far].sum(dim=-2), near], dim=-1)


class _Steps:
    """Collects what the steps from one row to the next show."""

    def __init__(self, visibility: Visibility) -> None:
        # Only then can a row lose keys that the row before could see.
        self.shrinking = visibility.window is not None or visibility.valid is not None
        # (H, n) and (3, H, n) by block: recall; divergence, key metric and oscillation
        self.recall: list[torch.Tensor] = []
        self.change: list[torch.Tensor] = []

    def add(self, block: Block, change: drift.StepChange) -> None:
        if len(block.rows) < 2:
            return
        self.change.append(torch.stack([change.divergence, change.key_metric, change.oscillation]))
        recall = torch.full_like(change.divergence, torch.nan)
        if block.attention.shape[-1] > TOP:
            recall = shift_aware_recall(block.attention)
            if self.shrinking:  # nothing leads from a row of padding to the next
                recall = torch.where(block.visible[:-1].any(dim=-1), recall, torch.nan)
        self.recall.append(recall)

    def changes(self, heads: int) -> np.ndarray:
        """(3, H, T - 1): divergence, key metric and oscillation of every step."""
        return to_numpy(torch.cat(self.change, dim=-1)) if self.change else np.zeros((3, heads, 0))

    def mean_recalls(self, first: int, heads: int) -> list[float | None]:
        """Of each head, over the steps from row `first` on."""
        if not self.recall:
            return [None] * heads
        values = to_numpy(torch.cat(self.recall, dim=-1))[:, max(first, TOP) :]
        finite = [each[np.isfinite(each)] for each in values]
        return [float(each.mean()) if each.size else None for each in finite]


class _OffColumns(NamedTuple):
    """What the second pass finds of each head off its columns.

    offset_sum: (H, T) attention by offset. similarity: (H, R) `patterns.lag_similarity` of the
    rows. moved, energy: (H,) as in `patterns.moved_similarity`.
    """

    offset_sum: np.ndarray
    similarity: np.ndarray
    moved: np.ndarray
    energy: np.ndarray


def _second_pass(
    blocks: Iterable[Block], rows: np.ndarray, columns: np.ndarray, device: torch.device
) -> _OffColumns:
    """columns: (H, T) bool, which keys are columns."""
    flags = torch.tensor(columns, device=device)
    kept, signs = (~flags).to(torch.float64), _signs(flags.shape[1], device)
    offset_sum = torch.zeros_like(kept)
    moved, energy = torch.zeros((2, len(flags)), dtype=torch.float64, device=device)
    sketches, before, row = [], offset_sum[:, :0], -2
    for block in blocks:
        part = _observed_part(block.repeating(0), rows)
        if part is None:
            continue
        attention, width = part.attention, part.attention.shape[-1]
        first = part.first if part.last - part.first + 1 == len(part.rows) else None
        sums = patterns.offset_sums(attention, part.rows, flags[:, :width], first)
        offset_sum[:, :width] += sums
        rest = attention * kept[:, None, :width]
        sketches.append(rest @ signs[:width])
        energy += torch.linalg.vector_norm(rest, dim=(1, 2)) ** 2
        moved += patterns.moved_products(rest, part.rows)
        if part.first == row + 1:  # the row before ended the part before
            moved += (before * rest[:, 0, 1 : before.shape[1] + 1]).sum(dim=-1)
        row, before = part.last, rest[:, -1].clone()
    similarity = patterns.lag_similarity(torch.cat(sketches, dim=1))
    return _OffColumns(*map(to_numpy, (offset_sum, similarity, moved, energy)))


@lru_cache(maxsize=4)
def _signs(length: int, device: torch.device) -> torch.Tensor:
    """(T, SKETCH) random signs, the same for every head."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(length, SKETCH))
    return torch.tensor(signs, device=device)
