"""Theorem 5.1: how far a query channel turns in a step, and the witnesses that attain it.

A turn by psi in [0, pi] makes z_s = eta exp(i psi) z of a query channel z != 0, eta > 0. The step
that is published compares the arc psi with the chord |z_s - z|; an arc is longer than its chord.
"""

from __future__ import annotations

import sympy as sp

from proofs.engine.arcs import JORDAN, SINE_NONNEGATIVE, Arcsine, ByCosines, x
from proofs.engine.balls import Balls
from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled
from proofs.engine.relations import le
from proofs.engine.sums import Cases
from proofs.engine.witness import AtChosen, chosen
from tappa_theory.shift_identity import z, z_s
from tappa_theory.theorems.re_access import (
    ARC,
    ARC_EXACT,
    ARC_LINEAR,
    ARC_ONE_NORM,
    ARC_ONE_NORM_LINEAR,
    CHORD,
    RADIUS,
)

psi = sp.Symbol("psi", nonnegative=True)
"""The angle in [0, pi] by which the query channel turns, before RoPE."""
rho = sp.Symbol("eta", positive=True)
"""|z_s| / |z|."""
TURNED = {z_s: rho * sp.exp(sp.I * psi) * z}


def turned(expression: sp.Expr) -> sp.Expr:
    """An expression of the registry where the query channel has turned by psi."""
    return expression.subs(TURNED, simultaneous=True)


UP_TO_PI = (le(psi, sp.pi),)
NONZERO = sp.Gt(sp.Abs(z), 0, evaluate=False)
BOTH_NORMS = (le(RADIUS, sp.Abs(z)), le(RADIUS, turned(sp.Abs(z_s))))
ONE_NORM = (le(RADIUS, sp.Abs(z)), le(turned(CHORD), RADIUS))

HALF_ANGLE = Fact(
    sp.Integer(0),
    "<=",
    sp.sin(psi / 2),
    r"$\psi/2$ lies between 0 and $\pi$",
    Lemma(SINE_NONNEGATIVE, {x: psi / 2}),
)

# --- how far a channel turns -------------------------------------------------------------------

LAW_OF_COSINES = Derivation(
    "chord, norms and angle",
    turned(CHORD**2),
    (
        Link(
            "=",
            turned(
                (sp.Abs(z) - sp.Abs(z_s)) ** 2 + 4 * sp.Abs(z) * sp.Abs(z_s) * sp.sin(psi / 2) ** 2
            ),
            r"law of cosines, $1 - \cos\psi = 2\sin^2(\psi/2)$",
            Identity(),
        ),
    ),
)

CHORD_OVER_NORM = Derivation(
    r"chord over norm at equal norms, $\eta = 1$",
    turned(CHORD).subs(rho, 1) / sp.Abs(z),
    (Link("=", 2 * sp.sin(psi / 2), r"$|e^{\mathrm i\psi} - 1| = 2\sin(\psi/2)$", Solver()),),
    hypotheses=(*UP_TO_PI, NONZERO),
    facts=(HALF_ANGLE,),
)

SMALL_TURNS = Derivation(
    "the difference of arc and chord is of third order",
    x - 2 * sp.sin(x / 2),
    (
        Link(
            "<=",
            x**3 / 24,
            "both vanish at 0, their difference to fifth order",
            Balls(x, sp.Integer(0), sp.pi, zero_at_low=5, near=sp.Integer(3)),
        ),
    ),
    hypotheses=(sp.Ge(x, 0, evaluate=False), le(x, sp.pi)),
)

EXACT_TURN = Derivation(
    "the turn of a query channel",
    psi,
    (
        Link(
            "=",
            turned(ARC_EXACT),
            r"law of cosines, solved for $\sin^2(\psi/2)$",
            Arcsine(Solver(), squared=True),
        ),
    ),
    hypotheses=(*UP_TO_PI, NONZERO),
)

BOTH = Derivation(
    "largest turn when both norms are at least the radius",
    psi,
    (
        Link(
            "<=",
            turned(ARC),
            r"$2r\sin(\psi/2) \le |z' - z|$: the law of cosines with $|z||z'| \ge r^2$",
            Arcsine(Solver()),
        ),
    ),
    hypotheses=(*UP_TO_PI, *BOTH_NORMS),
    facts=(HALF_ANGLE,),
)

LINEAR = Derivation(
    "the same without an arcsine",
    psi,
    (
        Link(
            "<=",
            sp.pi * sp.sin(psi / 2),
            r"an arc is at most $\pi/2$ times its chord",
            Lemma(JORDAN, {x: psi}),
        ),
        Link(
            "<=",
            turned(ARC_LINEAR),
            r"$2r\sin(\psi/2) \le |z' - z|$",
            Scaled(sp.pi / (2 * RADIUS), Solver()),
        ),
    ),
    hypotheses=(*UP_TO_PI, *BOTH_NORMS),
    facts=(HALF_ANGLE,),
)

