"""What the model's precision changes: one text measured in two dtypes, head by head."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpu_check.results import HeadResult
from tappa_theory.theorems import SHIFT_THEOREMS

Number = Callable[[HeadResult], float | None]


def compare(run: Sequence[HeadResult], reference: Sequence[HeadResult]) -> dict[str, Any]:
    """Differences between the heads of a text in the run's dtype and in the reference dtype.

    Both hold the same heads in the same order. Counts of changed patterns, median and maximum of
    the absolute differences (None where no head has the number in both), and the largest angle
    deviation of each.
    """
    pairs = list(zip(run, reference, strict=True))
    return {
        "heads": len(pairs),
        "observed_changed": sum(a.pattern_observed != b.pattern_observed for a, b in pairs),
        "predicted_changed": sum(a.pattern_predicted != b.pattern_predicted for a, b in pairs),
        "differences": {
            name: _difference([(number(a), number(b)) for a, b in pairs])
            for name, number in _numbers().items()
        },
        "angle_deviation": {"dtype": _largest(run), "reference": _largest(reference)},
    }


def _numbers() -> dict[str, Number]:
    numbers: dict[str, Number] = {
        "q_similarity.adjacent_pre": lambda head: head.q_similarity["adjacent_pre"],
        "q_similarity.adjacent_post": lambda head: head.q_similarity["adjacent_post"],
        "q_similarity.all_pairs_pre": lambda head: head.q_similarity["all_pairs_pre"],
        "k_similarity.adjacent_pre": lambda head: head.k_similarity["adjacent_pre"],
        "predictability": lambda head: head.predictability,
        "drift.kl": lambda head: head.drift["kl"],
    }
    for name in SHIFT_THEOREMS:
        for key in ("max_ratio", "informative"):
            numbers[f"{name}.{key}"] = lambda head, name=name, key=key: getattr(  # type: ignore[misc]
                head.theorems[name], key
            )
    return numbers


def _difference(pairs: Sequence[tuple[float | None, float | None]]) -> dict[str, float | None]:
    found = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    return {
        "median": float(np.median(found)) if found else None,
        "max": max(found, default=None),
    }


def _largest(heads: Sequence[HeadResult]) -> float | None:
    return max(
        (head.angle_deviation for head in heads if head.angle_deviation is not None), default=None
    )
