"""Theorem 5.4: inputs of period L, and what resonance it takes for attention to repeat.

The published form charges the resonance error of one channel, the dominant one. It fails on every
reading that leaves its constant C_2 independent of L; (B) charges every channel its own.
"""

from __future__ import annotations

import sympy as sp

from proofs.balls import Balls
from proofs.certificates import Identity, Solver
from proofs.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.derivation import Derivation, Lemma, Link, Terms
from proofs.lemmas import FINITE_SUM
from proofs.rows import Row, changed, only_turn
from proofs.shift_bound import CHANNEL, IDENTITY, TURN
from tappa_theory.shift_identity import (
    KEY_DRIFT,
    LOGIT,
    QUERY_DRIFT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    lam,
    rotation_residual,
    s,
    theta,
    u,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems.seasonal import DELTA, THEOREM, L

PUBLISHED: sp.Expr = THEOREM.published.bound
AUXILIARY = THEOREM.auxiliary
LATER_QUERY, LATER_KEY, BOTH_LATER = {s: L, u: 0}, {s: 0, u: L}, {s: L, u: L}

# --- what holds -----------------------------------------------------------------------------


def at_shift(shift: dict[sp.Symbol, sp.Expr | int], bound: sp.Expr, where: str) -> Derivation:
    """(B) at a shift by a period."""
    return Derivation(
        f"bound (B) at {where}, one channel",
        sp.Abs(SHIFT_DIFFERENCE.subs(shift)),
        (Link("<=", bound, f"(B) at the shift ${where}$", Lemma(CHANNEL, shift)),),
    )


QUERY_BOUND = at_shift(LATER_QUERY, THEOREM.bound, "(L, 0)")
KEY_BOUND = at_shift(LATER_KEY, AUXILIARY["later_key"], "(0, L)")
BOTH_BOUND = at_shift(BOTH_LATER, AUXILIARY["both_later"], "(L, L)")

BOTH_WITHOUT_TURN = Derivation(
    "(B) at (L, L) has no rotation term",
    AUXILIARY["both_later"],
    (Link("=", QUERY_DRIFT + KEY_DRIFT, r"$\alpha = (L - L)\theta = 0$", Identity()),),
)
EXACT_REPEAT = Derivation(
    "inputs of period L: both a period later, one channel",
    SHIFT_DIFFERENCE.subs(BOTH_LATER).subs({z_s: z, w_u: w}),
    (Link("=", sp.Integer(0), "the same vectors at the same distance", Identity()),),
)
RESIDUAL = rotation_residual(L * theta)
WORST = Derivation(
    "the published form with the resonance error of every channel, one channel",
    sp.Abs(SHIFT_DIFFERENCE.subs(LATER_QUERY)),
    (
        Link("<=", THEOREM.bound, "(B) at the shift $(L, 0)$", Lemma(CHANNEL, LATER_QUERY)),
        Link(
            "<=",
            AUXILIARY["worst_channel"],
            r"$2|\sin(L\theta_m/2)| \le \delta$ for this channel",
            Terms(
                (
                    (sp.Integer(1), QUERY_DRIFT, QUERY_DRIFT, Solver()),
                    (sp.Integer(1), KEY_DRIFT, KEY_DRIFT, Solver()),
                    (
                        lam * sp.Abs(z) * sp.Abs(w),
                        2 * sp.Abs(sp.sin(L * theta / 2)),
                        DELTA,
                        Solver(),
                    ),
                )
            ),
        ),
    ),
    hypotheses=(sp.Le(2 * sp.Abs(sp.sin(L * theta / 2)), DELTA, evaluate=False),),
)

grow_q, grow_k = sp.symbols("gamma beta", nonnegative=True)
GROWN = {
    z: sp.conjugate(TURN) * w,
    z_s: (1 + grow_q) * sp.conjugate(TURN) * w,
    w_u: (1 + grow_k) * w,
}
BOTH_ATTAINED = Derivation(
    "(B) at (L, L) is attained, one channel",
    SHIFT_DIFFERENCE.subs(BOTH_LATER).subs(GROWN, simultaneous=True),
    (
        Link(
            "=",
            lam * (grow_q + grow_k + grow_q * grow_k) * sp.Abs(w) ** 2,
            "query and key grow along their own directions",
            Identity(),
        ),
        Link(
            "=",
            AUXILIARY["both_later"].subs(GROWN, simultaneous=True),
            "and so do their moduli",
            Identity(),
        ),
    ),
)

# --- the phase ------------------------------------------------------------------------------


def phase_of(shift: dict[sp.Symbol, sp.Expr | int], where: str) -> Derivation:
    """The shift identity at a shift by a period, its phase with it."""
    return Derivation(
        f"change at {where}, one channel",
        (SHIFTED_LOGIT - LOGIT).subs(shift),
        (
            Link(
                "=",
                SHIFT_DIFFERENCE.subs(shift),
                f"the shift identity at ${where}$",
                Lemma(IDENTITY, shift),
            ),
        ),
    )


WITHOUT_PHASE = lam * sp.re(TURN * (z * sp.conjugate(w_u) - z * sp.conjugate(w)))
"""The change at (0, L) with the factor exp(-i L theta) left out."""
QUARTER = {z: 1, w: 1, z_s: 1, w_u: 1, lam: 1, theta: sp.pi / 2, L: 2}
QUARTER |= dict.fromkeys(TURN.free_symbols - {theta}, 0)

# --- a constant that does not depend on L ---------------------------------------------------

RESONANT, REALISTIC = (
    Row(((sp.pi, sp.Integer(2), sp.Integer(0)), (sp.pi / 2, sp.Integer(1), sp.Integer(0)))),
    Row(
        (
            (2 * sp.pi / 700, sp.Integer(2), sp.Integer(0)),
            (sp.Integer(1), sp.Integer(1), sp.Integer(0)),
        )
    ),
)
"""The dominant channel, first, resonates exactly: L = 2, and L = 700 with base (700/2 pi)^2."""
STRONG = sp.Integer(10)
PERIODS = (44, 710, 103993)
"""Whole numbers near an odd multiple of 2 pi, ever nearer."""


def of_base(other: sp.Expr) -> Row:
    """RoPE with d = 4: theta_0 = 1 dominant by a factor of 10, theta_1 as given."""
    zero = sp.Integer(0)
    return Row(((sp.Integer(1), STRONG, zero), (other, sp.Integer(1), zero)))


def fails_at(row: Row, period: int, factor: int = 1) -> Exact:
    """`factor` times the published bound is below the change from distance 0 to L."""
    return row.beyond(sp.Integer(factor) * PUBLISHED, period, 0, L=period)


gap = sp.Symbol("e", real=True)
count = sp.Symbol("k", integer=True, nonnegative=True)
strength = sp.Symbol("A", nonnegative=True)
NEAR = 2 * sp.pi * (2 * count + 1) + gap
"""L, an odd multiple of 2 pi and a little more."""
FIXED_BASE = Derivation(
    "base 4: the change where L is e from an odd multiple of 2 pi",
    sp.Integer(1) + sp.cos(gap / 2),
    (
        Link(
            "<=",
            strength * (1 - sp.cos(NEAR)) + (1 - sp.cos(NEAR / 2)),
            r"$\cos L = \cos e$, $\cos(L/2) = -\cos(e/2)$",
            Solver(),
        ),
    ),
)
RESONANCE = Derivation(
    "base 4: the resonance error of the dominant channel there",
    2 * sp.Abs(sp.sin(NEAR / 2)),
    (Link("=", 2 * sp.Abs(sp.sin(gap / 2)), r"$\sin(L/2) = -\sin(e/2)$", Identity()),),
)
LEAST = Derivation(
    "for a gap of at most 1 the change is at least 3/2",
    sp.Rational(3, 2),
    (
        Link(
            "<=",
            1 + sp.cos(gap / 2),
            "the cosine near 0",
            Balls(gap, sp.Integer(-1), sp.Integer(1)),
        ),
    ),
    hypotheses=(sp.Le(-1, gap, evaluate=False), sp.Le(gap, 1, evaluate=False)),
)
SMALL = Derivation(
    "and the resonance error is at most the gap",
    2 * sp.sin(gap / 2),
    (
        Link(
            "<=",
            gap,
            r"$\sin x \le x$ on $[0, 1/2]$; both sides are odd",
            Balls(gap, sp.Integer(0), sp.Integer(1), zero_at_low=3),
        ),
    ),
    hypotheses=(sp.Le(0, gap, evaluate=False), sp.Le(gap, 1, evaluate=False)),
)
period = sp.Symbol("L", positive=True)
ANTI = Derivation(
    r"base $(L/\pi)^2$: the change",
    sp.Integer(2),
    (
        Link(
            "<=",
            strength * (1 - sp.cos(period)) + (1 - sp.cos(period * (sp.pi / period))),
            r"$\theta_1 = \pi/L$ turns by half a circle",
            Solver(),
        ),
    ),
)

# --- a constant that depends on everything --------------------------------------------------

error = sp.Symbol("delta", positive=True)
VACUOUS = Derivation(
    "with an error that is not 0 any residual is a constant times it, one channel",
    RESIDUAL,
    (
        Link("<=", 2 * lam * sp.Abs(z) * sp.Abs(w), r"$|\sin| \le 1$", Solver()),
        Link(
            "=",
            (2 * lam * sp.Abs(z) * sp.Abs(w) / error) * error,
            r"$C_2 = 2\lambda\sum_m|z||w|/\delta$ depends on L and $\theta$ through $\delta$",
            Identity(),
        ),
    ),
)

CLAIMS = (
    Claim(
        "another_channel",
        "counterexample",
        r"Exactly periodic (constant) queries and keys, d = 4, L = 2, $\theta = (\pi, \pi/2)$,"
        r" $|z||w| = (2, 1)$: no drift, the dominant channel resonates exactly, and $a_{t,t} ="
        r" 3\lambda$, $a_{t+2,t} = \lambda$. The same with $|z||w| = (1, 1)$: $2\lambda$ and 0.",
        instances=(
            Exact(
                "the published bound is 0", sp.Integer(0), "=", RESONANT.bound_of(PUBLISHED, L=2)
            ),
            Exact("$a_{t,t}$", sp.Integer(3), "=", RESONANT.at(0)),
            Exact("$a_{t+2,t}$", sp.Integer(1), "=", RESONANT.at(2)),
            fails_at(RESONANT, 2),
            Exact("sizes 1: $a_{t,t}$", sp.Integer(2), "=", RESONANT.at(0) - 1),
            Exact("sizes 1: $a_{t+2,t}$", sp.Integer(0), "=", RESONANT.at(2) - 1),
        ),
    ),
    Claim(
        "exact_resonance",
        "counterexample",
        r"With RoPE frequencies of a real base: d = 4, base $(700/2\pi)^2 \approx 12412$, L = 700,"
        r" constant inputs, $|z||w| = (1, 2)$ on $\theta = (1, 2\pi/700)$. The dominant channel"
        r" resonates exactly, $\delta = 0$ without drift, and the logit changes by"
        r" $\lambda(1 - \cos 700) > 1.8\lambda$: no constants help, whatever they depend on.",
        instances=(
            Exact("$\\delta = 0$", sp.Integer(0), "=", REALISTIC.bound_of(PUBLISHED, L=700)),
            fails_at(REALISTIC, 700),
            Exact("the change", sp.Rational(9, 5), "<", REALISTIC.at(0) - REALISTIC.at(700)),
        ),
    ),
    Claim(
        "constant_without_period",
        "counterexample",
        r"With RoPE of base 4, d = 4, $\theta = (1, 1/2)$, constant inputs, channel 0 stronger by"
        r" any factor A: for every $C_2$ that does not depend on L (it may on the frequencies, the"
        r" norms, d and $\lambda$) there are whole L at which the logit changes by at least"
        r" $\frac32\lambda$ and $C_2\delta$ is smaller, such as 44, 710 and 103993.",
        derivations=(FIXED_BASE, RESONANCE, LEAST, SMALL),
        instances=tuple(
            fails_at(of_base(sp.Rational(1, 2)), number, factor)
            for number, factor in zip(PERIODS, (5, 1000, 1000), strict=True)
        ),
        conclusions=(
            Conclusion(
                r"For every $\eta > 0$ some whole L is within $\eta$ of an odd multiple of $2\pi$.",
                r"$2\pi(2k + 1) = 4\pi k + 2\pi$, and the multiples of an irrational number are"
                r" dense modulo 1 (Kronecker); $\pi$ is irrational (Lambert). Take $\eta <"
                r" \min(1, 3\lambda/(2C_2))$.",
            ),
        ),
    ),
    Claim(
        "uniform_constant",
        "counterexample",
        r"The same with a base that grows with L: d = 4, $\theta_0 = 1$, base $(L/\pi)^2$, so"
        r" $\theta_1 = \pi/L$ is anti-resonant. The change is at least $2\lambda$, and $\delta$"
        r" is as small as one likes: 0.018 at L = 44, $6\cdot10^{-5}$ at 710 (base 51,076).",
        derivations=(ANTI, SMALL),
        instances=tuple(
            fails_at(of_base(sp.pi / number), number, factor)
            for number, factor in zip(PERIODS, (5, 1000, 1000), strict=True)
        ),
        conclusions=(
            Conclusion(
                r"For every $C_2$ there is such an L.",
                r"Dirichlet's approximation theorem: for every Q there are whole $1 \le p \le Q$"
                r" and L with $|2\pi p - L| < 1/Q$, so $\delta = 2|\sin(L/2)| < 1/Q$.",
            ),
        ),
    ),
    Claim(
        "constant_of_everything",
        "bound",
        r"If the base is an algebraic number (every whole number is one) and the dominant channel"
        r" turns, then $\delta > 0$ for every L, and $|a_{t+L,i} - a_{t,i}| \le C_1(\varepsilon_q +"
        r" \varepsilon_k) + C_2\delta$ holds with a $C_2$ that depends on L, $\theta$ and the"
        r" norms. It says no more than $|\sin| \le 1$.",
        derivations=(VACUOUS, QUERY_BOUND, FINITE_SUM),
        conclusions=(
            Conclusion(
                r"$L\theta_*$ is not a multiple of $2\pi$.",
                r"$\theta_* = c^{-2m/d}$ is algebraic and not 0, and $\pi$ is transcendental"
                r" (Lindemann).",
            ),
        ),
    ),
    Claim(
        "missing_phase",
        "identity",
        r"The change carries the phase of the shift: $e^{\mathrm iL\theta_m}$ at $(L, 0)$,"
        r" $e^{-\mathrm iL\theta_m}$ at $(0, L)$, none at $(L, L)$. Without it, periodic inputs"
        r" would repeat at any frequency.",
        derivations=(
            phase_of(LATER_QUERY, "(L, 0)"),
            phase_of(LATER_KEY, "(0, L)"),
            phase_of(BOTH_LATER, "(L, L)"),
        ),
    ),
    Claim(
        "phase_matters",
        "counterexample",
        r"Left out, the phase changes the result: one channel, $\theta = \pi/2$, L = 2, constant"
        r" input of size 1, $t = i$: the change at $(0, L)$ is $-2\lambda$, without the phase 0.",
        instances=(
            Exact(
                "with the phase",
                sp.Integer(-2),
                "=",
                SHIFT_DIFFERENCE.subs(LATER_KEY).subs(QUARTER),
            ),
            Exact("without", sp.Integer(0), "=", WITHOUT_PHASE.subs(QUARTER)),
        ),
    ),
    Claim(
        "later_query",
        "bound",
        r"(B) at $(L, 0)$, summed over channels: $|a_{t+L,i} - a_{t,i}| \le \lambda\sum_m"
        r" (|z_{t+L} - z_t||w_i| + 2|\sin(L\theta_m/2)||z_t||w_i|)$.",
        derivations=(QUERY_BOUND, FINITE_SUM),
    ),
    Claim(
        "later_key",
        "bound",
        r"(B) at $(0, L)$, for $i + L \le t$: $|a_{t,i+L} - a_{t,i}| \le \lambda\sum_m"
        r" (|z_t||w_{i+L} - w_i| + 2|\sin(L\theta_m/2)||z_t||w_i|)$.",
        derivations=(KEY_BOUND, FINITE_SUM),
    ),
    Claim(
        "both_later",
        "bound",
        r"(B) at $(L, L)$ needs no resonance: $|a_{t+L,i+L} - a_{t,i}| \le \lambda\sum_m"
        r" (|z_{t+L} - z_t||w_{i+L}| + |z_t||w_{i+L} - w_i|)$, and inputs of period L repeat"
        r" exactly.",
        derivations=(BOTH_BOUND, BOTH_WITHOUT_TURN, EXACT_REPEAT, FINITE_SUM),
    ),
    Claim(
        "every_channel",
        "bound",
        r"The published form holds at $(L, 0)$ with $\delta$ the largest $2|\sin(L\theta_m/2)|$ of"
        r" the channels that carry energy, and $C_2 = \lambda\sum_m|z^m||w^m|$.",
        derivations=(WORST, FINITE_SUM),
    ),
    Claim(
        "attained",
        "sharpness",
        r"With exactly periodic inputs the residual is attained on all channels at once, at $(L,"
        r" 0)$ and $(0, L)$, for every L and $\theta$; at $(L, L)$ the drift is; with drift and"
        " residual together as in shift_bound.",
        derivations=(
            only_turn("(B) at (L, 0) is attained", LATER_QUERY, THEOREM.bound),
            only_turn("(B) at (0, L) is attained", LATER_KEY, AUXILIARY["later_key"]),
            BOTH_ATTAINED,
        ),
        witness=r"$z' = z = \overline{e^{\mathrm i(t-i)\theta}(e^{\mathrm i\alpha} - 1)}\,w$, $w' ="
        r" w$",
        ratio="1",
    ),
)

ATTACKS = (
    changed(THEOREM.bound, (7, 0), L=7.0),
    changed(AUXILIARY["later_key"], (0, 7), L=7.0),
    changed(AUXILIARY["both_later"], (7, 7), L=7.0),
)

READINGS = (
    Reading(
        "arbitrary frequencies, constants that may depend on everything",
        "refuted",
        ("another_channel",),
        "A minor channel need not resonate with the dominant one.",
    ),
    Reading(
        "RoPE frequencies of any real base, constants that may depend on everything",
        "refuted",
        ("exact_resonance",),
        r"A base for which $L\theta_*$ is exactly $2\pi$ is not a whole number.",
    ),
    Reading(
        r"RoPE with a whole base, $C_2$ may depend on the frequencies, the norms, d and $\lambda$,"
        " but not on L",
        "refuted",
        ("constant_without_period",),
        "Base 4, d = 4.",
    ),
    Reading(
        r"RoPE, one $C_2$ for all bases and all L, for given norms",
        "refuted",
        ("uniform_constant", "constant_without_period"),
    ),
    Reading(THEOREM.published.reading, "refuted", ("another_channel", "constant_without_period")),
    Reading(
        "RoPE with a whole base, full rotation, constants that may depend on L and the frequencies",
        "holds",
        ("constant_of_everything",),
        "Vacuously: the constant absorbs the error of every channel, divided by that of one.",
    ),
)

PROOF = Proof(
    THEOREM,
    CLAIMS,
    READINGS,
    ATTACKS,
    meaning=(
        "Repetition of the input makes attention repeat along the diagonal, at (L, L), whatever the"
        " frequencies. Repetition of a row, or within a row, takes resonance of every channel that"
        " carries energy; that one channel resonates says nothing of the others."
    ),
)
