"""Lifetime: how long a key stays on top, and a set of keys the top-k set."""

import sympy as sp

from tappa_theory.shift_identity import LOGIT, i, lam, s, theta, u, w, w_u, z, z_s
from tappa_theory.theorems.attention_distance import OSCILLATION
from tappa_theory.theorems.theorem import PublishedForm, Theorem

MARGIN = LOGIT - LOGIT.subs({w: w_u, i: i + u}, simultaneous=True)
"""a_{t,i} - a_{t,i+u}, one channel: by how much the key at i is ahead of its rival at i + u."""

QUERY_MOVE = sp.Abs(sp.exp(sp.I * s * theta) * z_s - z)
"""|z_{t+s} - z_t| after RoPE, from z and z_s before RoPE."""
KEY_DISTANCE = sp.Abs(sp.exp(sp.I * u * theta) * w_u - w)
"""|w_{i+u} - w_i| after RoPE, from w and w_u before RoPE."""

MARGIN_CHANGE = lam * QUERY_MOVE * KEY_DISTANCE
"""Largest change of MARGIN over s steps of the query, one channel."""

MOVE, DISTANCE = sp.symbols("query_move key_distance", nonnegative=True)
"""||q_{t+s} - q_t|| and ||k_{i+u} - k_i||, whole vectors after RoPE."""
BY_NORMS = lam * MOVE * DISTANCE
"""The same of whole vectors, by Cauchy-Schwarz."""

QUERY_NORM, LEAD = sp.symbols("query_norm lead", positive=True)
"""||q_t|| and a_{t,j} - a_{t,i} of whole vectors: by how much the key is ahead of a rival."""
BY_ANGLE = sp.asin(sp.Min(1, LEAD / (lam * QUERY_NORM * DISTANCE)))
"""Angle, radians, by which the query may turn after RoPE before that rival can overtake; the least
over the rivals for all of them. The minimum with 1 takes off rounding: the quotient is a sine."""

STEP = sp.Symbol("step_after", nonnegative=True)
"""Largest move of a query channel in one of the s steps, after RoPE."""
BY_STEPS = lam * s * STEP * KEY_DISTANCE
"""The same from single steps, one channel: grows in proportion to the number of steps s."""

STEP_BEFORE = sp.Symbol("step_before", nonnegative=True)
"""|z_{t+1} - z_t| of the channel, before RoPE."""
STEP_OF = STEP_BEFORE + 2 * sp.Abs(sp.sin(theta / 2)) * sp.Abs(z)
"""Largest move of a channel in one step after RoPE: its drift, and the turn of one position."""

NEW_KEY = lam * (sp.Abs(z_s) * sp.Abs(w_u) + QUERY_MOVE * sp.Abs(w))
"""Logit a_{t,i} up to which a new key w_u at i + u > t may overtake the key w at i, one channel."""

THEOREM = Theorem(
    id="lifetime",
    title="Lifetime: how long the same keys stay on top",
    source="not in the paper: margins between the keys of a row, under a query that moves",
    statement=(
        r"|(a_{t+s,j} - a_{t+s,i}) - (a_{t,j} - a_{t,i})| \le \lambda \sum_m"
        r" \left|e^{\mathrm i s\theta_m} z_{t+s}^m - z_t^m\right|"
        r" \left|\tilde w_j^m - \tilde w_i^m\right|"
    ),
    hypotheses=(
        r"both keys are visible at $t$ and at $t + s$ (causal: $i, j \le t$; with a sliding window:"
        " still inside it), and cached keys do not change",
        r"the angular frequencies are the same for all positions;"
        r" $\tilde w_j = w_j e^{\mathrm i j\theta}$ is a key after RoPE",
        r"key $j$ stays on top at $t + s$ among the keys of $t$ if the right-hand side is below"
        r" $a_{t,j} - a_{t,i}$ for every rival $i$, not only for the runner-up; it stays on top"
        r" throughout if that holds at every step $s' \le s$",
        "keys that came after $t$ are compared on their own",
        r"`by_norms` and `by_angle` take whole vectors, so $\lambda$ is one number: a factor that"
        " RoPE gives a channel belongs to its keys; for `by_angle` the later query is not 0",
    ),
    published=PublishedForm(
        text="Nothing is published: no theorem of the paper says for how long a pattern lasts.",
        reading="there is no published form to compare with",
    ),
    bound=MARGIN_CHANGE,
    auxiliary={
        "margin": MARGIN,
        "by_norms": BY_NORMS,
        "by_angle": BY_ANGLE,
        "by_steps": BY_STEPS,
        "step": STEP_OF,
        "new_key": NEW_KEY,
        "oscillation": OSCILLATION,
    },
)
