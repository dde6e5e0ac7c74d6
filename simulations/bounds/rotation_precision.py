"""Rotation precision on arrays: instances in bfloat16, float16 and float32 at positions to 131,072,
and what attains the bounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import sympy as sp

from simulations.bounds.bound import (
    Bound,
    Instances,
    Sides,
    Values,
    channel_vectors,
    complex_normal,
    frequencies,
    gains,
    scales,
)
from simulations.bounds.rotations import (
    ERRORS,
    angle_sides,
    channel_sides,
    free_sides,
    invariance_sides,
    lost_sides,
    table_sides,
    turn_sides,
)
from simulations.head import SyntheticHead
from simulations.number_formats import FORMATS, unit_roundoff
from tappa_theory.theorems.rotation_precision import (
    ANGLE_DEVIATION,
    ANGLE_DEVIATION_SCALED,
    CHANNEL_ERROR,
    CHANNEL_ERROR_FUSED,
    RELATIVE_ERROR,
    RELATIVE_ERROR_FUSED,
    THEOREM,
    TURN_ERROR,
)

ID = THEOREM.id
Draw = Callable[[np.random.Generator, int, int], Instances]
LAST = 131_072
LARGEST_STEP = 4096


def draw(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Channels, frequencies and positions of all sizes; half of the tables come from float32
    functions, the others from float64."""
    position = np.floor(np.exp(rng.uniform(0.0, np.log(LAST), batch)))
    size = 10.0 ** rng.uniform(-4, 1, (batch, 1))
    return {
        "z": size * channel_vectors(rng, batch, channels),
        "w": channel_vectors(rng, batch, channels),
        "theta": frequencies(rng, channels, batch),
        "lambda": scales(rng, channels, batch),
        "p": np.where(rng.random(batch) < 0.05, 0.0, position),
        "s": np.floor(np.exp(rng.uniform(0.0, np.log(LARGEST_STEP), batch))),
        "share": rng.random(batch),
        "format": rng.integers(len(FORMATS), size=batch),
        "single": rng.random(batch) < 0.5,
        "factor": rng.uniform(0.5, 2.0, batch),
    }


def from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    """Queries and keys of a head, at the head's own frequencies."""
    theta, gain = gains(head, batch)
    t, i = rng.integers(head.length, size=(2, batch))
    vectors = {"z": head.z[t], "w": head.w[i], "theta": theta, "lambda": gain}
    return draw(rng, theta.shape[1], batch) | vectors


UNEVEN = (75675, 81007, 94145, 113511)
"""Positions whose multiples fall between the numbers of float32 everywhere: odd, and about an
irrational share (such as the golden section) of 2^17."""


