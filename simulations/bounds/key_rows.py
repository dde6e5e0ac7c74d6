"""Rows of keys for proposition 4.1: random ones, those of a head, and the cases of equality.

The keys of a row are (batch, n, M), key i at position i; every row sees them all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulations.bounds.bound import (
    Instances,
    Values,
    channel_vectors,
    complex_normal,
    frequencies,
    gains,
    norm,
    scales,
)
from simulations.bounds.shift_bound import column, drifted
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace, real_vectors

LATEST = 32


def after_rope(values: Values) -> tuple[Array, Array, Array]:
    """(query, later query, keys) after RoPE, as channels."""
    theta, t = values["theta"], column(values["t"])
    xp = namespace(theta)
    places = xp.arange(values["w"].shape[-2], dtype=theta.dtype)[:, None]
    keys = values["w"] * xp.exp(1j * places * theta[..., None, :])
    turned = [values["z"] * xp.exp(1j * t * theta), values["z_s"] * xp.exp(1j * (t + 1) * theta)]
    return turned[0], turned[1], keys


Count = Callable[[int], int]
"""Number of keys of a row from the number of channels."""
Signs = Callable[[int], np.ndarray]
"""Signs of the keys from their number."""
Equality = Callable[[np.random.Generator, Instances], Instances]
"""Gives instances keys (and a drift) that put them on a bound."""


def few(channels: int) -> int:
    """Fewer keys than dimensions where there is room: the span is not everything."""
    return min(4, 2 * channels)


def four(channels: int) -> int:
    return 4


def full_rank(channels: int) -> int:
    """As many keys as dimensions."""
    return 2 * channels


def draw_rows(count: Count) -> Callable[[np.random.Generator, int, int], Instances]:
    def draw(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        query = channel_vectors(rng, batch, channels)
        rows = count(channels)
        return {
            "z": query,
            "z_s": drifted(rng, query),
            "w": channel_vectors(rng, batch, rows, channels),
            "theta": frequencies(rng, channels, batch),
            "lambda": scales(rng, channels, batch),
            "t": rng.integers(rows, rows + LATEST, batch) * 1.0,
        }

    return draw


def rows_from_head(count: Count) -> Callable[[np.random.Generator, SyntheticHead, int], Instances]:
    """As many keys of a head as asked for, anywhere before the query, moved to the places 0..n-1.

    A logit knows distances only: the keys keep their turns by going there.
    """

    def from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
        theta, gain = gains(head, batch)
        rows = count(theta.shape[-1])
        t = rng.integers(rows, head.length - 1, size=batch)
        places = np.stack([rng.choice(int(last) + 1, rows, replace=False) for last in t])
        turn = np.exp(1j * (places - np.arange(rows))[..., None] * theta[:, None, :])
        # one lambda: a factor that RoPE gives a channel belongs to its keys
        share = gain / gain[:, :1]
        keys = head.w[places] * turn * share[:, None, :]
        lam = np.broadcast_to(gain[:, :1], gain.shape)
        values = {"z": head.z[t], "z_s": head.z[t + 1], "w": keys, "theta": theta}
        return values | {"lambda": lam, "t": t * 1.0}

    return from_head


def _before_rope(values: Instances, keys: np.ndarray) -> Instances:
    """The same with these keys (after RoPE)."""
    places = np.arange(keys.shape[1])[:, None]
    return {**values, "w": keys * np.exp(-1j * places * values["theta"][:, None, :])}


def _step(values: Instances) -> np.ndarray:
    before, after, _ = after_rope(values)
    return after - before


def longest_along(rng: np.random.Generator, values: Instances) -> Instances:
    """The longest key lies along the step; the others are any shorter ones."""
    keys = complex_normal(rng, *values["w"].shape)
    keys /= column(norm(keys)) * rng.uniform(1, 3, (*keys.shape[:2], 1))
    step = _step(values)
    keys[:, 0] = step / column(norm(step)) * rng.choice([-1, 1], (len(step), 1))
    return _before_rope(values, keys * np.exp(rng.standard_normal((len(step), 1, 1))))


def equal_keys(signs: Signs) -> Equality:
    """Keys along the step, equally long, with these signs."""

    def along(rng: np.random.Generator, values: Instances) -> Instances:
        step, rows = _step(values), values["w"].shape[1]
        one = step / column(norm(step)) * np.exp(rng.standard_normal((len(step), 1)))
        return _before_rope(values, signs(rows)[:, None] * one[:, None, :])

    return along


def orthogonal(signs: Signs) -> Equality:
    """Orthogonal keys, equally long, the step (projected on their span) halfway between them all.

    A Householder reflection takes the step to the diagonal; its rows are the keys. With signs, the
    products with the step have them too.
    """

    def keys_of(rng: np.random.Generator, values: Instances) -> Instances:
        step, count = real_vectors(_step(values)), values["w"].shape[1]
        dimension = step.shape[-1]
        goal = np.ones(dimension) / np.sqrt(dimension)
        normal = step / column(norm(step)) - goal
        normal /= column(norm(normal))
        rows = (np.eye(dimension) - 2 * normal[:, :, None] * normal[:, None, :])[:, :count]
        rows = rows * signs(count)[:, None] * np.exp(rng.standard_normal((len(step), 1, 1)))
        half = dimension // 2
        return _before_rope(values, rows[..., :half] + 1j * rows[..., half:])

    return keys_of


def either(one: Equality, other: Equality) -> Equality:
    """Every second instance of one kind; where keys cannot be orthogonal all are of the first."""

    def keys_of(rng: np.random.Generator, values: Instances) -> Instances:
        count, channels = values["w"].shape[1:]
        first = one(rng, values)
        if count > 2 * channels:
            return first
        odd = np.arange(len(values["w"])) % 2 == 1
        second = other(rng, values)
        return {**values, "w": np.where(odd[:, None, None], second["w"], first["w"])}

    return keys_of


def _with_turn(values: Instances, low: float, high: float, rng: np.random.Generator) -> Instances:
    """The query drifts by `share` times what RoPE turns it: ahead, or back where negative."""
    share = rng.uniform(low, high, (len(values["z"]), 1))
    by_rope = (1 - np.exp(-1j * values["theta"])) * values["z"]
    return {**values, "z_s": values["z"] + share * by_rope}


def ahead(rng: np.random.Generator, values: Instances) -> Instances:
    return longest_along(rng, _with_turn(values, 0.1, 3, rng))


def back(rng: np.random.Generator, values: Instances) -> Instances:
    """Back against RoPE, and too far."""
    return orthogonal(np.ones)(rng, _with_turn(values, -6, -2, rng))


def half_each(rows: int) -> np.ndarray:
    return np.where(np.arange(rows) % 2, -1.0, 1.0)
