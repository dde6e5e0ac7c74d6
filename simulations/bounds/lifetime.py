"""Lifetime on arrays: margins of two keys under a query that moves, and top-k gaps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
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
    sum_rounding,
)
from simulations.bounds.head_rows import (
    HEAD_FREE,
    draw_head,
    head_pair,
    head_rows_from_head,
)
from simulations.bounds.head_witnesses import opposite_keys
from simulations.bounds.margins import (
    MOST_STEPS,
    Margins,
    draw_pairs,
    margins,
    norm_of,
    one_scale,
    pairs_from_head,
    turned,
    vectors,
)
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace, real_vectors
from tappa_theory.separable import evaluate
from tappa_theory.theorems.attention_distance import OSCILLATION
from tappa_theory.theorems.lifetime import (
    BY_ANGLE,
    BY_NORMS,
    BY_STEPS,
    MARGIN_CHANGE,
    NEW_KEY,
    QUERY_MOVE,
    STEP_OF,
    THEOREM,
)

ID = THEOREM.id
FREE = ("z", "z_s", "w", "w_u")
Draw = Callable[[np.random.Generator, int, int], Instances]


def _lost(found: Margins) -> Array:
    """How much the margin of the key over its rival has changed."""
    xp = namespace(found.key)
    return xp.abs((found.key_later - found.rival_later) - (found.key - found.rival))


def _channels(expression: sp.Expr, values: Values, **more: Array) -> Array:
    """(batch,) sum over the channels of an expression at the shift (s, u)."""
    given = {**values, "s": values["s"][:, None], "u": values["u"][:, None], **more}
    return namespace(values["z"]).sum(evaluate(expression, given), axis=-1)


def margin_sides(values: Values) -> Sides:
    """Change of the margin against the sum over channels."""
    found = margins(values)
    return Sides(_lost(found), _channels(MARGIN_CHANGE, values), 4 * found.error)


def norms_sides(values: Values) -> Sides:
    """Change of the margin against the norms of move and distance."""
    found = margins(values)
    before, after, lead = vectors(values)
    numbers = {"query_move": norm_of(after - before), "key_distance": norm_of(lead)}
    limit = evaluate(BY_NORMS, {**numbers, "lambda": values["lambda"][:, 0]})
    return Sides(_lost(found), limit, 4 * found.error)


def angle_sides(values: Values) -> Sides:
    """Angle up to which the key stays ahead, against the turn, towards z_s, that makes a tie.

    Whichever key is ahead. A query turned by phi from q towards the unit vector n across it has
    the lead <q, d> cos(phi) + |q| <n, d> sin(phi); the worse of the two directions n, -n is taken.
    Of a query that only grows, or has no lead, nothing is asked.
    """
    found = margins(values)
    xp = namespace(found.key)
    query, later, lead = (real_vectors(x) for x in vectors(values))
    norm, distance = (xp.sqrt(xp.sum(x * x, axis=-1)) for x in (query, lead))
    safe = xp.clip(norm, 1e-150, None)
    along = query / safe[:, None]
    across = later - xp.sum(later * along, axis=-1)[:, None] * along
    size = xp.sqrt(xp.sum(across * across, axis=-1))
    ahead = xp.abs(xp.sum(along * lead, axis=-1))
    other = xp.abs(xp.sum(across * lead, axis=-1)) / xp.clip(size, 1e-150, None)
    lam = values["lambda"][:, 0]
    asked = (size > 1e-6 * norm_of(later + 0j)) & (ahead > 1e-6 * distance) & (distance > 1e-100)
    asked = asked & (norm > 1e-100)
    one = xp.ones_like(norm)
    numbers = {
        "lead": xp.where(asked, lam * norm * ahead, 0 * one),
        "query_norm": xp.where(asked, norm, one),
        "key_distance": xp.where(asked, distance, one),
    }
    angle = evaluate(BY_ANGLE, {**numbers, "lambda": lam})
    tie = xp.atan2(ahead, other)
    # what a logit is off by, as a share of |q||d|; the direction across is off by more of itself
    off = found.error / xp.where(asked, lam * norm * distance, one)
    sine = xp.where(asked, ahead / xp.where(asked, distance, one), 0 * one)
    arc = xp.asin(xp.clip(sine + off, None, 1.0)) - xp.asin(xp.clip(sine, None, 1.0))
    turn = off * norm_of(later + 0j) / xp.where(asked, size, one)
    reach = distance / xp.where(asked, xp.sqrt(ahead**2 + other**2), one)
    rounding = arc + reach * (off + turn)
    return Sides(angle, xp.where(asked, tie, 0 * one), xp.where(asked, rounding, 0 * one))


def steps_sides(values: Values) -> Sides:
    """Change of the margin over all steps of a path z (batch, steps + 1, M), from the longest."""
    path, theta = values["path"], values["theta"]
    xp = namespace(path)
    count = path.shape[1] - 1
    steps = xp.ones_like(values["t"]) * count
    ends = {**values, "z": path[:, 0], "z_s": path[:, count], "s": steps}
    one = xp.ones_like(values["t"])[:, None, None]
    moved = {"z": path[:, :-1], "z_s": path[:, 1:], "theta": theta[:, None], "s": one}
    longest = xp.max(evaluate(QUERY_MOVE, moved), axis=1)
    found = margins(ends)
    limit = _channels(BY_STEPS, ends, step_after=longest)
    return Sides(_lost(found), limit, 8 * count * found.error)


def step_sides(values: Values) -> Sides:
    """Move of a query in one step after RoPE, channel by channel and summed."""
    z, z_s, theta = values["z"], values["z_s"], values["theta"]
    xp = namespace(z)
    numbers = {"z": z, "theta": theta, "step_before": xp.abs(z_s - z)}
    limit = xp.sum(evaluate(STEP_OF, numbers), axis=-1)
    position = values["t"]
    after, before = turned(z_s, position + 1, theta), turned(z, position, theta)
    size = xp.sum(xp.abs(z) + xp.abs(z_s), axis=-1)
    angle = (position + 1) * xp.max(theta, axis=-1)
    rounding = sum_rounding(4 * size, angle, z.shape[-1])
    return Sides(xp.sum(xp.abs(after - before), axis=-1), limit, rounding)


def new_key_sides(values: Values) -> Sides:
    """Logit of the key that a new key would overtake at t + s: its rise less that of the key."""
    found = margins(values)
    observed = found.rival_later - found.key_later + found.key
    return Sides(observed, _channels(NEW_KEY, values), 4 * found.error)


def gap_sides(values: Values) -> Sides:
    """What the gap between the top k columns and the others loses, against twice the largest (B).

    The top k are those of the earlier row; k = 1, or 2 where three columns or more are common.
    """
    head = head_pair({**values, "inverse_cap": 0 * values["inverse_cap"]})
    xp = namespace(head.bound_max)
    common, before, after = head.rows.common, head.before, head.after
    low = xp.full_like(before, -math.inf)
    order = xp.argsort(xp.where(common, -before, -low), axis=-1)
    rank = xp.argsort(order, axis=-1)
    count = xp.sum(xp.astype(common, xp.int64), axis=-1)
    top = rank < xp.where(count > 2, 2 + 0 * count, 1 + 0 * count)[:, None]

    def gap(logits: Array) -> Array:
        inside = -xp.max(xp.where(common & top, -logits, low), axis=-1)
        outside = xp.max(xp.where(common & ~top, logits, low), axis=-1)
        both = count > 1
        return xp.where(both, inside, 0 * inside) - xp.where(both, outside, 0 * inside)

    limit = evaluate(OSCILLATION, {"bound_max": head.bound_max})
    lost = xp.where(count > 1, gap(before) - gap(after), 0 * limit)
    return Sides(lost, limit, 8 * head.bound_rounding)


# --- attained ----------------------------------------------------------------------------------


def _before_rope(vectors: np.ndarray, position: np.ndarray, values: Instances) -> np.ndarray:
    return np.asarray(turned(vectors, -position, values["theta"]))


def _lead(values: Instances) -> np.ndarray:
    return np.asarray(vectors(values)[2])


def _across(alike: bool, rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """The query moves against the difference of the keys on every channel; alike: in proportion."""
    values = draw_pairs(rng, channels, batch)
    lead = _lead(values)
    shape = (batch, 1) if alike else (batch, channels)
    nu, rho = rng.uniform(0.1, 2.0, shape), rng.uniform(-2.0, 2.0, shape)
    start = rho + 1j * rng.uniform(-2.0, 2.0, (batch, channels))
    t, later = values["t"], values["t"] + values["s"]
    return {
        **values,
        "z": _before_rope(start * lead, t, values),
        "z_s": _before_rope((start - nu) * lead, later, values),
    }


def _in_the_plane(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """The later query lies in the plane of the query and the difference of the keys."""
    values = draw_pairs(rng, channels, batch)
    query, _, lead = (np.asarray(x) for x in vectors(values))
    lead = lead / np.asarray(norm_of(lead))[:, None] * np.asarray(norm_of(query))[:, None]
    along, towards = rng.uniform(0.1, 1.0, (2, batch, 1))
    later = along * query + towards * lead
    return {**values, "z_s": _before_rope(later, values["t"] + values["s"], values)}


def _draw_path(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """As draw_pairs, with a query at every step."""
    values = draw_pairs(rng, channels, batch)
    drift = np.exp(rng.uniform(-4, 1, (batch, 1, 1)))
    moves = drift * channel_vectors(rng, batch, MOST_STEPS, channels)
    after = np.concatenate([values["z"][:, None], moves], axis=1).cumsum(axis=1)
    turn = np.exp(-1j * np.arange(MOST_STEPS + 1)[:, None] * values["theta"][:, None])
    steps = np.full(batch, float(MOST_STEPS))
    return {**values, "path": after * turn, "s": steps}


def _path_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    values = pairs_from_head(rng, head, batch)
    at = values["t"].astype(int)[:, None] + np.arange(MOST_STEPS + 1)
    return {**values, "path": head.z[at], "s": np.full(batch, float(MOST_STEPS))}


def _equal_steps(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    values = _draw_path(rng, channels, batch)
    lead, theta = _lead(values), values["theta"]
    nu = rng.uniform(0.1, 1.0, (batch, 1, channels))
    count = np.arange(MOST_STEPS + 1)
    start = complex_normal(rng, batch, 1, channels)
    place = values["t"][:, None] + count
    path = (start - count[:, None] * nu) * lead[:, None]
    return {**values, "path": path * np.exp(-1j * place[..., None] * theta[:, None])}


def _drift_along_turn(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """The drift of a step and the turn of one position point the same way."""
    values = draw_pairs(rng, channels, batch)
    drift = rng.uniform(0.0, 3.0, (batch, channels)) * (1 - np.exp(-1j * values["theta"]))
    return {**values, "z_s": values["z"] * (1 + drift)}


def _draw_new(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """As draw_pairs, with a rival that came after t."""
    values = draw_pairs(rng, channels, batch)
    return {**values, "u": values["t"] + rng.integers(1, values["s"] + 1) - values["i"]}


def _new_key_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    values = _draw_new(rng, channels, batch)
    t, s, i, u = (values[name] for name in ("t", "s", "i", "u"))
    rho, nu, gamma = rng.uniform(0.1, 2.0, (3, batch, channels))
    key = np.asarray(turned(values["w"], i, values["theta"]))
    return {
        **values,
        "z": _before_rope((rho + nu) * key, t, values),
        "z_s": _before_rope(rho * key, t + s, values),
        "w_u": _before_rope(gamma * key, i + u, values),
    }


def _ahead(omega: np.ndarray) -> np.ndarray:
    """The key that will fall is ahead by any part of what it will lose."""
    return -omega * np.linspace(0.1, 2.0, len(omega))


def _gap_lost(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    return opposite_keys(rng, channels, batch, _ahead, bool(rng.integers(2)))[0]


def _pairs(name: str, sides: Callable[[Values], Sides], equality: Draw) -> Bound:
    return Bound(
        theorem=ID,
        name=name,
        sharp=True,
        free=FREE,
        draw=draw_pairs,
        sides=sides,
        equality=equality,
        from_head=lambda rng, head, batch: one_scale(pairs_from_head(rng, head, batch)),
    )


BOUNDS = (
    _pairs(ID, margin_sides, partial(_across, False)),
    _pairs(f"{ID}.by_norms", norms_sides, partial(_across, True)),
    _pairs(f"{ID}.by_angle", angle_sides, _in_the_plane),
    Bound(
        theorem=ID,
        name=f"{ID}.by_steps",
        sharp=True,
        free=("path", "w", "w_u"),
        draw=_draw_path,
        sides=steps_sides,
        equality=_equal_steps,
        from_head=_path_from_head,
    ),
    replace(_pairs(f"{ID}.step", step_sides, _drift_along_turn), free=("z", "z_s")),
    Bound(
        theorem=ID,
        name=f"{ID}.new_key",
        sharp=True,
        free=FREE,
        draw=_draw_new,
        sides=new_key_sides,
        equality=_new_key_along,
        from_head=partial(pairs_from_head, new=True),
    ),
    Bound(
        theorem=ID,
        name=f"{ID}.oscillation",
        sharp=True,
        free=HEAD_FREE,
        draw=draw_head,
        sides=gap_sides,
        equality=_gap_lost,
        from_head=head_rows_from_head,
    ),
)
