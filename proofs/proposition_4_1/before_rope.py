"""Proposition 4.1 before RoPE, as it is published: one channel of the step is drift and turn."""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import (
    CAUCHY_SCHWARZ,
    EQUAL_SUM,
    InnerProduct,
    first_norm,
    inner,
    second_norm,
)
from proofs.proposition_4_1.two_sided import (
    AHEAD,
    ALONG_KEY,
    CHANNEL_CHANGE,
    HOUSEHOLDER,
    ONE_STEP,
    PLACE,
    REFLECTION,
    SINGULAR_VALUE,
    TWO_SIDED_LOWER,
    TWO_SIDED_UPPER,
    g,
    kappa,
    product_max,
    v,
)
from proofs.shift_bound.proof import TURN
from tappa_theory.shift_identity import lam, theta, w, z, z_s
from tappa_theory.theorems.proposition_4_1 import (
    KEY_NORM_MAX,
    KEYS,
    LOWER,
    LOWER_BEFORE,
    SIGMA,
    SLOPE,
    STEP,
    STEP_BEFORE,
    TURNED,
    TURNED_SQUARED,
    UPPER,
    UPPER_BEFORE,
)

HALF = sp.sin(theta / 2)
BISECTOR = sp.I * sp.exp(sp.I * theta / 2)
"""AHEAD - 1 = 2 HALF BISECTOR."""

CHANNEL_STEP = Derivation(
    "the step after RoPE, one channel",
    sp.Abs(PLACE * AHEAD * z_s - PLACE * z) ** 2,
    (
        Link(
            "=",
            sp.Abs(z_s - z) ** 2
            + TURNED_SQUARED
            + 2 * sp.re(AHEAD * (z_s - z) * sp.conjugate((AHEAD - 1) * z), evaluate=False),
            "the step is the drift of the query, turned, and the turn of the old query",
            Identity(),
        ),
    ),
)

DRIFT_LENGTH = Derivation(
    "the turned drift is as long as the drift, one channel",
    sp.Abs(AHEAD * (z_s - z), evaluate=False) ** 2,
    (Link("=", sp.Abs(z_s - z) ** 2, "a turn has modulus 1", Identity()),),
)

TURN_LENGTH = Derivation(
    "length of the turn of the old query, one channel",
    sp.Abs((AHEAD - 1) * z) ** 2,
    (
        Link(
            "=",
            TURNED_SQUARED,
            r"$|e^{\mathrm i\theta} - 1| = 2|\sin(\theta/2)|$",
            Identity(),
        ),
    ),
)

h = sp.Symbol("h", real=True)
"""Inner product of the turned drift and the turn of the old query."""
SPLIT = (
    InnerProduct(h, STEP_BEFORE, TURNED),
    sp.Eq(STEP**2, STEP_BEFORE**2 + TURNED**2 + 2 * h, evaluate=False),
)
_CAUCHY = Fact(
    sp.Abs(h),
    "<=",
    STEP_BEFORE * TURNED,
    "Cauchy-Schwarz",
    Lemma(CAUCHY_SCHWARZ, {inner: h, first_norm: STEP_BEFORE, second_norm: TURNED}),
)

STEP_SHORTER = Derivation(
    "the step after RoPE is at least the drift less the turn",
    STEP_BEFORE - TURNED,
    (Link("<=", STEP, "the squares compare", Solver()),),
    hypotheses=SPLIT,
    facts=(_CAUCHY,),
)

STEP_LONGER = Derivation(
    "the step after RoPE is at most the drift and the turn together",
    STEP,
    (Link("<=", STEP_BEFORE + TURNED, "the squares compare", Solver()),),
    hypotheses=SPLIT,
    facts=(_CAUCHY,),
)

BEFORE_LOWER = Derivation(
    "lower side before RoPE",
    LOWER_BEFORE,
    (
        Link("=", SLOPE * (STEP_BEFORE - TURNED), "$c_2$ is $c_1$ times the turn", Identity()),
        Link("<=", LOWER, STEP_SHORTER.title, Scaled(SLOPE, Lemma(STEP_SHORTER, {}))),
        Link("<=", lam * product_max, "the lower side after RoPE", Lemma(TWO_SIDED_LOWER, {})),
    ),
    hypotheses=(*SPLIT, *TWO_SIDED_LOWER.hypotheses),
)

BEFORE_UPPER = Derivation(
    "upper side before RoPE, one key",
    lam * sp.Abs(g),
    (
        Link("<=", UPPER, "the upper side after RoPE", Lemma(TWO_SIDED_UPPER, {})),
        Link(
            "<=",
            UPPER_BEFORE,
            STEP_LONGER.title,
            Scaled(lam * KEY_NORM_MAX, Lemma(STEP_LONGER, {})),
        ),
    ),
    hypotheses=(*SPLIT, *TWO_SIDED_UPPER.hypotheses),
)

# Witnesses. On any number of channels the query turns back against RoPE, and too far:

