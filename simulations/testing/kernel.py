"""Someone's rotate function with what must be known to test it: RoPE, number types and shapes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulations.number_formats import rounded
from simulations.testing.arithmetic import Arithmetic
from simulations.testing.strategies import Lengths
from tappa_theory.arrays import Array, as_float64, to_numpy
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, to_channels

Rotate = Callable[[Any, Any], Any]
"""rotate(x, positions) -> x after RoPE; positions (T,) integers, x (T, d) or (heads, T, d)."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A rotate function and the arrays it takes.

    dtype: of the arrays, numpy's or torch's; torch's means tensors, on `device`. context: positions
    are below it. lengths: T, or the least and the largest T. heads: None for x (T, d).
    consecutive: positions are start, start + 1, ...
    """

    rotate: Rotate
    rope: Rope
    dtype: Any
    arithmetic: Arithmetic
    context: int
    lengths: Lengths
    heads: int | None = None
    consecutive: bool = False
    device: Any = None

    def __post_init__(self) -> None:
        if not self.rope.rotary_dim:
            raise InputError("this Rope turns nothing, so there is no law to test; pass another")
        if not 2 <= self.context <= self.arithmetic.last_position:
            raise InputError(
                f"a context of {self.context} positions given; at least 2, and at most"
                f" {self.arithmetic.last_position}, which {self.arithmetic.angles} still holds"
                " exactly, can be tested"
            )

    def rounded(self, x: Array) -> np.ndarray:
        """What the kernel is given of these vectors, as float64 in numpy."""
        return rounded(to_numpy(as_float64(x)), self.arithmetic.dtype)

    def __call__(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The kernel's rotation of float64 vectors that its dtype holds exactly.

        Raises AssertionError if the answer has another shape or is not finite.
        """
        answer = self.rotate(self._array(x, self.dtype), self._array(positions, None))
        turned = to_numpy(as_float64(answer))
        if turned.shape != x.shape:
            raise AssertionError(f"shape: vectors {x.shape} came back as {turned.shape} after RoPE")
        lost = np.argwhere(~np.isfinite(turned))
        if len(lost):
            row, component = lost[0][-2:]
            value = turned[tuple(lost[0])]
            raise AssertionError(
                f"finite: position {positions[row]}, component {component} is {value} after RoPE,"
                f" of vectors up to {np.max(np.abs(x)):.3g}"
            )
        return turned

    def channels(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The kernel's rotation as complex channels, (..., T, M)."""
        return to_channels(self(x, positions), self.rope)

    def exact(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The exact rotation as complex channels, (..., T, M)."""
        return rotate(to_channels(x, self.rope), self.rope, positions)

    def _array(self, values: np.ndarray, dtype: Any) -> Array:
        if not is_torch(self.dtype):
            return np.array(values, dtype=dtype)
        torch = sys.modules["torch"]
        return torch.tensor(values, dtype=dtype, device=self.device)


def is_torch(dtype: Any) -> bool:
    """Is it a dtype of torch's?"""
    return str(dtype).startswith("torch.")


def dtype_name(dtype: Any) -> str:
    """The name of a numpy or torch dtype, such as "bfloat16".

    Raises InputError if it is neither.
    """
    if is_torch(dtype):
        return str(dtype).removeprefix("torch.")
    try:
        return np.dtype(dtype).name
    except TypeError as error:
        raise InputError(
            f"dtype {dtype!r} is not one of numpy's; pass for example 'float32' or torch.bfloat16"
        ) from error
