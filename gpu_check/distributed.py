"""The processes that torchrun or accelerate starts to share the units of a run."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from tappa_theory.errors import InputError

T = TypeVar("T")

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process it starts; all of them, or the process is alone."""
ROUND = 16
"""Units of each process between two gatherings: few enough that an interrupt loses little, enough
that processes with a unit more or less hardly wait for each other."""
PATIENCE = timedelta(days=30)
"""How long one process waits for another. The launcher ends them all when one fails; until then the
other one works."""
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class ProcessLost(RuntimeError):
    """Another process of the run ended without saying why."""


class Agreed(InputError):
    """Bad input that every process knows of."""


@dataclass(frozen=True)
class World:
    """The processes that share a run; `World()` is one alone.

    rank: index of this process among `size`. local_size: how many of them run on this machine.
    device: that of this process, named as on the command line. shared: have other processes the
    same GPU? NCCL joins only processes that have one each; the others talk through gloo.

    All processes call the methods in the same order, but for `mine`: each of the others waits for
    all processes. They raise ProcessLost if one has ended.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    device: str = "auto"
    shared: bool = False

    @property
    def first(self) -> bool:
        """Is this the process that speaks and writes?"""
        return self.rank == 0

    def mine(self, indices: Sequence[int]) -> list[int]:
        """Those of the indices of all units that this process works on: every size-th one."""
        return [index for index in indices if index % self.size == self.rank]

    def gather(self, found: Sequence[tuple[int, T]]) -> list[T]:
        """The results of all processes in the order of their indices; in the first process only.

        found: (index, result) of this process's units. Results are pickled; tensors in them (in
        tuples, lists, dicts and dataclasses) come back on the CPU.
        """
        parts: list[Any] = [found]
        if self.size > 1:
            self.everyone(None)
            parts = [None] * self.size if self.first else []
            with _others_alive():
                dist.gather_object(_on_cpu(list(found)), parts if self.first else None)
        pairs = [pair for part in parts for pair in part]
        return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]

    def everyone(self, value: T, error: InputError | None = None) -> list[T]:
        """The values of all processes, by rank, in all of them.

        Raises InputError in all of them if any has an `error`, with the message of the first such.
        """
        if self.size == 1:
            if error is not None:
                raise error
            return [value]
        said: list[Any] = [None] * self.size
        with _others_alive():
            dist.all_gather_object(said, (value, error and str(error)))
        for _, problem in said:
            if problem is not None:
                raise Agreed(problem) from error
        return [value for value, _ in said]

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """A block that ends in all processes with an InputError if it does in any."""
        error = None
        try:
            yield
        except Agreed:
            raise
        except InputError as own:
            error = own
        self.everyone(None, error)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """A block that the first process leaves before the others enter: they find what it fetched.

        An InputError of the first is one of all.
        """
        if not self.first:
            self.everyone(None)
            yield
            return
        with self.agreeing():
            yield

    def same(self, numbers: torch.Tensor) -> bool:
        """Do all processes hold the same (n,) int64? Compared on their devices, by NCCL on GPUs."""
        if self.size == 1:
            return True
        by_nccl = self.device.startswith("cuda:") and not self.shared
        low = numbers.to(self.device if by_nccl else "cpu", copy=True)
        high = low.clone()
        with _others_alive():
            dist.all_reduce(low, dist.ReduceOp.MIN)
            dist.all_reduce(high, dist.ReduceOp.MAX)
            return torch.equal(low, high)

    def barrier(self) -> None:
        """Wait until every process is here and its device has done all it was given."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        self.everyone(None)


ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The processes that were started together with this one, for the block; else it is alone.

    device: as on the command line. Where there are several processes, "auto" and "cuda" are the
    GPU of the process's index on its machine; more processes than GPUs share them in turn. Tensors
    on GPUs of their own are exchanged through NCCL, all else through gloo. A signal to end raises
    KeyboardInterrupt, and further ones are ignored.

    Raises InputError for one GPU named by its index.
    """
    told = {name: os.environ.get(name, "") for name in VARIABLES}
    if "" in told.values() or told["WORLD_SIZE"] == "1":
        yield World(device=device)
        return
    local_size = int(told["LOCAL_WORLD_SIZE"])
    own = _own_device(device, int(told["LOCAL_RANK"]))
    on_gpu = own.startswith("cuda:")
    shared = on_gpu and torch.cuda.device_count() < local_size
    if on_gpu:
        torch.cuda.set_device(own)
    with _others_alive():
        # Objects go through gloo, which unlike NCCL notices when a process is gone.
        backend = "cpu:gloo,cuda:nccl" if on_gpu and not shared else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    signal.signal(signal.SIGTERM, _end)
    interrupted = signal.signal(signal.SIGINT, _end)
    world = World(dist.get_rank(), dist.get_world_size(), local_size, own, shared)
    world.same(torch.zeros(1, dtype=torch.int64))  # what keeps devices from talking shows now
    try:
        yield world
    except InputError:
        _leave(interrupted)
        raise
    # Whatever else ended the block, others may be gone, and leaving would wait for them.
    _leave(interrupted)


def digest(x: torch.Tensor) -> torch.Tensor:
    """A number, () int64, for the bits of x, on its device: other bits have nearly always another.

    Sums of integers do not depend on their order, so that equal bits give it on every device.
    """
    total = torch.zeros((), dtype=torch.int64, device=x.device)
    bits = x.detach().contiguous().view(_INTEGERS[x.element_size()]).flatten()
    for part in bits.split(2**24):
        weights = torch.arange(1, 2 * len(part), 2, device=x.device)
        total = 31 * total + (part.to(torch.int64) * weights).sum()
    return total


def _own_device(device: str, local_rank: int) -> str:
    if device.startswith("cuda:"):
        raise InputError(
            f"--device {device} with several processes, which are spread over all GPUs; "
            "use --device cuda, and CUDA_VISIBLE_DEVICES to choose among the GPUs"
        )
    if device not in ("auto", "cuda"):
        return device
    if not torch.cuda.is_available():
        return "cpu" if device == "auto" else device  # refused where it is loaded to
    return f"cuda:{local_rank % torch.cuda.device_count()}"


@contextmanager
def _others_alive() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        _ignore_signals()
        reason = " ".join(str(error).split())
        raise ProcessLost(f"lost another process of this run ({reason:.300})") from error


def _end(number: int, frame: Any) -> None:
    """What a signal to end does. The files that follow shall not be cut short by a second one."""
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _leave(interrupted: Any) -> None:
    """interrupted: what Ctrl-C did before."""
    # The launcher ends all processes as soon as one ends with an error, and this one has yet to
    # say what was wrong, and to end as the others do.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, interrupted)
    dist.destroy_process_group()


def _on_cpu(value: Any) -> Any:
    """The value with its tensors on the CPU, where another process can have them."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_on_cpu, value))
    if isinstance(value, list | tuple):
        return type(value)(map(_on_cpu, value))
    if is_dataclass(value) and not isinstance(value, type):
        own = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        return replace(value, **{name: _on_cpu(item) for name, item in own.items()})
    return value
