"""Layers on a GPU, of which one is begun before the one before it is finished.

What is done alike for all heads of a layer is done once, so that the GPU is told less often; what
is left for each head is done in threads. While they work, the model may run on to the next layer.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch

from gpu_check.head_threads import HeadThreads
from gpu_check.heads import Measured, Prepared, finish, prepare
from gpu_check.vectors import Subject, vectors


class LayerPipeline:
    """Measures the heads of one layer after the other.

    threads: heads that are measured side by side. lag: as in `gpu_check.heads.measure`.
    """

    def __init__(self, threads: int, device: torch.device, lag: int | None = None) -> None:
        self.device, self.lag = device, lag
        self._pool = HeadThreads(threads, device)
        self._begun: Iterable[Prepared] = ()

    def add(self, subjects: Sequence[Subject]) -> list[Measured]:
        """Begin with these heads of a layer; the heads of the layer before, measured."""
        alone = vectors(subjects)
        begun = self._pool.map(partial(prepare, lag=self.lag), subjects, alone)
        before, self._begun = self._begun, begun
        return _compared(list(before))

    def rest(self) -> list[Measured]:
        """The heads of the layer that was added last, measured."""
        before, self._begun = self._begun, ()
        return _compared(list(before))

    def close(self, cancel: bool = False) -> None:
        """End the threads. cancel: leave out what they have not begun with."""
        self._pool.close(cancel)


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
