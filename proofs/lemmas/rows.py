"""Rows of logits with constant queries and keys, as exact instances and in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from proofs.engine.certificates import Identity
from proofs.engine.claims import Exact
from proofs.engine.derivation import Derivation, Link
from proofs.shift_bound.proof import STEP, TURN
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import (
    ALPHA,
    LOGIT,
    SHIFT_DIFFERENCE,
    lam,
    theta,
    theta_star,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems.periodic_sequential import ENERGY, ENERGY_STAR, KAPPA, RATIO_SUM, THEOREM

x = sp.Symbol("x", real=True)
"""Distance of a key from the query, positions."""


@dataclass(frozen=True, eq=False)
class Row:
    """A row with constant queries and keys: sum of A cos(theta x + phi), x the distance.

    channels: (theta, A, phi) each, the dominant one first, exact numbers.
    """

    channels: tuple[tuple[sp.Expr, sp.Expr, sp.Expr], ...]

    def moved(self, by: sp.Expr | int) -> Row:
        """The same row, everything at a distance larger by `by`."""
        return Row(
            tuple((theta_m, size, phi - theta_m * by) for theta_m, size, phi in self.channels)
        )

    def at(self, distance: sp.Expr | int) -> sp.Expr:
        """Logit at a distance, lambda = 1: the end of ROW, summed over the channels."""
        return sp.Add(*(size * sp.cos(f * distance + phi) for f, size, phi in self.channels))

    def slope(self, distance: sp.Expr | int, order: int = 1) -> sp.Expr:
        """A derivative of the row."""
        return sp.diff(self.at(x), x, order).subs(x, distance)

    def share(self, name: str) -> sp.Expr:
        """Sum over the competitors of an entry of the registry: "slope" or "curvature"."""
        (star, size_star, _), *others = self.channels
        parts = (
            THEOREM.auxiliary[name].subs(
                {ENERGY: size, theta: f, ENERGY_STAR: size_star, theta_star: star}
            )
            for f, size, _ in others
        )
        return sp.Add(*parts)

    def logit(self, distance: float) -> float:
        """The logit in float64, from the registry's LOGIT."""
        frequency, size, phi = (
            np.array([float(part) for part in parts]) for parts in zip(*self.channels, strict=True)
        )
        values = {"z": size * np.exp(1j * phi), "w": np.ones_like(size) + 0j, "theta": frequency}
        return float(np.sum(evaluate(LOGIT, values | {"lambda": 1.0, "t": distance, "i": 0.0})))

    def higher(self, there: int, here: int) -> Exact:
        """The logit at distance `here` is above the one at `there`."""
        return Exact(
            f"$f({there}) < f({here})$",
            self.at(there),
            "<",
            self.at(here),
            replay=lambda: (self.logit(here), self.logit(there)),
        )

    def maximum(self, distance: sp.Expr | int) -> tuple[Exact, Exact]:
        """The slope vanishes at a distance and the row bends down there."""
        zero = sp.Integer(0)
        return (
            Exact(f"$f'({sp.latex(distance)}) = 0$", zero, "=", self.slope(distance)),
            Exact(f"$f''({sp.latex(distance)}) < 0$", self.slope(distance, 2), "<", zero),
        )

    def enough(self) -> tuple[Exact]:
        """kappa^2 + R^2 < 1."""
        shares = {KAPPA: self.share("slope"), RATIO_SUM: self.share("curvature")}
        whole = THEOREM.auxiliary["squares"].subs(shares, simultaneous=True)
        return (Exact(r"$\kappa^2 + R^2 < 1$", whole, "<", sp.Integer(1)),)

    def bound_of(self, bound: sp.Expr, **parameters: int) -> sp.Expr:
        """A per-channel bound without drift, summed; parameters: N or L."""
        total = sp.Integer(0)
        for f, size, _ in self.channels:
            at = {"z": size, "z_s": size, "w": 1, "w_u": 1, "lambda": 1, "theta": f}
            at |= {"theta_*": self.channels[0][0], **parameters}
            total += bound.subs({symbol: at[symbol.name] for symbol in bound.free_symbols})
        return total

    def bound_in_floats(self, bound: sp.Expr, **parameters: int) -> float:
        """The same through the generated function."""
        frequency, size = (
            np.array([float(part) for part in parts])
            for parts in list(zip(*self.channels, strict=True))[:2]
        )
        values = {"z": size + 0j, "z_s": size + 0j, "w": np.ones_like(size) + 0j, "lambda": 1.0}
        values |= {"w_u": values["w"], "theta": frequency, "theta_*": frequency[0], **parameters}
        return float(np.sum(evaluate(bound, values)))

    def beyond(self, bound: sp.Expr, low: int, high: int, **parameters: int) -> Exact:
        """A bound without drift is below the difference of the logits at two distances."""
        return Exact(
            f"bound {parameters}, below $f({high}) - f({low})$".replace("'", ""),
            self.bound_of(bound, **parameters),
            "<",
            self.at(high) - self.at(low),
            replay=lambda: (
                self.logit(high) - self.logit(low),
                self.bound_in_floats(bound, **parameters),
            ),
        )


