"""Statistics of the rows of attention and of the steps between them, without T x T memory.

A first kernel reads, per row, the log-normaliser, the spread of the logits, the attention on sink
columns and slash offsets, and the 16 largest logits. A second one compares each row with the next.
With their log-normalisers L and L' on the keys that both rows see, the log-ratio of the attention
on a key is x = (a' - a) - (L' - L), and, as p' = p e^x sums to 1,

    KL(P || P') = sum p g(x),  g(x) = e^x - 1 - x >= 0,

a sum without cancellation: a relative error of p or g is one of the KL, and an error eps of L' - L
adds eps^2 / 2 only. A third kernel reads the logits of each row's successor on the 16 keys, for the
shift-aware recall; a fourth one adds up what each key receives.

Rounding, with e the error of a logit, `logit_roundoff` x |scale| |q| |k|, and r the relative one of
a sum of attentions, `probability_roundoff`. The derivatives of the KL by the logits of the two
rows, p'_i - p_i and -p_i (D_i - mean D), D = a' - a, are nothing where nothing moves:

    divergence        e (2 TV + sigma) + 8 e^2 + (24 r + 4 e) KL + r^2,   sigma^2 = 2 key_metric
    key_metric        2 e sigma + 8 e^2 + (24 r + 4 e) (key_metric + KL + KL^2) + r^2
    oscillation       5 e + r                   total_variation   4 e + 6 r
    log_normaliser    e + r                     row_std           2 e + r row_std
    sink, slash       (3 e + r) of the value    column_sum        the same

24 r: next to `SMALL`, g(x) loses up to 21 roundoffs. 8 e^2 and 4 e hold the second order, and that
kernels need not round a logit alike. Recall errs by 4 e + 2 r where no two logits of the row lie
within 2 e of each other about the 16th largest. Sums of a tile are taken in float32, the sums of
the tiles in float64, so that no error grows with T. Every number has one writer and a fixed order
of additions: the same bits every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl

from gpu_check.kernels.attention_rows_reference import AttentionRows, RowInputs, row_inputs
from tappa_theory import patterns
from tappa_theory.errors import InputError
from tappa_theory.predictability import TOP, recall_of_candidates

UNIT_ROUNDOFF = 2.0**-24
"""Of float32."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SMALL = tl.constexpr(0.5)
"""|x| below which g(x) is a polynomial: eight terms of its series leave 2^-28 of it. From there on
e^x - 1 - x loses at most 21 roundoffs."""
SMALL_TANH = tl.constexpr(0.25)
"""The same for the soft-cap: five terms of the series of tanh leave 2^-26 of it."""
RISE = tl.constexpr(8.0)
"""By how much a logit may exceed the level that weights are relative to."""
NO_KEY = tl.constexpr(-(2**31))
CHUNK = 2**17
"""Rows whose recall is found at once: 1 KB each."""


@dataclass(frozen=True)
class Tiling:
    """rows, keys: sizes of a tile, powers of two, 16 or more. warps, stages: as Triton has them.

    registers: at most so many per thread, None for any number. precision: how float32 is
    multiplied, "tf32x3" (tensor cores) or "ieee".
    """

    rows: int = 64
    keys: int = 32
    warps: int = 4
    stages: int = 2
    registers: int | None = None
    precision: str = "tf32x3"


def default_tiling(dtype: torch.dtype, head_dim: int) -> Tiling:
    """Tiles that fit into the shared memory and, but for the widest heads, into the registers."""
    if dtype == torch.float32 and head_dim > 128:
        return Tiling(rows=16, stages=1)
    narrow = head_dim <= (64 if dtype == torch.float32 else 128)
    # As few registers as spill none: three blocks of threads run at once, not two.
    return Tiling(registers=168 if narrow else None)


def logit_roundoff(head_dim: int) -> float:
    """Largest error of a logit over |scale| |q| |k| (Cauchy-Schwarz over the products).

    Products of 16-bit numbers are exact in float32. A float32 factor is cut into two tf32 parts,
    each off by 2^-10 of what it stands for: 2^-20 per factor and 2^-20 for the product of the
    small parts left out, 48 unit roundoffs. A tensor core truncates: two per addition, d additions.
    Scale, soft-cap and their products stay below 16.
    """
    return UNIT_ROUNDOFF * (2 * head_dim + 64)


