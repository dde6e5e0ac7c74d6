"""Two rows of a causal head at a shift, many at once: free queries and keys before RoPE."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulations.bounds.bound import (
    Instances,
    Values,
    channel_vectors,
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
from tappa_theory.shift_identity import BOUND, w, w_u, z, z_s

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
    query = channel_vectors(rng, batch, channels)
    drift = np.exp(rng.uniform(-5, 1, (batch, 1)))
    return {
        "z": query,
        "z_s": query + drift * channel_vectors(rng, batch, channels),
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

    before, after: (batch, K) logits, hidden ones too. bound_max: largest (B) over the common keys;
    bound_rounding: of it and of a logit. w: (batch, K, M) keys i, of which those at positions
    below 0 stand for none.
    """

    rows: Pair
    common_rows: Pair
    before: Array
    after: Array
    bound_max: Array
    bound_rounding: Array
    w: Array
    query: Array
    query_s: Array


def _summed_bound(values: Values, common: Array) -> Array:
    """(batch, K) sum over channels of (B), of any value where a key is not common.

    What does not move drifts by 0, which has no slope: the expression without that drift is taken.
    """
    xp = namespace(values["z"])
    still = {"z_s": values["s"] == 0, "w_u": values["u"] == 0}
    moved = {
        **values,
        "z_s": xp.where(still["z_s"], values["z"] + 1.0, values["z_s"]),
        "w_u": xp.where(still["w_u"] | ~common, values["w"] + 1.0, values["w_u"]),
    }
    bound = evaluate(BOUND, moved)
    bound = xp.where(still["z_s"], evaluate(BOUND.subs(z_s, z), moved), bound)
    bound = xp.where(still["w_u"], evaluate(BOUND.subs(w_u, w), moved), bound)
    return xp.sum(bound, axis=-1)


def head_pair(values: Values) -> HeadPair:
    """Both rows from the definition, and (B) summed over channels."""
    xp = namespace(values["z"])
    query, query_s, theta = values["z"], values["z_s"], values["theta"][:, None]
    lam = values["lambda"][:, None]
    t, s, u = (values[name][:, None] for name in ("t", "s", "u"))
    # where the query does not move it is the same query
    query_s = xp.where(s == 0, query, query_s)
    i = xp.arange(-LARGEST_SHIFT, POSITIONS)[None, :]
    j = i + u
    item = xp.arange(query.shape[0])[:, None]
    key = values["w"][item, xp.clip(i + 0 * u, 0, POSITIONS - 1)]
    key_u = values["w"][item, xp.clip(j, 0, POSITIONS - 1)]
    number = [xp.astype(part, xp.float64)[..., None] for part in (t, t + s, i, j, s, u)]
    before = logit(query[:, None], key, theta, lam, number[0], number[2])
    after = logit(query_s[:, None], key_u, theta, lam, number[1], number[3])
    seen, seen_later = (i >= 0) & (i <= t), (j >= 0) & (j <= t + s)
    named = {"z": query[:, None], "z_s": query_s[:, None], "w": key, "w_u": key_u}
    numbers = {"theta": theta, "lambda": lam, "s": number[4], "u": number[5]}
    common = seen & seen_later
    bound = _summed_bound({**named, **numbers}, common[:, :, None])
    moduli = xp.abs(query)[:, None] + xp.abs(query_s)[:, None]
    sizes = xp.sum(lam * moduli * (xp.abs(key) + xp.abs(key_u)), axis=-1)
    angle = (POSITIONS + LARGEST_SHIFT) * xp.max(theta[:, 0], axis=-1)
    error = sum_rounding(xp.max(sizes, axis=-1), angle, query.shape[-1])
    cap = xp.abs(values["inverse_cap"])[:, None]
    capped = cap > 1e-6
    safe = xp.where(capped, cap, xp.ones_like(cap))
    before, after = (xp.where(capped, xp.tanh(a * safe) / safe, a) for a in (before, after))
    return HeadPair(
        rows=pair(before, after, seen, seen_later, error),
        common_rows=pair(before, after, common, common, error),
        before=before,
        after=after,
        bound_max=largest(bound, common),
        bound_rounding=error,
        w=key,
        query=query,
        query_s=query_s,
    )


def oscillation(head: HeadPair) -> Array:
    """Oscillation over the common keys, as small as it is."""
    rows = head.rows
    return largest(rows.change, rows.common) + largest(-rows.change, rows.common)
