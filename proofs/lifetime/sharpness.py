"""Lifetime: witnesses that attain the bounds, and what their hypotheses cannot do without."""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Link
from proofs.engine.witness import AtChosen, chosen
from proofs.lifetime.bounds import (
    LEAD,
    LEAD_LATER,
    LOGIT_LATER,
    MARGIN_LATER,
    RIVAL_LATER,
    RIVAL_LOGIT,
    change_in,
    change_out,
    inside,
    omega,
    outside,
    turn,
)
from tappa_theory.shift_identity import (
    BOUND,
    LOGIT,
    SHIFT_DIFFERENCE,
    i,
    lam,
    s,
    t,
    u,
    w,
    w_u,
    z,
    z_s,
)
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
)

# --- attained ----------------------------------------------------------------------------------

rho, nu = sp.symbols("rho nu", positive=True)
kappa = sp.Symbol("kappa", real=True)
ACROSS = {
    z: (rho + sp.I * kappa) * turn(-t) * LEAD,
    z_s: (rho - nu + sp.I * kappa) * turn(-t - s) * LEAD,
}
"""The query moves against the difference of the keys on every channel: by nu of it, of rho."""
LEAD_SQUARED = LEAD * sp.conjugate(LEAD)


SHARP_MARGIN = Derivation(
    "the witness loses all that the bound allows, one channel",
    MARGIN - MARGIN_LATER,
    (
        Link("=", lam * nu * LEAD_SQUARED, "a number times its conjugate", AtChosen()),
        Link("=", MARGIN_CHANGE, "the move is a multiple of the difference", AtChosen(by=Solver())),
    ),
    hypotheses=chosen(ACROSS),
)
SHARP_GAP = Derivation(
    "its margin at t is any multiple of the bound",
    MARGIN,
    (
        Link("=", lam * rho * LEAD_SQUARED, "a number times its conjugate", AtChosen()),
        Link("=", rho / nu * MARGIN_CHANGE, "the multiple is rho/nu", AtChosen(by=Solver())),
    ),
    hypotheses=chosen(ACROSS),
)
SHARP_LEFT = Derivation(
    "and what is left has the sign of rho - nu",
    MARGIN_LATER,
    (Link("=", (rho - nu) * lam * LEAD_SQUARED, "a number times its conjugate", AtChosen()),),
    hypotheses=chosen({z_s: ACROSS[z_s]}),
)

SHARP_NORMS = Derivation(
    "norms: the move against the difference of the keys attains the bound",
    lam * nu * DISTANCE**2,
    (
        Link(
            "=",
            BY_NORMS.subs(MOVE, nu * DISTANCE),
            r"a move of $\nu$ times the difference has $\nu$ times its norm, and the inner product"
            r" of $\nu$ times its squared norm",
            Identity(),
        ),
    ),
)

count = sp.Symbol("n", integer=True, positive=True)
EQUAL_STEPS = {
    s: count,
    z: ACROSS[z],
    z_s: (rho - count * nu + sp.I * kappa) * turn(-t - s) * LEAD,
    STEP: nu * KEY_DISTANCE,
}
"""s steps after RoPE of nu times the difference of the keys, each of the length STEP."""
SHARP_STEPS = Derivation(
    "equal steps against the difference of the keys attain the bound by steps, one channel",
    MARGIN - MARGIN_LATER,
    (
        Link("=", lam * count * nu * LEAD_SQUARED, "a number times its conjugate", AtChosen()),
        Link("=", BY_STEPS, "every step is nu times the difference", AtChosen(by=Solver())),
    ),
    hypotheses=chosen(EQUAL_STEPS),
)
SHARP_EACH_STEP = Derivation(
    "a step of nu times the difference of the keys is that long",
    QUERY_MOVE,
    (Link("=", nu * KEY_DISTANCE, "a turn has modulus 1", AtChosen(by=Solver())),),
    hypotheses=chosen(ACROSS),
)

gamma = sp.Symbol("gamma", positive=True)
ALONG = {
    z: (rho + nu) * turn(i - t) * w,
    z_s: rho * turn(i - t - s) * w,
    w_u: gamma * turn(-u) * w,
}
SHARP_NEW_KEY = Derivation(
    "a new key along the query attains the bound, one channel",
    RIVAL_LATER - LOGIT_LATER + LOGIT,
    (
        Link(
            "=",
            lam * (gamma * rho + nu) * w * sp.conjugate(w),
            "all three vectors have one direction after RoPE",
            AtChosen(),
        ),
        Link("=", NEW_KEY, "and so have their moduli", AtChosen(by=Solver())),
    ),
    hypotheses=chosen(ALONG),
)

