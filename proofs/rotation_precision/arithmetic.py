"""Rotation precision, the arithmetic: x c - y s and x s + y c with rounded products and sums.

z = x + i y is the input, C = c + i s the stored pair; a rotation is the product z C.
"""

from __future__ import annotations

from itertools import product

import sympy as sp

from proofs.engine.certificates import BySquares, Identity, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.engine.relations import le
from proofs.lemmas.finite import REAL_PART, TRIANGLE, TRIANGLE_3, a, b, c
from tappa_theory.shift_identity import i, lam, s, t, theta, w, z
from tappa_theory.theorems.rotation_precision import (
    ARITHMETIC,
    ARITHMETIC_FUSED,
    CHANNEL_ERROR,
    CHANNEL_ERROR_FUSED,
    ERROR_K,
    ERROR_K_S,
    ERROR_Q,
    ERROR_Q_S,
    INVARIANCE_LOSS,
    TABLE_ERROR,
    TINY,
    TURN_ERROR,
    UNDERFLOW,
    U,
)

x, y, cosine, sine = sp.symbols("x y c s", real=True)
"""Input and stored pair."""
first, second = sp.symbols("p_1 p_2", real=True)
"""The exact products of one component: first - second is what is computed."""
off_1, off_2, off_sum = sp.symbols("g_1 g_2 g_3", real=True)
"""Errors of the two products and of their sum."""

COMPONENT_BOUND = U * (1 + U) * (sp.Abs(first) + sp.Abs(second) + sp.Abs(first - second))
EXTRA = 2 * TINY * (1 + U)

COMPONENT = Derivation(
    "one component of the rotation",
    sp.Abs(off_1 - off_2 + off_sum),
    (
        Link(
            "<=",
            sp.Abs(off_1)
            + sp.Abs(off_2)
            + U * (sp.Abs(first - second) + sp.Abs(off_1) + sp.Abs(off_2)),
            "the sum is rounded relative to the sum of the rounded products",
            Solver(),
        ),
        Link(
            "<=",
            (1 + U) * (U * sp.Abs(first) + U * sp.Abs(second) + 2 * TINY)
            + U * sp.Abs(first - second),
            "products are rounded relative to themselves, or underflow",
            Solver(),
        ),
        Link("<=", COMPONENT_BOUND + EXTRA, r"$u \le u(1 + u)$", Solver()),
    ),
    hypotheses=(
        le(sp.Abs(off_1), U * sp.Abs(first) + TINY),
        le(sp.Abs(off_2), U * sp.Abs(second) + TINY),
        le(sp.Abs(off_sum), U * sp.Abs(first + off_1 - (second + off_2))),
    ),
    facts=(
        Fact(
            sp.Abs(first + off_1 - (second + off_2)),
            "<=",
            sp.Abs(first - second) + sp.Abs(off_1) + sp.Abs(off_2),
            "triangle inequality",
            Solver(),
        ),
    ),
)

third, fourth = sp.symbols("p_3 p_4", real=True)
"""The products of the other component: third + fourth is what is computed."""
REAL = sp.Abs(first) + sp.Abs(second) + sp.Abs(first - second)
IMAGINARY = sp.Abs(third) + sp.Abs(fourth) + sp.Abs(third + fourth)

BOTH_COMPONENTS = Derivation(
    "both components: products of one size cannot cost most in both",
    REAL**2 + IMAGINARY**2,
    (
        Link(
            "<=",
            sp.Rational(16, 3) * (first**2 + second**2 + third**2 + fourth**2),
            r"what is left is $\frac 43(p_1 - 2p_2)^2 + \frac 43(p_3 - p_4)^2$, or the like",
            Solver(),
        ),
    ),
    hypotheses=(sp.Eq(first * second, third * fourth, evaluate=False),),
)
PRODUCTS = {first: x * cosine, second: y * sine, third: x * sine, fourth: y * cosine}

