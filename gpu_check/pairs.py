"""Bound (B) on every visible (query, key) pair of a head, tile by tile.

No formula stands here: logits, bounds and published forms arrive as features that were generated
from the expressions of `tappa_theory`, and this file multiplies, compares and reduces. Memory is
O(T d + tile^2) per head. Arithmetic is float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from gpu_check.published import count_steps, published_form
from gpu_check.tiles import product
from gpu_check.visibility import Visibility
from tappa_theory.energy import channel_gain
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import separate
from tappa_theory.shift_identity import LOGIT
from tappa_theory.theorems import Theorem

TILE = 384
HALO = 16
"""Shifts up to this are read off the tile's own logits, computed that much wider."""
SMALLEST = 1e-300
"""Divisor in place of a zero bound, so that 0/0 counts as 0 and x/0 as a violation."""

_Tile = tuple[tuple[int, int], tuple[int, int]]


@dataclass
class PairStatistics:
    """What the check of one theorem on one head counted; `worst` is (t, i), `shift` is (s, u).

    published_checked: how many instances of the published form were compared, None if none can be.
    sums are over the pairs, in logits.
    """

    shift: tuple[int, int]
    pairs: int = 0
    violations: int = 0
    undecided: int = 0
    max_ratio: float = 0.0
    sum_ratio: float = 0.0
    worst: tuple[int, int] | None = None
    worst_observed: float = 0.0
    worst_bound: float = 0.0
    sum_observed: float = 0.0
    sum_bound: float = 0.0
    informative: int = 0
    published_checked: int | None = None
    published_violations: int | None = None


@dataclass(frozen=True)
class Claim:
    """A theorem at integer shift (s, u), both at least 0.

    star: the channel whose frequency the published form charges to every channel, where it does.
    """

    theorem: Theorem
    shift: tuple[int, int]
    star: int | None = None


@dataclass(frozen=True, eq=False)
class Head:
    """One head, before RoPE: queries z and keys w, (T, M) complex128, and how they meet.

    scale: softmax scale.
    """

    z: torch.Tensor
    w: torch.Tensor
    rope: Rope
    scale: float
    visibility: Visibility

    def channel_values(self) -> dict[str, torch.Tensor]:
        """Values of the per-channel and per-position symbols, for `separable`."""
        device = self.z.device
        positions = torch.arange(self.z.shape[0], dtype=torch.float64, device=device)[:, None]
        return {
            "z": self.z,
            "w": self.w,
            "theta": torch.tensor(self.rope.frequencies, device=device),
            "lambda": torch.tensor(channel_gain(self.rope, self.scale), device=device),
            "t": positions,
            "i": positions,
        }


class TiledCheck:
    """All-pairs check of one head: generates the features once, then walks the tiles once."""

    def __init__(self, head: Head, tile: int = TILE) -> None:
        self.head = head
        self.tile = tile
        self.values = head.channel_values()
        logit = separate(LOGIT)
        self.query_logit = logit.query_features(self.values)
        self.key_logit = logit.key_features(self.values)
        weight = torch.sqrt(self.values["lambda"] / head.scale)
        self.query_vectors = _vectors(head.z * weight)
        self.key_vectors = _vectors(head.w * weight)
        self.query_norm = torch.linalg.vector_norm(self.query_vectors, dim=-1)
        self.key_norm = torch.linalg.vector_norm(self.key_vectors, dim=-1)

    def run(self, claims: Sequence[Claim], row_std: torch.Tensor) -> list[PairStatistics]:
        """Check all claims on every visible pair; the statistics come in the order of the claims.

        row_std: (T,) standard deviation of each row's visible logits; a bound below it informs.
        """
        prepared = [_Prepared(self, claim, row_std) for claim in claims]
        length, device = self.head.visibility.length, self.head.z.device
        near = [claim for claim in prepared if max(claim.shift) <= HALO]
        halo = max((max(claim.shift) for claim in near), default=0)
        side = min(self.tile + halo, length)
        buffers = [torch.empty(side * side, dtype=torch.float64, device=device) for _ in range(5)]
        for t0 in range(0, length, self.tile):
            for i0 in range(0, min(t0 + self.tile, length), self.tile):
                logits = None
                for claim in prepared:
                    s, u = claim.shift
                    rows = slice(t0, min(t0 + self.tile, length - s))
                    columns = slice(i0, min(i0 + self.tile, length - u))
                    if rows.stop <= rows.start or columns.stop <= columns.start:
                        continue
                    hidden = self._hidden(rows, columns, s, u)
                    if hidden is _NOTHING:
                        continue
                    if logits is None:
                        wide = self.tile + halo
                        tile = slice(t0, t0 + wide), slice(i0, i0 + wide)
                        logits = self._logits(*tile, buffers[0])
                    height, width = rows.stop - rows.start, columns.stop - columns.start
                    if claim in near:
                        moved = logits[s : s + height, u : u + width]
                    else:
                        moved = self._logits(_moved(rows, s), _moved(columns, u), buffers[1])
                    observed = buffers[2][: height * width].view(height, width)
                    torch.sub(moved, logits[:height, :width], out=observed).abs_()
                    claim.reduce(observed, rows, columns, hidden, buffers[3:])
        return [claim.result for claim in prepared]

    def _logits(self, rows: slice, columns: slice, buffer: torch.Tensor) -> torch.Tensor:
        return product(self.query_logit[rows], self.key_logit[columns], buffer)

    def _hidden(self, rows: slice, columns: slice, s: int, u: int) -> Any:
        """Mask of the pairs not visible before and after the shift; None if there are none."""
        visibility = self.head.visibility
        ends = (rows.start, rows.stop), (columns.start, columns.stop)
        moved = (rows.start + s, rows.stop + s), (columns.start + u, columns.stop + u)
        if s >= u and visibility.window is None and visibility.valid is None:
            moved = ends  # what the mask says before the shift it also says after: one mask serves
        states = {visibility.state(*ends), visibility.state(*moved)}
        if "none" in states:
            return _NOTHING
        if states == {"all"}:
            return None
        mask = _hidden_mask(visibility, ends, moved, self.head.z.device)
        return _NOTHING if mask is None else mask


