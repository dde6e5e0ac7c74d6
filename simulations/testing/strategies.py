"""Hypothesis strategies for what goes into a head: RoPE, positions, queries, keys and shifts.

Each shrinks to the plainest case: default RoPE, position 0, one component, no shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simulations.number_formats import rounded
from tappa_theory.rope import ROPE_TYPES, Layout, Rope, to_channels

Lengths = int | tuple[int, int]
"""A number of positions T, or the least and the largest."""
DType = Literal["float16", "bfloat16", "float32", "float64"]

CONTEXT = 131_072
"""Positions are below it unless another context is given: 128k tokens, as models have today."""
HEAD_DIMS = (4, 64, 128, 80, 32, 16, 8, 6)
BASES = (10_000.0, 500_000.0, 1_000_000.0, 100.0)
TRAINED = 4096
"""Context of the models before their RoPE was scaled."""

# Rows are scaled by 2^e, e in this range: large and small, yet far from overflow after a rotation
# (scaling included), and from numbers so small that a kernel may flush them to 0.
_EXPONENTS = {"float16": (-4, 7), "bfloat16": (-80, 90), "float32": (-80, 90), "float64": (-80, 90)}


@st.composite
def ropes(
    draw: st.DrawFn,
    *,
    types: Sequence[str] = ROPE_TYPES,
    head_dims: st.SearchStrategy[int] | None = None,
    bases: st.SearchStrategy[float] | None = None,
    layouts: Sequence[Layout] = ("half", "interleaved"),
    partial: bool = True,
) -> Rope:
    """A Rope of any type, head size, base, layout and rotary share.

    head_dims: even head sizes, 4 or more, default from `HEAD_DIMS`. bases: default from `BASES`, or
    any number from 2 to 10^7. partial: may RoPE leave components alone? Every Rope of type
    "proportional" does, so that type is left out if not.
    """
    head_dim = draw(st.sampled_from(HEAD_DIMS) if head_dims is None else head_dims)
    kinds = [name for name in types if partial or name != "proportional"]
    kind = draw(st.sampled_from(kinds))
    if bases is None:
        bases = st.sampled_from(BASES) | st.floats(2.0, 1e7)
    parameters: dict[str, Any] = {"rope_type": kind, "rope_theta": draw(bases)}
    # of two pairs or more, which the type "dynamic" needs
    shares = [share for share in (1.0, 0.5, 0.25) if _pairs(head_dim, share) >= 2]
    share = draw(st.sampled_from(shares)) if partial else 1.0
    parameters["partial_rotary_factor"] = share
    if kind not in ("default", "proportional"):
        parameters["factor"] = draw(st.sampled_from([2.0, 8.0, 32.0]))
        parameters["original_max_position_embeddings"] = TRAINED
    if kind == "llama3":
        parameters |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    length = draw(st.sampled_from([TRAINED, 2 * TRAINED, 8 * TRAINED]))
    if kind == "longrope":
        growing = st.floats(1.0, 64.0)
        for name in ("short_factor", "long_factor"):
            end = draw(growing)
            parameters[name] = np.linspace(1.0, end, _pairs(head_dim, share)).tolist()
    return Rope.from_parameters(
        head_dim,
        parameters,
        layout=draw(st.sampled_from(list(layouts))),
        length=length,
        max_position_embeddings=TRAINED,
    )


def _pairs(head_dim: int, share: float) -> int:
    """Rotary pairs of that share of a head, 0 if its components are odd in number."""
    rotary = int(head_dim * share)
    return 0 if rotary % 2 else rotary // 2


@st.composite
def positions(
    draw: st.DrawFn, length: int, *, context: int = CONTEXT, consecutive: bool = False
) -> np.ndarray:
    """(T,) int64 positions below `context`: equal, in a row, or any, also next to powers of 2.

    consecutive: only start, start + 1, ...; T must then be at most `context`.
    """
    if consecutive:
        return draw(_one_position(context - length + 1)) + np.arange(length)
    kind = draw(st.sampled_from(["equal", "any"]))
    if kind == "equal":
        return np.full(length, draw(_one_position(context)))
    found = draw(st.lists(_one_position(context), min_size=length, max_size=length))
    return np.array(found, dtype=np.int64)


def _one_position(context: int) -> st.SearchStrategy[int]:
    """A position below `context`: small, next to a power of 2, the last, or any."""
    powers = [1 << n for n in range(3, 32) if 1 << n <= context]
    edges = {value for power in powers for value in (power - 1, power, power + 1)}
    edges = {value for value in (*edges, context - 1) if 0 <= value < context}
    return st.one_of(
        st.integers(0, min(context, 9) - 1),
        st.sampled_from(sorted(edges or {0})),
        st.integers(0, context - 1),
    )


@st.composite
def shifts(draw: st.DrawFn, largest: int) -> tuple[int, int]:
    """(s, u), steps of the query and of the key, 0 to `largest`: the patterns' own, or any.

    (1, 0) is re-access, (1, 1) sequential, (0, N) periodic sequential, (L, 0) seasonal.
    """
    step = st.integers(0, largest)
    one = min(1, largest)
    return draw(
        st.one_of(
            st.sampled_from([(one, 0), (one, one)]),
            step.map(lambda n: (n, 0)),
            step.map(lambda n: (0, n)),
            step.map(lambda n: (n, n)),
            st.tuples(step, step),
        )
    )


@st.composite
def _vectors(
    draw: st.DrawFn,
    head_dim: int,
    length: Lengths,
    heads: int | None,
    dtype: DType,
    channels: Rope | None,
    sink: bool,
) -> np.ndarray:
    count = length if isinstance(length, int) else draw(st.integers(*length))
    shape = (count, head_dim) if heads is None else (heads, count, head_dim)
    # From plain to any: the first kind is what shrinking prefers, of kinds that draw as much.
    kind = draw(st.sampled_from(["one component", "ones", "whole numbers", "any"]))
    component = draw(st.integers(0, head_dim - 1))
    if kind == "one component":
        x = np.zeros(shape)
        x[..., component] = 1.0
    elif kind == "ones":
        x = np.ones(shape)
    elif kind == "whole numbers":
        # most of them 0
        x = draw(arrays(np.float64, shape, elements=st.integers(-4, 4), fill=st.just(0.0)))
    else:
        x = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(shape)
    order = draw(st.sampled_from(["as they are", "equal", "alternating", "nearly equal"]))
    if order != "as they are" and count > 1:
        x[..., 1:, :] = x[..., :1, :] + (1e-3 * x[..., 1:, :] if order == "nearly equal" else 0.0)
        if order == "alternating":
            x[..., 1::2, :] *= -1
    if draw(st.booleans()):
        low, high = _EXPONENTS[dtype]
        size = st.sampled_from([0, low, high]) | st.integers(low, high)
        exponents = draw(st.lists(size, min_size=count, max_size=count))
        x = x * 2.0 ** np.array(exponents)[:, None]
    if draw(st.booleans()):
        x[..., draw(st.integers(0, count - 1)), :] = 0.0
    if sink:
        x[..., 0, :] *= 2.0 ** draw(st.sampled_from([0, 3]))
    x = rounded(x, dtype)
    if channels is not None:
        return to_channels(x, channels)
    return x.astype("float32" if dtype == "bfloat16" else dtype)


def queries(
    head_dim: int | Rope,
    length: Lengths = (1, 8),
    *,
    heads: int | None = None,
    dtype: DType = "float64",
) -> st.SearchStrategy[np.ndarray]:
    """Query vectors (T, d), or (heads, T, d), of that number type.

    head_dim: d; given a Rope, complex channels (..., T, M) of its layout in place of vectors.
    Among them: one component or few that are not 0, all equal, seeded random numbers; rows that
    are equal, nearly equal, of alternating sign, zero, and of very large and very small norm.
    bfloat16, which numpy lacks, comes as float32 that a bfloat16 holds exactly.
    """
    return _start(head_dim, length, heads, dtype, sink=False)


def keys(
    head_dim: int | Rope,
    length: Lengths = (1, 8),
    *,
    heads: int | None = None,
    dtype: DType = "float64",
) -> st.SearchStrategy[np.ndarray]:
    """Key vectors, as `queries`; the first key may be an attention sink, 8 times as large."""
    return _start(head_dim, length, heads, dtype, sink=True)


def _start(
    head_dim: int | Rope, length: Lengths, heads: int | None, dtype: DType, sink: bool
) -> st.SearchStrategy[np.ndarray]:
    if isinstance(head_dim, Rope):
        return _vectors(head_dim.head_dim, length, heads, dtype, head_dim, sink)
    return _vectors(head_dim, length, heads, dtype, None, sink)
