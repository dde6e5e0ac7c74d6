"""Polynomials over the rationals in which some variables have a known square, kept in normal form.

A cosine and its sine, or a square root, obey s^2 = 1 - c^2 and r^2 = radicand: products are reduced
by that as they are formed, so that equal expressions give equal polynomials and none grows large.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy as sp

Monomial = tuple[tuple[int, int], ...]
"""(number of the variable, exponent) of each variable, by number."""

Polynomial = dict[Monomial, Any]
"""Coefficients of the monomials; none is zero. Not to be changed once it is made."""

MOST_PRODUCTS = 2_000_000
"""Products of monomials that one ring forms: a question that is too large is refused."""

ZERO: Polynomial = {}
ONE: Polynomial = {(): sp.QQ(1)}


class Ring:
    """The variables and their squares, and arithmetic with them."""

    def __init__(self) -> None:
        self._symbols: list[sp.Symbol] = []
        self._numbers: dict[sp.Symbol, int] = {}
        self._squares: dict[int, Polynomial] = {}
        self._normal: dict[Monomial, Polynomial] = {}
        self._products = 0

    def constant(self, number: sp.Rational) -> Polynomial:
        """A number as polynomial."""
        return {(): sp.QQ(int(number.p), int(number.q))} if number else ZERO

    def variable(self, symbol: sp.Symbol, square: Polynomial | None = None) -> Polynomial:
        """A symbol as polynomial; square: what its square is, the first time it is seen."""
        if symbol not in self._numbers:
            number = self._numbers[symbol] = len(self._symbols)
            self._symbols.append(symbol)
            if square is not None:
                self._squares[number] = square
        return {((self._numbers[symbol], 1),): sp.QQ(1)}

    def variable_of_two(
        self, symbol: sp.Symbol, total: Polynomial, product: Polynomial
    ) -> Polynomial:
        """A symbol that is one of two values, given by their sum and product."""
        shown = self.variable(symbol)
        number = self._numbers[symbol]
        if number not in self._squares:
            self._squares[number] = self.difference(self.product(total, shown), product)
        return shown

    def times_inverse_of(
        self, polynomial: Polynomial, inverse: sp.Symbol, denominator: Polynomial
    ) -> Polynomial:
        """The polynomial times as many denominators as it has powers of the inverse."""
        number = self._numbers.get(inverse, -1)
        by_power: dict[int, dict[Monomial, object]] = {}
        for monomial, c in polynomial.items():
            power = dict(monomial).get(number, 0)
            rest = tuple(part for part in monomial if part[0] != number)
            by_power.setdefault(power, {})[rest] = c
        most = max(by_power, default=0)
        return self.sum(
            self.product(part, self.power(denominator, most - power))
            for power, part in by_power.items()
        )

    def sum(self, polynomials: Iterable[Polynomial]) -> Polynomial:
        """Their sum."""
        total: dict[Monomial, Any] = {}
        for polynomial in polynomials:
            _accumulate(total, polynomial, sp.QQ(1))
        return {monomial: c for monomial, c in total.items() if c}

    def difference(self, first: Polynomial, second: Polynomial) -> Polynomial:
        """first - second."""
        return self.sum((first, self.negative(second)))

    def negative(self, polynomial: Polynomial) -> Polynomial:
        """Minus the polynomial."""
        return {monomial: -c for monomial, c in polynomial.items()}

    def scaled(self, polynomial: Polynomial, number: sp.Rational) -> Polynomial:
        """The polynomial times a number."""
        return self.product(polynomial, self.constant(number))

    def product(self, first: Polynomial, second: Polynomial) -> Polynomial:
        """Their product, in normal form. Raises ValueError beyond MOST_PRODUCTS."""
        self._products += 1 + len(first) * len(second)
        if self._products > MOST_PRODUCTS:
            raise ValueError("the polynomials have too many terms")
        total: dict[Monomial, Any] = {}
        for one, c in first.items():
            for other, d in second.items():
                monomial = _merged(one, other)
                if any(e > 1 and v in self._squares for v, e in monomial):
                    _accumulate(total, self._reduced(monomial), c * d)
                else:
                    total[monomial] = total.get(monomial, 0) + c * d
        return {monomial: c for monomial, c in total.items() if c}

    def power(self, polynomial: Polynomial, exponent: int) -> Polynomial:
        """The polynomial to a power of 0 or more."""
        result = ONE
        for _ in range(exponent):
            result = self.product(result, polynomial)
        return result

    def expression(self, polynomial: Polynomial) -> sp.Expr:
        """The polynomial in sympy."""
        return sp.Add(
            *(
                sp.Mul(sp.QQ.to_sympy(c), *(self._symbols[v] ** e for v, e in monomial))
                for monomial, c in polynomial.items()
            )
        )

    def number(self, polynomial: Polynomial) -> sp.Rational | None:
        """The number that the polynomial is; None if it has variables."""
        if not polynomial:
            return sp.Integer(0)
        return sp.QQ.to_sympy(polynomial[()]) if polynomial.keys() == {()} else None

    def _reduced(self, monomial: Monomial) -> Polynomial:
        """The normal form of a monomial."""
        if monomial not in self._normal:
            rest: list[tuple[int, int]] = []
            factors: list[Polynomial] = []
            for variable, exponent in monomial:
                square = self._squares.get(variable)
                if square is None or exponent < 2:
                    rest.append((variable, exponent))
                    continue
                factors.append(self.power(square, exponent // 2))
                if exponent % 2:
                    rest.append((variable, 1))
            result: Polynomial = {tuple(rest): sp.QQ(1)}
            for factor in factors:
                result = self.product(result, factor)
            self._normal[monomial] = result
        return self._normal[monomial]


def key(polynomial: Polynomial) -> frozenset[tuple[Monomial, Any]]:
    """What is equal for equal polynomials, and can be the key of a dictionary."""
    return frozenset(polynomial.items())


def _accumulate(total: dict[Monomial, Any], polynomial: Polynomial, by: Any) -> None:
    for monomial, c in polynomial.items():
        total[monomial] = total.get(monomial, 0) + c * by


def _merged(one: Monomial, other: Monomial) -> Monomial:
    if not one:
        return other
    if not other:
        return one
    exponents = dict(one)
    for variable, exponent in other:
        exponents[variable] = exponents.get(variable, 0) + exponent
    return tuple(sorted(exponents.items()))
