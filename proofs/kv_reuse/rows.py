"""What discarded keys weigh in a later row, and what leaving them out does to the output."""

from __future__ import annotations

import sympy as sp

from proofs.attention_distance.rows import CLOSE, ODDS_OF_ROWS
from proofs.attention_distance.shifts import CHANGES_WITHIN, CLOSE_FROM_BOUND
from proofs.engine.certificates import Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link
from proofs.engine.relations import eq, le
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.attention import (
    AVERAGE,
    MIXTURE,
    ROWS,
    Average,
    Exponentials,
    Mixture,
    bottom,
    excess,
    high,
    largest,
    later,
    low,
    mass,
    normaliser,
    normaliser_later,
    point,
    rest,
    rest_high,
    rest_later,
    rest_low,
    size,
    top,
    total,
)
from tappa_theory.theorems.attention_distance import (
    BOUND_MAX,
    GAINED,
    MASS,
    MASS_LATER,
    OMEGA,
    OSCILLATION,
)
from tappa_theory.theorems.kv_reuse import MASS_IN_ROW, OUTPUT_ERROR, VALUE_DISTANCE

_SHARES = (eq(mass, MASS), eq(mass + rest, 1), eq(later + rest_later, 1 - GAINED))
"""Masses among the common keys before, in the whole row after."""
_EXAMPLE = {
    **{symbol: sp.Rational(1, 2) for symbol in (mass, MASS, rest, GAINED)},
    **{symbol: sp.Rational(1, 4) for symbol in (later, rest_later)},
    **{symbol: sp.Integer(1) for symbol in (OMEGA, low, high, rest_low, rest_high)},
}

NEW_KEYS = Derivation(
    "new keys lower the mass of the old ones by what they take",
    later,
    (
        Link(
            "=",
            (1 - GAINED) * (later / (later + rest_later)),
            "the share among the old keys, times what these have",
            Solver(),
        ),
        Link("<=", later / (later + rest_later), "new keys take no less than nothing", Solver()),
    ),
    hypotheses=(eq(later + rest_later, 1 - GAINED), sp.Lt(GAINED, 1, evaluate=False)),
)

IN_ROW = Derivation(
    "mass of the discarded keys in a later row",
    later,
    (Link("<=", MASS_IN_ROW, "odds as a share", Exponentials(Solver())),),
    hypotheses=(*ROWS, CLOSE, *_SHARES),
    facts=(ODDS_OF_ROWS,),
    example=_EXAMPLE,
)

LATER = Derivation(
    "mass of the discarded keys in a later row, whatever the new keys take",
    later,
    (
        Link("<=", MASS_IN_ROW, "mass in the row", Lemma(IN_ROW, {})),
        Link("<=", MASS_LATER, "new keys take no less than nothing", Exponentials(Solver())),
    ),
    hypotheses=IN_ROW.hypotheses,
    example=_EXAMPLE,
)

kept = sp.Symbol("o_K", real=True)
"""Sum of the kept values times their masses, one coordinate."""

OUTPUT_CHANGE = Derivation(
    "what leaving keys out changes, one coordinate",
    total + kept - point,
    (
        Link(
            "=",
            excess,
            "the masses of the discarded keys, times their values less the renormalised output",
            Solver(),
        ),
    ),
    hypotheses=(Average(mass, total, excess, point), eq(kept, (1 - mass) * point)),
    facts=(Fact(excess, "=", total - mass * point, "the sum taken apart", Lemma(AVERAGE, {})),),
)

KEPT_AVERAGE = Derivation(
    "a value less an average is the average of the differences, one coordinate",
    total - point,
    (Link("=", excess, "the weights sum to 1", Solver()),),
    hypotheses=(Average(mass, total, excess, point), eq(mass, 1)),
    facts=(Fact(excess, "=", total - mass * point, "the sum taken apart", Lemma(AVERAGE, {})),),
)

FROM_KEPT = Derivation(
    "a discarded value is no farther from the renormalised output than from some kept value",
    size,
    (
        Link("<=", mass * largest, "a weighted sum", Lemma(MIXTURE, {})),
        Link("<=", VALUE_DISTANCE, "the weights sum to 1", Solver()),
    ),
    hypotheses=(Mixture(mass, size, largest), eq(mass, 1), le(largest, VALUE_DISTANCE)),
)

error = sp.Symbol("e", real=True)
farthest = sp.Symbol("d_E", nonnegative=True)
"""Norm of the error; largest distance of a discarded value from the renormalised output."""
_VALUES = (Mixture(later, error, farthest), le(farthest, VALUE_DISTANCE))

WEIGHTED_ERROR = Derivation(
    "the error is at most the mass of the discarded keys times the distance of the values",
    error,
    (
        Link(
            "<=",
            later * farthest,
            "a weighted sum",
            Lemma(MIXTURE, {mass: later, size: error, largest: farthest}),
        ),
        Link("<=", later * VALUE_DISTANCE, "none is farther", Solver()),
    ),
    hypotheses=_VALUES,
)

