"""What all heads of a check say together: agreement, hypotheses, informativeness, drift."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gpu_check.heads import rank_correlation
from gpu_check.results import HeadResult
from tappa_theory.patterns import PATTERNS
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are there, None if there are none."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def agreement(pairs: Sequence[tuple[str, str]]) -> tuple[float | None, float | None]:
    """(share of equal labels, Cohen's kappa) of (one, other) labels.

    kappa = (p_o - p_e) / (1 - p_e), with p_e the agreement expected from the two label counts;
    None where p_e = 1 (both always say the same).
    """
    if not pairs:
        return None, None
    n = len(pairs)
    observed = sum(one == other for one, other in pairs) / n
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    chance = sum(first[label] * second[label] for label in first) / n**2
    return observed, None if chance == 1 else (observed - chance) / (1 - chance)


def summarise(heads: Sequence[HeadResult]) -> dict[str, Any]:
    """The "summary" of check.json: over all heads and texts, and how the texts differ."""
    return _together(heads) | {"spread": spread(heads)}


def _together(heads: Sequence[HeadResult]) -> dict[str, Any]:
    return {
        "patterns": _patterns(heads),
        "theorems": {name: _theorem(name, heads) for name in SHIFT_THEOREMS},
        "drift": _drift(heads),
        "predictability": {
            "mean": mean(head.predictability for head in heads),
            "spearman_q_similarity": _across(
                heads,
                lambda head: head.q_similarity["adjacent_pre"],
                lambda head: head.predictability,
            ),
        },
        "q_similarity": _means(heads, "q_similarity"),
        "k_similarity": _means(heads, "k_similarity"),
        "kappa_below_one": sum(head.kappa is not None and head.kappa < 1 for head in heads),
        "lifetime": _lifetime(heads),
        "reuse": _reuse(heads),
        "kl": _kl(heads),
        "angle_bound": _angle_bound(heads),
    }


def spread(heads: Sequence[HeadResult]) -> dict[str, Any] | None:
    """The "spread" of the summary: its headline numbers text by text; None for a single text.

    Only texts with as many heads as any are compared: an interrupt may leave others short.
    """
    by_text: dict[int, list[HeadResult]] = {}
    for head in heads:
        by_text.setdefault(head.text, []).append(head)
    sizes = {text: len(members) for text, members in by_text.items()}
    whole = [by_text[text] for text in sorted(by_text) if sizes[text] == max(sizes.values())]
    if len(whole) < 2:
        return None
    rows = [_spread_numbers(members) for members in whole]
    return {
        "texts": len(whole),
        "numbers": {name: _spread_of([row[name] for row in rows]) for name in rows[0]},
        "observed_stable": _stable(whole, lambda head: head.pattern_observed),
        "predicted_stable": _stable(whole, lambda head: head.pattern_predicted),
    }


def _spread_numbers(heads: Sequence[HeadResult]) -> dict[str, float | None]:
    """The numbers whose spread over texts is told, of one text."""
    found = _together(heads)
    numbers = {
        "agreement": found["patterns"]["agreement"],
        "cohen_kappa": found["patterns"]["cohen_kappa"],
        "q_similarity.adjacent_pre": found["q_similarity"]["adjacent_pre"],
        "k_similarity.adjacent_pre": found["k_similarity"]["adjacent_pre"],
        "predictability": found["predictability"]["mean"],
        "drift.spearman_cosine_kl": found["drift"]["spearman_cosine_kl"],
        "drift.spearman_key_metric_kl": found["drift"]["spearman_key_metric_kl"],
    }
    for name, part in found["theorems"].items():
        for key in ("hypotheses_met_heads", "informative", "max_ratio"):
            numbers[f"{name}.{key}"] = part[key]
    return numbers


def _spread_of(by_text: list[float | None]) -> dict[str, Any]:
    there = [value for value in by_text if value is not None]
    return {
        "by_text": by_text,
        "mean": mean(there),
        "min": min(there, default=None),
        "max": max(there, default=None),
        "std": float(np.std(there, ddof=1)) if len(there) > 1 else None,
    }


def _stable(
    texts: Sequence[Sequence[HeadResult]], pattern: Callable[[HeadResult], str | None]
) -> float | None:
    """Share of the heads whose pattern is the same in every text, of those with one in two texts
    or more (a short text shows none)."""
    seen: dict[tuple[int, int], list[str]] = {}
    for head in (head for members in texts for head in members):
        found = pattern(head)
        if found is not None:
            seen.setdefault((head.layer, head.head), []).append(found)
    return mean(len(set(each)) == 1 for each in seen.values() if len(each) > 1)


def layer_means(heads: Sequence[HeadResult]) -> list[dict[str, Any]]:
    """The "layers" of check.json: means over the heads of each layer."""
    answer = []
    for layer in sorted({head.layer for head in heads}):
        members = [head for head in heads if head.layer == layer]
        answer.append(
            {
                "layer": layer,
                "q_similarity": _means(members, "q_similarity"),
                "k_similarity": _means(members, "k_similarity"),
                "predictability": mean(head.predictability for head in members),
            }
        )
    return answer


def verdict(heads: Sequence[HeadResult]) -> str:
    """ "violated" if any pair violates its bound, else "undecided" if any is or none was checked,
    else "holds"."""
    results = [result for head in heads for result in head.theorems.values()]
    if any(result.violations for result in results):
        return "violated"
    undecided = any(result.undecided for result in results) or not any(r.pairs for r in results)
    return "undecided" if undecided else "holds"


def _means(heads: Sequence[HeadResult], name: str) -> dict[str, float | None]:
    if not heads:
        return {}
    return {
        key: mean(getattr(head, name)[key] for head in heads) for key in getattr(heads[0], name)
    }


def _patterns(heads: Sequence[HeadResult]) -> dict[str, Any]:
    labelled = [
        (head.pattern_predicted, head.pattern_observed)
        for head in heads
        if head.pattern_predicted is not None and head.pattern_observed is not None
    ]
    published = [
        (head.pattern_published, head.pattern_observed)
        for head in heads
        if head.pattern_published is not None and head.pattern_observed is not None
    ]
    share, kappa = agreement(labelled)
    published_share, published_kappa = agreement(published)
    observed = Counter(seen for _, seen in labelled)
    confusion = Counter(labelled)
    return {
        "heads": len(labelled),
        "agreement": share,
        "cohen_kappa": kappa,
        "majority_agreement": max(observed.values()) / len(labelled) if labelled else None,
        "published_agreement": published_share,
        "published_cohen_kappa": published_kappa,
        "observed": {name: observed[name] for name in PATTERNS},
        "confusion": {
            predicted: {seen: confusion[predicted, seen] for seen in PATTERNS}
            for predicted in PATTERNS
        },
    }


def _theorem(name: str, heads: Sequence[HeadResult]) -> dict[str, Any]:
    of_head = [(head, head.theorems[name]) for head in heads]
    applicable = [(head, result) for head, result in of_head if result.applicable]
    pairs = sum(result.pairs for _, result in applicable)
    informative = sum((result.informative or 0.0) * result.pairs for _, result in applicable)
    top = max(applicable, key=lambda entry: entry[1].max_ratio or 0.0, default=None)
    checked = [result for _, result in applicable if result.published_checked is not None]
    answer: dict[str, Any] = {
        "applicable_heads": len(applicable),
        "hypotheses_met_heads": sum(bool(r.hypotheses.get("met")) for _, r in applicable),
        "pairs": pairs,
        "violations": sum(result.violations for _, result in applicable),
        "undecided": sum(result.undecided for _, result in applicable),
        "tight": sum(result.tight for _, result in applicable),
        "max_ratio": top[1].max_ratio if top else None,
        "worst": None,
        "informative": informative / pairs if pairs else None,
        "published_violations": sum(result.published_violations or 0 for result in checked),
        "published_checked": sum(result.published_checked or 0 for result in checked),
        "published_counted": THEOREMS[name].published.counted,
    }
    if top is not None and top[1].worst is not None:
        place = {"text": top[0].text, "layer": top[0].layer, "head": top[0].head}
        answer["worst"] = place | top[1].worst
    return answer


def _drift(heads: Sequence[HeadResult]) -> dict[str, float | None]:
    def median(key: str) -> float | None:
        values = [head.drift[key] for head in heads if head.drift[key] is not None]
        return float(np.median(np.array(values))) if values else None

    return {
        "spearman_cosine_kl": median("spearman_cosine_kl"),
        "spearman_key_metric_kl": median("spearman_key_metric_kl"),
        "heads_spearman_q_similarity_kl": _across(
            heads, lambda head: head.q_similarity["adjacent_post"], lambda head: head.drift["kl"]
        ),
        "heads_spearman_key_metric_kl": _across(
            heads, lambda head: head.drift["key_metric"], lambda head: head.drift["kl"]
        ),
        "kl": mean(head.drift["kl"] for head in heads),
        "key_metric": mean(head.drift["key_metric"] for head in heads),
        "kl_bound": mean(head.drift["kl_bound"] for head in heads),
    }


def _lifetime(heads: Sequence[HeadResult]) -> dict[str, Any] | None:
    """Medians over the heads of each number of "lifetime"; rows and broken are added up."""
    parts = [head.lifetime for head in heads if head.lifetime is not None]
    if not parts:
        return None
    spreads = ("certified", "observed_old", "observed")
    return {
        "heads": len(parts),
        "rows": sum(part["rows"] for part in parts),
        "broken": sum(part["broken"] for part in parts),
        "certified_heads": sum(part["certified_share"] > 0 for part in parts),
        "certified_rows": sum(round(part["certified_share"] * part["rows"]) for part in parts),
        **{
            name: {key: _median(part[name][key] for part in parts) for key in parts[0][name]}
            for name in spreads
        },
        "angle": _median(part["angle"] for part in parts),
        "turn": _median(part["turn"] for part in parts),
    }


SHARES = ("informative", "informative_measured", "top_certified", "top_observed")
"""Numbers of "reuse" that are shares of rows."""


def _reuse(heads: Sequence[HeadResult]) -> dict[str, Any] | None:
    """By horizon: medians over the heads of each number of "reuse", shares over all rows."""
    found: dict[str, Any] = {}
    for horizon in dict.fromkeys(step for head in heads for step in head.reuse or {}):
        parts = [head.reuse[horizon] for head in heads if head.reuse and horizon in head.reuse]
        rows = sum(part["rows"] for part in parts)
        found[horizon] = {"heads": len(parts)}
        for name in parts[0]:
            if name in ("rows", "broken"):
                found[horizon][name] = sum(part[name] for part in parts)
            elif name in SHARES:
                found[horizon][name] = sum(part[name] * part["rows"] for part in parts) / rows
            else:
                found[horizon][name] = _median(part[name] for part in parts)
    return found or None


def _kl(heads: Sequence[HeadResult]) -> dict[str, Any] | None:
    """Means over the heads of each number of "kl"; steps and outside are added up."""
    parts = [head.kl for head in heads if head.kl is not None]
    if not parts:
        return None
    return {
        name: (sum if name in ("steps", "outside") else mean)(part[name] for part in parts)
        for name in parts[0]
    }


def _angle_bound(heads: Sequence[HeadResult]) -> dict[str, Any] | None:
    """The largest bound and how many heads lie within theirs."""
    parts = [head.angle_bound for head in heads if head.angle_bound is not None]
    if not parts:
        return None
    return {
        "heads": len(parts),
        "within": sum(part["within"] for part in parts),
        "bound": max(part["bound"] for part in parts),
        "deviation": max(
            head.angle_deviation
            for head in heads
            if head.angle_bound is not None and head.angle_deviation is not None
        ),
    }


def _median(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None


def _across(heads: Sequence[HeadResult], first: Any, second: Any) -> float | None:
    both = [(first(head), second(head)) for head in heads]
    both = [(x, y) for x, y in both if x is not None and y is not None]
    if not both:
        return None
    return rank_correlation(np.array([x for x, _ in both]), np.array([y for _, y in both]))