def probability_roundoff(spread: float, keys: int = Tiling.keys) -> float:
    """Relative error of exp(logit - L), and of sums of it, given the logit without error.

    spread: largest |logit - L|. The argument of exp, its product with log2 e and L are rounded to
    3 roundoffs of the spread in all, exp adds 2^-22, a tile's sum one roundoff per key; 24 are for
    the few factors of g(x) and of the levels.
    """
    return UNIT_ROUNDOFF * (3 * spread + 4 + keys + 24)


@triton.jit
def _logits(queries, keys, scale, softcap, CAPPED: tl.constexpr, PRECISION: tl.constexpr):
    """A tile of logits from (ROWS, D) queries and (KEYS, D) keys."""
    logits = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
    if CAPPED:
        logits = _capped(logits, softcap)
    return logits


@triton.jit
def _capped(logits, softcap):
    """softcap * tanh(logits / softcap); an infinity stays one, to be found out."""
    x = logits / softcap
    y = x * x
    series = 1.0 - y * (1 / 3 - y * (2 / 15 - y * (17 / 315 - y * (62 / 2835))))
    e = tl.exp(-2.0 * tl.abs(x))
    tanh = (1.0 - e) / (1.0 + e)
    tanh = tl.where(x < 0, -tanh, tanh)
    tanh = tl.where(y < SMALL_TANH * SMALL_TANH, x * series, tanh)
    return tl.where(tl.abs(logits) < float("inf"), softcap * tanh, logits)


@triton.jit
def _vectors(pointer, positions, known, stride_t, stride_d, d, D: tl.constexpr):
    """(n, D) rows of a matrix, 0 where not `known` and beyond column d."""
    column = tl.arange(0, D)
    place = positions.to(tl.int64)[:, None] * stride_t + column[None, :] * stride_d
    return tl.load(pointer + place, mask=known[:, None] & (column < d)[None, :], other=0.0)


@triton.jit
def _known(valid, positions, length, PADDED: tl.constexpr):
    """Which positions exist and are not padding."""
    known = (positions >= 0) & (positions < length)
    if PADDED:
        known &= tl.load(valid + positions, mask=known, other=0) != 0
    return known


@triton.jit
def _log_add(a, b):
    """log(e^a + e^b), float64, -inf allowed."""
    top = tl.maximum(a, b)
    top = tl.where(top == float("-inf"), 0.0, top)
    total = tl.exp(a - top) + tl.exp(b - top)
    return tl.where(total > 0, top + tl.log(tl.where(total > 0, total, 1.0)), float("-inf"))


@triton.jit
def _flag(flags, positions, length):
    """The flag of each position as 0 or 1, 0 beyond both ends."""
    inside = (positions >= 0) & (positions < length)
    return (tl.load(flags + positions, mask=inside, other=0) != 0).to(tl.float64)


@triton.jit
def _take_largest(logits, i, top, top_keys):
    """Merge a tile into the running (ROWS, TOP) largest logits; of equals, the first keys stay.

    Tiles come in ascending order. Each turn takes the first of the largest entries of every row
    that beats the smallest kept, which it replaces (of equals, the last key).
    """
    largest, smallest = tl.max(logits, axis=1), tl.min(top, axis=1)
    more = tl.max((largest > smallest).to(tl.int32), axis=0)
    if more > 0:
        while more > 0:
            key = tl.min(tl.where(logits == largest[:, None], i[None, :], 2**31 - 1), axis=1)
            equal = top == smallest[:, None]
            last = tl.max(tl.where(equal, top_keys, NO_KEY), axis=1)
            place = equal & (top_keys == last[:, None]) & (largest > smallest)[:, None]
            top = tl.where(place, largest[:, None], top)
            top_keys = tl.where(place, key[:, None], top_keys)
            logits = tl.where(i[None, :] == key[:, None], float("-inf"), logits)
            largest, smallest = tl.max(logits, axis=1), tl.min(top, axis=1)
            more = tl.max((largest > smallest).to(tl.int32), axis=0)
    return top, top_keys


