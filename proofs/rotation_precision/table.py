"""Rotation precision, the table: the computed angle, and its stored cosine and sine.

The stored pair is the complex number C = c + i s, the computed angle is p theta + Delta.
"""

from __future__ import annotations

import sympy as sp

from proofs.engine.arcs import SINE_NONNEGATIVE, Arcsine, ByCosines, x
from proofs.engine.balls import Balls
from proofs.engine.certificates import BySquares, Identity, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.engine.relations import eq, le, lt
from proofs.engine.sums import Cases
from proofs.lemmas.finite import TRIANGLE, a, b
from tappa_theory.shift_identity import theta
from tappa_theory.theorems.rotation_precision import (
    ANGLE_DEVIATION,
    ANGLE_DEVIATION_SCALED,
    ANGLE_ERROR,
    CROSSOVER,
    FREQUENCY_ERROR,
    POSITION,
    TABLE_ERROR,
    TABLE_ERROR_SCALED,
    TRIG_ERROR,
    TURN_ERROR,
    U_ANGLE,
    U_TABLE,
)

ANGLE = POSITION * theta

# --- rounding to nearest -----------------------------------------------------------------------

number, rounded = sp.symbols("x rounded", real=True)
binade, unit = sp.symbols("binade unit", positive=True)
"""The power of two below |x| (or, among subnormal numbers, the smallest normal one); 2^-p."""
NEAREST = le(sp.Abs(rounded - number), unit * binade)

RELATIVE = Derivation(
    "rounding to nearest, relative error",
    sp.Abs(rounded - number),
    (
        Link("<=", unit * binade, "half the spacing, which is 2 units of the binade", Solver()),
        Link("<=", unit * sp.Abs(number), "x is not below its binade", Scaled(unit, Solver())),
    ),
    hypotheses=(NEAREST, le(binade, sp.Abs(number))),
)
BELOW_ONE = Derivation(
    "rounding to nearest of a number below 1, absolute error",
    sp.Abs(rounded - number),
    (
        Link("<=", unit * binade, "half the spacing, which is 2 units of the binade", Solver()),
        Link("<=", unit / 2, "below 1 no binade is above 1/2", Scaled(unit, Solver())),
    ),
    hypotheses=(NEAREST, le(binade, sp.Rational(1, 2))),
)

# --- the angle ---------------------------------------------------------------------------------

frequency_off, angle_off = sp.symbols("e d", real=True)
COMPUTED_ANGLE = ANGLE * (1 + frequency_off) * (1 + angle_off)
OFF = (le(sp.Abs(frequency_off), FREQUENCY_ERROR), le(sp.Abs(angle_off), U_ANGLE))

COMPUTED = Derivation(
    "error of the computed angle",
    sp.Abs(COMPUTED_ANGLE - ANGLE),
    (
        Link(
            "=",
            ANGLE * sp.Abs(frequency_off + angle_off + frequency_off * angle_off),
            "both relative errors, and their product",
            Solver(),
        ),
        Link("<=", ANGLE_ERROR, "each is no larger than its bound", Scaled(ANGLE, Solver())),
    ),
    hypotheses=OFF,
)
SHARP_ANGLE = Derivation(
    "both relative errors upwards attain it",
    (COMPUTED_ANGLE - ANGLE).subs({frequency_off: FREQUENCY_ERROR, angle_off: U_ANGLE}),
    (Link("=", ANGLE_ERROR, "the same product", Identity()),),
)

# --- cosine and sine ---------------------------------------------------------------------------

first, second, third, fourth = sp.symbols("x_1 x_2 x_3 x_4", real=True)
most = sp.Symbol("m", nonnegative=True)
DIAGONAL = Derivation(
    "a diagonal of a square",
    sp.Abs(first + sp.I * second),
    (Link("<=", sp.sqrt(2) * most, "two squares", BySquares(Solver())),),
    hypotheses=(le(sp.Abs(first), most), le(sp.Abs(second), most)),
)
PARTS = Derivation(
    "a pair whose parts are smaller is shorter",
    sp.Abs(first + sp.I * second),
    (Link("<=", most * sp.Abs(third + sp.I * fourth), "two squares", BySquares(Solver())),),
    hypotheses=(
        le(sp.Abs(first), most * sp.Abs(third)),
        le(sp.Abs(second), most * sp.Abs(fourth)),
    ),
)

