"""Real forms: their values are those of the expression, and nothing undefined is hidden in them."""

import cmath
import math
from random import Random

import pytest
import sympy as sp

from proofs.engine.real_form import RealForm

x, y = sp.symbols("x y", real=True)
p = sp.Symbol("p", positive=True)
a, b = sp.symbols("a b", complex=True)

POINTS = (
    {x: 0.31, y: -0.77, p: 0.83, a: 0.21 + 1.13j, b: -0.44 + 0.62j},
    {x: -1.27, y: 0.46, p: 2.04, a: -1.05 - 0.38j, b: 0.97 - 1.41j},
)
LEAVES = (x, y, p, a, b, sp.I, sp.Integer(2), sp.Rational(-1, 3), sp.sqrt(3))
ANGLES = (x, y, x / 2, x - y, 2 * y + sp.pi / 3, p * x, -x, sp.Rational(3, 2) * x - p)


def random_expression(random, depth):
    """An expression that is defined everywhere, of nested parts."""
    if depth == 0:
        return random.choice(LEAVES)
    one, other = (random_expression(random, random.randrange(depth)) for _ in range(2))
    angle = random.choice(ANGLES)
    found = random.choice(
        (
            lambda: one + other,
            lambda: one * other,
            lambda: one - other * sp.exp(sp.I * angle),
            lambda: sp.Abs(one),
            lambda: sp.conjugate(one) + other,
            lambda: 1 / (sp.Rational(5, 2) + sp.I * sp.Abs(one)),
            lambda: sp.sqrt(1 + sp.im(one) ** 2),
            lambda: sp.Max(sp.re(one), sp.im(other)),
            lambda: sp.Min(sp.re(one), sp.Abs(other), 1),
            lambda: sp.exp(sp.I * angle) * one,
            lambda: sp.exp(-2 * sp.I * angle) + other,
            lambda: sp.sin(angle) * one,
            lambda: sp.cos(angle) ** 3 + other,
        )
    )()
    # sympy writes some square roots with angles of their own
    return one if found.has(sp.atan2, sp.arg) else sp.sympify(found)


NUMERIC = {
    sp.exp: cmath.exp,
    sp.sin: cmath.sin,
    sp.cos: cmath.cos,
    sp.Abs: abs,
    sp.re: lambda number: number.real,
    sp.im: lambda number: number.imag,
    sp.conjugate: lambda number: number.conjugate(),
    sp.Max: lambda *numbers: max(number.real for number in numbers),
    sp.Min: lambda *numbers: min(number.real for number in numbers),
    sp.Add: lambda *numbers: sum(numbers),
    sp.Mul: lambda *numbers: math.prod(numbers),
    sp.Pow: lambda base, exponent: base**exponent,
}


def plain(expression, point):
    """The expression in complex128, node by node."""
    if expression in point:
        return complex(point[expression])
    if expression.is_Atom:
        return complex(expression)
    return complex(NUMERIC[type(expression)](*(plain(part, point) for part in expression.args)))


def evaluated(form, polynomial, point):
    """The polynomial's value, its variables solved from their definitions one after the other."""
    values = {symbol: number for symbol, number in point.items() if symbol.is_real}
    for of, variable in form._known.items():
        if isinstance(of[0], sp.Symbol):
            number = complex(point[of[0]])
            values[variable] = number.real if of[1] == "x" else number.imag
    for definition in form.definitions:
        for equation in definition.equations:
            solve(equation, definition, form, values, point)
    return plain(polynomial, values).real


def solve(equation, definition, form, values, point):
    """Give the variables of one definition their values."""
    for of, variable in form._known.items():
        if variable in values or variable not in equation.free_symbols:
            continue
        kind = of[0]
        if kind in ("cos", "sin"):
            angle = plain(of[1], point).real / of[2]
            values[variable] = math.cos(angle) if kind == "cos" else math.sin(angle)
        elif kind == "root":
            values[variable] = math.sqrt(max(0.0, plain(form.radicand_of(variable), values).real))
        elif kind == "inverse":
            values[variable] = 1 / plain(definition.denominator, values).real
        else:
            sides = [plain(condition.rhs, values).real for condition in definition.conditions]
            values[variable] = max(sides) if kind == "Max" else min(sides)


