"""Typical case on arrays: mean squared logit changes and traces, shares and their bound."""

from __future__ import annotations

from functools import partial

import numpy as np

from simulations.bounds.bound import Bound, Instances, Sides, Values, complex_normal
from simulations.bounds.query_drift import step
from simulations.bounds.rows import KEYS, draw_same_keys, same_keys_from_head
from simulations.bounds.steps import (
    STEP_KEYS,
    STEPS,
    Steps,
    draw_steps,
    even_steps,
    form,
    metric_sides,
    second_moments,
    steps,
    steps_from_head,
)
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.theorems.query_drift import COVARIANCE_TERM, KEY_METRIC, QUADRATIC
from tappa_theory.theorems.typical_case import (
    EXCEEDING,
    KEY_TERM,
    MASKED_TERM,
    QUERY_TERM,
    RECTANGLE_TERM,
    ROW_TERM,
    THEOREM,
)

ID = THEOREM.id


def trace(found: Steps, lam: Array) -> Array:
    """(batch,) lambda^2 tr(M_q M_k), every step over all keys."""
    xp = namespace(found.moves)
    ones = xp.ones_like(found.change)
    query = second_moments(found.moves, ones[:, :, 0], QUERY_TERM, "dq")
    key = second_moments(found.keys, ones[:, 0], KEY_TERM, "k")
    numbers = {"m_q": query, "m_k": key, "lambda": lam[:, None, None]}
    return xp.sum(evaluate(RECTANGLE_TERM, numbers), axis=(-1, -2))


def masked_trace(found: Steps, lam: Array) -> Array:
    """(batch,) the same row by row, each over the keys that its earlier row sees."""
    xp = namespace(found.moves)
    seen = xp.astype(found.seen, xp.float64)
    total = 0.0
    for t in range(STEPS):
        moment = second_moments(found.keys, seen[:, t], KEY_TERM, "k")
        square = form(ROW_TERM, found.moves[:, t], moment, "m_k", lam)
        visible = xp.sum(seen[:, t], axis=-1)
        total = total + evaluate(MASKED_TERM, {"N": visible, "mean_square_t": square})
    return total / xp.sum(seen, axis=(-1, -2))


def mean_square_sides(masked: bool, above: bool, values: Values) -> Sides:
    """Mean square of the logit changes and its trace, either as the larger one."""
    found = steps(values)
    xp = namespace(found.change)
    seen = xp.astype(found.seen, xp.float64) if masked else xp.ones_like(found.change)
    observed = xp.sum(seen * found.change**2, axis=(-1, -2)) / xp.sum(seen, axis=(-1, -2))
    expected = (masked_trace if masked else trace)(found, values["lambda"])
    both = (observed, expected) if above else (expected, observed)
    return Sides(*both, 8 * found.size * found.error)


def exceeding_sides(values: Values) -> Sides:
    """Share of the visible pairs whose logit changes by x or more."""
    found = steps(values)
    xp = namespace(found.change)
    threshold = xp.clip(xp.abs(values["x"]), 1e-6, None)
    error = 2 * found.error
    # a change that misses x by no more than rounding counts
    large = found.seen & (xp.abs(found.change) + error[:, None, None] >= threshold[:, None, None])
    pairs = xp.sum(xp.astype(found.seen, xp.float64), axis=(-1, -2))
    share = xp.sum(xp.astype(large, xp.float64), axis=(-1, -2)) / pairs
    square = masked_trace(found, values["lambda"])
    limit = evaluate(EXCEEDING, {"mean_square": square, "x": threshold})
    off = 8 * found.size * found.error / threshold**2
    return Sides(share, limit, off + 4 * limit * error / threshold)


def oscillation_sides(values: Values) -> Sides:
    """Half the variance of a row's changes, any weights, against that of the oscillation."""
    found = step(values)
    limit = evaluate(QUADRATIC, found.numbers)
    return Sides(
        evaluate(KEY_METRIC, found.numbers), limit, found.off + found.rounding * found.omega
    )


def _draw_threshold(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    values = draw_steps(rng, channels, batch)
    found = steps(values)
    share = rng.integers(STEPS * STEP_KEYS, size=batch)
    # the size of one of the changes, which a threshold just reaches
    sizes = np.sort(np.abs(found.change).reshape(batch, -1), axis=1)
    return {**values, "x": sizes[np.arange(batch), share]}


def _one_size(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Equal keys after RoPE, and steps along them by a multiple of x or not at all."""
    values = even_steps(rng, channels, batch)
    theta, lam = values["theta"], values["lambda"]
    key = complex_normal(rng, batch, channels)
    key /= np.sqrt(np.sum(np.abs(key) ** 2, axis=-1, keepdims=True))
    x = np.exp(rng.uniform(-2, 2, batch))
    sizes = (x / lam)[:, None] * rng.integers(-1, 2, size=(batch, STEPS))
    sizes[:, 0] = x / lam
    path = np.concatenate([rng.standard_normal((batch, 1)), sizes], axis=1).cumsum(axis=1)

    def before_rope(vectors: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return vectors * np.exp(-1j * positions[..., None] * theta[:, None])

    return {
        **values,
        "z": before_rope(
            path[:, :, None] * key[:, None], values["first"][:, None] + np.arange(STEPS + 1)
        ),
        "w": before_rope(np.repeat(key[:, None], STEP_KEYS, axis=1), np.arange(STEP_KEYS)[None, :]),
        "x": x,
    }


def _threshold_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    values = steps_from_head(rng, head, batch)
    change = np.abs(steps(values).change)
    return {**values, "x": np.max(change, axis=(1, 2)) * rng.uniform(0.1, 1.0, batch)}


def _two_halves(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Half of the keys, of equal masses, change by the same amount."""
    values = draw_same_keys(rng, channels, batch)
    before = np.broadcast_to(rng.standard_normal((batch, 1)), (batch, KEYS))
    change = np.where(np.arange(KEYS) < KEYS // 2, rng.uniform(-5.0, 5.0, (batch, 1)), 0.0)
    return {**values, "before": before.copy(), "after": before + change}


def _mean_square(name: str, masked: bool, above: bool) -> Bound:
    return Bound(
        theorem=ID,
        name=f"{ID}.{name}",
        sharp=True,
        free=("z", "w"),
        draw=draw_steps,
        sides=partial(mean_square_sides, masked, above),
        equality=even_steps,
        from_head=steps_from_head,
    )


def _variance(name: str, above: bool) -> Bound:
    return Bound(
        theorem=ID,
        name=f"{ID}.{name}",
        sharp=True,
        free=("z", "w"),
        draw=draw_steps,
        sides=partial(metric_sides, ROW_TERM, COVARIANCE_TERM, "m_k", above),
        equality=even_steps,
        from_head=steps_from_head,
    )


BOUNDS = (
    Bound(
        theorem=ID,
        name=ID,
        sharp=True,
        free=("z", "w", "x"),
        draw=_draw_threshold,
        sides=exceeding_sides,
        equality=_one_size,
        from_head=_threshold_from_head,
        # a share has steps
        differentiable=False,
    ),
    _mean_square("mean_square", False, True),
    _mean_square("mean_square_below", False, False),
    _mean_square("masked", True, True),
    _mean_square("masked_below", True, False),
    _variance("row_variance", True),
    _variance("row_variance_below", False),
    Bound(
        theorem=ID,
        name=f"{ID}.oscillation",
        sharp=True,
        free=("before", "after"),
        draw=draw_same_keys,
        sides=oscillation_sides,
        equality=_two_halves,
        from_head=same_keys_from_head,
        channels=False,
    ),
)
