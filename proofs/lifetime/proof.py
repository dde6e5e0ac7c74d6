"""Lifetime: how long the same keys stay on top, and what it takes to overtake them."""

from __future__ import annotations

from proofs.engine.claims import Claim, Conclusion, Proof, Reading
from proofs.lemmas.finite import (
    CAUCHY_SCHWARZ,
    CAUCHY_SCHWARZ_SUM,
    FINITE_SUM,
)
from proofs.lifetime.angle import (
    ACROSS_CAUCHY,
    ACROSS_D,
    ACROSS_P,
    ACROSS_PRODUCT,
    LARGEST_TURN,
    LATER_LEAD,
    LONGER_QUERY,
    NORMS_IMPLY,
    SHARP_LEAD,
    SHARP_TURN,
    SINE_POSITIVE,
    STAYS_AHEAD,
)
from proofs.lifetime.attacks import ATTACKS
from proofs.lifetime.bounds import (
    CHANGE,
    MOVES_ADD,
    NORMS,
    NORMS_WEAKER,
    NOT_OVERTAKEN,
    ONE_STEP,
    OVERTAKING,
    STAYS,
    STEPS,
    TOP_K,
    TWICE_THE_BOUND,
)
from proofs.lifetime.sharpness import (
    COMES_BACK,
    NEW_AND_STRONGER,
    OPPOSITE_BOUND,
    OPPOSITE_KEYS,
    RUNNER_UP_SAFE,
    SHARP_EACH_STEP,
    SHARP_GAP,
    SHARP_LEFT,
    SHARP_MARGIN,
    SHARP_NEW_KEY,
    SHARP_NORMS,
    SHARP_STEPS,
    SHARP_TOP_K,
    THIRD_BEHIND,
    THIRD_OVERTAKES,
    WAS_AWAY,
)
from proofs.shift_bound.proof import SHARP
from tappa_theory.theorems.lifetime import (
    THEOREM,
)

PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="margin",
            kind="bound",
            statement=(
                "Summed over channels, the right-hand side of the theorem bounds the change of the"
                " margin $a_{t,j} - a_{t,i}$ of two keys that both steps see, for every $s$. So"
                " key $j$ is ahead of key $i$ at $t + s$ if the bound is below the margin at $t$."
                " If that holds of every rival $i$, then $j$ is on top of the keys of $t$ at"
                " $t + s$; if it holds at every $s' \\le s$, then $j$ was on top throughout."
            ),
            derivations=(CHANGE, FINITE_SUM, STAYS),
        ),
        Claim(
            id="by_norms",
            kind="bound",
            statement=(
                r"With whole vectors after RoPE: the margin changes by at most $\lambda"
                r"\|\tilde q_{t+s} - \tilde q_t\|\|\tilde k_j - \tilde k_i\|$, which is never less"
                " than the sum over channels."
            ),
            derivations=(CAUCHY_SCHWARZ, NORMS, CAUCHY_SCHWARZ_SUM, NORMS_WEAKER),
        ),
        Claim(
            id="by_angle",
            kind="bound",
            statement=(
                r"The key on top depends on the direction of the query alone. Let $\beta ="
                r" \arcsin\frac{a_{t,j} - a_{t,i}}{\lambda\|\tilde q_t\|\|\tilde k_j -"
                r" \tilde k_i\|}$ (`by_angle`), with one scale $\lambda$ for all channels. At an"
                r" angle $\psi$ between $\tilde q_t$ and $\tilde q_{t+s}$ the margin is at least"
                r" $\lambda\|\tilde q_{t+s}\|\|\tilde k_j - \tilde k_i\|\sin(\beta - \psi)$: key"
                r" $j$ stays ahead of $i$ if $\psi < \beta$, and on top if $\psi <"
                r" \arcsin(r/\|\tilde q_t\|)$, $r$ the least $(a_{t,j} - a_{t,i})/(\lambda\|\tilde"
                r" k_j - \tilde k_i\|)$ over the rivals. Wherever the form by norms certifies, this"
                r" one does."
            ),
            derivations=(
                ACROSS_PRODUCT,
                ACROSS_P,
                ACROSS_D,
                ACROSS_CAUCHY,
                LATER_LEAD,
                SINE_POSITIVE,
                STAYS_AHEAD,
                LARGEST_TURN,
                NORMS_IMPLY,
            ),
            conclusions=(
                Conclusion(
                    r"a positive margin at $t$ is $\lambda\|\tilde q_t\|\|\tilde k_j - \tilde"
                    r" k_i\|\sin\beta$ for one $\beta$ in $(0, \pi/2]$, and $\langle\tilde q_t,"
                    r" \tilde q_{t+s}\rangle = \|\tilde q_t\|\|\tilde q_{t+s}\|\cos\psi$ for one"
                    r" $\psi$ in $[0, \pi]$, queries not 0",
                    "Cauchy-Schwarz, and the intermediate value theorem for sine and cosine, which"
                    " are monotone there",
                ),
                Conclusion(
                    r"the least $\beta$ is $\arcsin(r/\|\tilde q_t\|)$",
                    "the arcsine is increasing",
                ),
            ),
        ),
        Claim(
            id="by_steps",
            kind="bound",
            statement=(
                r"If no step moves a channel by more than $e$ after RoPE, $s$ steps cost at most $s"
                r" \lambda \sum_m e_m |\tilde w_j - \tilde w_i|$: key $j$ stays on top for every"
                r" $s$ at which this is below the margins. A step moves a channel by at most its"
                r" drift before RoPE and $2|\sin(\theta/2)||z|$."
            ),
            derivations=(MOVES_ADD, STEPS, ONE_STEP, FINITE_SUM, STAYS),
        ),
        Claim(
            id="new_key",
            kind="bound",
            statement=(
                r"A key $w'$ that came after $t$ is behind $j$ at $t + s$ if $a_{t,j} > \lambda"
                r" \sum_m (|z_{t+s}||w'| + |e^{\mathrm i s\theta}z_{t+s} - z_t||w_j|)$; this needs"
                " nothing but norms of the new key."
            ),
            derivations=(OVERTAKING, FINITE_SUM, NOT_OVERTAKEN),
        ),
        Claim(
            id="top_k",
            kind="bound",
            statement=(
                "Among the columns that row $t$ and, moved by $u$, row $t + s$ both see, the top-k"
                r" set of row $t + s$ is that of row $t$, moved by $u$, if the oscillation $\omega$"
                " of the logit changes is below the gap between the k-th and the (k+1)-th logit of"
                r" row $t$ among these columns. $\omega$ is at most twice the largest (B), and for"
                r" $u = 0$ at most the largest bound of a margin."
            ),
            derivations=(TOP_K, TWICE_THE_BOUND, CHANGE, FINITE_SUM),
        ),
        Claim(
            id="sharp",
            kind="sharpness",
            statement=(
                "The bound of the margin is attained on any number of channels at once, for all"
                r" keys, frequencies and $s$; there the margin at $t$ is any multiple $\rho/\nu$ of"
                r" the bound: at $\rho = \nu$ it ends in a tie, for $\rho < \nu$ the rival"
                " overtakes. So no factor below 1 before the bound will do. The forms by norms, by"
                " steps and for a new key are attained as well."
            ),
            derivations=(
                SHARP_MARGIN,
                SHARP_GAP,
                SHARP_LEFT,
                SHARP_NORMS,
                SHARP_STEPS,
                SHARP_EACH_STEP,
                SHARP_NEW_KEY,
            ),
            witness=(
                r"$\tilde z_t = (\rho + \mathrm i\kappa)(\tilde w_j - \tilde w_i)$, $\tilde z_{t+s}"
                r" = (\rho - \nu + \mathrm i\kappa)(\tilde w_j - \tilde w_i)$ on every channel; for"
                r" a new key, $\tilde z_t = (\rho + \nu)\tilde w_j$, $\tilde z_{t+s} ="
                r" \rho\tilde w_j$, $\tilde w' = \gamma\tilde w_j$"
            ),
            ratio="1",
        ),
        Claim(
            id="by_angle_sharp",
            kind="sharpness",
            statement=(
                r"A query that turns in the plane of $\tilde q_t$ and $\tilde k_j - \tilde k_i$"
                r" loses all that the angle allows, at all norms: a tie at $\psi = \beta$, beyond"
                " it the rival is ahead. So no larger angle will do."
            ),
            derivations=(SHARP_TURN, SHARP_LEAD),
            witness=(
                r"one channel: $\tilde q_t = \|\tilde q_t\|$, $\tilde q_{t+s} = \|\tilde"
                r" q_{t+s}\|e^{-\mathrm i\psi}$, $\tilde k_j - \tilde k_i = \|\tilde k_j - \tilde"
                r" k_i\|(\sin\beta + \mathrm i\cos\beta)$"
            ),
            ratio="1",
        ),
        Claim(
            id="norms_are_weaker",
            kind="counterexample",
            statement=(
                "The form by norms is strictly weaker: a query that becomes twice as long has"
                r" turned by nothing, but it has moved by its norm, and $\lambda\|\tilde q_t\|"
                r"\|\tilde k_j - \tilde k_i\|$ is never below the margin."
            ),
            derivations=(LONGER_QUERY,),
        ),
        Claim(
            id="top_k_sharp",
            kind="sharpness",
            statement=(
                r"$\omega$ equal to the gap can make a tie, and $\omega$ equal to twice the largest"
                " (B) occurs, at every shift: the keys $w$ and, anywhere, $-w$, with the witness"
                " that attains (B)."
            ),
            derivations=(SHARP_TOP_K, OPPOSITE_KEYS, OPPOSITE_BOUND, SHARP),
            witness=(
                r"$a_{in} = a_{out} + \omega$, $\Delta_{out} = \Delta_{in} + \omega$; opposite keys"
                " after RoPE, and the witness of the shift bound"
            ),
            ratio="1",
        ),
        Claim(
            id="runner_up",
            kind="counterexample",
            statement=(
                "To compare with the runner-up is not enough: a key that was third can overtake,"
                r" while the bound excludes it of the runner-up. One channel, any $\theta$: after"
                r" RoPE keys $1, \frac{9}{10}, 4\mathrm i$, query $1$, then $1 + \mathrm i/2$."
            ),
            derivations=(RUNNER_UP_SAFE, THIRD_BEHIND, THIRD_OVERTAKES),
        ),
        Claim(
            id="each_condition",
            kind="counterexample",
            statement=(
                "The condition at $s$ says nothing of the steps before (a query that goes away and"
                " comes back), and the keys of $t$ say nothing of a new key (one that is twice the"
                " key on top, and a query that does not move)."
            ),
            derivations=(COMES_BACK, WAS_AWAY, NEW_AND_STRONGER),
        ),
    ),
    readings=(
        Reading(
            "for all queries and keys, frequencies, head sizes and numbers of steps; a sliding"
            " window may drop rivals, but not the key itself",
            "holds",
            (
                "margin",
                "by_norms",
                "by_angle",
                "by_steps",
                "new_key",
                "top_k",
                "sharp",
                "by_angle_sharp",
                "top_k_sharp",
            ),
            "the runner-up alone, or the last step alone, decides nothing",
        ),
    ),
    attacks=ATTACKS,
    meaning=(
        "A column lasts while the query, after RoPE, stays closer to where it was than the key's"
        " lead divided by its distance to each rival. Keys that are close to one another may swap"
        " only if their logits are close too: what counts is the lead per distance, so the key"
        " that overtakes need not be the runner-up."
    ),
)
