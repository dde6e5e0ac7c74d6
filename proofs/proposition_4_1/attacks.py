"""Attacks on both sides of proposition 4.1, from keys and queries."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from tappa_theory.separable import evaluate
from tappa_theory.theorems.proposition_4_1 import (
    LOWER,
    LOWER_BEFORE,
    NECESSARY,
    OSCILLATION_LOWER,
    OSCILLATION_UPPER,
    SUFFICIENT,
    TURNED_SQUARED,
    UPPER,
    UPPER_BEFORE,
)

ROUNDOFF = 2.0**-53
SCALE = 0.125
RANK = 1e-6
"""Singular values below this share of the largest are cut off the keys before they are used."""


def after_rope(query: np.ndarray, position: int, theta: np.ndarray) -> np.ndarray:
    """A query or key after RoPE, as a real vector."""
    turned = query * np.exp(1j * position * theta)
    return np.concatenate([turned.real, turned.imag])


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def _span(keys: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Keys of clear rank, their smallest nonzero singular value (0 for none), basis of the span."""
    left, singular, right = np.linalg.svd(keys, full_matrices=False)
    rank = int(np.sum(singular > RANK * singular[0])) if singular[0] > 0 else 0
    cut = (left[:, :rank] * singular[:rank]) @ right[:rank]
    return cut, float(singular[rank - 1]) if rank else 0.0, right[:rank]


def _value(expression: sp.Expr, **values: float) -> float:
    given = {name: np.asarray(float(number)) for name, number in values.items()}
    return float(evaluate(expression, given | {"lambda": np.asarray(SCALE)}))


def _share(smaller: float, larger: float, size: float, cost: float = 256 * ROUNDOFF) -> float:
    """smaller/larger, where the larger may be below its exact value by cost * size."""
    larger += cost * size
    return smaller / larger if larger > 0 and smaller > 0 else 0.0


def _two_sided(x: np.ndarray, n: int, d: int, r: int) -> dict[str, float]:
    """n keys of rank <= r in d dimensions and a step: what is observed and what it depends on."""
    product = x[: n * r].reshape(n, r) @ x[n * r : (n + d) * r].reshape(r, d)
    keys, sigma, basis = _span(product)
    step = x[(n + d) * r :]
    longest = float(np.max(np.linalg.norm(keys, axis=1)))
    return {
        "observed": float(np.max(np.abs(SCALE * (keys @ step)))),
        "step": float(np.linalg.norm(basis @ step)),
        "sigma": sigma,
        "key_norm_max": longest,
        "n": float(n),
        "size": longest * float(np.linalg.norm(step)),
    }


def two_sided_attack(
    lower: bool, n: int, d: int, r: int, bound: sp.Expr | None = None, sharp: bool = True
) -> Attack:
    """The lower or the upper side on n keys of rank at most r in d dimensions."""
    side = "lower" if lower else "upper"
    expression = bound if bound is not None else LOWER if lower else UPPER

    def ratio(x: np.ndarray) -> float:
        found = _two_sided(x, n, d, r)
        observed, extent = found.pop("observed"), found.pop("size")
        allowed = _value(expression, **found)
        return _share(allowed, observed, extent) if lower else _share(observed, allowed, extent)

    numbers = (n + d) * r + d
    repeated = np.full(numbers, 0.5)
    lone = np.zeros(numbers)
    lone[[0, n * r, -d]] = 1.0  # one key, the others are zero
    name = f"{side} side, {n} keys of rank <= {r} in {d} dimensions"
    return Attack(name, numbers, ratio, sharp, 1e-9, (np.zeros(numbers), repeated, lone))


