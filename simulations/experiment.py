"""An experiment: a question, criteria, data, a verdict and a figure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SENTENCES = 3
"""Of a finding."""

Relation = Literal["<=", ">="]
Table = Mapping[str, Sequence[Any]]
"""Tidy data: one column per variable (equally long), one row per observation; plain values."""
Row = dict[str, Any]
"""One observation of a table: its values by the names of the columns."""


def columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The table of these rows, at least one, which all have the columns of the first."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def rows(table: Table) -> list[Row]:
    """The rows of a table."""
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


@dataclass(frozen=True)
class Criterion:
    """One sentence that the data decide: is `observed` <= (or >=) `limit`?

    proven: it is what a theorem says, so that it cannot be missed unless the theorem, or the code
    that evaluates it, is wrong. Otherwise it is an expectation, and a miss is a finding.
    """

    claim: str
    observed: float
    relation: Relation
    limit: float
    proven: bool = False

    @property
    def met(self) -> bool:
        """A NaN meets nothing."""
        if self.relation == "<=":
            return bool(self.observed <= self.limit)
        return bool(self.observed >= self.limit)


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    tables: tidy data by name. criteria: what decides the verdict. finding: at most three sentences
    with the numbers, the most important one first, whatever they are. conditions: on what it was
    measured (lengths, head sizes, bases, number of heads, ...). arrays: maps for the figure, not
    tidy.
    """

    tables: Mapping[str, Table]
    criteria: tuple[Criterion, ...]
    finding: str
    conditions: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, table in self.tables.items():
            lengths = {len(column) for column in table.values()}
            if len(lengths) != 1:
                raise ValueError(f"table {name}: columns of lengths {sorted(lengths)}")
        if not self.criteria:
            raise ValueError("an experiment without a criterion has no verdict")
        if len(re.findall(r"[.!?](?=\s|$)", self.finding)) > MOST_SENTENCES:
            raise ValueError(f"a finding of more than {MOST_SENTENCES} sentences: {self.finding}")

    @property
    def verdict(self) -> Literal["met", "not met", "violated"]:
        """ "violated" if a proven criterion is missed, "not met" if another one is."""
        missed = [criterion for criterion in self.criteria if not criterion.met]
        if any(criterion.proven for criterion in missed):
            return "violated"
        return "not met" if missed else "met"


@dataclass(frozen=True)
class Drawn:
    """A figure with its words; alt is what a reader who sees nothing is told."""

    figure: Figure
    title: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Settings:
    """How an experiment is run.

    seed: of every random number in it. quick: smaller and coarser, for `tappa run`.
    moments: folder or file of a check whose moments the real-like heads have, None for those
    that come with the package.
    """

    seed: int = 0
    quick: bool = False
    moments: Path | None = None

    def random(self, *stream: int) -> np.random.Generator:
        """A generator of its own for every part of an experiment that is named by numbers."""
        return np.random.default_rng([self.seed, *stream])


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    name: as it is typed and as its files are called. question: what it asks, one sentence.
    run: computes the outcome; deterministic for its settings. draw: the figure of an outcome,
    called within `figure_style`.
    """

    name: str
    title: str
    question: str
    run: Callable[[Settings], Outcome]
    draw: Callable[[Outcome], Drawn]
