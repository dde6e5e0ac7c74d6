"""What may be put for a symbol, and values at which hypotheses hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sympy as sp

from proofs.engine.balls import number
from proofs.engine.certificates import (
    Evidence,
    Identity,
    follows,
    instance,
    is_defined,
    is_everywhere_defined,
    is_real,
)

_SIGNS = {
    "nonnegative": sp.Ge,
    "positive": sp.Gt,
    "nonpositive": sp.Le,
    "negative": sp.Lt,
    "nonzero": sp.Ne,
}


def admits(symbol: sp.Symbol, value: sp.Expr, hypotheses: Sequence[sp.Basic] = ()) -> bool:
    """Is the value a number, and of every kind that the symbol is assumed to be?

    Its roots and quotients must exist and its signs hold by its own symbols or by the hypotheses;
    every other kind (whole, even, irrational, ...) is what sympy knows of the value.
    """
    if not isinstance(symbol, sp.Symbol) or not value.is_commutative:
        return False
    if value.has(sp.oo, -sp.oo, sp.zoo, sp.nan, sp.Float):
        return False
    shown: dict[str, bool] = {"complex": True}
    if is_defined(value, hypotheses):
        real = is_real(value)
    elif is_everywhere_defined(value):
        real = bool(value.is_real)
    else:
        return False
    if real:
        shown["real"] = True
        for kind, sign in _SIGNS.items():
            if getattr(symbol, f"is_{kind}") and not getattr(value, f"is_{kind}"):
                if not follows(sign(value, 0, evaluate=False), hypotheses).ok:
                    return False
                shown[kind] = True
    known = sp.Dummy(**shown).assumptions0
    return all(
        known.get(kind) is wanted or getattr(value, f"is_{kind}") is wanted
        for kind, wanted in symbol.assumptions0.items()
    )


def at_example(hypotheses: Sequence[sp.Basic], values: Mapping[sp.Symbol, sp.Expr]) -> Evidence:
    """Do the hypotheses hold at these values?"""
    put = {symbol: sp.sympify(value) for symbol, value in values.items()}
    for symbol, value in put.items():
        if value.free_symbols or not admits(symbol, value):
            return Evidence(False, "exact", f"{value} is no value of {symbol}")
    for hypothesis in hypotheses:
        if not _holds(_at(hypothesis, put)):
            return Evidence(False, "exact", f"{hypothesis} does not hold at the example")
    return Evidence(True, "exact", f"they hold at {put}")


def instance_of(hypotheses: Sequence[sp.Basic]) -> Evidence:
    """An instance of relations, by z3 once there are values for what is more than a polynomial.

    To z3 an angle and its sine are two numbers, pi is any number near 3, and no number is prime:
    symbols of which such a thing is said get values from a short list first.
    """
    named = sorted(_beyond_polynomials(hypotheses), key=sp.default_sort_key)
    if not named:
        return instance(hypotheses)
    for tried, values in enumerate(_choices(named, hypotheses)):
        if tried == MOST_TRIED:
            break
        there = [_at(hypothesis, values) for hypothesis in hypotheses]
        rest = [relation for relation in there if relation != sp.true]
        found = instance(rest, MILLISECONDS) if rest else Evidence(True, "exact", "")
        if found.ok:
            shown = ", ".join(f"{symbol} = {value}" for symbol, value in values.items())
            return Evidence(True, found.engine, f"the hypotheses have an instance with {shown}")
    names = ", ".join(map(str, named))
    return Evidence(False, "exact", f"no instance was found by values of {names}: give an example")


MOST_TRIED = 100
MILLISECONDS = 1_000
"""Time for z3 at each choice of values."""

_ANGLES = tuple(sp.pi * sp.Rational(*part) for part in ((1, 6), (1, 3), (1, 2), (2, 3), (1, 1)))
_VALUES = (*_ANGLES, *map(sp.Integer, (1, 0, 2, 3, 4, -1)), sp.Rational(1, 2), -sp.pi / 6, -sp.pi)


def _beyond_polynomials(hypotheses: Sequence[sp.Basic]) -> set[sp.Symbol]:
    """Symbols of angles, of relations with pi or e, and of kinds that z3 is not told of."""
    found: set[sp.Symbol] = set()
    for hypothesis in hypotheses:
        for part in hypothesis.atoms(sp.sin, sp.cos, sp.exp):
            found |= part.free_symbols
        if hypothesis.has(sp.pi, sp.E):
            found |= hypothesis.free_symbols
        found |= {symbol for symbol in hypothesis.free_symbols if not _is_plain(symbol)}
    return found


def _is_plain(symbol: sp.Symbol) -> bool:
    """Is nothing assumed but that it is a complex, real or whole number of some sign?"""
    told = ("complex", "real", "integer", *_SIGNS)
    plain = sp.Dummy(**{kind: True for kind in told if getattr(symbol, f"is_{kind}")})
    return bool(symbol.assumptions0.items() <= plain.assumptions0.items())


def _choices(
    symbols: Sequence[sp.Symbol], hypotheses: Sequence[sp.Basic]
) -> Iterator[dict[sp.Symbol, sp.Expr]]:
    """Values of the symbols at which no relation of them alone fails."""
    if not symbols:
        yield {}
        return
    *others, last = symbols
    values = [value for value in _VALUES if admits(last, value)]
    for chosen in _choices(others, [h for h in hypotheses if last not in h.free_symbols]):
        for value in values:
            put = {**chosen, last: value}
            ready = [h for h in hypotheses if last in h.free_symbols and h.free_symbols <= {*put}]
            if all(_holds(_at(h, put)) for h in ready):
                yield put


def _at(hypothesis: sp.Basic, values: Mapping[sp.Symbol, sp.Expr]) -> sp.Basic:
    """The hypothesis at these values: false where sympy finds no real numbers to compare."""
    try:
        return hypothesis.subs(values, simultaneous=True)
    except TypeError:
        return sp.false


def _holds(relation: sp.Basic) -> bool:
    """Is a relation of numbers true? False where that is not decided."""
    if relation in (sp.true, sp.false):
        return bool(relation)
    if isinstance(relation, (sp.And, sp.Or)):
        return (all if isinstance(relation, sp.And) else any)(map(_holds, relation.args))
    if relation.free_symbols or not isinstance(relation, sp.core.relational.Relational):
        return False
    if isinstance(relation, (sp.Eq, sp.Ge, sp.Le)):
        if Identity().certify(relation.lhs, "=", relation.rhs).ok:
            return True
        if isinstance(relation, sp.Eq):
            return False
    try:
        if isinstance(relation, sp.Ne):
            return not (number(relation.lhs) - number(relation.rhs)).contains(0)
        return bool(number(relation.gts) > number(relation.lts))
    except ValueError:
        return False
