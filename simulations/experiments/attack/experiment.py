"""Bounds under attack: observed over bound for random, optimised and real-like inputs.

The ratios have taken off what float64 may have added to both sides, so that 1 is the limit exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulations.bounds import BOUNDS
from simulations.bounds.bound import Bound, Instances
from simulations.bounds.climb import climb
from simulations.experiment import Criterion, Experiment, Outcome, Settings, columns
from simulations.experiments.attack.figure import draw
from simulations.generators.real_like import generate, read_moments
from tappa_theory.app.style import number_text
from tappa_theory.theorems import THEOREMS

LIMIT = 1.0
"""No theorem is violated, whatever the input: what float64 may have added is taken off already."""
REACHED = 0.99
"""Share of a bound proved attained that a search from random inputs is expected to find: it needs
no idea of the proof, and one percent is far more than it loses by ending early."""
REACHED_NEAR = 0.999
"""The same from disturbed cases of equality, which are near the top already."""
IDENTICAL = 0.999
"""A bound that most random inputs attain is an identity: there is nothing to search for."""


@dataclass(frozen=True)
class Effort:
    """How much is tried: of each bound and size so many inputs, and evaluations of a search.

    pairs: instances from each real-like head. all: every head size, and searches at the smallest
    and the largest, of a theorem's auxiliary forms too; otherwise the largest, and its own bound.
    """

    random: int
    searches: int
    evaluations: int
    heads: int
    pairs: int
    all: bool


FULL = Effort(random=128, searches=6, evaluations=40, heads=10, pairs=8, all=True)
QUICK = Effort(random=64, searches=4, evaluations=32, heads=2, pairs=8, all=False)
LENGTH = 256
LEAST_DISTURBED, MOST_DISTURBED = -4.0, -1.0
"""Powers of ten of the noise on a case of equality, relative to the size of its arrays."""


def run(settings: Settings) -> Outcome:
    """Attack every bound and take the largest ratios."""
    effort = QUICK if settings.quick else FULL
    moments = read_moments(settings.moments)
    chosen = np.unique(np.linspace(0, len(moments.heads) - 1, effort.heads).astype(int))
    heads = [generate(settings.random(0, int(n)), moments, int(n), LENGTH) for n in chosen]
    rows: list[dict[str, Any]] = []
    for number, bound in enumerate(BOUNDS):
        for channels in bound.sizes if effort.all else bound.sizes[-1:]:
            rng = settings.random(1, number, channels)
            for inputs, ratios in _attacked(bound, channels, effort, rng):
                rows.append(_row(bound, 2 * channels if bound.channels else None, inputs, ratios))
        if bound.from_head is not None:
            rng = settings.random(2, number)
            ratios = np.concatenate(
                [bound.ratios(bound.from_head(rng, head, effort.pairs)) for head in heads]
            )
            sizes = {head.rope.head_dim for head in heads}
            size = sizes.pop() if bound.channels and len(sizes) == 1 else None
            rows.append(_row(bound, size, "real_like", ratios))
    return Outcome(
        tables={"ratios": columns(rows)},
        criteria=_criteria(rows),
        finding=_finding(rows),
        conditions={
            "bounds": len(BOUNDS),
            "head_sizes": sorted({row["head_size"] for row in rows if row["head_size"]}),
            "random_instances": effort.random,
            "searches": effort.searches,
            "evaluations": effort.evaluations,
            "real_like_heads": len(heads),
            "real_like_length": LENGTH,
            "moments_of": str(moments.conditions.get("model", "unknown")),
        },
    )


def _attacked(
    bound: Bound, channels: int, effort: Effort, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """(kind of input, largest ratios) of one bound at one number of channels."""
    random = bound.ratios(bound.draw(rng, channels, effort.random))
    yield "random", random
    outer = channels in (bound.sizes[0], bound.sizes[-1])
    searched = outer if effort.all else bound.name == bound.theorem
    if np.median(random) >= IDENTICAL or not searched:
        return
    start = bound.draw(rng, channels, effort.searches)
    if bound.equality is None:
        yield "optimised", climb(bound, start, effort.evaluations, rng)
        return
    size = 10 ** rng.uniform(LEAST_DISTURBED, MOST_DISTURBED, effort.searches)
    near = bound.perturbed(bound.equality(rng, channels, effort.searches), rng, size)
    if _alike(start, near):
        both = {name: np.concatenate([start[name], near[name]]) for name in start}
        found = climb(bound, both, effort.evaluations, rng)
        yield "optimised", found[: effort.searches]
        yield "near_equality", found[effort.searches :]
    else:
        yield "optimised", climb(bound, start, effort.evaluations, rng)
        yield "near_equality", climb(bound, near, effort.evaluations, rng)


def _alike(one: Instances, other: Instances) -> bool:
    """Can both be searched from together?"""
    shapes = [{name: array.shape for name, array in which.items()} for which in (one, other)]
    return shapes[0] == shapes[1]


def _row(bound: Bound, head_size: int | None, inputs: str, ratios: np.ndarray) -> dict[str, Any]:
    return {
        "theorem": bound.theorem,
        "bound": bound.name,
        "sharp": bound.sharp,
        "head_size": head_size,
        "inputs": inputs,
        "instances": len(ratios),
        "worst": float(np.max(ratios)),
        "median": float(np.median(ratios)),
    }


def _best(rows: Sequence[dict[str, Any]], inputs: Sequence[str]) -> dict[str, float]:
    """Largest ratio of each sharp bound from these inputs, over all head sizes."""
    best: dict[str, float] = {}
    for row in rows:
        if row["sharp"] and row["inputs"] in inputs:
            best[row["bound"]] = max(row["worst"], best.get(row["bound"], 0.0))
    return best


def _found(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Largest ratio of each sharp bound that is searched from random inputs, or is an identity."""
    searched = {row["bound"] for row in rows if row["inputs"] == "optimised"}
    identities = {
        row["bound"] for row in rows if row["inputs"] == "random" and row["median"] >= IDENTICAL
    }
    best = _best(rows, ("random", "optimised"))
    return {name: best[name] for name in best if name in searched | identities}


