"""Two rows of a causal head at a shift, many at once: free queries and keys before RoPE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from simulations.bounds.bound import (
    Instances,
    Values,
    channel_vectors,
    complex_normal,
    frequencies,
    gains,
    logit,
    scales,
    sum_rounding,
)
from simulations.bounds.rows import Pair, largest, pair
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import BOUND

POSITIONS, LARGEST_SHIFT = 8, 3
HEAD_FREE = ("z", "z_s", "w")


def draw_head(rng: np.random.Generator, channels: int, batch: int, kind: str = "any") -> Instances:
    """Queries at t and t + s, keys at 0..7, of a causal head; row t + s is read u keys later.

    kind: "any"; "gaining" with s >= u, so that no key is lost; "column" with u = 0.
    Half of the heads soft-cap their logits: inverse_cap is one over the cap, 0 without.
    """
    s = rng.integers(0, LARGEST_SHIFT + 1, size=batch)
    u = rng.integers(0, LARGEST_SHIFT + 1, size=batch)
    if kind == "column":
        s, u = np.maximum(s, 1), np.zeros_like(u)
    if kind == "gaining":
        s, u = np.maximum(s, u), np.minimum(s, u)
    s = np.where((s == 0) & (u == 0), 1, s)
    t = rng.integers(np.maximum(u, 1), POSITIONS - s)
    z = channel_vectors(rng, batch, channels)
    drift = np.exp(rng.uniform(-5, 1, (batch, 1)))
    return {
        "z": z,
        "z_s": z + drift * channel_vectors(rng, batch, channels),
        "w": channel_vectors(rng, batch, POSITIONS, channels),
        "theta": frequencies(rng, channels, batch),
        "lambda": scales(rng, channels, batch),
        "inverse_cap": np.where(rng.random(batch) < 0.5, 0.0, rng.uniform(0.02, 2.0, batch)),
        "t": t,
        "s": s,
        "u": u,
    }


def head_rows_from_head(
    rng: np.random.Generator, head: SyntheticHead, batch: int, kind: str = "any"
) -> Instances:
    """The same from 8 successive positions of a head; as positions only count by differences,
    the first of them is called 0."""
    values = draw_head(rng, head.z.shape[1], batch, kind)
    first = rng.integers(0, head.length - POSITIONS + 1, size=batch)
    theta, gain = gains(head, batch)
    return values | {
        "z": head.z[first + values["t"]],
        "z_s": head.z[first + values["t"] + values["s"]],
        "w": head.w[first[:, None] + np.arange(POSITIONS)],
        "theta": theta,
        "lambda": gain,
        "inverse_cap": np.zeros(batch),
    }


class HeadPair(NamedTuple):
    """The two rows of a head, all keys and the common ones only; key i of row t is key i + u.

    bound_max: largest (B) over the common keys. w, position: (batch, K, M) keys, (K,) positions.
    """

    rows: Pair
    common_rows: Pair
    bound_max: Array
    bound_rounding: Array
    w: Array
    query: Array
    query_s: Array


def head_pair(values: Values) -> HeadPair:
    """Both rows from the definition, and (B) summed over channels."""
    xp = namespace(values["z"])
    z, z_s, w, theta = values["z"], values["z_s"], values["w"], values["theta"][:, None]
    lam = values["lambda"][:, None]
    t, s, u = (values[name][:, None] for name in ("t", "s", "u"))
    # where the query does not move it is the same query
    z_s = xp.where(s == 0, z, z_s)
    i = xp.arange(-LARGEST_SHIFT, POSITIONS)[None, :]
    j = i + u
    item = xp.arange(z.shape[0])[:, None]
    key = w[item, xp.clip(i + 0 * u, 0, POSITIONS - 1)]
    key_u = w[item, xp.clip(j, 0, POSITIONS - 1)]
    number = [xp.astype(part, xp.float64)[..., None] for part in (t, t + s, i, j, s, u)]
    before = logit(z[:, None], key, theta, lam, number[0], number[2])
    after = logit(z_s[:, None], key_u, theta, lam, number[1], number[3])
    seen, seen_later = (i >= 0) & (i <= t), (j >= 0) & (j <= t + s)
    named = {"z": z[:, None], "z_s": z_s[:, None], "w": key, "w_u": key_u}
    numbers = {"theta": theta, "lambda": lam, "s": number[4], "u": number[5]}
    bound = xp.sum(evaluate(BOUND, {**named, **numbers}), axis=-1)
    moduli = xp.abs(z)[:, None] + xp.abs(z_s)[:, None]
    sizes = xp.sum(lam * moduli * (xp.abs(key) + xp.abs(key_u)), axis=-1)
    angle = (POSITIONS + LARGEST_SHIFT) * xp.max(theta[:, 0], axis=-1)
    error = sum_rounding(xp.max(sizes, axis=-1), angle, z.shape[-1])
    cap = xp.abs(values["inverse_cap"])[:, None]
    capped = cap > 1e-6
    safe = xp.where(capped, cap, xp.ones_like(cap))
    before, after = (xp.where(capped, xp.tanh(a * safe) / safe, a) for a in (before, after))
    common = seen & seen_later
    return HeadPair(
        rows=pair(before, after, seen, seen_later, error),
        common_rows=pair(before, after, common, common, error),
        bound_max=largest(bound, common),
        bound_rounding=error,
        w=key,
        query=z,
        query_s=z_s,
    )


def oscillation(head: HeadPair) -> Array:
    """Oscillation over the common keys, as small as it is."""
    xp = namespace(head.bound_max)
    common = head.rows.common
    high = xp.where(common, head.rows.change, xp.full_like(head.rows.change, -math.inf))
    low = xp.where(common, -head.rows.change, xp.full_like(head.rows.change, -math.inf))
    return xp.max(high, axis=-1) + xp.max(low, axis=-1)


def opposite_keys(
    rng: np.random.Generator,
    channels: int,
    batch: int,
    before: Callable[[np.ndarray], np.ndarray],
    equal_shifts: bool,
) -> tuple[Instances, np.ndarray]:
    """Keys 0 and 1 that are opposite after RoPE and a query along them at t = 1, and omega.

    Every channel moves along by a random length, so that the logits of the two keys, `before`
    (of omega) apart, end omega farther apart. equal_shifts: s = u at any frequency; else u = 0 on
    channels that do not turn. omega is twice the largest (B).
    """
    omega = rng.uniform(0.05, 6.0, batch)
    s = rng.integers(2 if equal_shifts else 1, 4, size=batch)
    u = s if equal_shifts else np.zeros_like(s)
    lam = scales(rng, channels, batch)
    theta = rng.uniform(0.0, math.pi, (batch, channels)) * equal_shifts
    key = complex_normal(rng, batch, channels)
    energy = lam * np.abs(key) ** 2
    share = rng.dirichlet(np.ones(channels), batch)
    drift = omega[:, None] / 2 * share / energy
    other = rng.dirichlet(np.ones(channels), batch)
    start = before(omega)[:, None] / 2 * other / energy
    along = np.exp(-1j * theta) * key
    w = 0.1 * complex_normal(rng, batch, POSITIONS, channels)
    for shift in (np.zeros_like(u), u):
        item = np.arange(batch)
        w[item, shift], w[item, shift + 1] = key, -along
    values = {
        "z": start * along,
        "z_s": (start + drift) * along,
        "w": w,
        "theta": theta,
        "lambda": lam,
        "inverse_cap": np.zeros(batch),
        "t": np.ones_like(s),
        "s": s,
        "u": u,
    }
    return values, omega
