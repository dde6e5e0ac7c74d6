"""Bound (B) on every visible (query, key) pair of a head, tile by tile.

No formula stands here: logits, bounds and published forms arrive as features that were generated
from the expressions of `tappa_theory`, and this file multiplies and reduces. Memory is
O(T d + tile^2) per head. Arithmetic is float64; pairs that it leaves open are settled in Arb
(`gpu_check.comparison`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch

from gpu_check.arb import Settled
from gpu_check.comparison import (
    SETTLED,
    Comparison,
    Places,
    error_factors,
    rounding_units,
)
from gpu_check.published import count_steps, published_form
from gpu_check.tiles import product
from gpu_check.visibility import Visibility
from tappa_theory.energy import channel_gain
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
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

    violations: pairs whose violation Arb proved. tight: pairs that Arb cannot tell from equality,
    0 = 0 included; they hold. undecided: pairs that nothing decided.
    published_checked: how many instances of the published form were compared, None if none can be.
    sums are over the pairs, in logits.
    """

    shift: tuple[int, int]
    pairs: int = 0
    violations: int = 0
    undecided: int = 0
    tight: int = 0
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

    scale: softmax scale. captured: the queries and keys after RoPE, (T, d) float64, that z and w
    were un-rotated from at the positions 0 to T - 1; None where z and w themselves are exact.
    """

    z: torch.Tensor
    w: torch.Tensor
    rope: Rope
    scale: float
    visibility: Visibility
    captured: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def exact(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and keys that no rounding has touched: as captured, (T, d), or z and w."""
        return self.captured or (self.z, self.w)

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


@dataclass(frozen=True, eq=False)
class LogitFeatures:
    """values: `Head.channel_values`. query, key: (H, T, F) features whose products are logits.

    Of several heads of one layer, or of one, without the H.
    """

    values: dict[str, torch.Tensor]
    query: torch.Tensor
    key: torch.Tensor

    @classmethod
    def of(cls, heads: Sequence[Head]) -> "LogitFeatures":
        """Of heads that share all but z and w."""
        values = heads[0].channel_values()
        values |= {name: torch.stack([getattr(head, name) for head in heads]) for name in "zw"}
        logit = separate(LOGIT)
        return cls(values, logit.query_features(values), logit.key_features(values))

    def of_head(self, index: int, head: Head) -> "LogitFeatures":
        """Those of one of the heads."""
        own = {"z": head.z, "w": head.w}
        return LogitFeatures(self.values | own, self.query[index], self.key[index])


