"""Every expression of the registry against a second implementation that shares no code with it."""

import ast
import pkgutil
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from mpmath import mp, mpc, mpf

import tappa_theory.theorems
from tappa_theory.separable import evaluate

# beside this file: with importlib as import mode, tests are no package
_SPEC = spec_from_file_location("second_opinion", Path(__file__).with_name("second_opinion.py"))
second = module_from_spec(_SPEC)
sys.modules[_SPEC.name] = second
_SPEC.loader.exec_module(second)

POINTS = 8
DRAWS = 60
U64 = mpf(2) ** -53
AGREE = mpf(10) ** -40


def theorems():
    """Every theorem that there is, registered or not yet."""
    names = (found.name for found in pkgutil.iter_modules(tappa_theory.theorems.__path__))
    modules = [import_module(f"tappa_theory.theorems.{name}") for name in names]
    return {m.THEOREM.id: m.THEOREM for m in modules if hasattr(m, "THEOREM")}


THEOREMS = theorems()


def expressions(theorem):
    found = {"bound": theorem.bound, **theorem.auxiliary}
    return (
        found if theorem.published.bound is None else found | {"published": theorem.published.bound}
    )


EXPRESSIONS = [
    pytest.param(theorem_id, name, expression, id=f"{theorem_id}.{name}")
    for theorem_id, theorem in THEOREMS.items()
    for name, expression in expressions(theorem).items()
]

BELOW_ONE = ("gained", "lost", "mass", "kappa", "P")
SMALL = ("trig_error", "u_table", "u_angle", "frequency_error", "u", "tiny")

LEFT_OUT = ("theta", "s", "L")
"""What an expression may not depend on though its formula names it: equal shifts do not turn."""


def drawn(symbol, draw):
    """An exact value that the symbol may have, as sympy writes it."""
    if symbol.is_integer:
        return sp.Integer(draw.randint(1 if symbol.is_positive else 0, 9))
    if symbol.is_real:
        low, high = (0, 2) if symbol.is_nonnegative else (-2, 2)
        if symbol.name in BELOW_ONE or symbol.name == "similarity":
            low, high = (0 if symbol.is_nonnegative else -1), 1
        elif symbol.name in SMALL:
            high = second.Fraction(1, 10)
        return sp.Rational(*draw.fraction(low, high).as_integer_ratio())
    parts = [sp.Rational(*draw.fraction(-1, 1).as_integer_ratio()) for _ in range(2)]
    return parts[0] + sp.I * parts[1]


def in_mpmath(value):
    x, y = value.as_real_imag()
    real, imaginary = (mpf(part.p) / part.q for part in (x, y))
    return mpc(real, imaginary) if imaginary else real


def points(theorem_id, name, expression):
    """(values in sympy, what the second implementation says), where there is something to say."""
    draw = second.Draw(f"{theorem_id} {name}")
    formula = second.FORMULAS[theorem_id][name]
    found = []
    for _ in range(50 * POINTS):
        values = {
            symbol: drawn(symbol, draw) for symbol in sorted(expression.free_symbols, key=str)
        }
        given = {name: mpf(draw.randint(1, 9)) for name in LEFT_OUT}
        given |= {symbol.name: in_mpmath(value) for symbol, value in values.items()}
        try:
            answer = formula(given)
        except ValueError:
            continue
        found.append((values, answer))
        if len(found) == POINTS:
            return found
    raise AssertionError(f"{theorem_id}.{name} has no values")


def test_every_theorem_and_expression_has_a_second_implementation():
    assert {name: set(expressions(theorem)) for name, theorem in THEOREMS.items()} == {
        name: set(formulas) for name, formulas in second.FORMULAS.items()
    }
    assert set(second.OBSERVED) == set(THEOREMS)


def value_of(expression, values):
    """The registry's expression at exact values, 50 digits, by sympy."""
    x, y = expression.evalf(50, subs=values).as_real_imag()
    return mpc(mpf(str(x)), mpf(str(y)))


def agree(expression, found):
    return all(
        abs(value_of(expression, values) - answer) <= AGREE * (1 + abs(answer))
        for values, answer in found
    )


@pytest.mark.parametrize(("theorem_id", "name", "expression"), EXPRESSIONS)
def test_the_expression_is_what_the_second_implementation_says(theorem_id, name, expression):
    found = points(theorem_id, name, expression)
    assert agree(expression, found)
    wrong = expression * (1 + sp.Rational(1, 10**30)) + sp.Rational(1, 10**30)
    assert not agree(wrong, found)


FUNCTIONS = {
    sp.sin: mp.sin,
    sp.cos: mp.cos,
    sp.asin: mp.asin,
    sp.exp: mp.exp,
    sp.log: mp.log,
    sp.tanh: mp.tanh,
    sp.Abs: abs,
    sp.re: mp.re,
    sp.im: mp.im,
    sp.conjugate: mp.conj,
    sp.arg: mp.arg,
}


