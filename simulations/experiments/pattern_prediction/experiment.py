"""Pattern prediction from queries and keys alone, on heads that nothing was chosen on.

The predictor (`tappa_theory.prediction`) and what counts as a pattern (`tappa_theory.patterns`,
THRESHOLDS) were fixed on a checkpoint before these heads were made, and stay as they are.

The criterion is about the pattern *observed* in the attention map: what a prediction is to foretell
is what the head shows, not what its maker had in mind, which noise may have drowned. The scores
against the intended pattern stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from simulations.experiment import Criterion, Experiment, Outcome, Settings
from simulations.experiments.pattern_prediction_figure import RULES, draw
from simulations.generators import (
    periodic_sequential,
    re_access,
    seasonal,
    sequential,
    unpredictable,
)
from simulations.generators.parts import default_rope, nearest_period
from simulations.head import SyntheticHead
from tappa_theory.energy import channel_energy
from tappa_theory.patterns import PATTERNS, Pattern
from tappa_theory.prediction import predict_published
from tappa_theory.rope import Rope
from tappa_theory.similarity import adjacent

NOISE = (20.0, 10.0, 0.0)
"""Signal-to-noise ratios, dB, of queries and keys before RoPE."""
DECIDING = 10.0
LEAST = 0.95
"""Macro-F1 that the prediction has to reach at 10 dB, and with less noise."""
BASES = (5e3, 2e4, 5e5, 1e6)
SIZES = (32, 64, 96, 128)
LENGTHS = (192, 256, 384, 512)
"""Of these, the checkpoint that the predictor was made on has the head size 64 only."""
RESAMPLES = 2000
"""Of the heads, for the intervals."""
INTERVAL = (2.5, 97.5)
"""Percentiles."""

Made = Callable[..., SyntheticHead]


def _re_access(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    sinks = [(0,), (0, int(rng.integers(1, length // 8)))][int(rng.integers(2))]
    return partial(
        re_access.generate,
        q_similarity=rng.uniform(0.8, 0.97),
        strength=rng.uniform(8, 14),
        share=rng.uniform(0.4, 0.8),
        sinks=sinks,
    )


def _sequential(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(
        sequential.generate,
        q_similarity=rng.uniform(0.9, 0.99),
        k_similarity=rng.uniform(0.9, 0.99),
        strength=rng.uniform(8, 14),
        offset=int(rng.integers(4)),
    )


def _periodic_sequential(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(
        periodic_sequential.generate,
        channel=nearest_period(rope, rng.uniform(16, 36)),
        share=rng.uniform(0.8, 0.95),
        strength=rng.uniform(24, 40),
        drift=rng.uniform(0.0, 0.15),
    )


def _seasonal(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(
        seasonal.generate,
        period=int(rng.integers(10, 25)),
        jitter=int(rng.integers(2)),
        strength=rng.uniform(12, 18),
    )


def _independent(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(unpredictable.generate, kind="independent", strength=rng.uniform(2, 4))


def _retrieval(rng: np.random.Generator, rope: Rope, length: int) -> Made:
    return partial(unpredictable.generate, kind="retrieval", strength=rng.uniform(12, 18))


SOURCES: dict[str, tuple[Callable[[np.random.Generator, Rope, int], Made], int]] = {
    "re_access": (_re_access, 2),
    "sequential": (_sequential, 2),
    "periodic_sequential": (_periodic_sequential, 2),
    "seasonal": (_seasonal, 2),
    "unpredictable, independent": (_independent, 1),
    "unpredictable, retrieval": (_retrieval, 1),
}
"""Generators with dials drawn moderately around their defaults, and heads of each base and size:
as many of each pattern."""


@dataclass(frozen=True)
class Case:
    """A head to be: where it comes from, what RoPE and length it has, its own random stream."""

    source: str
    base: float
    size: int
    length: int
    stream: tuple[int, ...]


def cases(quick: bool) -> Iterator[Case]:
    """Every base with every size, each with a length in turn (a Latin square)."""
    for s, (source, (_, repeats)) in enumerate(SOURCES.items()):
        for b, base in enumerate(BASES):
            for m, size in enumerate(SIZES):
                for repeat in range(repeats):
                    if quick and (b + m + repeat + s) % 4:
                        continue
                    length = LENGTHS[(b + m + 2 * repeat + (s % 2)) % len(LENGTHS)]
                    yield Case(source, base, size, length, (s, b, m, repeat))


def make(case: Case, settings: Settings, snr_db: float) -> SyntheticHead:
    """The head of a case at that noise; at another one it is the same but for the noise's size."""
    rng = settings.random(3, *case.stream)
    rope = default_rope(case.size, case.base)
    generate = SOURCES[case.source][0](rng, rope, case.length)
    return generate(rng, rope=rope, length=case.length, snr_db=snr_db)