SIZES = Derivation(
    "both components, from input and stored pair",
    (REAL**2 + IMAGINARY**2).subs(PRODUCTS),
    (
        Link(
            "<=",
            sp.Rational(16, 3) * (first**2 + second**2 + third**2 + fourth**2).subs(PRODUCTS),
            "the products of the products agree",
            Lemma(BOTH_COMPONENTS, PRODUCTS),
        ),
        Link(
            "=",
            sp.Rational(16, 3) * (x**2 + y**2) * (cosine**2 + sine**2),
            "the modulus of a product",
            Identity(),
        ),
    ),
)

error_re, error_im = sp.symbols("e_re e_im", real=True)
weight, cost_re, cost_im, size, extra = sp.symbols("k m_re m_im n h", nonnegative=True)

MODULUS = Derivation(
    "modulus of an error from its components",
    sp.Abs(error_re + sp.I * error_im),
    (
        Link(
            "<=",
            sp.Abs(weight * cost_re + extra + sp.I * (weight * cost_im + extra)),
            "both components are larger",
            BySquares(Solver()),
        ),
        Link(
            "<=",
            sp.Abs(weight * cost_re + sp.I * weight * cost_im) + sp.Abs(extra + sp.I * extra),
            "triangle inequality",
            Lemma(
                TRIANGLE,
                {a: weight * cost_re + sp.I * weight * cost_im, b: extra + sp.I * extra},
            ),
        ),
        Link(
            "<=",
            4 / sp.sqrt(3) * weight * size + sp.sqrt(2) * extra,
            "the sum of squares is bounded",
            Solver(),
        ),
    ),
    hypotheses=(
        le(sp.Abs(error_re), weight * cost_re + extra),
        le(sp.Abs(error_im), weight * cost_im + extra),
        le(cost_re**2 + cost_im**2, sp.Rational(16, 3) * size**2),
    ),
)

stored, computed, exact = sp.symbols("C Z E", complex=True)
"""Stored pair, computed rotation and exact exp(i p theta)."""
ROTATION_ERROR = sp.Abs(computed - z * stored)

ARITHMETIC_ERROR = Derivation(
    "error of the arithmetic",
    sp.Abs(error_re + sp.I * error_im),
    (
        Link(
            "<=",
            ARITHMETIC * size + UNDERFLOW,
            r"$k = u(1 + u)$, $h$ stands for the underflow of two products and their sum",
            Lemma(MODULUS, {weight: U * (1 + U), extra: EXTRA}),
        ),
    ),
    hypotheses=tuple(
        known.subs({weight: U * (1 + U), extra: EXTRA}, simultaneous=True)
        for known in MODULUS.hypotheses
    ),
)

off_3, off_4, off_sum_im = sp.symbols("g_4 g_5 g_6", real=True)
ERROR_RE, ERROR_IM = off_1 - off_2 + off_sum, off_3 + off_4 + off_sum_im
INPUT_AND_PAIR = sp.Abs(x + sp.I * y) * sp.Abs(cosine + sp.I * sine)
OTHER = {
    first: third,
    second: -fourth,
    off_1: off_3,
    off_2: -off_4,
    off_sum: off_sum_im,
}
"""The other component has the opposite sign before its second product."""
ROUNDED = tuple(
    known.subs(put, simultaneous=True).subs(PRODUCTS, simultaneous=True)
    for put in ({}, OTHER)
    for known in COMPONENT.hypotheses
)
COSTS = tuple(cost.subs(PRODUCTS, simultaneous=True) for cost in (REAL, IMAGINARY))

