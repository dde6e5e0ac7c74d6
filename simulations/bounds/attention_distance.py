"""Attention distance on arrays: rows with free logits, and rows of a head, against their bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import sympy as sp

from simulations.bounds.bound import Bound, Instances, Sides, Values
from simulations.bounds.head_rows import (
    HEAD_FREE,
    POSITIONS,
    draw_head,
    head_pair,
    head_rows_from_head,
    oscillation,
)
from simulations.bounds.head_witnesses import (
    apart_along,
    gaining_along,
    same_keys_along,
    shifted_along,
    turning,
)
from simulations.bounds.rows import (
    KEYS,
    LARGEST_OMEGA,
    LEAST_MASS,
    LEAST_OMEGA,
    Pair,
    draw_rows,
    draw_same_keys,
    free_pair,
    rows_from_head,
    same_keys_from_head,
    two_groups,
)
from simulations.head import SyntheticHead
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.theorems.attention_distance import (
    APPENDED,
    COLUMN_OSCILLATION,
    DISTANCE,
    EXCESS,
    MASS_LATER,
    OSCILLATION,
    SAME_KEYS,
    THEOREM,
)

ID = THEOREM.id
Draw = Callable[[np.random.Generator, int, int], Instances]
ROWS_FREE = ("before", "after")


def total_variation(rows: Pair) -> Array:
    """(batch,) half the sum of what the masses change."""
    xp = namespace(rows.before)
    return xp.sum(xp.abs(rows.after - rows.before), axis=-1) / 2


def _numbers(rows: Pair) -> dict[str, Array]:
    return {"omega": rows.omega, "gained": rows.gained, "lost": rows.lost}


def _row_rounding(rows: Pair, omega: Array) -> Array:
    """Of a row's distance and its bound: the squares are divided by 1 - exp(-omega)."""
    xp = namespace(omega)
    return rows.rounding + 64 * UNIT_ROUNDOFF / (1 - xp.exp(-omega))


def rows_sides(bound: sp.Expr, values: Values) -> Sides:
    """Distance of rows with free logits."""
    rows = free_pair(values)
    limit = evaluate(bound, _numbers(rows))
    return Sides(total_variation(rows), limit, _row_rounding(rows, rows.omega))


def excess_sides(values: Values) -> Sides:
    """Mass that the common keys which grow have gained."""
    rows = free_pair(values)
    xp = namespace(rows.before)
    grown = xp.where(rows.common, xp.clip(rows.after - rows.before, 0.0, None), 0 * rows.before)
    limit = evaluate(EXCESS, _numbers(rows))
    return Sides(xp.sum(grown, axis=-1), limit, _row_rounding(rows, rows.omega))


def mass_of(row: Array, chosen: Array) -> Array:
    """(batch,) mass of a set of keys in a row."""
    xp = namespace(row)
    return xp.sum(xp.where(chosen, row, xp.zeros_like(row)), axis=-1)


def mass_sides(values: Values) -> Sides:
    """Later mass of a set of keys, both rows over the same ones."""
    rows = free_pair(values)
    xp = namespace(rows.before)
    mass = xp.clip(mass_of(rows.before, values["chosen"]), LEAST_MASS, 1.0)
    omega = xp.clip(rows.omega, None, LARGEST_OMEGA)
    limit = evaluate(MASS_LATER, {"mass": mass, "omega": omega})
    later = mass_of(rows.after, values["chosen"])
    # masses are right to so much of themselves, and subnormal numbers to so much at all
    return Sides(later, limit, rows.rounding * (limit + later) + 1e-307)


