"""Proposition 4.1: stable logits without similar queries, and the other way round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim, Exact
from proofs.engine.derivation import Derivation, Link
from proofs.engine.instances import exact, spelled
from proofs.engine.witness import AtChosen, chosen
from proofs.proposition_4_1.attacks import after_rope, cosine
from proofs.proposition_4_1.two_sided import AHEAD, ONE_STEP
from tappa_theory.shift_identity import LOGIT, SHIFTED_LOGIT, theta, w, z, z_s
from tappa_theory.theorems.proposition_4_1 import TURNED_SQUARED

z_2, z_s2, w_2 = sp.symbols("z_2 z'_2 w_2", complex=True)
theta_2 = sp.Symbol("theta_2", nonnegative=True)
_SECOND = {z: z_2, z_s: z_s2, w: w_2, theta: theta_2}
_BACK = {z_s: sp.conjugate(AHEAD) * z}

SILENT_CHANNEL = Derivation(
    "keys that vanish on a channel: whatever the query does there, no logit changes",
    ONE_STEP + ONE_STEP.subs(_SECOND, simultaneous=True),
    (
        Link(
            "=",
            sp.Integer(0),
            "the first channel turns with RoPE, the second meets no key",
            AtChosen(),
        ),
    ),
    hypotheses=chosen({**_BACK, w_2: sp.Integer(0)}),
)


class Flip:
    """The query flips its sign on the silent channel, before RoPE or after it."""

    def __init__(self, before: bool) -> None:
        self.words = f"{'before' if before else 'after'} RoPE"
        turns = [sp.Integer(1)] * 2 if before else [AHEAD, AHEAD.subs(theta, theta_2)]
        self.first = turns[0]
        self.second = turns[1]
        self.at = chosen({**_BACK, z_s2: -sp.conjugate(self.second) * z_2})
        self.cosine = sp.cos(theta) if before else sp.Integer(1)
        energy = sp.Abs(z) ** 2 + sp.Abs(z_2) ** 2
        self.similarity = (self.cosine * sp.Abs(z) ** 2 - sp.Abs(z_2) ** 2) / energy
        """Cosine of the two queries."""
        self.derivations = (
            Derivation(
                f"inner product of the two queries {self.words}",
                sp.re(self.first * z_s * sp.conjugate(z), evaluate=False)
                + sp.re(self.second * z_s2 * sp.conjugate(z_2), evaluate=False),
                (
                    Link(
                        "=",
                        self.similarity * energy,
                        "the second channel counts negative",
                        AtChosen(),
                    ),
                ),
                hypotheses=self.at,
            ),
            Derivation(
                f"both queries are equally long, the flip {self.words}",
                sp.Abs(z_s) ** 2 + sp.Abs(z_s2) ** 2,
                (Link("=", energy, "a turn and a sign keep the length", AtChosen()),),
                hypotheses=self.at,
            ),
            Derivation(
                f"the cosine {self.words} tends to -1 as the silent channel grows",
                self.similarity + 1,
                (
                    Link(
                        "=",
                        sp.Abs(z) ** 2 * (1 + self.cosine) / energy,
                        "the first channel's share",
                        Identity(),
                    ),
                ),
                hypotheses=(sp.Gt(sp.Abs(z), 0, evaluate=False),),
            ),
            Derivation(
                f"the query step {self.words} on that channel",
                sp.Abs(self.second * z_s2 - z_2),
                (Link("=", 2 * sp.Abs(z_2), "a vector and its opposite", AtChosen()),),
                hypotheses=self.at[1:],
            ),
        )


BEFORE, AFTER = Flip(True), Flip(False)

c_1, c_2 = sp.symbols("c_1 c_2", real=True)
size = sp.Symbol("X", nonnegative=True)
NO_CONSTANTS = Derivation(
    "whatever the constants, a long enough step X asks for a change",
    sp.Integer(0),
    (Link("<", c_1 * size - c_2, r"$c_1X = |c_2| + 1$", Solver()),),
    hypotheses=(sp.Eq(c_1 * size, sp.Abs(c_2) + 1, evaluate=False),),
)

WITH_ROPE = Derivation(
    "a query that turns back exactly as RoPE turns it: no logit changes",
    ONE_STEP,
    (Link("=", sp.Integer(0), "the turns cancel", AtChosen()),),
    hypotheses=chosen(_BACK),
)

WITH_ROPE_STEP = Derivation(
    "and yet it steps by the turn, so that the lower side before RoPE is 0 with it",
    sp.Abs(z_s - z) ** 2,
    (Link("=", TURNED_SQUARED, "a chord", AtChosen()),),
    hypotheses=chosen(_BACK),
)

TENFOLD = Derivation(
    "ten times the query, turned back by RoPE's step: cosine 1 after RoPE, ten times the logit",
    ONE_STEP,
    (Link("=", 9 * LOGIT, "one tenfold logit less one", AtChosen()),),
    hypotheses=chosen({z_s: 10 * sp.conjugate(AHEAD) * z}),
)

TENFOLD_COSINE = Derivation(
    "its inner product with the query is the product of the norms, after RoPE",
    sp.re(AHEAD * z_s * sp.conjugate(z), evaluate=False),
    (Link("=", sp.Abs(z_s) * sp.Abs(z), "a positive multiple", AtChosen()),),
    hypotheses=chosen({z_s: 10 * sp.conjugate(AHEAD) * z}),
)

GENUINE = np.array([1.0, 0.01])
"""RoPE of head size 4 with base 10,000."""
_SILENT = {
    z: sp.Integer(1),
    z_2: sp.Integer(10),
    theta: sp.Integer(1),
    theta_2: sp.Rational(1, 100),
}


def _replay_flip(flip: Flip, limit: float) -> Callable[[], tuple[float, float]]:
    def replay() -> tuple[float, float]:
        position = 7
        old = np.array([1.0 + 0j, 10.0])
        turn = 1.0 if flip is BEFORE else np.exp(-0.01j)
        new = np.array([np.exp(-1j), -10.0 * turn])
        moved = after_rope(new, position + 1, GENUINE), after_rope(old, position, GENUINE)
        change = max(
            abs(float((moved[0] - moved[1]) @ after_rope(np.array([k, 0.0]), 3, GENUINE)))
            for k in (1.0, 2j, -0.5 + 1j)
        )
        if change > 1e-13:
            return np.inf, np.inf
        if flip is AFTER:
            return limit, cosine(*moved)
        return limit, cosine(after_rope(new, 0, GENUINE), after_rope(old, 0, GENUINE))

    return replay


def _silent(flip: Flip) -> Exact:
    limit = sp.Rational(-98, 100)
    return Exact(
        "head size 4, base 10,000, the silent channel 10 times the other: the cosine"
        f" {flip.words} is below -0.98",
        flip.similarity.subs(_SILENT),
        "<",
        limit,
        _replay_flip(flip, float(limit)),
    )


_ROW = {"lambda": sp.Integer(1), "theta": sp.Integer(1), "s": sp.Integer(1), "u": sp.Integer(0)}
_ROW |= {"t": sp.Integer(1)}


def _logits(later: bool, query: sp.Expr, keys: tuple[sp.Expr, ...]) -> list[sp.Expr]:
    """Logits of a query, given after RoPE, on keys 0, 1, ..., given after RoPE."""
    ahead = [sp.exp(-sp.I * place) for place in range(3)]
    return [
        exact(
            SHIFTED_LOGIT if later else LOGIT,
            **_ROW,
            i=place,
            **dict.fromkeys(("z", "z_s"), query * ahead[2 if later else 1]),
            **dict.fromkeys(("w", "w_u"), key * ahead[place]),
        )
        for place, key in enumerate(keys)
    ]


def _attention(logits: list[sp.Expr]) -> sp.Expr:
    """Softmax weight of the first of two keys."""
    return 1 / (1 + sp.exp(logits[1] - logits[0]))


def _replay_tenfold() -> tuple[float, float]:
    def row(query: float) -> np.ndarray:
        weights = np.exp(query * np.array([0.25, -0.25]))
        return weights / weights.sum()

    return 0.5 * float(np.abs(row(10.0) - row(1.0)).sum()), 1 / 3


_QUARTERS = sp.Rational(1, 4), sp.Rational(-1, 4)
_UP, _DOWN = 20 + sp.I, 20 - sp.I
"""Two queries, nearly along the real axis."""
_AXES = sp.I, -sp.I
_UNIT_KEY = {"z": 1, "z_s": 1, "lambda": 1, "theta": 1, "s": 1, "u": 0, "t": 0, "i": 0}
_UNIT_KEY |= dict.fromkeys(("w", "w_u"), sp.I * sp.exp(sp.I / 2))

CLAIMS = (
    Claim(
        id="not_necessary",
        kind="counterexample",
        statement=(
            "Stable logits without similar queries: the keys vanish on a channel in which the"
            " query flips its sign at every step, and on the other channel the query turns"
            " back as RoPE turns it. No logit ever changes, whatever the frequencies. With the"
            " flip before RoPE the cosine before RoPE tends to $-1$ as the silent channel grows,"
            r" with the flip after RoPE, $z_2' = -e^{-\mathrm i\theta_2}z_2$, the one after RoPE;"
            " and the step, there, is twice the silent channel."
        ),
        derivations=(
            SILENT_CHANNEL,
            *BEFORE.derivations,
            *AFTER.derivations,
            NO_CONSTANTS,
        ),
        instances=(_silent(BEFORE), _silent(AFTER)),
        witness=(
            r"$z_t^1 = e^{-\mathrm it\theta_1}$, $w_i^2 = 0$, and $z_t^2 = (-1)^t X$ or $z_t^2 ="
            r" (-1)^t e^{-\mathrm it\theta_2}X$"
        ),
    ),
    Claim(
        id="query_in_c2",
        kind="counterexample",
        statement=(
            "$c_2$ must depend on the query wherever RoPE turns a channel, $\\theta$ no multiple of"
            r" $2\pi$: a query that turns back exactly as RoPE turns it"
            r" changes no logit, for any keys, and steps by $2|\sin(\theta/2)||z|$, which grows"
            " with the query beyond every constant. There the lower side before RoPE is 0, as"
            " is what it bounds."
        ),
        derivations=(WITH_ROPE, WITH_ROPE_STEP, NO_CONSTANTS),
        witness=r"$z_{t+1} = e^{-\mathrm i\theta}z_t$",
    ),
    Claim(
        id="not_sufficient",
        kind="counterexample",
        statement=(
            "A cosine of 1 allows any change: ten times the query means ten times the logit."
            " And a cosine of 1 before RoPE allows the turn, also at equal norms. The tenfold query"
            " keeps its top key; a cosine near 1 does not: two opposite keys and two queries nearly"
            " at right angles to them, one on either side."
        ),
        derivations=(TENFOLD, TENFOLD_COSINE),
        instances=(
            Exact(
                "two keys with logits 1/4 and -1/4, and the tenfold query: the attention moves by"
                " more than 1/3 in total variation",
                sp.Rational(1, 3),
                "<",
                _attention(_logits(True, sp.Integer(10), _QUARTERS))
                - _attention(_logits(False, sp.Integer(1), _QUARTERS)),
                _replay_tenfold,
            ),
            Exact(
                r"the same query before RoPE, $\theta = 1$, a unit key: the logit changes by"
                r" $2\sin(1/2)$",
                spelled(SHIFTED_LOGIT - LOGIT, **_UNIT_KEY),
                "=",
                2 * sp.sin(sp.Rational(1, 2)),
            ),
            Exact(
                r"queries $20 + \mathrm i$ and $20 - \mathrm i$ after RoPE have a cosine above"
                " 0.995",
                sp.Rational(995, 1000),
                "<",
                sp.re(_DOWN * sp.conjugate(_UP)) / (sp.Abs(_DOWN) * sp.Abs(_UP)),
            ),
            Exact(
                r"keys $\mathrm i$ and $-\mathrm i$ after RoPE: the first one is ahead",
                _logits(False, _UP, _AXES)[1],
                "<",
                _logits(False, _UP, _AXES)[0],
            ),
            Exact(
                "and a step later the second one",
                _logits(True, _DOWN, _AXES)[0],
                "<",
                _logits(True, _DOWN, _AXES)[1],
            ),
        ),
        witness=r"$q_{t+1} = 10\,q_t$; $\tilde q = 20 \pm \mathrm i$",
    ),
)
