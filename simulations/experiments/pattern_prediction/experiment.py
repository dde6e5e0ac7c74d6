"""Pattern prediction from queries and keys alone, on synthetic heads of many shapes, with noise.

The predictor is `tappa_theory.prediction`, what counts as a pattern `tappa_theory.patterns`; both
are used as they are, with nothing fitted here.

The criterion is about the pattern *observed* in the attention map: what a prediction is to foretell
is what the head shows, not what its maker had in mind, which noise may have drowned. The scores
against the intended pattern stand beside it.
"""

from __future__ import annotations

from typing import Any

from simulations.experiment import Criterion, Experiment, Outcome, Settings, columns
from simulations.experiments.pattern_prediction.figure import draw
from simulations.experiments.pattern_prediction.heads import (
    BASES,
    LENGTHS,
    NOISE,
    SIZES,
    Case,
    cases,
    make,
)
from simulations.experiments.pattern_prediction.scores import (
    RESAMPLES,
    confusion,
    f1,
    macro_f1,
    scores,
)
from simulations.head import SyntheticHead
from tappa_theory.energy import channel_energy
from tappa_theory.patterns import PATTERNS, Pattern
from tappa_theory.prediction import predict_published
from tappa_theory.similarity import adjacent

DECIDING = 10.0
LEAST = 0.95
"""Macro-F1 that the prediction has to reach at 10 dB, and with less noise."""


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


def run(settings: Settings) -> Outcome:
    entries = [measure(case, settings, noise) for noise in NOISE for case in cases(settings.quick)]
    rows, matrices = scores(entries, settings)
    found = {(row["snr_db"], row["reference"], row["rule"]): row for row in rows}
    at = {noise: found[noise, "observed", "predicted"] for noise in NOISE}
    rival = found[DECIDING, "observed", "published"]["macro_f1"]
    criteria = (
        *(
            Criterion(
                f"macro-F1 of the predicted against the observed pattern at {noise:g} dB",
                at[noise]["macro_f1"],
                ">=",
                LEAST,
            )
            for noise in (DECIDING, NOISE[0])
        ),
        Criterion(
            f"lead in macro-F1 over the published rule at {DECIDING:g} dB",
            at[DECIDING]["macro_f1"] - rival,
            ">=",
            0.0,
        ),
    )
    each = zip(PATTERNS, f1(matrices[DECIDING, "observed", "predicted"]), strict=True)
    by_pattern = ", ".join(f"{name} {value:.2f}" for name, value in each)
    deciding = [entry for entry in entries if entry["snr_db"] == DECIDING]
    shown = confusion([e["intended"] for e in deciding], [e["observed"] for e in deciding])
    told = ", ".join(
        f"{at[noise]['macro_f1']:.3f} [{at[noise]['low']:.3f}, {at[noise]['high']:.3f}]"
        f" at {noise:g} dB"
        for noise in sorted(NOISE, key=lambda noise: noise != DECIDING)
    )
    finding = (
        f"Macro-F1 of the pattern predicted from queries and keys against the observed one: {told}"
        f" ({at[DECIDING]['heads']} heads each). At {DECIDING:g} dB F1 by pattern is {by_pattern},"
        f" and macro-F1 of the published rule {rival:.3f}, of always the commonest"
        f" {found[DECIDING, 'observed', 'majority']['macro_f1']:.3f}. Against the intended pattern"
        f" the prediction has {found[DECIDING, 'intended', 'predicted']['macro_f1']:.3f} there, and"
        f" what the maps show {float(macro_f1(shown)):.3f}."
    )
    cells = [
        {"snr_db": n, "reference": r, "rule": k, "pattern": true, "predicted": guess,
         "heads": int(counts[i, j])}
        for (n, r, k), counts in matrices.items()
        for i, true in enumerate(PATTERNS)
        for j, guess in enumerate(PATTERNS)
    ]  # fmt: skip
    return Outcome(
        tables={"heads": columns(entries), "scores": columns(rows), "confusion": columns(cells)},
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


EXPERIMENT = Experiment(
    name="pattern_prediction",
    title="Patterns predicted from queries and keys alone",
    question=(
        "Does the predictor foretell from queries and keys what the attention map shows, over"
        " seeds, bases, head sizes and lengths, and with noise?"
    ),
    run=run,
    draw=draw,
)
