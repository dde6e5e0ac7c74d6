"""A relation that no prover decides, refuted at a point: 60 digits at random rational values."""

from __future__ import annotations

import random
from collections.abc import Sequence

import sympy as sp

from proofs.engine.certificates import Meaning
from proofs.engine.witness import Chosen

DIGITS = 60
POINTS = 8
MARGIN = sp.Float(10) ** (-DIGITS // 2)
"""By how much, of the larger side, a relation must fail; evaluation errs by far less."""


def point_against(
    left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
) -> dict[sp.Symbol, sp.Expr] | None:
    """Values that satisfy the hypotheses and not the relation ("=" or "<="); None if none is found.

    Chosen symbols have their values. None where another meaning binds the symbols: values at
    random need not have it.
    """
    if any(isinstance(known, Meaning) and not isinstance(known, Chosen) for known in hypotheses):
        return None
    choices = [known.args for known in hypotheses if isinstance(known, Chosen)]
    known = [part for part in hypotheses if not isinstance(part, Meaning)]
    sides, known = _at([left, right], choices), _at(known, choices)
    symbols = sorted(set().union(*(part.free_symbols for part in (*sides, *known))), key=str)
    draw = random.Random(0)
    for _ in range(POINTS):
        values = {symbol: _value(symbol, draw) for symbol in symbols}
        if not all(part.subs(values) == sp.true for part in known):
            continue
        at_values = [sp.N(side.subs(values), DIGITS) for side in sides]
        if _fails(at_values[0], at_values[1], relation):
            return values
    return None


def _at(parts: Sequence[sp.Basic], choices: Sequence[tuple[sp.Basic, ...]]) -> list[sp.Basic]:
    for symbol, value in reversed(choices):
        parts = [part.subs(symbol, value) for part in parts]
    return list(parts)


def _value(symbol: sp.Symbol, draw: random.Random) -> sp.Expr:
    """A value of the symbol's kind."""

    def number() -> sp.Rational:
        size = sp.Rational(draw.randint(1, 40), 1 if symbol.is_integer else draw.randint(2, 9))
        return size if symbol.is_nonnegative or draw.random() < 0.5 else -size

    return number() if symbol.is_real else number() + sp.I * number()


def _fails(left: sp.Expr, right: sp.Expr, relation: str) -> bool:
    if not (left.is_finite and right.is_finite):
        return False
    slack = MARGIN * sp.Max(1, abs(left), abs(right))
    if relation == "=":
        return bool(abs(left - right) > slack)
    return relation == "<=" and bool(left.is_real and right.is_real and left > right + slack)
