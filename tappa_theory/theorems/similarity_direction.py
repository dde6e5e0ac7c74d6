"""Which q-similarity: after RoPE it governs columns, before RoPE diagonals."""

import sympy as sp

from tappa_theory.shift_identity import ALPHA, i, lam, t, theta, w, w_u, z, z_s
from tappa_theory.theorems.proposition_4_1 import (
    KEY_NORM_MAX,
    QUERY_NORM,
    QUERY_NORM_S,
    SIMILARITY,
    STEP_SQUARED,
    SUFFICIENT,
)
from tappa_theory.theorems.theorem import PublishedForm, Theorem

DRIFT = sp.exp(sp.I * ALPHA) * z_s - z
"""One channel of D^{s-u} q_{t+s} - q_t, D the turn of one position: the drift of the query as the
shifted key sees it. After RoPE for u = 0 (up to a common turn), before RoPE for u = s."""

CHANGE = lam * sp.re(sp.exp(sp.I * (t - i) * theta) * sp.conjugate(w) * DRIFT)
"""a_{t+s,i+u} - a_{t,i} where the key repeats (w_u = w), one channel."""

KEY_CHANGE = lam * sp.re(sp.exp(sp.I * ((t - i) * theta + ALPHA)) * z_s * sp.conjugate(w_u - w))
"""What is added where it does not, one channel."""

PRODUCT = sp.re(sp.exp(sp.I * ALPHA) * z_s * sp.conjugate(z))
"""One channel of <D^{s-u} q_{t+s}, q_t>: summed, over both norms, it is `SIMILARITY`."""

KEY_NORM, KEY_STEP = sp.symbols("key_norm key_step", nonnegative=True)
"""||k_i||; ||k_{i+u} - k_i|| before RoPE."""

REPEATED = SUFFICIENT.subs(KEY_NORM_MAX, KEY_NORM)
"""Largest |a_{t+s,i+u} - a_{t,i}| where the key repeats, from norms and similarity."""
WITH_KEY_STEP = REPEATED + lam * QUERY_NORM_S * KEY_STEP
"""The same where the key does not repeat."""

THEOREM = Theorem(
    id="similarity_direction",
    title="Which similarity: after RoPE for columns, before RoPE for diagonals",
    source="not in the paper: the shift identity with a key that repeats",
    statement=(
        r"|a_{t+s,i+u} - a_{t,i}| \le \lambda\,\|k_i\|\,\sqrt{(r' - r)^2 + 2rr'(1 - S)},\qquad"
        r" S = \cos(D^{s-u}q_{t+s}, q_t)"
    ),
    hypotheses=(
        r"$D$ turns every channel by its frequency, one position; $r = \|q_t\|$,"
        r" $r' = \|q_{t+s}\|$, neither 0",
        r"the key repeats before RoPE, $k_{i+u} = k_i$: no hypothesis on a column ($u = 0$)",
    ),
    published=PublishedForm(
        text=(
            "As publicly summarised, q-similarity decides how predictable a pattern is; which"
            " vectors it compares, before or after RoPE, is left open."
        ),
        reading="there is no published bound to compare with",
    ),
    bound=REPEATED,
    auxiliary={
        "drift": DRIFT,
        "change": CHANGE,
        "key_change": KEY_CHANGE,
        "product": PRODUCT,
        "step_squared": STEP_SQUARED,
        "with_key_step": WITH_KEY_STEP,
    },
)

__all__ = ["QUERY_NORM", "QUERY_NORM_S", "SIMILARITY", "THEOREM"]
