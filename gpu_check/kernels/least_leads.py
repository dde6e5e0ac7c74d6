"""The least lead over distance of every row's top key: over all rivals, and over some of them."""

import torch
import triton
import triton.language as tl

from gpu_check.kernels.row_steps import KEYS, WARPS, require_rows
from tappa_theory.errors import InputError


@triton.jit(
    do_not_specialize=["rows", "width", "apart", "squares_apart", "first"],
    do_not_specialize_on_alignment=[
        "logits",
        "attention",
        "squares",
        "levels",
        "top",
        "thresholds",
        "found",
    ],
)
def _least_leads(
    logits, attention, squares, levels, top, thresholds, found, rows, width, apart, squares_apart,
    first, KEYS: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    place = head * apart + row.to(tl.int64) * width
    squares += head * squares_apart + row.to(tl.int64) * width
    number = head * rows + row
    level, own = tl.load(levels + number), tl.load(top + number)
    level = tl.where(level > float("-inf"), level, 0.0)  # of a row that sees no key
    threshold = tl.load(thresholds + number)
    stop = tl.minimum(first + row + 1, width)
    key = tl.arange(0, KEYS)
    every = tl.zeros((KEYS,), tl.float64) + float("inf")
    some = every
    smallest = tl.full((KEYS,), SMALLEST, tl.float64)
    for begin in range(0, stop, KEYS):
        i = begin + key
        inside = i < stop
        logit = tl.load(logits + place + i, mask=inside, other=float("-inf"))
        weight = tl.load(attention + place + i, mask=inside, other=0.0)
        square = tl.load(squares + i, mask=inside, other=1.0)
        rival = (logit > float("-inf")) & (i != own)
        margin = tl.maximum(level - tl.where(rival, logit, level), 0.0)
        ratio = margin * margin * (1.0 / tl.maximum(square, smallest))
        every = tl.minimum(every, tl.where(rival, ratio, float("inf")))
        some = tl.minimum(some, tl.where(rival & (weight < threshold), ratio, float("inf")))
    tl.store(found + number, tl.min(every, axis=0))
    tl.store(found + tl.num_programs(1).to(tl.int64) * rows + number, tl.min(some, axis=0))


def least_leads(
    logits: torch.Tensor,
    attention: torch.Tensor,
    squares: torch.Tensor,
    *,
    levels: torch.Tensor,
    top: torch.Tensor,
    thresholds: torch.Tensor,
    first: int,
    smallest: float,
) -> torch.Tensor:
    """(2, H, R) the least max(level - logit, 0)^2 / square: of all rivals of a row's top key, and
    of those with an attention below the row's threshold; inf where there is none.

    logits, attention, squares: (H, R, W) float64, the rows of a head contiguous; logits -inf where
    a key is hidden, as keys behind a row's own position are. levels, thresholds: (H, R) float64.
    top: (H, R) int64, key that is no rival. first: position of the first row. smallest: lower limit
    of a square, above 0. Raises InputError for other shapes or types.
    """
    require_rows(logits, attention)
    require_rows(squares)
    heads, rows, width = logits.shape
    if squares.shape != logits.shape:
        raise InputError(f"squares {tuple(squares.shape)} given; pass {tuple(logits.shape)}")
    types = torch.float64, torch.int64, torch.float64
    for each, dtype in zip((levels, top, thresholds), types, strict=True):
        if tuple(each.shape) != (heads, rows) or each.dtype != dtype:
            expected = f"({heads}, {rows}) {dtype}"
            raise InputError(f"{tuple(each.shape)} of {each.dtype} given; pass {expected}")
    found = torch.empty((2, heads, rows), dtype=torch.float64, device=logits.device)
    if rows:
        given = levels.contiguous(), top.contiguous(), thresholds.contiguous()
        _least_leads[(rows, heads)](
            logits,
            attention,
            squares,
            *given,
            found,
            rows,
            width,
            logits.stride(0),
            squares.stride(0),
            first,
            KEYS,
            smallest,
            num_warps=WARPS,
        )
    return found
