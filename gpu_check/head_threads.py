"""Threads that measure heads beside each other, or beside the model: on a GPU on another stream."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class HeadThreads:
    """A pool of threads for work on tensors of one device; a context that ends them.

    On a GPU the threads share a stream, beside that of the thread that calls `map`: neither waits
    for the other's numbers. What they are given may still be computed; what they return is there.
    """

    def __init__(self, threads: int, device: torch.device) -> None:
        self._stream = _stream(device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(threads, initializer=self._prepare)

    def __enter__(self) -> "HeadThreads":
        return self

    def __exit__(self, kind: type[BaseException] | None, *about: object) -> None:
        self.close(cancel=kind is not None and issubclass(kind, KeyboardInterrupt))

    def close(self, cancel: bool = False) -> None:
        """Wait for the threads to end. cancel: leave out what they have not begun with."""
        self._pool.shutdown(cancel_futures=cancel)

    def map(self, work: Callable[..., T], *given: Any) -> Iterator[T]:
        """As `map`, in the threads; all of it starts now."""
        if self._stream is None:
            return self._pool.map(work, *given)
        now = torch.cuda.current_stream(self._stream.device).record_event()
        return self._pool.map(partial(self._after, now, self._stream, work), *given)

    def _prepare(self) -> None:
        """One thread inside torch, and kernels on the device of what they are given."""
        torch.set_num_threads(1)
        if self._stream is not None:
            torch.cuda.set_device(self._stream.device)
            torch.cuda.set_stream(self._stream)

    @staticmethod
    def _after(
        event: torch.cuda.Event, own: torch.cuda.Stream, work: Callable[..., T], *given: Any
    ) -> T:
        own.wait_event(event)
        try:
            return work(*given)
        finally:
            own.synchronize()  # before another stream reads the results, or memory is given back


@lru_cache(maxsize=64)
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for each device: memory that was used on a stream is used again on that one only."""
    return torch.cuda.Stream(device)