def _criteria(rows: Sequence[dict[str, Any]]) -> tuple[Criterion, ...]:
    worst = {
        theorem: max(row["worst"] for row in rows if row["theorem"] == theorem)
        for theorem in THEOREMS
    }
    proven = tuple(
        Criterion(
            f"No input exceeds a bound of {theorem}, largest ratio.",
            worst[theorem],
            "<=",
            LIMIT,
            proven=True,
        )
        for theorem in THEOREMS
    )
    near = {**_best(rows, ("near_equality",))}
    return (
        *proven,
        Criterion(
            f"A search from random inputs comes within {1 - REACHED:.0%} of every bound proved"
            " attained that is searched, least ratio.",
            min(_found(rows).values()),
            ">=",
            REACHED,
        ),
        Criterion(
            "A search from disturbed cases of equality comes within"
            f" {1 - REACHED_NEAR:.1%} of each of them, least ratio.",
            min(near.values()),
            ">=",
            REACHED_NEAR,
        ),
    )


def _finding(rows: Sequence[dict[str, Any]]) -> str:
    worst = max(row["worst"] for row in rows)
    if worst > LIMIT:
        exceeded = sorted({row["bound"] for row in rows if row["worst"] > LIMIT})
        return f"Bounds are exceeded, by a factor of up to {worst!r}: {', '.join(exceeded)}."
    found, near = _found(rows), _best(rows, ("near_equality",))
    least = min(found, key=lambda name: found[name])
    drawn = _best(rows, ("random",))
    by_chance = sum(drawn[name] >= REACHED for name in found)
    searched = sum(ratio >= REACHED for ratio in found.values())
    close = sum(ratio >= REACHED_NEAR for ratio in near.values())
    own = [row for row in rows if row["inputs"] == "real_like" and row["bound"] == row["theorem"]]
    middle = float(np.median([row["median"] for row in own]))
    return (
        f"No input exceeds a bound: the largest ratio is {_below_one(worst)}. Of {len(found)}"
        f" bounds proved attained, random inputs come within {1 - REACHED:.0%} of {by_chance} and a"
        f" search from them of {searched} (least: {least}, {number_text(found[least])}); from"
        f" disturbed cases of equality a search comes within {1 - REACHED_NEAR:.1%} of {close} of"
        f" {len(near)}. On real-like inputs the median over theorems of the median ratio to their"
        f" own bound is {number_text(middle)}."
    )


def _below_one(ratio: float) -> str:
    return "1" if ratio == 1 else f"1 - {number_text(1 - ratio)}"


EXPERIMENT = Experiment(
    name="attack",
    title="Bounds under attack",
    question="How close do random, optimised and real-like inputs come to each proved bound?",
    run=run,
    draw=draw,
)
