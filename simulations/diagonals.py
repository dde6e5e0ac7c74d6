"""Where diagonals lie: the maxima of a row of logits, and the periodic theorem's error bars.

Constant content: every query is z and every key w (channels before RoPE), so that a row is a
function f(x) of the distance x = t - i, which may be taken as a real number. Distances and
spacings are in positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

from simulations.rounding import UNIT_ROUNDOFF, logit_error
from tappa_theory.attention import logits
from tappa_theory.energy import channel_gain, period
from tappa_theory.rope import Rope
from tappa_theory.separable import evaluate, separate
from tappa_theory.shift_identity import LOGIT
from tappa_theory.theorems import THEOREMS

PARTS = THEOREMS["periodic_sequential"].auxiliary
FINEST = 32
"""Grid points per turn of the fastest channel, at which a change of sign of the slope is sought."""


@dataclass(frozen=True)
class Promise:
    """What the periodic theorem says of a row of constant content.

    energy_channel: of most energy A_m = |z^m||w^m|, the published choice. star: of most
    A_m theta_m, the repaired one. kappa, curvature: the sums kappa and R over the other channels;
    energy_kappa: kappa if the channel of most energy were the star. met: the hypothesis H < 1 is
    certain (kappa^2 + R^2 < 1, or the sum of kappa_m max(1, rho_m) below 1). energy_period, period:
    2 pi / theta of the two channels. spacing: how far the distance of two maxima, however many
    periods apart, may be off; None unless met.
    """

    energy_channel: int
    star: int
    kappa: float
    curvature: float
    energy_kappa: float
    met: bool
    energy_period: float
    period: float
    spacing: float | None

    @property
    def apart(self) -> float:
        """How far a maximum lies at least from a minimum; infinity where nothing is promised.

        Half a period less the two displacements: the theorem, for f and for -f.
        """
        return math.inf if self.spacing is None else self.period / 2 - self.spacing

    @property
    def on_whole_distances(self) -> bool:
        """Has the row exactly one local maximum over whole distances for every one of f?

        If maxima and minima are 2 or more apart, the two whole distances around a maximum of f and
        the next ones outside lie between its minima, where f rises and then falls.
        """
        return self.spacing is not None and self.apart >= 2

    def whole_spacing(self, gaps: int) -> float:
        """How far the mean of that many spacings over whole distances may be off.

        Each end lies within one of a maximum of f, and errors of the maxima do not add up.
        """
        assert self.spacing is not None
        return (self.spacing + 2) / gaps


def promise(z: np.ndarray, w: np.ndarray, rope: Rope) -> Promise:
    """What the theorem says of the row of query z and key w, (M,) channels before RoPE."""
    energy = np.abs(z) * np.abs(w) * channel_gain(rope, 1.0)
    star, dominant = int((energy * rope.frequencies).argmax()), int(energy.argmax())
    slope, curvature = (_others(name, energy, rope, star) for name in ("slope", "curvature"))
    kappa, ratio_sum = float(slope.sum()), float(curvature.sum())
    squares = evaluate(PARTS["squares"], {"kappa": np.asarray(kappa), "R": np.asarray(ratio_sum)})
    met = bool(squares < 1) or float(np.maximum(slope, curvature).sum()) < 1
    # Each term of the sum takes a few roundings, and so does the arcsine.
    largest = min(kappa * (1 + UNIT_ROUNDOFF * (2 * len(energy) + 16)), 1.0)
    limits = {"kappa": np.asarray(largest), "theta_*": rope.frequencies[star]}
    return Promise(
        energy_channel=dominant,
        star=star,
        kappa=kappa,
        curvature=ratio_sum,
        energy_kappa=float(_others("slope", energy, rope, dominant).sum()),
        met=met,
        energy_period=period(float(rope.frequencies[dominant])),
        period=period(float(rope.frequencies[star])),
        spacing=float(evaluate(PARTS["spacing"], limits)) if met else None,
    )


def _others(name: str, energy: np.ndarray, rope: Rope, star: int) -> np.ndarray:
    """(M - 1,) the theorem's expression `name` on every channel but the star."""
    values = {"energy": energy, "theta": rope.frequencies}
    values |= {f"{known}_*": value[star] for known, value in values.items()}
    return np.delete(evaluate(PARTS[name], values), star)


@dataclass(frozen=True)
class Maxima:
    """Local maxima of a row over real distances.

    places: where. errors: positions by which rounding can have moved them. bands: those among grid
    points that stand out by half the range of the row (their prominence), what a reader sees who
    overlooks ripples.
    """

    places: np.ndarray
    errors: np.ndarray
    bands: np.ndarray


def maxima(z: np.ndarray, w: np.ndarray, rope: Rope, end: float, apart: float = math.inf) -> Maxima:
    """The local maxima of f in [0, end], from the sign of f' on a fine grid, then by bisection.

    z, w: (M,) channels before RoPE. apart: least distance of a maximum from a minimum, if known
    (`Promise.apart`); ripples narrower than a step of the grid may be missed.
    """
    # f is Re sum c_m e^{i theta_m x}; its derivative is the same of i theta_m c_m.
    steep, bent = 1j * rope.frequencies * z, -(rope.frequencies**2) * z
    step = min(2 * np.pi / FINEST / float(rope.frequencies.max()), apart / 2)
    block = int(np.sqrt(end / step)) + 1
    starts = np.arange(block + 2) * (block * step)
    slope = _row(steep, w, rope, starts, np.arange(block) * step)
    grid = (starts[:, None] + np.arange(block) * step).ravel()
    falls = np.flatnonzero((slope[:-1] > 0) & (slope[1:] <= 0) & (grid[1:] <= end))
    low, high = grid[falls], grid[falls + 1]
    nothing = np.zeros(1)
    for _ in range(40):
        middle = (low + high) / 2
        rising = _row(steep, w, rope, middle, nothing) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    places = (low + high) / 2
    # Angles are exact to a few roundings of their size, sums to one per channel.
    terms = np.abs(steep) @ np.abs(w) * channel_gain(rope, 1.0).max()
    noise = UNIT_ROUNDOFF * (4 * rope.frequencies.max() * end + 2 * len(z) + 8) * terms
    curve = np.abs(_row(bent, w, rope, places, nothing))
    row = _row(z, w, rope, starts, np.arange(block) * step)[grid <= end]
    bands, _ = find_peaks(row, prominence=np.ptp(row) / 2)
    return Maxima(places, (high - low) + noise / np.maximum(curve, noise), grid[bands])