def in_float64(expression, values):
    """(value, what rounding may add to it): an error at every number, symbol and operation.

    To first order and twice over; a function is off by four roundings at most.
    """
    if not expression.args:
        exact = in_mpmath(values[expression]) if expression.is_Symbol else constant(expression)
        return exact, mpf(0) if expression.is_Integer else U64 * abs(exact)
    parts = [in_float64(part, values) for part in expression.args]
    numbers, errors = [x for x, _ in parts], [e for _, e in parts]
    if isinstance(expression, (sp.Max, sp.Min)):
        best = (max if isinstance(expression, sp.Max) else min)(numbers)
        return best, max(e for x, e in parts if abs(x - best) <= 2 * max(errors))
    if expression.is_Add:
        return mp.fsum(numbers), sum(errors) + len(parts) * U64 * sum(map(abs, numbers))
    if expression.is_Mul:
        exact = mp.fprod(numbers)
        off = sum(
            error * mp.fprod(abs(x) for j, x in enumerate(numbers) if j != k)
            for k, error in enumerate(errors)
        )
        return exact, 2 * off + len(parts) * U64 * abs(exact)
    if expression.is_Pow:
        base, power = numbers
        slope = abs(power * base ** (power - 1)) if base else mpf(power != 0)
        return base**power, 2 * slope * errors[0] + 4 * U64 * abs(base**power)
    function, (x,), (error,) = FUNCTIONS[expression.func], numbers, errors
    exact = function(x)
    near = [x + sign * error for sign in (1, -1)]
    if expression.func is sp.asin:
        near = [min(max(y, mpf(-1)), mpf(1)) for y in near]
    if expression.func is sp.arg:
        return exact, 2 * error / abs(x) + 4 * U64 * mp.pi
    if expression.func in (sp.Abs, sp.re, sp.im, sp.conjugate):
        return exact, error + 4 * U64 * abs(x)
    return exact, 2 * max(abs(function(y) - exact) for y in near) + 4 * U64 * abs(exact)


def constant(expression):
    if expression.is_Rational:
        return mpf(expression.p) / expression.q
    return {sp.pi: mp.pi, sp.E: mp.e, sp.I: mpc(0, 1)}[expression] * 1


@pytest.mark.parametrize(("theorem_id", "name", "expression"), EXPRESSIONS)
def test_the_generated_function_gives_it_to_rounding(theorem_id, name, expression):
    found = points(theorem_id, name, expression)
    arrays = {
        symbol.name: np.array(
            [(float if symbol.is_real else complex)(values[symbol]) for values, _ in found]
        )
        for symbol in expression.free_symbols
    }
    ours = np.broadcast_to(np.asarray(evaluate(expression, arrays)), len(found))
    for number, (values, answer) in zip(ours, found, strict=True):
        exact, rounding = in_float64(expression, values)
        assert abs(exact - answer) <= AGREE * (1 + abs(answer))
        assert rounding <= mpf(10) ** -9 * (1 + abs(answer)), "nothing is compared"
        assert abs(mpc(complex(number)) - answer) <= rounding, values


def comparisons(theorem_id):
    for number in range(DRAWS):
        yield from second.OBSERVED[theorem_id](second.Draw(f"{theorem_id} {number}"))


def exceeds(found):
    """Is more observed than is allowed, or something else than is equal to it?"""
    off = found.observed - found.allowed
    off = abs(off) if found.relation == "=" else off
    return off > AGREE * (1 + abs(found.allowed))


@pytest.mark.parametrize("theorem_id", THEOREMS)
def test_nothing_observed_exceeds_what_is_allowed(theorem_id):
    found = list(comparisons(theorem_id))
    assert len(found) >= DRAWS
    assert [compared for compared in found if exceeds(compared)] == []


@pytest.mark.parametrize("theorem_id", THEOREMS)
def test_a_bound_that_is_too_small_is_exceeded(theorem_id, monkeypatch):
    formulas = second.FORMULAS[theorem_id]
    bound = formulas["bound"]
    monkeypatch.setitem(formulas, "bound", lambda v: bound(v) / 2)
    assert any(exceeds(found) for found in comparisons(theorem_id) if found.name == "bound")


@pytest.mark.parametrize("theorem_id", THEOREMS)
def test_every_expression_takes_part_in_a_comparison(theorem_id, monkeypatch):
    used = set()

    def noted(name, formula):
        def call(v):
            used.add(name)
            return formula(v)

        return call

    formulas = second.FORMULAS[theorem_id]
    for name, formula in list(formulas.items()):
        monkeypatch.setitem(formulas, name, noted(name, formula))
    used |= {found.name for found in comparisons(theorem_id)}
    # a published reading is what heads are checked against: it need not hold
    assert set(formulas) - used <= {"published"}


def test_the_second_implementation_imports_nothing_of_the_first():
    tree = ast.parse(Path(second.__file__).read_text(encoding="utf-8"))
    roots = {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    roots |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert roots == {"collections.abc", "fractions", "itertools", "random", "typing", "mpmath"}
