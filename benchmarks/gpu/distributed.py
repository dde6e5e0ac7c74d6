"""Work spread over the GPUs of a machine, timed, and its results compared bit by bit.

    python -m benchmarks.gpu.distributed
    torchrun --nproc-per-node 2 -m benchmarks.gpu.distributed

Equal digests mean equal bits, whatever the number of processes.
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch

from gpu_check.distributed import World, joined

LAYERS, HEADS, KV_HEADS, TOKENS, HEAD_DIM = 8, 8, 2, 2048, 128


@dataclass(frozen=True)
class Spread:
    """What a spread work gave, on the first process.

    results: in the order of the units, tensors on the CPU. seconds: of the slowest process, from a
    barrier to the end of its own work. each: seconds of every process. digest: SHA-256 of the
    results.
    """

    results: list[Any]
    seconds: float
    each: list[float]
    digest: str


def spread(
    world: World, work: Callable[[int, torch.device], object], units: Sequence[int]
) -> Spread | None:
    """work(unit, device) for all units, by the processes of the world; None but on the first.

    work: on the device it is given; what it returns must not depend on the process. Its first call
    in a process, with the process's first unit, is not timed: kernels are compiled in it.
    """
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(auto if world.device == "auto" else world.device)
    # By place in the list, so that the shares are even whatever the units are.
    mine = [(place, units[place]) for place in world.mine(range(len(units)))]
    for _, unit in mine[:1]:
        work(unit, device)
    world.barrier()
    start = time.perf_counter()
    found = [(place, work(unit, device)) for place, unit in mine]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    each = world.everyone(time.perf_counter() - start)
    world.barrier()
    results = world.gather(found)
    if not world.first:
        return None
    return Spread(results, max(each), each, digest(results))


def digest(results: Any) -> str:
    """SHA-256 of the bits of tensors, arrays and numbers in tuples, lists, dicts, dataclasses."""
    state = hashlib.sha256()
    _add(state, results)
    return state.hexdigest()


def _add(state: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        bits = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        state.update(f"{value.dtype}{tuple(value.shape)}".encode() + bits.tobytes())
    elif isinstance(value, np.ndarray):
        state.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, dict):
        _add(state, list(value.items()))
    elif isinstance(value, list | tuple):
        state.update(f"[{len(value)}]".encode())
        for item in value:
            _add(state, item)
    elif is_dataclass(value):
        _add(state, [(each.name, getattr(value, each.name)) for each in fields(value)])
    elif value is None or isinstance(value, bool | int | float | complex | str):
        state.update(f"{type(value).__name__}:{value!r};".encode())
    else:
        raise TypeError(f"a {type(value).__name__} has no bits to compare")


def check_layer(unit: int, device: torch.device) -> object:
    """The check of one seeded random layer: the results of its heads."""
    from gpu_check.check import check
    from tappa_theory.rope import Rope

    generator = torch.Generator().manual_seed(unit)
    queries = torch.randn(HEADS, TOKENS, HEAD_DIM, generator=generator).to(device)
    keys = torch.randn(KV_HEADS, TOKENS, HEAD_DIM, generator=generator).to(device)
    rope = Rope.from_parameters(HEAD_DIM, {"rope_type": "default", "rope_theta": 1e5})
    return check(queries, keys, rope).heads


def show(name: str, found: Spread) -> None:
    """One line: seconds of the slowest process and of each, and the digest."""
    each = ", ".join(f"{seconds:.3f}" for seconds in found.each)
    print(f"{name}: {found.seconds:.3f} s on {len(found.each)} ({each}), digest {found.digest:.16}")


def shift_check_layer(unit: int, device: torch.device) -> object:
    """Every pair of a layer of the shape of an 8B model, three shifts, certified."""
    from benchmarks.gpu.shift_check import check_layer, layer

    return check_layer(*layer(unit, device=device))


WORK: dict[str, tuple[Callable[[int, torch.device], object], int, str]] = {
    "check": (check_layer, LAYERS, f"check, {LAYERS} layers of {HEADS} x {TOKENS:,} x {HEAD_DIM}"),
    "shift_check": (shift_check_layer, 32, "shift_check, 32 layers of 32 x 32,768 x 128"),
}


def main() -> None:
    """Spread the work over the processes that torchrun started, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--work", default="shift_check", choices=list(WORK))
    given = parser.parse_args()
    work, units, name = WORK[given.work]
    with joined(given.device) as world:
        found = spread(world, work, range(units))
        if found is not None:
            show(name, found)


if __name__ == "__main__":
    main()