gamma = sp.Symbol("gamma", nonnegative=True)

BACK_STEP = Derivation(
    r"the query turns back by $1 + \gamma$ turns: the step after RoPE, one channel",
    sp.Abs(PLACE * AHEAD * z_s - PLACE * z) ** 2,
    (Link("=", gamma**2 * TURNED_SQUARED, r"$\gamma$ turns are left", AtChosen((z_s,))),),
    hypotheses=chosen({z_s: z - (1 + gamma) * (1 - sp.conjugate(AHEAD)) * z}),
)

BACK_DRIFT = Derivation(
    "and the drift before RoPE, one channel",
    sp.Abs(z_s - z) ** 2,
    (Link("=", (1 + gamma) ** 2 * TURNED_SQUARED, "a chord", AtChosen((z_s,))),),
    hypotheses=BACK_STEP.hypotheses,
)

BEFORE_LOWER_ATTAINED = Derivation(
    r"n orthogonal keys of norm $\kappa$, the step halfway between them all",
    LOWER_BEFORE,
    (
        Link(
            "=",
            lam * kappa * STEP / sp.sqrt(KEYS),
            "the change of every logit: the drift is turn and step together",
            AtChosen((SIGMA, STEP_BEFORE)),
        ),
    ),
    hypotheses=chosen({SIGMA: kappa, STEP_BEFORE: TURNED + STEP}),
)

POSITIVE = Derivation(
    "what is attained is not 0 unless the step or the keys are",
    sp.Integer(0),
    (Link("<", BEFORE_LOWER_ATTAINED.end, "every factor is positive", Solver()),),
    hypotheses=(sp.Gt(kappa, 0, evaluate=False), sp.Gt(STEP, 0, evaluate=False)),
)

ON_STEP = Derivation(
    r"the query drifts ahead by $\gamma$ turns: the step after RoPE, one channel",
    PLACE * AHEAD * z_s - PLACE * z,
    (
        Link(
            "=",
            (1 + gamma) * PLACE * (AHEAD - 1) * z,
            "drift and turn point the same way",
            AtChosen((z_s,)),
        ),
    ),
    hypotheses=chosen({z_s: z + gamma * (1 - sp.conjugate(AHEAD)) * z}),
)

BEFORE_UPPER_ATTAINED = Derivation(
    r"the longest key is $\kappa\Delta\tilde q$, with the norm $\kappa(1 + \gamma)R$",
    lam * kappa * ((1 + gamma) * TURNED) ** 2,
    (
        Link(
            "=",
            UPPER_BEFORE,
            r"the drift is $\gamma$ turns long",
            AtChosen((KEY_NORM_MAX, STEP_BEFORE)),
        ),
    ),
    hypotheses=chosen({KEY_NORM_MAX: kappa * (1 + gamma) * TURNED, STEP_BEFORE: gamma * TURNED}),
)

WITHOUT_TURN = Derivation(
    "where nothing turns the step after RoPE is as long as the drift, one channel",
    sp.Abs(PLACE * AHEAD * z_s - PLACE * z) ** 2,
    (
        Link("=", CHANNEL_STEP.end, CHANNEL_STEP.title, Lemma(CHANNEL_STEP, {})),
        Link("=", sp.Abs(z_s - z) ** 2, r"$(e^{\mathrm i\theta} - 1)z = 0$", Solver()),
    ),
    hypotheses=(
        sp.Eq(sp.re((AHEAD - 1) * z), 0, evaluate=False),
        sp.Eq(sp.im((AHEAD - 1) * z), 0, evaluate=False),
    ),
)

# The same in one channel, with both keys written out:

_TWO_KEYS = {1: 1 + sp.I, 2: 1 - sp.I}
_BACK = z + 2 * (1 + gamma) * HALF * sp.conjugate(BISECTOR) * z
"""The query turns back against RoPE, and 1 + gamma times as far."""


def _key(factor: sp.Expr) -> sp.Expr:
    return kappa * factor * HALF * TURN * BISECTOR * z


BEFORE_LOWER_SHARP = tuple(
    Derivation(
        f"one channel: the lower side before RoPE is attained, key {number} of two",
        ONE_STEP,
        (
            Link(
                "=",
                2 * lam * kappa * gamma * HALF**2 * sp.Abs(z) ** 2,
                "the step lies halfway between the two orthogonal keys",
                AtChosen((z_s, w)),
            ),
            Link(
                "=",
                LOWER_BEFORE,
                r"$n = 2$, both singular values are $\sqrt 2\,\kappa|\sin(\theta/2)||z|$",
                AtChosen((z_s, STEP_BEFORE, TURNED, SIGMA, KEYS)),
            ),
        ),
        hypotheses=chosen(
            {
                KEYS: sp.Integer(2),
                z_s: _BACK,
                w: -_key(factor),
                STEP_BEFORE: sp.Abs(z_s - z),
                TURNED: 2 * sp.Abs(HALF) * sp.Abs(z),
                SIGMA: sp.sqrt(2) * kappa * sp.Abs(HALF) * sp.Abs(z),
            }
        ),
    )
    for number, factor in _TWO_KEYS.items()
)