def before_attack(lower: bool, bound: sp.Expr | None = None) -> Attack:
    """The side before RoPE: one channel, two keys, from the rotated pairs."""
    expression = bound if bound is not None else LOWER_BEFORE if lower else UPPER_BEFORE
    side = "lower" if lower else "upper"

    def ratio(x: np.ndarray) -> float:
        # drift and keys in polar form: the ridge of the ratio then runs along the axes
        old, speed = complex(*x[:2]), np.array([np.pi * abs(x[8])])
        new = old * (1 + 3 * x[2] * np.exp(1j * np.pi * x[3]))
        middle, apart = np.exp(1j * np.pi * x[4]), np.exp(1j * np.pi * x[5])
        pair = (x[6] * middle * apart, x[7] * x[6] * middle / apart)
        keys = np.stack([after_rope(np.array([key]), 2, speed) for key in pair])
        step = after_rope(np.array([new]), 6, speed) - after_rope(np.array([old]), 5, speed)
        observed = float(np.max(np.abs(SCALE * (keys @ step))))
        longest = float(np.max(np.linalg.norm(keys, axis=1)))
        turned = {"theta": np.asarray(speed[0]), "z": np.asarray(old)}
        allowed = _value(
            expression,
            sigma=float(np.linalg.svd(keys, compute_uv=False)[-1]),
            n=2,
            key_norm_max=longest,
            step_before=abs(new - old),
            turned=float(np.sqrt(evaluate(TURNED_SQUARED, turned))),
        )
        extent = longest * (abs(new) + abs(old))
        return _share(allowed, observed, extent) if lower else _share(observed, allowed, extent)

    still, turned = np.full(9, 0.5), np.full(9, 0.5)
    still[8], turned[8] = 0.0, 1.0  # theta = 0 and pi, the keys equal
    return Attack(f"{side} side before RoPE", 9, ratio, True, 1e-9, (np.zeros(9), still, turned))


def oscillation_attack(lower: bool, n: int, d: int, bound: sp.Expr | None = None) -> Attack:
    """The oscillation of the logit change over n keys in d dimensions."""
    expression = bound if bound is not None else OSCILLATION_LOWER if lower else OSCILLATION_UPPER
    side = "lower" if lower else "upper"

    def ratio(x: np.ndarray) -> float:
        keys, step = x[: n * d].reshape(n, d), x[n * d :]
        mean = keys.mean(axis=0)
        centred, sigma, basis = _span(keys - mean)
        keys = centred + mean
        change = SCALE * (keys @ step)
        apart = np.linalg.norm(keys[:, None] - keys[None], axis=-1)
        allowed = _value(
            expression,
            sigma_centred=sigma,
            diameter=float(apart.max()),
            step=float(np.linalg.norm(basis @ step)),
            n=n,
        )
        observed = float(np.ptp(change))
        extent = float(np.max(np.linalg.norm(keys, axis=1)) * np.linalg.norm(step))
        return _share(allowed, observed, extent) if lower else _share(observed, allowed, extent)

    numbers = (n + 1) * d
    halves = np.full(numbers, 0.4)  # two nearly opposite groups of keys
    halves[: n // 2 * d] = -0.5
    name = f"{side} side of the oscillation, {n} keys in {d} dimensions"
    corners = (np.zeros(numbers), np.full(numbers, 0.5), halves)
    return Attack(name, numbers, ratio, True, 1e-9, corners)


def cosine_attack(needed: bool, bound: sp.Expr | None = None) -> Attack:
    """What norms and cosine allow (or are forced to) after RoPE, two keys in two dimensions."""
    expression = bound if bound is not None else NECESSARY if needed else SUFFICIENT

    def ratio(x: np.ndarray) -> float:
        old, new, keys = x[:2], x[2:4], x[4:].reshape(2, 2)
        norms = float(np.linalg.norm(old)), float(np.linalg.norm(new))
        singular = np.linalg.svd(keys, compute_uv=False)
        if min(norms) < 1e-2 or singular[-1] < 1e-2:
            return 0.0  # no cosine, or no rank
        similarity = cosine(old, new)
        change = float(np.max(np.abs(SCALE * (keys @ (new - old)))))
        allowed = _value(
            expression,
            sigma=float(singular[-1]),
            n=2,
            change_max=change,
            key_norm_max=float(np.max(np.linalg.norm(keys, axis=1))),
            query_norm=norms[0],
            query_norm_s=norms[1],
            similarity=min(similarity, 1.0),
        )
        # 1 - cosine and the squared step lose half of the digits near 0
        if needed:
            return _share(1 - similarity, allowed, 1e8, 256 * ROUNDOFF)
        return _share(change, allowed, 1.0, float(np.sqrt(ROUNDOFF)))

    name = "cosine that is needed" if needed else "change that the cosine allows"
    repeated = np.full(8, 0.5)
    return Attack(name, 8, ratio, True, 1e-9, (repeated, -repeated))


ATTACKS = (
    two_sided_attack(True, 2, 4, 2),
    two_sided_attack(True, 5, 2, 1),
    two_sided_attack(False, 3, 3, 2),
    before_attack(True),
    before_attack(False),
    oscillation_attack(True, 4, 2),
    oscillation_attack(False, 3, 2),
    cosine_attack(True),
    cosine_attack(False),
)
