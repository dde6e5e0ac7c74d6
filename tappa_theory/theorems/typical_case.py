"""Typical case: the mean squared logit change is a trace of second moments."""

import sympy as sp

from tappa_theory.shift_identity import lam
from tappa_theory.theorems.query_drift import KEY_A, KEY_B, STEP_A, STEP_B
from tappa_theory.theorems.theorem import PublishedForm, Theorem

QUERY_MOMENT, KEY_MOMENT = sp.symbols("m_q m_k", real=True)
"""Entry (a, b) of the second moments, not centred: the means of `QUERY_TERM` over the steps t, of
`KEY_TERM` over the keys i. Coordinates after RoPE."""
QUERY_TERM = STEP_A * STEP_B
KEY_TERM = KEY_A * KEY_B

RECTANGLE_TERM = lam**2 * QUERY_MOMENT * KEY_MOMENT
"""One pair of coordinates of the mean of (Delta a)^2 where every step sees the same keys: summed
over a and b it is lambda^2 tr(M_q M_k)."""

ROW_TERM = lam**2 * STEP_A * STEP_B * KEY_MOMENT
"""One pair of coordinates of the mean of (Delta a)^2 over row t: `KEY_MOMENT` over its keys only.
With the covariance of those keys instead it is the variance of the row's logit changes, which a
constant over the row leaves alone."""

VISIBLE, ROW_SQUARE = sp.symbols("N mean_square_t", nonnegative=True)
"""Number of keys in row t (the visible ones), and the row's mean of (Delta a)^2."""
MASKED_TERM = VISIBLE * ROW_SQUARE
"""One row of the sum of squares under a mask; over the sum of `VISIBLE` it is the mean."""

MEAN_SQUARE = sp.Symbol("mean_square", nonnegative=True)
"""Mean of (Delta a)^2 over the pairs."""
THRESHOLD = sp.Symbol("x", positive=True)
"""A size of logit change."""
EXCEEDING = MEAN_SQUARE / THRESHOLD**2
"""Largest share of the pairs with |Delta a| >= `THRESHOLD`."""

THEOREM = Theorem(
    id="typical_case",
    title="Typical case: the mean squared logit change is a trace",
    source="not in the paper: the average over pairs, where the other bounds take the worst pair",
    statement=(
        r"\frac1{Tn}\sum_{t,i}(\Delta a_{t,i})^2 = \lambda^2\,\mathrm{tr}(M_q M_k),\qquad"
        r" \mathrm{share}\{|\Delta a| \ge x\} \le \frac{\lambda^2\,\mathrm{tr}(M_q M_k)}{x^2}"
    ),
    hypotheses=(
        r"$\Delta a_{t,i} = \lambda\langle\Delta q_t, k_i\rangle$, queries and keys after RoPE;"
        r" $M_q$ is the mean of $\Delta q_t \Delta q_t^T$ over the T steps, $M_k$ the mean of"
        r" $k_i k_i^T$ over the n keys, neither centred",
        r"every step sees all n keys; under a mask the second moment of the keys is that of each"
        r" row, and the rows are weighted by their numbers of keys",
    ),
    published=PublishedForm(
        text="Nothing is published: the paper's theorems bound every pair.",
        reading="there is no published form to compare with",
    ),
    bound=EXCEEDING,
    auxiliary={
        "query_term": QUERY_TERM,
        "key_term": KEY_TERM,
        "rectangle_term": RECTANGLE_TERM,
        "row_term": ROW_TERM,
        "masked_term": MASKED_TERM,
    },
)
