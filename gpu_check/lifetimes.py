"""How long the top keys of rows stay on top: as certified when the row is computed, and observed.

The certificate is theorem `lifetime` by angle: while the query after RoPE has turned by less than
the row's angle, the least over the rivals i of asin min(1, (a_{t,j} - a_{t,i}) / (lambda ||q_t||
||k_j - k_i||)), no rival can overtake the key j, whatever the norm of the query becomes. It says
nothing of keys that come after the row. The same over fewer rivals, the keys that would be
discarded, gives a larger angle: see `gpu_check.reuse`.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gpu_check.attention import Block, fused
from gpu_check.pairs import SMALLEST, Head
from gpu_check.rows import followed, logit_errors, seen_keys, square_distances
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
CHORDS = 2**19, 2**24
"""Numbers that distances of directions are taken of together, on a processor and elsewhere."""


class Lifetimes:
    """Collects blocks of rows in order; `summary` tells the lifetimes of each head.

    head: one of the heads; their RoPE, scale and visibility are the same. query, key: (H, T, d)
    after RoPE, float64. softcap: of the logits; it keeps their order.
    """

    def __init__(
        self, head: Head, query: torch.Tensor, key: torch.Tensor, softcap: float | None = None
    ) -> None:
        self.head, self.query, self.key, self.softcap = head, query, key, softcap
        self.errors = logit_errors(head, query, key)
        self.error = torch.tensor(self.errors, dtype=torch.float64, device=query.device)[:, None]
        self.squares = key.square().sum(dim=-1)
        norms = torch.linalg.vector_norm(query, dim=-1)
        # Smaller ones have squares that underflow; a zero query has no direction at all.
        self.directed = norms > SMALLEST**0.5
        self.norms = torch.where(self.directed, norms, 1.0)
        self.directions = query / self.norms[..., None]
        heads, length, device = len(query), head.visibility.length, query.device
        self.first = observed_rows(length)
        kept = np.maximum(np.ceil(KEPT_SHARE * seen_keys(head.visibility)), 1)
        self.kept = torch.tensor(kept.astype(np.int64), device=device)
        self.top = torch.zeros((heads, length), dtype=torch.int64, device=device)
        # (2, H, T) squares of the least lead over distance: of all rivals, and of the keys that
        # would be discarded.
        self.leads = torch.zeros((2, heads, length), dtype=torch.float64, device=device)
        shape = heads, length, HORIZON
        # Of row r and step s: whether the top key of row r - s has been overtaken in row r.
        self.by_old = torch.zeros(shape, dtype=torch.bool, device=device)
        self.by_any = torch.zeros(shape, dtype=torch.bool, device=device)
        # Of the last block: the attention from which a key is kept.
        self.threshold = self.squares
        # Where no kernel does it: 1 where a key is discarded, else 0, and 0 or -inf. Sums and
        # maxima by factors and terms take a tenth of the time of a choice by a mask.
        self.gone = self.lost = self.squares

    def add(self, block: Block) -> None:
        """Take the next block of rows: its angles, and which earlier top keys it sees overtaken."""
        if block.stop <= self.first:
            return
        own, start, width = slice(block.first, block.stop), block.start, block.logits.shape[-1]
        seen = block.logits
        if self.softcap is not None:
            seen = self.head.scale * (self.query[:, own] @ self.key[:, :width].mT)
            seen[..., start:].masked_fill_(~block.visible, -torch.inf)
        highest, top = seen.max(dim=-1)
        self.top[:, own] = top
        self._overtaken(block, seen, highest)
        # Rounding of two margins must not make a certificate. The one later errs in proportion
        # to a norm that may be another: 2 e |q'|, where here it is 2 e |q| <= 2 error. With the
        # exact lead, less by 4 error below, as lambda |q||d| sin(b), and b' from the rest, a turn
        # below b' leaves lambda |q'||d| sin(b - b') >= lambda |q'||d| (sin b - sin b') >= 2 e |q'|.
        level = highest - 4 * self.error
        self.threshold = self._threshold(block)
        if fused(seen):
            from gpu_check.kernels.least_leads import least_leads

            self.leads[..., own] = least_leads(
                seen,
                block.attention,
                self._squares(top, width),
                levels=level,
                top=top,
                thresholds=self.threshold,
                first=block.first,
                smallest=SMALLEST,
            )
            return
        margin = (level[..., None] - seen).clamp_(min=0)
        ratio = margin.square_().mul_(self._nearness(top, width))
        ratio.scatter_(-1, top[..., None], torch.inf)
        self.leads[0][:, own] = ratio.amin(dim=-1)
        discarded = block.attention < self.threshold[..., None]
        discarded[..., start:] &= block.visible
        self.gone = discarded.to(torch.float64)
        self.lost = no_key(self.gone)
        self.leads[1][:, own] = ratio.sub_(self.lost).amin(dim=-1)

    def _nearness(self, top: torch.Tensor, width: int) -> torch.Tensor:
        """(H, R, W): 1 over the squared distance of each row's top key, (H, R), to every key."""
        found = []
        for key, squares, one in zip(self.key, self.squares, top, strict=True):
            # Most rows share their top key with others.
            keys, place = one.unique(return_inverse=True)
            apart = square_distances(key[keys], key[:width], squares[keys], squares[:width])
            found.append(apart.clamp_(min=SMALLEST).reciprocal_()[place])
        return torch.stack(found)

    def _squares(self, top: torch.Tensor, width: int) -> torch.Tensor:
        """(H, R, W): `square_distances` of the keys `top`, (H, R), to every key."""
        keys = self.key.gather(1, top[..., None].expand(*top.shape, self.key.shape[-1]))
        squares = self.squares.gather(1, top)
        return square_distances(keys, self.key[:, :width], squares, self.squares[:, :width])

    def _threshold(self, block: Block) -> torch.Tensor:
        """(H, R) attention from which a key of the row is kept."""
        counts, attention = self.kept[block.first : block.stop], block.attention
        if fused(attention):
            from gpu_check.kernels.kth_largest import LARGEST, kth_largest

            if attention.shape[-1] <= LARGEST:
                each = counts.expand(attention.shape[:2]).flatten()
                return kth_largest(attention.flatten(0, 1), each).view(attention.shape[:2])
        most, fewest = int(counts.max()), int(counts.min())
        # Ahead of the keys of a row that keeps fewer, infinities: all then look for one rank.
        ahead = torch.arange(most - fewest, device=counts.device) < (most - counts)[:, None]
        infinities = torch.where(ahead, torch.inf, -torch.inf).to(torch.float64)
        padded = torch.cat([attention, infinities.expand(len(attention), -1, -1)], dim=-1)
        return padded.topk(most, dim=-1, sorted=False).values.amin(dim=-1)

    @property
    def angle(self) -> torch.Tensor:
        """(H, T) radians, no more than the exact ones; infinite for a row without a rival."""
        return self._angles[0]

    @property
    def angle_discarded(self) -> torch.Tensor:
        """(H, T) the same over the keys that would be discarded."""
        return self._angles[1]

    @cached_property
    def _angles(self) -> torch.Tensor:
        """(2, H, T) from the leads. An arcsine grows, so the least of the rivals' angles is that of
        the least lead over distance, at distance 1. Known once every block was taken."""
        lead = self.leads.sqrt()
        # A norm errs by (d / 2 + 2) units in the last place, the rest by 8, an arcsine by 4.
        below = 1 - (self.query.shape[-1] + 16) * UNIT_ROUNDOFF
        values = {
            "lead": lead * self.directed * below,
            "lambda": self.head.scale,
            "query_norm": self.norms,
            "key_distance": 1.0,
        }
        angle = evaluate(BY_ANGLE, values) * (1 - 8 * UNIT_ROUNDOFF)
        return torch.where(torch.isinf(lead), torch.inf, angle)

    def _overtaken(self, block: Block, seen: torch.Tensor, highest: torch.Tensor) -> None:
        """Note whether the top keys of the rows up to HORIZON before are still on top."""
        rows = block.rows
        steps = torch.arange(HORIZON, 0, -1, device=rows.device)
        earlier = (rows[:, None] - steps).clamp_(min=0)
        own = seen.gather(-1, self.top[:, earlier])
        # The highest of the keys that the earlier row had: first those of the earliest one, of
        # which all rows here have the first `begin`, then key by key.
        old = seen.gather(-1, earlier.expand(own.shape))
        begin, end = (max(row - HORIZON + 1, 0) for row in (block.first, block.stop - 1))
        later = torch.arange(begin, end, device=rows.device) > rows[:, None] - HORIZON
        for part in (seen[..., :begin], seen[..., begin:end].masked_fill(later, -torch.inf)):
            if part.shape[-1]:
                old[..., 0] = torch.maximum(old[..., 0], part.amax(dim=-1))
        old = old.cummax(dim=-1).values
        left = torch.isneginf(own)  # out of the sliding window
        for by, rivals in ((self.by_old, old), (self.by_any, highest[..., None])):
            by[:, block.first : block.stop] = (rivals > own).logical_or_(left).flip(-1)

    def certified(self) -> torch.Tensor:
        """(H, T) steps for which the certificate of each row holds without a gap, up to HORIZON."""
        rows = torch.arange(self.query.shape[1], device=self.query.device)
        later = rows[:, None] + torch.arange(1, HORIZON + 1, device=rows.device)
        inside = (self.turns < self.angle[..., None]) & (later < len(rows))
        if self.head.visibility.window is not None:
            inside &= self.top[..., None] > later - self.head.visibility.window
        return _first(~inside)

    def holds(self, step: int, angle: torch.Tensor) -> torch.Tensor:
        """(H, T) bool: is the query `step` rows later within the angle, the top key in sight?

        It means nothing where there is no such row.
        """
        inside = self.turn(step) < angle
        if self.head.visibility.window is not None:
            later = torch.arange(step, inside.shape[-1] + step, device=inside.device)
            inside &= self.top > later - self.head.visibility.window
        return inside

    @cached_property
    def turns(self) -> torch.Tensor:
        """(H, T, HORIZON) radians, no less than the angle from q_t to q_{t + step} after RoPE.

        Steps count from 1. pi, the most there is, from or to a zero query or none.
        """
        (heads, _, size), device = self.query.shape, self.query.device
        ends = 0, 0, 0, HORIZON
        # Row t is q_t and the HORIZON directions behind it: a view, of which no copy is made.
        after = torch.nn.functional.pad(self.directions, ends).unfold(1, HORIZON + 1, 1).mT
        rows = max(CHORDS[device.type != "cpu"] // (heads * HORIZON * size), 1)
        chord = torch.cat(
            [
                torch.linalg.vector_norm(part[:, :, 1:] - part[:, :, :1], dim=-1)
                for part in after.split(rows, dim=1)
            ],
            dim=1,
        )
        # A direction is off by its norm's (d / 2 + 2) units in the last place and a division's
        # one, relative to itself: two by less than (d + 8), and so is their distance. The
        # distance's own rounding is relative to it, and it is at most 2.
        units = (size + 8) * UNIT_ROUNDOFF
        values = {"query_step": chord * (1 + units) + units, "query_norm_max": 1.0}
        turn = 2 * evaluate(QUERY_ANGLE, values) * (1 + 8 * UNIT_ROUNDOFF)
        directed = torch.nn.functional.pad(self.directed, (0, HORIZON)).unfold(1, HORIZON + 1, 1)
        return torch.where(directed[..., 1:] & directed[..., :1], turn, math.pi)

    def turn(self, step: int) -> torch.Tensor:
        """(H, T) radians, no less than the angle from q_t to q_{t + step}, a step up to HORIZON."""
        return self.turns[..., step - 1]

    def move(self, step: int) -> torch.Tensor:
        """(H, T) no less than |q_{t + step} - q_t| after RoPE, 0 where there is no such row."""
        _, whole, size = self.query.shape
        rounding = 1 + (size + 8) * UNIT_ROUNDOFF
        length = max(whole - step, 0)
        moved = torch.linalg.vector_norm(self.query[:, step:] - self.query[:, :length], dim=-1)
        return torch.nn.functional.pad(moved * rounding, (0, whole - length))

    def observed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(H, T) each: steps until a key of the row itself overtakes, and until any key does."""
        length = self.head.visibility.length
        steps = torch.arange(HORIZON, device=self.query.device)
        later = torch.arange(length, device=self.query.device)[:, None] + steps + 1
        there, later = later < length, later.clamp(max=length - 1)
        by_old, by_any = (by[:, later, steps] & there for by in (self.by_old, self.by_any))
        return _first(by_old), _first(by_any)

    def summary(self) -> list[dict[str, Any] | None]:
        """The "lifetime" of each head in check.json; None if no row can be followed for HORIZON."""
        rows = followed(self.head.visibility, HORIZON).numpy()
        if not rows.any():
            return [None] * len(self.query)
        steps = [each.double() for each in (self.certified(), *self.observed())]
        # Read in one go: a GPU is waited for only once.
        numbers = to_numpy(torch.stack([*steps, self.angle, self.turn(1)]))
        return [_told(*numbers[:, head, rows]) for head in range(len(self.query))]


def _told(
    certified: np.ndarray, old: np.ndarray, every: np.ndarray, angle: np.ndarray, turn: np.ndarray
) -> dict[str, Any]:
    """What is told of a head whose followed rows have these numbers."""
    spreads = _spreads(np.stack([certified, old, every]))
    return {
        "rows": len(certified),
        **dict(zip(("certified", "observed_old", "observed"), spreads, strict=True)),
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
    """(..., T) number of steps before the first flag, HORIZON if there is none."""
    first = flags.to(torch.int8).argmax(dim=-1)
    return torch.where(flags.any(dim=-1), first, HORIZON)


def _spreads(steps: np.ndarray) -> list[dict[str, float]]:
    """What is told of each row of steps (N, n)."""
    low, median, high = np.quantile(steps, (0.1, 0.5, 0.9), axis=1).tolist()
    columns = zip(steps.mean(axis=1).tolist(), median, low, high, strict=True)
    return [dict(zip(("mean", "median", "low", "high"), each, strict=True)) for each in columns]


def _finite_median(numbers: np.ndarray) -> float | None:
    """Median, None where it is not finite: no angle limits a row without a rival."""
    median = float(np.median(numbers))
    return median if np.isfinite(median) else None
