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
from gpu_check.rows import followed, logit_error, same_start, square_distances
from tappa_theory.patterns import observed_rows
from tappa_theory.separable import evaluate
from tappa_theory.theorems.lifetime import BY_NORMS, DISTANCE

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
        # BY_NORMS is proportional to the distance: evaluate would miss its value otherwise.
        self.slope = float(
            evaluate(
                BY_NORMS / DISTANCE,
                {"lambda": self.squares.new_tensor(head.scale), "query_move": 1.0},
            )
        )
        length, device = head.visibility.length, query.device
        self.first = observed_rows(length)
        self.top = torch.zeros(length, dtype=torch.int64, device=device)
        self.radius, self.radius_discarded = (
            torch.zeros(length, dtype=torch.float64, device=device) for _ in range(2)
        )
        shape = length, HORIZON
        # Of row r and step s: whether the top key of row r - s has been overtaken in row r.
        self.by_old = torch.zeros(shape, dtype=torch.bool, device=device)
        self.by_any = torch.zeros(shape, dtype=torch.bool, device=device)
        # Of the last block: 1 where a key is discarded, else 0, and 0 or -inf. Sums and
        # maxima by factors and terms take a tenth of the time of a choice by a mask.
        self.gone = self.lost = self.squares

    def add(self, block: Block) -> None:
        """Take the next block of rows: its radii, and which earlier top keys it sees overtaken."""
        block = new_rows(block)
        rows, width = block.rows, block.logits.shape[1]
        if int(rows[-1]) < self.first:
            return
        if self.softcap is None:
            seen = block.logits.clone()
        else:
            seen = self.head.scale * (self.query[rows] @ self.key[:width].T)
        start = same_start(self.head.visibility, rows)
        seen[:, start:].masked_fill_(~block.visible[:, start:], -torch.inf)
        highest, top = seen.max(dim=1)
        self.top[rows] = top
        self._overtaken(rows, seen, highest)
        # Most rows share their top key with others.
        tops, place = top.unique(return_inverse=True)
        squares = square_distances(
            self.key[tops], self.key[:width], self.squares[tops], self.squares[:width]
        )
        near = squares.clamp_(min=SMALLEST).reciprocal_()[place]
        # Rounding of two margins, the one here and the one later, must not make a certificate.
        margin = torch.sub(highest[:, None] - 4 * self.error, seen, out=seen).clamp_(min=0)
        ratio = margin.square_().mul_(near)
        ratio.scatter_(1, top[:, None], torch.inf)
        self.radius[rows] = ratio.amin(dim=1).sqrt() / self.slope
        discarded = (block.attention < _threshold(block)[:, None]).logical_and_(block.visible)
        self.gone = discarded.to(torch.float64)
        self.lost = no_key(self.gone)
        self.radius_discarded[rows] = ratio.sub_(self.lost).amin(dim=1).sqrt() / self.slope

    def _overtaken(self, rows: torch.Tensor, seen: torch.Tensor, highest: torch.Tensor) -> None:
        """Note whether the top keys of the rows up to HORIZON before are still on top."""
        steps = torch.arange(1, HORIZON + 1, device=rows.device)
        earlier = (rows[:, None] - steps).clamp_(min=0)
        own = seen.gather(1, self.top[earlier])
        start = max(int(rows[0]) - HORIZON, 0)
        old = seen[:, start:].cummax(dim=1).values
        if start:
            old = torch.maximum(old, seen[:, :start].amax(dim=1, keepdim=True))
        old = old.gather(1, earlier.sub_(start).clamp_(min=0))
        left = torch.isneginf(own)  # out of the sliding window
        self.by_old[rows] = (old > own).logical_or_(left)
        self.by_any[rows] = (highest[:, None] > own).logical_or_(left)

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
        length = self.head.visibility.length
        steps = torch.arange(HORIZON, device=self.query.device)
        later = torch.arange(length, device=self.query.device)[:, None] + steps + 1
        there, later = later < length, later.clamp(max=length - 1)
        by_old, by_any = (by[later, steps] & there for by in (self.by_old, self.by_any))
        return _first(by_old), _first(by_any)

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


def no_key(factor: torch.Tensor) -> torch.Tensor:
    """0 where the factor is 1, -inf where it is 0: as a term it leaves a key out of a maximum."""
    return factor.reciprocal().neg_().add_(1)


def _threshold(block: Block) -> torch.Tensor:
    """(R,) attention from which a key of the row is kept."""
    count = torch.ceil(block.visible.sum(dim=1) * KEPT_SHARE).to(torch.int64).clamp(min=1)
    most = int(count.max())
    # Ahead of the keys of a row that keeps fewer, as many infinities: all then look for one rank.
    ahead = torch.arange(most - int(count.min()), device=count.device) < (most - count)[:, None]
    infinities = torch.where(ahead, torch.inf, -torch.inf).to(torch.float64)
    padded = torch.cat([block.attention, infinities], dim=1)
    return padded.topk(most, dim=1, sorted=False).values.amin(dim=1)


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
