"""Theorem 5.1: a key that is attended to once is attended to again (the sink column)."""

import sympy as sp

from tappa_theory.shift_identity import bound_at, s, z, z_s
from tappa_theory.theorems.attention_distance import COLUMN_OSCILLATION
from tappa_theory.theorems.theorem import PAPER, PublishedForm, Theorem

SHIFT = (sp.Integer(1), sp.Integer(0))

tau = sp.Symbol("tau", integer=True, positive=True)
"""Steps of the query over which the key is kept in sight."""
SEVERAL_STEPS = bound_at((tau, sp.Integer(0)))
"""(B) at (tau, 0), one channel; z_s is the query channel at t + tau, w_u the same key w."""

RADIUS = sp.Symbol("radius", positive=True)
"""Lower bound of the norm of a query channel."""
CHORD = sp.Abs(z_s - z)

TURN = sp.Abs(sp.arg(z_s * sp.conjugate(z)))
"""Angle in [0, pi] by which a query channel turns, before RoPE."""
ARC = 2 * sp.asin(sp.Min(1, CHORD / (2 * RADIUS)))
"""Largest turn when both norms are at least the radius."""
ARC_LINEAR = sp.pi / 2 * CHORD / RADIUS
"""The same without an arcsine."""
ARC_EXACT = 2 * sp.asin(
    sp.sqrt((CHORD**2 - (sp.Abs(z) - sp.Abs(z_s)) ** 2) / (4 * sp.Abs(z) * sp.Abs(z_s)))
)
"""The turn itself, from the chord and both norms."""
ARC_ONE_NORM = sp.asin(CHORD / RADIUS)
"""Largest turn when only |z| is at least the radius and the chord is no longer than it."""
ARC_ONE_NORM_LINEAR = sp.pi * CHORD / RADIUS
"""Largest turn when only |z| is at least the radius, however long the chord."""

KEY_BOUND, RIVAL_BOUND = sp.symbols("key_bound rival_bound", nonnegative=True)
"""The sums over channels of (B) for a key and for a rival key."""
GAP = KEY_BOUND + RIVAL_BOUND
"""Logit gap above which the key stays ahead of the rival, from the two bounds alone."""
GAP_TOGETHER = COLUMN_OSCILLATION.subs(s, tau)
"""The same for both keys together, one channel: what they share cancels. It is never above GAP."""

THEOREM = Theorem(
    id="re_access",
    title="Re-access: a column of the attention map persists",
    source=f"{PAPER}, Theorem 5.1",
    statement=(
        r"|a_{t+1,i} - a_{t,i}| \le \lambda \sum_m \left( |z_{t+1}^m - z_t^m|\,|w_i^m|"
        r" + 2\left|\sin\tfrac{\theta_m}{2}\right| |z_t^m|\,|w_i^m| \right)"
    ),
    hypotheses=(
        "both rows see the key; the inequality needs nothing else, for soft-capped logits too",
        "its right-hand side is small where the query drifts little, $|z_{t+1} - z_t|$ against"
        " $|z_t|$, and the energy $|z||w|$ lies on channels of low frequency",
        "a column is seen where the key also leads its rivals by a logit gap",
    ),
    published=PublishedForm(
        text=(
            "As publicly summarised: high q-similarity and a dominant low-frequency channel make a"
            " head return to the same keys; a step of the proof bounds the angle a query channel"
            r" turns by $\|\Delta q^m\| / r_m$."
        ),
        reading=(
            "the step of the proof, per query step and channel, with"
            r" $r_m = \min(|z_t^m|, |z_{t+1}^m|)$:"
            r" $|\arg(z_{t+1}^m / z_t^m)| \le \|\Delta q^m\|/r_m$"
        ),
        observed=TURN,
        bound=CHORD / sp.Min(sp.Abs(z), sp.Abs(z_s)),
        counted="steps",
    ),
    bound=bound_at(SHIFT),
    pattern_shift=SHIFT,
    auxiliary={
        "several_steps": SEVERAL_STEPS,
        "arc": ARC,
        "arc_linear": ARC_LINEAR,
        "arc_exact": ARC_EXACT,
        "arc_one_norm": ARC_ONE_NORM,
        "arc_one_norm_linear": ARC_ONE_NORM_LINEAR,
        "gap": GAP,
        "gap_together": GAP_TOGETHER,
    },
)
