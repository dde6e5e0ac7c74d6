"""Small facts that several derivations use, and facts of finite sums by induction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import sympy as sp

from proofs.engine.certificates import BySquares, Certificate, Evidence, Identity, Meaning, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link
from proofs.engine.values import admits

a, b, c = sp.symbols("a b c", complex=True)
angle = sp.Symbol("alpha", real=True)
X, Y = sp.symbols("X Y", real=True)

REAL_PART = Derivation(
    "a real part is no larger than the modulus",
    sp.Abs(sp.re(a)),
    (Link("<=", sp.Abs(a), "the imaginary part adds a square", Solver()),),
)

TRIANGLE = Derivation(
    "triangle inequality in the plane",
    sp.Abs(a + b),
    (Link("<=", sp.Abs(a) + sp.Abs(b), "the squares compare", BySquares(Solver())),),
)

TRIANGLE_3 = Derivation(
    "triangle inequality of three terms",
    sp.Abs(a + b + c),
    (
        Link("<=", sp.Abs(a) + sp.Abs(b + c), "the squares compare", BySquares(Solver())),
        Link("<=", sp.Abs(a) + sp.Abs(b) + sp.Abs(c), "the same for the rest", Solver()),
    ),
)

CHORD = Derivation(
    "length of a chord of the unit circle",
    sp.Abs(sp.exp(sp.I * angle) - 1),
    (Link("=", 2 * sp.Abs(sp.sin(angle / 2)), "half-angle formula", Identity()),),
)


class Finite(Meaning):
    """What symbols say of a finite list of numbers, built up one entry at a time."""

    says: ClassVar[str]
    """The meaning in words, its symbols as {0}, {1}, ..."""

    def _latex(self, printer: sp.printing.latex.LatexPrinter) -> str:
        words = self.says.format(*(f"${printer.doprint(symbol)}$" for symbol in self.args))
        return rf"\text{{{words}}}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        """The values of the symbols for the shortest list there is."""
        raise NotImplementedError

    def longer(self) -> tuple[sp.Expr, ...]:
        """Their values after one more entry, in the symbols themselves and new ones."""
        raise NotImplementedError


class Dominated(Finite):
    """Dominated(X, Y): X sums real numbers, Y numbers that are no smaller than their moduli."""

    says = "{0} sums real numbers and {1} sums bounds of their moduli"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero

    def longer(self) -> tuple[sp.Expr, ...]:
        sum_, bounds = self.args
        entry, more = sp.Dummy("x", real=True), sp.Dummy("r", nonnegative=True)
        return sum_ + entry, bounds + sp.Abs(entry) + more


class Alike(Finite):
    """Alike(X, Y): X and Y sum the same real numbers, each written in its own way."""

    says = "{0} and {1} sum real numbers that are equal term by term"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero

    def longer(self) -> tuple[sp.Expr, ...]:
        first, second = self.args
        entry = sp.Dummy("x", real=True)
        return first + entry, second + entry


class Multiple(Finite):
    """Multiple(n, C, S, phi): n >= 1 times the angle phi has the cosine C and the sine S."""

    says = "{0} times the angle {3} has the cosine {1} and the sine {2}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        phi = self.args[3]
        return sp.Integer(1), sp.cos(phi), sp.sin(phi), phi

    def longer(self) -> tuple[sp.Expr, ...]:
        n, cosine, sine, phi = self.args
        return (
            n + 1,
            cosine * sp.cos(phi) - sine * sp.sin(phi),
            sine * sp.cos(phi) + cosine * sp.sin(phi),
            phi,
        )


class InnerProduct(Finite):
    """InnerProduct(g, p, q): two real vectors have inner product g and norms p and q."""

    says = "two real vectors of norms {1} and {2} have inner product {0}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero, zero

    def longer(self) -> tuple[sp.Expr, ...]:
        g, p, q = self.args
        first, second = sp.Dummy("x", real=True), sp.Dummy("y", real=True)
        return g + first * second, sp.sqrt(p**2 + first**2), sp.sqrt(q**2 + second**2)


class Products(Finite):
    """Products(g, p, q): g is the sum of |x_m||y_m| over the entries of two vectors of norms p, q.

    The entries may be complex: only their moduli enter.
    """

    says = "{0} sums the products of moduli of two vectors of norms {1} and {2}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero, zero

    def longer(self) -> tuple[sp.Expr, ...]:
        g, p, q = self.args
        first, second = sp.Dummy("x", nonnegative=True), sp.Dummy("y", nonnegative=True)
        return g + first * second, sp.sqrt(p**2 + first**2), sp.sqrt(q**2 + second**2)


class Size(Finite):
    """Size(n, p, m): n real numbers have the square root p of the sum of squares, largest |x| m."""

    says = "{0} real numbers have norm {1} and largest modulus {2}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero, zero

    def longer(self) -> tuple[sp.Expr, ...]:
        n, p, m = self.args
        entry = sp.Dummy("x", real=True)
        return n + 1, sp.sqrt(p**2 + entry**2), sp.Max(m, sp.Abs(entry))


class Spread(Finite):
    """Spread(n, f, s, top, low): n >= 1 real numbers from low to top, of sum f, of squares s."""

    says = "{0} real numbers from {4} to {3} have sum {1} and sum of squares {2}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        entry = sp.Dummy("x", real=True)
        return sp.Integer(1), entry, entry**2, entry, entry

    def longer(self) -> tuple[sp.Expr, ...]:
        n, f, s, top, low = self.args
        entry = sp.Dummy("x", real=True)
        return n + 1, f + entry, s + entry**2, sp.Max(top, entry), sp.Min(low, entry)


class About(Finite):
    """About(n, f, s, v, m): n real numbers of sum f and sum of squares s; v sums (x - m)^2."""

    says = "{0} real numbers have sum {1}, sum of squares {2}, and {3} about {4}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero, zero, zero, self.args[4]

    def longer(self) -> tuple[sp.Expr, ...]:
        n, f, s, v, m = self.args
        entry = sp.Dummy("x", real=True)
        return n + 1, f + entry, s + entry**2, v + (entry - m) ** 2, m


@dataclass(frozen=True, eq=False)
class Induction:
    """A relation of a `Finite` meaning: of the shortest list, and kept by one more entry.

    using: derivations of the same meaning, and of nothing else, known before the entry comes. No
    other hypothesis is used: a relation that holds of one list says nothing of shorter ones.
    """

    step: Certificate
    using: tuple[Derivation, ...] = ()

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        meanings = [known for known in hypotheses if isinstance(known, Finite)]
        if len(meanings) != 1 or not all(arg.is_Symbol for arg in meanings[0].args):
            return Evidence(False, "induction", "one meaning, of symbols, is needed")
        meaning = meanings[0]
        if len(set(meaning.args)) != len(meaning.args):
            return Evidence(False, "induction", "two quantities share a symbol")
        if (left.free_symbols | right.free_symbols) - set(meaning.args):
            return Evidence(False, "induction", "the relation speaks of other symbols")
        for values in (meaning.shortest(), meaning.longer()):
            # what a symbol is assumed to be must be true of every list on the way
            for symbol, value in zip(meaning.args, values, strict=True):
                if not admits(symbol, value):
                    return Evidence(False, "induction", f"{symbol} may be {value} of a list")
        known = [_relation(left, relation, right)]
        for lemma in self.using:
            if not lemma.ok or lemma.hypotheses != (meaning,):
                return Evidence(False, "induction", f"{lemma.title} is not known of the list")
            known.append(_relation(lemma.start, lemma.relation, lemma.end))

        def at(values: tuple[sp.Expr, ...]) -> tuple[sp.Expr, sp.Expr]:
            put = dict(zip(meaning.args, values, strict=True))
            return left.subs(put, simultaneous=True), right.subs(put, simultaneous=True)

        first_left, first_right = at(meaning.shortest())
        first = Solver().certify(first_left, relation, first_right)
        if not first.ok:
            return Evidence(False, first.engine, f"the shortest list: {first.detail}")
        next_left, next_right = at(meaning.longer())
        found = self.step.certify(next_left, relation, next_right, known)
        return Evidence(found.ok, found.engine, f"induction, one more entry: {found.detail}")


def _relation(left: sp.Expr, relation: str, right: sp.Expr) -> sp.Rel:
    kinds: dict[str, Any] = {"=": sp.Eq, "<=": sp.Le, "<": sp.Lt}
    return kinds[relation](left, right, evaluate=False)


FINITE_SUM = Derivation(
    "sum over channels: bounds of the terms add up to a bound of the sum",
    sp.Abs(X),
    (Link("<=", Y, "by induction over the channels", Induction(Solver())),),
    hypotheses=(Dominated(X, Y),),
)

EQUAL_SUM = Derivation(
    "sum over channels: equal terms have equal sums",
    X,
    (Link("=", Y, "by induction over the channels", Induction(Solver())),),
    hypotheses=(Alike(X, Y),),
)

steps = sp.Symbol("n", positive=True)
cosine, sine, single = sp.symbols("C S phi", real=True)
MULTIPLE = Multiple(steps, cosine, sine, single)

ON_CIRCLE = Derivation(
    "cosine and sine of a multiple of an angle lie on the unit circle",
    cosine**2 + sine**2,
    (Link("=", sp.Integer(1), "by induction, addition formulas", Induction(Solver())),),
    hypotheses=(MULTIPLE,),
)

SINE_OF_MULTIPLE = Derivation(
    "the sine of n times an angle is at most n times the sine of the angle",
    sp.Abs(sine),
    (
        Link(
            "<=",
            steps * sp.Abs(sp.sin(single)),
            "by induction, addition formulas",
            Induction(Solver(), (ON_CIRCLE,)),
        ),
    ),
    hypotheses=(MULTIPLE,),
)

inner = sp.Symbol("g", real=True)
first_norm, second_norm, norm, largest = sp.symbols("p q P M", nonnegative=True)
count = sp.Symbol("n", nonnegative=True)

CAUCHY_SCHWARZ = Derivation(
    "Cauchy-Schwarz: an inner product is no larger than the product of the norms",
    sp.Abs(inner),
    (
        Link(
            "<=",
            first_norm * second_norm,
            "by induction over the coordinates",
            Induction(BySquares(Solver())),
        ),
    ),
    hypotheses=(InnerProduct(inner, first_norm, second_norm),),
)

CAUCHY_SCHWARZ_SUM = Derivation(
    "Cauchy-Schwarz for a sum over channels of products of moduli",
    inner,
    (
        Link(
            "<=",
            first_norm * second_norm,
            "by induction over the channels",
            Induction(Solver()),
        ),
    ),
    hypotheses=(Products(inner, first_norm, second_norm),),
)

MAX_BELOW_NORM = Derivation(
    "a largest modulus is no larger than the norm",
    largest,
    (Link("<=", norm, "by induction over the entries", Induction(Solver())),),
    hypotheses=(Size(count, norm, largest),),
)

MAX_NORM = Derivation(
    "a squared norm is no larger than the number of entries times the largest square",
    norm**2,
    (Link("<=", count * largest**2, "by induction over the entries", Induction(Solver())),),
    hypotheses=(Size(count, norm, largest),),
)

total, squares, top, low = sp.symbols("S_1 S_2 top low", real=True)
numbers = sp.Symbol("n", positive=True)
SPREAD = Spread(numbers, total, squares, top, low)

LOW_BELOW_TOP = Derivation(
    "the smallest of some numbers is no larger than the largest",
    low,
    (Link("<=", top, "by induction over the numbers", Induction(Solver())),),
    hypotheses=(SPREAD,),
)

SUM_BELOW_TOP = Derivation(
    "a sum is no larger than the number of terms times the largest",
    total,
    (Link("<=", numbers * top, "by induction over the numbers", Induction(Solver())),),
    hypotheses=(SPREAD,),
)

SUM_ABOVE_LOW = Derivation(
    "a sum is no smaller than the number of terms times the smallest",
    numbers * low,
    (Link("<=", total, "by induction over the numbers", Induction(Solver())),),
    hypotheses=(SPREAD,),
)

BETWEEN = Derivation(
    r"the sum of $(x - \mathrm{top})(x - \mathrm{low})$ is not positive",
    squares - (top + low) * total + numbers * top * low,
    (
        Link(
            "<=",
            sp.Integer(0),
            "by induction over the numbers",
            Induction(Solver(), (LOW_BELOW_TOP, SUM_BELOW_TOP, SUM_ABOVE_LOW)),
        ),
    ),
    hypotheses=(SPREAD,),
)

CENTRED = numbers * squares - total**2
"""n^2 times the variance of the n numbers."""

POPOVICIU = Derivation(
    "Popoviciu: the variance is no larger than a quarter of the squared range",
    CENTRED,
    (
        Link(
            "<=",
            CENTRED + (total - numbers * (top + low) / 2) ** 2,
            "a square is added: squares about the middle instead of the mean",
            Solver(),
        ),
        Link(
            "<=",
            numbers**2 * (top - low) ** 2 / 4,
            r"no term lies outside $[\mathrm{low}, \mathrm{top}]$",
            Solver(),
        ),
    ),
    hypotheses=(SPREAD,),
    facts=(
        Fact(
            BETWEEN.start,
            "<=",
            BETWEEN.end,
            "every number lies between the smallest and the largest",
            Lemma(BETWEEN, {}),
        ),
    ),
)

about, middle = sp.symbols("v m", real=True)

SQUARES_ABOUT = Derivation(
    "the sum of squares about a point",
    about,
    (
        Link(
            "=",
            squares - 2 * middle * total + count * middle**2,
            "by induction over the numbers",
            Induction(Solver()),
        ),
    ),
    hypotheses=(About(count, total, squares, about, middle),),
)
