"""Theorem 5.2: the diagonal, the constant of a pair, one constant for all, and the supremum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from simulations.bounds.bound import (
    Bound,
    Instances,
    Sides,
    Values,
    complex_normal,
    norm,
    sum_rounding,
)
from simulations.bounds.shift_bound import (
    change,
    column,
    shift_bound,
    shift_draw,
    shift_from_head,
    steps,
)
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.theorems.sequential import EPSILON, THEOREM

AUXILIARY = THEOREM.auxiliary
_ONE = steps(1, 1)
FREE = ("z", "z_s", "w", "w_u")


def _norms(values: Values) -> dict[str, Array]:
    """Norms and steps of a pair, and the largest norms before and after."""
    z, z_s, w, w_u = (values[name] for name in FREE)
    xp = namespace(z)
    return {
        "lambda": values["lambda"][..., 0],
        "query_norm": norm(z),
        "key_norm_u": norm(w_u),
        "query_step": norm(z_s - z),
        "key_step": norm(w_u - w),
        "query_norm_max": xp.maximum(norm(z), norm(z_s)),
        "key_norm_max": xp.maximum(norm(w), norm(w_u)),
    }


def _by_norms(expression: sp.Expr) -> Callable[[Values], Sides]:
    def sides(values: Values) -> Sides:
        difference, size, angle = change(values)
        norms = _norms(values)
        bound = evaluate(expression, norms)
        # all terms of the bound are below the product of the largest norms
        size = size + bound + norms["lambda"] * norms["query_norm_max"] * norms["key_norm_max"]
        rounding = sum_rounding(size, angle, values["z"].shape[-1])
        return Sides(namespace(size).abs(difference), bound, rounding)

    return sides


_draw = shift_draw(_ONE, "both")


def _seen(values: Instances) -> np.ndarray:
    """e^{i (t-i) theta}: the turn of the query as the key sees it, the same before and after."""
    return np.exp(1j * column(values["t"] - values["i"]) * values["theta"])


def _steps_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Query step along the later key, key step along the query, equally long; any norms."""
    values = _draw(rng, channels, batch)
    turn, query, later_key = _seen(values), values["z"], values["w_u"]
    length = np.exp(rng.uniform(-3, 1, (batch, 1)))
    to_key = later_key / column(norm(later_key))
    to_query = query / column(norm(query))
    return {
        **values,
        "z_s": query + length * np.conj(turn) * to_key,
        "w": later_key - length * turn * to_query,
    }


def _in_plane(
    angles: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]],
) -> Callable[[np.random.Generator, int, int], Instances]:
    """Query and key turn against each other, at their largest norms, in a plane of all channels.

    Seen from one place the query turns from -pi/2 - A to -pi/2 + A and the key from B to -B.
    """

    def equality(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        values = _draw(rng, channels, batch)
        turn = _seen(values)
        first = complex_normal(rng, batch, channels)
        first /= column(norm(first))
        second = complex_normal(rng, batch, channels)
        second -= column(np.real(np.sum(second * np.conj(first), axis=-1))) * first
        second /= column(norm(second))
        query_size, key_size = np.exp(rng.standard_normal((2, batch)))
        a, b = angles(rng, batch)

        def at(size: np.ndarray, angle: np.ndarray) -> np.ndarray:
            return column(size * np.cos(angle)) * first + column(size * np.sin(angle)) * second

        return {
            **values,
            "z": np.conj(turn) * at(query_size, -np.pi / 2 - a),
            "z_s": np.conj(turn) * at(query_size, -np.pi / 2 + a),
            "w": at(key_size, b),
            "w_u": at(key_size, -b),
        }

    return equality


def _up_to_right_angle(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    a = rng.uniform(0.01, np.pi / 2, batch)
    return a, (np.pi / 2 - a) * rng.uniform(0, 1, batch)


def _small_steps(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Both steps are to be equal, see `_equal_steps`; the constant is approached as they vanish."""
    a = 10.0 ** rng.uniform(-3, -2, batch)
    return a, a


def _equal_steps(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    values = _in_plane(_small_steps)(rng, channels, batch)
    size = column(norm(values["z"]) / norm(values["w"]))
    return {**values, "w": size * values["w"], "w_u": size * values["w_u"]}


def _pair(
    name: str,
    expression: sp.Expr,
    equality: Callable[[np.random.Generator, int, int], Instances],
) -> Bound:
    return Bound(
        theorem=THEOREM.id,
        name=f"sequential.{name}",
        sharp=True,
        free=FREE,
        draw=_draw,
        sides=_by_norms(expression),
        equality=equality,
        from_head=shift_from_head(_ONE, "both"),
    )


BOUNDS = (
    shift_bound(THEOREM.id, THEOREM.id, THEOREM.bound, _ONE),
    shift_bound(
        THEOREM.id,
        "sequential.several_steps",
        AUXILIARY["several_steps"],
        steps(1, 16, together=True),
    ),
    _pair("constant", AUXILIARY["constant"] * EPSILON, _steps_along),
    _pair("global_constant", AUXILIARY["global_constant"] * EPSILON, _equal_steps),
    _pair("supremum", AUXILIARY["supremum"], _in_plane(_up_to_right_angle)),
)