OUTPUT = Derivation(
    "error of the output",
    error,
    (
        Link("<=", later * VALUE_DISTANCE, "by the mass", Lemma(WEIGHTED_ERROR, {})),
        Link("<=", OUTPUT_ERROR, "the mass is bounded", Exponentials(Solver())),
    ),
    hypotheses=(*IN_ROW.hypotheses, *_VALUES),
    facts=(Fact(later, "<=", MASS_LATER, "mass in a later row", Lemma(LATER, {})),),
    example={**_EXAMPLE, error: 0, farthest: 1, VALUE_DISTANCE: 1},
)

_WITHIN = (*ROWS, *_SHARES, *CHANGES_WITHIN)
_WITHIN_EXAMPLE = {
    **{symbol: value for symbol, value in _EXAMPLE.items() if symbol != OMEGA},
    **{symbol: sp.Integer(1) for symbol in (BOUND_MAX, normaliser, normaliser_later)},
    **{symbol: sp.Integer(0) for symbol in (top, bottom)},
}

MASS_FROM_BOUND = Derivation(
    "mass of the discarded keys in a later row, from the shift bound",
    later,
    (
        Link(
            "<=",
            MASS_LATER.subs(OMEGA, OSCILLATION),
            "twice the bound stands for the oscillation",
            Lemma(LATER, {OMEGA: OSCILLATION}),
        ),
    ),
    hypotheses=_WITHIN,
    facts=CLOSE_FROM_BOUND,
    example=_WITHIN_EXAMPLE,
)

ERROR_FROM_BOUND = Derivation(
    "error of the output, from the shift bound",
    error,
    (
        Link(
            "<=",
            OUTPUT_ERROR.subs(OMEGA, OSCILLATION),
            "twice the bound stands for the oscillation",
            Lemma(OUTPUT, {OMEGA: OSCILLATION}),
        ),
    ),
    hypotheses=(*_WITHIN, *_VALUES),
    facts=CLOSE_FROM_BOUND,
    example={**_WITHIN_EXAMPLE, error: 0, farthest: 1, VALUE_DISTANCE: 1},
)

ATTAINED_IN_ROW = Derivation(
    "the discarded keys grow by the largest factor, the other old keys by the smallest",
    (1 - GAINED) * (MASS * sp.exp(OMEGA) / (MASS * sp.exp(OMEGA) + 1 - MASS)),
    (Link("=", MASS_IN_ROW, r"times $e^{-\omega}$", Exponentials(Solver())),),
)

value, other_value = sp.symbols("v_E v_K", real=True)
ATTAINED_OUTPUT = Derivation(
    "one discarded value, all kept values equal: the error, one coordinate",
    later * value + (1 - later) * other_value - other_value,
    (Link("=", later * (value - other_value), "the renormalised output is that value", Solver()),),
)

logit, other_logit, new_logit, shared = sp.symbols("a_E a_K a_N c", real=True)
"""Logits at t of the discarded and of the kept key, of the new key at t + tau; c, by which the kept
key changes, and with omega the discarded one."""
_WEIGHTS = (sp.exp(logit + shared + OMEGA), sp.exp(other_logit + shared))
_OLD_MASS = {MASS: sp.exp(logit) / (sp.exp(logit) + sp.exp(other_logit))}


def _error(weights: tuple[sp.Expr, ...], values: tuple[sp.Expr, ...]) -> sp.Expr:
    """|o - o^| without the first key, one coordinate. weights: of the later row, over its sum."""

    def average(first: int) -> sp.Expr:
        pairs = zip(weights[first:], values[first:], strict=True)
        return sp.Add(*(w * v for w, v in pairs)) / sp.Add(*weights[first:])

    return sp.Abs(average(0) - average(1))


ERROR_ATTAINED = Derivation(
    "one discarded and one kept key: the error is its bound, one coordinate",
    _error(_WEIGHTS, (other_value + VALUE_DISTANCE, other_value)),
    (
        Link(
            "=",
            OUTPUT_ERROR,
            r"the odds grow by exactly $e^\omega$, and the values are that far apart",
            AtChosen(by=Exponentials(Solver())),
        ),
    ),
    hypotheses=chosen(_OLD_MASS),
)
_NEW_WEIGHTS = (*_WEIGHTS, sp.exp(new_logit))
ERROR_WITH_NEW_KEY = Derivation(
    "and a new key with the value of the kept one lowers it by what it takes",
    _error(_NEW_WEIGHTS, (other_value + VALUE_DISTANCE, other_value, other_value)),
    (
        Link(
            "=",
            (1 - GAINED) * OUTPUT_ERROR,
            "the same, of what the new key leaves",
            AtChosen(by=Exponentials(Solver())),
        ),
    ),
    hypotheses=chosen({**_OLD_MASS, GAINED: _NEW_WEIGHTS[-1] / sp.Add(*_NEW_WEIGHTS)}),
)
