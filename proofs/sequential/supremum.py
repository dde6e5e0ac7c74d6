"""Theorem 5.2: the change under global norms and steps is at most the supremum of the registry."""

from __future__ import annotations

import sympy as sp

from proofs.engine.arcs import COSINE_NONNEGATIVE, SINE_NONNEGATIVE, Same, x
from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.engine.relations import le
from proofs.lemmas.finite import REAL_PART, TRIANGLE, Finite, Induction, Products, a, b
from proofs.sequential.diagonal import (
    CHANGE,
    CHANGES_SUM,
    D_1,
    D_2,
    Changes,
    cauchy_schwarz,
    times,
    whole_change,
)
from proofs.shift_bound.proof import TURN
from tappa_theory.shift_identity import lam, w, w_u, z, z_s
from tappa_theory.theorems.sequential import (
    EPSILON,
    GLOBAL_CONSTANT,
    KEY_ANGLE,
    KEY_NORM_MAX,
    KEY_STEP,
    QUERY_ANGLE,
    QUERY_NORM_MAX,
    QUERY_STEP,
    SUPREMUM,
)

MIDDLE_QUERY, MIDDLE_KEY = (z + z_s) / 2, (w + w_u) / 2
_BY_QUERY = (z_s - z) * sp.conjugate(MIDDLE_KEY)
_BY_KEY = MIDDLE_QUERY * sp.conjugate(w_u - w)
HALF_SUMS = Derivation(
    "the change by half sums, one channel",
    sp.Abs(CHANGE),
    (
        Link(
            "<=",
            lam * sp.Abs(_BY_QUERY + _BY_KEY),
            r"$z'\bar w' - z\bar w = \Delta z\,\overline{(w + w')/2} + \frac{z + z'}2"
            r"\overline{\Delta w}$; a real part is no larger than the modulus",
            Scaled(lam, Lemma(REAL_PART, {a: TURN * (_BY_QUERY + _BY_KEY)})),
        ),
        Link(
            "<=",
            lam * (sp.Abs(_BY_QUERY) + sp.Abs(_BY_KEY)),
            "triangle inequality",
            Scaled(lam, Lemma(TRIANGLE, {a: _BY_QUERY, b: _BY_KEY})),
        ),
        Link(
            "=",
            2
            * lam
            * (
                sp.Abs(z_s - z) / 2 * sp.Abs(MIDDLE_KEY)
                + sp.Abs(MIDDLE_QUERY) * sp.Abs(w_u - w) / 2
            ),
            "moduli of products; half a step each",
            Identity(),
        ),
    ),
)


class HalfSum(Finite):
    """HalfSum(p, q, h, d): norms of two real vectors, of half their sum and of half their
    difference."""

    says = (
        "two real vectors of norms {0} and {1} have a half sum of norm {2} and a half difference of"
        " norm {3}"
    )

    def shortest(self) -> tuple[sp.Expr, ...]:
        return (sp.Integer(0),) * 4

    def longer(self) -> tuple[sp.Expr, ...]:
        p, q, h, d = self.args
        one, other = sp.Dummy("x", real=True), sp.Dummy("y", real=True)
        return (
            sp.sqrt(p**2 + one**2),
            sp.sqrt(q**2 + other**2),
            sp.sqrt(h**2 + ((one + other) / 2) ** 2),
            sp.sqrt(d**2 + ((one - other) / 2) ** 2),
        )


_p, _q, _h, _d = sp.symbols("p q h d", nonnegative=True)
PARALLELOGRAM = Derivation(
    "parallelogram law for half sum and half difference",
    _h**2 + _d**2,
    (
        Link(
            "=",
            (_p**2 + _q**2) / 2,
            "by induction over the coordinates",
            Induction(Solver()),
        ),
    ),
    hypotheses=(HalfSum(_p, _q, _h, _d),),
)

A, B = sp.symbols("A B", nonnegative=True)
"""The two angles of the registry's supremum."""
NAMED = {QUERY_ANGLE: A, KEY_ANGLE: B}
SUPREMUM_NAMED = SUPREMUM.xreplace(NAMED)
q, q_later, query_middle, query_half = sp.symbols("q q' p x", nonnegative=True)
k, k_later, key_middle, key_half = sp.symbols("k k' m y", nonnegative=True)

