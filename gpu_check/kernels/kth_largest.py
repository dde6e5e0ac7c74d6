"""The k-th largest number of every row, with a k of its own: from which attention a key is kept.

A row lies in the registers of one program, which finds the number bit by bit, the highest first:
of non-negative numbers in float64 the bits, read as integers, have the order of the numbers.
"""

import torch
import triton
import triton.language as tl

from tappa_theory.errors import InputError

LARGEST = 2**14
"""Longest row: more would not fit the registers of a program."""
_BITS = tl.constexpr(63)
"""Of a float64 without its sign."""


@triton.jit
def _kernel(numbers, counts, found, width, stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    count = tl.load(counts + row)
    place = tl.arange(0, BLOCK)
    own = tl.load(numbers + row * stride + place, mask=place < width, other=-1.0)
    bits = own.to(tl.int64, bitcast=True)  # negative behind the end of the row: never counted
    kth = tl.zeros((), tl.int64)
    for step in range(_BITS):
        raised = kth | (tl.full((), 1, tl.int64) << (_BITS - 1 - step))
        at_least = tl.sum((bits >= raised).to(tl.int32), axis=0)
        kth = tl.where(at_least >= count, raised, kth)
    tl.store(found + row, kth.to(tl.float64, bitcast=True))


def kth_largest(numbers: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """(R,) float64, exact: of row r the counts[r]-th of its numbers, the largest first.

    numbers: (R, W) float64, at least 0, neither NaN nor -0, W at most `LARGEST`; entries of a row
    lie next to each other. counts: (R,) int64, 1 to W.
    Raises InputError for other shapes or types.
    """
    rows, width = numbers.shape if numbers.ndim == 2 else (0, 0)
    fits = 0 < width <= LARGEST and numbers.stride(1) == 1 and tuple(counts.shape) == (rows,)
    if not fits or numbers.dtype != torch.float64 or counts.dtype != torch.int64:
        raise InputError(
            f"numbers {tuple(numbers.shape)} of {numbers.dtype} and counts {tuple(counts.shape)} "
            f"of {counts.dtype} given; pass (R, W) float64, W from 1 to {LARGEST}, and (R,) int64"
        )
    found = torch.empty(rows, dtype=torch.float64, device=numbers.device)
    if rows:
        block = max(triton.next_power_of_2(width), 128)
        warps = min(max(block // 1024, 1), 16)
        counts = counts.contiguous()
        _kernel[(rows,)](numbers, counts, found, width, numbers.stride(0), block, num_warps=warps)
    return found
