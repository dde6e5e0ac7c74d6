"""Theorem 5.1: the logit of one key by bound (B), and what keeps it in sight."""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Lemma, Link, Scaled
from proofs.engine.relations import le
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import REAL_PART, SINE_OF_MULTIPLE, TRIANGLE, Multiple, a, b
from proofs.shift_bound.proof import CHANNEL, TURN
from tappa_theory.shift_identity import (
    LOGIT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    i,
    lam,
    rotation_residual,
    s,
    t,
    theta,
    u,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems.attention_distance import KEY_DISTANCE
from tappa_theory.theorems.re_access import (
    GAP,
    GAP_TOGETHER,
    KEY_BOUND,
    RIVAL_BOUND,
    SEVERAL_STEPS,
    SHIFT,
    THEOREM,
    tau,
)

SAME_KEY = {w_u: w}


def at_shift(expression: sp.Expr, steps: sp.Expr) -> sp.Expr:
    """The expression of one channel at the shift (steps, 0), the key being one and the same."""
    return expression.subs({s: steps, u: sp.Integer(0)}, simultaneous=True).subs(SAME_KEY)


def _column(title: str, steps: sp.Expr, bound: sp.Expr) -> Derivation:
    at = f"$({sp.latex(steps)}, 0)$"
    return Derivation(
        title,
        sp.Abs(at_shift(SHIFT_DIFFERENCE, steps)),
        (
            Link(
                "<=",
                bound.subs(SAME_KEY),
                f"bound (B) at the shift {at}; a key does not drift against itself",
                Lemma(CHANNEL, {s: steps, u: sp.Integer(0), w_u: w}),
            ),
        ),
    )


ONE_STEP = _column("a column after one step, one channel", SHIFT[0], THEOREM.bound)
TAU_STEPS = _column(r"a column after $\tau$ steps, one channel", tau, SEVERAL_STEPS)

_MULTIPLE = Multiple(tau, sp.cos(tau * theta / 2), sp.sin(tau * theta / 2), theta / 2)
TAU_FOLD = Derivation(
    r"the rotation term grows at most $\tau$-fold, one channel",
    rotation_residual(tau * theta),
    (
        Link(
            "<=",
            tau * rotation_residual(theta),
            SINE_OF_MULTIPLE.title,
            Scaled(
                2 * lam * sp.Abs(z) * sp.Abs(w),
                Lemma(
                    SINE_OF_MULTIPLE,
                    dict(zip(SINE_OF_MULTIPLE.hypotheses[0].args, _MULTIPLE.args, strict=True)),
                ),
            ),
        ),
    ),
    hypotheses=(_MULTIPLE,),
)

gamma, grow = sp.symbols("gamma rho", nonnegative=True)
HALF = sp.sin(tau * theta / 2)
_TOWARDS = grow * HALF * sp.conjugate(TURN * sp.I * sp.exp(sp.I * tau * theta / 2)) * w
WITNESS = {z: _TOWARDS, z_s: _TOWARDS * (1 + gamma * (1 - sp.exp(-sp.I * tau * theta)))}
"""z is a nonnegative multiple of conj(exp(i(t-i) theta) (exp(i tau theta) - 1)) w."""
ATTAINED = 2 * lam * grow * (1 + gamma) * HALF**2 * sp.Abs(w) ** 2

_ALONG = grow * sp.conjugate(TURN) * w
ALONG = {z: _ALONG, z_s: z + gamma * z}
"""The query grows along itself and lies along the key as the key is seen from it."""
turns = sp.Symbol("k", integer=True, nonnegative=True)
RESONANT = {theta: 2 * sp.pi * turns / tau}


def _attained(title: str, value: sp.Expr, witness: dict[sp.Symbol, sp.Expr]) -> Derivation:
    return Derivation(
        title,
        at_shift(SHIFT_DIFFERENCE, tau),
        (
            Link("=", value, "the changes are nonnegative multiples of one number", AtChosen()),
            Link("=", at_shift(SEVERAL_STEPS, tau), "and so are their moduli", AtChosen()),
        ),
        hypotheses=chosen(witness),
    )


COLUMN_SHARP = _attained(r"the witness attains (B) at $(\tau, 0)$, one channel", ATTAINED, WITNESS)
COLUMN_SHARP_RESONANT = _attained(
    r"where $\tau\theta = 2\pi k$: a query along the key attains it",
    lam * gamma * grow * sp.Abs(w) ** 2,
    RESONANT | ALONG,
)
POSITIVE = Derivation(
    r"what the witness attains is not 0 unless $\tau\theta$ is a multiple of $2\pi$",
    sp.Integer(0),
    (Link("<", ATTAINED, "every factor is positive", Solver()),),
    hypotheses=(
        sp.Ne(HALF, 0),
        sp.Gt(sp.Abs(w), 0, evaluate=False),
        sp.Gt(grow, 0),
    ),
)

# --- what a column needs -----------------------------------------------------------------------

ahead, behind, ahead_later, behind_later = sp.symbols("a_j a_i a'_j a'_i", real=True)
STAYS_AHEAD = Derivation(
    "a key stays ahead of a rival across a logit gap",
    sp.Integer(0),
    (
        Link(
            "<",
            ahead_later - behind_later,
            "one logit falls and the other rises by no more than their bounds",
            Solver(),
        ),
    ),
    hypotheses=(
        le(sp.Abs(ahead_later - ahead), KEY_BOUND),
        le(sp.Abs(behind_later - behind), RIVAL_BOUND),
        sp.Gt(ahead - behind, GAP, evaluate=False),
    ),
)

j = sp.Symbol("j", integer=True, nonnegative=True)
key, rival = sp.symbols("k_i k_j", complex=True)
"""One channel of the key at position i and of the rival at position j, after RoPE."""
_TURNED_QUERY = sp.exp(sp.I * tau * theta) * z_s - z
_TOGETHER = sp.exp(sp.I * t * theta) * _TURNED_QUERY * sp.conjugate(key - rival)


def _change(after_rope: sp.Expr, place: sp.Expr) -> sp.Expr:
    """Logit change over tau steps of the key that stands at a place, one channel."""
    at = at_shift(SHIFTED_LOGIT - LOGIT, tau)
    return at.subs({w: sp.exp(-sp.I * place * theta) * after_rope, i: place}, simultaneous=True)


LEAD = Derivation(
    "change of the lead of a key over a rival that the same query sees, one channel",
    _change(key, i) - _change(rival, j),
    (
        Link(
            "=",
            lam * sp.re(_TOGETHER, evaluate=False),
            "the query step after RoPE, times the difference of both keys after RoPE",
            Identity(),
        ),
    ),
)

LEAD_TOGETHER = Derivation(
    "and its bound, one channel",
    lam * sp.Abs(sp.re(_TOGETHER)),
    (
        Link(
            "<=",
            lam * sp.Abs(_TOGETHER),
            "a real part is no larger than the modulus",
            Scaled(lam, Lemma(REAL_PART, {a: _TOGETHER})),
        ),
        Link("=", GAP_TOGETHER, "turns have modulus 1", AtChosen()),
    ),
    hypotheses=chosen({KEY_DISTANCE: sp.Abs(key - rival)}),
)

_STEP_LENGTH = sp.Abs(z_s - z) + 2 * sp.Abs(sp.sin(tau * theta / 2)) * sp.Abs(z)
SEPARATE_IS_LARGER = Derivation(
    "it is no larger than both bounds (B) together, one channel",
    GAP_TOGETHER,
    (
        Link(
            "=",
            lam * sp.Abs(_TURNED_QUERY) * sp.Abs(key - rival),
            "the distance of the keys",
            AtChosen(),
        ),
        Link(
            "<=",
            lam * sp.Abs(_TURNED_QUERY) * (sp.Abs(key) + sp.Abs(rival)),
            "triangle inequality of the keys",
            Scaled(lam * sp.Abs(_TURNED_QUERY), Lemma(TRIANGLE, {a: key, b: -rival})),
        ),
        Link(
            "<=",
            lam * _STEP_LENGTH * (sp.Abs(key) + sp.Abs(rival)),
            "triangle inequality of drift and turn",
            Scaled(
                lam * (sp.Abs(key) + sp.Abs(rival)),
                Lemma(
                    TRIANGLE,
                    {
                        a: sp.exp(sp.I * tau * theta) * (z_s - z),
                        b: (sp.exp(sp.I * tau * theta) - 1) * z,
                    },
                ),
            ),
        ),
        Link(
            "=",
            SEVERAL_STEPS.subs({w: key, w_u: key}) + SEVERAL_STEPS.subs({w: rival, w_u: rival}),
            r"(B) at $(\tau, 0)$ for both keys; RoPE keeps their norms",
            Identity(),
        ),
    ),
    hypotheses=chosen({KEY_DISTANCE: sp.Abs(key - rival)}),
)