def _midway(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Frequencies whose product with the position lies midway between two numbers of float32 just
    above a power of two, and which are rounded in the same direction as that product.

    All in whole numbers: m of 24 bits times the position; the float32 frequency is m 2^-23.
    """
    position = rng.choice(UNEVEN, size=(batch, 1))
    exponent = np.ceil(np.log2(position)).astype(int) + 23
    first = -(-(2**exponent) // position)
    m = first[..., None] + rng.integers(0, 512, size=(batch, min(channels, 4), 1)) + np.arange(2048)
    exact = m * position[..., None]
    # below 2^41 both are numbers of float64
    error = exact.astype(np.float32).astype(np.float64) - exact
    best = np.argmax(np.abs(error) / exact, axis=-1)[..., None]
    m, error = (np.take_along_axis(x, best, axis=-1)[..., 0] for x in (m, error))
    theta = (m - 0.49 * np.sign(error)) * 2.0**-23
    theta = theta[:, np.arange(channels) % theta.shape[1]]
    values = draw(rng, channels, batch) | {"theta": theta, "p": position[:, 0] * 1.0}
    return {**values, "format": np.full(batch, FORMATS.index("float32"))}


CORNERS = {"bfloat16": (357, 367), "float16": (2425, 3301), "float32": (23648991, 23803889)}
"""Cosine and sine of an angle in half spacings below 1, odd: each is rounded by nearly one."""


def draw_angles(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Angles up to those of the last position, half of them numbers of float32."""
    values = draw(rng, channels, batch)
    angle = np.exp(rng.uniform(-8.0, np.log(LAST), (batch, channels)))
    narrow = angle.astype(np.float32).astype(np.float64)
    return {**values, "angle": np.where(values["single"][:, None], narrow, angle)}


def angles_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    """Angles of a head at any position."""
    values = from_head(rng, head, batch)
    return {**values, "angle": values["p"][:, None] * values["theta"]}


def _corners(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Float16 and float32: in bfloat16 an exact unit vector comes within 0.5% only."""
    values = draw_angles(rng, channels, batch)
    kind = rng.integers(1, len(FORMATS), size=batch)
    odd = np.array([CORNERS[name] for name in FORMATS])[kind]
    quarters = rng.integers(-2, 2, size=(batch, channels)) * np.pi / 2
    angle = np.arctan2(odd[:, 1], odd[:, 0])[:, None] + quarters
    return {**values, "angle": angle, "format": kind, "single": np.zeros(batch, dtype=bool)}


def _scaled_corners(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """A factor at which cosine and sine of 45 degrees lie midway above 1."""
    values = draw_angles(rng, channels, batch)
    kind = rng.integers(1, len(FORMATS), size=batch)
    quarters = rng.integers(-2, 2, size=(batch, channels)) * np.pi / 2
    return values | {
        "angle": np.pi / 4 + quarters,
        # the middle itself may be rounded up in float64, and would then err as much
        "factor": np.sqrt(2) * (1 + unit_roundoff(kind)),
        "format": kind,
        "single": np.zeros(batch, dtype=bool),
    }


def draw_free(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Any pair and any six relative errors of products and sums, in [-1, 1] times u."""
    return {
        "z": complex_normal(rng, batch),
        "pair": complex_normal(rng, batch),
        "errors": rng.choice([-1.0, 1.0], (batch, 6)) * rng.random((batch, 6)) ** 0.3,
        "u": unit_roundoff(rng.integers(len(FORMATS), size=batch)),
    }


def _upwards(fused: bool, rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """z = C = sqrt(2) + i, all roundings upwards but of the smaller product; fused: z = C = i."""
    size = np.exp(rng.standard_normal((2, batch)))
    witness = 1j if fused else np.sqrt(2) + 1j
    return {
        "z": size[0] * witness,
        "pair": size[1] * witness,
        "errors": np.tile([1.0, 1.0 if fused else -1.0, 1.0, 1.0, 1.0, 1.0], (batch, 1)),
        "u": unit_roundoff(rng.integers(1, len(FORMATS), size=batch)),
    }


def draw_lost(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Any relative errors of four rotated channels, up to rho."""
    return draw(rng, channels, batch) | {
        "distance": rng.integers(0, LAST, batch) * 1.0,
        "errors": complex_normal(rng, batch, len(ERRORS), channels),
        "rho": unit_roundoff(rng.integers(len(FORMATS), size=batch)) * rng.uniform(1, 4, batch),
    }


def lost_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    """Any errors of the rotated queries and keys of a head."""
    values = from_head(rng, head, batch)
    return {**draw_lost(rng, values["z"].shape[1], batch), **values}


def _one_up_one_down(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Query and key point the same way; both are too short at first, and too long later."""
    values = draw_lost(rng, channels, batch)
    turn = np.exp(1j * values["distance"][:, None] * values["theta"])
    sizes = rng.uniform(0.1, 2.0, (batch, channels))
    errors = np.broadcast_to(np.array([-1, -1, 1, 1])[:, None], values["errors"].shape)
    rho = unit_roundoff(rng.integers(1, len(FORMATS), size=batch))
    return {**values, "w": sizes * values["z"] * turn, "errors": errors + 0j, "rho": rho}


def _real(
    name: str,
    sides: Callable[[Values], Sides],
    free: tuple[str, ...],
    equality: Draw | None = None,
    angles: bool = False,
) -> Bound:
    """A bound in real number formats, which has no gradient."""
    return Bound(
        theorem=ID,
        name=name,
        sharp=equality is not None,
        free=free,
        draw=draw_angles if angles else draw,
        sides=sides,
        equality=equality,
        from_head=angles_from_head if angles else from_head,
        differentiable=False,
    )


def _channel(name: str, bound: sp.Expr, fused: bool, relative: bool) -> Bound:
    sides = partial(channel_sides, bound, fused, relative)
    return _real(name, sides, ("z", "theta"))


def _turn(name: str, bound: sp.Expr, what: str, equality: Draw | None) -> Bound:
    return _real(f"{ID}.{name}", partial(turn_sides, bound, what), ("theta",), equality)


def _free(name: str, fused: bool) -> Bound:
    return Bound(
        theorem=ID,
        name=f"{ID}.{name}",
        sharp=True,
        free=("z", "pair", "errors"),
        draw=draw_free,
        sides=partial(free_sides, fused),
        equality=partial(_upwards, fused),
        channels=False,
    )


BOUNDS = (
    _channel(ID, CHANNEL_ERROR, False, False),
    _channel(f"{ID}.channel_error_fused", CHANNEL_ERROR_FUSED, True, False),
    _channel(f"{ID}.relative_error", RELATIVE_ERROR, False, True),
    _channel(f"{ID}.relative_error_fused", RELATIVE_ERROR_FUSED, True, True),
    _real(f"{ID}.angle_error", angle_sides, ("theta",), _midway),
    _real(f"{ID}.table_error", partial(table_sides, False), ("angle",), _corners, True),
    _real(
        f"{ID}.table_error_scaled",
        partial(table_sides, True),
        ("angle", "factor"),
        _scaled_corners,
        True,
    ),
    _turn("turn_error", TURN_ERROR, "chord", _midway),
    _turn("angle_deviation", ANGLE_DEVIATION, "angle", _midway),
    # no instance on the bound is claimed
    _turn("angle_deviation_scaled", ANGLE_DEVIATION_SCALED, "angle", None),
    _free("arithmetic", False),
    _free("arithmetic_fused", True),
    Bound(
        theorem=ID,
        name=f"{ID}.invariance_loss",
        sharp=True,
        free=("z", "w", "errors"),
        draw=draw_lost,
        sides=invariance_sides,
        equality=_one_up_one_down,
        from_head=lost_from_head,
    ),
    _real(f"{ID}.invariance_loss_rounded", lost_sides, ("z", "w", "theta")),
)
