"""Every visible pair of all heads of a layer against bounds, by the kernel `shift_check`.

What `gpu_check.pairs` does head by head and tile by tile, for many heads at once and at any length:
the kernel counts, float64 decides what bfloat16 leaves open, and Arb what float64 leaves open.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from gpu_check.arb import Settled
from gpu_check.kernels.shift_check import ShiftStatistics, shift_check
from gpu_check.pairs import SMALLEST, Claim, Head, PairStatistics, TiledCheck
from gpu_check.published import count_steps, published_features, published_form
from gpu_check.shift_features import ShiftFeatures, shift_features
from gpu_check.spread import logit_spread
from gpu_check.visibility import Offsets, Visibility
from tappa_theory.rope import Rope, to_channels, unrotate

CANDIDATES = 4
"""Rows of a head in which the largest ratio is looked for again, in float64."""
PUBLISHED_ROWS = 2048
"""Rows looked at together for a published form that is no sum of products."""
FLOATS = 2**27
"""float64 numbers that the features of some heads may hold at once, about: 1 GiB."""


@dataclass(frozen=True, eq=False)
class PairCounts:
    """One claim on H heads, tensors on the CPU; each (H,) unless told otherwise.

    pairs: visible before and after the shift, of every head. holds: those that float64 does not
    prove and Arb does. violations, tight, undecided: as in `gpu_check.pairs.PairStatistics`.
    informative: pairs whose bound lies below the spread of the row's logits. mean_observed,
    mean_bound, mean_ratio: over the pairs, logits. max_ratio, worst (H, 2): the largest ratio, in
    float64, and its (t, i). histogram (H, 8): pairs by ratio, eighths of [0, 1], and above.
    redone: rows that were counted again in float64.
    """

    shift: tuple[int, int]
    pairs: int
    violations: torch.Tensor
    tight: torch.Tensor
    undecided: torch.Tensor
    informative: torch.Tensor
    mean_observed: torch.Tensor
    mean_bound: torch.Tensor
    mean_ratio: torch.Tensor
    max_ratio: torch.Tensor
    worst: torch.Tensor
    histogram: torch.Tensor
    redone: torch.Tensor


def check_pairs(
    queries: torch.Tensor,
    keys: torch.Tensor,
    rope: Rope,
    claims: Sequence[Claim],
    *,
    scale: float,
    visibility: Visibility,
    dtype: torch.dtype = torch.bfloat16,
) -> list[PairCounts]:
    """Compare every visible pair with the bound of every claim; memory O(T).

    queries (H, T, d), keys (H_kv, T, d): after RoPE, on a CUDA device (or on the CPU, in Triton's
    interpreter). scale: softmax scale. dtype: of the first comparison, as in `shift_check`.

    Raises InputError for shapes that do not fit, or numbers that are not finite.
    """
    group = queries.shape[0] // keys.shape[0]
    # Features of both moves, changes and bounds: about six times the vectors in float64.
    at_once = max(FLOATS // (6 * (group + 1) * keys[0].numel()), 1)
    parts = [
        _check_heads(q, k, rope, claims, scale, visibility, dtype)
        for q, k in zip(queries.split(at_once * group), keys.split(at_once), strict=True)
    ]
    return [_joined(claim_parts) for claim_parts in zip(*parts, strict=True)]


def _check_heads(
    queries: torch.Tensor,
    keys: torch.Tensor,
    rope: Rope,
    claims: Sequence[Claim],
    scale: float,
    visibility: Visibility,
    dtype: torch.dtype,
) -> list[PairCounts]:
    queries, keys = queries.to(torch.float64), keys.to(torch.float64)
    positions = torch.arange(visibility.length, device=queries.device)
    z, w = (unrotate(to_channels(x, rope), rope, positions) for x in (queries, keys))
    spread = logit_spread(scale * queries, keys, visibility)
    found = []
    for claim in claims:
        features = shift_features(z, w, rope, scale, claim.shift, claim.theorem.bound)
        offsets = visibility.offsets(*claim.shift)
        limits = spread[:, : offsets.rows]
        statistics = shift_check(features, limits, offsets, dtype=dtype)
        unsure = statistics.counts[..., 1] > 0
        settled = [Settled()] * len(z)
        for index in torch.nonzero(unsure.any(dim=1)).flatten().tolist():
            kv_head = index // features.group
            captured = queries[index], keys[kv_head]
            head = Head(z[index], w[kv_head], rope, scale, visibility, captured)
            settled[index] = TiledCheck(head).decide([claim], [unsure[index]])[0]
        found.append(_counted(claim, features, statistics, offsets, settled))
    return found


def _counted(
    claim: Claim,
    features: ShiftFeatures,
    statistics: ShiftStatistics,
    offsets: Offsets,
    settled: Sequence[Settled],
) -> PairCounts:
    pairs = max(statistics.pairs, 1)
    means = statistics.sums[..., :3].sum(dim=1).cpu() / pairs
    largest, worst = worst_pairs(features, statistics, offsets)
    return PairCounts(
        shift=claim.shift,
        pairs=statistics.pairs,
        violations=torch.tensor([each.violated for each in settled]),
        tight=torch.tensor([each.tight for each in settled]),
        undecided=torch.tensor([each.undecided for each in settled]),
        informative=statistics.counts[..., 0].sum(dim=1).cpu(),
        mean_observed=means[:, 0],
        mean_bound=means[:, 1],
        mean_ratio=means[:, 2],
        max_ratio=largest[:, 2].cpu(),
        worst=worst.cpu(),
        histogram=statistics.bins.sum(dim=1).cpu(),
        redone=statistics.redone.cpu(),
    )


def head_statistics(
    check: TiledCheck, claims: Sequence[Claim], row_std: torch.Tensor
) -> list[PairStatistics]:
    """What `TiledCheck.run` tells of a head, by the kernel in float64."""
    return [_statistics(check, claim, row_std) for claim in claims]


def _statistics(check: TiledCheck, claim: Claim, row_std: torch.Tensor) -> PairStatistics:
    head, result = check.head, PairStatistics(claim.shift)
    extra = {} if claim.star is None else {"theta_*": check.values["theta"][claim.star]}
    z, w, bound = head.z[None], head.w[None], claim.theorem.bound
    features = shift_features(z, w, head.rope, head.scale, claim.shift, bound, extra)
    offsets = head.visibility.offsets(*claim.shift)
    spread = row_std[None, : offsets.rows]
    found = shift_check(features, spread, offsets, dtype=torch.float64)
    numbers, worst = worst_pairs(features, found, offsets)
    sums = found.sums[0, :, :3].sum(dim=0)
    open_rows = found.counts[0, :, 1] > 0
    # All that the host needs, at once: every read waits for the device.
    read = torch.cat([sums, numbers[0], worst[0], found.counts[0, :, :2].sum(dim=0)]).tolist()
    result.pairs = found.pairs
    result.sum_observed, result.sum_bound, result.sum_ratio = read[:3]
    if found.pairs and read[5] > 0:
        result.worst_observed, result.worst_bound, result.max_ratio = read[3:6]
        result.worst = int(read[6]), int(read[7])
    result.informative = int(read[8])
    if read[9]:
        settled = check.decide([claim], [open_rows])[0]
        result.violations, result.tight = settled.violated, settled.tight
        result.undecided = settled.undecided
    _count_published(check, claim, features, result)
    return result


def _count_published(
    check: TiledCheck, claim: Claim, features: ShiftFeatures, result: PairStatistics
) -> None:
    """Add what the published form says of these pairs."""
    form, values = claim.theorem.published, check.claim_values(claim)
    if form.counted == "steps":
        result.published_checked, result.published_violations = count_steps(
            form, values, check.head.visibility
        )
        return
    offsets = check.head.visibility.offsets(*claim.shift)
    error = features.query_error[0], features.key_error[0]
    separated = published_features(claim, values)
    if separated is not None:
        query, key = (part[None] for part in separated)
        published = replace(features, query_bound=query, key_bound=key)
        nothing = torch.zeros_like(published.query_error)
        found = shift_check(published, nothing, offsets, dtype=torch.float64, exceeded=True)
        result.published_checked = found.pairs
        result.published_violations = int(found.counts[..., 2].sum())
        return
    exceeds = published_form(claim, check, values, error)
    if exceeds is None:
        return
    result.published_checked, result.published_violations = result.pairs, 0
    for start in range(0, offsets.rows, PUBLISHED_ROWS):
        rows = slice(start, min(start + PUBLISHED_ROWS, offsets.rows))
        columns = slice(0, max(min(rows.stop - offsets.low, offsets.columns), 0))
        places = (
            torch.arange(p.start, p.stop, device=row.device)
            for p, row in zip((rows, columns), error, strict=True)
        )
        change = features.query_change[0, rows] @ features.key_change[0, columns].mT
        observed = torch.where(offsets.block(*places), change.abs(), 0.0)
        result.published_violations += exceeds(observed, rows, columns, change.flatten())


def worst_pairs(
    features: ShiftFeatures, statistics: ShiftStatistics, offsets: Offsets
) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, 3) observed, bound and ratio of the pair of the largest ratio, and its (t, i), (H, 2).

    The CANDIDATES rows that look worst are computed again in float64. Zeros where no pair is.
    """
    group, rows = features.group, statistics.sums[..., 3]
    t = rows.topk(min(CANDIDATES, rows.shape[1]), dim=1).indices.sort(dim=1).values
    i = torch.arange(offsets.columns, device=t.device)
    visible = offsets.block(t, i)
    observed, bound = (
        torch.where(visible, _rows(query, t) @ key.repeat_interleave(group, 0).mT, 0.0)
        for query, key in (
            (features.query_change, features.key_change),
            (features.query_bound, features.key_bound),
        )
    )
    observed = observed.abs()
    ratio = observed / bound.clamp(min=SMALLEST)
    place = ratio.flatten(1).argmax(dim=1, keepdim=True)
    numbers = torch.cat([x.flatten(1).gather(1, place) for x in (observed, bound, ratio)], dim=1)
    row = t.gather(1, place // offsets.columns)
    return numbers, torch.cat([row, place % offsets.columns], dim=1)


def _rows(query: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(H, R, D) rows t (H, R) of (H, T, D)."""
    return query.gather(1, t[..., None].expand(*t.shape, query.shape[-1]))


def _joined(parts: Sequence[PairCounts]) -> PairCounts:
    """The counts of more heads in one."""
    tensors = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name, value in vars(parts[0]).items()
        if isinstance(value, torch.Tensor)
    }
    return PairCounts(shift=parts[0].shift, pairs=parts[0].pairs, **tensors)
