"""Proposition 4.1: a query step changes the logits, bounded from both sides."""

import sympy as sp

from tappa_theory.shift_identity import lam, theta, z
from tappa_theory.theorems.theorem import PAPER, PublishedForm, Theorem

STEP, KEY_NORM_MAX, SIGMA = sp.symbols("step key_norm_max sigma", nonnegative=True)
"""||Pi dq|| after RoPE; largest key norm; smallest nonzero singular value of K, 0 if K is 0."""
KEYS = sp.Symbol("n", positive=True)
"""Number of keys visible to both rows."""

LOWER = lam * SIGMA / sp.sqrt(KEYS) * STEP
UPPER = lam * KEY_NORM_MAX * STEP

STEP_BEFORE, TURNED = sp.symbols("step_before turned", nonnegative=True)
"""||q_{t+1} - q_t|| before RoPE; what one position turns q_t by, the root of the sum over channels
of TURNED_SQUARED."""

TURNED_SQUARED = 4 * sp.sin(theta / 2) ** 2 * sp.Abs(z) ** 2
"""One channel of `turned`**2."""

SLOPE = lam * SIGMA / sp.sqrt(KEYS)
"""c_1 of the published form, sigma the d-th singular value of K (0 if K has not rank d)."""
OFFSET = SLOPE * TURNED
"""c_2 of the published form."""

LOWER_BEFORE = SLOPE * STEP_BEFORE - OFFSET
UPPER_BEFORE = lam * KEY_NORM_MAX * (STEP_BEFORE + TURNED)

SIGMA_CENTRED, DIAMETER = sp.symbols("sigma_centred diameter", nonnegative=True)
"""Smallest nonzero singular value of the keys less their mean, 0 if there is none; largest distance
of two keys. With them, `step` is the norm of dq projected on the span of differences of keys."""

OSCILLATION_LOWER = 2 * lam * SIGMA_CENTRED / sp.sqrt(KEYS) * STEP
OSCILLATION_UPPER = lam * DIAMETER * STEP

QUERY_NORM, QUERY_NORM_S = sp.symbols("query_norm query_norm_s", positive=True)
SIMILARITY = sp.Symbol("similarity", real=True)
"""||q_t||, ||q_{t+1}|| and their cosine, all before RoPE or all after it."""

STEP_SQUARED = (QUERY_NORM_S - QUERY_NORM) ** 2 + 2 * QUERY_NORM * QUERY_NORM_S * (1 - SIMILARITY)
"""||q_{t+1} - q_t||^2 from norms and cosine."""

SUFFICIENT = lam * KEY_NORM_MAX * sp.sqrt(STEP_SQUARED)
"""Largest logit change that norms and cosine, after RoPE, allow."""

CHANGE_MAX = sp.Symbol("change_max", nonnegative=True)
"""Largest logit change ||a_{t+1} - a_t||_inf."""

NECESSARY = (KEYS * CHANGE_MAX**2 / (lam * SIGMA) ** 2 - (QUERY_NORM_S - QUERY_NORM) ** 2) / (
    2 * QUERY_NORM * QUERY_NORM_S
)
"""Largest 1 - cosine, after RoPE, that a logit change of change_max leaves possible; the keys
have rank d, sigma is their d-th singular value and positive."""

THEOREM = Theorem(
    id="proposition_4_1",
    title="Query change forces logit change",
    source=f"{PAPER}, Proposition 4.1",
    statement=(
        r"\frac{\lambda\sigma^+}{\sqrt n}\,\|\Pi\Delta\tilde q\| \le"
        r" \|a_{t+1} - a_t\|_\infty \le \lambda \max_i\|k_i\|\,\|\Pi\Delta\tilde q\|"
    ),
    hypotheses=(
        r"$\Pi$ projects on the span of the n post-RoPE keys visible to both rows",
        r"$\sigma^+$ is the smallest nonzero singular value of those keys, 0 if all of them are 0",
        r"$\lambda$ is one number: a factor that RoPE gives a channel belongs to its keys; logits"
        " are not soft-capped (the upper side holds for soft-capped ones too)",
    ),
    published=PublishedForm(
        text=(
            r"As publicly summarised: $\|a_{t+1} - a_t\|_\infty \ge c_1\|q_{t+1} - q_t\| - c_2$; so"
            " high q-similarity is necessary for a temporally stable pattern."
        ),
        reading=(
            r"the constants are not given in the summary; with $c_1 = \lambda\sigma_d/\sqrt n$ and"
            r" $c_2 = c_1(\sum_m 4\sin^2(\theta_m/2)|z_t^m|^2)^{1/2}$ the form holds, and is"
            " not checked on heads"
        ),
    ),
    bound=UPPER,
    auxiliary={
        "lower": LOWER,
        "turned_squared": TURNED_SQUARED,
        "lower_before": LOWER_BEFORE,
        "upper_before": UPPER_BEFORE,
        "oscillation_lower": OSCILLATION_LOWER,
        "oscillation_upper": OSCILLATION_UPPER,
        "step_squared": STEP_SQUARED,
        "sufficient": SUFFICIENT,
        "necessary": NECESSARY,
    },
)
