"""How long the top key of a row stays on top: as certified when the row is computed, and observed.

The certificate is theorem `lifetime` by angle: while the query after RoPE has turned by less than
the row's angle, the least over the rivals i of asin min(1, (a_{t,j} - a_{t,i}) / (lambda ||q_t||
||k_j - k_i||)), no rival can overtake the key j, whatever the norm of the query becomes. It says
nothing of keys that come after the row. The same over fewer rivals, the keys that would be
discarded, gives a larger angle: see `gpu_check.reuse`.
"""

import math
from typing import Any

import numpy as np
import torch

from gpu_check.attention import Block
from gpu_check.pairs import SMALLEST, Head
from gpu_check.rows import followed, logit_error, seen_keys, square_distances
from tappa_theory.arrays import to_numpy
from tappa_theory.patterns import observed_rows
from tappa_theory.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import evaluate
from tappa_theory.theorems.lifetime import BY_ANGLE
from tappa_theory.theorems.sequential import QUERY_ANGLE

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
        norms = torch.linalg.vector_norm(query, dim=-1)
        # Smaller ones have squares that underflow; a zero query has no direction at all.
        self.directed = norms > SMALLEST**0.5
        self.norms = torch.where(self.directed, norms, 1.0)
        self.directions = query / self.norms[:, None]
        length, device = head.visibility.length, query.device
        self.first = observed_rows(length)
        kept = np.maximum(np.ceil(KEPT_SHARE * seen_keys(head.visibility)), 1)
        self.kept = torch.tensor(kept.astype(np.int64), device=device)
        self.top = torch.zeros(length, dtype=torch.int64, device=device)
        self.angle, self.angle_discarded = (
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
        """Take the next block of rows: its angles, and which earlier top keys it sees overtaken."""
        if block.stop <= self.first:
            return
        own, start, width = slice(block.first, block.stop), block.start, block.logits.shape[1]
        seen = block.logits
        if self.softcap is not None:
            seen = self.head.scale * (self.query[own] @ self.key[:width].T)
            seen[:, start:].masked_fill_(~block.visible, -torch.inf)
        highest, top = seen.max(dim=1)
        self.top[own] = top
        self._overtaken(block, seen, highest)
        # Rounding of two margins must not make a certificate. The one later errs in proportion
        # to a norm that may be another: 2 e |q'|, where here it is 2 e |q| <= 2 error. With the
        # exact lead, less by 4 error below, as lambda |q||d| sin(b), and b' from the rest, a turn
        # below b' leaves lambda |q'||d| sin(b - b') >= lambda |q'||d| (sin b - sin b') >= 2 e |q'|.
        margin = (highest[:, None] - 4 * self.error - seen).clamp_(min=0)
        ratio = margin.square_().mul_(self._nearness(top, width))
        ratio.scatter_(1, top[:, None], torch.inf)
        self.angle[own] = self._angle(own, ratio.amin(dim=1).sqrt_())
        discarded = block.attention < self._threshold(block)[:, None]
        discarded[:, start:] &= block.visible
        self.gone = discarded.to(torch.float64)
        self.lost = no_key(self.gone)
        self.angle_discarded[own] = self._angle(own, ratio.sub_(self.lost).amin(dim=1).sqrt_())

    def _nearness(self, top: torch.Tensor, width: int) -> torch.Tensor:
        """(R, W): 1 over the squared distance of each row's top key, (R,), to every key."""
        place = None
        if top.device.type == "cpu":
            # Most rows share their top key with others. A GPU would be waited for to tell.
            top, place = top.unique(return_inverse=True)
        squares = square_distances(
            self.key[top], self.key[:width], self.squares[top], self.squares[:width]
        )
        near = squares.clamp_(min=SMALLEST).reciprocal_()
        return near if place is None else near[place]

    def _threshold(self, block: Block) -> torch.Tensor:
        """(R,) attention from which a key of the row is kept."""
        counts, attention = self.kept[block.first : block.stop], block.attention
        if attention.device.type == "cuda":
            from gpu_check.kernels.kth_largest import LARGEST, kth_largest

            if attention.shape[1] <= LARGEST:
                return kth_largest(attention, counts)
        most, fewest = int(counts.max()), int(counts.min())
        # Ahead of the keys of a row that keeps fewer, infinities: all then look for one rank.
        ahead = torch.arange(most - fewest, device=counts.device) < (most - counts)[:, None]
        infinities = torch.where(ahead, torch.inf, -torch.inf).to(torch.float64)
        padded = torch.cat([attention, infinities], dim=1)
        return padded.topk(most, dim=1, sorted=False).values.amin(dim=1)

    def _angle(self, rows: slice, lead: torch.Tensor) -> torch.Tensor:
        """(R,) radians, no more than the exact ones; infinite for a row without a rival.

        lead: the least lead over distance of the rivals. An arcsine grows, so the least of their
        angles is that of this one, at distance 1.
        """
        # A norm errs by (d / 2 + 2) units in the last place, the rest by 8, an arcsine by 4.
        below = 1 - (self.query.shape[1] + 16) * UNIT_ROUNDOFF
        values = {
            "lead": lead * self.directed[rows] * below,
            "lambda": self.head.scale,
            "query_norm": self.norms[rows],
            "key_distance": 1.0,
        }
        angle = evaluate(BY_ANGLE, values) * (1 - 8 * UNIT_ROUNDOFF)
        return torch.where(torch.isinf(lead), torch.inf, angle)

    def _overtaken(self, block: Block, seen: torch.Tensor, highest: torch.Tensor) -> None:
        """Note whether the top keys of the rows up to HORIZON before are still on top."""
        rows = block.rows
        steps = torch.arange(HORIZON, 0, -1, device=rows.device)
        earlier = (rows[:, None] - steps).clamp_(min=0)
        own = seen.gather(1, self.top[earlier])
        # The highest of the keys that the earlier row had: first those of the earliest one, of
        # which all rows here have the first `begin`, then key by key.
        old = seen.gather(1, earlier)
        begin, end = (max(row - HORIZON + 1, 0) for row in (block.first, block.stop - 1))
        later = torch.arange(begin, end, device=rows.device) > rows[:, None] - HORIZON
        for part in (seen[:, :begin], seen[:, begin:end].masked_fill(later, -torch.inf)):
            if part.shape[1]:
                old[:, 0] = torch.maximum(old[:, 0], part.amax(dim=1))
        old = old.cummax(dim=1).values
        left = torch.isneginf(own)  # out of the sliding window
        for by, rivals in ((self.by_old, old), (self.by_any, highest[:, None])):
            by[block.first : block.stop] = (rivals > own).logical_or_(left).flip(1)

    def certified(self) -> torch.Tensor:
        """(T,) steps for which the certificate of each row holds, without a gap, up to HORIZON."""
        length = self.head.visibility.length
        steps = torch.zeros(length, dtype=torch.int64, device=self.query.device)
        alive = torch.arange(length, device=self.query.device)
        for step in range(1, min(HORIZON, length - 1) + 1):
            alive = alive[alive + step < length]
            alive = alive[self.holds(alive, step, self.angle)]
            if not len(alive):
                break
            steps[alive] = step
        return steps

    def holds(self, rows: torch.Tensor, step: int, angle: torch.Tensor) -> torch.Tensor:
        """(R,) bool: is the query `step` rows later within the angle, the top key in sight?"""
        inside = self.turn(rows, step) < angle[rows]
        if self.head.visibility.window is not None:
            inside &= self.top[rows] > rows + step - self.head.visibility.window
        return inside

    def turn(self, rows: torch.Tensor, step: int) -> torch.Tensor:
        """(R,) radians, no less than the angle from q_t to q_{t + step} after RoPE.

        pi, the most there is, from or to a zero query.
        """
        later = rows + step
        chord = torch.linalg.vector_norm(self.directions[later] - self.directions[rows], dim=-1)
        # A direction is off by its norm's (d / 2 + 2) units in the last place and a division's
        # one, relative to itself: two by less than (d + 8), and so is their distance. The
        # distance's own rounding is relative to it, and it is at most 2.
        units = (self.query.shape[1] + 8) * UNIT_ROUNDOFF
        values = {"query_step": chord * (1 + units) + units, "query_norm_max": 1.0}
        turn = 2 * evaluate(QUERY_ANGLE, values) * (1 + 8 * UNIT_ROUNDOFF)
        return torch.where(self.directed[later] & self.directed[rows], turn, math.pi)

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
        index = torch.nonzero(followed(self.head.visibility, HORIZON))[:, 0]
        if not len(index):
            return None
        index = index.to(self.query.device)
        steps = [each[index] for each in (self.certified(), *self.observed())]
        numbers = [*(each.double() for each in steps), self.angle[index], self.turn(index, 1)]
        certified, old, every, angle, turn = to_numpy(torch.stack(numbers))
        return {
            "rows": len(certified),
            "certified": _spread(certified),
            "observed_old": _spread(old),
            "observed": _spread(every),
            "certified_share": float((certified >= 1).mean()),
            "broken": int(np.count_nonzero(certified > old)),
            "angle": _finite_median(angle),
            "turn": _finite_median(turn),
        }


def no_key(factor: torch.Tensor) -> torch.Tensor:
    """0 where the factor is 1, -inf where it is 0: as a term it leaves a key out of a maximum."""
    one = factor.new_ones(())
    return torch.addcdiv(one, one, factor, value=-1.0)


def _first(flags: torch.Tensor) -> torch.Tensor:
    """(T,) number of steps before the first flag, HORIZON if there is none."""
    first = flags.to(torch.int8).argmax(dim=1)
    return torch.where(flags.any(dim=1), first, HORIZON)


def _spread(steps: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(steps, (0.1, 0.5, 0.9))
    return {
        "mean": float(steps.mean()),
        "median": float(median),
        "low": float(low),
        "high": float(high),
    }


def _finite_median(numbers: np.ndarray) -> float | None:
    """Median, None where it is not finite: no angle limits a row without a rival."""
    median = float(np.median(numbers))
    return median if np.isfinite(median) else None
