"""What `shift_check` counts, in plain torch and float64, a block of rows at a time."""

import torch

from gpu_check.kernels.shift_check import BINS, SMALLEST, ShiftStatistics
from gpu_check.published import PUBLISHED_MARGIN
from gpu_check.shift_features import ShiftFeatures
from gpu_check.visibility import Offsets

ROWS = 128
"""Rows of a block."""


def shift_check_reference(
    features: ShiftFeatures, spread: torch.Tensor, offsets: Offsets
) -> ShiftStatistics:
    """As `shift_check` in float64, with pairs above the bound counted."""
    parts = [
        _head(features, head, spread[head], offsets)
        for head in range(features.query_change.shape[0])
    ]
    sums, counts, bins = (torch.stack(each) for each in zip(*parts, strict=True))
    redone = torch.zeros(len(sums), dtype=torch.int64)
    return ShiftStatistics(offsets.pairs(), sums, counts, bins, redone)


def _head(
    features: ShiftFeatures, head: int, spread: torch.Tensor, offsets: Offsets
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    kv_head, found = head // features.group, []
    i = torch.arange(offsets.columns, device=spread.device)
    for t in torch.arange(offsets.rows, device=spread.device).split(ROWS):
        visible = offsets.block(t, i)
        change, bound = (
            torch.where(visible, query[head, t] @ key[kv_head].T, 0.0)
            for query, key in (
                (features.query_change, features.key_change),
                (features.query_bound, features.key_bound),
            )
        )
        observed = change.abs()
        error = features.query_error[head, t][:, None] * features.key_error[kv_head]
        ratio = observed / bound.clamp(min=SMALLEST[torch.float64])
        place = (ratio * BINS).clamp(max=BINS - 1).to(torch.int64)
        flags = (
            bound < spread[t][:, None],
            ~(bound - observed >= error),
            bound * (1 + PUBLISHED_MARGIN) - observed < -error,
        )
        found.append(
            (
                torch.stack([observed.sum(1), bound.sum(1), ratio.sum(1), ratio.amax(1)], dim=1),
                torch.stack([(flag & visible).sum(1) for flag in flags], dim=1).to(torch.int32),
                torch.stack([((place == each) & visible).sum(1) for each in range(BINS)], dim=1).to(
                    torch.int32
                ),
            )
        )
    return tuple(torch.cat(each) for each in zip(*found, strict=True))
