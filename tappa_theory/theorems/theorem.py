"""What a theorem is: statement, hypotheses, published form and bound, in one object."""

from dataclasses import dataclass, field
from typing import Literal

import sympy as sp

from tappa_theory.shift_identity import BOUND, bound_at

PAPER = "TAPPA, Why Attention Patterns Exist, arXiv 2601.21709"


@dataclass(frozen=True)
class PublishedForm:
    """The claim as publicly summarised, and the reading of it that is checked on real heads.

    text: the claim in words and LaTeX. reading: how hidden quantifiers and constants are read.
    observed, bound: sympy expressions; the reading is violated where observed > bound. None where
    the summary gives nothing to compare.
    counted: what is counted, "pairs" (query, key) or "steps" (query step, channel).
    """

    text: str
    reading: str
    bound: sp.Expr | None = None
    observed: sp.Expr | None = None
    counted: Literal["pairs", "steps"] = "pairs"

    def __post_init__(self) -> None:
        if self.counted == "steps" and (self.observed is None or self.bound is None):
            raise ValueError("a form counted in steps needs both of its sides")


@dataclass(frozen=True)
class Theorem:
    """One theorem: what is claimed, what is published, and the bound that every room evaluates.

    id: its name in code, JSON, docs and figures. pattern_shift: the shift (s, u) of bound (B) that
    the pattern stands on, in the symbols of `parameters`, None where (B) is not used.
    bound: sympy expression, of one channel where pattern_shift is given.
    The verdict is not here: it is what `tappa prove` earns and writes into ledger.json.

    Raises ValueError if the bound is not (B) at the shift.
    """

    id: str
    title: str
    source: str
    statement: str
    hypotheses: tuple[str, ...]
    published: PublishedForm
    bound: sp.Expr
    pattern_shift: tuple[sp.Expr, sp.Expr] | None = None
    parameters: tuple[sp.Symbol, ...] = ()
    auxiliary: dict[str, sp.Expr] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.pattern_shift is None:
            return
        if sp.simplify(self.bound - bound_at(self.pattern_shift, BOUND)) != 0:
            raise ValueError(f"{self.id}: the bound is not (B) at the shift {self.pattern_shift}")

    @property
    def bound_latex(self) -> str:
        """LaTeX of the bound."""
        return sp.latex(self.bound)

    def shift(self, **values: int) -> tuple[int, int]:
        """The shift (s, u) as integers, its parameters (such as L or N) replaced by `values`.

        Raises ValueError for a theorem without a shift, KeyError for a missing parameter.
        """
        if self.pattern_shift is None:
            raise ValueError(f"{self.id} has no shift")
        replace = {symbol: values[symbol.name] for symbol in self.parameters}
        shift_s, shift_u = (int(sp.sympify(part).subs(replace)) for part in self.pattern_shift)
        return shift_s, shift_u
