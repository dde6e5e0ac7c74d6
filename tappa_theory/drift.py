"""How far a query moves in one step: in plain distance, and in the metric of the attended keys."""

from tappa_theory.arrays import Array, as_complex128, as_float64, namespace
from tappa_theory.errors import InputError


def relative_drift(x: Array, step: int = 1) -> Array:
    """(..., T - step): |x_{t+step} - x_t| / |x_t|, 0 where x_t is zero.

    x: vectors (..., T, d) or channels (..., T, M), before RoPE for drift of content.
    Raises InputError if step < 1.
    """
    if step < 1:
        raise InputError(f"a step of {step} positions given; pass a step of 1 or more")
    xp = namespace(x)
    x = as_complex128(x)
    base = xp.linalg.vector_norm(x[..., :-step, :], axis=-1)
    moved = xp.linalg.vector_norm(x[..., step:, :] - x[..., :-step, :], axis=-1)
    safe = xp.where(base > 0, base, xp.ones_like(base))
    return xp.where(base > 0, moved / safe, xp.zeros_like(base))


def key_metric_drift(difference: Array, attention: Array) -> Array:
    """Half the variance, under the attention row, of what a query step does to the logits.

    With difference = lambda * (K dq), so a_{t+1,i} - a_{t,i} over the keys i of row t, this is
    (1/2) lambda^2 dq^T Cov_P(k) dq, the second-order value of KL(P_t || P_{t+1}) on those keys.

    difference: (..., T) logit differences; attention: (..., T) the row P_t, 0 on hidden keys.
    Returns (...), nats.
    """
    xp = namespace(difference, attention)
    return 0.5 * xp.sum(attention * _centred(difference, attention) ** 2, axis=-1)


def step_divergence(difference: Array, attention: Array) -> Array:
    """KL(P_t || P_{t+1}) on the keys of row t, exactly: log E_P e^D - E_P D, nats, shape (...).

    difference, attention: as in `key_metric_drift`.
    """
    xp = namespace(difference, attention)
    centred = _centred(difference, attention)
    # exp must not overflow: the largest value is taken out first
    largest = xp.max(centred, axis=-1)
    rest = xp.sum(attention * xp.exp(centred - largest[..., None]), axis=-1)
    return largest + xp.log(rest)


def _centred(difference: Array, attention: Array) -> Array:
    """`difference` less its mean under `attention`, float64; 0 on hidden keys."""
    xp = namespace(difference, attention)
    visible = attention > 0
    zero = xp.zeros_like(as_float64(difference))
    difference = xp.where(visible, as_float64(difference), zero)
    mean = xp.sum(attention * difference, axis=-1)
    return xp.where(visible, difference - mean[..., None], zero)
