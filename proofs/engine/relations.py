"""Relations that sympy leaves as they are written: hypotheses of derivations."""

from __future__ import annotations

import sympy as sp


def le(left: sp.Expr | int, right: sp.Expr | int) -> sp.Rel:
    """left <= right, not evaluated."""
    return sp.Le(left, right, evaluate=False)


def lt(left: sp.Expr | int, right: sp.Expr | int) -> sp.Rel:
    """left < right, not evaluated."""
    return sp.Lt(left, right, evaluate=False)


def eq(left: sp.Expr | int, right: sp.Expr | int) -> sp.Rel:
    """left = right, not evaluated."""
    return sp.Eq(left, right, evaluate=False)
