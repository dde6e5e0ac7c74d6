"""Which rows of a map are followed from step to step, and what rounding leaves of their logits."""

from functools import lru_cache

import numpy as np
import torch

from gpu_check.pairs import Head
from gpu_check.visibility import Visibility
from tappa_theory import patterns, rounding
from tappa_theory.arrays import to_numpy
from tappa_theory.rounding import UNIT_ROUNDOFF


@lru_cache(maxsize=128)
def followed(visibility: Visibility, steps: int) -> torch.Tensor:
    """(T,) bool, on the CPU: observed rows whose next `steps` rows are tokens of the text, too.

    Not to be written to: all heads of a layer are given the same.
    """
    length = visibility.length
    rows = torch.zeros(length, dtype=torch.bool)
    rows[patterns.observed_rows(length) : max(length - steps, 0)] = True
    if visibility.valid is not None:
        padding = torch.cumsum((~visibility.valid.cpu()).to(torch.int64), dim=0)
        before = padding - (~visibility.valid.cpu()).to(torch.int64)
        last = torch.clamp(torch.arange(length) + steps, max=length - 1)
        rows &= padding[last] == before
    return rows


@lru_cache(maxsize=128)
def seen_keys(visibility: Visibility) -> np.ndarray:
    """(T,) number of keys that each row sees, 0 on padding. Not to be written to."""
    length = visibility.length
    valid = np.ones(length, dtype=bool) if visibility.valid is None else to_numpy(visibility.valid)
    before = np.concatenate([[0], np.cumsum(valid)])
    rows = np.arange(length)
    first = np.maximum(rows + 1 - (visibility.window or length), 0)
    return np.where(valid, before[rows + 1] - before[first], 0)


def logit_errors(head: Head, query: torch.Tensor, key: torch.Tensor) -> list[float]:
    """`rounding.logit_error` for the longest query and the longest key of each head, (H, T, d).

    head: one of them; their RoPE, scale and visibility are the same.
    """
    # Read in one go: a GPU is waited for only once.
    norms = [torch.linalg.vector_norm(x, dim=-1).amax(dim=-1) for x in (query, key)]
    angle = head.visibility.length * float(head.rope.frequencies.max())
    return [
        rounding.logit_error(head.z.shape[1], angle, head.scale * query_norm * key_norm)
        for query_norm, key_norm in torch.stack(norms, dim=1).tolist()
    ]


def square_distances(
    left: torch.Tensor, right: torch.Tensor, left_squares: torch.Tensor, right_squares: torch.Tensor
) -> torch.Tensor:
    """(..., R, C) |left_r - right_c|^2 from one product, no smaller than the exact ones or 0.

    left, right: (..., R, d), (..., C, d). *_squares: their squared norms, which are two more terms
    of the product. A sum of d + 2 terms errs by d + 2 units in the last place of their magnitudes,
    which are at most twice the sum of both squared norms; the squared norms err by d units. So much
    is added: (3d + 8) units of the sum of both. Where squares underflow, it may be below 0.
    """
    more = 1 + (3 * left.shape[-1] + 8) * UNIT_ROUNDOFF
    left_squares, right_squares = left_squares[..., None], right_squares[..., None]
    ones = torch.ones_like(left_squares), torch.ones_like(right_squares)
    of_left = torch.cat([left * -2, left_squares * more, ones[0]], dim=-1)
    of_right = torch.cat([right, ones[1], right_squares * more], dim=-1)
    return of_left @ of_right.mT
