"""Query drift: what the divergence is, and its bounds from oscillation and variance."""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link
from proofs.engine.relations import eq, le
from proofs.engine.sums import Differentiated, Opaque, Sums, Termwise, entry
from proofs.lemmas.exponential import AboveTangent
from proofs.query_drift.moments import (
    EXPONENTIAL_SUM,
    ROW,
    THIRD_MAX,
    VARIANCE_MAX,
    D,
    P,
    i,
    j,
    low,
    n,
    over_keys,
    x,
)
from tappa_theory.shift_identity import lam
from tappa_theory.theorems.attention_distance import OMEGA
from tappa_theory.theorems.query_drift import (
    ATTENTION,
    COVARIANCE,
    COVARIANCE_TERM,
    DIVERGENCE,
    ERROR,
    EXPONENTIAL,
    KEY_A,
    KEY_B,
    KEY_METRIC,
    LARGEST,
    LOWER,
    MEAN,
    MEAN_A,
    MEAN_B,
    METRIC_TERM,
    QUADRATIC,
    REVERSE_ERROR,
    REVERSE_LOWER,
    REVERSE_UPPER,
    STEP_A,
    STEP_B,
    UPPER,
    VARIANCE,
)

logit = sp.IndexedBase("a", real=True)
step = sp.IndexedBase("dq", real=True)
key = sp.IndexedBase("k", real=True)
size = sp.Symbol("d", integer=True, positive=True)
first, second = sp.symbols("a_1 a_2", integer=True)

LATER = P[i] * sp.exp(D[i]) / over_keys(P[j] * sp.exp(D[j]), j)
"""The later row over the same keys."""

_NORMALISER = sp.Sum(sp.exp(logit[first]), (first, 1, n))
_OLD = sp.exp(logit[i]) / _NORMALISER
_OLD_THERE = sp.exp(logit[j]) / _NORMALISER

SOFTMAX = Derivation(
    "the later row is the earlier one, tilted",
    sp.exp(logit[i] + D[i]) / sp.Sum(sp.exp(logit[j] + D[j]), (j, 1, n)),
    (
        Link(
            "=",
            _OLD * sp.exp(D[i]) / sp.Sum(_OLD_THERE * sp.exp(D[j]), (j, 1, n)),
            "the earlier row's normaliser cancels",
            Sums(),
        ),
    ),
)

DIVERGENCE_SUM = DIVERGENCE.subs(EXPONENTIAL, EXPONENTIAL_SUM)

IDENTITY = Derivation(
    "the divergence of the later row from the earlier one",
    over_keys(P[i] * sp.log(P[i] / LATER)),
    (
        Link(
            "=",
            sp.log(over_keys(P[i] * sp.exp(D[i]))) - MEAN,
            "the logarithm of a quotient, and weights of sum 1",
            Sums(),
        ),
        Link("=", DIVERGENCE_SUM, r"$e^{D} = e^{D - \bar D} e^{\bar D}$", Sums()),
    ),
    hypotheses=(ROW,),
)

constant = sp.Symbol("c", real=True)

CONSTANT = Derivation(
    "a change of every logit by the same number",
    sp.log(over_keys(P[i] * sp.exp(constant))) - over_keys(P[i] * constant),
    (Link("=", sp.S.Zero, "the weights sum to 1", Sums()),),
    hypotheses=(ROW,),
)

_BACK = LATER * sp.exp(-D[i])

REVERSED = Derivation(
    "the earlier row is the later one, tilted by the opposite changes",
    _BACK / over_keys(_BACK.subs({i: j, j: first}, simultaneous=True), j),
    (Link("=", P[i], "what multiplies every weight cancels", Sums()),),
    hypotheses=(ROW,),
)

_REVERSE_SUM = over_keys(LATER * sp.log(LATER / P[i]))

REVERSE_IDENTITY = Derivation(
    "the divergence of the earlier row from the later one, $g'(1) - g(1)$",
    _REVERSE_SUM,
    (
        Link(
            "=",
            over_keys(LATER * D[i]) - sp.log(over_keys(P[j] * sp.exp(D[j]), j)),
            "the logarithm of a quotient, and later weights of sum 1",
            Sums(),
        ),
    ),
)

_COORDINATE = {STEP_A: step[first], STEP_B: step[second]}
_MEANS = tuple(over_keys(P[j] * key[j, part], j) for part in (first, second))
_AT_KEY = {
    ATTENTION: P[i],
    KEY_A: key[i, first],
    KEY_B: key[i, second],
    MEAN_A: _MEANS[0],
    MEAN_B: _MEANS[1],
}
_CHANGE = lam * sp.Sum(step[first] * key[i, first], (first, 1, size))

