"""The figure of the experiment `interventions`: observed against published spacing, and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulations.experiment import Drawn, Outcome, rows
from tappa_theory.app.style import GUIDE, INK, PAGE_WIDTH, PATTERN_MARKS, QUERY_COLOUR, new_figure
from tappa_theory.separable import evaluate
from tappa_theory.theorems import THEOREMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CASES = ("same channel", "another channel", "not met")
"""Is the hypothesis met, and is the channel of most energy the one that it is about?"""
MARKS = {
    CASES[0]: (
        PATTERN_MARKS["periodic_sequential"].colour,
        "s",
        "hypothesis met by the channel of most energy",
    ),
    CASES[1]: (QUERY_COLOUR, "^", "hypothesis met by another channel"),
    CASES[2]: (PATTERN_MARKS["unpredictable"].colour, "X", "hypothesis not met"),
}


def draw(outcome: Outcome) -> Drawn:
    figure = new_figure(PAGE_WIDTH, 3.3)
    left, right_axes = figure.subplots(1, 2)
    columns = {k: np.array(v, dtype=object) for k, v in outcome.tables["configurations"].items()}
    _spacings(left, columns)
    _errors(right_axes, columns)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    found, met = outcome.conditions["configurations"], outcome.conditions["hypothesis_met"]
    return Drawn(
        figure,
        "Spacing of the diagonals after an intervention",
        f"{found} heads with one query and one key at every position, after the channel of most"
        " energy was moved to another index, or the base changed. Left: the mean distance of all"
        f" local maxima of a row over {outcome.conditions['periods']} periods against the published"
        " spacing, the period of the channel of most energy (dashed: equal). Bars: what the"
        f" repaired theorem allows, where its hypothesis is met ({met}). Rings: spacing of the"
        f" lines of the attention map of {outcome.conditions['map_length']} positions, where it"
        " shows evenly spaced lines. Right: largest relative error of a published spacing against"
        " \u03ba of the channel of most energy; line: the bound, which"
        " is proven where the hypothesis is met for that channel.",
        _alt(outcome),
    )


def _alt(outcome: Outcome) -> str:
    right = [
        f"{row['case']}, {row['reading']}: {row['right']} of {row['configurations']}"
        for row in rows(outcome.tables["rules"])
        if row["rule"] == "energy"
    ]
    return (
        "Two logarithmic scatter plots: observed against published spacing, and the largest"
        " relative error of a spacing against \u03ba of the channel of most energy. Published"
        f" spacings that are right, by case and by what counts as a diagonal: {'; '.join(right)}."
        f" {outcome.finding}"
    )


def _spacings(axes: Axes, columns: dict[str, np.ndarray]) -> None:
    for name, (colour, marker, label) in MARKS.items():
        here = columns["case"] == name
        x, y, middle, bar = (
            columns[k][here] for k in ("published", "spacing", "period", "error_bar")
        )
        if name != CASES[2]:
            axes.vlines(
                x.astype(float), (middle - bar).astype(float), (middle + bar).astype(float),
                color=colour, linewidth=1.0, alpha=0.5,
            )  # fmt: skip
        axes.scatter(
            x, y, s=9, marker=marker, color=colour, linewidths=0, label=f"{label} ({here.sum()})"
        )
    seen = columns["map_spacing"] != None  # noqa: E711 - elementwise
    axes.scatter(
        columns["published"][seen], columns["map_spacing"][seen], s=22, marker="o",
        facecolors="none", edgecolors=INK, linewidths=0.5,
        label=f"read off the attention map ({seen.sum()})",
    )  # fmt: skip
    ends = (5.5, 150.0)
    axes.plot(ends, ends, "--", color=GUIDE, linewidth=0.8, zorder=0)
    for set_scale, set_limits in (
        (axes.set_xscale, axes.set_xlim),
        (axes.set_yscale, axes.set_ylim),
    ):
        set_scale("log")
        set_limits(ends)
    ticks = [6, 10, 20, 50, 100]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [str(tick) for tick in ticks])
        axis.set_minor_formatter("")
    axes.set_xlabel("published spacing, positions")
    axes.set_ylabel("observed spacing, positions")


def _errors(axes: Axes, columns: dict[str, np.ndarray]) -> None:
    worst = np.maximum(
        np.abs(columns["least_spacing"] / columns["published"] - 1),
        np.abs(columns["largest_spacing"] / columns["published"] - 1),
    ).astype(float)
    for name, (colour, marker, _) in MARKS.items():
        here = columns["case"] == name
        axes.scatter(
            columns["kappa_published"][here], worst[here], s=9, marker=marker, color=colour,
            linewidths=0,
        )  # fmt: skip
    kappa = np.geomspace(1e-3, 1.0, 200)
    parts = THEOREMS["periodic_sequential"].auxiliary
    values = {"kappa": kappa, "theta_*": np.ones(1)}
    bound = evaluate(parts["spacing"], values) / evaluate(parts["period"], values)
    axes.plot(kappa, bound, color=INK, linewidth=1.0)
    axes.text(0.03, 0.02, "proven bound", ha="right", va="bottom", color=INK)
    axes.axvline(1.0, color=GUIDE, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("\u03ba, the channel of most energy as dominant")
    axes.set_ylabel("largest relative error of a spacing")
