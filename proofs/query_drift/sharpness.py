"""Query drift: two keys attain the bounds, at every oscillation or as it vanishes; the cosine."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.engine.balls import Balls
from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Exact
from proofs.engine.derivation import Derivation, Fact, Link
from proofs.engine.relations import le, lt
from proofs.engine.sums import Opaque, Sums
from proofs.lemmas.exponential import AboveTangent
from proofs.query_drift.bounds import SLOPE, SLOPE_POSITIVE
from tappa_theory.theorems.attention_distance import OMEGA
from tappa_theory.theorems.query_drift import (
    ATTENTION,
    CHANGE,
    DIVERGENCE,
    ERROR,
    EXPONENTIAL,
    EXPONENTIAL_TERM,
    KEY_METRIC,
    LARGEST,
    LOWER,
    MEAN,
    MEAN_TERM,
    QUADRATIC,
    REVERSE_ERROR,
    REVERSE_LOWER,
    REVERSE_UPPER,
    SQUARE_TERM,
    UPPER,
    VARIANCE,
)

p = sp.Symbol("p", positive=True)
"""Attention of the key whose logit changes; the other key has 1 - p."""
power, root = sp.symbols("r e", positive=True)
log_slope, log_sum = sp.symbols("x_1 x_2", real=True)


def two_keys(change: sp.Expr) -> dict[str, sp.Expr]:
    """A row of two keys of which the first one's logit changes: its sums, from registry terms."""

    def total(term: sp.Expr) -> sp.Expr:
        keys = ({ATTENTION: p, CHANGE: change}, {ATTENTION: 1 - p, CHANGE: 0})
        return sp.Add(*(term.subs(key, simultaneous=True) for key in keys))

    mean = total(MEAN_TERM)
    later = 1 - p + p * sp.exp(change)
    forward = sp.log(later) - mean
    backward = p * sp.exp(change) / later * change - sp.log(later)
    return {
        "mean": mean,
        "exponential": total(EXPONENTIAL_TERM).subs(MEAN, mean),
        "variance": total(SQUARE_TERM).subs(MEAN, mean),
        "later": later,
        "forward": forward,
        "backward": backward,
    }


UP, DOWN = two_keys(OMEGA), two_keys(-OMEGA)
SPREAD = p * (1 - p) * OMEGA**2

TWO_VARIANCE = tuple(
    Derivation(
        f"the variance of two keys, change {words}",
        row["variance"],
        (Link("=", SPREAD, "deviations (1-p) omega and p omega", Identity()),),
    )
    for words, row in (("omega", UP), ("-omega", DOWN))
)

whole = sp.Symbol("W", positive=True)


def _two_exponential(words: str, row: dict[str, sp.Expr]) -> Derivation:
    mean = row["mean"]
    return Derivation(
        f"the mean exponential of two keys, change {words}",
        row["exponential"],
        (
            Link(
                "=",
                row["later"] * sp.exp(-mean),
                r"$e^{D - \bar D} = e^{D} e^{-\bar D}$",
                Opaque({sp.exp(p * OMEGA): root, sp.exp(OMEGA): power}, Identity()),
            ),
        ),
    )


TWO_EXPONENTIAL = (_two_exponential("omega", UP), _two_exponential("-omega", DOWN))

TWO_LOGARITHM = Derivation(
    r"and its logarithm, W for $\sum P e^{D}$",
    DIVERGENCE.subs(EXPONENTIAL, whole * sp.exp(-MEAN)),
    (Link("=", sp.log(whole) - MEAN, "the logarithm of a product", Sums()),),
)

MASS = 1 / OMEGA - 1 / (sp.exp(OMEGA) - 1)
"""Attention of the changing key at which LARGEST is attained."""

_EXP = Opaque({sp.exp(OMEGA): power}, Solver())

