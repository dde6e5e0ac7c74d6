"""What a kernel multiplies to check a bound on every pair: features of queries and of keys.

Both the change of a logit and its bound are generated from the expressions of
`tappa_theory.shift_identity` and the theorem, for any number of heads at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
import torch

from gpu_check.comparison import row_error, rounding_units
from tappa_theory.energy import channel_gain
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import Separable, separate
from tappa_theory.shift_identity import LOGIT_CHANGE, features_at


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
def _separated(expression: sp.Expr, shift: tuple[int, int]) -> Separable:
    return separate(features_at(shift, expression))


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
    (heads, length, channels), (kv_heads, *_), (s, u) = z.shape, w.shape, shift
    if heads % kv_heads or w.shape[1:] != z.shape[1:]:
        raise InputError(
            f"queries {tuple(z.shape)} and keys {tuple(w.shape)} do not fit together; pass "
            "(heads, T, M) and (kv_heads, T, M)"
        )
    if length <= max(shift):
        raise InputError(f"a shift of {shift} needs more than {length} positions")
    positions = torch.arange(length, dtype=torch.float64, device=z.device)[:, None]
    gain = torch.tensor(channel_gain(rope, scale), device=z.device)
    values = {
        "z": z[:, : length - s],
        "z_s": z[:, s:],
        "w": w[:, : length - u],
        "w_u": w[:, u:],
        "theta": torch.tensor(rope.frequencies, device=z.device),
        "lambda": gain,
        "t": positions[: length - s],
        "i": positions[: length - u],
        "L": s,
        "N": u,
        **(extra or {}),
    }
    values |= {"dz": values["z_s"] - values["z"], "dw": values["w_u"] - values["w"]}
    change, limit = _separated(LOGIT_CHANGE, shift), _separated(bound, shift)
    weight = torch.sqrt(gain)
    query_norm, key_norm = (
        torch.linalg.vector_norm(torch.view_as_real(x * weight).flatten(-2), dim=-1) for x in (z, w)
    )
    query_bound, key_bound = limit.query_features(values), limit.key_features(values)
    query_change, key_change = change.query_features(values), change.key_features(values)
    angle = length * float(rope.frequencies.max())
    units = rounding_units(query_change.shape[-1], query_bound.shape[-1], angle, by_moves=True)
    return ShiftFeatures(
        query_change=query_change,
        key_change=key_change,
        query_bound=query_bound,
        key_bound=key_bound,
        query_error=units * UNIT_ROUNDOFF * row_error(query_norm, s),
        key_error=row_error(key_norm, u),
    )
