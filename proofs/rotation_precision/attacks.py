"""Attacks on the rotation precision: exact emulation of number formats, and free roundings."""

from __future__ import annotations

from functools import partial

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import (
    ANGLE_DEVIATION,
    ARITHMETIC,
    ARITHMETIC_FUSED,
    CHANNEL_ERROR,
    CHANNEL_ERROR_FUSED,
    HALF_SUBNORMAL,
    INVARIANCE_LOSS,
    UNIT_ROUNDOFF,
)

FORMATS = {"bfloat16": (8, -126), "float16": (11, -14), "float32": (24, -126)}
"""Significant bits, and the exponent of the smallest normal number."""
TRIG = 2.0**-25 * (1 + 2.0**-20)
"""A cosine in float64, rounded to float32: half the spacing below 1."""
BLOCK = np.arange(16.0)
LAST = 2.0**24
FREQUENCY = 2.0**-24
"""Relative error of the stored frequencies of the attacks."""
FREE_U, FREE_ERROR = 2.0**-11, 2.0**-11


def rounded(x: np.ndarray, name: str) -> np.ndarray:
    """Round float64 to nearest, ties to even, in the format of that name; nothing overflows."""
    bits, lowest = FORMATS[name]
    exponent = np.maximum(np.frexp(x)[1], lowest + 1) - bits
    return np.ldexp(np.rint(np.ldexp(x, -exponent)), exponent)


