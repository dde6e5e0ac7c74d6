"""Attacks on theorem 5.2: a pair along its diagonal, before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from proofs.shift_bound.proof import ROUNDOFF, shift_attack
from tappa_theory.separable import evaluate
from tappa_theory.theorems.sequential import (
    CONSTANT,
    EPSILON,
    GLOBAL_CONSTANT,
    SEVERAL_STEPS,
    SUPREMUM,
)

FAR = 3
"""Distance t - i of the attacked pair; it stays the same along the diagonal."""
SCALE = 0.125


def _vectors(point: np.ndarray) -> list[np.ndarray]:
    """Query, later query, key, later key, complex of M channels, from 8M numbers."""
    parts = point.reshape(8, -1)
    return [parts[2 * n] + 1j * parts[2 * n + 1] for n in range(4)]


def _change(vectors: Sequence[np.ndarray], frequency: np.ndarray) -> tuple[float, float]:
    """(change of the logit after RoPE, what float64 may add to it)."""
    query, later, key, key_later = vectors
    turned = np.exp(1j * FAR * frequency)
    logits = [
        SCALE * float(np.sum(np.real(turned * q * np.conj(k))))
        for q, k in ((query, key), (later, key_later))
    ]
    sizes = SCALE * float(np.sum(np.abs(query * key) + np.abs(later * key_later)))
    return abs(logits[1] - logits[0]), 64 * ROUNDOFF * sizes


def _against(
    bound: sp.Expr, vectors: Sequence[np.ndarray], frequency: np.ndarray, room: Sequence[float]
) -> float:
    """Change over bound of one pair; 0/0 counts as 0. room: limits of the steps over the steps."""
    query, later, key, key_later = vectors

    def norm(vector: np.ndarray) -> float:
        return float(np.linalg.norm(vector))

    values = {
        "query_norm": norm(query),
        "key_norm_u": norm(key_later),
        "query_step": norm(later - query) * room[0],
        "key_step": norm(key_later - key) * room[1],
        "query_norm_max": max(norm(query), norm(later)),
        "key_norm_max": max(norm(key), norm(key_later)),
        "lambda": SCALE,
    }
    if min(values["query_norm_max"], values["key_norm_max"]) < 1e-9:
        return 0.0  # every logit is 0
    allowed = evaluate(bound, {name: np.asarray(value) for name, value in values.items()})
    change, rounding = _change(vectors, frequency)
    return float(max(0.0, change - rounding) / allowed) if allowed > 0 else 0.0


def pair_attack(bound: sp.Expr, name: str) -> Attack:
    """Two channels: 16 numbers of the vectors, two of the frequencies, two of the limits."""

    def ratio(point: np.ndarray) -> float:
        # a step may stay below its limit, and half of the range reaches it
        room = 1 + 3 * np.maximum(point[18:], 0)
        return _against(bound, _vectors(point[:16]), np.pi * np.abs(point[16:18]), room)

    zero, still, turned, one = (np.full(20, value) for value in (0.0, 0.5, 0.5, 0.3))
    still[16:18], turned[16:18], one[1:16:2] = 0, 1, 0
    queries_only = np.concatenate([np.full(8, 0.4), np.zeros(8), np.full(4, 0.5)])
    return Attack(name, 20, ratio, True, 1e-9, (zero, still, turned, one, queries_only))


def small_steps_attack(bound: sp.Expr, name: str) -> Attack:
    """One channel, by norms and angles; query and key change by at most a few hundredths."""
    small = 0.01

    def ratio(point: np.ndarray) -> float:
        norms, angles = 1 - small * np.abs(point[:4]), np.pi * point[4:8]
        angles[1], angles[3] = angles[0] + small * angles[1], angles[2] + small * angles[3]
        vectors = [np.array([n * np.exp(1j * a)]) for n, a in zip(norms, angles, strict=True)]
        return _against(bound, vectors, np.pi * np.abs(point[8:]), (1.0, 1.0))

    return Attack(name, 9, ratio, True, 1e-9, (np.zeros(9), np.full(9, 0.5)))


ATTACKS = (
    shift_attack(SEVERAL_STEPS, (3, 3), "(B) at (3, 3): logits of a pair, 2 channels"),
    pair_attack(CONSTANT * EPSILON, "the constant of a pair, 2 channels"),
    pair_attack(SUPREMUM, "the supremum under global norms, 2 channels"),
    small_steps_attack(GLOBAL_CONSTANT * EPSILON, "one constant for all pairs, small steps"),
)
