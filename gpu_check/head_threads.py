"""Threads that measure heads beside each other, or beside the model: on a GPU, on other streams."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class HeadThreads:
    """A pool of threads for work on tensors of one device; a context that ends them.

    On a GPU a thread that reads a number waits for its own stream alone. What it is given may still
    be computed on the stream of the thread that calls `map`; what it returns is there.
    """

    def __init__(self, threads: int, device: torch.device) -> None:
        self.device, self.on_gpu = device, device.type == "cuda"
        self._streams: SimpleQueue[Any] = SimpleQueue()
        for index in range(threads):
            self._streams.put(_stream(device, index) if self.on_gpu else None)
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
        if not self.on_gpu:
            return self._pool.map(work, *given)
        now = torch.cuda.current_stream(self.device).record_event()
        return self._pool.map(partial(self._after, now, work), *given)

    def _prepare(self) -> None:
        """One thread inside torch, and kernels on the device of what they are given."""
        torch.set_num_threads(1)
        stream = self._streams.get()
        if self.on_gpu:
            torch.cuda.set_device(stream.device)
            torch.cuda.set_stream(stream)

    def _after(self, event: torch.cuda.Event, work: Callable[..., T], *given: Any) -> T:
        own = torch.cuda.current_stream(self.device)
        own.wait_event(event)
        try:
            return work(*given)
        finally:
            own.synchronize()  # before another stream reads the results, or memory is given back


@lru_cache(maxsize=256)
def _stream(device: torch.device, index: int) -> torch.cuda.Stream:
    """Memory that was used on a stream is used again on that one only: there are but a few."""
    return torch.cuda.Stream(device)
