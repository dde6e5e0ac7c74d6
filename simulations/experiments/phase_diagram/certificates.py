"""What is certain of the pattern of every head at a place of the phase plane, from the theorems.

A column is certain from bound (B) at (t, 0) and the gap of the sink (re_access), or from the
margins of each pair of keys (lifetime); diagonals are from bound (B) along them (sequential) and
what a change of the logits does to attention (attention_distance).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import expit

from simulations.experiments.phase_diagram.plane import (
    CHANNELS,
    LENGTH,
    NORM,
    ROPE,
    ROWS,
    SCALE,
    Movement,
    keys,
    turn,
    weights,
)
from tappa_theory.attention import causal, logits, softmax
from tappa_theory.patterns import (
    THRESHOLDS,
    column_sums,
    columns_of,
    distances,
    offset_sums,
    read_lines,
)
from tappa_theory.separable import evaluate, separate
from tappa_theory.shift_identity import LOGIT
from tappa_theory.theorems import THEOREMS
from tappa_theory.theorems.lifetime import MARGIN_CHANGE

SEASON = 4 / 3
"""What a season can count for at most, per share of attention that lies off the lines: the rows
compared lie L <= R/4 apart of R rows, and their mean product is at most R/(R - L) of the mean
square."""
CERTAIN = SEASON / (1 + SEASON)
"""Share of attention on the lines of a pattern from which no other can be read."""

SEVERAL_STEPS = THEOREMS["re_access"].auxiliary["several_steps"]
GAP_OF_BOUNDS = THEOREMS["re_access"].auxiliary["gap"]
ALONG_DIAGONAL = THEOREMS["sequential"].auxiliary["several_steps"]
MASS_LATER = THEOREMS["attention_distance"].auxiliary["mass_later"]
OSCILLATION = THEOREMS["attention_distance"].auxiliary["oscillation"]

_COMMON = {"theta": ROPE.frequencies, "lambda": np.full(CHANNELS, SCALE)}


def farthest(
    movement: Movement, channel: int, dissimilarity: float
) -> tuple[np.ndarray, np.ndarray]:
    """(anchor (M,), far (R, M)): a constant query, and how far from it those of `ROWS` may be.

    On every channel |z_t - anchor| is at most |far - anchor|, or the sum over the channels of that
    times |w| is, and the same goes for |z_t|. Turning: the anchor is query 0, and t turns of
    arccos S, all one way, lead farthest. About a mean: the anchor is the constant part, and the
    whole rest, of norm n sqrt(1 - S), lies along the key (Cauchy-Schwarz).
    """
    start = NORM * np.sqrt(weights(channel)) + 0j
    if movement == "about a mean":
        anchor = np.sqrt(1 - dissimilarity) * start
        return anchor, np.tile(anchor + np.sqrt(dissimilarity) * start, (len(ROWS), 1))
    angle = np.minimum(ROWS * turn(dissimilarity), np.pi)
    return start, start * np.exp(1j * angle)[:, None]


@dataclass(frozen=True)
class ColumnCertificate:
    """What is certain of the sink, (R,) each, for every head of one movement at one place.

    lead: least lead of the sink over every rival, logit units, from bound (B) at (t, 0) and the
    gap. by_bounds: least attention on the sink that this leaves. together: the same from the
    margins of each pair of keys, in which what both keys share cancels.
    """

    lead: np.ndarray
    by_bounds: np.ndarray
    together: np.ndarray

    @property
    def bounds_hold(self) -> bool:
        """Is re_access certain from the bounds alone?"""
        return bool(self.by_bounds.mean() > CERTAIN)

    @property
    def together_holds(self) -> bool:
        """Is re_access certain from the margins?"""
        return bool(self.together.mean() > CERTAIN)


def certify_column(movement: Movement, channel: int, dissimilarity: float) -> ColumnCertificate:
    """The re_access theorem: the sink stays ahead while its gap exceeds the bounds (`gap`).

    Row 0 of the anchor has the sink at distance 0. (B) at (t, 0) takes it to row t: drift and turn.
    A rival's logit is at most that of moduli all in phase.
    """
    anchor, far = farthest(movement, channel, dissimilarity)
    w = keys(channel)
    together = {"t": np.zeros(1), "i": np.zeros(1)} | _COMMON
    ahead = evaluate(LOGIT, {"z": anchor, "w": w[0]} | together).sum()
    rival = evaluate(LOGIT, {"z": np.abs(far) + 0j, "w": w[1]} | together).sum(-1)
    lost = evaluate(
        SEVERAL_STEPS,
        _COMMON | {"z": anchor, "z_s": far, "w": w[0], "w_u": w[0], "tau": ROWS[:, None]},
    ).sum(-1)
    # what the rival has gained on its place in the anchor's row
    start = evaluate(LOGIT, {"z": anchor, "w": w[1]} | together).sum()
    gap = evaluate(GAP_OF_BOUNDS, {"key_bound": lost, "rival_bound": rival - start})
    lead = (ahead - start) - gap
    return ColumnCertificate(lead, expit(lead - np.log(ROWS)), _together(channel, anchor, far))


def _together(channel: int, anchor: np.ndarray, far: np.ndarray) -> np.ndarray:
    """(R,) least attention on the sink from the constant query's rows and the margins."""
    values = {"z": np.broadcast_to(anchor, far.shape), "z_s": far, "s": np.zeros(1)} | _COMMON
    change = separate(MARGIN_CHANGE).query_features(values) @ _key_features(channel).T
    level = _constant_logits(channel, float(np.abs(anchor).sum()))
    behind = level - level[:, :1] + change
    behind[:, 0] = 0.0
    return softmax(behind, causal(ROWS, LENGTH))[:, 0]


