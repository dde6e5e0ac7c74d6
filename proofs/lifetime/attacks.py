"""Attacks on the lifetime: margins, new keys and top-k gaps, from vectors that are rotated."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from proofs.shift_bound.proof import ROUNDOFF
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import BOUND
from tappa_theory.theorems.attention_distance import OSCILLATION
from tappa_theory.theorems.lifetime import BY_ANGLE, BY_NORMS, BY_STEPS, MARGIN_CHANGE, NEW_KEY

CHANNELS = 2
VECTORS = 4
SIZE = (2 * VECTORS + 1) * CHANNELS
SCALE = np.asarray(0.125)
QUERY_AT, KEY_AT, RIVAL_AT, NEW_AT, STEPS = 5, 1, 3, 6, 2
ROUNDINGS = 64 * (1 + 8 * np.pi) * ROUNDOFF
"""Relative rounding of a logit whose angles reach 8 pi."""


class Point:
    """Queries at t and t + s, two keys, before RoPE, and frequencies, of numbers in [-1, 1]."""

    def __init__(self, x: np.ndarray) -> None:
        parts = x[: 2 * CHANNELS * VECTORS].reshape(VECTORS, 2, CHANNELS)
        self.vectors = parts[:, 0] + 1j * parts[:, 1]
        self.query, self.later, self.key, self.rival = self.vectors
        self.frequency = np.pi * np.abs(x[-CHANNELS:])
        self.size = float(SCALE) * float(np.sum(np.abs(x[:-CHANNELS]))) ** 2

    def rotated(self, vector: np.ndarray, position: int) -> np.ndarray:
        """The vector after RoPE."""
        return vector * np.exp(1j * position * self.frequency)

    def queries(self) -> tuple[np.ndarray, np.ndarray]:
        """After RoPE."""
        return self.rotated(self.query, QUERY_AT), self.rotated(self.later, QUERY_AT + STEPS)

    def values(self, apart: int) -> dict[str, Any]:
        """What the registry's expressions are evaluated on, with a rival so far from the key."""
        return {
            "z": self.query,
            "z_s": self.later,
            "w": self.key,
            "w_u": self.rival,
            "theta": self.frequency,
            "s": np.asarray(STEPS),
            "u": np.asarray(apart),
            "lambda": SCALE,
        }

    def share(self, observed: float, allowed: np.ndarray) -> float:
        """observed over the sum of allowed, and of what rounding allows; 0/0 is 0."""
        total = float(np.sum(allowed)) + ROUNDINGS * self.size
        return observed / total if total > 0 else 0.0


def _logit(query: np.ndarray, key: np.ndarray) -> float:
    return float(SCALE) * float(np.vdot(key, query).real)


def _margin(bound: sp.Expr, x: np.ndarray) -> float:
    point = Point(x)
    before, after = point.queries()
    lead = point.rotated(point.key, KEY_AT) - point.rotated(point.rival, RIVAL_AT)
    observed = abs(_logit(after, lead) - _logit(before, lead))
    return point.share(observed, evaluate(bound, point.values(RIVAL_AT - KEY_AT)))


def _norms(bound: sp.Expr, x: np.ndarray) -> float:
    point = Point(x)
    before, after = point.queries()
    lead = point.rotated(point.key, KEY_AT) - point.rotated(point.rival, RIVAL_AT)
    moved = {"query_move": np.linalg.norm(after - before), "key_distance": np.linalg.norm(lead)}
    observed = abs(_logit(after, lead) - _logit(before, lead))
    return point.share(observed, evaluate(bound, {**moved, "lambda": SCALE}))


def _angle(bound: sp.Expr, x: np.ndarray) -> float:
    """The bound over the turn, towards the later query, at which the rival overtakes."""
    point = Point(x)
    before, after = point.queries()
    lead = point.rotated(point.key, KEY_AT) - point.rotated(point.rival, RIVAL_AT)
    norm, distance = (float(np.linalg.norm(vector)) for vector in (before, lead))
    if norm == 0 or distance == 0 or _logit(before, lead) == 0:
        return 0.0  # no direction, or no lead
    lead = lead if _logit(before, lead) > 0 else -lead
    across = after - np.vdot(before, after).real / norm**2 * before
    size = float(np.linalg.norm(across))
    if size <= np.sqrt(ROUNDOFF) * np.linalg.norm(after):
        return 0.0  # it does not turn but for rounding
    # a query turned by phi has the lead (one cos(phi) - other sin(phi))
    one, other = _logit(before / norm, lead), abs(_logit(across / size, lead))
    values = {"lead": norm * one, "query_norm": norm, "key_distance": distance, "lambda": SCALE}
    numbers = {name: np.asarray(value) for name, value in values.items()}
    # near a right angle an arcsine makes the square root of a rounding of it
    rounding = np.sqrt(ROUNDINGS)
    return float(evaluate(bound, numbers)) / (float(np.arctan2(one, other)) + rounding)


