"""Attacks on the distance of two rows: rows with free logits, and rows of a head."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import BOUND
from tappa_theory.theorems.attention_distance import (
    APPENDED,
    DISTANCE,
    MASS_LATER,
    OMEGA,
    OSCILLATION,
    SAME_KEYS,
)

SMALLEST = 1e-3
"""Oscillation and gain from which on both sides are compared: below them all is rounding."""


def masses(logits: np.ndarray) -> np.ndarray:
    """A softmax row; -inf is a key out of sight."""
    weights = np.exp(logits - np.max(logits))
    return weights / np.sum(weights)


def row_distance(before: np.ndarray, after: np.ndarray) -> float:
    """Total variation of the rows of these logits."""
    return float(np.sum(np.abs(masses(after) - masses(before)))) / 2


def capped_change(logit: float) -> float:
    """Change of tanh of a logit that grows by 1."""
    return float(np.tanh(logit + 1) - np.tanh(logit))


def allowed(bound: sp.Expr, **values: float) -> float:
    """The registry's expression in float64."""
    return float(evaluate(bound, {name: np.asarray(value) for name, value in values.items()}))


def beyond_gained(before: np.ndarray, after: np.ndarray, bound: sp.Expr, **values: float) -> float:
    """Distance over its bound, both less the gained mass, which any bound has to hold."""
    gained = values["gained"]
    excess = allowed(bound, **values) - gained
    return (row_distance(before, after) - gained) / max(excess, SMALLEST)


def gain(mass: float, later: float, bound: float) -> float:
    """Gain of a mass over what its bound allows; a mass that stays is no merit of the bound."""
    return (later - mass) / max(bound - mass, SMALLEST)


COMMON = 3
ROWS_SIZE = 2 * COMMON + 2


def _rows(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two rows over common keys, a lost and a gained one, from numbers in [-1, 1].

    A lost or gained key at -1 is not there.
    """
    common, changes = 6 * point[:COMMON], 4 * point[COMMON : 2 * COMMON]
    lost, gained = (-np.inf if x == -1 else 8 * x for x in point[2 * COMMON :])
    return (
        np.array([*common, lost, -np.inf]),
        np.array([*(common + changes), -np.inf, gained]),
    )


def _oscillation(before: np.ndarray, after: np.ndarray) -> float:
    """Over the common keys, or the smallest that is compared."""
    return max(float(np.ptp(after[:COMMON] - before[:COMMON])), SMALLEST)


def rows_attack(bound: sp.Expr, name: str, other: bool) -> Attack:
    """Distance of two rows over the bound at their oscillation. other: keys that are not common."""

    def ratio(point: np.ndarray) -> float:
        before, after = _rows(point if other else np.array([*point, -1.0, -1.0]))
        values = {
            "omega": _oscillation(before, after),
            "lost": float(masses(before)[COMMON]),
            "gained": float(masses(after)[COMMON + 1]),
        }
        return beyond_gained(before, after, bound, **values)

    size = ROWS_SIZE if other else 2 * COMMON
    still, equal, one, tiny = (np.full(size, 0.2) for _ in range(4))
    still[COMMON : 2 * COMMON] = 0.0  # nothing changes
    equal[: 2 * COMMON] = (0.0, 0.0, 0.0, 0.1, -0.1, -0.1)
    one[:COMMON] = (1.0, -1.0, -1.0)  # one key has nearly all mass
    tiny[COMMON : 2 * COMMON] = (1e-4, 0.0, -1e-4)
    if other:
        tiny[-2:] = -1.0
    return Attack(name, size, ratio, True, 1e-9, (still, equal, one, tiny))


def set_attack() -> Attack:
    """Later mass of the first key over the bound at its earlier mass."""

    def ratio(point: np.ndarray) -> float:
        before, after = _rows(np.array([*point, -1.0, -1.0]))
        mass, omega = float(masses(before)[0]), _oscillation(before, after)
        return gain(mass, float(masses(after)[0]), allowed(MASS_LATER, omega=omega, mass=mass))

    certain = np.array([1.0, -1.0, -1.0, 0.5, -0.5, -0.5])
    return Attack(
        "later mass of a set of keys",
        2 * COMMON,
        ratio,
        True,
        1e-9,
        (np.zeros(2 * COMMON), certain, -certain),
    )


Shift = tuple[int, int]
Rows = tuple[np.ndarray, np.ndarray, Mapping[str, float]]


def head_rows(point: np.ndarray, shift: Shift) -> Rows:
    """Logits of rows t and t + s of a head with one channel, from the definition.

    point: two queries, keys 0 to t + s, and the frequency, from numbers in [-1, 1]; t is such that
    two keys are common. Both rows are indexed by the key of the earlier one, from -u on. The
    values: gained, lost and bound_max.
    """
    by_query, by_key = shift
    here = 1 if by_query >= by_key else 1 + by_key
    last = here + by_query
    parts = 2 * point[:-1].reshape(-1, 2) @ np.array([1, 1j])
    query, query_s, keys = parts[0], parts[1] if by_query else parts[0], parts[2 : 3 + last]
    theta = np.pi * abs(point[-1])
    at = np.arange(last + 1)
    turned = keys * np.exp(1j * at * theta)

    def row(vector: complex, place: int) -> np.ndarray:
        logits = (np.conj(vector * np.exp(1j * place * theta)) * turned).real
        return np.where(at <= place, logits, -np.inf)

    unseen = np.full(by_key, -np.inf)
    before = np.concatenate([unseen, row(query, here)])
    after = np.concatenate([row(query_s, last), unseen])
    common = np.isfinite(before) & np.isfinite(after)
    first = np.arange(common.sum())
    values = {"z": np.asarray(query), "z_s": np.asarray(query_s)}
    values |= {"w": keys[first], "w_u": keys[first + by_key]}
    numbers = {"theta": theta, "lambda": 1.0, "s": by_query, "u": by_key}
    values |= {name: np.asarray(number) for name, number in numbers.items()}
    off = {"lost": masses(before)[~common].sum(), "gained": masses(after)[~common].sum()}
    return before, after, {"bound_max": float(np.max(evaluate(BOUND, values))), **off}


def head_attack(shift: Shift, bound: sp.Expr, name: str) -> Attack:
    """Distance of two rows of a head over the bound from the shift bound."""
    size = 2 * (2 + 2 + max(shift)) + 1

    def ratio(point: np.ndarray) -> float:
        before, after, values = head_rows(point, shift)
        values = {**values, "bound_max": max(values["bound_max"], SMALLEST)}
        return beyond_gained(before, after, bound, **values)

    zero, still, turned, along = np.zeros(size), *(np.full(size, 0.4) for _ in range(3))
    still[-1] = 0.0
    turned[-1] = 1.0
    along[4:] = 0.0
    along[:4] = -0.4, 0.0, 0.4, 0.0  # the query changes sign
    along[[4, 6]] = 0.5, -0.5  # two opposite keys
    return Attack(name, size, ratio, True, 1e-9, (zero, still, turned, along))


_FROM_BOUND = {OMEGA: OSCILLATION}
ATTACKS = (
    rows_attack(DISTANCE, "rows that gain and lose keys", True),
    rows_attack(SAME_KEYS, "rows over the same keys", False),
    set_attack(),
    head_attack((1, 0), APPENDED.subs(_FROM_BOUND), "a column of a head, from (B)"),
)