def stored_table(
    x: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """(positions, exact angles, stored cosines, sines, frequency): 16 positions up to 2^24.

    x: frequency from 1 down to 1e-4, first position, and relative error of the stored frequency.
    """
    frequency = rounded(np.asarray(10.0 ** (-2 * (1 + x[0]))), "float32")
    positions = np.floor((1 + x[1]) / 2 * (LAST - len(BLOCK))) + BLOCK
    exact = float(frequency) / (1 + FREQUENCY * x[2])
    angle = rounded(positions * frequency, "float32")
    cosine, sine = (rounded(f(angle), "float32") for f in (np.cos, np.sin))
    if name != "float32":
        cosine, sine = rounded(cosine, name), rounded(sine, name)
    return positions, positions * exact, cosine, sine, exact


def table_values(positions: np.ndarray, frequency: float, name: str) -> dict[str, np.ndarray]:
    """What the registry's expressions of the table are evaluated on."""
    # a table in float32 is rounded once: that is in TRIG
    unit = 0.0 if name == "float32" else float(UNIT_ROUNDOFF[name])
    numbers = {
        "theta": frequency,
        "frequency_error": FREQUENCY * (1 + 2 * FREQUENCY),
        "u_angle": 2.0**-24,
        "trig_error": TRIG,
        "u_table": unit,
    }
    return {"p": positions} | {key: np.asarray(value) for key, value in numbers.items()}


def _deviation(bound: sp.Expr, name: str, x: np.ndarray) -> float:
    positions, angle, cosine, sine, frequency = stored_table(x, name)
    along = cosine * np.cos(angle) + sine * np.sin(angle)
    across = sine * np.cos(angle) - cosine * np.sin(angle)
    allowed = evaluate(bound, table_values(positions, frequency, name))
    return float(np.max(np.abs(np.arctan2(across, along)) / allowed))


def rotate(
    x: np.ndarray, y: np.ndarray, c: np.ndarray, s: np.ndarray, name: str, fused: bool
) -> np.ndarray:
    """x c - y s + i (x s + y c) in the arithmetic of a format; fused: one product unrounded."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return rounded(a * b, name)

    kept = np.multiply if fused else product
    return rounded(kept(x, c) - product(y, s), name) + 1j * rounded(
        kept(x, s) + product(y, c), name
    )


def _channel(bound: sp.Expr, name: str, fused: bool, x: np.ndarray) -> float:
    positions, angle, cosine, sine, frequency = stored_table(x, name)
    # float16 underflows soon: sizes go down to 2^-24
    scale = 2.0 ** (-12 * (1 + x[3]))
    real, imaginary = (rounded(np.asarray(part * scale), name) for part in x[4:6])
    z = real + 1j * imaginary
    computed = rotate(real, imaginary, cosine, sine, name, fused)
    observed = np.abs(computed - z * np.exp(1j * angle))
    values = table_values(positions, frequency, name) | {
        "z": np.asarray(z),
        "u": np.asarray(float(UNIT_ROUNDOFF[name])),
        "tiny": np.asarray(float(HALF_SUBNORMAL[name])),
    }
    # nothing over nothing is 0: a zero vector, where no underflow is allowed for
    return float(np.max(observed / np.maximum(evaluate(bound, values), 2.0**-1000)))


def _free(bound: sp.Expr, fused: bool, x: np.ndarray) -> float:
    """Rounding errors are any numbers up to u, relative."""
    real, imaginary, cosine, sine = x[:4]
    d = x[4:] * FREE_U
    if fused:
        d = d.copy()
        d[[0, 2]] = 0.0
    first, second = real * cosine * (1 + d[0]), imaginary * sine * (1 + d[1])
    third, fourth = real * sine * (1 + d[2]), imaginary * cosine * (1 + d[3])
    computed = complex((first - second) * (1 + d[4]), (third + fourth) * (1 + d[5]))
    exact = complex(real, imaginary) * complex(cosine, sine)
    allowed = float(evaluate(bound, {"u": np.asarray(FREE_U)})) * abs(exact)
    return abs(computed - exact) / allowed if abs(exact) > 1e-6 else 0.0


def _invariance(bound: sp.Expr, x: np.ndarray) -> float:
    """The logits of one channel at (t, i) and (t + s, i + s); relative errors in a disc."""
    pairs = x[:12:2] + 1j * x[1:12:2]
    z, w, *errors = pairs
    off = np.array([error / max(1.0, abs(error)) for error in errors]) * FREE_ERROR
    theta, t, i, s = np.pi * abs(x[12]), 3, 1, 2
    places = np.array([t, i, t + s, i + s])
    rotated = np.array([z, w, z, w]) * np.exp(1j * places * theta) * (1 + off)
    logits = [(rotated[k] * np.conj(rotated[k + 1])).real for k in (0, 2)]
    names = ("error_q", "error_k", "error_q_s", "error_k_s")
    values = {name: np.asarray(abs(e)) for name, e in zip(names, off, strict=True)}
    values |= {"lambda": np.asarray(1.0), "z": np.asarray(z), "w": np.asarray(w)}
    allowed = float(evaluate(bound, values)) + 64 * 2.0**-53 * abs(z * w)
    return abs(logits[1] - logits[0]) / allowed if allowed > 0 else 0.0


TABLE_CORNERS = (np.array([-1.0, -1, 0]), np.array([-0.99, 0.0469, 1]), np.array([1.0, 1, -1]))
"""The first positions at frequency 1; angles just above 2^23; the last at the lowest frequency."""
CHANNEL_CORNERS = (
    np.array([-1.0, -1, 0, -1, 0, 0]),
    np.array([-0.99, 0.0469, 1, -1, 1, 1]),
    np.array([-0.5, 0.0, 0, 1, 1, 0.3]),
)
"""A zero vector; large angles; subnormal numbers in float16."""
WITNESS = np.array([1.0, 0.5**0.5, 1, 0.5**0.5, 1, -1, 1, 1, 1, 1])
FREE_CORNERS = (np.zeros(10), WITNESS, np.array([0.0, 1, 0, 1, 1, 1, 1, 1, 1, 1]))
APART = np.array([1.0, 0, 1, 0, 1, 0, 1, 0, -1, 0, -1, 0, 0.3])


def deviation_attack(bound: sp.Expr, name: str, sharp: bool) -> Attack:
    """Angle between a stored (cos, sin) and the exact one over `bound`."""
    # exact angles up to 2^24 are known to 2^-29, the bound there is at least 2^-2
    title = f"angle of the table, {name}, positions up to 2^24"
    return Attack(title, 3, partial(_deviation, bound, name), sharp, 1e-7, TABLE_CORNERS)


def channel_attack(bound: sp.Expr, name: str, fused: bool = False) -> Attack:
    """Error of a rotated channel over `bound`, in the arithmetic of a format."""
    title = f"a rotated channel, {name}{', fused' if fused else ''}"
    ratio = partial(_channel, bound, name, fused)
    return Attack(title, 6, ratio, False, 1e-7, CHANNEL_CORNERS)


def free_attack(bound: sp.Expr, fused: bool = False) -> Attack:
    """Error of the arithmetic over `bound`, with free roundings."""
    title = f"the arithmetic with any relative errors{', fused' if fused else ''}"
    return Attack(title, 10, partial(_free, bound, fused), True, 1e-9, FREE_CORNERS)


def invariance_attack(bound: sp.Expr) -> Attack:
    """Difference of two logits that are equal without rounding, over `bound`."""
    corners = (np.zeros(13), APART)
    return Attack("relative positions", 13, partial(_invariance, bound), True, 1e-9, corners)


ATTACKS = (
    deviation_attack(ANGLE_DEVIATION, "float32", sharp=True),
    deviation_attack(ANGLE_DEVIATION, "bfloat16", sharp=False),
    channel_attack(CHANNEL_ERROR, "float16"),
    channel_attack(CHANNEL_ERROR_FUSED, "bfloat16", fused=True),
    free_attack(ARITHMETIC),
    free_attack(ARITHMETIC_FUSED, fused=True),
    invariance_attack(INVARIANCE_LOSS),
)
