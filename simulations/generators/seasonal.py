"""Seasonal: content repeats after L positions, and each phase attends to its partner phase."""

from __future__ import annotations

import math

import numpy as np

from simulations.generators.parts import ROPE, gains, noisy, query_drift, rotation, scale_of
from simulations.head import SyntheticHead
from tappa_theory.energy import rotation_share
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

CHANNELS = 4
"""One in so many channels carries energy: those that resonate best."""
FEWEST = 4
"""But so many at least, to tell the phases apart."""


def generate(
    rng: np.random.Generator,
    *,
    length: int = 256,
    rope: Rope = ROPE,
    period: int = 16,
    jitter: int = 0,
    resonance_error: float | None = None,
    strength: float = 14.0,
    snr_db: float | None = None,
) -> SyntheticHead:
    """A head whose queries and keys have the period L, on channels that resonate with it.

    period: L, positions. jitter: every repetition is moved by a whole number of positions, up to
    this many to either side. resonance_error: delta = 2|sin(L theta_m / 2)| on every channel that
    carries energy, 0 to 2, by frequencies that are moved as little as that needs (the head then
    has a RoPE of its own); None leaves the frequencies alone and takes the best channels.
    strength: logit of a query and a key of its partner phase, as far as channels resonate. snr_db:
    of the noise on queries and keys, None for none.

    Each phase of the period is a direction of its own, orthogonal to the others where there are
    components enough; phase p attends to phase c - p (mod L), c random, so that attended distances
    differ from phase to phase: neither columns nor diagonals.

    Promises (without noise): of seasonal, the rotation residual of the worst channel with energy,
    at the shift (L, 0), and, without jitter, no query drift over L.
    """
    if not 2 <= period < length:
        raise InputError(f"a period of {period} given; use 2 to {length - 1} positions")
    if jitter < 0:
        raise InputError(f"a jitter of {jitter} positions given; use 0 or more")
    carrying = _resonant(rope, period)
    if resonance_error is not None:
        rope = detuned(rope, carrying, period, resonance_error)
    theta = rope.frequencies[carrying]
    codes = _codes(rng, period, carrying.size)
    partner = (int(rng.integers(period)) - np.arange(period)) % period
    # What a key of the partner phase is to be multiplied with, that many positions later.
    back = np.exp(-1j * np.outer((np.arange(period) - partner) % period, theta))
    phase = _phase(rng, length, period, jitter)
    modulus = np.sqrt(strength / gains(rope)[carrying])
    z = np.zeros((length, rope.frequencies.size), dtype=np.complex128)
    w = np.zeros_like(z)
    z[:, carrying] = modulus * (codes[partner] * back)[phase]
    w[:, carrying] = modulus * codes[phase]
    if resonance_error is None:
        alone = np.eye(rope.frequencies.size)[carrying]
        worst = max(rotation_share(one.tolist(), rope, (period, 0)) for one in alone)
    else:
        worst = resonance_error
    promises = (
        rotation("seasonal", worst, (period, 0)),
        *(() if jitter else (query_drift("seasonal", 0.0, period),)),
    )
    return SyntheticHead(
        noisy(rng, z, snr_db),
        noisy(rng, w, snr_db),
        rope,
        scale_of(rope),
        "seasonal",
        () if snr_db is not None else promises,
    )


def detuned(rope: Rope, channels: np.ndarray, period: int, error: float) -> Rope:
    """The RoPE with these channels moved to the nearest frequency of that resonance error.

    Raises InputError unless the error lies in 0..2 and the channels turn.
    """
    if not 0 <= error <= 2:
        raise InputError(f"a resonance error of {error} given; 2|sin| lies in 0 to 2")
    if np.any(channels >= rope.rotary_dim // 2):
        raise InputError("a channel that RoPE leaves alone resonates exactly; name others")
    frequencies = rope.frequencies.copy()
    aside = 2 * math.asin(error / 2)
    turns = np.floor(period * frequencies[channels] / (2 * math.pi))
    near = [np.abs((turns + n) * 2 * math.pi + s * aside) for n in (0, 1) for s in (-1, 1)]
    candidates = np.array(near) / period
    best = np.abs(candidates - frequencies[channels]).argmin(axis=0)
    frequencies[channels] = candidates[best, np.arange(len(channels))]
    return Rope(frequencies, rope.layout, rope.rotary_dim, rope.attention_scaling, "detuned")


def _resonant(rope: Rope, period: int) -> np.ndarray:
    """The channels that resonate best with the period, ascending."""
    count = min(max(rope.frequencies.size // CHANNELS, FEWEST), rope.frequencies.size)
    errors = np.abs(np.sin(period * rope.frequencies / 2))
    return np.sort(np.argsort(errors, kind="stable")[:count])


def _codes(rng: np.random.Generator, period: int, channels: int) -> np.ndarray:
    """(L, channels) a complex unit vector for each phase, orthogonal in blocks of 2 channels."""
    blocks = []
    for _ in range(math.ceil(period / (2 * channels))):
        q, _ = np.linalg.qr(rng.standard_normal((2 * channels, 2 * channels)))
        blocks.append(q)
    codes = np.concatenate(blocks)[:period]
    return codes[:, :channels] + 1j * codes[:, channels:]


def _phase(rng: np.random.Generator, length: int, period: int, jitter: int) -> np.ndarray:
    """(T,) phase of every position."""
    positions = np.arange(length)
    moved = rng.integers(-jitter, jitter + 1, length // period + 1)
    return (positions + moved[positions // period]) % period
