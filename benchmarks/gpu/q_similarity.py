"""What q-similarity costs on a CUDA device: the kernel, torch, and the T x T matrix of cosines."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu.measure import Row, extra_memory, quantiles, times
from gpu_check.kernels.q_similarity import Tuning, make_workspace, q_similarity
from tappa_theory.rope import Rope

HEADS, HEAD_DIM = 32, 128
TOKENS = 32_768
GROWTH = (1024, 4096, 16_384, 32_768, 65_536, 131_072)
MATRIX_TOKENS = 4096
"""The matrix of cosines of 32 heads takes 2 GiB at this length, and grows with its square."""
WINDOW = 32

ENOUGH = 256 * 2**20
"""Bytes read in turn, several times the second-level cache: no call finds its input there."""

Call = Callable[[torch.Tensor], object]


def rope(layout: str = "half", rotary_share: float = 1.0) -> Rope:
    """The RoPE of the measurements."""
    parameters = {"rope_type": "default", "rope_theta": 5e5}
    return Rope.from_parameters(
        HEAD_DIM, parameters, layout=layout, partial_rotary_factor=rotary_share
    )


def queries(tokens: int, dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    """Random queries (1, heads, tokens, head size), so many tensors that they exceed the cache."""
    size = HEADS * tokens * HEAD_DIM * dtype.itemsize
    count = min(64, max(2, -(-ENOUGH // size)))
    torch.manual_seed(0)
    return [
        torch.randn(1, HEADS, tokens, HEAD_DIM, device="cuda", dtype=dtype) for _ in range(count)
    ]


def ours(
    x: torch.Tensor, rope: Rope | None = None, tuning: Tuning | None = None, **options: Any
) -> Call:
    """A call of the kernel with a workspace of its own."""
    workspace = make_workspace(x, rope, tuning)
    return lambda x: q_similarity(x, rope=rope, tuning=tuning, workspace=workspace, **options)


def milliseconds(call: Call, inputs: list[torch.Tensor], runs: int = 20) -> list[float]:
    """Time of one call in each run: a run replays a CUDA graph of ten calls or more."""
    for x in inputs[:2]:
        call(x)
    torch.cuda.synchronize()
    calls = len(inputs) * -(-10 // len(inputs))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for k in range(calls):
            call(inputs[k % len(inputs)])
    return [found / calls for found in times(graph.replay, runs)]


def row(variant: str, call: Call, inputs: list[torch.Tensor], kept: int = 0) -> Row:
    """One measurement. kept: bytes of a workspace that outlives the call."""
    x = inputs[0]
    call(x)
    extra = extra_memory(lambda: call(x))
    return Row(
        kernel="q_similarity",
        variant=variant,
        heads=x.shape[1],
        tokens=x.shape[2],
        head_dim=x.shape[3],
        dtype=str(x.dtype).removeprefix("torch."),
        **quantiles(milliseconds(call, inputs)),
        bytes=float(x.nbytes),
        memory_bytes=extra + kept,
        ceiling="copy",
    )


def our_row(
    variant: str, inputs: list[torch.Tensor], rope: Rope | None = None, **options: Any
) -> Row:
    """A measurement of the kernel, its workspace counted as memory."""
    workspace = make_workspace(inputs[0], rope)
    kept = workspace.sums.nbytes + workspace.tickets.nbytes
    return row(variant, ours(inputs[0], rope, **options), inputs, kept)


def unit(x: torch.Tensor) -> torch.Tensor:
    """Unit vectors in float32."""
    return torch.nn.functional.normalize(x.float(), dim=-1)


def adjacent(x: torch.Tensor) -> torch.Tensor:
    """Mean cosine of neighbours, in torch."""
    u = unit(x)
    return (u[..., 1:, :] * u[..., :-1, :]).sum(-1).mean(-1)


def all_pairs(x: torch.Tensor) -> torch.Tensor:
    """Mean cosine of all pairs, in torch, without a matrix."""
    count = x.shape[-2]
    return (unit(x).sum(-2).square().sum(-1) - count) / (count * (count - 1))


def matrix(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both means from the matrix of all cosines, T x T for every head."""
    u = unit(x)
    cosines = u @ u.mT
    count = x.shape[-2]
    diagonal = cosines.diagonal(dim1=-2, dim2=-1).sum(-1)
    pairs = (cosines.sum((-2, -1)) - diagonal) / (count * (count - 1))
    return cosines.diagonal(1, -2, -1).mean(-1), pairs


def compared() -> Iterator[Row]:
    """The kernel beside torch at the main length, and beside the matrix at a shorter one."""
    inputs = queries(TOKENS)
    padding = torch.ones(1, TOKENS, device="cuda", dtype=torch.bool)
    yield our_row("adjacent, all pairs", inputs)
    yield our_row("and norms", inputs, norms=True)
    yield our_row("and lag 7", inputs, lag=7)
    yield our_row("padding mask", inputs, valid=padding)
    yield our_row("before RoPE, energies", inputs, rope())
    yield our_row("before RoPE, interleaved", inputs, rope("interleaved"))
    yield our_row("before RoPE, half of it rotary", inputs, rope("half", 0.5))
    yield row("torch.compile, adjacent", torch.compile(adjacent), inputs)
    yield row("torch.compile, all pairs", torch.compile(all_pairs), inputs)
    yield row("torch, adjacent", adjacent, inputs)
    yield row("torch, all pairs", all_pairs, inputs)
    inputs = queries(MATRIX_TOKENS)
    yield our_row("adjacent, all pairs", inputs)
    yield row("torch, T x T cosines", matrix, inputs[:2])
    yield our_row("adjacent, all pairs", queries(WINDOW))


def growth() -> Iterator[Row]:
    """The kernel at lengths from 1K to 128K, and what it measures before RoPE."""
    for tokens in GROWTH:
        inputs = queries(tokens)
        yield our_row("growth", inputs)
        yield our_row("growth, before RoPE", inputs, rope())


def rows() -> Iterator[Row]:
    """Every measurement."""
    yield from compared()
    yield from growth()
