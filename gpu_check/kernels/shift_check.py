"""All visible pairs of many heads against a bound, reduced on the fly: no T x T memory.

No formula stands here. A shifted logit difference and a bound arrive as features of queries and
keys (`gpu_check.shift_features`), and the kernel multiplies, compares, counts and adds up. A row's
numbers are written by one program in a fixed order: the same bits every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from gpu_check import pairs
from gpu_check.published import PUBLISHED_MARGIN
from gpu_check.shift_features import ShiftFeatures
from gpu_check.visibility import Offsets
from tappa_theory.errors import InputError
from tappa_theory.rounding import bfloat16_product_error

BINS = 8
"""Bins of the histogram of ratios: equal parts of [0, 1], what lies above counted in the last."""
SUMS, COUNTS = 4, 3
"""Per row: sums of observed, bound, ratio, and the largest ratio; informative, open, exceeded."""
SMALLEST = {torch.float32: 1e-30, torch.float64: pairs.SMALLEST}
"""Divisor in place of a zero bound, so that 0/0 counts as 0."""


@triton.jit
def _load(features, rows, F: tl.constexpr, CHUNK: tl.constexpr):
    """The rows in chunks of CHUNK columns: a tuple of tiles."""
    column = tl.arange(0, CHUNK)
    tiles = ()
    for chunk in tl.static_range(F // CHUNK):
        tile = tl.load(features + rows[:, None] * F + chunk * CHUNK + column[None, :])
        tiles += (tile,)
    return tiles


@triton.jit
def _products(queries, keys, rows, F: tl.constexpr, CHUNK: tl.constexpr, like):
    """Inner products of loaded query tiles with the keys of these rows, added to `like`."""
    column = tl.arange(0, CHUNK)
    found = like
    for chunk in tl.static_range(F // CHUNK):
        key = tl.load(keys + rows[:, None] * F + chunk * CHUNK + column[None, :])
        found = tl.dot(queries[chunk], tl.trans(key), found, out_dtype=like.dtype)
    return found


@triton.jit
def _columns(
    state, first, stop, t,
    query_difference, query_bound, query_error, spread,
    key_difference, key_bound, key_error, key_counts,
    low, high, columns, excess,
    D: tl.constexpr, B: tl.constexpr, D_CHUNK: tl.constexpr, B_CHUNK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BINS: tl.constexpr,
    MASKED: tl.constexpr, SOME_COUNT: tl.constexpr, EXCEEDED: tl.constexpr,
    SMALLEST: tl.constexpr,
):  # fmt: skip
    """Add the key tiles from `first` to `stop` to the running numbers of the rows."""
    dtype: tl.constexpr = query_error.dtype
    observed_sum, bound_sum, ratio_sum, ratio_max, informative, undecided, exceeded, bins = state
    for start in range(first, stop, COLUMNS):
        i = start + tl.arange(0, COLUMNS)
        zero = tl.zeros((ROWS, COLUMNS), dtype)
        observed = tl.abs(_products(query_difference, key_difference, i, D, D_CHUNK, zero))
        bound = _products(query_bound, key_bound, i, B, B_CHUNK, zero)
        error = query_error[:, None] * tl.load(key_error + i)[None, :]
        if MASKED:
            offset = t[:, None] - i[None, :]
            visible = (offset >= low) & (offset < high) & (i < columns)[None, :]
            if SOME_COUNT:
                visible &= (tl.load(key_counts + i) != 0)[None, :]
            observed = tl.where(visible, observed, 0.0)
            bound = tl.where(visible, bound, 0.0)
            error = tl.where(visible, error, 0.0)
        slack = bound - observed
        # A slack that is no number leaves its pair open.
        undecided += tl.sum(tl.where(slack >= error, 0, 1), axis=1)
        if EXCEEDED:
            exceeded += tl.sum((slack + excess * bound < -error).to(tl.int32), axis=1)
        below = bound < spread[:, None]
        ratio = _ratio(observed, tl.maximum(bound, SMALLEST))
        # One byte counts one bin of one row of the tile.
        place = tl.where(ratio < 1.0, ratio * BINS, BINS - 1.0).to(tl.int32).to(tl.int64)
        packed = tl.full((ROWS, COLUMNS), 1, tl.int64) << (8 * place)
        if MASKED:
            below &= visible
            packed = tl.where(visible, packed, 0)
        informative += tl.sum(below.to(tl.int32), axis=1)
        bins = _unpack(bins, tl.sum(packed, axis=1), BINS)
        observed_sum += tl.sum(observed, axis=1).to(tl.float64)
        bound_sum += tl.sum(bound, axis=1).to(tl.float64)
        ratio_sum += tl.sum(ratio, axis=1).to(tl.float64)
        ratio_max = tl.maximum(ratio_max, tl.max(ratio, axis=1))
    return observed_sum, bound_sum, ratio_sum, ratio_max, informative, undecided, exceeded, bins


@triton.jit
def _ratio(observed, bound):
    """observed / bound; in float32 by two instructions in place of ten, off by 2^-21 at most."""
    if bound.dtype == tl.float64:
        return observed / bound
    root = tl.rsqrt(bound)
    return observed * root * root


@triton.jit
def _unpack(bins, packed, BINS: tl.constexpr):
    """Add the byte counts of a tile to the counts of the rows."""
    found = ()
    for place in tl.static_range(BINS):
        found += (bins[place] + ((packed >> (8 * place)) & 255).to(tl.int32),)
    return found


@triton.jit
def _shift_check(
    heads, blocks, query_difference, query_bound, query_error, spread, row_counts,
    key_difference, key_bound, key_error, key_counts, sums, counts, histogram,
    bands, rows_padded, columns_padded, group, excess,
    D: tl.constexpr, B: tl.constexpr, D_CHUNK: tl.constexpr, B_CHUNK: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BINS: tl.constexpr,
    ALL_MASKED: tl.constexpr, WINDOW: tl.constexpr, SOME_COUNT: tl.constexpr,
    EXCEEDED: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    """One block of rows of one head against all keys that they see."""
    head = tl.load(heads + tl.program_id(0)).to(tl.int64)
    start = tl.load(blocks + tl.program_id(0)) * ROWS
    kv_head = head // group
    rows, columns = tl.load(bands + head * 4), tl.load(bands + head * 4 + 1)
    low, high = tl.load(bands + head * 4 + 2), tl.load(bands + head * 4 + 3)
    t = start + tl.arange(0, ROWS)
    query_difference += head * rows_padded * D
    query_bound += head * rows_padded * B
    key_difference += kv_head * columns_padded * D
    key_bound += kv_head * columns_padded * B
    key_error += kv_head * columns_padded
    place = head * rows_padded + t
    error, limit = tl.load(query_error + place), tl.load(spread + place)
    wide = _load(query_difference, t, D, D_CHUNK)
    narrow = _load(query_bound, t, B, B_CHUNK)
    nothing = tl.zeros((ROWS,), tl.int32)
    number = tl.zeros((ROWS,), tl.float64)
    bins = ()
    for _ in tl.static_range(BINS):
        bins += (nothing,)
    state = (number, number, number, tl.zeros_like(error), nothing, nothing, nothing, bins)
    # The keys that a row may see: low <= t - i < high.
    stop = tl.minimum(columns, start + ROWS - low)
    first = tl.maximum(start - high + 1, 0) // COLUMNS * COLUMNS
    if ALL_MASKED:
        middle, last = first, first
    else:
        # Tiles from `middle` to `last` are seen whole.
        middle = first
        if WINDOW:
            middle = tl.minimum(
                tl.cdiv(tl.maximum(start + ROWS - high, 0), COLUMNS) * COLUMNS, stop
            )
            middle = tl.maximum(middle, first)
        seen = tl.maximum(tl.minimum(start - low + 1, columns), 0)
        last = tl.maximum(seen // COLUMNS * COLUMNS, middle)
        if WINDOW:
            state = _columns(
                state, first, middle, t, wide, narrow, error, limit,
                key_difference, key_bound, key_error, key_counts,
                low, high, columns, excess, D, B, D_CHUNK, B_CHUNK,
                ROWS, COLUMNS, BINS, True, SOME_COUNT, EXCEEDED, SMALLEST,
            )  # fmt: skip
        state = _columns(
            state, middle, last, t, wide, narrow, error, limit,
            key_difference, key_bound, key_error, key_counts,
            low, high, columns, excess, D, B, D_CHUNK, B_CHUNK,
            ROWS, COLUMNS, BINS, False, SOME_COUNT, EXCEEDED, SMALLEST,
        )  # fmt: skip
    state = _columns(
        state, last, stop, t, wide, narrow, error, limit,
        key_difference, key_bound, key_error, key_counts,
        low, high, columns, excess, D, B, D_CHUNK, B_CHUNK,
        ROWS, COLUMNS, BINS, True, SOME_COUNT, EXCEEDED, SMALLEST,
    )  # fmt: skip
    observed_sum, bound_sum, ratio_sum, ratio_max, informative, undecided, exceeded, bins = state
    counted = t < rows
    if SOME_COUNT:
        counted &= tl.load(row_counts + t) != 0
    tl.store(sums + place * 4, tl.where(counted, observed_sum, 0.0))
    tl.store(sums + place * 4 + 1, tl.where(counted, bound_sum, 0.0))
    tl.store(sums + place * 4 + 2, tl.where(counted, ratio_sum, 0.0))
    tl.store(sums + place * 4 + 3, tl.where(counted, ratio_max, 0.0).to(tl.float64))
    tl.store(counts + place * 3, tl.where(counted, informative, 0))
    tl.store(counts + place * 3 + 1, tl.where(counted, undecided, 0))
    tl.store(counts + place * 3 + 2, tl.where(counted, exceeded, 0))
    for place_of in tl.static_range(BINS):
        tl.store(histogram + place * BINS + place_of, tl.where(counted, bins[place_of], 0))


@dataclass(frozen=True, eq=False)
class ShiftStatistics:
    """What was counted on H heads; rows are the T - s queries that can move.

    pairs: visible before and after the shift, per head. sums (H, T - s, 4) float64: of the observed
    changes, of the bounds and of their ratios, and the largest ratio. counts (H, T - s, 3) int32:
    pairs whose bound lies below the row's spread, pairs that rounding leaves open, and pairs
    certainly above the bound (0 unless asked for). bins (H, T - s, BINS) int32: pairs by ratio.
    redone (H,): rows counted in float64 after a screen in bfloat16.
    """

    pairs: int
    sums: torch.Tensor
    counts: torch.Tensor
    bins: torch.Tensor
    redone: torch.Tensor


@dataclass(frozen=True)
class Tile:
    """How the map is cut: rows and columns of a tile, warps, and stages of the pipeline."""

    rows: int
    columns: int
    warps: int
    stages: int

    def fits(self, width: int, itemsize: int, memory: int) -> bool:
        """Do features of this width (of changes and bounds together) fit into shared memory?"""
        return (self.rows + self.stages * self.columns) * width * itemsize <= memory


TILES = {
    torch.bfloat16: (
        Tile(128, 64, 8, 3),
        Tile(128, 64, 8, 2),
        Tile(128, 32, 8, 2),
        Tile(64, 32, 4, 2),
        Tile(32, 32, 4, 1),
    ),
    torch.float64: (
        Tile(64, 32, 4, 2),
        Tile(32, 32, 4, 2),
        Tile(32, 16, 4, 1),
        Tile(16, 16, 4, 1),
    ),
}
"""Tiles by dtype, the fastest first. The first that fits is taken: no timing decides."""


def shift_check(
    features: ShiftFeatures,
    spread: torch.Tensor,
    offsets: Offsets,
    *,
    dtype: torch.dtype = torch.bfloat16,
    exceeded: bool = False,
    tile: Tile | None = None,
) -> ShiftStatistics:
    """Compare |change| with its bound on every visible pair; memory O(T).

    spread: (H, T - s) standard deviation of each row's visible logits. offsets: the visible pairs.
    dtype: torch.float64, or torch.bfloat16: products of features rounded to bfloat16, added in
    float32, and then float64 for the blocks of rows with a pair that this leaves open. exceeded:
    count the pairs certainly above the bound, too. tile: how to cut the map, default the first of
    TILES that fits; rounding apart, nothing depends on it.

    Raises InputError for shapes that do not fit, another dtype, or features that are not finite.
    """
    _check(features, spread, offsets, dtype)
    screen = _Launch(features, spread, offsets, dtype, exceeded, tile)
    found = screen.run(*screen.all_blocks())
    if dtype != torch.float64:
        _settle(found, _Launch(features, spread, offsets, torch.float64, exceeded, None))
    return found


def shift_check_each(
    features: ShiftFeatures,
    spread: torch.Tensor,
    offsets: Sequence[Offsets],
    *,
    exceeded: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`sums` and `counts` of `shift_check` in float64, each of H heads with a shift of its own.

    offsets: of each head; where there is padding, all the same. spread and features are (H, R),
    R the rows of any head or more; rows beyond those of a head are not counted. Nothing is read
    from the device: `check_finite` tells whether the features were numbers.
    """
    launch = _Launch(features, spread, offsets, torch.float64, exceeded, None)
    found = launch.run(*launch.all_blocks())
    return found.sums, found.counts


