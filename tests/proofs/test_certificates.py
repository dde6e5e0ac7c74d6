"""Identities, solver, squares: what they certify, and what they must never certify."""

import math

import pytest
import sympy as sp
from hypothesis import assume, given
from hypothesis import strategies as st

from proofs.engine import certificates
from proofs.engine.certificates import (
    BySquares,
    Identity,
    Meaning,
    Solver,
    Squares,
    _divides,
    follows,
    has_value,
    instance,
    is_defined,
    is_real,
)
from proofs.engine.relations import eq, le, lt

x, y, v = sp.symbols("x y v", real=True)
n = sp.Symbol("n", nonnegative=True)
p = sp.Symbol("p", positive=True)
k = sp.Symbol("k", integer=True)
a, b = sp.symbols("a b", complex=True)
ZERO = sp.Integer(0)
ANGLE = sp.exp(sp.I * x)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (sp.sin(x) ** 2 + sp.cos(x) ** 2, sp.Integer(1)),
        (sp.cos(3 * x), 4 * sp.cos(x) ** 3 - 3 * sp.cos(x)),
        (sp.sin(x - y), sp.sin(x) * sp.cos(y) - sp.cos(x) * sp.sin(y)),
        (sp.Abs(a * b), sp.Abs(a) * sp.Abs(b)),
        (sp.Abs(ANGLE - 1), 2 * sp.Abs(sp.sin(x / 2))),
        (a * sp.conjugate(a), sp.Abs(a) ** 2),
        (1 / (1 + sp.sqrt(2)), sp.sqrt(2) - 1),
        (sp.sqrt(x**2), sp.Abs(x)),
        (1 / (p + 1) - 1 / (p + 2), 1 / ((p + 1) * (p + 2))),
        (1 / sp.sqrt(p), sp.sqrt(p) / p),
        (sp.Max(x, y) ** 2, (x + y) * sp.Max(x, y) - x * y),
        (1 / (1 + 1 / (1 + x**2)), (1 + x**2) / (2 + x**2)),
        (sp.re(a * sp.conjugate(b)), (sp.Abs(a + b) ** 2 - sp.Abs(a - b) ** 2) / 4),
    ],
)
def test_identities_are_exact(left, right):
    assert Identity().certify(left, "=", right).ok
    assert not Identity().certify(left, "=", right + sp.Rational(1, 10**9)).ok
    assert not Identity().certify(left, "=", right * (1 + sp.Rational(1, 10**9))).ok
    assert not Identity().certify(left, "<=", right).ok


def test_the_parts_of_an_extreme_may_be_the_same():
    same = sp.Max(x, (x * y + x) / (y**2 + 1) + x * (1 - (y + 1) / (y**2 + 1)))
    assert not Identity().certify(same, "=", x + 1).ok
    assert Solver().certify(same, "=", x).ok


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(-2, 2)), max_size=4),
    st.integers(-3, 3),
    st.integers(-3, 3),
)
def test_no_false_identity_of_trigonometric_sums_is_certified(terms, shift, power):
    left = sum((c * sp.cos(m * x + s * y) for c, m, s in terms), ZERO)
    right = sum((c * sp.cos(m * x) * sp.cos(s * y) for c, m, s in terms), ZERO)
    right += shift * sp.sin(x) ** abs(power)
    assert Identity().certify(left, "=", sp.expand_trig(left)).ok
    point = {x: 0.7342, y: -1.913}
    gap = abs(complex((left - right).subs(point).evalf(30)))
    assert Identity().certify(left, "=", right).ok == (gap < 1e-12)


@pytest.mark.parametrize(
    "quantity",
    [
        1 / x,
        sp.sqrt(x),
        x / sp.Abs(x),
        1 / (x - y),
        1 / sp.sin(x),
        sp.sqrt(sp.sin(x)),
        1 / (sp.exp(sp.I * x) - 1),
        1 / a,
        1 / n,
        sp.sqrt(1 - p),
        1 / (sp.Abs(a) - 1),
        1 / sp.Max(x, y),
        sp.sqrt(p - 1 / p),
    ],
)
def test_an_identity_of_what_may_be_undefined_is_refused(quantity):
    assert not is_defined(quantity)
    assert not has_value(quantity)
    assert not Identity().certify(quantity, "=", quantity).ok
    assert not Identity().certify(quantity + p, "=", p + quantity).ok
    assert not Solver().certify(sp.re(quantity), "<=", sp.re(quantity) + 1).ok
    assert not BySquares(Solver()).certify(sp.Abs(quantity), "<=", sp.Abs(quantity) + 1).ok


