"""The phase diagram: q-similarity times dominant frequency gives the pattern, seen and certified.

The heads are those of `plane`. Theorems give sufficient conditions, so each gives an inner boundary
in this plane, below which its pattern is certain:

- re_access (`gap`): the sink stays a column while its gap exceeds bound (B) at (t, 0), the drift of
  t steps plus what t positions turn on every channel: a curve that falls with the frequency;
- the same from the margins of each pair of keys (`lifetime`), where what two keys share cancels;
- sequential: along a diagonal only drift counts, so that the diagonals of a constant query, where
  it has any, last up to a dissimilarity that hardly depends on the frequency.

Inside, the pattern must be seen. How far beyond it is seen is measured.
"""

from __future__ import annotations

import math
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from simulations.experiment import Criterion, Experiment, Outcome, Settings
from simulations.experiments.phase_diagram.cells import DIAGONALS, Cell, Edge, boundaries, place
from simulations.experiments.phase_diagram.figure import draw
from simulations.experiments.phase_diagram.plane import (
    CHANNELS,
    GAP,
    LENGTH,
    MOVEMENTS,
    REACH,
    ROPE,
    SHARE,
    head,
)
from tappa_theory.app.style import number_text, share_text
from tappa_theory.energy import period

EXPONENTS = (-12.0, -11.0, -10.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0)
UPPER_EXPONENTS = (-1.5, -1.0, -0.5, -0.1)
"""log10 of 1 - S of the rows of the grid."""
QUICK_EXPONENTS = (-12.0, -10.0, -8.0, -6.0, -4.0, -2.0, -1.0, -0.5)
SEEDS = 2
"""Heads at a place, where the movement is random."""
PREDICTED_SHARE = 0.85
"""Share of the heads whose pattern their ingredients should foretell: it was 88.5% on the heads of
a small language model."""

_TOGETHER = (math.acos(math.log(LENGTH) / GAP) / (1 - math.log(LENGTH) / GAP)) ** 2
_DIAGONAL = (2 * (REACH + GAP) * math.sqrt(2 / REACH)) ** 2
_SLACK = {"steady": 1.0, "wandering": float(LENGTH), "about a mean": float(2 * CHANNELS)}
EXPECTED_GAP = {
    (movement, by): factor * slack
    for movement, slack in _SLACK.items()
    for by, factor in (("margins", _TOGETHER), ("diagonals", _DIAGONAL))
}
"""How far beyond the certified 1 - S a pattern should last, to a factor `TOLERANCE`; for a slow
channel. A column that turns by x loses its lead GAP as GAP cos x, and the margins charge GAP x: it
is lost at GAP cos x = ln T, certified up to GAP (1 - x) = ln T. A diagonal is a line while it moves
by less than its own width, x = sqrt(2/REACH), certified while the oscillation 2 (REACH + GAP) x is
below 1. 1 - S grows like x^2. Of T steps at random only sqrt(T) add up, and of a random deviation
only 1/sqrt(d) lies along the key, which no bound from similarities knows."""
TOLERANCE = 2.0


def run(settings: Settings) -> Outcome:
    """Heads over the plane, the certificates at each place, and the boundaries of both."""
    exponents = QUICK_EXPONENTS if settings.quick else EXPONENTS + UPPER_EXPONENTS
    channels = range(0, CHANNELS, 4 if settings.quick else 2)
    seeds = 1 if settings.quick else SEEDS
    cells = [
        cell
        for movement, channel, row in product(MOVEMENTS, channels, range(len(exponents)))
        for cell in place(settings, movement, channel, row, 10 ** exponents[row], seeds)
    ]
    edges = [
        edge
        for movement, channel in product(MOVEMENTS, channels)
        for edge in boundaries(cells, movement, channel, 10 ** min(exponents))
    ]
    return Outcome(
        tables={"cells": _cell_table(cells), "boundaries": _edge_table(edges)},
        criteria=_criteria(cells, edges),
        finding=_finding(cells, edges),
        conditions={
            "length": LENGTH,
            "head_size": 2 * CHANNELS,
            "base": ROPE.base,
            "heads": len(cells),
            "dominant_channels": len(channels),
            "dominant_share": SHARE,
            "largest_logit": REACH,
            "gap_of_the_sink": GAP,
            "one_minus_q_similarity": [10**exponent for exponent in exponents],
            "heads_per_place": seeds,
        },
    )


def _gaps(edges: list[Edge], movement: str, by: str) -> list[float]:
    return [edge.factor for edge in edges if (edge.movement, edge.certified_by) == (movement, by)]


