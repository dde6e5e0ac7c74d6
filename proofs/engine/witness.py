"""Witnesses: values chosen for symbols, so that a relation can be shown at them as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy as sp

from proofs.engine.certificates import Certificate, Evidence, Identity, Meaning, has_value
from proofs.engine.values import admits


class Chosen(Meaning):
    """Chosen(symbol, value): the symbol stands for the value."""

    def _latex(self, printer: sp.printing.latex.LatexPrinter) -> str:
        symbol, value = self.args
        return f"{printer.doprint(symbol)} := {printer.doprint(value)}"


def chosen(values: Mapping[sp.Symbol, sp.Expr]) -> tuple[Chosen, ...]:
    """The values as hypotheses."""
    return tuple(Chosen(symbol, value) for symbol, value in values.items())


@dataclass(frozen=True)
class AtChosen:
    """The relation with chosen symbols replaced by their values.

    symbols: which, all by default. A value may hold symbols chosen before it; it divides by nothing
    that may vanish and is of the kind of its symbol (real, nonnegative, ...).
    """

    symbols: tuple[sp.Symbol, ...] | None = None
    by: Certificate = field(default_factory=Identity)

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        choices = [known.args for known in hypotheses if isinstance(known, Chosen)]
        names = [symbol for symbol, _ in choices]
        wanted = names if self.symbols is None else self.symbols
        if not wanted or not set(wanted) <= set(names) or len(set(names)) != len(names):
            return Evidence(False, "witness", "nothing is chosen, or a symbol twice")
        relations = [known for known in hypotheses if not isinstance(known, Meaning)]
        for number, (symbol, value) in enumerate(choices):
            if not isinstance(symbol, sp.Symbol) or value.free_symbols & set(names[number:]):
                return Evidence(False, "witness", f"{value} holds a symbol not chosen before it")
            if any(
                part.exp.is_negative and not part.base.is_nonzero for part in value.atoms(sp.Pow)
            ):
                return Evidence(False, "witness", f"{value} may divide by zero")
            if not admits(symbol, value, relations):
                return Evidence(False, "witness", f"{value} is not of the kind of {symbol}")

        def put(expression: sp.Basic) -> sp.Basic:
            for symbol, value in reversed(choices):
                if symbol in wanted:
                    expression = expression.subs(symbol, value)
            return expression

        others = [put(known) for known in relations]
        # before sympy cancels: what a side divides by must not vanish at the values
        for part in (*left.atoms(sp.Pow), *right.atoms(sp.Pow)):
            if part.exp.is_nonnegative or not part.base.free_symbols & set(wanted):
                continue
            divisor = put(part.base)
            above = sp.expand(sp.fraction(sp.together(divisor))[0])
            if not (divisor.is_nonzero or above.is_nonzero or has_value(1 / divisor, others)):
                return Evidence(False, "witness", f"{part} may not exist at the values")
        return self.by.certify(put(left), relation, put(right), others)
