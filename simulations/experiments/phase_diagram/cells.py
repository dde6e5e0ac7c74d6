"""The places of the phase diagram: heads, what is seen and certified of them, and boundaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulations.experiment import Settings
from simulations.experiments.phase_diagram.certificates import (
    ColumnCertificate,
    DiagonalCertificate,
    certify_column,
    certify_diagonals,
    largest,
)
from simulations.experiments.phase_diagram.plane import LENGTH, MOVEMENTS, ROWS, Movement, head
from simulations.head import SyntheticHead
from tappa_theory.patterns import distances

DIAGONALS = ("sequential", "periodic_sequential")
CERTIFIED: dict[str, tuple[str, ...]] = {
    "bounds": ("re_access",),
    "margins": ("re_access",),
    "diagonals": DIAGONALS,
}
"""What can make a pattern certain, and the patterns of which it is one."""
STEPS = 8
"""Bisections of a certified boundary, 12 decades: to a twentieth of a decade."""


@dataclass(frozen=True)
class Cell:
    """One head: where, what was seen, foretold and certified, and by how much certificates erred.

    column, diagonal: shares of attention seen on lines. certified_by: what makes a pattern certain,
    a name from `CERTIFIED`, or "nothing".
    above_lead, above_share: largest amount by which what is certified exceeds what is seen, logit
    units and share of attention.
    """

    movement: Movement
    channel: int
    dissimilarity: float
    seed: int
    observed: str
    predicted: str
    column: float
    diagonal: float
    certified_by: str
    above_lead: float
    above_share: float

    @property
    def certified(self) -> tuple[str, ...]:
        """The patterns of which one is certain; none if it is empty."""
        return CERTIFIED.get(self.certified_by, ())


@dataclass(frozen=True)
class Edge:
    """Boundaries in 1 - S of what is certain and of what is seen, at one frequency.

    observed: on the grid, so it may be larger by less than a step of it. largest_tried: is it the
    largest 1 - S tried? Then it may be larger by any amount.
    """

    movement: Movement
    channel: int
    certified_by: str
    certified: float
    observed: float
    largest_tried: bool

    @property
    def factor(self) -> float:
        """How far in 1 - S the pattern is known to last beyond what is certain, 1 or more."""
        return max(self.observed / self.certified, 1.0)


def place(
    settings: Settings,
    movement: Movement,
    channel: int,
    row: int,
    dissimilarity: float,
    seeds: int,
) -> list[Cell]:
    column = certify_column(movement, channel, dissimilarity)
    diagonal = certify_diagonals(movement, channel, dissimilarity)
    certified_by = "nothing"
    if column.bounds_hold:
        certified_by = "bounds"
    elif column.together_holds:
        certified_by = "margins"
    elif diagonal is not None and diagonal.holds:
        certified_by = "diagonals"
    cells = []
    for seed in range(1 if movement == "steady" else seeds):
        rng = settings.random(MOVEMENTS.index(movement), channel, row, seed)
        made = head(movement, channel, dissimilarity, rng)
        lead, share = above(made, column, diagonal)
        cells.append(
            Cell(
                movement=movement,
                channel=channel,
                dissimilarity=dissimilarity,
                seed=seed,
                observed=made.observed.pattern,
                predicted=made.predicted.pattern,
                column=made.observed.lines.column,
                diagonal=made.observed.lines.diagonal,
                certified_by=certified_by,
                above_lead=lead,
                above_share=share,
            )
        )
    return cells


def above(
    made: SyntheticHead, column: ColumnCertificate, diagonal: DiagonalCertificate | None
) -> tuple[float, float]:
    """By how much what is certified exceeds what is seen: lead of the sink, shares of attention."""
    distance = distances(ROWS, LENGTH)
    rivals = np.where(distance >= 0, made.logits[ROWS], -np.inf)[:, 1:].max(-1)
    lead = made.logits[ROWS, 0] - rivals
    attention = made.attention[ROWS]
    sink = np.maximum(column.by_bounds, column.together) - attention[:, 0]
    most_above = float(sink.max())
    if diagonal is not None:
        on_line = np.isin(distance, diagonal.offsets)
        on_line[:, 0] = False
        short = diagonal.share - np.where(on_line, attention, 0.0).sum(-1)
        least, most = diagonal.sink
        beside = np.maximum(least - attention[:, 0], attention[:, 0] - most)
        most_above = max(most_above, float(short.max()), float(beside.max()))
    return float((column.lead - lead).max()), most_above


def boundaries(cells: list[Cell], movement: Movement, channel: int, least: float) -> list[Edge]:
    """Certified and observed boundary of every pattern that is certain at this frequency."""

    def diagonals(dissimilarity: float) -> bool:
        found = certify_diagonals(movement, channel, dissimilarity)
        return found is not None and found.holds

    certificates: dict[str, Callable[[float], bool]] = {
        "bounds": lambda x: certify_column(movement, channel, x).bounds_hold,
        "margins": lambda x: certify_column(movement, channel, x).together_holds,
        "diagonals": diagonals,
    }
    here = [cell for cell in cells if (cell.movement, cell.channel) == (movement, channel)]
    edges = []
    for by, holds in certificates.items():
        certified = largest(holds, least, 1.0, STEPS)
        if certified is None:
            continue
        seen, largest_tried = _seen(here, CERTIFIED[by])
        if seen is not None:
            edges.append(Edge(movement, channel, by, certified, seen, largest_tried))
    return edges


def _seen(here: list[Cell], patterns: tuple[str, ...]) -> tuple[float | None, bool]:
    """The largest 1 - S up to which at least half of the heads show it; is it the largest tried?"""
    seen = None
    for dissimilarity in sorted({cell.dissimilarity for cell in here}):
        shown = [cell.observed in patterns for cell in here if cell.dissimilarity == dissimilarity]
        if 2 * sum(shown) < len(shown):
            return seen, False
        seen = dissimilarity
    return seen, True
