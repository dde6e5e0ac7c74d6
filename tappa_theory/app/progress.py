"""Progress on stderr: bars on a terminal, one line at start and end elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


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
    (download, dequantisation, loading).
    """
    if not sys.stderr.isatty():
        yield _Lines().report
        return
    with _rich_progress() as progress:
        yield _Bars(progress).report


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
        self._finished: set[str] = set()

    def report(self, description: str, done: int | None, total: int | None) -> None:
        if done is None:
            print(description, file=sys.stderr, flush=True)
            return
        if description not in self._started:
            self._started[description] = time.monotonic()
            print(f"{description} ...", file=sys.stderr, flush=True)
        if total is not None and done >= total and description not in self._finished:
            self._finished.add(description)
            seconds = time.monotonic() - self._started[description]
            print(f"{description}: done in {seconds:.1f} s", file=sys.stderr, flush=True)


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
    )
