"""How long the top key of a row stays on top: as certified when the row is computed, and observed.

The certificate is theorem `lifetime` by norms: while the query after RoPE has moved by less than
the row's radius, min over the rivals i of (a_{t,j} - a_{t,i}) / (lambda ||k_j - k_i||), no rival
can overtake the key j. It says nothing of keys that come after the row. The same over fewer rivals,
the keys that would be discarded, gives a larger radius: see `gpu_check.reuse`.
"""

from typing import Any

import numpy as np
import torch

from gpu_check.attention import Block, new_rows
from gpu_check.pairs import SMALLEST, UNIT_ROUNDOFF, Head
from gpu_check.rows import followed, logit_error, square_distances
from tappa_theory.separable import evaluate
from tappa_theory.theorems.lifetime import BY_NORMS

KEPT_SHARE = 0.25
"""Share of the visible keys that is kept: the most attended, rounded up, ties included."""
HORIZON = 64
"""Steps for which a top key is followed; one still on top then counts as HORIZON."""


class Lifetimes:
    """Collects blocks of rows in order; `summary` tells the lifetimes of the head.

    query, key: (T, d) after RoPE, float64. softcap: of the logits; it keeps their order.
    """

    def __init__(
        self, head: Head, query: torch.Tensor, key: torch.Tensor, softcap: float | None = None
    ) -> None:
        self.head, self.query, self.key, self.softcap = head, query, key, softcap
        self.error = logit_error(head, query, key)
        self.squares = key.square().sum(dim=-1)
        length, device = head.visibility.length, query.device
        self.top = torch.zeros(length, dtype=torch.int64, device=device)
        self.radius, self.radius_discarded, self.kept = (
            torch.zeros(length, dtype=torch.float64, device=device) for _ in range(3)
        )
        shape = length, HORIZON
        self.by_old = torch.zeros(shape, dtype=torch.bool, device=device)
        self.by_any = torch.zeros(shape, dtype=torch.bool, device=device)

    def add(self, block: Block) -> None:
        """Take the next block of rows: its radii, and which earlier top keys it sees overtaken."""
        block = new_rows(block)
        rows, width = block.rows, block.logits.shape[1]
        logits = block.logits
        if self.softcap is not None:
            logits = self.head.scale * (self.query[rows] @ self.key[:width].T)
        seen = torch.where(block.visible, logits, -torch.inf)
        highest, top = seen.max(dim=1)
        self.top[rows] = top
        squares = square_distances(
            self.key[top], self.key[:width], self.squares[top], self.squares[:width]
        )
        # Rounding of two margins, the one here and the one later, must not make a certificate.
        margin = highest[:, None] - seen - 4 * self.error
        values = {"lambda": self.head.scale, "query_move": 1.0}
        per_move = evaluate(BY_NORMS, values | {"key_distance": squares.sqrt_()})
        ratio = margin / per_move.clamp(min=SMALLEST)
        ratio[torch.arange(len(rows), device=rows.device), top] = torch.inf
        self.radius[rows] = ratio.amin(dim=1).clamp(min=0)
        self.kept[rows] = threshold = _threshold(block)
        ratio.masked_fill_(block.attention >= threshold[:, None], torch.inf)
        self.radius_discarded[rows] = ratio.amin(dim=1).clamp(min=0)
        self._overtaken(rows, seen, highest)

    def _overtaken(self, rows: torch.Tensor, seen: torch.Tensor, highest: torch.Tensor) -> None:
        """Note for rows r and steps s whether the top key of row r - s is still on top in row r."""
        steps = torch.arange(1, HORIZON + 1, device=rows.device)
        earlier = rows[:, None] - steps
        there = earlier >= 0
        earlier = earlier.clamp(min=0)
        own = seen.gather(1, self.top[earlier])
        start = max(int(rows[0]) - HORIZON, 0)
        old = seen[:, start:].cummax(dim=1).values
        if start:
            old = torch.maximum(old, seen[:, :start].amax(dim=1, keepdim=True))
        old = old.gather(1, (earlier - start).clamp(min=0))
        left = torch.isneginf(own)  # out of the sliding window
        where = earlier[there], steps.expand_as(earlier)[there] - 1
        self.by_old[where] = ((old > own) | left)[there]
        self.by_any[where] = ((highest[:, None] > own) | left)[there]

    def certified(self) -> torch.Tensor:
        """(T,) steps for which the certificate of each row holds, without a gap, up to HORIZON."""
        length = self.head.visibility.length
        steps = torch.zeros(length, dtype=torch.int64, device=self.query.device)
        alive = torch.arange(length, device=self.query.device)
        for step in range(1, min(HORIZON, length - 1) + 1):
            alive = alive[alive + step < length]
            alive = alive[self.holds(alive, step, self.radius)]
            if not len(alive):
                break
            steps[alive] = step
        return steps

    def holds(self, rows: torch.Tensor, step: int, radius: torch.Tensor) -> torch.Tensor:
        """(R,) bool: is the query `step` rows later within the radius, the top key in sight?"""
        inside = self.move(rows, step) < radius[rows]
        if self.head.visibility.window is not None:
            inside &= self.top[rows] > rows + step - self.head.visibility.window
        return inside

    def move(self, rows: torch.Tensor, step: int) -> torch.Tensor:
        """(R,) no less than |q_{t + step} - q_t| after RoPE."""
        rounding = 1 + (self.query.shape[1] + 8) * UNIT_ROUNDOFF
        return (
            torch.linalg.vector_norm(self.query[rows + step] - self.query[rows], dim=-1) * rounding
        )

    def observed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(T,) each: steps until a key of the row itself overtakes, and until any key does."""
        return _first(self.by_old), _first(self.by_any)

    def summary(self) -> dict[str, Any] | None:
        """The "lifetime" of a head in check.json; None if no row can be followed for HORIZON."""
        rows = followed(self.head.visibility, HORIZON).to(self.query.device)
        if not bool(rows.any()):
            return None
        certified = self.certified()[rows]
        old, every = (steps[rows] for steps in self.observed())
        index = torch.nonzero(rows)[:, 0]
        size = torch.linalg.vector_norm(self.query[index], dim=-1).clamp(min=SMALLEST)
        move = torch.linalg.vector_norm(self.query[index + 1] - self.query[index], dim=-1)
        radius, step = (self.radius[index] / size).cpu().numpy(), (move / size).cpu().numpy()
        return {
            "rows": len(certified),
            "certified": _spread(certified),
            "observed_old": _spread(old),
            "observed": _spread(every),
            "certified_share": float((certified >= 1).double().mean()),
            "broken": int(torch.count_nonzero(certified > old)),
            "radius": _finite_median(radius),
            "step": _finite_median(step),
        }


def _threshold(block: Block) -> torch.Tensor:
    """(R,) attention from which a key of the row is kept."""
    count = torch.ceil(block.visible.sum(dim=1) * KEPT_SHARE).to(torch.int64).clamp(min=1)
    most = int(count.max())
    largest = block.attention.topk(most, dim=1).values
    return largest.gather(1, count[:, None] - 1)[:, 0]


def _first(flags: torch.Tensor) -> torch.Tensor:
    """(T,) number of steps before the first flag, HORIZON if there is none."""
    first = flags.to(torch.int8).argmax(dim=1)
    return torch.where(flags.any(dim=1), first, HORIZON)


def _spread(steps: torch.Tensor) -> dict[str, float]:
    numbers = steps.cpu().numpy().astype(np.float64)
    low, median, high = np.quantile(numbers, (0.1, 0.5, 0.9))
    return {
        "mean": float(numbers.mean()),
        "median": float(median),
        "low": float(low),
        "high": float(high),
    }


def _finite_median(numbers: np.ndarray) -> float | None:
    """Median, None where it is not finite: a row without a rival has no radius."""
    median = float(np.median(numbers))
    return median if np.isfinite(median) and median < 1 / SMALLEST**0.5 else None