MEANINGS = (
    Changes(whole_change, D_1, D_2, 2 * lam),
    Products(D_1, query_half, key_middle),
    Products(D_2, query_middle, key_half),
    HalfSum(q, q_later, query_middle, query_half),
    HalfSum(k, k_later, key_middle, key_half),
)
NORMS = (
    le(q, QUERY_NORM_MAX),
    le(q_later, QUERY_NORM_MAX),
    le(k, KEY_NORM_MAX),
    le(k_later, KEY_NORM_MAX),
)
LIMITS = (
    *NORMS,
    le(2 * query_half, QUERY_STEP),
    le(2 * key_half, KEY_STEP),
)


def _circle(
    middle: sp.Expr, half: sp.Expr, first: sp.Expr, later: sp.Expr, radius: sp.Expr
) -> tuple[Fact, Fact]:
    return (
        Fact(
            middle**2 + half**2,
            "=",
            (first**2 + later**2) / 2,
            "parallelogram law",
            Lemma(PARALLELOGRAM, {_p: first, _q: later, _h: middle, _d: half}),
        ),
        Fact(
            middle**2 + half**2,
            "<=",
            radius**2,
            "neither norm exceeds the largest",
            Solver(),
        ),
    )


CIRCLES = (
    *_circle(query_middle, query_half, q, q_later, QUERY_NORM_MAX),
    *_circle(key_middle, key_half, k, k_later, KEY_NORM_MAX),
)

START = sp.Abs(whole_change)
"""The change of the logit, summed over the channels."""
SUMMED = (
    Link(
        "<=",
        2 * lam * (D_1 + D_2),
        "the sum over the channels, each by half sums",
        Lemma(CHANGES_SUM, {times: 2 * lam}),
    ),
    Link(
        "<=",
        2 * lam * (query_half * key_middle + query_middle * key_half),
        "Cauchy-Schwarz over the channels",
        Terms(
            (
                (
                    2 * lam,
                    D_1,
                    query_half * key_middle,
                    cauchy_schwarz(D_1, query_half, key_middle),
                ),
                (
                    2 * lam,
                    D_2,
                    query_middle * key_half,
                    cauchy_schwarz(D_2, query_middle, key_half),
                ),
            )
        ),
    ),
)
"""D_1 = sum |dz/2| |(w+w')/2|, D_2 = sum |(z+z')/2| |dw/2|, and the norms of these vectors."""


def angle_of(
    angle: sp.Symbol, radius: sp.Symbol, step: sp.Symbol
) -> tuple[tuple[sp.Basic, ...], tuple[Fact, ...]]:
    """(definition of angle = arcsin min(1, step/(2 radius)), what follows from it)."""
    definition = (
        le(angle, sp.pi / 2),
        sp.Eq(2 * radius * sp.sin(angle), sp.Min(2 * radius, step), evaluate=False),
    )
    facts = (
        Fact(
            sp.Integer(0),
            "<=",
            sp.cos(angle),
            "the angle is at most $\\pi/2$",
            Lemma(COSINE_NONNEGATIVE, {x: angle}),
        ),
        Fact(
            sp.Integer(0),
            "<=",
            sp.sin(angle),
            "the angle lies between 0 and $\\pi$",
            Lemma(SINE_NONNEGATIVE, {x: angle}),
        ),
    )
    return definition, facts


A_MEANS, A_FACTS = angle_of(A, QUERY_NORM_MAX, QUERY_STEP)
B_MEANS, B_FACTS = angle_of(B, KEY_NORM_MAX, KEY_STEP)
SUM_SMALL, SUM_LARGE = le(A + B, sp.pi / 2), sp.Ge(A + B, sp.pi / 2, evaluate=False)
WHOLE, CAPPED = sp.Min(sp.pi / 2, A + B), 2 * lam * QUERY_NORM_MAX * KEY_NORM_MAX

LARGE_STEPS = Derivation(
    r"the supremum is an upper bound where $A + B \ge \pi/2$",
    START,
    (
        *SUMMED,
        Link(
            "<=",
            CAPPED,
            "both vectors (half sum, half step) are no longer than the largest norms",
            Scaled(2 * lam, Solver()),
        ),
        Link(
            "=",
            SUPREMUM_NAMED,
            r"$\sin(\pi/2) = 1$",
            Same(WHOLE, sp.pi / 2, Solver()),
        ),
    ),
    hypotheses=(*MEANINGS, *NORMS, SUM_LARGE),
    facts=CIRCLES,
)

