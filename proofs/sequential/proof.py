"""Theorem 5.2: the diagonal, its constant, and the exact supremum under global norms and steps.

At the shift (s, s) the turn of RoPE cancels: only the drift of query and key is left. For whole
heads X stands for the change of the logit, D_1 and D_2 for the sums over channels that the two
drifts leave.
"""

from __future__ import annotations

import sympy as sp

from proofs.engine.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.engine.instances import exact
from proofs.lemmas.finite import CAUCHY_SCHWARZ_SUM, FINITE_SUM
from proofs.sequential.attacks import ATTACKS
from proofs.sequential.attained import (
    ATTAINED_LARGE,
    ATTAINED_SMALL,
    BEST,
    STEP_OF_KEY_LARGE,
    STEP_OF_KEY_SMALL,
    STEP_OF_QUERY,
    at_unit,
    norms_and_steps,
    replay,
)
from proofs.sequential.diagonal import (
    AFTER_ROPE,
    CANCELS,
    CHANGES_SUM,
    DIAGONAL_SHARP,
    NO_TURN,
    ONE_STEP,
    PAIR,
    PAIR_SHARP,
    PAIR_SHARP_STEPS,
    PAIR_SHARP_SUM,
    SEVERAL,
    SEVERAL_DRIFTS,
)
from proofs.sequential.supremum import (
    HALF_SUMS,
    LARGE_STEPS,
    NEVER_REACHED,
    PARALLELOGRAM,
    SMALL_STEPS,
    TURN_ON,
)
from proofs.shift_bound.proof import CHANNEL
from tappa_theory.theorems.sequential import SUPREMUM, THEOREM

PAIR_NAMES = (
    r" Here query_norm is $\|q_t\|$, key_norm_u $\|k_{i+1}\|$, query_step $\|q_{t+1} - q_t\|$ and"
    r" key_step $\|k_{i+1} - k_i\|$; $\lambda$ is one number for all channels, and X is"
    r" $a_{t+1,i+1} - a_{t,i}$."
)
HEAD_NAMES = (
    r" Here query_norm_max is Q and key_norm_max K, the largest norms; query_step and key_step are"
    r" $\varepsilon_q$ and $\varepsilon_k$; q, q' and k, k' are the norms of query and key before"
    r" and after, x and y those of the half steps $\Delta q/2$ and $\Delta k/2$, p and m those of"
    r" the half sums. Over channels, $D_1 = \sum|\Delta z/2||(w + w')/2|$, $D_2 = \sum|(z +"
    r" z')/2||\Delta w/2|$, and X is $a_{t+1,i+1} - a_{t,i}$; $\lambda$ is one number for all"
    r" channels."
)

