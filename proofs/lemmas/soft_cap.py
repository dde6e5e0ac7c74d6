"""Soft-capped logits C tanh(a/C), C > 0: the cap never makes two logits differ more."""

from __future__ import annotations

import sympy as sp

from proofs.engine.balls import Balls
from proofs.engine.certificates import Solver
from proofs.engine.derivation import Derivation, Lemma, Link, Scaled
from proofs.engine.relations import le
from proofs.engine.sums import Cases
from proofs.lemmas.attention import Exponentials

low = sp.Symbol("y", real=True)
apart = sp.Symbol("d", nonnegative=True)
"""The smaller of two logits and their difference, both in units of the cap."""
cap = sp.Symbol("C", positive=True)

NEAR = Derivation(
    "twice the tangent of half a number, up to 2",
    2 * sp.tanh(apart / 2),
    (
        Link(
            "<=",
            apart,
            "the difference vanishes at 0 only, to third order",
            Balls(apart, sp.Integer(0), sp.Integer(2), zero_at_low=3),
        ),
    ),
    hypotheses=(le(apart, 2),),
)

FAR = Derivation(
    "twice the tangent of half a number, from 2 on",
    2 * sp.tanh(apart / 2),
    (
        Link("<=", sp.Integer(2), "a hyperbolic tangent is below 1", Exponentials(Solver())),
        Link("<=", apart, "as is given", Solver()),
    ),
    hypotheses=(le(2, apart),),
)

SOFT_CAP = Derivation(
    r"soft-capped logits $C\tanh(a/C)$ differ no more than the logits, $a = Cy$ and $C(y + d)$",
    cap * sp.Abs(sp.tanh(low + apart) - sp.tanh(low)),
    (
        Link(
            "=",
            cap * (sp.tanh(low + apart) - sp.tanh(low)),
            "the hyperbolic tangent increases",
            Scaled(cap, Exponentials(Solver())),
        ),
        Link(
            "<=",
            cap * 2 * sp.tanh(apart / 2),
            "the difference is largest where both logits are equally far from 0",
            Scaled(cap, Exponentials(Solver())),
        ),
        Link(
            "<=",
            cap * apart,
            r"$2\tanh(d/2) \le d$",
            Scaled(
                cap,
                Cases(
                    le(apart, 2),
                    Lemma(NEAR, {}),
                    Lemma(FAR, {}),
                ),
            ),
        ),
    ),
)
