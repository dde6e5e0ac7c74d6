"""Theorem 5.3: displacement and spacing are attained, and no weaker condition suffices."""

from __future__ import annotations

import sympy as sp

from proofs.engine.arcs import Same
from proofs.engine.certificates import Solver
from proofs.engine.claims import Claim, Conclusion, Exact
from proofs.engine.derivation import Derivation, Link, Terms
from proofs.engine.relations import eq, le, lt
from proofs.lemmas.finite import EQUAL_SUM
from proofs.lemmas.rows import Row
from proofs.periodic_sequential.counterexamples import SHORT_ROW
from proofs.periodic_sequential.maxima import (
    ALONG,
    BAND_END,
    BAND_START,
    FASTER,
    TILT,
    first,
    second,
)
from proofs.periodic_sequential.row import (
    AUXILIARY,
    PERIOD,
    at_angle,
    beta,
    curvatures,
    e1,
    e2,
    kappa,
    level,
    rho,
    size,
    slopes,
    y,
)
from tappa_theory.shift_identity import theta_star
from tappa_theory.theorems.periodic_sequential import DIRECTION, KAPPA, RATIO_SUM

AGAINST = Derivation(
    "the slope vanishes at displacement beta when every competitor falls steepest there",
    -sp.sin(beta) - KAPPA * sp.sin(-sp.pi / 2),
    (Link("=", sp.Integer(0), r"$y_m = -\pi/2$ for every $m$, so $V = -\kappa$", Solver()),),
    hypotheses=(eq(sp.sin(beta), KAPPA),),
)
AGAINST_BENDS = Derivation(
    "and the row bends down there",
    -sp.cos(beta) - RATIO_SUM * sp.cos(-sp.pi / 2),
    (Link("<", sp.Integer(0), r"$W = R\cos(\pi/2) = 0$", Solver()),),
    hypotheses=(lt(0, sp.cos(beta)),),
)


def spaced(sign: int) -> tuple[Derivation, ...]:
    """Two maxima T + sign 2 beta / theta_* apart, by one competitor of the share kappa = sin beta.

    The maxima have the phases -sign beta and 2 pi + sign beta, at which the phase of the
    competitor is sign pi/2 and sign pi/2 + pi.
    """
    start, stop = -sign * beta, 2 * sp.pi + sign * beta
    turned = rho * (stop - start)
    half_turn = eq(turned, sp.pi)
    competitor = rho * (y - start) + sign * sp.pi / 2
    slope = -sp.sin(y) - sp.sin(beta) * sp.sin(competitor)
    curvature = -sp.cos(y) - sp.sin(beta) * rho * sp.cos(competitor)
    title = f"spacing T {'+' if sign > 0 else '-'} 2 beta/theta_*: "
    at_stop = Same(y, stop, Solver())
    between = slope.xreplace({y: stop}), curvature.xreplace({y: stop})
    at_half = {beta: sp.pi / 6, rho: sp.pi / (stop - start).subs(beta, sp.pi / 6)}
    here, there = at_half | {y: start.subs(at_half)}, at_half | {y: stop.subs(at_half)}
    half = "the competitor has turned by half a circle in between"
    slower = r"$2\beta \ge 0$" if sign > 0 else r"$\beta < \pi/2$"
    bends = Link("<", sp.Integer(0), r"$\beta < \pi/2$", Solver())
    return (
        Derivation(
            title + "the slope vanishes at the first maximum",
            slope,
            (
                Link(
                    "=", sp.Integer(0), "the competitor is steepest there", Same(y, start, Solver())
                ),
            ),
            hypotheses=(eq(y, start),),
            example=here,
        ),
        Derivation(
            title + "the row bends down there",
            curvature,
            (
                Link("=", -sp.cos(beta), "the competitor does not bend", Same(y, start, Solver())),
                bends,
            ),
            hypotheses=(eq(y, start), lt(0, sp.cos(beta))),
            example=here,
        ),
        Derivation(
            title + "the slope vanishes at the second maximum",
            slope,
            (
                Link("=", between[0], "at the second maximum", at_stop),
                Link("=", sp.Integer(0), half, Same(turned, sp.pi, Solver())),
            ),
            hypotheses=(eq(y, stop), half_turn),
            example=there,
        ),
        Derivation(
            title + "the row bends down there, too",
            curvature,
            (
                Link("=", between[1], "at the second maximum", at_stop),
                Link("=", -sp.cos(beta), half, Same(turned, sp.pi, Solver())),
                bends,
            ),
            hypotheses=(eq(y, stop), half_turn, lt(0, sp.cos(beta))),
            example=there,
        ),
        Derivation(
            title + "the competitor is slower than the dominant channel",
            rho,
            (Link("<", sp.Integer(1), slower, Solver()),),
            hypotheses=(half_turn,) if sign > 0 else (half_turn, lt(beta, sp.pi / 2)),
            example=at_half,
        ),
        Derivation(
            title + "the spacing",
            second - first,
            (
                Link(
                    "=",
                    PERIOD + sign * at_angle(AUXILIARY["spacing"]),
                    r"in positions, phases over $\theta_*$",
                    Solver(),
                ),
            ),
            hypotheses=(eq(theta_star * first, start), eq(theta_star * second, stop)),
            example=at_half | {theta_star: 1, first: here[y], second: there[y]},
        ),
    )