@lru_cache(maxsize=128)
def _hidden_mask(
    visibility: Visibility, ends: _Tile, moved: _Tile, device: torch.device
) -> torch.Tensor | None:
    """Mask of the hidden pairs of a tile, None if all are; shared by the heads of a layer."""
    before, after = (
        visibility.block(*(torch.arange(*part, device=device) for part in tile))
        for tile in (ends, moved)
    )
    visible = before & after
    return ~visible if bool(visible.any()) else None


_NOTHING = object()


def _vectors(channels: torch.Tensor) -> torch.Tensor:
    """(T, 2M) real components: the norm of complex rows is many times slower."""
    return torch.view_as_real(channels).flatten(-2)


def _moved(part: slice, step: int) -> slice:
    return slice(part.start + step, part.stop + step)


class _Prepared:
    """One claim on one head: its features, its rounding error and its running statistics."""

    def __init__(self, check: TiledCheck, claim: Claim, row_std: torch.Tensor) -> None:
        self.head = check.head
        self.row_std = row_std
        self.shift = s, u = claim.shift
        self.result = PairStatistics(claim.shift)
        length = self.head.visibility.length
        if length <= max(s, u):
            raise InputError(f"a shift of {claim.shift} needs more than {length} positions")
        values = dict(check.values)
        values |= {"z": self.head.z[: length - s], "z_s": self.head.z[s:]}
        values |= {"w": self.head.w[: length - u], "w_u": self.head.w[u:]}
        values |= {"L": s, "N": u}
        if claim.star is not None:
            values["theta_*"] = check.values["theta"][claim.star]
        bound = separate(claim.theorem.bound)
        self.query_bound = bound.query_features(values)
        self.key_bound = bound.key_features(values)
        self.query_error, self.key_error = _roundoff(check, s, u)
        error = self.query_error, self.key_error
        self.published = published_form(claim, check, values, error)
        if claim.theorem.published.counted == "steps":
            self.result.published_checked, self.result.published_violations = count_steps(
                claim.theorem.published, values, self.head.visibility
            )
        elif self.published is not None:
            self.result.published_checked = self.result.published_violations = 0

    def reduce(
        self,
        observed: torch.Tensor,
        rows: slice,
        columns: slice,
        hidden: torch.Tensor | None,
        buffers: Sequence[torch.Tensor],
    ) -> None:
        """Compare one tile of |logit differences| with the bound and add to the statistics."""
        result = self.result
        limit = product(self.query_bound[rows], self.key_bound[columns], buffers[0])
        pairs = observed.numel()
        if hidden is not None:
            pairs -= int(torch.count_nonzero(hidden))
            observed.masked_fill_(hidden, 0.0)
            limit.masked_fill_(hidden, 0.0)
        result.pairs += pairs
        result.sum_observed += float(observed.sum())
        result.sum_bound += float(limit.sum())
        if hidden is not None:
            limit.masked_fill_(hidden, torch.inf)
        informative = torch.count_nonzero(limit < self.row_std[rows, None])
        result.informative += int(informative)
        slack = torch.sub(limit, observed, out=buffers[1][: limit.numel()].view(limit.shape))
        self._compare(slack, rows, columns)
        ratio = torch.div(observed, limit.clamp_(min=SMALLEST), out=slack)
        result.sum_ratio += float(ratio.sum())
        largest = float(ratio.max())
        if largest > result.max_ratio:
            row, column = divmod(int(ratio.argmax()), ratio.shape[1])
            result.max_ratio = largest
            result.worst = (rows.start + row, columns.start + column)
            result.worst_observed = float(observed[row, column])
            result.worst_bound = float(limit[row, column])
        if self.published is not None:
            failed = self.published(observed, rows, columns, buffers[1])
            result.published_checked = (result.published_checked or 0) + pairs
            result.published_violations = (result.published_violations or 0) + failed

    def _compare(self, slack: torch.Tensor, rows: slice, columns: slice) -> None:
        query_error, key_error = self.query_error[rows], self.key_error[columns]
        if float(slack.min()) >= float(query_error.max() * key_error.max()):
            return
        error = query_error[:, None] * key_error[None, :]
        violated, close = slack < -error, slack < error
        self.result.violations += int(torch.count_nonzero(violated))
        self.result.undecided += int(torch.count_nonzero(close & ~violated))


def _roundoff(check: TiledCheck, s: int, u: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-query and per-key factors whose product bounds the rounding error of a comparison.

    Two logits and a bound are inner products of at most 4M features of few roundings each, so
    each errs by less than (4M + 16) units in the last place of lambda |q||k|; un-rotating at
    position p errs by at most p theta such units, which enters the bound through the drifts.
    """
    head, length = check.head, check.head.visibility.length
    query = torch.maximum(check.query_norm[: length - s], check.query_norm[s:])
    key = torch.maximum(check.key_norm[: length - u], check.key_norm[u:])
    angle = length * float(np.max(head.rope.frequencies))
    units = 4 * (4 * head.z.shape[1] + 16) + 4 * angle
    return head.scale * UNIT_ROUNDOFF * units * query, key
