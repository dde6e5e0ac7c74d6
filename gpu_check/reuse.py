"""What keys that are discarded at one row are still worth some rows later: theorem `kv_reuse`.

At row t all but the most attended KEPT_SHARE of its visible keys are discarded; epsilon is their
mass. h rows later their mass among the keys that both rows see is at most what the theorem allows
for the oscillation of the logit change: as measured on these keys, or a priori, from the move of
the query and the diameter of the keys alone. By theorem `lifetime` no discarded key can overtake
the row's top key while the query has turned by less than the angle over the discarded keys.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gpu_check.attention import REPEATED, Block, fused
from gpu_check.lifetimes import Lifetimes
from gpu_check.rows import followed, square_distances
from tappa_theory.arrays import to_numpy
from tappa_theory.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import evaluate
from tappa_theory.theorems.attention_distance import MASS_LATER, OSCILLATION
from tappa_theory.theorems.lifetime import BY_NORMS

HORIZONS = (1, 4, REPEATED)
"""Steps after which the discarded keys are looked at again."""
NEEDED = "discarded", "observed", "oscillation"
"""Numbers without which nothing is told of a row."""
INFORMATIVE = 0.5
"""A certificate below this says that most of the attention is still on kept keys."""


class Reuse:
    """Collects blocks of rows in order; `summary` tells what the discarded keys were worth.

    lifetimes: of the same heads; it must be given every block first.
    """

    def __init__(self, lifetimes: Lifetimes) -> None:
        self.lifetimes = lifetimes
        self.head, self.key = lifetimes.head, lifetimes.key
        (heads, length, _), device = self.key.shape, self.key.device
        self.farthest = torch.zeros((heads, length), dtype=torch.float64, device=device)
        shape = len(HORIZONS), 4, heads, length
        # of every head's row t at every horizon: epsilon, the mass later, the oscillation in
        # between, and by how much the top key of row t is ahead of the keys discarded then
        self.measured = torch.full(shape, torch.nan, dtype=torch.float64, device=device)

    def add(self, block: Block) -> None:
        """Take the next block of rows and compare each of its new rows with the earlier ones."""
        visible = block.visible.to(torch.float64)
        if self.lifetimes.softcap is None:
            self._add_distances(block, visible)
        if block.stop <= self.lifetimes.first:
            return
        masses = None
        if not fused(block.logits):
            masses = _shares(block.attention, self.lifetimes.gone, block.start, visible)
        for place, step in enumerate(HORIZONS):
            first = max(block.repeated - step, 0)
            if first + step >= len(block.rows):
                continue
            rows = slice(block.first + first, block.stop - step)
            if masses is None:
                found = self._compared(step, block, first)
            else:
                found = self._compare(step, block, visible, masses, first)
            # Rows without a common key give 0/0, which is left out at the end.
            self.measured[place][..., rows] = torch.stack(found)

    def _add_distances(self, block: Block, visible: torch.Tensor) -> None:
        """The farthest key that each key sees behind it."""
        new, squares = slice(block.first + block.repeated, block.stop), self.lifetimes.squares
        width = block.stop
        apart = square_distances(
            self.key[:, new], self.key[:, :width], squares[:, new], squares[:, :width]
        )
        apart[..., block.start :] *= visible[block.repeated :]
        self.farthest[:, new] = apart.amax(dim=-1).clamp_(min=0).sqrt_()

    def _compared(self, step: int, block: Block, first: int) -> tuple[torch.Tensor, ...]:
        """`_compare` by a kernel."""
        from gpu_check.kernels.later_rows import later_rows

        lives = self.lifetimes
        found = later_rows(
            block.logits,
            block.attention,
            lives.threshold,
            first=block.first,
            begin=first,
            step=step,
        )
        top = lives.top[:, block.first + first : block.stop - step]
        own = block.logits[:, first + step :].gather(-1, top[..., None])[..., 0]
        return (
            found.early_gone / found.early,
            found.late_gone / found.late,
            found.highest - found.lowest,
            own - found.rival,
        )

    def _compare(
        self, step: int, block: Block, visible: torch.Tensor, masses: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, ...]:
        """What each row of a block, from `first` on, shows of its keys `step` rows later.

        visible: of the block, as a factor. masses: (H, R) of the keys discarded at each row.
        """
        start = block.start
        early, late = slice(first, len(block.rows) - step), slice(first + step, len(block.rows))
        gone, lost = self.lifetimes.gone[:, early], self.lifetimes.lost[:, early]
        logits, attention, seen = block.logits[:, late], block.attention[:, late], visible[early]
        discarded = masses[:, early]
        if not start:  # a row may no longer see what an earlier one saw
            seen = seen * visible[late]
            gone = gone * seen
            discarded = _shares(block.attention[:, early], gone, start, seen)
        rows = slice(block.first + first, block.stop - step)
        # Hidden keys have logits of -inf and an attention of 0.
        own = logits.gather(-1, self.lifetimes.top[:, rows, None])[..., 0]
        work = logits + lost
        ahead = own - work.amax(dim=-1)
        change, apart = torch.sub(logits, block.logits[:, early], out=work), seen == 0
        change[..., start:].masked_fill_(apart, -torch.inf)
        highest = change.amax(dim=-1)
        change[..., start:].masked_fill_(apart, torch.inf)
        oscillation = highest - change.amin(dim=-1)
        later = _shares(attention, gone, start, seen, out=work)
        return discarded, later, oscillation, ahead

    def summary(self) -> list[dict[str, Any] | None]:
        """The "reuse" of every head in check.json, by horizon; None without a row to follow."""
        rows = [followed(self.head.visibility, step).numpy() for step in HORIZONS]
        if not any(each.any() for each in rows):
            return [None] * len(self.key)
        numbers = self._numbers()
        # Read in one go: a GPU is waited for only once.
        table = to_numpy(torch.stack([each.double() for each in numbers.values()], dim=2))
        return [_by_horizon(list(numbers), of_head, rows) for of_head in table.swapaxes(0, 1)]

    def _numbers(self) -> dict[str, torch.Tensor]:
        """(HORIZONS, H, T) each; without meaning for rows that are not followed."""
        discarded, observed, oscillation, ahead = self.measured.unbind(1)
        lives = self.lifetimes
        on_top = torch.stack([lives.holds(step, lives.angle_discarded) for step in HORIZONS])
        limit = self._oscillation()
        measured, a_priori = mass_later(discarded, torch.stack([oscillation, limit]))
        # Each mass errs by its sum's roundings and four logits' errors, relative to itself.
        slack = 8 * lives.error + 8 * self.key.shape[1] * UNIT_ROUNDOFF
        leads = ahead >= 0
        return {
            "discarded": discarded,
            "observed": observed,
            "measured": measured,
            "a_priori": a_priori,
            "oscillation": oscillation,
            "oscillation_a_priori": limit,
            "tightness": observed / torch.where(measured > 0, measured, 1.0),
            "informative_measured": measured < INFORMATIVE,
            "informative": a_priori < INFORMATIVE,
            "top_certified": on_top,
            "top_observed": leads,
            "broken": (observed > measured * (1 + slack))
            | (observed > a_priori * (1 + slack))
            | (on_top & ~leads),
        }

    def _oscillation(self) -> torch.Tensor:
        """(HORIZONS, H, T) what the query's move allows the logit changes to differ by."""
        move = torch.stack([self.lifetimes.move(step) for step in HORIZONS])
        values = {"lambda": self.head.scale, "query_move": move}
        if self.lifetimes.softcap is None:
            return evaluate(BY_NORMS, values | {"key_distance": self._diameter()})
        # A soft-cap keeps the size of a change, not what the changes of all keys have in common.
        size = self.lifetimes.squares.sqrt().cummax(dim=-1).values
        return evaluate(
            OSCILLATION, {"bound_max": evaluate(BY_NORMS, values | {"key_distance": size})}
        )

    def _diameter(self) -> torch.Tensor:
        """(H, T) no less than the largest distance of two keys that row t sees."""
        window = self.head.visibility.window
        if window is None or window >= self.farthest.shape[-1]:
            return self.farthest.cummax(dim=-1).values
        padded = torch.nn.functional.pad(self.farthest, (window - 1, 0))
        return padded.unfold(-1, window, 1).amax(dim=-1)


