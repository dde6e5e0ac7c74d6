"""Time and memory of `attention_rows`, its growth, and plain torch with whole maps in memory."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu.measure import Row, extra_memory, quantiles, times
from gpu_check.kernels.attention_rows import attention_rows
from tappa_theory.predictability import TOP, shift_aware_recall

LAYERS = (
    (9, 3, 8192, 64, torch.float32),
    (32, 8, 8192, 128, torch.bfloat16),
    (32, 8, 32_768, 128, torch.bfloat16),
)
"""(heads, key heads, tokens, head size, type) of whole layers."""
GROWTH = (1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
EAGER_TOKENS = 4096
PRODUCTS = 3
"""Inner products per visible pair: the row's in two kernels, and the next row's."""


def layer(
    heads: int, kv_heads: int, tokens: int, head_dim: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Seeded random queries and keys, (1, heads, T, d) and (1, kv_heads, T, d)."""
    generator = torch.Generator("cuda").manual_seed(0)
    queries, keys = (
        torch.randn(1, number, tokens, head_dim, generator=generator, device="cuda").to(dtype)
        for number in (heads, kv_heads)
    )
    return queries, keys


def flop(heads: int, tokens: int, head_dim: int) -> float:
    """Of the inner products of the visible pairs."""
    return PRODUCTS * heads * tokens * (tokens + 1) / 2 * 2 * head_dim


def eager_rows(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> list[torch.Tensor]:
    """The statistics of `attention_rows` in float32, one head's map in memory at a time."""
    group, length = queries.shape[1] // keys.shape[1], queries.shape[2]
    visible = torch.ones(length, length, dtype=torch.bool, device=queries.device).tril()
    found = []
    for head in range(queries.shape[1]):
        logits = (scale * queries[0, head].float()) @ keys[0, head // group].float().T
        seen = torch.where(visible, logits, -torch.inf)
        normaliser = seen.logsumexp(dim=1)
        attention = torch.exp(seen - normaliser[:, None])
        count = torch.arange(1, length + 1, device=queries.device)
        mean = torch.where(visible, logits, 0.0).sum(dim=1) / count
        centred = torch.where(visible, logits - mean[:, None], 0.0)
        change = torch.where(visible[:-1], logits[1:] - logits[:-1], 0.0)
        before = attention[:-1]
        drift = change - (before * change).sum(dim=1, keepdim=True)
        metric = (before * drift.square()).sum(dim=1) / 2
        divergence = (before * torch.exp(drift)).sum(dim=1).log()
        after = torch.where(visible[:-1], seen[1:], -torch.inf).softmax(dim=1)
        largest = torch.where(visible[:-1], change, -torch.inf).amax(dim=1)
        smallest = torch.where(visible[:-1], change, torch.inf).amin(dim=1)
        found += [
            (centred.square().sum(dim=1) / count).sqrt(),
            attention[:, 0],
            attention.diagonal() + torch.nn.functional.pad(attention.diagonal(-1), (1, 0)),
            divergence,
            metric,
            largest - smallest,
            (after - before).abs().sum(dim=1) / 2,
            shift_aware_recall(attention, TOP),
        ]
    return found


def measured(
    variant: str, action: Callable[[], object], queries: torch.Tensor, note: str = ""
) -> Row:
    """One row; shares are of the 16-bit matmul, which float32 does not reach for."""
    _, heads, tokens, head_dim = queries.shape
    short = queries.dtype == torch.bfloat16
    return Row(
        "attention_rows", variant, heads, tokens, head_dim,
        str(queries.dtype).removeprefix("torch."), **quantiles(times(action, 10, 2)),
        flop=flop(heads, tokens, head_dim), memory_bytes=extra_memory(action),
        ceiling="matmul" if short else None, note=note,
    )  # fmt: skip


def ours(queries: torch.Tensor, keys: torch.Tensor) -> Callable[[], object]:
    """A call of the kernel."""
    return lambda: attention_rows(queries, keys, scale=queries.shape[-1] ** -0.5)


def layers() -> Iterator[Row]:
    """Whole layers."""
    for heads, kv_heads, tokens, head_dim, dtype in LAYERS:
        queries, keys = layer(heads, kv_heads, tokens, head_dim, dtype)
        yield measured("ours", ours(queries, keys), queries, f"{kv_heads} key heads")


def growth() -> Iterator[Row]:
    """Eight heads on two key heads at growing length."""
    for tokens in GROWTH:
        queries, keys = layer(8, 2, tokens, 128, torch.bfloat16)
        yield measured("growth", ours(queries, keys), queries)


def beside_torch() -> Iterator[Row]:
    """Plain torch, one head's map in memory at a time, and the kernel on the same heads."""
    for heads, kv_heads, _, head_dim, dtype in LAYERS[:2]:
        queries, keys = layer(heads, kv_heads, EAGER_TOKENS, head_dim, dtype)
        scale = head_dim**-0.5
        yield measured("ours", ours(queries, keys), queries, f"{kv_heads} key heads")
        yield measured(
            "torch, eager, float32",
            lambda q=queries, k=keys, s=scale: eager_rows(q, k, s),
            queries,
            f"{kv_heads} key heads",
        )


def rows() -> Iterator[Row]:
    """Everything above."""
    yield from beside_torch()
    yield from layers()
    yield from growth()
