"""Query drift: the KL divergence of a query step is drift in the metric of the attended keys."""

import sympy as sp

from tappa_theory.shift_identity import lam
from tappa_theory.theorems.attention_distance import OMEGA
from tappa_theory.theorems.theorem import PublishedForm, Theorem

ATTENTION = sp.Symbol("P", positive=True)
"""Attention of one key in the earlier row, over the keys that both rows see."""
CHANGE = sp.Symbol("D", real=True)
"""Logit change of one key, the later row less the earlier one."""
MEAN = sp.Symbol("mean", real=True)
"""Sum over the keys of `MEAN_TERM`: E_P D."""
MEAN_TERM = ATTENTION * CHANGE
EXPONENTIAL_TERM = ATTENTION * sp.exp(CHANGE - MEAN)
SQUARE_TERM = ATTENTION * (CHANGE - MEAN) ** 2
"""One key of `MEAN`, `EXPONENTIAL` and `VARIANCE`."""

EXPONENTIAL = sp.Symbol("exponential", positive=True)
"""E_P exp(D - E_P D), the sum over the keys of `EXPONENTIAL_TERM`."""
VARIANCE = sp.Symbol("variance", nonnegative=True)
"""Var_P(D), the sum over the keys of `SQUARE_TERM`."""

DIVERGENCE = sp.log(EXPONENTIAL)
"""KL(P || P'), nats, P' the later row over the same keys."""
KEY_METRIC = VARIANCE / 2
"""The divergence to second order, nats."""

STEP_A, STEP_B, KEY_A, KEY_B, MEAN_A, MEAN_B, COVARIANCE = sp.symbols(
    "dq_a dq_b k_a k_b mean_a mean_b covariance", real=True
)
"""Coordinates a and b, after RoPE, of the query step, of a key and of E_P k; Cov_P(k)_ab."""
COVARIANCE_TERM = ATTENTION * (KEY_A - MEAN_A) * (KEY_B - MEAN_B)
"""One key of `COVARIANCE`."""
METRIC_TERM = lam**2 * STEP_A * STEP_B * COVARIANCE
"""One pair of coordinates of `VARIANCE`."""

ERROR = OMEGA**3 / (36 * sp.sqrt(3))
"""Largest |KL - KEY_METRIC|."""
REVERSE_ERROR = OMEGA**3 / (18 * sp.sqrt(3))
"""Largest |KL(P' || P) - KEY_METRIC|, the variance still under P."""
QUADRATIC = OMEGA**2 / 8
"""Largest KL in either direction, to second order in omega."""

_SLOPE = (sp.exp(OMEGA) - 1) / OMEGA
LARGEST = sp.log(_SLOPE) + 1 / _SLOPE - 1
"""Largest KL in either direction at any omega > 0; it is attained.

This and the four below cancel in float64: of no use for omega below 1e-3, where QUADRATIC and
KEY_METRIC are within a part in a thousand of them.
"""

LOWER = VARIANCE * (sp.exp(-OMEGA) - 1 + OMEGA) / OMEGA**2
UPPER = VARIANCE * (sp.exp(OMEGA) - 1 - OMEGA) / OMEGA**2
"""Smallest and largest KL(P || P') of a given variance under P, omega > 0."""
REVERSE_LOWER = VARIANCE * (1 - (1 + OMEGA) * sp.exp(-OMEGA)) / OMEGA**2
REVERSE_UPPER = VARIANCE * (1 - (1 - OMEGA) * sp.exp(OMEGA)) / OMEGA**2
"""The same for KL(P' || P)."""

THEOREM = Theorem(
    id="query_drift",
    title="Query drift: divergence in the metric of the attended keys",
    source="not in the paper: the cumulants of the logit change",
    statement=(
        r"\left|\mathrm{KL}(P_t\|P_{t+1}) - \tfrac12\lambda^2\,\Delta q^T\,"
        r"\mathrm{Cov}_{P_t}(k)\,\Delta q\right| \le \frac{\omega^3}{36\sqrt3}"
    ),
    hypotheses=(
        "both rows are softmax rows over the same keys: a key that only one of them sees is left"
        " out and the row normalised again",
        r"queries and keys after RoPE; $\Delta q = q_{t+1} - q_t$; $\omega$ is the largest minus"
        r" the smallest of the logit changes $\lambda\langle\Delta q, k_i\rangle$",
    ),
    published=PublishedForm(
        text=(
            "Nothing is published on the divergence: as publicly summarised, the cosine of adjacent"
            " queries (q-similarity) stands for how little the attention changes."
        ),
        reading="there is no published bound to compare with",
    ),
    bound=ERROR,
    auxiliary={
        "divergence": DIVERGENCE,
        "key_metric": KEY_METRIC,
        "mean_term": MEAN_TERM,
        "exponential_term": EXPONENTIAL_TERM,
        "square_term": SQUARE_TERM,
        "covariance_term": COVARIANCE_TERM,
        "metric_term": METRIC_TERM,
        "quadratic": QUADRATIC,
        "largest": LARGEST,
        "lower": LOWER,
        "upper": UPPER,
        "reverse_error": REVERSE_ERROR,
        "reverse_lower": REVERSE_LOWER,
        "reverse_upper": REVERSE_UPPER,
    },
)