@pytest.mark.parametrize(
    ("quantity", "hypothesis"),
    [
        (1 / x, lt(0, x)),
        (1 / x, sp.Ne(x, 0)),
        (1 / a, lt(0, sp.Abs(a))),
        (1 / a, sp.Ne(a, 0)),
        (sp.sqrt(x), le(0, x)),
        (1 / sp.sin(x), sp.Ne(sp.sin(2 * x), 0)),
        (sp.sqrt(x - 1) / x, le(1, x)),
        (1 / (x - y), lt(x, y)),
    ],
)
def test_hypotheses_make_it_defined(quantity, hypothesis):
    assert is_defined(quantity, (hypothesis,))
    assert not is_defined(quantity, (le(-1, x),))


@pytest.mark.parametrize(
    "hypothesis",
    [
        le(0, x),
        sp.Ge(x**2, 0, evaluate=False),
        eq(x, y),
        lt(-1, x),
        lt(0, y),
        lt(0, x + y),
        sp.Or(lt(0, x), lt(0, y)),
        sp.Not(lt(0, x), evaluate=False),
    ],
)
def test_other_hypotheses_do_not_keep_it_from_zero(hypothesis):
    assert not is_defined(1 / x, (hypothesis,))
    assert not is_defined(1 / sp.Abs(x), (hypothesis,))


def test_zero_is_a_multiple_of_nothing_here():
    assert not _divides(x, ZERO)
    assert not _divides(x, x + 1)
    assert _divides(x, 3 * x * y)


def test_a_hypothesis_must_exist_itself_before_it_says_that_something_does():
    assert not is_defined(1 / x, (lt(1 / (x * y), 5),))
    assert not is_defined(sp.sqrt(x), (le(0, sp.sqrt(x)),))


@pytest.mark.parametrize(
    "left",
    [sp.Abs((x * y + x * v) / x), sp.cos((x * y + x * v) / x)],
)
def test_a_factor_that_is_cancelled_must_not_be_zero(left):
    right = left.func(y + v)
    assert not Identity().certify(left, "=", right).ok
    assert Identity().certify(left, "=", right, (sp.Ne(x, 0),)).ok


def test_values_without_a_real_form():
    assert has_value(sp.exp(x))
    assert has_value(sp.log(p))
    assert not has_value(sp.log(n))
    assert not has_value(sp.Abs(sp.log(n)))  # sympy takes it for a number
    assert not has_value(sp.Max(0, 1 / x) + sp.exp(y))
    assert not has_value(sp.Abs(sp.tan(x)))


def test_the_solver_decides_and_does_not_guess():
    assert Solver().certify(2 * x * y, "<=", x**2 + y**2).ok
    assert Solver().certify(ZERO, "<", x**2 + 1).ok
    assert Solver().certify(sp.Max(x, y) + sp.Min(x, y), "=", x + y).ok
    assert Solver().certify(sp.Min(x, y, v), "<=", (x + y + v) / 3).ok
    for left, relation, right in (
        (2 * x * y, "<", x**2 + y**2),
        (x, "<=", x**2),
        (sp.Max(x, y, v), "<=", x + y + v),
        (sp.Min(x, y, v), "<", (x + y + v) / 3),
        (sp.sin(x), "<=", sp.Rational(999, 1000)),
        (sp.sin(x) + sp.cos(x), "<=", sp.Rational(1414, 1000)),
        (sp.pi, "<=", sp.Rational(31, 10)),
        (x, ">", x - 1),
        (a, "=", a),
        (a, "<=", a),
    ):
        assert not Solver().certify(left, relation, right).ok


