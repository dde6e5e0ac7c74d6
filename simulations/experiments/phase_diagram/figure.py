"""The figure of the phase diagram."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulations.experiment import Drawn, Outcome
from simulations.experiments.phase_diagram.plane import LENGTH, MOVEMENTS, ROWS
from tappa_theory.app.style import GUIDE, INK, PAGE_WIDTH, PATTERN_MARKS, new_figure
from tappa_theory.patterns import PATTERNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR = LENGTH - len(ROWS) // 2
"""The largest distance that enough rows reach to make it a line."""
TITLES = {
    "steady": "queries turn steadily",
    "wandering": "queries wander",
    "about a mean": "queries vary about a mean",
}


def draw(outcome: Outcome) -> Drawn:
    """Three planes, one for each movement: markers are what is seen, areas what is certain."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure = new_figure(PAGE_WIDTH, 4.2)
    axes = figure.subplots(1, len(MOVEMENTS), sharey=True)
    cells, edges = outcome.tables["cells"], outcome.tables["boundaries"]
    shown = []
    for axis, movement in zip(axes, MOVEMENTS, strict=True):
        shown += _plane(axis, movement, cells, edges)
        axis.set_title(TITLES[movement])
    axes[0].set_ylabel("1 − q-similarity (adjacent, before RoPE)")
    axes[1].set_xlabel("frequency of the dominant channel, radians per position")
    handles: list[Any] = [
        Line2D(
            [], [], linestyle="", color=mark.colour, marker=mark.marker, markersize=4, label=name
        )
        for name, mark in PATTERN_MARKS.items()
        if name in shown
    ]
    handles += [
        Line2D(
            [],
            [],
            linestyle="",
            color=INK,
            marker="o",
            markerfacecolor="white",
            markersize=4,
            label="open: foretold wrongly",
        ),
        Patch(
            facecolor=PATTERN_MARKS["re_access"].colour, alpha=0.42, label="certain: bound and gap"
        ),
        Patch(facecolor=PATTERN_MARKS["re_access"].colour, alpha=0.2, label="certain: margins"),
        Patch(facecolor=PATTERN_MARKS["sequential"].colour, alpha=0.35, label="certain: diagonals"),
        Line2D([], [], color=GUIDE, linestyle=":", label="three diagonals fit"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncol=4, handletextpad=0.5)
    return Drawn(
        figure,
        "Phase diagram: q-similarity and dominant frequency",
        caption=(
            f"Pattern of heads of {LENGTH} positions by the frequency of the channel with"
            f" {outcome.conditions['dominant_share']:.0%} of the energy and by adjacent"
            " q-similarity before RoPE, which is exact, for three ways in which queries can move."
            " Filled markers: the pattern is the one foretold from queries and keys alone. Areas:"
            " where a pattern is certain for every such head, from bound (B) and the gap of"
            " the sink, from the margins of each pair of keys, and for diagonals from bound (B)"
            " along them. Right of the dotted line three diagonals one period apart fit in the map."
        ),
        alt=_alt(outcome),
    )


def _plane(
    axis: Axes,
    movement: str,
    cells: Mapping[str, Sequence[Any]],
    edges: Mapping[str, Sequence[Any]],
) -> list[str]:
    """Draw one movement; returns the patterns shown."""
    from matplotlib.ticker import LogLocator, NullFormatter

    names = ("frequency", "one_minus_q_similarity", "observed", "predicted")
    places: dict[tuple[float, float], list[tuple[str, bool]]] = {}
    for kind, x, y, observed, predicted in zip(
        cells["movement"], *(cells[name] for name in names), strict=True
    ):
        if kind == movement:
            places.setdefault((x, y), []).append((observed, observed == predicted))
    frequencies = np.array(sorted({x for x, _ in places}))
    lowest = min(y for _, y in places)
    step = float(np.sqrt(frequencies[1] / frequencies[0]))
    for by, pattern, alpha in (
        ("margins", "re_access", 0.2),
        ("bounds", "re_access", 0.42),
        ("diagonals", "sequential", 0.35),
    ):
        for kind, name, x, y in zip(
            edges["movement"],
            edges["certified_by"],
            edges["frequency"],
            edges["certified"],
            strict=True,
        ):
            if (kind, name) == (movement, by):
                axis.fill_between(
                    [x / step, x * step],
                    lowest / 4,
                    y,
                    color=PATTERN_MARKS[pattern].colour,
                    alpha=alpha,
                    linewidth=0,
                )
    for pattern in PATTERNS:
        mark = PATTERN_MARKS[pattern]
        for right in (True, False):
            here = [
                place
                for place, heads in places.items()
                if _commonest(heads)[0] == pattern and _commonest(heads)[1] == right
            ]
            if here:
                x, y = np.array(here).T
                axis.scatter(
                    x,
                    y,
                    s=13,
                    marker=mark.marker,
                    facecolors=mark.colour if right else "white",
                    edgecolors=mark.colour,
                    linewidths=0.7,
                    zorder=3,
                )
    # Lines at 0, one and two periods make three of them.
    axis.axvline(2 * 2 * np.pi / FAR, color=GUIDE, linestyle=":", linewidth=1.0, zorder=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(lowest / 4, 2)
    axis.set_xlim(frequencies[0] / step**1.5, frequencies[-1] * step**1.5)
    axis.yaxis.set_major_locator(LogLocator(base=100, numticks=12))
    axis.yaxis.set_minor_formatter(NullFormatter())
    return [_commonest(heads)[0] for heads in places.values()]


def _commonest(heads: list[tuple[str, bool]]) -> tuple[str, bool]:
    """The pattern that most heads of a place show, and whether it was foretold on one of them."""
    pattern = Counter(name for name, _ in heads).most_common(1)[0][0]
    return pattern, any(right for name, right in heads if name == pattern)


def _alt(outcome: Outcome) -> str:
    cells = outcome.tables["cells"]
    parts = []
    for movement in MOVEMENTS:
        counts = Counter(
            name
            for kind, name in zip(cells["movement"], cells["observed"], strict=True)
            if kind == movement
        )
        told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        parts.append(f"{movement}: {told}")
    return (
        f"{len(MOVEMENTS)} scatter plots of patterns over dominant frequency and 1 less"
        f" q-similarity, both logarithmic. Heads by pattern: {'; '.join(parts)}. {outcome.finding}"
    )