def _by_horizon(
    names: Sequence[str], table: np.ndarray, rows: Sequence[np.ndarray]
) -> dict[str, Any] | None:
    """What is told of a head. table: (HORIZONS, N, T) numbers of these names; rows: (T,) bool."""
    needed, found = [names.index(name) for name in NEEDED], {}
    for step, columns, counted in zip(HORIZONS, table, rows, strict=True):
        told = np.flatnonzero(counted & np.isfinite(columns[needed]).all(axis=0))
        if told.size:
            found[str(step)] = _means(names, columns.take(told, axis=1))
    return found or None


def _means(names: Sequence[str], columns: np.ndarray) -> dict[str, Any]:
    """What is told of some rows (n,) from their numbers (N, n)."""
    return {
        "rows": columns.shape[1],
        **dict(zip(names, columns.mean(axis=1).tolist(), strict=True)),
        "tightness": float(np.median(columns[names.index("tightness")])),
        "broken": int(columns[names.index("broken")].sum()),
    }


def _shares(
    attention: torch.Tensor,
    gone: torch.Tensor,
    start: int,
    seen: torch.Tensor,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """(H, R) share of the discarded keys in the attention on those that are seen.

    attention: (H, R, W). gone: (H, R, W), 1 where discarded, else 0; seen: the same for the keys
    from `start` on, those before all being seen. out: scratch.
    """
    total = attention[..., :start].sum(dim=-1) + (attention[..., start:] * seen).sum(dim=-1)
    return torch.mul(attention, gone, out=out).sum(dim=-1) / total


def mass_later(discarded: torch.Tensor, oscillation: torch.Tensor) -> torch.Tensor:
    """Largest later mass of keys of mass `discarded`; 1 where both e^-omega and mass underflow."""
    values = {"mass": discarded, "omega": oscillation}
    return evaluate(MASS_LATER, values).nan_to_num_(nan=1.0)
