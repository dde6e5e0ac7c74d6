"""q-similarity and k-similarity: cosine similarity of a head's own vectors over time.

Every function takes vectors (..., T, d), real, or RoPE channels (..., T, M), complex (a channel
counts as two components), of numpy or torch, and returns float64 of shape (...). Vectors of norm
zero are excluded, as are positions where `valid` (..., T) is false. Whether the result is before or
after RoPE is decided by what is passed in.

Raises InputError where nothing is left to average or a counted vector is not finite, never NaN.
"""

from typing import Any

from tappa_theory.arrays import Array, namespace, real_vectors
from tappa_theory.errors import InputError


def _unit(x: Array, valid: Array | None) -> tuple[Array, Array]:
    """Unit vectors (zero where excluded), float64, and which rows count, both of x's kind."""
    xp = namespace(x)
    x = real_vectors(x)
    norm = xp.linalg.vector_norm(x, axis=-1)
    present = xp.ones_like(norm, dtype=xp.bool) if valid is None else valid != 0
    if bool(xp.any(present & ~xp.isfinite(norm))):
        raise InputError("a vector is not finite (NaN or infinity); similarity needs numbers")
    counted = present & (norm > 0)
    safe = xp.where(counted, norm, xp.ones_like(norm))
    return xp.where(counted[..., None], x / safe[..., None], xp.zeros_like(x)), counted


def _mean(total: Array, count: Array, what: str) -> Array:
    xp = namespace(total)
    if bool(xp.any(count < 1)):
        raise InputError(f"{what} needs at least one pair of nonzero vectors; give a longer text")
    return total / xp.astype(count, xp.float64)


def lag(x: Array, lag: int, valid: Array | None = None) -> Array:
    """Mean over t of cos(x_t, x_{t+lag}).

    Raises InputError if lag < 1, or no pair of nonzero vectors lies that far apart.
    """
    if lag < 1:
        raise InputError(f"a lag of {lag} positions given; pass a lag of 1 or more")
    xp = namespace(x)
    unit, counted = _unit(x, valid)
    both = counted[..., lag:] & counted[..., :-lag]
    total = xp.sum(unit[..., lag:, :] * unit[..., :-lag, :], axis=(-2, -1))
    return _mean(total, xp.sum(xp.astype(both, xp.int64), axis=-1), f"similarity at lag {lag}")


def adjacent(x: Array, valid: Array | None = None) -> Array:
    """Mean over t of cos(x_t, x_{t+1})."""
    return lag(x, 1, valid)


def all_pairs(x: Array, valid: Array | None = None) -> Array:
    """Mean of cos(x_s, x_t) over all s != t, without a T x T matrix.

    With u_t the unit vectors and N of them nonzero: (|sum_t u_t|^2 - N) / (N (N - 1)).
    """
    xp = namespace(x)
    unit, counted = _unit(x, valid)
    n = xp.sum(xp.astype(counted, xp.int64), axis=-1)
    square = xp.sum(xp.sum(unit, axis=-2) ** 2, axis=-1)
    return _mean(square - xp.astype(n, xp.float64), n * (n - 1), "all-pairs similarity")


def window(x: Array, size: int = 32, valid: Array | None = None) -> Array:
    """`all_pairs` over the last `size` valid positions (over all of them where there are fewer).

    Raises InputError if size < 2.
    """
    if size < 2:
        raise InputError(f"a window of {size} positions given; pass 2 or more")
    if valid is None:
        return all_pairs(x[..., -size:, :])
    xp = namespace(x, valid)
    ones = xp.astype(xp.flip(valid != 0, axis=-1), xp.int64)
    rank_from_end = xp.flip(xp.cumulative_sum(ones, axis=-1), axis=-1)
    return all_pairs(x, (valid != 0) & (rank_from_end <= size))


def all_lags(x: Array, valid: Array | None = None) -> Array:
    """`lag` for every lag at once, (..., T): entry L is the mean over t of cos(x_t, x_{t+L}).

    Entry 0 is 1. By fast Fourier transform, O(T log T d). Lags without a pair hold 0.
    Raises InputError if no vector is nonzero.
    """
    xp: Any = namespace(x)
    unit, counted = _unit(x, valid)
    if not bool(xp.all(xp.any(counted, axis=-1))):
        raise InputError("similarity needs at least one nonzero vector; give a longer text")
    length = unit.shape[-2]
    total = lag_products(unit)
    count = lag_products(xp.astype(counted, xp.float64)[..., None])
    mean = xp.where(count > 0.5, total / xp.where(count > 0.5, count, xp.ones_like(count)), 0.0)
    return mean[..., :length]


def lag_products(x: Array) -> Array:
    """(..., T): sum over t of <x_t, x_{t+L}> for every lag L, of real vectors (..., T, d)."""
    xp = namespace(x)
    length = x.shape[-2]
    spectrum = xp.fft.rfft(x, n=2 * length, axis=-2)
    power = xp.sum(xp.abs(spectrum) ** 2, axis=-1)
    return xp.fft.irfft(power, n=2 * length, axis=-1)[..., :length]
