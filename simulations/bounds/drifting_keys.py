"""Theorem 5.3 where keys drift: the phase of the dominant channel at a maximum of whole distance.

The query as the key at distance j sees it is z (batch, M), that key is 1 on every channel, those at
j + 1 and j - 1 are 1 + next and 1 + before. Channel 0 dominates. The other channels and the drifts
are scaled so that kappa_j = level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from simulations.bounds.bound import (
    Bound,
    Instances,
    Sides,
    Values,
    complex_normal,
    logit,
    sum_rounding,
)
from simulations.bounds.shift_bound import column
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import evaluate
from tappa_theory.theorems.periodic_sequential import THEOREM

AUXILIARY = THEOREM.auxiliary
Which = Literal["crest", "trough"]
INSIDE = 1e-7
"""Phases are tried so far on both sides of where distance j ceases to be a maximum, radians."""


def _kappa_j(theta: np.ndarray, query: np.ndarray, drifts: list[np.ndarray]) -> np.ndarray:
    minor = np.ones_like(theta)
    minor[:, 0] = 0
    at = {"z": query, "w": np.ones_like(query), "theta": theta, "lambda": np.ones_like(theta)}
    given = {
        "slow": ("slow_rotation", {"minor": minor}),
        "dominant": ("dominant_rotation", {"major": 1 - minor}),
        "drift_next": ("neighbour_drift", {"w_u": 1 + drifts[0]}),
        "drift_before": ("neighbour_drift", {"w_u": 1 + drifts[1]}),
    }
    sums = {
        name: np.sum(evaluate(AUXILIARY[part], {**at, **more}), axis=-1)
        for name, (part, more) in given.items()
    }
    return evaluate(AUXILIARY["kappa_j"], sums)


def _scaled(values: Values) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """(query, drifts of the next key and of the one before, kappa_j)."""
    theta, query = values["theta"], values["z"]
    drifts = [values["next"], values["before"]]
    share = column(values["level"] / _kappa_j(theta, query, drifts))
    # a drift weighs its length times its query: off the dominant channel the query shrinks it
    query = np.concatenate([query[:, :1], share * query[:, 1:]], axis=-1)
    drifts = [np.concatenate([share * one[:, :1], one[:, 1:]], axis=-1) for one in drifts]
    return query, drifts, _kappa_j(theta, query, drifts)


def _rises(
    theta: np.ndarray, query: np.ndarray, drifts: list[np.ndarray], part: slice
) -> list[np.ndarray]:
    """a_j - a_{j+1} and a_j - a_{j-1}, of some channels only; query (batch, X, M)."""
    theta, query = theta[:, None, part], query[..., part]
    one, zero = np.ones_like(theta), np.zeros_like(theta[..., :1])
    here = logit(query, one + 0j, theta, one, zero, zero)
    return [
        here - logit(query, 1 + drift[:, None, part], theta, one, zero + way, zero)
        for drift, way in zip(drifts, (1, -1), strict=True)
    ]


def _phases(
    theta: np.ndarray, query: np.ndarray, drifts: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Phases of the dominant channel, (batch, X), and at which of them distance j is a maximum.

    The extreme ones lie where a neighbour is level; each rise is a sinusoid of the phase.
    """
    dominant, others = slice(0, 1), slice(1, None)
    size = np.abs(query[:, :1])
    quarters = (size * np.array([1.0, -1j]))[..., None]
    rest = _rises(theta, query[:, None, :], drifts, others)
    tried = [np.angle(query[:, :1])]
    for rise, constant in zip(_rises(theta, quarters, drifts, dominant), rest, strict=True):
        amplitude = np.hypot(rise[:, :1], rise[:, 1:])
        # Re(e^{i phase} g) with g = rise_0 + i rise_1
        middle = -np.arctan2(rise[:, 1:], rise[:, :1])
        half = np.arccos(np.clip(-constant / np.where(amplitude > 0, amplitude, 1), -1, 1))
        tried += [middle + side * half + inside for side in (1, -1) for inside in (INSIDE, -INSIDE)]
    phases = np.concatenate(tried, axis=-1)
    turned = np.repeat(query[:, None, :], phases.shape[1], axis=1)
    turned[..., 0] = size * np.exp(1j * phases)
    after, earlier = _rises(theta, turned, drifts, slice(None))
    return np.angle(turned[..., 0]), (after >= 0) & (earlier >= 0)


