"""Which similarity: the change of a logit from norms, a cosine and the step of the key."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from simulations.bounds.bound import Bound, Instances, Sides, Values, norm, sum_rounding
from simulations.bounds.shift_bound import (
    change,
    column,
    shift_draw,
    shift_from_head,
    steps,
)
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.theorems.similarity_direction import THEOREM

AUXILIARY = THEOREM.auxiliary
_ANY = steps(1, 8)


def _numbers(values: Values) -> dict[str, Array]:
    """Norms, similarity and key step; the key repeats where w_u is not given."""
    z, z_s, w = values["z"], values["z_s"], values["w"]
    xp = namespace(z)
    places = {"theta": values["theta"], "s": column(values["s"]), "u": column(values["u"])}
    product = xp.sum(evaluate(AUXILIARY["product"], {"z": z, "z_s": z_s, **places}), axis=-1)
    return {
        "lambda": values["lambda"][..., 0],
        "key_norm": norm(w),
        "query_norm": norm(z),
        "query_norm_s": norm(z_s),
        # rounding must not make a cosine of it that no two vectors have
        "similarity": xp.clip(product / (norm(z) * norm(z_s)), -1.0, 1.0),
        "key_step": norm(values.get("w_u", w) - w),
    }


def _sides(expression: sp.Expr) -> Callable[[Values], Sides]:
    def sides(values: Values) -> Sides:
        difference, size, angle = change(values)
        xp = namespace(size)
        numbers = _numbers(values)
        # norms and similarity cancel in the step, and a root of what is left may double the loss
        channels = values["z"].shape[-1]
        norms = numbers["query_norm"] + numbers["query_norm_s"]
        lost = sum_rounding(norms**2, angle, channels)
        bound = evaluate(expression, numbers)
        step = xp.sqrt(xp.maximum(evaluate(AUXILIARY["step_squared"], numbers), lost))
        rounding = 2 * numbers["lambda"] * numbers["key_norm"] * lost / step
        rounding = rounding + sum_rounding(size + bound, angle, channels)
        return Sides(xp.abs(difference), bound, rounding)

    return sides


def _draw(repeats: bool) -> Callable[[np.random.Generator, int, int], Instances]:
    def draw(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        values = shift_draw(_ANY, "both")(rng, channels, batch)
        # a third each: a column, a diagonal, different shifts
        kind = rng.integers(3, size=batch)
        u = np.select([kind == 0, kind == 1], [0 * values["u"], values["s"]], values["u"])
        values = {**values, "u": u, "t": values["t"] + 8}
        if repeats:
            del values["w_u"]
        return values

    return draw


def _along(repeats: bool) -> Callable[[np.random.Generator, int, int], Instances]:
    """The key lies along the drift of the query, and its own step along the later query."""

    def equality(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        values = _draw(repeats)(rng, channels, batch)
        t, i, s, u = (column(values[name]) for name in ("t", "i", "s", "u"))
        turn = np.exp(1j * (t - i) * values["theta"])
        drift = evaluate(AUXILIARY["drift"], {**values, "s": s, "u": u})
        size, step = np.exp(rng.standard_normal((2, batch, 1)))
        key = size * turn * drift
        found = {**values, "w": key}
        if not repeats:
            found["w_u"] = key + step * turn * (drift + values["z"])
        return found

    return equality


def _repeated_of_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    """Columns only: no key of a head repeats exactly."""
    return shift_from_head(steps(1, 8, "query"), "query")(rng, head, batch)


BOUNDS = (
    Bound(
        theorem=THEOREM.id,
        name=THEOREM.id,
        sharp=True,
        free=("z", "z_s", "w"),
        draw=_draw(repeats=True),
        sides=_sides(THEOREM.bound),
        equality=_along(repeats=True),
        from_head=_repeated_of_head,
    ),
    Bound(
        theorem=THEOREM.id,
        name="similarity_direction.with_key_step",
        sharp=True,
        free=("z", "z_s", "w", "w_u"),
        draw=_draw(repeats=False),
        sides=_sides(AUXILIARY["with_key_step"]),
        equality=_along(repeats=False),
        from_head=shift_from_head(_ANY, "both"),
    ),
)
