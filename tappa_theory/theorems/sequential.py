"""Theorem 5.2: attention moves along with the query (the diagonal)."""

import sympy as sp

from tappa_theory.shift_identity import bound_at, lam, s
from tappa_theory.theorems.theorem import PAPER, PublishedForm, Theorem

SHIFT = (sp.Integer(1), sp.Integer(1))
SEVERAL_STEPS = bound_at((s, s))
"""(B) at (s, s), one channel: no rotation is left."""

QUERY_NORM, QUERY_STEP = sp.symbols("query_norm query_step", nonnegative=True)
KEY_NORM_U, KEY_STEP = sp.symbols("key_norm_u key_step", nonnegative=True)
EPSILON = sp.Max(QUERY_STEP, KEY_STEP)

CONSTANT = lam * (KEY_NORM_U + QUERY_NORM)
"""C of the published |a_{t+1,i+1} - a_{t,i}| <= C epsilon."""

QUERY_NORM_MAX, KEY_NORM_MAX = sp.symbols("query_norm_max key_norm_max", positive=True)
"""Largest query norm Q and largest key norm K of the head."""
GLOBAL_CONSTANT = lam * (QUERY_NORM_MAX + KEY_NORM_MAX)
"""The smallest C for all pairs of the head that does not depend on epsilon."""

QUERY_ANGLE = sp.asin(sp.Min(1, QUERY_STEP / (2 * QUERY_NORM_MAX)))
"""Half the largest angle by which a query of norm Q turns in a step."""
KEY_ANGLE = sp.asin(sp.Min(1, KEY_STEP / (2 * KEY_NORM_MAX)))
"""Half the largest angle by which a key of norm K turns in a step."""
SUPREMUM = (
    2 * lam * QUERY_NORM_MAX * KEY_NORM_MAX * sp.sin(sp.Min(sp.pi / 2, QUERY_ANGLE + KEY_ANGLE))
)
"""Largest change along the diagonal under norms at most Q, K and steps at most the given ones."""

THEOREM = Theorem(
    id="sequential",
    title="Sequential: a diagonal of the attention map persists",
    source=f"{PAPER}, Theorem 5.2",
    statement=(
        r"|a_{t+1,i+1} - a_{t,i}| \le \lambda \sum_m \left( |z_{t+1}^m - z_t^m|\,|w_{i+1}^m|"
        r" + |z_t^m|\,|w_{i+1}^m - w_i^m| \right)"
    ),
    hypotheses=(
        "small query drift: $|z_{t+1} - z_t|$ small against $|z_t|$",
        "small key drift: $|w_{i+1} - w_i|$ small against $|w_i|$",
    ),
    published=PublishedForm(
        text=(
            r"As publicly summarised: if $\|q_{t+1} - q_t\| \le \varepsilon$ and"
            r" $\|k_{i+1} - k_i\| \le \varepsilon$ then $|a_{t+1,i+1} - a_{t,i}| \le C\varepsilon$."
        ),
        reading=(
            r"per pair, $C = \lambda(\|k_{i+1}\| + \|q_t\|)$ and $\varepsilon$ the larger of"
            " the two steps of that pair, before RoPE"
        ),
        bound=CONSTANT * EPSILON,
    ),
    bound=bound_at(SHIFT),
    pattern_shift=SHIFT,
    auxiliary={
        "several_steps": SEVERAL_STEPS,
        "constant": CONSTANT,
        "global_constant": GLOBAL_CONSTANT,
        "supremum": SUPREMUM,
    },
)
