"""What certifies one link of a derivation: an exact identity, a solver's answer, or Arb balls.

Every certificate answers with `Evidence`. Only an exact answer counts: a solver that gives up or a
missing prover leaves the link open, and so does a square root that may be of a negative number or a
denominator that may vanish. That the hypotheses have an instance is seen to by the derivation, and
by the solver for what it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sympy as sp
from sympy.logic.boolalg import BooleanFunction
from sympy.polys.polyerrors import BasePolynomialError

from proofs.engine.real_form import Definition, RealForm
from tappa_theory.errors import InputError

MILLISECONDS = 20_000
"""Time a solver gets for one question."""


class MissingProver(InputError):
    """A prover that a certificate needs is not installed."""


class Meaning(BooleanFunction):
    """A hypothesis that says what symbols stand for, such as the norm of a vector.

    It is no relation: arithmetic ignores it (a hypothesis less), and only a lemma that has the same
    meaning among its own hypotheses can use it.
    """


@dataclass(frozen=True)
class Evidence:
    """The answer of a certificate. ok: certified. engine: what decided; detail: how."""

    ok: bool
    engine: str
    detail: str


class Certificate(Protocol):
    """Certifies left (= or <= or <) right under hypotheses, all of them sympy expressions."""

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence: ...


@dataclass(frozen=True)
class Identity:
    """left = right, exactly: the difference is zero modulo cos^2 + sin^2 = 1 and |x|^2 = x conj(x).

    Complex sides are allowed. Hypotheses are used for one thing only: that no denominator vanishes
    and nothing under a square root is negative must follow from them, or from the symbols.
    """

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic] = ()
    ) -> Evidence:
        if relation != "=":
            return Evidence(False, "sympy", f"an identity does not certify {relation}")
        try:
            return self._certify(sp.sympify(left), sp.sympify(right), hypotheses)
        except MissingProver:
            raise
        except (ValueError, BasePolynomialError) as error:
            return Evidence(False, "sympy", f"{error}")

    def _certify(self, left: sp.Expr, right: sp.Expr, hypotheses: Sequence[sp.Basic]) -> Evidence:
        form = RealForm()
        form.angles([left, right])
        for rest in form.difference(left, right):
            if rest != 0:
                return Evidence(False, "sympy", f"the difference is {rest}, not 0")
        if not _obviously_defined(form, hypotheses):
            problem = _Problem(_z3(), hypotheses, [left, right])
            for side in (left, right):
                problem.form.parts(side)
            undefined = problem.undefined()
            if undefined is not None:
                return Evidence(False, "sympy", undefined)
        return Evidence(True, "sympy", "the difference is exactly 0")


@dataclass(frozen=True)
class Solver:
    """A polynomial relation by z3: its negation is unsatisfiable, its hypotheses are satisfiable.

    Hypotheses without a polynomial form are left out: what holds with fewer of them holds.
    """

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic] = ()
    ) -> Evidence:
        kinds = {"=": sp.Eq, "<=": sp.Le, "<": sp.Lt}
        if relation not in kinds:
            return Evidence(False, "z3", f"a solver does not certify {relation}")
        return follows(kinds[relation](left, right, evaluate=False), hypotheses)


def follows(claim: sp.Basic, hypotheses: Sequence[sp.Basic] = ()) -> Evidence:
    """Does a relation, or an and/or/not of some, follow from the hypotheses? By z3."""
    z3 = _z3()
    if any(hypothesis in (sp.false, False) for hypothesis in hypotheses):
        return Evidence(False, "z3", "a hypothesis is false")
    try:
        problem = _Problem(z3, hypotheses, [claim])
        negation = z3.Not(problem.translate(_real_relation(problem.form, claim)))
        undefined = problem.undefined()
    except (ValueError, BasePolynomialError) as error:
        return Evidence(False, "z3", f"{error}")
    if undefined is not None:
        return Evidence(False, "z3", undefined)
    found = problem.instance()
    if not found.ok:
        return found
    answer, solver = problem.check(problem.facts(), negation)
    if answer == z3.unsat:
        return Evidence(True, "z3", "the negation is unsatisfiable")
    if answer == z3.sat:
        return Evidence(False, "z3", f"counterexample: {solver.model()}")
    return Evidence(False, "z3", f"undecided: {solver.reason_unknown()}")


def instance(hypotheses: Sequence[sp.Basic], milliseconds: int | None = None) -> Evidence:
    """Is there an instance of the hypotheses? By z3; those without a polynomial form fail.

    Of the polynomials only: an angle and its sine are two numbers to z3.
    """
    if any(hypothesis in (sp.false, False) for hypothesis in hypotheses):
        return Evidence(False, "z3", "a hypothesis is false")
    z3 = _z3()
    try:
        problem = _Problem(z3, hypotheses, [], strict=True, milliseconds=milliseconds)
        undefined = problem.undefined()
    except (ValueError, BasePolynomialError) as error:
        return Evidence(False, "z3", f"{error}")
    return problem.instance() if undefined is None else Evidence(False, "z3", undefined)


@dataclass(frozen=True)
class Squares:
    """left <= right as an exact sum of squares: right - left = sum of weight * square**2.

    Squares are of real expressions. Every weight is a nonnegative number or a product of quantities
    that their symbols or the hypotheses say are nonnegative.
    """

    terms: tuple[tuple[sp.Expr, sp.Expr], ...]

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic] = ()
    ) -> Evidence:
        if relation != "<=":
            return Evidence(False, "sympy", f"a sum of squares does not certify {relation}")
        nonnegative = list(_differences(hypotheses))
        for weight, _ in self.terms:
            for factor in sp.Mul.make_args(sp.sympify(weight)):
                if not factor.is_nonnegative and not any(
                    sp.expand(factor - known) == 0 for known in nonnegative
                ):
                    return Evidence(False, "sympy", f"the weight {factor} is not known to be >= 0")
        # sympy drops the root of sqrt(x)**2, and what a difference has on both sides
        for part in (left, right, *(part for term in self.terms for part in term)):
            value = sp.sympify(part)
            if not (is_real(value) and is_defined(value, hypotheses)):
                return Evidence(False, "sympy", f"{value} is not known to be a real number")
        total = sp.Add(*(weight * square**2 for weight, square in self.terms))
        found = Identity().certify(right - left, "=", total, hypotheses)
        return Evidence(found.ok, "sympy", "exact sum of squares" if found.ok else found.detail)


@dataclass(frozen=True)
class BySquares:
    """left <= right of two sides that are never negative, because left^2 <= right^2.

    A side is never negative if sympy says so of it: a sum and product of moduli, roots and
    nonnegative symbols. `square` certifies the relation of the squares.
    """

    square: Certificate

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic] = ()
    ) -> Evidence:
        for side in (left, right):
            if not side.is_nonnegative or not has_value(side, hypotheses):
                return Evidence(False, "sympy", f"{side} is not known to be >= 0")
        found = self.square.certify(left**2, relation, right**2, hypotheses)
        return Evidence(found.ok, found.engine, f"of the squares: {found.detail}")


def atoms(hypotheses: Iterable[sp.Basic]) -> list[sp.Basic]:
    """The hypotheses with conjunctions taken apart."""
    found: list[sp.Basic] = []
    for hypothesis in hypotheses:
        found += atoms(hypothesis.args) if isinstance(hypothesis, sp.And) else [hypothesis]
    return found


def _differences(hypotheses: Iterable[sp.Basic], strict: bool = False) -> Iterable[sp.Expr]:
    """What the hypotheses say is nonnegative; with `strict` only what they say is positive."""
    for hypothesis in atoms(hypotheses):
        if isinstance(hypothesis, sp.Gt if strict else (sp.Ge, sp.Gt)):
            yield hypothesis.lhs - hypothesis.rhs
        elif isinstance(hypothesis, sp.Lt if strict else (sp.Le, sp.Lt)):
            yield hypothesis.rhs - hypothesis.lhs


def is_real(expression: sp.Expr) -> bool:
    """Has the expression a real form, and no imaginary part in it?"""
    form = RealForm()
    try:
        form.angles([expression])
        form(expression)
    except (ValueError, BasePolynomialError):
        return False
    return True


def is_defined(expression: sp.Expr, hypotheses: Sequence[sp.Basic] = ()) -> bool:
    """Has the expression a real form, every root and quotient of which exists?"""
    return Identity().certify(expression, "=", expression, hypotheses).ok


def is_everywhere_defined(expression: sp.Basic) -> bool:
    """Is it a number at all values of its symbols, and so is every part of it, by sympy?

    A part alone can be undefined: sympy takes |log x| for a number at x = 0 too.
    """
    if isinstance(expression, sp.Expr) and (
        isinstance(expression, (sp.arg, sp.atan2)) or not expression.is_complex
    ):
        return False
    if expression.is_Pow and not (expression.exp.is_integer or expression.base.is_nonnegative):
        return False
    return all(map(is_everywhere_defined, expression.args))


def has_value(expression: sp.Expr, hypotheses: Sequence[sp.Basic] = ()) -> bool:
    """Is it a number wherever the hypotheses hold? It may have no real form: exp(x), log(x)."""
    return is_defined(expression, hypotheses) or is_everywhere_defined(expression)


def _obviously_defined(form: RealForm, hypotheses: Sequence[sp.Basic]) -> bool:
    """Do roots and quotients exist, by their symbols and the nonzero quantities of hypotheses?"""
    for part in list(form.definitions):
        if part.radicand is not None and not part.radicand.is_nonnegative:
            return False
        if part.denominator is not None and not _never_zero(form, part.denominator, hypotheses):
            return False
    return True


def _never_zero(form: RealForm, denominator: sp.Expr, hypotheses: Sequence[sp.Basic]) -> bool:
    """Is the denominator a constant times powers of what symbols or hypotheses say is nonzero?"""
    given = []
    for hypothesis in atoms(hypotheses):
        if isinstance(hypothesis, (sp.Ne, sp.Gt, sp.Lt)):
            difference = hypothesis.lhs - hypothesis.rhs
        else:
            continue
        before = len(form.definitions)
        try:
            x, y = form.parts(difference)
        except ValueError:
            continue
        later = form.definitions[before:]
        if any(part.radicand is not None or part.denominator is not None for part in later):
            continue  # it is not known that these exist
        given += [x] if y == 0 else []
        given.append(form(x**2 + y**2))
    _, factors = sp.factor_list(denominator)
    for factor, _power in factors:
        radicand = form.radicand_of(factor)
        if radicand is not None and _never_zero(form, radicand, hypotheses):
            continue
        if not factor.is_nonzero and not any(_divides(factor, other) for other in given):
            return False
    return True


def _divides(factor: sp.Expr, product: sp.Expr) -> bool:
    """Is the product a polynomial multiple of the factor? Then the factor vanishes only with it."""
    return product != 0 and sp.fraction(sp.cancel(product / factor))[1].is_number


def _z3() -> Any:
    try:
        import z3
    except ImportError as error:
        raise MissingProver("the prover z3 is missing; run: pip install z3-solver") from error
    return z3


def _real_relation(form: RealForm, relation: sp.Basic) -> sp.Basic:
    if relation in (sp.true, sp.false):
        return relation
    if isinstance(relation, (sp.And, sp.Or, sp.Not)):
        parts = [_real_relation(form, part) for part in relation.args]
        return type(relation)(*parts, evaluate=False)
    if not isinstance(relation, sp.core.relational.Relational):
        raise ValueError(f"{relation} is no relation")
    sides = (form(side) for side in relation.args)
    return type(relation)(*sides, evaluate=False)


class _Problem:
    """Hypotheses and what is asked of them, as polynomials for z3, with the variables defined.

    The hypotheses come first: their roots and quotients are defined before those of the claim.
    strict: a hypothesis without a polynomial form raises ValueError instead of being left out.
    """

    def __init__(
        self,
        z3: Any,
        hypotheses: Sequence[sp.Basic],
        claim: Sequence[sp.Basic],
        strict: bool = False,
        milliseconds: int | None = None,
    ) -> None:
        self.z3 = z3
        self.milliseconds = milliseconds or MILLISECONDS
        self.form = RealForm()
        self.translate = _Translate(z3)
        known = [h for h in atoms(hypotheses) if not isinstance(h, Meaning) and h != sp.true]
        self.form.angles([*known, *claim])
        self._given = []
        self._integers: set[sp.Symbol] = set()
        for hypothesis in known:
            try:
                self._given.append(self.translate(_real_relation(self.form, hypothesis)))
            except ValueError:
                if strict:
                    raise
                continue
            self._integers |= {x for x in hypothesis.free_symbols if x.is_integer}
        self._defined = len(self.form.definitions)

    def facts(self, definitions: int | None = None) -> list[Any]:
        """The hypotheses with the first so many definitions, all by default."""
        answer = list(self._given)
        for part in self.form.definitions[:definitions]:
            answer += [self.translate(sp.Eq(e, 0, evaluate=False)) for e in part.equations]
            answer += [self.translate(condition) for condition in part.conditions]
        return [*answer, *self.translate.signs()]

    def check(self, facts: Sequence[Any], *extra: Any) -> tuple[Any, Any]:
        """z3's answer and the solver that gave it."""
        # a solver of its own per question: z3's incremental one is much weaker on polynomials
        solver = self.z3.SolverFor("QF_NRA")
        solver.set("timeout", self.milliseconds)
        solver.add(*facts, *extra)
        return solver.check(), solver

    def undefined(self) -> str | None:
        """What may be undefined, in words: a root of a negative number, a quotient by zero.

        That a root exists is shown by the definitions before it: its own would assume it.
        """
        for index, part in enumerate(self.form.definitions):
            bad = self._bad(part)
            if bad is None:
                continue
            if self.check(self.facts(index), self.translate(bad))[0] != self.z3.unsat:
                if part.radicand is not None:
                    return f"{part.radicand} may be negative under a square root"
                return f"{part.denominator} is not known to be nonzero"
        return None

    @staticmethod
    def _bad(part: Definition) -> sp.Basic | None:
        if part.radicand is not None and not part.radicand.is_nonnegative:
            return sp.Lt(part.radicand, 0, evaluate=False)
        if part.denominator is not None and not part.denominator.is_nonzero:
            return sp.Eq(part.denominator, 0, evaluate=False)
        return None

    def instance(self) -> Evidence:
        """An instance of the hypotheses, with whole numbers for integer symbols."""
        z3 = self.z3
        facts = self.facts(self._defined)
        answer = z3.sat
        if self._given:
            whole = [z3.IsInt(self.translate(symbol)) for symbol in self._integers]
            answer, solver = self.check(facts)
            if answer == z3.sat and whole:
                solver = z3.Solver()
                solver.set("timeout", self.milliseconds)
                solver.add(*facts, *whole)
                answer = solver.check()
        if answer == z3.sat:
            return Evidence(True, "z3", "the hypotheses have an instance")
        return Evidence(False, "z3", f"no instance of the hypotheses was found ({answer})")


