"""Attention distance: how far two softmax rows are apart, from the change of their logits."""

import sympy as sp

from tappa_theory.shift_identity import lam, s, theta, z, z_s
from tappa_theory.theorems.theorem import PublishedForm, Theorem

OMEGA = sp.Symbol("omega", positive=True)
"""Oscillation: largest less smallest change of a logit over the common keys, or any positive number
that is no smaller. A change of the whole row by a constant cancels."""

GAINED, LOST = sp.symbols("gained lost", nonnegative=True)
"""Mass of the later row on keys that the earlier one does not see, and of the earlier row on keys
that the later one no longer sees; below 1."""

MASS = sp.Symbol("mass", nonnegative=True)
"""Mass of a set of keys in a row that sees the common keys and no others; at most 1."""

MASS_LATER = MASS / (MASS + (1 - MASS) * sp.exp(-OMEGA))
"""Largest mass of the same keys in the other row: the odds grow by e^omega at most."""

SAME_KEYS = sp.tanh(OMEGA / 4)
"""Largest distance of two rows over the same keys."""


def _positive_square(x: sp.Expr) -> sp.Expr:
    return sp.Max(0, x) ** 2


EXCESS = (
    _positive_square(sp.sqrt(1 - GAINED) - sp.exp(-OMEGA / 2) * sp.sqrt(1 - LOST))
    - _positive_square(sp.exp(-OMEGA / 2) * sp.sqrt(1 - GAINED) - sp.sqrt(1 - LOST))
) / (1 - sp.exp(-OMEGA))
"""Largest mass that a set of common keys can gain.

With sigma = 1 - gained, rho = 1 - lost, r = e^omega and D = sqrt(sigma r / rho) it is 0 for D <= 1,
rho (D - 1)^2 / (r - 1) for 1 <= D <= r, and sigma - rho for D >= r.
"""

DISTANCE = GAINED + EXCESS
"""Largest distance of two rows; it grows with omega, gained and lost, so that upper bounds of the
three will do."""

APPENDED = GAINED + _positive_square(sp.sqrt(1 - GAINED) - sp.exp(-OMEGA / 2)) / (
    1 - sp.exp(-OMEGA)
)
"""The same if the later row only gains keys: lost is 0."""

BOUND_MAX = sp.Symbol("bound_max", positive=True)
"""Largest sum over channels of (B) over the common keys, or any positive number no smaller."""

OSCILLATION = 2 * BOUND_MAX
"""What the shift bound leaves of the oscillation."""

KEY_DISTANCE = sp.Symbol("key_distance", nonnegative=True)
"""|e^{i i theta} w_i - e^{i j theta} w_j|: distance of one channel of two keys, after RoPE."""

COLUMN_OSCILLATION = lam * sp.Abs(sp.exp(sp.I * s * theta) * z_s - z) * KEY_DISTANCE
"""One channel of the oscillation at the shift (s, 0) of logits without a soft-cap: what all keys
share cancels. The largest sum over channels over the pairs of common keys, or the sum of the
largest, may stand for omega. A soft-cap keeps the size of a change, not what changes share."""

THEOREM = Theorem(
    id="attention_distance",
    title="Attention distance: what a change of the logits does to a row",
    source="not in the paper: the softmax rows behind its logits",
    statement=(
        r"\mathrm{TV}(P, P') \le g + \frac{(\sqrt{1-g} - e^{-\omega/2}\sqrt{1-l})_+^2"
        r" - (e^{-\omega/2}\sqrt{1-g} - \sqrt{1-l})_+^2}{1 - e^{-\omega}},"
        r"\quad \text{which is } \tanh\tfrac\omega4 \text{ for } g = l = 0;"
        r"\quad \omega \le 2\max_i \text{(B)}"
    ),
    hypotheses=(
        r"$P$ and $P'$ are softmax rows; a shift $(s, u)$ compares key $i$ of row $t$ with key"
        r" $i + u$ of row $t + s$, and a key is common if both rows see their side of it",
        r"$\omega$ is the oscillation over the common keys of the change of the logits that enter"
        r" the softmax, $g$ the mass under $P'$ of keys that $P$ does not see, $l$ the mass under"
        r" $P$ of keys that $P'$ does not see",
        r"for $\omega \le 2\max_i$ (B): the angular frequencies are the same for all positions, and"
        r" logits are inner products, soft-capped or not ($\omega$ itself is of the capped ones)",
        r"for `column_oscillation`, which may stand for $\omega$ at a shift $(s, 0)$: the same, and"
        " no soft-cap",
    ),
    published=PublishedForm(
        text="Nothing is published: the paper bounds logits, not what attention makes of them.",
        reading="there is no published form to compare with",
    ),
    bound=DISTANCE,
    auxiliary={
        "excess": EXCESS,
        "same_keys": SAME_KEYS,
        "appended": APPENDED,
        "mass_later": MASS_LATER,
        "oscillation": OSCILLATION,
        "column_oscillation": COLUMN_OSCILLATION,
        # The four patterns: bound_max is of (B) at their shifts. Causal rows only gain keys when
        # the query moves at least as far as the key (re-access, sequential, seasonal at (L, 0) and
        # (L, L)); a key that moves alone (periodic, seasonal at (0, L)) loses the last keys, too.
        "only_gaining": APPENDED.subs(OMEGA, OSCILLATION),
        "gaining_and_losing": DISTANCE.subs(OMEGA, OSCILLATION),
        "same_keys_from_bound": SAME_KEYS.subs(OMEGA, OSCILLATION),
    },
)
