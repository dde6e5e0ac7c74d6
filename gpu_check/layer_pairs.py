"""Every visible pair of all heads of a layer against bounds, by the kernel `shift_check`.

What `gpu_check.pairs` does head by head and tile by tile, for many heads at once and at any length:
the kernel counts, float64 decides what bfloat16 leaves open, and Arb what float64 leaves open.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from gpu_check.arb import Settled
from gpu_check.kernels.shift_check import (
    ShiftStatistics,
    check_finite,
    shift_check,
    shift_check_each,
)
from gpu_check.pairs import SMALLEST, Claim, Head, PairStatistics, TiledCheck
from gpu_check.published import (
    published_features,
    published_form,
    slack_by_norms,
    step_counts,
)
from gpu_check.shift_features import Shifted, ShiftFeatures, shift_features
from gpu_check.spread import logit_spread
from gpu_check.visibility import Offsets, Visibility
from tappa_theory.rope import Rope, to_channels, unrotate

CANDIDATES = 4
"""Rows of a head in which the largest ratio is looked for again, in float64."""
PUBLISHED_ROWS = 2048
"""Rows looked at together for a published form that is no sum of products."""
FLOATS = 2**30
"""float64 numbers that the features of some heads may hold at once, about, where memory allows."""
SHARE = 1 / 16
"""Share of a device's memory that these numbers may take: not of what is free, so that the same
heads are taken together in every run."""


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
    at_once = max(_floats(keys.device) // (6 * (group + 1) * keys[0].numel()), 1)
    parts = [
        _check_heads(q, k, rope, claims, scale, visibility, dtype)
        for q, k in zip(queries.split(at_once * group), keys.split(at_once), strict=True)
    ]
    return [_joined(claim_parts) for claim_parts in zip(*parts, strict=True)]


def _floats(device: torch.device) -> int:
    """FLOATS, or what fits into SHARE of the memory."""
    if device.type != "cuda":
        return FLOATS
    memory = torch.cuda.get_device_properties(device).total_memory
    return min(FLOATS, int(SHARE * memory) // 8)


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
    largest, worst = worst_pairs(features, statistics.sums[..., 3], offsets)
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
    return layer_statistics([check], [claims], [row_std])[0]


def layer_statistics(
    checks: Sequence[TiledCheck],
    claims: Sequence[Sequence[Claim]],
    row_std: Sequence[torch.Tensor],
) -> list[list[PairStatistics]]:
    """`head_statistics` of the heads of a layer, each with its own claims, in far fewer steps.

    Heads are taken together by theorem: what the device is told does not grow with their number.
    """
    found = [[PairStatistics(claim.shift) for claim in own] for own in claims]
    together: dict[object, list[tuple[int, int]]] = {}
    for head, own in enumerate(claims):
        for place, claim in enumerate(own):
            together.setdefault(_sort(checks[head], claim), []).append((head, place))
    groups: list[tuple[_Group, list[PairStatistics]]] = []
    held, floats = 0, _floats(checks[0].head.z.device)
    for members in together.values():
        # Channels of both sides with those a shift on, and the features made of them.
        each = 12 * checks[members[0][0]].head.z.numel()
        most = max(floats // each, 1)
        for start in range(0, len(members), most):
            part = members[start : start + most]
            held += each * len(part)
            if held > floats and groups:
                _tell(groups)
                groups, held = [], each * len(part)
            group = _Group([checks[h] for h, _ in part], [claims[h][p] for h, p in part])
            group.measure([row_std[h] for h, _ in part])
            groups.append((group, [found[h][p] for h, p in part]))
    if groups:
        _tell(groups)
    return found


def _tell(groups: "Sequence[tuple[_Group, list[PairStatistics]]]") -> None:
    """Write down what was found in some groups."""
    # All that the host needs, at once: every read waits for the device.
    numbers = iter(torch.cat([group.numbers for group, _ in groups]).tolist())
    for group, results in groups:
        for index, result in enumerate(results):
            group.tell(index, next(numbers), result)


def _sort(check: TiledCheck, claim: Claim) -> object:
    """Claims of one sort are checked together: one theorem, one way to move."""
    same = check.head.visibility.valid is not None or claim.theorem.published.counted == "steps"
    moved = tuple(step > 0 for step in claim.shift)
    return id(claim.theorem), claim.star is None, claim.shift if same else moved


class _Bands:
    """The `Offsets` of heads whose shifts differ, without padding."""

    def __init__(self, offsets: Sequence[Offsets], device: torch.device) -> None:
        bands = [(each.low, each.high, each.rows, each.columns) for each in offsets]
        numbers = torch.tensor(bands, device=device)[..., None, None]
        self.low, self.high, self.rows, self.ends = numbers.unbind(1)

    def block(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(H, R, C) bool: is the pair (rows[h, r], columns[c]) one of head h?"""
        rows = rows[..., None]
        offset = rows - columns
        visible = (offset >= self.low) & (offset < self.high)
        return visible & (rows < self.rows) & (columns < self.ends)