phi = sp.Symbol("phi", real=True)
cos_off, sin_off, cos_rounding, sin_rounding = sp.symbols("g_c g_s r_c r_s", real=True)
"""Errors of the computed cosine and sine, and of their rounding to the table's type."""
UNIT = sp.exp(sp.I * phi)
STORED = (sp.cos(phi) + cos_off + cos_rounding) + sp.I * (sp.sin(phi) + sin_off + sin_rounding)
ERRORS = cos_off + cos_rounding + sp.I * (sin_off + sin_rounding)
COMPUTED_WITHIN = (le(sp.Abs(cos_off), TRIG_ERROR), le(sp.Abs(sin_off), TRIG_ERROR))

TABLE = Derivation(
    "distance of the stored pair from the unit vector of the computed angle",
    sp.Abs(STORED - UNIT),
    (
        Link("=", sp.Abs(ERRORS), "what was added to cosine and sine", Identity()),
        Link(
            "<=",
            TABLE_ERROR,
            r"each part is at most $\delta + u_t/2$",
            Lemma(
                DIAGONAL,
                {
                    first: cos_off + cos_rounding,
                    second: sin_off + sin_rounding,
                    most: TRIG_ERROR + U_TABLE / 2,
                },
            ),
        ),
    ),
    hypotheses=(
        *COMPUTED_WITHIN,
        le(sp.Abs(cos_rounding), U_TABLE / 2),
        le(sp.Abs(sin_rounding), U_TABLE / 2),
    ),
)
SHARP_TABLE = Derivation(
    "both parts off by all that is allowed attain it",
    sp.Abs(ERRORS).subs(
        {
            cos_off: -TRIG_ERROR,
            sin_off: TRIG_ERROR,
            cos_rounding: -U_TABLE / 2,
            sin_rounding: U_TABLE / 2,
        }
    ),
    (Link("=", TABLE_ERROR, r"the diagonal of a square", BySquares(Solver())),),
)

SCALED_COMPUTED = sp.cos(phi) + cos_off + sp.I * (sp.sin(phi) + sin_off)
SCALED_TABLE = Derivation(
    "the same of a scaled table, over its factor: relative rounding",
    sp.Abs(STORED - UNIT),
    (
        Link(
            "=",
            sp.Abs((cos_off + sp.I * sin_off) + (cos_rounding + sp.I * sin_rounding)),
            "what was added to cosine and sine",
            Identity(),
        ),
        Link(
            "<=",
            sp.Abs(cos_off + sp.I * sin_off) + sp.Abs(cos_rounding + sp.I * sin_rounding),
            "triangle inequality",
            Lemma(TRIANGLE, {a: cos_off + sp.I * sin_off, b: cos_rounding + sp.I * sin_rounding}),
        ),
        Link(
            "<=",
            sp.sqrt(2) * TRIG_ERROR + U_TABLE * sp.Abs(SCALED_COMPUTED),
            r"$\delta$ each, and $u_t$ of each computed value",
            Solver(),
        ),
        Link("<=", TABLE_ERROR_SCALED, "the computed pair is that far from 1", Solver()),
    ),
    hypotheses=(
        *COMPUTED_WITHIN,
        le(sp.Abs(cos_rounding), U_TABLE * sp.Abs(sp.cos(phi) + cos_off)),
        le(sp.Abs(sin_rounding), U_TABLE * sp.Abs(sp.sin(phi) + sin_off)),
    ),
    facts=(
        Fact(
            sp.Abs(cos_off + sp.I * sin_off),
            "<=",
            sp.sqrt(2) * TRIG_ERROR,
            r"$\delta$ each",
            Lemma(DIAGONAL, {first: cos_off, second: sin_off, most: TRIG_ERROR}),
        ),
        Fact(
            sp.Abs(cos_rounding + sp.I * sin_rounding),
            "<=",
            U_TABLE * sp.Abs(SCALED_COMPUTED),
            "$u_t$ of each computed value",
            Lemma(
                PARTS,
                {
                    first: cos_rounding,
                    second: sin_rounding,
                    third: sp.cos(phi) + cos_off,
                    fourth: sp.sin(phi) + sin_off,
                    most: U_TABLE,
                },
            ),
        ),
        Fact(
            sp.Abs(SCALED_COMPUTED),
            "<=",
            1 + sp.Abs(cos_off + sp.I * sin_off),
            "triangle inequality",
            Lemma(TRIANGLE, {a: UNIT, b: cos_off + sp.I * sin_off}),
        ),
    ),
)

