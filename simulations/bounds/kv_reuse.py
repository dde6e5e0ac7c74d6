"""KV reuse on arrays: mass of discarded keys later, and the error of the output without them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import sympy as sp

from simulations.bounds.attention_distance import mass_of
from simulations.bounds.bound import Bound, Instances, Sides, Values
from simulations.bounds.head_rows import (
    HEAD_FREE,
    LARGEST_SHIFT,
    POSITIONS,
    draw_head,
    head_pair,
    head_rows_from_head,
)
from simulations.bounds.head_witnesses import opposite_keys
from simulations.bounds.rows import (
    KEYS,
    LARGEST_OMEGA,
    LEAST_MASS,
    LEAST_OMEGA,
    draw_rows,
    free_pair,
    rows_from_head,
)
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace
from tappa_theory.attention import softmax
from tappa_theory.separable import evaluate
from tappa_theory.theorems.kv_reuse import MASS_IN_ROW, OUTPUT_ERROR, THEOREM

ID = THEOREM.id
Draw = Callable[[np.random.Generator, int, int], Instances]
VALUE_SIZE = 3
ROWS_FREE = ("before", "after", "value")


def _norms(x: Array, order: Array) -> Array:
    """Norm of vectors (batch, ..., VALUE_SIZE): 1, 2 or the largest entry, by order 0, 1, 2."""
    xp = namespace(x)
    size = xp.abs(x)
    order = order[(slice(None),) + (None,) * (x.ndim - 2)]
    square = xp.sum(size**2, axis=-1)
    # a root has no slope at 0
    euclidean = xp.where(square > 0, xp.sqrt(xp.where(square > 0, square, 1.0 + square)), square)
    other = xp.where(order == 1, euclidean, xp.max(size, axis=-1))
    return xp.where(order == 0, xp.sum(size, axis=-1), other)


def share(row: Array, chosen: Array, common: Array) -> Array:
    """(batch,) epsilon: share of the chosen keys in the mass of the common ones."""
    xp = namespace(row)
    mass = mass_of(row, chosen & common)
    kept = mass_of(row, common & ~chosen)
    return xp.clip(
        xp.clip(mass, LEAST_MASS, None) / xp.clip(mass + kept, LEAST_MASS, None), None, 1
    )


def mass_sides(values: Values) -> Sides:
    """Mass of the discarded keys in the later row."""
    rows = free_pair(values)
    xp = namespace(rows.before)
    chosen = values["chosen"] & rows.common
    numbers = {
        "mass": share(rows.before, chosen, rows.common),
        "omega": xp.clip(rows.omega, None, LARGEST_OMEGA),
        "gained": rows.gained,
    }
    limit = evaluate(MASS_IN_ROW, numbers)
    later = mass_of(rows.after, chosen)
    # what new keys leave is right to rounding of 1 only
    return Sides(later, limit, rows.rounding * (limit + later + numbers["mass"]) + 1e-307)


def error_and_distance(
    logits: Array, seen: Array, chosen: Array, value: Array, order: Array
) -> tuple[Array, Array]:
    """Error of the output of a row without the chosen keys, and the largest distance of a chosen
    from a kept value; both (batch,)."""
    xp = namespace(logits)
    kept = seen & ~chosen
    full, rest = softmax(logits, seen), softmax(logits, kept)
    change = xp.sum((full - rest)[:, :, None] * value, axis=1)
    apart = _norms(value[:, :, None] - value[:, None], order)
    pairs = (seen & chosen)[:, :, None] & kept[:, None, :]
    distance = xp.max(xp.where(pairs, apart, 0 * apart), axis=(-1, -2))
    return _norms(change, order), distance


def output_sides(values: Values) -> Sides:
    """Error of the output without the discarded keys."""
    rows = free_pair(values)
    xp = namespace(rows.before)
    chosen, value = values["chosen"] & rows.common, values["value"]
    error, distance = error_and_distance(
        values["after"], values["seen_later"], chosen, value, values["norm"]
    )
    numbers = {
        "mass": share(rows.before, chosen, rows.common),
        "omega": xp.clip(rows.omega, None, LARGEST_OMEGA),
        "value_distance": distance,
    }
    limit = evaluate(OUTPUT_ERROR, numbers)
    size = xp.max(xp.sum(xp.abs(value), axis=-1), axis=-1)
    return Sides(error, limit, rows.rounding * (4 * size + limit) + 1e-307)


def head_sides(bound: sp.Expr, output: bool, values: Values) -> Sides:
    """The same of two rows of a head at (tau, 0), from (B); output: the error, else the mass."""
    head = head_pair(values)
    xp = namespace(head.bound_max)
    unseen = xp.zeros_like(head.rows.common[:, :LARGEST_SHIFT])
    chosen = xp.concat([unseen, values["chosen"]], axis=1) & head.rows.common
    later = head.rows.common | (head.rows.after > 0)
    value = xp.concat([0 * values["value"][:, :LARGEST_SHIFT], values["value"]], axis=1)
    error, distance = error_and_distance(head.after, later, chosen, value, values["norm"])
    numbers = {
        "mass": share(head.rows.before, chosen, head.rows.common),
        "bound_max": xp.clip(head.bound_max, LEAST_OMEGA / 2, LARGEST_OMEGA / 2),
        "value_distance": distance,
    }
    limit = evaluate(bound, numbers)
    size = xp.max(xp.sum(xp.abs(value), axis=-1), axis=-1)
    rounding = head.rows.rounding + 2 * head.bound_rounding
    if output:
        return Sides(error, limit, rounding * (4 * size + limit) + 1e-307)
    return Sides(mass_of(head.rows.after, chosen), limit, 2 * rounding * limit + 1e-307)


# --- instances ---------------------------------------------------------------------------------


def _discarded(rng: np.random.Generator, batch: int, keys: int) -> Instances:
    """Sets of keys, with key 1 and without key 0; values of all sizes; a norm."""
    chosen = rng.random((batch, keys)) < rng.uniform(0.0, 0.8, (batch, 1))
    chosen[:, 0], chosen[:, 1] = False, True
    value = rng.standard_normal((batch, keys, VALUE_SIZE))
    far = 10.0 ** rng.uniform(-1, 1, (batch, keys, 1))
    return {"chosen": chosen, "value": value * far, "norm": rng.integers(3, size=batch)}


def draw(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Rows with free logits, a sliding window in some of them, and what is discarded."""
    return draw_rows(rng, channels, batch) | _discarded(rng, batch, KEYS)


