"""Theorem 5.1: the column after one step and after several, what a lead may lose, and the turn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from simulations.bounds.bound import (
    Bound,
    Instances,
    Sides,
    Values,
    channel_vectors,
    complex_normal,
    sum_rounding,
)
from simulations.bounds.margins import turned
from simulations.bounds.shift_bound import (
    aligned,
    change,
    column,
    parameters,
    shift_bound,
    shift_draw,
    shift_from_head,
    steps,
    still,
)
from simulations.head import SyntheticHead
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.theorems.re_access import THEOREM

AUXILIARY = THEOREM.auxiliary
_SEVERAL = steps(1, 16, "query")
_PAIR_BOUND = still(AUXILIARY["several_steps"], "query")

# --- the lead of a key over a rival: the rival is rival_w, at position rival_i -----------------


def _rival(values: Values) -> Values:
    return {**values, "w": values["rival_w"], "i": values["rival_i"]}


def _lead(values: Values) -> tuple[Array, Array, Array]:
    """Change of the lead over the rival, size of its terms, largest angle."""
    of_key, size, angle = change(values)
    of_rival, rival_size, rival_angle = change(_rival(values))
    xp = namespace(size)
    return xp.abs(of_key - of_rival), size + rival_size, xp.maximum(angle, rival_angle)


def _gap(values: Values) -> Sides:
    observed, size, angle = _lead(values)
    xp = namespace(observed)
    key, rival = (
        xp.sum(evaluate(_PAIR_BOUND, {**of, **parameters(of)}), axis=-1)
        for of in (values, _rival(values))
    )
    bound = evaluate(AUXILIARY["gap"], {"key_bound": key, "rival_bound": rival})
    return Sides(observed, bound, sum_rounding(size + bound, angle, values["z"].shape[-1]))


def _gap_together(values: Values) -> Sides:
    observed, size, angle = _lead(values)
    xp = namespace(observed)
    difference = _turned(values["w"], values, "i") - _turned(values["rival_w"], values, "rival_i")
    given = {**values, **parameters(values), "key_distance": xp.abs(difference)}
    bound = xp.sum(evaluate(AUXILIARY["gap_together"], given), axis=-1)
    place = column(xp.maximum(values["i"], values["rival_i"]) + values["s"])
    angle = xp.maximum(angle, xp.max(values["theta"] * place, axis=-1))
    return Sides(observed, bound, sum_rounding(2 * size, angle, values["z"].shape[-1]))


def _turned(vector: Array, values: Values, place: str, back: bool = False) -> Array:
    """Channels turned to a position (or back from it), as RoPE does."""
    return turned(vector, -values[place] if back else values[place], values["theta"])


def _with_rival(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    values = shift_draw(_SEVERAL, "query")(rng, channels, batch)
    places = np.floor(rng.random(batch) * (values["t"] + 1))
    return {**values, "rival_w": channel_vectors(rng, batch, channels), "rival_i": places}


def _rival_opposite(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Both bounds (B) are attained, one upwards and one downwards: the rival lies opposite."""
    values = aligned(_with_rival(rng, channels, batch), rng)
    size = np.exp(rng.standard_normal(values["w"].shape))
    opposite = -size * _turned(values["w"], values, "i")
    return {**values, "rival_w": _turned(opposite, values, "rival_i", back=True)}


