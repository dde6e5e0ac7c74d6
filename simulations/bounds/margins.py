"""A query that moves and two keys, many at once: the margin of the key over its rival."""

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
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace

MOST_STEPS, FARTHEST = 4, 64


def turned(x: Array, position: Array, theta: Array) -> Array:
    """Channels after RoPE; position (batch,)."""
    xp = namespace(x)
    angle = position[:, None] * theta
    return x * (xp.cos(angle) + 1j * xp.sin(angle))


def draw_pairs(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """A query at t and at t + s, a key at i and its rival at i + u, which may be the newer one."""
    t, s = rng.integers(1, FARTHEST, batch), rng.integers(1, MOST_STEPS + 1, batch)
    i = rng.integers(0, t + 1)
    u = rng.integers(0, t + 1) - i
    z, w = channel_vectors(rng, batch, channels), channel_vectors(rng, batch, channels)
    theta = frequencies(rng, channels, batch)
    apart = np.exp(rng.uniform(-6, 1, (2, batch, 1)))
    places = {"t": t, "s": s, "i": i, "u": u}
    return {
        "z": z,
        # from small moves after RoPE to none that are small
        "z_s": turned(z, -s, theta) + apart[0] * channel_vectors(rng, batch, channels),
        "w": w,
        "w_u": turned(w, -u, theta) + apart[1] * channel_vectors(rng, batch, channels),
        "theta": theta,
        "lambda": scales(rng, channels, batch),
        **{name: place * 1.0 for name, place in places.items()},
    }


def pairs_from_head(
    rng: np.random.Generator, head: SyntheticHead, batch: int, new: bool = False
) -> Instances:
    """Queries and keys of a head. new: the rival came after t."""
    t = rng.integers(1, head.length - MOST_STEPS, size=batch)
    s = rng.integers(1, MOST_STEPS + 1, size=batch)
    i = rng.integers(0, t + 1)
    rival = t + rng.integers(1, s + 1) if new else rng.integers(0, t + 1)
    theta, gain = gains(head, batch)
    places = {"t": t, "s": s, "i": i, "u": rival - i}
    return {
        "z": head.z[t],
        "z_s": head.z[t + s],
        "w": head.w[i],
        "w_u": head.w[rival],
        "theta": theta,
        "lambda": gain,
        **{name: place * 1.0 for name, place in places.items()},
    }


def one_scale(values: Instances) -> Instances:
    """One scale for all channels: where RoPE scales some of them, the keys carry the difference."""
    share = values["lambda"] / values["lambda"][:, :1]
    scale = np.broadcast_to(values["lambda"][:, :1], share.shape).copy()
    return {**values, "w": values["w"] * share, "w_u": values["w_u"] * share, "lambda": scale}


class Margins(NamedTuple):
    """Logits (batch,) of key and rival at t and t + s, and what float64 may be off by in them."""

    key: Array
    rival: Array
    key_later: Array
    rival_later: Array
    error: Array


def margins(values: Values) -> Margins:
    """From the definition of a logit."""
    z, z_s, w, w_u, theta, lam = (
        values[name] for name in ("z", "z_s", "w", "w_u", "theta", "lambda")
    )
    xp = namespace(z)
    t, s, i, u = (values[name][:, None] for name in ("t", "s", "i", "u"))
    size = xp.sum(lam * (xp.abs(z) + xp.abs(z_s)) * (xp.abs(w) + xp.abs(w_u)), axis=-1)
    farthest = xp.max(t + s + xp.abs(i) + xp.abs(u), axis=-1)
    return Margins(
        key=logit(z, w, theta, lam, t, i),
        rival=logit(z, w_u, theta, lam, t, i + u),
        key_later=logit(z_s, w, theta, lam, t + s, i),
        rival_later=logit(z_s, w_u, theta, lam, t + s, i + u),
        error=sum_rounding(size, xp.max(theta, axis=-1) * farthest, z.shape[-1]),
    )


def norm_of(x: Array) -> Array:
    xp = namespace(x)
    return xp.sqrt(xp.sum(xp.real(x) ** 2 + xp.imag(x) ** 2, axis=-1))


def vectors(values: Values) -> tuple[Array, Array, Array]:
    """Query, later query, and the key less its rival, after RoPE."""
    t, s, i, u, theta = (values[name] for name in ("t", "s", "i", "u", "theta"))
    lead = turned(values["w"], i, theta) - turned(values["w_u"], i + u, theta)
    return turned(values["z"], t, theta), turned(values["z_s"], t + s, theta), lead
