"""The figure of the doses and responses."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from simulations.experiment import Drawn, Outcome
from simulations.experiments.dose_response.panels import ANTI_RESONANT_SHARE, PANELS, Panel
from tappa_theory.app.style import (
    GUIDE,
    INK,
    PAGE_WIDTH,
    THEOREM_MARKS,
    new_figure,
    number_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNITS = {"periodic": "positions"}
"""Of the responses, where they are no logits."""


def draw(outcome: Outcome) -> Drawn:
    """Four panels, response over dose, both logarithmic, with the theorem's line."""
    figure = new_figure(PAGE_WIDTH, 5.6)
    axes = figure.subplots(2, 2)
    for letter, axis, panel in zip("abcd", axes.ravel(), PANELS, strict=True):
        _panel(axis, panel, outcome)
        axis.set_title(f"({letter}) {panel.theorem}: {panel.response}", loc="left")
    handles = [copy(handle) for handle in axes[1][0].get_lines()]
    for handle in handles[2:4]:
        handle.set_markeredgecolor(GUIDE)
        handle.set_markerfacecolor(GUIDE if handle is handles[2] else "white")
    figure.legend(handles=handles, loc="outside lower center", ncol=5, handletextpad=0.5)
    return Drawn(
        figure,
        "Dose and response",
        caption=(
            "Response over dose on synthetic heads: mean and worst pair of random heads, heads made"
            " to attain the bound, and the theorem's bound. Changes of logits are in units of"
            " λ|q||k|. Coefficients are slopes at small doses over the theorem's. The crosses are"
            f" heads with {ANTI_RESONANT_SHARE:.0%} of the energy on an anti-resonant channel, over"
            " the resonance error of the dominant channel, which the published form alone takes"
            " into account."
        ),
        alt=_alt(outcome),
    )


def _curve(outcome: Outcome, panel: str, curve: str) -> np.ndarray:
    """(2, n) doses and responses."""
    table = outcome.tables["responses"]
    rows = zip(table["panel"], table["curve"], table["dose"], table["response"], strict=True)
    return np.array(
        [(dose, seen) for name, kind, dose, seen in rows if (name, kind) == (panel, curve)]
    ).T


def _panel(axis: Axes, panel: Panel, outcome: Outcome) -> None:
    mark = THEOREM_MARKS[panel.theorem]
    axis.plot(*_curve(outcome, panel.name, "bound"), color=INK, label="bound")
    ink: dict[str, Any] = {"linestyle": "", "markersize": 5}
    axis.plot(
        *_curve(outcome, panel.name, "adversarial"),
        marker="o",
        color=INK,
        markerfacecolor="none",
        label="adversarial",
        **ink,
    )
    axis.plot(
        *_curve(outcome, panel.name, "worst"),
        marker="^",
        color=mark.colour,
        label="random, worst",
        **ink,
    )
    axis.plot(
        *_curve(outcome, panel.name, "typical"),
        marker="s",
        color=mark.colour,
        markerfacecolor="white",
        label="random, mean",
        **ink,
    )
    refuting = _curve(outcome, panel.name, "published")
    if refuting.size:
        axis.plot(*refuting, marker="x", color=GUIDE, label="anti-resonant minor channel", **ink)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(panel.dose)
    axis.set_ylabel(f"{panel.response} ({UNITS.get(panel.name, 'units of λ|q||k|')})")
    axis.text(
        0.97,
        0.04,
        _fitted(outcome, panel.name),
        transform=axis.transAxes,
        ha="right",
        va="bottom",
        fontsize=7,
    )


def _fitted(outcome: Outcome, panel: str) -> str:
    table = outcome.tables["fits"]
    lines = ["power, coefficient/theorem's"]
    for name, curve, power, share in zip(
        table["panel"], table["curve"], table["power"], table["share"], strict=True
    ):
        if name == panel:
            told = {"typical": "mean"}.get(curve, curve)
            lines.append(f"{told} {power:.2f}, {number_text(share)}")
    return "\n".join(lines)


def _alt(outcome: Outcome) -> str:
    told = []
    for panel in PANELS:
        lines = _fitted(outcome, panel.name).splitlines()[1:]
        told.append(f"{panel.name}: {'; '.join(lines)}")
    return (
        f"{len(PANELS)} plots of response over dose, both logarithmic, with the bound of a theorem."
        f" Power and coefficient over the theorem's: {'. '.join(told)}."
    )
