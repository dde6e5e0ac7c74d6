"""Triton compiles a kernel when it is first launched; here that is done before it is needed."""

import torch

from gpu_check.attention import heads_together, rows_of_block
from gpu_check.check import Checker
from gpu_check.kernels.kth_largest import LARGEST, kth_largest
from gpu_check.visibility import Visibility
from tappa_theory.rope import Rope

TOKENS = 256
"""Of the text that is checked: some tiles of its map are seen whole, and some are not."""


def warm_up(
    head_dim: int,
    device: torch.device | str,
    *,
    heads: int = 1,
    length: int = 8192,
    windows: tuple[int | None, ...] = (None,),
) -> None:
    """Launch what a check launches, on a small text, and so have every kernel compiled and loaded.

    head_dim, heads: of the queries. length: tokens of a text to come. windows: of the layers. To be
    called in a thread of its own while a model loads; it does nothing without a CUDA device. What
    only padding inside a text needs is left to be compiled later.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return
    with torch.cuda.device(device):
        for sliding in sorted({window is not None and window < length for window in windows}):
            check_random(head_dim, device, TOKENS // 2 if sliding else None)
        for width in block_widths(heads, length, device):
            numbers = torch.rand((2, width), dtype=torch.float64, device=device)
            kth_largest(numbers, torch.ones(2, dtype=torch.int64, device=device))
        torch.cuda.synchronize(device)


def block_widths(heads: int, length: int, device: torch.device) -> list[int]:
    """Keys of the blocks in which the maps of so many heads are looked at; no more than LARGEST."""
    together = heads_together(length, device)
    # The last heads may be fewer, in blocks of more rows.
    sizes = {
        rows_of_block(length, device, n) for n in (min(heads, together), heads % together) if n
    }
    ends = {min(end, length) for size in sizes for end in range(size, length + size, size)}
    return sorted(width for width in ends if width <= LARGEST)


def check_random(head_dim: int, device: torch.device, window: int | None) -> None:
    """Check a layer of two random heads of which every theorem says something."""
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(n, TOKENS, head_dim, generator=generator) for n in (2, 1))
    rope = Rope.from_parameters(head_dim, {"rope_type": "default", "rope_theta": 1e4})
    checker = Checker(threads=1)
    checker.add_layer(
        0,
        queries.to(device),
        keys.to(device),
        rope,
        scale=head_dim**-0.5,
        visibility=Visibility(TOKENS, window),
    )
    checker.finish()
