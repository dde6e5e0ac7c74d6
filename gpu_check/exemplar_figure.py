"""The figure of one real head per observed pattern, with what was predicted drawn over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpu_check.figure_parts import FAINTEST, Check, Drawing, Maps, handle, line_handle, say
from gpu_check.over_texts import Entry, text_count
from tappa_theory.app.style import (
    COLUMN_WIDTH,
    GUIDE,
    PAGE_WIDTH,
    PATTERN_MARKS,
    new_figure,
    number_text,
    share_text,
)
from tappa_theory.patterns import PATTERNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXEMPLAR_CELLS = 128
"""Cells of a drawn attention map per side: few enough that a column one key wide can be seen."""
ZOOM = 64
"""Last positions that the inset of an exemplar shows."""
LINES_DRAWN = 3
"""Predicted columns and offsets drawn, at most; all would hide the map."""


def exemplars(check: Check, maps: Maps) -> Drawing:
    """One real head per observed pattern, its predicted features drawn over its attention map."""
    entries = check["exemplars"]
    shown = [entry["pattern"] for entry in entries]
    absent = [name for name in PATTERNS if name not in shown]
    across = min(max(len(entries), 1), 3)
    down = -(-max(len(entries), 1) // across)
    # A row: a map, which is square, under its title of three lines and over its axis.
    figure = new_figure(
        PAGE_WIDTH if across > 1 else COLUMN_WIDTH, 2.35 * down + 0.3 if entries else 0.8
    )
    # Square maps leave room between them that only this engine closes.
    figure.set_layout_engine("compressed")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    several = text_count(check) > 1
    texts = []
    for axes, entry in zip(panels, entries, strict=False):
        place = _place(entry, several)
        image = _exemplar(axes, entry, place, maps[entry["map"]], handles)
        texts.append(_exemplar_text(entry, place, _head_of(check, entry)))
    for axes in panels[max(len(entries), 1) :]:
        axes.set_axis_off()
    if not entries:
        panels[0].set_axis_off()
        say(panels[0], "no head has an observed pattern")
    else:
        bar = figure.colorbar(image, ax=list(panels), shrink=0.8, pad=0.01, extend="min")
        bar.set_label("attention (share of a row)")
        bar.outline.set_visible(False)
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles)
        )
    missing = f" Shown by no head: {', '.join(absent)}." if absent else ""
    of_all = " of all heads and texts" if several else ""
    caption = (
        f"For each observed pattern the head that shows it most clearly{of_all}; the colour of a"
        f" cell is its largest entry, insets show the last {ZOOM} positions. Drawn over it, where"
        f" predicted from queries, keys and RoPE alone: at most {LINES_DRAWN} columns and offsets"
        f" t - i, spacing and lag. {' '.join(texts)}{missing}"
    )
    alt = f"Attention maps of {len(entries)} heads. {' '.join(texts)}{missing}"
    return figure, "One real head per observed pattern", caption, alt


def _exemplar(
    axes: Axes, entry: Entry, place: str, attention: np.ndarray, handles: dict[str, Any]
) -> Any:
    block, length = entry["block"], entry["block"] * len(attention)
    coarse = _coarser(attention)
    image = _draw_map(axes, coarse, (0, length))
    axes.set_title(
        f"{place}\nobserved: {entry['pattern']}\npredicted: {entry['predicted']}",
        loc="left",
        fontsize=7,
        parse_math=False,
    )
    axes.set_xlabel("key position i")
    axes.set_ylabel("query position t")
    axes.set_aspect("equal")
    _draw_features(axes, entry, (0, length), handles)
    # A column at key 0 must not be hidden by the axis.
    axes.set_xlim(-0.02 * length, length)
    cells = ZOOM // block
    zoomed = attention[len(attention) - cells :, len(attention) - cells :]
    if cells >= 8 and len(attention) > 3 * cells and zoomed.max() >= FAINTEST:
        inset = axes.inset_axes((0.52, 0.52, 0.48, 0.48))
        start = length - cells * block
        _draw_map(inset, zoomed, (start, length))
        _draw_features(inset, entry, (start, length), handles)
        inset.set_xticks([])
        inset.set_yticks([])
        for spine in inset.spines.values():
            spine.set_visible(True)
            spine.set_linewidth(0.5)
            spine.set_color(GUIDE)
    return image


def _coarser(attention: np.ndarray) -> np.ndarray:
    """The map with at most EXEMPLAR_CELLS cells per side, each the largest entry under it."""
    step = -(-len(attention) // EXEMPLAR_CELLS)
    side = -(-len(attention) // step)
    padded = np.zeros((side * step, side * step), dtype=attention.dtype)
    padded[: len(attention), : len(attention)] = attention
    return padded.reshape(side, step, side, step).max(axis=(1, 3))


def _draw_map(axes: Axes, attention: np.ndarray, span: tuple[int, int]) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    start, stop = span
    rows, columns = np.indices(attention.shape)
    shown = np.ma.masked_array(np.maximum(attention, FAINTEST / 10), mask=columns > rows)
    image = axes.imshow(
        shown,
        extent=(start - 0.5, stop - 0.5, stop - 0.5, start - 0.5),
        cmap=colormaps["Greys"],
        norm=LogNorm(FAINTEST, 1.0),
    )
    axes.set_xlim(start - 0.5, stop - 0.5)
    axes.set_ylim(stop - 0.5, start - 0.5)
    return image


def _draw_features(
    axes: Axes, entry: Entry, span: tuple[int, int], handles: dict[str, Any]
) -> None:
    """The predicted lines of a head that fall into the positions `span` of an attention map."""
    start, stop = span
    reach = stop - start
    # A feature has the colour of the pattern that it makes.
    column_colour = PATTERN_MARKS["re_access"].colour
    offset_colour = PATTERN_MARKS["sequential"].colour
    spacing_colour = PATTERN_MARKS["periodic_sequential"].colour
    lag_colour = PATTERN_MARKS["seasonal"].colour
    for column in entry["columns"][:LINES_DRAWN]:
        if start <= column < stop:
            axes.plot(
                [column], [1.0], marker="v", markersize=4, color=column_colour, clip_on=False,
                transform=axes.get_xaxis_transform(), linestyle="none",
            )  # fmt: skip
            axes.axvline(column, color=column_colour, linewidth=0.6, linestyle=(0, (3, 7)))
            handles["predicted column"] = handle("v", column_colour, column_colour)
    for offset in entry["offsets"][:LINES_DRAWN]:
        if offset < reach:
            axes.plot(
                [start, stop - offset], [start + offset, stop], color=offset_colour,
                linewidth=0.6, linestyle=(0, (4, 4)),
            )  # fmt: skip
            handles["predicted offset t - i"] = line_handle(offset_colour, "--")
    spacing = entry["spacing"]
    if spacing is not None and spacing > 0:
        first = min(entry["offsets"], default=0)
        for step in range(1, LINES_DRAWN + 1):
            offset = first + step * spacing
            if offset < reach:
                axes.plot(
                    [start, stop - offset], [start + offset, stop], color=spacing_colour,
                    linewidth=0.6, linestyle=":",
                )  # fmt: skip
                handles["predicted spacing"] = line_handle(spacing_colour, ":")
    lag = entry["lag"]
    if lag is not None and lag < reach:
        middle = start + (reach - lag) / 2
        axes.annotate(
            "", (start + reach * 0.06, middle + lag), (start + reach * 0.06, middle),
            arrowprops={
                "arrowstyle": "<->", "color": lag_colour, "linewidth": 1.2,
                "shrinkA": 0, "shrinkB": 0, "mutation_scale": 5,
            },
        )  # fmt: skip
        handles["predicted lag"] = line_handle(lag_colour, "-")


def _place(entry: Entry, several: bool) -> str:
    text = f", text {entry.get('text', 0)}" if several else ""
    return f"layer {entry['layer']}, head {entry['head']}{text}"


def _exemplar_text(entry: Entry, place: str, head: Entry) -> str:
    scores = head.get("pattern_scores") or {}
    seen, expected = scores.get("observed") or {}, scores.get("predicted") or {}
    shares = ", ".join(
        f"{name} {share_text(seen.get(name))} (predicted {share_text(expected.get(name))})"
        for name in ("column", "diagonal", "season")
    )
    similarity = (head.get("q_similarity") or {}).get("adjacent_pre")
    extra = "".join(
        f", predicted {name} {number_text(entry[name])} positions"
        for name in ("spacing", "lag")
        if entry[name] is not None
    )
    return (
        f"{entry['pattern']}, {place}: attention on {shares};"
        f" q_similarity.adjacent_pre {number_text(similarity)}; predicted pattern"
        f" {entry['predicted']}{extra}."
    )


def _head_of(check: Check, exemplar: Entry) -> Entry:
    """The head on the text that the exemplar shows."""

    def place(entry: Entry) -> tuple[int, int, int]:
        return entry.get("text", 0), entry["layer"], entry["head"]

    return next((head for head in check["heads"] if place(head) == place(exemplar)), {})