KEY_REST = sp.sqrt(KEY_NORM_MAX**2 - key_half**2)
_LEAN = sp.cos(A) * key_half + sp.sin(A) * KEY_REST

_radius = sp.Symbol("R", positive=True)
_m, _n, _f, _g = sp.symbols("m_1 n_1 f g", nonnegative=True)
_angle = sp.Symbol("phi", real=True)
TURN_ON = Derivation(
    "a vector in a quarter disc turns on towards another, as far as its angle may",
    _m * _f + _n * _g,
    (
        Link(
            "<=",
            _radius * (sp.cos(_angle) * _f + sp.sin(_angle) * _g),
            r"its sine is at most $\sin\varphi$, and at $\varphi$ it has not yet passed (f, g)",
            Solver(),
        ),
    ),
    hypotheses=(
        le(_m**2 + _n**2, _radius**2),
        le(_n, _radius * sp.sin(_angle)),
        le(0, sp.cos(_angle)),
        le(sp.sin(_angle) * _f, sp.cos(_angle) * _g),
    ),
)

SMALL_STEPS = Derivation(
    r"the supremum is an upper bound where $A + B \le \pi/2$",
    START,
    (
        *SUMMED,
        Link(
            "<=",
            2 * lam * (query_half * KEY_REST + query_middle * key_half),
            "the half sum of the keys is as long as their half step allows",
            Scaled(2 * lam, Solver()),
        ),
        Link(
            "<=",
            2 * lam * QUERY_NORM_MAX * _LEAN,
            "the query takes its largest step: it has not yet passed the key",
            Scaled(
                2 * lam,
                Lemma(
                    TURN_ON,
                    {
                        _m: query_middle,
                        _n: query_half,
                        _f: key_half,
                        _g: KEY_REST,
                        _radius: QUERY_NORM_MAX,
                        _angle: A,
                    },
                ),
            ),
        ),
        Link(
            "<=",
            CAPPED * sp.sin(A + B),
            "and so does the key; addition formula",
            Scaled(
                2 * lam * QUERY_NORM_MAX,
                Lemma(
                    TURN_ON,
                    {
                        _m: KEY_REST,
                        _n: key_half,
                        _f: sp.sin(A),
                        _g: sp.cos(A),
                        _radius: KEY_NORM_MAX,
                        _angle: B,
                    },
                ),
            ),
        ),
        Link("=", SUPREMUM_NAMED, "the smaller of the two", Same(WHOLE, A + B, Solver())),
    ),
    # that neither angle exceeds pi/2 follows from the sum
    hypotheses=(*MEANINGS, *LIMITS, A_MEANS[1], B_MEANS[1], SUM_SMALL),
    facts=(
        *CIRCLES,
        *A_FACTS,
        *B_FACTS,
        Fact(
            sp.Integer(0),
            "<=",
            sp.cos(A + B),
            r"$A + B \le \pi/2$",
            Lemma(COSINE_NONNEGATIVE, {x: A + B}),
        ),
        Fact(
            query_half,
            "<=",
            QUERY_NORM_MAX * sp.sin(A),
            "half a step is at most the norm, and at most half the largest step",
            Solver(),
        ),
        Fact(
            key_half,
            "<=",
            KEY_NORM_MAX * sp.sin(B),
            "the same for keys",
            Solver(),
        ),
        Fact(
            sp.sin(A) * key_half,
            "<=",
            sp.cos(A) * KEY_REST,
            r"the angle of the key is at most $B \le \pi/2 - A$",
            Solver(),
        ),
    ),
)

NEVER_REACHED = Derivation(
    r"$\lambda(Q + K)\varepsilon$ is never reached",
    START,
    (
        *SUMMED,
        Link(
            "<",
            GLOBAL_CONSTANT * EPSILON,
            "a half sum is shorter than the largest norm as soon as there is a step",
            Scaled(lam, Solver()),
        ),
    ),
    hypotheses=(*MEANINGS, *LIMITS, sp.Gt(EPSILON, 0, evaluate=False)),
    facts=CIRCLES,
)
