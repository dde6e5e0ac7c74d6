"""Which (query, key) pairs of a layer are visible: causal, inside a sliding window, not padding."""

from dataclasses import dataclass

import torch


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
