"""Queries and keys of a head whose rows are as far apart as (B) allows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from simulations.bounds.bound import Instances, complex_normal, scales
from simulations.bounds.head_rows import POSITIONS, draw_head


def opposite_keys(
    rng: np.random.Generator,
    channels: int,
    batch: int,
    before: Callable[[np.ndarray], np.ndarray],
    equal_shifts: bool,
) -> tuple[Instances, np.ndarray]:
    """Keys 0 and 1 that are opposite after RoPE and a query along them at t = 1, and omega.

    Every channel moves along by a random length, so that the logits of the two keys, `before`
    (of omega) apart, end omega farther apart. equal_shifts: s = u at any frequency; else u = 0 on
    channels that do not turn. omega is twice the largest (B).
    """
    omega = rng.uniform(0.05, 6.0, batch)
    s = rng.integers(2 if equal_shifts else 1, 4, size=batch)
    u = s if equal_shifts else np.zeros_like(s)
    lam = scales(rng, channels, batch)
    theta = rng.uniform(0.0, math.pi, (batch, channels)) * equal_shifts
    key = complex_normal(rng, batch, channels)
    energy = lam * np.abs(key) ** 2
    share = rng.dirichlet(np.ones(channels), batch)
    drift = omega[:, None] / 2 * share / energy
    other = rng.dirichlet(np.ones(channels), batch)
    start = before(omega)[:, None] / 2 * other / energy
    along = np.exp(-1j * theta) * key
    keys = 0.1 * complex_normal(rng, batch, POSITIONS, channels)
    for shift in (np.zeros_like(u), u):
        item = np.arange(batch)
        keys[item, shift], keys[item, shift + 1] = key, -along
    values = {
        "z": start * along,
        "z_s": (start + drift) * along,
        "w": keys,
        "theta": theta,
        "lambda": lam,
        "inverse_cap": np.zeros(batch),
        "t": np.ones_like(s),
        "s": s,
        "u": u,
    }
    return values, omega


def swapping(omega: np.ndarray) -> np.ndarray:
    """The masses of the two keys swap."""
    return -omega / 2


def same_keys_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    return opposite_keys(rng, channels, batch, swapping, bool(rng.integers(2)))[0]


def turning(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """A query without drift, and two opposite keys, on channels that turn: shift (s, 0)."""
    values, omega = opposite_keys(rng, channels, batch, swapping, False)
    theta = rng.uniform(0.1, 3.0, (batch, channels))
    key, s, item = values["w"][:, 0], values["s"], np.arange(batch)
    values["w"][item, 1] = -np.exp(-1j * theta) * key
    query = np.conj(np.exp(1j * theta) * (np.exp(1j * s[:, None] * theta) - 1)) * key
    z = query * (omega / np.sum(np.abs(query) ** 2, axis=-1))[:, None]
    return {**values, "theta": theta, "z": z, "z_s": z}


def gaining_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Keys opposite on channels that do not turn, and new keys of mass g, alike, at (s, 0)."""
    gained = np.where(rng.random(batch) < 0.5, rng.uniform(0.0, 0.9, batch), 1e-12)

    def before(omega: np.ndarray) -> np.ndarray:
        r = np.exp(omega)
        stretch = np.clip(np.sqrt((1 - gained) * r), 1 + 1e-9, None)
        return np.log((stretch - 1) / (r - stretch))

    values, omega = opposite_keys(rng, channels, batch, before, False)
    later = (before(omega) + omega) / 2
    wanted = np.log(gained / (1 - gained) / values["s"]) + np.logaddexp(later, -later)
    query, lam = values["z_s"], values["lambda"]
    energy = np.sum(lam * np.abs(query) ** 2, axis=-1)
    values["w"][:, 2:] = ((wanted / energy)[:, None] * query)[:, None]
    return values


def shifted_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """One row read u keys later, on channels that do not turn: keys 0 and 1 become u and u + 1.

    Two masses of sum rho, one grows by e^(omega/2) and one shrinks by it; u >= 2.
    """
    omega, u = rng.uniform(0.05, 6.0, batch), rng.integers(2, 4, size=batch)
    rho = rng.uniform(0.05, 0.499, batch)
    stretch = np.exp(omega / 2)
    grows, shrinks = rho / (stretch + 1), rho * stretch / (stretch + 1)
    masses = np.zeros((batch, POSITIONS))
    item = np.arange(batch)
    masses[:, 0], masses[:, 1] = grows, shrinks
    masses[item, u], masses[item, u + 1] = grows * stretch, shrinks / stretch
    masses[u == 3, 2] = (1 - 2 * rho)[u == 3]
    lam, query = scales(rng, channels, batch), complex_normal(rng, batch, channels)
    share = rng.dirichlet(np.ones(channels), batch) / (lam * np.abs(query) ** 2)
    logits = np.log(np.where(masses > 0, masses, 1e-6))
    return {
        "z": query,
        "z_s": query,
        "w": logits[:, :, None] * (share * query)[:, None],
        "theta": np.zeros((batch, channels)),
        "lambda": lam,
        "inverse_cap": np.zeros(batch),
        "t": u + 1,
        "s": 0 * u,
        "u": u,
    }


def apart_along(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Two common keys, and a query that moves along their difference after RoPE."""
    values = draw_head(rng, channels, batch, "column") | {"inverse_cap": np.zeros(batch)}
    t, s, theta, w = np.ones(batch, dtype=int), values["s"], values["theta"], values["w"]
    apart = w[:, 0] - np.exp(1j * theta) * w[:, 1]
    moved = np.exp(1j * theta) * values["z"] + rng.uniform(0.1, 2.0, apart.shape) * apart
    return {**values, "t": t, "z_s": np.exp(-1j * (1 + s)[:, None] * theta) * moved}
