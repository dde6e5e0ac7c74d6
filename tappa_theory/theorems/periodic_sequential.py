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

ENERGY = sp.Symbol("energy", nonnegative=True)
ENERGY_STAR = sp.Symbol("energy_*", positive=True)
"""A_m = |z^m||w^m| of a channel, and of the dominant channel."""
STAR = sp.Symbol("theta_*", positive=True)
"""theta_star of a dominant channel that turns."""
KAPPA = sp.Symbol("kappa", nonnegative=True)
"""The sum over the other channels of the slopes, or kappa_j where keys drift; below 1."""
DIRECTION = sp.Symbol("v", real=True)

SLOPE = ENERGY * theta / (ENERGY_STAR * STAR)
"""kappa_m, the steepest slope of a channel against the steepest of the dominant one."""
CURVATURE = SLOPE * theta / STAR
"""kappa_m rho_m, the same of curvatures; rho_m = theta_m / theta_*."""
DISPLACEMENT = sp.asin(KAPPA) / STAR
CREST = STAR / 2 + sp.asin(KAPPA)
TROUGH = sp.asin(KAPPA) - STAR / 2

THEOREM = Theorem(
    id="periodic_sequential",
    title="Periodic sequential: parallel diagonals, one period apart",
    source=f"{PAPER}, Theorem 5.3",
    statement=(
        r"|a_{t,i+N} - a_{t,i}| \le \lambda \sum_m \left( |z_t^m|\,|w_{i+N}^m - w_i^m|"
        r" + 2\left|\sin\tfrac{N\theta_m}{2}\right| |z_t^m|\,|w_i^m| \right),"
        r"\quad N = \mathrm{round}(2\pi/\theta_*);"
        r"\quad |x_n - \hat x_n| \le \frac{\arcsin\kappa}{\theta_*}"
    ),
    hypotheses=(
        "small key drift over N positions",
        r"frequency-weighted dominance: $\kappa$, the sum over the other channels of $\kappa_m ="
        r" A_m\theta_m / (A_*\theta_*)$, is below 1, and so is $\sum_m \kappa_m \sqrt{\cos^2 v +"
        r" \rho_m^2 \sin^2 v}$ for every $v$, $\rho_m = \theta_m/\theta_*$; $\kappa^2 + R^2 < 1$"
        r" with $R = \sum_m \kappa_m\rho_m$ is enough",
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
        # A row as a function of real distance: one channel's shares of kappa, of R and of the
        # exact condition; positions by which a maximum, or the spacing of two, may be off.
        "slope": SLOPE,
        "curvature": CURVATURE,
        "condition": SLOPE
        * sp.sqrt(sp.cos(DIRECTION) ** 2 + (theta / STAR) ** 2 * sp.sin(DIRECTION) ** 2),
        "displacement": DISPLACEMENT,
        "spacing": 2 * DISPLACEMENT,
        # Drifting keys and whole positions: phase of the dominant channel at a local maximum,
        # counted from its crest, or else from its trough.
        "crest": CREST,
        "trough": TROUGH,
    },
)
