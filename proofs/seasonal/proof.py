"""Theorem 5.4: inputs of period L, and what resonance it takes for attention to repeat.

The published form charges the resonance error of one channel, the dominant one. It fails on every
reading that leaves its constant C_2 independent of L; (B) charges every channel its own.
"""

from __future__ import annotations

import sympy as sp

from proofs.engine.arcs import JORDAN, SINE_NONNEGATIVE, Same
from proofs.engine.arcs import x as arc
from proofs.engine.balls import Balls
from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.engine.relations import eq, le
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import CAUCHY_SCHWARZ_SUM, FINITE_SUM, Finite, Induction, Products
from proofs.lemmas.rows import Row, changed, only_turn
from proofs.sequential.diagonal import CANCELS, NO_TURN, cauchy_schwarz
from proofs.shift_bound.proof import (
    CHANNEL,
    IDENTITY,
    POSITIVE,
    SHARP,
    TURN,
    WITNESS,
    rho,
)
from tappa_theory.shift_identity import (
    KEY_DRIFT,
    LOGIT,
    QUERY_DRIFT,
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
from tappa_theory.theorems.seasonal import (
    DELTA,
    ENERGY_SUM,
    KEY_NORM_U,
    KEY_STEP,
    QUERY_NORM,
    QUERY_STEP,
    THEOREM,
    L,
)

PUBLISHED: sp.Expr = THEOREM.published.bound
AUXILIARY = THEOREM.auxiliary
LATER_QUERY, LATER_KEY, BOTH_LATER = {s: L, u: 0, w_u: w}, {s: 0, u: L, z_s: z}, {s: L, u: L}
"""Shifts by a period; what is not shifted is itself."""

# --- what holds -----------------------------------------------------------------------------


def at_shift(shift: dict[sp.Symbol, sp.Expr | int], bound: sp.Expr, where: str) -> Derivation:
    """(B) at a shift by a period."""
    return Derivation(
        f"bound (B) at ${where}$, one channel",
        sp.Abs(SHIFT_DIFFERENCE.subs(shift)),
        (Link("<=", bound.subs(shift), f"(B) at the shift ${where}$", Lemma(CHANNEL, shift)),),
    )


QUERY_BOUND = at_shift(LATER_QUERY, THEOREM.bound, "(L, 0)")
KEY_BOUND = at_shift(LATER_KEY, AUXILIARY["later_key"], "(0, L)")
BOTH_BOUND = at_shift(BOTH_LATER, AUXILIARY["both_later"], "(L, L)")

EXACT_REPEAT = Derivation(
    "inputs of period L: both a period later, one channel",
    SHIFT_DIFFERENCE.subs(BOTH_LATER),
    (Link("=", sp.Integer(0), "the same vectors at the same distance", AtChosen()),),
    hypotheses=chosen({z_s: z, w_u: w}),
)
RESIDUAL = rotation_residual(L * theta)
WORST = Derivation(
    "the published form with the resonance error of every channel, one channel",
    sp.Abs(SHIFT_DIFFERENCE.subs({s: L, u: 0})),
    (
        Link("<=", THEOREM.bound, "(B) at the shift $(L, 0)$", Lemma(CHANNEL, {s: L, u: 0})),
        Link(
            "<=",
            AUXILIARY["worst_channel"],
            r"its resonance error is at most $\delta$, or it carries no energy",
            Terms(
                (
                    (sp.Integer(1), QUERY_DRIFT, QUERY_DRIFT, Solver()),
                    (sp.Integer(1), KEY_DRIFT, KEY_DRIFT, Solver()),
                    (
                        lam,
                        2 * sp.Abs(sp.sin(L * theta / 2)) * sp.Abs(z) * sp.Abs(w),
                        DELTA * sp.Abs(z) * sp.Abs(w),
                        Solver(),
                    ),
                )
            ),
        ),
    ),
    hypotheses=(
        le(
            2 * sp.Abs(sp.sin(L * theta / 2)) * sp.Abs(z) * sp.Abs(w),
            DELTA * sp.Abs(z) * sp.Abs(w),
        ),
    ),
)


class Turned(Finite):
    """Turned(X, D_1, D_2, S, c, d): what channels change, each at most by c(d_1 + d_2 + d g).

    X sums the changes, D_1, D_2 and S the channels' d_1, d_2 and g, none of them negative.
    """

    says = (
        "{0} sums the changes of the channels; no modulus of a change exceeds {4} times the sum of"
        " the channel's terms of {1}, of {2} and, times {5}, of {3}"
    )

    def shortest(self) -> tuple[sp.Expr, ...]:
        return (sp.Integer(0),) * 4 + self.args[4:]

    def longer(self) -> tuple[sp.Expr, ...]:
        change, first, second, energy, factor, error = self.args
        d_1, d_2, g = (sp.Dummy(name, nonnegative=True) for name in ("d_1", "d_2", "g"))
        angle = sp.Dummy("phi", real=True)  # its cosine is any number in [-1, 1]
        this = factor * (d_1 + d_2 + error * g) * sp.cos(angle)
        return change + this, first + d_1, second + d_2, energy + g, factor, error


whole_change = sp.Symbol("X", real=True)
D_1, D_2 = sp.symbols("D_1 D_2", nonnegative=True)
TURNED_SUM = Derivation(
    "sum over channels of drifts and resonance errors",
    sp.Abs(whole_change),
    (
        Link(
            "<=",
            lam * (D_1 + D_2 + DELTA * ENERGY_SUM),
            "by induction over the channels",
            Induction(Solver()),
        ),
    ),
    hypotheses=(Turned(whole_change, D_1, D_2, ENERGY_SUM, lam, DELTA),),
)
REPAIRED = Derivation(
    r"the published form; $D_1 = \sum|\Delta z||w'|$, $D_2 = \sum|z||\Delta w|$",
    sp.Abs(whole_change),
    (
        Link(
            "<=",
            lam * (D_1 + D_2 + DELTA * ENERGY_SUM),
            "the sum over the channels",
            Lemma(TURNED_SUM, {}),
        ),
        Link(
            "<=",
            lam * (QUERY_STEP * KEY_NORM_U + QUERY_NORM * KEY_STEP + DELTA * ENERGY_SUM),
            "Cauchy-Schwarz over the channels",
            Terms(
                (
                    (
                        lam,
                        D_1,
                        QUERY_STEP * KEY_NORM_U,
                        cauchy_schwarz(D_1, QUERY_STEP, KEY_NORM_U),
                    ),
                    (lam, D_2, QUERY_NORM * KEY_STEP, cauchy_schwarz(D_2, QUERY_NORM, KEY_STEP)),
                    (lam, DELTA * ENERGY_SUM, DELTA * ENERGY_SUM, Solver()),
                )
            ),
        ),
        Link(
            "<=",
            AUXILIARY["repaired"],
            r"$C_1 = \lambda\max(\|k'\|, \|q\|)$, $C_2 = \lambda S$",
            Scaled(lam, Solver()),
        ),
    ),
    hypotheses=(
        Turned(whole_change, D_1, D_2, ENERGY_SUM, lam, DELTA),
        Products(D_1, QUERY_STEP, KEY_NORM_U),
        Products(D_2, QUERY_NORM, KEY_STEP),
    ),
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

ONE_CHANNEL = (
    eq(QUERY_STEP, sp.Abs(z_s - z)),
    eq(KEY_STEP, sp.Abs(w_u - w)),
    eq(QUERY_NORM, sp.Abs(z)),
    eq(KEY_NORM_U, sp.Abs(w_u)),
    eq(ENERGY_SUM, sp.Abs(z) * sp.Abs(w)),
    eq(DELTA, 2 * sp.Abs(sp.sin(L * theta / 2))),
)
"""What the sums over the channels are where one channel has all the energy."""
REPAIRED_ATTAINED = Derivation(
    "the published form, repaired, is attained by one channel, query and later key equally long",
    SHIFT_DIFFERENCE.subs({s: L, u: 0}),
    (
        Link(
            "=",
            THEOREM.bound,
            "the witness of shift_bound attains (B)",
            Lemma(SHARP, {s: L, u: 0}),
        ),
        Link(
            "=",
            AUXILIARY["repaired"],
            r"$C_1 = \lambda\|k'\| = \lambda\|q\|$, $C_2 = \lambda|z||w|$, $\delta ="
            r" 2|\sin(L\theta/2)|$",
            Scaled(lam, Solver()),
        ),
    ),
    hypotheses=(
        *(h.subs({s: L, u: 0}) for h in SHARP.hypotheses),
        *ONE_CHANNEL,
        eq(QUERY_NORM, KEY_NORM_U),
    ),
)

EQUALLY_LONG = Derivation(
    r"where $\rho|\sin(L\theta/2)||w||w'| = 1$ query and later key of the witness are equally long",
    sp.Abs(z),
    (
        Link(
            "=",
            rho * sp.Abs(sp.sin(L * theta / 2)) * sp.Abs(w) * sp.Abs(w_u) ** 2,
            "turns have modulus 1",
            AtChosen((z,)),
        ),
        Link("=", sp.Abs(w_u), r"$\rho$ is chosen so", Solver()),
    ),
    hypotheses=(
        *(h.subs({s: L, u: 0}) for h in chosen({z: WITNESS[z]})),
        eq(rho * sp.Abs(sp.sin(L * theta / 2)) * sp.Abs(w) * sp.Abs(w_u), 1),
    ),
)

# --- the phase ------------------------------------------------------------------------------


def phase_of(shift: dict[sp.Symbol, sp.Expr | int], where: str) -> Derivation:
    """The shift identity at a shift by a period, its phase with it."""
    return Derivation(
        f"change at ${where}$, one channel",
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
QUARTER |= {t: 4, i: 0}

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
"""The dominant channel, first, resonates exactly: L = 2, and L = 700 with base (700/(2 pi))^2."""
EQUAL = Row(((sp.pi, sp.Integer(1), sp.Integer(0)), (sp.pi / 2, sp.Integer(1), sp.Integer(0))))
"""The same as the first with equal energies."""
STRONG = sp.Integer(10)
PERIODS = (44, 710, 103993)
"""Whole numbers near an odd multiple of 2 pi, ever nearer."""
LONG_PERIODS = (314, 35500, 120323)
"""Whole numbers near an odd multiple of 100 pi, ever nearer."""


def of_base(other: sp.Expr) -> Row:
    """Two channels, theta_0 = 1 dominant by a factor of 10, the other as given."""
    zero = sp.Integer(0)
    return Row(((sp.Integer(1), STRONG, zero), (other, sp.Integer(1), zero)))


def fails_at(row: Row, period: int, factor: int = 1) -> Exact:
    """`factor` times the published bound is below the change from distance 0 to L."""
    return row.beyond(sp.Integer(factor) * PUBLISHED, period, 0, L=period)


gap = sp.Symbol("r", nonnegative=True)
"""Distance of L from where the second channel turns by half a circle, or from 2 pi times p."""
count = sp.Symbol("k", integer=True, nonnegative=True)
turns = sp.Symbol("p", integer=True)
strength = sp.Symbol("A", nonnegative=True)
period = sp.Symbol("L", positive=True)
GAP_RANGE = (le(gap, 1),)


def near_half_turn(ratio: int, sign: int) -> sp.Expr:
    """L at the distance r from an odd multiple of pi ratio, which is even."""
    return ratio * sp.pi * (2 * count + 1) + sign * gap


def change_near(ratio: int, sign: int) -> Derivation:
    """theta = (1, 1/ratio), the first channel stronger by A: the change over L, lambda = 1."""
    near = near_half_turn(ratio, sign)
    return Derivation(
        f"$\\theta = (1, 1/{ratio})$: the change where L is r {'above' if sign > 0 else 'below'} an"
        f" odd multiple of ${ratio}\\pi$",
        sp.Rational(3, 2),
        (
            Link(
                "<=",
                1 + sp.cos(gap / ratio),
                r"$r \le 1$",
                Balls(gap, sp.Integer(0), sp.Integer(1)),
            ),
            Link(
                "<=",
                strength * (1 - sp.cos(gap)) + (1 + sp.cos(gap / ratio)),
                "the first channel falls, too, or stays",
                Solver(),
            ),
            Link(
                "=",
                strength * (1 - sp.cos(period)) + (1 - sp.cos(period / ratio)),
                rf"$\cos L = \cos r$, $\cos(L/{ratio}) = -\cos(r/{ratio})$: whole turns and half a"
                " turn",
                Same(period, near, Solver()),
            ),
        ),
        hypotheses=(*GAP_RANGE, eq(period, near)),
        example={gap: 0, count: 0, period: near.subs({gap: 0, count: 0}), strength: 1},
    )


def error_near(title: str, near: sp.Expr) -> Derivation:
    """The resonance error of a channel with theta = 1 where L is r from a multiple of 2 pi."""
    return Derivation(
        title,
        2 * sp.Abs(sp.sin(period / 2)),
        (
            Link(
                "=",
                2 * sp.Abs(sp.sin(gap / 2)),
                "L is r away from whole turns",
                Same(period, near, Solver()),
            ),
            Link("=", 2 * sp.sin(gap / 2), r"$0 \le r/2 \le \pi$", Solver()),
            Link(
                "<=",
                gap,
                r"$\sin x \le x$",
                Balls(gap, sp.Integer(0), sp.Integer(1), zero_at_low=3),
            ),
        ),
        hypotheses=(*GAP_RANGE, eq(period, near)),
        facts=(
            Fact(
                sp.Integer(0),
                "<=",
                sp.sin(gap / 2),
                r"$0 \le r/2 \le \pi$",
                Lemma(SINE_NONNEGATIVE, {arc: gap / 2}),
            ),
        ),
        example={
            symbol: value
            for symbol, value in {
                gap: sp.Integer(0),
                count: sp.Integer(0),
                turns: sp.Integer(1),
                period: near.subs({gap: 0, count: 0, turns: 1}),
            }.items()
            if symbol in near.free_symbols | {period}
        },
    )


SIDES = (1, -1)
RATIOS = (100, 2)
"""theta_0 / theta_1 of base 10000 and of base 4."""
CHANGES = tuple(change_near(ratio, sign) for ratio in RATIOS for sign in SIDES)
ERRORS = tuple(
    error_near(
        f"the resonance error of channel 0, L {'above' if sign > 0 else 'below'} an odd multiple of"
        f" ${ratio}\\pi$",
        near_half_turn(ratio, sign),
    )
    for ratio in RATIOS
    for sign in SIDES
)
ERRORS_OF_TURNS = tuple(
    error_near(
        f"the resonance error of channel 0, L {'above' if sign > 0 else 'below'} $2\\pi p$",
        2 * sp.pi * turns + sign * gap,
    )
    for sign in SIDES
)
slow = sp.Symbol("theta_1", positive=True)
ANTI = Derivation(
    r"base $(L/\pi)^2$: the change",
    sp.Integer(2),
    (
        Link(
            "<=", strength * (1 - sp.cos(period)) + 2, "the first channel falls, or stays", Solver()
        ),
        Link(
            "=",
            strength * (1 - sp.cos(period)) + (1 - sp.cos(period * slow)),
            r"$\theta_1 = \pi/L$ turns by half a circle",
            Same(period * slow, sp.pi, Solver()),
        ),
    ),
    hypotheses=(eq(period * slow, sp.pi),),
    example={period: sp.Integer(44), slow: sp.pi / 44, strength: sp.Integer(1)},
)

# --- the resonance error as a distance --------------------------------------------------------


def as_distance(sign: int) -> tuple[Derivation, Derivation]:
    """2|sin(L theta/2)| against the distance r of L theta from the nearest multiple of 2 pi."""
    angle, near = L * theta, 2 * sp.pi * turns + sign * gap
    side = "above" if sign > 0 else "below"
    given = (le(gap, sp.pi), eq(angle, near))
    positive_sine = Fact(
        sp.Integer(0),
        "<=",
        sp.sin(gap / 2),
        r"$0 \le r/2 \le \pi$",
        Lemma(SINE_NONNEGATIVE, {arc: gap / 2}),
    )
    chord = Link(
        "=",
        2 * sp.Abs(sp.sin(gap / 2)),
        "whole turns change no modulus of a sine of half the angle",
        Same(angle / 2, near / 2, Solver()),
    )
    at = {gap: sp.pi / 3, turns: (1 - sign) // 2, L: 1, theta: 2 * sp.pi * ((1 - sign) // 2)}
    at[theta] += sign * sp.pi / 3
    return (
        Derivation(
            rf"$2|\sin(L\theta/2)|$ is at most the distance r, {side} a multiple of $2\pi$",
            2 * sp.Abs(sp.sin(angle / 2)),
            (
                chord,
                Link("=", 2 * sp.sin(gap / 2), "the sine is not negative", Solver()),
                Link(
                    "<=",
                    gap,
                    "a chord is at most its arc",
                    Balls(gap, sp.Integer(0), sp.pi, zero_at_low=3),
                ),
            ),
            hypotheses=given,
            facts=(positive_sine,),
            example=at,
        ),
        Derivation(
            rf"and at least $2/\pi$ times it, {side}",
            gap,
            (
                Link(
                    "<=", sp.pi * sp.sin(gap / 2), "Jordan's inequality", Lemma(JORDAN, {arc: gap})
                ),
                Link("=", sp.pi * sp.Abs(sp.sin(gap / 2)), "the sine is not negative", Solver()),
                Link(
                    "=",
                    sp.pi * sp.Abs(sp.sin(angle / 2)),
                    "whole turns change no modulus of a sine of half the angle",
                    Same(angle / 2, near / 2, Solver()),
                ),
            ),
            hypotheses=given,
            facts=(positive_sine,),
            example=at,
        ),
    )


# --- a constant that depends on everything --------------------------------------------------

error = sp.Symbol("delta", positive=True)
constant = sp.Symbol("C_2", nonnegative=True)
VACUOUS = Derivation(
    "with an error that is not 0 any residual is a constant times it, one channel",
    RESIDUAL,
    (
        Link("<=", 2 * lam * sp.Abs(z) * sp.Abs(w), r"$|\sin| \le 1$", Solver()),
        Link(
            "=",
            constant * error,
            r"$C_2$ depends on L and $\theta$ through $\delta$",
            Solver(),
        ),
    ),
    hypotheses=(eq(constant * error, 2 * lam * sp.Abs(z) * sp.Abs(w)),),
)

CLAIMS = (
    Claim(
        "another_channel",
        "counterexample",
        r"Exactly periodic (constant) queries and keys, d = 4, L = 2, $\theta = (\pi, \pi/2)$,"
        r" $|z||w| = (2, 1)$: no drift, the dominant channel resonates exactly, and $a_{t,t} ="
        r" 3\lambda$, $a_{t+2,t} = \lambda$. With $|z||w| = (1, 1)$, $\delta = 0$ of the channel"
        r" that resonates: $2\lambda$ and 0.",
        instances=(
            Exact(
                "the published bound is 0", sp.Integer(0), "=", RESONANT.bound_of(PUBLISHED, L=2)
            ),
            Exact("$a_{t,t}$", sp.Integer(3), "=", RESONANT.at(0)),
            Exact("$a_{t+2,t}$", sp.Integer(1), "=", RESONANT.at(2)),
            fails_at(RESONANT, 2),
            Exact(
                "sizes 1: the published bound is 0",
                sp.Integer(0),
                "=",
                EQUAL.bound_of(PUBLISHED, L=2),
            ),
            Exact("sizes 1: $a_{t,t}$", sp.Integer(2), "=", EQUAL.at(0)),
            Exact("sizes 1: $a_{t+2,t}$", sp.Integer(0), "=", EQUAL.at(2)),
        ),
    ),
    Claim(
        "exact_resonance",
        "counterexample",
        r"With RoPE frequencies of a real base: d = 4, base $(700/(2\pi))^2 \approx 12412$, L ="
        r" 700, constant inputs, $|z||w| = (1, 2)$ on $\theta = (1, 2\pi/700)$. The dominant"
        r" channel resonates exactly, $\delta = 0$ without drift, and the logit changes by"
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
        r"With RoPE of base 10000, any d divisible by 4, energy on the channels 0 and d/4 alone, so"
        r" that $\theta = (1, 1/100)$, constant inputs, channel 0 stronger by any factor A: for"
        r" every $C_2$ that does not depend on L (it may on the frequencies, the norms, d and"
        r" $\lambda$) there are whole L at which the logit changes by at least $\frac32\lambda$ and"
        r" $C_2\delta$ is smaller, such as 314, 35500 and 120323. The same with base 4, $\theta ="
        r" (1, 1/2)$, at 44, 710 and 103993. The instances have A = 10.",
        derivations=(*CHANGES, *ERRORS),
        instances=tuple(
            fails_at(of_base(sp.Rational(1, ratio)), number, factor)
            for ratio, numbers, factors in (
                (100, LONG_PERIODS, (1, 50, 100)),
                (2, PERIODS, (5, 1000, 1000)),
            )
            for number, factor in zip(numbers, factors, strict=True)
        ),
        conclusions=(
            Conclusion(
                r"For every $\eta > 0$ some whole L is within $\eta$ of an odd multiple of"
                r" $100\pi$, and some of $2\pi$.",
                r"$100\pi(2k + 1) = 200\pi k + 100\pi$, and the multiples $200\pi k$, $k \ge 0$, of"
                r" an irrational number are dense modulo 1 (Kronecker), also when shifted; $\pi$ is"
                r" irrational (Lambert). The same with $4\pi k + 2\pi$. Take $\eta < \min(1,"
                r" 3\lambda/(2C_2))$.",
            ),
        ),
    ),
    Claim(
        "uniform_constant",
        "counterexample",
        r"The same with a base that grows with L: d = 4, $\theta_0 = 1$, base $(L/\pi)^2$, so"
        r" $\theta_1 = \pi/L$ is anti-resonant. The change is at least $2\lambda$, and $\delta$"
        r" is as small as one likes: 0.018 at L = 44, $6\cdot10^{-5}$ at 710 (base 51,076).",
        derivations=(ANTI, *ERRORS_OF_TURNS),
        instances=tuple(
            fails_at(of_base(sp.pi / number), number, factor)
            for number, factor in zip(PERIODS, (5, 1000, 1000), strict=True)
        ),
        conclusions=(
            Conclusion(
                r"For every $C_2$ there is such an L.",
                r"Dirichlet's approximation theorem: for every $Q \ge 1$ there are whole $1 \le p"
                r" \le Q$ and L with $|2\pi p - L| \le 1/Q$, so $\delta \le 1/Q$.",
            ),
        ),
    ),
    Claim(
        "error_as_distance",
        "bound",
        r"Read as the distance r of $L\theta_*$ from the nearest multiple of $2\pi$, the resonance"
        r" error is at most $\pi/2$ times as large as $2|\sin(L\theta_*/2)|$ and not smaller: what"
        r" is refuted for every $C_2$, or with $\delta = 0$, is refuted for that reading, too.",
        derivations=(*as_distance(1), *as_distance(-1)),
    ),
    Claim(
        "constant_of_everything",
        "bound",
        r"If the base is an algebraic number (every whole number is one) and the dominant channel"
        r" turns, then $\delta > 0$ for every L, and $|a_{t+L,i} - a_{t,i}| \le C_1(\varepsilon_q +"
        r" \varepsilon_k) + C_2\delta$ holds with $C_1$ as in every_channel and a $C_2$, summed"
        r" over the channels, that depends on L, $\theta$ and the norms. It says no more than"
        r" $|\sin| \le 1$: the residual is what every_channel says with $\delta = 2$.",
        derivations=(VACUOUS, QUERY_BOUND, FINITE_SUM, REPAIRED),
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
        r" input of size 1, $t = i + 4$: the change at $(0, L)$ is $-2\lambda$, without the phase"
        r" 0.",
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
        derivations=(phase_of(LATER_QUERY, "(L, 0)"), QUERY_BOUND, FINITE_SUM),
    ),
    Claim(
        "later_key",
        "bound",
        r"(B) at $(0, L)$, for $i + L \le t$: $|a_{t,i+L} - a_{t,i}| \le \lambda\sum_m"
        r" (|z_t||w_{i+L} - w_i| + 2|\sin(L\theta_m/2)||z_t||w_i|)$.",
        derivations=(phase_of(LATER_KEY, "(0, L)"), KEY_BOUND, FINITE_SUM),
    ),
    Claim(
        "both_later",
        "bound",
        r"(B) at $(L, L)$ needs no resonance: $|a_{t+L,i+L} - a_{t,i}| \le \lambda\sum_m"
        r" (|z_{t+L} - z_t||w_{i+L}| + |z_t||w_{i+L} - w_i|)$, and inputs of period L repeat"
        r" exactly.",
        derivations=(CANCELS, BOTH_BOUND, NO_TURN, EXACT_REPEAT, FINITE_SUM),
    ),
    Claim(
        "every_channel",
        "bound",
        r"The published form holds at $(L, 0)$ with $\delta$ the largest $2|\sin(L\theta_m/2)|$ of"
        r" the channels that carry energy ($|z^m||w^m| > 0$): $|a_{t+L,i} - a_{t,i}| \le"
        r" C_1(\varepsilon_q + \varepsilon_k) + C_2\delta$ with $C_1 = \lambda\max(\|k'\|,"
        r" \|q_t\|)$ and $C_2 = \lambda\sum_m|z^m||w^m|$, $\lambda$ one number for all channels."
        r" Here $\varepsilon_q = \|q_{t+L} - q_t\|$ is query_step, $\varepsilon_k = \|k' - k_i\|$"
        r" key_step, $k'$ the later key (at $(L, 0)$ it is $k_i$, and $\varepsilon_k = 0$),"
        r" query_norm $\|q_t\|$, key_norm_u $\|k'\|$, energy_sum or S the sum $\sum_m|z^m||w^m|$,"
        r" and X the change.",
        derivations=(
            phase_of(LATER_QUERY, "(L, 0)"),
            WORST,
            TURNED_SUM,
            CAUCHY_SCHWARZ_SUM,
            REPAIRED,
        ),
    ),
    Claim(
        "attained",
        "sharpness",
        r"With exactly periodic inputs the residual is attained on all channels at once, at $(L,"
        r" 0)$ and $(0, L)$, for every L and $\theta$; at $(L, L)$ the drift is; with drift and"
        r" residual together as in shift_bound. Where $L\theta_m$ is a multiple of $2\pi$ both"
        r" sides are 0.",
        derivations=(
            only_turn("(B) at (L, 0) is attained", LATER_QUERY, THEOREM.bound),
            only_turn("(B) at (0, L) is attained", LATER_KEY, AUXILIARY["later_key"]),
            BOTH_ATTAINED,
        ),
        witness=r"$z' = z = \overline{e^{\mathrm i(t-i)\theta}(e^{\mathrm i\alpha} - 1)}\,w$, $w' ="
        r" w$",
        ratio="1",
    ),
    Claim(
        "every_channel_attained",
        "sharpness",
        r"The repaired published form is attained, with drift and resonance error together: one"
        r" channel, $\delta = 2|\sin(L\theta/2)|$ its own, for every L and $\theta$ with $\delta >"
        r" 0$, and $\|q_t\| = \|k'\|$. Neither $C_1$ nor $C_2$ can be smaller.",
        derivations=(REPAIRED_ATTAINED, EQUALLY_LONG, POSITIVE),
        witness=r"that of shift_bound at the angle $L\theta$: $w' = w(1 + \beta(1 -"
        r" e^{\mathrm iL\theta}))$, $z = \rho\sin(L\theta/2)|w'|^2\,\overline{e^{\mathrm"
        r" i(t-i)\theta}\,\mathrm ie^{\mathrm iL\theta/2}}\,w$ and $z' = z(1 + \gamma(1 -"
        r" e^{-\mathrm iL\theta})\bar w/\bar w')$, with $\rho = 1/(|\sin(L\theta/2)||w||w'|)$",
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
        "Base 10000 with any d divisible by 4, and base 4.",
    ),
    Reading(
        r"RoPE, one $C_2$ for all bases and all L, for given norms",
        "refuted",
        ("uniform_constant", "constant_without_period"),
    ),
    Reading(THEOREM.published.reading, "refuted", ("another_channel", "constant_without_period")),
    Reading(
        r"any of these with $\delta$ the distance of $L\theta_*$ from the nearest multiple of"
        r" $2\pi$",
        "refuted",
        ("another_channel", "exact_resonance", "constant_without_period", "error_as_distance"),
        r"It differs from $2|\sin(L\theta_*/2)|$ by a factor of at most $\pi/2$.",
    ),
    Reading(
        r"RoPE with a whole base, a dominant channel that turns ($\theta_* > 0$), $C_2$ may depend"
        r" on L and the frequencies: $|a_{t+L,i} - a_{t,i}| \le C_1(\varepsilon_q + \varepsilon_k)"
        r" + C_2\delta$",
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
