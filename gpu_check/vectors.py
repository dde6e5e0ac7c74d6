"""What the queries and keys of the heads of a layer show by themselves, all heads at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from gpu_check.moments import Moments, measure_moments
from gpu_check.pairs import Head
from tappa_theory import drift, patterns, similarity
from tappa_theory.arrays import to_numpy
from tappa_theory.energy import best_lags
from tappa_theory.errors import InputError
from tappa_theory.prediction import ROWS, Alike, mean_query_map

T = TypeVar("T")
ENTRIES = 2**25
"""Entries of the maps of mean queries that are looked at together."""
NUMBERS = 2**27
"""Numbers of the queries of heads that are looked at together: with what is made of them, some GiB
for float64."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured: a head's vectors after RoPE, (T, d) float64, and where it sits.

    text: which of the texts of the check they come from. angle_deviation, angle_bound: largest
    angle between the model's rotation and the exact one, and what its dtype allows; radians.
    """

    layer: int
    index: int
    kv_head: int
    query: torch.Tensor
    key: torch.Tensor
    head: Head
    softcap: float | None = None
    angle_deviation: float | None = None
    angle_bound: float | None = None
    text: int = 0


@dataclass(frozen=True, eq=False)
class Vectors:
    """Of one head: similarities, mean relative drifts over one step, and the best query lag.

    None where undefined: a text too short, all vectors zero. query_cosine: (T - 1,) cosine of each
    query with the next, after RoPE; 0 with a zero query. alike: for a prediction; None with padding
    too, which a prediction leaves out where here it parts its neighbours. lines: likewise, and None
    for a text too short to have a pattern. moments: None for a text too short.
    """

    q_similarity: dict[str, float | None]
    k_similarity: dict[str, float | None]
    drift: dict[str, float | None]
    best_lag: int | None
    query_cosine: np.ndarray
    alike: Alike | None
    lines: patterns.Lines | None
    moments: Moments | None


def vectors(subjects: Sequence[Subject]) -> list[Vectors]:
    """Look at heads of one layer, in the order of the subjects."""
    found: list[Vectors] = []
    at_once = max(NUMBERS // max(subjects[0].query.numel(), 1), 1) if subjects else 1
    for start in range(0, len(subjects), at_once):
        found += _vectors(subjects[start : start + at_once])
    return found


def _vectors(subjects: Sequence[Subject]) -> list[Vectors]:
    valid = subjects[0].head.visibility.valid
    z, w, query, key = (
        torch.stack(each)
        for each in zip(*((s.head.z, s.head.w, s.query, s.key) for s in subjects), strict=True)
    )
    q_similarity = {
        "adjacent_pre": _each(lambda x: similarity.adjacent(x, valid), z),
        "adjacent_post": _each(lambda x: similarity.adjacent(x, valid), query),
        "all_pairs_pre": _each(lambda x: similarity.all_pairs(x, valid), z),
        "window_post": _each(lambda x: similarity.window(kept(x, valid)), query),
    }
    k_similarity = {
        "adjacent_pre": _each(lambda x: similarity.adjacent(x, valid), w),
        "all_pairs_post": _each(lambda x: similarity.all_pairs(x, valid), key),
    }
    drifts = {
        name: _mean_drifts(x, valid, 1)
        for name, x in (("query_pre", z), ("query_post", query), ("key_pre", w))
    }
    lags = _each(lambda x: best_lags(x, valid), z)
    by_lag = None if valid is not None else or_none(lambda: similarity.all_lags(query))
    by_lags = [None] * len(subjects) if by_lag is None else list(to_numpy(by_lag))
    lines = _lines(subjects[0].head, z, w, k_similarity["all_pairs_post"])
    moments = measure_moments(z, w, valid)
    unit = torch.nn.functional.normalize(query, dim=-1)
    cosines = to_numpy((unit[:, 1:] * unit[:, :-1]).sum(dim=-1))
    return [
        Vectors(
            q_similarity={name: each[index] for name, each in q_similarity.items()},
            k_similarity={name: each[index] for name, each in k_similarity.items()},
            drift={name: each[index] for name, each in drifts.items()},
            best_lag=lags[index],
            query_cosine=cosines[index],
            alike=None
            if by_lag is None
            else Alike(
                by_lag, q_similarity["adjacent_pre"][index], k_similarity["adjacent_pre"][index]
            ),
            lines=lines[index],
            moments=moments[index],
        )
        for index, by_lag in enumerate(by_lags)
    ]


def _lines(
    head: Head, z: torch.Tensor, w: torch.Tensor, k_similarity: Sequence[float | None]
) -> list[patterns.Lines | None]:
    """Of the mean queries, z and w (H, T, M); head: one of them."""
    length, window = head.visibility.length, head.visibility.window
    if head.visibility.valid is not None or length < patterns.THRESHOLDS.shortest:
        return [None] * len(z)
    # Where it is undefined no pattern is predicted, and the lines are not looked at.
    similarities = torch.tensor([each or 0.0 for each in k_similarity], dtype=torch.float64)
    found: list[patterns.Lines | None] = []
    at_once = max(ENTRIES // (ROWS * length), 1)
    for part in zip(*(x.split(at_once) for x in (z, w, similarities.to(z.device))), strict=True):
        queries, keys, similar = part
        rows, maps = mean_query_map(queries, keys, head.rope, head.scale, similar, window)
        found += patterns.lines_of(maps, rows)[0]
    return found


def _each(compute: Callable[[torch.Tensor], Any], x: torch.Tensor) -> list[Any]:
    """Numbers of all heads, x (H, ...) -> (H,), None where a head leaves them undefined."""
    numbers = or_none(lambda: compute(x))
    if numbers is not None:
        return numbers.tolist()
    if len(x) == 1:
        return [None]
    return [number for one in x.split(1) for number in _each(compute, one)]


def or_none(compute: Callable[[], T]) -> T | None:
    """The value, or None where the input leaves it undefined (too short, all zero)."""
    try:
        return compute()
    except InputError:
        return None


def kept(x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """(..., T, n) without the positions that are padding."""
    return x if valid is None else x[..., valid.to(x.device), :]


def mean_drift(x: torch.Tensor, valid: torch.Tensor | None, step: int = 1) -> float | None:
    """Mean relative drift of (T, n) vectors over `step` positions, padding left out."""
    return _mean_drifts(x[None], valid, step)[0]


def _mean_drifts(x: torch.Tensor, valid: torch.Tensor | None, step: int) -> list[float | None]:
    """`mean_drift` of (H, T, n)."""
    if x.shape[1] > step:
        values = drift.relative_drift(x, step)
        if valid is not None:
            valid = valid.to(values.device)
            values = values[:, valid[:-step] & valid[step:]]
        if values.shape[1]:
            return values.mean(dim=1).tolist()
    return [None] * len(x)