class _Translate:
    """sympy polynomials and relations as z3 terms."""

    def __init__(self, z3: Any) -> None:
        self.z3 = z3
        self.variables: dict[sp.Symbol, Any] = {}

    def signs(self) -> list[Any]:
        """What the symbols' own assumptions say of their signs."""
        relations = []
        for symbol, variable in self.variables.items():
            if symbol.is_nonnegative:
                relations.append(variable >= 0)
            if symbol.is_nonpositive:
                relations.append(variable <= 0)
            if symbol.is_nonzero:
                relations.append(variable != 0)
        return relations

    def __call__(self, expression: sp.Basic) -> Any:
        z3 = self.z3
        if expression in (sp.true, sp.false):
            return z3.BoolVal(bool(expression))
        if isinstance(expression, sp.Symbol):
            if expression not in self.variables:
                self.variables[expression] = z3.Real(f"v{len(self.variables)}_{expression}")
            return self.variables[expression]
        if isinstance(expression, sp.Rational):
            return z3.Q(int(expression.p), int(expression.q))
        if isinstance(expression, sp.Add):
            return z3.Sum([self(term) for term in expression.args])
        if isinstance(expression, sp.Mul):
            return z3.Product([self(factor) for factor in expression.args])
        if isinstance(expression, sp.Pow) and expression.exp.is_Integer and expression.exp > 0:
            return z3.Product([self(expression.base)] * int(expression.exp))
        if isinstance(expression, sp.And):
            return z3.And([self(part) for part in expression.args])
        if isinstance(expression, sp.Or):
            return z3.Or([self(part) for part in expression.args])
        if isinstance(expression, sp.Not):
            return z3.Not(self(expression.args[0]))
        compare = {
            sp.Eq: lambda a, b: a == b,
            sp.Ne: lambda a, b: a != b,
            sp.Le: lambda a, b: a <= b,
            sp.Lt: lambda a, b: a < b,
            sp.Ge: lambda a, b: a >= b,
            sp.Gt: lambda a, b: a > b,
        }
        for kind, relation in compare.items():
            if isinstance(expression, kind):
                return relation(self(expression.lhs), self(expression.rhs))
        raise ValueError(f"{type(expression).__name__} does not translate to z3: {expression}")
