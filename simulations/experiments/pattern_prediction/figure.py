"""The figure of the experiment `pattern_prediction`: confusion matrices, and macro-F1 by noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulations.experiment import Drawn, Outcome
from tappa_theory.app.style import COLOUR_MAP, GUIDE, INK, PAGE_WIDTH, PATTERN_MARKS, new_figure
from tappa_theory.patterns import PATTERNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RULES = {"predicted": "this predictor", "published": "published rule", "majority": "commonest"}
RULE_MARKS = {
    "predicted": (PATTERN_MARKS["periodic_sequential"].colour, "o", "-"),
    "published": (PATTERN_MARKS["sequential"].colour, "s", "--"),
    "majority": (GUIDE, "X", ":"),
}


def draw(outcome: Outcome) -> Drawn:
    figure = new_figure(PAGE_WIDTH, 3.3)
    panels = figure.subplots(
        1,
        len(outcome.conditions["snr_db"]) + 1,
        width_ratios=[1.0] * len(outcome.conditions["snr_db"]) + [1.05],
    )
    cells = {name: np.array(values) for name, values in outcome.tables["confusion"].items()}
    chosen = (cells["reference"] == "observed") & (cells["rule"] == "predicted")
    for axes, noise in zip(panels, outcome.conditions["snr_db"], strict=False):
        counts = cells["heads"][chosen & (cells["snr_db"] == noise)]
        _matrix(axes, counts.reshape(len(PATTERNS), len(PATTERNS)), f"{noise:g} dB")
        axes.set_xlabel("predicted")
    panels[0].set_ylabel("observed")
    panels[0].set_yticks(range(len(PATTERNS)), PATTERNS)
    _levels(panels[-1], outcome)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=3, handlelength=2.4)
    heads = outcome.conditions["heads_per_level"]

    def _range(name: str) -> str:
        values = outcome.conditions[name]
        return f"{int(min(values)):,} to {int(max(values)):,}"

    return Drawn(
        figure,
        "Patterns predicted from queries and keys alone",
        f"Observed against predicted pattern of {heads} synthetic heads at each signal-to-noise"
        f" ratio of queries and keys (bases {_range('bases')}, head sizes {_range('head_sizes')},"
        f" {_range('lengths')} positions); colour: share of the heads observed. Right: macro-F1"
        " over the patterns against the observed one, bars: 95% intervals over resampled heads,"
        f" line: the {outcome.criteria[0].limit:g} that is asked for. Commonest: the pattern that"
        " most heads show.",
        f"{len(panels) - 1} confusion matrices and a plot of macro-F1 over the noise."
        f" {outcome.finding}",
    )


def _matrix(axes: Axes, counts: np.ndarray, title: str) -> None:
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, vmin=0, vmax=1, cmap=COLOUR_MAP)
    for i, j in np.ndindex(counts.shape):
        if counts[i, j]:
            colour = INK if share[i, j] > 0.6 else "white"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(PATTERNS)), PATTERNS, rotation=90)
    axes.set_yticks(range(len(PATTERNS)), [])
    axes.tick_params(length=0)
    axes.set_title(title)


def _levels(axes: Axes, outcome: Outcome) -> None:
    rows = {name: np.array(values) for name, values in outcome.tables["scores"].items()}
    for shift, (rule, label) in zip((-0.5, 0.0, 0.5), RULES.items(), strict=True):
        here = (rows["rule"] == rule) & (rows["reference"] == "observed")
        x, y = rows["snr_db"][here] + shift, rows["macro_f1"][here]
        colour, marker, line = RULE_MARKS[rule]
        # a percentile interval need not hold the estimate itself
        below = np.maximum(y - rows["low"][here], 0)
        above = np.maximum(rows["high"][here] - y, 0)
        axes.errorbar(
            x, y, (below, above), color=colour, marker=marker, linestyle=line, markersize=3.5,
            linewidth=1.0, elinewidth=0.8, label=label,
        )  # fmt: skip
    axes.axhline(outcome.criteria[0].limit, color=INK, linewidth=0.6, linestyle=(0, (1, 2)))
    axes.set_xticks(outcome.conditions["snr_db"])
    axes.invert_xaxis()
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("signal to noise, dB")
    axes.set_ylabel("macro-F1")
