"""Unpredictable: no column, no diagonal and no season; what is attended to depends on content."""

from __future__ import annotations

from typing import Literal

import numpy as np

from simulations.generators.parts import ROPE, gains, noisy, scale_of
from simulations.head import SyntheticHead
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, unrotate


def generate(
    rng: np.random.Generator,
    *,
    length: int = 256,
    rope: Rope = ROPE,
    kind: Literal["independent", "retrieval"] = "independent",
    strength: float | None = None,
    snr_db: float | None = None,
) -> SyntheticHead:
    """A head that no theorem foretells.

    kind: "independent": queries and keys are independent normal vectors; "retrieval": every query
    is made for one key, planted at an earlier position or its own, drawn anew for every query.
    strength: standard deviation of the logits of independent queries (default 3), or logit of a
    query and the key that is planted for it (default 14). snr_db: of the noise on queries and keys,
    None for none.

    It promises nothing.
    """
    if kind not in ("independent", "retrieval"):
        raise InputError(f"a kind {kind!r} given; use 'independent' or 'retrieval'")
    if strength is None:
        strength = 3.0 if kind == "independent" else 14.0
    channels = rope.frequencies.size
    modulus = np.sqrt(strength / gains(rope))
    if kind == "independent":
        # The logit has variance lambda^2 sum |z|^2|w|^2 / 2 for normal channels.
        modulus = modulus * (2 / channels) ** 0.25
        z = modulus * _normal(rng, length, channels)
        w = modulus * _normal(rng, length, channels)
    else:
        codes = _normal(rng, length, channels)
        w = modulus * codes / np.linalg.norm(codes, axis=1, keepdims=True)
        positions = np.arange(length)
        planted = rng.integers(0, positions + 1)
        z = unrotate(rotate(w, rope, positions)[planted], rope, positions)
    return SyntheticHead(
        noisy(rng, z, snr_db), noisy(rng, w, snr_db), rope, scale_of(rope), "unpredictable"
    )


def _normal(rng: np.random.Generator, length: int, channels: int) -> np.ndarray:
    """(T, M) complex normal numbers with mean |x|^2 = 1."""
    real, imaginary = rng.standard_normal((2, length, channels))
    return (real + 1j * imaginary) / np.sqrt(2)
