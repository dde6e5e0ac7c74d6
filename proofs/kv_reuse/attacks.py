"""Attacks on what discarded keys weigh later, and on the error of leaving them out."""

from __future__ import annotations

import numpy as np

from proofs.attention_distance.attacks import SMALLEST, allowed, gain, masses
from proofs.engine.attack import Attack
from tappa_theory.separable import evaluate
from tappa_theory.theorems.kv_reuse import MASS_IN_ROW, OUTPUT_ERROR

OLD, DISCARDED = 3, 1
"""Keys of the earlier row; the first of them are discarded."""
NORMS = (1, 2, np.inf)


def output_error(
    weights: np.ndarray, values: np.ndarray, discarded: np.ndarray, norm: float
) -> float:
    """Norm of the output less the output of the kept keys, renormalised. weights: one row."""
    kept = np.where(discarded, 0.0, weights)
    change = weights @ values - (kept / np.sum(kept)) @ values
    return float(np.linalg.norm(change, norm))


def value_distance(values: np.ndarray, discarded: np.ndarray, norm: float) -> float:
    """Largest distance of a discarded value from a kept one."""
    apart = values[discarded][:, None] - values[~discarded][None]
    return float(np.max(np.linalg.norm(apart, norm, axis=-1)))


def _rows(point: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Masses of the old keys before and of all keys after, a new one at the end, and omega, mass.

    point: numbers in [-1, 1]; the new key is not there at -1.
    """
    before, changes, new = 6 * point[:OLD], 3 * point[OLD : 2 * OLD], point[2 * OLD]
    after = np.array([*(before + changes), -np.inf if new == -1 else 8 * new])
    row = masses(before)
    omega = max(float(np.ptp(changes)), SMALLEST)
    return row, masses(after), {"omega": omega, "mass": float(np.sum(row[:DISCARDED]))}


def mass_attack() -> Attack:
    """Mass of the discarded keys in the later row over its bound."""

    def ratio(point: np.ndarray) -> float:
        _, after, values = _rows(point)
        gained, later = float(after[OLD]), float(np.sum(after[:DISCARDED]))
        return gain(
            (1 - gained) * values["mass"], later, allowed(MASS_IN_ROW, gained=gained, **values)
        )

    size = 2 * OLD + 1
    nearly_all, nearly_none = np.full(size, -0.9), np.full(size, 0.9)
    nearly_all[0], nearly_none[0] = 1.0, -1.0
    return Attack(
        "mass of discarded keys", size, ratio, True, 1e-9, (np.zeros(size), nearly_all, nearly_none)
    )


def error_attack() -> Attack:
    """Error of the output over its bound, the worst of three norms."""
    discarded = np.arange(OLD + 1) < DISCARDED

    def ratio(point: np.ndarray) -> float:
        _, after, numbers = _rows(point[: 2 * OLD + 1])
        values = point[2 * OLD + 1 :].reshape(OLD + 1, 2)
        apart = np.array([value_distance(values, discarded, norm) for norm in NORMS])
        errors = np.array([output_error(after, values, discarded, norm) for norm in NORMS])
        bounds = evaluate(OUTPUT_ERROR, {"value_distance": apart, **numbers})
        return float(np.max(errors / np.maximum(bounds, SMALLEST)))

    size = 2 * OLD + 1 + 2 * (OLD + 1)
    zero, equal = np.zeros(size), np.full(size, 0.5)  # without values, with equal ones
    two = np.zeros(size)
    two[2 * OLD] = -1.0  # no new key
    two[2 * OLD + 1 : 2 * OLD + 3] = 1.0
    return Attack("error of the output", size, ratio, True, 1e-9, (zero, equal, two))


ATTACKS = (mass_attack(), error_attack())
