"""Attention distance: how far two softmax rows are apart, from the change of their logits."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.attention_distance.attacks import ATTACKS, capped_change, row_distance
from proofs.attention_distance.attained import (
    ATTAINED,
    MASS_ATTAINED,
    ON_HEAD,
    TURNING,
    TWO_KEYS,
)
from proofs.attention_distance.rows import (
    CASES,
    FARTHEST,
    GAIN,
    GROWS_WITH_GAINED,
    GROWS_WITH_LOST,
    GROWS_WITH_OMEGA,
    GROWTH,
    MASS_GROWS,
    MASS_GROWS_WITH_MASS,
    MASS_GROWS_WITH_OMEGA,
    ONLY_APPENDED,
    SAME,
    SET_GAINS,
)
from proofs.attention_distance.shifts import (
    BOTH_CHANGES,
    COLUMN,
    FROM_BOUND,
    KEPT,
    KEYS_APART,
    NEVER_WIDER,
    ONLY_GAINING,
    PERIODIC,
    RE_ACCESS,
    SAME_KEYS_FROM_BOUND,
    SEASONAL,
    SEASONAL_KEYS,
    SEQUENTIAL,
    STEP_OF_COLUMN,
)
from proofs.engine.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.lemmas.attention import FACTOR, FACTORS, ODDS, TOTAL_VARIATION
from proofs.lemmas.finite import FINITE_SUM
from proofs.shift_bound.proof import CHANNEL
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import BOUND, lam, s, theta, u, w, w_u, z, z_s
from tappa_theory.theorems.attention_distance import (
    COLUMN_OSCILLATION,
    KEY_DISTANCE,
    OMEGA,
    SAME_KEYS,
    THEOREM,
)

_ONE_STEP = {z: 1, z_s: 2, w: 1, w_u: 1, lam: 1, s: 1, u: 0, theta: 0}

PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="odds",
            kind="bound",
            statement=(
                r"Two rows over the same keys: the mass of a key changes by the factor $e^{\Delta"
                r" a_i} Z/Z'$, and the factors of two keys differ by $e^\omega$ at most. So the"
                r" odds of every set of keys change by a factor in $[e^{-\omega}, e^\omega]$ (the"
                r" set and the others in turn), and a mass $p$ becomes at most $p/(p + (1 - p)"
                r"e^{-\omega})$, which grows with $p$ and $\omega$."
            ),
            derivations=(
                FACTOR,
                FACTORS,
                ODDS,
                MASS_GROWS,
                MASS_GROWS_WITH_MASS,
                MASS_GROWS_WITH_OMEGA,
            ),
        ),
        Claim(
            id="excess",
            kind="bound",
            statement=(
                r"Rows that also gain keys of mass $g$ and lose keys of mass $l$: a set of common"
                r" keys gains no more mass than the excess, which with $\sigma = 1 - g$, $\rho = 1"
                r" - l$, $r = e^\omega$, $D = \sqrt{\sigma r/\rho}$ is 0 for $D \le 1$,"
                r" $\rho(D - 1)^2/(r - 1)$ for $1 \le D \le r$ and $\sigma - \rho$ for $D \ge r$."
            ),
            derivations=(ODDS, GAIN, SET_GAINS, *CASES),
        ),
        Claim(
            id="distance",
            kind="bound",
            statement=(
                r"$\mathrm{TV}(P, P') = \frac12\sum|P'_i - P_i|$ is what grows: the gained keys"
                r" and the common keys that gain. So it is at most $g$ and the excess. Over the"
                r" same keys that is $\tanh(\omega/4)$; if the later row only gains keys, $g +"
                r" (\sqrt{1 - g} - e^{-\omega/2})_+^2/(1 - e^{-\omega})$."
            ),
            derivations=(TOTAL_VARIATION, FARTHEST, SAME, ONLY_APPENDED),
        ),
        Claim(
            id="monotone",
            kind="bound",
            statement=(
                r"The bound grows with $g$, with $l$ and with $\omega$: upper bounds of the three"
                r" may be put for them. As $\omega \to 0$ it becomes $\max(g, l)$."
            ),
            derivations=(GROWTH, GROWS_WITH_GAINED, GROWS_WITH_LOST, GROWS_WITH_OMEGA),
            conclusions=(
                Conclusion(
                    r"$\max(g, l)$ in the limit",
                    r"limits of elementary functions: for $\sigma \ne \rho$ one of the cases"
                    r" $D \le 1$, $D \ge r$ holds once $\omega$ is small, and for $\sigma = \rho$"
                    r" the excess is $\rho\tanh(\omega/4)$",
                ),
            ),
        ),
        Claim(
            id="from_shift_bound",
            kind="bound",
            statement=(
                r"At every shift the oscillation over the common keys is at most twice the largest"
                r" (B) over them, summed over channels: over the same keys $\mathrm{TV} \le"
                r" \tanh(\max_i \text{(B)}/2)$. A soft-cap of the logits leaves that true."
            ),
            derivations=(CHANNEL, FINITE_SUM, BOTH_CHANGES, FROM_BOUND, SAME_KEYS_FROM_BOUND),
            conclusions=(
                Conclusion(
                    r"a soft-cap $c\tanh(a/c)$ changes logits by no more than they change",
                    r"mean value theorem: the derivative $1 - \tanh^2$ lies in $[0, 1]$",
                ),
            ),
        ),
        Claim(
            id="re_access",
            kind="bound",
            statement=(
                r"A column, shift $(1, 0)$ or $(\tau, 0)$: row $t + \tau$ gains the keys $t + 1,"
                r" \dots, t + \tau$ of mass $g$ and loses none, and is no farther from row $t$"
                r" than the bound with $l = 0$ and $\omega = 2\max_{i \le t}$ (B)."
            ),
            derivations=(*RE_ACCESS, FINITE_SUM, KEPT, ONLY_GAINING),
        ),
        Claim(
            id="sequential",
            kind="bound",
            statement=(
                r"A diagonal, shift $(1, 1)$ or $(s, s)$: row $t + s$ read $s$ keys later gains the"
                r" keys $0, \dots, s - 1$ (a sink among them) of mass $g$ and loses none. No turn"
                r" is left in (B)."
            ),
            derivations=(*SEQUENTIAL, FINITE_SUM, KEPT, ONLY_GAINING),
        ),
        Claim(
            id="periodic_sequential",
            kind="bound",
            statement=(
                r"Parallel diagonals, shift $(0, N)$: the same row read $N$ keys later gains the"
                r" keys $0, \dots, N - 1$ of mass $g$ and loses the last $N$ keys $t - N + 1,"
                r" \dots, t$ of mass $l$, for $N \le t$."
            ),
            derivations=(*PERIODIC, FINITE_SUM, FROM_BOUND),
        ),
        Claim(
            id="seasonal",
            kind="bound",
            statement=(
                r"A period $L$: at $(L, 0)$ the row gains the keys $t + 1, \dots, t + L$, at $(L,"
                r" L)$ the keys $0, \dots, L - 1$, and loses none; at $(0, L)$ it gains the keys"
                r" $0, \dots, L - 1$ and loses the last $L$, for $L \le t$."
            ),
            derivations=(*SEASONAL, *SEASONAL_KEYS, FINITE_SUM, KEPT, ONLY_GAINING, FROM_BOUND),
        ),
        Claim(
            id="column",
            kind="bound",
            statement=(
                r"At $(s, 0)$ what all keys share cancels: the oscillation is at most the largest"
                r" over two common keys of $\lambda\sum_m|e^{\mathrm is\theta_m}z_{t+s}^m -"
                r" z_t^m||\tilde w_i^m - \tilde w_j^m|$, $\tilde w$ the key after RoPE. That is"
                r" never above $2\max_i$ (B)."
            ),
            derivations=(COLUMN, STEP_OF_COLUMN, KEYS_APART, NEVER_WIDER, FINITE_SUM),
            instances=(
                Exact(
                    "two equal keys: nothing is left of it, while (B) is not 0",
                    COLUMN_OSCILLATION.subs({KEY_DISTANCE: 0, **_ONE_STEP}),
                    "<",
                    BOUND.subs(_ONE_STEP),
                ),
            ),
        ),
        Claim(
            id="sharp",
            kind="sharpness",
            statement=(
                r"Every case is attained, for every $g$, $l$ below 1 and every $\omega > 0$, by two"
                r" common keys whose logit changes differ by exactly $\omega$; and so is the"
                r" largest mass of a set, for every $p$."
            ),
            derivations=(*ATTAINED, MASS_ATTAINED),
            witness=(
                r"$1 \le D \le r$: masses $\rho(D - 1)/(r - 1)$, which grows $D$-fold, and $\rho(r"
                r" - D)/(r - 1)$, which becomes $D/r$ of it; otherwise masses $\rho/2$, $\rho/2$"
                r" that become $\sigma r/(1 + r)$ and $\sigma/(1 + r)$"
            ),
            ratio="1",
        ),
        Claim(
            id="sharp_on_a_head",
            kind="sharpness",
            statement=(
                r"Rows of one head attain it with $\omega = 2\max_i$ (B): two keys that are"
                r" opposite after RoPE and a query along them, before as long as the masses of the"
                r" witness ask and then longer by $d$; at equal shifts for any frequency, at other"
                r" shifts on a channel that does not turn. On a channel that turns, a query"
                r" without drift attains $\tanh(\max_i\text{(B)}/2)$ over the same keys. A gained"
                r" or lost key gets its mass by its own length."
            ),
            derivations=(*ON_HEAD, *TURNING, TWO_KEYS),
            witness=(
                r"$w_i = k$, $\tilde w_j = -\tilde w_i$, $z = x\,e^{-\mathrm i(t-i)\theta}$, $z' ="
                r" (x + d)e^{-\mathrm i(t-i)\theta}$, no key drift; where a turn is left: $z = z' ="
                r" \overline{e^{\mathrm i(t-i)\theta}(e^{\mathrm i\alpha} - 1)}\,w$"
            ),
            ratio="1",
        ),
        Claim(
            id="new_keys_count",
            kind="counterexample",
            statement=(
                r"Stable logits do not make a stable row: with one key of unchanged logit, a new"
                r" key with the same logit moves half of the mass, while $\tanh(\omega/4)$ is 0"
                r" for $\omega = 0$."
            ),
            instances=(
                Exact(
                    "masses 1, 0 become 1/2, 1/2",
                    SAME_KEYS.subs(OMEGA, 0),
                    "<",
                    sp.Rational(1, 2),
                    replay=lambda: (
                        row_distance(np.array([0.0, -np.inf]), np.array([0.0, 0.0])),
                        float(evaluate(SAME_KEYS, {"omega": np.asarray(0.0)})),
                    ),
                ),
            ),
        ),
        Claim(
            id="soft_cap",
            kind="counterexample",
            statement=(
                r"A soft-cap may raise the oscillation, from 0 here: $\omega$ has to be that of"
                r" the capped logits. Logits 0 and 1 that both grow by 1, under $\tanh$."
            ),
            instances=(
                Exact(
                    r"$0 < (\tanh 1 - \tanh 0) - (\tanh 2 - \tanh 1)$",
                    sp.Integer(0),
                    "<",
                    2 * sp.tanh(1) - sp.tanh(2),
                    replay=lambda: (capped_change(0.0) - capped_change(1.0), 0.0),
                ),
            ),
        ),
    ),
    readings=(
        Reading(
            "for any rows with any common keys, and on a head at the shift of every pattern",
            "holds",
            ("distance", "from_shift_bound", "sharp", "sharp_on_a_head"),
            "logits that change alike leave the common keys as they are; what new keys take is"
            " measured, not bounded by the change of the logits",
        ),
    ),
    attacks=ATTACKS,
    meaning=(
        "How far attention moves from one row to the next, or along a diagonal, follows from three"
        " numbers of a head: the oscillation of the logit changes, the mass that new keys take, and"
        " the mass of keys out of sight. The oscillation ignores what a whole row has in common,"
        " and twice the largest shift bound stands in for it."
    ),
)
