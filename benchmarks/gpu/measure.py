"""Timing on a CUDA device: quantiles by events, memory besides the inputs, a row a measurement."""

import csv
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """One measurement; None where a number does not apply.

    p20_ms, p50_ms, p80_ms: quantiles of the runs. bytes, flop: what has to be moved or computed at
    least. memory_bytes: the most allocated at once besides the inputs. ceiling: what limits it,
    "copy" (bytes) or "matmul" (flop), and share: of that ceiling, measured in the same run.
    """

    kernel: str
    variant: str
    heads: int
    tokens: int
    head_dim: int
    dtype: str
    p20_ms: float
    p50_ms: float
    p80_ms: float
    runs: int
    bytes: float | None = None
    flop: float | None = None
    memory_bytes: int | None = None
    ceiling: str | None = None
    share: float | None = None
    note: str = ""


def times(action: Callable[[], object], runs: int = 20, warm_up: int = 2) -> list[float]:
    """Milliseconds of each run, by events."""
    for _ in range(warm_up):
        action()
    found = []
    for _ in range(runs):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        action()
        stop.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(stop))
    return found


def quantiles(milliseconds: list[float]) -> dict[str, float]:
    """p20_ms, p50_ms, p80_ms and the number of runs."""
    ordered = sorted(milliseconds)
    last = len(ordered) - 1
    return {
        "p20_ms": ordered[round(0.2 * last)],
        "p50_ms": statistics.median(ordered),
        "p80_ms": ordered[round(0.8 * last)],
        "runs": len(ordered),
    }


def extra_memory(action: Callable[[], object]) -> int:
    """Bytes allocated at most by one run besides what was there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    action()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def with_share(row: Row, ceilings: Mapping[str, float]) -> Row:
    """The row with its share of the ceiling: copy in bytes a second, matmul in flop a second."""
    work = {"copy": row.bytes, "matmul": row.flop}.get(row.ceiling or "")
    if work is None or row.ceiling is None:
        return row
    share = work / (row.p50_ms / 1e3) / ceilings[row.ceiling]
    return Row(**(asdict(row) | {"share": share}))


def write_rows(path: Path, rows: Iterable[Row], conditions: Mapping[str, str]) -> None:
    """A tidy CSV: one measurement a line, the conditions of the run in every line."""
    names = [field.name for field in fields(Row)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names, *conditions])
        writer.writeheader()
        for row in rows:
            writer.writerow(asdict(row) | dict(conditions))