ROTATION = Derivation(
    "error of the arithmetic, from the six roundings",
    sp.Abs(ERROR_RE + sp.I * ERROR_IM),
    (
        Link(
            "<=",
            ARITHMETIC * INPUT_AND_PAIR + UNDERFLOW,
            "both components",
            Lemma(
                ARITHMETIC_ERROR,
                {
                    error_re: ERROR_RE,
                    error_im: ERROR_IM,
                    cost_re: COSTS[0],
                    cost_im: COSTS[1],
                    size: INPUT_AND_PAIR,
                },
            ),
        ),
    ),
    hypotheses=ROUNDED,
    facts=(
        Fact(
            sp.Abs(ERROR_RE),
            "<=",
            U * (1 + U) * COSTS[0] + EXTRA,
            "the component x c - y s",
            Lemma(COMPONENT, {first: PRODUCTS[first], second: PRODUCTS[second]}),
        ),
        Fact(
            sp.Abs(ERROR_IM),
            "<=",
            U * (1 + U) * COSTS[1] + EXTRA,
            "the component x s + y c",
            Lemma(
                COMPONENT,
                {key: value.subs(PRODUCTS) for key, value in OTHER.items()},
            ),
        ),
        Fact(
            COSTS[0] ** 2 + COSTS[1] ** 2,
            "<=",
            sp.Rational(16, 3) * INPUT_AND_PAIR**2,
            "both components, from input and stored pair",
            Lemma(SIZES, {}),
        ),
    ),
    example={
        symbol: sp.Integer(0)
        for symbol in (x, y, cosine, sine, off_1, off_2, off_sum, off_3, off_4, off_sum_im, U, TINY)
    },
)

# --- fused -------------------------------------------------------------------------------------

FUSED_PRODUCTS = tuple(
    Derivation(
        "one product of each component is no longer than the whole product",
        one**2 + other**2,
        (
            Link(
                "<=",
                (x**2 + y**2) * (cosine**2 + sine**2),
                "two of its four squares",
                Solver(),
            ),
        ),
    )
    for one, other in product((x * cosine, y * sine), (x * sine, y * cosine))
)

rounding, sum_off = sp.symbols("G F", complex=True)
"""Errors of the two rounded products, and of the two fused sums, as complex numbers."""
whole = sp.Symbol("P", complex=True)
"""The exact product z C."""
FUSED = Derivation(
    "error of the arithmetic with fused multiply-adds",
    sp.Abs(rounding + sum_off),
    (
        Link(
            "<=",
            sp.Abs(rounding) + sp.Abs(sum_off),
            "triangle inequality",
            Lemma(TRIANGLE, {a: rounding, b: sum_off}),
        ),
        Link(
            "<=",
            (1 + U) * sp.Abs(rounding) + U * size + sp.sqrt(2) * TINY,
            "each sum is rounded once, relative to itself, or underflows",
            Solver(),
        ),
        Link(
            "<=",
            ARITHMETIC_FUSED * size + UNDERFLOW,
            "the rounded products are no longer than the product",
            Solver(),
        ),
    ),
    hypotheses=(
        le(sp.Abs(whole), size),
        le(sp.Abs(rounding), U * size + sp.sqrt(2) * TINY),
        le(sp.Abs(sum_off), U * sp.Abs(whole + rounding) + sp.sqrt(2) * TINY),
    ),
    facts=(
        Fact(
            sp.Abs(whole + rounding),
            "<=",
            sp.Abs(whole) + sp.Abs(rounding),
            "triangle inequality",
            Lemma(TRIANGLE, {a: whole, b: rounding}),
        ),
    ),
)

# --- a channel ---------------------------------------------------------------------------------

turn, table, arithmetic, underflow = sp.symbols("T_turn T_table R h_under", nonnegative=True)


