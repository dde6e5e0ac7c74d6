"""The check on a CUDA device against the check on the CPU: equal numbers, and what each takes."""

import time
from collections.abc import Iterator

import torch

from benchmarks.gpu.measure import Row, quantiles
from gpu_check.check import Checker, CheckResult
from gpu_check.visibility import Visibility
from tappa_theory.rope import Rope

SIZES = ((8, 2, 512, 64), (8, 2, 1024, 128))
"""(heads, key/value heads, tokens, head size) of the layers measured."""

TOLERANCE = 1e-9
"""Relative difference allowed between devices: float64 sums of up to 1,024 x 256 terms, each with a
unit roundoff of 1.1e-16, taken in another order."""


def check_layer(size: tuple[int, int, int, int], device: str) -> tuple[CheckResult, float]:
    """Check one seeded random layer on a device: (result, seconds)."""
    heads, kv_heads, tokens, head_dim = size
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(heads, tokens, head_dim, generator=generator).to(device)
    keys = torch.randn(kv_heads, tokens, head_dim, generator=generator).to(device)
    rope = Rope.from_parameters(head_dim, {"rope_type": "default", "rope_theta": 1e5})
    checker = Checker()
    start = time.perf_counter()
    checker.add_layer(0, queries, keys, rope, scale=head_dim**-0.5, visibility=Visibility(tokens))
    return checker.result, time.perf_counter() - start


def largest_difference(one: CheckResult, other: CheckResult) -> float:
    """Largest relative difference between the ratios and bounds of two results.

    Raises AssertionError if they counted different pairs or read different patterns.
    """
    worst = 0.0
    for first, second in zip(one.heads, other.heads, strict=True):
        assert first.pattern_observed == second.pattern_observed
        assert first.pattern_predicted == second.pattern_predicted
        for name, left in first.theorems.items():
            right = second.theorems[name]
            assert (left.pairs, left.violations) == (right.pairs, right.violations), name
            for field in ("max_ratio", "mean_ratio", "mean_observed", "mean_bound"):
                a, b = getattr(left, field), getattr(right, field)
                if a is not None:
                    worst = max(worst, abs(a - b) / max(abs(a), 1e-300))
    return worst


def rows() -> Iterator[Row]:
    """Both devices at every size. Raises AssertionError if their numbers differ."""
    for size in SIZES:
        heads, kv_heads, tokens, head_dim = size
        check_layer(size, "cuda")  # its kernels are compiled
        on_cpu, cpu_seconds = check_layer(size, "cpu")
        on_cuda, cuda_seconds = check_layer(size, "cuda")
        difference = largest_difference(on_cpu, on_cuda)
        assert difference < TOLERANCE, f"{size}: cpu and cuda differ by {difference:.1e}"
        note = f"{kv_heads} key heads; largest relative difference cpu to cuda {difference:.1e}"
        for device, seconds in (("cpu", cpu_seconds), ("cuda", cuda_seconds)):
            found = quantiles([1e3 * seconds])
            yield Row(
                "check, a layer", device, heads, tokens, head_dim, "float64", **found, note=note
            )
