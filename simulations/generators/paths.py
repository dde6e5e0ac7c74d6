"""Paths of queries and keys whose adjacent similarity is what was asked for.

Unless said otherwise the adjacent cosine is exact, up to rounding (1e-12), at every step: not in
the mean, not in the limit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tappa_theory.errors import InputError

Kind = Literal["steps", "ar1", "smooth"]

NORM_LEVELS = 4
"""Norms stay within this many norm ratios of the norm that was asked for."""
TONES = 8
"""Frequencies of a smooth path, at most."""


def unit_path(rng: np.random.Generator, T: int, dim: int, cosine: float) -> np.ndarray:
    """(T, dim) unit vectors; every adjacent cosine is exactly `cosine`, all else is random.

    x_{t+1} = c x_t + sqrt(1 - c^2) n_t, n_t a random unit vector orthogonal to x_t.
    Raises InputError if the cosine is none, or dim is 1 and the cosine neither 1 nor -1.
    """
    _check_cosine(cosine)
    if dim < 1 or (dim == 1 and abs(cosine) != 1):
        raise InputError(f"unit vectors of dimension {dim} have no adjacent cosine {cosine}")
    sine = np.sqrt((1 - cosine) * (1 + cosine))
    draws = rng.standard_normal((T, dim))
    path = np.empty((T, dim))
    x = draws[0] / np.linalg.norm(draws[0])
    for t in range(T):
        if t:
            if sine:
                n = draws[t] - (draws[t] @ x) * x
                # once more: what rounding left along x would be blown up if little else is left
                n -= (n @ x) * x
                x = cosine * x + sine / np.sqrt(n @ n) * n
            else:
                x = cosine * x
            x = x / np.sqrt(x @ x)
        path[t] = x
    return path


def phases(
    rng: np.random.Generator, T: int, M: int, cosine: float, levels: int | None = None
) -> np.ndarray:
    """(T, M) numbers of modulus 1: every channel by itself turns by arccos(cosine) at every step.

    The adjacent cosine is exact on every channel, so it stays exact whatever weights channels have.
    levels: None for a free walk from a random phase; B for one that stays within B steps of
    phase 0, which then is kept in the mean (for B = 1 the mean is (1 + cosine) / 2).
    """
    _check_cosine(cosine)
    step = np.arccos(cosine)
    signs = rng.choice((-1, 1), (T, M))
    if levels is None:
        signs[0] = 0
        return np.exp(1j * (step * np.cumsum(signs, axis=0) + rng.uniform(0, 2 * np.pi, M)))
    # A walk that is folded back at B and -B; its stationary law is the fold of a uniform one.
    signs[0] = rng.integers(0, 4 * levels, M)
    free = np.cumsum(signs, axis=0)
    return np.exp(1j * step * (np.abs((free + levels) % (4 * levels) - 2 * levels) - levels))


def norms(rng: np.random.Generator, T: int, ratio: float) -> np.ndarray:
    """(T,) norms about 1 whose neighbours have this ratio, larger over smaller: a folded walk.

    They stay from ratio^-`NORM_LEVELS` to ratio^`NORM_LEVELS`. Raises InputError below 1.
    """
    if ratio < 1:
        raise InputError(f"a norm ratio of {ratio} given; it is larger over smaller, 1 or more")
    if ratio == 1:
        return np.ones(T)
    signs = rng.choice((-1, 1), T)
    free = np.cumsum(signs)
    height = np.abs((free + NORM_LEVELS) % (4 * NORM_LEVELS) - 2 * NORM_LEVELS) - NORM_LEVELS
    return ratio**height


def drifting(
    rng: np.random.Generator,
    T: int,
    M: int,
    *,
    cosine: float,
    norm: float = 1.0,
    norm_ratio: float = 1.0,
    kind: Kind = "steps",
    mean_share: float = 0.0,
    mean: np.ndarray | None = None,
) -> np.ndarray:
    """(T, M) complex channels of vectors that drift with this adjacent cosine.

    kind: "steps", a random walk on the sphere; "smooth", a sum of `TONES` slow turns in planes, so
    of limited bandwidth; both exact. "ar1", a stationary AR(1) process of normal numbers, whose
    cosines vary and have this mean within `ar1_tolerance`.
    norm: of the vectors, root mean square for "ar1". norm_ratio: ratio of the norms of neighbours,
    larger over smaller: exactly this at every step, the norms within `NORM_LEVELS` ratios of
    `norm`. mean_share: share of |x|^2 that lies on a constant vector, whose direction is `mean`,
    (M,) complex, or random.

    Raises InputError for a cosine that the mean's share or the number of channels makes impossible.
    """
    _check_cosine(cosine)
    if not 0 <= mean_share <= min(1.0, (1 + cosine) / 2):
        raise InputError(
            f"a constant part of share {mean_share} given; adjacent cosine {cosine} leaves 0 to"
            f" {min(1.0, (1 + cosine) / 2)}"
        )
    if mean is None:
        mean = rng.standard_normal(M) + 1j * rng.standard_normal(M)
    constant = _as_real(mean / np.linalg.norm(mean))
    # of the moving part; a constant vector alone has nothing that moves
    rest = 1.0 if mean_share == 1 else (cosine - mean_share) / (1 - mean_share)
    rest = min(max(rest, -1.0), 1.0)
    moving = _moving(rng, T, constant if mean_share else None, 2 * M, rest, kind)
    x = np.sqrt(mean_share) * constant + np.sqrt(1 - mean_share) * moving
    return norm * norms(rng, T, norm_ratio)[:, None] * (x[:, :M] + 1j * x[:, M:])


def ar1_tolerance(cosine: float, T: int, M: int, mean_share: float = 0.0) -> float:
    """How far the mean adjacent cosine of kind "ar1" may be from the cosine that was asked for.

    (1 - rho^2) / d for the bias of a correlation of d = 2M numbers (twice its first order), and six
    standard deviations sqrt(2 (1 - rho^2) / (d T)); rho is the AR(1) coefficient. Beside a constant
    part of share s, also six standard deviations of what the moving part's squared norm r and its
    component along the constant one do to the cosine (s + (1 - s) rho r) / (s + (1 - s) r): both
    are means over T steps that are as good as so many fewer as they are correlated. For M >= 8.
    """
    s, d = mean_share, 2 * M
    rho = (cosine - s) / (1 - s) if s < 1 else 1.0
    spread = max(1 - rho**2, 0.0)
    own = spread / d + 6 * np.sqrt(2 * spread / (d * T))
    if not 0 < s < 1 or rho >= 1:
        return float(own)
    apart = (1 - s) * (1 - rho)
    of_norm = np.sqrt(2 / d * min(1.0, (1 + rho**2) / max(spread * T, 1e-300)))
    along = np.sqrt(1 / d * min(1.0, (1 + rho) / ((1 - rho) * T)))
    beside = 6 * apart * (s * of_norm + 2 * np.sqrt(s * (1 - s)) * along)
    beside += 2 / d * s * (1 - s) * apart
    return float(own + beside)


def on_channels(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Channels (T, M) with |x|^2 spread over the channels in proportion to `weights` (M,) >= 0.

    What was spread evenly keeps its norm. Adjacent cosines stay exact where every channel has them
    by itself, as in `phases`; of other paths they change.
    Raises InputError if no weight is positive or one is negative.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if np.any(weights < 0) or not weights.sum() > 0:
        raise InputError("channel weights must not be negative, and one must be positive")
    return x * np.sqrt(weights / weights.mean())


def _check_cosine(cosine: float) -> None:
    if not -1 <= cosine <= 1:
        raise InputError(f"an adjacent cosine of {cosine} given; it lies between -1 and 1")


def _as_real(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x.real, x.imag], axis=-1)


def _moving(
    rng: np.random.Generator,
    T: int,
    constant: np.ndarray | None,
    dim: int,
    cosine: float,
    kind: Kind,
) -> np.ndarray:
    """(T, dim) the part that moves, of norm 1 and orthogonal to the constant unit vector."""
    if kind == "ar1":
        noise = rng.standard_normal((T, dim)) / np.sqrt(dim)
        noise[1:] *= np.sqrt((1 - cosine) * (1 + cosine))
        for t in range(1, T):
            noise[t] += cosine * noise[t - 1]
        return noise
    if kind == "smooth":
        return _smooth(rng, T, constant, dim, cosine)
    if constant is None:
        return unit_path(rng, T, dim, cosine)
    path = unit_path(rng, T, dim - 1, cosine)
    # The reflection that takes the first axis to the constant vector takes the others beside it.
    mirror = constant.copy()
    mirror[0] += 1.0 if constant[0] >= 0 else -1.0
    beside = np.concatenate([np.zeros((T, 1)), path], axis=1)
    return beside - np.outer(beside @ mirror, 2 * mirror / (mirror @ mirror))


def _smooth(
    rng: np.random.Generator, T: int, constant: np.ndarray | None, dim: int, cosine: float
) -> np.ndarray:
    taken = 0 if constant is None else 1
    tones = min(TONES, (dim - taken) // 2)
    if tones < 1:
        raise InputError(f"{dim} components leave no plane to turn in; use more channels")
    start = rng.standard_normal((dim, 2 * tones + taken))
    if constant is not None:
        start[:, 0] = constant
    planes = np.linalg.qr(start)[0][:, taken:].reshape(dim, 2, tones)
    share = rng.dirichlet(np.full(tones, 2.0))
    # Each tone turns by a cosine of its own; their mean by share is the cosine asked for.
    spread = rng.uniform(-1, 1, tones)
    spread -= share @ spread
    spread *= (1 - abs(cosine)) / max(np.abs(spread).max(), 1.0)
    angle = np.outer(np.arange(T), np.arccos(np.clip(cosine + spread, -1, 1)))
    angle += rng.uniform(0, 2 * np.pi, tones)
    radius = np.sqrt(share)
    return (radius * np.cos(angle)) @ planes[:, 0].T + (radius * np.sin(angle)) @ planes[:, 1].T