COMPOSED = Derivation(
    "error of a rotated channel",
    sp.Abs(computed - z * exact),
    (
        Link(
            "=",
            sp.Abs((computed - z * stored) + z * (stored - exact)),
            "by way of the product with the stored pair",
            Identity(),
        ),
        Link(
            "<=",
            ROTATION_ERROR + sp.Abs(z * (stored - exact)),
            "triangle inequality",
            Lemma(TRIANGLE, {a: computed - z * stored, b: z * (stored - exact)}),
        ),
        Link(
            "<=",
            arithmetic * sp.Abs(z) * (1 + table) + underflow + sp.Abs(z) * turn,
            "arithmetic, and the error of the stored pair",
            Solver(),
        ),
        Link(
            "=",
            sp.Abs(z) * (turn + (1 + table) * arithmetic) + underflow,
            "the same sum",
            Identity(),
        ),
    ),
    hypotheses=(
        le(ROTATION_ERROR, arithmetic * sp.Abs(z) * sp.Abs(stored) + underflow),
        le(sp.Abs(stored - exact), turn),
        le(sp.Abs(stored), 1 + table),
    ),
)


def channel(bound: sp.Expr, cost: sp.Expr) -> Derivation:
    """COMPOSED with the registry's expressions; cost: of the arithmetic."""
    put = {turn: TURN_ERROR, table: TABLE_ERROR, arithmetic: cost, underflow: UNDERFLOW}
    return Derivation(
        COMPOSED.title,
        COMPOSED.start,
        (Link("<=", bound, "arithmetic, table and angle", Lemma(COMPOSED, put)),),
        hypotheses=tuple(known.subs(put, simultaneous=True) for known in COMPOSED.hypotheses),
    )


CHANNEL = channel(CHANNEL_ERROR, ARITHMETIC)
CHANNEL_FUSED = channel(CHANNEL_ERROR_FUSED, ARITHMETIC_FUSED)

# --- two logits --------------------------------------------------------------------------------

off_q, off_k, off_q_s, off_k_s = sp.symbols("d_q d_k d_qs d_ks", complex=True)
"""Relative errors of the rotated query at t and key at i, and of both moved by s."""


def rotated(value: sp.Expr, position: sp.Expr, error: sp.Expr) -> sp.Expr:
    """A computed rotation with that relative error."""
    return value * sp.exp(sp.I * position * theta) * (1 + error)


def product_error(off: sp.Expr, other: sp.Expr) -> sp.Expr:
    """Relative error of the product of two channels with relative errors."""
    return (1 + off) * sp.conjugate(1 + other) - 1


most_q, most_k = sp.symbols("rho_q rho_k", nonnegative=True)
PRODUCT_ERROR = Derivation(
    "relative error of a product of two rotated channels",
    sp.Abs(product_error(off_q, off_k)),
    (
        Link(
            "=",
            sp.Abs(off_q + sp.conjugate(off_k) + off_q * sp.conjugate(off_k)),
            "query, key, and both",
            Identity(),
        ),
        Link(
            "<=",
            sp.Abs(off_q) + sp.Abs(off_k) + sp.Abs(off_q * sp.conjugate(off_k)),
            "triangle inequality",
            Lemma(
                TRIANGLE_3,
                {a: off_q, b: sp.conjugate(off_k), c: off_q * sp.conjugate(off_k)},
            ),
        ),
        Link("<=", (1 + most_q) * (1 + most_k) - 1, "each is bounded", Solver()),
    ),
    hypotheses=(le(sp.Abs(off_q), most_q), le(sp.Abs(off_k), most_k)),
)

HERE = rotated(z, t, off_q) * sp.conjugate(rotated(w, i, off_k))
MOVED = rotated(z, t + s, off_q_s) * sp.conjugate(rotated(w, i + s, off_k_s))
SIZE = sp.Abs(z) * sp.Abs(w)
COMMON = z * sp.conjugate(w) * sp.exp(sp.I * (t - i) * theta)
ERROR_HERE, ERROR_MOVED = product_error(off_q, off_k), product_error(off_q_s, off_k_s)
LEFT_HERE = (1 + ERROR_Q) * (1 + ERROR_K) - 1
LEFT_MOVED = (1 + ERROR_Q_S) * (1 + ERROR_K_S) - 1

