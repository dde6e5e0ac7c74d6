"""Periodic sequential: parallel diagonals, as far apart as the dominant channel's period."""

from __future__ import annotations

import math

import numpy as np

from simulations.generators.parts import (
    ROPE,
    check_channel,
    dominance,
    gains,
    key_drift,
    nearest_period,
    noisy,
    scale_of,
)
from simulations.generators.paths import phases
from simulations.head import Hypothesis, SyntheticHead
from tappa_theory.energy import channel_energy, period
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

TYPICAL_PERIOD = 36.0
"""Period of the default channel, nearly: wide enough for one diagonal to stand out from uniform
attention to all distances."""
SHORTEST_TEXT = 3.2
"""Periods in the text, at least, for that: the third diagonal must be there in half of the rows
that are looked at."""
SLOWEST = 1e6
"""A channel that makes less than a radian in so many positions counts as making that."""


def generate(
    rng: np.random.Generator,
    *,
    length: int = 256,
    rope: Rope = ROPE,
    channel: int | None = None,
    share: float = 0.9,
    strength: float = 40.0,
    drift: float = 0.05,
    snr_db: float | None = None,
) -> SyntheticHead:
    """A head with one dominant channel that turns, and queries and keys that hardly change.

    channel: the dominant one, default that of a period nearest to `TYPICAL_PERIOD`. share: of the
    energy that is on it, exact; the rest is on the slower channels (on the faster ones where none
    is slower), more of it the slower they are, so that their slopes A_m theta_m are equal.
    strength: logit of the dominant channel at its crest; over its trough the crest leads by twice
    that. drift: |x_{t+1} - x_t| / |x_t| of queries and keys, exact at every step, 0 to 2. snr_db:
    of the noise on queries and keys, None for none.

    Norms are constant on every channel; phases walk within one step of their means.

    Promises (without noise): of periodic_sequential, kappa and R of the energies, and the key drift
    over one period N: a phase is never more than two steps from another.
    """
    if not 0 <= drift <= 2:
        raise InputError(f"a relative drift of {drift} given; of equal norms it is 0 to 2")
    if not 0 < share <= 1:
        raise InputError(f"an energy share of {share} given; it lies above 0 and is at most 1")
    if channel is None:
        channel = nearest_period(rope, TYPICAL_PERIOD, length / SHORTEST_TEXT)
    star, theta = check_channel(channel, rope), rope.frequencies
    if not theta[star] > 0:
        raise InputError(f"channel {star} does not turn, so it has no period; name another")
    others = theta < theta[star]
    if not others.any():
        others = theta > theta[star]
    energy = np.zeros(theta.size)
    energy[star] = strength
    if others.any():
        # slopes A theta alike, as far as a channel turns at all
        weight = 1 / np.maximum(theta[others], 1 / SLOWEST)
        energy[others] = strength * (1 - share) / share * weight / weight.sum()
    modulus = np.sqrt(energy / gains(rope))
    start = np.exp(1j * rng.uniform(0, 2 * math.pi, theta.size))
    start[star] = 1.0
    step = 2 * math.asin(drift / 2)
    z = modulus * start * phases(rng, length, theta.size, math.cos(step), levels=1)
    w = modulus * phases(rng, length, theta.size, math.cos(step), levels=1)
    promises = () if snr_db is not None else _promises(rope, modulus, star, step, length)
    return SyntheticHead(
        noisy(rng, z, snr_db),
        noisy(rng, w, snr_db),
        rope,
        scale_of(rope),
        "periodic_sequential",
        promises,
    )


def _promises(
    rope: Rope, modulus: np.ndarray, star: int, step: float, length: int
) -> tuple[Hypothesis, ...]:
    theorem, spacing = "periodic_sequential", round(period(float(rope.frequencies[star])))
    energy = channel_energy(modulus[None], modulus[None], rope)
    kappa, curvature = energy.kappa, energy.curvature
    promises: tuple[Hypothesis, ...] = ()
    if energy.frequency_dominant_channel == star and kappa is not None and curvature is not None:
        promises = dominance(theorem, kappa, curvature)
    if spacing < length:
        # two phases are at most two steps apart, and no farther than opposite
        farthest = 2 * math.sin(min(step, math.pi / 2))
        promises = (*promises, key_drift(theorem, farthest, spacing))
    return promises