SHARP_TOP_K = Derivation(
    "an oscillation that is the gap can make a tie",
    LEAD_LATER.subs({inside: outside + omega, change_out: change_in + omega}),
    (Link("=", sp.Integer(0), "the outer column gains what the gap was", Identity()),),
)

apart = sp.Symbol("apart", integer=True)
OPPOSITE = {w: -turn(-apart) * w, w_u: -turn(-apart) * w_u, i: i + apart}
OPPOSITE_KEYS = Derivation(
    "a key and its opposite change by opposite amounts, one channel",
    SHIFT_DIFFERENCE - SHIFT_DIFFERENCE.subs(OPPOSITE, simultaneous=True),
    (Link("=", 2 * SHIFT_DIFFERENCE, "opposite after RoPE, wherever it stands", Identity()),),
)
OPPOSITE_BOUND = Derivation(
    "and have the same bound",
    BOUND.subs(OPPOSITE, simultaneous=True),
    (Link("=", BOUND, "moduli", Identity()),),
)

# --- counterexamples, for every angular frequency ----------------------------------------------

TURNS_ASIDE = {
    z: turn(-t),
    z_s: (1 + sp.I / 2) * turn(-t - s),
    w: turn(-i),
    lam: sp.Integer(1),
}
RUNNER_UP = {**TURNS_ASIDE, w_u: sp.Rational(9, 10) * turn(-i - u)}
THIRD = {**TURNS_ASIDE, w_u: 4 * sp.I * turn(-i - u)}


def at(values: dict[sp.Symbol, sp.Expr], expression: sp.Expr) -> sp.Expr:
    """The expression there; w, w_u at i, i + u are 1 and a multiple of it after RoPE."""
    return expression.subs(values, simultaneous=True)


RUNNER_UP_SAFE = Derivation(
    "the runner-up cannot overtake",
    at(RUNNER_UP, MARGIN_CHANGE),
    (
        Link("=", sp.Rational(1, 20), "1/2 times 1/10", Identity()),
        Link("<", sp.Rational(1, 10), "numbers", Solver()),
        Link("=", at(RUNNER_UP, MARGIN), "1 less 9/10", Identity()),
    ),
)
THIRD_BEHIND = Derivation(
    "at t the third key is behind the runner-up",
    at(THIRD, RIVAL_LOGIT),
    (
        Link("=", sp.Integer(0), "orthogonal to the query", Identity()),
        Link("<", sp.Rational(9, 10), "numbers", Solver()),
        Link("=", at(RUNNER_UP, RIVAL_LOGIT), "the runner-up", Identity()),
    ),
)
THIRD_OVERTAKES = Derivation(
    "and it overtakes",
    at(THIRD, MARGIN_LATER),
    (
        Link("=", sp.Integer(-1), "1 less 2", Identity()),
        Link("<", sp.Integer(0), "numbers", Solver()),
    ),
)

BACK = {z: turn(-t), z_s: turn(-t - s), w: turn(-i), w_u: -turn(-i - u), lam: sp.Integer(1)}
AWAY = {**BACK, z_s: -turn(-t - s)}
COMES_BACK = Derivation(
    "a query that has come back after s steps has lost nothing",
    at(BACK, MARGIN_CHANGE),
    (
        Link("=", sp.Integer(0), "the same query after RoPE", Identity()),
        Link("<", sp.Integer(2), "numbers", Solver()),
        Link("=", at(BACK, MARGIN), "1 less -1", Identity()),
    ),
)
WAS_AWAY = Derivation(
    "but on the way the rival may have been on top",
    at(AWAY, MARGIN_LATER),
    (
        Link("=", sp.Integer(-2), "the opposite query", Identity()),
        Link("<", sp.Integer(0), "numbers", Solver()),
    ),
)
STRONGER = {**BACK, w_u: 2 * turn(-i - u)}
NEW_AND_STRONGER = Derivation(
    "a stronger new key overtakes a query that does not move",
    at(STRONGER, LOGIT_LATER),
    (
        Link("=", sp.Integer(1), "the key on top", Identity()),
        Link("<", sp.Integer(2), "numbers", Solver()),
        Link("=", at(STRONGER, RIVAL_LATER), "the new key", Identity()),
    ),
)
