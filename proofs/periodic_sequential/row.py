"""Theorem 5.3: a row of logits with constant query and key as a function of distance.

f(x) = sum_m A_m cos(theta_m x + phi_m) of the distance x = t - i. y_m is the phase of channel m, y
of the dominant one, and everything is divided by A_* theta_*: f' is -sin y - V and f''/theta_* is
-cos y - W, with V = sum_m kappa_m sin y_m and W = sum_m kappa_m rho_m cos y_m over the other
channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp

from proofs.engine.certificates import Evidence, Identity
from proofs.engine.derivation import Derivation, Link
from proofs.lemmas.rows import x
from tappa_theory.shift_identity import LOGIT, i, lam, t, theta, theta_star, w, z
from tappa_theory.theorems.periodic_sequential import ENERGY, ENERGY_STAR, KAPPA, THEOREM

AUXILIARY = THEOREM.auxiliary
SLOPE, CURVATURE, CONDITION = (AUXILIARY[name] for name in ("slope", "curvature", "condition"))

NAMES = (
    r" A row is $f(x) = \lambda\sum_m A_m\cos(\theta_m x + \varphi_m)$ of the distance $x = t - i$,"
    r" taken as a real number, with $A_m = |z^m||w^m|$; divided by $\lambda A_*\theta_*$ its slope"
    r" is $-\sin y - V$ and by $\lambda A_*\theta_*^2$ its curvature $-\cos y - W$, with $V ="
    r" \sum_m \kappa_m\sin y_m$ and $W = \sum_m \kappa_m\rho_m\cos y_m$ over the competitors (all"
    r" channels but $m_*$), y and $y_m$ the phases $\theta x + \varphi$ of the channels; $\kappa_m"
    r" = A_m\theta_m/(A_*\theta_*)$, $\rho_m = \theta_m/\theta_*$, $\kappa = \sum_m\kappa_m$. In"
    r" formulas $A_m$ and $A_*$ are written energy. A crest is a distance where $y = 2\pi n$, a"
    r" trough one where $y = \pi + 2\pi n$; $\beta = \arcsin\kappa$, and a band is what lies within"
    r" $\beta$ of a crest or trough in phase."
)
"""What the symbols of these claims are."""

y, phase = sp.symbols("y phi", real=True)
crest = sp.Symbol("X", real=True)
"""A distance at which the dominant channel alone has its maximum."""
beta = sp.Symbol("beta", nonnegative=True)
"""arcsin kappa: the angle in [0, pi/2) whose sine is kappa."""
kappa, rho, level = sp.symbols("kappa_m rho_m H", nonnegative=True)
slopes, curvatures = sp.symbols("V W", real=True)
e1, e2 = sp.symbols("e_1 e_2", real=True)
size = sp.Symbol("n", nonnegative=True)


@dataclass(frozen=True)
class Differentiated:
    """left = right, where derivatives are written on the left: sympy takes them, then Identity."""

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        if not left.has(sp.Derivative) or right.has(sp.Derivative):
            return Evidence(
                False, "sympy", "a derivative on the left is needed, and none on the right"
            )
        taken = left.replace(lambda part: isinstance(part, sp.Derivative), lambda part: part.doit())
        found = Identity().certify(taken, relation, right, hypotheses)
        return Evidence(found.ok, found.engine, f"the derivative taken, {found.detail}")


def at_angle(expression: sp.Expr) -> sp.Expr:
    """A registry expression at kappa = sin(beta), arcsin(sin(beta)) written as beta."""
    return expression.subs(KAPPA, sp.sin(beta)).subs(sp.asin(sp.sin(beta)), beta)


r, g = sp.symbols("r g", nonnegative=True)
mu, nu = sp.symbols("mu nu", real=True)
ROW = Derivation(
    "a row of logits, one channel, constant query and key",
    LOGIT.subs({z: r * sp.exp(sp.I * mu), w: g * sp.exp(sp.I * nu)}),
    (
        Link(
            "=",
            lam * r * g * sp.cos((t - i) * theta + mu - nu),
            "polar form of query and key: a cosine of the distance $t - i$",
            Identity(),
        ),
    ),
)

WAVE, WAVE_STAR = ENERGY * sp.cos(theta * x + phase), ENERGY_STAR * sp.cos(theta_star * x + phase)
SLOPE_OF_ONE = Derivation(
    "slope of one channel, over the steepest slope of the dominant channel",
    sp.Derivative(WAVE, x) / (ENERGY_STAR * theta_star),
    (
        Link(
            "=",
            -SLOPE * sp.sin(theta * x + phase),
            r"$\kappa_m = A_m\theta_m/(A_*\theta_*)$",
            Differentiated(),
        ),
    ),
)
SLOPE_OF_STAR = Derivation(
    "slope of the dominant channel, in its own unit",
    sp.Derivative(WAVE_STAR, x) / (ENERGY_STAR * theta_star),
    (Link("=", -sp.sin(theta_star * x + phase), "the unit cancels", Differentiated()),),
)
CURVATURE_OF_ONE = Derivation(
    "curvature of one channel, over the largest curvature of the dominant channel",
    sp.Derivative(WAVE, x, x) / (ENERGY_STAR * theta_star**2),
    (
        Link(
            "=",
            -CURVATURE * sp.cos(theta * x + phase),
            r"$\kappa_m\rho_m$, $\rho_m = \theta_m/\theta_*$",
            Differentiated(),
        ),
    ),
)
CURVATURE_OF_STAR = Derivation(
    "curvature of the dominant channel, in its own unit",
    sp.Derivative(WAVE_STAR, x, x) / (ENERGY_STAR * theta_star**2),
    (Link("=", -sp.cos(theta_star * x + phase), "the unit cancels", Differentiated()),),
)
SHARES = (SLOPE_OF_ONE, SLOPE_OF_STAR, CURVATURE_OF_ONE, CURVATURE_OF_STAR)

POLAR = {z: r * sp.exp(sp.I * mu), w: g * sp.exp(sp.I * nu)}
PERIOD = AUXILIARY["period"]
