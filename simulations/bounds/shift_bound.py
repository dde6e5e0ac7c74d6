"""Bound (B) at any shift, its tighter form, and what the other theorems on patterns share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

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
    logit,
    scales,
    sum_rounding,
)
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import LOGIT, MODULUS_SQUARED, PSI, lam, w, w_u, z, z_s
from tappa_theory.theorems.shift_bound import THEOREM

Steps = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""Draws the shifts s and u, (batch,) each."""
Moves = Literal["query", "key", "both"]

FARTHEST = 64


def steps(low: int, high: int, moves: Moves = "both", together: bool = False) -> Steps:
    """Shifts from low to high of what moves, 0 of what does not; together: s = u."""

    def drawn(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
        s, u = rng.integers(low, high + 1, (2, batch)).astype(np.float64)
        if together:
            u = s
        return (s if moves != "key" else 0 * s), (u if moves != "query" else 0 * u)

    return drawn


def column(numbers: Array) -> Array:
    """(batch,) as (batch, 1), to stand beside channels."""
    return numbers[..., None]


def moved(values: Values) -> tuple[Array, Array]:
    """(later query, later key); what does not move is itself."""
    return values.get("z_s", values["z"]), values.get("w_u", values["w"])


def change(values: Values) -> tuple[Array, Array, Array]:
    """a_{t+s,i+u} - a_{t,i}, the sum of the moduli of its terms, and the largest angle in it."""
    query, key, theta, gain = (values[name] for name in ("z", "w", "theta", "lambda"))
    later, later_key = moved(values)
    t, i, s, u = (column(values[name]) for name in ("t", "i", "s", "u"))
    xp = namespace(query)
    difference = logit(later, later_key, theta, gain, t + s, i + u) - logit(
        query, key, theta, gain, t, i
    )
    size = xp.sum(gain * (xp.abs(later * later_key) + xp.abs(query * key)), axis=-1)
    farthest = xp.maximum(xp.abs(t - i), xp.abs(t + s - i - u))
    return difference, size, xp.max(theta * (farthest + s + u), axis=-1)


def still(expression: sp.Expr, moves: Moves) -> sp.Expr:
    """The expression where what does not move is the same before and after: no drift of it."""
    if moves == "query":
        return expression.subs(w_u, w)
    return expression.subs(z_s, z) if moves == "key" else expression


def parameters(values: Values) -> dict[str, Array]:
    """The shift under every name that a registry's expression may know it by."""
    s, u = column(values["s"]), column(values["u"])
    period = namespace(s).maximum(s, u)
    return {"s": s, "u": u, "tau": period, "L": period, "N": period}


def shift_sides(expression: sp.Expr) -> Callable[[Values], Sides]:
    """|a_{t+s,i+u} - a_{t,i}| and the sum over the channels of the expression."""

    def sides(values: Values) -> Sides:
        difference, size, angle = change(values)
        xp = namespace(difference)
        t, i = column(values["t"]), column(values["i"])
        given = {**values, **parameters(values), "t": t, "i": i}
        bound = xp.sum(evaluate(expression, given), axis=-1)
        channels = values["z"].shape[-1]
        return Sides(xp.abs(difference), bound, sum_rounding(size + bound, angle, channels))

    return sides


def place(rng: np.random.Generator, drawn: Steps, batch: int) -> Instances:
    """Positions t >= i of the pair and the shift, such that the shifted pair is causal too."""
    s, u = drawn(rng, batch)
    i = rng.integers(0, FARTHEST, batch).astype(np.float64)
    t = i + np.maximum(0, u - s) + rng.integers(0, FARTHEST, batch)
    return {"t": t, "i": i, "s": s, "u": u}


def drifted(rng: np.random.Generator, vectors: np.ndarray) -> np.ndarray:
    """The vectors after a drift of a thousandth of their size up to their size."""
    size = 10.0 ** rng.uniform(-3, 0, (len(vectors),) + (1,) * (vectors.ndim - 1))
    return vectors + size * np.abs(vectors) * complex_normal(rng, *vectors.shape)


def shift_draw(drawn: Steps, moves: Moves) -> Callable[[np.random.Generator, int, int], Instances]:
    """Random queries and keys with drifts of every size, at random positions."""

    def draw(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        query, key = channel_vectors(rng, batch, channels), channel_vectors(rng, batch, channels)
        values = {
            "z": query,
            "w": key,
            "theta": frequencies(rng, channels, batch),
            "lambda": scales(rng, channels, batch),
            **place(rng, drawn, batch),
        }
        if moves != "key":
            values["z_s"] = drifted(rng, query)
        if moves != "query":
            values["w_u"] = drifted(rng, key)
        return values

    return draw


def aligned(values: Instances, rng: np.random.Generator) -> Instances:
    """The same shift, with query, drifts and turn on every channel all pointing one way.

    With alpha = (s - u) theta: w' = w (1 + beta (1 - e^{i alpha})), z along
    conj(e^{i (t-i) theta} (e^{i alpha} - 1)) w, z' - z = gamma (1 - e^{-i alpha}) z conj(w / w');
    where nothing turns, query and key grow along each other.
    """
    shape, (key, theta) = values["w"].shape, (values["w"], values["theta"])
    t, i, s, u = (column(values[name]) for name in ("t", "i", "s", "u"))
    beta, gamma, size = np.exp(rng.standard_normal((3, *shape)))
    alpha = (s - u) * theta
    turn, step = np.exp(1j * (t - i) * theta), np.exp(1j * alpha)
    turns = np.abs(np.sin(alpha / 2)) > 1e-9
    beta, gamma = beta * ("w_u" in values), gamma * ("z_s" in values)
    towards = np.conj(turn * np.where(turns, (step - 1) / np.abs(np.where(turns, step - 1, 1)), 1))
    query = size * towards * key
    later_key = key * np.where(turns, 1 + beta * (1 - step), 1 + beta)
    by_turn = gamma * (1 - np.conj(step)) * query * np.conj(key / later_key)
    later = query + np.where(turns, by_turn, gamma * query)
    found = {**values, "z": query}
    if "z_s" in values:
        found["z_s"] = later
    if "w_u" in values:
        found["w_u"] = later_key
    return found


def shift_from_head(
    drawn: Steps, moves: Moves
) -> Callable[[np.random.Generator, SyntheticHead, int], Instances]:
    """Random causal pairs of a head and their shifted ones, a quarter of them at key 0."""

    def from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
        s, u = (x.astype(int) for x in drawn(rng, batch))
        # both t and t + s in the text, and i + u <= t + s
        t = rng.integers(np.maximum(u - s, 0), head.length - s)
        latest = np.minimum(t, t + s - u)
        i = np.where(rng.random(batch) < 0.25, 0, rng.integers(0, latest + 1))
        theta, gain = gains(head, batch)
        values = {"z": head.z[t], "w": head.w[i], "theta": theta, "lambda": gain}
        if moves != "key":
            values["z_s"] = head.z[t + s]
        if moves != "query":
            values["w_u"] = head.w[i + u]
        return values | {"t": t * 1.0, "i": i * 1.0, "s": s * 1.0, "u": u * 1.0}

    return from_head


def shift_bound(
    theorem: str, name: str, expression: sp.Expr, drawn: Steps, moves: Moves = "both"
) -> Bound:
    """A sharp bound of |a_{t+s,i+u} - a_{t,i}|: the sum over channels of an expression.

    moves: what is shifted; the query or key that is not shifted does not drift.
    """
    draw = shift_draw(drawn, moves)
    return Bound(
        theorem=theorem,
        name=name,
        sharp=True,
        free=(
            "z",
            "w",
            *(("z_s",) if moves != "key" else ()),
            *(("w_u",) if moves != "query" else ()),
        ),
        draw=draw,
        sides=shift_sides(still(expression, moves)),
        equality=lambda rng, channels, batch: aligned(draw(rng, channels, batch), rng),
        from_head=shift_from_head(drawn, moves),
    )


_ANY = steps(1, 8)
_MODULUS = lam * sp.sqrt(MODULUS_SQUARED)


def _with_angle(values: Values) -> Sides:
    return shift_sides(_MODULUS)({**values, "psi": evaluate(PSI, values)})


def _in_phase(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Any queries and keys, both queries turned by one common phase on every channel."""
    values = shift_draw(_ANY, "both")(rng, channels, batch)
    t, i, s, u = (column(values[name]) for name in ("t", "i", "s", "u"))
    quarter = {**values, "t": t, "i": i, "lambda": 1.0}
    real, imaginary = (
        evaluate(
            LOGIT,
            {**quarter, "z": turn * values["z_s"], "w": values["w_u"], "t": t + s, "i": i + u},
        )
        - evaluate(LOGIT, {**quarter, "z": turn * values["z"]})
        for turn in (1, -1j)
    )
    back = np.exp(-1j * np.arctan2(imaginary, real))
    return {**values, "z": back * values["z"], "z_s": back * values["z_s"]}


BOUNDS = (
    shift_bound(THEOREM.id, THEOREM.id, THEOREM.bound, _ANY),
    shift_bound(THEOREM.id, "shift_bound.tighter", THEOREM.auxiliary["tighter"], _ANY),
    Bound(
        theorem=THEOREM.id,
        name="shift_bound.modulus",
        sharp=True,
        free=("z", "w", "z_s", "w_u"),
        draw=shift_draw(_ANY, "both"),
        sides=_with_angle,
        equality=_in_phase,
        from_head=shift_from_head(_ANY, "both"),
    ),
)