LONG = Derivation(
    "the condition is the best: where it fails for one v, (W, V) can leave the unit circle",
    sp.Integer(1),
    (
        Link("<", level**2, "$H > 1$ for this $v$", Solver()),
        Link(
            "<=",
            curvatures**2 + slopes**2,
            r"with $(\cos y_m, \sin y_m)$ along $(\rho_m\sin v, \cos v)$,"
            r" $W\sin v + V\cos v = H$; Cauchy-Schwarz",
            Solver(),
        ),
    ),
    hypotheses=(eq(curvatures * e1 + slopes * e2, level), eq(e1**2 + e2**2, 1), lt(1, level)),
)
WRONG_WAY = Derivation(
    "then a critical point bends up, on whichever side it is",
    sp.Integer(0),
    (
        Link(
            "<",
            -sp.cos(y) - curvatures,
            r"$y_m \mapsto \pi - y_m$ makes $W < 0$, and $W^2 > \cos^2 y$",
            Solver(),
        ),
    ),
    hypotheses=(
        eq(sp.sin(y) + slopes, 0),
        lt(1, curvatures**2 + slopes**2),
        le(curvatures, 0),
    ),
)
EQUAL_SUPPORT = Derivation(
    r"equality in one direction, one competitor; summed, $W\sin v + V\cos v = H$",
    ALONG.subs({sp.cos(y): rho * sp.sin(DIRECTION) * size, sp.sin(y): sp.cos(DIRECTION) * size}),
    (
        Link(
            "=",
            kappa * TILT,
            r"$(\cos y_m, \sin y_m) = n(\rho_m\sin v, \cos v)$, $n = 1/\sqrt{\cos^2 v +"
            r" \rho_m^2\sin^2 v}$",
            Solver(),
        ),
    ),
    hypotheses=(eq(size * TILT, 1),),
)

slow, fast, slow_speed, fast_speed = sp.symbols("kappa_1 kappa_2 rho_1 rho_2", nonnegative=True)


def _tilt(speed: sp.Expr) -> sp.Expr:
    """The condition of one competitor of this speed, without its factor kappa_m."""
    return TILT.subs(rho, speed)


CONDITION_OF_TWO = slow * _tilt(slow_speed) + fast * _tilt(fast_speed)
SLOW_AND_FAST = Derivation(
    r"$\sqrt{\kappa^2 + R^2}$ exceeds the condition of two competitors by $\kappa_2 +"
    r" \kappa_1\rho_1$ at most",
    sp.sqrt(AUXILIARY["squares"]),
    (
        Link(
            "=",
            KAPPA * sp.cos(DIRECTION) + RATIO_SUM * sp.sin(DIRECTION),
            r"v is the direction of $(\kappa, R) = n(\cos v, \sin v)$",
            Solver(),
        ),
        Link(
            "=",
            slow * sp.cos(DIRECTION)
            + fast * (fast_speed * sp.sin(DIRECTION))
            + fast * sp.cos(DIRECTION)
            + slow * slow_speed * sp.sin(DIRECTION),
            "two shares each",
            Solver(),
        ),
        Link(
            "<=",
            CONDITION_OF_TWO + fast + slow * slow_speed,
            "a root of a sum of squares is not below either root",
            Terms(
                (
                    (slow, sp.cos(DIRECTION), _tilt(slow_speed), Solver()),
                    (fast, fast_speed * sp.sin(DIRECTION), _tilt(fast_speed), Solver()),
                    (fast, sp.cos(DIRECTION), sp.Integer(1), Solver()),
                    (slow * slow_speed, sp.sin(DIRECTION), sp.Integer(1), Solver()),
                )
            ),
        ),
    ),
    hypotheses=(
        eq(KAPPA, size * sp.cos(DIRECTION)),
        eq(RATIO_SUM, size * sp.sin(DIRECTION)),
        eq(KAPPA, slow + fast),
        eq(RATIO_SUM, slow * slow_speed + fast * fast_speed),
    ),
)

