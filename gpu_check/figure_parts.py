"""What the figures of a check share: reading numbers, axes, legends and words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tappa_theory.app.style import GUIDE, INK, PATTERN_MARKS, number_text
from tappa_theory.patterns import PATTERNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Check = dict[str, Any]
Maps = dict[str, np.ndarray]
Drawing = tuple["Figure", str, str, str]
"""A figure, its title, its caption and what a reader who sees nothing is told."""

FAINTEST = 1e-4
"""Smallest share of attention or energy that has a colour of its own."""
CORNER: Any = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, -0.5)]
"""The marker of a cell's lower right corner."""
DECADES = 3
"""Decades that a logarithmic axis shows, at most; what lies below is drawn at its edge."""


def values(entries: list[dict[str, Any]], path: str) -> np.ndarray:
    """(len(entries),) float64: the number at a dotted path of every entry, NaN where it is null."""
    found = []
    for entry in entries:
        value: Any = entry
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        found.append(np.nan if value is None else float(value))
    return np.array(found, dtype=np.float64)


def whole_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    if axes.get_ylabel() == "head":
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))


def pattern_legend(
    figure: Figure, observed: list[str | None], scatter: bool, differing: int = 0
) -> None:
    """Marks and counts of the patterns; differing: heads whose texts show different ones."""
    present = [name for name in PATTERNS if name in observed]
    if not present:
        return
    handles = []
    for name in present:
        mark = PATTERN_MARKS[name]
        handles.append(
            handle(mark.marker, mark.colour, "none")
            if scatter
            else handle(mark.marker, "white", mark.colour, patch=mark.colour)
        )
    labels = [f"{name} ({observed.count(name)})" for name in present]
    if differing:
        handles.append(handle("o", "none", INK) if scatter else handle(CORNER, "white", GUIDE))
        labels.append(f"differs between texts ({differing})")
    columns = len(labels) if len(labels) <= len(PATTERNS) else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def handle(marker: Any, face: str, edge: str, patch: str | None = None) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    point = Line2D(
        [], [], linestyle="none", marker=marker, markersize=4.5, markerfacecolor=face,
        markeredgecolor=edge, markeredgewidth=0.6,
    )  # fmt: skip
    return point if patch is None else (Patch(facecolor=patch), point)


def line_handle(colour: str, style: Literal["-", "--", ":"], outline: str | None = None) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import Normal, Stroke

    line = Line2D([], [], color=colour, linestyle=style, linewidth=1.0)
    if outline is not None:
        line.set_path_effects([Stroke(linewidth=2.2, foreground=outline), Normal()])
    return line


def say(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GUIDE,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 3},
    )  # fmt: skip


def positive(*columns: np.ndarray) -> np.ndarray:
    """(n,) bool: where every column is a number above zero, as a logarithmic axis needs."""
    return np.logical_and.reduce([np.isfinite(c) & (np.nan_to_num(c) > 0) for c in columns])


def log_range(numbers: np.ndarray) -> tuple[float, float]:
    """Ends of a logarithmic axis around the numbers that lie at most DECADES below the largest."""
    if not numbers.size:
        return 0.1, 10.0
    near = numbers[numbers >= numbers.max() / 10**DECADES]
    return float(near.min()) / 1.6, float(near.max()) * 1.6


def log_axes(axes: Axes) -> None:
    """Logarithmic axes with few ticks, labelled as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        narrow = high / low < 50
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color="#e4e4e4", linewidth=0.4)
    axes.set_axisbelow(True)


def edge_text(count: int) -> str:
    return f" {count} points below the axes are drawn at their edge." if count else ""


def range_text(numbers: np.ndarray) -> str:
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return "no values"
    low, mean, high = (number_text(float(v)) for v in (finite.min(), finite.mean(), finite.max()))
    return f"mean {mean}, from {low} to {high}"


def counts_text(observed: list[str | None]) -> str:
    return ", ".join(f"{name} {observed.count(name)}" for name in PATTERNS)
