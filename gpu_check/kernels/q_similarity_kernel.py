"""The Triton kernel of `q_similarity`.

A program reads a chunk of one head: ROWS streams of consecutive positions side by side, each row
once. It leaves sums in a workspace, and the program of a head that finishes last adds up those of
all chunks, in their order and in float64. Which program that is makes no difference to the result:
the same input gives the same bits in every run.

A chunk is read without masks or tests first. If it is cut by the end of the text or by padding, or
holds a row that is zero, not finite or too large or small for squares in float32, it is read by the
careful variant of the same code.
"""

# ruff: noqa: RUF005 (the compiler of kernels knows no starred tuples)

import numpy as np
import triton
import triton.language as tl

# What a chunk leaves before its vectors: sums and numbers of pairs, and the first row that is not
# finite (the bits of an int32).
SLOTS = tl.constexpr(8)
COUNT = tl.constexpr(0)
ADJACENT = tl.constexpr(1)
PAIRS = tl.constexpr(2)
LAGGED = tl.constexpr(3)
LAGGED_PAIRS = tl.constexpr(4)
ADJACENT_PRE = tl.constexpr(5)
FIRST_BAD = tl.constexpr(6)
BLOCK = tl.constexpr(32)  # chunks that are added up at once

# Squared norms from 2^-90 to 2^90 are ordinary: products of two such rows stay within float32.
# As bits, every other float32, NaN too, lies more than SPAN above LEAST (modulo 2^32).
LEAST = tl.constexpr((127 - 90) << 23)
SPAN = tl.constexpr(180 << 23)
SMALLEST = tl.constexpr(2.0**-126)
LARGEST = tl.constexpr(float(np.finfo(np.float32).max))
NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def _load(at, other, shift, ok, LAYOUT: tl.constexpr, MASKED: tl.constexpr):
    """One row of every stream: the two halves of its pairs, or the whole row, twice."""
    first = tl.load(at + shift, mask=ok, other=0.0) if MASKED else tl.load(at + shift)
    second = first
    if LAYOUT == "half":
        second = tl.load(other + shift, mask=ok, other=0.0) if MASKED else tl.load(other + shift)
    return first, second


@triton.jit
def _power(a, b, LAYOUT: tl.constexpr):
    """|z|^2 of every channel, or the square of every component where there are no channels."""
    power = a * a
    if LAYOUT != "plain":
        power += b * b
    return power


@triton.jit
def _row_sums(tile):
    return tl.sum(tl.sum(tile, axis=2), axis=0)


@triton.jit
def _scaled(a, b, seen, LAYOUT: tl.constexpr):
    """Rows times a power of two that brings their largest component to 1..4; 0 where excluded.

    Returns (a, b, which rows count, which are not finite, the inverse of the power of two).
    Components below 2^-126 may be flushed by the device: a row of such counts as zero.
    """
    total = _row_sums(_power(a, b, LAYOUT))
    largest = tl.max(tl.max(tl.maximum(tl.abs(a), tl.abs(b)), axis=2), axis=0)
    bad = seen & ((total != total) | (largest > LARGEST))
    counted = seen & (bad == 0) & (largest >= SMALLEST)
    exponent = 254 - (largest.to(tl.int32, bitcast=True) >> 23)
    exponent = tl.minimum(tl.maximum(exponent, 1), 253)
    scale = (exponent << 23).to(tl.float32, bitcast=True)
    unscale = ((254 - exponent) << 23).to(tl.float32, bitcast=True)
    a = tl.where(counted[None, :, None], a * scale[None, :, None], 0.0)
    b = tl.where(counted[None, :, None], b * scale[None, :, None], 0.0)
    return a, b, counted, bad, unscale


