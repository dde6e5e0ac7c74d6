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
KAPPA, RATIO_SUM = sp.symbols("kappa R", nonnegative=True)
"""The sums over the other channels of SLOPE and of CURVATURE; kappa also stands for kappa_j where
keys drift; below 1."""
DIRECTION = sp.Symbol("v", real=True)

SLOPE = ENERGY * theta / (ENERGY_STAR * theta_star)
"""kappa_m, the steepest slope of a channel against the steepest of the dominant one."""
CURVATURE = SLOPE * theta / theta_star
"""kappa_m rho_m, the same of curvatures; rho_m = theta_m / theta_*."""
PERIOD = 2 * sp.pi / theta_star
"""Of the dominant channel, positions."""
DISPLACEMENT = sp.asin(KAPPA) / theta_star
CREST = theta_star / 2 + sp.asin(KAPPA)
TROUGH = sp.asin(KAPPA) - theta_star / 2

SLOW, DRIFT_NEXT, DRIFT_BEFORE = sp.symbols("slow drift_next drift_before", nonnegative=True)
DOMINANT = sp.Symbol("dominant", positive=True)
"""Sums over the channels: of "slow_rotation", of "neighbour_drift" to the key at the next distance
and at the one before, and of "dominant_rotation"."""
KAPPA_J = (SLOW + sp.Max(DRIFT_NEXT, DRIFT_BEFORE)) / DOMINANT
"""kappa at a whole distance j where keys drift."""

THEOREM = Theorem(
    id="periodic_sequential",
    title="Periodic sequential: parallel diagonals, one period apart",
    source=f"{PAPER}, Theorem 5.3",
    statement=(
        r"|a_{t,i+N} - a_{t,i}| \le \lambda \sum_m \left( |z_t^m|\,|w_{i+N}^m - w_i^m|"
        r" + 2\left|\sin\tfrac{N\theta_m}{2}\right| |z_t^m|\,|w_i^m| \right),"
        r"\quad N = \mathrm{round}(2\pi/\theta_*);"
        r"\quad \text{constant query and key:}\quad"
        r" |x_n - \hat x_n| \le \frac{\arcsin\kappa}{\theta_*},"
        r"\quad \hat x_n = \frac{2\pi n - \varphi_*}{\theta_*}"
    ),
    hypotheses=(
        "for the first inequality to say something, small key drift over N positions; it holds for"
        " any queries and keys and every N",
        r"for the second, query and key constant before RoPE: the row is $f(x) = \lambda\sum_m"
        r" A_m\cos(\theta_m x + \varphi_m)$ of the distance $x = t - i$, taken as a real number,"
        r" with $A_m = |z^m||w^m|$, $x_n$ are its local maxima and $\hat x_n$ those of the"
        r" dominant channel $m_*$ alone, one for each",
        r"for the second, frequency-weighted dominance: $\kappa$, the sum over the other channels"
        r" of $\kappa_m = A_m\theta_m / (A_*\theta_*)$, is below 1, and so is $\sum_m \kappa_m"
        r" \sqrt{\cos^2 v + \rho_m^2 \sin^2 v}$ for every $v$, $\rho_m = \theta_m/\theta_*$;"
        r" $\kappa^2 + R^2 < 1$ with $R = \sum_m \kappa_m\rho_m$ is enough",
        r"where keys drift, distances are whole and the place is only as exact as the claim"
        r" drifting_keys says: within $\theta_*/2 + \arcsin\kappa_j$ of the crest in phase, or"
        r" within $\arcsin\kappa_j - \theta_*/2$ of the trough, $\kappa_j < 1$ with the drift in"
        r" it",
        "the period is shorter than the context",
    ),
    published=PublishedForm(
        text=(
            r"As publicly summarised: diagonals are spaced by $T = 2\pi/\theta_* ="
            r" 2\pi c^{2m_*/d}$, $m_*$ the channel of most energy, without an error term."
        ),
        reading=(
            r"the rotation of the dominant channel stands for that of every channel: $|a_{t,i+N} -"
            r" a_{t,i}| \le \lambda\sum_m (|z_t^m||w_{i+N}^m - w_i^m| + 2|\sin(N\theta_*/2)||z_t^m|"
            r"|w_i^m|)$"
        ),
        bound=bound_at(SHIFT, QUERY_DRIFT + KEY_DRIFT + rotation_residual((s - u) * theta_star)),
    ),
    bound=bound_at(SHIFT),
    pattern_shift=SHIFT,
    parameters=(N,),
    auxiliary={
        "period": PERIOD,
        # One channel's parts of the sums of kappa_j; where kappa_j is below 1, the local maxima
        # of a row are certain to lie near the phase of the dominant channel.
        "slow_rotation": minor * rotation_residual(theta),
        "neighbour_drift": KEY_DRIFT,
        "dominant_rotation": major * lam * 2 * sp.sin(theta / 2) * sp.Abs(z) * sp.Abs(w),
        "kappa_j": KAPPA_J,
        # A row as a function of real distance: one channel's shares of kappa, of R and of the
        # exact condition; what is enough for it if below 1; positions by which a maximum, or the
        # spacing of two, may be off.
        "slope": SLOPE,
        "curvature": CURVATURE,
        "condition": SLOPE
        * sp.sqrt(sp.cos(DIRECTION) ** 2 + (theta / theta_star) ** 2 * sp.sin(DIRECTION) ** 2),
        "squares": KAPPA**2 + RATIO_SUM**2,
        "displacement": DISPLACEMENT,
        "spacing": 2 * DISPLACEMENT,
        # Drifting keys and whole positions: phase of the dominant channel at a local maximum,
        # counted from its crest, or else from its trough.
        "crest": CREST,
        "trough": TROUGH,
    },
)
