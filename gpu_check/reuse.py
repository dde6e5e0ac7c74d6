"""What keys that are discarded at one row are still worth some rows later: theorem `kv_reuse`.

At row t all but the most attended KEPT_SHARE of its visible keys are discarded; epsilon is their
mass. h rows later their mass among the keys that both rows see is at most what the theorem allows
for the oscillation of the logit change: as measured on these keys, or a priori, from the move of
the query and the diameter of the keys alone. By theorem `lifetime` no discarded key can overtake
the row's top key while the query has moved by less than the radius over the discarded keys.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gpu_check.attention import Block, new_rows
from gpu_check.lifetimes import Lifetimes
from gpu_check.pairs import UNIT_ROUNDOFF
from gpu_check.rows import followed, square_distances
from tappa_theory.arrays import to_numpy
from tappa_theory.separable import evaluate
from tappa_theory.theorems.attention_distance import MASS_LATER, OSCILLATION
from tappa_theory.theorems.lifetime import BY_NORMS

HORIZONS = (1, 4, 16)
"""Steps after which the discarded keys are looked at again."""
INFORMATIVE = 0.5
"""A certificate below this says that most of the attention is still on kept keys."""


@dataclass(frozen=True, eq=False)
class _Masks:
    """Which keys the rows of a block see and discard, as factors (1, 0) and as terms (0, -inf)."""

    visible: torch.Tensor
    discarded: torch.Tensor
    common: torch.Tensor
    lost: torch.Tensor


def _masks(block: Block, discarded: torch.Tensor) -> _Masks:
    factors = [keys.to(torch.float64) for keys in (block.visible, discarded)]
    terms = [(1 - 1 / factor).clamp_(max=0) for factor in factors]
    return _Masks(*factors, *terms)


class Reuse:
    """Collects blocks of rows in order; `summary` tells what the discarded keys were worth.

    lifetimes: of the same head; it must be given every block first.
    """

    def __init__(self, lifetimes: Lifetimes) -> None:
        self.lifetimes = lifetimes
        self.head, self.key = lifetimes.head, lifetimes.key
        length, device = self.head.visibility.length, self.key.device
        self.farthest = torch.zeros(length, dtype=torch.float64, device=device)
        shape = len(HORIZONS), 4, length
        # of row t at every horizon: epsilon, the mass later, the oscillation in between, and by how
        # much the top key of row t is ahead of the keys discarded then
        self.measured = torch.full(shape, torch.nan, dtype=torch.float64, device=device)
        self.before: Block | None = None
        # Only then does a row not see what an earlier one saw.
        self.shrinking = (
            self.head.visibility.window is not None or self.head.visibility.valid is not None
        )

    def add(self, block: Block) -> None:
        """Take the next block of rows and compare each of its rows with the earlier ones."""
        block = new_rows(block)
        count, width = block.logits.shape
        if self.lifetimes.softcap is None:
            self._add_distances(block)
        if self.before is not None:
            block = Block(
                torch.cat([self.before.rows, block.rows]),
                *(
                    torch.cat([torch.nn.functional.pad(old, (0, width - old.shape[1])), new])
                    for old, new in (
                        (self.before.logits, block.logits),
                        (self.before.visible, block.visible),
                        (self.before.attention, block.attention),
                    )
                ),
            )
        kept = self.lifetimes.kept[block.rows]
        masks = _masks(block, (block.attention < kept[:, None]) & block.visible)
        for place, step in enumerate(HORIZONS):
            first = max(len(block.rows) - count, step)
            if first < len(block.rows):
                early = slice(first - step, len(block.rows) - step)
                self._compare(place, block, masks, early, slice(first, len(block.rows)))
        last = slice(max(len(block.rows) - max(HORIZONS), 0), None)
        self.before = Block(
            block.rows[last], block.logits[last], block.visible[last], block.attention[last]
        )

    def _add_distances(self, block: Block) -> None:
        """The farthest key that each key sees behind it."""
        rows, width = block.rows, block.logits.shape[1]
        squares = self.lifetimes.squares
        apart = square_distances(self.key[rows], self.key[:width], squares[rows], squares[:width])
        self.farthest[rows] = (apart * block.visible).amax(dim=1).sqrt()

    def _compare(self, place: int, block: Block, masks: _Masks, early: slice, later: slice) -> None:
        # Factors and terms in place of a choice by a mask, which takes ten times as long.
        common, lost = masks.common[early], masks.lost[early]
        seen, gone = masks.visible[early], masks.discarded[early]
        if self.shrinking:
            common, lost = common + masks.common[later], lost + masks.common[later]
            seen, gone = seen * masks.visible[later], gone * masks.visible[later]
        top = self.lifetimes.top[block.rows[early], None]
        own = (block.logits[later].gather(1, top) + common.gather(1, top))[:, 0]
        ahead = own - (block.logits[later] + lost).amax(dim=1)
        change = block.logits[later] - block.logits[early]
        highest, lowest = (change + common).amax(dim=1), (change - common).amin(dim=1)
        before, after = (
            [(block.attention[rows] * keys).sum(dim=1) for keys in (gone, seen)]
            for rows in (early, later)
        )
        # Rows without a common key give 0/0, which is left out at the end.
        self.measured[place][:, block.rows[early]] = torch.stack(
            [before[0] / before[1], after[0] / after[1], highest - lowest, ahead]
        )

    def summary(self) -> dict[str, Any] | None:
        """The "reuse" of a head in check.json, by horizon; None if there is no row to follow."""
        found = {}
        for place, step in enumerate(HORIZONS):
            rows = followed(self.head.visibility, step).to(self.key.device)
            rows &= torch.isfinite(self.measured[place][:3]).all(dim=0)
            if bool(rows.any()):
                found[str(step)] = self._at(place, step, torch.nonzero(rows)[:, 0])
        return found or None

    def _at(self, place: int, step: int, rows: torch.Tensor) -> dict[str, Any]:
        discarded, observed, oscillation, ahead = self.measured[place][:, rows]
        on_top = self.lifetimes.holds(rows, step, self.lifetimes.radius_discarded)
        measured = mass_later(discarded, oscillation)
        a_priori = mass_later(discarded, self._oscillation(step, rows))
        # Each mass errs by its sum's roundings and four logits' errors, relative to itself.
        slack = 8 * self.lifetimes.error + 8 * len(self.key) * UNIT_ROUNDOFF
        tightness = observed / torch.where(measured > 0, measured, 1.0)
        return {
            "rows": len(rows),
            "discarded": float(discarded.mean()),
            "observed": float(observed.mean()),
            "measured": float(measured.mean()),
            "a_priori": float(a_priori.mean()),
            "oscillation": float(oscillation.mean()),
            "oscillation_a_priori": float(self._oscillation(step, rows).mean()),
            "tightness": float(np.median(to_numpy(tightness))),
            "informative_measured": float((measured < INFORMATIVE).double().mean()),
            "informative": float((a_priori < INFORMATIVE).double().mean()),
            "top_certified": float(on_top.double().mean()),
            "top_observed": float((ahead >= 0).double().mean()),
            "broken": int(
                torch.count_nonzero(
                    (observed > measured * (1 + slack))
                    | (observed > a_priori * (1 + slack))
                    | (on_top & ~(ahead >= 0))
                )
            ),
        }

    def _oscillation(self, step: int, rows: torch.Tensor) -> torch.Tensor:
        """What the query's move over `step` rows allows the logit changes to differ by."""
        move = self.lifetimes.move(rows, step)
        values = {"lambda": self.head.scale, "query_move": move}
        if self.lifetimes.softcap is None:
            return evaluate(BY_NORMS, values | {"key_distance": self._diameter()[rows]})
        # A soft-cap keeps the size of a change, not what the changes of all keys have in common.
        size = self.lifetimes.squares.sqrt().cummax(dim=0).values[rows]
        return evaluate(
            OSCILLATION, {"bound_max": evaluate(BY_NORMS, values | {"key_distance": size})}
        )

    def _diameter(self) -> torch.Tensor:
        """(T,) no less than the largest distance of two keys that row t sees."""
        window = self.head.visibility.window
        if window is None or window >= len(self.farthest):
            return self.farthest.cummax(dim=0).values
        padded = torch.nn.functional.pad(self.farthest, (window - 1, 0))
        return padded.unfold(0, window, 1).amax(dim=1)


def mass_later(discarded: torch.Tensor, oscillation: torch.Tensor) -> torch.Tensor:
    """Largest later mass of keys of mass `discarded`; 1 where both e^-omega and mass underflow."""
    values = {"mass": discarded, "omega": oscillation}
    return evaluate(MASS_LATER, values).nan_to_num_(nan=1.0)
