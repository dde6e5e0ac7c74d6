"""The spread of each row's logits, for many heads, without a T x T matrix.

Var_i(q.k_i) over the keys of a row is a quadratic form of the query in the keys' second moments, so
running moments serve whole blocks of rows; only a block's own keys are multiplied out.
"""

import torch

from gpu_check.visibility import Visibility

ROWS = 1024
"""Rows of a block."""


def logit_spread(queries: torch.Tensor, keys: torch.Tensor, visibility: Visibility) -> torch.Tensor:
    """(H, T) standard deviation over the visible keys of each row's products, 0 for none.

    queries (H, T, D), keys (H_kv, T, D): logit features, float64. A soft-cap is not applied.
    """
    group = queries.shape[0] // keys.shape[0]
    grouped = queries.reshape(keys.shape[0], group, *queries.shape[1:])
    # The same shift of every key moves all products of a row alike, and less cancels.
    keys = keys - keys.mean(dim=1, keepdim=True)
    parts = [
        _block(grouped, keys, visibility, start, moments)
        for start, moments in _running_moments(keys, visibility)
    ]
    return torch.cat(parts, dim=-1).flatten(0, 1)


_Moments = tuple[torch.Tensor, torch.Tensor] | None


def _running_moments(keys: torch.Tensor, visibility: Visibility):  # type: ignore[no-untyped-def]
    """(start of a block, sum of k k^T and sum of k over all keys before it).

    None for the moments where not every row of the block sees all of these keys.
    """
    plain = visibility.window is None and visibility.valid is None
    second = keys.new_zeros(keys.shape[0], keys.shape[2], keys.shape[2])
    first = keys.new_zeros(keys.shape[0], keys.shape[2])
    for start in range(0, visibility.length, ROWS):
        yield start, ((second, first) if plain else None)
        block = keys[:, start : start + ROWS]
        second = second + block.mT @ block
        first = first + block.sum(dim=1)


def _block(
    queries: torch.Tensor,
    keys: torch.Tensor,
    visibility: Visibility,
    start: int,
    moments: _Moments,
) -> torch.Tensor:
    """(H_kv, group, rows) spread of the rows of a block."""
    stop = min(start + ROWS, visibility.length)
    rows = queries[:, :, start:stop]
    first = 0 if visibility.window is None else max(start - visibility.window + 1, 0)
    first = start if moments is not None else first
    t, i = (torch.arange(*ends, device=keys.device) for ends in ((start, stop), (first, stop)))
    visible = visibility.block(t, i)
    products = torch.where(visible, rows @ keys[:, None, first:stop].mT, 0.0)
    count = visible.sum(dim=1)
    total, squares = products.sum(dim=-1), products.square().sum(dim=-1)
    if moments is not None:
        second, mean = moments
        count = count + start
        total = total + (rows @ mean[:, None, :, None])[..., 0]
        squares = squares + ((rows @ second[:, None]) * rows).sum(dim=-1)
    count = count.clamp(min=1)
    return (squares / count - (total / count).square()).clamp_(min=0).sqrt()
