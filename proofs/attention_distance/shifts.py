"""The distance of two rows from the shift bound, at the shift of every pattern."""

from __future__ import annotations

import sympy as sp

from proofs.attention_distance.rows import EXAMPLE, FARTHEST, MASSES, ONLY_APPENDED, SAME, SUMS
from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled
from proofs.engine.relations import eq, le
from proofs.lemmas.attention import (
    ROWS,
    Exponentials,
    bottom,
    change,
    grown,
    high,
    later,
    mass,
    moduli,
    normaliser,
    normaliser_later,
    rest,
    rest_later,
    rest_low,
    top,
)
from proofs.lemmas.finite import REAL_PART, TRIANGLE, a, angle, b
from proofs.shift_bound.proof import CHANNEL
from tappa_theory.shift_identity import (
    BOUND,
    SHIFT_DIFFERENCE,
    bound_at,
    i,
    lam,
    s,
    t,
    theta,
    u,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems import periodic_sequential, re_access, seasonal, sequential
from tappa_theory.theorems.attention_distance import (
    APPENDED,
    BOUND_MAX,
    COLUMN_OSCILLATION,
    DISTANCE,
    GAINED,
    KEY_DISTANCE,
    LOST,
    OMEGA,
    OSCILLATION,
    SAME_KEYS,
)

BOTH_CHANGES = Derivation(
    "two changes differ by twice the largest at most",
    top - bottom,
    (Link("<=", OSCILLATION, "one is at most the bound, the other at least minus it", Solver()),),
    hypotheses=(le(sp.Abs(top), BOUND_MAX), le(sp.Abs(bottom), BOUND_MAX)),
)

CHANGES_WITHIN = (
    eq(high, sp.exp(top) * normaliser / normaliser_later),
    eq(rest_low, sp.exp(bottom) * normaliser / normaliser_later),
    *BOTH_CHANGES.hypotheses,
)
"""`top` is the change of the logit of the key whose mass has the factor `high`, `bottom` that of
`rest_low`."""
FROM_EXAMPLE = {
    **EXAMPLE,
    **{symbol: sp.Integer(1) for symbol in (BOUND_MAX, normaliser, normaliser_later, moduli)},
    **{symbol: sp.Integer(0) for symbol in (top, bottom, change)},
    grown: sp.Rational(1, 2),
}
CLOSE_FROM_BOUND = (
    Fact(top - bottom, "<=", OSCILLATION, "both within the bound", Lemma(BOTH_CHANGES, {})),
    Fact(
        high,
        "<=",
        sp.exp(OSCILLATION) * rest_low,
        "exp is increasing",
        Exponentials(Solver()),
    ),
)

FROM_BOUND = Derivation(
    "distance of two rows from the shift bound",
    moduli / 2,
    (
        Link(
            "<=",
            DISTANCE.subs(OMEGA, OSCILLATION),
            "twice the bound stands for the oscillation",
            Lemma(FARTHEST, {OMEGA: OSCILLATION}),
        ),
    ),
    hypotheses=(*SUMS, *ROWS, *MASSES, *CHANGES_WITHIN),
    facts=CLOSE_FROM_BOUND,
    example=FROM_EXAMPLE,
)


def _nothing(lost: sp.Symbol, *gained: sp.Symbol) -> dict[sp.Symbol, sp.Expr]:
    return {symbol: sp.Integer(0) for symbol in (lost, *gained)}


def _special(title: str, nothing: dict[sp.Symbol, sp.Expr], end: Link) -> Derivation:
    """FROM_BOUND where nothing is lost, or gained, with the simpler formula at its end."""
    first = Link("<=", FROM_BOUND.end.subs(nothing), "the bound", Lemma(FROM_BOUND, nothing))
    given = tuple(
        hypothesis.subs(nothing, simultaneous=True) for hypothesis in FROM_BOUND.hypotheses
    )
    example = {
        **FROM_EXAMPLE,
        **{symbol: sp.Rational(1, 2) for symbol in (mass, rest)},
        **nothing,
    }
    for symbol in (later, rest_later):
        example[symbol] = (1 - example[GAINED]) / 2
    example[grown] = example[GAINED] + example[later] - example[mass]
    example = {symbol: value for symbol, value in example.items() if symbol not in nothing}
    return Derivation(title, moduli / 2, (first, end), given, example=example)


ONLY_GAINING = _special(
    "distance of two rows of which the later only gains keys",
    _nothing(LOST),
    Link(
        "=",
        APPENDED.subs(OMEGA, OSCILLATION),
        "nothing lost",
        Lemma(ONLY_APPENDED, {OMEGA: OSCILLATION}),
    ),
)
SAME_KEYS_FROM_BOUND = _special(
    "distance of two rows over the same keys",
    _nothing(LOST, GAINED),
    Link(
        "=",
        SAME_KEYS.subs(OMEGA, OSCILLATION),
        "nothing lost or gained",
        Lemma(SAME, {OMEGA: OSCILLATION}),
    ),
)

KEPT = Derivation(
    "a shift of the query by no less than the key loses no key of a causal row",
    i + u,
    (Link("<=", t + s, "both inequalities added", Solver()),),
    hypotheses=(le(i, t), le(u, s)),
)

Shift = tuple[sp.Expr, sp.Expr]


def _at(shift: Shift, bound: sp.Expr) -> Derivation:
    """The bound of a pattern bounds the change of a logit at its shift, one channel."""
    put = {s: shift[0], u: shift[1]}
    at = ", ".join(map(sp.latex, shift))
    return Derivation(
        f"the change of a logit at the shift $({at})$, one channel",
        sp.Abs(SHIFT_DIFFERENCE.subs(put, simultaneous=True)),
        (
            Link("<=", bound_at(shift), "bound (B)", Lemma(CHANNEL, put)),
            Link("=", bound, "which is the bound of the pattern", Identity()),
        ),
    )


_tau, _n, _l = re_access.tau, periodic_sequential.N, seasonal.L
_ZERO = sp.Integer(0)
RE_ACCESS = (
    _at(re_access.SHIFT, re_access.THEOREM.bound),
    _at((_tau, _ZERO), re_access.THEOREM.auxiliary["several_steps"]),
)
SEQUENTIAL = (
    _at(sequential.SHIFT, sequential.THEOREM.bound),
    _at((s, s), sequential.THEOREM.auxiliary["several_steps"]),
)
PERIODIC = (_at(periodic_sequential.SHIFT, periodic_sequential.THEOREM.bound),)
SEASONAL = (
    _at(seasonal.SHIFT, seasonal.THEOREM.bound),
    _at((_l, _l), seasonal.THEOREM.auxiliary["both_later"]),
)
SEASONAL_KEYS = (_at((_ZERO, _l), seasonal.THEOREM.auxiliary["later_key"]),)


w_j = sp.Symbol("w_j", complex=True)
j = sp.Symbol("j", integer=True, nonnegative=True)
_KEY, _OTHER = w * sp.exp(sp.I * i * theta), w_j * sp.exp(sp.I * j * theta)
_APART = sp.Abs(_KEY - _OTHER)
_STEP = sp.exp(sp.I * s * theta) * z_s - z
_COLUMN = SHIFT_DIFFERENCE.subs({u: 0, w_u: w}, simultaneous=True)
_RIVAL = _COLUMN.subs({w: w_j, i: j}, simultaneous=True)

REAL_PRODUCT = Derivation(
    "the real part of a turned product is no larger than the product of the moduli",
    sp.Abs(sp.re(sp.exp(sp.I * angle) * a * sp.conjugate(b))),
    (
        Link(
            "<=",
            sp.Abs(sp.exp(sp.I * angle) * a * sp.conjugate(b)),
            "a real part is no larger than the modulus",
            Lemma(REAL_PART, {a: sp.exp(sp.I * angle) * a * sp.conjugate(b)}),
        ),
        Link("=", sp.Abs(a) * sp.Abs(b), "a turn and a conjugate keep the modulus", Identity()),
    ),
)

COLUMN = Derivation(
    "the changes of two keys of a column differ, one channel",
    sp.Abs(_COLUMN - _RIVAL),
    (
        Link(
            "=",
            lam * sp.Abs(sp.re(sp.exp(sp.I * t * theta) * _STEP * sp.conjugate(_KEY - _OTHER))),
            "one query step for both keys",
            Identity(),
        ),
        Link(
            "<=",
            lam * (sp.Abs(_STEP) * _APART),
            "a real part is no larger than the modulus",
            Scaled(lam, Lemma(REAL_PRODUCT, {a: _STEP, b: _KEY - _OTHER, angle: t * theta})),
        ),
        Link(
            "=",
            COLUMN_OSCILLATION.subs(KEY_DISTANCE, _APART),
            "in the registry's order",
            Identity(),
        ),
    ),
)

first, second, third, fourth = sp.symbols("x_1 x_2 y_1 y_2", nonnegative=True)
PRODUCT = Derivation(
    "products of what is not negative compare as their factors do",
    first * second,
    (Link("<=", third * fourth, "one factor after the other", Solver()),),
    hypotheses=(le(first, third), le(second, fourth)),
)
_TURNED = (sp.exp(sp.I * s * theta) - 1) * z
_ROTATED = sp.exp(sp.I * s * theta) * (z_s - z)
_WIDER = (
    sp.Abs(z_s - z) + 2 * sp.Abs(sp.sin(s * theta / 2)) * sp.Abs(z),
    sp.Abs(w) + sp.Abs(w_j),
)
_HERE = BOUND.subs({u: 0, w_u: w}, simultaneous=True)

STEP_OF_COLUMN = Derivation(
    "the query step after RoPE is no longer than the drift and the turn, one channel",
    sp.Abs(_STEP),
    (
        Link("=", sp.Abs(_ROTATED + _TURNED), "drift and turn", Identity()),
        Link(
            "<=",
            sp.Abs(_ROTATED) + sp.Abs(_TURNED),
            "triangle inequality",
            Lemma(TRIANGLE, {a: _ROTATED, b: _TURNED}),
        ),
        Link("=", _WIDER[0], r"$|e^{\mathrm i\alpha} - 1| = 2|\sin(\alpha/2)|$", Identity()),
    ),
)
KEYS_APART = Derivation(
    "two keys are no farther apart than their norms add up to, one channel",
    _APART,
    (
        Link(
            "<=",
            sp.Abs(_KEY) + sp.Abs(-_OTHER),
            "triangle inequality",
            Lemma(TRIANGLE, {a: _KEY, b: -_OTHER}),
        ),
        Link("=", _WIDER[1], "RoPE keeps norms", Identity()),
    ),
)
NEVER_WIDER = Derivation(
    "the oscillation of a column is never above the bounds of the two keys, one channel",
    COLUMN_OSCILLATION.subs(KEY_DISTANCE, _APART),
    (
        Link(
            "<=",
            lam * (_WIDER[0] * _WIDER[1]),
            "factor by factor",
            Scaled(
                lam,
                Lemma(
                    PRODUCT,
                    {
                        first: sp.Abs(_STEP),
                        second: _APART,
                        third: _WIDER[0],
                        fourth: _WIDER[1],
                    },
                ),
            ),
        ),
        Link("=", _HERE + _HERE.subs({w: w_j, i: j}), "(B) at (s, 0) of both keys", Identity()),
    ),
    facts=(
        Fact(STEP_OF_COLUMN.start, "<=", _WIDER[0], "the step", Lemma(STEP_OF_COLUMN, {})),
        Fact(KEYS_APART.start, "<=", _WIDER[1], "the keys", Lemma(KEYS_APART, {})),
    ),
)
