"""`q_similarity` in plain torch and float64, head by head, from the expressions of tappa_theory."""

from collections.abc import Callable

import torch

from gpu_check.kernels.q_similarity import QSimilarity
from tappa_theory import similarity
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, to_channels, unrotate


def q_similarity_reference(
    x: torch.Tensor,
    *,
    rope: Rope | None = None,
    start: int = 0,
    lag: int | None = None,
    valid: torch.Tensor | None = None,
    norms: bool = False,
) -> QSimilarity:
    """What `q_similarity` returns, from vectors of any real dtype on any device.

    start: the position of row 0. Arguments, shapes and NaN otherwise as there.
    """
    batches, heads, length, _ = x.shape
    if valid is None:
        valid = torch.ones((batches, length), dtype=torch.bool, device=x.device)
    x = torch.where(valid[:, None, :, None] != 0, x.double(), 0.0)
    broken = ~x.isfinite().all(dim=-1)
    first = torch.where(broken.any(dim=-1), broken.int().argmax(dim=-1), -1)
    # heads with such a row are NaN throughout; their vectors must only not get in the way
    finite = torch.where((first >= 0)[..., None, None], 0.0, x)

    def means(vectors: torch.Tensor, mean: Callable[..., torch.Tensor]) -> torch.Tensor:
        rows = [
            torch.stack([_or_nan(mean, vectors[b, h], valid[b]) for h in range(heads)])
            for b in range(batches)
        ]
        return torch.stack(rows)

    spoiled = torch.where(first >= 0, torch.nan, 0.0).double()
    adjacent_pre = all_pairs_pre = energies = None
    if rope is not None:
        positions = start + torch.arange(length, device=x.device)
        z = unrotate(to_channels(finite, rope), rope, positions)
        adjacent_pre = means(z, similarity.adjacent)
        all_pairs_pre = means(z, similarity.all_pairs)
        energies = z.abs().sum(dim=-2) + spoiled[..., None]
    lagged = None
    if lag is not None:
        lagged = means(finite, lambda vectors, kept: similarity.lag(vectors, lag, kept))
    return QSimilarity(
        adjacent=means(finite, similarity.adjacent),
        all_pairs=means(finite, similarity.all_pairs),
        lag=lagged,
        adjacent_pre=adjacent_pre,
        all_pairs_pre=all_pairs_pre,
        energies=energies,
        norms=torch.where(broken, torch.nan, x.norm(dim=-1)).float() if norms else None,
        first_not_finite=first.int(),
    )


def _or_nan(
    mean: Callable[..., torch.Tensor], vectors: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    try:
        return mean(vectors, valid)
    except InputError:  # nothing to average
        return torch.full((), torch.nan, dtype=torch.float64, device=vectors.device)
