"""The figure of the gallery: logits and attention of one head each, what was foretold over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simulations.experiment import Drawn, Outcome
from tappa_theory.app.style import COLOUR_MAP, PAGE_WIDTH, PATTERN_MARKS, new_figure, number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 4
FAINTEST = 1e-4
"""Attention that is drawn white."""
LINES_DRAWN = 3
"""Foretold columns and offsets that are drawn, at most; all would hide the map."""

COLOURS = {
    "column": PATTERN_MARKS["re_access"].colour,
    "offset": PATTERN_MARKS["sequential"].colour,
    "spacing": PATTERN_MARKS["periodic_sequential"].colour,
    "lag": PATTERN_MARKS["seasonal"].colour,
}
"""A feature has the colour of the pattern that it makes."""


def draw(outcome: Outcome) -> Drawn:
    """For each head a map of logits above a map of attention; the last place explains."""
    table = outcome.tables["features"]
    names = list(dict.fromkeys(table["head"]))
    down = -(-(len(names) + 1) // ACROSS)
    figure = new_figure(PAGE_WIDTH, 3.45 * down)
    # Square maps leave room between them that only this engine closes.
    figure.set_layout_engine("compressed")
    panels = figure.subplots(2 * down, ACROSS, squeeze=False)
    told = []
    for number, name in enumerate(names):
        row, column = 2 * (number // ACROSS), number % ACROSS
        features = [
            (feature, value)
            for head, feature, value in zip(
                table["head"], table["feature"], table["position"], strict=True
            )
            if head == name
        ]
        of_logits, of_attention = panels[row, column], panels[row + 1, column]
        scores = _logits(of_logits, outcome.arrays[f"logits_{name}"])
        shares = _attention(of_attention, outcome.arrays[f"attention_{name}"])
        _features(of_attention, features, outcome.conditions["length_drawn"])
        of_logits.set_title(name, loc="left", parse_math=False)
        of_attention.set_xlabel("key position i")
        if column == 0:
            for axes in (of_logits, of_attention):
                axes.set_ylabel("query position t")
        told.append(_told(outcome, name, features))
    empty = [panel for row in range(0, 2 * down, 2) for panel in _unused(panels, row, len(names))]
    for axes in empty:
        axes.set_axis_off()
    _keys(figure, empty[-2:], scores, shares)
    return Drawn(
        figure,
        "Patterns made on purpose",
        caption=(
            f"One head per generator at its default dials, {outcome.conditions['length_drawn']}"
            " positions. Upper maps: logits, each map on its own scale, whose ends are written in"
            " it. Lower maps: attention, and over it what was foretold from queries, keys and RoPE"
            f" without a logit: at most {LINES_DRAWN} columns and offsets, spacing of diagonals and"
            f" season. {' '.join(told)}"
        ),
        alt=f"Maps of logits and of attention of {len(names)} synthetic heads. {' '.join(told)}",
    )


def _unused(panels: np.ndarray, row: int, count: int) -> list[Any]:
    first = row // 2 * ACROSS
    return [
        panels[row + half, column]
        for column in range(ACROSS)
        if first + column >= count
        for half in (0, 1)
    ]


def _map(axes: Axes, values: np.ndarray, **how: Any) -> Any:
    rows, keys = np.indices(values.shape)
    image = axes.imshow(np.ma.masked_array(values, mask=keys > rows), **how)
    length = len(values)
    axes.set_xticks(np.arange(0, length, 50))
    axes.set_yticks(np.arange(0, length, 50))
    # arrows and the column of key 0 must not lie on the axis
    axes.set_xlim(-0.07 * length, length - 0.5)
    axes.set_ylim(length - 0.5, -0.5)
    return image


def _logits(axes: Axes, values: np.ndarray) -> Any:
    visible = values[np.tril_indices(len(values))]
    image = _map(axes, values, cmap=COLOUR_MAP, vmin=visible.min(), vmax=visible.max())
    axes.tick_params(labelbottom=False)
    ends = f"{visible.min():.0f} to {visible.max():.0f}".replace("-", "−")
    axes.text(0.97, 0.95, ends, transform=axes.transAxes, ha="right", va="top", fontsize=7)
    return image


def _attention(axes: Axes, values: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm

    shown = np.maximum(values, FAINTEST / 10)
    return _map(axes, shown, cmap="Greys", norm=LogNorm(FAINTEST, 1.0))


def _features(axes: Axes, features: list[tuple[str, float]], length: int) -> None:
    """The foretold lines over a map of attention."""
    of = {kind: [value for name, value in features if name == kind] for kind in COLOURS}
    for column in of["column"][:LINES_DRAWN]:
        axes.plot(
            column, 1.0, marker="v", markersize=5, color=COLOURS["column"], clip_on=False,
            transform=axes.get_xaxis_transform(), zorder=5,
        )  # fmt: skip
        axes.axvline(column, color=COLOURS["column"], linewidth=1.0, linestyle=(0, (3, 5)))
    for offset in of["offset"][:LINES_DRAWN] if not of["spacing"] else ():
        _diagonal(axes, offset, length, COLOURS["offset"], (0, (3, 4)))
    for spacing in of["spacing"]:
        for step in range(1, int((length - 1) // spacing) + 1):
            _diagonal(axes, step * spacing, length, COLOURS["spacing"], (0, (1, 1.5)))
    for lag in of["lag"]:
        start = length * 0.55
        for number in range(2):
            axes.annotate(
                "", (-0.03 * length, start + (number + 1) * lag),
                (-0.03 * length, start + number * lag), annotation_clip=False,
                arrowprops={
                    "arrowstyle": "<->", "color": COLOURS["lag"], "linewidth": 1.3,
                    "shrinkA": 0, "shrinkB": 0, "mutation_scale": 5,
                },
            )  # fmt: skip


def _diagonal(axes: Axes, offset: float, length: int, colour: str, style: Any) -> None:
    from matplotlib.patheffects import Normal, Stroke

    axes.plot(
        (0, length - 1 - offset), (offset, length - 1), color=colour, linewidth=1.2,
        linestyle=style, path_effects=[Stroke(linewidth=2.2, foreground="white"), Normal()],
    )  # fmt: skip


def _keys(figure: Figure, places: list[Any], scores: Any, shares: Any) -> None:
    """Colour bars and the meaning of the lines, in the two places that are left."""
    from matplotlib.lines import Line2D

    upper, lower = places
    bar = figure.colorbar(
        scores, cax=upper.inset_axes((0.05, 0.8, 0.8, 0.07)), orientation="horizontal"
    )
    low, high = scores.get_clim()
    bar.set_ticks([low, high], labels=["smallest", "largest"])
    bar.set_label("logit")
    bar = figure.colorbar(
        shares, cax=upper.inset_axes((0.05, 0.2, 0.8, 0.07)), orientation="horizontal"
    )
    bar.set_ticks([1e-4, 1e-2, 1.0], labels=["0.0001", "0.01", "1"])
    bar.set_label("attention (share of a row)")
    line: dict[str, Any] = {"linewidth": 1.2}
    handles = [
        Line2D([], [], marker="v", color=COLOURS["column"], linestyle="--", label="column", **line),
        Line2D([], [], color=COLOURS["offset"], linestyle="--", label="offset t − i", **line),
        Line2D([], [], color=COLOURS["spacing"], linestyle=":", label="spacing", **line),
        Line2D([], [], color=COLOURS["lag"], linestyle="-", label="season", **line),
    ]
    legend = lower.legend(handles=handles, loc="upper left", title="foretold")
    legend.set_alignment("left")


def _told(outcome: Outcome, name: str, features: list[tuple[str, float]]) -> str:
    table = outcome.tables["features"]
    place = list(table["head"]).index(name)
    intended, observed, predicted = (
        table[key][place] for key in ("intended", "observed", "predicted")
    )
    words = []
    for kind, unit in (("column", "key"), ("offset", "distance"), ("spacing", ""), ("lag", "")):
        values = [number_text(value) for named, value in features if named == kind]
        if values:
            shown = ", ".join(values[:LINES_DRAWN]) + (" ..." if len(values) > LINES_DRAWN else "")
            words.append(" ".join(part for part in (kind, unit, shown) if part))
    foretold = f" ({'; '.join(words)})" if words else ""
    return f"{name}: intended {intended}, observed {observed}, predicted {predicted}{foretold}."
