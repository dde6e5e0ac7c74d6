"""Which (query, key) pairs of a layer are visible: causal, inside a sliding window, not padding."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Offsets:
    """The pairs (t, i) visible before and after a shift, as a band: low <= t - i < high.

    rows, columns: t and i run below these. row_counts, column_counts: bool, (rows,) and
    (columns,), true where neither the position nor the shifted one is padding; None for all.
    """

    low: int
    high: int
    rows: int
    columns: int
    row_counts: torch.Tensor | None = None
    column_counts: torch.Tensor | None = None

    def block(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(..., R, C) bool: is the pair (rows[..., r], columns[c]) one of them?"""
        offset = rows[..., :, None] - columns
        visible = (offset >= self.low) & (offset < self.high)
        if self.row_counts is not None and self.column_counts is not None:
            visible &= self.row_counts.to(rows.device)[rows][..., :, None]
            visible &= self.column_counts.to(rows.device)[columns]
        return visible

    def pairs(self) -> int:
        """Number of the pairs."""
        if self.row_counts is None or self.column_counts is None:
            return self._at_least(self.low) - self._at_least(max(self.high, self.low))
        t = torch.arange(self.rows)
        counted = self.column_counts.cpu().to(torch.int64)
        before = torch.nn.functional.pad(counted.cumsum(0), (1, 0))
        last = (t - self.low + 1).clamp(0, self.columns)
        first = torch.minimum((t - self.high + 1).clamp(0, self.columns), last)
        return int(((before[last] - before[first]) * self.row_counts.cpu()).sum())

    def _at_least(self, distance: int) -> int:
        """Number of pairs t - i >= distance, which is 0 or more."""
        growing = min(max(self.rows - distance, 0), self.columns)
        full = max(self.rows - distance - self.columns, 0)
        return growing * (growing + 1) // 2 + full * self.columns


@dataclass(frozen=True, eq=False)
class Visibility:
    """The attention mask of one text in one layer, without a T x T matrix.

    length: number of positions T. window: a query at t sees keys i > t - window; None for all.
    valid: (T,) bool, false on padding; None where there is none.
    """

    length: int
    window: int | None = None
    valid: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        """Number of positions that are not padding."""
        return self.length if self.valid is None else int(torch.count_nonzero(self.valid))

    def block(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(R, C) bool: does the query at rows[r] see the key at columns[c]?"""
        offset = rows[:, None] - columns[None, :]
        visible = offset >= 0
        if self.window is not None:
            visible &= offset < self.window
        if self.valid is not None:
            valid = self.valid.to(rows.device)
            visible &= valid[rows][:, None] & valid[columns][None, :]
        return visible

    def offsets(self, s: int, u: int) -> Offsets:
        """The pairs visible before and after the shift (s, u), both at least 0."""
        rows, columns = max(self.length - s, 0), max(self.length - u, 0)
        high = self.length if self.window is None else min(self.window, self.window + u - s)
        row_counts = column_counts = None
        if self.valid is not None:
            row_counts = self.valid[:rows] & self.valid[s:]
            column_counts = self.valid[:columns] & self.valid[u:]
        return Offsets(max(u - s, 0), high, rows, columns, row_counts, column_counts)

    def state(self, rows: tuple[int, int], columns: tuple[int, int]) -> str:
        """ "none", "all" or "some" of the pairs [rows) x [columns) may be visible (cheap test)."""
        nearest = rows[1] - 1 - columns[0]
        if nearest < 0:
            return "none"
        farthest = rows[1] - 1 - columns[0]
        closest = rows[0] - (columns[1] - 1)
        if self.window is not None and closest >= self.window:
            return "none"
        inside = self.window is None or farthest < self.window
        return "all" if closest >= 0 and inside and self.valid is None else "some"
