"""What a head's attention map shows, row block by row block, without holding a T x T matrix.

Everything *observed* comes from here, and from the attention map alone: columns, offsets and
season, predictability, and how much one row differs from the next.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gpu_check.visibility import Visibility
from tappa_theory import drift, patterns
from tappa_theory.predictability import TOP, shift_aware_recall

ROWS = 128
"""Query rows of a block."""
KEPT = 2048
"""Longest text whose attention blocks are kept for the second pass, not computed again."""
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
    """Rows `rows` of a map over the keys 0..W-1 that any of them can see."""

    rows: torch.Tensor
    logits: torch.Tensor
    visible: torch.Tensor
    attention: torch.Tensor


def new_rows(block: Block) -> Block:
    """The block without the row that repeats the last one of the block before."""
    if int(block.rows[0]) == 0:
        return block
    return Block(block.rows[1:], block.logits[1:], block.visible[1:], block.attention[1:])


def row_blocks(
    query: torch.Tensor, key: torch.Tensor, visibility: Visibility, softcap: float | None
) -> Iterator[Block]:
    """Blocks of consecutive rows; each but the first repeats the last row of the one before.

    query, key: (T, F) logit features, float64.
    """
    length = visibility.length
    for start in range(0, length, ROWS):
        first, stop = max(start - 1, 0), min(start + ROWS, length)
        rows = torch.arange(first, stop, device=query.device)
        logits = query[first:stop] @ key[:stop].T
        visible = visibility.block(rows, torch.arange(stop, device=query.device))
        seen = logits if softcap is None else softcap * torch.tanh(logits / softcap)
        weights = torch.where(visible, seen, -torch.inf)
        # A row of padding sees nothing; its attention is zero, not NaN.
        attention = torch.softmax(weights, dim=-1).nan_to_num_(nan=0.0)
        yield Block(rows, seen, visible, attention)


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
    if length <= KEPT:
        blocks = list(blocks)
    first = patterns.observed_rows(length)
    rows = torch.arange(first, length, device=device)
    if visibility.valid is not None:
        rows = rows[visibility.valid.to(device)[rows]]
    row_std = torch.zeros(length, dtype=torch.float64, device=device)
    column_sum = torch.zeros(length, dtype=torch.float64, device=device)
    steps = _Steps(visibility)
    for block in blocks:
        row_std[block.rows] = _row_std(block)
        steps.add(block)
        for watch in watchers:
            watch(block)
        part = _observed_part(block, first, visibility)
        if part is not None:
            width = part.attention.shape[1]
            column_sum[:width] += patterns.column_sums(part.attention, part.rows)
    lines = season = season_lag = pattern = None
    if visibility.tokens >= patterns.THRESHOLDS.shortest and len(rows):
        again = blocks if length <= KEPT else row_blocks(query, key, visibility, softcap)
        columns = patterns.columns_of(column_sum, rows)
        found = _second_pass(again, first, columns, visibility)
        lines = patterns.read_lines(column_sum, found.offset_sum, rows)
        moved = patterns.moved_similarity(found.moved, found.energy, rows)
        season_lag, strength = patterns.season(patterns.lag_similarity(found.sketch), moved)
        season = strength * lines.rest
        pattern = patterns.classify(lines, season)
    return Attention(
        row_std=row_std,
        lines=lines,
        season=season,
        season_lag=season_lag,
        pattern=pattern,
        recall=steps.mean_recall(first),
        divergence=np.concatenate(steps.divergence),
        key_metric=np.concatenate(steps.key_metric),
        oscillation=np.concatenate(steps.oscillation),
    )


def _row_std(block: Block) -> torch.Tensor:
    count = block.visible.sum(dim=1).clamp(min=1)
    mean = torch.where(block.visible, block.logits, 0.0).sum(dim=1) / count
    centred = torch.where(block.visible, block.logits - mean[:, None], 0.0)
    return (centred.square().sum(dim=1) / count).sqrt()


def _observed_part(block: Block, first: int, visibility: Visibility) -> Block | None:
    """The rows of a block that count: after the warm-up, not the repeated one, not padding."""
    start = max(first - int(block.rows[0]), 1 if int(block.rows[0]) > 0 else 0)
    part: slice | torch.Tensor = slice(start, None)
    if visibility.valid is not None:
        counted = visibility.valid.to(block.rows.device)[block.rows]
        counted[:start] = False
        part = counted
    if not len(block.rows[part]):
        return None
    return Block(block.rows[part], block.logits[part], block.visible[part], block.attention[part])


class _Steps:
    """Collects what the steps from one row to the next show."""

    def __init__(self, visibility: Visibility) -> None:
        # Only then can a row lose keys that the row before could see.
        self.shrinking = visibility.window is not None or visibility.valid is not None
        self.recall: list[np.ndarray] = []
        self.divergence: list[np.ndarray] = [np.zeros(0)]
        self.key_metric: list[np.ndarray] = [np.zeros(0)]
        self.oscillation: list[np.ndarray] = [np.zeros(0)]

    def add(self, block: Block) -> None:
        if len(block.rows) < 2:
            return
        attention = block.attention[:-1]
        if self.shrinking:
            attention = attention * (block.visible[:-1] & block.visible[1:])
            total = attention.sum(dim=1, keepdim=True)
            attention = attention / torch.where(total > 0, total, 1.0)
        change = drift.step_change(block.logits[1:] - block.logits[:-1], attention)
        self.divergence.append(change.divergence.cpu().numpy())
        self.key_metric.append(change.key_metric.cpu().numpy())
        self.oscillation.append(change.oscillation.cpu().numpy())
        if block.attention.shape[1] > TOP:
            recall = shift_aware_recall(block.attention)
            # Nothing leads from a row of padding to the next.
            seen = block.visible[:-1].any(dim=1)
            self.recall.append(torch.where(seen, recall, torch.nan).cpu().numpy())
        else:
            self.recall.append(np.full(len(block.rows) - 1, np.nan))

    def mean_recall(self, first: int) -> float | None:
        if not self.recall:
            return None
        values = np.concatenate(self.recall)[max(first, TOP) :]
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


def _second_pass(
    blocks: Iterable[Block], first: int, columns: np.ndarray, visibility: Visibility
) -> _OffColumns:
    generator = np.random.default_rng(0)
    signs = torch.tensor(generator.choice([-1.0, 1.0], size=(len(columns), SKETCH)))
    offset_sum, sketches = torch.zeros(len(columns), dtype=torch.float64), []
    moved = energy = 0.0
    row, before = -2, torch.zeros(0)
    for block in blocks:
        part = _observed_part(block, first, visibility)
        if part is None:
            continue
        device, width = part.attention.device, part.attention.shape[1]
        flags = torch.tensor(columns[:width], device=device)
        offset_sum[:width] += patterns.offset_sums(part.attention, part.rows, flags).cpu()
        rest = torch.where(flags[None, :], 0.0, part.attention)
        sketches.append(rest @ signs[:width].to(device))
        energy += float(rest.square().sum())
        moved += float(patterns.moved_products(rest, part.rows))
        if int(part.rows[0]) == row + 1:  # the row before ended the part before
            moved += float((before * rest[0, 1 : len(before) + 1]).sum())
        row, before = int(part.rows[-1]), rest[-1]
    return _OffColumns(offset_sum, torch.cat(sketches).cpu(), moved, energy)
