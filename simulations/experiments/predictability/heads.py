"""The heads of experiment `predictability`: every generator, with its dials and its noise drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from simulations.experiment import Settings
from simulations.generators import (
    mixture,
    periodic_sequential,
    re_access,
    real_like,
    seasonal,
    sequential,
    unpredictable,
)
from simulations.head import SyntheticHead
from tappa_theory.patterns import PATTERNS

LENGTH = 128


def _similarity(rng: np.random.Generator) -> float:
    """Between 0.68 and 0.9999, as many in each decade of its distance from 1."""
    return float(1 - 10 ** -rng.uniform(0.5, 4.0))


def _re_access(rng: np.random.Generator, **given: Any) -> SyntheticHead:
    return re_access.generate(
        rng,
        q_similarity=_similarity(rng),
        strength=float(rng.uniform(4, 14)),
        share=float(rng.uniform(0.5, 0.95)),
        **given,
    )


def _sequential(rng: np.random.Generator, **given: Any) -> SyntheticHead:
    return sequential.generate(
        rng,
        q_similarity=_similarity(rng),
        k_similarity=_similarity(rng),
        strength=float(rng.uniform(6, 14)),
        offset=int(rng.integers(1, 17)),
        **given,
    )


def _periodic_sequential(rng: np.random.Generator, **given: Any) -> SyntheticHead:
    return periodic_sequential.generate(
        rng,
        drift=float(10 ** -rng.uniform(0.5, 3.0)),
        share=float(rng.uniform(0.7, 0.98)),
        strength=float(rng.uniform(20, 60)),
        **given,
    )


def _seasonal(rng: np.random.Generator, **given: Any) -> SyntheticHead:
    return seasonal.generate(
        rng,
        period=int(rng.integers(4, 25)),
        jitter=int(rng.integers(2)),
        strength=float(rng.uniform(8, 16)),
        **given,
    )


def _independent(rng: np.random.Generator, **given: Any) -> SyntheticHead:
    return unpredictable.generate(rng, strength=float(rng.uniform(0.5, 4)), **given)


def _retrieval(rng: np.random.Generator, **given: Any) -> SyntheticHead:
    return unpredictable.generate(
        rng, kind="retrieval", strength=float(rng.uniform(8, 16)), **given
    )


def _mixture(rng: np.random.Generator, **given: Any) -> SyntheticHead:
    parts = (
        (partial(re_access.generate, q_similarity=_similarity(rng)), float(rng.uniform(0.5, 1))),
        (partial(sequential.generate, q_similarity=_similarity(rng)), float(rng.uniform(0.5, 1))),
    )
    return mixture.generate(rng, parts=parts, **given)


FAMILIES: dict[str, Callable[..., SyntheticHead]] = {
    "re_access": _re_access,
    "sequential": _sequential,
    "periodic_sequential": _periodic_sequential,
    "seasonal": _seasonal,
    "independent": _independent,
    "retrieval": _retrieval,
    "mixture": _mixture,
}
"""A head of each generator with its dials drawn; beside them stand the real-like heads."""


def drawn_heads(settings: Settings, each: int) -> list[tuple[str, SyntheticHead]]:
    """`each` heads of every generator, with the names of their families."""
    found = []
    for number, (family, make) in enumerate(FAMILIES.items()):
        for copy in range(each):
            rng = settings.random(1, number, copy)
            snr_db = None if rng.random() < 1 / 3 else float(rng.uniform(0, 30))
            found.append((family, make(rng, length=LENGTH, snr_db=snr_db)))
    moments = real_like.read_moments(settings.moments)
    usable = [n for n, head in enumerate(moments.heads) if head.observed in PATTERNS]
    for copy in range(each if usable else 0):
        rng = settings.random(1, len(FAMILIES), copy)
        index = usable[copy % len(usable)]
        found.append(("real_like", real_like.generate(rng, moments, index, LENGTH)))
    return found
