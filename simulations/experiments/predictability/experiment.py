"""Which similarity or drift foretells what: rank correlations over synthetic heads and their steps.

Cosines of adjacent queries, key-metric drift and the typical case against total variation, KL and
shift-aware recall of consecutive attention rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simulations.experiment import Criterion, Experiment, Outcome, Settings, columns
from simulations.experiments.predictability.figure import draw
from simulations.experiments.predictability.heads import LENGTH, drawn_heads
from simulations.experiments.predictability.measures import (
    PREDICTORS,
    RESPONSES,
    Steps,
    interval,
    resampled,
    spearman,
    steps,
)

RESAMPLES = 400

STRONG = 0.9
"""Key-metric drift is KL to second order, and ranks forgive the rest as long as it keeps their
order."""
FEWEST_HEADS = 8
"""Heads for which a correlation over their steps is told."""

ACROSS, WITHIN = "across heads", "within heads"

Found = Mapping[tuple[str, str, str], float]
"""A correlation by (level, predictor, response)."""


def _run(settings: Settings) -> Outcome:
    heads = drawn_heads(settings, 8 if settings.quick else 25)
    measured = [steps(head) for _, head in heads]
    names = [family for family, _ in heads]
    table: dict[str, list[Any]] = {
        "family": names,
        "intended": [head.intended for _, head in heads],
    }
    means = [found.means() for found in measured]
    table |= {name: [mean[name] for mean in means] for name in PREDICTORS + RESPONSES}
    table["identity_error"] = [found.error for found in measured]

    values = np.array([[mean[name] for name in PREDICTORS + RESPONSES] for mean in means])
    rows = _across(ACROSS, "all", values, settings.random(2, 0))
    for number, family in enumerate(dict.fromkeys(names)):
        chosen = values[[name == family for name in names]]
        rows += _across(ACROSS, family, chosen, settings.random(2, 1 + number))
    rows += _within(measured, settings.random(3))
    correlations = columns(rows)
    found = {
        (row["level"], row["predictor"], row["response"]): row["rho"]
        for row in rows
        if row["family"] == "all"
    }
    conditions = {
        "heads": len(heads),
        "heads_per_family": 8 if settings.quick else 25,
        "length": LENGTH,
        "head_sizes": sorted({head.rope.head_dim for _, head in heads}),
        "bases": sorted({head.rope.base for _, head in heads if head.rope.base is not None}),
        "resamples": RESAMPLES,
    }
    return Outcome(
        {"heads": table, "correlations": correlations},
        _criteria(found, table),
        _finding(found, rows, len(heads)),
        conditions,
    )


def _across(
    level: str, family: str, values: np.ndarray, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Correlations of the heads' means, with bootstrap intervals over heads."""
    rho = spearman(values)
    low, high = interval(spearman(values[resampled(rng, len(values), RESAMPLES)]))
    varying = np.ptp(values, axis=0) > 0
    rows = []
    for a, predictor in enumerate(PREDICTORS):
        for b, response in enumerate(RESPONSES, start=len(PREDICTORS)):
            if varying[a] and varying[b]:
                numbers = [float(matrix[a, b]) for matrix in (rho, low, high)]
                rows.append(_row(level, family, predictor, response, numbers, len(values)))
    return rows