def only_turn(title: str, shift: Mapping[sp.Symbol, sp.Expr], bound: sp.Expr) -> Derivation:
    """Without drift a bound that is (B) is attained, by z = conj(TURN (STEP - 1)) w."""
    aligned = sp.conjugate(TURN * (STEP.subs(shift) - 1)) * w
    at = {z: aligned, z_s: aligned, w_u: w}
    return Derivation(
        title,
        SHIFT_DIFFERENCE.subs(shift).subs(at, simultaneous=True),
        (
            Link(
                "=",
                lam * 4 * sp.sin(ALPHA.subs(shift) / 2) ** 2 * sp.Abs(w) ** 2,
                r"$z = \overline{e^{\mathrm i(t-i)\theta}(e^{\mathrm i\alpha} - 1)}\,w$: a number"
                r" times its conjugate",
                Identity(),
            ),
            Link(
                "=",
                bound.subs(at, simultaneous=True),
                r"$|z| = 2|\sin(\alpha/2)||w|$, nothing else changes",
                Identity(),
            ),
        ),
    )


CHANNELS = 2
SIZE = 9 * CHANNELS


def changed(bound: sp.Expr, shift: tuple[int, int], **parameters: float) -> Attack:
    """Attack on a bound of |a_{t+s,i+u} - a_{t,i}|: queries, keys and frequencies are free."""

    def ratio(point: np.ndarray) -> float:
        parts = point[: 8 * CHANNELS].reshape(4, 2, CHANNELS)
        query, query_s, key, key_u = parts[:, 0] + 1j * parts[:, 1]
        frequency = np.pi * (1 + point[8 * CHANNELS :]) / 2
        # a query without steps stays the same, and so does a key
        query_s, key_u = query_s if shift[0] else query, key_u if shift[1] else key

        def logit(q: np.ndarray, t: int, k: np.ndarray, i: int) -> float:
            turned_q, turned_k = q * np.exp(1j * t * frequency), k * np.exp(1j * i * frequency)
            return float(turned_q.real @ turned_k.real + turned_q.imag @ turned_k.imag)

        observed = abs(logit(query_s, 9 + shift[0], key_u, 2 + shift[1]) - logit(query, 9, key, 2))
        values = {"z": query, "z_s": query_s, "w": key, "w_u": key_u, "theta": frequency}
        allowed = float(np.sum(evaluate(bound, values | {"lambda": 1.0, **parameters})))
        return observed / allowed if allowed > 1e-3 else 0.0

    still, half_turn, no_keys, one_channel = (np.full(SIZE, 0.3) for _ in range(4))
    still[8 * CHANNELS :], half_turn[8 * CHANNELS :] = -1.0, 1.0
    no_keys[4 * CHANNELS : 6 * CHANNELS] = 0.0
    one_channel[: 8 * CHANNELS].reshape(8, CHANNELS)[:, 1:] = 0.0
    return Attack(
        f"(B) at the shift {shift}",
        SIZE,
        ratio,
        sharp=True,
        rounding=1e-9,
        corners=(still, half_turn, no_keys, one_channel),
    )