SHARP_SCALED = Derivation(
    "at 45 degrees all four errors upwards attain it",
    sp.Abs(ERRORS).subs(
        {
            cos_off: TRIG_ERROR,
            sin_off: TRIG_ERROR,
            cos_rounding: U_TABLE * (sp.cos(sp.pi / 4) + TRIG_ERROR),
            sin_rounding: U_TABLE * (sp.sin(sp.pi / 4) + TRIG_ERROR),
        }
    ),
    (Link("=", TABLE_ERROR_SCALED, "the diagonal of a square", BySquares(Solver())),),
)
TIE = -U_TABLE / (1 + U_TABLE)
"""Relative error of 1 + u_t, which lies in the middle between 1 and 1 + 2 u_t, rounded to 1."""
SHARP_SCALED_NEAREST = Derivation(
    "and rounding to nearest alone comes within 1 + u_t of it",
    sp.Abs(ERRORS).subs(
        {
            cos_off: 0,
            sin_off: 0,
            cos_rounding: TIE * sp.cos(sp.pi / 4),
            sin_rounding: TIE * sp.sin(sp.pi / 4),
        }
    ),
    (
        Link(
            "=",
            TABLE_ERROR_SCALED.subs(TRIG_ERROR, 0) / (1 + U_TABLE),
            r"the factor $\sqrt 2\,(1 + u_t)$: cosine and sine, times it, lie in the middle"
            r" between $1$ and $1 + 2u_t$",
            BySquares(Solver()),
        ),
    ),
)

# --- the turn ----------------------------------------------------------------------------------

CHORD = sp.Abs(sp.exp(sp.I * x) - 1)
SHORT_CHORD = Derivation(
    "a chord is no longer than its arc, up to half a turn",
    CHORD,
    (
        Link("=", 2 * sp.Abs(sp.sin(x / 2)), "half-angle formula", Identity()),
        Link("=", 2 * sp.sin(x / 2), "the sine is not negative", Solver()),
        Link(
            "<=",
            x,
            "the difference vanishes at 0, to third order",
            Balls(x, sp.Integer(0), sp.pi, zero_at_low=3),
        ),
        Link("=", sp.Abs(x), "x is not negative", Solver()),
    ),
    hypotheses=(le(0, x), le(x, sp.pi)),
    facts=(
        Fact(
            sp.Integer(0),
            "<=",
            sp.sin(x / 2),
            "x/2 lies between 0 and pi",
            Lemma(SINE_NONNEGATIVE, {x: x / 2}),
        ),
    ),
)
LONG_CHORD = Derivation(
    "and beyond",
    CHORD,
    (
        Link("=", 2 * sp.Abs(sp.sin(x / 2)), "half-angle formula", Identity()),
        Link("<=", sp.Integer(2), "a sine is at most 1", Solver()),
        Link("<=", sp.Abs(x), r"$2 < \pi \le x$", Solver()),
    ),
    hypotheses=(le(sp.pi, x),),
)
POSITIVE_CHORD = Derivation(
    "a chord is no longer than its arc, anticlockwise",
    CHORD,
    (
        Link(
            "<=",
            sp.Abs(x),
            "up to half a turn, and beyond",
            Cases(le(x, sp.pi), Lemma(SHORT_CHORD, {}), Lemma(LONG_CHORD, {})),
        ),
    ),
    hypotheses=(le(0, x),),
)
ANY_CHORD = Derivation(
    "a chord is no longer than its arc",
    CHORD,
    (
        Link(
            "<=",
            sp.Abs(x),
            "anticlockwise or clockwise",
            Cases(le(0, x), Lemma(POSITIVE_CHORD, {}), Lemma(POSITIVE_CHORD, {x: -x})),
        ),
    ),
)

stored = sp.Symbol("C", complex=True)
shift = sp.Symbol("Delta", real=True)
EXACT = sp.exp(sp.I * ANGLE)
COMPUTED_UNIT = sp.exp(sp.I * (ANGLE + shift))