MASS_IS_ONE = (
    Derivation(
        "the mass is positive",
        sp.Integer(0),
        (Link("<", MASS, r"$\omega < e^\omega - 1$", _EXP),),
        facts=SLOPE_POSITIVE,
    ),
    Derivation(
        "the mass is below 1",
        MASS,
        (Link("<", sp.Integer(1), r"$1 - \omega < e^{-\omega}$", _EXP),),
        facts=(
            *SLOPE_POSITIVE,
            Fact(
                1 - OMEGA,
                "<",
                sp.exp(-OMEGA),
                "the exponential is above its tangent",
                AboveTangent(-OMEGA),
            ),
        ),
    ),
)

MOST_SUM = Derivation(
    "the sum of the later weights at this mass",
    UP["later"].subs(p, MASS),
    (Link("=", SLOPE, "rearranged", Opaque({sp.exp(OMEGA): power}, Identity())),),
    facts=SLOPE_POSITIVE,
)

MOST_ATTAINED = Derivation(
    "the divergence at this mass",
    sp.log(SLOPE) - UP["mean"].subs(p, MASS),
    (
        Link(
            "=",
            LARGEST,
            "rearranged",
            Opaque({sp.log(SLOPE): log_slope, sp.exp(OMEGA): power}, Identity()),
        ),
    ),
    facts=SLOPE_POSITIVE,
)

_SMALL = sp.Rational(1, 4)
_SHARE = 1 - OMEGA / 2
"""What is reached of a bound at least; it tends to 1."""


def _small(title: str, least: sp.Expr, observed: sp.Expr, order: int) -> Derivation:
    """least <= observed for 0 < omega <= 1/4; they agree at 0 to the order before this one."""
    return Derivation(
        title,
        least,
        (
            Link(
                "<=",
                observed,
                "the first derivative that does not vanish at 0 is positive",
                Balls(OMEGA, sp.S.Zero, _SMALL, zero_at_low=order, near=_SMALL),
            ),
        ),
        hypotheses=(le(OMEGA, _SMALL),),
    )


EVEN = sp.Rational(1, 2)
SKEWED = (1 - 1 / sp.sqrt(3)) / 2
"""Mass of the largest third central moment."""

_SKEWED_METRIC = KEY_METRIC.subs(VARIANCE, SPREAD).subs(p, SKEWED)

SMALL = (
    _small(
        "two keys of equal attention, close to the quadratic bound",
        QUADRATIC * _SHARE,
        UP["forward"].subs(p, EVEN),
        3,
    ),
    _small(
        "the same in the other direction",
        QUADRATIC * _SHARE,
        UP["backward"].subs(p, EVEN),
        3,
    ),
    _small(
        "two keys of the largest third moment, close to the error bound",
        ERROR * _SHARE,
        UP["forward"].subs(p, SKEWED) - _SKEWED_METRIC,
        4,
    ),
    _small(
        "the same in the other direction",
        REVERSE_ERROR * _SHARE,
        UP["backward"].subs(p, SKEWED) - _SKEWED_METRIC,
        4,
    ),
)


def _rare(
    title: str, row: dict[str, sp.Expr], which: str, bound: sp.Expr, factor: sp.Expr, above: bool
) -> Derivation:
    """A rare key: the divergence against factor * bound, the factor 1 at p = 0."""
    observed, later = row[which], row["later"]
    target = factor * bound.subs(VARIANCE, SPREAD)
    logarithm = sp.log(later)
    facts = [
        *SLOPE_POSITIVE,
        Fact(sp.Integer(0), "<", later, "weights are positive", _EXP),
        Fact(
            1 + logarithm,
            "<=",
            sp.exp(logarithm),
            "the logarithm is below its tangent",
            AboveTangent(logarithm),
        ),
        Fact(
            1 - logarithm,
            "<=",
            sp.exp(-logarithm),
            "and so is that of the inverse",
            AboveTangent(-logarithm),
        ),
        Fact(
            1 - OMEGA,
            "<",
            sp.exp(-OMEGA),
            "the exponential is above its tangent",
            AboveTangent(-OMEGA),
        ),
    ]
    start, end = (target, observed) if above else (observed, target)
    return Derivation(
        title,
        start,
        (
            Link(
                "<=",
                end,
                "the logarithm between its tangents",
                Opaque({logarithm: log_sum, sp.exp(OMEGA): power}, Solver()),
            ),
        ),
        hypotheses=(lt(p, 1),),
        facts=tuple(facts),
    )