def published(head: SyntheticHead) -> Pattern:
    """The paper's rule as publicly summarised, on the same queries and keys."""
    energy = channel_energy(head.z, head.w, head.rope)
    frequency = float(head.rope.frequencies[energy.dominant_channel])
    q, k = float(adjacent(head.z)), float(adjacent(head.w))
    return predict_published(q, k, frequency, head.length)


def measure(case: Case, settings: Settings, snr_db: float) -> dict[str, Any]:
    head = make(case, settings, snr_db)
    seen, foretold = head.observed, head.predicted
    return {
        "snr_db": snr_db,
        "source": case.source,
        "base": case.base,
        "head_size": case.size,
        "length": case.length,
        "intended": head.intended,
        "observed": seen.pattern,
        "predicted": foretold.pattern,
        "published": published(head),
        "column_observed": seen.lines.column,
        "diagonal_observed": seen.lines.diagonal,
        "season_observed": seen.season,
        "column_predicted": foretold.lines.column,
        "diagonal_predicted": foretold.lines.diagonal,
        "season_predicted": foretold.season,
    }


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


def run(settings: Settings) -> Outcome:
    entries = [measure(case, settings, noise) for noise in NOISE for case in cases(settings.quick)]
    rows, matrices = scores(entries, settings)
    found = {(row["snr_db"], row["reference"], row["rule"]): row for row in rows}
    at = {noise: found[noise, "observed", "predicted"] for noise in NOISE}
    rival = found[DECIDING, "observed", "published"]["macro_f1"]
    criteria = (
        Criterion(
            "macro-F1 of the predicted against the observed pattern at 10 dB",
            at[DECIDING]["macro_f1"], ">=", LEAST,
        ),
        Criterion(
            "macro-F1 of the predicted against the observed pattern at 20 dB",
            at[20.0]["macro_f1"], ">=", LEAST,
        ),
        Criterion(
            "lead in macro-F1 over the published rule at 10 dB",
            at[DECIDING]["macro_f1"] - rival, ">=", 0.0,
        ),
    )  # fmt: skip
    each = f1(matrices[DECIDING, "observed", "predicted"])
    by_pattern = ", ".join(f"{name} {value:.2f}" for name, value in zip(PATTERNS, each, strict=True))
    deciding = [entry for entry in entries if entry["snr_db"] == DECIDING]
    shown = confusion([e["intended"] for e in deciding], [e["observed"] for e in deciding])
    told = ", ".join(
        f"{at[noise]['macro_f1']:.3f} [{at[noise]['low']:.3f}, {at[noise]['high']:.3f}]"
        f" at {noise:g} dB"
        for noise in NOISE
    )
    finding = (
        f"Macro-F1 of the pattern predicted from queries and keys against the observed one: {told}"
        f" ({at[DECIDING]['heads']} heads each). At 10 dB the published rule has {rival:.3f},"
        f" always the commonest {found[DECIDING, 'observed', 'majority']['macro_f1']:.3f}; against"
        " the intended pattern the prediction has"
        f" {found[DECIDING, 'intended', 'predicted']['macro_f1']:.3f}, and what the maps show has"
        f" {float(macro_f1(shown)):.3f}. F1 there by pattern: {by_pattern}."
    )
    cells = [
        {"snr_db": n, "reference": r, "rule": k, "pattern": true, "predicted": guess,
         "heads": int(counts[i, j])}
        for (n, r, k), counts in matrices.items()
        for i, true in enumerate(PATTERNS)
        for j, guess in enumerate(PATTERNS)
    ]  # fmt: skip
    return Outcome(
        tables={"heads": _table(entries), "scores": _table(rows), "confusion": _table(cells)},
        criteria=criteria,
        finding=finding,
        conditions={
            "snr_db": list(NOISE),
            "bases": list(BASES),
            "head_sizes": list(SIZES),
            "lengths": list(LENGTHS),
            "heads_per_level": at[DECIDING]["heads"],
            "resamples": RESAMPLES,
        },
    )


def _table(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


EXPERIMENT = Experiment(
    name="pattern_prediction",
    title="Patterns predicted from queries and keys alone",
    question=(
        "Does the predictor, with the thresholds it had before, foretell from queries and keys what"
        " the attention map shows, on unseen seeds, bases, head sizes and lengths and with noise?"
    ),
    run=run,
    draw=draw,
)
