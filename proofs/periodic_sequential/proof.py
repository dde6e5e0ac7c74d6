"""Theorem 5.3: diagonals repeat, and how far from the dominant channel's period they may lie.

Here: bound (B) at the spacing, which holds for any queries and keys, and what all claims together
say of the readings. The claims on maxima of a row are in the modules periodic_*.
"""

from __future__ import annotations

import sympy as sp

from proofs.engine.claims import Claim, Proof, Reading
from proofs.engine.derivation import Derivation, Lemma, Link
from proofs.lemmas.finite import FINITE_SUM
from proofs.lemmas.rows import only_turn
from proofs.periodic_sequential import counterexamples as periodic_counterexamples
from proofs.periodic_sequential import discrete as periodic_discrete
from proofs.periodic_sequential import maxima as periodic_maxima
from proofs.periodic_sequential import sharpness as periodic_sharpness
from proofs.periodic_sequential.attacks import ATTACKS
from proofs.shift_bound.proof import CHANNEL, IDENTITY
from tappa_theory.shift_identity import (
    LOGIT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    bound_at,
    s,
    u,
    z,
    z_s,
)
from tappa_theory.theorems.periodic_sequential import THEOREM, N

APART = {s: 0, u: N, z_s: z}
"""The query stays, the key is N positions later."""
SPACING = Derivation(
    "bound (B) N keys apart, one channel",
    sp.Abs(SHIFT_DIFFERENCE.subs(APART)),
    (
        Link(
            "<=",
            THEOREM.bound.subs(APART),
            "(B) at the shift $(0, N)$; the query is the same",
            Lemma(CHANNEL, APART),
        ),
    ),
)
SPACING_IDENTITY = Derivation(
    "change over N keys, one channel",
    (SHIFTED_LOGIT - LOGIT).subs(APART),
    (
        Link(
            "=",
            SHIFT_DIFFERENCE.subs(APART),
            "the shift identity at $(0, N)$",
            Lemma(IDENTITY, APART),
        ),
    ),
)


def along(sign: int) -> Derivation:
    """(B) at (s, s + N) and (s, s - N): the same angle N theta."""
    shift = {u: s + sign * N}
    return Derivation(
        f"bound (B) at (s, s {'+' if sign > 0 else '-'} N), one channel",
        sp.Abs(SHIFT_DIFFERENCE.subs(shift)),
        (
            Link(
                "<=",
                bound_at((s, s + sign * N)),
                "(B) at this shift: s steps of both cost no rotation",
                Lemma(CHANNEL, shift),
            ),
        ),
    )


CLAIMS = (
    *periodic_maxima.CLAIMS,
    *periodic_sharpness.CLAIMS,
    *periodic_counterexamples.CLAIMS,
    *periodic_discrete.CLAIMS,
    Claim(
        "keys_apart",
        "bound",
        r"(B) at the shift $(0, N)$, summed over channels: $|a_{t,i+N} - a_{t,i}| \le \lambda"
        r" \sum_m (|z_t^m||w_{i+N}^m - w_i^m| + 2|\sin(N\theta_m/2)||z_t^m||w_i^m|)$, for every N"
        r" with $i + N \le t$; at $(s, s \pm N)$ the same angle, and the query's drift beside.",
        derivations=(SPACING_IDENTITY, SPACING, along(1), along(-1), FINITE_SUM),
    ),
    Claim(
        "keys_apart_attained",
        "sharpness",
        r"Without drift (B) at $(0, N)$ is attained on all channels at once, at every N; with drift"
        r" as shift_bound is. Where $N\theta_m$ is a multiple of $2\pi$ both sides are 0.",
        derivations=(only_turn("(B) at (0, N) is attained", {s: 0, u: N}, THEOREM.bound),),
        witness=r"$w' = w$, $z = \overline{e^{\mathrm i(t-i)\theta}"
        r"(e^{-\mathrm iN\theta} - 1)}\,w$",
        ratio="1",
    ),
)

READINGS = (
    Reading(
        r"successive maxima of a row are $T = 2\pi/\theta_*$ apart, exactly or to the next whole"
        " distance, with constant queries and keys, $m_*$ the channel of most energy",
        "refuted",
        ("no_error_term", "base_ten_thousand"),
        r"Other channels move the maxima, by up to $\arcsin(\kappa)/\theta_*$ each.",
    ),
    Reading(
        r"the same for some dominance of energy, $A_* \ge \eta A_m$ with a constant $\eta$ that"
        r" does not depend on the frequencies",
        "refuted",
        ("energy_is_not_weighted",),
        r"Whatever $\eta$ is. Dominance has to be weighted by frequency.",
    ),
    Reading(THEOREM.published.reading, "refuted", ("other_channels_turn",)),
    Reading(
        r"the spacing is T in the mean over many maxima, $A_m\theta_m$ of the other channels adding"
        r" up to less than $A_*\theta_*$, under the condition of one_per_period",
        "holds",
        ("one_per_period", "spacing"),
        r"n spacings add up to $nT$ within $2\arcsin(\kappa)/\theta_*$: errors do not accumulate.",
    ),
)

PROOF = Proof(
    THEOREM,
    CLAIMS,
    READINGS,
    ATTACKS,
    meaning=(
        "A head whose frequency-weighted dominant channel outweighs the others has, with constant"
        " queries and keys, one diagonal per period of that channel, each within"
        r" $\arcsin(\kappa)/\theta_*$ of its place; drift of the keys moves them further. Where"
        r" $\kappa$ is"
        " near 1 or above, or the period exceeds the context, the theorem promises nothing; energy"
        " alone, without the frequency, does not decide which channel sets the spacing."
    ),
)
