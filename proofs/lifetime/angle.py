"""Lifetime by angles: the key on top depends on the direction of the query alone.

After RoPE, whole vectors: q at t, p at t + s, and d, the key less its rival. psi is the angle from
q to p, and beta the complement of the angle from q to d: the rival is behind up to psi = beta.
"""

from __future__ import annotations

from typing import ClassVar

import sympy as sp

from proofs.engine.arcs import COSINE_NONNEGATIVE, SINE_NONNEGATIVE, Arcsine, ByCosines, x
from proofs.engine.balls import Balls
from proofs.engine.certificates import BySquares, Identity, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link
from proofs.engine.relations import eq, le, lt
from proofs.lemmas.finite import Finite, Induction
from tappa_theory.shift_identity import lam
from tappa_theory.theorems.lifetime import BY_ANGLE, BY_NORMS, DISTANCE, LEAD, MOVE, QUERY_NORM


class Across(Finite):
    """Across(qq, pp, dd, qp, qd, pd, a, b, g, A, B): inner products of vectors q, p, d; g is the
    inner product of p - a q and d - b q, A and B are their norms."""

    says: ClassVar[str] = (
        "vectors q, p, d have the squared norms {0}, {1}, {2} and the inner products qp {3}, qd {4}"
        " and pd {5}; p - {6} q and d - {7} q have inner product {8} and norms {9} and {10}"
    )

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return (zero,) * 6 + (*self.args[6:8], zero, zero, zero)

    def longer(self) -> tuple[sp.Expr, ...]:
        qq, pp, dd, qp, qd, pd, a, b, g, first, second = self.args
        q, p_left, d_left = sp.symbols("q p_left d_left", real=True, cls=sp.Dummy)
        p, d = p_left + a * q, d_left + b * q
        return (
            *(qq + q**2, pp + p**2, dd + d**2, qp + q * p, qd + q * d, pd + p * d, a, b),
            g + p_left * d_left,
            sp.sqrt(first**2 + p_left**2),
            sp.sqrt(second**2 + d_left**2),
        )


qq, pp, dd = sp.symbols("qq pp dd", nonnegative=True)
qp, qd, pd, along_p, along_d, left = sp.symbols("qp qd pd a b g", real=True)
norm_p, norm_d = sp.symbols("A B", nonnegative=True)
ACROSS_QUERY = Across(qq, pp, dd, qp, qd, pd, along_p, along_d, left, norm_p, norm_d)


def _sum(title: str, start: sp.Expr, end: sp.Expr) -> Derivation:
    link = Link("=", end, "by induction over the coordinates", Induction(Solver()))
    return Derivation(title, start, (link,), hypotheses=(ACROSS_QUERY,))


ACROSS_PRODUCT = _sum(
    "inner product of two vectors less multiples of a third",
    left,
    pd - along_p * qd - along_d * qp + along_p * along_d * qq,
)
ACROSS_P = _sum(
    "squared norm of a vector less a multiple of another",
    norm_p**2,
    pp - 2 * along_p * qp + along_p**2 * qq,
)
ACROSS_D = _sum("and of the other one", norm_d**2, dd - 2 * along_d * qd + along_d**2 * qq)
ACROSS_CAUCHY = Derivation(
    "Cauchy-Schwarz for the two",
    sp.Abs(left),
    (
        Link(
            "<=",
            norm_p * norm_d,
            "by induction over the coordinates",
            Induction(BySquares(Solver())),
        ),
    ),
    hypotheses=(ACROSS_QUERY,),
)

QUERY_NORM_S = sp.Symbol("query_norm_s", positive=True)
psi = sp.Symbol("psi", nonnegative=True)
beta = sp.Symbol("beta", nonnegative=True)
SINE_POSITIVE = Derivation(
    "a sine is positive above 0 and up to a right angle",
    sp.Integer(0),
    (
        Link(
            "<",
            sp.sin(x),
            "it vanishes at 0 with the slope 1",
            Balls(x, sp.Integer(0), sp.pi / 2, zero_at_low=1),
        ),
    ),
    hypotheses=(lt(0, x), le(x, sp.pi / 2)),
)

_AT = {
    qq: QUERY_NORM**2,
    pp: QUERY_NORM_S**2,
    dd: DISTANCE**2,
    qp: QUERY_NORM * QUERY_NORM_S * sp.cos(psi),
    qd: QUERY_NORM * DISTANCE * sp.sin(beta),
    along_p: QUERY_NORM_S * sp.cos(psi) / QUERY_NORM,
    along_d: DISTANCE * sp.sin(beta) / QUERY_NORM,
}
"""Inner products from norms and angles; p and d less their parts along q."""
UP_TO_PI, ACUTE = le(psi, sp.pi), le(beta, sp.pi / 2)

NOT_NEGATIVE = (
    Fact(
        sp.Integer(0),
        "<=",
        sp.sin(psi),
        r"$\psi$ lies between 0 and $\pi$",
        Lemma(SINE_NONNEGATIVE, {x: psi}),
    ),
    Fact(
        sp.Integer(0),
        "<=",
        sp.cos(beta),
        r"$\beta$ is at most a right angle",
        Lemma(COSINE_NONNEGATIVE, {x: beta}),
    ),
)

