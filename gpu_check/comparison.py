"""Which pairs float64 proves to be within a bound, and the places of those it does not.

The bound's feature products and the logit differences come from `gpu_check.pairs`; here stands what
rounding can do to their difference, and what is kept of the pairs that it leaves open.
"""

import math
from typing import Any, TypeAlias

import torch

from gpu_check.arb import Settled, settle
from tappa_theory.rounding import UNIT_ROUNDOFF

SETTLED = 10_000
"""Pairs of one theorem on one head that are settled in Arb, at most."""
FLOOR, CEILING = 2.0**-400, 2.0**400
"""Norms below FLOOR count as FLOOR, so that the error covers what underflows; from CEILING on,
products may overflow and float64 decides nothing."""

Places: TypeAlias = slice | torch.Tensor
"""Positions of a tile: a slice, or their indices."""


def rounding_units(
    change_terms: int, bound_terms: int, angle: float, by_moves: bool = False
) -> float:
    """Error of a computed bound less |change|, over u L: u = 2^-53, L = |sqrt(lambda) z| times
    |sqrt(lambda) w|, the larger norms of those before and after the shift.

    change_terms, bound_terms: length of the inner products that give the logit change and the
    bound. angle: largest position times largest frequency, A. by_moves: is the change computed as
    LOGIT_CHANGE, not as the difference of two logits?

    Assumed: float64 operations round to nearest or fused, cos and sin err by 2u at most (2 units in
    the last place below 1), a product is summed in any order. To first order in u:

    - An angle p theta is off by A u. Un-rotated by it and divided by the attention scaling, a
      channel is z e^{i delta}(1 + eps) with |delta| <= A u and |eps| <= 12u: cosine and sine 3u,
      the complex product sqrt(5) u, the division 6u. Computed moduli are off by 15u: no angle.
    - A logit feature turns it again: A u, and 9u. With query, key, lambda (2u) and its product (u)
      a logit's terms are off by (4A + 47) u L in all, and their sum by n u times the sum of their
      moduli, at most L. Two logits and their difference (2L): (8A + 2n + 96) u L.
    - By moves, a factor dz is off by (|z_s| + |z|)(A + 14) u, and the phase of the shift is one
      more factor: the two moves are off by 2L (4A + 65) u each, the two logits by L (4A + 67) u
      each, and the moduli of the terms add up to 6L at most: (24A + 6n + 410) u L.
    - A drift |z_s - z| is off by (|z_s| + |z|)(A + 16) u; with the other modulus, lambda, at most
      five products and two sums, each of both drift terms is off by 2L (A + 40) u. In the residual,
      (s - u) theta / 2 is off by A u / 2 and its sine by 2u more: 2L (A/2 + 43) u. The bound is 6L
      at most, so its n terms add 6n u L: (5A + 6n + 246) u L. (B) is what `Theorem` allows.
    - Bound less |change| rounds once more: 6 u L.

    What is over in 14A and 384, and 30A and 768, is more than sums of factors that were collected
    and the terms of second order.
    """
    if by_moves:
        return 6 * (change_terms + bound_terms) + 30 * angle + 768
    return 2 * change_terms + 6 * bound_terms + 14 * angle + 384


def row_error(norm: torch.Tensor, step: int) -> torch.Tensor:
    """(..., T - step) factor of the error for one side: the larger norm before and after the shift.

    norm: (..., T) of sqrt(lambda) z or w. Raised to FLOOR, infinite from CEILING on.
    """
    larger = torch.maximum(norm[..., : norm.shape[-1] - step], norm[..., step:])
    return torch.where(larger < CEILING, larger + FLOOR, math.inf)