METRIC = Derivation(
    "the variance of the logit changes is the covariance of the keys, along the step",
    over_keys(P[i] * (_CHANGE - over_keys(P[j] * _CHANGE.subs(i, j), j)) ** 2),
    (
        Link(
            "=",
            sp.Sum(
                METRIC_TERM.subs(_COORDINATE).subs(
                    COVARIANCE, over_keys(COVARIANCE_TERM.subs(_AT_KEY, simultaneous=True))
                ),
                (first, 1, size),
                (second, 1, size),
            ),
            "a square of a sum is a double sum",
            Sums(),
        ),
    ),
)

third = sp.Symbol("mu_3", real=True)
tilted = sp.Symbol("v", nonnegative=True)
reverse = sp.Symbol("R", real=True)
hidden = sp.Symbol("k", real=True)
_TAYLOR_AT = {EXPONENTIAL: 1, VARIANCE: 0, third: 0, tilted: 0, reverse: 0, OMEGA: 1}


def _at(*symbols: sp.Symbol) -> dict[sp.Symbol, int]:
    return {symbol: _TAYLOR_AT[symbol] for symbol in symbols}


CUBIC = Derivation(
    "the divergence is half the variance, up to a sixth of a third central moment",
    sp.Abs(DIVERGENCE - KEY_METRIC),
    (
        Link(
            "<=",
            ERROR,
            "the third central moment in a range omega",
            Opaque({DIVERGENCE: hidden}, Solver()),
        ),
    ),
    hypotheses=(
        eq(DIVERGENCE, KEY_METRIC + third / 6),
        le(third, THIRD_MAX),
        le(-third, THIRD_MAX),
    ),
    example=_at(EXPONENTIAL, VARIANCE, third, OMEGA),
)

SQUARE = Derivation(
    "the divergence is half a variance of a tilted row",
    DIVERGENCE,
    (Link("<=", QUADRATIC, "Popoviciu", Opaque({DIVERGENCE: hidden}, Solver())),),
    hypotheses=(eq(DIVERGENCE, tilted / 2), le(tilted, VARIANCE_MAX)),
    example=_at(EXPONENTIAL, tilted, OMEGA),
)

REVERSE_CUBIC = Derivation(
    "the other divergence is half the variance, up to a third of a third central moment",
    sp.Abs(reverse - KEY_METRIC),
    (Link("<=", REVERSE_ERROR, "a third of the largest third central moment", Solver()),),
    hypotheses=(le(reverse - KEY_METRIC, THIRD_MAX / 3), le(KEY_METRIC - reverse, THIRD_MAX / 3)),
)

y = sp.Symbol("y", real=True)
above, power = sp.symbols("Y r", positive=True)

CHORD = Derivation(
    "the exponential is below its chord",
    sp.exp(y),
    (
        Link(
            "<=",
            1 + y * (sp.exp(OMEGA) - 1) / OMEGA,
            "the two tangents, weighted by $1 - y/\\omega$ and $y/\\omega$",
            Opaque({sp.exp(y): above, sp.exp(OMEGA): power}, Solver()),
        ),
    ),
    hypotheses=(le(0, y), le(y, OMEGA)),
    facts=(
        Fact(
            sp.exp(y) * (1 - y),
            "<=",
            sp.Integer(1),
            "the tangent at y, at 0",
            AboveTangent(-y, sp.exp(y)),
        ),
        Fact(
            sp.exp(y) * (1 + OMEGA - y),
            "<=",
            sp.exp(OMEGA),
            "the tangent at y, at omega",
            AboveTangent(OMEGA - y, sp.exp(y)),
        ),
    ),
)

SLOPE = (sp.exp(OMEGA) - 1) / OMEGA
_FROM_LOW = sp.exp(low - MEAN)

EXPECTED = Derivation(
    "the mean exponential is below the chord's",
    EXPONENTIAL_SUM,
    (
        Link(
            "<=",
            over_keys(P[i] * _FROM_LOW * CHORD.end.subs(y, D[i] - low)),
            "every exponential is",
            Termwise(Lemma(CHORD, {y: entry(D[i]) - low}), weight=P[i] * _FROM_LOW),
        ),
        Link("=", _FROM_LOW * CHORD.end.subs(y, MEAN - low), "the chord is linear", Sums()),
    ),
    hypotheses=(ROW,),
)

