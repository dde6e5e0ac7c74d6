"""Successive queries of a head and the same keys, many at once: what their logits change by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import sympy as sp

from simulations.bounds.bound import (
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
from tappa_theory.arrays import Array, namespace, real_vectors
from tappa_theory.attention import softmax
from tappa_theory.separable import evaluate
from tappa_theory.theorems.query_drift import MEAN_TERM, SQUARE_TERM

STEPS, STEP_KEYS = 3, 5


class Steps(NamedTuple):
    """Logits of rows t = first, ..., first + STEPS and their changes; vectors after RoPE.

    logits: (batch, STEPS + 1, STEP_KEYS). change: (batch, STEPS, STEP_KEYS). seen: as change, the
    keys of the earlier row. moves: (batch, STEPS, d), keys: (batch, STEP_KEYS, d). size: (batch,),
    no logit is larger. error: (batch,) what float64 may be off by in a logit.
    """

    logits: Array
    change: Array
    seen: Array
    moves: Array
    keys: Array
    size: Array
    error: Array


def draw_steps(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """STEPS + 1 queries, each a drift away from the one before, and keys of any size."""
    drift = np.exp(rng.uniform(-4, 1, (batch, 1, 1)))
    moves = drift * channel_vectors(rng, batch, STEPS + 1, channels)
    moves[:, 0] /= drift[:, 0]
    return {
        "z": np.cumsum(moves, axis=1),
        "w": channel_vectors(rng, batch, STEP_KEYS, channels),
        "theta": frequencies(rng, channels, batch),
        "lambda": scales(rng, channels, batch)[:, 0],
        "first": rng.integers(0, STEP_KEYS, size=batch),
    }


def even_steps(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Rows over two keys or more that change, so that nothing is lost in rounding."""
    return draw_steps(rng, channels, batch) | {
        "z": complex_normal(rng, batch, STEPS + 1, channels),
        "w": complex_normal(rng, batch, STEP_KEYS, channels),
        "first": rng.integers(1, STEP_KEYS, size=batch),
    }


def steps_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    """Successive queries of a head and the keys about them.

    One scale for all channels: where RoPE scales some of them, their keys carry the difference.
    """
    first = rng.integers(0, STEP_KEYS, size=batch)
    start = rng.integers(0, head.length - STEP_KEYS - STEPS, size=batch)
    theta, gain = gains(head, batch)
    return {
        "z": head.z[(start + first)[:, None] + np.arange(STEPS + 1)],
        "w": head.w[start[:, None] + np.arange(STEP_KEYS)] * (gain / gain[:, :1])[:, None],
        "theta": theta,
        "lambda": gain[:, 0],
        "first": first,
    }


def steps(values: Values) -> Steps:
    """Rows from the definition of a logit; vectors after RoPE as real coordinates."""
    z, w, lam = values["z"], values["w"], values["lambda"]
    xp = namespace(z)
    theta = values["theta"][:, None]
    rows = values["first"][:, None] + xp.arange(z.shape[1])[None, :]
    t = xp.astype(rows, xp.float64)[:, :, None]
    i = xp.astype(xp.arange(w.shape[1]), xp.float64)[None, :, None]
    logits = logit(
        z[:, :, None], w[:, None], theta[:, None], lam[:, None, None, None], t[:, :, None], i[None]
    )

    def turned(channels: Array, positions: Array) -> Array:
        angle = positions * theta
        return real_vectors(channels * (xp.cos(angle) + 1j * xp.sin(angle)))

    queries, keys = turned(z, t), turned(w, i)
    norms = [xp.max(xp.sum(x * x, axis=-1), axis=-1) for x in (queries, keys)]
    size = 2 * lam * xp.sqrt(norms[0] * norms[1])
    angle = (z.shape[1] + 2 * STEP_KEYS) * xp.max(theta[:, 0], axis=-1)
    return Steps(
        logits=logits,
        change=logits[:, 1:] - logits[:, :-1],
        seen=i[:, :, 0][None] <= t[:, :-1],
        moves=queries[:, 1:] - queries[:, :-1],
        keys=keys,
        size=size,
        error=sum_rounding(size, angle, keys.shape[-1] ** 2 + STEPS * STEP_KEYS),
    )


def second_moments(
    vectors: Array, weights: Array, term: sp.Expr, prefix: str, **more: Array
) -> Array:
    """(batch, d, d) mean over the vectors (batch, n, d), by weights (batch, n), of a registry term
    of two of their coordinates."""
    xp = namespace(vectors)
    named = {f"{prefix}_a": vectors[:, :, :, None], f"{prefix}_b": vectors[:, :, None, :], **more}
    products = evaluate(term, named) * weights[:, :, None, None]
    return xp.sum(products, axis=1) / xp.sum(weights, axis=1)[:, None, None]


def form(term: sp.Expr, move: Array, moment: Array, name: str, lam: Array) -> Array:
    """(batch,) sum over pairs of coordinates of a registry term in one move (batch, d)."""
    numbers = {"dq_a": move[:, :, None], "dq_b": move[:, None, :], name: moment}
    xp = namespace(move)
    return xp.sum(evaluate(term, {**numbers, "lambda": lam[:, None, None]}), axis=(-1, -2))


def metric_sides(
    term: sp.Expr, weighted_key: sp.Expr, name: str, above: bool, values: Values
) -> Sides:
    """Variance of the first step's logit changes under the earlier row, and the form in the
    covariance of the keys, either as the larger one.

    weighted_key: one key of the covariance, its attention P included. name: the moment's in term.
    """
    found = steps(values)
    xp = namespace(found.change)
    attention = softmax(found.logits[:, 0], found.seen[:, 0])
    named = {"P": attention, "D": found.change[:, 0]}
    mean = xp.sum(evaluate(MEAN_TERM, named), axis=-1)
    variance = xp.sum(evaluate(SQUARE_TERM, {**named, "mean": mean[:, None]}), axis=-1)
    keys = found.keys
    centre = xp.sum(attention[:, :, None] * keys, axis=1)[:, None]
    at = {"mean_a": centre[:, :, :, None], "mean_b": centre[:, :, None, :]}
    ones = xp.ones_like(attention)
    # the mean over the keys of what is to be summed, times their number
    covariance = keys.shape[1] * second_moments(
        keys, ones, weighted_key, "k", **at, P=attention[:, :, None, None]
    )
    expected = form(term, found.moves[:, 0], covariance, name, values["lambda"])
    both = (variance, expected) if above else (expected, variance)
    return Sides(*both, 8 * found.size * found.error)
