"""What the device can do at most, measured in the same run as everything else."""

import torch

from benchmarks.gpu.measure import Row, quantiles, times

COPIED = 2**30
"""Bytes of the copy; several times the L2 cache."""
SIZE = 8192
"""Side of the bfloat16 matrices."""


def rows() -> list[Row]:
    """Device copy, bytes read and written, and a large bfloat16 and float64 matrix product."""
    source = torch.empty(COPIED // 2, dtype=torch.bfloat16, device="cuda").normal_()
    target = torch.empty_like(source)
    found = quantiles(times(lambda: target.copy_(source)))
    copy = Row("device copy", "torch", 1, 1, COPIED // 2, "bfloat16", **found, bytes=2 * COPIED)
    products = []
    for dtype, size in ((torch.bfloat16, SIZE), (torch.float64, SIZE // 2)):
        left, right = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
        found = quantiles(times(lambda left=left, right=right: left @ right, runs=10))
        name = str(dtype).removeprefix("torch.")
        products.append(
            Row("matrix product", "torch", 1, size, size, name, **found, flop=2 * size**3)
        )
    return [copy, *products]


def ceilings(found: list[Row]) -> dict[str, float]:
    """{"copy": bytes per second, "matmul": bfloat16 flop per second}."""
    copy, matmul = found[0], found[1]
    assert copy.bytes is not None
    assert matmul.flop is not None
    return {
        "copy": copy.bytes / (copy.p50_ms / 1e3),
        "matmul": matmul.flop / (matmul.p50_ms / 1e3),
    }