_TANGENT_AT = sp.log(EXPONENTIAL_SUM) + MEAN - low - sp.log(SLOPE)
mean_exp = sp.Symbol("X", positive=True)
log_mean, log_slope = sp.symbols("x_1 x_2", real=True)
_SYMBOLS = {
    sp.log(EXPONENTIAL_SUM): log_mean,
    sp.log(SLOPE): log_slope,
    EXPONENTIAL_SUM: mean_exp,
    sp.exp(MEAN - low): above,
    sp.exp(OMEGA): power,
}

SLOPE_POSITIVE = (
    Fact(
        1 + OMEGA, "<", sp.exp(OMEGA), "the exponential is above its tangent", AboveTangent(OMEGA)
    ),
    Fact(
        sp.Integer(0),
        "<",
        SLOPE,
        "so that the chord rises",
        Opaque({sp.exp(OMEGA): power}, Solver()),
    ),
)

MOST = Derivation(
    "the divergence at a given oscillation",
    DIVERGENCE_SUM,
    (
        Link(
            "<=",
            LARGEST,
            "the mean cancels between the chord and the logarithm's tangent",
            Opaque(_SYMBOLS, Solver()),
        ),
    ),
    hypotheses=(ROW,),
    facts=(
        *SLOPE_POSITIVE,
        Fact(
            1 + _TANGENT_AT,
            "<=",
            sp.exp(_TANGENT_AT),
            "the logarithm is below its tangent",
            AboveTangent(_TANGENT_AT),
        ),
        Fact(EXPONENTIAL_SUM, "<=", EXPECTED.end, EXPECTED.title, Lemma(EXPECTED, {})),
    ),
)


def _comparison(
    title: str, observed: sp.Expr, sign: int, reversed_: bool, bound: sp.Expr
) -> tuple[Derivation, ...]:
    """A divergence against the same expression with the variance changing at its fastest.

    The curve's second derivative (its slope over x for the reverse direction) is the variance at 0
    times exp(sign omega x); the divergence lies on one side of the curve at x = 1.
    """
    rate = sign * OMEGA * x
    grown = VARIANCE * sp.exp(rate)
    if reversed_:
        curve = VARIANCE * (1 - (1 - rate) * sp.exp(rate)) / OMEGA**2
        inner, outer = x * grown, curve
    else:
        curve = VARIANCE * (sp.exp(rate) - 1 - rate) / OMEGA**2
        inner = VARIANCE * sign * (sp.exp(rate) - 1) / OMEGA
        outer = curve
    slopes = [
        Derivation(
            f"{title}: the curve's slope",
            sp.Derivative(outer, x),
            (Link("=", inner, "rules of differentiation", Differentiated()),),
        )
    ]
    if not reversed_:
        slopes.append(
            Derivation(
                f"{title}: the curve's curvature",
                sp.Derivative(inner, x),
                (Link("=", grown, "rules of differentiation", Differentiated()),),
            )
        )
    start = Derivation(
        f"{title}: the curve starts as the divergence does",
        (curve + (0 if reversed_ else inner)).subs(x, 0),
        (Link("=", sp.Integer(0), "at $x = 0$", Sums()),),
    )
    final = curve.subs(x, 1)
    ends = (observed, final) if sign == 1 else (final, observed)
    put = {sp.exp(OMEGA): power} | ({DIVERGENCE: hidden} if observed == DIVERGENCE else {})
    example = _at(EXPONENTIAL, VARIANCE, OMEGA) if observed == DIVERGENCE else {}
    links = (
        Link("<=", final, "the curve lies above, at $x = 1$", Opaque(put, Solver())),
        Link("=", bound, "rearranged", Opaque(put, Identity())),
    )
    if sign == -1:
        links = (
            Link("=", final, "rearranged", Opaque(put, Identity())),
            Link("<=", observed, "the curve lies below, at $x = 1$", Opaque(put, Solver())),
        )
    whole = Derivation(
        title,
        observed if sign == 1 else bound,
        links,
        hypotheses=(le(*ends),),
        example=example or {reverse: 1 - sign, VARIANCE: 0, OMEGA: 1},
    )
    return (*slopes, start, whole)


UPPER_SIDE = _comparison("the divergence from above", DIVERGENCE, 1, False, UPPER)
LOWER_SIDE = _comparison("the divergence from below", DIVERGENCE, -1, False, LOWER)
REVERSE_UPPER_SIDE = _comparison("the other from above", reverse, 1, True, REVERSE_UPPER)
REVERSE_LOWER_SIDE = _comparison("the other from below", reverse, -1, True, REVERSE_LOWER)