table_off, angle_most = sp.symbols("E_t A", nonnegative=True)
given, limit = sp.Symbol("G", complex=True), sp.Symbol("m_G", real=True)
AS_GIVEN = Derivation(
    "as given",
    sp.Abs(given),
    (Link("<=", limit, "a hypothesis", Solver()),),
    hypotheses=(le(sp.Abs(given), limit),),
)
ARC_AT_MOST = Derivation(
    "a chord is no longer than what its arc is at most",
    CHORD,
    (
        Link("<=", sp.Abs(x), "a chord is no longer than its arc", Lemma(ANY_CHORD, {})),
        Link("<=", angle_most, "a hypothesis", Solver()),
    ),
    hypotheses=(le(sp.Abs(x), angle_most),),
)
NEAR = Derivation(
    "distance of a pair from the unit vector of an angle nearby",
    sp.Abs(stored - EXACT),
    (
        Link(
            "=",
            sp.Abs((stored - COMPUTED_UNIT) + EXACT * (sp.exp(sp.I * shift) - 1)),
            "by way of the computed angle",
            Identity(),
        ),
        Link(
            "<=",
            sp.Abs(stored - COMPUTED_UNIT) + sp.Abs(EXACT * (sp.exp(sp.I * shift) - 1)),
            "triangle inequality",
            Lemma(TRIANGLE, {a: stored - COMPUTED_UNIT, b: EXACT * (sp.exp(sp.I * shift) - 1)}),
        ),
        Link(
            "=",
            sp.Abs(stored - COMPUTED_UNIT) + sp.Abs(sp.exp(sp.I * shift) - 1),
            "the exact pair has modulus 1",
            Identity(),
        ),
        Link(
            "<=",
            table_off + angle_most,
            "the chord is no longer than the arc",
            Terms(
                (
                    (
                        sp.Integer(1),
                        sp.Abs(stored - COMPUTED_UNIT),
                        table_off,
                        Lemma(AS_GIVEN, {given: stored - COMPUTED_UNIT, limit: table_off}),
                    ),
                    (
                        sp.Integer(1),
                        sp.Abs(sp.exp(sp.I * shift) - 1),
                        angle_most,
                        Lemma(ARC_AT_MOST, {x: shift}),
                    ),
                )
            ),
        ),
    ),
    hypotheses=(
        le(sp.Abs(stored - COMPUTED_UNIT), table_off),
        le(sp.Abs(shift), angle_most),
    ),
)
TURN = Derivation(
    "distance of the stored pair from the exact one",
    NEAR.start,
    (
        Link(
            "<=",
            TURN_ERROR,
            "the errors of table and angle",
            Lemma(NEAR, {table_off: TABLE_ERROR, angle_most: ANGLE_ERROR}),
        ),
    ),
    hypotheses=(
        le(sp.Abs(stored - COMPUTED_UNIT), TABLE_ERROR),
        le(sp.Abs(shift), ANGLE_ERROR),
    ),
)
STORED_SIZE = Derivation(
    "the stored pair is hardly longer than 1",
    sp.Abs(stored),
    (
        Link("=", sp.Abs((stored - UNIT) + UNIT), "by way of the unit vector", Identity()),
        Link(
            "<=",
            sp.Abs(stored - UNIT) + sp.Abs(UNIT),
            "triangle inequality",
            Lemma(TRIANGLE, {a: stored - UNIT, b: UNIT}),
        ),
        Link("<=", 1 + TABLE_ERROR, "the unit vector has modulus 1", Solver()),
    ),
    hypotheses=(le(sp.Abs(stored - UNIT), TABLE_ERROR),),
)

# --- the angle of the stored pair --------------------------------------------------------------

psi = sp.Symbol("psi", nonnegative=True)
rho = sp.Symbol("rho", positive=True)
"""The stored pair is rho times the unit vector turned by psi, to one side or the other."""
DISTANCE = sp.Abs(rho * sp.exp(sp.I * psi) - 1)
UP_TO_PI = le(psi, sp.pi)

off = sp.Symbol("E", nonnegative=True)
"""How far the stored pair is from the unit vector."""
ANGLE_OF_PAIR = Derivation(
    "angle between a pair and a unit vector near it",
    psi,
    (
        Link(
            "<=",
            sp.asin(off),
            r"$\sin\psi$ is the distance of 1 from the line of the stored pair",
            Arcsine(Solver()),
        ),
    ),
    hypotheses=(UP_TO_PI, le(DISTANCE, off), le(off, 1)),
    facts=(
        Fact(
            sp.Integer(0),
            "<",
            sp.cos(psi),
            r"$2\rho\cos\psi = 1 + \rho^2 - |\rho e^{\mathrm i\psi} - 1|^2 \ge \rho^2 > 0$",
            Solver(),
        ),
        Fact(psi, "<=", sp.pi / 2, "a positive cosine: the angle is acute", ByCosines(Solver())),
        Fact(
            sp.Integer(0),
            "<=",
            sp.sin(psi),
            r"$\psi$ lies between 0 and $\pi$",
            Lemma(SINE_NONNEGATIVE, {x: psi}),
        ),
    ),
)


