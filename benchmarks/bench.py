"""What the parts of a check cost: a table on the terminal, with conditions. Run by `make bench`.

Times are medians of several runs on whatever the machine is doing; compare ratios within one table.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from gpu_check.attention import observe
from gpu_check.check import Checker
from gpu_check.pairs import Claim, Head, TiledCheck
from gpu_check.visibility import Visibility
from tappa_theory import similarity
from tappa_theory.rope import Rope, to_channels, unrotate
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

TAPPA = Path(sys.executable).parent / "tappa"


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Median wall-clock seconds of an action, after one run to warm up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def synthetic_layer(
    heads: int, kv_heads: int, tokens: int, head_dim: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random queries and keys, (heads, T, d) and (kv_heads, T, d), seeded."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(heads, tokens, head_dim, generator=generator)
    keys = torch.randn(kv_heads, tokens, head_dim, generator=generator)
    return queries, keys


def check_once() -> tuple[float, float, float]:
    """(seconds of the check after loading, wall seconds of the command, peak GiB), default job."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([TAPPA, "check", "--out", folder], check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        document = json.loads((Path(folder) / "check.json").read_text(encoding="utf-8"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return document["environment"]["seconds"]["check"], wall, peak


def four_theorems(heads: int, head: Head, claims: list[Claim]) -> float:
    """Seconds for the four theorems on every pair of so many heads, side by side on all cores."""
    deviation = torch.ones(head.z.shape[0], dtype=torch.float64)
    start = time.perf_counter()
    with ThreadPoolExecutor(
        os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        list(pool.map(lambda _: TiledCheck(head).run(claims, deviation), range(heads)))
    return time.perf_counter() - start


def rows() -> list[tuple[str, str, str]]:
    """(what, time, against what) of every measurement."""
    found = []
    start_up = seconds(
        lambda: subprocess.run([TAPPA, "--help"], check=True, stdout=subprocess.DEVNULL)
    )
    found.append(("tappa --help", f"{start_up:.2f} s", "limit 0.3 s"))

    queries, keys = synthetic_layer(1, 1, 4096, 64)
    closed = seconds(lambda: similarity.all_pairs(queries[0]))
    unit = torch.nn.functional.normalize(queries[0].double(), dim=-1)
    gram = seconds(lambda: (unit @ unit.T).sum())
    found.append(
        (
            "all-pairs q-similarity, 4,096 x 64, closed form",
            f"{1e3 * closed:.2f} ms",
            f"T x T matrix: {1e3 * gram:.1f} ms, {gram / closed:.0f} times",
        )
    )

    queries, keys = synthetic_layer(1, 1, 1024, 64)
    rope = Rope.from_parameters(64, {"rope_type": "default", "rope_theta": 1e5})
    positions, visibility = torch.arange(1024), Visibility(1024)
    z = unrotate(to_channels(queries[0], rope), rope, positions)
    w = unrotate(to_channels(keys[0], rope), rope, positions)
    head = Head(z, w, rope, 0.125, visibility)
    claims = [
        Claim(THEOREMS[name], THEOREMS[name].shift(N=6, L=24), star=8) for name in SHIFT_THEOREMS
    ]
    deviation = torch.ones(1024, dtype=torch.float64)
    tiled = seconds(lambda: TiledCheck(head).run(claims, deviation), 3)
    found.append(("four theorems, all pairs, one head of 1,024", f"{tiled:.3f} s", ""))
    many = four_theorems(270, head, claims)
    found.append(("four theorems, all pairs, 270 heads of 1,024", f"{many:.1f} s", "limit 20 s"))
    check = TiledCheck(head)
    features = check.query_logit[None], check.key_logit[None]
    seen = seconds(lambda: observe(*features, visibility), 3)
    found.append(("attention map observed, one head of 1,024", f"{seen:.3f} s", ""))
    queries, keys = synthetic_layer(9, 3, 1024, 64)
    layer = seconds(
        lambda: Checker().add_layer(0, queries, keys, rope, scale=0.125, visibility=visibility), 1
    )
    found.append(("a whole layer of 9 heads, 1,024 tokens", f"{layer:.2f} s", ""))

    checked, wall, peak = check_once()
    found.append(
        ("all of the check of smollm2-135m, after loading", f"{checked:.1f} s", "patterns included")
    )
    found.append(("  the whole command, with loading and report", f"{wall:.1f} s", "limit 100 s"))
    found.append(("  its peak memory", f"{peak:.2f} GiB", "limit 3 GiB"))
    return found


def main() -> None:
    """Print the table."""
    table = Table("what", "measured", "beside", title="tappa on this machine")
    for row in rows():
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, float64 arithmetic, device cpu"
    )


if __name__ == "__main__":
    main()