class Comparison:
    """What is known of the pairs of one claim on one head: proven, 0 = 0, or where they are.

    head, claim: gpu_check.pairs.Head and Claim. query_error, key_error: (T - s,), (T - u,) whose
    product bounds the rounding error of bound less |change|. Memory is O(T + limit) besides a tile.
    """

    def __init__(
        self,
        head: Any,
        claim: Any,
        query_error: torch.Tensor,
        key_error: torch.Tensor,
        limit: int = SETTLED,
    ) -> None:
        self.head, self.claim, self.limit = head, claim, limit
        self.query_error, self.key_error = query_error, key_error
        s, u = claim.shift
        length = head.visibility.length
        queries, keys = head.exact
        # A zero query gives 0 <= 0 with every key: nothing that Arb would have to tell.
        self.query_zero = _zero(queries[: length - s]) & _zero(queries[s:])
        self.key_zero = _zero(keys[: length - u]) & _zero(keys[u:])
        self.some_zero = bool(self.query_zero.any() | self.key_zero.any())
        self.zero = 0
        self.exceeded, self.close = _Found(length, limit), _Found(length, limit)

    def add(
        self,
        observed: torch.Tensor,
        bound: torch.Tensor,
        rows: Places,
        columns: Places,
        hidden: torch.Tensor | None,
        scratch: torch.Tensor,
    ) -> None:
        """Compare |changes| with their bounds, both (R, C), both left as they are.

        hidden: (R, C) bool, pairs that do not count. scratch: R * C float64 or more.
        """
        query_error, key_error = self.query_error[rows], self.key_error[columns]
        slack = torch.sub(bound, observed, out=scratch[: bound.numel()].view(bound.shape))
        largest = float(query_error.max() * key_error.max())
        if largest < math.inf and float(slack.min()) >= largest:
            return
        error = query_error[:, None] * key_error[None, :]
        # A slack that is no number is not proven either.
        left = ~((slack >= error) & (error < math.inf))
        if hidden is not None:
            left &= ~hidden
        if self.some_zero:
            zero = self.query_zero[rows][:, None] | self.key_zero[columns][None, :]
            self.zero += int(torch.count_nonzero(left & zero))
            left &= ~zero
        exceeded = left & (slack < -error)
        self.exceeded.add(exceeded, rows, columns)
        self.close.add(left & ~exceeded, rows, columns)

    def places(self) -> list[tuple[int, int]]:
        """(t, i) of what is to be settled: what float64 says exceeds the bound first, then what is
        close; both in the order of rows and columns, whatever the tiles were."""
        return (self.exceeded.places() + self.close.places())[: self.limit]

    def settle(self) -> Settled:
        """Verdicts on all pairs that float64 did not prove; pairs that are 0 <= 0 are tight."""
        places = self.places()
        found = settle(places, self.head, self.claim)
        left = self.exceeded.count + self.close.count - len(places)
        return Settled(
            holds=found.holds,
            violated=found.violated,
            tight=found.tight + self.zero,
            undecided=found.undecided + left,
        )


def error_factors(
    norms: tuple[torch.Tensor, torch.Tensor], shift: tuple[int, int], units: float, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`query_error`, `key_error` of a comparison from (T,) norms of queries and keys.

    norms: of sqrt(lambda / scale) z and w. units: `rounding_units`.
    """
    query, key = (row_error(norm, step) for norm, step in zip(norms, shift, strict=True))
    return scale * UNIT_ROUNDOFF * units * query, key


def _zero(vectors: torch.Tensor) -> torch.Tensor:
    """(T,) bool: rows that are exactly zero."""
    return ~(vectors != 0).any(dim=-1)


class _Found:
    """How many pairs there are, and the first of them in the order of rows and columns."""

    def __init__(self, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        self.count = 0
        self.first = torch.empty(0, dtype=torch.int64)

    def add(self, mask: torch.Tensor, rows: Places, columns: Places) -> None:
        row, column = (part.cpu() for part in torch.nonzero(mask, as_tuple=True))
        if not row.numel():
            return
        self.count += row.numel()
        places = _positions(rows)[row] * self.length + _positions(columns)[column]
        self.first = torch.cat([self.first, places]).sort().values[: self.limit]

    def places(self) -> list[tuple[int, int]]:
        return [divmod(place, self.length) for place in self.first.tolist()]


def _positions(places: Places) -> torch.Tensor:
    if isinstance(places, slice):
        return torch.arange(places.start, places.stop)
    return places.cpu()
