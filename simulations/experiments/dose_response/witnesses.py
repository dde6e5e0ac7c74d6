"""Heads made to attain the bounds of the dose panels, and how the logits of a head change."""

from __future__ import annotations

import numpy as np

from tappa_theory.attention import logits
from tappa_theory.rope import Rope


def shift_change(z: np.ndarray, w: np.ndarray, rope: Rope, s: int, u: int) -> np.ndarray:
    """(T - s, T - u) |a_{t+s,i+u} - a_{t,i}|, NaN where i > t."""
    level = logits(z, w, rope, 1.0)
    length = len(z)
    change = np.abs(level[s:, u:] - level[: length - s, : length - u])
    return np.where(np.tri(*change.shape) > 0, change, np.nan)


def vertical_attained(dose: float, rope: Rope, channels: slice) -> float:
    """Drift and turn change every channel one way: the query goes on where its turn takes it."""
    alpha = rope.frequencies[channels]
    size = np.sqrt(1 / len(alpha))
    turn = np.exp(1j * alpha) - 1
    z, w = np.zeros((2, 2, len(rope.frequencies)), dtype=np.complex128)
    w[:, channels] = size
    z[0, channels] = size * np.abs(turn) / turn
    z[1, channels] = z[0, channels] * (1 + dose / np.abs(turn) * (1 - np.exp(-1j * alpha)))
    return float(shift_change(z, w, rope, 1, 0)[0, 0])


def diagonal_attained(dose: float, rope: Rope) -> float:
    """Query and key turn against each other, from as far before a right angle as after it."""
    half = np.arcsin(dose / 2)
    size = np.sqrt(1 / len(rope.frequencies))
    z, w = np.full((2, 3, len(rope.frequencies)), size, dtype=np.complex128)
    # the pair (1, 0) is one position apart, which turns it by theta
    z[1] *= np.exp(1j * (np.pi / 2 + 2 * half - rope.frequencies))
    z[2] *= np.exp(1j * (np.pi / 2 - rope.frequencies))
    w[1] *= np.exp(2j * half)
    return float(shift_change(z, w, rope, 1, 1)[1, 0])


def seasonal_attained(rope: Rope, energy: np.ndarray, period: int) -> float:
    """Constant query and key whose turn over a period changes every channel one way."""
    turn = np.exp(1j * period * rope.frequencies) - 1
    z = np.sqrt(energy) * np.abs(turn) / turn
    w = np.sqrt(energy).astype(np.complex128)
    z, w = (np.tile(x, (period + 1, 1)) for x in (z, w))
    return float(shift_change(z, w, rope, period, 0)[0, 0])
