"""Theorem 5.3 at whole distances: next to a maximum, and with keys that drift."""

from __future__ import annotations

import sympy as sp

from proofs.engine.arcs import COSINE_NONNEGATIVE, SINE_NONNEGATIVE, ByCosines
from proofs.engine.arcs import x as arc
from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim, Conclusion, Exact
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled
from proofs.engine.relations import eq, le, lt
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import FINITE_SUM, REAL_PART, a
from proofs.lemmas.rows import Row
from proofs.periodic_sequential.counterexamples import HALF_SLOPE
from proofs.periodic_sequential.maxima import CRITICAL, NO_EDGE, SHARP_CREST, SHARP_TROUGH
from proofs.periodic_sequential.row import AUXILIARY, POLAR, ROW, SHARES, at_angle, beta, mu, nu
from proofs.shift_bound.proof import CHANNEL, IDENTITY, OLD, TURN
from tappa_theory.shift_identity import (
    LOGIT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    i,
    lam,
    s,
    t,
    theta,
    theta_star,
    u,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems.periodic_sequential import (
    DOMINANT,
    DRIFT_BEFORE,
    DRIFT_NEXT,
    KAPPA,
    SLOW,
    major,
    minor,
)

BEND = sp.Rational(1, 5)
OFF_CENTRE = Row(
    (
        (HALF_SLOPE, sp.sqrt(1 + 4 * BEND**2), sp.atan(2 * BEND)),
        (sp.Integer(1), BEND, -sp.pi / 2),
    )
).moved(sp.Rational(151, 100))
"""d = 4, base 4: the maximum lies at 1.51, and the logit at 1 is above the one at 2."""

NEXT, BEFORE = {s: 0, u: -1, z_s: z}, {s: 0, u: 1, z_s: z}
"""One position farther from the query is the key before, i - 1, and the other way round."""


def between(shift: dict[sp.Symbol, sp.Expr | int], where: str) -> Derivation:
    """The change of one channel from one distance to its neighbour."""
    return Derivation(
        f"change from one distance to the {where}, one channel",
        (SHIFTED_LOGIT - LOGIT).subs(shift),
        (
            Link(
                "=",
                SHIFT_DIFFERENCE.subs(shift),
                f"the shift identity at $(0, {shift[u]})$",
                Lemma(IDENTITY, shift),
            ),
        ),
    )


def of_a_competitor(shift: dict[sp.Symbol, sp.Expr | int], where: str) -> Derivation:
    """What a competitor can change from one distance to its neighbour."""
    return Derivation(
        f"a competitor, from one distance to the {where}",
        sp.Abs(SHIFT_DIFFERENCE.subs(shift)),
        (
            Link(
                "<=",
                (AUXILIARY["slow_rotation"] + AUXILIARY["neighbour_drift"]).subs(minor, 1),
                "(B) at this shift, the query unchanged",
                Lemma(CHANNEL, shift),
            ),
        ),
    )


def main_part(shift: dict[sp.Symbol, sp.Expr | int]) -> sp.Expr:
    """What the turn alone changes."""
    step = sp.exp(sp.I * (shift[s] - shift[u]) * theta)
    return lam * sp.re(TURN * (step - 1) * OLD)


def of_the_dominant(
    shift: dict[sp.Symbol, sp.Expr | int], where: str
) -> tuple[Derivation, Derivation]:
    """What the dominant channel changes beside its turn: what it is, and its size."""
    step = sp.exp(sp.I * (shift[s] - shift[u]) * theta)
    inner = TURN * step * z * sp.conjugate(w_u - w)
    title = f"the dominant channel, from one distance to the {where}: all but its turn"
    return (
        Derivation(
            title,
            SHIFT_DIFFERENCE.subs(shift) - main_part(shift),
            (Link("=", lam * sp.re(inner), "the turn taken out", Identity()),),
        ),
        Derivation(
            f"{title}, its size",
            lam * sp.Abs(sp.re(inner)),
            (
                Link(
                    "<=",
                    AUXILIARY["neighbour_drift"],
                    "a real part is no larger than the modulus",
                    Scaled(lam, Lemma(REAL_PART, {a: inner})),
                ),
            ),
        ),
    )


PHASE = (t - i) * theta + mu - nu
LEVER = AUXILIARY["dominant_rotation"].subs(major, 1)
TURN_NEXT = Derivation(
    "the dominant channel, turn to the next distance",
    main_part(NEXT).subs(POLAR),
    (
        Link(
            "=",
            -LEVER.subs(POLAR) * sp.sin(PHASE + theta / 2),
            r"$\cos(\Phi + \theta) - \cos\Phi = -2\sin(\theta/2)\sin(\Phi + \theta/2)$",
            Identity(),
        ),
    ),
)
TURN_BEFORE = Derivation(
    "the dominant channel, turn to the distance before",
    main_part(BEFORE).subs(POLAR),
    (
        Link(
            "=",
            LEVER.subs(POLAR) * sp.sin(PHASE - theta / 2),
            r"$\cos(\Phi - \theta) - \cos\Phi = 2\sin(\theta/2)\sin(\Phi - \theta/2)$",
            Identity(),
        ),
    ),
)

lever = sp.Symbol("G", positive=True)
rest_1, rest_2, psi = sp.symbols("E F Psi", real=True)


def rest(drift: sp.Symbol, where: str) -> Derivation:
    """What is not the dominant channel's turn, against that turn."""
    return Derivation(
        f"all but the dominant channel's turn, to the {where}, summed over the channels",
        SLOW + drift,
        (
            Link(
                "<=",
                AUXILIARY["kappa_j"] * DOMINANT,
                "$\\kappa_j$ is defined with the larger of the two drifts",
                Solver(),
            ),
        ),
    )


NOT_RISING = Derivation(
    "the next distance is not higher",
    -KAPPA,
    (
        Link(
            "<=",
            sp.sin(psi),
            r"the change is $-G\sin\Psi + E$ with $\Psi = \Phi + \theta_*/2$",
            Solver(),
        ),
    ),
    hypotheses=(
        le(-lever * sp.sin(psi) + rest_1, 0),
        le(sp.Abs(rest_1), KAPPA * lever),
    ),
)
NOT_FALLING = Derivation(
    "the distance before is not higher",
    sp.sin(psi),
    (
        Link(
            "<=",
            KAPPA,
            r"the change is $G\sin\Psi + F$ with $\Psi = \Phi - \theta_*/2$",
            Solver(),
        ),
    ),
    hypotheses=(
        le(lever * sp.sin(psi) + rest_2, 0),
        le(sp.Abs(rest_2), KAPPA * lever),
    ),
)
phi = sp.Symbol("Phi", real=True)
half = theta_star / 2
SIDES = (
    le(-sp.sin(beta), sp.sin(phi + half)),
    le(sp.sin(phi - half), sp.sin(beta)),
)
LEFT, RIGHT = sp.sin(beta) + sp.cos(phi) * sp.sin(half), sp.sin(phi) * sp.cos(half)
CREST_FACTOR = sp.cos(phi) - sp.cos(half + beta)
TROUGH_FACTOR = sp.cos(phi) + sp.cos(beta - half)
TWO_ARCS = Derivation(
    "both conditions as one",
    sp.Integer(0),
    (
        Link(
            "<=",
            LEFT**2 - RIGHT**2,
            r"$|\sin\Phi|\cos(\theta_*/2) \le \sin\beta + \cos\Phi\sin(\theta_*/2)$",
            Solver(),
        ),
        Link(
            "=",
            CREST_FACTOR * TROUGH_FACTOR,
            "the roots of the square, with $\\cos^2 + \\sin^2 = 1$",
            Identity(),
        ),
    ),
    hypotheses=SIDES,
    facts=(
        Fact(RIGHT, "<=", LEFT, "the second condition, its sine expanded", Solver()),
        Fact(-LEFT, "<=", RIGHT, "the first condition, its sine expanded", Solver()),
    ),
)
p, q = sp.symbols("p q", real=True)
ONE_FACTOR = Derivation(
    "a product that is not negative, one factor negative",
    q,
    (Link("<=", sp.Integer(0), "or the product would be negative", Solver()),),
    hypotheses=(le(0, p * q), lt(p, 0)),
)
OPPOSITE = {phi: sp.pi, beta: sp.pi / 3, theta_star: sp.pi / 3}
TROUGH_ARC = Derivation(
    "a maximum that is not near the crest is near the trough",
    TROUGH_FACTOR,
    (
        Link(
            "<=",
            sp.Integer(0),
            r"beyond the crest, $\cos\Phi < \cos(\theta_*/2 + \beta)$",
            Lemma(ONE_FACTOR, {p: CREST_FACTOR, q: TROUGH_FACTOR}),
        ),
    ),
    hypotheses=(le(0, CREST_FACTOR * TROUGH_FACTOR), lt(CREST_FACTOR, 0)),
    example=OPPOSITE,
)
TROUGH_NEEDS = Derivation(
    "which needs an arcsine of at least half a step",
    sp.Integer(0),
    (
        Link("<=", sp.sin(beta) - sp.sin(half) * sp.cos(beta - half), "both conditions", Solver()),
        Link(
            "=",
            sp.cos(half) * sp.sin(beta - half),
            r"$\beta = \theta_*/2 + (\beta - \theta_*/2)$",
            Identity(),
        ),
    ),
    hypotheses=(le(0, LEFT), le(TROUGH_FACTOR, 0), le(0, sp.sin(half))),
    example=OPPOSITE,
)
apart = sp.Symbol("v", nonnegative=True)
"""|Phi|, for Phi in (-pi, pi]."""
SMALL = (le(theta_star, sp.pi), le(beta, sp.pi / 2))
RANGE = (le(apart, sp.pi), *SMALL)
NEAR_CREST = Derivation(
    r"phase of a maximum near the crest, $v = |\Phi|$",
    apart,
    (
        Link(
            "<=",
            at_angle(AUXILIARY["crest"]),
            r"$\cos v \ge \cos(\theta_*/2 + \beta)$",
            ByCosines(Solver()),
        ),
    ),
    hypotheses=(*RANGE, le(0, CREST_FACTOR.subs(phi, apart))),
    facts=(
        Fact(
            at_angle(AUXILIARY["crest"]),
            "<=",
            sp.pi,
            r"$\theta_* \le \pi$ and $\beta \le \pi/2$",
            Solver(),
        ),
    ),
)
_AWAY, _REACH = sp.pi - apart, at_angle(AUXILIARY["trough"])
_OPPOSITE = sp.pi / 2 + half - beta
NEAR_TROUGH = Derivation(
    r"phase of a maximum near the trough, $v = |\Phi|$",
    _AWAY,
    (
        Link(
            "<=",
            _REACH,
            r"$\cos(\pi - v) \ge \cos(\beta - \theta_*/2)$",
            ByCosines(Solver()),
        ),
    ),
    hypotheses=(
        *RANGE,
        le(TROUGH_FACTOR.subs(phi, apart), 0),
        le(0, sp.cos(half) * sp.sin(beta - half)),
        lt(0, sp.cos(half)),
    ),
    facts=(
        Fact(sp.Integer(0), "<=", _AWAY, r"$v \le \pi$", Solver()),
        Fact(_AWAY, "<=", sp.pi, "$v \\ge 0$", Solver()),
        Fact(sp.Integer(0), "<=", _OPPOSITE, r"$\beta \le \pi/2$", Solver()),
        Fact(_OPPOSITE, "<=", sp.pi, r"$\theta_* \le \pi$", Solver()),
        Fact(
            _OPPOSITE,
            "<=",
            sp.pi / 2,
            r"its cosine is $\sin(\beta - \theta_*/2) \ge 0$",
            ByCosines(Solver()),
        ),
        Fact(sp.Integer(0), "<=", _REACH, "the same, rearranged", Solver()),
        Fact(_REACH, "<=", sp.pi, r"$\beta \le \pi/2$", Solver()),
    ),
)

# --- attained by drift alone ----------------------------------------------------------------

SINE, COSINE = sp.sin(half), sp.cos(half)


def _not_negative(angle: sp.Expr, of: Derivation, why: str, value: sp.Expr) -> Fact:
    return Fact(sp.Integer(0), "<=", value, why, Lemma(of, {arc: angle}))


SIGNS = (
    _not_negative(half, SINE_NONNEGATIVE, r"$0 \le \theta_*/2 \le \pi$", SINE),
    _not_negative(half, COSINE_NONNEGATIVE, r"$0 \le \theta_*/2 \le \pi/2$", COSINE),
    _not_negative(beta, SINE_NONNEGATIVE, r"$0 \le \beta \le \pi$", sp.sin(beta)),
)


def drifting(angle: sp.Expr, way: int) -> dict[sp.Symbol, sp.Expr]:
    """One channel whose phase is `angle`; the neighbouring key (way: 1 next, -1 before) drifts."""
    drift = 2 * SINE * sp.sin(beta) * sp.exp(sp.I * (angle + way * theta_star))
    return {z: sp.exp(sp.I * (angle - (t - i) * theta_star)), w: sp.Integer(1), w_u: 1 - drift}


def _change(shift: dict[sp.Symbol, sp.Expr | int]) -> sp.Expr:
    return (SHIFTED_LOGIT - LOGIT).subs(shift).subs(theta, theta_star)


def attained_by_drift(
    where: str, angle: sp.Expr, lean: sp.Expr, limits: tuple[sp.Basic, ...]
) -> tuple[Derivation, ...]:
    """A local maximum with the phase `angle`: level with the key before, not below the next.

    lean: sin(angle + theta_*/2) + sin(beta) is 2 sin(lean) cos(theta_*/2). limits: of the angles,
    so that lean is in [0, pi].
    """
    before, after = drifting(angle, -1), drifting(angle, 1)
    turned = LEVER.subs(theta, theta_star)

    def size(values: dict[sp.Symbol, sp.Expr], key: str) -> Derivation:
        return Derivation(
            f"{where}: drift of the key {key}, over the turn of the channel",
            AUXILIARY["neighbour_drift"],
            (
                Link(
                    "=",
                    sp.sin(beta) * turned,
                    r"its modulus is $2\sin(\theta_*/2)\sin\beta$",
                    AtChosen(by=Solver()),
                ),
            ),
            hypotheses=(*chosen({w: values[w], w_u: values[w_u]}), *SMALL),
            facts=SIGNS,
        )

    return (
        Derivation(
            f"{where}: the distance before is level",
            _change(BEFORE),
            (Link("=", sp.Integer(0), "drift against the turn, as much as it", AtChosen()),),
            hypotheses=chosen(before),
        ),
        Derivation(
            f"{where}: the next distance is not higher",
            _change(NEXT),
            (
                Link(
                    "=",
                    -4 * lam * SINE * COSINE * sp.sin(lean),
                    "the turn, and a drift that lowers the logit",
                    AtChosen(),
                ),
                Link("<=", sp.Integer(0), "every factor is not negative", Solver()),
            ),
            hypotheses=(*chosen(after), *limits),
            facts=(
                *SIGNS,
                _not_negative(lean, SINE_NONNEGATIVE, "an angle in $[0, \\pi]$", sp.sin(lean)),
            ),
        ),
        size(before, "before"),
        size(after, "after"),
    )


AT_CREST = attained_by_drift("crest", half + beta, half + beta, SMALL)
AT_TROUGH = attained_by_drift(
    "trough", sp.pi - (beta - half), beta - half, (SMALL[1], le(0, beta - half))
)
STILL = drifting(half + beta, 1) | {w_u: sp.Integer(1)}
NEXT_STILL = Derivation(
    "crest, one key still: the next distance is not higher",
    _change(NEXT),
    (
        Link(
            "=",
            -2 * lam * SINE * sp.sin(theta_star + beta),
            "the turn alone",
            AtChosen(),
        ),
        Link("<=", sp.Integer(0), "every factor is not negative", Solver()),
    ),
    hypotheses=(*chosen(STILL), le(theta_star + beta, sp.pi)),
    facts=(
        SIGNS[0],
        _not_negative(
            theta_star + beta,
            SINE_NONNEGATIVE,
            r"$\theta_* + \beta \le \pi$",
            sp.sin(theta_star + beta),
        ),
    ),
)


def kappa_of_drift(title: str, next_drift: sp.Expr) -> Derivation:
    """kappa_j where only keys drift."""
    return Derivation(
        f"$\\kappa_j$ of that channel, {title}",
        AUXILIARY["kappa_j"],
        (Link("=", sp.sin(beta), "the larger drift over the turn", Solver()),),
        hypotheses=(
            eq(SLOW, 0),
            eq(DRIFT_NEXT, next_drift),
            eq(DRIFT_BEFORE, sp.sin(beta) * DOMINANT),
        ),
    )


KAPPAS = (
    kappa_of_drift("both keys drift", sp.sin(beta) * DOMINANT),
    kappa_of_drift("one key drifts", sp.Integer(0)),
)

DISCRETE = Row(((sp.pi / 3, sp.Integer(1), -sp.pi / 3), (sp.pi, sp.Rational(1, 4), sp.Integer(0))))
"""kappa_0 = 1/2, and the local maximum at 0 has the phase -(h + beta) = -pi/3."""
IN_TROUGH = Row(
    (
        (sp.pi / 6, sp.Integer(1), 5 * sp.pi / 6),
        (sp.pi, sp.sin(sp.pi / 12) / sp.sqrt(2), sp.Integer(0)),
    )
)
"""kappa_0 = sqrt(2)/2, and the local maximum at 0 has the phase pi - (beta - h) = 5 pi/6."""


def kappa_at(row: Row) -> sp.Expr:
    """kappa_j of a row without drift, from the registry's sums."""
    slow = dominant = sp.Integer(0)
    for index, (f, size, _) in enumerate(row.channels):
        at = {z: size, w: 1, w_u: 1, lam: 1, theta: f}
        slow += AUXILIARY["slow_rotation"].subs({**at, minor: int(index > 0)})
        dominant += AUXILIARY["dominant_rotation"].subs({**at, major: int(index == 0)})
    sums = {SLOW: slow, DRIFT_NEXT: 0, DRIFT_BEFORE: 0, DOMINANT: dominant}
    return AUXILIARY["kappa_j"].subs(sums, simultaneous=True)


def discrete_maximum(row: Row, level_with: int, name: str, reached: sp.Expr) -> tuple[Exact, ...]:
    """A local maximum at 0, level with one neighbour, whose phase reaches the bound."""
    bound = AUXILIARY[name].subs({theta_star: row.channels[0][0], KAPPA: kappa_at(row)})
    return (
        Exact("the neighbour on one side is level", row.at(level_with), "=", row.at(0)),
        row.higher(-level_with, 0),
        Exact("its phase is the bound", sp.simplify(bound), "=", reached),
    )


KAPPA_J_NAMED = (
    r"$\kappa_j = (\sum_{m \ne m_*} 2|\sin(\theta_m/2)||z^m||w^m| + \max(\sum_m |z^m||w_+^m - w^m|,"
    r" \sum_m |z^m||w_-^m - w^m|))/(2\sin(\theta_*/2)|z^*||w^*|)$, with w the key at distance j and"
    r" $w_+$, $w_-$ those at $j + 1$ and $j - 1$"
)

CLAIMS = (
    Claim(
        "whole_positions",
        "bound",
        r"With constant query and key and $H < 1$: of the whole distances between two successive"
        r" local minima, if there is one, the highest is $\lfloor x_n\rfloor$ or $\lceil"
        r" x_n\rceil$, $x_n$ the maximum between them.",
        derivations=(ROW, *SHARES, CRITICAL, SHARP_CREST, SHARP_TROUGH, NO_EDGE),
        conclusions=(
            Conclusion(
                r"Between two successive minima the row rises up to $x_n$ and falls after it.",
                "A differentiable function is monotone where its derivative has one sign, and by"
                " one_per_period $f'$ vanishes there at $x_n$ only.",
            ),
        ),
    ),
    Claim(
        "not_the_nearer_one",
        "counterexample",
        r"It is not always the one nearer to $x_n$: RoPE with d = 4 and base 4, $x_n = 1.51$, and"
        r" $f(1) > f(2)$.",
        derivations=(ROW,),
        instances=(
            *OFF_CENTRE.maximum(sp.Rational(151, 100)),
            *OFF_CENTRE.enough(),
            OFF_CENTRE.higher(2, 1),
            OFF_CENTRE.higher(3, 2),
            OFF_CENTRE.higher(0, 1),
        ),
    ),
    Claim(
        "drifting_keys",
        "bound",
        r"Keys may drift, distances are whole, $0 < \theta_* < \pi$, $z^*$ and $w^*$ are not 0."
        r" Where $\kappa_j < 1$, a distance j whose logit is not below those of both neighbours $j"
        r" - 1$ and $j + 1$ has a phase $\Phi = \theta_* j + \arg(z^* \overline{w^*})$ within"
        r" $\theta_*/2 + \arcsin\kappa_j$ of the crest or within $\arcsin\kappa_j - \theta_*/2$ of"
        r" the trough. Here "
        + KAPPA_J_NAMED
        + r"; in registry and formulas slow_rotation, neighbour_drift and dominant_rotation are one"
        r" channel's terms of its sums; slow, drift_next, drift_before and dominant the sums; E and"
        r" F the change beside the dominant channel's turn to $j + 1$ and $j - 1$, G the sum"
        r" dominant, and $\beta = \arcsin\kappa_j$.",
        derivations=(
            between(NEXT, "next"),
            between(BEFORE, "one before"),
            of_a_competitor(NEXT, "next"),
            of_a_competitor(BEFORE, "one before"),
            *of_the_dominant(NEXT, "next"),
            *of_the_dominant(BEFORE, "one before"),
            TURN_NEXT,
            TURN_BEFORE,
            FINITE_SUM,
            rest(DRIFT_NEXT, "next"),
            rest(DRIFT_BEFORE, "one before"),
            NOT_RISING,
            NOT_FALLING,
            TWO_ARCS,
            NEAR_CREST,
            TROUGH_ARC,
            TROUGH_NEEDS,
            NEAR_TROUGH,
        ),
        conclusions=(
            Conclusion(
                r"$\Phi$ may be taken in $(-\pi, \pi]$.",
                r"Only its sine and cosine enter, and they have the period $2\pi$; the cosine is"
                r" even, $\cos v = \cos\Phi$.",
            ),
        ),
    ),
    Claim(
        "drifting_attained",
        "sharpness",
        r"Both are attained, by a maximum that is level with one neighbour. By drift alone, for"
        r" every $\theta_*$ in $(0, \pi)$ and $\kappa_j < 1$, in one channel: the crest always, the"
        r" trough where $\arcsin\kappa_j \ge \theta_*/2$; and where $\theta_* + \arcsin\kappa_j \le"
        r" \pi$, the key at $j + 1$ need not drift: the larger of the two drifts is what counts. By"
        r" a competitor without drift: $\theta = (\pi/3, \pi)$, $\kappa_j = 1/2$, phase $-\pi/3$;"
        r" $\theta = (\pi/6, \pi)$, $\kappa_j = \sqrt2/2$, phase $5\pi/6$.",
        derivations=(*AT_CREST, *AT_TROUGH, NEXT_STILL, *KAPPAS),
        instances=(
            Exact(r"$\kappa_j = 1/2$", HALF_SLOPE, "=", kappa_at(DISCRETE)),
            *discrete_maximum(DISCRETE, 1, "crest", -DISCRETE.channels[0][2]),
            Exact(r"$\kappa_j = \sqrt2/2$", sp.sqrt(2) / 2, "=", kappa_at(IN_TROUGH)),
            *discrete_maximum(IN_TROUGH, -1, "trough", sp.pi - IN_TROUGH.channels[0][2]),
        ),
        witness=r"$w = 1$, $w_\pm = 1 - 2\sin(\theta_*/2)\kappa_j e^{\mathrm i(\Phi \pm"
        r" \theta_*)}$, $z = e^{\mathrm i(\Phi - \theta_* j)}$, $\Phi$ the phase that is"
        r" claimed; or one competitor with $\theta = \pi$ that falls on both sides",
        ratio="1",
    ),
)
