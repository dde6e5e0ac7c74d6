"""The figure of what the theory says of later rows: lifetimes, discarded keys, divergence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpu_check.figure_parts import (
    Check,
    Drawing,
    edge_text,
    handle,
    line_handle,
    log_axes,
    log_range,
    positive,
    say,
    values,
)
from gpu_check.over_texts import Entry, head_unit, text_count
from tappa_theory.app.style import (
    GUIDE,
    INK,
    KEY_COLOUR,
    PAGE_WIDTH,
    PATTERN_MARKS,
    QUERY_COLOUR,
    new_figure,
    number_text,
    share_text,
)
from tappa_theory.patterns import PATTERNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASSES = (
    ("discarded", GUIDE, "o", "discarded (epsilon)"),
    ("observed", KEY_COLOUR, "s", "observed later"),
    ("measured", QUERY_COLOUR, "^", "certificate, measured oscillation"),
    ("a_priori", INK, "v", "certificate, a priori"),
)
"""Number, colour, marker and label of the masses of the discarded keys."""
BARS = (
    ("certified", INK, "certified"),
    ("observed_old", KEY_COLOUR, "observed, keys of the row"),
    ("observed", QUERY_COLOUR, "observed, all keys"),
)
"""Lifetimes, their colours and labels."""


def stability(check: Check) -> Drawing | None:
    """Lifetimes, masses of discarded keys and divergences of every head; None without them."""
    heads = [head for head in check["heads"] if head.get("lifetime") and head.get("reuse")]
    summary = check["summary"]
    if not heads or not all(summary.get(name) for name in ("lifetime", "reuse", "kl")):
        return None
    figure = new_figure(PAGE_WIDTH, 5.4)
    panels = figure.subplots(2, 2).ravel()
    _lifetimes(panels[0], heads, check["thresholds"].get("lifetime_horizon"))
    at_edge = _angles(panels[1], heads)
    _masses(panels[2], heads)
    edge, absent = _divergences(panels[3], heads)
    left_out = f" {absent} without a positive divergence are left out." if absent else ""
    dots = " A dot is a head and a text." if text_count(check) > 1 else ""
    present = [name for name in PATTERNS if any(h["pattern_observed"] == name for h in heads)]
    handles = [
        handle(PATTERN_MARKS[name].marker, PATTERN_MARKS[name].colour, "none") for name in present
    ]
    if handles:
        figure.legend(handles, present, loc="outside lower center", ncols=len(present))
    text = _told(check)
    return (
        figure,
        "How long attention lasts: certified and observed",
        "Top left: share of the heads whose mean lifetime of the top key is at most so many"
        " steps: certified when the row is computed, and observed, until a key of the row itself"
        " overtakes it and until any key does. Top right: the angle that the query turns by in a"
        " step and the angle that the row certifies (medians, radians); a step is certified if the"
        " first is below the second. Bottom left: attention on the keys that are discarded at a"
        f" row, all but the most attended {share_text(check['thresholds'].get('kept_share'))}: when"
        " discarded, as observed so many rows later, and as certified; median of the heads, with"
        " the middle 80% of them. Bottom right: mean divergence of a row from the next against its"
        " second-order value; bars reach from the lowest to the highest divergence that the theorem"
        " allows."
        f"{edge_text(at_edge + edge)}{left_out}{dots} {text}",
        f"Four panels. {text}",
    )


def _told(check: Check) -> str:
    life, reuse, kl = (check["summary"][name] for name in ("lifetime", "reuse", "kl"))
    unit, following = head_unit(check), next(iter(reuse.values()))
    broken = life["broken"] + sum(part["broken"] for part in reuse.values())
    masses = "; ".join(
        f"{step} {'row' if step == '1' else 'rows'} later observed"
        f" {number_text(part['observed'])}, certified"
        f" {number_text(part['measured'])} by the measured oscillation and"
        f" {number_text(part['a_priori'])} a priori"
        for step, part in reuse.items()
    )
    return (
        f"Median over {life['heads']} {unit} of the mean lifetime:"
        f" {number_text(life['certified']['mean'])} steps certified,"
        f" {number_text(life['observed_old']['mean'])} observed among the keys of the row,"
        f" {number_text(life['observed']['mean'])} among all; {number_text(life['certified_rows'])}"
        f" of {number_text(life['rows'])} rows are certified for a step or more, on"
        f" {life['certified_heads']} {unit}. That no discarded key overtakes the top key in the"
        f" next row is certified on {share_text(following['top_certified'])} of the rows and"
        f" observed on {share_text(following['top_observed'])}. The certified"
        f" angle is {number_text(life['angle'])} radians, the turn of a step"
        f" {number_text(life['turn'])} (medians). Mass of the discarded keys (medians): {masses}."
        f" Mean divergence {number_text(kl['observed'])} nats, predicted"
        f" {number_text(kl['predicted'])}; the"
        f" remainder is below the prediction on {share_text(kl['informative'])} of the steps."
        f" Outside what is proven: {broken} rows, {kl['outside']} steps."
    )


def _lifetimes(axes: Axes, heads: list[Entry], horizon: float | None) -> None:
    for name, colour, label in BARS:
        steps = np.sort(values(heads, f"lifetime.{name}.mean"))
        share = np.arange(1, len(steps) + 1) / len(steps)
        axes.step(
            np.concatenate([[0], steps, [horizon or steps.max()]]),
            np.concatenate([[0], share, [1]]),
            where="post", color=colour, linewidth=1.2, label=label, clip_on=False,
        )  # fmt: skip
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks([0, 1, 4, 16, 64], ["0", "1", "4", "16", "64"])
    axes.set_xlim(0, max(horizon or 1.0, 1.0))
    axes.set_ylim(0, 1)
    axes.set_xlabel("mean lifetime of the top key (steps)")
    axes.set_ylabel("share of heads")
    axes.set_title("lifetime", loc="left")
    axes.legend(loc="lower right", fontsize=6.5)


def _angles(axes: Axes, heads: list[Entry]) -> int:
    """Draw turns against angles; how many dots lie below the axes and are drawn at their edge."""
    angle, turn = (values(heads, f"lifetime.{name}") for name in ("angle", "turn"))
    there = positive(angle, turn)
    if not there.any():
        say(axes, "no values")
    low, high = log_range(np.concatenate([angle[there], turn[there]]))
    low = max(low, high / 1e3)
    _marked(axes, heads, np.clip(angle, low, high), np.clip(turn, low, high), there)
    axes.plot([low, high], [low, high], color=GUIDE, linewidth=0.8, linestyle="--")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    log_axes(axes)
    axes.set_xlabel("certified angle (radians, median)")
    axes.set_ylabel("turn of a step (radians, median)")
    axes.set_title("certified angle and turn", loc="left")
    return int(np.count_nonzero(there & ((angle < low) | (turn < low))))


def _masses(axes: Axes, heads: list[Entry]) -> None:
    steps = list(dict.fromkeys(step for head in heads for step in head["reuse"]))
    for index, (name, colour, marker, label) in enumerate(MASSES):
        at = np.arange(len(steps)) + 0.14 * (index - 1.5)
        for place, step in zip(at, steps, strict=True):
            numbers = values(heads, f"reuse.{step}.{name}")
            numbers = numbers[np.isfinite(numbers)]
            low, middle, high = np.quantile(numbers, (0.1, 0.5, 0.9))
            axes.plot([place, place], [low, high], color=colour, linewidth=1.0)
            axes.plot(place, middle, marker=marker, color=colour, markersize=4, clip_on=False)
        axes.plot([], [], marker=marker, color=colour, linestyle="none", markersize=4, label=label)
    axes.set_xticks(range(len(steps)), steps)
    axes.set_ylim(0, 1.0)
    axes.set_xlabel("rows later")
    axes.set_ylabel("attention")
    axes.set_title("keys once discarded", loc="left")
    axes.legend(loc="center right", fontsize=6.5, frameon=True, framealpha=0.9)


def _divergences(axes: Axes, heads: list[Entry]) -> tuple[int, int]:
    """Draw divergences; (dots drawn at the lower edge, heads left out, of which a number is 0)."""
    predicted, observed, lowest, highest = (
        values(heads, f"kl.{name}") for name in ("predicted", "observed", "lowest", "highest")
    )
    there = positive(predicted, observed, lowest, highest)
    absent = int(np.count_nonzero(~there))
    if not there.any():
        say(axes, "no values")
        return 0, absent
    left, right = log_range(predicted[there])
    shown = there & (predicted >= left)
    bottom = float(min(lowest[shown].min(), left)) / 1.4
    top = float(max(highest[there].max(), right)) * 1.4
    below = there & ((predicted < left) | (observed < bottom))
    predicted = np.clip(predicted, left, None)
    observed, lowest, highest = (np.clip(x, bottom, None) for x in (observed, lowest, highest))
    axes.vlines(
        predicted[there], lowest[there], highest[there],
        color="#cfcfcf", linewidth=0.5, zorder=1,
    )  # fmt: skip
    _marked(axes, heads, predicted, observed, there)
    (line,) = axes.plot([left, right], [left, right], color=GUIDE, linewidth=0.8, linestyle="--")
    line.set_zorder(2)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    log_axes(axes)
    axes.set_xlabel("key_metric (nats)")
    axes.set_ylabel("KL (nats)")
    axes.set_title("divergence of a step", loc="left")
    axes.legend(
        [line_handle("#b0b0b0", "-"), line_handle(GUIDE, "--")],
        ["allowed by the theorem", "as predicted"],
        loc="lower right", fontsize=6.5,
    )  # fmt: skip
    return int(np.count_nonzero(below)), absent


def _marked(
    axes: Axes, heads: list[Entry], x: np.ndarray, y: np.ndarray, there: np.ndarray
) -> None:
    """A dot per head in the mark of its observed pattern."""
    observed = np.array([head["pattern_observed"] or "" for head in heads])
    for name in ("", *PATTERNS):
        chosen = there & (observed == name)
        colour = PATTERN_MARKS[name].colour if name else INK
        marker = PATTERN_MARKS[name].marker if name else "."
        axes.scatter(
            x[chosen], y[chosen], color=colour, marker=marker, s=9, linewidths=0.3, zorder=3,
            clip_on=False,
        )  # fmt: skip
