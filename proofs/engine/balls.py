"""Transcendental inequalities by Arb balls that cover the whole domain, ends included.

Interval arithmetic of python-flint encloses every value; a box that is not decided is halved. Where
the difference vanishes at an end of the domain, its first derivative that does not vanish there
decides near the end: the value is zero at the end exactly, and the derivative has one sign up to
where the boxes take over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import sympy as sp

from proofs.engine.certificates import Evidence, MissingProver, atoms

PRECISION = 128
"""Bits of the balls."""
MAX_BOXES = 20_000
"""Boxes looked at before the answer is "undecided"."""


@dataclass(frozen=True)
class Balls:
    """left < right, or left <= right, for `variable` in [low, high]; numbers are exact.

    The hypotheses, or the symbol itself, must say that the variable lies there. zero_at_low,
    zero_at_high: order with which right - left vanishes at that end, 0 for not at all; < then needs
    a hypothesis that keeps the variable away from that end. near: how far from such an end the
    derivative decides.
    """

    variable: sp.Symbol
    low: sp.Expr
    high: sp.Expr
    zero_at_low: int = 0
    zero_at_high: int = 0
    near: sp.Rational = field(default_factory=lambda: sp.Rational(1, 10))

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic] = ()
    ) -> Evidence:
        if relation not in ("<", "<="):
            return Evidence(False, "arb", f"balls do not certify {relation}")
        left, right = sp.sympify(left), sp.sympify(right)
        x, gap = self.variable, right - left
        others = (left.free_symbols | right.free_symbols) - {x}
        if others:
            return Evidence(False, "arb", f"{others} are not covered")
        if not bool(self.low < self.high) or min(self.zero_at_low, self.zero_at_high) < 0:
            return Evidence(False, "arb", f"[{self.low}, {self.high}] is empty")
        above, inside_low = _limit(x, self.low, hypotheses, 1)
        below, inside_high = _limit(x, self.high, hypotheses, -1)
        if not (above and below):
            here = f"[{self.low}, {self.high}]"
            return Evidence(False, "arb", f"no hypothesis says that {x} lies in {here}")
        equal = (self.zero_at_low and not inside_low) or (self.zero_at_high and not inside_high)
        if relation == "<" and equal:
            return Evidence(False, "arb", "the sides are equal at an end: <= is what holds")
        try:
            return self._covered(gap, (left, right))
        except ValueError as error:
            if isinstance(error, MissingProver):
                raise
            return Evidence(False, "arb", f"{error}")

    def _covered(self, gap: sp.Expr, sides: Sequence[sp.Expr]) -> Evidence:
        x = self.variable
        low, high = self.low, self.high
        if self.near <= 0:
            return Evidence(False, "arb", f"{self.near} is no distance from an end")
        for order, end, sign in ((self.zero_at_low, low, 1), (self.zero_at_high, high, -1)):
            if not order:
                continue
            for k in range(order):
                value = sp.simplify(sp.diff(gap, x, k).subs(x, end))
                if value != 0:
                    return Evidence(False, "arb", f"derivative {k} at {end} is {value}, not 0")
            inner = end + sign * self.near
            for part in sides:
                if not _finite(part, x, min(end, inner), max(end, inner)):
                    return Evidence(False, "arb", f"there is no ball of {part} near {end}")
            derivative = sign**order * sp.diff(gap, x, order)
            found = positive(derivative, x, min(end, inner), max(end, inner))
            if not found.ok:
                return Evidence(False, "arb", f"derivative {order} near {end}: {found.detail}")
            low, high = (inner, high) if sign == 1 else (low, inner)
        # sympy drops from the difference what both sides have: 1/x as well as its pole
        return positive(gap, x, low, high, sides)


def positive(
    expression: sp.Expr,
    variable: sp.Symbol,
    low: sp.Expr,
    high: sp.Expr,
    finite: Sequence[sp.Expr] = (),
) -> Evidence:
    """Is the expression > 0, and are those of `finite` finite, for all values in [low, high]?"""
    if expression.free_symbols - {variable}:
        raise ValueError(f"{expression} has other symbols than {variable}")
    flint = _flint()
    flint.ctx.prec = PRECISION
    left, right = ball(low, {}), ball(high, {})
    waiting = [(Fraction(0), Fraction(1))]
    looked = 0
    while waiting:
        start, stop = waiting.pop()
        looked += 1
        if looked > MAX_BOXES:
            return Evidence(False, "arb", f"undecided after {MAX_BOXES} boxes")
        first = left + (right - left) * _exact(start)
        last = left + (right - left) * _exact(stop)
        box = {variable: first.union(last)}
        value = ball(expression, box)
        if (
            value.is_finite()
            and bool(value > 0)
            and all(ball(part, box).is_finite() for part in finite)
        ):
            continue
        if value.is_finite() and bool(value <= 0):
            return Evidence(False, "arb", f"false for {variable} in {first} .. {last}")
        middle = (start + stop) / 2
        waiting += [(start, middle), (middle, stop)]
    return Evidence(True, "arb", f"{looked} balls cover the domain")


def _finite(expression: sp.Expr, variable: sp.Symbol, low: sp.Expr, high: sp.Expr) -> bool:
    """Is the expression defined and bounded on [low, high], as far as 64 balls can tell?"""
    flint = _flint()
    flint.ctx.prec = PRECISION
    left, width = ball(low, {}), ball(high, {}) - ball(low, {})
    ends = [left + width * _exact(Fraction(k, 64)) for k in range(65)]
    values = (ball(expression, {variable: first.union(last)}) for first, last in pairwise(ends))
    return all(value.is_finite() for value in values)


def _limit(
    variable: sp.Symbol, end: sp.Expr, hypotheses: Sequence[sp.Basic], sign: int
) -> tuple[bool, bool]:
    """(the variable does not go beyond this end, it does not even reach it), as far as is given.

    sign: 1 for the lower end, -1 for the upper one.
    """
    limits: list[tuple[sp.Expr, bool]] = []
    if variable.is_nonnegative if sign == 1 else variable.is_nonpositive:
        limits.append((sp.Integer(0), bool(variable.is_nonzero)))
    for hypothesis in atoms(hypotheses):
        if not isinstance(hypothesis, (sp.Ge, sp.Gt, sp.Le, sp.Lt)):
            continue
        one, other = (hypothesis.gts, hypothesis.lts)[::sign]
        if one == variable and other.is_number:
            limits.append((other, isinstance(hypothesis, (sp.Gt, sp.Lt))))
    close = [(limit, strict) for limit, strict in limits if (sign * (limit - end)).is_nonnegative]
    return bool(close), any(s or sign * (limit - end) > 0 for limit, s in close)


def ball(expression: sp.Expr, values: dict[sp.Symbol, Any]) -> Any:
    """A ball that contains the value of the expression for every value in the given balls."""
    flint = _flint()
    if isinstance(expression, sp.Rational):
        return flint.arb(flint.fmpq(int(expression.p), int(expression.q)))
    if expression is sp.pi:
        return flint.arb.pi()
    if expression is sp.E:
        return flint.arb(1).exp()
    if expression in values:
        return values[expression]
    if isinstance(expression, sp.Add):
        return sum((ball(term, values) for term in expression.args), flint.arb(0))
    if isinstance(expression, sp.Mul):
        product = flint.arb(1)
        for factor in expression.args:
            product *= ball(factor, values)
        return product
    if isinstance(expression, sp.Pow):
        base = ball(expression.base, values)
        if expression.exp.is_Integer:
            return base ** int(expression.exp)
        if expression.exp == sp.Rational(1, 2):
            return base.sqrt()
        if expression.exp == sp.Rational(-1, 2):
            return 1 / base.sqrt()
        return base ** ball(expression.exp, values)
    functions = {
        sp.sin: "sin",
        sp.cos: "cos",
        sp.tan: "tan",
        sp.asin: "asin",
        sp.acos: "acos",
        sp.atan: "atan",
        sp.exp: "exp",
        sp.log: "log",
        sp.tanh: "tanh",
        sp.Abs: "__abs__",
    }
    name = functions.get(type(expression))
    if name is None:
        raise ValueError(f"{type(expression).__name__} has no ball: {expression}")
    return getattr(ball(expression.args[0], values), name)()


def number(expression: sp.Expr) -> Any:
    """A ball that contains a real number, not wider than PRECISION makes it.

    Raises ValueError for what is no real number, as far as balls can tell.
    """
    _flint().ctx.prec = PRECISION
    value = ball(sp.sympify(expression), {})
    if not value.is_finite():
        raise ValueError(f"{expression} is no finite real number")
    return value


def _exact(fraction: Fraction) -> Any:
    flint = _flint()
    return flint.arb(flint.fmpq(fraction.numerator, fraction.denominator))


def _flint() -> Any:
    try:
        import flint
    except ImportError as error:
        raise MissingProver("the prover Arb is missing; run: pip install python-flint") from error
    return flint
