"""Scores of predicted patterns: confusion matrices, F1, and intervals over resampled heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulations.experiment import Settings
from simulations.experiments.pattern_prediction.figure import RULES
from simulations.experiments.pattern_prediction.heads import NOISE
from tappa_theory.patterns import PATTERNS

RESAMPLES = 2000
"""Of the heads, for the intervals."""
INTERVAL = (2.5, 97.5)
"""Percentiles."""


def confusion(reference: Sequence[str], predicted: Sequence[str]) -> np.ndarray:
    """(5, 5) number of heads by reference (row) and predicted pattern (column)."""
    counts = np.zeros((len(PATTERNS), len(PATTERNS)), dtype=np.int64)
    names: tuple[str, ...] = PATTERNS
    for true, guess in zip(reference, predicted, strict=True):
        counts[names.index(true), names.index(guess)] += 1
    return counts


def f1(counts: np.ndarray) -> np.ndarray:
    """(..., 5) F1 of each pattern from (..., 5, 5) counts, 0 for one that does not occur.

    F1 = 2 hits / (heads of the pattern + heads predicted to have it).
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.asarray(2 * hits / np.maximum(counts.sum(-1) + counts.sum(-2), 1))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean `f1` of the patterns that occur, in the reference or as a prediction."""
    occur = np.sum(counts.sum(-1) + counts.sum(-2) > 0, axis=-1)
    return np.asarray(np.sum(f1(counts), axis=-1) / occur)


def interval(rng: np.random.Generator, counts: np.ndarray) -> tuple[float, float]:
    """95% interval of macro-F1 over resampled heads (percentile bootstrap)."""
    heads = int(counts.sum())
    drawn = rng.multinomial(heads, counts.ravel() / heads, size=RESAMPLES)
    low, high = np.percentile(macro_f1(drawn.reshape(-1, *counts.shape)), INTERVAL)
    return float(low), float(high)


REFERENCES = ("observed", "intended")


def scores(
    entries: list[dict[str, Any]], settings: Settings
) -> tuple[list[dict[str, Any]], dict[tuple[float, str, str], np.ndarray]]:
    """Rows of the table "scores", and the confusion matrix of each."""
    rows, matrices = [], {}
    for n, noise in enumerate(NOISE):
        here = [entry for entry in entries if entry["snr_db"] == noise]
        for r, reference in enumerate(REFERENCES):
            truth = [entry[reference] for entry in here]
            commonest = max(PATTERNS, key=truth.count)
            for k, rule in enumerate(RULES):
                guess = [commonest if rule == "majority" else entry[rule] for entry in here]
                counts = confusion(truth, guess)
                low, high = interval(settings.random(4, n, r, k), counts)
                matrices[noise, reference, rule] = counts
                rows.append(
                    {
                        "snr_db": noise,
                        "reference": reference,
                        "rule": rule,
                        "heads": len(here),
                        "macro_f1": float(macro_f1(counts)),
                        "low": low,
                        "high": high,
                        "agreement": float(np.trace(counts)) / len(here),
                    }
                )
    return rows, matrices