PROOF = Proof(
    THEOREM,
    claims=(
        Claim(
            "one_step",
            "bound",
            "$|a_{t+1,i+1} - a_{t,i}| \\le$ (B) at (1, 1), summed over channels: RoPE cancels"
            " exactly, drift is all that is left.",
            derivations=(CANCELS, CHANNEL, ONE_STEP, NO_TURN, FINITE_SUM),
        ),
        Claim(
            "several_steps",
            "bound",
            "The same at $(s, s)$ for every whole $s$, with the drifts over $s$ positions, each at"
            " most the sum of the $|s|$ single drifts between.",
            derivations=(CANCELS, CHANNEL, SEVERAL, NO_TURN, SEVERAL_DRIFTS, FINITE_SUM),
        ),
        Claim(
            "after_rope",
            "bound",
            "The same bound with drifts measured between the vectors after RoPE.",
            derivations=(CHANNEL, AFTER_ROPE, FINITE_SUM),
        ),
        Claim(
            "constant",
            "bound",
            r"Per pair, $|a_{t+1,i+1} - a_{t,i}| \le C\varepsilon$ with"
            r" $C = \lambda(\|k_{i+1}\| + \|q_t\|)$ and $\varepsilon$ the larger of the two steps;"
            " it follows from (B)." + PAIR_NAMES,
            derivations=(CANCELS, ONE_STEP, CHANGES_SUM, CAUCHY_SCHWARZ_SUM, PAIR),
        ),
        Claim(
            "global_constant",
            "bound",
            r"Norms at most $Q, K > 0$, steps at most $\varepsilon > 0$:"
            r" $|a_{t+1,i+1} - a_{t,i}| < \lambda(Q + K)\varepsilon$, never equal." + HEAD_NAMES,
            derivations=(
                CANCELS,
                HALF_SUMS,
                CHANGES_SUM,
                CAUCHY_SCHWARZ_SUM,
                PARALLELOGRAM,
                NEVER_REACHED,
            ),
        ),
        Claim(
            "supremum",
            "bound",
            r"Norms at most $Q, K > 0$, steps at most $\varepsilon_q, \varepsilon_k$:"
            r" $|a_{t+1,i+1} - a_{t,i}| \le 2\lambda QK\sin\min(\pi/2, A + B)$ with"
            r" $A = \arcsin\min(1, \varepsilon_q/2Q)$, $B = \arcsin\min(1, \varepsilon_k/2K)$."
            " The same at $(s, s)$, with the steps over s positions." + HEAD_NAMES,
            derivations=(
                CANCELS,
                HALF_SUMS,
                CHANGES_SUM,
                CAUCHY_SCHWARZ_SUM,
                PARALLELOGRAM,
                TURN_ON,
                SMALL_STEPS,
                LARGE_STEPS,
            ),
            conclusions=(
                Conclusion(
                    "A and B stand for the two arcsines.",
                    "Definition of the arcsine: the angle in $[-\\pi/2, \\pi/2]$ of that sine; of"
                    " a number in $[0, 1]$ it is not negative.",
                ),
            ),
        ),
        Claim(
            "supremum_attained",
            "sharpness",
            "The supremum is attained, for all $Q, K$ and steps, every head size and pair: it is"
            " the exact supremum." + HEAD_NAMES,
            derivations=(
                CANCELS,
                ATTAINED_SMALL,
                ATTAINED_LARGE,
                STEP_OF_QUERY,
                STEP_OF_KEY_SMALL,
                STEP_OF_KEY_LARGE,
            ),
            instances=(
                Exact(
                    r"norms, steps and $\lambda$ all 1: the registry's expression is attained",
                    exact(SUPREMUM, **norms_and_steps(1, 1)),
                    "=",
                    at_unit(sp.pi / 6),
                    replay=lambda: replay(1),
                ),
                Exact(
                    "steps 2, from antipode to antipode",
                    exact(SUPREMUM, **norms_and_steps(1, 2)),
                    "=",
                    at_unit(sp.pi / 4),
                ),
            ),
            witness=(
                r"one channel: $\tilde q$ turns from $-\pi/2 - A$ to $-\pi/2 + A$ and $\tilde k$"
                r" from $B$ to $-B$ seen from one place, norms Q and K; where"
                r" $A + B > \pi/2$, B replaced by $\pi/2 - A$; all other channels 0"
            ),
            ratio="1",
        ),
        Claim(
            "constant_attained",
            "sharpness",
            r"C of a pair is attained for every $q_t \ne 0$, $k_{i+1} \ne 0$ and"
            r" $\varepsilon > 0$: no constant free of the norms exists." + PAIR_NAMES,
            derivations=(CANCELS, PAIR_SHARP, *PAIR_SHARP_STEPS, PAIR_SHARP_SUM),
            witness=(
                r"$\Delta q = \varepsilon\,k_{i+1}/\|k_{i+1}\|$ and"
                r" $\Delta k = \varepsilon\,q_t/\|q_t\|$, as seen after RoPE"
            ),
            ratio="1",
        ),
        Claim(
            "global_constant_best",
            "sharpness",
            r"For given $Q, K > 0$, $\lambda(Q + K)$ is the smallest constant for all pairs that is"
            r" free of $\varepsilon$, and is not attained: for steps up to $\varepsilon$ where"
            r" $A + B \le \pi/2$, the supremum, divided by $\varepsilon$, is at least"
            r" $\lambda(Q + K)(1 - (\varepsilon/2\min(Q, K))^2)$." + HEAD_NAMES,
            derivations=(BEST, NEVER_REACHED),
            conclusions=(
                Conclusion(
                    "No smaller constant serves all steps.",
                    r"Limit $\varepsilon \to 0$ of $1 - (\varepsilon/2\min(Q, K))^2$, which is 1.",
                ),
            ),
            witness="the witness of the supremum with both steps equal, towards 0",
            ratio="-> 1",
        ),
        Claim(
            "diagonal_sharp",
            "sharpness",
            "(B) at $(s, s)$ is attained on all channels at once, with any drifts $\\beta, \\gamma"
            " \\ge 0$.",
            derivations=(CANCELS, DIAGONAL_SHARP),
            witness=(
                r"$z_t$ a positive multiple of $e^{-\mathrm i(t-i)\theta}w_i$,"
                r" $z_{t+s} = (1 + \gamma)z_t$, $w_{i+s} = (1 + \beta)w_i$"
            ),
            ratio="1",
        ),
    ),
    readings=(
        Reading(
            r"C may depend on the pair: $C = \lambda(\|k_{i+1}\| + \|q_t\|)$, steps before RoPE",
            "holds",
            ("constant", "constant_attained"),
            "C grows with the norms and must: it is attained for all of them.",
        ),
        Reading(
            "the same with steps measured after RoPE",
            "holds",
            ("after_rope", "constant"),
            "RoPE keeps norms, and a logit is the inner product of the vectors after it.",
        ),
        Reading(
            r"one C for a head, free of t, i and $\varepsilon$, from its largest norms Q and K",
            "holds",
            ("global_constant", "global_constant_best", "supremum", "supremum_attained"),
            r"$\lambda(Q + K)$ is the best such C and is never reached; the exact supremum, divided"
            r" by $\varepsilon$, is below it for each $\varepsilon$.",
        ),
    ),
    attacks=ATTACKS,
    meaning=(
        "A diagonal persists as long as queries and keys hardly change before RoPE: RoPE itself"
        " costs nothing at equal shifts, whatever its frequencies. The bound grows with the norms,"
        " so a head with long queries or keys needs smaller steps for the same diagonal."
    ),
)