INVARIANCE = Derivation(
    "what rounding leaves of relative positions, one channel",
    lam * sp.Abs(sp.re(MOVED - HERE)),
    (
        Link(
            "<=",
            lam * sp.Abs(MOVED - HERE),
            "a real part is no larger than the modulus",
            Scaled(lam, Lemma(REAL_PART, {a: MOVED - HERE})),
        ),
        Link(
            "=",
            lam * SIZE * sp.Abs(ERROR_MOVED - ERROR_HERE),
            "without rounding, equal shifts change nothing",
            Identity(),
        ),
        Link(
            "<=",
            lam * SIZE * (sp.Abs(ERROR_MOVED) + sp.Abs(ERROR_HERE)),
            "triangle inequality",
            Scaled(lam * SIZE, Lemma(TRIANGLE, {a: ERROR_MOVED, b: -ERROR_HERE})),
        ),
        Link(
            "<=",
            INVARIANCE_LOSS,
            "errors of the two products",
            Scaled(
                lam * SIZE,
                Terms(
                    (
                        (
                            sp.Integer(1),
                            sp.Abs(ERROR_HERE),
                            LEFT_HERE,
                            Lemma(PRODUCT_ERROR, {most_q: ERROR_Q, most_k: ERROR_K}),
                        ),
                        (
                            sp.Integer(1),
                            sp.Abs(ERROR_MOVED),
                            LEFT_MOVED,
                            Lemma(
                                PRODUCT_ERROR,
                                {
                                    off_q: off_q_s,
                                    off_k: off_k_s,
                                    most_q: ERROR_Q_S,
                                    most_k: ERROR_K_S,
                                },
                            ),
                        ),
                    )
                ),
            ),
        ),
    ),
    hypotheses=(
        le(sp.Abs(off_q), ERROR_Q),
        le(sp.Abs(off_k), ERROR_K),
        le(sp.Abs(off_q_s), ERROR_Q_S),
        le(sp.Abs(off_k_s), ERROR_K_S),
    ),
)

# --- sharpness ---------------------------------------------------------------------------------

LARGEST = {x: sp.sqrt(2), y: sp.Integer(1), cosine: sp.sqrt(2), sine: sp.Integer(1)}
"""Products 2 and 1, and twice sqrt(2); |z||C| = 3."""
LOST_RE = U * (2 + 1) + U * (2 * (1 + U) - (1 - U))
LOST_IM = U * 2 * sp.sqrt(2) + U * 2 * sp.sqrt(2) * (1 + U)
"""The larger product and both others rounded up, the smaller one down, and both sums up."""

SHARP_ARITHMETIC = Derivation(
    "rounding of this product costs the bound, to first order in u",
    ARITHMETIC / (1 + U) * 3,
    (
        Link(
            "<=",
            sp.Abs(LOST_RE + sp.I * LOST_IM),
            r"$48u^2 \le u^2((4 + 3u)^2 + 8(2 + u)^2)$",
            Solver(),
        ),
    ),
)
SHARP_FUSED = Derivation(
    "fused, with x = c = 0 and y = s = 1: product and sum rounded up",
    (1 + U) * (1 + U) - 1,
    (Link("=", ARITHMETIC_FUSED, "two roundings of one number", Identity()),),
)

rho = sp.Symbol("rho", nonnegative=True)
EQUAL_ERRORS = {ERROR_Q: rho, ERROR_K: rho, ERROR_Q_S: rho, ERROR_K_S: rho}
SHARP_INVARIANCE = Derivation(
    "of two logits along the diagonal t = i one errs upwards, one downwards",
    INVARIANCE_LOSS.subs(EQUAL_ERRORS) / (1 + rho / 2),
    (
        Link(
            "=",
            lam * SIZE * ((1 + rho) ** 2 - (1 - rho) ** 2),
            r"query and key are $1 + \rho$ times what they should be, then $1 - \rho$ times",
            Identity(),
        ),
    ),
)
