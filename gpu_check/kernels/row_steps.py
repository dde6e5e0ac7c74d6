"""Sums and extremes of every step from one row of attention to the next, and the spread of rows.

No formula of a step stands here: `tappa_theory.drift.change_of_sums` makes it of these numbers.
One program walks the keys of one row twice: for means and extremes, then for what is centred.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from tappa_theory.errors import InputError

KEYS, WARPS = 512, 4
"""Keys of a row that a program loads together, and its warps."""
NUMBERS = 5
"""That a program finds of its row."""


@dataclass(frozen=True, eq=False)
class RowSteps:
    """std: (H, R) of the logits that a row sees, 0 where it sees none. Of the steps, (H, R - 1)
    each, over the keys of the earlier row with attention that the later one sees, too: the
    arguments of `tappa_theory.drift.change_of_sums`."""

    std: torch.Tensor
    largest: torch.Tensor
    smallest: torch.Tensor
    exponentials: torch.Tensor
    variance: torch.Tensor


@triton.jit
def _step(logits, attention, place, i, stop, width, later):
    """Logits of a row, which of its keys count in the step, their attention and logit change."""
    own = tl.load(logits + place + i, mask=i < stop, other=float("-inf"))
    following = tl.load(logits + place + width + i, mask=(i < stop) & later, other=float("-inf"))
    weight = tl.load(attention + place + i, mask=i < stop, other=0.0)
    shared = (weight > 0) & (following > float("-inf"))
    change = tl.where(shared, following, 0.0) - tl.where(shared, own, 0.0)
    return own, shared, tl.where(shared, weight, 0.0), change


# One version for every width, position and alignment: what warm_up compiles serves every text.
@triton.jit(
    do_not_specialize=["rows", "width", "apart", "first"],
    do_not_specialize_on_alignment=["logits", "attention", "found"],
)
def _row_steps(logits, attention, found, rows, width, apart, first, KEYS: tl.constexpr):
    row, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    place = head * apart + row.to(tl.int64) * width
    later = row + 1 < rows
    stop = tl.minimum(first + row + 1, width)
    key = tl.arange(0, KEYS)
    zero = tl.zeros((KEYS,), tl.float64)
    count, level, total, mean = zero, zero, zero, zero
    highest, lowest = zero - float("inf"), zero + float("inf")
    for begin in range(0, stop, KEYS):
        i = begin + key
        own, shared, weight, change = _step(logits, attention, place, i, stop, width, later)
        seen = own > float("-inf")
        count += tl.where(seen, 1.0, 0.0)
        level += tl.where(seen, own, 0.0)
        total += weight
        mean += weight * change
        highest = tl.maximum(highest, tl.where(shared, change, float("-inf")))
        lowest = tl.minimum(lowest, tl.where(shared, change, float("inf")))
    keys = tl.sum(count, axis=0)
    keys = tl.where(keys > 0, keys, 1.0)
    centre = tl.sum(level, axis=0) / keys
    whole = tl.sum(total, axis=0)
    some = whole > 0
    whole = tl.where(some, whole, 1.0)
    middle = tl.sum(mean, axis=0) / whole
    largest = tl.where(some, tl.max(highest, axis=0) - middle, 0.0)
    smallest = tl.where(some, tl.min(lowest, axis=0) - middle, 0.0)
    squares, exponentials, variance = zero, zero, zero
    for begin in range(0, stop, KEYS):
        i = begin + key
        own, shared, weight, change = _step(logits, attention, place, i, stop, width, later)
        off = tl.where(own > float("-inf"), own, centre) - centre
        squares += off * off
        change = tl.where(shared, change - middle, largest)
        exponentials += weight * tl.exp(change - largest)
        variance += weight * change * change
    found += head * rows + row
    each = rows.to(tl.int64) * tl.num_programs(1)
    tl.store(found, tl.sum(squares, axis=0) / keys)
    tl.store(found + each, largest)
    tl.store(found + 2 * each, smallest)
    tl.store(found + 3 * each, tl.sum(exponentials, axis=0) / whole)
    tl.store(found + 4 * each, tl.sum(variance, axis=0) / whole)


def row_steps(logits: torch.Tensor, attention: torch.Tensor, first: int) -> RowSteps:
    """Reduce consecutive rows of some heads, of which the first is that of position `first`.

    logits, attention: (H, R, W) float64, the rows of a head contiguous; -inf and 0 where a key is
    hidden, as keys behind a row's own position are. Raises InputError for other shapes or types.
    """
    require_rows(logits, attention)
    heads, rows, width = logits.shape
    found = torch.empty((NUMBERS, heads, rows), dtype=torch.float64, device=logits.device)
    if rows:
        apart = logits.stride(0)
        _row_steps[(rows, heads)](
            logits, attention, found, rows, width, apart, first, KEYS, num_warps=WARPS
        )
    # The last row has no step.
    return RowSteps(found[0].sqrt_(), *found[1:, :, :-1].unbind(0))


def require_rows(*maps: torch.Tensor) -> None:
    """Raises InputError unless all are (H, R, W) alike, W > 0, float64, rows of a head contiguous.

    Heads lie equally far apart in all of them.
    """
    for each in maps:
        fits = each.ndim == 3 and each.shape == maps[0].shape and 0 not in each.shape[::2]
        fits = fits and each[0].is_contiguous() and each.stride(0) == maps[0].stride(0)
        if not fits or each.dtype != torch.float64:
            given = ", ".join(f"{tuple(each.shape)} of {each.dtype}" for each in maps)
            raise InputError(
                f"{given} given; pass float64 of one shape (H, R, W), W > 0, and of one memory "
                "layout, the rows of a head contiguous"
            )
