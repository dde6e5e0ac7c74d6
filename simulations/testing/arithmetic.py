"""What rounding may add to a RoPE rotation: the theorem `rotation_precision` in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.rope_precision import frequency_error
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import (
    CHANNEL_ERROR,
    HALF_SUBNORMAL,
    TABLE_ERROR,
    TABLE_ERROR_SCALED,
    UNIT_ROUNDOFF,
)

DTYPES = tuple(UNIT_ROUNDOFF)
"""Names of the number types that there are bounds for."""


@dataclass(frozen=True)
class Arithmetic:
    """The number types in which a kernel rotates.

    dtype: of the queries and keys, before and after the rotation. angles: of the frequencies, of
    position times frequency, and of the cosine and sine that are computed. table: in which these
    are stored. rotation: of the products and sums of the rotation. All names from `DTYPES`.
    frequencies: bound on the relative error of the stored frequencies, None for
    `rope_precision.frequency_error`.
    trigonometry: bound on the error of a computed cosine or sine, None for two units in the last
    place of numbers up to 1.
    """

    dtype: str
    angles: str
    table: str
    rotation: str
    frequencies: float | None = None
    trigonometry: float | None = None

    def __post_init__(self) -> None:
        for name in (self.dtype, self.angles, self.table, self.rotation):
            if name not in UNIT_ROUNDOFF:
                raise InputError(f"number type {name!r} has no bound; use one of {DTYPES}")

    @property
    def last_position(self) -> int:
        """The largest position that the type of the angles holds exactly, with all before it."""
        return int(1 / UNIT_ROUNDOFF[self.angles])

    def channel_error(self, size: np.ndarray, rope: Rope, positions: np.ndarray) -> np.ndarray:
        """Largest |computed - exact| of a rotated channel, (..., T, M).

        size: |z| before the rotation, (..., T, M). positions: (T,). It is CHANNEL_ERROR, with one
        more rounding where the products are wider than `dtype`; 0 on channels that RoPE leaves
        alone.
        """
        pairs = rope.rotary_dim // 2
        turned = rope.attention_scaling * size[..., :pairs]
        u, tiny = _rounding(self.rotation)
        values = {
            "z": turned,
            "p": positions[:, None].astype(np.float64),
            "theta": rope.frequencies[:pairs],
            "frequency_error": self._frequency_error(rope),
            "u_angle": _rounding(self.angles)[0],
            # the theorem's expression at the table error that this table has
            "trig_error": self._table_error(rope) / math.sqrt(2),
            "u_table": 0.0,
            "u": u,
            "tiny": tiny,
        }
        error = evaluate(CHANNEL_ERROR, values)
        if UNIT_ROUNDOFF[self.rotation] < UNIT_ROUNDOFF[self.dtype]:
            u, tiny = _rounding(self.dtype)
            error = error + u * (turned + error) + math.sqrt(2) * tiny
        rest = np.zeros((*error.shape[:-1], size.shape[-1] - pairs))
        # what is exactly 0 stays 0
        return np.concatenate([np.where(turned > 0, error, 0.0), rest], axis=-1)

    def norm_error(self, size: np.ndarray, rope: Rope) -> np.ndarray:
        """The same for |computed| against |exact|, and for anything else that no angle enters.

        An error of the angle turns the channel and leaves its length: this is the error at angle 0.
        """
        return self.channel_error(size, rope, np.zeros(size.shape[-2], dtype=np.int64))

    def _table_error(self, rope: Rope) -> float:
        computed, stored = (_rounding(name)[0] for name in (self.angles, self.table))
        # Rounding to the type of the angles is in the error of the cosine.
        narrower = stored if stored > computed else 0.0
        trigonometry = 2 * computed if self.trigonometry is None else self.trigonometry
        if rope.attention_scaling == 1.0:
            expression, u = TABLE_ERROR, narrower
        else:
            # The factor is rounded, and the product with it, before the table is.
            expression, u = TABLE_ERROR_SCALED, (1 + narrower) * (1 + computed) ** 2 - 1
        values = {"trig_error": np.float64(trigonometry), "u_table": np.float64(u)}
        return float(evaluate(expression, values))

    def _frequency_error(self, rope: Rope) -> np.ndarray:
        if self.frequencies is None:
            return frequency_error(rope, _rounding(self.angles)[0])
        return np.full(rope.rotary_dim // 2, self.frequencies)


EXACT = Arithmetic("float64", "float64", "float64", "float64", frequencies=0.0)
"""Of `tappa_theory.rope.rotate`, which stands for the exact rotation."""


def _rounding(dtype: str) -> tuple[float, float]:
    """Unit roundoff, and half the smallest subnormal number (0 where float64 cannot hold it)."""
    return float(UNIT_ROUNDOFF[dtype]), float(HALF_SUBNORMAL[dtype])
