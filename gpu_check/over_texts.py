"""Heads measured on several texts, each as the one dot or cell that a figure has for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from gpu_check.figure_parts import Check
from tappa_theory.patterns import PATTERNS

Entry = dict[str, Any]
"""An entry of "heads" in check.json: one head on one text."""


def by_head(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The entries of every (layer, head), in the order of their first ones."""
    groups: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry["layer"], entry["head"]), []).append(entry)
    return list(groups.values())


def heads_over_texts(check: Check) -> list[Entry]:
    """One entry per head with what figures read of it; a single text's entries say the same.

    Numbers are means over the texts that have them. pattern_observed is the commonest over the
    texts that show one, a tie going to the first of PATTERNS, and pattern_other the next commonest,
    None where all texts agree. A theorem is applicable if it is on any text; its worst pair is that
    of the largest ratio on any of them.
    """
    return [_one(entries) for entries in by_head(check["heads"])]


def text_count(check: Check) -> int:
    """Number of texts on which a head was measured."""
    return len({entry.get("text", 0) for entry in check["heads"]})


def head_unit(check: Check) -> str:
    """What the counts of the summary are counts of."""
    return "heads x texts" if text_count(check) > 1 else "heads"


def means_text(check: Check) -> str:
    """The sentence that says what a number of a head is where there are several texts."""
    count = text_count(check)
    return f" The numbers of a head are means over {count} texts." if count > 1 else ""


def patterns_text(check: Check, heads: list[Entry], mark: str) -> str:
    """The same of its pattern; mark: how a head looks whose texts show different ones."""
    count = text_count(check)
    if count < 2:
        return ""
    return (
        f" The pattern of a head is the commonest over {count} texts (of equally common ones the"
        f" first in the order {', '.join(PATTERNS)}); it differs between texts on"
        f" {differing(heads)} of {len(heads)} heads ({mark})."
    )


def differing(heads: list[Entry]) -> int:
    """Number of heads whose texts show different patterns."""
    return sum(head["pattern_other"] is not None for head in heads)


def _one(entries: list[Entry]) -> Entry:
    common, other = _commonest(entry["pattern_observed"] for entry in entries)
    return {
        "layer": entries[0]["layer"],
        "head": entries[0]["head"],
        "pattern_observed": common,
        "pattern_other": other,
        "theorems": {
            name: _theorem([entry["theorems"][name] for entry in entries])
            for name in entries[0]["theorems"]
        },
        **{
            name: _means([entry.get(name) or {} for entry in entries])
            for name in ("q_similarity", "k_similarity", "drift")
        },
    }


def _commonest(patterns: Iterable[str | None]) -> tuple[str | None, str | None]:
    """The commonest pattern and the next; None where there is none."""
    counts = Counter(pattern for pattern in patterns if pattern is not None)
    order = [name for name in PATTERNS if name in counts]
    order.sort(key=lambda name: -counts[name])  # stable: ties stay in the order of PATTERNS
    return order[0] if order else None, order[1] if len(order) > 1 else None


def _theorem(results: list[dict[str, Any]]) -> dict[str, Any]:
    applicable = [result for result in results if result["applicable"]]
    worst = max(applicable, key=lambda result: result["max_ratio"] or 0.0, default=None)
    return {
        "applicable": bool(applicable),
        "mean_bound": mean(result["mean_bound"] for result in applicable),
        "mean_observed": mean(result["mean_observed"] for result in applicable),
        "worst": worst["worst"] if worst else None,
    }


def _means(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: mean(part.get(name) for part in parts) for name in names}


def mean(numbers: Iterable[float | None]) -> float | None:
    """Mean of the numbers that are there, None if there are none."""
    there = [number for number in numbers if number is not None]
    return float(np.mean(there)) if there else None