def _criteria(cells: list[Cell], edges: list[Edge]) -> tuple[Criterion, ...]:
    right = sum(cell.predicted == cell.observed for cell in cells) / len(cells)
    content = head("steady", 0, 1.0, np.random.default_rng(0))
    # A lead is a difference of two logits on either side; attention changes by half of it at most.
    rounding = 4 * content.logit_error
    certain = [
        Criterion(
            f"of {len(heads)} heads on which {what} certain, this many show another pattern",
            # none at all would show nothing
            sum(cell.observed not in cell.certified for cell in heads) if heads else math.nan,
            "<=",
            0,
            proven=True,
        )
        for what, patterns in (("re_access is", ("re_access",)), ("diagonals are", DIAGONALS))
        for heads in [[cell for cell in cells if cell.certified == patterns]]
    ]
    expected = [
        Criterion(
            f"{movement}: the median factor in 1 - S by which the pattern lasts beyond what the"
            f" {by} certify is no more than {TOLERANCE:g} times the one expected",
            median(factors),
            "<=",
            TOLERANCE * gap,
        )
        for (movement, by), gap in EXPECTED_GAP.items()
        if (factors := _gaps(edges, movement, by))
    ]
    return (
        *certain,
        Criterion(
            "the certified lead of the sink exceeds the one seen by no more than rounding,"
            " logit units, all heads and rows",
            max(cell.above_lead for cell in cells),
            "<=",
            rounding,
            proven=True,
        ),
        Criterion(
            "the certified shares of attention exceed those seen by no more than rounding",
            max(cell.above_share for cell in cells),
            "<=",
            rounding,
            proven=True,
        ),
        Criterion(
            "the ingredients foretell the pattern seen, share of the heads",
            right,
            ">=",
            PREDICTED_SHARE,
        ),
        *expected,
    )


def _finding(cells: list[Cell], edges: list[Edge]) -> str:
    certain = {}
    for names, by in (
        (("re_access",), ("bounds", "margins")),
        (("re_access",), ("bounds",)),
        (DIAGONALS, ("diagonals",)),
    ):
        shown = sum(cell.observed in names for cell in cells)
        certain[by] = sum(cell.certified_by in by for cell in cells) / max(shown, 1)
    beyond = {
        by: ", ".join(f"{_factor(edges, movement, by)} ({movement})" for movement in MOVEMENTS)
        for by in ("margins", "diagonals")
    }
    foretold = ", ".join(
        f"{share_text(_right(cells, movement))} ({movement})" for movement in MOVEMENTS
    )
    wrong = sum(bool(cell.certified) and cell.observed not in cell.certified for cell in cells)
    return (
        f"Certain are {share_text(certain['bounds', 'margins'])} of the columns seen"
        f" ({share_text(certain['bounds',])} from bound (B) and the gap alone) and"
        f" {share_text(certain['diagonals',])} of the diagonals, and {wrong} heads show another"
        f" pattern than is certain. Beyond what is certain 1 - S can grow by a median factor of"
        f" {beyond['margins']} before a column is lost, and {beyond['diagonals']} before a diagonal"
        f" is. At {share_text(_disagreement(cells))} of the places the pattern depends on how the"
        f" queries move; the ingredients foretell it on {foretold} of the heads."
    )


def _factor(edges: list[Edge], movement: str, by: str) -> str:
    factors = _gaps(edges, movement, by)
    return number_text(median(factors)) if factors else "none"


def _right(cells: list[Cell], movement: str) -> float:
    here = [cell for cell in cells if cell.movement == movement]
    return sum(cell.predicted == cell.observed for cell in here) / len(here)


def _disagreement(cells: list[Cell]) -> float:
    """Share of the places of the plane where the first heads of the movements differ in pattern."""
    shown: dict[tuple[int, float], set[str]] = {}
    for cell in cells:
        if cell.seed == 0:
            shown.setdefault((cell.channel, cell.dissimilarity), set()).add(cell.observed)
    return sum(len(patterns) > 1 for patterns in shown.values()) / len(shown)


def _cell_table(cells: list[Cell]) -> dict[str, list[Any]]:
    frequencies = [float(ROPE.frequencies[cell.channel]) for cell in cells]
    return {
        "movement": [cell.movement for cell in cells],
        "channel": [cell.channel for cell in cells],
        "frequency": frequencies,
        "period": [period(frequency) for frequency in frequencies],
        "one_minus_q_similarity": [cell.dissimilarity for cell in cells],
        "head": [cell.seed for cell in cells],
        "observed": [cell.observed for cell in cells],
        "predicted": [cell.predicted for cell in cells],
        "column_share": [cell.column for cell in cells],
        "diagonal_share": [cell.diagonal for cell in cells],
        "certified_by": [cell.certified_by for cell in cells],
    }


def _edge_table(edges: list[Edge]) -> dict[str, list[Any]]:
    names = ("movement", "channel", "certified_by", "certified", "observed", "factor")
    table: dict[str, list[Any]] = {name: [getattr(edge, name) for edge in edges] for name in names}
    table["frequency"] = [float(ROPE.frequencies[edge.channel]) for edge in edges]
    table["largest_tried"] = ["yes" if edge.largest_tried else "no" for edge in edges]
    return table


EXPERIMENT = Experiment(
    name="phase_diagram",
    title="Phase diagram: q-similarity and dominant frequency",
    question=(
        "Which pattern does a head show at a given q-similarity and dominant frequency, and where"
        " do the theorems put its boundary?"
    ),
    run=run,
    draw=draw,
)
