"""Sequential: every query attends at the same distance, so that a diagonal runs through the map."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.optimize import linprog

from simulations.generators.parts import (
    ROPE,
    gains,
    key_drift,
    noisy,
    query_drift,
    scale_of,
    step_for,
)
from simulations.generators.paths import norms, phases
from simulations.head import SyntheticHead
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

WIDTH = 2
"""Distances nearer than this to the diagonal belong to it: no channel turns so fast as to tell
neighbours apart well."""


def generate(
    rng: np.random.Generator,
    *,
    length: int = 256,
    rope: Rope = ROPE,
    q_similarity: float = 0.95,
    k_similarity: float = 0.95,
    norm_ratio: float = 1.0,
    strength: float = 10.0,
    offset: int = 1,
    snr_db: float | None = None,
) -> SyntheticHead:
    """A head whose logits, for constant queries and keys, peak at the distance `offset`.

    q_similarity, k_similarity: cosine of adjacent queries and of adjacent keys before RoPE, exact
    at every step. norm_ratio: of the norms of adjacent queries, larger over smaller, exact too, and
    of adjacent keys. strength: lead of the diagonal over every distance that is `WIDTH` or more
    from it, logits, where both similarities and the norms are 1. offset: distance t - i of the
    diagonal. snr_db: of the noise on queries and keys, None for none.

    The energy is spread over the channels so that the least energy gives this lead. Phases walk
    within one step of their means on every channel, which lowers the diagonal, in the mean, to
    (1 + q_similarity)(1 + k_similarity) / 4 of what it is for similarities 1.

    Promises (without noise): of sequential, query and key drift, at every step, from the
    similarities and norm_ratio.
    """
    if not 0 <= offset < length - WIDTH:
        raise InputError(f"a diagonal at distance {offset} given; use 0 to {length - WIDTH - 1}")
    energy = strength * spread(rope, length, offset)
    modulus = np.sqrt(energy / gains(rope))
    channels = rope.frequencies.size
    turned = np.exp(-1j * offset * rope.frequencies)
    z = modulus * turned * phases(rng, length, channels, q_similarity, levels=1)
    z *= norms(rng, length, norm_ratio)[:, None]
    w = modulus * phases(rng, length, channels, k_similarity, levels=1)
    w *= norms(rng, length, norm_ratio)[:, None]
    promises = (
        query_drift("sequential", step_for(q_similarity, norm_ratio)),
        key_drift("sequential", step_for(k_similarity, norm_ratio)),
    )
    return SyntheticHead(
        noisy(rng, z, snr_db),
        noisy(rng, w, snr_db),
        rope,
        scale_of(rope),
        "sequential",
        () if snr_db is not None else promises,
    )


@lru_cache(maxsize=256)
def spread(rope: Rope, length: int, offset: int) -> np.ndarray:
    """(M,) energy per channel, logits: the least that gives a diagonal at `offset` a lead of 1.

    The lead is over all distances x of 0..length-1 with |x - offset| >= `WIDTH`: sum over m of
    A_m (1 - cos((x - offset) theta_m)) >= 1. A linear program.
    """
    apart = np.arange(length) - offset
    apart = np.unique(np.abs(apart[np.abs(apart) >= WIDTH]))
    lead = 1 - np.cos(np.outer(apart, rope.frequencies))
    found = linprog(np.ones(rope.frequencies.size), A_ub=-lead, b_ub=-np.ones(apart.size))
    if not found.success:
        raise InputError("no spread of energy makes this RoPE's channels peak at one distance only")
    energy = np.asarray(found.x)
    energy.flags.writeable = False
    return energy
