"""Re-access: a few keys that every later query returns to, as to a sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from simulations.generators.paths import NORM_LEVELS, norms, phases
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
    norm_ratio: float = 1.0,
    strength: float = 10.0,
    sinks: Sequence[int] = (0,),
    channel: int | None = None,
    share: float = 0.6,
    snr_db: float | None = None,
) -> SyntheticHead:
    """A head whose queries agree on one slow channel, on which the sinks point the other way.

    q_similarity: cosine of adjacent queries before RoPE, exact at every step. norm_ratio: of the
    norms of adjacent queries, larger over smaller, exact too. strength: lead of a sink over any
    other key on the dominant channel, for a query of norm 1, before that channel turns, logits.
    sinks: positions of the keys returned to. channel: the dominant one, default the slowest. share:
    of the energy that is on it, exact unless q_similarity 1 leaves the queries nothing else.
    snr_db: of the noise on queries and keys, None for none.

    Keys have constant norms. On the other channels phases walk: those of queries just so far that
    q_similarity is met, those of keys freely.

    Promises (without noise): of re_access, query drift, at every step, from q_similarity and
    norm_ratio, the share of the dominant channel, the rotation residual if the other channels were
    as fast as the fastest, and, while the dominant channel makes no quarter turn, the lead of
    strength cos(T theta_*) times the smallest norm.
    """
    slowest = int(np.argmin(rope.frequencies))
    star = slowest if channel is None else check_channel(channel, rope)
    if not sinks or not all(0 <= sink < length for sink in sinks):
        raise InputError(f"sinks at {tuple(sinks)} given; name positions from 0 to {length - 1}")
    if not 0 < share <= 1:
        raise InputError(f"an energy share of {share} given; it lies above 0 and is at most 1")
    if not -1 < q_similarity <= 1:
        raise InputError(
            f"an adjacent cosine of {q_similarity} given; it is at most 1, and above -1 for queries"
            " to agree on something"
        )
    if not strength > 0:
        raise InputError(f"a strength of {strength} given; it is a lead, above 0")
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
    z *= norms(rng, length, norm_ratio)[:, None]
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
    lead = strength * norm_ratio**-NORM_LEVELS
    return SyntheticHead(
        noisy(rng, z, snr_db),
        noisy(rng, w, snr_db),
        rope,
        scale_of(rope),
        "re_access",
        ()
        if snr_db is not None
        else _promises(rope, length, star, held, step_for(q_similarity, norm_ratio), lead, sinks),
    )


def _promises(
    rope: Rope,
    length: int,
    star: int,
    share: float,
    drift: float,
    lead: float,
    sinks: Sequence[int],
) -> tuple[Hypothesis, ...]:
    fastest = np.where(np.arange(rope.frequencies.size) == star, -1, rope.frequencies).argmax()
    energy = np.zeros(rope.frequencies.size)
    energy[fastest] = 1 - share
    energy[star] += share
    promises = [
        query_drift("re_access", drift),
        rotation("re_access", rotation_share(energy.tolist(), rope, (1, 0)), (1, 0)),
        dominant_share("re_access", star, share),
    ]
    turned = (length - 1) * rope.frequencies[star]
    if turned <= np.pi / 2:  # otherwise a sink that is far enough falls behind
        lead *= float(np.cos(turned))
        promises.append(Hypothesis("re_access", "gap", _lead(star, sinks), lead, at_least=True))
    return tuple(promises)


def _lead(star: int, sinks: Sequence[int]) -> Callable[[SyntheticHead], float]:
    """Least lead of a sink over another key that the same row sees, on the dominant channel."""

    def measure(head: SyntheticHead) -> float:
        alone = np.zeros(head.rope.frequencies.size)
        alone[star] = 1.0
        scores = logits(head.z * alone, head.w, head.rope, head.scale)
        visible = causal(np.arange(head.length), head.length)
        rivals = visible.copy()
        rivals[:, list(sinks)] = False
        best = np.where(rivals, scores, -np.inf).max(axis=1)
        sees = visible[:, list(sinks)] & np.isfinite(best)[:, None]
        lead = scores[:, list(sinks)] - np.where(np.isfinite(best), best, 0.0)[:, None]
        return float(np.where(sees, lead, np.inf).min())

    return measure
