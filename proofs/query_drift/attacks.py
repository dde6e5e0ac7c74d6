"""Query drift: attacks from the definitions, two softmax rows and their divergence."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from tappa_theory.separable import evaluate
from tappa_theory.theorems.query_drift import (
    ERROR,
    LARGEST,
    LOWER,
    QUADRATIC,
    REVERSE_ERROR,
    REVERSE_LOWER,
    REVERSE_UPPER,
    UPPER,
)

ROUNDING = 1e-15
"""What the logarithms of three keys may be off by."""
SIZE = 4


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def _rows(point: np.ndarray, least: float, most: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Two rows over three keys, from numbers in [-1, 1]; omega between least and most.

    The first key changes least and the second most, up to a constant over the row.
    """
    logits = np.array([9 * point[0], 9 * point[1], 0.0])
    omega = least + (most - least) * (1 + point[2]) / 2
    changes = omega * np.array([0.0, 1.0, (1 + point[3]) / 2])
    return _softmax(logits), _softmax(logits + changes), float(changes.max() - changes.min())


def drift_attack(
    name: str,
    bound: sp.Expr,
    kind: str,
    least: float = 0.0,
    most: float = 4.0,
    reverse: bool = False,
    sharp: bool = True,
) -> Attack:
    """The divergence against a bound. kind: "most", "error" (its distance from half the variance
    is bounded) or "least" (the bound lies below it)."""

    def ratio(point: np.ndarray) -> float:
        row, later, omega = _rows(point, least, most)
        first, second = (later, row) if reverse else (row, later)
        divergence = float(first @ np.log(first / second))
        change = np.log(later / row)
        variance = float(row @ (change - row @ change) ** 2)
        if omega == 0.0:
            return 0.0 if abs(divergence) <= ROUNDING else np.inf
        values = {"omega": np.asarray(omega), "variance": np.asarray(variance)}
        allowed = float(evaluate(bound, values))
        if kind == "least":
            return allowed / (divergence + ROUNDING)
        observed = abs(divergence - variance / 2) if kind == "error" else divergence
        return observed / (allowed + ROUNDING)

    still = np.array([0.2, -0.3, -1.0, 0.0])
    one_key = np.array([-1.0, -1.0, 1.0, 0.0])
    even = np.array([-1.0, 0.0, -0.9, 1.0])
    skewed = np.array([0.0, -0.147, -0.9, -1.0])
    rare = np.array([0.95, 0.0, 0.5, -1.0])
    rare[:2] = rare[:2] if kind == "least" else (0.0, -0.95)
    return Attack(name, SIZE, ratio, sharp, 1e-9, (still, one_key, even, skewed, rare))


ATTACKS = (
    drift_attack("KL at its oscillation", LARGEST, "most", least=0.5),
    drift_attack("the other KL at its oscillation", LARGEST, "most", least=0.5, reverse=True),
    drift_attack("KL, quadratic", QUADRATIC, "most"),
    drift_attack("KL less half the variance", ERROR, "error"),
    drift_attack("the other KL less half the variance", REVERSE_ERROR, "error", reverse=True),
    drift_attack("KL of a given variance", UPPER, "most", least=1.0),
    drift_attack("KL of a given variance, from below", LOWER, "least", least=1.0),
    drift_attack("the other KL of a variance", REVERSE_UPPER, "most", least=1.0, reverse=True),
    drift_attack("the same from below", REVERSE_LOWER, "least", least=1.0, reverse=True),
)
