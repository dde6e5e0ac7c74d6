"""Both sides of the bounds of rotation_precision: angles, tables and rotations in real number
formats with float32 angles, and with free rounding errors where the bound is of every arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import sympy as sp

from simulations.bounds.bound import Sides, Values
from simulations.number_formats import (
    FORMATS,
    by_format,
    half_subnormal,
    rotated,
    rounded,
    unit_roundoff,
)
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.arrays import namespace
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import (
    ANGLE_DEVIATION_SCALED,
    ANGLE_ERROR,
    ARITHMETIC,
    ARITHMETIC_FUSED,
    INVARIANCE_LOSS,
    RELATIVE_ERROR,
    TABLE_ERROR,
    TABLE_ERROR_SCALED,
)

U_ANGLE = 2.0**-24
TRIG = 2.0**-52
"""What a cosine or sine in float64 may be off by."""
LEAST_FREQUENCY = 1e-9


class Table(NamedTuple):
    """Stored cosines and sines, (batch, M), and the numbers that the registry asks for.

    angle: exact, p theta. computed: float32 product of the stored frequency. rounding: of an angle.
    """

    angle: np.ndarray
    computed: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray
    numbers: dict[str, np.ndarray]
    rounding: np.ndarray


def stored(
    angle: np.ndarray, factor: np.ndarray, kind: np.ndarray, single: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cosine and sine (batch, M) of the angles, times the factor and rounded; trig_error, u_table.

    kind: (batch,) format. single: (batch,) computed in float32, in which case a float32 table is
    not rounded again; else in float64.
    """
    # what numpy computes in float32 is rarely off by more than one spacing, but that is measured
    narrow = [f(angle.astype(np.float32)).astype(np.float64) for f in (np.cos, np.sin)]
    wide = [np.cos(angle), np.sin(angle)]
    apart = np.maximum(*(np.abs(a - b) for a, b in zip(narrow, wide, strict=True)))
    # the angle itself has to be one of float32
    single = single[:, None] & (angle == angle.astype(np.float32))
    trig = np.where(single, apart, 0.0) + TRIG
    pair = [np.where(single, a, b) * factor for a, b in zip(narrow, wide, strict=True)]
    cosine, sine = (by_format(kind, [rounded(x, name) for name in FORMATS]) for x in pair)
    again = ~(single & (factor == 1.0) & (kind == FORMATS.index("float32"))[:, None])
    return cosine, sine, trig, np.where(again, unit_roundoff(kind)[:, None], 0.0)


def table(values: Values, position: np.ndarray, factor: np.ndarray | float = 1.0) -> Table:
    """The table of RoPE at positions (batch,): frequency and angle in float32."""
    theta = np.clip(np.abs(values["theta"]), LEAST_FREQUENCY, None)
    place = position[:, None]
    frequency = rounded(theta, "float32")
    computed = (place.astype(np.float32) * frequency.astype(np.float32)).astype(np.float64)
    factor = np.broadcast_to(factor, theta.shape)
    cosine, sine, trig, unit = stored(computed, factor, values["format"], values["single"])
    numbers = {
        "p": place,
        "theta": theta,
        "frequency_error": np.abs(frequency - theta) / theta,
        "u_angle": np.asarray(U_ANGLE),
        "trig_error": trig,
        "u_table": unit,
    }
    angle = place * theta
    return Table(angle, computed, cosine, sine, numbers, UNIT_ROUNDOFF * (8 + 8 * angle))


def worst(observed: np.ndarray, bound: np.ndarray, rounding: np.ndarray) -> Sides:
    """Of every instance the channel whose ratio is the largest."""
    at = np.argmax((observed - rounding) / np.maximum(bound, 1e-300), axis=1)[:, None]
    sides = (np.take_along_axis(side, at, axis=1)[:, 0] for side in (observed, bound, rounding))
    return Sides(*sides)


def angle_sides(values: Values) -> Sides:
    """Error of the computed angle."""
    found = table(values, values["p"])
    observed = np.abs(found.computed - found.angle)
    return worst(observed, evaluate(ANGLE_ERROR, found.numbers), found.rounding)


def table_sides(scaled: bool, values: Values) -> Sides:
    """Distance of a stored pair from the unit vector of its angle, (batch, M) of any angles."""
    angle = values["angle"]
    factor = np.broadcast_to(_factor(values) if scaled else 1.0, angle.shape)
    cosine, sine, trig, unit = stored(angle, factor, values["format"], values["single"])
    pair = (cosine + 1j * sine) / factor
    numbers = {"trig_error": trig, "u_table": unit}
    bound = evaluate(TABLE_ERROR_SCALED if scaled else TABLE_ERROR, numbers)
    observed = np.abs(pair - np.exp(1j * angle))
    return worst(observed, bound, np.full(angle.shape, 16 * UNIT_ROUNDOFF))


def _factor(values: Values) -> np.ndarray:
    """(batch, 1) attention scaling, of a size that no format overflows or underflows at."""
    return np.clip(np.abs(values["factor"]), 0.125, 8.0)[:, None]


def turn_sides(bound: sp.Expr, what: str, values: Values) -> Sides:
    """what: "chord" of the stored pair from the exact one, or the "angle" between them."""
    scaled = bound == ANGLE_DEVIATION_SCALED
    found = table(values, values["p"], _factor(values) if scaled else 1.0)
    back = (found.cosine + 1j * found.sine) * np.exp(-1j * found.angle)
    observed = np.abs(back - 1) if what == "chord" else np.abs(np.angle(back))
    return worst(observed, evaluate(bound, found.numbers), 2 * found.rounding)


