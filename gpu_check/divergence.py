"""The KL divergence of single steps against theorem `query_drift`: predicted, observed, proven.

Predicted is the second-order value `key_metric`. Proven are the remainder, which observed and
predicted cannot differ by more than, and the interval that contains every divergence of that
key_metric and oscillation.
"""

from typing import Any

import numpy as np

from tappa_theory.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import evaluate
from tappa_theory.theorems.query_drift import ERROR, LARGEST, LOWER, QUADRATIC, UPPER

SMALLEST_OMEGA = 1e-3
"""Oscillation below which the interval is that of this one, which contains it: at 0 it is 0/0."""
LARGEST_OMEGA = 600.0
"""Oscillation above which e^omega times a variance may overflow; the oscillation itself is then the
upper end."""


def quadratic_bound(oscillation: np.ndarray) -> np.ndarray:
    """omega^2/8, nats: the divergence of a step of that oscillation is no larger."""
    return evaluate(QUADRATIC, {"omega": oscillation})


def interval(key_metric: np.ndarray, oscillation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lowest, highest) KL(P_t || P_{t+1}) of a step of that key_metric and oscillation, nats."""
    values = {
        "variance": 2 * key_metric,
        "omega": np.clip(oscillation, SMALLEST_OMEGA, LARGEST_OMEGA),
    }
    highest = np.minimum(evaluate(UPPER, values), evaluate(LARGEST, values))
    lowest = evaluate(LOWER, values | {"omega": np.maximum(oscillation, SMALLEST_OMEGA)})
    return lowest, np.where(oscillation > LARGEST_OMEGA, oscillation, highest)


def compare(
    divergence: np.ndarray, key_metric: np.ndarray, oscillation: np.ndarray, error: float
) -> dict[str, Any] | None:
    """The "kl" of a head in check.json, over steps (n,); None if there are none.

    error: largest rounding error of a logit.
    """
    if not divergence.size:
        return None
    remainder = evaluate(ERROR, {"omega": oscillation})
    lowest, highest = interval(key_metric, oscillation)
    # Both values and omega move with the logit changes, of which each has the error of two logits;
    # expectations err by a roundoff per key, of which SMALLEST_OMEGA leaves 1e6 times as much.
    slope = 1 + oscillation + evaluate(QUADRATIC, {"omega": oscillation})
    slack = 8 * error * slope + 2**20 * UNIT_ROUNDOFF * (divergence + key_metric)
    slack += 2**10 * UNIT_ROUNDOFF
    outside = np.abs(divergence - key_metric) > remainder + slack
    outside |= (divergence < lowest - slack) | (divergence > highest * (1 + slack) + slack)
    return {
        "steps": int(divergence.size),
        "predicted": float(key_metric.mean()),
        "observed": float(divergence.mean()),
        "remainder": float(remainder.mean()),
        "lowest": float(lowest.mean()),
        "highest": float(highest.mean()),
        "informative": float((remainder < key_metric).mean()),
        "outside": int(np.count_nonzero(outside)),
    }
