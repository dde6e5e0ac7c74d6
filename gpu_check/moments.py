"""Moments of every head's queries and keys by RoPE channel: what moments.npz holds.

From them simulations draw heads that are like real ones. The file is the only join: numpy arrays
with one row per text, layer and head, and no pickles; docs/measures.md describes it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_check.pairs import Head
from gpu_check.results import HeadResult
from tappa_theory.app.files import atomic_path
from tappa_theory.arrays import to_numpy
from tappa_theory.rope import Rope

SCHEMA = 1
FEWEST = 3
"""Tokens that moments need: two keys after the first."""


@dataclass(frozen=True, eq=False)
class Side:
    """Moments of queries or of keys over time, before RoPE, (M,) each.

    mean: complex. variance: mean |z_t - mean|^2. autocovariance: the sum of (z_{t+1} - mean)
    conj(z_t - mean) over neighbours, over the number of vectors, so never above the variance.
    """

    mean: np.ndarray
    variance: np.ndarray
    autocovariance: np.ndarray


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of one head's queries (all) and keys (after the first), and its first key (M,)."""

    query: Side
    key: Side
    first_key: np.ndarray


@dataclass(frozen=True, eq=False)
class HeadMoments(Moments):
    """Moments of one head in one text, and what it is."""

    text: int
    layer: int
    head: int
    observed: str
    predicted: str
    rope: Rope
    scale: float


def measure_moments(
    z: torch.Tensor, w: torch.Tensor, valid: torch.Tensor | None
) -> list[Moments | None]:
    """Moments of heads, z and w (H, T, M) before RoPE; None for fewer than `FEWEST` tokens.

    valid: (T,) bool, false on padding; None where there is none.
    """
    counted = torch.ones(z.shape[1], dtype=torch.bool) if valid is None else valid.cpu()
    if int(counted.sum()) < FEWEST:
        return [None] * len(z)
    first = int(counted.to(torch.int64).argmax())
    later = counted.clone()
    later[first] = False
    first_keys = to_numpy(w[:, first].clone())  # a view would keep all keys
    each = sides(z, counted), sides(w, later), first_keys
    return [Moments(query, key, first_key) for query, key, first_key in zip(*each, strict=True)]


def of_head(moments: Moments, head: Head, result: HeadResult) -> HeadMoments:
    """The moments with what a measured head is."""
    return HeadMoments(
        query=moments.query,
        key=moments.key,
        first_key=moments.first_key,
        text=result.text,
        layer=result.layer,
        head=result.head,
        observed=result.pattern_observed or "",
        predicted=result.pattern_predicted or "",
        rope=head.rope,
        scale=head.scale,
    )


def sides(x: torch.Tensor, counted: torch.Tensor) -> list[Side]:
    """Moments of channels (H, T, M) over the positions that count, (T,) bool, one or more."""
    number = int(counted.sum())
    kept = counted.to(x.device)[:, None]
    mean = torch.where(kept, x, 0).sum(dim=1, keepdim=True) / number
    deviation = torch.where(kept, x - mean, 0)
    variance = (deviation.abs() ** 2).sum(dim=1) / number
    neighbours = (deviation[:, 1:] * deviation[:, :-1].conj()).sum(dim=1) / number
    # Read in one go: a GPU is waited for only once.
    found = to_numpy(torch.stack([mean[:, 0], variance.to(x.dtype), neighbours], dim=1))
    return [Side(mean=a, variance=b.real, autocovariance=c) for a, b, c in found]


def write_moments(
    moments: Sequence[HeadMoments], conditions: Mapping[str, Any], path: Path
) -> None:
    """Write moments.npz, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays(moments, conditions))  # type: ignore[arg-type]


def arrays(moments: Sequence[HeadMoments], conditions: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of moments.npz; channels that a head lacks beside a larger one are 0."""
    width = max((head.rope.frequencies.size for head in moments), default=0)

    def table(rows: Sequence[np.ndarray], dtype: type) -> np.ndarray:
        filled: np.ndarray = np.zeros((len(rows), width), dtype=dtype)
        for row, values in zip(filled, rows, strict=True):
            row[: len(values)] = values
        return filled

    found = {
        "schema": np.array(SCHEMA),
        "conditions": np.array(json.dumps(dict(conditions), sort_keys=True)),
        "text": np.array([head.text for head in moments], dtype=np.int32),
        "layer": np.array([head.layer for head in moments], dtype=np.int32),
        "head": np.array([head.head for head in moments], dtype=np.int32),
        "observed": np.array([head.observed for head in moments], dtype=np.str_),
        "predicted": np.array([head.predicted for head in moments], dtype=np.str_),
        "scale": np.array([head.scale for head in moments], dtype=np.float64),
        "channels": np.array([head.rope.frequencies.size for head in moments], dtype=np.int32),
        "rotary_dim": np.array([head.rope.rotary_dim for head in moments], dtype=np.int32),
        "attention_scaling": np.array(
            [head.rope.attention_scaling for head in moments], dtype=np.float64
        ),
        "frequencies": table([head.rope.frequencies for head in moments], np.float64),
        "first_key": table([head.first_key for head in moments], np.complex128),
    }
    for name in ("query", "key"):
        sides: list[Side] = [getattr(head, name) for head in moments]
        found |= {
            f"{name}_mean": table([side.mean for side in sides], np.complex128),
            f"{name}_variance": table([side.variance for side in sides], np.float64),
            f"{name}_autocovariance": table([side.autocovariance for side in sides], np.complex128),
        }
    return found
