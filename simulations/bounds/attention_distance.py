"""Attention distance on arrays: rows with free logits, and rows of a head, against their bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import sympy as sp

from simulations.bounds.bound import (
    UNIT_ROUNDOFF,
    Bound,
    Instances,
    Sides,
    Values,
    complex_normal,
    scales,
)
from simulations.bounds.head_rows import (
    HEAD_FREE,
    POSITIONS,
    draw_head,
    head_pair,
    head_rows_from_head,
    opposite_keys,
    oscillation,
)
from simulations.bounds.rows import (
    KEYS,
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
    # a mass that underflows is positive all the same, and any larger one will do
    mass = xp.clip(mass_of(rows.before, values["chosen"]), 1e-300, 1.0)
    limit = evaluate(MASS_LATER, {"mass": mass, "omega": xp.clip(rows.omega, None, 600.0)})
    return Sides(mass_of(rows.after, values["chosen"]), limit, rows.rounding)


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
    """Oscillation of a column's logit changes against the largest over two common keys."""
    head = head_pair(values)
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


def _tanh(omega: np.ndarray) -> np.ndarray:
    """The masses of the two keys swap."""
    return -omega / 2


def _same_keys_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    return opposite_keys(rng, channels, batch, _tanh, bool(rng.integers(2)))[0]


def _turning(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """A query without drift, and two opposite keys, on channels that turn: shift (s, 0)."""
    values, omega = opposite_keys(rng, channels, batch, _tanh, False)
    theta = rng.uniform(0.1, 3.0, (batch, channels))
    key, s, item = values["w"][:, 0], values["s"], np.arange(batch)
    values["w"][item, 1] = -np.exp(-1j * theta) * key
    query = np.conj(np.exp(1j * theta) * (np.exp(1j * s[:, None] * theta) - 1)) * key
    z = query * (omega / np.sum(np.abs(query) ** 2, axis=-1))[:, None]
    return {**values, "theta": theta, "z": z, "z_s": z}


def _gaining_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Keys opposite on channels that do not turn, and new keys of mass g, alike, at (s, 0)."""
    gained = np.where(rng.random(batch) < 0.5, rng.uniform(0.0, 0.9, batch), 1e-12)

    def before(omega: np.ndarray) -> np.ndarray:
        r = np.exp(omega)
        stretch = np.clip(np.sqrt((1 - gained) * r), 1 + 1e-9, None)
        return np.log((stretch - 1) / (r - stretch))

    values, omega = opposite_keys(rng, channels, batch, before, False)
    later = (before(omega) + omega) / 2
    wanted = np.log(gained / (1 - gained) / values["s"]) + np.logaddexp(later, -later)
    query, lam = values["z_s"], values["lambda"]
    energy = np.sum(lam * np.abs(query) ** 2, axis=-1)
    values["w"][:, 2:] = ((wanted / energy)[:, None] * query)[:, None]
    return values


def _shifted_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """One row read u keys later, on channels that do not turn: keys 0 and 1 become u and u + 1.

    Two masses of sum rho, one grows by e^(omega/2) and one shrinks by it; u >= 2.
    """
    omega, u = rng.uniform(0.05, 6.0, batch), rng.integers(2, 4, size=batch)
    rho = rng.uniform(0.05, 0.499, batch)
    stretch = np.exp(omega / 2)
    grows, shrinks = rho / (stretch + 1), rho * stretch / (stretch + 1)
    masses = np.zeros((batch, POSITIONS))
    item = np.arange(batch)
    masses[:, 0], masses[:, 1] = grows, shrinks
    masses[item, u], masses[item, u + 1] = grows * stretch, shrinks / stretch
    masses[u == 3, 2] = (1 - 2 * rho)[u == 3]
    lam, query = scales(rng, channels, batch), complex_normal(rng, batch, channels)
    share = rng.dirichlet(np.ones(channels), batch) / (lam * np.abs(query) ** 2)
    logits = np.log(np.where(masses > 0, masses, 1e-6))
    return {
        "z": query,
        "z_s": query,
        "w": logits[:, :, None] * (share * query)[:, None],
        "theta": np.zeros((batch, channels)),
        "lambda": lam,
        "inverse_cap": np.zeros(batch),
        "t": u + 1,
        "s": 0 * u,
        "u": u,
    }


def _apart(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Two common keys, and a query that moves along their difference after RoPE."""
    values = draw_head(rng, channels, batch, "column") | {"inverse_cap": np.zeros(batch)}
    t, s, theta, w = np.ones(batch, dtype=int), values["s"], values["theta"], values["w"]
    apart = w[:, 0] - np.exp(1j * theta) * w[:, 1]
    moved = np.exp(1j * theta) * values["z"] + rng.uniform(0.1, 2.0, apart.shape) * apart
    return {**values, "t": t, "z_s": np.exp(-1j * (1 + s)[:, None] * theta) * moved}


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
    replace(_rows(f"{ID}.excess", EXCESS, "any"), sides=excess_sides),
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
        _same_keys_along,
    ),
    _head(
        "same_keys_turning",
        partial(_from_bound, _FORMS["same_keys_from_bound"], True),
        "column",
        _turning,
    ),
    _head(
        "only_gaining",
        partial(_from_bound, _FORMS["only_gaining"], False),
        "gaining",
        _gaining_along,
    ),
    _head(
        "gaining_and_losing",
        partial(_from_bound, _FORMS["gaining_and_losing"], False),
        "any",
        _shifted_along,
    ),
    _head("oscillation", oscillation_sides, "any", _same_keys_along),
    _head("column_oscillation", column_sides, "column", _apart),
)
