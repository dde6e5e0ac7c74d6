"""Theorem 5.1: a key that is attended to once is attended to again (the sink column)."""

import sympy as sp

from tappa_theory.shift_identity import bound_at, z, z_s
from tappa_theory.theorems.theorem import PAPER, PublishedForm, Theorem

SHIFT = (sp.Integer(1), sp.Integer(0))

THEOREM = Theorem(
    id="re_access",
    title="Re-access: a column of the attention map persists",
    source=f"{PAPER}, Theorem 5.1",
    statement=(
        r"|a_{t+1,i} - a_{t,i}| \le \lambda \sum_m \left( |z_{t+1}^m - z_t^m|\,|w_i^m|"
        r" + 2\left|\sin\tfrac{\theta_m}{2}\right| |z_t^m|\,|w_i^m| \right)"
    ),
    hypotheses=(
        "small query drift: $|z_{t+1} - z_t|$ small against $|z_t|$",
        "little rotation: the energy $|z||w|$ lies on channels of low frequency",
        "to be seen as a column: a logit gap between the key and its rivals",
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
        observed=sp.Abs(sp.arg(z_s * sp.conjugate(z))),
        bound=sp.Abs(z_s - z) / sp.Min(sp.Abs(z), sp.Abs(z_s)),
        counted="steps",
    ),
    bound=bound_at(SHIFT),
    pattern_shift=SHIFT,
)