@lru_cache(maxsize=4)
def _key_features(channel: int) -> np.ndarray:
    """(T, M) features of the keys in a change of their margins to the sink, all after RoPE."""
    w = keys(channel)
    number = np.arange(LENGTH, dtype=np.float64)[:, None]
    values = {"w": np.broadcast_to(w[:1], w.shape), "w_u": w, "u": number} | _COMMON
    found: np.ndarray = separate(MARGIN_CHANGE).key_features(values)
    return found


@lru_cache(maxsize=4)
def _unit_logits(channel: int) -> np.ndarray:
    """(R, T) logits of a constant query along the key whose moduli add up to 1."""
    direction = np.sqrt(weights(channel))
    rows = np.broadcast_to(direction / direction.sum() + 0j, (len(ROWS), CHANNELS))
    return logits(rows, keys(channel), ROPE, SCALE, ROWS)


def _constant_logits(channel: int, size: float) -> np.ndarray:
    """(R, T) logits of a constant query along the key whose moduli add up to `size`."""
    return size * _unit_logits(channel)


@dataclass(frozen=True)
class DiagonalCertificate:
    """What is certain of the diagonals for every head of one movement at one place.

    offsets: distances that are lines. share: (R,) least attention on them, off the sink.
    sink: (R,) least and most attention on the sink, (2, R).
    """

    offsets: tuple[int, ...]
    share: np.ndarray
    sink: np.ndarray

    @property
    def holds(self) -> bool:
        """Is a pattern of diagonals certain, sequential or periodic_sequential?"""
        share = float(self.share.mean())
        least, most = (float(side.mean()) for side in self.sink)
        # Attention on the sink is off the lines unless the sink is a column, which has a threshold.
        column = least if least >= line_threshold() else 0.0
        season = SEASON * (1 - share - column)
        return share >= THRESHOLDS.visible and share > max(most, season)


def line_threshold() -> float:
    """Mean attention from which a key or a distance is a line."""
    return THRESHOLDS.prominence * float(np.mean(1 / (ROWS + 1)))


def certify_diagonals(
    movement: Movement, channel: int, dissimilarity: float
) -> DiagonalCertificate | None:
    """The sequential theorem: along a diagonal only drift changes a logit, (B) at (s, s).

    The map of a constant query is known: the same profile along every row. (B) bounds what drift
    changes in it, `mass_later` what that does to the attention. A distance counts if it is a line
    for certain, and all of them count only if no key but the sink can be a column.
    None where nothing is certain.
    """
    anchor, far = farthest(movement, channel, dissimilarity)
    w = keys(channel)[:1]
    drift = evaluate(
        ALONG_DIAGONAL,
        {"z": anchor, "z_s": far, "w": w, "w_u": w, "lambda": np.full(CHANNELS, SCALE)},
    ).sum(-1)
    omega = evaluate(OSCILLATION, {"bound_max": drift})
    level = _constant_logits(channel, float(np.abs(anchor).sum()))
    constant = softmax(level, causal(ROWS, LENGTH))
    if _least(constant[:, 1:].sum(-1), omega).mean() < THRESHOLDS.visible:
        return None
    low, high = _least(constant, omega[:, None]), _most(constant, omega[:, None])
    sink = np.stack([low[:, 0], high[:, 0]])
    low[:, 0] = 0.0
    if columns_of(column_sums(high, ROWS), ROWS)[1:].any():
        return None
    nothing = np.zeros(LENGTH)
    lines = read_lines(nothing, offset_sums(low, ROWS, nothing != 0), ROWS)
    on_line = np.isin(distances(ROWS, LENGTH), lines.offsets)
    on_line[:, 0] = False
    on_lines = np.where(on_line, constant, 0.0).sum(-1)
    return DiagonalCertificate(lines.offsets, _least(on_lines, omega), sink)


def _most(mass: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Most mass in a row whose logits differ by oscillation omega."""
    found: np.ndarray = evaluate(MASS_LATER, {"mass": mass, "omega": omega})
    return found


def _least(mass: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Least mass in a row whose logits differ by oscillation omega: what the rest leaves."""
    return 1 - _most(1 - mass, omega)


def largest(holds: Callable[[float], bool], least: float, most: float, steps: int) -> float | None:
    """The largest dissimilarity in [least, most] at which it holds, by bisection of its logarithm.

    What holds at one dissimilarity holds below it. None if it does not hold at `least`.
    """
    if not holds(least):
        return None
    if holds(most):
        return most
    low, high = np.log10(least), np.log10(most)
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(10**middle) else (low, middle)
    return float(10**low)
