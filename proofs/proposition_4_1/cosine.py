"""Proposition 4.1: query step and q-similarity, and what a cosine allows or is forced to."""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim
from proofs.engine.derivation import Derivation, Fact, Lemma, Link
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import EQUAL_SUM, MAX_NORM, count, largest, norm
from proofs.proposition_4_1.two_sided import (
    ALONG_KEY,
    HOUSEHOLDER,
    REFLECTION,
    SINGULAR,
    SINGULAR_VALUE,
    SIZE,
    TWO_SIDED_UPPER,
    g,
    kappa,
    product_max,
    product_norm,
)
from tappa_theory.shift_identity import lam, z, z_s
from tappa_theory.theorems.proposition_4_1 import (
    CHANGE_MAX,
    KEY_NORM_MAX,
    KEYS,
    NECESSARY,
    QUERY_NORM,
    QUERY_NORM_S,
    SIGMA,
    SIMILARITY,
    STEP,
    STEP_SQUARED,
    SUFFICIENT,
    UPPER,
)

CHANNEL_COSINE = Derivation(
    "the step of one channel",
    sp.Abs(z_s - z) ** 2,
    (
        Link(
            "=",
            sp.Abs(z_s) ** 2 + sp.Abs(z) ** 2 - 2 * sp.re(z_s * sp.conjugate(z)),
            "law of cosines",
            Identity(),
        ),
    ),
)

COSINE = Derivation(
    "the step from norms and cosine",
    QUERY_NORM_S**2 + QUERY_NORM**2 - 2 * g,
    (Link("=", STEP_SQUARED, r"the inner product is $r r' S$", Solver()),),
    hypotheses=(sp.Eq(g, QUERY_NORM * QUERY_NORM_S * SIMILARITY, evaluate=False),),
)

BY_COSINE = sp.Eq(STEP**2, STEP_SQUARED, evaluate=False)

SIMILAR_IS_ENOUGH = Derivation(
    "what norms and cosine allow, one key",
    lam * sp.Abs(g),
    (
        Link("<=", UPPER, "the upper side", Lemma(TWO_SIDED_UPPER, {})),
        Link("=", SUFFICIENT, "the step from norms and cosine", Solver()),
    ),
    hypotheses=(*TWO_SIDED_UPPER.hypotheses, BY_COSINE),
)

SIMILAR_IS_NEEDED = Derivation(
    "what a small logit change asks of the cosine",
    1 - SIMILARITY,
    (Link("<=", NECESSARY, "solved for the cosine", Solver()),),
    hypotheses=(
        SINGULAR,
        SIZE,
        BY_COSINE,
        sp.Gt(SIGMA, 0, evaluate=False),
        sp.Eq(CHANGE_MAX, lam * product_max, evaluate=False),
    ),
    facts=(
        Fact(
            product_norm**2,
            "<=",
            KEYS * product_max**2,
            MAX_NORM.title,
            Lemma(MAX_NORM, {norm: product_norm, count: KEYS, largest: product_max}),
        ),
    ),
)

SIMILAR_IS_ENOUGH_ATTAINED = Derivation(
    r"the longest key is $\kappa$ times the step: its logit changes by all that is allowed",
    lam * kappa * STEP**2,
    (Link("=", SUFFICIENT, "its norm", AtChosen((KEY_NORM_MAX,), Solver())),),
    hypotheses=(BY_COSINE, *chosen({KEY_NORM_MAX: kappa * STEP})),
)

SIMILAR_IS_NEEDED_ATTAINED = Derivation(
    r"n orthogonal keys of norm $\kappa$ with the step halfway between them all",
    NECESSARY,
    (
        Link(
            "=",
            1 - SIMILARITY,
            r"every logit changes by $\lambda\kappa\|\Delta\tilde q\|/\sqrt n$",
            AtChosen((CHANGE_MAX, SIGMA), Solver()),
        ),
    ),
    hypotheses=(
        BY_COSINE,
        # NECESSARY divides by the singular value
        sp.Gt(kappa, 0, evaluate=False),
        *chosen({CHANGE_MAX: lam * kappa * STEP / sp.sqrt(KEYS), SIGMA: kappa}),
    ),
)

CLAIMS = (
    Claim(
        id="cosine",
        kind="identity",
        statement=(
            r"Cosine and step: $\|q' - q\|^2 = (r' - r)^2 + 2rr'(1 - S)$ with the norms $r,"
            r" r'$ and the cosine $S$, before RoPE or after it. In the derivations these are"
            r" $\|q\|$, $\|q'\|$ and similarity."
        ),
        derivations=(CHANNEL_COSINE, EQUAL_SUM, COSINE),
    ),
    Claim(
        id="similar_enough",
        kind="bound",
        statement=(
            'What is true of "high q-similarity suffices": $\\|\\Delta a\\|_\\infty \\le'
            r" \lambda\max_i\|k_i\|\sqrt{(r'-r)^2 + 2rr'(1-S)}$, norms and cosine after RoPE."
        ),
        derivations=(SIMILAR_IS_ENOUGH,),
    ),
    Claim(
        id="similar_needed",
        kind="bound",
        statement=(
            'What is true of "high q-similarity is necessary": for keys of rank $d$, after'
            r" RoPE, $1 - S \le (n\|\Delta a\|_\infty^2/(\lambda\sigma_d)^2 - (r'-r)^2)/"
            r"(2rr')$."
        ),
        derivations=(SIMILAR_IS_NEEDED,),
        conclusions=(SINGULAR_VALUE,),
    ),
    Claim(
        id="similar_sharp",
        kind="sharpness",
        statement=(
            "Both are attained for all norms and every cosine: the first with the longest key along"
            " the step, the second with $n = d$ orthogonal keys and the step halfway between them."
        ),
        derivations=(
            ALONG_KEY,
            EQUAL_SUM,
            SIMILAR_IS_ENOUGH_ATTAINED,
            HOUSEHOLDER,
            SIMILAR_IS_NEEDED_ATTAINED,
        ),
        conclusions=(REFLECTION,),
        witness=r"the key $\kappa\Delta\tilde q$; d orthogonal keys of norm $\kappa$",
        ratio="1",
    ),
)
