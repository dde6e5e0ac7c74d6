"""What keys that are discarded at one row are still worth some rows later: theorem `kv_reuse`.

At row t all but the most attended KEPT_SHARE of its visible keys are discarded; epsilon is their
mass. h rows later their mass among the keys that both rows see is at most what the theorem allows
for the oscillation of the logit change: as measured on these keys, or a priori, from the move of
the query and the diameter of the keys alone. By theorem `lifetime` no discarded key can overtake
the row's top key while the query has turned by less than the angle over the discarded keys.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from gpu_check.attention import Block, new_rows
from gpu_check.lifetimes import Lifetimes, no_key
from gpu_check.rows import followed, same_start, square_distances
from tappa_theory.arrays import to_numpy
from tappa_theory.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import evaluate
from tappa_theory.theorems.attention_distance import MASS_LATER, OSCILLATION
from tappa_theory.theorems.lifetime import BY_NORMS

HORIZONS = (1, 4, 16)
"""Steps after which the discarded keys are looked at again."""
INFORMATIVE = 0.5
"""A certificate below this says that most of the attention is still on kept keys."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """Consecutive rows of a block, and what of their keys is discarded, as factor and as term.

    start: from this key on the rows may see different keys; `visible` and `hidden` are the factor
    and the term of these.
    """

    rows: torch.Tensor
    logits: torch.Tensor
    attention: torch.Tensor
    gone: torch.Tensor
    lost: torch.Tensor
    visible: torch.Tensor
    hidden: torch.Tensor
    start: int

    def part(self, first: int, stop: int) -> "_Rows":
        """Rows first, ..., stop - 1 of these."""
        tensors = {
            field.name: getattr(self, field.name)[first:stop]
            for field in fields(self)
            if field.name != "start"
        }
        return replace(self, **tensors)


class Reuse:
    """Collects blocks of rows in order; `summary` tells what the discarded keys were worth.

    lifetimes: of the same head; it must be given every block first. Blocks but the last have
    max(HORIZONS) rows or more.
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
        self.before: _Rows | None = None

    def add(self, block: Block) -> None:
        """Take the next block of rows and compare each of its rows with the earlier ones."""
        block = new_rows(block)
        start = same_start(self.head.visibility, block.rows)
        visible = block.visible[:, start:].to(torch.float64)
        now = _Rows(
            block.rows,
            block.logits,
            block.attention,
            self.lifetimes.gone,
            self.lifetimes.lost,
            visible,
            no_key(visible),
            start,
        )
        if self.lifetimes.softcap is None:
            self._add_distances(now)
        count, before = len(now.rows), self.before
        if int(now.rows[-1]) < self.lifetimes.first:
            return
        for place, step in enumerate(HORIZONS):
            if step < count:
                self._compare(place, now.part(0, count - step), now.part(step, count))
            if before is not None:
                first, some = len(before.rows) - step, min(step, count)
                self._compare(place, before.part(first, first + some), now.part(0, some))
        self.before = now.part(max(count - max(HORIZONS), 0), count)

    def _add_distances(self, now: _Rows) -> None:
        """The farthest key that each key sees behind it."""
        rows, width = now.rows, now.logits.shape[1]
        squares = self.lifetimes.squares
        apart = square_distances(self.key[rows], self.key[:width], squares[rows], squares[:width])
        apart[:, now.start :] *= now.visible
        self.farthest[rows] = apart.amax(dim=1).sqrt()

    def _compare(self, place: int, early: _Rows, later: _Rows) -> None:
        """Note what each row of `early` shows of its keys at the row in its place in `later`."""
        start, width = early.start, early.logits.shape[1]
        logits, attention = later.logits[:, :width], later.attention[:, :width]
        seen, hidden, gone, lost = early.visible, early.hidden, early.gone, early.lost
        top = self.lifetimes.top[early.rows, None]
        own = logits.gather(1, top)
        if not later.start:  # a row may no longer see what an earlier one saw
            still, out = later.visible[:, :width], later.hidden[:, :width]
            seen, hidden, gone, lost = seen * still, hidden + out, gone * still, lost + out
            own += hidden.gather(1, top)
        work = logits + lost
        ahead = own[:, 0] - work.amax(dim=1)
        change = torch.sub(logits, early.logits, out=work)
        last = change[:, start:].clone()
        torch.add(last, hidden, out=change[:, start:])
        highest = change.amax(dim=1)
        torch.sub(last, hidden, out=change[:, start:])
        oscillation = highest - change.amin(dim=1)
        masses = [
            torch.mul(weights, gone, out=work).sum(dim=1)
            / (weights[:, :start].sum(dim=1) + (weights[:, start:] * seen).sum(dim=1))
            for weights in (early.attention, attention)
        ]
        # Rows without a common key give 0/0, which is left out at the end.
        self.measured[place][:, early.rows] = torch.stack([*masses, oscillation, ahead])

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
        on_top = self.lifetimes.holds(rows, step, self.lifetimes.angle_discarded)
        limit = self._oscillation(step, rows)
        measured, a_priori = mass_later(discarded, oscillation), mass_later(discarded, limit)
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
            "oscillation_a_priori": float(limit.mean()),
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
