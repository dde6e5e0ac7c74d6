"""Theorem 5.3: diagonals repeat at the period of the dominant RoPE channel."""

import sympy as sp

from tappa_theory.shift_identity import (
    KEY_DRIFT,
    QUERY_DRIFT,
    bound_at,
    lam,
    rotation_residual,
    s,
    theta,
    theta_star,
    u,
    w,
    z,
)
from tappa_theory.theorems.theorem import PAPER, PublishedForm, Theorem

N = sp.Symbol("N", integer=True, positive=True)
"""Spacing of the diagonals, positions: the dominant period 2 pi / theta_* rounded."""

SHIFT = (sp.Integer(0), N)

minor, major = sp.symbols("minor major", nonnegative=True)
"""Per channel: minor is 0 on the dominant channel and 1 elsewhere, major is the opposite."""

THEOREM = Theorem(
    id="periodic_sequential",
    title="Periodic sequential: parallel diagonals, one period apart",
    source=f"{PAPER}, Theorem 5.3",
    statement=(
        r"|a_{t,i+N} - a_{t,i}| \le \lambda \sum_m \left( |z_t^m|\,|w_{i+N}^m - w_i^m|"
        r" + 2\left|\sin\tfrac{N\theta_m}{2}\right| |z_t^m|\,|w_i^m| \right),"
        r"\quad N = \mathrm{round}(2\pi/\theta_*)"
    ),
    hypotheses=(
        "small key drift over N positions",
        r"frequency-weighted dominance: $\kappa$, the sum over the other channels of $A_m\theta_m$,"
        r" over $A_*\theta_*$, is below 1, and $\kappa^2 + R^2 < 1$",
        "the period is shorter than the context",
    ),
    published=PublishedForm(
        text=(
            r"As publicly summarised: diagonals are spaced by $T = 2\pi/\theta_* ="
            r" 2\pi c^{2m_*/d}$, $m_*$ the channel of most energy, without an error term."
        ),
        reading=(
            "key drift, and the rotation of the dominant channel standing for the rotation of"
            r" every channel: $\theta_m$ read as $\theta_*$ in the residual"
        ),
        bound=bound_at(SHIFT, QUERY_DRIFT + KEY_DRIFT + rotation_residual((s - u) * theta_star)),
    ),
    bound=bound_at(SHIFT),
    pattern_shift=SHIFT,
    parameters=(N,),
    auxiliary={
        # The three sums of kappa_j, the condition under which the local maxima of a row are
        # certain to lie near the phase of the dominant channel.
        "slow_rotation": minor * rotation_residual(theta),
        "neighbour_drift": KEY_DRIFT,
        "dominant_rotation": major * lam * 2 * sp.sin(theta / 2) * sp.Abs(z) * sp.Abs(w),
    },
)
