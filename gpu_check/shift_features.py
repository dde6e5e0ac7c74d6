"""What a kernel multiplies to check a bound on every pair: features of queries and of keys.

Both the change of a logit and its bound are generated from the expressions of
`tappa_theory.shift_identity` and the theorem, for any number of heads at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
import torch

from gpu_check.comparison import rounding_units, row_error
from tappa_theory.energy import channel_gain
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import Separable, separate
from tappa_theory.shift_identity import LOGIT_CHANGE, features_at, s, u


@dataclass(frozen=True, eq=False)
class ShiftFeatures:
    """One shift (s, u) on H heads with H_kv key heads: float64 features of every position.

    The change of the logit of (t, i) is the inner product of query_change (H, T - s, D) and
    key_change (H_kv, T - u, D), its bound that of query_bound (H, T - s, B) and key_bound
    (H_kv, T - u, B), all nonnegative. query_error (H, T - s) times key_error (H_kv, T - u) bounds
    what float64 may add to or take from their difference.
    """

    query_change: torch.Tensor
    key_change: torch.Tensor
    query_bound: torch.Tensor
    key_bound: torch.Tensor
    query_error: torch.Tensor
    key_error: torch.Tensor

    @property
    def group(self) -> int:
        """Query heads per key head."""
        return self.query_change.shape[0] // self.key_change.shape[0]


@lru_cache(maxsize=256)
def _separated(expression: sp.Expr, moved: tuple[bool, bool], alike: bool) -> Separable:
    """Features at a shift (s, u) of numbers that are told later: to take sums of products apart
    takes longer than to multiply them. moved: are s and u above 0? alike: is s = u?"""
    shift = s if moved[0] else 0, (s if alike else u) if moved[1] else 0
    return separate(features_at(shift, expression))


@dataclass(frozen=True, eq=False)
class Shifted:
    """Queries z (H, T, M) and keys w (H_kv, T, M), complex128, before RoPE, with those a shift on.

    shifts: one for all heads, or one for each, all moving the same sides; then the positions from
    T - s or T - u on hold nothing that means anything. values: of the symbols of the expressions,
    with those of `extra`.

    Raises InputError if the heads do not fit together or the text is too short for the shift.
    """

    z: torch.Tensor
    w: torch.Tensor
    rope: Rope
    scale: float
    shifts: Sequence[tuple[int, int]]
    values: dict[str, Any]

    @classmethod
    def of(
        cls,
        z: torch.Tensor,
        w: torch.Tensor,
        rope: Rope,
        scale: float,
        shifts: Sequence[tuple[int, int]],
        extra: Mapping[str, Any] | None = None,
    ) -> "Shifted":
        """Prepare the values of all symbols."""
        if z.shape[0] % w.shape[0] or w.shape[1:] != z.shape[1:]:
            raise InputError(
                f"queries {tuple(z.shape)} and keys {tuple(w.shape)} do not fit together; pass "
                "(heads, T, M) and (kv_heads, T, M)"
            )
        length = z.shape[1]
        for shift in shifts:
            if length <= max(shift):
                raise InputError(f"a shift of {shift} needs more than {length} positions")
        steps = [[shift[side] for shift in shifts] for side in (0, 1)]
        sizes = [_step(side, z.device) for side in steps]
        positions = torch.arange(length, dtype=torch.float64, device=z.device)[:, None]
        z_0, z_s = _moved(z, steps[0])
        w_0, w_u = _moved(w, steps[1])
        values = {
            "z": z_0,
            "z_s": z_s,
            "w": w_0,
            "w_u": w_u,
            "dz": z_s - z_0,
            "dw": w_u - w_0,
            "theta": torch.tensor(rope.frequencies, device=z.device),
            "lambda": torch.tensor(channel_gain(rope, scale), device=z.device),
            "t": positions[: z_0.shape[1]],
            "i": positions[: w_0.shape[1]],
            "s": sizes[0],
            "u": sizes[1],
            "L": sizes[0],
            "N": sizes[1],
            **(extra or {}),
        }
        return cls(z, w, rope, scale, shifts, values)

    def features(self, bound: sp.Expr) -> ShiftFeatures:
        """bound: of one channel, a sum of products of a query and a key factor."""
        (first, second), values = self.shifts[0], self.values
        sort = (first > 0, second > 0), len(self.shifts) == 1 and first == second
        change, limit = _separated(LOGIT_CHANGE, *sort), _separated(bound, *sort)
        weight = torch.sqrt(values["lambda"])
        query_bound, key_bound = limit.query_features(values), limit.key_features(values)
        query_change, key_change = change.query_features(values), change.key_features(values)
        angle = self.z.shape[1] * float(self.rope.frequencies.max())
        units = rounding_units(query_change.shape[-1], query_bound.shape[-1], angle, by_moves=True)
        errors = []
        for side, x in enumerate((self.z, self.w)):
            norm = torch.linalg.vector_norm(torch.view_as_real(x * weight).flatten(-2), dim=-1)
            before, after = _moved(norm, [shift[side] for shift in self.shifts])
            errors.append(row_error(torch.cat([before, after], dim=-1), before.shape[-1]))
        return ShiftFeatures(
            query_change=query_change,
            key_change=key_change,
            query_bound=query_bound,
            key_bound=key_bound,
            query_error=units * UNIT_ROUNDOFF * errors[0],
            key_error=errors[1],
        )


def shift_features(
    z: torch.Tensor,
    w: torch.Tensor,
    rope: Rope,
    scale: float,
    shift: tuple[int, int],
    bound: sp.Expr,
    extra: Mapping[str, Any] | None = None,
) -> ShiftFeatures:
    """Features of queries z (H, T, M) and keys w (H_kv, T, M), complex128, before RoPE.

    shift: (s, u), both at least 0, below T. bound: of one channel, a sum of products of a query
    and a key factor. extra: values of its further symbols.

    Raises InputError if the heads do not fit together or the text is too short for the shift.
    """
    return Shifted.of(z, w, rope, scale, [shift], extra).features(bound)


def _step(steps: Sequence[int], device: torch.device) -> int | torch.Tensor:
    """The step of all heads, or of each, (H, 1, 1)."""
    if len(steps) == 1:
        return steps[0]
    return torch.tensor(steps, dtype=torch.float64, device=device)[:, None, None]


def _moved(x: torch.Tensor, steps: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """x (H, T, ...) at the positions from which the step leads to another one, and there."""
    if len(steps) == 1:
        return x[:, : x.shape[1] - steps[0]], x[:, steps[0] :]
    if not any(steps):
        return x, x
    later = torch.arange(x.shape[1]) + torch.tensor(steps)[:, None]
    later = later.clamp_(max=x.shape[1] - 1).to(x.device)
    return x, x[torch.arange(len(steps), device=x.device)[:, None], later]
