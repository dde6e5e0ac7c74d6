"""Progress on stderr: bars on a terminal, elsewhere lines at start, end and every 30 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tappa_theory.app.processes import speaks

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

INTERVAL = 30.0
"""Seconds between two lines about the same work, at least."""


class Report(Protocol):
    """Is told how far a piece of work is."""

    def __call__(self, description: str, done: int | None, total: int | None) -> None:
        """done: steps done, None for a notice without steps. total: None while it is unknown."""


class ProgressBar:
    """Counts the steps of one piece of work and shows them."""

    def __init__(self, report: Report, description: str, total: int | None) -> None:
        self._report = report
        self._description = description
        self._total = total
        self._done = 0
        report(description, 0, total)

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more as done."""
        self._done += steps
        self._report(self._description, self._done, self._total)


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[ProgressBar]:
    """Show one piece of work of `total` steps, with elapsed and remaining time, for the block."""
    with progress_reports() as report:
        yield ProgressBar(report, description, total)


@contextmanager
def progress_reports() -> Iterator[Report]:
    """Yield a function `report(description, done, total)` that shows progress for the block.

    Every new description is a bar of its own, so that one function serves work in several parts
    (download, dequantisation, loading). Of several processes of one command line only the first
    shows it.
    """
    if not speaks():
        yield _nothing
        return
    if not sys.stderr.isatty():
        yield _Lines().report
        return
    with _rich_progress() as progress:
        yield _Bars(progress).report


def _nothing(description: str, done: int | None, total: int | None) -> None:
    pass


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def report(self, description: str, done: int | None, total: int | None) -> None:
        if done is None:
            self._progress.console.print(description, markup=False, highlight=False)
            return
        if description not in self._tasks:
            self._tasks[description] = self._progress.add_task(description, total=total)
        self._progress.update(self._tasks[description], completed=done, total=total)


class _Lines:
    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._printed: dict[str, float] = {}
        self._finished: set[str] = set()

    def report(self, description: str, done: int | None, total: int | None) -> None:
        if done is None:
            print(description, file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        if description not in self._started:
            self._started[description] = self._printed[description] = now
            print(f"{description} ...", file=sys.stderr, flush=True)
        seconds = now - self._started[description]
        if total is None or description in self._finished:
            return
        if done >= total:
            self._finished.add(description)
            print(f"{description}: done in {seconds:.1f} s", file=sys.stderr, flush=True)
        elif done and now - self._printed[description] >= INTERVAL:
            self._printed[description] = now
            left = duration(seconds * (total - done) / done)
            print(
                f"{description}: {done / total:.0%}, about {left} left", file=sys.stderr, flush=True
            )


def duration(seconds: float) -> str:
    """A span of time to two units: "42 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {whole:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _rich_progress() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("remaining"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        # Steps may be minutes apart; over the usual 30 s there would be no estimate.
        speed_estimate_period=3600,
    )
