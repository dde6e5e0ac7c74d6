"""Rows, and heads, that attain the distance."""

from __future__ import annotations

import sympy as sp

from proofs.attention_distance.rows import (
    GROWING,
    MIDDLE,
    SHRINKING,
    Case,
    root_gained,
    root_lost,
    stretch,
)
from proofs.attention_distance.shifts import j
from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Link
from proofs.engine.relations import le
from proofs.lemmas.attention import (
    Exponentials,
)
from proofs.shift_bound.proof import STEP, TURN
from tappa_theory.shift_identity import (
    BOUND,
    LOGIT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
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
from tappa_theory.theorems.attention_distance import (
    BOUND_MAX,
    DISTANCE,
    GAINED,
    LOST,
    MASS,
    MASS_LATER,
    OMEGA,
    OSCILLATION,
    SAME_KEYS,
)


def _apart(first: sp.Expr, second: sp.Expr, gained: sp.Expr, lost: sp.Expr) -> sp.Expr:
    """Distance of two rows that change the masses of two common keys so."""
    return (gained + lost + sp.Abs(first) + sp.Abs(second)) / 2


Masses = tuple[sp.Expr, sp.Expr]


Needed = tuple[tuple[sp.Rel, ...], tuple[sp.Rel, ...]]


def _attained(
    case: Case, before: Masses, after: Masses, needed: Needed = ((), ())
) -> tuple[Derivation, ...]:
    """The two keys of the witness have masses, of the right sums and odds, and attain the bound.

    needed: what the first and the second mass need to be none below 0. That they attain the
    formula needs the case; sums and odds are right in every case.
    """
    (p, q), (p_later, q_later) = before, after

    def derived(
        words: str, left: sp.Expr, relation: str, right: sp.Expr, *within: sp.Rel
    ) -> Derivation:
        return Derivation(
            f"{case.title}: {words}",
            left,
            (Link(relation, right, "as they are chosen", Exponentials(Solver())),),
            hypotheses=within,
            example=case.example,
        )

    return (
        derived("the first mass", sp.Integer(0), "<=", p, *needed[0]),
        derived("the second mass", sp.Integer(0), "<=", q, *needed[1]),
        derived("they are the common ones", p + q, "=", 1 - case.at[LOST]),
        derived("and so are the later ones", p_later + q_later, "=", 1 - case.at[GAINED]),
        derived(r"the odds grow by $e^\omega$", p_later * q, "=", sp.exp(OMEGA) * p * q_later),
        derived(
            "the distance",
            _apart(p_later - p, q_later - q, case.at[GAINED], case.at[LOST]),
            "=",
            DISTANCE.subs(case.at, simultaneous=True),
            *case.hypotheses,
        ),
    )


_FIRST = root_lost**2 * (stretch - 1) / (sp.exp(OMEGA) - 1)
_SECOND = root_lost**2 - _FIRST
_HALVES = (root_lost**2 / 2, root_lost**2 / 2)
_ODDS_R = (
    root_gained**2 * sp.exp(OMEGA) / (1 + sp.exp(OMEGA)),
    root_gained**2 / (1 + sp.exp(OMEGA)),
)

ATTAINED = (
    *_attained(
        MIDDLE,
        (_FIRST, _SECOND),
        (stretch * _FIRST, stretch * sp.exp(-OMEGA) * _SECOND),
        ((le(1, stretch),), (le(stretch, sp.exp(OMEGA)),)),
    ),
    *_attained(SHRINKING, _HALVES, _ODDS_R),
    *_attained(GROWING, _HALVES, _ODDS_R),
)

MASS_ATTAINED = Derivation(
    "a set of keys that all grow by the largest factor, the others by the smallest",
    MASS * sp.exp(OMEGA) / (MASS * sp.exp(OMEGA) + 1 - MASS),
    (Link("=", MASS_LATER, "both sides times $e^{-\\omega}$", Exponentials(Solver())),),
)


start = sp.Symbol("x", real=True)
drift, length = sp.symbols("d k", nonnegative=True)
"""Of the witness: the query before, its drift along the key, and the norm of the keys."""
_TOWARDS = sp.exp(-sp.I * (t - i) * theta)
_DIAGONAL = {u: s, z: start * _TOWARDS, z_s: (start + drift) * _TOWARDS, w: length, w_u: length}
_STILL = {theta: sp.Integer(0), z: start, z_s: start + drift, w: length, w_u: length}
_ALIGNED = sp.conjugate(TURN * (STEP - 1)) * w
_TURNING = {z: _ALIGNED, z_s: _ALIGNED, w_u: w}


def _opposite(expression: sp.Expr, at: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """The expression for a key at j that is, after RoPE, minus the key at i."""
    back = -sp.exp(sp.I * (i - j) * theta)
    keys = {w: back * at.get(w, w), w_u: back * at[w_u]}
    there = expression.subs(i, j).subs({**at, **keys}, simultaneous=True)
    return there.subs(theta, at.get(theta, theta))


def _equal(title: str, left: sp.Expr, right: sp.Expr) -> Derivation:
    return Derivation(title, left, (Link("=", right, "by substitution", Identity()),))


def _on_head(title: str, at: dict[sp.Symbol, sp.Expr]) -> tuple[Derivation, ...]:
    """Two opposite keys, a query along them: (B) is attained with both signs, at any odds."""

    def both(expression: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        return expression.subs(at, simultaneous=True), _opposite(expression, at)

    (change_i, change_j), (bound_i, bound_j) = both(SHIFT_DIFFERENCE), both(BOUND)
    logit_i, logit_j = both(LOGIT)
    return (
        _equal(
            f"{title}: the oscillation is twice the bound",
            change_i - change_j,
            OSCILLATION.subs(BOUND_MAX, bound_i),
        ),
        _equal(f"{title}: the bound is that of both keys", bound_j, bound_i),
        _equal(
            f"{title}: the earlier logits are as far apart as the query makes them",
            logit_i - logit_j,
            2 * lam * start * length,
        ),
    )


_TURN_BOUND = BOUND.subs(_TURNING, simultaneous=True)

ON_HEAD = (
    *_on_head("equal shifts, any frequency", _DIAGONAL),
    *_on_head("any shift, a channel that does not turn", _STILL),
)
TURNING = tuple(
    _equal(f"a turn without drift: {words}", left, sign * _TURN_BOUND / 2)
    for words, left, sign in (
        ("the logit before", LOGIT.subs(_TURNING, simultaneous=True), -1),
        ("the logit after", SHIFTED_LOGIT.subs(_TURNING, simultaneous=True), 1),
        ("of the other key before", _opposite(LOGIT, _TURNING), 1),
        ("and after", _opposite(SHIFTED_LOGIT, _TURNING), -1),
    )
)
TWO_KEYS = Derivation(
    "opposite logits that change sign",
    sp.exp(BOUND_MAX / 2) / (sp.exp(BOUND_MAX / 2) + sp.exp(-BOUND_MAX / 2))
    - sp.exp(-BOUND_MAX / 2) / (sp.exp(BOUND_MAX / 2) + sp.exp(-BOUND_MAX / 2)),
    (
        Link(
            "=",
            SAME_KEYS.subs(OMEGA, OSCILLATION),
            "a difference of two shares",
            Exponentials(Solver()),
        ),
    ),
)
