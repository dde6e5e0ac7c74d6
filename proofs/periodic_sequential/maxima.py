"""Theorem 5.3: one maximum per period, how far it is displaced, and the spacing."""

from __future__ import annotations

import sympy as sp

from proofs.engine.arcs import ByCosines
from proofs.engine.certificates import BySquares, Solver, Squares
from proofs.engine.claims import Claim, Conclusion
from proofs.engine.derivation import Derivation, Lemma, Link, Scaled
from proofs.engine.relations import eq, le, lt
from proofs.lemmas.finite import FINITE_SUM
from proofs.lemmas.rows import x
from proofs.periodic_sequential.row import (
    AUXILIARY,
    CONDITION,
    NAMES,
    ROW,
    SHARES,
    SLOPE,
    at_angle,
    beta,
    crest,
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
from tappa_theory.shift_identity import theta, theta_star
from tappa_theory.theorems.periodic_sequential import DIRECTION, KAPPA, RATIO_SUM

# --- where the slope can vanish --------------------------------------------------------------

SLOPE_SHARE = Derivation(
    "slope of one competitor",
    sp.Abs(kappa * sp.sin(y)),
    (Link("<=", kappa, r"$|\sin y_m| \le 1$; summed over channels, $|V| \le \kappa$", Solver()),),
)
CRITICAL = Derivation(
    "phase of the dominant channel where the slope vanishes",
    sp.Abs(sp.sin(y)),
    (
        Link("=", sp.Abs(slopes), r"the slope is zero: $\sin y = -V$", Solver()),
        Link("<=", KAPPA, "no competitor is steeper than its share", Solver()),
    ),
    hypotheses=(eq(sp.sin(y) + slopes, 0), le(sp.Abs(slopes), KAPPA)),
)
ENDS = (eq(sp.sin(beta), KAPPA), le(sp.Abs(slopes), KAPPA))
BAND_START = Derivation(
    "the row does not fall where a band around a crest starts",
    sp.Integer(0),
    (
        Link(
            "<=", -sp.sin(-beta) - slopes, r"at $y = -\beta$ the crest rises by $\kappa$", Solver()
        ),
    ),
    hypotheses=ENDS,
)
BAND_END = Derivation(
    "the row does not rise where a band around a crest ends",
    -sp.sin(beta) - slopes,
    (Link("<=", sp.Integer(0), r"at $y = \beta$ the crest falls by $\kappa$", Solver()),),
    hypotheses=ENDS,
)
apart = sp.Symbol("v", nonnegative=True)
"""Distance of a phase from the nearest multiple of 2 pi."""
NEAR_CREST = Derivation(
    "on the crest side a slope that vanishes is near the crest",
    apart,
    (
        Link(
            "<=",
            beta,
            r"$\cos v = \sqrt{1 - \sin^2 v} \ge \sqrt{1 - \sin^2\beta} = \cos\beta$",
            ByCosines(Solver()),
        ),
    ),
    hypotheses=(
        le(apart, sp.pi),
        le(beta, sp.pi),
        le(0, sp.cos(apart)),
        le(sp.Abs(sp.sin(apart)), sp.sin(beta)),
    ),
)
DISPLACED = Derivation(
    "distance of a maximum from the crest of the dominant channel",
    sp.Abs(x - crest),
    (
        Link("=", apart / theta_star, r"in phase, $v = \theta_*|x - X|$", Solver()),
        Link(
            "<=",
            at_angle(AUXILIARY["displacement"]),
            r"$v \le \beta = \arcsin\kappa$",
            Scaled(1 / theta_star, Lemma(NEAR_CREST, {})),
        ),
    ),
    hypotheses=(eq(theta_star * sp.Abs(x - crest), apart), *NEAR_CREST.hypotheses),
)

# --- one maximum per period -----------------------------------------------------------------

TILT = sp.sqrt(sp.cos(DIRECTION) ** 2 + rho**2 * sp.sin(DIRECTION) ** 2)
"""CONDITION without its factor kappa_m, rho_m = theta_m / theta_*."""
ALONG = kappa * rho * sp.cos(y) * sp.sin(DIRECTION) + kappa * sp.sin(y) * sp.cos(DIRECTION)

SUPPORT = Derivation(
    "curvature and slope of one competitor in one direction",
    sp.Abs(ALONG),
    (
        Link(
            "<=",
            kappa * TILT,
            r"$\kappa_m^2(\cos^2 v + \rho_m^2\sin^2 v)$ exceeds the square by"
            r" $\kappa_m^2(\rho_m\sin v\sin y_m - \cos v\cos y_m)^2$",
            BySquares(
                Squares(
                    (
                        (
                            sp.Integer(1),
                            kappa
                            * (rho * sp.sin(DIRECTION) * sp.sin(y) - sp.cos(DIRECTION) * sp.cos(y)),
                        ),
                    )
                )
            ),
        ),
    ),
)
IN_ONE_DIRECTION = Derivation(
    "the condition, one competitor",
    sp.Abs(ALONG.subs({kappa: SLOPE, rho: theta / theta_star})),
    (
        Link(
            "<=",
            CONDITION,
            "summed over channels, $|W \\sin v + V \\cos v| \\le H$ for every $v$",
            Lemma(SUPPORT, {kappa: SLOPE, rho: theta / theta_star}),
        ),
    ),
)
SHORT = Derivation(
    "length of the vector (W, V)",
    curvatures**2 + slopes**2,
    (
        Link("=", size**2, "its length in its own direction $e$, $|e| = 1$", Solver()),
        Link("<=", level**2, r"$n = We_1 + Ve_2 \le H$", Solver()),
        Link("<", sp.Integer(1), "$H < 1$ by hypothesis", Solver()),
    ),
    hypotheses=(
        eq(e1**2 + e2**2, 1),
        eq(curvatures, size * e1),
        eq(slopes, size * e2),
        le(curvatures * e1 + slopes * e2, level),
        lt(level, 1),
    ),
)
IS_CRITICAL = (eq(sp.sin(y) + slopes, 0), lt(curvatures**2 + slopes**2, 1))
SHARP_CREST = Derivation(
    "on the crest side every critical point bends down",
    -sp.cos(y) - curvatures,
    (Link("<", sp.Integer(0), r"$W^2 < 1 - V^2 = \cos^2 y$", Solver()),),
    hypotheses=(*IS_CRITICAL, le(0, sp.cos(y))),
)
SHARP_TROUGH = Derivation(
    "on the trough side every critical point bends up",
    sp.Integer(0),
    (Link("<", -sp.cos(y) - curvatures, r"$W^2 < 1 - V^2 = \cos^2 y$", Solver()),),
    hypotheses=(*IS_CRITICAL, le(sp.cos(y), 0)),
)
NO_EDGE = Derivation(
    "no critical point lies between crest side and trough side",
    sp.Integer(0),
    (Link("<", sp.cos(y) ** 2, r"$\sin^2 y = V^2 \le W^2 + V^2 < 1$", Solver()),),
    hypotheses=IS_CRITICAL,
)

FASTER = Derivation(
    "sufficient: slope shares weighted by max(1, rho)",
    kappa * TILT,
    (
        Link(
            "<=",
            kappa * sp.Max(1, rho),
            r"an ellipse lies in the circle of its longer axis; 1 for a slower channel",
            Scaled(kappa, Solver()),
        ),
    ),
)
SPLIT = Derivation(
    "sufficient: shares of slope and of curvature, one competitor",
    kappa * TILT,
    (
        Link(
            "<=",
            kappa * (sp.Abs(sp.cos(DIRECTION)) + rho * sp.Abs(sp.sin(DIRECTION))),
            "the root of a sum of squares is at most the sum",
            Scaled(kappa, BySquares(Solver())),
        ),
    ),
)
ROOT_OF_SQUARES = Derivation(
    "sufficient: kappa^2 + R^2 < 1",
    KAPPA * sp.Abs(sp.cos(DIRECTION)) + RATIO_SUM * sp.Abs(sp.sin(DIRECTION)),
    (
        Link(
            "<=",
            sp.sqrt(AUXILIARY["squares"]),
            r"Cauchy-Schwarz with $(|\cos v|, |\sin v|)$, after the sum over channels",
            BySquares(Solver()),
        ),
        Link("<", sp.Integer(1), r"$\kappa^2 + R^2 < 1$", Solver()),
    ),
    hypotheses=(lt(AUXILIARY["squares"], 1),),
)

# --- spacing --------------------------------------------------------------------------------

first, second, crest_2 = sp.symbols("x_n x_{n+1} X_{n+1}", real=True)
reach = sp.Symbol("D", nonnegative=True)
SPACED = Derivation(
    "spacing of two successive maxima",
    sp.Abs((second - first) - (crest_2 - crest)),
    (
        Link(
            "<=",
            sp.Abs(second - crest_2) + sp.Abs(first - crest),
            "triangle inequality",
            Solver(),
        ),
        Link("<=", 2 * reach, "each is displaced by at most $D$", Solver()),
    ),
    hypotheses=(le(sp.Abs(first - crest), reach), le(sp.Abs(second - crest_2), reach)),
)
SPACING_BOUND = Derivation(
    "spacing of two successive maxima, with the displacement above",
    sp.Abs((second - first) - (crest_2 - crest)),
    (
        Link(
            "<=",
            at_angle(AUXILIARY["spacing"]),
            r"$D = \arcsin(\kappa)/\theta_*$, twice",
            Lemma(SPACED, {reach: beta / theta_star}),
        ),
    ),
    hypotheses=(
        le(sp.Abs(first - crest), at_angle(AUXILIARY["displacement"])),
        le(sp.Abs(second - crest_2), at_angle(AUXILIARY["displacement"])),
    ),
)

# --- claims ---------------------------------------------------------------------------------

ONE_PER_BAND = (
    Conclusion(
        r"Around every crest there is a critical point in the band.",
        r"Intermediate value theorem for $f'$, which is $\ge 0$ where the band starts and $\le 0$"
        r" where it ends. $\beta$ is the angle in $[0, \pi/2)$ with $\sin\beta = \kappa < 1$.",
    ),
    Conclusion(
        r"Every critical point lies in a band around a crest or a trough.",
        r"Every phase is $2\pi n \pm v$ with $0 \le v \le \pi$; where $\cos v < 0$ the same holds"
        r" of $\pi - v$ and the trough; $\cos v = 0$ would need $\kappa \ge 1$.",
    ),
)
ONLY_ONE = (
    Conclusion(
        r"Each band around a crest holds exactly one critical point, a strict local maximum, and"
        r" each critical point on a trough side is a strict local minimum.",
        r"Second-derivative test; two strict local maxima of a differentiable function have a"
        r" critical point between them at which it does not bend down.",
    ),
    Conclusion(
        r"$W^2 + V^2 \le H^2$ with $H = \sup_v \sum_m \kappa_m\sqrt{\cos^2 v + \rho_m^2\sin^2 v}$.",
        "A vector of the plane has a direction: $(W, V) = n(e_1, e_2)$ with $n \\ge 0$,"
        " $e_1 = \\sin v$ and $e_2 = \\cos v$.",
    ),
)

CLAIMS = (
    Claim(
        "displacement",
        "bound",
        r"With constant query and key and $\kappa < 1$: every local maximum of a row lies within"
        r" $\arcsin(\kappa)/\theta_*$ of a crest of the dominant channel or within as much of a"
        r" trough, and around every crest there is a critical point." + NAMES,
        derivations=(
            ROW,
            *SHARES,
            SLOPE_SHARE,
            FINITE_SUM,
            CRITICAL,
            BAND_START,
            BAND_END,
            NEAR_CREST,
            DISPLACED,
        ),
        conclusions=ONE_PER_BAND,
    ),
    Claim(
        "one_per_period",
        "bound",
        r"With constant query and key, $\kappa < 1$ and $H = \sup_v \sum_m \kappa_m\sqrt{\cos^2 v +"
        r" \rho_m^2\sin^2 v} < 1$, the row has exactly one local maximum $x_n$ around each crest"
        r" $\hat x_n = (2\pi n - \varphi_*)/\theta_*$ of the dominant channel, $|x_n - \hat x_n|"
        r" \le \arcsin(\kappa)/\theta_*$, and no others. Names as in displacement.",
        derivations=(
            ROW,
            *SHARES,
            SUPPORT,
            IN_ONE_DIRECTION,
            FINITE_SUM,
            SHORT,
            SHARP_CREST,
            SHARP_TROUGH,
            NO_EDGE,
            CRITICAL,
            BAND_START,
            BAND_END,
            NEAR_CREST,
            DISPLACED,
        ),
        conclusions=(*ONE_PER_BAND, *ONLY_ONE),
    ),
    Claim(
        "slower_or_weighted",
        "bound",
        r"$H < 1$ follows from $\sum_m \kappa_m\max(1, \rho_m) < 1$, so from $\kappa < 1$ when all"
        r" competitors are slower than the dominant channel ($\rho_m \le 1$).",
        derivations=(FASTER, FINITE_SUM),
    ),
    Claim(
        "squares",
        "bound",
        r"$H < 1$ follows from $\kappa^2 + R^2 < 1$. This is sufficient, not necessary: slower"
        r" competitors need $\kappa < 1$ only (slower_or_weighted), where $\kappa^2 + R^2$ may be"
        r" above 1. Of $\kappa$ and R alone nothing weaker suffices (squares_are_best).",
        derivations=(SPLIT, FINITE_SUM, ROOT_OF_SQUARES),
    ),
    Claim(
        "spacing",
        "bound",
        r"Under $H < 1$ successive maxima are $T$ apart within $2\arcsin(\kappa)/\theta_*$, and the"
        r" first of n + 1 is $nT$ from the last within as much.",
        derivations=(DISPLACED, SPACED, SPACING_BOUND),
        conclusions=(
            Conclusion(
                "Successive maxima belong to successive crests, $T$ apart; n further, $nT$ apart.",
                "The claim one_per_period.",
            ),
        ),
    ),
)
