"""The figure of experiment `lifetimes`."""

from __future__ import annotations

from typing import Any

from simulations.experiment import Drawn, Outcome, Row, rows
from simulations.experiments.lifetimes.measures import (
    BASE,
    CHANNELS,
    HEAD_DIM,
    HORIZON,
    HORIZONS,
    KEPT_SHARE,
    KINDS,
    SPREAD,
    mean,
    where,
)
from tappa_theory.app.style import GUIDE, INK, KEY_COLOUR, PAGE_WIDTH, QUERY_COLOUR, new_figure


def draw(outcome: Outcome) -> Drawn:
    heads, later = (rows(outcome.tables[name]) for name in ("heads", "reuse"))
    figure = new_figure(PAGE_WIDTH, 3.1)
    left, middle, right = figure.subplots(1, 3)
    _draw_lifetimes(left, heads)
    _draw_shares(middle, heads)
    _draw_reuse(right, where(later, channels="slow", kind="smooth"))
    titles = "lifetime", "channels, drift", "attention, steps later"
    for axes, title in zip((left, middle, right), titles, strict=True):
        axes.grid(color="#e4e4e4", linewidth=0.4)
        axes.set_axisbelow(True)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.2, 1.0), ncols=2, columnspacing=1.0,
            handlelength=1.6, title=title, title_fontsize=7, alignment="left",
            handletextpad=0.5, borderaxespad=0.2,
        )  # fmt: skip
    conditions = outcome.conditions
    caption = (
        f"Certificates against what happened: {conditions['heads']} synthetic heads of length"
        f" {conditions['length']}, head size {HEAD_DIM}, base {BASE:g}, unrelated random keys,"
        f" logits of a row with standard deviation {SPREAD:g}; queries drift smoothly or in"
        " independent steps, with energy on the slower half of the channels or on all of them."
        " Points are means over heads. Left: steps for which the top key of a row stays on top"
        f" among the keys of the row, at most {HORIZON}, against the step of the query after RoPE"
        " over its norm; certified by channels, by angle and by norms (theorem lifetime). Middle:"
        " share of the rows certified for a step or more by angle, against 1 less the adjacent"
        f" q-similarity before RoPE. Right: attention on the {1 - KEPT_SHARE:.0%} of the keys that"
        f" were attended least, {HORIZONS[0]} and {HORIZONS[-1]} steps later, on slow channels"
        " under smooth drift, and its certificates (theorem kv_reuse) from the measured oscillation"
        " and a priori."
    )
    alt = (
        "Left: certified and observed lifetimes against the step of the query. Middle: the share"
        " of rows with a certificate against the similarity, for slow and for all channels. Right:"
        " attention on discarded keys and its two certificates against the similarity."
        f" {outcome.finding}"
    )
    return Drawn(figure, "Lifetimes and KV reuse: certified and observed", caption, alt)


def _levels(entries: list[Row]) -> list[list[Row]]:
    """The entries of every similarity that was set, from the least on."""
    levels = sorted({entry["similarity_set"] for entry in entries})
    return [where(entries, least=level, most=level) for level in levels]


def _draw_lifetimes(axes: Any, heads: list[Row]) -> None:
    cells = [
        cell
        for channels in CHANNELS
        for kind in KINDS
        for cell in _levels(where(heads, channels=channels, kind=kind))
    ]
    step = [mean(cell, "step") for cell in cells]
    for name, colour, marker, label in (
        ("observed_old", GUIDE, "o", "observed"),
        ("certified_channels", KEY_COLOUR, "x", "by channels"),
        ("certified_angle", QUERY_COLOUR, "o", "by angle"),
        ("certified_norms", INK, "+", "by norms"),
    ):
        axes.plot(
            step, [mean(cell, name) for cell in cells], marker, color=colour, label=label,
            markersize=4, markeredgewidth=0.7, clip_on=False,
            markerfacecolor=colour if name == "observed_old" else "none",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
    axes.set_ylim(0, HORIZON * 1.2)
    axes.set_yticks([0, 0.1, 1, 10, HORIZON], ["0", "0.1", "1", "10", str(HORIZON)])
    axes.minorticks_off()
    axes.set_xlabel("query step / its norm, after RoPE")
    axes.set_ylabel("lifetime of the top key (steps)", labelpad=2)


def _draw_shares(axes: Any, heads: list[Row]) -> None:
    for channels, colour in zip(CHANNELS, (QUERY_COLOUR, KEY_COLOUR), strict=True):
        for kind, style, marker in zip(KINDS, ("-", "--"), "os", strict=True):
            levels = _levels(where(heads, channels=channels, kind=kind))
            axes.plot(
                _unlike(levels), [mean(level, "share_angle") for level in levels], style,
                color=colour, marker=marker, markersize=3, label=f"{channels}, {kind}",
                clip_on=False,
            )  # fmt: skip
    axes.axhline(0.5, color=GUIDE, linewidth=0.6, linestyle=":")
    axes.set_ylim(0, 1)
    _similarity_axis(axes)
    axes.set_ylabel("rows certified for a step (share)")


def _draw_reuse(axes: Any, later: list[Row]) -> None:
    for step, style, marker in ((HORIZONS[0], "-", "o"), (HORIZONS[-1], "--", "s")):
        levels = _levels(where(later, horizon=step))
        for name, colour, label in (
            ("observed", GUIDE, "observed"),
            ("measured", QUERY_COLOUR, "measured ω"),
            ("a_priori", KEY_COLOUR, "a priori ω"),
        ):
            axes.plot(
                _unlike(levels), [mean(level, name) for level in levels], style, color=colour,
                marker=marker, markersize=3, label=f"{label}, {step}", clip_on=False,
            )  # fmt: skip
    axes.set_ylim(0, 1)
    _similarity_axis(axes)
    axes.set_ylabel("attention on discarded keys")


def _unlike(levels: list[list[Row]]) -> list[float]:
    return [1 - level[0]["similarity_set"] for level in levels]


def _similarity_axis(axes: Any) -> None:
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xlabel("1 − q-similarity, before RoPE")
