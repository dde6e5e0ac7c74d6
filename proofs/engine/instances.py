"""A registry expression at values given by the names of its symbols: exact, or in float64."""

from __future__ import annotations

import numpy as np
import sympy as sp

from tappa_theory.separable import evaluate


def exact(expression: sp.Expr, **values: sp.Expr | int) -> sp.Expr:
    """The expression at exact values, given by the names of its symbols."""
    return expression.subs(
        {symbol: values[symbol.name] for symbol in expression.free_symbols}, simultaneous=True
    )


def floats(expression: sp.Expr, **values: complex) -> float:
    """The same in float64, through the functions generated from the expression."""
    arrays = {
        name: np.asarray([value], dtype=np.result_type(value, 1.0))
        for name, value in values.items()
    }
    return float(np.sum(evaluate(expression, arrays)))


def spelled(expression: sp.Expr, **values: sp.Expr | int) -> sp.Expr:
    """The expression at exact values as it is written, so that a reader sees what is equated.

    No sum or function is carried out, and of products only those of rational numbers; factors of 1
    go, a minimum is one of its values.
    """
    if isinstance(expression, sp.Symbol):
        return sp.sympify(values[expression.name])
    if not expression.free_symbols:
        return expression
    parts = [spelled(part, **values) for part in expression.args]
    if isinstance(expression, sp.Mul):
        parts = [part for part in parts if part != 1] or [sp.Integer(1)]
        if all(isinstance(part, sp.Rational) for part in parts):
            return sp.Mul(*parts)
        if len(parts) == 1:
            return parts[0]
    if isinstance(expression, (sp.Min, sp.Max)):
        return expression.func(*parts)
    return expression.func(*parts, evaluate=False)