def _within(measured: list[Steps], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Median over the heads of the correlation over a head's steps, where neither is constant."""
    correlations = [found.correlations() for found in measured]
    rows = []
    for predictor in PREDICTORS:
        for response in RESPONSES:
            pair = predictor, response
            rho = np.array([found[pair] for found in correlations if pair in found])
            samples = resampled(rng, max(len(rho), 1), RESAMPLES)
            if len(rho) < FEWEST_HEADS:
                continue
            low, high = interval(np.median(rho[samples], axis=1))
            numbers = [float(np.median(rho)), float(low), float(high)]
            rows.append(_row(WITHIN, "all", predictor, response, numbers, len(rho)))
    return rows


def _row(
    level: str, family: str, predictor: str, response: str, numbers: list[float], heads: int
) -> dict[str, Any]:
    rho, low, high = numbers
    return {
        "level": level,
        "family": family,
        "predictor": predictor,
        "response": response,
        "rho": rho,
        "low": low,
        "high": high,
        "heads": heads,
    }


def _criteria(found: Found, table: dict[str, list[Any]]) -> tuple[Criterion, ...]:
    """Those after the first are expectations, with their reasons."""

    def size(predictor: str, response: str, level: str = ACROSS) -> float:
        return abs(found.get((level, predictor, response), float("nan")))

    cosines = PREDICTORS[:2]
    return (
        Criterion(
            "typical case: largest distance of a row's mean square or variance of logit changes"
            " from its trace of second moments, over what rounding may make it",
            max(table["identity_error"]), "<=", 1.0, proven=True,
        ),
        Criterion(
            "across heads: rank correlation of key-metric drift with KL",
            found[ACROSS, "key_metric", "kl"], ">=", STRONG,
        ),
        Criterion(
            "within heads, median: rank correlation of key-metric drift with KL",
            found[WITHIN, "key_metric", "kl"], ">=", STRONG,
        ),
        # A diagonal moves at every step and is foretold all the same.
        Criterion(
            "across heads: how much closer q-similarity before RoPE goes with recall than with"
            " total variation (size of the correlations)",
            size("q_before", "recall") - size("q_before", "total_variation"), ">=", 0.0,
        ),
        # Columns stay where the query repeats after RoPE (theorem similarity_direction), and total
        # variation is about keys that stay.
        Criterion(
            "across heads: how much closer q-similarity goes with total variation after RoPE than"
            " before",
            size("q_after", "total_variation") - size("q_before", "total_variation"), ">=", 0.0,
        ),
        # The cosine knows neither norms nor which keys are attended.
        Criterion(
            "across heads: how much closer key-metric drift goes with total variation than the"
            " better of both cosines",
            size("key_metric", "total_variation")
            - max(size(cosine, "total_variation") for cosine in cosines),
            ">=", 0.0,
        ),
        # Key-metric drift, too, takes a diagonal that moves for a change.
        Criterion(
            "across heads: how much closer key-metric drift goes with KL than with recall",
            size("key_metric", "kl") - size("key_metric", "recall"), ">=", 0.0,
        ),
        # A change of the whole row by a constant changes no attention.
        Criterion(
            "across heads: how much closer the variance of the logit changes goes with KL than"
            " their mean square",
            size("variance", "kl") - size("mean_square", "kl"), ">=", 0.0,
        ),
        # Keys that nobody attends to enter the variance over keys, not the key metric.
        Criterion(
            "within heads, median: how much closer key-metric drift goes with KL than the variance"
            " over the keys",
            size("key_metric", "kl", WITHIN) - size("variance", "kl", WITHIN), ">=", 0.0,
        ),
    )  # fmt: skip


def _finding(found: Found, rows: list[dict[str, Any]], heads: int) -> str:
    def told(predictor: str, response: str, level: str = ACROSS) -> str:
        rho = found.get((level, predictor, response))
        return "n/a" if rho is None else f"{rho:.2f}"

    drift = {
        row["family"]: row["rho"]
        for row in rows
        if (row["level"], row["predictor"], row["response"]) == (ACROSS, "key_metric", "kl")
        and row["family"] != "all"
    }
    least, most = min(drift, key=lambda f: drift[f]), max(drift, key=lambda f: drift[f])
    return (
        f"Key-metric drift goes with KL at rank correlation {told('key_metric', 'kl')} across"
        f" {heads} heads, at {told('key_metric', 'kl', WITHIN)} within heads and, by generator, at"
        f" {drift[least]:.2f} ({least}) to {drift[most]:.2f} ({most}). Adjacent q-similarity before"
        f" RoPE goes with total variation at {told('q_before', 'total_variation')} and with"
        f" shift-aware recall at {told('q_before', 'recall')}, after RoPE at"
        f" {told('q_after', 'total_variation')} and {told('q_after', 'recall')}. The variance of"
        f" the logit changes over the keys goes with KL at {told('variance', 'kl')}, their mean"
        f" square at {told('mean_square', 'kl')}."
    )


EXPERIMENT = Experiment(
    name="predictability",
    title="Predictability: which similarity or drift foretells what",
    question=(
        "Which of q-similarity, key-metric drift and the typical case foretells the total"
        " variation, the KL divergence and the shift-aware recall of consecutive attention rows?"
    ),
    run=_run,
    draw=draw,
)