def _check(
    features: ShiftFeatures, spread: torch.Tensor, offsets: Offsets, dtype: torch.dtype
) -> None:
    if dtype not in TILES:
        raise InputError(f"dtype {dtype} is not supported; use torch.bfloat16 or torch.float64")
    heads, rows, _ = features.query_change.shape
    if tuple(spread.shape) != (heads, rows) or rows != offsets.rows:
        raise InputError(
            f"features of {heads} heads x {rows} rows, spread {tuple(spread.shape)} and "
            f"{offsets.rows} rows to look at do not fit together; take all from one shift"
        )
    check_finite(features)


def check_finite(features: ShiftFeatures) -> None:
    """Raise InputError for features that are not finite."""
    for name, error in (("query", features.query_error), ("key", features.key_error)):
        wrong = torch.nonzero(~torch.isfinite(error))
        if len(wrong):
            head, position = wrong[0].tolist()
            raise InputError(
                f"the {name} of head {head} at position {position} is not finite (NaN or infinity);"
                " repair the capture"
            )


def _settle(screened: ShiftStatistics, exact: "_Launch") -> None:
    """Put float64 numbers in place of a screen's, in every block of rows with an open pair."""
    unsure = (screened.counts[..., 1:] > 0).any(-1)
    size, rows = exact.tile.rows, unsure.shape[1]
    padded = torch.nn.functional.pad(unsure, (0, -rows % size))
    heads, blocks = torch.nonzero(padded.view(len(padded), -1, size).any(-1), as_tuple=True)
    if not len(heads):
        return
    found = exact.run(heads, blocks)
    place = blocks[:, None] * size + torch.arange(size, device=blocks.device)
    kept = place < rows
    where = heads[:, None].expand_as(place)[kept], place[kept]
    screened.redone.add_(torch.bincount(where[0], minlength=len(unsure)))
    for name in ("sums", "counts", "bins"):
        getattr(screened, name)[where] = getattr(found, name)[where]