def _from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    values = rows_from_head(rng, head, batch)
    return values | _discarded(rng, batch, head.length)


def _draw_of_head(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    values = draw_head(rng, channels, batch, "column")
    return values | _discarded(rng, batch, POSITIONS)


def _head_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    values = head_rows_from_head(rng, head, batch, "column")
    return values | _discarded(rng, batch, POSITIONS)


def _alike(new_keys: bool, rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """All discarded keys change by omega, all kept ones not; their values are of two kinds."""
    values = draw(rng, channels, batch)
    everywhere = np.ones((batch, KEYS), dtype=bool)
    seen = values["seen"] if new_keys else everywhere
    values["chosen"] &= seen
    change = np.where(values["chosen"], rng.uniform(0.05, 6.0, (batch, 1)), 0.0)
    before = rng.uniform(0.5, 4.0, (batch, 1)) * rng.standard_normal((batch, KEYS))
    two = rng.standard_normal((batch, 2, 1, VALUE_SIZE))
    value = np.where(values["chosen"][:, :, None], two[:, 0], two[:, 1])
    return values | {
        "before": before,
        "after": before + change,
        "seen": seen,
        "seen_later": everywhere,
        "value": value,
    }


def _along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """The key that grows is discarded, its opposite kept; new keys weigh next to nothing."""

    def before(omega: np.ndarray) -> np.ndarray:
        return rng.uniform(-6.0, 3.0, omega.shape)

    values, _ = opposite_keys(rng, channels, batch, before, False)
    chosen = np.zeros((batch, POSITIONS), dtype=bool)
    chosen[:, 0] = True
    query = values["z_s"]
    energy = np.sum(values["lambda"] * np.abs(query) ** 2, axis=-1)
    values["w"][:, 2:] = (-60.0 / energy[:, None] * query)[:, None]
    two = rng.standard_normal((batch, 2, 1, VALUE_SIZE))
    value = np.where(chosen[:, :, None], two[:, 0], two[:, 1])
    return {**values, "chosen": chosen, "value": value, "norm": rng.integers(3, size=batch)}


def _of_head(name: str, bound: sp.Expr, output: bool) -> Bound:
    return Bound(
        theorem=ID,
        name=f"{ID}.{name}",
        sharp=True,
        free=(*HEAD_FREE, "value") if output else HEAD_FREE,
        draw=_draw_of_head,
        sides=partial(head_sides, bound, output),
        equality=_along,
        from_head=_head_from_head,
    )


_FORMS = THEOREM.auxiliary

BOUNDS = (
    Bound(
        theorem=ID,
        name=ID,
        sharp=True,
        free=ROWS_FREE,
        draw=draw,
        sides=output_sides,
        equality=partial(_alike, False),
        from_head=_from_head,
        channels=False,
    ),
    Bound(
        theorem=ID,
        name=f"{ID}.mass_in_row",
        sharp=True,
        free=("before", "after"),
        draw=draw,
        sides=mass_sides,
        equality=partial(_alike, True),
        from_head=_from_head,
        channels=False,
    ),
    _of_head("mass_later_from_bound", _FORMS["mass_later_from_bound"], False),
    _of_head("output_error_from_bound", _FORMS["output_error_from_bound"], True),
)
