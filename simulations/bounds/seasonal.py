"""Theorem 5.4: (B) at the three shifts by a period, and the published form, repaired."""

from __future__ import annotations

import numpy as np

from simulations.bounds.bound import Bound, Instances, Sides, Values, norm, sum_rounding
from simulations.bounds.shift_bound import (
    aligned,
    change,
    moved,
    shift_bound,
    shift_draw,
    shift_from_head,
    steps,
)
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.theorems.seasonal import THEOREM

LONGEST = 32
_LATER_QUERY = steps(1, LONGEST, "query")


def _resonance_error(values: Values, energy: Array) -> Array:
    """delta: the most that L positions turn a unit vector on a channel that carries energy."""
    xp = namespace(energy)
    angle = values["s"][..., None] * values["theta"]
    turned = xp.sqrt((xp.cos(angle) - 1) ** 2 + xp.sin(angle) ** 2)
    return xp.max(xp.where(energy > 0, turned, xp.zeros_like(turned)), axis=-1)


def _repaired(values: Values) -> Sides:
    later, later_key = moved(values)
    difference, size, angle = change(values)
    xp = namespace(size)
    energy = xp.abs(values["z"] * values["w"])
    bound = evaluate(
        THEOREM.auxiliary["repaired"],
        {
            "lambda": values["lambda"][..., 0],
            "query_norm": norm(values["z"]),
            "key_norm_u": norm(later_key),
            "query_step": norm(later - values["z"]),
            "key_step": norm(later_key - values["w"]),
            "energy_sum": xp.sum(energy, axis=-1),
            "delta": _resonance_error(values, energy),
        },
    )
    rounding = sum_rounding(size + bound, angle, energy.shape[-1])
    return Sides(xp.abs(difference), bound, rounding)


def _worst_channel(values: Values) -> Sides:
    _, later_key = moved(values)
    difference, size, angle = change(values)
    xp = namespace(size)
    delta = _resonance_error(values, xp.abs(values["z"] * values["w"]))[..., None]
    given = {**values, "w_u": later_key, "delta": delta}
    bound = xp.sum(evaluate(THEOREM.auxiliary["worst_channel"], given), axis=-1)
    rounding = sum_rounding(size + bound, angle, values["z"].shape[-1])
    return Sides(xp.abs(difference), bound, rounding)


def _replaced(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """The query L positions later, and the key at its place replaced by another one."""
    values = shift_draw(steps(1, LONGEST), "both")(rng, channels, batch)
    return {**values, "u": np.zeros(batch)}


def _one_channel(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """All energy on the first channel, drifts and turn one way, query and later key equally long.

    The rotation must not resonate there, or nothing turns.
    """
    values = aligned(_replaced(rng, channels, batch), rng)
    found = {name: array.copy() for name, array in values.items()}
    for name in ("z", "z_s", "w", "w_u"):
        found[name][:, 1:] = 0
    size = np.abs(found["w_u"][:, :1]) / np.abs(found["z"][:, :1])
    return found | {"z": size * found["z"], "z_s": size * found["z_s"]}


BOUNDS = (
    shift_bound(THEOREM.id, THEOREM.id, THEOREM.bound, _LATER_QUERY, "query"),
    shift_bound(
        THEOREM.id,
        "seasonal.later_key",
        THEOREM.auxiliary["later_key"],
        steps(1, LONGEST, "key"),
        "key",
    ),
    shift_bound(
        THEOREM.id,
        "seasonal.both_later",
        THEOREM.auxiliary["both_later"],
        steps(1, LONGEST, together=True),
    ),
    Bound(
        theorem=THEOREM.id,
        name="seasonal.worst_channel",
        sharp=True,
        free=("z", "z_s", "w", "w_u"),
        draw=_replaced,
        sides=_worst_channel,
        equality=_one_channel,
        from_head=shift_from_head(_LATER_QUERY, "query"),
    ),
    Bound(
        theorem=THEOREM.id,
        name="seasonal.repaired",
        sharp=True,
        free=("z", "z_s", "w", "w_u"),
        draw=_replaced,
        sides=_repaired,
        equality=_one_channel,
        from_head=shift_from_head(_LATER_QUERY, "query"),
    ),
)