LONG_ROW = Row(
    (
        (sp.Integer(1), sp.Integer(1), -sp.pi / 6),
        (sp.Rational(3, 7), sp.Rational(7, 6), sp.pi / 2),
    )
).moved(1)
"""d = 4, base 49/9, kappa = 1/2; maxima at 1 and 1 + 7 pi/3."""
TWO_TOPS = Row(
    (
        (sp.Rational(2, 3), sp.Integer(1), -sp.Rational(67, 100)),
        (sp.Integer(1), sp.Rational(31, 75), sp.Rational(268, 100)),
        (
            sp.Rational(2, 3) ** 7,
            sp.Rational(35, 100) * sp.Rational(3, 2) ** 6,
            sp.Rational(169, 100),
        ),
    )
).moved(10)
"""d = 16, base (3/2)^8: channels 1 (dominant), 0 and 7; kappa = 0.97, R < 1."""

CLAIMS = (
    Claim(
        "displacement_attained",
        "sharpness",
        r"For all frequencies and shares with $\kappa < 1$ there are phases at which a maximum is"
        r" displaced by exactly $\arcsin(\kappa)/\theta_*$.",
        derivations=(AGAINST, AGAINST_BENDS),
        witness=r"$y_m = -\pi/2$ for every competitor where $y = \arcsin\kappa$",
        ratio="1",
    ),
    Claim(
        "spacing_attained",
        "sharpness",
        r"For every $\kappa < 1$ and every $\theta_*$ the spacing can be $T -"
        r" 2\arcsin(\kappa)/\theta_*$ and $T + 2\arcsin(\kappa)/\theta_*$, with one competitor:"
        r" $\rho = \pi/(2\pi \mp 2\beta) < 1$, so that $H < 1$. For $\theta_* = 1$ it is RoPE with"
        r" d = 4 and base $1/\rho^2$; $\kappa = 1/2$ gives $\theta = (1, 3/5)$ and $(1, 3/7)$.",
        derivations=(*spaced(-1), *spaced(1), FASTER),
        instances=tuple(
            step
            for row, spacing, sign in (
                (SHORT_ROW, 5 * sp.pi / 3, -1),
                (LONG_ROW, 7 * sp.pi / 3, 1),
            )
            for step in (
                *row.maximum(1),
                *row.maximum(1 + spacing),
                *row.enough(),
                Exact(
                    r"$T \pm 2\arcsin(\kappa)/\theta_*$",
                    (PERIOD + sign * AUXILIARY["spacing"]).subs(
                        {KAPPA: row.share("slope"), theta_star: 1}
                    ),
                    "=",
                    spacing,
                ),
            )
        ),
        conclusions=(
            Conclusion(
                "The two maxima are successive.",
                "The claim one_per_period: each is the one of its crest, and the crests are"
                " neighbours.",
            ),
        ),
        witness=r"the competitor's phase is $\pm\pi/2$ where $y = \mp\beta$; $\theta = (1, 3/5)$,"
        r" $|z||w| = (1, 5/6)$ and $\theta = (1, 3/7)$, $(1, 7/6)$",
        ratio="1",
    ),
    Claim(
        "both_shares_below_one",
        "counterexample",
        r"$\kappa < 1$ and $R < 1$ do not suffice. RoPE with d = 16 and base $(3/2)^8$: dominant"
        r" channel 1, competitors 0 and 7, $\kappa_m = (0.62, 0.35)$, $\rho_m = (3/2, (2/3)^6)$:"
        r" two local maxima less than 4 apart, while $T = 3\pi$.",
        instances=(
            Exact(r"$\kappa = 97/100$", sp.Rational(97, 100), "=", TWO_TOPS.share("slope")),
            Exact("$R < 1$", TWO_TOPS.share("curvature"), "<", sp.Integer(1)),
            Exact(
                r"$T - 2\arcsin(\kappa)/\theta_*$ is above 4",
                sp.Integer(4),
                "<",
                (PERIOD - AUXILIARY["spacing"]).subs(
                    {KAPPA: TWO_TOPS.share("slope"), theta_star: TWO_TOPS.channels[0][0]}
                ),
            ),
            Exact("the row rises at 8", sp.Integer(0), "<", TWO_TOPS.slope(8)),
            Exact("falls at 19/2", TWO_TOPS.slope(sp.Rational(19, 2)), "<", sp.Integer(0)),
            Exact("rises at 523/50", sp.Integer(0), "<", TWO_TOPS.slope(sp.Rational(523, 50))),
            Exact("falls at 12", TWO_TOPS.slope(12), "<", sp.Integer(0)),
        ),
        conclusions=(
            Conclusion(
                "A local maximum lies in (8, 19/2), another in (523/50, 12).",
                "A continuous function on a closed interval has a maximum, and it is inside where"
                " the function rises at the start and falls at the end.",
            ),
            Conclusion(
                "One of the two is not as one_per_period would have it.",
                r"With one maximum around each crest, each within $\arcsin(\kappa)/\theta_*$, and"
                r" no others, two maxima are at least $T - 2\arcsin(\kappa)/\theta_* > 5.4$ apart;"
                r" these"
                " are less than 4 apart.",
            ),
        ),
    ),
    Claim(
        "condition_is_best",
        "sharpness",
        r"If $\kappa < 1$ and $\sum_m \kappa_m\sqrt{\cos^2 v + \rho_m^2\sin^2 v} > 1$ for some $v$,"
        r" there are phases for which one crest has two local maxima: in terms of shares and"
        r" frequencies alone, no condition that implies $\kappa < 1$ and is weaker than $H < 1$"
        r" suffices, up to $H = 1$. Here H is the sum at this v.",
        derivations=(EQUAL_SUPPORT, EQUAL_SUM, LONG, WRONG_WAY, BAND_START, BAND_END),
        conclusions=(
            Conclusion(
                "On both sides of a strict local minimum inside a band there is a local maximum"
                " in the band.",
                r"The row does not fall where the band starts and does not rise where it ends; a"
                r" continuous function on a closed interval has a maximum. Where the slope vanishes"
                r" at an end, $|V| = \kappa$ and so $W = 0$: that end is a strict local maximum"
                r" itself. $|V| \le \kappa < 1$"
                r" lets $y$ on the crest side have $\sin y = -V$.",
            ),
        ),
        witness=r"$(\cos y_m, \sin y_m)$ along $(-\rho_m\sin v, \cos v)$ and $\sin y = -V$, for the"
        r" $v$ of the supremum",
        ratio="1",
    ),
    Claim(
        "squares_are_best",
        "sharpness",
        r"Where only $\kappa$ and R are known, the 1 of $\kappa^2 + R^2 < 1$ cannot be replaced by"
        r" a larger number: for all $\kappa < 1$ and R with $\kappa^2 + R^2 > 1$ there are a slow"
        r" and a fast competitor with these sums, and phases, for which one crest has two local"
        r" maxima. $\kappa_1$, $\rho_1$ belong to the slow one, $\kappa_2$, $\rho_2$ to the fast"
        r" one.",
        derivations=(SLOW_AND_FAST,),
        conclusions=(
            Conclusion(
                r"There are two competitors with these sums and a v where the sum of"
                r" condition_is_best is above 1.",
                r"$\kappa_2 = \rho_1 = \epsilon$, $\kappa_1 = \kappa - \epsilon$ and $\rho_2 = (R -"
                r" \kappa_1\rho_1)/\epsilon$ have the sums $\kappa$ and R, and $\kappa_2 +"
                r" \kappa_1\rho_1 \le 2\epsilon$ is below $\sqrt{\kappa^2 + R^2} - 1$ for small"
                r" $\epsilon > 0$; $\kappa > 0$, or R would be 0. By condition_is_best there are"
                r" phases with two maxima.",
            ),
        ),
        witness=r"two competitors, $\kappa = (\kappa - \epsilon, \epsilon)$, $\rho_1 = \epsilon$,"
        r" $\epsilon \to 0$",
        ratio="-> 1",
    ),
)