@pytest.mark.parametrize("seed", range(100))
def test_the_real_form_has_the_values_of_the_expression(seed):
    expression = random_expression(Random(seed), 3)
    form = RealForm()
    form.angles([expression])
    parts = form.parts(expression)
    for point in POINTS:
        found = complex(*(evaluated(form, part, point) for part in parts))
        assert cmath.isclose(found, plain(expression, point), rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("seed", range(100))
def test_a_difference_is_zero_only_for_equal_values(seed):
    left = random_expression(Random(seed), 3)
    form = RealForm()
    form.angles([left])
    assert form.difference(left, left) == (0, 0)
    # what looks like it: one part is changed
    part = Random(seed).choice(list(sp.preorder_traversal(left)))
    right = left.xreplace({part: sp.conjugate(part) if seed % 2 else -part})
    try:
        form = RealForm()
        form.angles([left, right])
        difference = form.difference(left, right)
    except ValueError:  # the root of something complex
        return
    same = all(cmath.isclose(plain(left, at), plain(right, at), abs_tol=1e-10) for at in POINTS)
    assert same or difference != (0, 0)


@pytest.mark.parametrize(
    "expression",
    [
        1 / x,
        sp.Abs((x * y + x * a) / x),  # factored it is |y + a|
        sp.cos((x * y + x) / x),  # expanded it is cos(y + 1)
        sp.exp(sp.I * (x * y + x) / x),
        sp.Abs(1 / (a * x)),
    ],
)
def test_a_quotient_that_sympy_can_drop_is_still_a_denominator(expression):
    form = RealForm()
    form.angles([expression])
    form.parts(expression)
    assert any(definition.denominator is not None for definition in form.definitions)


def test_a_root_that_sympy_can_drop_is_still_a_radicand():
    form = RealForm()
    form.parts(sp.cos(y * sp.sqrt(x) * (sp.sqrt(x) + 1) - sp.sqrt(x) * y))
    assert any(definition.radicand is not None for definition in form.definitions)


@pytest.mark.parametrize(
    "expression",
    [
        sp.cos(a),
        sp.exp(x),
        sp.exp(sp.I * a),
        sp.sqrt(a),
        sp.log(p),
        x ** sp.Rational(1, 3),
        x**p,
        sp.Function("f")(x),
        sp.cos(sp.Function("f", real=True)(x)),
        sp.cos(x * sp.Float(0.5)),
        sp.Float(0.5),
        sp.Symbol("o", extended_real=True),
        sp.Symbol("o", infinite=True),
        sp.Symbol("o", commutative=False),
        sp.zoo,
        sp.oo,
        sp.nan,
        sp.cos(sp.arg(a)),
        sp.cos(sp.atan2(x, y) / 2),  # of the origin there is none
        sp.cos(sp.expand(y * (sp.log(x) + 1)) - y * sp.log(x) * 2),
        sp.Max(x, y, evaluate=False) ** 1_001,
        sp.cos(1_000_001 * x) + sp.cos(x),
    ],
)
def test_what_has_no_real_form_is_refused(expression):
    form = RealForm()
    form.angles([expression])
    with pytest.raises(ValueError, match=r"."):
        form.parts(expression)


def test_what_is_complex_is_not_taken_for_real():
    with pytest.raises(ValueError, match="not known to be real"):
        RealForm()(a)
    with pytest.raises(ValueError, match="not known to be real"):
        RealForm()(sp.Max(a, 1, evaluate=False))


def test_an_extreme_of_three_is_none_of_two():
    form = RealForm()
    for kind in (sp.Max, sp.Min):
        largest = kind(x, y, p)
        for one, other in ((x, y), (y, p), (x, p)):
            assert form.difference((largest - one) * (largest - other), sp.Integer(0)) != (0, 0)
        assert form.difference((kind(x, y) - x) * (kind(x, y) - y), sp.Integer(0)) == (0, 0)


def test_what_is_too_large_is_refused_at_once():
    for expression in (p**1_001, sp.sqrt(p) ** 2_001, sp.cos(1_001 * x), sp.Abs(a * b) ** 1_001):
        with pytest.raises(ValueError, match="too"):
            RealForm().parts(expression)


def test_symbols_of_the_same_name_are_different_symbols():
    form = RealForm()
    same_name = sp.Symbol("x", positive=True)
    assert form.difference(x, same_name) != (0, 0)
    # and none of them is a variable that the form makes for itself
    for name in ("cos(x)", "_cos(x)", "root[x]", "inv[x]", "a_x", "_a_x"):
        user = sp.Symbol(name, real=True)
        for own in (sp.cos(x), sp.sqrt(x), 1 / x, sp.re(a)):
            assert form.difference(own, user) != (0, 0)


def test_roots_of_numbers_multiply():
    form = RealForm()
    assert form.difference(sp.sqrt(6), sp.sqrt(2) * sp.sqrt(3)) == (0, 0)
    assert form.difference(sp.sqrt(sp.Rational(3, 2)), sp.sqrt(6) / 2) == (0, 0)
    assert form.difference(sp.sqrt(2) * sp.sqrt(3), sp.sqrt(5)) != (0, 0)
    # a number without small prime factors is not taken apart, and that ends
    huge = (sp.Integer(10) ** 60 + 7) * (sp.Integer(10) ** 61 + 19)
    assert form.difference(sp.sqrt(huge), sp.Integer(3)) != (0, 0)


def test_halves_and_wholes_share_one_unit():
    form = RealForm()
    form.angles([sp.cos(x), sp.sin(x / 2)])
    assert form.difference(sp.cos(x), 1 - 2 * sp.sin(x / 2) ** 2) == (0, 0)
    assert form.difference(sp.cos(sp.pi / 5), (1 + sp.sqrt(5)) / 4) == (0, 0)
    assert form.difference(sp.cos(x + y), sp.cos(x) * sp.cos(y)) != (0, 0)
