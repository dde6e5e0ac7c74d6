"""Finite sums over indexed numbers, exactly: distributive law, exchange of sums, termwise bounds.

An expression of `Sum`, `Indexed`, exponentials and logarithms is written as a polynomial whose
variables are sums that do not come apart; equal polynomials are equal sums, for every number of
terms. Lists are not empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, ClassVar

import sympy as sp

from proofs.engine.certificates import Certificate, Evidence, Meaning, atoms
from proofs.engine.derivation import Lemma

Atom = tuple[Any, ...]
"""("symbol", s), ("entry", base, indices), ("exp", monomial), ("log", polynomial) or
("sum", upper ends of the bound indices, monomial in them)."""
Monomial = tuple[tuple[Atom, sp.Rational], ...]
"""(atom, exponent), sorted."""
Polynomial = dict[Monomial, sp.Rational]


class Entries(Meaning):
    """What is true of every entry of lists, and of sums over them."""

    says: ClassVar[str]

    def _latex(self, printer: sp.printing.latex.LatexPrinter) -> str:
        words = self.says.format(*(f"${printer.doprint(part)}$" for part in self.args))
        return rf"\text{{{words}}}"

    def of(self, index: sp.Symbol) -> tuple[sp.Basic, ...]:
        """Relations of the entries with this index."""
        return ()

    def totals(self) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
        """(sum, value) of sums that the meaning gives; no value holds a sum."""
        return ()


def entry(indexed: sp.Indexed) -> sp.Symbol:
    """An entry of a list as a number by itself: D[i] is the symbol D_i."""
    name = f"{indexed.base.label}_" + "".join(str(index) for index in indexed.indices)
    return sp.Symbol(name, **indexed.assumptions0)


def _alone(expression: sp.Basic, index: sp.Symbol) -> sp.Basic:
    """The expression with every entry at the index as a symbol of its own."""
    put = {part: entry(part) for part in expression.atoms(sp.Indexed) if index in part.indices}
    found = expression.xreplace(put)
    if found.has(sp.Sum) or index in found.free_symbols:
        raise ValueError(f"{expression} is no relation of the entries at {index} alone")
    return found


@dataclass(frozen=True)
class Sums:
    """left = right, both of finite sums: the normal form of the difference is 0."""

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic] = ()
    ) -> Evidence:
        if relation != "=":
            return Evidence(False, "sums", f"an identity of sums does not certify {relation}")
        form = _Form()
        for meaning in hypotheses:
            if isinstance(meaning, Entries):
                for total, value in meaning.totals():
                    form.learn(total, value)
        # each side by itself: in their difference what does not exist could cancel
        negative = _product({(): sp.Integer(-1)}, form(right))
        rest = _sum((form(left), negative))
        if rest:
            return Evidence(False, "sums", f"{len(rest)} terms are left in the difference")
        return Evidence(True, "sums", "both sides have the same normal form")


@dataclass(frozen=True, eq=False)
class Differentiated:
    """left is a derivative, and right what the rules of differentiation make of it."""

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic] = ()
    ) -> Evidence:
        if not isinstance(left, sp.Derivative) or len(left.variables) != 1:
            return Evidence(False, "sums", f"{left} is no first derivative")
        found = sp.diff(left.expr, left.variables[0])
        return Sums().certify(found, relation, right, hypotheses)


@dataclass(frozen=True, eq=False)
class Termwise:
    """Two sums over the same index compare because their terms do, each over a positive weight.

    The weight is a product of entries and exponentials, which always exist.
    """

    by: Certificate
    weight: sp.Expr = sp.S.One

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        for side in (left, right):
            if not isinstance(side, sp.Sum) or len(side.limits) != 1:
                return Evidence(False, "sums", f"{side} is no sum over one index")
        if left.limits != right.limits:
            return Evidence(False, "sums", "the sums are over other indices")
        if not self.weight.is_positive or self.weight.has(sp.Pow, sp.log):
            return Evidence(False, "sums", f"the weight {self.weight} may be 0 or undefined")
        index = _range(left.limits[0])[0]
        given = atoms(hypotheses)
        relations = [r for part in given if isinstance(part, Entries) for r in part.of(index)]
        entries = {e for part in (left, right, *relations) for e in part.atoms(sp.Indexed)}
        taken = {symbol for part in (left, right, *given) for symbol in part.free_symbols}
        if {entry(part) for part in entries} & taken:
            return Evidence(False, "sums", "a symbol is named as an entry is")
        known: list[sp.Basic] = []
        for hypothesis in given:
            if isinstance(hypothesis, Entries):
                known += [_alone(relation, index) for relation in hypothesis.of(index)]
            elif not hypothesis.has(sp.Indexed, sp.Sum):
                known.append(hypothesis)
        # exp(x) exp(y) is left apart by sympy
        terms = (sp.powsimp(side.function / self.weight, combine="exp") for side in (left, right))
        ours, theirs = (_alone(term, index) for term in terms)
        found = self.by.certify(ours, relation, theirs, known)
        return Evidence(found.ok, found.engine, f"every term: {found.detail}")


@dataclass(frozen=True, eq=False)
class Opaque:
    """A relation that does not depend on what some real subexpressions are, only on hypotheses.

    put: symbols for them; a symbol may be positive only if its expression is known to be.
    """

    put: Mapping[sp.Expr, sp.Symbol]
    by: Certificate

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        everything = [left, right, *hypotheses]
        for expression, symbol in self.put.items():
            if any(symbol in part.free_symbols for part in everything):
                return Evidence(False, "sums", f"{symbol} stands for something else already")
            for kind in ("real", "nonnegative", "positive", "nonzero"):
                known = real(expression, hypotheses) if kind == "real" else None
                known = known or getattr(expression, f"is_{kind}")
                if getattr(symbol, f"is_{kind}") and not known:
                    return Evidence(False, "sums", f"{expression} is not known to be {kind}")
            if symbol.is_integer or symbol.is_rational or symbol.is_nonpositive:
                return Evidence(False, "sums", f"{symbol} is assumed to be more than positive")
        given = [self._hidden(part) for part in atoms(hypotheses) if not isinstance(part, Meaning)]
        found = self.by.certify(self._hidden(left), relation, self._hidden(right), given)
        return Evidence(found.ok, found.engine, found.detail)

    def _hidden(self, expression: sp.Basic) -> sp.Basic:
        for part, symbol in self.put.items():
            if isinstance(part, sp.exp):
                powers = {node: _power_of(node, part, symbol) for node in expression.atoms(sp.exp)}
                expression = expression.xreplace(powers)
            else:
                expression = expression.xreplace({part: symbol})
        return expression


def real(expression: sp.Expr, hypotheses: Sequence[sp.Basic]) -> bool:
    """Is it a real number? A logarithm is, of what the hypotheses say is positive."""
    put = {
        part: sp.Dummy(real=True)
        for part in expression.atoms(sp.log)
        if sp.Lt(0, part.args[0], evaluate=False) in hypotheses
    }
    return bool(expression.xreplace(put).is_real)


def _power_of(node: sp.exp, unit: sp.exp, symbol: sp.Symbol) -> sp.Expr:
    """exp(k x + y) as symbol^k exp(y), k whole and the symbol for exp(x)."""
    whole = sp.cancel(node.args[0] / unit.args[0])
    if whole.is_Integer:
        return symbol**whole
    exponent, rest, power = sp.expand(node.args[0]), sp.Integer(0), sp.Integer(0)
    for term in sp.Add.make_args(exponent):
        ratio = term / unit.args[0]
        if ratio.is_Integer:
            power += ratio
        else:
            rest += term
    return symbol**power * sp.exp(rest)


@dataclass(frozen=True, eq=False)
class Cases:
    """A relation that one lemma gives where `condition` holds and the other where it does not."""

    condition: sp.core.relational.Relational
    where: Lemma
    elsewhere: Lemma

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        details = []
        for known, lemma in (
            (self.condition, self.where),
            (self.condition.negated, self.elsewhere),
        ):
            found = lemma.certify(left, relation, right, [*hypotheses, known])
            if not found.ok:
                return found
            details.append(found.detail)
        return Evidence(True, "lemma", " or ".join(details))


class _Form:
    """Normal forms, with the values of sums that are given."""

    def __init__(self) -> None:
        self._values: dict[Atom, Polynomial] = {}
        self._count = 0

    def learn(self, total: sp.Expr, value: sp.Expr) -> None:
        """Use total = value from now on. Raises ValueError unless the total is one sum."""
        (monomial, coefficient), *others = self(total).items()
        if others or coefficient != 1 or len(monomial) != 1 or monomial[0][0][0] != "sum":
            raise ValueError(f"{total} is not a single sum")
        (atom, power), *_ = monomial
        if power != 1 or value.has(sp.Sum):
            raise ValueError(f"{value} holds sums itself")
        self._values[atom] = self(value)

    def __call__(self, expression: sp.Expr) -> Polynomial:
        """Raises ValueError for what is neither of sums, exponentials and logarithms."""
        expression = sp.sympify(expression)
        if isinstance(expression, sp.Rational):
            return {(): expression} if expression else {}
        if isinstance(expression, sp.Symbol):
            return _single(("symbol", expression))
        if isinstance(expression, sp.Indexed):
            if not all(isinstance(index, sp.Symbol) for index in expression.indices):
                raise ValueError(f"{expression}: an index is a symbol")
            return _single(("entry", expression.base, tuple(expression.indices)))
        if isinstance(expression, sp.Add):
            return _sum(self(part) for part in expression.args)
        if isinstance(expression, sp.Mul):
            result: Polynomial = {(): sp.Integer(1)}
            for part in expression.args:
                result = _product(result, self(part))
            return result
        if isinstance(expression, sp.exp):
            return self._exponential(self(expression.args[0]))
        if isinstance(expression, sp.Pow) and expression.exp.is_Integer:
            return self._power(self(expression.base), int(expression.exp))
        if isinstance(expression, sp.log):
            return self._logarithm(self(expression.args[0]))
        if isinstance(expression, sp.Sum):
            result = self(expression.function)
            for limit in expression.limits:
                index, end = _range(limit)
                # an index of its own, which no other sum has
                self._count += 1
                own = sp.Dummy(f"b{self._count}")
                result = self._over(_renamed(result, {index: own}), own, end)
            return result
        raise ValueError(f"{type(expression).__name__} is no part of a finite sum: {expression}")

    def _power(self, base: Polynomial, exponent: int) -> Polynomial:
        if exponent < 0:
            (monomial, coefficient), *others = base.items() or [((), sp.Integer(0))]
            if others or not coefficient or not all(_positive(atom) for atom, _ in monomial):
                raise ValueError("a division by what is not a product of positive quantities")
            base = {tuple((atom, -power) for atom, power in monomial): 1 / coefficient}
        result: Polynomial = {(): sp.Integer(1)}
        for _ in range(abs(exponent)):
            result = _product(result, base)
        return result

    def _exponential(self, exponent: Polynomial) -> Polynomial:
        result: Polynomial = {(): sp.Integer(1)}
        for monomial, coefficient in exponent.items():
            if not all(_real(atom) for atom, _ in monomial):
                raise ValueError("the exponential of what is not known to be real")
            result = _product(result, {((("exp", monomial), coefficient),): sp.Integer(1)})
        return result

    def _logarithm(self, argument: Polynomial) -> Polynomial:
        """log of a product of positive quantities is a sum; log exp(x) = x."""
        if len(argument) != 1:
            raise ValueError("the logarithm of what is not known to be positive")
        ((monomial, coefficient),) = argument.items()
        if coefficient != 1 or not all(_positive(atom) for atom, _ in monomial):
            raise ValueError("the logarithm of what is not known to be positive")
        return _sum(
            {atom[1]: power} if atom[0] == "exp" else {((("log", atom), sp.Integer(1)),): power}
            for atom, power in monomial
        )

    def _over(self, terms: Polynomial, index: sp.Symbol, end: sp.Symbol) -> Polynomial:
        """The sum of the terms over an index from 1 to end."""
        return _sum(
            _product({tuple(outside): coefficient}, self._component(inside, index, end))
            for (outside, inside), coefficient in (
                (_parted(monomial, index), coefficient) for monomial, coefficient in terms.items()
            )
        )

    def _component(
        self, inside: Sequence[tuple[Atom, sp.Rational]], index: sp.Symbol, end: sp.Symbol
    ) -> Polynomial:
        if not inside:
            return _single(("symbol", end))
        ends = {index: end}
        factors: dict[Atom, sp.Rational] = {}
        for atom, power in inside:
            if atom[0] != "sum" or power < 0:
                factors[atom] = factors.get(atom, sp.Integer(0)) + power
                continue
            for _ in range(int(power)):  # the product of two sums is a double sum
                _, inner_ends, inner = atom
                own = {}
                for number, inner_end in enumerate(inner_ends):
                    self._count += 1
                    own[_bound(number)] = sp.Dummy(f"b{self._count}")
                    ends[own[_bound(number)]] = inner_end
                for part, exponent in inner:
                    named = _renamed_atom(part, own)
                    factors[named] = factors.get(named, sp.Integer(0)) + exponent
        atom = _canonical(factors, ends)
        return self._values.get(atom, _single(atom))


def _range(limit: Any) -> tuple[sp.Symbol, sp.Symbol]:
    index, start, end = limit
    if start != 1 or not (isinstance(end, sp.Symbol) and end.is_integer and end.is_positive):
        raise ValueError(f"a sum from {start} to {end}; from 1 to a positive whole number is known")
    return index, end


def _bound(number: int) -> sp.Symbol:
    """The canonical name of a bound index, which no expression of a user has."""
    while len(_BOUND) <= number:
        _BOUND.append(sp.Dummy(f"index{len(_BOUND)}"))
    return _BOUND[number]


_BOUND: list[sp.Symbol] = []


def _canonical(factors: Mapping[Atom, sp.Rational], ends: Mapping[sp.Symbol, sp.Symbol]) -> Atom:
    """The sum of a product over its bound indices, the same whatever these are called."""
    indices = sorted(ends, key=lambda index: str(ends[index]))
    if len(indices) > 7:
        raise ValueError("a sum over more than 7 indices")
    best = None
    for order in permutations(indices):
        if [ends[index] for index in order] != [ends[index] for index in indices]:
            continue
        names = {index: _bound(number) for number, index in enumerate(order)}
        shown = _sorted((_renamed_atom(atom, names), power) for atom, power in factors.items())
        if best is None or _key(shown) < _key(best):
            best = shown
    return "sum", tuple(ends[index] for index in indices), best


def _indices(atom: Atom) -> set[sp.Symbol]:
    if atom[0] == "entry":
        return set(atom[2])
    if atom[0] == "exp":
        return {index for part, _ in atom[1] for index in _indices(part)}
    if atom[0] == "log":
        return _indices(atom[1])
    if atom[0] == "sum":
        bound = {_bound(number) for number in range(len(atom[1]))}
        return {index for part, _ in atom[2] for index in _indices(part)} - bound
    return {atom[1]}


def _parted(
    monomial: Monomial, index: sp.Symbol
) -> tuple[list[tuple[Atom, sp.Rational]], list[tuple[Atom, sp.Rational]]]:
    """(factors without the index, factors with it)."""
    inside = [part for part in monomial if index in _indices(part[0])]
    return [part for part in monomial if part not in inside], inside


def _renamed_atom(atom: Atom, names: Mapping[sp.Symbol, sp.Symbol]) -> Atom:
    kind = atom[0]
    if kind == "entry":
        return kind, atom[1], tuple(names.get(index, index) for index in atom[2])
    if kind == "exp":
        return kind, _renamed_monomial(atom[1], names)
    if kind == "log":
        return kind, _renamed_atom(atom[1], names)
    if kind == "sum":
        free = {index: names[index] for index in _indices(atom) & set(names)}
        if set(free.values()) & set(_BOUND):
            # its own bound indices have these names: another name for them would be needed
            raise ValueError("a quotient by a sum that depends on the index of another sum")
        return kind, atom[1], _renamed_monomial(atom[2], free) if free else atom[2]
    return kind, names.get(atom[1], atom[1])


def _renamed_monomial(monomial: Monomial, names: Mapping[sp.Symbol, sp.Symbol]) -> Monomial:
    return _sorted((_renamed_atom(atom, names), power) for atom, power in monomial)


def _renamed(polynomial: Polynomial, names: Mapping[sp.Symbol, sp.Symbol]) -> Polynomial:
    return {_renamed_monomial(monomial, names): c for monomial, c in polynomial.items()}


def _positive(atom: Atom) -> bool:
    kind = atom[0]
    if kind == "symbol":
        return bool(atom[1].is_positive)
    if kind == "entry":
        return bool(atom[1][atom[2]].is_positive)
    if kind == "sum":
        return all(_positive(part) for part, _ in atom[2])
    return bool(kind == "exp")


def _real(atom: Atom) -> bool:
    kind = atom[0]
    if kind == "symbol":
        return bool(atom[1].is_real)
    if kind == "entry":
        return bool(atom[1][atom[2]].is_real)
    if kind == "sum":
        return all(_real(part) for part, _ in atom[2])
    return True


def _key(monomial: Iterable[tuple[Atom, sp.Rational]]) -> list[str]:
    return [sp.srepr(sp.sympify(power)) + _name(atom) for atom, power in monomial]


def _name(atom: Atom) -> str:
    """What sorts atoms, the same in every run."""
    kind = atom[0]
    if kind in ("exp", "log"):
        inner = atom[1] if kind == "exp" else ((atom[1], sp.Integer(1)),)
        return f"{kind}({'*'.join(_key(inner))})"
    if kind == "sum":
        return f"sum{atom[1]}({'*'.join(_key(atom[2]))})"
    return f"{kind}{atom[1:]}"


def _sorted(parts: Iterable[tuple[Atom, sp.Rational]]) -> Monomial:
    return tuple(sorted(parts, key=lambda part: _name(part[0])))


def _single(atom: Atom) -> Polynomial:
    return {((atom, sp.Integer(1)),): sp.Integer(1)}


def _sum(polynomials: Iterable[Polynomial]) -> Polynomial:
    total: Polynomial = {}
    for polynomial in polynomials:
        for monomial, c in polynomial.items():
            total[monomial] = total.get(monomial, sp.Integer(0)) + c
    return {monomial: c for monomial, c in total.items() if c}


def _product(first: Polynomial, second: Polynomial) -> Polynomial:
    total: Polynomial = {}
    for one, c in first.items():
        for other, d in second.items():
            powers = dict(one)
            for atom, power in other:
                powers[atom] = powers.get(atom, sp.Integer(0)) + power
            monomial = _sorted((atom, power) for atom, power in powers.items() if power)
            total[monomial] = total.get(monomial, sp.Integer(0)) + c * d
    return {monomial: c for monomial, c in total.items() if c}
