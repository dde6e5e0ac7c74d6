"""Theorem 5.3: keys a period apart, and where the maxima of a row of constant inputs lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from simulations.bounds.bound import Bound, Instances, Sides, Values, logit, sum_rounding
from simulations.bounds.drifting_keys import BOUNDS as DRIFTING_KEYS
from simulations.bounds.shift_bound import column, shift_bound, steps
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.separable import evaluate
from tappa_theory.theorems.periodic_sequential import THEOREM

AUXILIARY = THEOREM.auxiliary

# Rows of a constant query and key, the dominant channel first.
# weight (batch, M - 1): logarithms of the energies of the others, up to a common factor that makes
# kappa^2 + R^2 = level^2 < 1; ratio: their frequencies over the dominant one; phase (batch, M).

PERIODS = 3
FASTEST = 4.0
GRID = 64
"""Points of a period on which local maxima are looked for: 16 or more in one of the fastest
competitor, which is FASTEST times as fast as the dominant channel."""
HALVINGS, NEWTON = 12, 4


def _row(values: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(channels of the query against a key 1, frequencies, kappa)."""
    star = column(values["theta_*"])
    theta = np.concatenate([star, star * values["ratio"]], axis=-1)
    raw = np.exp(values["weight"] - np.max(values["weight"], axis=-1, keepdims=True))

    def shares(energy: np.ndarray) -> list[np.ndarray]:
        at = {"energy": energy, "energy_*": np.ones_like(star)}
        at |= {"theta": theta[:, 1:], "theta_*": star}
        return [np.sum(evaluate(AUXILIARY[name], at), -1) for name in ("slope", "curvature")]

    kappa, curvature = shares(raw)
    squares = evaluate(AUXILIARY["squares"], {"kappa": kappa, "R": curvature})
    energy = raw * column(values["level"] / np.sqrt(squares))
    sizes = np.concatenate([np.ones_like(star), energy], axis=-1)
    # rounding must not take it past 1, where there is no arcsine; `_arcsine_error` charges it
    kappa = np.minimum(shares(energy)[0], 1.0)
    return sizes * np.exp(1j * values["phase"]), theta, kappa


