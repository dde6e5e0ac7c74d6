"""The figure of experiment `predictability`."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulations.experiment import Drawn, Outcome, Table
from simulations.experiments.predictability.measures import PREDICTORS, RESPONSES
from tappa_theory.app.style import GUIDE, INK, PAGE_WIDTH, PATTERN_MARKS, new_figure
from tappa_theory.patterns import PATTERNS

LABELS = {
    "q_before": "q-similarity before RoPE",
    "q_after": "q-similarity after RoPE",
    "key_metric": "key-metric drift",
    "mean_square": "mean square, typical case",
    "variance": "variance, typical case",
    "total_variation": "TV",
    "kl": "KL",
    "kl_whole": "KL, new\nkey too",
    "recall": "recall",
}
DARK = 0.6
"""Size of a correlation from which its number is white on its colour."""
FLOOR = 1e-6
"""Least value that a logarithmic axis shows; what is smaller is drawn there."""


def draw(outcome: Outcome) -> Drawn:
    """Two matrices of rank correlations, and two scatters of the heads."""
    figure = new_figure(PAGE_WIDTH, 5.2)
    (across, within), (left, right) = figure.subplots(2, 2)
    correlations, heads = outcome.tables["correlations"], outcome.tables["heads"]
    shown = _matrix(across, correlations, "across heads")
    _matrix(within, correlations, "within heads", labelled=False)
    within.set_title("within heads (median)")
    across.set_title("across heads")
    figure.colorbar(shown, ax=[across, within], label="rank correlation", shrink=0.9)
    _scatter(left, heads, "key_metric", "kl")
    left.plot([FLOOR, 1e2], [FLOOR, 1e2], color=GUIDE, linewidth=0.6, zorder=0)
    left.set_yscale("log")
    left.set_xlabel("key-metric drift (nats)")
    left.set_ylabel("KL of consecutive rows (nats)")
    _scatter(right, heads, "q_before", "total_variation", lambda q: 1 - q)
    right.set_xlabel("1 − q-similarity before RoPE")
    right.set_ylabel("TV of consecutive rows")
    right.set_ylim(-0.02, 1.02)
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(color="#e4e4e4", linewidth=0.4)
        axes.set_axisbelow(True)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    conditions = outcome.conditions
    caption = (
        f"{conditions['heads']} synthetic heads of all generators with varied dials and noise,"
        f" length {conditions['length']}, head size"
        f" {', '.join(map(str, conditions['head_sizes']))}, base"
        f" {', '.join(f'{base:g}' for base in conditions['bases'])}."
        " Above: Spearman's rank correlation of predictors (rows) with what"
        " consecutive attention rows do (columns: total variation, KL divergence over the keys of"
        " the earlier row, the same with the new key, shift-aware recall), of the means of heads"
        " and, as the median over the heads, of the steps within a head, where neither side is"
        " constant; they hold for this mix of heads. Below: mean over the steps of each head,"
        " coloured by the pattern that its generator aims at; on the line, key-metric drift and KL"
        f" are equal. Values below {FLOOR:g} are drawn there."
    )
    alt = (
        "Two matrices of rank correlations and two scatter plots of heads: KL against key-metric"
        " drift, and total variation against 1 less q-similarity before RoPE."
        f" {outcome.finding}"
    )
    return Drawn(figure, "What foretells the next attention row", caption, alt)


def _matrix(axes: Any, table: Table, level: str, labelled: bool = True) -> Any:
    rho = np.full((len(PREDICTORS), len(RESPONSES)), np.nan)
    for row in zip(*(table[name] for name in _COLUMNS), strict=True):
        if row[0] == level and row[1] == "all":
            rho[PREDICTORS.index(row[2]), RESPONSES.index(row[3])] = row[4]
    shown = axes.imshow(np.ma.masked_invalid(rho), cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(rho):
        text = "n/a" if np.isnan(value) else f"{value:.2f}".replace("-", "−")
        colour = "white" if abs(value) > DARK else INK
        axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(RESPONSES)), [LABELS[name] for name in RESPONSES])
    axes.set_yticks(range(len(PREDICTORS)))
    axes.set_yticklabels([LABELS[name] if labelled else "" for name in PREDICTORS])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return shown


_COLUMNS = ("level", "family", "predictor", "response", "rho")


def _scatter(axes: Any, heads: Table, x: str, y: str, change: Any = None) -> None:
    across, up = (np.array(heads[name], dtype=np.float64) for name in (x, y))
    if change is not None:
        across = change(across)
    intended = np.array(heads["intended"])
    for name in PATTERNS:
        chosen = intended == name
        if chosen.any():
            mark = PATTERN_MARKS[name]
            axes.scatter(
                np.maximum(across[chosen], FLOOR), np.maximum(up[chosen], FLOOR), s=14,
                marker=mark.marker, facecolors="none" if mark.marker != "X" else mark.colour,
                edgecolors=mark.colour, linewidths=0.7, label=name,
            )  # fmt: skip
    axes.set_xscale("log")
