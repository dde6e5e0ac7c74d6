"""Numeric attacks: many searches for an input that pushes observed/bound above what is proved.

They refute, they never prove. What is attacked is generated from the registry's expressions, and
the observed side is computed from the definitions, not from the derivation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

REACHED = 0.999
"""Share of the bound that an attack must reach where sharpness is claimed."""
STARTS = 8
EVALUATIONS = 1500


@dataclass(frozen=True, eq=False)
class Attack:
    """observed/bound as a function of x in [-1, 1]^size, to be pushed up.

    corners: points to start from besides random ones. sharp: 1 is approached. rounding: how far
    above 1 float64 may land.
    """

    name: str
    size: int
    ratio: Callable[[np.ndarray], float]
    sharp: bool
    rounding: float
    corners: Sequence[np.ndarray] = field(default=())


@dataclass(frozen=True)
class Attacked:
    """Outcome of an attack: the largest ratio found, after so many evaluations.

    best: None where some ratio is no finite number, which is a failure: nothing is compared there.
    """

    name: str
    best: float | None
    evaluations: int
    starts: int
    sharp: bool
    ok: bool


def run_attack(attack: Attack, seed: int = 0, starts: int = STARTS) -> Attacked:
    """Search from every corner and `starts` random points."""
    random = np.random.default_rng(seed)
    best, evaluations, undefined = 0.0, 0, False

    def objective(x: np.ndarray) -> float:
        nonlocal best, evaluations, undefined
        evaluations += 1
        value = float(attack.ratio(x))
        if not math.isfinite(value):
            undefined = True
            return 0.0
        best = max(best, value)
        return -value

    points = [*attack.corners, *(random.uniform(-1, 1, attack.size) for _ in range(starts))]
    for point in points:
        minimize(
            objective,
            point,
            method="Powell",
            bounds=[(-1, 1)] * attack.size,
            options={"maxfev": EVALUATIONS, "xtol": 1e-6, "ftol": 1e-10},
        )
    enough = not attack.sharp or best >= REACHED
    return Attacked(
        attack.name,
        None if undefined else best,
        evaluations,
        len(points),
        attack.sharp,
        ok=not undefined and enough and 0 < best <= 1 + attack.rounding,
    )
