"""The figures of what the numbers depend on: the text, and the model's precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpu_check.figure_parts import Check, Drawing, handle, line_handle, say
from tappa_theory.app.style import (
    GUIDE,
    INK,
    KEY_COLOUR,
    PAGE_WIDTH,
    QUERY_COLOUR,
    THEOREM_MARKS,
    digits_text,
    new_figure,
    number_text,
    share_text,
)
from tappa_theory.theorems import SHIFT_THEOREMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_TEXTS = 8
"""Texts up to which their dots are large."""

SPREAD_PANELS = (
    ("pattern prediction", "share; kappa", ("agreement", "cohen_kappa")),
    (
        "similarity",
        "cosine; share",
        ("q_similarity.adjacent_pre", "k_similarity.adjacent_pre", "predictability"),
    ),
    (
        "drift against drift.kl",
        "rank correlation",
        ("drift.spearman_cosine_kl", "drift.spearman_key_metric_kl"),
    ),
)
"""Title, axis and numbers of the panels over the heads."""

THEOREM_PANELS = (
    ("hypotheses_met_heads", "heads"),
    ("informative", "share of pairs"),
    ("max_ratio", "observed / bound"),
)
"""Number and axis of the panels by theorem."""


def spread(check: Check) -> Drawing | None:
    """The headline numbers text by text with their means; None if there are no texts to compare."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    found = check["summary"].get("spread")
    if not found:
        return None
    numbers = found["numbers"]
    figure = new_figure(PAGE_WIDTH, 4.1)
    above, below = figure.subfigures(2, 1, squeeze=False).ravel()
    panels = above.subplots(1, 3)
    for axes, (title, unit, names) in zip(panels, SPREAD_PANELS, strict=True):
        by_text = [numbers.get(name, {}).get("by_text", []) for name in names]
        _texts_panel(axes, title, unit, by_text, [_colour(name) for name in names], top=1.0)
        labels = [name.replace(".", ".\n").replace("spearman_", "spearman_\n") for name in names]
        axes.set_yticks(range(len(names)), labels, fontsize=6.5, parse_math=False)
    panels = below.subplots(1, 3, sharey=True)
    colours = [THEOREM_MARKS[name].colour for name in SHIFT_THEOREMS]
    for axes, (key, unit) in zip(panels, THEOREM_PANELS, strict=True):
        by_text = [numbers.get(f"{name}.{key}", {}).get("by_text", []) for name in SHIFT_THEOREMS]
        _texts_panel(axes, key, unit, by_text, colours, top=1.0 if key == "max_ratio" else None)
        axes.set_yticks(range(len(SHIFT_THEOREMS)), SHIFT_THEOREMS, fontsize=6.5)
    panels[1].xaxis.set_major_locator(MaxNLocator(4))
    panels[1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    figure.legend(
        [handle("o", GUIDE, "white"), line_handle(INK, "-")],
        ["one text", "mean over the texts"],
        loc="outside lower center",
        ncols=2,
    )
    told = "; ".join(
        f"{name} {number_text(entry['mean'])} ({number_text(entry['min'])} to"
        f" {number_text(entry['max'])}, standard deviation {number_text(entry['std'])})"
        for name, entry in numbers.items()
        if name.split(".")[0] not in SHIFT_THEOREMS
    )
    stable = (
        f"The same in every text: observed pattern on {share_text(found['observed_stable'])} of the"
        f" heads, predicted pattern on {share_text(found['predicted_stable'])}."
    )
    text = f"Means over {found['texts']} texts (lowest to highest): {told}. {stable}"
    return (
        figure,
        "What the numbers depend on: the text",
        "Each dot is a number over all heads on one text; within a row the texts follow each other"
        f" from top to bottom. {text}",
        f"Six panels of dots, one per text. {text}",
    )


def precision(check: Check) -> Drawing | None:
    """Differences of the heads' numbers from those in the reference dtype; None if not measured."""
    found = check.get("precision")
    if not found or "differences" not in found:
        return None
    differences = found["differences"]
    figure = new_figure(PAGE_WIDTH, 3.6)
    panels = figure.subplots(2, 2).ravel()
    plain = [name for name in differences if name.split(".")[0] not in SHIFT_THEOREMS]
    cosines = [name for name in plain if "_similarity" in name]
    others = {"predictability": "predictability\n(share)", "drift.kl": "drift.kl\n(nats)"}
    shown = (
        ("similarity", "|difference| of cosines", {name: name for name in cosines}),
        ("predictability and drift", "|difference|", others),
        *(
            (key, f"|difference| of {unit}", {f"{name}.{key}": name for name in SHIFT_THEOREMS})
            for key, unit in (("max_ratio", "ratios"), ("informative", "shares of pairs"))
        ),
    )
    zeros = 0
    for axes, (title, unit, names) in zip(panels, shown, strict=True):
        parts = [differences.get(name) or {} for name in names]
        zeros += _differences_panel(axes, parts, [_colour(name) for name in names])
        axes.set_title(title, loc="left")
        axes.set_xlabel(unit)
        axes.set_yticks(range(len(names)), list(names.values()), fontsize=6.5, parse_math=False)
        axes.set_ylim(len(names) - 0.5, -0.5)
    figure.legend(
        [handle("o", GUIDE, GUIDE), handle("o", "white", GUIDE)],
        ["median of the heads", "largest of the heads"],
        loc="outside lower center",
        ncols=2,
    )
    loss, angle = found.get("loss") or {}, found.get("angle_deviation") or {}
    similarity = differences.get("q_similarity.adjacent_pre") or {}
    text = (
        f"The observed pattern differs on {number_text(found['observed_changed'])} of"
        f" {number_text(found['heads'])} heads, the predicted on"
        f" {number_text(found['predicted_changed'])}; q_similarity.adjacent_pre by"
        f" {number_text(similarity.get('median'))} (median), {number_text(similarity.get('max'))}"
        f" (largest); loss {digits_text(loss.get('dtype'))} against"
        f" {digits_text(loss.get('reference'))} nats per token; largest angle deviation"
        f" {number_text(angle.get('dtype'))} against {number_text(angle.get('reference'))} radians."
    )
    edge = f" Differences of zero ({zeros}) are drawn at the left edge." if zeros else ""
    return (
        figure,
        "What the numbers depend on: the model's precision",
        f"Absolute differences, head by head, between the model in {found['dtype']} and the same"
        f" weights in {found['reference']}, both on text {found.get('text', 0)}. {text}{edge}",
        f"Four panels of dots on logarithmic axes. {text}",
    )


def _colour(name: str) -> str:
    """Of a number: queries, keys, a theorem, or none of them."""
    start = name.split(".")[0]
    if start in SHIFT_THEOREMS:
        return THEOREM_MARKS[start].colour
    return {"q_similarity": QUERY_COLOUR, "k_similarity": KEY_COLOUR}.get(start, GUIDE)


def _texts_panel(
    axes: Axes,
    title: str,
    unit: str,
    rows: list[list[float | None]],
    colours: list[str],
    top: float | None,
) -> None:
    """A row of dots per number; the axis reaches from zero, or the lowest dot, to `top`."""
    every = [number for row in rows for number in row if number is not None]
    for place, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        there = [(index, number) for index, number in enumerate(row) if number is not None]
        if not there:
            axes.text(0.02, place, "n/a", transform=axes.get_yaxis_transform(), va="center")
            continue
        heights = np.linspace(-0.28, 0.28, len(row)) if len(row) > 1 else np.zeros(1)
        numbers = np.array([number for _, number in there])
        axes.vlines(numbers.mean(), place - 0.38, place + 0.38, color=INK, linewidth=1.0)
        axes.scatter(
            numbers, place + heights[[index for index, _ in there]], color=colour,
            s=16 if len(row) <= FEW_TEXTS else 6, edgecolors="white", linewidths=0.3,
            clip_on=False, zorder=3,
        )  # fmt: skip
    low = min([0.0, *every])
    high = max([low, *every]) * 1.05 or 1.0
    axes.set_xlim(low * 1.05, high if top is None else max(top, high / 1.05))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(title, loc="left")
    axes.set_xlabel(unit)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.4)
    axes.set_axisbelow(True)