@triton.jit
def _float32(x):
    """x in float32, exactly. A bfloat16 is the upper half of a float32."""
    if x.dtype.is_bf16():
        return (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return x.to(tl.float32)


@triton.jit
def _measure(first, second, seen, weights, LAYOUT: tl.constexpr, SCALED: tl.constexpr,
             CAREFUL: tl.constexpr):  # fmt: skip
    """Components and norms of one row of every stream, in float32.

    Returns (a, b, power, square, inverse norm, inverse norm before RoPE, counted, bad, unscale).
    """
    a = _float32(first)
    b = _float32(second)
    if LAYOUT == "interleaved":
        a, b = tl.split(tl.reshape(a, (a.shape[0], a.shape[1], a.shape[2] // 2, 2)))
    counted = seen
    bad = seen
    unscale = tl.full(seen.shape, 1.0, tl.float32)
    if CAREFUL:
        a, b, counted, bad, unscale = _scaled(a, b, seen, LAYOUT)
    power = _power(a, b, LAYOUT)
    square = _row_sums(power)
    inverse = tl.where(counted, tl.rsqrt(tl.where(counted, square, 1.0)), 0.0)
    inverse_pre = inverse
    if SCALED:
        square_pre = _row_sums(power * weights)
        inverse_pre = tl.where(counted, tl.rsqrt(tl.where(counted, square_pre, 1.0)), 0.0)
    return a, b, power, square, inverse, inverse_pre, counted, bad, unscale


@triton.jit
def _dot(a, b, a2, b2, LAYOUT: tl.constexpr):
    """Re z conj(z') of every channel, or the product of every component."""
    same = a * a2
    if LAYOUT != "plain":
        same += b * b2
    return same


@triton.jit
def _seen(valid, t, valid_hop, length, WITH_VALID: tl.constexpr):
    """Which positions lie in the text and are not padding."""
    seen = (t >= 0) & (t < length)
    if WITH_VALID:
        seen &= tl.load(valid + t.to(tl.int64) * valid_hop, mask=seen, other=0) != 0
    return seen


@triton.jit
def _count_seen(valid, begin, end, valid_hop, length):
    """How many of the positions begin <= t < end are seen."""
    count = tl.zeros((256,), tl.int32)
    for at in range(begin, end, 256):
        t = at + tl.arange(0, 256)
        seen = _seen(valid, t, valid_hop, length, True) & (t < end)
        count += seen.to(tl.int32)
    return tl.sum(count, axis=0)


@triton.jit
def _phase(turns, t):
    """(cos, sin), float32, of the angle 2 pi t `turns`, reduced in float64 to an eighth of a turn.

    Taylor polynomials: what they leave out is below 4e-9.
    """
    quarters = 4.0 * (turns * t[None, :, None].to(tl.float64))
    nearest = tl.floor(quarters + 0.5)
    angle = ((quarters - nearest) * 1.5707963267948966).to(tl.float32)
    square = angle * angle
    sine = (1.0 / 362880.0) * square - 1.0 / 5040.0
    sine = (sine * square + 1.0 / 120.0) * square - 1.0 / 6.0
    sine = angle + angle * square * sine
    cosine = (1.0 / 40320.0) * square - 1.0 / 720.0
    cosine = (cosine * square + 1.0 / 24.0) * square - 0.5
    cosine = 1.0 + square * cosine
    quarter = (nearest - 4.0 * tl.floor(nearest * 0.25)).to(tl.int32)
    c = tl.where((quarter & 1) == 1, sine, cosine)
    s = tl.where((quarter & 1) == 1, cosine, sine)
    return tl.where((quarter == 1) | (quarter == 2), -c, c), tl.where(quarter >= 2, -s, s)


@triton.jit
def _chunk(
    x, valid, table, norms, place, chunk_begin, hop, stride_d, valid_hop, length, steps, lag,
    D: tl.constexpr, WIDTH: tl.constexpr, LAYOUT: tl.constexpr, ROTARY: tl.constexpr,
    SCALED: tl.constexpr, WITH_LAG: tl.constexpr, WITH_VALID: tl.constexpr,
    WITH_NORMS: tl.constexpr, ROWS: tl.constexpr, UNROLL: tl.constexpr, GROUP: tl.constexpr,
    AHEAD: tl.constexpr, CAREFUL: tl.constexpr,
):  # fmt: skip
    """Store at `place` the sums over ROWS streams of `steps` rows each, from chunk_begin on.

    Returns whether a row was not ordinary, so that the sums are void: never so if CAREFUL.
    """
    ROPE: tl.constexpr = LAYOUT != "plain"
    HALF: tl.constexpr = D // 2
    GROUPS: tl.constexpr = WIDTH // GROUP
    LOADED: tl.constexpr = 2 * GROUP if LAYOUT == "interleaved" else GROUP
    REAL: tl.constexpr = HALF if LAYOUT == "half" else D
    MASKED: tl.constexpr = CAREFUL or REAL != GROUPS * LOADED
    # A tile is (groups, streams, columns of a group). A thread holds whole groups, so sums over the
    # last axis take no exchange. In this order of axes, and in no other, neighbouring threads hold
    # neighbouring groups, so rows are read in one piece and summed within a warp.
    group = tl.arange(0, GROUPS)[:, None, None]
    m = group * GROUP + tl.arange(0, GROUP)[None, None, :]
    column = group * LOADED + tl.arange(0, LOADED)[None, None, :]
    inside = column < REAL
    partner = column + ROTARY // 2
    if LAYOUT == "half" and ROTARY < D:
        # components that do not turn pair up consecutively
        partner = tl.where(column < ROTARY // 2, partner, 2 * column + 1)
        column = tl.where(column < ROTARY // 2, column, 2 * column)
    begin = chunk_begin + tl.arange(0, ROWS) * steps
    row = x + begin.to(tl.int64)[None, :, None] * hop
    at = row + column * stride_d
    other = row + partner * stride_d

    unit_a = tl.zeros((GROUPS, ROWS, GROUP), tl.float32)
    adjacent = tl.zeros((GROUPS, ROWS), tl.float32)
    weights = 1.0
    if ROPE:
        real = m < HALF
        cosine = tl.load(table + HALF + m, mask=real, other=0.0).to(tl.float32)
        sine = tl.load(table + 2 * HALF + m, mask=real, other=0.0).to(tl.float32)
        turn_cosine, turn_sine = cosine, sine
        if SCALED:
            weights = tl.load(table + 3 * HALF + m, mask=real, other=0.0).to(tl.float32)
            weights *= weights
            turn_cosine, turn_sine = cosine * weights, sine * weights
        unit_b = tl.zeros((GROUPS, ROWS, GROUP), tl.float32)
        pre_a = tl.zeros((GROUPS, ROWS, GROUP), tl.float32)
        pre_b = tl.zeros((GROUPS, ROWS, GROUP), tl.float32)
        energy = tl.zeros((GROUPS, ROWS, GROUP), tl.float32)
        adjacent_pre = tl.zeros((GROUPS, ROWS), tl.float32)
    if WITH_LAG:
        lagged = tl.zeros((GROUPS, ROWS), tl.float32)
        lagged_pairs = tl.zeros((ROWS,), tl.float32)

    if AHEAD:
        next_firsts = ()
        next_seconds = ()
        for k in tl.static_range(UNROLL):
            first, second = _load(at, other, k * hop, inside, LAYOUT, MASKED)
            next_firsts = next_firsts + (first,)
            next_seconds = next_seconds + (second,)
    # The row before a stream: its pair with the first row belongs to the stream.
    seen = _seen(valid, begin - 1, valid_hop, length, WITH_VALID)
    first, second = _load(at, other, -hop, seen[None, :, None] & inside, LAYOUT, True)
    p_a, p_b, _, square, p_inverse, p_inverse_pre, before, _, _ = _measure(
        first, second, seen, weights, LAYOUT, SCALED, CAREFUL
    )
    strange_before = tl.where(before, square, 1.0).to(tl.uint32, bitcast=True) - LEAST
    strange = tl.zeros((ROWS,), tl.uint32)
    count = tl.zeros((ROWS,), tl.float32)
    pairs = tl.zeros((ROWS,), tl.float32)
    first_bad = tl.full((ROWS,), NOWHERE, tl.int32)
    if not CAREFUL:
        count += steps
        pairs += steps - 1 + before.to(tl.int32)

    for block in range(0, steps, UNROLL):
        # Every row of a block is asked for before the first one is used; if AHEAD, every row of
        # the block after it (of the last block once more, at the end).
        asked = block
        if AHEAD:
            asked = tl.minimum(block + UNROLL, steps - UNROLL)
        firsts = ()
        seconds = ()
        present = ()
        for k in tl.static_range(UNROLL):
            seen = tl.full((ROWS,), True, tl.int1)
            if CAREFUL:
                seen = _seen(valid, begin + block + k, valid_hop, length, WITH_VALID)
            shift = (asked + k) * hop
            ok = seen[None, :, None] & inside
            first, second = _load(at, other, shift, ok, LAYOUT, MASKED)
            firsts = firsts + (first,)
            seconds = seconds + (second,)
            present = present + (seen,)
        if AHEAD:
            firsts, next_firsts = next_firsts, firsts
            seconds, next_seconds = next_seconds, seconds
        for k in tl.static_range(UNROLL):
            t = begin + block + k
            a, b, power, square, inverse, inverse_pre, counted, bad, unscale = _measure(
                firsts[k], seconds[k], present[k], weights, LAYOUT, SCALED, CAREFUL
            )
            if CAREFUL:
                count += counted.to(tl.float32)
                pairs += (counted & before).to(tl.float32)
                before = counted
                first_bad = tl.minimum(first_bad, tl.where(bad, t, NOWHERE))
            else:
                strange = tl.maximum(strange, square.to(tl.uint32, bitcast=True) - LEAST)
            if WITH_NORMS:
                norm = tl.sqrt(square) * unscale
                if CAREFUL:
                    norm = tl.where(bad, float("nan"), norm)
                tl.store(norms + t, norm, mask=t < length)
            u_a = a * inverse_pre[None, :, None]
            same = _dot(a, b, p_a, p_b, LAYOUT)
            adjacent += tl.sum(same, axis=2) * (inverse * p_inverse)[None, :]
            if ROPE:
                # z_t conj(z_{t-1}) before RoPE is e^{-i theta} times what it is after RoPE
                across = b * p_a - a * p_b
                turned = tl.sum(same * turn_cosine, axis=2) + tl.sum(across * turn_sine, axis=2)
                adjacent_pre += turned * (inverse_pre * p_inverse_pre)[None, :]
                # Sum of u_t e^{-i theta t} up to a factor: of what was read before, turned on
                u_b = b * inverse_pre[None, :, None]
                turned_a = pre_a * cosine - pre_b * sine
                pre_b = pre_a * sine + pre_b * cosine + u_b
                pre_a = turned_a + u_a
                energy += tl.sqrt(power) * unscale[None, :, None]
                if SCALED:
                    u_a = a * inverse[None, :, None]
                    u_b = b * inverse[None, :, None]
                unit_b += u_b
            unit_a += u_a
            if WITH_LAG:
                seen = tl.full((ROWS,), True, tl.int1)
                if CAREFUL:
                    seen = _seen(valid, t + lag, valid_hop, length, WITH_VALID)
                shift = (block + k + lag) * hop
                ok = seen[None, :, None] & inside
                first, second = _load(at, other, shift, ok, LAYOUT, MASKED)
                far_a, far_b, _, square, far_inverse, _, far, _, _ = _measure(
                    first, second, seen, weights, LAYOUT, False, CAREFUL
                )
                if not CAREFUL:
                    strange = tl.maximum(strange, square.to(tl.uint32, bitcast=True) - LEAST)
                same = _dot(a, b, far_a, far_b, LAYOUT)
                lagged += tl.sum(same, axis=2) * (inverse * far_inverse)[None, :]
                lagged_pairs += (counted & far).to(tl.float32)
            p_a = a
            p_b = b
            p_inverse = inverse
            p_inverse_pre = inverse_pre

    vector = place + SLOTS + tl.arange(0, GROUPS)[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    tl.store(vector, tl.sum(unit_a, axis=1))
    tl.store(place + ADJACENT, tl.sum(tl.sum(adjacent, axis=1), axis=0))
    tl.store(place + COUNT, tl.sum(count, axis=0))
    tl.store(place + PAIRS, tl.sum(pairs, axis=0))
    tl.store(place + FIRST_BAD, tl.min(first_bad, axis=0).to(tl.float32, bitcast=True))
    if WITH_LAG:
        tl.store(place + LAGGED, tl.sum(tl.sum(lagged, axis=1), axis=0))
        tl.store(place + LAGGED_PAIRS, tl.sum(lagged_pairs, axis=0))
    if ROPE:
        # What is left to turn back is the end of a stream; the same angle for all is no matter.
        turns = tl.load(table + m, mask=real, other=0.0)
        unscaling = tl.load(table + 3 * HALF + m, mask=real, other=0.0).to(tl.float32)
        c, s = _phase(turns, begin + steps)
        if SCALED:
            pre_a *= unscaling
            pre_b *= unscaling
        back_a = tl.sum(pre_a * c + pre_b * s, axis=1)
        back_b = tl.sum(pre_b * c - pre_a * s, axis=1)
        tl.store(vector + WIDTH, tl.sum(unit_b, axis=1))
        tl.store(vector + 2 * WIDTH, back_a)
        tl.store(vector + 3 * WIDTH, back_b)
        tl.store(vector + 4 * WIDTH, tl.sum(energy * unscaling, axis=1))
        tl.store(place + ADJACENT_PRE, tl.sum(tl.sum(adjacent_pre, axis=1), axis=0))
    strange = tl.maximum(tl.max(strange, axis=0), tl.max(strange_before, axis=0))
    return (not CAREFUL) & (strange > SPAN)


@triton.jit
def _column_sums(at, ok):
    found = tl.load(at, mask=ok, other=0.0, cache_modifier=".cg")
    return tl.sum(found.to(tl.float64), axis=0)


@triton.jit
def _mean(total, count):
    return tl.where(count > 0, total / tl.where(count > 0, count, 1.0), float("nan"))


@triton.jit
def _finish(
    place, out, energies, first_bad, chunks, length,
    D: tl.constexpr, WIDTH: tl.constexpr, ROPE: tl.constexpr,
):  # fmt: skip
    """The measures of one head from the sums of its chunks, added in their order, in float64."""
    PARTS: tl.constexpr = 5 if ROPE else 1
    m = tl.arange(0, WIDTH)
    slot = tl.arange(0, SLOTS)
    scalars = tl.zeros((SLOTS,), tl.float64)
    bad = tl.full((BLOCK,), NOWHERE, tl.int32)
    a = tl.zeros((WIDTH,), tl.float64)
    if ROPE:
        b = tl.zeros((WIDTH,), tl.float64)
        pre_a = tl.zeros((WIDTH,), tl.float64)
        pre_b = tl.zeros((WIDTH,), tl.float64)
        energy = tl.zeros((WIDTH,), tl.float64)
    for block in range(0, chunks, BLOCK):
        c = block + tl.arange(0, BLOCK)
        known = c < chunks
        row = place + c.to(tl.int64) * (SLOTS + PARTS * WIDTH)
        vector = row[:, None] + SLOTS + m[None, :]
        # The sums of other programs: from the second-level cache, where these have put them.
        bits = tl.load(row + FIRST_BAD, mask=known, other=0.0, cache_modifier=".cg")
        bits = bits.to(tl.int32, bitcast=True)
        bad = tl.minimum(bad, tl.where(known, bits, NOWHERE))
        ok = known[:, None] & (slot != FIRST_BAD)[None, :]
        scalars += _column_sums(row[:, None] + slot[None, :], ok)
        a += _column_sums(vector, known[:, None])
        if ROPE:
            b += _column_sums(vector + WIDTH, known[:, None])
            pre_a += _column_sums(vector + 2 * WIDTH, known[:, None])
            pre_b += _column_sums(vector + 3 * WIDTH, known[:, None])
            energy += _column_sums(vector + 4 * WIDTH, known[:, None])
    count = tl.sum(tl.where(slot == COUNT, scalars, 0.0), axis=0)
    pairs = tl.sum(tl.where(slot == PAIRS, scalars, 0.0), axis=0)
    adjacent = tl.sum(tl.where(slot == ADJACENT, scalars, 0.0), axis=0)
    lagged = tl.sum(tl.where(slot == LAGGED, scalars, 0.0), axis=0)
    lagged_pairs = tl.sum(tl.where(slot == LAGGED_PAIRS, scalars, 0.0), axis=0)
    worst = tl.min(bad, axis=0)
    # One row that is not finite leaves nothing of its head.
    spoiled = tl.where(worst < length, float("nan"), 0.0)
    square = tl.sum(_power(a, b if ROPE else a, "half" if ROPE else "plain"), axis=0)
    everything = count * (count - 1.0)
    tl.store(first_bad, tl.where(worst < length, worst, -1))
    tl.store(out, _mean(adjacent, pairs) + spoiled)
    tl.store(out + 1, _mean(lagged, lagged_pairs) + spoiled)
    tl.store(out + 2, _mean(square - count, everything) + spoiled)
    if ROPE:
        adjacent_pre = tl.sum(tl.where(slot == ADJACENT_PRE, scalars, 0.0), axis=0)
        square = tl.sum(_power(pre_a, pre_b, "half"), axis=0)
        tl.store(out + 3, _mean(adjacent_pre, pairs) + spoiled)
        tl.store(out + 4, _mean(square - count, everything) + spoiled)
        tl.store(energies + m, energy + spoiled, mask=m < D // 2)


@triton.jit(do_not_specialize=["heads", "chunks", "length", "steps", "lag"])
def similarity_kernel(
    x, valid, table, norms, sums, tickets, out, energies, first_bad,
    stride_b, stride_h, stride_t, stride_d, valid_stride_b, valid_stride_t,
    heads, chunks, length, steps, lag,
    D: tl.constexpr, WIDTH: tl.constexpr, LAYOUT: tl.constexpr, ROTARY: tl.constexpr,
    SCALED: tl.constexpr, WITH_LAG: tl.constexpr, WITH_VALID: tl.constexpr,
    WITH_NORMS: tl.constexpr, CONTIGUOUS: tl.constexpr, ROWS: tl.constexpr, UNROLL: tl.constexpr,
    GROUP: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """One chunk of one head; the last program of a head puts its chunks together."""
    ROPE: tl.constexpr = LAYOUT != "plain"
    PARTS: tl.constexpr = 5 if ROPE else 1
    program = tl.program_id(0)
    head = program // chunks
    chunk = program - head * chunks
    # What is left of the text after its last whole piece is a short chunk of its own.
    PIECE: tl.constexpr = ROWS * UNROLL
    begin = tl.minimum(chunk * (ROWS * steps), length // PIECE * PIECE)
    steps = tl.minimum(steps, tl.maximum((length - begin) // PIECE, 1) * UNROLL)
    batch = head // heads
    x += batch.to(tl.int64) * stride_b + (head - batch * heads).to(tl.int64) * stride_h
    valid += batch.to(tl.int64) * valid_stride_b
    norms += head.to(tl.int64) * length
    sums += head.to(tl.int64) * chunks * (SLOTS + PARTS * WIDTH)
    place = sums + chunk.to(tl.int64) * (SLOTS + PARTS * WIDTH)
    hop = D if CONTIGUOUS else stride_t * tl.full((), 1, tl.int64)
    end = begin + ROWS * steps
    if WITH_LAG:
        end += lag
    whole = end <= length
    careful_steps = steps
    if WITH_VALID:
        count = _count_seen(valid, begin, end, valid_stride_t, length)
        whole &= count == end - begin
        if not WITH_NORMS:
            careful_steps = tl.where(count > 0, steps, 0)
    void = begin >= 0
    if whole:
        void = _chunk(
            x, valid, table, norms, place, begin, hop, stride_d, valid_stride_t, length, steps,
            lag.to(tl.int64), D, WIDTH, LAYOUT, ROTARY, SCALED, WITH_LAG, WITH_VALID, WITH_NORMS,
            ROWS, UNROLL, GROUP, AHEAD, False,
        )  # fmt: skip
    if void:
        tl.debug_barrier()  # what is stored now must come after what the other variant stored
        _chunk(
            x, valid, table, norms, place, begin, hop, stride_d, valid_stride_t, length,
            careful_steps, lag.to(tl.int64), D, WIDTH, LAYOUT, ROTARY, SCALED, WITH_LAG,
            WITH_VALID, WITH_NORMS, ROWS, UNROLL, GROUP, False, True,
        )  # fmt: skip
    # Every thread has stored its sums before one thread takes the ticket, which publishes them.
    tl.debug_barrier()
    ticket = tl.atomic_add(tickets + head, 1, sem="acq_rel")
    if ticket == chunks - 1:
        tl.store(tickets + head, 0)
        _finish(
            sums, out + head * 5, energies + head.to(tl.int64) * (D // 2), first_bad + head,
            chunks, length, D, WIDTH, ROPE,
        )  # fmt: skip
