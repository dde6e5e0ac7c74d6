"""Mutations: an expression or a hypothesis with one small error in it.

A constant off by one percent, a flipped sign, a shifted exponent, one function for another; a
hypothesis dropped, or a strict relation weakened. What sympy evaluates to the same expression is no
mutation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sympy as sp

from proofs.engine.certificates import Identity, Meaning, atoms

PERCENT = sp.Rational(1, 100)
SWAPPED = {
    sp.sin: sp.cos,
    sp.cos: sp.sin,
    sp.asin: sp.acos,
    sp.Min: sp.Max,
    sp.Max: sp.Min,
    sp.re: sp.im,
    sp.im: sp.re,
    sp.tanh: sp.sinh,
}
"""The function that takes the place of another."""
WEAKER = {sp.StrictLessThan: sp.LessThan, sp.StrictGreaterThan: sp.GreaterThan}
"""What is left of a strict relation."""


@dataclass(frozen=True)
class Mutation:
    """An expression with one error. kind: of error; change: what became of what, in words."""

    kind: str
    change: str
    expression: sp.Expr


@dataclass(frozen=True)
class Weakened:
    """Hypotheses with one dropped, or with a strict relation made weak."""

    kind: str
    change: str
    hypotheses: tuple[sp.Basic, ...]


def mutations(expression: sp.Expr) -> list[Mutation]:
    """Every mutation of an expression at one place, each other expression once."""
    found: dict[sp.Expr, Mutation] = {}
    for factor in (1 + PERCENT, 1 - PERCENT):
        whole = Mutation("factor", f"times {_percent(factor)}", factor * expression)
        found.setdefault(whole.expression, whole)
    for kind, change, mutated in _inside(expression):
        found.setdefault(mutated, Mutation(kind, change, mutated))
    return [mutation for other, mutation in found.items() if _is_other(expression, other)]


def weakened(hypotheses: Sequence[sp.Basic]) -> list[Weakened]:
    """Every way to drop one hypothesis, or to weaken one strict relation; conjunctions apart."""
    known = atoms(hypotheses)
    found = []
    for index, hypothesis in enumerate(known):
        rest = (*known[:index], *known[index + 1 :])
        found.append(Weakened("hypothesis", f"without {hypothesis}", rest))
        weak = WEAKER.get(type(hypothesis))
        if weak is not None and not isinstance(hypothesis, Meaning):
            weaker = weak(*hypothesis.args, evaluate=False)
            others = (*known[:index], weaker, *known[index + 1 :])
            found.append(Weakened("strict", f"{weaker} for {hypothesis}", others))
    return found


def are_equal(first: sp.Expr, second: sp.Expr) -> bool:
    """Are two expressions the same function, by an exact certificate?"""
    return Identity().certify(first, "=", second).ok


def _is_other(expression: sp.Expr, mutated: sp.Expr) -> bool:
    """Is it another expression, and a finite one?"""
    return mutated != expression and not mutated.has(sp.nan, sp.zoo, sp.oo, -sp.oo)


def _inside(node: sp.Expr) -> Iterator[tuple[str, str, sp.Expr]]:
    """(kind, change, the node mutated at one place), the node itself before its arguments."""
    yield from _here(node)
    for index, argument in enumerate(node.args):
        if node.is_Pow and index == 1 and argument.is_number:
            continue  # an exponent is shifted where it stands
        for kind, change, mutated in _inside(argument):
            arguments = (*node.args[:index], mutated, *node.args[index + 1 :])
            try:
                yield kind, change, node.func(*arguments)
            except (TypeError, ValueError):
                continue  # not an expression: a minimum of complex numbers


def _here(node: sp.Expr) -> Iterator[tuple[str, str, sp.Expr]]:
    if node.is_number and node.is_real and not node.args and node not in (0, -1):
        for factor in (1 + PERCENT, 1 - PERCENT):
            yield "constant", f"{node} times {_percent(factor)}", factor * node
    if node.is_Add:
        for index, term in enumerate(node.args):
            terms = (*node.args[:index], -term, *node.args[index + 1 :])
            yield "sign", f"{-term} for {term} in {node}", sp.Add(*terms)
    if node.is_Mul and node.could_extract_minus_sign():
        yield "sign", f"{-node} for {node}", -node
    if isinstance(node, sp.exp):
        yield "sign", f"{sp.exp(-node.args[0])} for {node}", sp.exp(-node.args[0])
    if node.is_Pow and node.exp.is_number:
        shifted = node.exp + 1 if node.exp != -1 else node.exp - 1
        yield "exponent", f"{shifted} for {node.exp} over {node.base}", node.base**shifted
    for function, other in SWAPPED.items():
        if isinstance(node, function):
            try:
                yield "function", f"{other.__name__} for {node}", other(*node.args)
            except (TypeError, ValueError):
                continue


def _percent(factor: sp.Rational) -> str:
    return f"{float(factor):.2f}"
