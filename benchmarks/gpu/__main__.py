"""Check and time the kernels on a CUDA device: a table, a plot and a tidy CSV in one folder."""

import argparse
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import triton
from rich.console import Console
from rich.table import Table

from benchmarks.gpu import attention_rows, ceilings, devices, q_similarity, shift_check
from benchmarks.gpu.measure import Row, with_share, write_rows
from tappa_theory.app.style import PAGE_WIDTH, PNG_DPI, figure_style

PARTS = {
    "q_similarity": q_similarity.rows,
    "shift_check": shift_check.rows,
    "attention_rows": attention_rows.rows,
    "devices": devices.rows,
}
THEORY = {"q_similarity": 1, "shift_check": 2, "attention_rows": 2}
"""Exponent of the time's growth with the tokens."""
FITTED = 3
"""Longest lengths to which the slope is fitted: below, launches are what takes the time."""


def conditions() -> dict[str, str]:
    """Device and versions."""
    return {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
    }


def table(rows: Iterable[Row]) -> Table:
    """All rows, for the terminal."""
    found = Table("kernel", "variant", "shape", "dtype", "p50 ms", "p20-p80", "of", "share", "MiB")
    for row in rows:
        found.add_row(
            row.kernel,
            row.variant,
            f"{row.heads} x {row.tokens:,} x {row.head_dim}",
            row.dtype,
            f"{row.p50_ms:.4g}",
            f"{row.p20_ms:.4g}-{row.p80_ms:.4g}",
            row.ceiling or "",
            "" if row.share is None else f"{row.share:.1%}",
            "" if row.memory_bytes is None else f"{row.memory_bytes / 2**20:.1f}",
        )
        if row.note:
            found.add_row("", f"  {row.note}", *[""] * 7)
    return found


def slopes(rows: Iterable[Row]) -> dict[str, float]:
    """Fitted exponent of the median time against the tokens, by kernel."""
    found = {}
    growing = [row for row in rows if row.variant == "growth"]
    for kernel in dict.fromkeys(row.kernel for row in growing):
        points = sorted((r.tokens, r.p50_ms) for r in growing if r.kernel == kernel)
        tokens, times = np.log(np.array(points[-FITTED:]).T)
        found[kernel] = float(np.polyfit(tokens, times, 1)[0])
    return found


def draw(rows: list[Row], fitted: dict[str, float], path: Path, told: str) -> None:
    """Median time against the tokens, with the fitted slopes."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(PAGE_WIDTH * 0.6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for marker, (kernel, slope) in zip("os^Dv", fitted.items(), strict=False):
            points = [r for r in rows if r.kernel == kernel and r.variant == "growth"]
            shape = f"{points[0].heads} heads x {points[0].head_dim}, {points[0].dtype}"
            axes.errorbar(
                [r.tokens for r in points],
                [r.p50_ms for r in points],
                yerr=[
                    [r.p50_ms - r.p20_ms for r in points],
                    [r.p80_ms - r.p50_ms for r in points],
                ],
                marker=marker,
                markersize=3.5,
                label=f"{kernel}, {shape}: slope {slope:.2f} (theory {THEORY[kernel]})",
            )
        axes.set(
            xscale="log", yscale="log", xlabel="tokens", ylabel="time, ms (median, p20 to p80)"
        )
        axes.set_xscale("log", base=2)
        axes.set_title(told, fontsize=6)
        figure.legend(loc="outside lower center", ncols=1)
        for suffix in ("png", "svg"):
            figure.savefig(path.with_suffix(f".{suffix}"), dpi=PNG_DPI)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a part failed, 2 without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("tappa-out/gpu"))
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("make gpu: torch sees no CUDA device here; run it on a machine with one")
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    console, told = Console(width=150), conditions()
    limits = ceilings.rows()
    speeds = ceilings.ceilings(limits)
    rows = list(limits)
    failed = []
    for name in given.parts or PARTS:
        try:
            for row in PARTS[name]():
                rows.append(with_share(row, speeds))
                # what was measured is kept, whatever happens next
                write_rows(given.out / "benchmark.csv", rows, told)
        except Exception:
            failed.append(name)
            console.print_exception(max_frames=4)
    line = ", ".join(f"{name} {value}" for name, value in told.items())
    fitted = slopes(rows)
    if fitted:
        draw(rows, fitted, given.out / "growth.png", line)
    console.print(table(rows))
    console.print(
        f"copy {speeds['copy'] / 1e9:,.0f} GB/s, bfloat16 products "
        f"{speeds['matmul'] / 1e12:,.0f} TFLOP/s; "
        + ", ".join(f"{k}: time ~ T^{s:.2f} (theory {THEORY[k]})" for k, s in fitted.items())
    )
    console.print(line)
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