def _steps(bound: sp.Expr, x: np.ndarray) -> float:
    """Two steps: to the later query, then to the sum of the keys as a third query."""
    point = Point(x)
    path = [
        point.rotated(query, QUERY_AT + step)
        for step, query in enumerate((point.query, point.later, point.key + point.rival))
    ]
    lead = point.rotated(point.key, KEY_AT) - point.rotated(point.rival, RIVAL_AT)
    longest = np.maximum(np.abs(path[1] - path[0]), np.abs(path[2] - path[1]))
    observed = abs(_logit(path[2], lead) - _logit(path[0], lead))
    values = point.values(RIVAL_AT - KEY_AT) | {"step_after": longest}
    return point.share(observed, evaluate(bound, values))


def _new_key(bound: sp.Expr, x: np.ndarray) -> float:
    """What a new key is ahead at t + s, and the key's logit at t, over the bound."""
    point = Point(x)
    before, after = point.queries()
    key, new = point.rotated(point.key, KEY_AT), point.rotated(point.rival, NEW_AT)
    observed = _logit(after, new) - _logit(after, key) + _logit(before, key)
    return point.share(observed, evaluate(bound, point.values(NEW_AT - KEY_AT)))


def _gap(bound: sp.Expr, x: np.ndarray) -> float:
    """What the gap after the top 2 of 4 columns loses, over twice the largest (B)."""
    point = Point(x)
    keys = np.stack([point.key, point.rival, -point.key, point.key + point.rival])
    turns = np.exp(1j * np.array([[0], [1], [2], [4]]) * point.frequency)
    now, then = (float(SCALE) * (np.conj(keys * turns) @ q).real for q in point.queries())
    order = np.argsort(-now, kind="stable")
    top, rest = order[:2], order[2:]
    lost = (now[top].min() - now[rest].max()) - (then[top].min() - then[rest].max())
    values = point.values(0) | {"w": keys, "w_u": keys}
    largest = np.sum(evaluate(BOUND, values), axis=1).max()
    return point.share(float(lost), evaluate(bound, {"bound_max": largest}))


def _point(*vectors: complex, turn: float) -> np.ndarray:
    """Two equal channels."""
    parts = [part for vector in vectors for part in (complex(vector).real, complex(vector).imag)]
    return np.repeat([*parts, turn], CHANNELS)


CORNERS = (
    np.zeros(SIZE),
    _point(0.5j, -1 + 0.5j, 0.5, -0.5, turn=0.0),
    _point(1, -1, 0.5, 0.5, turn=1.0),
    _point(1j, -1 + 1j, 1, 0, turn=0.0),
    _point(0, 0.5, 1, 0, turn=0.0),
)
"""Nothing; no rotation; equal keys and half a turn; a rival of norm zero; a query from zero."""


def margin_attack(bound: sp.Expr, name: str) -> Attack:
    """Change of the margin of two keys over `bound`, summed over channels."""
    return Attack(name, SIZE, partial(_margin, bound), True, 1e-9, CORNERS[:3])


def norms_attack(bound: sp.Expr, name: str) -> Attack:
    """The same over a bound by norms."""
    return Attack(name, SIZE, partial(_norms, bound), True, 1e-9, CORNERS[:3])


def angle_attack(bound: sp.Expr, name: str) -> Attack:
    """The angle up to which a key stays ahead over the one at which it falls behind."""
    return Attack(name, SIZE, partial(_angle, bound), True, 1e-9, CORNERS[:3])


def steps_attack(bound: sp.Expr, name: str) -> Attack:
    """Change of the margin in two steps over `bound`, from the longest step of each channel."""
    return Attack(name, SIZE, partial(_steps, bound), True, 1e-9, CORNERS)


def new_key_attack(bound: sp.Expr, name: str) -> Attack:
    """Lead of a new key over `bound`."""
    return Attack(name, SIZE, partial(_new_key, bound), True, 1e-9, CORNERS[:3])


def gap_attack(bound: sp.Expr, name: str) -> Attack:
    """Loss of a top-k gap over `bound`."""
    return Attack(name, SIZE, partial(_gap, bound), True, 1e-9, CORNERS)


ATTACKS = (
    margin_attack(MARGIN_CHANGE, "the margin of two keys, by channels"),
    norms_attack(BY_NORMS, "the margin of two keys, by norms"),
    angle_attack(BY_ANGLE, "the margin of two keys, by the angle of the query"),
    steps_attack(BY_STEPS, "the margin of two keys, by steps"),
    new_key_attack(NEW_KEY, "a new key against the key on top"),
    gap_attack(OSCILLATION, "the gap after the top 2 of 4 columns"),
)