def largest_angle(error: sp.Expr) -> Derivation:
    """psi <= asin(error) of a pair within `error` of the unit vector."""
    return Derivation(
        "angle between the stored pair and the computed angle",
        psi,
        (
            Link(
                "<=",
                sp.asin(error),
                "a pair near a unit vector",
                Lemma(ANGLE_OF_PAIR, {off: error}),
            ),
        ),
        hypotheses=(UP_TO_PI, le(DISTANCE, error), le(error, 1)),
    )


LARGEST_ANGLE, LARGEST_ANGLE_SCALED = (largest_angle(e) for e in (TABLE_ERROR, TABLE_ERROR_SCALED))

MIRRORED = Derivation(
    "turned to the other side the pair is as far",
    sp.Abs(rho * sp.exp(-sp.I * psi) - 1),
    (Link("=", DISTANCE, "complex conjugates", Identity()),),
)

turned = sp.Symbol("turned", real=True)
"""psi or -psi."""


def deviation(bound: sp.Expr, table: Derivation) -> Derivation:
    """Both errors of the angle together; table: what bounds psi."""
    return Derivation(
        "angle between the stored pair and the exact one",
        sp.Abs(turned + shift),
        (
            Link("<=", psi + sp.Abs(shift), "triangle inequality", Solver()),
            Link(
                "<=",
                bound,
                "the angle of the table, and that of the computed angle",
                Terms(
                    (
                        (sp.Integer(1), psi, table.end, Lemma(table, {})),
                        (sp.Integer(1), sp.Abs(shift), ANGLE_ERROR, Solver()),
                    )
                ),
            ),
        ),
        hypotheses=(
            *table.hypotheses,
            eq(sp.Abs(turned), psi),
            le(sp.Abs(shift), ANGLE_ERROR),
        ),
    )


DEVIATION = deviation(ANGLE_DEVIATION, LARGEST_ANGLE)
DEVIATION_SCALED = deviation(ANGLE_DEVIATION_SCALED, LARGEST_ANGLE_SCALED)

TANGENT = sp.cos(psi) * (1 + sp.I) / sp.sqrt(2)
"""A stored pair at 45 degrees; the computed angle is psi less."""
TANGENT_ERROR = TANGENT - (1 + sp.I) / sp.sqrt(2) * sp.exp(-sp.I * psi)
SHARP_DEVIATION = Derivation(
    "at 45 degrees cosine and sine are off by the same amount, in opposite directions",
    TANGENT_ERROR,
    (
        Link(
            "=",
            (sp.I - 1) * sp.sin(psi) / sp.sqrt(2),
            r"$\cos\psi - e^{-\mathrm i\psi} = \mathrm i\sin\psi$",
            Identity(),
        ),
    ),
)
ATTAINED = eq(sp.sin(psi), TABLE_ERROR)
SHARP_PARTS = Derivation(
    "which is all that each of them is allowed",
    sp.sin(psi) / sp.sqrt(2),
    (
        Link(
            "=",
            TRIG_ERROR + U_TABLE / 2,
            r"$\sin\psi = \sqrt 2\,(\delta + u_t/2)$",
            Solver(),
        ),
    ),
    hypotheses=(ATTAINED,),
)
SHARP_ARCSINE = Derivation(
    "and the angle between the pair and the computed angle is the arcsine of the bound",
    psi,
    (Link("=", sp.asin(TABLE_ERROR), "the angle is acute", Arcsine(Solver())),),
    hypotheses=(le(psi, sp.pi / 2), ATTAINED),
)

OVERTAKES = Derivation(
    "where the error of the angle is that of the table",
    ANGLE_ERROR.subs(FREQUENCY_ERROR, 0),
    (
        Link(
            "=",
            TABLE_ERROR.subs(TRIG_ERROR, 0),
            r"$p\theta\,u_a = u_t/\sqrt 2$",
            Solver(),
        ),
    ),
    hypotheses=(lt(0, U_ANGLE), eq(ANGLE, CROSSOVER)),
)
