"""`check_pairs` on the shape of an 8B model, its kernel alone, and plain torch for one head."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu.measure import Row, extra_memory, quantiles, times
from gpu_check.kernels.shift_check import BINS, _Launch
from gpu_check.layer_pairs import PairCounts, check_pairs
from gpu_check.pairs import Claim
from gpu_check.shift_features import ShiftFeatures, shift_features
from gpu_check.visibility import Visibility
from tappa_theory.rope import Rope, to_channels, unrotate
from tappa_theory.theorems import THEOREMS

LAYERS, HEADS, KV_HEADS, TOKENS, HEAD_DIM = 32, 32, 8, 32_768, 128
CLAIMS = (
    Claim(THEOREMS["re_access"], (1, 0)),
    Claim(THEOREMS["sequential"], (1, 1)),
    Claim(THEOREMS["seasonal"], (64, 0)),
)
GROWTH = (1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)
ONE_HEAD = 16_384
"""Tokens at which plain torch holds a head's whole matrices."""


def layer(
    index: int, tokens: int = TOKENS, heads: int = HEADS, kv_heads: int = KV_HEADS,
    device: torch.device | str = "cuda",
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Seeded bfloat16 queries and keys of a layer: a common vector, and noise as long."""
    generator = torch.Generator(device).manual_seed(index)

    def draw(count: int) -> torch.Tensor:
        shape = count, tokens, HEAD_DIM
        noise = torch.randn(shape, generator=generator, device=device)
        common = torch.randn(count, 1, HEAD_DIM, generator=generator, device=device)
        return (noise + common).to(torch.bfloat16)

    return draw(heads), draw(kv_heads)


def rope() -> Rope:
    """Of every layer."""
    return Rope.from_parameters(HEAD_DIM, {"rope_type": "default", "rope_theta": 5e5})


def check_layer(queries: torch.Tensor, keys: torch.Tensor) -> list[PairCounts]:
    """All claims on all pairs, certification included."""
    visibility = Visibility(queries.shape[1])
    return check_pairs(queries, keys, rope(), CLAIMS, scale=HEAD_DIM**-0.5, visibility=visibility)


def flop(tokens: int, heads: int) -> float:
    """Of the products of features: changes and bounds of the three shifts."""
    widths = (2 + 1, 4 + 2, 2 + 1)  # numbers per channel
    visible = Visibility(tokens)
    pairs = [visible.offsets(*claim.shift).pairs() for claim in CLAIMS]
    return sum(2.0 * heads * n * w * HEAD_DIM / 2 for n, w in zip(pairs, widths, strict=True))


def whole_model() -> Iterator[Row]:
    """32 layers of 32 heads, one after the other, each with its own queries and keys."""
    check_layer(*layer(0, 2048))
    check_layer(*layer(0))
    spent, redone = [], 0
    for index in range(LAYERS):
        queries, keys = layer(index)
        found: list[list[PairCounts]] = []
        spent += times(lambda q=queries, k=keys, f=found: f.append(check_layer(q, k)), 1, 0)
        assert not any(bool(c.undecided.any() | c.violations.any()) for c in found[0])
        redone += sum(int(c.redone.sum()) for c in found[0])
    total = sum(spent)
    memory = extra_memory(lambda: check_layer(queries, keys))
    yield Row(
        "shift_check", "ours, a layer, three shifts", HEADS, TOKENS, HEAD_DIM, "bfloat16",
        **quantiles(spent), flop=flop(TOKENS, HEADS), memory_bytes=memory, ceiling="matmul",
        note=f"{KV_HEADS} key heads; {redone} rows done again in float64",
    )  # fmt: skip
    yield Row(
        "shift_check", f"ours, {LAYERS} layers, three shifts", LAYERS * HEADS, TOKENS, HEAD_DIM,
        "bfloat16", total, total, total, 1, flop=LAYERS * flop(TOKENS, HEADS),
        memory_bytes=memory, ceiling="matmul", note=f"{KV_HEADS} key heads a layer",
    )  # fmt: skip


def kernel_alone() -> Iterator[Row]:
    """The kernel on the features of one layer, shift by shift."""
    queries, keys = (x.to(torch.float64) for x in layer(0))
    positions = torch.arange(TOKENS, device="cuda")
    z, w = (unrotate(to_channels(x, rope()), rope(), positions) for x in (queries, keys))
    for claim in CLAIMS:
        features = shift_features(z, w, rope(), HEAD_DIM**-0.5, claim.shift, claim.theorem.bound)
        offsets = Visibility(TOKENS).offsets(*claim.shift)
        spread = torch.ones(HEADS, offsets.rows, dtype=torch.float64, device="cuda")
        launch = _Launch(features, spread, offsets, torch.bfloat16, False, None)
        blocks = -(-offsets.rows // launch.tile.rows)
        heads = torch.arange(HEADS).repeat_interleave(blocks).cuda()
        order = torch.arange(blocks - 1, -1, -1).repeat(HEADS).cuda()
        width = features.query_change.shape[-1] + features.query_bound.shape[-1]
        yield Row(
            "shift_check", f"kernel alone, shift {claim.shift}", HEADS, TOKENS, HEAD_DIM,
            "bfloat16", **quantiles(times(partial(launch.run, heads, order), 5, 1)),
            flop=2.0 * HEADS * offsets.pairs() * width, ceiling="matmul",
        )  # fmt: skip
        del features, launch


def growth() -> Iterator[Row]:
    """Eight heads on two key heads at growing length."""
    for tokens in GROWTH:
        queries, keys = layer(0, tokens, 8, 2)
        found = quantiles(times(lambda q=queries, k=keys: check_layer(q, k), 3, 1))
        memory = extra_memory(lambda q=queries, k=keys: check_layer(q, k))
        yield Row(
            "shift_check", "growth", 8, tokens, HEAD_DIM, "bfloat16", **found,
            flop=flop(tokens, 8), memory_bytes=memory, ceiling="matmul",
        )  # fmt: skip


def plain_torch(parts: list[ShiftFeatures], spread: torch.Tensor) -> list[torch.Tensor]:
    """What a user would write: whole matrices in float32, masked, compared and reduced."""
    found = []
    for part in parts:
        change, bound = (
            (query[0] @ key[0].T).tril()
            for query, key in (
                (part.query_change, part.key_change),
                (part.query_bound, part.key_bound),
            )
        )
        observed = change.abs()
        ratio = observed / bound.clamp(min=1e-30)
        found += [
            (observed > bound).sum(),
            (bound < spread[: len(bound), None]).tril().sum(),
            observed.sum(),
            bound.sum(),
            ratio.sum(),
            ratio.max(),
            torch.histc(ratio, BINS, 0, 1),
        ]
    return found


def one_head() -> Iterator[Row]:
    """Plain torch and torch.compile on the features of one head, beside the kernel on it."""
    queries, keys = layer(0, ONE_HEAD, 1, 1)
    positions = torch.arange(ONE_HEAD, device="cuda")
    z, w = (
        unrotate(to_channels(x.to(torch.float64), rope()), rope(), positions)
        for x in (queries, keys)
    )
    scale, spread = HEAD_DIM**-0.5, torch.ones(ONE_HEAD, device="cuda")
    parts = [
        shift_features(z, w, rope(), scale, claim.shift, claim.theorem.bound) for claim in CLAIMS
    ]
    short = [ShiftFeatures(**{k: v.float() for k, v in vars(part).items()}) for part in parts]
    compiled = torch.compile(plain_torch)
    for variant, action in (
        ("torch, eager, float32, nothing certified", lambda: plain_torch(short, spread)),
        ("torch.compile, float32, nothing certified", lambda: compiled(short, spread)),
        ("ours, from queries and keys, certified", lambda: check_layer(queries, keys)),
    ):
        found = quantiles(times(action, 5, 2))
        yield Row(
            "shift_check", variant, 1, ONE_HEAD, HEAD_DIM, "bfloat16" if "ours" in variant
            else "float32", **found, flop=flop(ONE_HEAD, 1), memory_bytes=extra_memory(action),
            ceiling="matmul",
        )  # fmt: skip


def rows() -> Iterator[Row]:
    """Everything above."""
    yield from kernel_alone()
    yield from one_head()
    yield from growth()
    yield from whole_model()