def _held(z: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Channels (batch, M) as the format holds them."""
    real, imaginary = (
        by_format(kind, [rounded(np.clip(x, -1e3, 1e3), name) for name in FORMATS])
        for x in (np.real(z), np.imag(z))
    )
    return real + 1j * imaginary


def _rotated(z: np.ndarray, found: Table, kind: np.ndarray, fused: bool) -> np.ndarray:
    return by_format(
        kind,
        [rotated(z.real, z.imag, found.cosine, found.sine, name, fused) for name in FORMATS],
    )


def channel_sides(bound: sp.Expr, fused: bool, relative: bool, values: Values) -> Sides:
    """Error of a rotated channel; relative: of |z|, where nothing underflows.

    The stored pair of a float32 table is put in the format of the arithmetic, as `format` is both.
    """
    kind = values["format"]
    z = _held(values["z"], kind)
    if relative:
        # bfloat16 and float32 only, and no channel that is nearly 0
        kind = np.where(kind == FORMATS.index("float16"), FORMATS.index("float32"), kind)
        z = _held(np.where(np.abs(z) < 1e-6, 1.0, z), kind)
    found = table({**values, "format": kind}, values["p"])
    numbers = found.numbers | {
        "z": z,
        "u": unit_roundoff(kind)[:, None],
        "tiny": half_subnormal(kind)[:, None],
    }
    error = np.abs(_rotated(z, found, kind, fused) - z * np.exp(1j * found.angle))
    size = np.abs(z)
    limit = evaluate(bound, numbers)
    if relative:
        return worst(error / size, limit, 2 * found.rounding)
    return worst(error, limit, 2 * size * found.rounding)


# --- any arithmetic, any errors ----------------------------------------------------------------


def free_sides(fused: bool, values: Values) -> Sides:
    """x cos - y sin + i (x sin + y cos) with any relative errors up to u of products and sums."""
    xp = namespace(values["z"])
    unit = values["u"]
    off = unit[:, None] * xp.clip(values["errors"], -1.0, 1.0)
    x, y = xp.real(values["z"]), xp.imag(values["z"])
    c, s = xp.real(values["pair"]), xp.imag(values["pair"])
    kept = 0.0 if fused else 1.0
    first, second = x * c * (1 + kept * off[:, 0]), y * s * (1 + off[:, 1])
    third, fourth = x * s * (1 + kept * off[:, 2]), y * c * (1 + off[:, 3])
    lost_real = (first - second) * (1 + off[:, 4]) - (x * c - y * s)
    lost_imaginary = (third + fourth) * (1 + off[:, 5]) - (x * s + y * c)
    size = xp.abs(values["z"]) * xp.abs(values["pair"])
    limit = evaluate(ARITHMETIC_FUSED if fused else ARITHMETIC, {"u": unit}) * size
    observed = xp.sqrt(lost_real**2 + lost_imaginary**2)
    return Sides(observed, limit, 32 * UNIT_ROUNDOFF * size)


ERRORS = ("error_q", "error_k", "error_q_s", "error_k_s")


def invariance_sides(values: Values) -> Sides:
    """Logits that are equal without rounding, rotated channels with any relative errors.

    errors: (batch, 4, M) complex, at most 1 in modulus, times rho (batch,).
    """
    xp = namespace(values["z"])
    z, w, theta, lam = (values[name] for name in ("z", "w", "theta", "lambda"))
    size = xp.abs(values["errors"])
    off = values["errors"] / xp.clip(size, 1.0, None) * values["rho"][:, None, None]
    angle = values["distance"][:, None] * theta
    aligned = z * xp.conj(w) * (xp.cos(angle) + 1j * xp.sin(angle)) * lam
    before = (1 + off[:, 0]) * xp.conj(1 + off[:, 1])
    after = (1 + off[:, 2]) * xp.conj(1 + off[:, 3])
    observed = xp.abs(xp.sum(xp.real(aligned * (after - before)), axis=-1))
    named = {name: xp.abs(off[:, k]) for k, name in enumerate(ERRORS)}
    limit = xp.sum(evaluate(INVARIANCE_LOSS, {**named, "lambda": lam, "z": z, "w": w}), axis=-1)
    total = xp.sum(xp.abs(aligned), axis=-1)
    return Sides(observed, limit, UNIT_ROUNDOFF * (32 + z.shape[-1]) * total)


def lost_sides(values: Values) -> Sides:
    """The same of channels that are rotated in bfloat16 or float32."""
    kind = values["format"]
    kind = np.where(kind == FORMATS.index("float16"), FORMATS.index("bfloat16"), kind)
    z, w = (_held(values[name], kind) for name in ("z", "w"))
    # products of channels that are nearly 0 underflow
    z, w = (np.where(np.abs(x) < 1e-6, 1.0, x) for x in (z, w))
    t, i, s = values["p"], np.floor(values["p"] * values["share"]), values["s"]
    units = {"u": unit_roundoff(kind)[:, None]}
    turned, errors, rounding = [], [], 0.0
    for x, place in ((z, t), (w, i), (z, t + s), (w, i + s)):
        found = table({**values, "format": kind}, place)
        turned.append(_rotated(x, found, kind, False))
        errors.append(evaluate(RELATIVE_ERROR, found.numbers | units))
    lam = values["lambda"]
    logits = [np.sum(lam * (turned[k] * np.conj(turned[k + 1])).real, axis=1) for k in (0, 2)]
    named = dict(zip(ERRORS, errors, strict=True)) | {"lambda": lam, "z": z, "w": w}
    limit = np.sum(evaluate(INVARIANCE_LOSS, named), axis=1)
    size = np.sum(lam * np.abs(z) * np.abs(w), axis=1)
    rounding = UNIT_ROUNDOFF * (64 + 2 * z.shape[1]) * size
    return Sides(np.abs(logits[1] - logits[0]), limit, rounding)