def _met(values: Values, z: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """(batch,) is the hypothesis certain? A case of equality may lose it when it is disturbed.

    kappa^2 + R^2 < 1, or the sum of the largest terms that each channel has for any v is below 1.
    """
    size, star = np.abs(z), column(values["theta_*"])
    at = {"energy": size[:, 1:], "energy_*": size[:, :1], "theta": theta[:, 1:], "theta_*": star}
    slope, curvature = (evaluate(AUXILIARY[name], at) for name in ("slope", "curvature"))
    sums = {"kappa": np.sum(slope, -1), "R": np.sum(curvature, -1)}
    # sqrt(cos^2 v + rho^2 sin^2 v) lies between its values at v = 0 and at a right angle
    ends = [evaluate(AUXILIARY["condition"], at | {"v": v}) for v in (0.0, np.pi / 2)]
    largest = np.sum(np.maximum(*ends), -1)
    return (evaluate(AUXILIARY["squares"], sums) < 1) | (largest < 1)


def _slope(z: np.ndarray, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Derivative of the row at distances x (batch, X): a row whose channels are i theta z."""
    turned = (1j * theta * z)[:, None, :]
    one = np.ones_like(turned)
    return logit(turned, one, theta[:, None, :], one.real, x[..., None], 0 * x[..., None])


class Maxima(NamedTuple):
    """Local maxima of rows, (batch, X): places, what rounding leaves unknown, is there one?"""

    place: np.ndarray
    error: np.ndarray
    there: np.ndarray


def _maxima(values: Values, z: np.ndarray, theta: np.ndarray) -> Maxima:
    """All local maxima of some periods, in their order: found on a grid, then refined."""
    period = column(evaluate(AUXILIARY["period"], values))
    # the grid starts half a period before a crest of the dominant channel
    start = column(-values["phase"][:, 0] / values["theta_*"]) - period / 2
    step = period / GRID
    slope = _slope(z, theta, start + step * np.arange(PERIODS * GRID + 1))
    found = (slope[:, :-1] > 0) & (slope[:, 1:] <= 0)
    count = int(np.max(np.sum(found, axis=-1)))
    first = np.argsort(~found, axis=-1, kind="stable")[:, :count]
    low = start + step * first
    high = low + step
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rising = _slope(z, theta, middle) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    place = (low + high) / 2
    bends = 1j * theta * z
    for _ in range(NEWTON):
        bend = _slope(bends, theta, place)
        place = place - _slope(z, theta, place) / np.where(bend == 0, 1, bend)
        place = np.clip(place, low, high)
    bend = np.abs(_slope(bends, theta, place))
    angle = np.max(theta, axis=-1, keepdims=True) * np.abs(place)
    size = column(np.sum(np.abs(z) * theta, axis=-1))
    # half of the bend is left all the way to the zero that float64 missed
    error = 2 * sum_rounding(size, angle, z.shape[-1]) / bend + 4 * UNIT_ROUNDOFF * np.abs(place)
    return Maxima(place, error, np.take_along_axis(found, first, axis=-1))


def _arcsine_error(kappa: np.ndarray) -> np.ndarray:
    """Of arcsin kappa and of phases, kappa rounded at each of its sums."""
    return 64 * UNIT_ROUNDOFF / np.sqrt(np.maximum(1 - kappa**2, UNIT_ROUNDOFF))


def _displacement(values: Values) -> Sides:
    """The local maximum that is farthest from the nearest crest of the dominant channel."""
    z, theta, kappa = _row(values)
    maxima = _maxima(values, z, theta)
    star = column(values["theta_*"])
    phase = star * maxima.place + values["phase"][:, :1]
    away = np.abs((phase + np.pi) % (2 * np.pi) - np.pi) / star
    away = np.max(np.where(maxima.there, away, 0.0), axis=-1)
    away = np.where(_met(values, z, theta), away, 0.0)
    bound = evaluate(AUXILIARY["displacement"], {"kappa": kappa, "theta_*": values["theta_*"]})
    error = np.max(maxima.error, axis=-1)
    return Sides(away, bound, error + _arcsine_error(kappa) / values["theta_*"])


def _spacing(values: Values) -> Sides:
    """The two successive maxima whose spacing is farthest from the period."""
    z, theta, kappa = _row(values)
    maxima = _maxima(values, z, theta)
    period = evaluate(AUXILIARY["period"], values)
    apart = np.abs(np.diff(maxima.place, axis=-1) - column(period))
    apart = np.max(np.where(maxima.there[:, 1:], apart, 0.0), axis=-1, initial=0.0)
    apart = np.where(_met(values, z, theta), apart, 0.0)
    bound = evaluate(AUXILIARY["spacing"], {"kappa": kappa, "theta_*": values["theta_*"]})
    error = 2 * np.max(maxima.error, axis=-1) + 4 * UNIT_ROUNDOFF * period
    return Sides(apart, bound, error + 2 * _arcsine_error(kappa) / values["theta_*"])


def _draw_row(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    others = (batch, channels - 1)
    return {
        "theta_*": np.exp(rng.uniform(-6, 1, batch)),
        "ratio": np.exp(rng.uniform(-6, np.log(FASTEST), others)),
        "weight": 2 * rng.standard_normal(others),
        "level": rng.uniform(0.05, 0.98, batch),
        "phase": rng.uniform(-np.pi, np.pi, (batch, channels)),
    }


def _falling_together(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Every other channel falls steepest where the dominant one is arcsin(kappa) past its crest."""
    values = _draw_row(rng, channels, batch)
    _, theta, kappa = _row(values)
    at = {"kappa": kappa, "theta_*": values["theta_*"]}
    crest = -values["phase"][:, :1] / column(values["theta_*"])
    place = crest + column(evaluate(AUXILIARY["displacement"], at))
    phase = values["phase"].copy()
    phase[:, 1:] = -np.pi / 2 - theta[:, 1:] * place
    return {**values, "phase": phase}


def _half_turn(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """One competitor turns by half a circle between two maxima and pulls (or pushes) both.

    With beta = arcsin(kappa) and sign 1 (or -1): its phase is sign pi/2 where the dominant one has
    -sign beta, and rho = pi / (2 pi + sign 2 beta).
    """
    values = _draw_row(rng, channels, batch)
    sign = rng.choice([-1.0, 1.0], batch)
    beta = rng.uniform(0.05, 1.2, batch)
    rho = np.pi / (2 * np.pi + 2 * sign * beta)
    # kappa^2 + R^2 = level^2 with R = rho kappa; the others carry next to nothing
    weight, ratio = np.full_like(values["weight"], -60.0), values["ratio"].copy()
    weight[:, 0], ratio[:, 0] = 0.0, rho
    phase = values["phase"].copy()
    # distance 0 is a crest, where the first of the periods that are looked at has its middle
    phase[:, 0], phase[:, 1] = 0.0, sign * (np.pi / 2 + rho * beta)
    level = np.sin(beta) * np.sqrt(1 + rho**2)
    return {**values, "weight": weight, "ratio": ratio, "phase": phase, "level": level}


def _row_bound(
    name: str,
    sides: Callable[[Values], Sides],
    equality: Callable[[np.random.Generator, int, int], Instances],
) -> Bound:
    return Bound(
        theorem=THEOREM.id,
        name=f"{THEOREM.id}.{name}",
        sharp=True,
        free=("phase", "weight"),
        draw=_draw_row,
        sides=sides,
        equality=equality,
        differentiable=False,
        sizes=(2, 4, 16),
    )


BOUNDS = (
    shift_bound(THEOREM.id, THEOREM.id, THEOREM.bound, steps(1, 32, "key"), "key"),
    _row_bound("displacement", _displacement, _falling_together),
    _row_bound("spacing", _spacing, _half_turn),
    *DRIFTING_KEYS,
)
