"""Facts about softmax rows: exponentials, masses of sets of keys, odds, distances, mixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy as sp

from proofs.engine.certificates import Certificate, Evidence, Meaning, Solver, atoms
from proofs.engine.derivation import Derivation, Fact, Lemma, Link
from proofs.engine.relations import le
from proofs.lemmas.finite import Finite, Induction


@dataclass(frozen=True)
class Exponentials:
    """The relation with e^(x/n) as a positive number for every real symbol x in an exponent.

    What `by` certifies knows of these numbers that they are positive, on the side of 1 that the
    sign of x says, and ordered as the hypotheses order sums of the x: exp is increasing and turns
    sums into products. tanh x is (e^(2x) - 1)/(e^(2x) + 1). names: symbols for e^(x/n) that `by`
    speaks of, {y: x/n}; they must not occur elsewhere.
    """

    by: Certificate
    names: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        known = [_without_tanh(h) for h in atoms(hypotheses) if not isinstance(h, Meaning)]
        sides = [_without_tanh(sp.sympify(left)), _without_tanh(sp.sympify(right))]
        symbols = set().union(*(part.free_symbols for part in (*known, *sides)))
        if symbols & set(self.names):
            return Evidence(False, "exp", "a name for an exponential has another meaning")
        exponents = {
            power: _linear(power.args[0])
            for part in (*known, *sides)
            for power in part.atoms(sp.exp)
            if not power.args[0].has(sp.I)
        }
        if any(parts is None for parts in exponents.values()):
            return Evidence(False, "exp", "an exponent is no rational combination of real symbols")
        ordered = _ordered(known, {x for parts in exponents.values() for x in parts or {}})
        found = self._numbers([*exponents.values(), *(parts for parts, _ in ordered)])
        if isinstance(found, Evidence):
            return found

        def number(parts: Mapping[sp.Symbol, sp.Rational]) -> sp.Expr:
            return sp.Mul(*(found[x][0] ** (c * found[x][1]) for x, c in parts.items()))

        put = {power: number(parts or {}) for power, parts in exponents.items()}
        given = [*hypotheses, *(kind(number(parts), 1) for parts, kind in ordered)]
        for x, (y, _) in found.items():
            for side, kind in ((x.is_positive, sp.Gt), (x.is_nonnegative, sp.Ge)):
                if side:
                    given.append(kind(y, 1))
                    break
        given = [h if isinstance(h, Meaning) else _without_tanh(h).xreplace(put) for h in given]
        ours, theirs = (side.xreplace(put) for side in sides)
        return self.by.certify(ours, relation, theirs, given)

    def _numbers(
        self, exponents: Sequence[Mapping[sp.Symbol, sp.Rational] | None]
    ) -> dict[sp.Symbol, tuple[sp.Symbol, sp.Integer]] | Evidence:
        """{x: (y, n)}: y stands for e^(x/n), n a common denominator of what multiplies x."""
        found: dict[sp.Symbol, tuple[sp.Symbol, sp.Integer]] = {}
        for y, exponent in self.names.items():
            parts = _linear(exponent)
            if not y.is_positive or parts is None or len(parts) != 1:
                return Evidence(False, "exp", f"{y} is no name of e^({exponent})")
            ((x, c),) = parts.items()
            if c.p != 1 or x in found:
                return Evidence(False, "exp", f"{y} is no name of e^({exponent})")
            found[x] = (y, sp.Integer(c.q))
        for exponent_parts in exponents:
            for x, c in (exponent_parts or {}).items():
                if x not in found:
                    found[x] = (sp.Dummy(f"exp({x})", positive=True), sp.Integer(c.q))
                elif found[x][0] not in self.names:
                    found[x] = (found[x][0], sp.Integer(sp.ilcm(found[x][1], c.q)))
                elif found[x][1] % c.q:
                    return Evidence(False, "exp", f"e^({c * x}) is no power of {found[x][0]}")
        return found


def _without_tanh(expression: sp.Basic) -> sp.Basic:
    if not expression.has(sp.tanh):
        return expression
    return expression.replace(sp.tanh, lambda x: (sp.exp(2 * x) - 1) / (sp.exp(2 * x) + 1))


def _linear(expression: sp.Expr) -> dict[sp.Symbol, sp.Rational] | None:
    """{symbol: coefficient} of a rational combination of real symbols; None if it is none."""
    found: dict[sp.Symbol, sp.Rational] = {}
    for term in sp.Add.make_args(sp.expand(expression)):
        coefficient, symbol = term.as_coeff_Mul(rational=True)
        if coefficient == 0:
            continue
        if not isinstance(symbol, sp.Symbol) or not symbol.is_real:
            return None
        found[symbol] = found.get(symbol, sp.Integer(0)) + coefficient
    return found


def _ordered(
    hypotheses: Sequence[sp.Basic], exponents: set[sp.Symbol]
) -> list[tuple[dict[sp.Symbol, sp.Rational], type[sp.Rel]]]:
    """The hypotheses that compare a combination of exponents with 0, as (combination, relation)."""
    found = []
    for hypothesis in hypotheses:
        if not isinstance(hypothesis, (sp.Le, sp.Lt, sp.Ge, sp.Gt, sp.Eq)):
            continue
        parts = _linear(hypothesis.lhs - hypothesis.rhs)
        if parts and set(parts) & exponents:
            found.append((parts, type(hypothesis)))
    return found


class Weighed(Finite):
    """Weighed(p, q, low, high): keys of mass p in one row, q in the other.

    low, high: smallest and largest factor by which the mass of one of the keys changes. No key at
    all is one key of mass 0.
    """

    says = "keys of mass {0} have mass {1} in the other row, changed by factors from {2} to {3}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        mass, factor = sp.Dummy("m", nonnegative=True), sp.Dummy("f", positive=True)
        return mass, mass * factor, factor, factor

    def longer(self) -> tuple[sp.Expr, ...]:
        p, q, low, high = self.args
        mass, factor = sp.Dummy("m", nonnegative=True), sp.Dummy("f", positive=True)
        return p + mass, q + mass * factor, sp.Min(low, factor), sp.Max(high, factor)


class Changes(Finite):
    """Changes(f, v, g): real numbers of sum f; v sums their moduli, g the positive ones."""

    says = "numbers of sum {0} have moduli of sum {1}, and the positive ones have the sum {2}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero, zero

    def longer(self) -> tuple[sp.Expr, ...]:
        f, v, g = self.args
        entry = sp.Dummy("x", real=True)
        return f + entry, v + sp.Abs(entry), g + sp.Max(0, entry)


class Mixture(Finite):
    """Mixture(p, m, d): vectors of norm at most d, times weights of sum p, sum to a norm of m.

    Of the norm only this is used: a multiple by a weight has the multiple of the norm, and a sum at
    most the sum of the norms.
    """

    says = "vectors of norm at most {2} times weights of sum {0} have a sum of norm {1}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero, zero

    def longer(self) -> tuple[sp.Expr, ...]:
        p, m, d = self.args
        weight, size, less = sp.symbols("x y slack", nonnegative=True, cls=sp.Dummy)
        return p + weight, m + weight * size - less, sp.Max(d, size)


class Average(Finite):
    """Average(p, f, v, c): numbers times weights of sum p; f sums them, v their excess over c."""

    says = "numbers times weights of sum {0} have the sum {1}, and less {3} each the sum {2}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero, zero, self.args[3]

    def longer(self) -> tuple[sp.Expr, ...]:
        p, f, v, c = self.args
        weight, entry = sp.Dummy("x", nonnegative=True), sp.Dummy("y", real=True)
        return p + weight, f + weight * entry, v + weight * (entry - c), c


mass, later = sp.symbols("p p'", nonnegative=True)
low, high = sp.symbols("low high", positive=True)
WEIGHED = Weighed(mass, later, low, high)

BELOW_HIGH = Derivation(
    "a mass grows by the largest factor at most",
    later,
    (Link("<=", high * mass, "by induction over the keys", Induction(Solver())),),
    hypotheses=(WEIGHED,),
)

ABOVE_LOW = Derivation(
    "a mass grows by the smallest factor at least",
    low * mass,
    (Link("<=", later, "by induction over the keys", Induction(Solver())),),
    hypotheses=(WEIGHED,),
)

rest, rest_later = sp.symbols("q q'", nonnegative=True)
rest_low, rest_high = sp.symbols("low_q high_q", positive=True)
ratio = sp.Symbol("r", positive=True)
"""Bound of the largest over the smallest factor; e^omega of softmax rows."""
ROWS = (WEIGHED, Weighed(rest, rest_later, rest_low, rest_high))
"""A set of common keys and the other common keys."""

ODDS = Derivation(
    "the odds of a set of keys grow by the largest over the smallest factor at most",
    later * rest,
    (
        Link("<=", high * mass * rest, "the set grows by its largest factor at most", Solver()),
        Link("<=", ratio * rest_low * mass * rest, "the factors lie that close", Solver()),
        Link(
            "<=",
            ratio * mass * rest_later,
            "the others grow by their smallest factor at least",
            Solver(),
        ),
    ),
    hypotheses=(*ROWS, le(high, ratio * rest_low)),
    facts=(
        Fact(later, "<=", high * mass, "the set of keys", Lemma(BELOW_HIGH, {})),
        Fact(
            rest_low * rest,
            "<=",
            rest_later,
            "the other keys",
            Lemma(ABOVE_LOW, {mass: rest, later: rest_later, low: rest_low, high: rest_high}),
        ),
    ),
)

change, moduli, grown = sp.symbols("f v g", real=True)

TOTAL_VARIATION = Derivation(
    "moduli sum to twice the positive numbers less the sum of all",
    moduli,
    (Link("=", 2 * grown - change, "by induction over the keys", Induction(Solver())),),
    hypotheses=(Changes(change, moduli, grown),),
)

size = sp.Symbol("m", real=True)
largest = sp.Symbol("d", nonnegative=True)

MIXTURE = Derivation(
    "a weighted sum of vectors is no longer than the sum of the weights times the longest",
    size,
    (Link("<=", mass * largest, "by induction over the vectors", Induction(Solver())),),
    hypotheses=(Mixture(mass, size, largest),),
)

total, excess, point = sp.symbols("f v c", real=True)

AVERAGE = Derivation(
    "weighted differences from a point",
    excess,
    (Link("=", total - mass * point, "by induction over the numbers", Induction(Solver())),),
    hypotheses=(Average(mass, total, excess, point),),
)

logit, logit_change, top, bottom, oscillation = sp.symbols("a D D_high D_low omega", real=True)
normaliser, normaliser_later = sp.symbols("Z Z'", positive=True)

FACTOR = Derivation(
    "the mass of a key changes by the exponential of the change of its logit, over all else",
    sp.exp(logit + logit_change) / normaliser_later,
    (
        Link(
            "=",
            sp.exp(logit_change) * normaliser / normaliser_later * (sp.exp(logit) / normaliser),
            "the exponential of a sum is a product",
            Exponentials(Solver()),
        ),
    ),
)

FACTORS = Derivation(
    "the factors of two keys differ by the exponential of the oscillation at most",
    sp.exp(top) * normaliser / normaliser_later,
    (
        Link(
            "<=",
            sp.exp(oscillation) * (sp.exp(bottom) * normaliser / normaliser_later),
            "exp is increasing",
            Exponentials(Solver()),
        ),
    ),
    hypotheses=(le(top - bottom, oscillation),),
)


class Sums(Finite):
    """Sums(f, b): real numbers of sum f, each with an upper bound; b sums the upper bounds."""

    says = "numbers of sum {0} have upper bounds of sum {1}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero

    def longer(self) -> tuple[sp.Expr, ...]:
        f, b = self.args
        bound, less = sp.Dummy("y", real=True), sp.Dummy("slack", nonnegative=True)
        return f + bound - less, b + bound


summed, bounds = sp.symbols("f b", real=True)

BOUNDS_ADD_UP = Derivation(
    "a sum is no larger than the sum of upper bounds of its terms",
    summed,
    (Link("<=", bounds, "by induction over the terms", Induction(Solver())),),
    hypotheses=(Sums(summed, bounds),),
)
