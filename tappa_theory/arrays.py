"""One code path for numpy arrays and torch tensors, over array-api-compat."""

from typing import Any

import array_api_compat
import numpy as np

from tappa_theory.errors import InputError

Array = Any
"""A numpy array or a torch tensor on any device."""


def namespace(*arrays: Array) -> Any:
    """The array-API namespace (numpy's or torch's) that all arrays share.

    Raises InputError if one of them is neither, or if they are of different kinds.
    """
    try:
        return array_api_compat.array_namespace(*arrays)
    except TypeError as error:
        kinds = ", ".join(sorted({type(array).__name__ for array in arrays}))
        raise InputError(
            f"arrays of type {kinds} given; pass numpy arrays only or torch tensors only"
        ) from error


def asarray_like(values: Any, like: Array, dtype: Any = None) -> Array:
    """`values` (nested lists or an array) as an array of the kind and on the device of `like`."""
    xp = namespace(like)
    if array_api_compat.is_torch_array(like) and isinstance(values, np.ndarray):
        values = values.copy()  # torch warns when it would share a read-only buffer
    return xp.asarray(values, dtype=dtype, device=array_api_compat.device(like))


def as_float64(x: Array) -> Array:
    """`x` in float64, same shape, kind and device.

    Raises InputError if `x` is not real floating-point (float16, bfloat16, float32, float64).
    """
    xp = namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        raise InputError(f"an array of dtype {x.dtype} given; pass real floating-point numbers")
    return xp.astype(x, xp.float64, copy=False)


def as_complex128(x: Array) -> Array:
    """`x` in complex128, same shape, kind and device.

    Raises InputError if `x` is not floating-point, real or complex.
    """
    xp = namespace(x)
    if not xp.isdtype(x.dtype, ("real floating", "complex floating")):
        raise InputError(f"an array of dtype {x.dtype} given; pass floating-point numbers")
    return xp.astype(x, xp.complex128, copy=False)


def real_vectors(x: Array) -> Array:
    """Vectors (..., d) in float64 as they are, channels (..., M) as their (..., 2M) components."""
    xp = namespace(x)
    if xp.isdtype(x.dtype, "complex floating"):
        x = as_complex128(x)
        return xp.concat([xp.real(x), xp.imag(x)], axis=-1)
    return as_float64(x)


def to_numpy(x: Array) -> np.ndarray:
    """`x` as a numpy array in main memory, without its gradient history."""
    if array_api_compat.is_torch_array(x):
        x = x.detach()
    return np.asarray(array_api_compat.to_device(x, "cpu"))


def largest(x: Array, count: int) -> tuple[Array, Array]:
    """(values, indices), (..., count): the largest entries along the last axis, largest first."""
    if array_api_compat.is_torch_array(x):
        found = x.topk(count, dim=-1)
        return found.values, found.indices
    index = np.argsort(-x, axis=-1, kind="stable")[..., :count]
    return np.take_along_axis(x, index, axis=-1), index