def _draw_chosen(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    return {
        **draw_same_keys(rng, channels, batch),
        "chosen": rng.random((batch, KEYS)) < rng.uniform(0.1, 0.9, (batch, 1)),
    }


def _chosen_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    values = same_keys_from_head(rng, head, batch)
    return {**values, "chosen": rng.random(values["before"].shape) < 0.2}


def groups(
    rng: np.random.Generator, batch: int, gained: bool, lost: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masses (batch, 4), before and later, that are as far apart as omega (batch,) allows.

    In half of the instances the keys that are gained or lost have no mass.
    """
    omega = rng.uniform(0.05, 6.0, batch)
    g, lost_mass = (
        np.where(rng.random(batch) < 0.5, rng.uniform(0.0, 0.95, batch), 0.0) * there
        for there in (gained, lost)
    )
    sigma, rho, r = 1 - g, 1 - lost_mass, np.exp(omega)
    stretch = np.sqrt(sigma * r / rho)
    middle = (stretch > 1) & (stretch < r)
    grows = np.where(middle, rho * (stretch - 1) / (r - 1), rho / 2)
    before = np.stack([grows, rho - grows, lost_mass, 0 * g], axis=1)
    later = np.where(middle, stretch * grows, sigma * r / (1 + r))
    after = np.stack([later, sigma - later, 0 * g, g], axis=1)
    return before, after, omega


def _attained(
    gained: bool, lost: bool, rng: np.random.Generator, channels: int, batch: int
) -> Instances:
    before, after, _ = groups(rng, batch, gained, lost)
    logits, later = two_groups(rng, before, after)
    seen = np.ones((batch, KEYS), dtype=bool)
    seen_later = seen.copy()
    seen[:, -1] = False
    seen[:, -2] = before[:, 2] > 0
    seen_later[:, -2] = False
    seen_later[:, -1] = after[:, 3] > 0
    return {"before": logits, "after": later, "seen": seen, "seen_later": seen_later}


def _gains(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Rows that gain keys only."""
    values = draw_rows(rng, channels, batch)
    return {**values, "seen_later": np.ones_like(values["seen"])}


def _chosen_attained(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    values = draw_same_keys(rng, channels, batch)
    chosen = rng.random((batch, KEYS)) < 0.5
    chosen[:, 0], chosen[:, 1] = True, False
    grown = np.where(chosen, rng.uniform(0.05, 6.0, (batch, 1)), 0.0)
    return {**values, "after": values["before"] + grown, "chosen": chosen}


# --- a head ------------------------------------------------------------------------------------


def _from_bound(bound: sp.Expr, common: bool, values: Values) -> Sides:
    """Distance of two rows of a head, from (B). common: of the rows over the common keys only."""
    head = head_pair(values)
    xp = namespace(head.bound_max)
    rows = head.common_rows if common else head.rows
    largest = xp.clip(head.bound_max, LEAST_OMEGA / 2, None)
    limit = evaluate(bound, {**_numbers(rows), "bound_max": largest})
    rounding = _row_rounding(rows, 2 * largest) + 2 * head.bound_rounding
    return Sides(total_variation(rows), limit, rounding)


def oscillation_sides(values: Values) -> Sides:
    """Oscillation of the logit changes against twice the largest (B)."""
    head = head_pair(values)
    limit = evaluate(OSCILLATION, {"bound_max": head.bound_max})
    return Sides(oscillation(head), limit, 4 * head.bound_rounding)


def column_sides(values: Values) -> Sides:
    """Oscillation of a column's logit changes against the largest over two common keys.

    Of logits without a soft-cap: what all keys share does not cancel under one.
    """
    head = head_pair({**values, "inverse_cap": 0 * values["inverse_cap"]})
    xp = namespace(head.bound_max)
    theta, lam = values["theta"], values["lambda"]
    position = xp.astype(xp.arange(head.w.shape[1]), xp.float64) + (POSITIONS - head.w.shape[1])
    angle = position[:, None] * theta[:, None]
    turned = head.w * (xp.cos(angle) + 1j * xp.sin(angle))
    apart = xp.abs(turned[:, :, None] - turned[:, None, :])
    numbers = {
        "z": head.query[:, None, None],
        "z_s": head.query_s[:, None, None],
        "key_distance": apart,
        "theta": theta[:, None, None],
        "lambda": lam[:, None, None],
        "s": xp.astype(values["s"], xp.float64)[:, None, None, None],
    }
    bound = xp.sum(evaluate(COLUMN_OSCILLATION, numbers), axis=-1)
    common = head.rows.common[:, :, None] & head.rows.common[:, None, :]
    bound = xp.max(xp.where(common, bound, xp.zeros_like(bound)), axis=(-1, -2))
    return Sides(oscillation(head), bound, 4 * head.bound_rounding)


def _rows(name: str, bound: sp.Expr, kind: str) -> Bound:
    """kind: what the later row may do: "any", "gains", "same"."""
    draw = {"any": draw_rows, "gains": _gains, "same": draw_same_keys}[kind]
    return Bound(
        theorem=ID,
        name=name,
        sharp=True,
        free=ROWS_FREE,
        draw=draw,
        sides=partial(rows_sides, bound),
        equality=partial(_attained, kind != "same", kind == "any"),
        from_head=same_keys_from_head if kind == "same" else rows_from_head,
        channels=False,
    )


def _head(name: str, sides: Callable[[Values], Sides], kind: str, equality: Draw) -> Bound:
    return Bound(
        theorem=ID,
        name=f"{ID}.{name}",
        sharp=True,
        free=HEAD_FREE,
        draw=partial(draw_head, kind=kind),
        sides=sides,
        equality=equality,
        from_head=partial(head_rows_from_head, kind=kind),
    )


_FORMS = THEOREM.auxiliary

BOUNDS = (
    _rows(ID, DISTANCE, "any"),
    _rows(f"{ID}.same_keys", SAME_KEYS, "same"),
    _rows(f"{ID}.appended", APPENDED, "gains"),
    replace(
        _rows(f"{ID}.excess", EXCESS, "any"),
        sides=excess_sides,
        # with gained keys the common ones may not be able to gain at all
        equality=partial(_attained, False, True),
    ),
    Bound(
        theorem=ID,
        name=f"{ID}.mass_later",
        sharp=True,
        free=ROWS_FREE,
        draw=_draw_chosen,
        sides=mass_sides,
        equality=_chosen_attained,
        from_head=_chosen_from_head,
        channels=False,
    ),
    _head(
        "same_keys_from_bound",
        partial(_from_bound, _FORMS["same_keys_from_bound"], True),
        "any",
        same_keys_along,
    ),
    _head(
        "same_keys_turning",
        partial(_from_bound, _FORMS["same_keys_from_bound"], True),
        "column",
        turning,
    ),
    _head(
        "only_gaining",
        partial(_from_bound, _FORMS["only_gaining"], False),
        "gaining",
        gaining_along,
    ),
    _head(
        "gaining_and_losing",
        partial(_from_bound, _FORMS["gaining_and_losing"], False),
        "any",
        shifted_along,
    ),
    _head("oscillation", oscillation_sides, "any", same_keys_along),
    _head("column_oscillation", column_sides, "column", apart_along),
)
