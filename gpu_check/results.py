"""The results of a check, named as in check.json; plain frozen data."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TheoremResult:
    """One theorem on one head; see check.schema.json for the meaning of every field."""

    applicable: bool
    reason: str | None = None
    shift: tuple[int, int] | None = None
    pairs: int = 0
    violations: int = 0
    undecided: int = 0
    tight: int = 0
    max_ratio: float | None = None
    mean_ratio: float | None = None
    worst: dict[str, float] | None = None
    mean_observed: float | None = None
    mean_bound: float | None = None
    hypotheses: dict[str, Any] = field(default_factory=dict)
    informative: float | None = None
    published_violations: int | None = None
    published_checked: int | None = None
    published_counted: str | None = None
    prediction: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HeadResult:
    """One head on one text: ingredients, pattern predicted and observed, the theorems on it."""

    text: int
    layer: int
    head: int
    kv_head: int
    q_similarity: dict[str, float | None]
    k_similarity: dict[str, float | None]
    dominant_channel: int | None
    dominant_share: float | None
    frequency_dominant_channel: int | None
    kappa: float | None
    curvature: float | None
    angle_deviation: float | None
    channel_energy: tuple[float, ...] | None
    pattern_predicted: str | None
    pattern_observed: str | None
    pattern_published: str | None
    pattern_scores: dict[str, dict[str, float | None]]
    predictability: float | None
    drift: dict[str, float | None]
    theorems: dict[str, TheoremResult]
    angle_bound: dict[str, Any] | None = None
    lifetime: dict[str, Any] | None = None
    reuse: dict[str, Any] | None = None
    kl: dict[str, Any] | None = None
