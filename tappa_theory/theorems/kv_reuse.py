"""KV reuse: what keys and values that were discarded once can still be worth later."""

import sympy as sp

from tappa_theory.theorems.attention_distance import GAINED, MASS_LATER, OMEGA, OSCILLATION
from tappa_theory.theorems.theorem import PublishedForm, Theorem

VALUE_DISTANCE = sp.Symbol("value_distance", nonnegative=True)
"""Largest distance, in the norm of the output, of a discarded from a kept value; the diameter of
the values is no smaller."""

MASS_IN_ROW = (1 - GAINED) * MASS_LATER
"""Largest mass of the discarded keys in a row that gives the mass `gained` to new keys."""

OUTPUT_ERROR = MASS_LATER * VALUE_DISTANCE
"""Largest error of the output when the discarded keys are left out and the rest renormalised."""

THEOREM = Theorem(
    id="kv_reuse",
    title="KV reuse: discarded keys stay negligible",
    source="not in the paper: may a key that got little attention be evicted?",
    statement=(
        r"P_{t+\tau}(E) \le \frac{\varepsilon}{\varepsilon + (1 - \varepsilon) e^{-\omega}}"
        r" = \frac{\varepsilon e^\omega}{1 - \varepsilon + \varepsilon e^\omega},\quad"
        r" \|o_{t+\tau} - \hat o_{t+\tau}\| \le P_{t+\tau}(E)\,"
        r"\max_{i \in E,\, j \notin E}\|v_i - v_j\|,\quad \varepsilon = \frac{P_t(E)}{P_t(C)}"
    ),
    hypotheses=(
        r"$C$ are the keys that both rows $t$ and $t + \tau$ see, and $E \subset C$; without a"
        r" window they are all keys $i \le t$, and $P_t(C) = 1$",
        r"$\omega$ is the oscillation of $a_{t+\tau,i} - a_{t,i}$ over $C$, and $\varepsilon$"
        r" (`mass`) the share of $E$ in $C$ at $t$; keys after $t$ only lower the mass of $E$",
        r"$o$ is the output of one head, $\hat o$ the same with $E$ left out and the"
        " other masses renormalised; queries, keys and values are the same in both",
        r"$\varepsilon < 1$; any norm; $j$ runs over all kept keys, those after $t$ included",
    ),
    published=PublishedForm(
        text="Nothing is published: the paper gives no certificate for leaving out keys.",
        reading="there is no published form to compare with",
    ),
    bound=OUTPUT_ERROR,
    auxiliary={
        "mass_later": MASS_LATER,
        "mass_in_row": MASS_IN_ROW,
        # bound_max: of the sums over channels of (B) at (tau, 0), over the common keys.
        "mass_later_from_bound": MASS_LATER.subs(OMEGA, OSCILLATION),
        "output_error_from_bound": OUTPUT_ERROR.subs(OMEGA, OSCILLATION),
    },
)
