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
ANGLE_ROUNDING = 2.0**-50
"""Rounding error of the angle between two nearly equal channels, radians."""

Counter = Callable[[torch.Tensor, slice, slice, torch.Tensor], int]
"""(|logit differences| of a tile, its rows, its columns, scratch) -> violations of the form."""
Slack = Callable[[torch.Tensor, slice, slice, torch.Tensor], torch.Tensor]
"""The same -> (R, C) by how much the form exceeds them: at least 0 where none is violated."""
Limit = Callable[[slice, slice, torch.Tensor], torch.Tensor]
"""(rows of a tile, its columns, scratch) -> what the form allows there."""


def published_form(
    claim: Any, check: Any, values: Mapping[str, Any], error: tuple[torch.Tensor, torch.Tensor]
) -> Counter | None:
    """Counts violations of a claim's published form on tiles; None if it says nothing of pairs.

    claim: gpu_check.pairs.Claim; check: gpu_check.pairs.TiledCheck; values: of the shifted head;
    error: per-query and per-key factors of the rounding error of a comparison.
    """
    form = claim.theorem.published
    if form.counted != "pairs" or form.bound is None:
        return None
    features = published_features(claim, values)
    limit = _by_norms(form, claim.shift, check) if features is None else _by_features(*features)
    slack_of = _slack(limit)
    query_error, key_error = error

    def count(observed: torch.Tensor, rows: slice, columns: slice, buffer: torch.Tensor) -> int:
        slack = slack_of(observed, rows, columns, buffer)
        if float(slack.min()) >= 0:
            return 0
        # What rounding alone can exceed is no violation of the form.
        rounding = query_error[rows, None] * key_error[None, columns]
        return int(torch.count_nonzero(slack < -rounding))

    return count


def _slack(limit: Limit) -> Slack:
    """What the form allows of the pairs of a tile, and a margin, less what was observed."""

    def slack(
        observed: torch.Tensor, rows: slice, columns: slice, buffer: torch.Tensor
    ) -> torch.Tensor:
        return limit(rows, columns, buffer).mul_(1 + PUBLISHED_MARGIN).sub_(observed)

    return slack


def slack_by_norms(claim: Any, check: Any) -> Slack:
    """The slack of a form that `published_features` finds to be no sum over channels."""
    return _slack(_by_norms(claim.theorem.published, claim.shift, check))


def published_features(
    claim: Any, values: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(T - s, F) and (T - u, F) features whose inner product is what the form allows of a pair.

    None if it says nothing of pairs, or is not a sum over channels.
    """
    form = claim.theorem.published
    if form.counted != "pairs" or form.bound is None:
        return None
    if not {symbol.name for symbol in form.bound.free_symbols} & {"z", "w"}:
        return None
    separable = separate(form.bound)
    return separable.query_features(values), separable.key_features(values)


def _by_features(query: torch.Tensor, key: torch.Tensor) -> Limit:
    def limit(rows: slice, columns: slice, buffer: torch.Tensor) -> torch.Tensor:
        return product(query[rows], key[columns], buffer)

    return limit


def _by_norms(form: PublishedForm, shift: tuple[int, int], check: Any) -> Limit:
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

    def limit(rows: slice, columns: slice, buffer: torch.Tensor) -> torch.Tensor:
        values = {name: value[rows, None] for name, value in of_query.items()}
        values |= {name: value[None, columns] for name, value in of_key.items()}
        return evaluate(form.bound, values | {"lambda": check.head.scale})

    return limit


def count_steps(
    form: PublishedForm, values: Mapping[str, Any], visibility: Visibility
) -> tuple[int, int]:
    """(instances, violations) of a form that speaks of query steps (t, t+1) and channels.

    Steps from or to a zero channel are no instances: they have no angle.
    """
    moving, violated = step_counts(form, values, visibility)
    return int(moving), int(violated)


def step_counts(
    form: PublishedForm, values: Mapping[str, Any], visibility: Visibility
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count_steps` of each of (...) heads, whose z and z_s are (..., T - 1, M)."""
    moving = (values["z"].abs() > 0) & (values["z_s"].abs() > 0)
    if visibility.valid is not None:
        valid = visibility.valid.to(moving.device)
        moving &= (valid[:-1] & valid[1:])[:, None]
    observed, limit = evaluate(form.observed, values), evaluate(form.bound, values)
    violated = moving & (observed > limit * (1 + PUBLISHED_MARGIN) + ANGLE_ROUNDING)
    return moving.sum(dim=(-2, -1)), violated.sum(dim=(-2, -1))