def _sides(which: Which) -> Callable[[Values], Sides]:
    """Phase from crest or trough that is farthest from it, of those where j is a local maximum.

    A maximum counts for the one of both that it is nearer to, in units of the bound.
    """

    def sides(values: Values) -> Sides:
        theta = values["theta"]
        query, drifts, kappa = _scaled(values)
        phases, maximum = _phases(theta, query, drifts)
        at = {"kappa": kappa, "theta_*": theta[:, 0]}
        crest, trough = (column(evaluate(AUXILIARY[name], at)) for name in ("crest", "trough"))
        away = np.abs(phases)
        # no maximum lies near a trough where that bound is not positive
        possible = trough > 0
        trough = np.where(possible, trough, 1.0)
        by_trough = possible & ((np.pi - away) / trough < away / crest)
        size = np.sum(np.abs(query) * (1 + np.abs(drifts[0]) + np.abs(drifts[1])), axis=-1)
        error = sum_rounding(3 * size, np.max(theta, axis=-1), theta.shape[-1])
        # of the phase: where both sines are kappa their slopes are cos(arcsin kappa)
        lever = 2 * np.sin(theta[:, 0] / 2) * np.abs(query[:, 0])
        rounding = 2 * error / (lever * np.sqrt(np.maximum(1 - kappa**2, UNIT_ROUNDOFF)))
        counted = maximum & (by_trough if which == "trough" else ~by_trough)
        found = np.where(counted, np.pi - away if which == "trough" else away, 0.0)
        bound = trough if which == "trough" else crest
        return Sides(np.max(found, axis=-1), bound[:, 0], rounding)

    return sides


def _draw(which: Which) -> Callable[[np.random.Generator, int, int], Instances]:
    """Drifts of every size; of every second instance the neighbours' logits are lowered by them."""

    def draw(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        crest = which == "crest"
        # a trough asks for an arcsine of kappa above half a step
        theta = rng.uniform(0.02, 3.1 if crest else 1.0, (batch, channels))
        level = rng.uniform(0.05 if crest else 0.6, 0.98, batch)
        query = complex_normal(rng, batch, channels) * np.exp(
            rng.standard_normal((batch, channels))
        )
        drift = 10.0 ** rng.uniform(-3, 0, (2, batch, 1)) * complex_normal(rng, 2, batch, channels)
        for way, one in zip((1, -1), drift, strict=True):
            lowering = -np.abs(one) * query / np.abs(query) * np.exp(1j * way * theta)
            one[::2] = lowering[::2]
        return {"theta": theta, "z": query, "next": drift[0], "before": drift[1], "level": level}

    return draw


def _by_drift(which: Which) -> Callable[[np.random.Generator, int, int], Instances]:
    """One channel: drift lowers the next logit and holds up the one before as much as it turns."""

    def equality(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        values = _draw(which)(rng, channels, batch)
        theta, star = values["theta"], values["theta"][:, 0]
        beta = rng.uniform(star / 2 + 0.05 if which == "trough" else 0.05 + 0 * star, 1.4)
        bound = evaluate(AUXILIARY[which], {"kappa": np.sin(beta), "theta_*": star})
        phase = bound if which == "crest" else np.pi - bound
        found = {"theta": theta, "level": np.sin(beta), "z": np.zeros_like(values["z"])}
        found["z"][:, 0] = np.exp(1j * phase)
        for name, way in (("next", 1), ("before", -1)):
            found[name] = np.zeros_like(values["z"])
            size = 2 * np.sin(star / 2) * np.sin(beta)
            found[name][:, 0] = -size * np.exp(1j * (phase + way * star))
        return found

    return equality


def _bound(which: Which) -> Bound:
    return Bound(
        theorem=THEOREM.id,
        name=f"{THEOREM.id}.{which}",
        sharp=True,
        free=("z", "next", "before"),
        draw=_draw(which),
        sides=_sides(which),
        equality=_by_drift(which),
        differentiable=False,
        sizes=(1, 4, 16),
    )


BOUNDS = (_bound("crest"), _bound("trough"))