ONE = Derivation(
    "largest turn when only the earlier norm is at least the radius",
    psi,
    (
        Link(
            "<=",
            turned(ARC_ONE_NORM),
            r"$|z|\sin\psi$ is the distance of $z$ from the line through $z'$",
            Arcsine(Solver()),
        ),
    ),
    hypotheses=(*UP_TO_PI, *ONE_NORM),
    facts=(
        Fact(
            sp.Integer(0),
            "<",
            sp.cos(psi),
            r"$2|z||z'|\cos\psi = |z|^2 + |z'|^2 - |z' - z|^2 \ge |z'|^2$",
            Solver(),
        ),
        Fact(psi, "<=", sp.pi / 2, r"a positive cosine: the angle is acute", ByCosines(Solver())),
        Fact(
            sp.Integer(0),
            "<=",
            sp.sin(psi),
            r"$\psi$ lies between 0 and $\pi$",
            Lemma(SINE_NONNEGATIVE, {x: psi}),
        ),
    ),
)

ONE_NEAR = Derivation(
    "without an arcsine, the chord no longer than the radius",
    psi,
    (
        Link(
            "<=",
            sp.pi / 2 * sp.sin(psi),
            r"an arc is at most $\pi/2$ times its chord, at $2\psi$",
            Scaled(sp.Rational(1, 2), Lemma(JORDAN, {x: 2 * psi})),
        ),
        Link(
            "<=",
            sp.pi / 2 * turned(CHORD) / RADIUS,
            r"$r\sin\psi \le |z' - z|$",
            Scaled(sp.pi / (2 * RADIUS), Solver()),
        ),
        Link(
            "<=",
            turned(ARC_ONE_NORM_LINEAR),
            "and twice that",
            Scaled(sp.pi / RADIUS, Solver()),
        ),
    ),
    hypotheses=ONE.hypotheses,
    facts=ONE.facts,
)

ONE_FAR = Derivation(
    "the chord no shorter than the radius",
    psi,
    (
        Link("<=", sp.pi, "no turn is larger", Solver()),
        Link(
            "<=",
            turned(ARC_ONE_NORM_LINEAR),
            "the chord is no shorter than the radius",
            Scaled(sp.pi / RADIUS, Solver()),
        ),
    ),
    hypotheses=(*UP_TO_PI, le(RADIUS, turned(CHORD))),
)

ONE_LINEAR = Derivation(
    "largest turn when only the earlier norm is at least the radius, whatever the chord",
    psi,
    (
        Link(
            "<=",
            turned(ARC_ONE_NORM_LINEAR),
            "a chord no longer than the radius, or a longer one",
            Cases(le(turned(CHORD), RADIUS), Lemma(ONE_NEAR, {}), Lemma(ONE_FAR, {})),
        ),
    ),
    hypotheses=(*UP_TO_PI, ONE_NORM[0]),
)

# --- sharpness of the three --------------------------------------------------------------------

EQUAL_NORMS = {rho: sp.Integer(1), RADIUS: sp.Abs(z)}
BOTH_SHARP = Derivation(
    "equal norms attain the arc",
    psi,
    (
        Link(
            "=",
            turned(ARC).subs(EQUAL_NORMS),
            r"$|z' - z| = 2|z|\sin(\psi/2)$",
            Arcsine(Solver()),
        ),
    ),
    hypotheses=(*UP_TO_PI, NONZERO),
    facts=(HALF_ANGLE,),
)
LINEAR_SHARP = Derivation(
    "opposite channels of equal norm, a turn by pi, attain the linear form",
    sp.pi,
    (Link("=", ARC_LINEAR, "$|-z - z| = 2|z|$", AtChosen()),),
    hypotheses=(NONZERO, *chosen({z_s: -z, RADIUS: sp.Abs(z)})),
)
TANGENT = {z_s: sp.cos(psi) * sp.exp(sp.I * psi) * z}
ONE_SHARP = Derivation(
    "the foot of the perpendicular attains the arc for one norm",
    psi,
    (
        Link(
            "=",
            ARC_ONE_NORM.subs(TANGENT, simultaneous=True).subs(RADIUS, sp.Abs(z)),
            r"$|\cos\psi\,e^{\mathrm i\psi} - 1| = \sin\psi$",
            Arcsine(Solver()),
        ),
    ),
    hypotheses=(le(psi, sp.pi / 2), NONZERO),
    facts=(
        Fact(
            sp.Integer(0),
            "<=",
            sp.sin(psi),
            r"$\psi$ lies between 0 and $\pi$",
            Lemma(SINE_NONNEGATIVE, {x: psi}),
        ),
    ),
)

delta = sp.Symbol("delta", positive=True)
OPPOSITE = Derivation(
    r"$z' = -\delta z$ turns by $\pi$: the bound for one norm",
    ARC_ONE_NORM_LINEAR.subs(z_s, -delta * z).subs(RADIUS, sp.Abs(z)),
    (Link("=", sp.pi * (1 + delta), r"$|-\delta z - z| = (1 + \delta)|z|$", Identity()),),
    hypotheses=(NONZERO,),
)