@given(st.lists(st.integers(-4, 4), min_size=6, max_size=6), st.integers(-3, 3), st.integers(-3, 3))
def test_what_the_solver_certifies_holds_at_points(numbers, at_x, at_y):
    c = numbers
    left = c[0] * x**2 + c[1] * x * y + c[2] * y**2
    right = c[3] * x + c[4] * y + c[5]
    assume(left.subs({x: at_x, y: at_y}) > right.subs({x: at_x, y: at_y}))
    assert not Solver().certify(left, "<=", right).ok


def test_signs_of_symbols_are_used_and_no_others():
    assert Solver().certify(ZERO, "<=", n).ok
    assert Solver().certify(ZERO, "<", p).ok
    assert not Solver().certify(ZERO, "<", n).ok
    same_name = sp.Symbol("p", real=True)
    assert not Solver().certify(ZERO, "<", same_name).ok
    assert not Solver().certify(p, "<=", same_name).ok
    assert not Solver().certify(same_name, "=", p).ok
    # named as the variables of the translation are
    assert not Solver().certify(sp.Symbol("v0_x", real=True), "<=", x).ok


def test_nothing_follows_from_what_cannot_be():
    assert not Solver().certify(x, "<=", x - 1, (lt(x, 0), lt(0, x))).ok
    assert not Solver().certify(x, "<=", x - 1, (sp.false,)).ok
    assert not Solver().certify(x, "<=", x - 1, (eq(k, sp.Rational(1, 2)),)).ok
    assert not follows(sp.false, (eq(sp.cos(x), 2),)).ok
    assert not instance((eq(k**2, 2),)).ok
    assert instance((eq(x**2, 2),)).ok
    assert not instance((lt(sp.log(p), 0),)).ok  # no polynomial: nothing is known


def test_a_hypothesis_without_a_polynomial_form_is_not_used():
    assert not Solver().certify(ZERO, "<=", x, (le(0, sp.log(p)), eq(a, b))).ok
    assert Solver().certify(ZERO, "<=", x, (le(0, x), le(0, sp.log(p)))).ok


def test_an_undecided_question_is_not_certified(monkeypatch):
    hard = (x**9 * y**7 + y**11 * v**5, x**20 + y**20 + v**20 + 1)
    monkeypatch.setattr(certificates, "MILLISECONDS", 50)
    found = Solver().certify(hard[0], "<=", hard[1])
    assert not found.ok
    assert "undecided" in found.detail


class Unknown:
    """z3, but every answer is "unknown"; `limits` collects the time limits that were set."""

    def __init__(self, z3, answers):
        self._z3, self._answers, self.limits, self.asked = z3, list(answers), [], 0

    def __getattr__(self, name):
        return getattr(self._z3, name)

    def SolverFor(self, logic):
        return self._watched(self._z3.SolverFor(logic))

    def Solver(self):
        return self._watched(self._z3.Solver())

    def _watched(self, solver):
        outer = self

        class Watched:
            limited = False

            def set(self, name, value):
                self.limited |= name == "timeout" and value > 0
                solver.set(name, value)

            def add(self, *facts):
                solver.add(*facts)

            def check(self):
                assert self.limited, "a question without a time limit"
                outer.asked += 1
                answer = outer._answers.pop(0) if outer._answers else None
                return outer._z3.unknown if answer == "unknown" else solver.check()

            def __getattr__(self, name):
                return getattr(solver, name)

        return Watched()


# the questions of this claim: does the root exist, is there an instance, a whole one, does it fail
CLAIM = (sp.sqrt(x + k), sp.sqrt(x + k + 1), (le(0, x), le(0, k)))


@pytest.mark.parametrize("when", range(5))
def test_an_answer_unknown_to_any_question_certifies_nothing(when, monkeypatch):
    import z3

    left, right, hypotheses = CLAIM
    stub = Unknown(z3, ["known"] * when + ["unknown"])
    monkeypatch.setattr(certificates, "_z3", lambda: stub)
    found = Solver().certify(left, "<=", right, hypotheses)
    assert not found.ok
    assert stub.asked == when + 1  # no question is asked after that
    stub = Unknown(z3, [])
    assert Solver().certify(left, "<=", right, hypotheses).ok
    assert stub.asked == 5


