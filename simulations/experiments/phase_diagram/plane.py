"""Heads in the plane of adjacent q-similarity and dominant frequency.

One content for all: every query has the norm n, every key is c before RoPE, except key 0, the sink,
which is (1 + GAP/REACH) c, so that it is GAP ahead where all are in phase. The share SHARE of the
energy lies on one channel, the rest evenly on the others. What is left are two dials, the adjacent
q-similarity S before RoPE and the dominant channel, and how the queries use the freedom S leaves:

- steady: every channel turns by arccos S at every step, always the same way;
- wandering: every channel turns by arccos S at every step, either way at random;
- about a mean: q_t is a constant vector and a random one orthogonal to it, shares S and 1 - S.

In all three every adjacent cosine is exactly S.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from simulations.generators.parts import default_rope, scale_of
from simulations.generators.paths import drifting
from simulations.head import SyntheticHead
from tappa_theory.patterns import observed_rows

Movement = Literal["steady", "wandering", "about a mean"]
MOVEMENTS: tuple[Movement, ...] = ("steady", "wandering", "about a mean")

LENGTH = 256
ROPE = default_rope()
SCALE = scale_of(ROPE)
CHANNELS = len(ROPE.frequencies)
REACH = 80.0
"""Largest logit of a key other than the sink: lambda n |c|."""
GAP = 16.0
SHARE = 0.99
"""Logits of a sharp head, so that all patterns show that can; chosen at S = 1."""
NORM = float(np.sqrt(REACH / SCALE))

ROWS = np.arange(observed_rows(LENGTH), LENGTH)
"""The rows at which a map is looked at."""


def weights(channel: int) -> np.ndarray:
    """(M,) shares of the energy, `SHARE` on that channel."""
    shares = np.full(CHANNELS, (1 - SHARE) / (CHANNELS - 1))
    shares[channel] = SHARE
    return shares


def keys(channel: int) -> np.ndarray:
    """(T, M) keys before RoPE."""
    w = np.tile(NORM * np.sqrt(weights(channel)), (LENGTH, 1)).astype(np.complex128)
    w[0] *= 1 + GAP / REACH
    return w


def turn(dissimilarity: float) -> float:
    """arccos S from 1 - S, radians; exact where S is nearly 1."""
    return 2 * float(np.arcsin(np.sqrt(dissimilarity / 2)))


def queries(
    movement: Movement, channel: int, dissimilarity: float, rng: np.random.Generator
) -> np.ndarray:
    """(T, M) queries before RoPE, every adjacent cosine exactly S = 1 - dissimilarity."""
    direction = np.sqrt(weights(channel))
    if movement == "about a mean":
        similarity = 1 - dissimilarity
        return drifting(
            rng,
            LENGTH,
            CHANNELS,
            cosine=similarity,
            norm=NORM,
            mean_share=similarity,
            mean=direction.astype(np.complex128),
        )
    if movement == "steady":
        steps = np.ones((LENGTH, CHANNELS))
    else:
        steps = rng.choice((-1.0, 1.0), (LENGTH, CHANNELS))
    steps[0] = 0
    return NORM * direction * np.exp(1j * turn(dissimilarity) * np.cumsum(steps, axis=0))


def head(
    movement: Movement, channel: int, dissimilarity: float, rng: np.random.Generator
) -> SyntheticHead:
    """A head at one place of the plane."""
    z = queries(movement, channel, dissimilarity, rng)
    return SyntheticHead(z, keys(channel), ROPE, SCALE, intended="re_access")
