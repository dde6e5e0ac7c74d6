"""Interventions on heads of constant content: move the dominant channel, or change the base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simulations.experiment import Settings
from simulations.generators.parts import default_rope
from tappa_theory.energy import period
from tappa_theory.rope import Rope

PROFILES = ("slow rest", "flat rest", "energy elsewhere")
"""Where the energy is that the dominant channel leaves: on slower channels, on all channels, or
nearly all on one faster channel that then has the larger energy times frequency."""
SIZES = (64, 128)
BASES = (1e4, 1e5, 1e6)
CHANGES = ((1e6, 1e5), (1e5, 1e6), (1e6, 1e4), (1e4, 1e6), (5e5, 1e4), (1e4, 5e5))
"""Bases before and after; 1,000,000 to 100,000 is the paper's."""
PERIODS = (8.0, 90.0)
"""Dominant periods, positions: several fit into the map."""


@dataclass(frozen=True)
class Content:
    """One query and one key, (M,) channels before RoPE, that every position has; channel: the one
    with most energy."""

    z: np.ndarray
    w: np.ndarray
    channel: int


def content(rng: np.random.Generator, profile: str, rope: Rope, channel: int) -> Content:
    """Random phases and energies that sum to 1, most of it on `channel`."""
    count = rope.frequencies.size
    energy = np.zeros(count)
    if profile == "energy elsewhere":
        share = rng.uniform(0.35, 0.75)
        fast = min(0.95 * (1 - share), 0.9 * share)
        weighed = np.flatnonzero(fast * rope.frequencies > 1.2 * share * rope.frequencies[channel])
        energy[rng.choice(weighed)] = fast
        rest, left = np.arange(channel + 1, count), 1 - share - fast
    else:
        share = rng.uniform(0.25, 0.97)
        first = channel + 1 if profile == "slow rest" else 0
        rest = np.setdiff1d(np.arange(first, count), [channel])
        left = 1 - share
    energy[rest] += left * rng.dirichlet(np.ones(len(rest)))
    energy[channel] = share
    phases = np.exp(2j * np.pi * rng.random((2, count)))
    return Content(np.sqrt(energy) * phases[0], np.sqrt(energy) * phases[1], channel)


def moved(before: Content, channel: int) -> Content:
    """The same content with its dominant channel at another index, where the other's goes back."""
    order = np.arange(len(before.z))
    order[[before.channel, channel]] = order[[channel, before.channel]]
    return Content(before.z[order], before.w[order], channel)


def channels_within(rope: Rope, low: float, high: float) -> np.ndarray:
    """Indices of the channels whose period lies between two periods, positions."""
    periods = np.array([period(float(frequency)) for frequency in rope.frequencies])
    return np.flatnonzero((periods >= low) & (periods <= high))


@dataclass(frozen=True)
class Intervention:
    """kind: "move" or "base". Content and RoPE before and after."""

    kind: str
    profile: str
    before: tuple[Content, Rope]
    after: tuple[Content, Rope]


def interventions(settings: Settings) -> Iterator[Intervention]:
    """Every intervention on constant content, in a fixed order."""
    repeats = (1, 1) if settings.quick else (6, 3)
    sizes = SIZES[:1] if settings.quick else SIZES
    for number, profile in enumerate(PROFILES):
        # a faster channel must be left above the one of most energy
        low = 30.0 if profile == "energy elsewhere" else PERIODS[0]
        for size in sizes:
            rng = settings.random(1, number, size)
            for base in BASES * repeats[0]:
                rope = default_rope(size, base)
                known = channels_within(rope, low, PERIODS[1])
                first, second = rng.choice(known, 2, replace=False)
                start = content(rng, profile, rope, int(first))
                yield Intervention("move", profile, (start, rope), (moved(start, second), rope))
            for old, new in CHANGES * repeats[1]:
                ropes = default_rope(size, old), default_rope(size, new)
                first, second = (channels_within(rope, low, 115.0) for rope in ropes)
                known = np.intersect1d(first, second)
                start = content(rng, profile, ropes[0], int(rng.choice(known)))
                yield Intervention("base", profile, (start, ropes[0]), (start, ropes[1]))
