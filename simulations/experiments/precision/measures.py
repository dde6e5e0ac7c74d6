"""What the experiment `precision` measures: tables, rotations, and pairs moved together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulations.experiments.precision.rope import (
    Practice,
    bound,
    in_type,
    stored_frequencies,
    table,
    turn,
)
from tappa_theory.rope import Rope
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import (
    ANGLE_DEVIATION,
    CHANNEL_ERROR,
    INVARIANCE_LOSS,
)

HEAD_DIM = 128
BASE = 500_000.0
LAST = 131_072
"""Of models with a context of 128 thousand tokens; their scaling of frequencies is left out."""
NEAR = 64
"""Largest distance between the keys of a pair, and largest position of its key before the shift."""
BINS = 8
"""Of angles, and positions at which pairs are compared, in an octave."""

PRACTICES = (
    Practice("float32", "float32", "float32"),
    Practice("float16", "float32", "float16"),
    Practice("bfloat16", "float32", "bfloat16"),
    Practice("bfloat16 angles", "bfloat16", "bfloat16"),
)
FLOAT32, FLOAT16, BFLOAT16, WRONG = PRACTICES


class Ratios:
    """Largest and mean of observed over bound, no bound being 0."""

    def __init__(self) -> None:
        self.instances, self.largest, self.total = 0, 0.0, 0.0

    def add(self, observed: np.ndarray, limit: np.ndarray) -> None:
        ratio = observed / limit
        self.instances += ratio.size
        self.largest = float(np.maximum(self.largest, ratio.max()))  # NaN stays
        self.total += float(ratio.sum())


class ByAngle:
    """Largest and root-mean-square error by p theta, in bins of 1/BINS octave from 1 radian on."""

    def __init__(self) -> None:
        self.edges = 2.0 ** (np.arange(18 * BINS) / BINS)
        self.count, self.squares, self.largest = (np.zeros(self.edges.size) for _ in range(3))

    def add(self, angle: np.ndarray, error: np.ndarray) -> None:
        """error at p theta = angle; below 1 radian it is left out."""
        angle, error = angle[angle >= 1], error[angle >= 1]
        place = np.floor(BINS * np.log2(angle)).astype(np.int64)
        self.count += np.bincount(place, minlength=self.edges.size)
        self.squares += np.bincount(place, error**2, minlength=self.edges.size)
        np.maximum.at(self.largest, place, error)

    def rows(self, source: str) -> list[dict[str, Any]]:
        return [
            {
                "source": source,
                "angle": float(self.edges[place]),
                "entries": int(self.count[place]),
                "largest": float(self.largest[place]),
                "rms": math.sqrt(self.squares[place] / self.count[place]),
            }
            for place in np.flatnonzero(self.count)
        ]


@dataclass(frozen=True, eq=False)
class Tables:
    """What the tables of all positions show.

    channels: one entry for each practice and channel. by_angle: of the rounding of float32 angles
    ("angles") and of each table against the angles it is of, by the name of its practice.
    rounding: (positions,) sum over the channels of the squared rounding of float32 angles.
    """

    positions: np.ndarray
    channels: list[dict[str, Any]]
    deviation: dict[str, Ratios]
    rotation: dict[str, Ratios]
    by_angle: dict[str, ByAngle]
    rounding: np.ndarray


def tables(rng: np.random.Generator, stride: int) -> Tables:
    """Every stride-th position and every channel, each with the rotation of one random number."""
    exact = Rope.from_parameters(HEAD_DIM, {"rope_theta": BASE}).frequencies
    every = np.arange(0, LAST + 1, stride)
    normal = rng.standard_normal((every.size, 2)) @ np.array([1, 1j])
    found = Tables(
        every,
        [],
        {practice.name: Ratios() for practice in PRACTICES},
        {practice.name: Ratios() for practice in PRACTICES},
        {name: ByAngle() for name in ("angles", *(p.name for p in PRACTICES if p != WRONG))},
        np.zeros(every.size),
    )
    for practice in PRACTICES:
        positions = every[every <= practice.exact_to]
        z = in_type(normal[: positions.size], practice.table)
        stored = stored_frequencies(practice, HEAD_DIM, BASE)
        for channel, (held, theta) in enumerate(zip(stored, exact, strict=True)):
            made = table(practice, positions, held)
            error = float(abs(held - theta) / theta)
            fixed = practice, positions, theta, made.trig_error, error
            right = np.exp(-1j * positions * theta)
            deviation = np.abs(np.angle(made.pair * right))
            found.deviation[practice.name].add(deviation, bound(ANGLE_DEVIATION, *fixed))
            turned = turn(z, made.pair, practice.table)
            found.rotation[practice.name].add(
                np.abs(turned * right - z), bound(CHANNEL_ERROR, *fixed, z)
            )
            found.channels.append(
                {
                    "practice": practice.name,
                    "channel": channel,
                    "theta": float(theta),
                    "frequency_error": error,
                    "trig_error": made.trig_error,
                    "angle_rounding": float(np.abs(made.angle - positions * held).max()),
                    "deviation": float(deviation.max()),
                    "deviation_bound": float(bound(ANGLE_DEVIATION, *fixed).max()),
                }
            )
            if practice == WRONG:
                continue
            chord = np.abs(made.pair - np.exp(1j * made.angle))
            found.by_angle[practice.name].add(positions * held, chord)
            if practice == FLOAT32:
                rounding = np.abs(made.angle - positions * held)
                found.by_angle["angles"].add(positions * held, rounding)
                found.rounding[:] += rounding**2
    return found


def shifted_to(rounding: np.ndarray, stride: int) -> list[tuple[int, str]]:
    """(position, "grid" or "worst"): BINS an octave from 2 NEAR on, and of each octave the position
    at which the float32 angles of all channels err most."""
    octaves = range(int(math.log2(2 * NEAR)), int(math.log2(LAST)))
    grid = {round(2.0 ** (o + n / BINS)) for o in octaves for n in range(BINS)} | {LAST}
    worst = set()
    for octave in octaves:
        first, stop = (-(-(2**power) // stride) for power in (octave, octave + 1))
        worst.add(stride * (first + int(rounding[first:stop].argmax())))
    return sorted([(p, "grid") for p in grid] + [(p, "worst") for p in worst - grid])


def drift(
    rng: np.random.Generator, practice: Practice, places: Sequence[tuple[int, str]], pairs: int
) -> tuple[list[dict[str, Any]], Ratios, Ratios]:
    """How much random pairs' logits change when both positions move by as much.

    Over |q||k|: one entry for each place, and the ratios to INVARIANCE_LOSS of whole heads and of
    single channels. The stored frequency is the exact one here: its error moves no logit.
    """
    theta = stored_frequencies(practice, HEAD_DIM, BASE)
    shape = pairs, theta.size, 2
    q, k = (
        in_type(rng.standard_normal(shape) @ np.array([1, 1j]), practice.table) for _ in range(2)
    )
    behind, key = (rng.integers(0, NEAR + 1, (pairs, 1)) for _ in range(2))
    size = np.linalg.norm(q, axis=1) * np.linalg.norm(k, axis=1)

    def computed(at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Products of the channels, and relative errors of query and key, (pairs, M) each; the
        query is at `at`."""
        both = []
        for z, positions in ((q, at), (k, at - behind)):
            made = table(practice, positions, theta)
            limit = bound(CHANNEL_ERROR, practice, positions, theta, made.trig_error, z=z)
            both.append((turn(z, made.pair, practice.table), limit / np.abs(z)))
        (query, error_q), (other, error_k) = both
        return (query * other.conj()).real, error_q, error_k

    before, error_q, error_k = computed(key + behind)
    entries, of_heads, of_channels = [], Ratios(), Ratios()
    for place, chosen in places:
        after, error_q_s, error_k_s = computed(np.full((pairs, 1), place))
        observed = np.abs((after - before).sum(axis=1)) / size
        limit = None
        if place <= practice.exact_to:
            loss = evaluate(
                INVARIANCE_LOSS,
                {
                    "lambda": 1.0, "z": q, "w": k, "error_q": error_q, "error_k": error_k,
                    "error_q_s": error_q_s, "error_k_s": error_k_s,
                },
            )  # fmt: skip
            of_channels.add(np.abs(after - before), loss)
            limit = loss.sum(axis=1) / size
            of_heads.add(observed, limit)
        entries.append(
            {
                "practice": practice.name,
                "position": place,
                "chosen": chosen,
                "pairs": pairs,
                "median": float(np.median(observed)),
                "largest": float(observed.max()),
                "bound": None if limit is None else float(np.median(limit)),
            }
        )
    return entries, of_heads, of_channels
