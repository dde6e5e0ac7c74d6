"""Layers on a GPU, of which one is begun before the one before it is finished.

What is done alike for all heads of a layer is done once, so that the GPU is told less often. A
thread begins with a layer while another compares the pairs of the one before, and while the model
runs on to the next.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch

from gpu_check.head_threads import HeadThreads
from gpu_check.heads import Measured, Prepared, finish, prepare
from gpu_check.vectors import Subject, vectors


class LayerPipeline:
    """Measures the heads of one layer after the other. lag: as in `gpu_check.heads.measure`."""

    def __init__(self, device: torch.device, lag: int | None = None) -> None:
        self.device, self.lag = device, lag
        self._thread = HeadThreads(1, device)
        self._begun: Iterable[list[Prepared]] = ()

    def add(self, subjects: Sequence[Subject]) -> list[Measured]:
        """Begin with these heads of a layer; the heads of the layer before, measured."""
        return self._next(self._thread.map(partial(_begin, lag=self.lag), [subjects]))

    def rest(self) -> list[Measured]:
        """The heads of the layer that was added last, measured."""
        return self._next(())

    def _next(self, begun: Iterable[list[Prepared]]) -> list[Measured]:
        before, self._begun = self._begun, begun
        return _compared([head for heads in before for head in heads])

    def close(self, cancel: bool = False) -> None:
        """End the thread. cancel: leave out what it has not begun with."""
        self._thread.close(cancel)


def _begin(subjects: Sequence[Subject], lag: int | None) -> list[Prepared]:
    return prepare(subjects, vectors(subjects), lag)


def _compared(heads: Sequence[Prepared]) -> list[Measured]:
    """The heads with what a comparison of all their pairs says."""
    from gpu_check.layer_pairs import layer_statistics

    if not heads:
        return []
    statistics = layer_statistics(
        [head.measured.check for head in heads],
        [head.claims for head in heads],
        [head.measured.attention.row_std for head in heads],
    )
    return [finish(*each) for each in zip(heads, statistics, strict=True)]
