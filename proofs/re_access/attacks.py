"""Attacks on theorem 5.1: the logit of one key, the turn of a channel, the lead over a rival."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from proofs.shift_bound.proof import ROUNDOFF
from tappa_theory.separable import evaluate
from tappa_theory.theorems.re_access import (
    ARC,
    ARC_LINEAR,
    ARC_ONE_NORM,
    GAP,
    SEVERAL_STEPS,
    THEOREM,
)

CHANNELS = 2
SCALE = 0.125
FAR = 3
"""Distance t - i of the attacked pair; t + tau is what matters beyond it."""


def _complex(parts: np.ndarray) -> np.ndarray:
    return parts[: len(parts) // 2] + 1j * parts[len(parts) // 2 :]


def _ratio(observed: float, allowed: float, rounding: float) -> float:
    """observed/allowed less what float64 may have added; 0/0 counts as 0."""
    return float(max(0.0, abs(observed) - rounding) / allowed) if allowed > 0 else 0.0


def _logit(query: np.ndarray, key: np.ndarray, angle: np.ndarray) -> float:
    """Of one pair, from post-RoPE vectors: the query turned by `angle`, the key by 0."""
    return SCALE * float(np.sum(np.real(query * np.exp(1j * angle) * np.conj(key))))


def column_attack(bound: sp.Expr, name: str) -> Attack:
    """Change of the logit of one key over `bound`, after 1 to 6 steps of the query."""

    def ratio(point: np.ndarray) -> float:
        query, step, key = (_complex(part) for part in point[: 6 * CHANNELS].reshape(3, -1))
        frequency = np.pi * (1 + point[6 * CHANNELS : 7 * CHANNELS]) / 2
        steps = 1 + int(2.5 * (1 + point[7 * CHANNELS]))
        later, turns = query + step, ((FAR + steps) * frequency, FAR * frequency)
        change = _logit(later, key, turns[0]) - _logit(query, key, turns[1])
        values = {"z": query, "z_s": later, "w": key, "w_u": key, "theta": frequency}
        values |= {"lambda": np.asarray(SCALE), "tau": np.asarray(float(steps))}
        allowed = float(np.sum(evaluate(bound, values)))
        sizes = SCALE * float(np.sum((np.abs(later) + np.abs(query)) * np.abs(key)))
        return _ratio(change, allowed, 16 * (FAR + steps) * ROUNDOFF * sizes)

    return Attack(name, 7 * CHANNELS + 1, ratio, True, 32 * ROUNDOFF, _column_corners())


def _column_corners() -> tuple[np.ndarray, ...]:
    """Zero vectors; no rotation; half a turn; one channel. All of one step."""
    size, vectors = 7 * CHANNELS + 1, 6 * CHANNELS
    zero, still, anti, one = np.zeros(size), np.ones(size), np.ones(size), np.full(size, 0.5)
    still[vectors:], one[1:vectors:2] = -1, 0
    for corner in (zero, still, anti, one):
        corner[-1] = -1
    return zero, still, anti, one


def _angle(before: complex, after: complex) -> float:
    return float(abs(np.angle(after / before)))


def _arc(bound: sp.Expr, before: complex, after: complex, radius: float) -> float:
    values = {"z": np.asarray([before]), "z_s": np.asarray([after]), "radius": np.asarray(radius)}
    return float(evaluate(bound, values)[0])


def arc_attack(name: str, bound: sp.Expr, rounding: float) -> Attack:
    """Angle by which a channel turns over `bound`, the radius being the smaller norm."""

    def ratio(point: np.ndarray) -> float:
        before, after = _complex(point)
        radius = min(abs(before), abs(after))
        if radius < 1e-9:
            return 0.0  # no angle
        return _ratio(_angle(before, after), _arc(bound, before, after, radius), 4 * ROUNDOFF)

    corners = (np.zeros(4), np.array([1.0, 1, 0, 0]), np.array([1.0, -1, 0, 0]))
    return Attack(name, 4, ratio, sharp=True, rounding=rounding, corners=corners)


def _one_norm(point: np.ndarray) -> float:
    radius, length, direction = 1.5 + point[0], (1 + point[1]) / 2, np.pi * point[2]
    before = complex(radius)
    after = before + radius * length * np.exp(1j * direction)
    if length < 1e-6 or abs(after) < 1e-9:
        return 0.0  # nothing turns, or there is no angle
    if abs(after - before) > radius * (1 - 8 * ROUNDOFF):
        return 0.0  # rounding may leave the hypothesis
    allowed = _arc(ARC_ONE_NORM, before, after, radius)
    return _ratio(_angle(before, after), allowed, 16 * ROUNDOFF)


def gap_attack(gap: sp.Expr, name: str) -> Attack:
    """What a key may lose of its lead over a rival in one step, over `gap`; one channel."""

    def ratio(point: np.ndarray) -> float:
        query, step, key, rival = _complex(point[:8])
        angle, later = np.array([np.pi * (1 + point[8]) / 2]), query + step
        lead = _logit(query, key, FAR * angle) - _logit(query, rival, (FAR - 1) * angle)
        led = _logit(later, key, (FAR + 1) * angle) - _logit(later, rival, FAR * angle)
        keys = np.array([key, rival])
        values = {"z": np.array([query]), "z_s": np.array([later]), "w": keys, "w_u": keys}
        bounds = evaluate(THEOREM.bound, values | {"theta": angle, "lambda": np.asarray(SCALE)})
        sides = {"key_bound": bounds[:1], "rival_bound": bounds[1:]}
        sizes = SCALE * (abs(query) + abs(later)) * (abs(key) + abs(rival))
        loss = max(0.0, lead - led)
        return _ratio(loss, float(evaluate(gap, sides)[0]), 64 * ROUNDOFF * sizes)

    return Attack(name, 9, ratio, True, 32 * ROUNDOFF, (np.zeros(9), np.full(9, 0.5)))


ATTACKS = (
    column_attack(SEVERAL_STEPS, "(B) at (tau, 0), tau from 1 to 6: logits of a pair, 2 channels"),
    # near opposite channels the arcsine turns a rounding u of its argument into sqrt(2u)
    arc_attack("angle of a channel, both norms", ARC, 2 * (8 * ROUNDOFF) ** 0.5),
    arc_attack("angle of a channel, linear form", ARC_LINEAR, 32 * ROUNDOFF),
    Attack(
        "angle of a channel, earlier norm only",
        3,
        _one_norm,
        sharp=True,
        rounding=2 * (8 * ROUNDOFF) ** 0.5,
        corners=(np.zeros(3), np.array([0.0, 1, 1]), np.array([0.0, -1, 0])),
    ),
    gap_attack(GAP, "the lead of a key over a rival"),
)