SINGULAR_VALUES = Derivation(
    "two orthogonal keys of equal norm stretch every vector alike",
    sp.re(v * sp.conjugate((1 + sp.I) * w)) ** 2 + sp.re(v * sp.conjugate((1 - sp.I) * w)) ** 2,
    (Link("=", 2 * sp.Abs(w) ** 2 * sp.Abs(v) ** 2, "Pythagoras", Identity()),),
)

TURN_OF_ONE = Derivation(
    "the turn of the witness is the turn",
    TURNED_SQUARED,
    (Link("=", TURNED**2, "a square", AtChosen()),),
    hypotheses=chosen({TURNED: 2 * sp.Abs(HALF) * sp.Abs(z)}),
)

BEFORE_UPPER_SHARP = Derivation(
    "one channel: the upper side before RoPE is attained",
    ONE_STEP,
    (
        Link(
            "=",
            2 * lam * kappa * (1 + gamma) * HALF**2 * sp.Abs(z) ** 2,
            "drift, turn and key point the same way",
            AtChosen((z_s, w)),
        ),
        Link(
            "=",
            UPPER_BEFORE,
            "and so do their moduli",
            AtChosen((z_s, STEP_BEFORE, TURNED, KEY_NORM_MAX)),
        ),
    ),
    hypotheses=chosen(
        {
            z_s: z - 2 * gamma * HALF * sp.conjugate(BISECTOR) * z,
            w: _key(sp.Integer(1)),
            STEP_BEFORE: sp.Abs(z_s - z),
            TURNED: 2 * sp.Abs(HALF) * sp.Abs(z),
            KEY_NORM_MAX: kappa * sp.Abs(HALF) * sp.Abs(z),
        }
    ),
)

CLAIMS = (
    Claim(
        id="before_rope",
        kind="bound",
        statement=(
            r"The published form, before RoPE: $\|\Delta a\|_\infty \ge c_1\|q_{t+1} - q_t\| -"
            r" c_2$ with $c_1 = \lambda\sigma_d/\sqrt n$ and $c_2 = c_1R$, where $R = (\sum_m"
            r" 4\sin^2(\theta_m/2)|z_t^m|^2)^{1/2}$ is what one position turns the query by; and"
            r" $\|\Delta a\|_\infty \le \lambda\max_i\|k_i\|(\|q_{t+1} - q_t\| + R)$. The lower"
            r" side says something only for keys of rank $d$: otherwise $\sigma_d = 0$. The upper"
            r" side holds for any keys. In the derivations $\mathrm{step\_before}$ is"
            r" $\|q_{t+1} - q_t\|$, turned is $R$, step is $\|\Delta\tilde q\|$, $\sigma$ is"
            r" $\sigma_d$, and h the inner product of the turned drift and the turn of the old"
            " query."
        ),
        derivations=(
            CHANNEL_CHANGE,
            CHANNEL_STEP,
            DRIFT_LENGTH,
            TURN_LENGTH,
            EQUAL_SUM,
            STEP_SHORTER,
            BEFORE_LOWER,
            STEP_LONGER,
            BEFORE_UPPER,
        ),
        conclusions=(SINGULAR_VALUE,),
    ),
    Claim(
        id="before_rope_sharp",
        kind="sharpness",
        statement=(
            "Both sides before RoPE are attained in every even dimension $d$, for all frequencies"
            " and every query: the lower one by $n = d$ keys and a drift of every length from $R$"
            r" on, $\|q_{t+1} - q_t\| = (1 + \gamma)R$, back against RoPE, so that neither $c_1$"
            r" nor $c_2$ can be improved; the upper one by a drift of every length $\gamma R$"
            " ahead with RoPE. Where $R = 0$ every drift will do for both. Drift in another"
            " direction makes the step longer than the lower side assumes, and shorter than the"
            " upper one."
        ),
        derivations=(
            BACK_STEP,
            BACK_DRIFT,
            EQUAL_SUM,
            HOUSEHOLDER,
            BEFORE_LOWER_ATTAINED,
            POSITIVE,
            ON_STEP,
            ALONG_KEY,
            BEFORE_UPPER_ATTAINED,
            WITHOUT_TURN,
            *BEFORE_LOWER_SHARP,
            SINGULAR_VALUES,
            TURN_OF_ONE,
            BEFORE_UPPER_SHARP,
        ),
        conclusions=(REFLECTION,),
        witness=(
            r"on every channel $z' = z - (1+\gamma)(1 - e^{-\mathrm i\theta})z$ and d orthogonal"
            r" keys of equal norm with the step halfway between them all; for the upper side"
            r" $z' = z + \gamma(1 - e^{-\mathrm i\theta})z$ and the longest key along the step"
        ),
        ratio="1",
    ),
)
