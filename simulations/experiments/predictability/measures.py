"""What foretells the next attention row, and how alike the next row is: by step and by head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from scipy.stats import rankdata

from simulations.head import SyntheticHead
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.arrays import real_vectors
from tappa_theory.attention import causal
from tappa_theory.drift import key_metric_drift
from tappa_theory.patterns import observed_rows
from tappa_theory.predictability import shift_aware_recall
from tappa_theory.separable import evaluate
from tappa_theory.theorems.typical_case import KEY_TERM, MASKED_TERM, ROW_TERM

PREDICTORS = ("q_before", "q_after", "key_metric", "mean_square", "variance")
"""Cosine of adjacent queries before and after RoPE; key-metric drift, nats; mean square and
variance of the logit changes of a row, from second moments (theorem typical_case)."""
RESPONSES = ("total_variation", "kl", "kl_whole", "recall")
"""Between consecutive rows: total variation; KL over the keys of the earlier row, and with the new
key, nats; shift-aware recall."""

CONSTANT = 1e-9
"""A column that varies by no more of its largest modulus is constant, and has no ranks."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Predictors and responses of the steps of a head, (R,) each, by name.

    mean_square: over all pairs, from the rows' moments. error: largest distance of a row's mean
    square or variance by moments from the plain one, over what rounding may make it; 1 at most.
    """

    columns: Mapping[str, np.ndarray]
    mean_square: float
    error: float

    def means(self) -> dict[str, float]:
        """Mean over the steps; of the mean square, over the pairs."""
        found = {name: float(column.mean()) for name, column in self.columns.items()}
        return found | {"mean_square": self.mean_square}

    def correlations(self) -> dict[tuple[str, str], float]:
        """Spearman's rho over the steps by (predictor, response), where neither is constant."""
        names = PREDICTORS + RESPONSES
        ranks = {
            name: rankdata(self.columns[name])
            for name in names
            if np.ptp(self.columns[name]) > CONSTANT * np.abs(self.columns[name]).max()
        }
        return {
            (predictor, response): float(np.corrcoef(ranks[predictor], ranks[response])[0, 1])
            for predictor in PREDICTORS
            for response in RESPONSES
            if predictor in ranks and response in ranks
        }


def steps(head: SyntheticHead) -> Steps:
    """The steps from one observed row to the next."""
    rows = np.arange(observed_rows(head.length), head.length - 1)
    seen = causal(rows, head.length)
    now, then = head.attention[rows], head.attention[rows + 1]
    change = np.where(seen, head.logits[rows + 1] - head.logits[rows], 0.0)
    square, variance, error = _moments(head, rows, change, seen)
    counts = seen.sum(axis=1).astype(np.float64)
    masked = evaluate(MASKED_TERM, {"N": counts, "mean_square_t": square})
    columns = {
        "q_before": _cosines(head.z)[rows],
        "q_after": _cosines(head.query)[rows],
        "key_metric": key_metric_drift(change, now),
        "mean_square": square,
        "variance": variance,
        "total_variation": np.abs(then - now).sum(axis=1) / 2,
        "kl": _divergence(head.logits, now, rows, seen),
        "kl_whole": _divergence(head.logits, now, rows, causal(rows + 1, head.length)),
        "recall": shift_aware_recall(head.attention[rows[0] :]),
    }
    return Steps(columns, float(masked.sum() / counts.sum()), error)


def _cosines(x: np.ndarray) -> np.ndarray:
    """(T - 1,) cosine of neighbours."""
    unit = real_vectors(x)
    unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
    return np.sum(unit[1:] * unit[:-1], axis=-1)


def _divergence(
    logits: np.ndarray, now: np.ndarray, rows: np.ndarray, later: np.ndarray
) -> np.ndarray:
    """KL(P_t || P_{t+1}), nats, with P_{t+1} over the keys `later`."""
    seen = now > 0
    log_now, log_then = (
        logit - logsumexp(np.where(keys, logit, -np.inf), axis=1, keepdims=True)
        for logit, keys in (
            (logits[rows], causal(rows, len(logits))),
            (logits[rows + 1], later),
        )
    )
    return np.sum(np.where(seen, now * (log_now - log_then), 0.0), axis=1)


def _moments(
    head: SyntheticHead, rows: np.ndarray, change: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean square and variance of the logit changes by row from second moments, and `Steps.error`.

    Between two sums of squares of numbers that differ by four rounded logits d lie at most
    (2 root mean square + d) d, and the trace is a sum of products that can cancel.
    """
    query, key = head.query, head.key
    counts = np.arange(1.0, head.length + 1)
    products = evaluate(KEY_TERM, {"k_a": key[:, :, None], "k_b": key[:, None, :]})
    second = (np.cumsum(products, axis=0) / counts[:, None, None])[rows]
    mean = (np.cumsum(key, axis=0) / counts[:, None])[rows]
    around = second - evaluate(KEY_TERM, {"k_a": mean[:, :, None], "k_b": mean[:, None, :]})
    move = query[rows + 1] - query[rows]
    values = {"lambda": head.scale, "dq_a": move[:, :, None], "dq_b": move[:, None, :]}
    found = [
        evaluate(ROW_TERM, values | {"m_k": moment}).sum(axis=(1, 2)) for moment in (second, around)
    ]
    total = seen.sum(axis=1)
    plain = [np.sum(change**2, axis=1) / total]
    centred = np.where(seen, change - (change.sum(axis=1) / total)[:, None], 0.0)
    plain.append(np.sum(centred**2, axis=1) / total)

    apart = 4 * head.logit_error
    size = head.scale**2 * np.sum(move**2, axis=1) * np.sum(key**2, axis=1).max()
    terms = key.shape[1] ** 2 + head.length + 16
    allowed = 2 * terms * UNIT_ROUNDOFF * size + (2 * np.sqrt(plain[0]) + apart) * apart
    errors = [np.abs(a - b) / allowed for a, b in zip(found, plain, strict=True)]
    return found[0], found[1], float(np.max(errors))


def spearman(values: np.ndarray) -> np.ndarray:
    """(..., C, C) rank correlations of the columns of (..., n, C); 0 where a column is constant."""
    ranks = rankdata(values, axis=-2)
    ranks -= ranks.mean(axis=-2, keepdims=True)
    norms = np.linalg.norm(ranks, axis=-2)
    ranks /= np.where(norms > 0, norms, 1.0)[..., None, :]
    return np.swapaxes(ranks, -1, -2) @ ranks


def resampled(rng: np.random.Generator, count: int, times: int) -> np.ndarray:
    """(times, count) indices of bootstrap samples."""
    return rng.integers(count, size=(times, count))


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2.5% and 97.5% quantiles over the first axis."""
    low, high = np.quantile(values, (0.025, 0.975), axis=0)
    return low, high
