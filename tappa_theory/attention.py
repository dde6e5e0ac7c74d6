"""Logits of a causal attention head from RoPE channels, and the softmax over its visible keys."""

import math

from tappa_theory.arrays import Array, asarray_like, namespace
from tappa_theory.energy import channel_gain
from tappa_theory.patterns import distances
from tappa_theory.rope import Rope
from tappa_theory.separable import separate
from tappa_theory.shift_identity import LOGIT


def logits(
    z: Array, w: Array, rope: Rope, scale: float, query_positions: Array | None = None
) -> Array:
    """a_{t,i} = sum over channels of `LOGIT`, (..., R, T) float64, hidden pairs (i > t) included.

    z: (..., R, M) query channels, w: (..., T, M) key channels, complex, before RoPE; key i at
    position i.
    scale: softmax scale. query_positions: (R,) integers, default 0..R-1.
    """
    xp = namespace(z, w)
    if query_positions is None:
        query_positions = xp.arange(z.shape[-2], device=z.device)
    keys = xp.arange(w.shape[-2], device=w.device)
    gain = asarray_like(channel_gain(rope, scale), xp.real(z))
    values = {
        "z": z,
        "w": w,
        "t": xp.astype(query_positions, xp.float64)[:, None],
        "i": xp.astype(keys, xp.float64)[:, None],
        "theta": asarray_like(rope.frequencies, gain),
        "lambda": gain,
    }
    logit = separate(LOGIT)
    return logit.query_features(values) @ xp.matrix_transpose(logit.key_features(values))


def causal(rows: Array, length: int, window: int | None = None) -> Array:
    """(R, T) bool: does the query at position rows[r] see key i? window: of a sliding window."""
    distance = distances(rows, length)
    return (distance >= 0) & (distance < (length if window is None else window))


def softmax(logits: Array, visible: Array) -> Array:
    """(..., R, T) attention: softmax of each row over the keys that are visible, 0 elsewhere.

    Every row must see at least one key.
    """
    xp = namespace(logits, visible)
    seen = xp.where(visible, logits, xp.full_like(logits, -math.inf))
    weights = xp.exp(seen - xp.max(seen, axis=-1, keepdims=True))
    return weights / xp.sum(weights, axis=-1, keepdims=True)
