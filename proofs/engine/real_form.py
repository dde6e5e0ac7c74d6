"""Complex and trigonometric expressions as polynomials with their definitions, exactly.

A complex symbol becomes a pair of real ones, an exponential a cosine and a sine, and every modulus,
square root, inverse, minimum and maximum a new real variable with the relations that define it.
What a solver or a reduction then shows of the polynomials is true of the expressions, provided that
the definitions are not empty: `Definition.radicand` and `Definition.denominator` say what has to be
shown of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sympy as sp
from sympy.core.function import AppliedUndef

from proofs.engine.polynomials import ONE, ZERO, Polynomial, Ring, key

MOST_FACTORS = 1_000
"""Largest exponent, and largest number of times that an angle holds its unit."""
LARGEST_PRIME = 10_000
"""Prime factors up to this one are taken out of a square root."""


@dataclass(frozen=True)
class Definition:
    """One new variable, or a cosine and its sine, by relations that hold of it.

    equations: polynomials that are zero. conditions: relations that hold. radicand: a polynomial
    that must be shown to be nonnegative, denominator: one that must be shown not to vanish, or
    there is no such variable; None where there is nothing to show. Both use earlier variables only.
    """

    equations: tuple[sp.Expr, ...] = ()
    conditions: tuple[sp.Rel, ...] = ()
    radicand: sp.Expr | None = None
    denominator: sp.Expr | None = None


_EVERYWHERE = (sp.exp, sp.sin, sp.cos, sp.re, sp.im, sp.conjugate, sp.Abs)
"""Functions that have a value wherever their argument has one."""

Parts = tuple[Polynomial, Polynomial]
"""Real and imaginary part."""


class RealForm:
    """Collects the variables and definitions of the expressions that go through it.

    New variables are dummies, which no symbol of a user can be equal to. Polynomials are in normal
    form: no square of a sine, of a root or of an extreme of two is left in them.
    """

    def __init__(self) -> None:
        self.definitions: list[Definition] = []
        self._ring = Ring()
        self._known: dict[object, sp.Symbol] = {}
        self._radicands: dict[sp.Symbol, sp.Expr] = {}
        self._inverses: list[tuple[sp.Symbol, Polynomial]] = []
        self._units: dict[sp.Expr, sp.Integer] = {}

    @property
    def equations(self) -> list[sp.Expr]:
        """Polynomials that are zero, each by definition of a variable."""
        return [equation for part in self.definitions for equation in part.equations]

    @property
    def conditions(self) -> list[sp.Rel]:
        """Relations that hold by definition (a modulus is not negative)."""
        return [condition for part in self.definitions for condition in part.conditions]

    def angles(self, expressions: Iterable[sp.Basic]) -> None:
        """Learn the angles of all expressions first, so that halves and wholes share one unit."""
        for expression in expressions:
            for node in sp.preorder_traversal(sp.sympify(expression)):
                if isinstance(node, (sp.sin, sp.cos)):
                    self._learn(node.args[0])
                elif isinstance(node, sp.exp):
                    self._learn(node.args[0] / sp.I)

    def __call__(self, expression: sp.Expr) -> sp.Expr:
        """The real polynomial of a real expression.

        Raises ValueError if the expression has an imaginary part or no real form.
        """
        return self._ring.expression(self._real(sp.sympify(expression)))

    def parts(self, expression: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        """(real, imaginary) part, polynomials in the real variables. Raises ValueError."""
        x, y = self._parts(sp.sympify(expression))
        return self._ring.expression(x), self._ring.expression(y)

    def difference(self, left: sp.Expr, right: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        """(real, imaginary) part of left - right times the denominators. Raises ValueError.

        Where no denominator vanishes it is zero exactly where left = right.
        """
        ours, theirs = self._parts(left), self._parts(right)
        x, y = (self._ring.difference(a, b) for a, b in zip(ours, theirs, strict=True))
        return self._ring.expression(self._cleared(x)), self._ring.expression(self._cleared(y))

    def radicand_of(self, variable: sp.Expr) -> sp.Expr | None:
        """What a variable is the square root of; None if it is none."""
        return self._radicands.get(variable)

    def _cleared(self, polynomial: Polynomial) -> Polynomial:
        """The polynomial times its denominators: no inverse is left in it."""
        # the last one first: a denominator may hold inverses that were there before it
        for inverse, denominator in reversed(self._inverses):
            polynomial = self._ring.times_inverse_of(polynomial, inverse, denominator)
        return polynomial

    def _real(self, expression: sp.Expr) -> Polynomial:
        x, y = self._parts(expression)
        if y:
            raise ValueError(f"{expression} is not known to be real")
        return x

    def _parts(self, expression: sp.Expr) -> Parts:
        if isinstance(expression, sp.Rational):
            return self._ring.constant(expression), ZERO
        if expression in (sp.pi, sp.E):
            return self._constant(expression), ZERO
        if expression is sp.I:
            return ZERO, ONE
        if isinstance(expression, sp.Symbol):
            return self._symbol(expression)
        if isinstance(expression, sp.Add):
            parts = [self._parts(term) for term in expression.args]
            return self._ring.sum(x for x, _ in parts), self._ring.sum(y for _, y in parts)
        if isinstance(expression, sp.Mul):
            factors = sorted(map(self._parts, expression.args), key=lambda p: len(p[0]) + len(p[1]))
            return self._product(factors)
        if isinstance(expression, sp.exp):
            return self._turn(expression.args[0] / sp.I)
        if isinstance(expression, sp.Pow):
            return self._power(*expression.args)
        if isinstance(expression, sp.cos):
            return self._turn(expression.args[0])[0], ZERO
        if isinstance(expression, sp.sin):
            return self._turn(expression.args[0])[1], ZERO
        if isinstance(expression, sp.re):
            return self._parts(expression.args[0])[0], ZERO
        if isinstance(expression, sp.im):
            return self._parts(expression.args[0])[1], ZERO
        if isinstance(expression, sp.conjugate):
            x, y = self._parts(expression.args[0])
            return x, self._ring.negative(y)
        if isinstance(expression, sp.Abs):
            return self._modulus(expression.args[0]), ZERO
        if isinstance(expression, (sp.Max, sp.Min)):
            return self._extreme(expression), ZERO
        raise ValueError(f"{type(expression).__name__} has no real form: {expression}")

    def _product(self, factors: Iterable[Parts]) -> Parts:
        ring = self._ring
        x, y = ONE, ZERO
        for a, b in factors:
            x, y = (
                ring.difference(ring.product(x, a), ring.product(y, b)),
                ring.sum((ring.product(x, b), ring.product(y, a))),
            )
        return x, y

    def _symbol(self, symbol: sp.Symbol) -> Parts:
        if symbol.is_real:
            return self._ring.variable(symbol), ZERO
        if not symbol.is_commutative or symbol.is_extended_real or symbol.is_infinite:
            raise ValueError(f"{symbol} is no real or complex number")
        x, y = (self._variable((symbol, part), f"{symbol.name}_{part}") for part in "xy")
        return self._ring.variable(x), self._ring.variable(y)

    def _constant(self, constant: sp.Expr) -> Polynomial:
        # 3 < pi < 22/7, 19/7 < e < 20/7
        low, high = (21, 22) if constant is sp.pi else (19, 20)
        new = ("constant", constant) not in self._known
        variable = self._variable(("constant", constant), str(constant))
        if new:
            bounds = (
                sp.Gt(variable, sp.Rational(low, 7), evaluate=False),
                sp.Lt(variable, sp.Rational(high, 7), evaluate=False),
            )
            self.definitions.append(Definition(conditions=bounds))
        return self._ring.variable(variable)

    def _variable(self, of: object, name: str) -> sp.Symbol:
        if of not in self._known:
            self._known[of] = sp.Dummy(name, real=True)
        return self._known[of]

    def _define(self, expression: sp.Expr) -> None:
        """Define every root and quotient in an expression that sympy may rewrite without them.

        Raises ValueError for a function that is not known to have a value.
        """
        if isinstance(expression, sp.Pow) and expression.free_symbols:
            if not (expression.exp.is_Integer and expression.exp > 0):
                self._parts(expression)
        elif (
            isinstance(expression, sp.Function)
            and not isinstance(expression, _EVERYWHERE)
            and (isinstance(expression, (sp.arg, sp.atan2)) or not expression.is_complex)
        ):
            raise ValueError(f"{expression} is not known to have a value")
        for part in expression.args:
            self._define(part)

    def _learn(self, angle: sp.Expr) -> None:
        for unit, coefficient in _monomials(angle).items():
            self._units[unit] = sp.ilcm(self._units.get(unit, 1), coefficient.q)

    def _turn(self, angle: sp.Expr) -> Parts:
        """(cos, sin) of a real angle, a rational combination of real units and of pi."""
        self._define(angle)
        self._learn(angle)
        turns = []
        for unit, coefficient in _monomials(angle).items():
            if unit == sp.pi:
                turns.append(self._closed(sp.cos(coefficient * sp.pi), sp.sin(coefficient * sp.pi)))
                continue
            if not unit.is_real or unit.has(AppliedUndef, sp.Float):
                raise ValueError(f"the angle {unit} is not known to be real")
            count = int(coefficient * self._units[unit])
            if abs(count) > MOST_FACTORS:
                raise ValueError(f"the angle {angle} is too many times {unit}")
            c, s = self._circle(unit, self._units[unit])
            turns += [(c, s if count > 0 else self._ring.negative(s))] * abs(count)
        return self._product(turns)

    def _closed(self, cosine: sp.Expr, sine: sp.Expr) -> Parts:
        """Values of cosine and sine at a rational multiple of pi, by square roots."""
        for number in (cosine, sine):
            if number.has(sp.cos, sp.sin):
                raise ValueError(f"{number} has no closed form")
        return self._real(cosine), self._real(sine)

    def _circle(self, unit: sp.Expr, parts: sp.Integer) -> Parts:
        label = f"{unit}/{parts}" if parts != 1 else f"{unit}"
        new = ("cos", unit, parts) not in self._known
        cosine = self._variable(("cos", unit, parts), f"cos({label})")
        sine = self._variable(("sin", unit, parts), f"sin({label})")
        c = self._ring.variable(cosine)
        s = self._ring.variable(sine, self._ring.difference(ONE, self._ring.product(c, c)))
        if new:
            self.definitions.append(Definition(equations=(sine**2 + cosine**2 - 1,)))
        return c, s

    def _power(self, base: sp.Expr, exponent: sp.Expr) -> Parts:
        if not isinstance(exponent, sp.Rational) or exponent.q > 2:
            raise ValueError(f"a power that is neither whole nor of a square root: {exponent}")
        if abs(exponent.p) > MOST_FACTORS:
            raise ValueError(f"the exponent {exponent} is too large")
        x, y = self._parts(base)
        if exponent.q == 2:
            if y:
                raise ValueError(f"the square root of a complex number: {base}")
            x = self._root(x)
        if exponent.p < 0:
            square = self._ring.sum((self._ring.product(x, x), self._ring.product(y, y)))
            # 1/c = conj(c) / |c|^2
            inverse = self._inverse(square if y else x)
            x = self._ring.product(x, inverse) if y else inverse
            y = self._ring.negative(self._ring.product(y, inverse))
        return self._product([(x, y)] * abs(exponent.p))

    def _inverse(self, denominator: Polynomial) -> Polynomial:
        number = self._ring.number(denominator)
        if number is not None:
            if number == 0:
                raise ValueError("a division by zero")
            return self._ring.constant(1 / number)
        new = ("inverse", key(denominator)) not in self._known
        below = self._ring.expression(denominator)
        inverse = self._variable(("inverse", key(denominator)), f"inv[{below}]")
        if new:
            equation = sp.expand(inverse * below - 1)
            self.definitions.append(Definition(equations=(equation,), denominator=below))
            self._inverses.append((inverse, denominator))
        return self._ring.variable(inverse)

    def _root(self, radicand: Polynomial, sure: bool = False) -> Polynomial:
        """The square root of a polynomial; sure: it is a sum of squares."""
        number = self._ring.number(radicand)
        if number is not None:
            return self._root_of_number(number)
        content = _content(radicand)
        if content == 1:
            return self._root_variable(radicand, sure)
        primitive = self._root_variable(self._ring.scaled(radicand, 1 / content), sure)
        return self._ring.product(self._root_of_number(content), primitive)

    def _root_of_number(self, number: sp.Rational) -> Polynomial:
        """A product of square roots of primes, so that products of roots agree."""
        if number < 0:
            raise ValueError(f"the square root of {number}")
        if number == 0:
            return ZERO
        result = ONE
        # what is left of the number above LARGEST_PRIME may be composite: its root is a root too
        factors = sp.factorint(
            number.p * number.q, LARGEST_PRIME, use_rho=False, use_pm1=False, use_ecm=False
        )
        for prime, exponent in factors.items():
            whole, odd = divmod(exponent, 2)
            result = self._ring.scaled(result, sp.Integer(prime) ** whole)
            if odd:
                root = self._root_variable(self._ring.constant(sp.Integer(prime)), sure=True)
                result = self._ring.product(result, root)
        return self._ring.scaled(result, sp.Rational(1, number.q))

    def _root_variable(self, radicand: Polynomial, sure: bool) -> Polynomial:
        new = ("root", key(radicand)) not in self._known
        below = self._ring.expression(radicand)
        root = self._variable(("root", key(radicand)), f"root[{below}]")
        if new:
            self._radicands[root] = below
            self.definitions.append(
                Definition(
                    equations=(root**2 - below,),
                    conditions=(sp.Ge(root, 0, evaluate=False),),
                    radicand=None if sure else below,
                )
            )
        return self._ring.variable(root, radicand)

    def _modulus(self, inner: sp.Expr) -> Polynomial:
        """|inner|, factor by factor, so that |ab| and |a||b| are the same variables."""
        self._define(inner)
        result = ONE
        for factor in sp.Mul.make_args(sp.factor_terms(inner)):
            base, exponent = factor, 1
            if isinstance(factor, sp.Pow) and factor.exp.is_Integer:
                base, exponent = factor.base, int(factor.exp)
                if abs(exponent) > MOST_FACTORS:
                    raise ValueError(f"the exponent {exponent} is too large")
            modulus = self._modulus_of(base)
            if exponent < 0:
                modulus = self._inverse(modulus)
            result = self._ring.product(result, self._ring.power(modulus, abs(exponent)))
        return result

    def _modulus_of(self, base: sp.Expr) -> Polynomial:
        if isinstance(base, sp.conjugate):
            base = base.args[0]
        if isinstance(base, sp.Rational):
            return self._ring.constant(abs(base))
        if isinstance(base, sp.exp):
            self._turn(base.args[0] / sp.I)  # raises unless the angle is real
            return ONE
        if base.is_nonnegative:
            return self._real(base)
        x, y = self._parts(base)
        # |conj(a - b)| = |a - b| = |b - a|: one radicand, one variable
        square = self._ring.sum((self._ring.product(x, x), self._ring.product(y, y)))
        return self._root(square, sure=True)

    def _extreme(self, expression: sp.Expr) -> Polynomial:
        polynomials = {key(p): p for p in map(self._real, expression.args)}
        kind = type(expression)
        new = (kind.__name__, frozenset(polynomials)) not in self._known
        values = [self._ring.expression(p) for p in polynomials.values()]
        name = f"{kind.__name__}{sorted(values, key=sp.default_sort_key)}"
        variable = self._variable((kind.__name__, frozenset(polynomials)), name)
        if new:
            compare = sp.Ge if kind is sp.Max else sp.Le
            self.definitions.append(
                Definition(
                    equations=(sp.Mul(*(variable - value for value in values)),),
                    conditions=tuple(compare(variable, v, evaluate=False) for v in values),
                )
            )
        if len(polynomials) > 2:
            return self._ring.variable(variable)
        # (v - a)(v - b) = 0
        a, b = (*polynomials.values(), *polynomials.values())[:2]
        total, product = self._ring.sum((a, b)), self._ring.product(a, b)
        return self._ring.variable_of_two(variable, total, product)


def _content(polynomial: Polynomial) -> sp.Rational:
    """The positive number by which whole coefficients without a common divisor are left."""
    numbers = [sp.QQ.to_sympy(c) for c in polynomial.values()]
    return sp.Rational(sp.igcd(0, *(n.p for n in numbers)), sp.ilcm(1, *(n.q for n in numbers)))


def _monomials(angle: sp.Expr) -> dict[sp.Expr, sp.Rational]:
    """{unit: rational coefficient} of an angle, a sum of products."""
    found: dict[sp.Expr, sp.Rational] = {}
    for term in sp.Add.make_args(sp.expand(angle)):
        if term == 0:
            continue
        coefficient, unit = term.as_coeff_Mul(rational=True)
        found[unit] = found.get(unit, sp.Integer(0)) + coefficient
    return {unit: coefficient for unit, coefficient in found.items() if coefficient != 0}
