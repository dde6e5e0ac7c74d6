"""Proposition 4.1 after RoPE: the largest logit change from the query step, both sides."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.engine.certificates import BySquares, Identity, Solver
from proofs.engine.claims import Claim, Conclusion, Exact
from proofs.engine.derivation import Derivation, Lemma, Link, Scaled
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import (
    CAUCHY_SCHWARZ,
    EQUAL_SUM,
    MAX_NORM,
    InnerProduct,
    Size,
    count,
    first_norm,
    inner,
    largest,
    norm,
    second_norm,
)
from tappa_theory.shift_identity import (
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
from tappa_theory.theorems.proposition_4_1 import KEY_NORM_MAX, KEYS, LOWER, SIGMA, STEP, UPPER

AHEAD = sp.exp(sp.I * theta)
PLACE = sp.exp(sp.I * t * theta)

_AT = {s: sp.Integer(1), u: sp.Integer(0), w_u: w}
ONE_STEP = SHIFT_DIFFERENCE.subs(_AT, simultaneous=True)
"""a_{t+1,i} - a_{t,i}, one channel."""

CHANNEL_CHANGE = Derivation(
    "the logit change of one key is its inner product with the query step, one channel",
    (SHIFTED_LOGIT - LOGIT).subs(_AT, simultaneous=True),
    (
        Link("=", ONE_STEP, r"the shift identity at $(1, 0)$", Identity()),
        Link(
            "=",
            lam
            * sp.re(
                (PLACE * AHEAD * z_s - PLACE * z) * sp.conjugate(sp.exp(sp.I * i * theta) * w),
                evaluate=False,
            ),
            r"$\Delta\tilde q = e^{\mathrm i(t+1)\theta}z_{t+1} - e^{\mathrm it\theta}z_t$ and"
            r" $k_i = e^{\mathrm ii\theta}w_i$",
            Identity(),
        ),
    ),
)

g = sp.Symbol("g", real=True)
"""Inner product of one key with the query step, after RoPE."""
key_norm, product_norm, product_max = sp.symbols("k P M", nonnegative=True)
"""||k_i||; ||K dq||; max |<k_i, dq>|: the logit change is lambda times the products."""

SINGULAR = sp.Le(SIGMA * STEP, product_norm, evaluate=False)
SIZE = Size(KEYS, product_norm, product_max)

TWO_SIDED_LOWER = Derivation(
    "lower side",
    LOWER,
    (
        Link(
            "<=",
            lam / sp.sqrt(KEYS) * product_norm,
            r"$\sigma^+ \|v\| \le \|\tilde K v\|$ for $v$ in the span of the keys",
            Scaled(lam / sp.sqrt(KEYS), Solver()),
        ),
        Link(
            "<=",
            lam * product_max,
            "no norm of n numbers exceeds the root of n times the largest",
            Scaled(
                lam / sp.sqrt(KEYS),
                BySquares(Lemma(MAX_NORM, {norm: product_norm, count: KEYS, largest: product_max})),
            ),
        ),
    ),
    hypotheses=(SINGULAR, SIZE),
)

TWO_SIDED_UPPER = Derivation(
    "upper side, one key",
    lam * sp.Abs(g),
    (
        Link(
            "<=",
            lam * key_norm * STEP,
            "Cauchy-Schwarz",
            Scaled(lam, Lemma(CAUCHY_SCHWARZ, {inner: g, first_norm: key_norm, second_norm: STEP})),
        ),
        Link("<=", UPPER, "no key is longer than the longest", Scaled(lam, Solver())),
    ),
    hypotheses=(
        InnerProduct(g, key_norm, STEP),
        sp.Le(key_norm, KEY_NORM_MAX, evaluate=False),
    ),
)

# Witnesses. Both sides meet at the first one, so that by the bounds both are what is observed.

kappa, delta = sp.symbols("kappa delta", nonnegative=True)
EQUAL_KEYS = Derivation(
    r"n equal keys of norm $\kappa$, the step along them: both sides agree",
    LOWER,
    (
        Link("=", lam * kappa * delta, r"$\sigma^+ = \sqrt n\,\kappa$", AtChosen((SIGMA, STEP))),
        Link("=", UPPER, "the change of every logit", AtChosen((KEY_NORM_MAX, STEP))),
    ),
    hypotheses=chosen({SIGMA: sp.sqrt(KEYS) * kappa, STEP: delta, KEY_NORM_MAX: kappa}),
)

along = sp.Symbol("x", real=True)
EQUAL_KEYS_STRETCH = Derivation(
    r"n equal keys $\kappa e$ have the singular value $\sqrt n\,\kappa$: on $v = xe$",
    KEYS * (kappa * along) ** 2,
    (Link("=", (SIGMA * along) ** 2, "n equal squares", AtChosen()),),
    hypotheses=chosen({SIGMA: sp.sqrt(KEYS) * kappa}),
)

v = sp.Symbol("v", complex=True)
"""One channel of the query step after RoPE."""

ALONG_KEY = Derivation(
    r"the key $\kappa\Delta\tilde q$: inner product with the step, one channel",
    sp.re(v * sp.conjugate(kappa * v), evaluate=False),
    (Link("=", kappa * sp.Abs(v) ** 2, "no product is lost", Identity()),),
)

LONGEST_ALONG_STEP = Derivation(
    r"the longest key is $\kappa\Delta\tilde q$: its logit changes by the upper side",
    lam * kappa * STEP**2,
    (Link("=", UPPER, r"its norm is $\kappa\|\Delta\tilde q\|$", AtChosen((KEY_NORM_MAX,))),),
    hypotheses=chosen({KEY_NORM_MAX: kappa * STEP}),
)

ORTHOGONAL_KEYS = Derivation(
    r"n orthogonal keys of norm $\kappa$, the step halfway between them all",
    LOWER,
    (
        Link(
            "=",
            lam * kappa * STEP / sp.sqrt(KEYS),
            r"$\sigma^+ = \kappa$; every key has this product with the step",
            AtChosen((SIGMA,)),
        ),
    ),
    hypotheses=chosen({SIGMA: kappa}),
)

entry, goal, square, product = sp.symbols("x y G p", real=True)
HOUSEHOLDER = Derivation(
    "the reflection that exchanges two vectors of equal length, one coordinate",
    entry - 2 * (entry - goal) * (square - product) / (square - 2 * product + square),
    (
        Link(
            "=",
            goal,
            r"with $f, h$ of squared norm $G$ and product $p$: $|f - h|^2 = 2(G - p)$",
            Identity(),
        ),
    ),
    hypotheses=(sp.Gt(square - product, 0, evaluate=False),),
)

LOGIT_CHANGE = Conclusion(
    r"$\|\Delta a\|_\infty = \lambda\max_i|\langle k_i, \Pi\Delta\tilde q\rangle|$",
    r"orthogonal projection: $\Delta\tilde q - \Pi\Delta\tilde q$ is orthogonal to every key, and"
    r" by the derivation above every logit change is $\lambda\langle k_i, \Delta\tilde q\rangle$",
)
SINGULAR_VALUE = Conclusion(
    r"$\sigma^+\|v\| \le \|\tilde K v\|$ for every $v$ in the span of the keys",
    "singular value decomposition: the smallest nonzero singular value is the smallest stretch on"
    r" the row space; it is $\sigma_d$ if the keys have rank $d$, and then $\Pi$ is the identity."
    r" If all keys are 0, there is none, $\sigma^+$ counts as 0, and both sides are 0",
)
REFLECTION = Conclusion(
    r"there are n orthogonal keys of norm $\kappa$ with $\langle k_i, \Delta\tilde q\rangle ="
    r" \kappa\|\Delta\tilde q\|/\sqrt n$, all singular values $\kappa$",
    r"Householder reflection, an orthogonal matrix: the keys are $\kappa$ times the rows of the one"
    r" that takes $\Delta\tilde q$ to $\|\Delta\tilde q\|(1, \dots, 1)/\sqrt n$, or of the identity"
    " where the two agree",
)

_WIDE, _UNSEEN = sp.Matrix([[1, 0]]), sp.Matrix([0, 1])


def _replay_wide() -> tuple[float, float]:
    keys, step = np.array(_WIDE, dtype=float), np.array(_UNSEEN, dtype=float)
    sigma = np.linalg.svd(keys, compute_uv=False).min()
    return float(sigma * np.linalg.norm(step)), float(np.max(np.abs(keys @ step)))


CLAIMS = (
    Claim(
        id="two_sided",
        kind="bound",
        statement=(
            r"$(\lambda\sigma^+/\sqrt n)\,\|\Pi\Delta\tilde q\| \le \|\Delta a\|_\infty"
            r" \le \lambda\max_i\|k_i\|\,\|\Pi\Delta\tilde q\|$, $\Delta\tilde q$ the query"
            r" step after RoPE, for any n keys $k_i$ after RoPE of any rank, fewer than $d$ or"
            r" repeated; $\sigma^+$ is 0 if all of them are 0. In the derivations step is"
            r" $\|\Pi\Delta\tilde q\|$, $\sigma$ is $\sigma^+$, g the product of one key with the"
            r" step and k its norm, P the norm of all products and M the largest:"
            r" $\|\Delta a\|_\infty = \lambda M$."
        ),
        derivations=(
            CHANNEL_CHANGE,
            EQUAL_SUM,
            MAX_NORM,
            TWO_SIDED_LOWER,
            CAUCHY_SCHWARZ,
            TWO_SIDED_UPPER,
        ),
        conclusions=(LOGIT_CHANGE, SINGULAR_VALUE),
    ),
    Claim(
        id="two_sided_sharp",
        kind="sharpness",
        statement=(
            "Both sides are attained at once, for every number of keys and every head size: they"
            " agree there, so that by two_sided both are the change. The upper side is attained"
            " for every query step, and the lower one for keys of every rank: n orthogonal keys"
            " and any step in their span that lies halfway between them."
        ),
        derivations=(
            EQUAL_KEYS,
            EQUAL_KEYS_STRETCH,
            ALONG_KEY,
            EQUAL_SUM,
            LONGEST_ALONG_STEP,
            ORTHOGONAL_KEYS,
            HOUSEHOLDER,
        ),
        conclusions=(REFLECTION,),
        witness=(
            r"n equal keys $\kappa e$ and the step $\delta e$ after RoPE; a longest key"
            r" $\kappa\Delta\tilde q$; n orthogonal keys"
        ),
        ratio="1",
    ),
    Claim(
        id="projection_needed",
        kind="counterexample",
        statement=(
            r"With fewer keys than dimensions the smallest of the $\min(n, d)$ singular values and"
            " the whole step do not give a lower side: the key may not see the step."
        ),
        instances=(
            Exact(
                r"key $(1, 0)$, step $(0, 1)$: the logit change is below $(\lambda\sigma/\sqrt n)"
                r"\|\Delta\tilde q\|$ with $\sigma = 1$",
                (_WIDE * _UNSEEN).norm(),
                "<",
                LOWER.subs(
                    {
                        lam: 1,
                        SIGMA: sp.sqrt((_WIDE * _WIDE.T).det()),
                        KEYS: _WIDE.rows,
                        STEP: _UNSEEN.norm(),
                    }
                ),
                _replay_wide,
            ),
        ),
        witness=r"key $(1, 0)$ and step $(0, 1)$",
    ),
)
