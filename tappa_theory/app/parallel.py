"""Work done by several processes at once, which Ctrl-C ends at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TypeVar

WORKERS = 2
"""Processes that share a work, unless asked otherwise."""

P = TypeVar("P")
R = TypeVar("R")


def results(
    work: Callable[[P], R], parts: Sequence[P], workers: int
) -> AbstractContextManager[Iterator[tuple[P, R]]]:
    """(part, work(part)) as they are finished, for a `with` block that ends the processes.

    They end with the block however it is left: an interrupt between two results would else leave
    them working. workers: processes; 1 stays in this one. work: a function of a module.
    """
    return closing(_results(work, parts, workers))


def _results(
    work: Callable[[P], R], parts: Sequence[P], workers: int
) -> Generator[tuple[P, R], None, None]:
    if workers < 2 or len(parts) < 2:
        for part in parts:
            yield part, work(part)
        return
    # Not forked: z3 and numpy may hold threads.
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
    )
    try:
        with _interrupts_held(), _one_thread_each():
            futures = {pool.submit(work, part): part for part in parts}
        for future in as_completed(futures):
            yield futures[future], future.result()
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back for the block, and for good from the processes that start in it.

    Else one that still imports would answer it with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Start processes whose linear algebra has one thread: more would contend for the same cores.

    A number of threads that the user has set stays.
    """
    name = "OMP_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the first one ends the others itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
