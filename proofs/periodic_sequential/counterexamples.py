"""Theorem 5.3: the spacing is not the dominant period, and energy alone does not set it."""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Solver
from proofs.engine.claims import Claim, Conclusion, Exact
from proofs.engine.derivation import Derivation, Link
from proofs.engine.relations import eq, le
from proofs.lemmas.rows import Row
from proofs.periodic_sequential.row import AUXILIARY, PERIOD, ROW
from tappa_theory.shift_identity import theta, theta_star
from tappa_theory.theorems.periodic_sequential import (
    CURVATURE,
    ENERGY,
    ENERGY_STAR,
    KAPPA,
    RATIO_SUM,
    SLOPE,
    THEOREM,
)

HALF_SLOPE = sp.Rational(1, 2)
SHORT_ROW = Row(
    (
        (sp.Integer(1), sp.Integer(1), sp.pi / 6),
        (sp.Rational(3, 5), sp.Rational(5, 6), -sp.pi / 2),
    )
).moved(1)
"""RoPE with d = 4 and base 25/9. kappa = 1/2; maxima at the distances 1 and 1 + 5 pi/3."""

ONE_PERIOD = PERIOD.subs(theta_star, 1)
"""T of a dominant channel with theta_* = 1."""


def of_ten_thousand(channel: int) -> sp.Expr:
    """Frequency of a channel of RoPE with d = 128 and base 10000."""
    return sp.Integer(10) ** sp.Rational(-4 * channel, 64)


COMMON_ROW = Row(
    (
        (of_ten_thousand(0), sp.Integer(1), -sp.Rational(2, 5)),
        (of_ten_thousand(1), sp.Rational(4, 5), sp.Rational(16, 5)),
    )
)
"""RoPE with d = 128 and base 10000: maxima near the distances 0.975 and 6.080."""

SLOW_ENERGY = Row(
    (
        (of_ten_thousand(0), sp.Integer(1), sp.Integer(0)),
        (of_ten_thousand(63), sp.Integer(100), sp.Integer(0)),
    )
)
"""d = 128, base 10000: a hundred times the energy lies on a channel of period 54410."""

factor = sp.Symbol("eta", positive=True)
_AT_ETA = {ENERGY: factor, ENERGY_STAR: 1, theta_star: 1}
_SHARES = {KAPPA: SLOPE.subs(_AT_ETA), RATIO_SUM: CURVATURE.subs(_AT_ETA)}
_OF_BASE = (eq(100 * factor * theta, 1), le(1, factor))
ANY_FACTOR = (
    Derivation(
        r"$\kappa$ with $\eta$ times the energy on a channel of $\theta = 1/(100\eta)$",
        SLOPE.subs(_AT_ETA),
        (Link("=", sp.Rational(1, 100), r"$100\eta\theta = 1$", Solver()),),
        hypotheses=_OF_BASE[:1],
    ),
    Derivation(
        r"$\kappa^2 + R^2$ there",
        AUXILIARY["squares"].subs(_SHARES, simultaneous=True),
        (Link("<", sp.Integer(1), r"$R = \kappa\theta \le \kappa/100$", Solver()),),
        hypotheses=_OF_BASE,
    ),
    Derivation(
        "period of the channel of most energy",
        sp.Integer(600),
        (Link("<", PERIOD.subs(theta_star, theta), r"it is $200\pi\eta$", Solver()),),
        hypotheses=_OF_BASE,
    ),
)