@triton.jit
def _row_tiles(
    state, first, stop, start, t, known, queries,
    keys, valid, columns, columns_before, offsets, offsets_before,
    stride_t, stride_d, length, d, window, scale, softcap,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, MASKED: tl.constexpr,
    WINDOW: tl.constexpr, PADDED: tl.constexpr, CAPPED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add the key tiles from `first` to `stop` to the running numbers of the rows.

    A row's own key, which the row before does not see, and the last key of its window, which the
    next row loses, are kept apart: what is left is common to all three.
    """
    level, total, sink, slash, count, mean, squares, own, lost, top, top_keys = state
    for begin in range(first, stop, KEYS):
        i = begin + tl.arange(0, KEYS)
        seen = _known(valid, i, length, PADDED)
        key = _vectors(keys, i, seen, stride_t, stride_d, d, D)
        logits = _logits(queries, key, scale, softcap, CAPPED, PRECISION)
        if MASKED:
            offset = t[:, None] - i[None, :]
            visible = (offset >= 0) & seen[None, :] & known[:, None]
            ends = offset == 0
            if WINDOW:
                visible &= offset < window
                leaves = visible & (offset == window - 1)
                lost = tl.maximum(
                    lost, tl.max(tl.where(leaves, logits, float("-inf")), axis=1).to(tl.float64)
                )
                ends &= offset != window - 1
                core = visible & (offset > 0) & (offset < window - 1)
            else:
                core = visible & (offset > 0)
            own = tl.maximum(
                own, tl.max(tl.where(visible & ends, logits, float("-inf")), axis=1).to(tl.float64)
            )
            here = tl.sum(visible.to(tl.int32), axis=1).to(tl.float32)
            safe = tl.maximum(here, 1.0)
            middle = tl.sum(tl.where(visible, logits, 0.0), axis=1) / safe
            centred = tl.where(visible, logits - middle[:, None], 0.0)
            inner = tl.where(core, logits, float("-inf"))
            logits = tl.where(visible, logits, float("-inf"))
        else:
            here = tl.full((ROWS,), KEYS, tl.float32)
            middle = tl.sum(logits, axis=1) / KEYS
            centred = logits - middle[:, None]
            inner = logits
        # Means and squares of two sets merge without cancellation.
        added = here.to(tl.float64)
        both = tl.maximum(count + added, 1.0)
        apart = middle.to(tl.float64) - mean
        squares += tl.sum(centred * centred, axis=1).to(tl.float64)
        squares += apart * apart * (count * added / both)
        mean += apart * (added / both)
        count += added
        # A level that rises in jumps takes few factors, each of which rounds.
        raised = tl.max(inner, axis=1)
        raised = tl.where(raised > level + RISE, raised, level)
        safe_level = tl.where(raised == float("-inf"), 0.0, raised)
        factor = tl.exp(level - safe_level).to(tl.float64)
        level = raised
        weight = tl.exp(inner - safe_level[:, None])
        total = total * factor + tl.sum(weight, axis=1).to(tl.float64)
        sink *= factor
        slash *= factor
        end = tl.minimum(begin + KEYS, length)
        if tl.load(columns_before + end) > tl.load(columns_before + begin):
            on = tl.load(columns + i, mask=i < length, other=0) != 0
            sink += tl.sum(tl.where(on[None, :], weight, 0.0), axis=1).to(tl.float64)
        nearest = tl.maximum(start - begin - KEYS + 1, 0)
        farthest = tl.minimum(start + ROWS - begin, length)
        if tl.load(offsets_before + farthest) > tl.load(offsets_before + nearest):
            offset = t[:, None] - i[None, :]
            inside = (offset >= 0) & (offset < length)
            on = tl.load(offsets + offset, mask=inside, other=0) != 0
            slash += tl.sum(tl.where(on, weight, 0.0), axis=1).to(tl.float64)
        top, top_keys = _take_largest(logits, i, top, top_keys)
    return level, total, sink, slash, count, mean, squares, own, lost, top, top_keys


@triton.jit
def _row_statistics(
    queries, keys, valid, columns, columns_before, offsets, offsets_before,
    normaliser_out, before_out, after_out, std_out, sink_out, slash_out, top_out, top_keys_out,
    q_stride_b, q_stride_h, q_stride_t, q_stride_d, k_stride_b, k_stride_h, k_stride_t, k_stride_d,
    heads, group, length, d, window, scale, softcap,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, TOP: tl.constexpr,
    WINDOW: tl.constexpr, PADDED: tl.constexpr, CAPPED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of rows of one head; the longest rows start first."""
    start = (tl.num_programs(1) - 1 - tl.program_id(1)) * ROWS
    text, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    queries += text.to(tl.int64) * q_stride_b + head.to(tl.int64) * q_stride_h
    keys += text.to(tl.int64) * k_stride_b + (head // group).to(tl.int64) * k_stride_h
    if PADDED:
        valid += text.to(tl.int64) * length
    t = start + tl.arange(0, ROWS)
    known = _known(valid, t, length, PADDED)
    query = _vectors(queries, t, known, q_stride_t, q_stride_d, d, D)
    nothing = tl.zeros((ROWS,), tl.float64)
    none = tl.full((ROWS,), float("-inf"), tl.float64)
    slot = tl.arange(0, TOP)
    state = (
        tl.full((ROWS,), float("-inf"), tl.float32), nothing, nothing, nothing,
        nothing, nothing, nothing, none, none,
        tl.full((ROWS, TOP), float("-inf"), tl.float32),
        # Where a row sees fewer keys, numbers below -1, all different, stand for the others.
        tl.zeros((ROWS, TOP), tl.int32) - 2 - slot[None, :],
    )  # fmt: skip
    stop = tl.minimum(start + ROWS, length)
    first, middle, last = 0, 0, 0
    if WINDOW:
        first = tl.maximum(start - window + 1, 0) // KEYS * KEYS
        middle, last = first, first
    if not PADDED:
        # Tiles from `middle` to `last` are seen whole, and hold no key that is kept apart.
        if WINDOW:
            middle = tl.maximum(tl.cdiv(start + ROWS - window + 1, KEYS) * KEYS, first)
            middle = tl.minimum(middle, tl.cdiv(stop, KEYS) * KEYS)
        last = tl.maximum(start // KEYS * KEYS, middle)
    if WINDOW:
        state = _row_tiles(
            state, first, middle, start, t, known, query, keys, valid,
            columns, columns_before, offsets, offsets_before,
            k_stride_t, k_stride_d, length, d, window, scale, softcap,
            ROWS, KEYS, D, True, WINDOW, PADDED, CAPPED, PRECISION,
        )  # fmt: skip
    if not PADDED:
        state = _row_tiles(
            state, middle, last, start, t, known, query, keys, valid,
            columns, columns_before, offsets, offsets_before,
            k_stride_t, k_stride_d, length, d, window, scale, softcap,
            ROWS, KEYS, D, False, WINDOW, PADDED, CAPPED, PRECISION,
        )  # fmt: skip
    state = _row_tiles(
        state, last, stop, start, t, known, query, keys, valid,
        columns, columns_before, offsets, offsets_before,
        k_stride_t, k_stride_d, length, d, window, scale, softcap,
        ROWS, KEYS, D, True, WINDOW, PADDED, CAPPED, PRECISION,
    )  # fmt: skip
    level, total, sink, slash, count, _, squares, own, lost, top, top_keys = state
    level = tl.where(level == float("-inf"), 0.0, level).to(tl.float64)
    some = total > 0
    core = tl.where(some, level + tl.log(tl.where(some, total, 1.0)), float("-inf"))
    before = _log_add(core, own)
    after = core
    whole = before
    if WINDOW:
        after = _log_add(core, lost)
        whole = _log_add(before, lost)
    whole = tl.where(known, whole, 0.0)
    scaled = tl.exp(level - whole)
    own_share = tl.exp(own - whole)
    sink = sink * scaled + own_share * _flag(columns, t, length)
    slash = slash * scaled + own_share * _flag(offsets, 0 * t, length)
    if WINDOW:
        lost_share = tl.exp(lost - whole)
        sink += lost_share * _flag(columns, t - window + 1, length)
        slash += lost_share * _flag(offsets, window - 1 + 0 * t, length)
    std = tl.sqrt(squares / tl.maximum(count, 1.0))
    place = tl.program_id(0).to(tl.int64) * length + t
    inside = t < length
    tl.store(normaliser_out + place, whole.to(tl.float32), mask=inside)
    tl.store(std_out + place, std.to(tl.float32), mask=inside)
    tl.store(sink_out + place, tl.where(known, sink, 0.0).to(tl.float32), mask=inside)
    tl.store(slash_out + place, tl.where(known, slash, 0.0).to(tl.float32), mask=inside)
    before = tl.where(before == float("-inf"), 0.0, before)
    after = tl.where(after == float("-inf"), 0.0, after)
    tl.store(before_out + place, before.to(tl.float32), mask=inside)
    tl.store(after_out + place, after.to(tl.float32), mask=inside)
    places = place[:, None] * TOP + slot[None, :]
    tl.store(top_out + places, top, mask=inside[:, None])
    tl.store(top_keys_out + places, top_keys, mask=inside[:, None])


@triton.jit
def _step_tiles(
    state, first, stop, t, known, queries, following, before, shift, after,
    keys, valid, stride_t, stride_d, length, d, window, scale, softcap,
    KEYS: tl.constexpr, D: tl.constexpr, MASKED: tl.constexpr,
    WINDOW: tl.constexpr, PADDED: tl.constexpr, CAPPED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add the key tiles from `first` to `stop` to the running numbers of the steps."""
    divergence, square, variation, largest, smallest = state
    for begin in range(first, stop, KEYS):
        i = begin + tl.arange(0, KEYS)
        seen = _known(valid, i, length, PADDED)
        key = _vectors(keys, i, seen, stride_t, stride_d, d, D)
        logit = _logits(queries, key, scale, softcap, CAPPED, PRECISION)
        next_logit = _logits(following, key, scale, softcap, CAPPED, PRECISION)
        x = (next_logit - logit) - shift[:, None]
        logit -= before[:, None]
        next_logit -= after[:, None]
        highest, lowest = x, x
        if MASKED:
            offset = t[:, None] - i[None, :]
            common = (offset >= 0) & seen[None, :] & known[:, None]
            if WINDOW:
                common &= offset < window - 1
            x = tl.where(common, x, 0.0)
            logit = tl.where(common, logit, float("-inf"))
            next_logit = tl.where(common, next_logit, float("-inf"))
            highest = tl.where(common, x, float("-inf"))
            lowest = tl.where(common, x, float("inf"))
        p, q = tl.exp(logit), tl.exp(next_logit)
        small = tl.abs(x) < SMALL
        g = 1.0 + x * (1 / 6 + x * (1 / 42 + x * (1 / 336 + x / 3024)))
        g = x * x * (0.5 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 * g))))
        divergence += tl.sum(tl.where(small, p * g, q - p * (1.0 + x)), axis=1).to(tl.float64)
        moved = tl.where(small, p * tl.abs(x + g), tl.abs(q - p))
        variation += tl.sum(moved, axis=1).to(tl.float64)
        square += tl.sum(p * x * x, axis=1).to(tl.float64)
        largest = tl.maximum(largest, tl.max(highest, axis=1))
        smallest = tl.minimum(smallest, tl.min(lowest, axis=1))
    return divergence, square, variation, largest, smallest


@triton.jit
def _step_statistics(
    queries, keys, valid, before_in, after_in,
    divergence_out, metric_out, oscillation_out, variation_out,
    q_stride_b, q_stride_h, q_stride_t, q_stride_d, k_stride_b, k_stride_h, k_stride_t, k_stride_d,
    heads, group, length, d, window, scale, softcap,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr,
    WINDOW: tl.constexpr, PADDED: tl.constexpr, CAPPED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The steps from one block of rows of one head."""
    start = (tl.num_programs(1) - 1 - tl.program_id(1)) * ROWS
    text, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    queries += text.to(tl.int64) * q_stride_b + head.to(tl.int64) * q_stride_h
    keys += text.to(tl.int64) * k_stride_b + (head // group).to(tl.int64) * k_stride_h
    if PADDED:
        valid += text.to(tl.int64) * length
    t = start + tl.arange(0, ROWS)
    known = _known(valid, t, length, PADDED) & _known(valid, t + 1, length, PADDED)
    query = _vectors(queries, t, known, q_stride_t, q_stride_d, d, D)
    following = _vectors(queries, t + 1, known, q_stride_t, q_stride_d, d, D)
    place = tl.program_id(0).to(tl.int64) * length + t
    before = tl.load(before_in + place, mask=known, other=0.0)
    after = tl.load(after_in + place + 1, mask=known, other=0.0)
    shift = after - before
    nothing = tl.zeros((ROWS,), tl.float64)
    state = (
        nothing, nothing, nothing,
        tl.full((ROWS,), float("-inf"), tl.float32), tl.full((ROWS,), float("inf"), tl.float32),
    )  # fmt: skip
    stop = tl.minimum(start + ROWS, length)
    first, middle, last = 0, 0, 0
    if WINDOW:
        first = tl.maximum(start - window + 2, 0) // KEYS * KEYS
        middle, last = first, first
    if not PADDED:
        # Tiles from `middle` to `last` are common to all rows and their successors. In a last block
        # that ends beyond the text, rows that do not exist count keys that are not stored.
        if WINDOW:
            middle = tl.maximum(tl.cdiv(start + ROWS - window + 1, KEYS) * KEYS, first)
            middle = tl.minimum(middle, tl.maximum(tl.cdiv(stop, KEYS) * KEYS, first))
        last = tl.maximum(start // KEYS * KEYS, middle)
    if WINDOW:
        state = _step_tiles(
            state, first, middle, t, known, query, following, before, shift, after,
            keys, valid, k_stride_t, k_stride_d, length, d, window, scale, softcap,
            KEYS, D, True, WINDOW, PADDED, CAPPED, PRECISION,
        )  # fmt: skip
    if not PADDED:
        state = _step_tiles(
            state, middle, last, t, known, query, following, before, shift, after,
            keys, valid, k_stride_t, k_stride_d, length, d, window, scale, softcap,
            KEYS, D, False, WINDOW, PADDED, CAPPED, PRECISION,
        )  # fmt: skip
    state = _step_tiles(
        state, last, stop, t, known, query, following, before, shift, after,
        keys, valid, k_stride_t, k_stride_d, length, d, window, scale, softcap,
        KEYS, D, True, WINDOW, PADDED, CAPPED, PRECISION,
    )  # fmt: skip
    divergence, square, variation, largest, smallest = state
    # The mean of x is minus the KL. A row of one common key has x = 0, but for rounding.
    metric = tl.maximum(0.5 * (square - divergence * divergence), 0.0)
    divergence = tl.maximum(divergence, 0.0)
    some = largest >= smallest
    oscillation = tl.where(some, largest, 0.0) - tl.where(some, smallest, 0.0)
    inside = t + 1 < length
    place = tl.program_id(0).to(tl.int64) * (length - 1) + t
    tl.store(divergence_out + place, divergence.to(tl.float32), mask=inside)
    tl.store(metric_out + place, metric.to(tl.float32), mask=inside)
    tl.store(oscillation_out + place, oscillation, mask=inside)
    tl.store(variation_out + place, (0.5 * variation).to(tl.float32), mask=inside)


@triton.jit
def _candidate_logits(
    queries, keys, valid, top_keys, kept_out, moved_out,
    q_stride_b, q_stride_h, q_stride_t, q_stride_d, k_stride_b, k_stride_h, k_stride_t, k_stride_d,
    heads, group, length, d, window, scale, softcap,
    ROWS: tl.constexpr, D: tl.constexpr, TOP: tl.constexpr,
    WINDOW: tl.constexpr, PADDED: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """Logits of row t + 1 on the top keys of row t and on the keys after them, -inf if hidden."""
    text, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    queries += text.to(tl.int64) * q_stride_b + head.to(tl.int64) * q_stride_h
    keys += text.to(tl.int64) * k_stride_b + (head // group).to(tl.int64) * k_stride_h
    if PADDED:
        valid += text.to(tl.int64) * length
    t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    known = _known(valid, t, length, PADDED) & _known(valid, t + 1, length, PADDED)
    query = _vectors(queries, t + 1, known, q_stride_t, q_stride_d, d, D).to(tl.float32)
    row = tl.program_id(0).to(tl.int64) * length + t
    for slot in range(TOP):
        kept = tl.load(top_keys + row * TOP + slot, mask=known, other=-2)
        for moved in tl.static_range(2):
            i = kept + moved
            # A number below -1 stands for no key, and so does the one after it.
            seen = known & (kept >= 0) & (i <= t + 1) & _known(valid, i, length, PADDED)
            if WINDOW:
                seen &= t + 1 - i < window
            key = _vectors(keys, i, seen, k_stride_t, k_stride_d, d, D).to(tl.float32)
            logit = tl.sum(query * key, axis=1) * scale
            if CAPPED:
                logit = _capped(logit, softcap)
            logit = tl.where(seen, logit, float("-inf"))
            out = moved_out if moved else kept_out
            tl.store(out + row * TOP + slot, logit, mask=t < length)


@triton.jit
def _received(
    queries, keys, valid, normalisers, sum_out,
    q_stride_b, q_stride_h, q_stride_t, q_stride_d, k_stride_b, k_stride_h, k_stride_t, k_stride_d,
    heads, group, length, d, window, scale, softcap, first_row, local,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr,
    WINDOW: tl.constexpr, PADDED: tl.constexpr, CAPPED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attention on one tile of keys, summed over the rows from `first_row` on that are not local.

    The rows of a tile are its first index, so that one program owns a key.
    """
    begin = tl.program_id(1) * KEYS
    text, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    queries += text.to(tl.int64) * q_stride_b + head.to(tl.int64) * q_stride_h
    keys += text.to(tl.int64) * k_stride_b + (head // group).to(tl.int64) * k_stride_h
    if PADDED:
        valid += text.to(tl.int64) * length
    i = begin + tl.arange(0, KEYS)
    seen = _known(valid, i, length, PADDED)
    key = _vectors(keys, i, seen, k_stride_t, k_stride_d, d, D)
    place = tl.program_id(0).to(tl.int64) * length
    total = tl.zeros((KEYS,), tl.float64)
    stop = length
    if WINDOW:
        stop = tl.minimum(length, begin + KEYS + window - 1)
    for start in range(tl.maximum(first_row, begin + local) // ROWS * ROWS, stop, ROWS):
        t = start + tl.arange(0, ROWS)
        known = _known(valid, t, length, PADDED)
        query = _vectors(queries, t, known, q_stride_t, q_stride_d, d, D)
        logits = _logits(query, key, scale, softcap, CAPPED, PRECISION)
        offset = t[:, None] - i[None, :]
        counted = (offset >= local) & (known & (t >= first_row))[:, None] & seen[None, :]
        if WINDOW:
            counted &= offset < window
        level = tl.load(normalisers + place + t, mask=known, other=0.0)
        weight = tl.exp(tl.where(counted, logits - level[:, None], float("-inf")))
        total += tl.sum(weight, axis=0).to(tl.float64)
    tl.store(sum_out + place + i, total.to(tl.float32), mask=i < length)


def attention_rows(
    queries: torch.Tensor,
    keys: torch.Tensor,
    *,
    scale: float,
    window: int | None = None,
    valid: torch.Tensor | None = None,
    softcap: float | None = None,
    columns: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
    column_sum: bool = False,
    tiling: Tiling | None = None,
) -> AttentionRows:
    """Measure every row of attention and every step between rows, in float32.

    queries: (B, H, T, d) after RoPE, float32, bfloat16 or float16, any strides; keys: (B, H_kv, T,
    d), head h reads key head h // (H / H_kv). scale: softmax scale. window: a query at t sees keys
    i > t - window. valid: (B, T) bool, false on padding, which may hold anything. softcap: logits
    a become softcap tanh(a / softcap). columns: (T,) bool, keys whose attention is `sink`, default
    key 0. offsets: (T,) bool, distances t - i whose attention is `slash`, default 0 and 1.
    column_sum: also find what each key receives. tiling: default by type and head size.

    Memory beyond the result: 270 bytes a row of each head, and 1 KB for each of `CHUNK` rows.
    Raises InputError for shapes, types
    or numbers that do not fit, for a NaN or an infinity outside of padding, and for logits that
    overflow float32.
    """
    given = row_inputs(queries, keys, scale, window, valid, softcap, columns, offsets)
    if queries.dtype not in DTYPES:
        raise InputError(f"queries of {queries.dtype} given; convert them to float32")
    if queries.device.type == "cpu":  # the interpreter, which multiplies no bfloat16
        given = replace(given, queries=queries.float(), keys=keys.float())
    length, size = queries.shape[2:]
    if tiling is None:
        tiling = default_tiling(queries.dtype, size)
    call = _Call(given, tiling)
    per_row = [call.empty(length) for _ in range(6)]
    normaliser, before, after, row_std, sink, slash = per_row
    top, top_keys = call.empty(length, TOP), call.empty(length, TOP, dtype=torch.int32)
    flags = [*_flags(given.columns), *_flags(given.offsets)]
    call.launch(_row_statistics, flags + per_row + [top, top_keys], keys=tiling.keys, top=True)
    if not bool((normaliser + row_std).isfinite().all()):
        given.require_finite()
        raise InputError(
            "logits beyond the range of float32; pass smaller queries and keys, or a smaller scale"
        )
    steps = [call.empty(length - 1) for _ in range(4)]
    divergence, key_metric, oscillation, total_variation = steps
    recall = call.empty(length)
    if length > 1:
        call.launch(_step_statistics, [before, after, *steps], keys=tiling.keys)
        kept, moved = call.empty(length, TOP), call.empty(length, TOP)
        call.launch(_candidate_logits, [top_keys, kept, moved], top=True)
        _recall(recall, top, top_keys, kept, moved)
    received = call.empty(length) if column_sum else None
    if received is not None:
        limits = [patterns.observed_rows(length), patterns.THRESHOLDS.local]
        call.launch(_received, [normaliser, received], limits, keys=tiling.keys, by_key=True)
    return AttentionRows(
        log_normaliser=normaliser,
        row_std=row_std,
        sink=sink,
        slash=slash,
        divergence=divergence,
        key_metric=key_metric,
        oscillation=oscillation,
        total_variation=total_variation,
        recall=recall[..., : length - 1],
        column_sum=received,
    )


class _Call:
    """What all kernels of one call share."""

    def __init__(self, given: RowInputs, tiling: Tiling) -> None:
        self.given = given
        self.tiling = tiling
        texts, self.heads, self.length, self.size = given.queries.shape
        self.programs = texts * self.heads

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        texts = self.programs // self.heads
        return torch.empty(
            (texts, self.heads, *shape), dtype=dtype, device=self.given.queries.device
        )

    def launch(
        self,
        kernel: Any,
        tensors: list[torch.Tensor],
        limits: Sequence[int] = (),
        *,
        keys: int | None = None,
        top: bool = False,
        by_key: bool = False,
    ) -> None:
        """Run a kernel on every head, by blocks of rows, or of keys where `by_key`."""
        given, tiling = self.given, self.tiling
        valid = given.columns if given.valid is None else given.valid.contiguous()
        block = tiling.keys if by_key else tiling.rows
        constants: dict[str, Any] = {"ROWS": tiling.rows, "D": max(16, _power_of_two(self.size))}
        if keys is not None:
            constants |= {"KEYS": keys, "PRECISION": tiling.precision}
        if top:
            constants["TOP"] = TOP
        kernel[(self.programs, -(-self.length // block))](
            given.queries,
            given.keys,
            valid.view(torch.uint8),
            *tensors,
            *given.queries.stride(),
            *given.keys.stride(),
            self.heads,
            given.group,
            self.length,
            self.size,
            given.window or 0,
            given.scale,
            given.softcap or 0.0,
            *limits,
            WINDOW=given.window is not None,
            PADDED=given.valid is not None,
            CAPPED=given.softcap is not None,
            num_warps=tiling.warps,
            num_stages=tiling.stages,
            maxnreg=tiling.registers,
            **constants,
        )


def _power_of_two(number: int) -> int:
    """The smallest power of two that is no smaller."""
    return 1 << (number - 1).bit_length()


def _flags(flags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The flags as bytes, and how many are set before each position, (T + 1,)."""
    counts = torch.zeros(len(flags) + 1, dtype=torch.int32, device=flags.device)
    counts[1:] = flags.cumsum(0)
    return flags.contiguous().view(torch.uint8), counts


def _recall(
    recall: torch.Tensor,
    top: torch.Tensor,
    top_keys: torch.Tensor,
    kept: torch.Tensor,
    moved: torch.Tensor,
) -> None:
    """Write the shift-aware recall of every step, from logits of row t + 1: `_candidate_logits`.

    What follows the last row of a head is another head's: a step that is not returned.
    """
    best, before = top.view(-1, TOP)[1:], top_keys.view(-1, TOP)[:-1]
    kept, moved, out = kept.view(-1, TOP)[:-1], moved.view(-1, TOP)[:-1], recall.view(-1)[:-1]
    for start in range(0, len(out), CHUNK):
        part = slice(start, start + CHUNK)
        level = best[part].amax(dim=1, keepdim=True)
        # Neither row is padding: each sees its own key.
        step = level.isfinite() & (before[part] >= 0).any(dim=1, keepdim=True)
        level = torch.where(step, level, 0.0)
        masses = (torch.exp(logits[part] - level).double() for logits in (kept, moved, best))
        found = recall_of_candidates(before[part], *masses)
        # 1 but for rounding where the two sums are of the same keys.
        out[part] = torch.where(step[:, 0], found.clamp(max=1.0), 0.0)
