"""One bound of a theorem on arrays: many instances at once, and what is observed against it.

Instances are dictionaries of arrays whose first axis is the batch: channel vectors (batch, M) or
(batch, n, M), numbers (batch,). What a hypothesis ties together (a radius, a norm, a largest step)
is computed in `sides` from the free arrays, so that every value of these is an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulations.head import SyntheticHead
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.arrays import Array, namespace
from tappa_theory.energy import channel_gain
from tappa_theory.rope import Rope
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import LOGIT

Values = Mapping[str, Array]
"""Instances by name: numpy arrays, or torch tensors where a gradient is wanted."""
Instances = dict[str, np.ndarray]


class Sides(NamedTuple):
    """Both sides of a bound, (batch,) each: observed <= bound up to rounding.

    Of a bound from below, observed is the theorem's expression and bound the measured quantity.
    rounding: what float64 may at most have added to observed - bound.
    """

    observed: Array
    bound: Array
    rounding: Array


@dataclass(frozen=True)
class Bound:
    """One inequality of a theorem, and instances of it.

    theorem: its id. name: the theorem's id, or "id.part" for an auxiliary form.
    sharp: proved attained, so that no smaller bound holds.
    free: names of the arrays (real or complex) that a search may change to any value.
    draw: random instances, from a generator, the number of channels M and the batch.
    sides: both sides; evaluates the registry's expression. equality: as draw, on the bound or as
    near to it as float64 resolves. from_head: as draw, from the queries and keys of one head.
    differentiable: does torch find a gradient of the sides? channels: does M matter at all?
    sizes: the M at which it is attacked.
    """

    theorem: str
    name: str
    sharp: bool
    free: tuple[str, ...]
    draw: Callable[[np.random.Generator, int, int], Instances]
    sides: Callable[[Values], Sides]
    equality: Callable[[np.random.Generator, int, int], Instances] | None = None
    from_head: Callable[[np.random.Generator, SyntheticHead, int], Instances] | None = None
    differentiable: bool = True
    channels: bool = True
    sizes: tuple[int, ...] = (1, 4, 32)

    def __post_init__(self) -> None:
        if not self.channels:
            object.__setattr__(self, "sizes", (1,))

    def ratios(self, values: Instances) -> np.ndarray:
        """(batch,) observed/bound less what rounding may have added; 0 where both are 0."""
        observed, bound, rounding = (np.asarray(side) for side in self.sides(values))
        above = np.maximum(observed - rounding, 0.0)
        safe = np.where(bound > 0, bound, 1.0)
        return np.where(bound > 0, above / safe, np.where(above > 0, np.inf, 0.0))

    def perturbed(
        self, values: Instances, rng: np.random.Generator, size: float | np.ndarray
    ) -> Instances:
        """The same instances with noise on every free array, `size` times its root mean square.

        size: one number, or one for each instance, (batch,).
        """
        moved = dict(values)
        for name in self.free:
            array = values[name]
            noise = rng.standard_normal(array.shape)
            if np.iscomplexobj(array):
                noise = (noise + 1j * rng.standard_normal(array.shape)) / np.sqrt(2)
            wide = np.reshape(size, (-1, *(1,) * (array.ndim - 1)))
            moved[name] = array + wide * root_mean_square(array) * noise
        return moved


def root_mean_square(array: np.ndarray) -> np.ndarray:
    """Of each instance, broadcasting against the array; 1 where an instance is all 0."""
    axes = tuple(range(1, array.ndim))
    size = np.sqrt(np.mean(np.abs(array) ** 2, axis=axes, keepdims=True)) if axes else np.abs(array)
    return np.where(size > 0, size, 1.0)


def norm(vectors: Array) -> Array:
    """Euclidean norm along the last axis, of components or of channels."""
    return namespace(vectors).linalg.vector_norm(vectors, axis=-1)


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard complex normal numbers of that shape."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def channel_vectors(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Complex vectors (batch, ..., M) of random norm, some with most energy on a few channels."""
    width = rng.uniform(0.0, 2.0, (shape[0],) + (1,) * (len(shape) - 1))
    return np.exp(width * rng.standard_normal(shape)) * complex_normal(rng, *shape)


BASES = (10.0, 500.0, 10_000.0, 500_000.0)


@lru_cache(maxsize=32)
def _rope_frequencies(channels: int) -> np.ndarray:
    return np.array(
        [Rope.from_parameters(2 * channels, {"rope_theta": base}).frequencies for base in BASES]
    )


def frequencies(rng: np.random.Generator, channels: int, batch: int) -> np.ndarray:
    """(batch, M) theta of RoPE at a random base, or any angles between 0 and pi, half and half."""
    genuine = _rope_frequencies(channels)[rng.integers(len(BASES), size=batch)]
    angles = rng.uniform(0.0, np.pi, (batch, channels))
    return np.where(rng.random((batch, 1)) < 0.5, genuine, angles)


def scales(rng: np.random.Generator, channels: int, batch: int) -> np.ndarray:
    """(batch, M) lambda: one number for each instance about 1/sqrt(d), the same on its channels."""
    scale = np.exp(rng.uniform(-1, 1, (batch, 1))) / np.sqrt(2 * channels)
    return np.broadcast_to(scale, (batch, channels)).copy()


def gains(head: SyntheticHead, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """(theta, lambda) of a head, (batch, M) each, lambda with RoPE's attention scaling."""
    shape = (batch, head.rope.frequencies.size)
    gain = np.asarray(channel_gain(head.rope, head.scale))
    return np.broadcast_to(head.rope.frequencies, shape).copy(), np.broadcast_to(gain, shape).copy()


def logit(z: Array, w: Array, theta: Array, lam: Array, t: Array, i: Array) -> Array:
    """Sum over the channels (last axis) of `LOGIT`; t and i broadcast against the channels."""
    values = {"z": z, "w": w, "theta": theta, "lambda": lam, "t": t, "i": i}
    return namespace(z).sum(evaluate(LOGIT, values), axis=-1)


def sum_rounding(size: Array, angle: Array, channels: int) -> Array:
    """What float64 may add to sums over channels of rotated products, (batch,).

    size: sum of the moduli of all that is added up. angle: largest |angle| in a sine or cosine;
    it is rounded to |angle| u, twice. A sum of M terms takes M - 1 roundings, a term at most 24
    (products, roots, sine and cosine within 2 ulp), and both sides are charged alike.
    """
    return UNIT_ROUNDOFF * (channels + 24 + 2 * angle) * size
