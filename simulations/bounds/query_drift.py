"""Query drift on arrays: divergences of two rows against variance and oscillation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import sympy as sp

from simulations.bounds.bound import Bound, Instances, Sides, Values
from simulations.bounds.rows import KEYS, draw_same_keys, largest, pair, same_keys_from_head
from simulations.bounds.steps import draw_steps, even_steps, metric_sides, steps_from_head
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.theorems.query_drift import (
    COVARIANCE_TERM,
    DIVERGENCE,
    ERROR,
    EXPONENTIAL_TERM,
    KEY_METRIC,
    LARGEST,
    LOWER,
    MEAN_TERM,
    METRIC_TERM,
    QUADRATIC,
    REVERSE_ERROR,
    REVERSE_LOWER,
    REVERSE_UPPER,
    SQUARE_TERM,
    THEOREM,
    UPPER,
)

ID = THEOREM.id
Draw = Callable[[np.random.Generator, int, int], Instances]
Kind = Literal["most", "error", "least"]
LARGEST_CHANGE = 300.0
"""Changes of logits are cut there, so that exp(omega) is a number."""


class Step(NamedTuple):
    """Two rows over the same keys, (batch,): divergences, and the registry's sums over the keys.

    rounding: of a divergence. off: of the variance.
    """

    forward: Array
    backward: Array
    omega: Array
    numbers: dict[str, Array]
    rounding: Array
    off: Array


def _log_masses(logits: Array, seen: Array) -> Array:
    """Logarithms of the masses, 0 on keys out of sight."""
    xp = namespace(logits)
    centred = logits - largest(logits, seen)[:, None]
    weights = xp.where(seen, xp.exp(xp.where(seen, centred, 0 * centred)), 0 * centred)
    return xp.where(seen, centred - xp.log(xp.sum(weights, axis=-1))[:, None], 0 * centred)


def step(values: Values) -> Step:
    """Both divergences from their definition, sum of P log(P/P')."""
    seen, before = values["seen"], values["before"]
    xp = namespace(before)
    change = xp.clip(values["after"] - before, -LARGEST_CHANGE, LARGEST_CHANGE)
    after = before + change
    rows = pair(before, after, seen, seen, 0.0)
    apart = _log_masses(before, seen) - _log_masses(after, seen)
    named = {"P": rows.before, "D": rows.change}
    mean = xp.sum(evaluate(MEAN_TERM, named), axis=-1)
    terms = {**named, "mean": mean[:, None]}
    variance = xp.sum(evaluate(SQUARE_TERM, terms), axis=-1)
    # a deviation is off by so much, and weights by so much of themselves
    off = rows.rounding * (2 * xp.sqrt(variance) + rows.rounding + 2 * variance)
    return Step(
        forward=xp.sum(rows.before * apart, axis=-1),
        backward=-xp.sum(rows.after * apart, axis=-1),
        omega=rows.omega,
        numbers={
            "omega": rows.omega,
            "variance": variance,
            "exponential": xp.sum(evaluate(EXPONENTIAL_TERM, terms), axis=-1),
        },
        rounding=rows.rounding * (4 + 2 * rows.omega),
        off=off,
    )


def sides(bound: sp.Expr, kind: Kind, backward: bool, values: Values) -> Sides:
    """kind: "most" and "least" of a divergence, "error" of half the variance for it.

    The factors of omega subtract numbers that agree to second order.
    """
    found = step(values)
    xp = namespace(found.omega)
    divergence = found.backward if backward else found.forward
    limit = evaluate(bound, found.numbers)
    cancelled = UNIT_ROUNDOFF * (32 + 64 / found.omega**2) * limit
    rounding = found.rounding * (1 + limit / found.omega) + cancelled
    if kind == "least":
        return Sides(limit, divergence, rounding)
    if kind == "error":
        half = evaluate(KEY_METRIC, found.numbers)
        return Sides(xp.abs(divergence - half), limit, rounding + found.off)
    spread = found.off * limit / xp.clip(found.numbers["variance"], 1e-300, None)
    varies = any(symbol.name == "variance" for symbol in bound.free_symbols)
    return Sides(divergence, limit, rounding + (spread if varies else 0.0))


def identity_sides(above: bool, values: Values) -> Sides:
    """The divergence and the registry's expression of it, either as the larger one."""
    found = step(values)
    expected = evaluate(DIVERGENCE, found.numbers)
    sides = (found.forward, expected) if above else (expected, found.forward)
    return Sides(*sides, 2 * found.rounding)


# --- attained ----------------------------------------------------------------------------------


def _group(
    rng: np.random.Generator, batch: int, mass: np.ndarray, change: np.ndarray, reverse: bool
) -> Instances:
    """Rows of which some keys, of that mass together, change by `change`, the others not."""
    half = KEYS // 2
    shares = [rng.dirichlet(np.ones(half), batch) for _ in range(2)]
    masses = np.concatenate([mass[:, None] * shares[0], (1 - mass)[:, None] * shares[1]], axis=1)
    # a Dirichlet share may be 0 in float64
    before = np.log(np.maximum(masses, 1e-30)) + rng.standard_normal((batch, 1))
    after = before + np.where(np.arange(KEYS) < half, change[:, None], 0.0)
    everywhere = np.ones((batch, KEYS), dtype=bool)
    rows = {"before": before, "after": after, "seen": everywhere}
    return {**rows, "before": after, "after": before} if reverse else rows


def _sign(rng: np.random.Generator, batch: int) -> np.ndarray:
    return np.where(rng.random(batch) < 0.5, -1.0, 1.0)


def _farthest(reverse: bool, rng: np.random.Generator, channels: int, batch: int) -> Instances:
    omega = rng.uniform(0.1, 12.0, batch)
    return _group(rng, batch, 1 / omega - 1 / np.expm1(omega), omega, reverse)


def _small_even(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    omega = rng.uniform(0.01, 0.05, batch) * _sign(rng, batch)
    return _group(rng, batch, np.full(batch, 0.5), omega, False)


def _small_skewed(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Two sizes of change at the mass whose third central moment is largest."""
    omega = rng.uniform(0.01, 0.03, batch) * _sign(rng, batch)
    return _group(rng, batch, np.full(batch, (1 - 1 / math.sqrt(3)) / 2), omega, False)


def _rare(sign: int, rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """A rare key gains (sign 1) or loses (-1); the limit is that of its mass to 0."""
    mass = 10.0 ** rng.uniform(-6, -5, batch)
    return _group(rng, batch, mass, sign * rng.uniform(0.5, 4.0, batch), False)


def _drift(
    name: str, bound: sp.Expr, kind: Kind, equality: Draw | None, backward: bool = False
) -> Bound:
    return Bound(
        theorem=ID,
        name=name,
        sharp=True,
        free=("before", "after"),
        draw=draw_same_keys,
        sides=partial(sides, bound, kind, backward),
        equality=equality,
        from_head=same_keys_from_head,
        channels=False,
    )


def _identity(name: str, above: bool) -> Bound:
    return Bound(
        theorem=ID,
        name=f"{ID}.{name}",
        sharp=True,
        free=("before", "after"),
        draw=draw_same_keys,
        sides=partial(identity_sides, above),
        equality=partial(_farthest, False),
        from_head=same_keys_from_head,
        channels=False,
    )


def _metric(name: str, above: bool) -> Bound:
    return Bound(
        theorem=ID,
        name=f"{ID}.{name}",
        sharp=True,
        free=("z", "w"),
        draw=draw_steps,
        sides=partial(metric_sides, METRIC_TERM, COVARIANCE_TERM, "covariance", above),
        equality=even_steps,
        from_head=steps_from_head,
    )


BOUNDS = (
    _drift(ID, ERROR, "error", _small_skewed),
    _drift(f"{ID}.reverse_error", REVERSE_ERROR, "error", _small_skewed, backward=True),
    _drift(f"{ID}.quadratic", QUADRATIC, "most", _small_even),
    _drift(f"{ID}.quadratic_backward", QUADRATIC, "most", _small_even, backward=True),
    _drift(f"{ID}.largest", LARGEST, "most", partial(_farthest, False)),
    _drift(f"{ID}.largest_backward", LARGEST, "most", partial(_farthest, True), backward=True),
    _drift(f"{ID}.upper", UPPER, "most", partial(_rare, 1)),
    _drift(f"{ID}.lower", LOWER, "least", partial(_rare, -1)),
    _drift(f"{ID}.reverse_upper", REVERSE_UPPER, "most", partial(_rare, 1), backward=True),
    _drift(f"{ID}.reverse_lower", REVERSE_LOWER, "least", partial(_rare, -1), backward=True),
    _identity("divergence", True),
    _identity("divergence_below", False),
    _metric("metric", True),
    _metric("metric_below", False),
)
