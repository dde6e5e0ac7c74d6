"""Re-access: a few keys that every later query returns to, as to a sink."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulations.generators.parts import (
    ROPE,
    check_channel,
    dominant_share,
    gains,
    noisy,
    query_drift,
    rotation,
    scale_of,
    step_for,
)
from simulations.generators.paths import phases
from simulations.head import Hypothesis, SyntheticHead
from tappa_theory.attention import causal, logits
from tappa_theory.energy import rotation_share
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope


def generate(
    rng: np.random.Generator,
    *,
    length: int = 256,
    rope: Rope = ROPE,
    q_similarity: float = 0.9,
    strength: float = 10.0,
    sinks: Sequence[int] = (0,),
    channel: int | None = None,
    share: float = 0.6,
    snr_db: float | None = None,
) -> SyntheticHead:
    """A head whose queries agree on one slow channel, on which the sinks point the other way.

    q_similarity: cosine of adjacent queries before RoPE, exact at every step. strength: lead of a
    sink over any other key on the dominant channel before that channel turns, logits. sinks:
    positions of the keys returned to. channel: the dominant one, default the slowest. share: of
    the energy that is on it, exact. snr_db: of the noise on queries and keys, None for none.

    Queries and keys have constant norms. On the other channels their phases walk: those of queries
    just so far that q_similarity is met, those of keys freely.

    Promises (without noise): of re_access, query drift sqrt(2 - 2 q_similarity) at every step, the
    share of the dominant channel, the rotation residual if the other channels were as fast as the
    fastest, and a lead of strength cos(T theta_*) while that channel makes no half turn.
    """
    slowest = int(np.argmin(rope.frequencies))
    star = slowest if channel is None else check_channel(channel, rope)
    if not sinks or not all(0 <= sink < length for sink in sinks):
        raise InputError(f"sinks at {tuple(sinks)} given; name positions from 0 to {length - 1}")
    if not 0 < share <= 1:
        raise InputError(f"an energy share of {share} given; it lies above 0 and is at most 1")
    channels = rope.frequencies.size
    others = np.arange(channels) != star
    # Of |q|^2, so much stays as it is and the rest moves at random; below a similarity of 1/3 the
    # rest must move against itself, so that something can stay at all.
    kept = max(q_similarity, (1 + q_similarity) / 4)
    moving = min(max((q_similarity - kept) / (1 - kept), -1.0), 1.0) if kept < 1 else 1.0
    z = np.zeros((length, channels), dtype=np.complex128)
    w = np.zeros((length, channels), dtype=np.complex128)
    z[:, star] = np.sqrt(kept)
    each = np.sqrt((1 - kept) / others.sum())
    z[:, others] = each * phases(rng, length, int(others.sum()), moving)
    key = strength / 2 / (gains(rope)[star] * np.sqrt(kept))
    w[:, star] = -key
    w[list(sinks), star] = key
    held = share
    if each > 0 and share < 1:
        # sum over the other channels of A_m = A_* (1 - share) / share, spread evenly
        weights = 1 / (gains(rope)[others] * others.sum())
        energy = gains(rope)[star] * np.sqrt(kept) * key * (1 - share) / share
        w[:, others] = weights * energy / each * phases(rng, length, int(others.sum()), 0.0)
    else:
        held = 1.0
    return SyntheticHead(
        noisy(rng, z, snr_db),
        noisy(rng, w, snr_db),
        rope,
        scale_of(rope),
        "re_access",
        () if snr_db is not None else _promises(rope, length, star, held, q_similarity, strength),
    )


def _promises(
    rope: Rope, length: int, star: int, share: float, q_similarity: float, strength: float
) -> tuple[Hypothesis, ...]:
    fastest = np.where(np.arange(rope.frequencies.size) == star, -1, rope.frequencies).argmax()
    energy = np.zeros(rope.frequencies.size)
    energy[fastest] = 1 - share
    energy[star] += share
    promises = (
        query_drift("re_access", step_for(q_similarity)),
        rotation("re_access", rotation_share(energy.tolist(), rope, (1, 0)), (1, 0)),
        dominant_share("re_access", share),
    )
    turned = (length - 1) * rope.frequencies[star]
    if turned > np.pi or share < 0.5:
        # the key may fall behind, or another channel may hold more
        return promises[: 3 if share >= 0.5 else 2]
    return (*promises, Hypothesis("re_access", "gap", _gap(star), strength * np.cos(turned), True))


def _gap(star: int):  # type: ignore[no-untyped-def]
    raise NotImplementedError
