"""Mixtures: heads whose logits are the sum of two or more patterns, on channels of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from simulations.generators import re_access, sequential
from simulations.generators.parts import ROPE, noisy, query_drift, scale_of
from simulations.head import Hypothesis, SyntheticHead
from tappa_theory.attention import causal
from tappa_theory.errors import InputError
from tappa_theory.patterns import observed_rows
from tappa_theory.rope import Rope

Generator = Callable[..., SyntheticHead]

ONE_STEP = ("re_access", "sequential")
"""Theorems whose query drift is that of one step."""

PARTS: tuple[tuple[Generator, float], ...] = (
    (re_access.generate, 11.0),
    (sequential.generate, 8.5),
)


def generate(
    rng: np.random.Generator,
    *,
    length: int = 256,
    rope: Rope = ROPE,
    parts: Sequence[tuple[Generator, float]] = PARTS,
    snr_db: float | None = None,
) -> SyntheticHead:
    """A head whose logit is the sum of the logits of its parts, each multiplied by a number.

    parts: generators (with other dials by functools.partial) and their leads: by how many logits a
    row's largest logit of the part leads the mean over the keys that the row sees, in the mean over
    the rows that patterns are read from. Part k of n has channels k, k + n, k + 2n, ... of the
    RoPE. The pattern intended is that of the part with the largest lead.
    snr_db: of the noise on queries and keys, None for none.

    Promises (without noise): the query drift of one step, at most the largest that a part promises,
    where every part does.

    Raises InputError for parts without channels, or one that needs a RoPE of its own.
    """
    count = len(parts)
    if count == 0 or rope.frequencies.size < 2 * count:
        raise InputError(f"{count} parts given; each needs 2 of {rope.frequencies.size} channels")
    if any(not lead > 0 for _, lead in parts):
        raise InputError("a part without a positive lead given; leave it out")
    z = np.zeros((length, rope.frequencies.size), dtype=np.complex128)
    w = np.zeros_like(z)
    heads = []
    for number, (part, lead) in enumerate(parts):
        own = slice(number, None, count)
        head = part(rng, length=length, rope=_part_of(rope, own))
        if not np.array_equal(head.rope.frequencies, rope.frequencies[own]):
            raise InputError("a part with frequencies of its own cannot share a RoPE with others")
        factor = math.sqrt(lead / lead_of(head) * head.scale / scale_of(rope))
        z[:, own] = head.z * factor
        w[:, own] = head.w * factor
        heads.append(head)
    strongest = max(range(count), key=lambda number: parts[number][1])
    return SyntheticHead(
        noisy(rng, z, snr_db),
        noisy(rng, w, snr_db),
        rope,
        scale_of(rope),
        heads[strongest].intended,
        () if snr_db is not None else _promises(heads),
    )


def lead_of(head: SyntheticHead) -> float:
    """Lead of a row's largest logit over the mean of its visible ones, mean over the read rows."""
    rows = np.arange(observed_rows(head.length), head.length)
    visible = causal(rows, head.length)
    scores = head.logits[rows]
    mean = np.where(visible, scores, 0.0).sum(axis=1) / visible.sum(axis=1)
    return float((np.where(visible, scores, -np.inf).max(axis=1) - mean).mean())


def _part_of(rope: Rope, own: slice) -> Rope:
    """The RoPE that has these channels only."""
    turning = len(range(rope.rotary_dim // 2)[own])
    return Rope(
        rope.frequencies[own],
        rope.layout,
        2 * turning,
        rope.attention_scaling,
        rope.type,
        rope.base,
    )


def _promises(heads: Sequence[SyntheticHead]) -> tuple[Hypothesis, ...]:
    """|dz|^2 is the sum over the parts, each at most its limit squared times its |z|^2."""
    limits = [
        [
            promise.limit
            for promise in head.hypotheses
            if promise.name == "query_drift" and promise.theorem in ONE_STEP
        ]
        for head in heads
    ]
    if not all(limits):
        return ()
    return (query_drift("re_access", max(min(limit) for limit in limits)),)