LATER_LEAD = Derivation(
    "what is left of the lead when the query has turned",
    lam * QUERY_NORM_S * DISTANCE * sp.sin(beta - psi),
    (
        Link(
            "=",
            lam
            * QUERY_NORM_S
            * DISTANCE
            * (sp.sin(beta) * sp.cos(psi) - sp.cos(beta) * sp.sin(psi)),
            "sine of a difference",
            Identity(),
        ),
        Link(
            "=",
            lam * (QUERY_NORM_S * DISTANCE * sp.sin(beta) * sp.cos(psi) - norm_p * norm_d),
            "the norms of the parts across q, by Pythagoras",
            Solver(),
        ),
        Link("<=", lam * pd, "Cauchy-Schwarz for the parts across q", Solver()),
    ),
    hypotheses=(ACROSS_QUERY.subs(_AT, simultaneous=True), UP_TO_PI, ACUTE),
    facts=(
        *NOT_NEGATIVE,
        Fact(
            norm_p**2,
            "=",
            ACROSS_P.end.subs(_AT, simultaneous=True),
            "p less its part along q",
            Lemma(ACROSS_P, _AT),
        ),
        Fact(norm_p, "=", QUERY_NORM_S * sp.sin(psi), "its norm", Solver()),
        Fact(
            norm_d**2,
            "=",
            ACROSS_D.end.subs(_AT, simultaneous=True),
            "d less its part along q",
            Lemma(ACROSS_D, _AT),
        ),
        Fact(norm_d, "=", DISTANCE * sp.cos(beta), "its norm", Solver()),
        Fact(
            left,
            "=",
            ACROSS_PRODUCT.end.subs(_AT, simultaneous=True),
            "their inner product",
            Lemma(ACROSS_PRODUCT, _AT),
        ),
        Fact(sp.Abs(left), "<=", norm_p * norm_d, "Cauchy-Schwarz", Lemma(ACROSS_CAUCHY, _AT)),
    ),
)

STAYS_AHEAD = Derivation(
    "a query that turns by less keeps the key in front, however its norm changes",
    sp.Integer(0),
    (
        Link(
            "<",
            lam * QUERY_NORM_S * DISTANCE * sp.sin(beta - psi),
            "no factor vanishes",
            Solver(),
        ),
        Link("<=", lam * pd, "what is left of the lead", Lemma(LATER_LEAD, {})),
    ),
    hypotheses=(LATER_LEAD.hypotheses[0], ACUTE, lt(psi, beta), lt(0, DISTANCE)),
    facts=(
        Fact(
            sp.Integer(0),
            "<",
            sp.sin(beta - psi),
            r"$\beta - \psi$ lies above 0 and is at most a right angle",
            Lemma(SINE_POSITIVE, {x: beta - psi}),
        ),
    ),
)

SINE_OF_LEAD = eq(lam * QUERY_NORM * DISTANCE * sp.sin(beta), LEAD)
LARGEST_TURN = Derivation(
    "beta is the arcsine of the lead over norms",
    beta,
    (Link("=", BY_ANGLE, "the angle is acute", Arcsine(Solver())),),
    hypotheses=(ACUTE, SINE_OF_LEAD),
)

NORMS_IMPLY = Derivation(
    "a query that moves by less than the norms allow turns by less than beta",
    psi,
    (Link("<", beta, "the cosines compare as the sines do", ByCosines(Solver())),),
    hypotheses=(
        UP_TO_PI,
        ACUTE,
        SINE_OF_LEAD,
        eq(
            MOVE**2,
            QUERY_NORM**2 + QUERY_NORM_S**2 - 2 * QUERY_NORM * QUERY_NORM_S * sp.cos(psi),
        ),
        lt(BY_NORMS, LEAD),
    ),
    facts=(
        Fact(beta, "<=", sp.pi, "an acute angle", Solver()),
        *NOT_NEGATIVE,
        Fact(
            MOVE,
            "<",
            QUERY_NORM * sp.sin(beta),
            "the hypothesis, over what both sides have",
            Solver(),
        ),
        Fact(
            sp.Integer(0),
            "<",
            sp.cos(psi),
            "the move is shorter than the query",
            Solver(),
        ),
        Fact(
            QUERY_NORM * sp.sin(psi),
            "<=",
            MOVE,
            "no point of a ray is nearer than the foot of the perpendicular",
            Solver(),
        ),
    ),
    example={
        **{symbol: sp.Integer(1) for symbol in (lam, QUERY_NORM, QUERY_NORM_S, DISTANCE)},
        **{psi: sp.Integer(0), MOVE: sp.Integer(0), LEAD: sp.Rational(1, 2), beta: sp.pi / 6},
    },
)
LONGER_QUERY = Derivation(
    "of a query that grows to twice its length the norms certify nothing: it moves by its norm",
    LEAD,
    (
        Link(
            "<=",
            BY_NORMS.subs(MOVE, QUERY_NORM),
            "a sine is at most 1",
            Solver(),
        ),
    ),
    hypotheses=(SINE_OF_LEAD,),
)
# --- attained ----------------------------------------------------------------------------------

SHARP_TURN = Derivation(
    "in the plane of the query and the two keys nothing more is left of the lead",
    lam
    * sp.re(
        QUERY_NORM_S
        * sp.exp(-sp.I * psi)
        * sp.conjugate(DISTANCE * (sp.sin(beta) + sp.I * sp.cos(beta)))
    ),
    (Link("=", LATER_LEAD.start, "sine of a difference", Identity()),),
)
SHARP_LEAD = Derivation(
    "whose lead at t is that of beta",
    lam * sp.re(QUERY_NORM * sp.conjugate(DISTANCE * (sp.sin(beta) + sp.I * sp.cos(beta)))),
    (Link("=", SINE_OF_LEAD.lhs, "the part along the query", Identity()),),
)
