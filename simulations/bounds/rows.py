"""Pairs of softmax rows, many at once, with free logits."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from simulations.bounds.bound import Instances, Values
from simulations.head import SyntheticHead
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.arrays import Array, namespace
from tappa_theory.attention import softmax

KEYS = 6
"""Keys of the rows with free logits."""
LEAST_OMEGA = 1e-4
"""Any number no smaller than the oscillation may stand for it, and this one resolves the bounds."""
LARGEST_OMEGA, LEAST_MASS = 700.0, 1e-280
"""exp(-omega) is a normal number up to the one; a mass may be raised to the other, so that it does
not underflow. Where omega is cut a mass can be all that there is, and the bound is 1."""


class Pair(NamedTuple):
    """Two rows over common and other keys, (batch, K), and what the bounds need, (batch,).

    change: logit changes, 0 on keys that are not common. rounding: of masses and of sums of them.
    """

    before: Array
    after: Array
    common: Array
    change: Array
    omega: Array
    gained: Array
    lost: Array
    rounding: Array


def largest(x: Array, among: Array) -> Array:
    """(batch,) largest entry of x (batch, K) among those."""
    xp = namespace(x)
    return xp.max(xp.where(among, x, xp.full_like(x, -math.inf)), axis=-1)


def pair(before: Array, after: Array, seen: Array, seen_later: Array, error: Array | float) -> Pair:
    """The rows of these logits. error: what float64 may be off by in a logit.

    A logit less its row's largest is off by that, twice, and by its own rounding; a weight exp(x)
    by as much of itself; a quotient by a sum of K by K more.
    """
    xp = namespace(before)
    common = seen & seen_later
    zero = xp.zeros_like(before)
    change = xp.where(common, after - before, zero)
    earlier, later = softmax(before, seen), softmax(after, seen_later)
    gained = xp.sum(xp.where(common, zero, later), axis=-1)
    lost = xp.sum(xp.where(common, zero, earlier), axis=-1)
    omega = largest(change, common) + largest(-change, common)
    size = 0.0
    for logits, visible in ((before, seen), (after, seen_later)):
        # beyond a range of 1500 weights are 0
        size = size + xp.clip(largest(logits, visible) + largest(-logits, visible), None, 1500.0)
    moved = largest(xp.abs(before), common) + largest(xp.abs(after), common)
    rounding = UNIT_ROUNDOFF * (2 * size + 2 * before.shape[-1] + 16 + 4 * moved) + 8 * error
    return Pair(
        before=earlier,
        after=later,
        common=common,
        change=change,
        omega=xp.clip(omega, LEAST_OMEGA, None),
        gained=xp.clip(gained, None, 1.0),
        lost=xp.clip(lost, None, 1.0),
        rounding=rounding,
    )


def free_pair(values: Values) -> Pair:
    """The rows of instances with free logits."""
    seen, later = values["seen"], values["seen_later"]
    return pair(values["before"], values["after"], seen, later, 0.0)


def visible(rng: np.random.Generator, batch: int, keys: int) -> tuple[np.ndarray, np.ndarray]:
    """What the two rows see: all, or only the later or the earlier one some keys, 0 and 1 both."""
    kind = rng.integers(4, size=(batch, 1))
    lost = (rng.random((batch, keys)) < 0.3) & (kind >= 2)
    gained = (rng.random((batch, keys)) < 0.3) & (kind % 2 == 1) & ~lost
    lost[:, :2] = gained[:, :2] = False
    return ~gained, ~lost


def draw_rows(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """Logits of all sizes; some rows with ties, some with nearly all mass on one key."""
    size, step = np.exp(rng.uniform(-2, 3, (batch, 1))), np.exp(rng.uniform(-3, 2, (batch, 1)))
    before = size * rng.standard_normal((batch, KEYS))
    before = np.where(rng.random((batch, 1)) < 0.2, np.rint(before), before)
    change = step * rng.standard_normal((batch, KEYS))
    # changes of two sizes only are the worst
    two = np.where(rng.random((batch, KEYS)) < 0.5, step, 0.0)
    change = np.where(rng.random((batch, 1)) < 0.5, two, change)
    seen, later = visible(rng, batch, KEYS)
    return {"before": before, "after": before + change, "seen": seen, "seen_later": later}


def draw_same_keys(rng: np.random.Generator, channels: int, batch: int) -> Instances:
    """The same, both rows over the same keys."""
    everywhere = np.ones((batch, KEYS), dtype=bool)
    return {**draw_rows(rng, channels, batch), "seen": everywhere, "seen_later": everywhere}


def rows_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    """Rows t and t + s of a head, causal; the later one gains s keys."""
    t = rng.integers(1, head.length - 4, size=batch)
    later = t + rng.integers(1, 4, size=batch)
    at = np.arange(head.length)
    return {
        "before": head.logits[t],
        "after": head.logits[later],
        "seen": at <= t[:, None],
        "seen_later": at <= later[:, None],
    }


def same_keys_from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
    """Rows t and t + s of a head over the keys up to t."""
    values = rows_from_head(rng, head, batch)
    return {**values, "seen_later": values["seen"]}


def two_groups(
    rng: np.random.Generator, masses: np.ndarray, later: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (batch, KEYS) of rows whose common keys change alike in two groups.

    masses, later: (batch, 4) of the groups 0, 1 (common), of a lost key and of a gained key, in
    the earlier and the later row; each group has (KEYS - 2) / 2 keys of random shares.
    """
    half = (KEYS - 2) // 2
    shares = np.concatenate([rng.dirichlet(np.ones(half), len(masses)) for _ in range(2)], axis=1)
    rows = []
    for groups in (masses, later):
        common = np.repeat(groups[:, :2], half, axis=1) * shares
        row = np.concatenate([common, groups[:, 2:]], axis=1)
        # a constant over the row is free
        shift = rng.standard_normal((len(row), 1))
        rows.append(np.log(np.where(row > 0, row, 1.0)) + shift)
    return rows[0], rows[1]


def gap(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Difference of the logits of two keys of these masses."""
    return np.log(p) - np.log(q)
