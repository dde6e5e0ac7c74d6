"""The figure of the experiment `precision`: drift over position, errors over angle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simulations.experiment import Drawn, Outcome, Table, columns, rows
from simulations.experiments.precision.measures import NEAR, WRONG
from tappa_theory.app.style import (
    GUIDE,
    INK,
    KEY_COLOUR,
    PAGE_WIDTH,
    QUERY_COLOUR,
    Mark,
    new_figure,
    number_text,
)
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import ANGLE_ERROR, UNIT_ROUNDOFF

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 8
"""Entries of a bin that is drawn, at least."""
MARKS = {
    "float32": Mark(QUERY_COLOUR, "o"),
    "float16": Mark(GUIDE, "s"),
    "bfloat16": Mark(KEY_COLOUR, "^"),
    "bfloat16 angles": Mark(INK, "X"),
}


def _where(table: Table, **fixed: Any) -> dict[str, list[Any]]:
    """The rows of a table with these values."""
    return columns(
        [row for row in rows(table) if all(row[name] == value for name, value in fixed.items())]
    )


def _full(bins: Table) -> dict[str, list[Any]]:
    """The bins with entries enough for their largest error to mean something."""
    return columns([row for row in rows(bins) if row["entries"] >= FEWEST])


def draw(outcome: Outcome) -> Drawn:
    """Left the drift of each practice with its bound, right angles against tables."""
    figure = new_figure(PAGE_WIDTH, 3.1)
    left, right = figure.subplots(1, 2)
    _drifts(left, outcome.tables["drift"])
    _angles(right, outcome.tables["angles"], outcome.tables["crossovers"])
    pairs = outcome.tables["drift"]["pairs"][0]
    caption = (
        "Left: how much a logit changes when query and key move together, over |q||k|: median of"
        f" {pairs} random pairs at most {NEAR} positions apart, by the position moved to; dashed,"
        " the median of what the theorem allows them. With bfloat16 angles it says nothing"
        f" beyond position {WRONG.exact_to}, since bfloat16 does not hold the positions. Right:"
        " largest error by p theta"
        " over all channels and positions: rounding of float32 angles (line; dashed, its bound) and"
        " rounding of the table. The vertical lines mark where the theorem has angles overtake a"
        f" table. Head size {outcome.conditions['head_size']}, base"
        f" {number_text(int(outcome.conditions['base']))}, positions to"
        f" {number_text(outcome.conditions['last_position'])}."
    )
    return Drawn(
        figure,
        "What rounding leaves of relative positions",
        caption,
        f"Two panels, logarithmic. {outcome.finding}",
    )


def _drifts(axes: Axes, table: Table) -> None:
    for name, mark in MARKS.items():
        rows = _where(table, practice=name)
        axes.plot(
            rows["position"], rows["median"], color=mark.colour, marker=mark.marker,
            markersize=3, markevery=8, label=name,
        )  # fmt: skip
        bound = [(p, b) for p, b in zip(rows["position"], rows["bound"], strict=True) if b]
        axes.plot(*zip(*bound, strict=True), color=mark.colour, linestyle="--", linewidth=0.9)
    axes.plot([], [], color=GUIDE, linestyle="--", linewidth=0.9, label="bound")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [128, 1024, 8192, 65_536]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlabel("position of the query")
    axes.set_ylabel("drift / (|q||k|)")
    axes.set_title("drift of a logit", loc="left")
    axes.legend(loc="upper left", ncols=2, fontsize=7)
    axes.set_ylim(1e-8, 1e3)


def _angles(axes: Axes, table: Table, crossovers: Table) -> None:
    for name in ("float32", "float16", "bfloat16"):
        rows = _full(_where(table, source=name))
        axes.plot(
            rows["angle"], rows["largest"], color=MARKS[name].colour, linewidth=0.9,
            marker=MARKS[name].marker, markersize=3, markevery=16, label=f"{name} table",
        )  # fmt: skip
    rows = _full(_where(table, source="angles"))
    there = [place for place, error in enumerate(rows["largest"]) if error > 0]
    angle = np.array(rows["angle"])[there]
    axes.step(
        angle, np.array(rows["largest"])[there], where="post", color=INK, label="float32 angle"
    )
    unit = float(UNIT_ROUNDOFF["float32"])
    allowed = evaluate(
        ANGLE_ERROR, {"p": angle, "theta": 1.0, "frequency_error": 0.0, "u_angle": unit}
    )
    axes.plot(angle, allowed, color=INK, linestyle="--", linewidth=0.9, label="its bound")
    for place, name in zip(crossovers["theorem"], crossovers["table"], strict=True):
        axes.axvline(place, color=MARKS[name].colour, linestyle=":", linewidth=0.9, ymax=0.72)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [1, 64, 1024, *sorted(crossovers["theorem"])]
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.set_xlabel(r"$p\theta$ (radians)")
    axes.set_ylabel("largest error (radians)")
    axes.set_title("rounding of angles and of tables", loc="left")
    axes.legend(loc="upper left", fontsize=7, ncols=2)
    axes.set_ylim(1e-8, 1)