_gain = sp.exp(OMEGA) - 1
_FORWARD = _gain - OMEGA
_BACKWARD = 1 - (1 - OMEGA) * sp.exp(OMEGA)
FACTORS = {
    "upper": 1 + p * (_FORWARD - _gain**2 / UP["later"]) / ((1 - p) * _FORWARD),
    "lower": 1 + p / (1 - p),
    "reverse_upper": 1
    + p * (_BACKWARD - OMEGA * sp.exp(OMEGA) * _gain / UP["later"]) / ((1 - p) * _BACKWARD),
    "reverse_lower": 1 + p * (1 - sp.exp(-OMEGA) + DOWN["later"]) / ((1 - p) * DOWN["later"]),
}
"""Divergence over bound, from below for the upper ones, from above for the lower ones: 1 + p times
what stays bounded as p tends to 0."""

RARE = (
    _rare("a rare key that gains, forward", UP, "forward", UPPER, FACTORS["upper"], True),
    _rare("a rare key that loses, forward", DOWN, "forward", LOWER, FACTORS["lower"], False),
    _rare(
        "a rare key that gains, backward",
        UP,
        "backward",
        REVERSE_UPPER,
        FACTORS["reverse_upper"],
        True,
    ),
    _rare(
        "a rare key that loses, backward",
        DOWN,
        "backward",
        REVERSE_LOWER,
        FACTORS["reverse_lower"],
        False,
    ),
)


def head(query: sp.Matrix, query_s: sp.Matrix, key: sp.Matrix) -> tuple[sp.Expr, sp.Expr]:
    """(cosine of the queries, divergence) of a row with this key and the key 0, lambda = 1."""
    cosine = query.dot(query_s) / (query.norm() * query_s.norm())
    mass = 1 / (1 + sp.exp(-query.dot(key)))
    return cosine, two_keys((query_s - query).dot(key))["forward"].subs(p, mass)


def _replay(query: sp.Matrix, query_s: sp.Matrix, key: sp.Matrix) -> float:
    """The divergence in float64, from the two rows."""
    keys = np.array([[float(part) for part in key], [0.0, 0.0]])
    rows = []
    for side in (query, query_s):
        weights = np.exp(keys @ np.array([float(part) for part in side]))
        rows.append(weights / weights.sum())
    return float(rows[0] @ np.log(rows[0] / rows[1]))


_EAST, _TURNED = sp.Matrix([1, 0]), sp.Matrix([3, 4]) / 5
_HEADS = {
    "still": (_EAST, _TURNED, sp.Matrix([2, 1])),
    "moved": (_EAST, _TURNED, sp.Matrix([-1, 2])),
    "opposite": (_EAST, -_EAST, sp.Matrix([0, 1])),
    "parallel": (_EAST, 2 * _EAST, sp.Matrix([1, 0])),
}


def _cosine(name: str, value: sp.Expr) -> Exact:
    return Exact(f"the cosine of the queries, {name}", value, "=", head(*_HEADS[name])[0])


def _zero(name: str) -> Exact:
    vectors = _HEADS[name]
    return Exact(
        f"no divergence, {name}",
        sp.S.Zero,
        "=",
        head(*vectors)[1],
        replay=lambda: (_replay(*vectors), 0.0),
    )


def _positive(name: str) -> Exact:
    vectors = _HEADS[name]
    return Exact(
        f"a divergence, {name}",
        sp.S.Zero,
        "<",
        head(*vectors)[1],
        replay=lambda: (_replay(*vectors), 0.0),
    )


COSINE_INSTANCES = (
    _cosine("still", sp.Rational(3, 5)),
    _cosine("moved", sp.Rational(3, 5)),
    _zero("still"),
    _positive("moved"),
    _cosine("opposite", -sp.S.One),
    _cosine("parallel", sp.S.One),
    _zero("opposite"),
    _positive("parallel"),
)
