"""What the generators have in common: the default RoPE, noise, and promises about heads."""

from __future__ import annotations

import math

import numpy as np

from simulations.head import Hypothesis, SyntheticHead
from tappa_theory.drift import relative_drift
from tappa_theory.energy import channel_energy, channel_gain, period, rotation_share
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.separable import evaluate
from tappa_theory.theorems import THEOREMS


def default_rope(head_dim: int = 64, base: float = 10000.0) -> Rope:
    """Plain RoPE of that head size and base."""
    return Rope.from_parameters(head_dim, {"rope_type": "default", "rope_theta": base})


ROPE = default_rope()


def scale_of(rope: Rope) -> float:
    """1 / sqrt(d), the softmax scale of every generator."""
    return rope.head_dim**-0.5


def gains(rope: Rope) -> np.ndarray:
    """(M,) lambda_m at that scale."""
    return channel_gain(rope, scale_of(rope))


def check_channel(channel: int, rope: Rope) -> int:
    """The channel; InputError if the RoPE has none of that number."""
    if not 0 <= channel < rope.frequencies.size:
        raise InputError(
            f"channel {channel} given; a head of size {rope.head_dim} has 0 to"
            f" {rope.frequencies.size - 1}"
        )
    return channel


def nearest_period(rope: Rope, positions: float, longest: float = math.inf) -> int:
    """The channel whose period is nearest to that many positions, by ratio.

    longest: period that it may have, unless every channel is slower; then it is the fastest.
    """
    periods = np.array([period(float(theta)) for theta in rope.frequencies])
    if not np.isfinite(periods).any():
        raise InputError("no channel of this RoPE turns; a period needs one that does")
    if not (periods <= longest).any():
        return int(periods.argmin())
    apart = np.abs(np.log(periods / positions))
    return int(np.where(periods <= longest, apart, math.inf).argmin())


def noisy(rng: np.random.Generator, x: np.ndarray, snr_db: float | None) -> np.ndarray:
    """Channels with complex normal noise: mean |x|^2 over mean |noise|^2 is `snr_db` decibels."""
    if snr_db is None:
        return x
    deviation = math.sqrt(float(np.mean(np.abs(x) ** 2)) * 10 ** (-snr_db / 10) / 2)
    return x + deviation * (rng.standard_normal(x.shape) + 1j * rng.standard_normal(x.shape))


def step_for(cosine: float, norm_ratio: float = 1.0) -> float:
    """Largest |x_{t+1} - x_t| / |x_t| at that cosine, the norms up or down by at most the ratio."""
    step_squared = THEOREMS["similarity_direction"].auxiliary["step_squared"]
    norms = np.array([norm_ratio, 1 / norm_ratio])
    values = {"query_norm": np.ones(2), "query_norm_s": norms, "similarity": np.full(2, cosine)}
    return math.sqrt(float(evaluate(step_squared, values).max()))


def query_drift(theorem: str, limit: float, step: int = 1) -> Hypothesis:
    """Promise: every query moves by at most `limit` of its norm over so many positions."""
    return Hypothesis(
        theorem, "query_drift", lambda head: float(relative_drift(head.z, step).max()), limit
    )


def key_drift(theorem: str, limit: float, step: int = 1) -> Hypothesis:
    """Promise: every key moves by at most `limit` of its norm over so many positions."""
    return Hypothesis(
        theorem, "key_drift", lambda head: float(relative_drift(head.w, step).max()), limit
    )


def rotation(theorem: str, limit: float, shift: tuple[int, int]) -> Hypothesis:
    """Promise: the shift turns at most this share of the energy (`energy.rotation_share`)."""

    def measure(head: SyntheticHead) -> float:
        energy = channel_energy(head.z, head.w, head.rope).energy
        return rotation_share(energy, head.rope, shift)

    return Hypothesis(theorem, "rotation", measure, limit)


def dominant_share(theorem: str, channel: int, limit: float) -> Hypothesis:
    """Promise: this channel holds at least this share of the energy."""

    def measure(head: SyntheticHead) -> float:
        energy = channel_energy(head.z, head.w, head.rope).energy
        return energy[channel] / sum(energy)

    return Hypothesis(theorem, "dominant_share", measure, limit, at_least=True)


def dominance(theorem: str, kappa: float, curvature: float) -> tuple[Hypothesis, Hypothesis]:
    """Promises: kappa and R of the frequency-dominant channel are at most these."""

    def of(name: str, limit: float) -> Hypothesis:
        def measure(head: SyntheticHead) -> float:
            found = getattr(channel_energy(head.z, head.w, head.rope), name)
            return math.inf if found is None else float(found)

        return Hypothesis(theorem, name, measure, limit)

    return of("kappa", kappa), of("curvature", curvature)
