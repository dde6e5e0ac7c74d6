"""Number formats of 16, 32 and 64 bits: rounding to nearest, and arithmetic that rounds.

All but bfloat16 are numpy's own; bfloat16 is rounded here from float64, correctly, ties to even.
Numbers are held in float64, which represents all of them.
"""

from __future__ import annotations

import numpy as np

from tappa_theory.theorems.rotation_precision import HALF_SUBNORMAL, UNIT_ROUNDOFF

FORMATS = ("bfloat16", "float16", "float32")
"""Instances name a format by its index in here."""
NATIVE = {"float16": np.float16, "float32": np.float32, "float64": np.float64}
DROPPED = 53 - 8
"""Significant bits that a float64 has more than a bfloat16."""
SMALLEST, SUBNORMAL = 2.0**-126, 2.0**-133
"""Of bfloat16: smallest normal and smallest subnormal number."""


def rounded(x: np.ndarray, name: str) -> np.ndarray:
    """float64 to the nearest number of the format, ties to even; as float64."""
    if name in NATIVE:
        return x.astype(NATIVE[name]).astype(np.float64)
    x = np.asarray(x, dtype=np.float64)
    bits = x.view(np.uint64)
    odd = (bits >> np.uint64(DROPPED)) & np.uint64(1)
    bits = bits + (np.uint64(2 ** (DROPPED - 1) - 1) + odd)
    normal = (bits & ~np.uint64(2**DROPPED - 1)).view(np.float64)
    tiny = np.abs(x) < SMALLEST
    return np.where(tiny, np.rint(x / SUBNORMAL) * SUBNORMAL, normal) if tiny.any() else normal


def product(a: np.ndarray, b: np.ndarray, name: str) -> np.ndarray:
    """a b in the arithmetic of the format."""
    if name in NATIVE:
        kind = NATIVE[name]
        return (a.astype(kind) * b.astype(kind)).astype(np.float64)
    return rounded(a * b, name)


def total(a: np.ndarray, b: np.ndarray, name: str) -> np.ndarray:
    """a + b in the arithmetic of the format."""
    if name in NATIVE:
        kind = NATIVE[name]
        return (a.astype(kind) + b.astype(kind)).astype(np.float64)
    return rounded(a + b, name)


def rotated(
    x: np.ndarray, y: np.ndarray, cosine: np.ndarray, sine: np.ndarray, name: str, fused: bool
) -> np.ndarray:
    """x cos - y sin + i (x sin + y cos), every product and sum rounded.

    fused: the first product of each sum is not; float64 holds it, and rounds the sum first.
    """
    if fused:
        real = rounded(x * cosine - product(y, sine, name), name)
        return real + 1j * rounded(x * sine + product(y, cosine, name), name)
    real = total(product(x, cosine, name), -product(y, sine, name), name)
    return real + 1j * total(product(x, sine, name), product(y, cosine, name), name)


def unit_roundoff(index: np.ndarray) -> np.ndarray:
    """Unit roundoff of the formats of these indices."""
    return np.array([float(UNIT_ROUNDOFF[name]) for name in FORMATS])[index]


def half_subnormal(index: np.ndarray) -> np.ndarray:
    """Half the smallest subnormal number of the formats of these indices."""
    return np.array([float(HALF_SUBNORMAL[name]) for name in FORMATS])[index]


def by_format(index: np.ndarray, of_each: list[np.ndarray]) -> np.ndarray:
    """(batch, ...) of each instance the result in its own format; of_each: one for each format."""
    column = index.reshape(index.shape + (1,) * (of_each[0].ndim - 1))
    return np.select([column == k for k in range(len(FORMATS))], of_each)