class TiledCheck:
    """All-pairs check of one head: generates the features once, then walks the tiles once.

    settled: pairs of one claim that are settled in Arb, at most. logits: the head's part of a
    layer's `LogitFeatures`, where known.
    """

    def __init__(
        self,
        head: Head,
        tile: int = TILE,
        settled: int = SETTLED,
        logits: "LogitFeatures | None" = None,
    ) -> None:
        self.head = head
        self.tile = tile
        self.settled = settled
        logits = logits or LogitFeatures.of([head]).of_head(0, head)
        self.values, self.query_logit, self.key_logit = logits.values, logits.query, logits.key

    @cached_property
    def query_vectors(self) -> torch.Tensor:
        """(T, 2M) whose inner products with `key_vectors` are the logits without RoPE's turns."""
        return _vectors(self.head.z * self._weight)

    @cached_property
    def key_vectors(self) -> torch.Tensor:
        """(T, 2M)."""
        return _vectors(self.head.w * self._weight)

    @cached_property
    def query_norm(self) -> torch.Tensor:
        """(T,)."""
        return torch.linalg.vector_norm(self.query_vectors, dim=-1)

    @cached_property
    def key_norm(self) -> torch.Tensor:
        """(T,)."""
        return torch.linalg.vector_norm(self.key_vectors, dim=-1)

    @property
    def _weight(self) -> torch.Tensor:
        return torch.sqrt(self.values["lambda"] / self.head.scale)

    def run(self, claims: Sequence[Claim], row_std: torch.Tensor) -> list[PairStatistics]:
        """Check all claims on every visible pair; the statistics come in the order of the claims.

        row_std: (T,) standard deviation of each row's visible logits; a bound below it informs.
        """
        if self.head.z.device.type == "cuda":
            from gpu_check.layer_pairs import head_statistics

            return head_statistics(self, claims, row_std)
        prepared = [_Prepared(self, claim) for claim in claims]
        statistics = [_Statistics(self, claim, row_std) for claim in prepared]
        length, device = self.head.visibility.length, self.head.z.device
        near = [claim for claim in prepared if max(claim.shift) <= HALO]
        halo = max((max(claim.shift) for claim in near), default=0)
        side = min(self.tile + halo, length)
        buffers = [torch.empty(side * side, dtype=torch.float64, device=device) for _ in range(5)]
        for t0 in range(0, length, self.tile):
            for i0 in range(0, min(t0 + self.tile, length), self.tile):
                logits = None
                for claim, counted in zip(prepared, statistics, strict=True):
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
                    bound = claim.bound(rows, columns, buffers[3])
                    claim.comparison.add(observed, bound, rows, columns, hidden, buffers[4])
                    counted.add(observed, bound, rows, columns, hidden, buffers[4])
        for claim, counted in zip(prepared, statistics, strict=True):
            counted.settle(claim.comparison.settle())
        return [counted.result for counted in statistics]

    def claim_values(self, claim: Claim) -> dict[str, Any]:
        """`Head.channel_values` with what the claim's expressions name besides."""
        (s, u), length, values = claim.shift, self.head.visibility.length, dict(self.values)
        values |= {"z": self.head.z[: length - s], "z_s": self.head.z[s:]}
        values |= {"w": self.head.w[: length - u], "w_u": self.head.w[u:]}
        values |= {"L": s, "N": u}
        if claim.star is not None:
            values["theta_*"] = self.values["theta"][claim.star]
        return values

    def decide(self, claims: Sequence[Claim], rows: Sequence[torch.Tensor]) -> list[Settled]:
        """Compare the visible pairs of some rows with their bounds, without any statistics.

        rows: for every claim the rows to look at, (T,) or (T - s,) bool, such as those that a
        coarser comparison leaves open. Costs that many rows of logits, and of the shifted ones.
        Pairs that float64 proves are not counted; those settled as `holds` are.
        """
        settled = []
        side = min(self.tile, self.head.visibility.length) ** 2
        buffers = [self.query_logit.new_empty(side) for _ in range(4)]
        for claim, chosen in zip(claims, rows, strict=True):
            prepared = _Prepared(self, claim)
            count = self.head.visibility.length - claim.shift[0]
            places = torch.nonzero(chosen[:count].to(self.head.z.device)).flatten()
            for part in places.split(self.tile) if len(places) else ():
                self._decide_rows(prepared, part, buffers)
            settled.append(prepared.comparison.settle())
        return settled

    def _decide_rows(
        self, claim: "_Prepared", rows: torch.Tensor, buffers: Sequence[torch.Tensor]
    ) -> None:
        """`decide` for the rows of these indices, in ascending order, a tile of them at most."""
        (s, u), visibility = claim.shift, self.head.visibility
        # A query sees no later key, and none before the window.
        last = min(int(rows[-1]) + 1, visibility.length - u)
        first = 0 if visibility.window is None else max(int(rows[0]) + 1 - visibility.window, 0)
        for start in range(first, last, self.tile):
            columns = torch.arange(start, min(start + self.tile, last), device=rows.device)
            visible = visibility.block(rows, columns) & visibility.block(rows + s, columns + u)
            if not bool(visible.any()):
                continue
            moved = product(self.query_logit[rows + s], self.key_logit[columns + u], buffers[0])
            logits = product(self.query_logit[rows], self.key_logit[columns], buffers[1])
            observed = moved.sub_(logits).abs_()
            bound = claim.bound(rows, columns, buffers[2])
            claim.comparison.add(observed, bound, rows, columns, ~visible, buffers[3])

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
    """One claim on one head: the features of its bound, and the comparison with it."""

    def __init__(self, check: TiledCheck, claim: Claim) -> None:
        head = check.head
        self.claim = claim
        self.shift = s, u = claim.shift
        length = head.visibility.length
        if length <= max(s, u):
            raise InputError(f"a shift of {claim.shift} needs more than {length} positions")
        self.values = values = check.claim_values(claim)
        bound = separate(claim.theorem.bound)
        self.query_bound = bound.query_features(values)
        self.key_bound = bound.key_features(values)
        angle = length * float(head.rope.frequencies.max())
        terms = check.query_logit.shape[1], self.query_bound.shape[1]
        norms = check.query_norm, check.key_norm
        error = error_factors(norms, claim.shift, rounding_units(*terms, angle), head.scale)
        self.comparison = Comparison(head, claim, *error, check.settled)

    def bound(self, rows: Places, columns: Places, buffer: torch.Tensor) -> torch.Tensor:
        """(R, C) the bound of the pairs of a tile."""
        return product(self.query_bound[rows], self.key_bound[columns], buffer)


class _Statistics:
    """Running statistics of one claim on one head."""

    def __init__(self, check: TiledCheck, prepared: _Prepared, row_std: torch.Tensor) -> None:
        self.row_std = row_std
        self.result = PairStatistics(prepared.shift)
        claim, values, compared = prepared.claim, prepared.values, prepared.comparison
        error = compared.query_error, compared.key_error
        self.published = published_form(claim, check, values, error)
        if claim.theorem.published.counted == "steps":
            self.result.published_checked, self.result.published_violations = count_steps(
                claim.theorem.published, values, check.head.visibility
            )
        elif self.published is not None:
            self.result.published_checked = self.result.published_violations = 0

    def add(
        self,
        observed: torch.Tensor,
        bound: torch.Tensor,
        rows: slice,
        columns: slice,
        hidden: torch.Tensor | None,
        scratch: torch.Tensor,
    ) -> None:
        """Add one tile of |logit differences| and bounds, both overwritten."""
        result = self.result
        pairs = observed.numel()
        if hidden is not None:
            pairs -= int(torch.count_nonzero(hidden))
            observed.masked_fill_(hidden, 0.0)
            bound.masked_fill_(hidden, 0.0)
        result.pairs += pairs
        result.sum_observed += float(observed.sum())
        result.sum_bound += float(bound.sum())
        if hidden is not None:
            bound.masked_fill_(hidden, torch.inf)
        informative = torch.count_nonzero(bound < self.row_std[rows, None])
        result.informative += int(informative)
        ratio = scratch[: bound.numel()].view(bound.shape)
        torch.div(observed, bound.clamp_(min=SMALLEST), out=ratio)
        result.sum_ratio += float(ratio.sum())
        largest = float(ratio.max())
        if largest > result.max_ratio:
            row, column = divmod(int(ratio.argmax()), ratio.shape[1])
            result.max_ratio = largest
            result.worst = (rows.start + row, columns.start + column)
            result.worst_observed = float(observed[row, column])
            result.worst_bound = float(bound[row, column])
        if self.published is not None:
            failed = self.published(observed, rows, columns, scratch)
            result.published_checked = (result.published_checked or 0) + pairs
            result.published_violations = (result.published_violations or 0) + failed

    def settle(self, settled: Settled) -> None:
        """Take over the verdicts on the pairs."""
        self.result.violations = settled.violated
        self.result.undecided = settled.undecided
        self.result.tight = settled.tight
