"""Proposition 4.1: a query step changes the logits, bounded from both sides."""

import sympy as sp

from tappa_theory.shift_identity import lam
from tappa_theory.theorems.theorem import PAPER, PublishedForm, Theorem

STEP, KEY_NORM_MAX, SIGMA, KEYS = sp.symbols("step key_norm_max sigma n", positive=True)
"""||Pi dq|| after RoPE; largest key norm; smallest nonzero singular value of K; number of keys."""

LOWER = lam * SIGMA / sp.sqrt(KEYS) * STEP
UPPER = lam * KEY_NORM_MAX * STEP

THEOREM = Theorem(
    id="proposition_4_1",
    title="Query change forces logit change",
    source=f"{PAPER}, Proposition 4.1",
    statement=(
        r"\frac{\lambda\sigma^+}{\sqrt n}\,\|\Pi\Delta\tilde q\| \le"
        r" \|a_{t+1} - a_t\|_\infty \le \lambda \max_i\|k_i\|\,\|\Pi\Delta\tilde q\|"
    ),
    hypotheses=(
        r"$\Pi$ projects on the span of the n post-RoPE keys visible to both rows",
        r"$\sigma^+$ is the smallest nonzero singular value of those keys",
    ),
    published=PublishedForm(
        text=(
            r"As publicly summarised: $\|a_{t+1} - a_t\|_\infty \ge c_1\|q_{t+1} - q_t\| - c_2$; so"
            " high q-similarity is necessary for a temporally stable pattern."
        ),
        reading=(
            "the constants are not given in the summary; not checked on heads before its"
            " derivation fixes them"
        ),
    ),
    bound=UPPER,
    auxiliary={"lower": LOWER},
)
