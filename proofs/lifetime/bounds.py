"""Lifetime, the bounds: how far a query may move until other keys overtake.

The key at i is ahead of its rival at i + u. Moduli of differences are taken after RoPE, written
with the vectors before it: the common factors exp(i t theta), exp(i i theta) have modulus 1.
"""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Lemma, Link, Scaled, Terms
from proofs.engine.relations import eq, le, lt
from proofs.lemmas.finite import (
    CAUCHY_SCHWARZ,
    CAUCHY_SCHWARZ_SUM,
    REAL_PART,
    TRIANGLE,
    InnerProduct,
    Products,
    a,
    b,
    first_norm,
    inner,
    second_norm,
)
from tappa_theory.shift_identity import (
    LOGIT,
    i,
    lam,
    s,
    t,
    theta,
    u,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems.attention_distance import BOUND_MAX, OSCILLATION
from tappa_theory.theorems.lifetime import (
    BY_NORMS,
    BY_STEPS,
    DISTANCE,
    KEY_DISTANCE,
    MARGIN,
    MARGIN_CHANGE,
    MOVE,
    NEW_KEY,
    QUERY_MOVE,
    STEP,
    STEP_BEFORE,
    STEP_OF,
)

LATER = {z: z_s, t: t + s}
MARGIN_LATER = MARGIN.subs(LATER, simultaneous=True)
RIVAL = {w: w_u, i: i + u}
RIVAL_LOGIT = LOGIT.subs(RIVAL, simultaneous=True)
RIVAL_LATER = RIVAL_LOGIT.subs(LATER, simultaneous=True)
LOGIT_LATER = LOGIT.subs(LATER, simultaneous=True)


def turn(position: sp.Expr) -> sp.Expr:
    """exp(i position theta)."""
    return sp.exp(sp.I * position * theta)


LEAD = w * turn(i) - w_u * turn(i + u)
"""Key less rival, after RoPE."""
MOVED = turn(t) * (turn(s) * z_s - z)
"""Query at t + s less query at t, after RoPE."""

# --- the margin --------------------------------------------------------------------------------

CHANGE = Derivation(
    "how much the margin can change, one channel",
    sp.Abs(MARGIN_LATER - MARGIN),
    (
        Link(
            "=",
            lam * sp.Abs(sp.re(MOVED * sp.conjugate(LEAD))),
            "the keys after RoPE are the same at both steps",
            Identity(),
        ),
        Link(
            "<=",
            lam * sp.Abs(MOVED * sp.conjugate(LEAD)),
            "a real part is no larger than the modulus",
            Scaled(lam, Lemma(REAL_PART, {a: MOVED * sp.conjugate(LEAD)})),
        ),
        Link("=", MARGIN_CHANGE, "a turn has modulus 1", Identity()),
    ),
)

margin, margin_later = sp.symbols("margin margin_later", real=True)
total = sp.Symbol("total", nonnegative=True)
STAYS = Derivation(
    "a margin above its largest change stays positive",
    sp.Integer(0),
    (Link("<", margin_later, "it loses less than it has", Solver()),),
    hypotheses=(le(sp.Abs(margin_later - margin), total), lt(total, margin)),
)

g = sp.Symbol("g", real=True)
NORMS = Derivation(
    "the change of the margin by norms, whole vectors",
    lam * sp.Abs(g),
    (
        Link(
            "<=",
            BY_NORMS,
            "Cauchy-Schwarz: g is the inner product of the move with the difference of the keys",
            Scaled(lam, Lemma(CAUCHY_SCHWARZ, {inner: g, first_norm: MOVE, second_norm: DISTANCE})),
        ),
    ),
    hypotheses=(InnerProduct(g, MOVE, DISTANCE),),
)

products = sp.Symbol("G", real=True)
NORMS_WEAKER = Derivation(
    "norms never allow less than the sum over channels does",
    lam * products,
    (
        Link(
            "<=",
            BY_NORMS,
            "Cauchy-Schwarz: G sums the products of the moduli",
            Scaled(
                lam,
                Lemma(
                    CAUCHY_SCHWARZ_SUM, {inner: products, first_norm: MOVE, second_norm: DISTANCE}
                ),
            ),
        ),
    ),
    hypotheses=(Products(products, MOVE, DISTANCE),),
)

# --- by single steps ---------------------------------------------------------------------------

z_next = sp.Symbol("z_next", complex=True)
"""Query channel one step after z_s."""
NEXT_STEP = sp.Abs(turn(1) * z_next - z_s)

MOVES_ADD = Derivation(
    "moves add up: one more step",
    sp.Abs(turn(s + 1) * z_next - z),
    (
        Link(
            "=",
            sp.Abs(turn(s) * (turn(1) * z_next - z_s) + (turn(s) * z_s - z)),
            "the last step and those before it",
            Identity(),
        ),
        Link(
            "<=",
            sp.Abs(turn(s) * (turn(1) * z_next - z_s)) + QUERY_MOVE,
            "triangle inequality",
            Lemma(TRIANGLE, {a: turn(s) * (turn(1) * z_next - z_s), b: turn(s) * z_s - z}),
        ),
        Link("=", NEXT_STEP + QUERY_MOVE, "a turn has modulus 1", Identity()),
        Link(
            "<=",
            (s + 1) * STEP,
            "no step is longer than the longest; by induction, no step moves nothing",
            Solver(),
        ),
    ),
    hypotheses=(le(NEXT_STEP, STEP), le(QUERY_MOVE, s * STEP)),
)

STEPS = Derivation(
    "the change of the margin by single steps, one channel",
    MARGIN_CHANGE,
    (
        Link(
            "<=",
            BY_STEPS,
            "s steps move the query by s times the longest at most",
            Scaled(lam * KEY_DISTANCE, Solver()),
        ),
    ),
    hypotheses=(le(QUERY_MOVE, s * STEP),),
)

ONE_STEP = Derivation(
    "the move of one step, from the drift before RoPE",
    sp.Abs(turn(1) * z_s - z),
    (
        Link(
            "=",
            sp.Abs(turn(1) * (z_s - z) + (turn(1) - 1) * z),
            "the drift, turned, and the turn of the earlier channel",
            Identity(),
        ),
        Link(
            "<=",
            sp.Abs(turn(1) * (z_s - z)) + sp.Abs((turn(1) - 1) * z),
            "triangle inequality",
            Lemma(TRIANGLE, {a: turn(1) * (z_s - z), b: (turn(1) - 1) * z}),
        ),
        Link(
            "=",
            sp.Abs(z_s - z) + 2 * sp.Abs(sp.sin(theta / 2)) * sp.Abs(z),
            r"$|e^{\mathrm i\theta} - 1| = 2|\sin(\theta/2)|$",
            Identity(),
        ),
        Link("=", STEP_OF, "the drift before RoPE", Solver()),
    ),
    hypotheses=(eq(sp.Abs(z_s - z), STEP_BEFORE),),
)

# --- new keys ----------------------------------------------------------------------------------

BELOW_MODULUS = Derivation(
    "a real part is not above the modulus",
    sp.re(a),
    (Link("<=", sp.Abs(a), "the imaginary part adds a square", Solver()),),
)

OVERTAKING = Derivation(
    "how far a new key can get ahead, one channel",
    RIVAL_LATER - LOGIT_LATER + LOGIT,
    (
        Link(
            "=",
            lam * sp.re(turn(t + s - i - u) * z_s * sp.conjugate(w_u))
            + lam * sp.re(-MOVED * sp.conjugate(w * turn(i))),
            "the logit of the new key, and what the key loses",
            Identity(),
        ),
        Link(
            "<=",
            lam * sp.Abs(turn(t + s - i - u) * z_s * sp.conjugate(w_u))
            + lam * sp.Abs(-MOVED * sp.conjugate(w * turn(i))),
            "real parts are not above the moduli",
            Terms(
                tuple(
                    (lam, sp.re(part), sp.Abs(part), Lemma(BELOW_MODULUS, {a: part}))
                    for part in (
                        turn(t + s - i - u) * z_s * sp.conjugate(w_u),
                        -MOVED * sp.conjugate(w * turn(i)),
                    )
                )
            ),
        ),
        Link("=", NEW_KEY, "a turn has modulus 1", Identity()),
    ),
)

logit, ahead = sp.symbols("logit ahead", real=True)
NOT_OVERTAKEN = Derivation(
    "a logit above what a new key can reach keeps the key in front of it",
    sp.Integer(0),
    (Link("<", -ahead, "ahead = logit of the new key less logit of the key at t + s", Solver()),),
    hypotheses=(le(ahead + logit, total), lt(total, logit)),
)

# --- top k -------------------------------------------------------------------------------------

inside, outside, change_in, change_out, gap, omega = sp.symbols(
    "a_in a_out change_in change_out gap omega", real=True
)
"""A logit of the top k and one of the others, at t; their changes; the gap between the k-th and the
(k+1)-th common column; the oscillation of the changes."""
LEAD_LATER = (inside + change_in) - (outside + change_out)

TOP_K = Derivation(
    "an oscillation below the gap keeps the top k",
    sp.Integer(0),
    (
        Link("<", gap - omega, "the oscillation is below the gap", Solver()),
        Link("<=", LEAD_LATER, "the two columns come no closer than by the oscillation", Solver()),
    ),
    hypotheses=(
        le(gap, inside - outside),
        le(change_out - change_in, omega),
        lt(omega, gap),
    ),
)

TWICE_THE_BOUND = Derivation(
    "the oscillation is at most twice the largest bound",
    change_out - change_in,
    (Link("<=", OSCILLATION, "each change is at most the bound of its column", Solver()),),
    hypotheses=(le(sp.Abs(change_out), BOUND_MAX), le(sp.Abs(change_in), BOUND_MAX)),
)
