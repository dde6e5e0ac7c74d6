"""What joins an angle with its sine and cosine, and terms whose angles are equal.

The sine increases on [-pi/2, pi/2] and the cosine decreases on [0, pi]: an inequality of angles in
that range is the inequality of their sines or cosines, and those are polynomials to a solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp

from proofs.engine.balls import Balls
from proofs.engine.certificates import Certificate, Evidence, Solver
from proofs.engine.derivation import Derivation, Link


@dataclass(frozen=True, eq=False)
class Arcsine:
    """angle <= n asin(x), or angle = n asin(x), because of the sines.

    x is N/D or min(1, N/D) with D > 0. sine: certifies D sin(angle/n) <= N (or =), or of the
    squares, D' sin(angle/n)^2 <= N' with x^2 = N'/D', where `squared`. The hypotheses must hold
    angle <= n pi/2; and angle >= 0 for an equality or squares.
    """

    sine: Certificate
    squared: bool = False

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        times, arc = right.as_coeff_Mul()
        if relation not in ("<=", "=") or not isinstance(arc, sp.asin) or not times.is_positive:
            return Evidence(False, "arcsine", f"{right} is not a multiple of an arcsine")
        if sp.Le(left, times * sp.pi / 2, evaluate=False) not in hypotheses:
            return Evidence(False, "arcsine", f"{left} <= {times * sp.pi / 2} is not given")
        if (relation == "=" or self.squared) and not _nonnegative(left, hypotheses):
            return Evidence(False, "arcsine", f"{left} >= 0 is not given")
        x, capped = arc.args[0], False
        if isinstance(x, sp.Min) and sp.Integer(1) in x.args and len(x.args) == 2:
            # a sine is at most 1 anyway
            x, capped = sp.Min(*(part for part in x.args if part != 1)), True
        if self.squared and not _is_root(x):
            return Evidence(False, "arcsine", f"{x} is not a square root")
        over, under = (x**2 if self.squared else x).as_numer_denom()
        if not self.squared and not over.is_nonnegative:
            return Evidence(False, "arcsine", f"{over} is not known to be >= 0")
        if not Solver().certify(sp.Integer(0), "<", under, hypotheses).ok:
            return Evidence(False, "arcsine", f"{under} > 0 is not given")
        sine = sp.sin(left / times)
        found = self.sine.certify(
            under * (sine**2 if self.squared else sine), relation, over, hypotheses
        )
        if not found.ok:
            return found
        if relation == "<=" and not capped:
            inside = Solver().certify(over, "<=", under, hypotheses)
            if not inside.ok:
                return Evidence(False, inside.engine, f"{x} may be above 1: {inside.detail}")
        return Evidence(True, found.engine, f"of the sines: {found.detail}")


@dataclass(frozen=True, eq=False)
class ByCosines:
    """left <= right (or <) in [0, pi], because cos(right) <= cos(left) (or <).

    A side must be a number, or have both of its limits among the hypotheses.
    """

    cosine: Certificate

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        if relation not in ("<=", "<"):
            return Evidence(False, "cosine", f"cosines do not certify {relation}")
        for side in (left, right):
            if side.is_number:
                inside = bool(sp.Ge(side, 0)) and bool(sp.Le(side, sp.pi))
            else:
                high = sp.Le(side, sp.pi, evaluate=False) in hypotheses
                inside = high and _nonnegative(side, hypotheses)
            if not inside:
                return Evidence(False, "cosine", f"{side} is not known to lie in [0, pi]")
        found = self.cosine.certify(sp.cos(right), relation, sp.cos(left), hypotheses)
        return Evidence(found.ok, found.engine, f"of the cosines: {found.detail}")


@dataclass(frozen=True, eq=False)
class Same:
    """Two terms are equal that differ only in `old` for `new`, because old = new."""

    old: sp.Expr
    new: sp.Expr
    by: Certificate

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        if relation != "=":
            return Evidence(False, "same", f"equal parts do not certify {relation}")
        put = {self.old: self.new}
        if not left.has(self.old) and not right.has(self.old):
            return Evidence(False, "same", f"{self.old} is in neither term")
        here, there = left.xreplace(put), right.xreplace(put)
        if here.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
            return Evidence(False, "same", f"{left} has no value where {self.old} = {self.new}")
        if here != there:
            return Evidence(False, "same", f"{left} and {right} differ in more than {self.old}")
        found = self.by.certify(self.old, "=", self.new, hypotheses)
        return Evidence(found.ok, found.engine, f"equal parts: {found.detail}")


def _nonnegative(expression: sp.Expr, hypotheses: Sequence[sp.Basic]) -> bool:
    given = (
        sp.Ge(expression, 0, evaluate=False),
        sp.Le(sp.Integer(0), expression, evaluate=False),
    )
    return bool(expression.is_nonnegative) or any(known in hypotheses for known in given)


def _is_root(expression: sp.Expr) -> bool:
    """At most one square root times factors positive by their symbols: >= 0 if it exists."""
    rest = [factor for factor in sp.Mul.make_args(expression) if not factor.is_positive]
    return len(rest) <= 1 and all(f.is_Pow and f.exp == sp.Rational(1, 2) for f in rest)


x = sp.Symbol("x", real=True)

SINE_NONNEGATIVE = Derivation(
    "a sine is not negative from 0 to pi",
    sp.Integer(0),
    (
        Link(
            "<=",
            sp.sin(x),
            "it vanishes at both ends with the slope 1 and -1",
            Balls(x, sp.Integer(0), sp.pi, zero_at_low=1, zero_at_high=1),
        ),
    ),
    hypotheses=(sp.Ge(x, 0, evaluate=False), sp.Le(x, sp.pi, evaluate=False)),
)

COSINE_NONNEGATIVE = Derivation(
    "a cosine is not negative up to pi/2",
    sp.Integer(0),
    (
        Link(
            "<=",
            sp.cos(x),
            "it vanishes at pi/2 with the slope -1",
            Balls(x, sp.Integer(0), sp.pi / 2, zero_at_high=1),
        ),
    ),
    hypotheses=(sp.Ge(x, 0, evaluate=False), sp.Le(x, sp.pi / 2, evaluate=False)),
)

COSINE_NOT_POSITIVE = Derivation(
    "a cosine is not positive from pi/2 to pi",
    sp.cos(x),
    (
        Link(
            "<=",
            sp.Integer(0),
            "it vanishes at pi/2 with the slope -1",
            Balls(x, sp.pi / 2, sp.pi, zero_at_low=1),
        ),
    ),
    hypotheses=(sp.Ge(x, sp.pi / 2, evaluate=False), sp.Le(x, sp.pi, evaluate=False)),
)

JORDAN = Derivation(
    "an arc is at most pi/2 times its chord",
    x,
    (
        Link(
            "<=",
            sp.pi * sp.sin(x / 2),
            "equal at 0 and at pi, where the difference has the slopes pi/2 - 1 and -1",
            Balls(x, sp.Integer(0), sp.pi, zero_at_low=1, zero_at_high=1),
        ),
    ),
    hypotheses=(sp.Ge(x, 0, evaluate=False), sp.Le(x, sp.pi, evaluate=False)),
)

ARC_OVER_CHORD = Derivation(
    "an arc is longer than its chord",
    2 * sp.sin(x / 2),
    (
        Link(
            "<",
            x,
            "the difference vanishes at 0 only, to third order",
            Balls(x, sp.Integer(0), sp.pi, zero_at_low=3),
        ),
    ),
    hypotheses=(sp.Gt(x, 0, evaluate=False), sp.Le(x, sp.pi, evaluate=False)),
)