def test_squares():
    terms = ((sp.Integer(1), x - y),)
    assert Squares(terms).certify(2 * x * y, "<=", x**2 + y**2).ok
    assert not Squares(terms).certify(2 * x * y, "<=", x**2 + y**2 - 1).ok
    assert not Squares(terms).certify(2 * x * y, "<", x**2 + y**2).ok
    assert not Squares(((sp.Integer(-1), x),)).certify(x**2, "<=", ZERO).ok
    assert not Squares(((x, y),)).certify(ZERO, "<=", x * y**2).ok
    assert Squares(((x, y),)).certify(ZERO, "<=", x * y**2, (le(0, x),)).ok
    assert not Squares(((x, y),)).certify(ZERO, "<=", x * y**2, (le(x, 0),)).ok
    assert not Squares(((x, y),)).certify(ZERO, "<=", x * y**2, (le(-1, x),)).ok
    assert not Squares(((x, y),)).certify(ZERO, "<=", x * y**2, (sp.Ne(x, 0),)).ok


@pytest.mark.parametrize(
    ("terms", "left", "right"),
    [
        (((1, sp.sqrt(x)),), ZERO, x),  # sqrt(x)^2 = x, of x >= 0 only
        (((1, sp.I * x),), ZERO, -(x**2)),
        (((1, a),), ZERO, a**2),
        (((1, y),), 1 / x, 1 / x + y**2),  # 1/x is in no difference
        (((1, y),), sp.sqrt(x), sp.sqrt(x) + y**2),
        (((1, y),), a, a + y**2),
        (((sp.Max(0, 1 / x), y),), ZERO, sp.Max(0, 1 / x) * y**2),
    ],
)
def test_squares_of_what_may_be_no_real_number_are_refused(terms, left, right):
    assert not Squares(terms).certify(left, "<=", right).ok


def test_by_squares_needs_two_sides_that_are_not_negative():
    class Anything:
        def certify(self, left, relation, right, hypotheses):
            return certificates.Evidence(True, "test", "")

    sides = ((x, n), (n, x), (n, -p), (sp.Abs(sp.log(n)), n), (sp.Max(0, 1 / x), n))
    for left, right in sides:
        assert not BySquares(Anything()).certify(left, "<=", right).ok
    assert BySquares(Anything()).certify(n, "<=", p).ok
    assert BySquares(Solver()).certify(sp.Abs(a + b), "<=", sp.Abs(a) + sp.Abs(b)).ok
    assert not BySquares(Solver()).certify(sp.Abs(a + b), "<", sp.Abs(a) + sp.Abs(b)).ok


def test_a_meaning_is_no_relation():
    class Anyhow(Meaning):
        pass

    assert not Solver().certify(ZERO, "<=", x, (Anyhow(x),)).ok
    assert is_real(x)
    assert not is_real(a)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((x + y + v + 1) ** 60, (x + y + v + 2) ** 60),
        (x**1_000_000, x**999_999),
        (sp.cos(1_000_000 * x), sp.cos(999_999 * x)),
        (sp.sqrt(sp.Integer(10) ** 120 + 7), sp.Integer(3)),
        (sp.cos(sp.pi / 257), ZERO),
        (1 / ((x + y + v + 1) ** 12 + 1), 1 / ((x + y + v + 2) ** 12 + 1)),
    ],
)
def test_a_large_false_identity_ends(left, right, monkeypatch):
    monkeypatch.setattr("proofs.engine.polynomials.MOST_PRODUCTS", 100_000)
    assert not Identity().certify(left, "=", right).ok


def test_numbers_are_compared_exactly():
    near = sp.Rational(math.pi)
    assert not Identity().certify(sp.pi, "=", near).ok
    assert not Identity().certify(sp.Float(0.5), "=", sp.Rational(1, 2)).ok
    assert not Identity().certify(sp.sqrt(2), "=", sp.Rational(math.sqrt(2))).ok
