"""1 + x <= exp(x) for every real x: what every step with exponentials or logarithms rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp

from proofs.engine.balls import Balls
from proofs.engine.certificates import Evidence, Solver
from proofs.engine.claims import Conclusion
from proofs.engine.derivation import Derivation, Link
from proofs.engine.relations import le
from proofs.engine.sums import real

x = sp.Symbol("x", real=True)
half = sp.Symbol("h", positive=True)

_BASES = tuple(
    Derivation(
        f"the exponential is above its tangent, {words}",
        1 + x,
        (Link("<=", sp.exp(x), "balls; both sides and slopes agree at 0", balls),),
        hypotheses=(le(low, x), le(x, high)),
    )
    for words, low, high, balls in (
        ("from 0 to 1", 0, 1, Balls(x, sp.Integer(0), sp.Integer(1), zero_at_low=2)),
        ("from -1 to 0", -1, 0, Balls(x, sp.Integer(-1), sp.Integer(0), zero_at_high=2)),
    )
)

_TWICE = Derivation(
    "the exponential is above its tangent at x if it is at x/2, h = exp(x/2)",
    1 + x,
    (
        Link("<=", (1 + x / 2) ** 2, "a square is added", Solver()),
        Link("<=", half**2, r"$0 \le 1 + x/2 \le h$", Solver()),
    ),
    hypotheses=(le(1 + x / 2, half), le(-2, x)),
)

_BELOW = Derivation(
    "left of -1 the tangent is not positive",
    1 + x,
    (Link("<=", half, "the exponential is positive", Solver()),),
    hypotheses=(le(x, -1),),
)

_STRICT = Derivation(
    "away from 0 the tangent is strictly below, h = exp(x/2)",
    1 + x,
    (
        Link("<", (1 + x / 2) ** 2, r"$x^2 > 0$", Solver()),
        Link("<=", half**2, r"$0 \le 1 + x/2 \le h$", Solver()),
    ),
    hypotheses=(le(1 + x / 2, half), le(-2, x), sp.Ne(x, 0)),
)

TANGENT = (*_BASES, _TWICE, _BELOW, _STRICT)

EVERY_NUMBER = Conclusion(
    r"$1 + x \le e^x$ for every real $x$, equal at 0 only",
    "induction: it holds on $[-1, 1]$, with $[-m, m]$ also on $[-2m, 2m]$ for $m \\ge 1$, and every"
    " real number lies in one of these.",
)


@dataclass(frozen=True)
class AboveTangent:
    """weight * (1 + x) <= weight * exp(x), x the exponent; strict where it cannot be 0.

    weight: a positive quantity.
    """

    exponent: sp.Expr
    weight: sp.Expr = sp.S.One

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        if relation not in ("<", "<=") or not all(part.ok for part in TANGENT):
            return Evidence(False, "lemma", "a tangent gives <= or <, if it is certified")
        if not self.weight.is_positive or not real(self.exponent, hypotheses):
            return Evidence(False, "lemma", "a weight that may be 0, or an exponent not real")
        if sp.expand(left - self.weight * (1 + self.exponent)) != 0:
            return Evidence(False, "lemma", f"{left} is not 1 + {self.exponent}")
        if sp.expand(right - self.weight * sp.exp(self.exponent)) != 0:
            return Evidence(False, "lemma", f"{right} is not exp({self.exponent})")
        if relation == "<" and not self.exponent.is_nonzero:
            return Evidence(False, "lemma", f"{self.exponent} may be 0")
        return Evidence(True, "lemma", "1 + x <= exp(x)")