class _Group:
    """One theorem on some heads of a layer, at a shift each.

    numbers: (H, 13) float64 on the device, what is told of each head.
    """

    def __init__(self, checks: Sequence[TiledCheck], claims: Sequence[Claim]) -> None:
        self.checks, self.claims = checks, claims
        head, self.theorem = checks[0].head, claims[0].theorem
        shifts = [claim.shift for claim in claims]
        if len(set(shifts)) == 1:
            shifts = shifts[:1]
        extra = {}
        stars = [claim.star for claim in claims if claim.star is not None]
        if stars:
            theta = torch.tensor(head.rope.frequencies[stars], device=head.z.device)
            extra["theta_*"] = theta[:, None, None]
        z, w = (torch.stack([getattr(c.head, name) for c in checks]) for name in "zw")
        self.shifted = Shifted.of(z, w, head.rope, head.scale, shifts, extra)
        self.features = self.shifted.features(self.theorem.bound)
        self.offsets = [head.visibility.offsets(*claim.shift) for claim in claims]
        self.numbers = torch.zeros(0)
        self.by_norms = False

    def measure(self, row_std: Sequence[torch.Tensor]) -> None:
        """row_std: (T,) of each head."""
        features, offsets = self.features, self.offsets
        rows = features.query_error.shape[1]
        spread = torch.stack([each[:rows] for each in row_std])
        sums, self.counts = shift_check_each(features, spread, offsets)
        one = len(self.shifted.shifts) == 1
        bands = offsets[0] if one else _Bands(offsets, spread.device)
        numbers, worst = worst_pairs(features, sums[..., 3], bands)
        finite = torch.isfinite(features.query_error).all(1)
        finite &= torch.isfinite(features.key_error).all(1)
        columns = sums[..., :3].sum(1), numbers, worst, self.counts[..., :2].sum(1)
        self.numbers = torch.cat([*columns, finite[:, None], *self._published()], dim=1)

    def _published(self) -> list[torch.Tensor]:
        """Of each head, (H, 1): what the published form was compared with, and its failures."""
        form, values = self.theorem.published, self.shifted.values
        if form.counted == "steps":
            visibility = self.checks[0].head.visibility
            return [each[:, None] for each in step_counts(form, values, visibility)]
        nothing = torch.zeros_like(self.features.query_error)
        separated = published_features(self.claims[0], values)
        if separated is not None:
            published = replace(self.features, query_bound=separated[0], key_bound=separated[1])
            _, counts = shift_check_each(published, nothing, self.offsets, exceeded=True)
            failed = counts[..., 2].sum(1)
        elif form.bound is not None:
            self.by_norms = True
            failed = torch.stack([self._fails_by_norms(index) for index in range(len(self.checks))])
        else:
            return [nothing[:, :1]] * 2
        return [nothing[:, :1], failed[:, None]]

    def _fails_by_norms(self, index: int) -> torch.Tensor:
        """() bool: may a pair exceed a published form that is no sum of products?

        Hidden pairs are looked at, too: a mask takes longer, and a form that holds does so there.
        """
        slack = slack_by_norms(self.claims[index], self.checks[index])
        least = [
            slack(change.abs_(), rows, columns, change).min()
            for rows, columns, change in self._changes(index)
        ]
        return ~(torch.stack(least).min() >= 0)

    def _changes(self, index: int) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Tiles (rows, columns) of a head and the changes of the logits there."""
        offsets, features = self.offsets[index], self.features
        for start in range(0, offsets.rows, PUBLISHED_ROWS):
            rows = slice(start, min(start + PUBLISHED_ROWS, offsets.rows))
            columns = slice(0, max(min(rows.stop - offsets.low, offsets.columns), 0))
            if columns.stop:
                change = features.query_change[index, rows] @ features.key_change[index, columns].mT
                yield rows, columns, change

    def _count_by_norms(self, index: int) -> int:
        """Pairs that exceed a published form that is no sum of products."""
        check, claim = self.checks[index], self.claims[index]
        error = self.features.query_error[index], self.features.key_error[index]
        exceeds = published_form(claim, check, check.claim_values(claim), error)
        assert exceeds is not None
        count, device = 0, error[0].device
        for rows, columns, change in self._changes(index):
            places = (torch.arange(p.start, p.stop, device=device) for p in (rows, columns))
            observed = torch.where(self.offsets[index].block(*places), change.abs(), 0.0)
            count += exceeds(observed, rows, columns, change.flatten())
        return count

    def tell(self, index: int, numbers: Sequence[float], result: PairStatistics) -> None:
        """Write into `result` what was found of a head; numbers: its row of `numbers`."""
        sums, largest, worst = numbers[:3], numbers[3:6], numbers[6:8]
        informative, undecided, finite, checked, failed = numbers[8:]
        if not finite:
            check_finite(self.features)
        result.pairs = self.offsets[index].pairs()
        result.sum_observed, result.sum_bound, result.sum_ratio = sums
        if result.pairs and largest[2] > 0:
            result.worst_observed, result.worst_bound, result.max_ratio = largest
            result.worst = int(worst[0]), int(worst[1])
        result.informative = int(informative)
        if undecided:
            rows = self.counts[index, :, 1] > 0
            settled = self.checks[index].decide([self.claims[index]], [rows])[0]
            result.violations, result.tight = settled.violated, settled.tight
            result.undecided = settled.undecided
        form = self.theorem.published
        if form.counted == "steps":
            result.published_checked, result.published_violations = int(checked), int(failed)
        elif form.bound is not None:
            result.published_checked = result.pairs
            if self.by_norms and failed:
                failed = self._count_by_norms(index)
            result.published_violations = int(failed)


def worst_pairs(
    features: ShiftFeatures, rows: torch.Tensor, offsets: "Offsets | _Bands"
) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, 3) observed, bound and ratio of the pair of the largest ratio, and its (t, i), (H, 2).

    rows: (H, R) the largest ratio of each row. The CANDIDATES rows that look worst are computed
    again in float64. Zeros where no pair is.
    """
    group = features.group
    t = rows.topk(min(CANDIDATES, rows.shape[1]), dim=1).indices.sort(dim=1).values
    i = torch.arange(features.key_change.shape[1], device=t.device)
    visible = offsets.block(t, i)
    observed, bound = (
        torch.where(visible, _rows(query, t) @ _repeated(key, group).mT, 0.0)
        for query, key in (
            (features.query_change, features.key_change),
            (features.query_bound, features.key_bound),
        )
    )
    observed = observed.abs()
    ratio = observed / bound.clamp(min=SMALLEST)
    place = ratio.flatten(1).argmax(dim=1, keepdim=True)
    numbers = torch.cat([x.flatten(1).gather(1, place) for x in (observed, bound, ratio)], dim=1)
    row = t.gather(1, place // len(i))
    return numbers, torch.cat([row, place % len(i)], dim=1)


def _repeated(key: torch.Tensor, group: int) -> torch.Tensor:
    return key if group == 1 else key.repeat_interleave(group, 0)


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