class _Launch:
    """Features in one dtype, padded to whole tiles with zeros, which are never open."""

    def __init__(
        self,
        features: ShiftFeatures,
        spread: torch.Tensor,
        offsets: Offsets | Sequence[Offsets],
        dtype: torch.dtype,
        exceeded: bool,
        tile: Tile | None,
    ) -> None:
        heads = len(spread)
        self.offsets = [offsets] * heads if isinstance(offsets, Offsets) else list(offsets)
        self.exceeded, self.group = exceeded, features.group
        wide, narrow = features.query_change.shape[-1], features.query_bound.shape[-1]
        self.chunks = _chunk(wide), _chunk(narrow)
        self.widths = tuple(
            -(-width // chunk) * chunk
            for width, chunk in zip((wide, narrow), self.chunks, strict=True)
        )
        self.tile = tile or _fitting(sum(self.widths), dtype, spread.device)
        self.accumulator = torch.float32 if dtype == torch.bfloat16 else torch.float64
        query, key = sides(features, dtype)
        self.unit = None
        if query.unit is not None and key.unit is not None:
            self.unit = query.unit * key.unit.repeat_interleave(self.group)
        parts = (
            (_times(features.query_change, query.unit), self.widths[0], dtype),
            (_times(features.query_bound, query.unit), self.widths[1], dtype),
            (query.error, None, self.accumulator),
            (_times(spread, self.unit), None, self.accumulator),
        )
        self.queries = [_padded(x, self.tile.rows, width, kind) for x, width, kind in parts]
        parts = (
            (_times(features.key_change, key.unit), self.widths[0], dtype),
            (_times(features.key_bound, key.unit), self.widths[1], dtype),
            (key.error, None, self.accumulator),
        )
        self.keys = [_padded(x, self.tile.columns, width, kind) for x, width, kind in parts]
        one, device = self.offsets[0], spread.device
        self.some = one.row_counts is not None
        self.counted = [self.queries[0]] * 2
        if one.row_counts is not None and one.column_counts is not None:
            self.counted = [
                _padded(flags[None].to(device), size, None, torch.uint8)[0]
                for flags, size in (
                    (one.row_counts, self.tile.rows),
                    (one.column_counts, self.tile.columns),
                )
            ]
        self.bands = torch.tensor(
            [(each.rows, each.columns, each.low, each.high) for each in self.offsets],
            dtype=torch.int32,
            device=device,
        )

    def all_blocks(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(head, block of rows) of every program, the longest rows of a head first."""
        blocks = [-(-each.rows // self.tile.rows) for each in self.offsets]
        heads = torch.arange(len(blocks)).repeat_interleave(torch.tensor(blocks))
        return heads, torch.cat([torch.arange(count - 1, -1, -1) for count in blocks])

    def run(self, heads: torch.Tensor, blocks: torch.Tensor) -> ShiftStatistics:
        """Launch one program for every (head, block of rows); the other rows stay unwritten."""
        device = self.queries[0].device
        count, padded = self.queries[0].shape[:2]
        rows = max(each.rows for each in self.offsets)
        # Heads of fewer rows leave some unwritten.
        empty = torch.zeros if any(each.rows < rows for each in self.offsets) else torch.empty
        sums = empty((count, padded, SUMS), dtype=torch.float64, device=device)
        counts = empty((count, padded, COUNTS), dtype=torch.int32, device=device)
        bins = empty((count, padded, BINS), dtype=torch.int32, device=device)
        _shift_check[(len(heads),)](
            heads.to(device, torch.int32),
            blocks.to(device, torch.int32),
            *self.queries,
            self.counted[0],
            *self.keys,
            self.counted[1],
            sums,
            counts,
            bins,
            self.bands,
            padded,
            self.keys[0].shape[1],
            self.group,
            PUBLISHED_MARGIN,
            D=self.widths[0],
            B=self.widths[1],
            D_CHUNK=self.chunks[0],
            B_CHUNK=self.chunks[1],
            ROWS=self.tile.rows,
            COLUMNS=self.tile.columns,
            BINS=BINS,
            ALL_MASKED=self.some,
            WINDOW=any(each.high < each.rows for each in self.offsets),
            SOME_COUNT=self.some,
            EXCEEDED=self.exceeded,
            SMALLEST=SMALLEST[self.accumulator],
            num_warps=self.tile.warps,
            num_stages=self.tile.stages,
        )
        sums, counts, bins = (x[:, :rows] for x in (sums, counts, bins))
        if self.unit is not None:
            # Ratios have no unit; the units are powers of two.
            sums[..., :2] /= self.unit[:, None, None]
        redone = torch.zeros(count, dtype=torch.int64, device=device)
        return ShiftStatistics(self.offsets[0].pairs(), sums, counts, bins, redone)


def _times(x: torch.Tensor, unit: torch.Tensor | None) -> torch.Tensor:
    """(H, ...) numbers in the units of their heads."""
    return x if unit is None else x * unit.view(-1, *[1] * (x.ndim - 1))


def _chunk(width: int) -> int:
    """Columns of features multiplied at once: a power of two that wastes little."""
    return next((size for size in (128, 64, 32) if width % size == 0), 32)


def _fitting(width: int, dtype: torch.dtype, device: torch.device) -> Tile:
    itemsize = 2 if dtype == torch.bfloat16 else 8
    memory = _shared_memory(device)
    for tile in TILES[dtype]:
        if tile.fits(width, itemsize, memory):
            return tile
    raise InputError(
        f"features of {width} numbers do not fit into the {memory:,} bytes of shared memory of "
        f"{device}; use --device cpu"
    )


def _shared_memory(device: torch.device) -> int:
    """Bytes that one program can have."""
    if device.type != "cuda":
        return 2**30  # the interpreter has no limit
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", 99 * 1024))


@dataclass(frozen=True, eq=False)
class Side:
    """The features of one side, queries or keys, as a dtype takes them.

    unit: (H,) power of two by which they are multiplied, so that the longest of a head is about 1
    and nothing that matters underflows; None in float64. error: (H, T') part of the rounding error.
    """

    unit: torch.Tensor | None
    error: torch.Tensor


def _side(
    change: torch.Tensor, bound: torch.Tensor, error: torch.Tensor, dtype: torch.dtype, query: bool
) -> Side:
    """The product of both sides' errors bounds the error of bound - |change|."""
    if dtype == torch.float64:
        return Side(None, error)
    norms = torch.stack([torch.linalg.vector_norm(x, dim=-1) for x in (change, bound)])
    longest = norms.amax(dim=(0, 2))
    exponent = torch.ceil(torch.log2(torch.where(longest > 0, longest, 1.0)))
    unit = torch.exp2(-exponent)
    if query:
        relative = [bfloat16_product_error(x.shape[-1]) for x in (change, bound)]
        norms *= norms.new_tensor(relative)[:, None, None]
    # Three errors of a pair, each a product of a query's and a key's part, are at most the product
    # of the lengths of both (Cauchy-Schwarz); float32 rounds the lengths and their product.
    parts = torch.cat([norms, error[None]]) * unit[:, None]
    total = torch.linalg.vector_norm(parts, dim=0) * (1 + 2.0**-20)
    # Products below 2^-126 may be lost: together less than 2^-100, of units of about 1.
    return Side(unit, torch.where(total > 0, total + 2.0**-50, total))


def sides(features: ShiftFeatures, dtype: torch.dtype) -> tuple[Side, Side]:
    """(queries, keys) in units that a dtype can hold, with their parts of the rounding error."""
    query = (features.query_change, features.query_bound, features.query_error)
    key = (features.key_change, features.key_bound, features.key_error)
    return _side(*query, dtype, query=True), _side(*key, dtype, query=False)


def _padded(x: torch.Tensor, size: int, width: int | None, dtype: torch.dtype) -> torch.Tensor:
    """(H, T, ...) with T filled up to whole tiles and the last axis to `width`, by zeros."""
    shape = [x.shape[0], -(-x.shape[1] // size) * size, *x.shape[2:]]
    if width is not None:
        shape[-1] = width
    full = x.contiguous()
    if list(x.shape) != shape or x.dtype != dtype:
        full = torch.zeros(shape, dtype=dtype, device=x.device)
        full[tuple(slice(length) for length in x.shape)] = x
    # The interpreter multiplies no bfloat16; in float32 the products are as exact.
    return full.float() if dtype == torch.bfloat16 and full.device.type == "cpu" else full