def _rival_along_step(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """The difference of both keys lies along the query step after RoPE, any queries."""
    values = _with_rival(rng, channels, batch)
    after = {**values, "later": values["t"] + values["s"]}
    step = _turned(values["z_s"], after, "later") - _turned(values["z"], values, "t")
    size = np.exp(rng.standard_normal(step.shape))
    key = _turned(values["rival_w"], values, "rival_i") + size * step
    return {**values, "w": _turned(key, values, "i", back=True)}


def _rival_of_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    values = shift_from_head(_SEVERAL, "query")(rng, head, batch)
    places = np.floor(rng.random(batch) * (values["t"] + 1))
    return {**values, "rival_w": head.w[places.astype(int)], "rival_i": places}


# --- how far a channel turns, (batch,) complex z and z_s ---------------------------------------


def _angle(z: Array, z_s: Array) -> Array:
    xp = namespace(z)
    product = z_s * xp.conj(z)
    return xp.abs(xp.atan2(xp.imag(product), xp.real(product)))


def _arc_rounding(sine: Array) -> Array:
    """An arcsine of a number with error e is off by e/sqrt(1 - x^2), at most by sqrt(2e)."""
    xp = namespace(sine)
    error = 16 * UNIT_ROUNDOFF
    return 4 * error / xp.sqrt(xp.maximum(1 - sine**2, error + 0 * sine)) + 4 * error


def _both_norms(expression: sp.Expr) -> Callable[[Values], Sides]:
    """The radius is the smaller of both norms."""

    def sides(values: Values) -> Sides:
        z, z_s = values["z"], values["z_s"]
        xp = namespace(z)
        radius = xp.minimum(xp.abs(z), xp.abs(z_s))
        bound = evaluate(expression, {**values, "radius": radius})
        half = xp.abs(z_s - z) / (2 * radius)
        return Sides(_angle(z, z_s), bound, _arc_rounding(xp.minimum(half, 1 + 0 * half)))

    return sides


def _one_norm(values: Values) -> Sides:
    """The radius is the earlier norm, and the chord is cut to it."""
    z, step = values["z"], values["z_s"] - values["z"]
    xp = namespace(z)
    # a hair shorter, so that rounding does not leave the hypothesis
    longest = xp.abs(z) * (1 - 16 * UNIT_ROUNDOFF)
    z_s = z + step * xp.minimum(1 + 0 * longest, longest / xp.abs(step))
    bound = evaluate(AUXILIARY["arc_one_norm"], {"z": z, "z_s": z_s, "radius": xp.abs(z)})
    sine = xp.minimum(xp.abs(z_s - z) / xp.abs(z), 1 + 0 * longest)
    # where z' is nearly 0 its angle is that of what rounding left of it
    left = 4 * UNIT_ROUNDOFF * xp.abs(z) / xp.abs(z_s)
    return Sides(_angle(z, z_s), bound, _arc_rounding(sine) + left)


def _one_norm_linear(values: Values) -> Sides:
    z, z_s = values["z"], values["z_s"]
    xp = namespace(z)
    bound = evaluate(AUXILIARY["arc_one_norm_linear"], {**values, "radius": xp.abs(z)})
    return Sides(_angle(z, z_s), bound, _arc_rounding(0 * xp.abs(z)))


def _two_channels(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    z = complex_normal(rng, batch)
    return {
        "z": z,
        "z_s": z + np.abs(z) * 10.0 ** rng.uniform(-3, 0.5, batch) * complex_normal(rng, batch),
    }


def _turned_by(
    factor: Callable[[np.random.Generator, int], np.ndarray],
) -> Callable[[np.random.Generator, int, int], Instances]:
    def equality(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        z = complex_normal(rng, batch)
        return {"z": z, "z_s": factor(rng, batch) * z}

    return equality


def _acute(rng: np.random.Generator, batch: int) -> np.ndarray:
    """Foot of the perpendicular: cos(psi) e^{i psi}."""
    angle = rng.uniform(0.01, 1.55, batch)
    return np.cos(angle) * np.exp(1j * angle)


def _channels_of_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    t = rng.integers(head.length - 1, size=batch)
    m = rng.integers(head.rope.frequencies.size, size=batch)
    return {"z": head.z[t, m], "z_s": head.z[t + 1, m]}


def _arc(
    name: str,
    sides: Callable[[Values], Sides],
    factor: Callable[[np.random.Generator, int], np.ndarray],
) -> Bound:
    return Bound(
        theorem=THEOREM.id,
        name=f"re_access.{name}",
        sharp=True,
        free=("z", "z_s"),
        draw=_two_channels,
        sides=sides,
        equality=_turned_by(factor),
        from_head=_channels_of_head,
        channels=False,
    )


def _lead_bound(
    name: str,
    sides: Callable[[Values], Sides],
    equality: Callable[[np.random.Generator, int, int], Instances],
) -> Bound:
    return Bound(
        theorem=THEOREM.id,
        name=f"re_access.{name}",
        sharp=True,
        free=("z", "z_s", "w", "rival_w"),
        draw=_with_rival,
        sides=sides,
        equality=equality,
        from_head=_rival_of_head,
    )


BOUNDS = (
    shift_bound(THEOREM.id, THEOREM.id, THEOREM.bound, steps(1, 1, "query"), "query"),
    shift_bound(
        THEOREM.id, "re_access.several_steps", AUXILIARY["several_steps"], _SEVERAL, "query"
    ),
    _lead_bound("gap", _gap, _rival_opposite),
    _lead_bound("gap_together", _gap_together, _rival_along_step),
    # equal norms, any angle up to pi
    _arc("arc", _both_norms(AUXILIARY["arc"]), lambda rng, n: np.exp(1j * rng.uniform(0.01, 3, n))),
    _arc("arc_linear", _both_norms(AUXILIARY["arc_linear"]), lambda rng, n: -np.ones(n) + 0j),
    _arc("arc_one_norm", _one_norm, _acute),
    # approached only: opposite, and ever shorter
    _arc(
        "arc_one_norm_linear",
        _one_norm_linear,
        lambda rng, n: -(10.0 ** rng.uniform(-9, -4, n)) + 0j,
    ),
)