def _differences_panel(axes: Axes, parts: list[dict[str, float | None]], colours: list[str]) -> int:
    """A row per number from its median to its largest difference; the number of zeros."""
    from matplotlib.ticker import LogLocator, NullFormatter

    every = [part[key] for part in parts for key in ("median", "max") if part.get(key) is not None]
    above = [number for number in every if number]
    # Whole decades, so that there are at least two ticks.
    low = 10.0 ** np.floor(np.log10(min(above, default=1e-8) / 1.5))
    high = 10.0 ** np.ceil(np.log10(max(above, default=1e-6) * 1.5))
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_minor_formatter(NullFormatter())
    for place, (part, colour) in enumerate(zip(parts, colours, strict=True)):
        median, largest = part.get("median"), part.get("max")
        if median is None or largest is None:
            axes.text(0.02, place, "n/a", transform=axes.get_yaxis_transform(), va="center")
            continue
        ends = np.maximum([median, largest], low)
        axes.plot(ends, [place, place], color=colour, linewidth=0.8)
        for end, face in zip(ends, (colour, "white"), strict=True):
            axes.plot(
                [end], [place], marker="o", markersize=4, markerfacecolor=face,
                markeredgecolor=colour, markeredgewidth=0.8, clip_on=False, zorder=3,
            )  # fmt: skip
    if not every:
        say(axes, "no values")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.4)
    axes.set_axisbelow(True)
    return len(every) - len(above)
