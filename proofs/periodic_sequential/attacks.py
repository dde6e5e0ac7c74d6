"""Attacks on theorem 5.3: rows of two competitors, their maxima, and keys that drift."""

from __future__ import annotations

import numpy as np

from proofs.engine.attack import Attack
from proofs.lemmas.rows import changed
from proofs.periodic_sequential.row import AUXILIARY, CONDITION
from tappa_theory.separable import evaluate
from tappa_theory.theorems.periodic_sequential import THEOREM

STEP = 0.3
"""theta_* of the attacked rows."""
GRID = np.linspace(-np.pi, np.pi, 129)
DIRECTIONS = np.linspace(0, np.pi / 2, 17)
COMPETITORS = 2


def attacked_row(point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(theta, A, phi, kappa) of a row under the hypothesis H < 1, the dominant channel first."""
    slope, speed, phi = point.reshape(3, COMPETITORS)
    slope, speed = 0.01 + 0.49 * (1 + slope), 2.0 ** (2 * speed)
    frequency, energy = speed * STEP, slope / speed
    values = {"energy": energy[:, None], "energy_*": 1.0, "theta": frequency[:, None]}
    values |= {"theta_*": STEP, "v": DIRECTIONS}
    condition = np.sum(evaluate(CONDITION, values), axis=0)
    scale = min(1.0, 0.99 / condition.max())
    energy, share = scale * energy, float(scale * condition[0])  # kappa is the condition at v = 0
    phases = np.concatenate(([0.0], np.pi * phi))
    return (
        np.concatenate(([STEP], frequency)),
        np.concatenate(([1.0], energy)),
        phases,
        share,
    )


def maxima(frequency: np.ndarray, energy: np.ndarray, phi: np.ndarray, crest: int) -> list[float]:
    """Distances of the local maxima in the period around a crest, from the signs of the slope."""

    def slope(distance: np.ndarray) -> np.ndarray:
        return -(energy * frequency) @ np.sin(np.multiply.outer(frequency, distance) + phi[:, None])

    grid = (GRID + 2 * np.pi * crest) / frequency[0]
    values = slope(grid)
    found = []
    for index in np.flatnonzero((values[:-1] > 0) & (values[1:] <= 0)):
        points, heights = grid[index : index + 2], values[index : index + 2]
        for _ in range(3):  # 24^3 times finer than the grid, then a line
            points = np.linspace(points[0], points[1], 25)
            heights = slope(points)
            place = max(int(np.argmin(heights > 0)), 1)
            points, heights = points[place - 1 : place + 1], heights[place - 1 : place + 1]
        share = heights[0] / (heights[0] - heights[1])
        found.append(float(points[0] + share * (points[1] - points[0])))
    return found


def displaced(point: np.ndarray) -> float:
    """Largest displacement of a maximum over what is proved."""
    frequency, energy, phi, share = attacked_row(point)
    allowed = evaluate(AUXILIARY["displacement"], {"kappa": np.asarray(share), "theta_*": STEP})
    found = maxima(frequency, energy, phi, 0)
    return max(abs(distance) for distance in found) / float(allowed)


def spaced(point: np.ndarray) -> float:
    """Error of the spacing of two successive maxima over what is proved."""
    frequency, energy, phi, share = attacked_row(point)
    allowed = evaluate(AUXILIARY["spacing"], {"kappa": np.asarray(share), "theta_*": STEP})
    first, second = maxima(frequency, energy, phi, 0)[0], maxima(frequency, energy, phi, 1)[0]
    return abs(second - first - 2 * np.pi / STEP) / float(allowed)


def counted(point: np.ndarray) -> float:
    """Number of maxima in the period around a crest, or 2 if there is none."""
    frequency, energy, phi, _ = attacked_row(point)
    return float(len(maxima(frequency, energy, phi, 0)) or 2)


def drawn(point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(theta, query (2,), keys at the distances n-1, n, n+1 (3, 2)), the dominant channel first."""
    frequency = np.array([0.05 + 1.4 * (1 + point[0]) / 2, np.pi * (1 + point[1]) / 2])
    query = np.array([np.exp(1j * np.pi * point[2]), 0.3 * (1 + point[3])])
    key = np.array([1.0, np.exp(1j * np.pi * point[4])])
    drift = 0.05 * (point[5:9] + 1j * point[9:13]).reshape(2, 2)
    return frequency, query, np.array([key + drift[0], key, key + drift[1]])


def phase_reached(point: np.ndarray) -> float:
    """Phase at a local maximum of whole distances over what is proved, 0 where there is none."""
    frequency, query, keys = drawn(point)
    distances = np.array([3, 4, 5])
    logits = np.real(query * keys.conj() * np.exp(1j * np.outer(distances, frequency))).sum(axis=1)
    if logits[1] < max(logits[0], logits[2]):
        return 0.0
    values = {"z": query, "w": keys[1], "theta": frequency, "lambda": 1.0}
    values |= {"minor": np.array([0.0, 1.0]), "major": np.array([1.0, 0.0])}

    def total(name: str, **more: np.ndarray) -> np.ndarray:
        return np.asarray(np.sum(evaluate(AUXILIARY[name], values | more)))

    sums = {
        "slow": total("slow_rotation"),
        "drift_next": total("neighbour_drift", w_u=keys[2]),
        "drift_before": total("neighbour_drift", w_u=keys[0]),
        "dominant": total("dominant_rotation"),
    }
    share = float(evaluate(AUXILIARY["kappa_j"], sums))
    if share >= 1:
        return 0.0
    turned = np.angle(query[0] * keys[1, 0].conj() * np.exp(4j * frequency[0]))
    limits = {"kappa": np.asarray(share), "theta_*": frequency[0]}
    crest, trough = (float(evaluate(AUXILIARY[name], limits)) for name in ("crest", "trough"))
    near_crest, away = abs(turned), np.pi - abs(turned)
    if trough > 0 and away <= near_crest:
        return min(away / trough, near_crest / crest)
    return near_crest / crest


AGAINST_PHASES = np.array([-0.5, 0.2, 0.3, -0.2, -0.45, -0.4])
NEAR_PLATEAU = np.zeros(13)
NEAR_PLATEAU[:5] = [2 * (np.pi / 3 - 0.05) / 1.4 - 1, 1.0, 0.3334, -1 / 6, 0.0]

ATTACKS = (
    Attack("displacement of a maximum", 3 * COMPETITORS, displaced, True, 1e-9, (AGAINST_PHASES,)),
    Attack("spacing of two maxima", 3 * COMPETITORS, spaced, True, 1e-9, (AGAINST_PHASES,)),
    Attack("one maximum per crest", 3 * COMPETITORS, counted, True, 0.0, (AGAINST_PHASES,)),
    Attack(
        "phase at whole distances, drifting keys", 13, phase_reached, True, 1e-9, (NEAR_PLATEAU,)
    ),
    changed(THEOREM.bound, (0, 7), N=7.0),
)
