"""Which rows of a map are followed from step to step, and what rounding leaves of their logits."""

import torch

from gpu_check.pairs import Head
from gpu_check.visibility import Visibility
from tappa_theory import patterns, rounding
from tappa_theory.rounding import UNIT_ROUNDOFF


def followed(visibility: Visibility, steps: int) -> torch.Tensor:
    """(T,) bool: observed rows whose next `steps` rows are tokens of the text, too."""
    length = visibility.length
    rows = torch.zeros(length, dtype=torch.bool)
    rows[patterns.observed_rows(length) : max(length - steps, 0)] = True
    if visibility.valid is not None:
        padding = torch.cumsum((~visibility.valid.cpu()).to(torch.int64), dim=0)
        before = padding - (~visibility.valid.cpu()).to(torch.int64)
        last = torch.clamp(torch.arange(length) + steps, max=length - 1)
        rows &= padding[last] == before
    return rows


def logit_error(head: Head, query: torch.Tensor, key: torch.Tensor) -> float:
    """`rounding.logit_error` for the longest query and the longest key of a head."""
    norms = [float(torch.linalg.vector_norm(x, dim=-1).max()) for x in (query, key)]
    angle = head.visibility.length * float(head.rope.frequencies.max())
    return rounding.logit_error(head.z.shape[1], angle, head.scale * norms[0] * norms[1])


def square_distances(
    left: torch.Tensor, right: torch.Tensor, left_squares: torch.Tensor, right_squares: torch.Tensor
) -> torch.Tensor:
    """(R, C) |left_r - right_c|^2 from one product, no smaller than the exact ones.

    left, right: (R, d), (C, d). *_squares: their squared norms. What rounding may take away is
    added: (2d + 8) units in the last place of the sum of both squared norms.
    """
    more = 1 + (2 * left.shape[1] + 8) * UNIT_ROUNDOFF
    sums = left_squares[:, None] * more + right_squares[None, :] * more
    return sums.addmm_(left, right.T, alpha=-2).clamp_(min=0)


def same_start(visibility: Visibility, rows: torch.Tensor) -> int:
    """Number of keys from the first on that all of these consecutive rows see.

    0 with a sliding window or padding, where it takes more to tell.
    """
    cut = visibility.window is not None or visibility.valid is not None
    return 0 if cut else int(rows[0])
