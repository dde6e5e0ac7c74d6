"""The heads of experiment `pattern_prediction`: generators with their dials and RoPE drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from simulations.experiment import Settings
from simulations.generators import (
    periodic_sequential,
    re_access,
    seasonal,
    sequential,
    unpredictable,
)
from simulations.generators.parts import default_rope, nearest_period
from simulations.head import SyntheticHead
from tappa_theory.rope import Rope

NOISE = (20.0, 10.0, 0.0)
"""Signal-to-noise ratios, dB, of queries and keys before RoPE."""
BASES = (5e3, 2e4, 5e5, 1e6)
SIZES = (32, 64, 96, 128)
LENGTHS = (192, 256, 384, 512)
Made = Callable[..., SyntheticHead]


def _re_access(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    sinks = [(0,), (0, int(rng.integers(1, length // 8)))][int(rng.integers(2))]
    return partial(
        re_access.generate,
        q_similarity=rng.uniform(0.8, 0.97),
        strength=rng.uniform(8, 14),
        share=rng.uniform(0.4, 0.8),
        sinks=sinks,
    )


def _sequential(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(
        sequential.generate,
        q_similarity=rng.uniform(0.9, 0.99),
        k_similarity=rng.uniform(0.9, 0.99),
        strength=rng.uniform(8, 14),
        offset=int(rng.integers(4)),
    )


def _periodic_sequential(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(
        periodic_sequential.generate,
        channel=nearest_period(rope, rng.uniform(16, 36)),
        share=rng.uniform(0.8, 0.95),
        strength=rng.uniform(24, 40),
        drift=rng.uniform(0.0, 0.15),
    )


def _seasonal(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(
        seasonal.generate,
        period=int(rng.integers(10, 25)),
        jitter=int(rng.integers(2)),
        strength=rng.uniform(12, 18),
    )


def _independent(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(unpredictable.generate, kind="independent", strength=rng.uniform(2, 4))


def _retrieval(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(unpredictable.generate, kind="retrieval", strength=rng.uniform(12, 18))


SOURCES: dict[str, tuple[Callable[[np.random.Generator, Rope, int], Made], int]] = {
    "re_access": (_re_access, 2),
    "sequential": (_sequential, 2),
    "periodic_sequential": (_periodic_sequential, 2),
    "seasonal": (_seasonal, 2),
    "unpredictable, independent": (_independent, 1),
    "unpredictable, retrieval": (_retrieval, 1),
}
"""Generators with dials drawn moderately around their defaults, and heads of each base and size:
as many of each pattern."""


@dataclass(frozen=True)
class Case:
    """A head to be: where it comes from, what RoPE and length it has, its own random stream."""

    source: str
    base: float
    size: int
    length: int
    stream: tuple[int, ...]


def cases(quick: bool) -> Iterator[Case]:
    """Every base with every size, each with a length in turn (a Latin square)."""
    for s, (source, (_, repeats)) in enumerate(SOURCES.items()):
        for b, base in enumerate(BASES):
            for m, size in enumerate(SIZES):
                for repeat in range(repeats):
                    if quick and (b + m + repeat + s) % 4:
                        continue
                    length = LENGTHS[(b + m + 2 * repeat + (s % 2)) % len(LENGTHS)]
                    yield Case(source, base, size, length, (s, b, m, repeat))


def make(case: Case, settings: Settings, snr_db: float) -> SyntheticHead:
    """The head of a case at that noise; at another one it is the same but for the noise's size."""
    rng = settings.random(3, *case.stream)
    rope = default_rope(case.size, case.base)
    generate = SOURCES[case.source][0](rng, rope, case.length)
    return generate(rng, rope=rope, length=case.length, snr_db=snr_db)
