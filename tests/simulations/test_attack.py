"""Bounds under attack: what is reported, that it is reproducible, and that errors show."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from simulations.bounds import BOUNDS
from simulations.bounds.bound import Bound, Sides, Values
from simulations.experiment import Outcome, Settings
from simulations.experiments.attack import experiment as attack
from simulations.experiments.attack.experiment import EXPERIMENT, LIMIT
from simulations.experiments.attack.figure import INPUTS
from tappa_theory.app.style import figure_style
from tappa_theory.theorems import THEOREMS

QUICK = Settings(quick=True)


@cache
def outcome() -> Outcome:
    return EXPERIMENT.run(QUICK)


def few(names: tuple[str, ...] = ("shift_bound", "periodic_sequential.crest")) -> tuple[Bound, ...]:
    """So many bounds that every theorem has one, searched or not, and no more."""
    own = tuple(bound for bound in BOUNDS if bound.name in names)
    others = {bound.theorem for bound in own}
    return own + tuple(
        bound for bound in BOUNDS if bound.name == bound.theorem and bound.theorem not in others
    )


def test_no_bound_is_exceeded() -> None:
    proven = [criterion for criterion in outcome().criteria if criterion.proven]
    assert len(proven) == len(THEOREMS)
    assert all(criterion.met for criterion in proven)
    assert outcome().verdict != "violated"


def test_every_bound_is_in_the_table() -> None:
    table = outcome().tables["ratios"]
    assert set(table["bound"]) == {bound.name for bound in BOUNDS}
    assert set(table["inputs"]) == set(INPUTS)
    for worst, median in zip(table["worst"], table["median"], strict=True):
        assert 0 <= median <= worst <= LIMIT


def test_same_settings_same_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "BOUNDS", few())
    assert EXPERIMENT.run(QUICK) == EXPERIMENT.run(QUICK)
    assert EXPERIMENT.run(QUICK).tables != EXPERIMENT.run(replace(QUICK, seed=1)).tables


def too_small(values: Values) -> Sides:
    observed, allowed, rounding = few()[0].sides(values)
    return Sides(observed, 0.99 * allowed, rounding)


def test_a_bound_one_percent_too_small_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = few()
    monkeypatch.setattr(attack, "BOUNDS", (replace(first, sides=too_small), *rest))
    found = EXPERIMENT.run(QUICK)
    assert found.verdict == "violated"
    (missed,) = [one for one in found.criteria if one.proven and not one.met]
    assert first.theorem in missed.claim
    assert "exceeded" in found.finding


def test_the_figure_shows_every_theorem() -> None:
    with figure_style():
        drawn = EXPERIMENT.draw(outcome())
        drawn.figure.draw_without_rendering()
    (axes,) = drawn.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(THEOREMS)
    marks = [line for line in axes.lines if line.get_marker() in ("o", "D", "^", "s")]
    inside = [line for line in marks if np.size(line.get_xdata())]
    assert all(0 <= float(np.asarray(line.get_xdata())[0]) <= 1.01 for line in inside)
    assert len(inside) >= 3 * len(THEOREMS) - 4
    assert "proved limit" in drawn.alt