CLAIMS = (
    Claim(
        "no_error_term",
        "counterexample",
        r"The spacing is not $T = 2\pi/\theta_*$. RoPE with d = 4 and base 25/9 has $\theta = (1,"
        r" 3/5)$; with $|z||w| = (1, 5/6)$ channel 0 has the most energy and the most"
        r" frequency-weighted energy, $\kappa = 1/2$, $R = 3/10$, and successive maxima of a row"
        r" are $5\pi/3 = \tfrac56 T$ apart. At whole distances the maxima are 1 and 6: spacing 5,"
        r" neither $\lfloor T\rfloor = 6$ nor $\lceil T\rceil = 7$.",
        derivations=(ROW,),
        instances=(
            *SHORT_ROW.maximum(1),
            *SHORT_ROW.maximum(1 + 5 * sp.pi / 3),
            *SHORT_ROW.enough(),
            Exact("the spacing is less than $T$", 5 * sp.pi / 3, "<", ONE_PERIOD),
            SHORT_ROW.higher(0, 1),
            SHORT_ROW.higher(2, 1),
            SHORT_ROW.higher(5, 6),
            SHORT_ROW.higher(7, 6),
        ),
        conclusions=(
            Conclusion(
                "No other maximum lies between them.", "The claim one_per_period at this row."
            ),
        ),
    ),
    Claim(
        "base_ten_thousand",
        "counterexample",
        r"The same with a base that models use, d = 128 and base 10000: $|z||w| = (1, 4/5)$ on the"
        r" channels 0 and 1, $\theta = (1, 10^{-1/16})$, no other energy. Successive maxima are"
        r" less than 5.25 apart, $T = 2\pi$; at whole distances they are 1 and 6.",
        derivations=(ROW,),
        instances=(
            *COMMON_ROW.enough(),
            *(
                step
                for rises, falls in (
                    (sp.Rational(9, 10), sp.Rational(21, 20)),
                    (sp.Integer(6), sp.Rational(123, 20)),
                )
                for step in (
                    Exact(f"the row rises at {rises}", sp.Integer(0), "<", COMMON_ROW.slope(rises)),
                    Exact(f"and falls at {falls}", COMMON_ROW.slope(falls), "<", sp.Integer(0)),
                )
            ),
            Exact(
                "the spacing is less than $T$",
                sp.Rational(123, 20) - sp.Rational(9, 10),
                "<",
                ONE_PERIOD,
            ),
            COMMON_ROW.higher(0, 1),
            COMMON_ROW.higher(2, 1),
            COMMON_ROW.higher(5, 6),
            COMMON_ROW.higher(7, 6),
        ),
        conclusions=(
            Conclusion(
                "A maximum lies in (9/10, 21/20), another in (6, 123/20).",
                "A continuous function on a closed interval has a maximum, and it is inside where"
                " the function rises at the start and falls at the end.",
            ),
            Conclusion(
                "They are successive.",
                r"The claim one_per_period at this row: they belong to the crests at $2/5$ and"
                r" $2/5 + 2\pi$.",
            ),
        ),
    ),
    Claim(
        "other_channels_turn",
        "counterexample",
        r"The residual of the dominant channel does not stand for the others: $N ="
        r" \mathrm{round}(2\pi) = 6$, no drift. In the row of no_error_term the logit changes by"
        r" more than 1.8 from distance 8 to 14, in that of base_ten_thousand by more than 1.1 from"
        r" 30 to 24, and the published residual allows 0.52 and 0.51 ($\lambda = 1$).",
        derivations=(ROW,),
        instances=(
            SHORT_ROW.beyond(THEOREM.published.bound, 8, 14, N=6),
            COMMON_ROW.beyond(THEOREM.published.bound, 30, 24, N=6),
            Exact("the first change", sp.Rational(18, 10), "<", SHORT_ROW.at(14) - SHORT_ROW.at(8)),
            Exact(
                "the second change",
                sp.Rational(11, 10),
                "<",
                COMMON_ROW.at(24) - COMMON_ROW.at(30),
            ),
        ),
    ),
    Claim(
        "energy_is_not_weighted",
        "counterexample",
        r"Dominance by energy alone, by whatever factor $\eta \ge 1$, does not set the spacing."
        r" RoPE with d = 4 and base $(100\eta)^2$, $|z||w| = (1, \eta)$: the channel of most energy"
        r" has period $200\pi\eta > 600$, but channel 0 is dominant by $A_m\theta_m$, $\kappa ="
        r" 1/100$, and successive maxima are closer than 7. The same for $\eta = 100$ with d = 128"
        r" and base 10000: channels 0 and 63, $|z||w| = (1, 100)$, $\kappa = 10^{-31/16}$.",
        derivations=ANY_FACTOR,
        instances=(
            Exact(
                "spacing at most",
                (PERIOD + AUXILIARY["spacing"]).subs({KAPPA: sp.Rational(1, 100), theta_star: 1}),
                "<",
                sp.Integer(7),
            ),
            *SLOW_ENERGY.enough(),
            Exact(
                "spacing at most, base 10000",
                (PERIOD + AUXILIARY["spacing"]).subs(
                    {KAPPA: SLOW_ENERGY.share("slope"), theta_star: 1}
                ),
                "<",
                sp.Integer(7),
            ),
            Exact(
                "period of channel 63",
                sp.Integer(54000),
                "<",
                PERIOD.subs(theta_star, of_ten_thousand(63)),
            ),
        ),
        conclusions=(Conclusion("The spacing is below 7.", "The claim spacing at these rows."),),
    ),
)
