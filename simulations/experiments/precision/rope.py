"""RoPE as models compute it in few bits, and what theorem `rotation_precision` says of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp

from simulations.number_formats import rotated, rounded
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import HALF_SUBNORMAL, UNIT_ROUNDOFF


@dataclass(frozen=True)
class Practice:
    """The number types of a RoPE.

    angles: of positions, stored frequencies and their products. table: of the stored cosines and
    sines, of queries and keys, and of the products and sums that rotate them.
    """

    name: str
    angles: str
    table: str

    @property
    def exact_to(self) -> int:
        """Last position up to which the type of the angles holds every position."""
        return int(1 / UNIT_ROUNDOFF[self.angles])


@dataclass(frozen=True, eq=False)
class Table:
    """Cosine + i sine as stored, the rounded angles they are of, and the theorem's TRIG_ERROR: by
    how much the computed ones, not yet rounded to the type of the table, are off at most."""

    pair: np.ndarray
    angle: np.ndarray
    trig_error: float


def stored_frequencies(practice: Practice, head_dim: int, base: float) -> np.ndarray:
    """(M,) 1 / base^(2j/d) as models compute it in float32, rounded to the type of the angles."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return rounded(np.float32(1) / np.float32(base) ** exponent, practice.angles)


def table(practice: Practice, positions: np.ndarray, theta: np.ndarray | float) -> Table:
    """The table at positions below 2^24 and stored frequencies that broadcast.

    Cosines and sines are numpy's of float32.
    """
    # float64 holds the product of a position and a float32 exactly, so it is rounded once.
    angle = rounded(rounded(positions.astype(np.float64), practice.angles) * theta, practice.angles)
    cos, sin = np.cos(angle.astype(np.float32)), np.sin(angle.astype(np.float32))
    error = max(np.abs(cos - np.cos(angle)).max(), np.abs(sin - np.sin(angle)).max())
    pair = rounded(cos, practice.table) + 1j * rounded(sin, practice.table)
    return Table(pair, angle, float(error))


def turn(z: np.ndarray, pair: np.ndarray, dtype: str) -> np.ndarray:
    """z times pair, each product and sum rounded; both hold `dtype` numbers."""
    return rotated(z.real, z.imag, pair.real, pair.imag, dtype, fused=False)


def in_type(z: np.ndarray, dtype: str) -> np.ndarray:
    """Complex numbers with real and imaginary part rounded to that type."""
    return rounded(z.real, dtype) + 1j * rounded(z.imag, dtype)


def bound(
    expression: sp.Expr,
    practice: Practice,
    positions: np.ndarray,
    theta: np.ndarray | float,
    trig_error: float,
    frequency_error: float = 0.0,
    z: np.ndarray | None = None,
) -> np.ndarray:
    """An expression of the registry for that practice, elementwise.

    frequency_error: relative, of the stored frequency against theta. z: where it is asked for. A
    float32 table is not rounded: that is in trig_error.
    """
    unit = float(UNIT_ROUNDOFF[practice.table])
    values = {
        "p": positions.astype(np.float64),
        "theta": theta,
        "frequency_error": frequency_error,
        "u_angle": float(UNIT_ROUNDOFF[practice.angles]),
        "trig_error": trig_error,
        "u_table": 0.0 if practice.table == "float32" else unit,
        "u": unit,
        "tiny": float(HALF_SUBNORMAL[practice.table]),
        "z": z,
    }
    return np.asarray(evaluate(expression, values))
