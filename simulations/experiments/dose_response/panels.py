"""Four doses and their responses: what a hypothesis lets through, against what a theorem allows.

Logits are in units of lambda |q||k|, so that every theorem's coefficient is a plain number:

- vertical: relative query drift against |a_{t+1,i} - a_{t,i}|, slow channels;
- diagonal: relative drift of queries and keys against |a_{t+1,i+1} - a_{t,i}|, all channels;
- seasonal: resonance error against |a_{t+L,i} - a_{t,i}|, content of period L;
- periodic: kappa against the displacement of the diagonals, constant content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulations.diagonals import maxima
from simulations.experiments.dose_response.witnesses import (
    diagonal_attained,
    seasonal_attained,
    shift_change,
    vertical_attained,
)
from simulations.generators.parts import default_rope
from simulations.generators.paths import drifting
from tappa_theory.rope import Rope
from tappa_theory.separable import evaluate, separate
from tappa_theory.theorems import THEOREMS

ROPE = default_rope()
CHANNELS = len(ROPE.frequencies)
LENGTH = 128
SLOW = slice(24, CHANNELS)
"""Channels of the vertical panel: at most 1e-3 radians per position, so that drift shows, not turn.
"""
PERIOD = 16
RESONANT = 8
"""Channels of the seasonal panel."""
ANTI_RESONANT_SHARE = 0.1
"""Share of the energy on the channel that refutes the published form."""
DIAGONAL_ROPE = Rope(ROPE.frequencies[8:], "half", 2 * (CHANNELS - 8))
"""Channels of the periodic panel: the first, of period 63, dominates slower ones."""
PERIODS = 12


@dataclass(frozen=True)
class Response:
    """What was seen at one dose.

    typical, worst: mean and largest response over the pairs of random heads. ratio: largest
    response over its bound, of the dose alone and, where there is one, of each pair. adversarial:
    response of a head made to attain the bound. bound: the theorem's, of the dose. published:
    response of a head that refutes the published form. irregular: maxima missing or too many.
    """

    dose: float
    typical: float
    worst: float
    ratio: float
    adversarial: float
    bound: float
    published: float | None = None
    irregular: int = 0


@dataclass(frozen=True)
class Panel:
    """One dose, from `least` to `most`, and the response to it, in words of a figure.

    theorem: whose bound it is. respond: what that many random heads show at a dose.
    """

    name: str
    theorem: str
    dose: str
    response: str
    least: float
    most: float
    respond: Callable[[np.random.Generator, float, int], Response]


def _units(rng: np.random.Generator, length: int, channels: int) -> np.ndarray:
    x = rng.standard_normal((length, channels)) + 1j * rng.standard_normal((length, channels))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _pair_bound(
    name: str, z: np.ndarray, w: np.ndarray, rope: Rope, s: int, u: int, **parameters: int
) -> np.ndarray:
    """(T - s, T - u) bound (B) of the theorem at its shift, every pair."""
    end, key_end = len(z) - s, len(w) - u
    values = {
        "z": z[:end],
        "z_s": z[s:],
        "w": w[:key_end],
        "w_u": w[u:],
        "theta": rope.frequencies,
        "lambda": np.ones(len(rope.frequencies)),
    } | {key: np.full(1, float(value)) for key, value in parameters.items()}
    split = separate(THEOREMS[name].bound)
    bound: np.ndarray = split.query_features(values) @ split.key_features(values).T
    return bound


def _summary(
    dose: float,
    changes: list[np.ndarray],
    pair_bounds: list[np.ndarray],
    adversarial: float,
    bound: float,
    published: float | None = None,
) -> Response:
    seen = np.stack(changes)
    worst = float(np.nanmax(seen))
    return Response(
        dose=dose,
        typical=float(np.nanmean(seen)),
        worst=worst,
        ratio=max(
            float(np.nanmax(seen / np.stack(pair_bounds))), worst / bound, adversarial / bound
        ),
        adversarial=adversarial,
        bound=bound,
        published=published,
    )


def _number(value: float) -> np.ndarray:
    return np.asarray(value, dtype=np.float64)


def vertical(rng: np.random.Generator, dose: float, heads: int) -> Response:
    """Query drift ||q_{t+1} - q_t|| / ||q_t|| against the change in a column."""
    changes, bounds = [], []
    width = CHANNELS - SLOW.start
    for _ in range(heads):
        z, w = np.zeros((2, LENGTH, CHANNELS), dtype=np.complex128)
        z[:, SLOW] = drifting(rng, LENGTH, width, cosine=1 - dose**2 / 2)
        w[:, SLOW] = _units(rng, LENGTH, width)
        changes.append(shift_change(z, w, ROPE, 1, 0))
        bounds.append(_pair_bound("re_access", z, w, ROPE, 1, 0))
    # Turned most: all of the query on the fastest of the channels.
    fastest = {"theta": ROPE.frequencies[SLOW][:1], "z": np.ones(1, dtype=np.complex128)}
    turned = evaluate(THEOREMS["proposition_4_1"].auxiliary["turned_squared"], fastest)
    bound = evaluate(
        THEOREMS["proposition_4_1"].auxiliary["upper_before"],
        {"lambda": 1.0, "key_norm_max": 1.0, "step_before": dose, "turned": np.sqrt(turned[0])},
    )
    return _summary(dose, changes, bounds, vertical_attained(dose, ROPE, SLOW), float(bound))


def diagonal(rng: np.random.Generator, dose: float, heads: int) -> Response:
    """Drift of queries and keys, relative and the same, against the change along a diagonal."""
    changes, bounds = [], []
    for _ in range(heads):
        z, w = (drifting(rng, LENGTH, CHANNELS, cosine=1 - dose**2 / 2) for _ in range(2))
        changes.append(shift_change(z, w, ROPE, 1, 1))
        bounds.append(_pair_bound("sequential", z, w, ROPE, 1, 1))
    bound = evaluate(
        THEOREMS["sequential"].auxiliary["supremum"],
        {
            "lambda": _number(1.0),
            "query_norm_max": _number(1.0),
            "key_norm_max": _number(1.0),
            "query_step": _number(dose),
            "key_step": _number(dose),
        },
    )
    return _summary(dose, changes, bounds, diagonal_attained(dose, ROPE), float(bound))


def _resonant(errors: np.ndarray) -> Rope:
    """Channels whose resonance errors 2|sin(L theta / 2)| are these."""
    turns = 2 * np.pi * np.arange(len(errors))
    return Rope((turns + 2 * np.arcsin(errors / 2)) / PERIOD, "half", 2 * len(errors))


def seasonal(rng: np.random.Generator, dose: float, heads: int) -> Response:
    """Resonance error, the same on every channel, against the change after one period."""
    rope = _resonant(np.full(RESONANT, dose))
    changes, bounds = [], []
    for _ in range(heads):
        z, w = (np.tile(_units(rng, PERIOD, RESONANT), (LENGTH // PERIOD, 1)) for _ in range(2))
        changes.append(shift_change(z, w, rope, PERIOD, 0))
        bounds.append(_pair_bound("seasonal", z, w, rope, PERIOD, 0, L=PERIOD))
    bound = evaluate(
        THEOREMS["seasonal"].auxiliary["repaired"],
        {
            "lambda": _number(1.0),
            "query_norm": _number(1.0),
            "key_norm_u": _number(1.0),
            "query_step": _number(0.0),
            "key_step": _number(0.0),
            "energy_sum": _number(1.0),
            "delta": _number(dose),
        },
    )
    even = np.full(RESONANT, 1 / RESONANT)
    # the published form reads the resonance error of the dominant channel alone
    minor = np.array([1 - ANTI_RESONANT_SHARE, ANTI_RESONANT_SHARE])
    return _summary(
        dose,
        changes,
        bounds,
        seasonal_attained(rope, even, PERIOD),
        float(bound),
        published=seasonal_attained(_resonant(np.array([dose, 2.0])), minor, PERIOD),
    )


def periodic(rng: np.random.Generator, dose: float, heads: int) -> Response:
    """kappa of slower channels against the displacement of the maxima, positions."""
    theta = DIAGONAL_ROPE.frequencies
    found = [
        _displacements(_scaled(rng.exponential(size=len(theta) - 1), dose), phase)
        for phase in rng.uniform(0, 2 * np.pi, (heads, len(theta)))
    ]
    places = np.concatenate([displacement for displacement, _, _ in found])
    bound = float(
        evaluate(
            THEOREMS["periodic_sequential"].auxiliary["displacement"],
            {"kappa": _number(dose), "theta_*": _number(theta[0])},
        )
    )
    # At the place that the theorem leaves, one period on, every other channel is at its steepest.
    place = 2 * np.pi / theta[0] + bound
    steepest = np.concatenate([[0.0], -np.pi / 2 - theta[1:] * place])
    attained, error, _ = _displacements(_scaled(np.ones(len(theta) - 1), dose), steepest)
    largest = [float((d - e).max()) for d, e, _ in found] + [float((attained - error).max())]
    return Response(
        dose=dose,
        typical=float(places.mean()),
        worst=float(places.max()),
        ratio=max(largest) / bound,
        adversarial=float(attained.max()),
        bound=bound,
        irregular=sum(count for _, _, count in found),
    )


def _scaled(energy: np.ndarray, kappa: float) -> np.ndarray:
    """Energies of all channels, 1 on the first, the others scaled to this kappa."""
    theta = DIAGONAL_ROPE.frequencies
    slope = evaluate(
        THEOREMS["periodic_sequential"].auxiliary["slope"],
        {"energy": energy, "theta": theta[1:], "energy_*": _number(1), "theta_*": theta[:1]},
    )
    return np.concatenate([[1.0], energy * (kappa / slope.sum())])


def _displacements(energy: np.ndarray, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """(distance of each maximum from the nearest crest of the first channel, error, irregular)."""
    theta = float(DIAGONAL_ROPE.frequencies[0])
    z = energy * np.exp(1j * phase)
    end = PERIODS * 2 * np.pi / theta
    found = maxima(z, np.ones_like(z), DIAGONAL_ROPE, end)
    angle = theta * found.places + phase[0]
    crest = np.round(angle / (2 * np.pi))
    off = np.abs(angle - 2 * np.pi * crest) / theta
    return off, found.errors, int(np.sum(np.diff(crest) != 1))


PANELS = (
    Panel(
        "vertical",
        "re_access",
        "query drift, relative to the query",
        "change in a column",
        1e-2,
        1.0,
        vertical,
    ),
    Panel(
        "diagonal",
        "sequential",
        "drift of query and key, relative",
        "change along a diagonal",
        1e-3,
        1.0,
        diagonal,
    ),
    Panel(
        "seasonal",
        "seasonal",
        "resonance error",
        "change after a period",
        1e-3,
        1.0,
        seasonal,
    ),
    Panel(
        "periodic",
        "periodic_sequential",
        "κ",
        "displacement of a diagonal",
        1e-3,
        0.9,
        periodic,
    ),
)
