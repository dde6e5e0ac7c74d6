"""How far a query moves in one step: in plain distance, and in the metric of the attended keys."""

from dataclasses import dataclass

from tappa_theory.arrays import Array, as_float64, namespace, real_vectors
from tappa_theory.errors import InputError


def relative_drift(x: Array, step: int = 1) -> Array:
    """(..., T - step): |x_{t+step} - x_t| / |x_t|, 0 where x_t is zero.

    x: vectors (..., T, d) or channels (..., T, M), before RoPE for drift of content.
    Raises InputError if step < 1.
    """
    if step < 1:
        raise InputError(f"a step of {step} positions given; pass a step of 1 or more")
    xp = namespace(x)
    x = real_vectors(x)
    base = xp.linalg.vector_norm(x[..., :-step, :], axis=-1)
    moved = xp.linalg.vector_norm(x[..., step:, :] - x[..., :-step, :], axis=-1)
    safe = xp.where(base > 0, base, xp.ones_like(base))
    return xp.where(base > 0, moved / safe, xp.zeros_like(base))


@dataclass(frozen=True)
class StepChange:
    """What one query step changes in the attention on the keys of the earlier row, (...) each.

    divergence: KL(P_t || P_{t+1}), nats. key_metric: its second-order value, nats.
    oscillation: omega, largest minus smallest logit change, over the keys with attention.
    """

    divergence: Array
    key_metric: Array
    oscillation: Array


def step_change(difference: Array, attention: Array) -> StepChange:
    """Measure a query step from the logit changes a_{t+1,i} - a_{t,i} and the attention row P_t.

    With difference D = lambda * (K dq):  KL = log E_P e^D - E_P D, and to second order
    (1/2) Var_P D = (1/2) lambda^2 dq^T Cov_P(k) dq: drift in the metric of the attended keys.

    difference: (..., T) logit changes, ignored where the attention is 0. attention: (..., T).
    """
    xp = namespace(difference, attention)
    difference = as_float64(difference)
    visible = attention > 0
    zero = xp.zeros_like(difference)
    difference = xp.where(visible, difference, zero)
    mean = xp.sum(attention * difference, axis=-1)
    # Hidden keys are set to the mean, which changes neither extreme.
    centred = xp.where(visible, difference - mean[..., None], zero)
    largest = xp.max(centred, axis=-1)
    weighted = attention * centred
    # exp must not overflow: the largest value is taken out first.
    rest = xp.sum(attention * xp.exp(centred - largest[..., None]), axis=-1)
    return change_of_sums(
        largest, xp.min(centred, axis=-1), rest, xp.sum(weighted * centred, axis=-1)
    )


def change_of_sums(
    largest: Array, smallest: Array, exponentials: Array, variance: Array
) -> StepChange:
    """`step_change` from sums and extremes over the keys with attention, (...) each.

    Of the centred changes C = D - E_P D: the largest, the smallest, E_P e^(C - largest) and
    E_P C^2; all are 0 where no key has attention.
    """
    xp = namespace(largest, smallest, exponentials, variance)
    some = exponentials > 0
    divergence = largest + xp.log(xp.where(some, exponentials, xp.ones_like(exponentials)))
    return StepChange(
        divergence=xp.clip(xp.where(some, divergence, xp.zeros_like(divergence)), 0, None),
        key_metric=0.5 * variance,
        oscillation=largest - smallest,
    )


def key_metric_drift(difference: Array, attention: Array) -> Array:
    """`StepChange.key_metric` alone: half the variance of the logit change under the attention."""
    return step_change(difference, attention).key_metric


def step_divergence(difference: Array, attention: Array) -> Array:
    """`StepChange.divergence` alone: KL(P_t || P_{t+1}) on the keys of row t, nats."""
    return step_change(difference, attention).divergence
