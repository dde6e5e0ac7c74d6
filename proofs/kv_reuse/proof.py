"""KV reuse: what keys and values that were discarded once can still be worth later."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.attention_distance.attacks import masses
from proofs.attention_distance.rows import MASS_GROWS_WITH_MASS, MASS_GROWS_WITH_OMEGA
from proofs.attention_distance.shifts import BOTH_CHANGES, RE_ACCESS
from proofs.engine.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.kv_reuse.attacks import ATTACKS
from proofs.kv_reuse.rows import (
    ATTAINED_IN_ROW,
    ATTAINED_OUTPUT,
    ERROR_ATTAINED,
    ERROR_FROM_BOUND,
    ERROR_WITH_NEW_KEY,
    FROM_KEPT,
    IN_ROW,
    KEPT_AVERAGE,
    LATER,
    MASS_FROM_BOUND,
    NEW_KEYS,
    OUTPUT,
    OUTPUT_CHANGE,
    WEIGHTED_ERROR,
)
from proofs.lemmas.attention import BOUNDS_ADD_UP, FACTOR, FACTORS, MIXTURE, ODDS
from proofs.lemmas.finite import FINITE_SUM
from tappa_theory.shift_identity import BOUND, lam, s, theta, u, w, w_u, z, z_s
from tappa_theory.theorems.attention_distance import MASS, MASS_LATER, OMEGA
from tappa_theory.theorems.kv_reuse import THEOREM


def _bound(steps: int, before: int, after: int, frequency: sp.Expr) -> sp.Expr:
    """(B) of one key of norm 1 at the shift (steps, 0)."""
    values = {z: before, z_s: after, w: 1, w_u: 1, lam: 1, s: steps, u: 0, theta: frequency}
    return BOUND.subs(values, simultaneous=True)


def _over_two_steps(first: int, second: int, third: int, frequency: sp.Expr) -> tuple[sp.Expr, ...]:
    """(B) over two steps at once, and summed over the two, for queries of one channel."""
    steps = _bound(1, first, second, frequency) + _bound(1, second, third, frequency)
    return _bound(2, first, third, frequency), steps


_TURNS_BACK = _over_two_steps(1, 1, 1, sp.pi)
_FADES = _over_two_steps(1, 0, 0, sp.pi / 3)


def _masses_that_swap() -> tuple[float, float]:
    logits = np.log(np.array([1.0, 9.0]))
    return float(masses(logits[::-1])[0]), float(masses(logits)[0])


PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="mass",
            kind="bound",
            statement=(
                r"Keys $E$ of mass $\varepsilon$ among the common keys at $t$ have at $t + \tau$"
                r" the mass $(1 - g)\,\varepsilon/(\varepsilon + (1 - \varepsilon)e^{-\omega})$ at"
                r" most, $g$ the mass of the keys after $t$: these only lower it, by what they"
                r" take. The bound grows with $\varepsilon$ and $\omega$, so that upper bounds of"
                r" both will do."
            ),
            derivations=(
                FACTOR,
                FACTORS,
                ODDS,
                NEW_KEYS,
                IN_ROW,
                LATER,
                MASS_GROWS_WITH_MASS,
                MASS_GROWS_WITH_OMEGA,
            ),
        ),
        Claim(
            id="output",
            kind="bound",
            statement=(
                r"The output without $E$, renormalised, is off by $\sum_{i \in E} P_i (v_i -"
                r" \hat o)$, and $v_i - \hat o$ is an average of $v_i - v_j$"
                r" over the kept $j$. So the error is at most the mass of $E$ times the largest"
                r" distance of a discarded from a kept value, in any norm."
            ),
            derivations=(
                OUTPUT_CHANGE,
                KEPT_AVERAGE,
                MIXTURE,
                FROM_KEPT,
                WEIGHTED_ERROR,
                OUTPUT,
            ),
        ),
        Claim(
            id="from_shift_bound",
            kind="bound",
            statement=(
                r"$2\max_i$ (B) at $(\tau, 0)$ over the common keys may stand for $\omega$."
            ),
            derivations=(*RE_ACCESS, FINITE_SUM, BOTH_CHANGES, MASS_FROM_BOUND, ERROR_FROM_BOUND),
        ),
        Claim(
            id="steps",
            kind="bound",
            statement=(
                r"So may the sum of the oscillations, or of $2\max_i$ (B), of the $\tau$ steps"
                r" between, each over the keys common to both ends; the smaller of the two"
                r" counts, and either can be the smaller."
            ),
            derivations=(BOUNDS_ADD_UP,),
            instances=(
                Exact(
                    r"a query that turns back: $\theta = \pi$, two steps at once against two",
                    _TURNS_BACK[0],
                    "<",
                    _TURNS_BACK[1],
                ),
                Exact(
                    r"a query that fades, 1, 0, 0, $\theta = \pi/3$: two steps against both at"
                    " once",
                    _FADES[1],
                    "<",
                    _FADES[0],
                ),
            ),
            conclusions=(
                Conclusion(
                    "the sum over the steps bounds the oscillation over all of them",
                    "a difference over many steps is the sum of the differences of the steps"
                    " (telescoping sum)",
                ),
            ),
        ),
        Claim(
            id="sharp",
            kind="sharpness",
            statement=(
                r"The mass is attained for every $\varepsilon$, $\omega$ and $g$: with one logit"
                r" change for all of $E$ and one, smaller by $\omega$, for the other old keys. The"
                r" error is the mass times the distance of the values if all discarded values"
                r" agree and all kept ones do. So without new keys it is its bound, at every"
                r" $\varepsilon < 1$, $\omega$ and distance; with new keys, which a causal softmax"
                r" row always has, $1 - g$ of it can be reached for every $g$."
            ),
            derivations=(ATTAINED_IN_ROW, ATTAINED_OUTPUT, ERROR_ATTAINED, ERROR_WITH_NEW_KEY),
            witness=(
                r"two old keys of masses $\varepsilon$, $1 - \varepsilon$ with $\Delta a_E = \Delta"
                r" a_K + \omega$, new keys with the value of the kept one; on a head as in"
                r" attention_distance"
            ),
            ratio="1; of the error 1 - g with new keys of mass g",
        ),
        Claim(
            id="small_mass_is_not_enough",
            kind="counterexample",
            statement=(
                r"Little attention at $t$ alone allows nothing: with no bound of $\omega$ a mass"
                r" of 1/10 becomes 9/10 when two logits swap ($e^\omega = 81$), and that is the"
                r" bound."
            ),
            instances=(
                Exact(
                    "the mass before and after",
                    sp.Rational(1, 10),
                    "<",
                    sp.Rational(9, 10),
                    replay=_masses_that_swap,
                ),
                Exact(
                    "the bound there",
                    MASS_LATER.subs({MASS: sp.Rational(1, 10), OMEGA: sp.log(81)}),
                    "=",
                    sp.Rational(9, 10),
                ),
            ),
        ),
    ),
    readings=(
        Reading(
            "one head and one step of decoding, any set of discarded keys, any values and norm",
            "holds",
            ("mass", "output", "from_shift_bound", "sharp"),
            "later layers see the error as a change of their input, which is not bounded here",
        ),
    ),
    attacks=ATTACKS,
    meaning=(
        "A key may be evicted when its mass now and the oscillation until later are both small:"
        " the odds of what is left out grow by e^omega at most, and the output is off by that mass"
        " times how far the discarded values are from the kept ones."
    ),
)