def _row(
    z: np.ndarray, w: np.ndarray, rope: Rope, starts: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """f at starts[a] + steps[b], (a * b,): the query at starts[a], the key at -steps[b]."""
    values = {
        "z": np.broadcast_to(z, (len(starts), len(z))),
        "w": np.broadcast_to(w, (len(steps), len(w))),
        "t": starts[:, None],
        "i": -steps[:, None],
        "theta": rope.frequencies,
        "lambda": channel_gain(rope, 1.0),
    }
    logit = separate(LOGIT)
    return (logit.query_features(values) @ logit.key_features(values).T).ravel()


def whole_maxima(row: np.ndarray) -> np.ndarray:
    """Interior local maxima of a row over whole distances; of two equal neighbours, the first.

    row: (n,) logits by distance 0..n-1.
    """
    inner = row[1:-1]
    return 1 + np.flatnonzero((inner > row[:-2]) & (inner >= row[2:]))


@dataclass(frozen=True)
class Drifting:
    """The maxima of one row of a head whose keys drift, against the claim drifting_keys.

    certain: local maxima at whole distances where kappa_j < 1. excess: angle, radians, by which the
    worst of them lies outside what is allowed (negative: inside); None without one. What float64
    may have added is part of kappa_j, and taken off the excess and added to the bar. gaps: periods
    of the dominant channel between the first and the last of those at a crest; spacing: their
    distance over that, None without two. bar: how far the theorem lets it be off the period.
    largest_kappa: of kappa_j over those maxima, None without one.
    """

    certain: int
    excess: float | None
    gaps: int
    spacing: float | None
    bar: float | None
    largest_kappa: float | None


def drifting_row(z: np.ndarray, w: np.ndarray, rope: Rope, scale: float, star: int) -> Drifting:
    """Check the last row of a head, query and keys (T, M) before RoPE; star: dominant channel."""
    length = len(w)
    # by distance: the key at distance j is w[T - 1 - j]
    query, keys = z[-1], w[::-1]
    minor = np.ones(len(query))
    minor[star] = 0.0
    theta = float(rope.frequencies[star])
    values = {
        "z": query,
        "w": keys[1:-1],
        "theta": rope.frequencies,
        "lambda": channel_gain(rope, scale),
        "minor": minor,
        "major": 1 - minor,
    }
    sums = {
        "slow": evaluate(PARTS["slow_rotation"], values).sum(-1),
        "dominant": evaluate(PARTS["dominant_rotation"], values).sum(-1),
        "drift_next": evaluate(PARTS["neighbour_drift"], values | {"w_u": keys[2:]}).sum(-1),
        "drift_before": evaluate(PARTS["neighbour_drift"], values | {"w_u": keys[:-2]}).sum(-1),
    }
    # A rise of computed logits may hide a fall by two errors of a logit, which the claim charges
    # as it charges a drift; the three sums err by no more than a logit each.
    error = 5 * logit_error(z, w, rope, scale)
    sums |= {name: sums[name] + error for name in ("drift_next", "drift_before")}
    kappa = np.full(length, np.inf)
    kappa[1:-1] = evaluate(PARTS["kappa_j"], sums)
    distance = np.arange(length)
    found = whole_maxima(logits(z[-1:], w, rope, scale, distance[-1:])[0, ::-1])
    found = found[kappa[found] < 1]
    if not len(found):
        return Drifting(0, None, 0, None, None, None)
    limits = {"kappa": kappa[found], "theta_*": np.asarray(theta)}
    crest, trough = (evaluate(PARTS[name], limits) for name in ("crest", "trough"))
    content = np.unwrap(np.angle(query[star] * np.conj(keys[:, star])))
    phase = (theta * distance + content)[found]
    turns = np.round(phase / (2 * np.pi))
    off = np.abs(phase - 2 * np.pi * turns)
    # Its product, its sum, whole turns added and taken off; and angles of numbers, up to pi.
    rounding = UNIT_ROUNDOFF * (6 * float(np.abs(phase).max()) + 32)
    excess = np.minimum(off - crest, (np.pi - off) - trough) - rounding
    at_crest = off <= crest
    place, turn, most = found[at_crest], turns[at_crest], float(kappa[found].max())
    gaps = int(turn[-1] - turn[0]) if len(turn) else 0
    if gaps < 1:
        return Drifting(len(found), float(excess.max()), 0, None, None, most)
    # Both ends lie within `crest` of their turns, which the content's own phase moves as well.
    ends = crest[at_crest][[0, -1]].sum() + abs(content[place[-1]] - content[place[0]])
    spacing = float(place[-1] - place[0]) / gaps
    return Drifting(
        certain=len(found),
        excess=float(excess.max()),
        gaps=gaps,
        spacing=spacing,
        bar=(float(ends) + 2 * rounding) / theta / gaps + 4 * UNIT_ROUNDOFF * spacing,
        largest_kappa=most,
    )
