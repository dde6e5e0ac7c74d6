"""What keys that are discarded at one row are worth some rows later: sums and extremes.

One program walks the keys that a row sees once, beside the same keys of the later row.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from gpu_check.kernels.row_steps import KEYS, WARPS, require_rows
from tappa_theory.errors import InputError

NUMBERS = 7
"""That a program finds of its row."""


@dataclass(frozen=True, eq=False)
class LaterRows:
    """Of rows r and r + step, (H, n) each, over the keys that both see.

    early, late: attention of the earlier and of the later row. early_gone, late_gone: of it that on
    keys discarded at the earlier. rival: highest logit of these in the later row, -inf if there is
    none. highest, lowest: logit change from one row to the other; -inf and inf without a key.
    """

    early: torch.Tensor
    early_gone: torch.Tensor
    late: torch.Tensor
    late_gone: torch.Tensor
    rival: torch.Tensor
    highest: torch.Tensor
    lowest: torch.Tensor


@triton.jit(
    do_not_specialize=["begin_row", "step", "count", "rows", "width", "apart", "first"],
    do_not_specialize_on_alignment=["logits", "attention", "thresholds", "found"],
)
def _later_rows(
    logits, attention, thresholds, found, begin_row, step, count, rows, width, apart, first,
    KEYS: tl.constexpr,
):  # fmt: skip
    row, head = begin_row + tl.program_id(0), tl.program_id(1).to(tl.int64)
    place = head * apart + row.to(tl.int64) * width
    behind = place + step.to(tl.int64) * width
    threshold = tl.load(thresholds + head * rows + row)
    stop = tl.minimum(first + row + 1, width)
    key = tl.arange(0, KEYS)
    zero = tl.zeros((KEYS,), tl.float64)
    early, early_gone, late, late_gone = zero, zero, zero, zero
    rival, highest, lowest = zero - float("inf"), zero - float("inf"), zero + float("inf")
    for begin in range(0, stop, KEYS):
        i = begin + key
        inside = i < stop
        before = tl.load(logits + place + i, mask=inside, other=float("-inf"))
        after = tl.load(logits + behind + i, mask=inside, other=float("-inf"))
        weight = tl.load(attention + place + i, mask=inside, other=0.0)
        weight_after = tl.load(attention + behind + i, mask=inside, other=0.0)
        shared = (before > float("-inf")) & (after > float("-inf"))
        gone = shared & (weight < threshold)
        change = tl.where(shared, after, 0.0) - tl.where(shared, before, 0.0)
        early += tl.where(shared, weight, 0.0)
        early_gone += tl.where(gone, weight, 0.0)
        late += tl.where(shared, weight_after, 0.0)
        late_gone += tl.where(gone, weight_after, 0.0)
        rival = tl.maximum(rival, tl.where(gone, after, float("-inf")))
        highest = tl.maximum(highest, tl.where(shared, change, float("-inf")))
        lowest = tl.minimum(lowest, tl.where(shared, change, float("inf")))
    found += head * count + tl.program_id(0)
    each = count.to(tl.int64) * tl.num_programs(1)
    tl.store(found, tl.sum(early, axis=0))
    tl.store(found + each, tl.sum(early_gone, axis=0))
    tl.store(found + 2 * each, tl.sum(late, axis=0))
    tl.store(found + 3 * each, tl.sum(late_gone, axis=0))
    tl.store(found + 4 * each, tl.max(rival, axis=0))
    tl.store(found + 5 * each, tl.max(highest, axis=0))
    tl.store(found + 6 * each, tl.min(lowest, axis=0))


def later_rows(
    logits: torch.Tensor,
    attention: torch.Tensor,
    thresholds: torch.Tensor,
    *,
    first: int,
    begin: int,
    step: int,
) -> LaterRows:
    """Compare each of the consecutive rows, from number `begin` on, with that `step` behind it.

    logits, attention: (H, R, W) float64, the rows of a head contiguous; -inf and 0 where a key is
    hidden, as keys behind a row's own position are. thresholds: (H, R) float64, attention below
    which a key is discarded. first: position of row number 0. Raises InputError for other shapes,
    types or numbers.
    """
    require_rows(logits, attention)
    heads, rows, width = logits.shape
    if tuple(thresholds.shape) != (heads, rows) or thresholds.dtype != torch.float64:
        raise InputError(
            f"thresholds {tuple(thresholds.shape)} given; pass ({heads}, {rows}) float64"
        )
    if begin < 0 or step < 0:
        raise InputError(f"rows from {begin} on and a step of {step} given; pass 0 or more")
    count = max(rows - step - begin, 0)
    found = torch.empty((NUMBERS, heads, count), dtype=torch.float64, device=logits.device)
    if count:
        _later_rows[(count, heads)](
            logits,
            attention,
            thresholds.contiguous(),
            found,
            begin,
            step,
            count,
            rows,
            width,
            logits.stride(0),
            first,
            KEYS,
            num_warps=WARPS,
        )
    return LaterRows(*found.unbind(0))
