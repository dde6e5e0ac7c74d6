"""Rotation precision: rounding of angles, of cosines and sines, of the rotation, and its price."""

from __future__ import annotations

import sympy as sp

from proofs.engine.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.lemmas.finite import FINITE_SUM
from proofs.rotation_precision.arithmetic import (
    ARITHMETIC_ERROR,
    BOTH_COMPONENTS,
    CHANNEL,
    CHANNEL_FUSED,
    COMPONENT,
    COMPOSED,
    FUSED,
    FUSED_PRODUCTS,
    INVARIANCE,
    MODULUS,
    PRODUCT_ERROR,
    ROTATION,
    SHARP_ARITHMETIC,
    SHARP_FUSED,
    SHARP_INVARIANCE,
    SIZES,
)
from proofs.rotation_precision.attacks import ATTACKS
from proofs.rotation_precision.table import (
    ANGLE_OF_PAIR,
    ANY_CHORD,
    BELOW_ONE,
    COMPUTED,
    DEVIATION,
    DEVIATION_SCALED,
    DIAGONAL,
    LARGEST_ANGLE,
    LARGEST_ANGLE_SCALED,
    MIRRORED,
    NEAR,
    OVERTAKES,
    PARTS,
    RELATIVE,
    SCALED_TABLE,
    SHARP_ANGLE,
    SHARP_ARCSINE,
    SHARP_DEVIATION,
    SHARP_PARTS,
    SHARP_SCALED,
    SHARP_SCALED_NEAREST,
    SHARP_TABLE,
    STORED_SIZE,
    TABLE,
    TURN,
)
from tappa_theory.theorems.rotation_precision import (
    CROSSOVER,
    TABLE_ERROR,
    THEOREM,
    TRIG_ERROR,
    U_ANGLE,
    U_TABLE,
    UNIT_ROUNDOFF,
)


def corner(name: str, odd_1: int, odd_2: int, share: sp.Rational) -> tuple[Exact, ...]:
    """A unit vector whose cosine and sine lie next to the middle between two stored numbers.

    odd_1, odd_2: those middles in half spacings below 1, their squares add up to nearly that of 1.
    """
    unit = UNIT_ROUNDOFF[name]
    length = sp.sqrt(odd_1**2 + odd_2**2)
    # beyond the circle the vector lies below both middles and is rounded down, else up
    side = -1 if odd_1**2 + odd_2**2 > 4 / unit**2 else 1
    half = unit / 2
    exact = [odd / length for odd in (odd_1, odd_2)]
    errors = [(odd + side) * half - e for odd, e in zip((odd_1, odd_2), exact, strict=True)]
    largest = TABLE_ERROR.subs({TRIG_ERROR: 0, U_TABLE: unit})
    return (
        *(
            Exact(
                f"{name}: rounding to nearest moves the {part} by less than half the spacing",
                side * error,
                "<",
                half,
            )
            for part, error in zip(("cosine", "sine"), errors, strict=True)
        ),
        Exact(
            f"{name}: and the pair by more than {float(share)} of the bound",
            share * largest,
            "<",
            sp.sqrt(errors[0] ** 2 + errors[1] ** 2),
        ),
    )


def crossover(name: str) -> sp.Expr:
    """p theta at which a float32 angle may be as wrong as a table in that format."""
    return CROSSOVER.subs({U_TABLE: UNIT_ROUNDOFF[name], U_ANGLE: UNIT_ROUNDOFF["float32"]})


ANGLE_CONCLUSIONS = (
    Conclusion(
        "the stored pair is a positive multiple of the unit vector of the computed angle, turned"
        r" by $\psi$ or $-\psi$, $0 \le \psi \le \pi$",
        "polar coordinates: every complex number but 0 is a positive number times a number of"
        " modulus 1; a pair closer than 1 to a unit vector is not 0, and one at the distance 1 has"
        " an angle if it is not 0",
    ),
    Conclusion(
        "the angle between two directions is at most the modulus of any of its representatives",
        r"definition of the principal argument: the representative in $(-\pi, \pi]$",
    ),
)

PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="rounding",
            kind="bound",
            statement=(
                "Rounding to nearest with p significant bits moves a number by at most $2^{-p}$ of"
                r" itself, and a number in $[-1, 1]$ by at most $2^{-p}/2$, underflow included: for"
                r" bfloat16 by $2^{-8}$ of itself, and a cosine by $2^{-9}$."
            ),
            derivations=(RELATIVE, BELOW_ONE),
            instances=(
                Exact(
                    "bfloat16, 8 bits: $1 + 2^{-8}$ is as far from 1 as from $1 + 2^{-7}$, and more"
                    " than $2^{-9}$ of itself from both",
                    UNIT_ROUNDOFF["bfloat16"] / 2,
                    "<",
                    sp.Rational(1, 2**8) / (1 + sp.Rational(1, 2**8)),
                ),
            ),
            conclusions=(
                Conclusion(
                    "the hypotheses on the rounded number hold",
                    "definition of rounding to nearest: numbers from one power of two to the next"
                    " have one spacing, $2^{1-p}$ of that power, and nothing is rounded by more"
                    " than half of it; 1 itself is not rounded",
                ),
            ),
        ),
        Claim(
            id="angle",
            kind="bound",
            statement=(
                r"The computed angle is off by at most $p\theta((1 + \varepsilon)(1 + u_a) - 1)$:"
                r" $2^{-24}p\theta$ in float32 if the stored frequency is taken as the exact one."
            ),
            derivations=(COMPUTED,),
        ),
        Claim(
            id="table",
            kind="bound",
            statement=(
                r"The stored pair is within $\sqrt 2\,\delta + u_t/\sqrt 2$ of the unit vector of"
                r" the computed angle (for bfloat16 $\sqrt 2\cdot 2^{-9}$ beside $\sqrt 2\,\delta$)"
                ", and within the turn error of the exact one. Of a table that is multiplied by a"
                r" factor before it is rounded, over that factor: within $\sqrt 2\,\delta +"
                r" u_t(1 + \sqrt 2\,\delta)$, $\delta$ relative to the factor."
            ),
            derivations=(DIAGONAL, TABLE, PARTS, SCALED_TABLE, ANY_CHORD, NEAR, TURN, STORED_SIZE),
        ),
        Claim(
            id="angle_deviation",
            kind="bound",
            statement=(
                r"The angle between the stored pair and the exact $p\theta$, `angle_deviation`, is"
                r" at most $p\theta((1 + \varepsilon)(1 + u_a) - 1) + \arcsin(\sqrt 2\,\delta +"
                r" u_t/\sqrt 2)$, with the error of a scaled table for such a table; the error of"
                " the table at most 1, and the stored pair not 0."
            ),
            derivations=(
                ANGLE_OF_PAIR,
                LARGEST_ANGLE,
                MIRRORED,
                DEVIATION,
                LARGEST_ANGLE_SCALED,
                DEVIATION_SCALED,
            ),
            conclusions=ANGLE_CONCLUSIONS,
        ),
        Claim(
            id="channel",
            kind="bound",
            statement=(
                "The arithmetic of the rotation errs by at most $\\frac{4}{\\sqrt 3}u(1 + u)|z||C|"
                " + 2\\sqrt 2\\,h(1 + u)$, so the rotated channel by at most the right-hand side of"
                " the theorem: angle, table and arithmetic. Input and stored pair are what the"
                " arithmetic is given."
            ),
            derivations=(
                COMPONENT,
                BOTH_COMPONENTS,
                SIZES,
                MODULUS,
                ARITHMETIC_ERROR,
                ROTATION,
                COMPOSED,
                CHANNEL,
            ),
        ),
        Claim(
            id="fused",
            kind="bound",
            statement=(
                "With fused multiply-adds, whichever product of each sum is the rounded one, $u(2 +"
                " u)$ stands in place of $\\frac{4}{\\sqrt 3}u(1 + u)$."
            ),
            derivations=(*FUSED_PRODUCTS, FUSED, CHANNEL_FUSED),
        ),
        Claim(
            id="invariance",
            kind="bound",
            statement=(
                r"The same query and key give equal logits at $(t, i)$ and $(t+s, i+s)$ without"
                r" rounding. With relative errors $\rho$ of the four rotated channels they differ"
                r" by at most $\lambda|z||w|((1 + \rho_t)(1 + \rho_i) - 1 + (1 + \rho_{t+s})"
                r"(1 + \rho_{i+s}) - 1)$, summed over channels."
            ),
            derivations=(PRODUCT_ERROR, INVARIANCE, FINITE_SUM),
        ),
        Claim(
            id="crossover",
            kind="identity",
            statement=(
                r"The largest error of the angle is that of the table where $p\theta = u_t/(\sqrt 2"
                r"\,u_a)$; with float32 angles and a bfloat16 table at $2^{16}/\sqrt 2 \approx"
                r" 46{,}341$ radians, with a float16 table at $2^{13}/\sqrt 2 \approx 5{,}793$."
            ),
            derivations=(OVERTAKES,),
            instances=(
                Exact("bfloat16", crossover("bfloat16"), "=", sp.Integer(2) ** 16 / sp.sqrt(2)),
                Exact("above 46,340", sp.Integer(46340), "<", crossover("bfloat16")),
                Exact("below 46,341", crossover("bfloat16"), "<", sp.Integer(46341)),
                Exact("float16", crossover("float16"), "=", sp.Integer(2) ** 13 / sp.sqrt(2)),
            ),
        ),
        Claim(
            id="sharp_table",
            kind="sharpness",
            statement=(
                "The errors of angle and table, and the angle deviation with both, are attained"
                " within the hypotheses. Under rounding to nearest alone, exact unit vectors come"
                " within 0.5% (bfloat16), 0.1% (float16) and $10^{-5}$ (float32) of $u_t/\\sqrt 2$."
                " The error of a scaled table is attained too, and up to the factor $1 + u_t$ with"
                " exact cosines and rounding to nearest alone; of the angle deviation with a scaled"
                " table that is not claimed."
            ),
            derivations=(
                SHARP_ANGLE,
                SHARP_TABLE,
                SHARP_DEVIATION,
                SHARP_PARTS,
                SHARP_ARCSINE,
                SHARP_SCALED,
                SHARP_SCALED_NEAREST,
            ),
            instances=(
                *corner("bfloat16", 357, 367, sp.Rational(995, 1000)),
                *corner("float16", 2425, 3301, sp.Rational(999, 1000)),
                *corner("float32", 23648991, 23803889, sp.Rational(99999, 100000)),
            ),
            witness=(
                r"relative errors $\varepsilon$ and $u_a$ upwards; a stored pair at 45 degrees,"
                r" $\cos\psi\,e^{\mathrm i\pi/4}$, of the computed angle $\pi/4 - \psi$, $\sin\psi"
                r" = \sqrt 2\,\delta + u_t/\sqrt 2$; a scaled table at 45 degrees, all errors"
                r" upwards, and to nearest: the factor $\sqrt 2\,(1 + u_t)$, both rounded to 1"
            ),
            ratio="1",
        ),
        Claim(
            id="sharp_arithmetic",
            kind="sharpness",
            statement=(
                "Among all arithmetics whose products and sums have relative error at most $u$,"
                " $4/\\sqrt 3$ is best possible: the witness costs at least $\\frac{4}{\\sqrt 3}u"
                "|z||C|$, the bound over $1 + u$, whose ratio tends to 1 with $u \\to 0$. The fused"
                " $u(2 + u)$ is attained. (Rounding to"
                r" nearest is known to stay below $\sqrt 5\,u$: Brent, Percival and Zimmermann,"
                " 2007; that is not used here.)"
            ),
            derivations=(SHARP_ARITHMETIC, SHARP_FUSED),
            witness=(
                r"$z = C = \sqrt 2 + \mathrm i$, all roundings upwards but of the smaller product;"
                r" fused: $z = C = \mathrm i$, both roundings upwards"
            ),
            ratio="-> 1",
        ),
        Claim(
            id="sharp_invariance",
            kind="sharpness",
            statement=(
                r"With four equal errors $\rho \le 1$, the loss of invariance can be the bound over"
                r" $1 + \rho/2$, whose ratio tends to 1 with $\rho \to 0$."
            ),
            derivations=(SHARP_INVARIANCE,),
            witness=(
                r"$t = i$, $z = w$: both channels $1 + \rho$ times what they should be at"
                r" $t + s$, and $1 - \rho$ times at $t$"
            ),
            ratio="-> 1",
        ),
    ),
    readings=(
        Reading(
            "for all vectors, positions, frequencies and formats that meet the hypotheses; the"
            " errors of angle, table and arithmetic are attained each by itself, not all together",
            "holds",
            (
                "rounding",
                "angle",
                "table",
                "angle_deviation",
                "channel",
                "fused",
                "invariance",
                "crossover",
                "sharp_table",
                "sharp_arithmetic",
                "sharp_invariance",
            ),
            "products and sums of the logit itself, after the rotation, are taken as exact",
        ),
    ),
    attacks=ATTACKS,
    meaning=(
        "RoPE's logits depend on distance only as far as rounding lets them. A 16-bit table costs"
        " the same at every position; a float32 angle costs in proportion to position and"
        " frequency, so on the fastest channels of long texts it is the angle that counts: beyond"
        " position 46,341 at frequency 1 against a bfloat16 table."
    ),
)
