"""Theorem 5.4: inputs of period L make attention repeat after L steps."""

import sympy as sp

from tappa_theory.shift_identity import (
    KEY_DRIFT,
    QUERY_DRIFT,
    bound_at,
    lam,
    rotation_residual,
    s,
    theta_star,
    u,
    w,
    z,
)
from tappa_theory.theorems.theorem import PAPER, PublishedForm, Theorem

L = sp.Symbol("L", integer=True, positive=True)
"""Period of the input, positions."""

SHIFT = (L, sp.Integer(0))

DELTA = sp.Symbol("delta", nonnegative=True)
"""Largest resonance error 2|sin(L theta_m / 2)| of the channels that carry energy."""

QUERY_NORM, QUERY_STEP = sp.symbols("query_norm query_step", nonnegative=True)
KEY_NORM_U, KEY_STEP = sp.symbols("key_norm_u key_step", nonnegative=True)
"""|q_t| and the change of the query over the shift; |k| after the shift and the change of the key.
"""
ENERGY_SUM = sp.Symbol("energy_sum", nonnegative=True)
"""Sum over the channels of |z^m||w^m|."""
DRIFT_CONSTANT = lam * sp.Max(KEY_NORM_U, QUERY_NORM)
RESONANCE_CONSTANT = lam * ENERGY_SUM
"""C_1 and C_2 of the published form."""

THEOREM = Theorem(
    id="seasonal",
    title="Seasonal: attention repeats after L steps",
    source=f"{PAPER}, Theorem 5.4",
    statement=(
        r"|a_{t+L,i} - a_{t,i}| \le \lambda \sum_m \left( |z_{t+L}^m - z_t^m|\,|w_i^m|"
        r" + 2\left|\sin\tfrac{L\theta_m}{2}\right| |z_t^m|\,|w_i^m| \right)"
    ),
    hypotheses=(
        "small query drift over L positions",
        r"resonance: $L\theta_m$ near a multiple of $2\pi$ on every channel that carries energy",
    ),
    published=PublishedForm(
        text=(
            r"As publicly summarised: $|a_{t+L,i} - a_{t,i}| \le C_1(\varepsilon_q +"
            r" \varepsilon_k) + C_2\delta$, $\delta$ the resonance error of the dominant channel."
        ),
        reading=(
            r"the resonance error of the channel of most energy, $\delta = 2|\sin(L\theta_*/2)|$,"
            r" charged to every channel, $C_2 = \lambda \sum_m |z^m||w^m|$: $|a_{t+L,i} - a_{t,i}|"
            r" \le \lambda\sum_m |z_{t+L}^m - z_t^m||w_i^m| + C_2\delta$"
        ),
        bound=bound_at(SHIFT, QUERY_DRIFT + KEY_DRIFT + rotation_residual((s - u) * theta_star)),
    ),
    bound=bound_at(SHIFT),
    pattern_shift=SHIFT,
    parameters=(L,),
    auxiliary={
        # The other two shifts by a period: of the key, and of both, which needs no resonance.
        "later_key": bound_at((sp.Integer(0), L)),
        "both_later": bound_at((L, L)),
        # The published form, repaired: delta of every channel with energy, not of one.
        "worst_channel": QUERY_DRIFT + KEY_DRIFT + lam * DELTA * sp.Abs(z) * sp.Abs(w),
        # The same summed over the channels, with its two constants.
        "drift_constant": DRIFT_CONSTANT,
        "resonance_constant": RESONANCE_CONSTANT,
        "repaired": DRIFT_CONSTANT * (QUERY_STEP + KEY_STEP) + RESONANCE_CONSTANT * DELTA,
    },
)
