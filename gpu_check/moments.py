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

from gpu_check.results import HeadResult
from gpu_check.vectors import Subject
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
class HeadMoments:
    """Moments of one head in one text: all queries, the keys after the first, and the first key."""

    text: int
    layer: int
    head: int
    observed: str
    predicted: str
    rope: Rope
    scale: float
    query: Side
    key: Side
    first_key: np.ndarray


def measure_moments(subject: Subject, result: HeadResult) -> HeadMoments | None:
    """The moments of a measured head; None for a text of fewer than `FEWEST` tokens."""
    head = subject.head
    length = head.visibility.length
    counted = torch.ones(length, dtype=torch.bool)
    if head.visibility.valid is not None:
        counted = head.visibility.valid.cpu()
    if int(counted.sum()) < FEWEST:
        return None
    first = int(counted.to(torch.int64).argmax())
    later = counted.clone()
    later[first] = False
    return HeadMoments(
        text=subject.text,
        layer=subject.layer,
        head=subject.index,
        observed=result.pattern_observed or "",
        predicted=result.pattern_predicted or "",
        rope=head.rope,
        scale=head.scale,
        query=side(head.z, counted),
        key=side(head.w, later),
        first_key=to_numpy(head.w[first]),
    )


def side(x: torch.Tensor, counted: torch.Tensor) -> Side:
    """Moments of channels (T, M) over the positions that count, (T,) bool, one or more."""
    number = int(counted.sum())
    kept = counted.to(x.device)[:, None]
    mean = torch.where(kept, x, 0).sum(dim=0) / number
    deviation = torch.where(kept, x - mean, 0)
    variance = (deviation.abs() ** 2).sum(dim=0) / number
    neighbours = (deviation[1:] * deviation[:-1].conj()).sum(dim=0) / number
    # Read in one go: a GPU is waited for only once.
    mean, variance, neighbours = to_numpy(torch.stack([mean, variance.to(x.dtype), neighbours]))
    return Side(mean=mean, variance=variance.real, autocovariance=neighbours)


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
