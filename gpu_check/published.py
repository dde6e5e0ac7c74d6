"""The published forms of the theorems, counted on the tiles of one head.

As everywhere in the check, the formulas are generated from the theorem's own expressions.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from gpu_check.tiles import product
from gpu_check.visibility import Visibility
from tappa_theory.separable import evaluate, separate
from tappa_theory.theorems import PublishedForm

PUBLISHED_MARGIN = 1e-9
"""Relative excess from which a published form counts as violated: far above float64 rounding."""

Counter = Callable[[torch.Tensor, slice, slice, torch.Tensor], int]
"""(|logit differences| of a tile, its rows, its columns, scratch) -> violations of the form."""


def published_form(claim: Any, check: Any, values: Mapping[str, Any]) -> Counter | None:
    """Counts violations of a claim's published form on tiles; None if it says nothing of pairs.

    claim: gpu_check.pairs.Claim; check: gpu_check.pairs.TiledCheck; values: of the shifted head.
    """
    form = claim.theorem.published
    if form.counted != "pairs" or form.bound is None:
        return None
    if {symbol.name for symbol in form.bound.free_symbols} & {"z", "w"}:
        return _by_features(form, values)
    return _by_norms(form, claim.shift, check)


def _violations(observed: torch.Tensor, limit: torch.Tensor) -> int:
    return int(torch.count_nonzero(observed > limit.mul_(1 + PUBLISHED_MARGIN)))


def _by_features(form: PublishedForm, values: Mapping[str, Any]) -> Counter:
    separable = separate(form.bound)
    query, key = separable.query_features(values), separable.key_features(values)

    def count(observed: torch.Tensor, rows: slice, columns: slice, buffer: torch.Tensor) -> int:
        return _violations(observed, product(query[rows], key[columns], buffer))

    return count


def _by_norms(form: PublishedForm, shift: tuple[int, int], check: Any) -> Counter:
    (s, u), norm, length = shift, torch.linalg.vector_norm, check.head.visibility.length
    query, key = check.query_vectors, check.key_vectors
    of_query = {
        "query_norm": check.query_norm[: length - s],
        "query_step": norm(query[s:] - query[: length - s], dim=-1),
    }
    of_key = {
        "key_norm_u": check.key_norm[u:],
        "key_step": norm(key[u:] - key[: length - u], dim=-1),
    }

    def count(observed: torch.Tensor, rows: slice, columns: slice, buffer: torch.Tensor) -> int:
        values = {name: value[rows, None] for name, value in of_query.items()}
        values |= {name: value[None, columns] for name, value in of_key.items()}
        limit = evaluate(form.bound, values | {"lambda": check.head.scale})
        return _violations(observed, limit)

    return count


def count_steps(
    form: PublishedForm, values: Mapping[str, Any], visibility: Visibility
) -> tuple[int, int]:
    """(instances, violations) of a form that speaks of query steps (t, t+1) and channels.

    Steps from or to a zero channel are no instances: they have no angle.
    """
    moving = (values["z"].abs() > 0) & (values["z_s"].abs() > 0)
    if visibility.valid is not None:
        valid = visibility.valid.to(moving.device)
        moving &= (valid[:-1] & valid[1:])[:, None]
    observed, limit = evaluate(form.observed, values), evaluate(form.bound, values)
    violated = moving & (observed > limit * (1 + PUBLISHED_MARGIN))
    return int(torch.count_nonzero(moving)), int(torch.count_nonzero(violated))
