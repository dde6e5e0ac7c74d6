"""What a wrong kernel does instead: usual mistakes, tried on vectors that tell them apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from simulations.testing.kernel import Kernel
from simulations.testing.rounding import EXACT, rounded
from tappa_theory.rope import Rope, rotate, to_channels, to_vectors

BASES = (10_000.0, 500_000.0, 1_000_000.0, 100_000.0, 5_000_000.0, 10_000_000.0)
"""Bases of models in use, tried where a kernel may have another one than its Rope."""


@dataclass(frozen=True, eq=False)
class Hints:
    """The usual mistake that explains what a kernel does, if one does; looked for only once."""

    kernel: Kernel

    def __str__(self) -> str:
        return f"; the kernel turns as {self.mistake} would" if self.mistake else ""

    @cached_property
    def mistake(self) -> str | None:
        """The first of the usual mistakes that the kernel's answers fit within rounding."""
        kernel = self.kernel
        positions = self._positions()
        shape = (len(positions), kernel.rope.head_dim)
        if kernel.heads is not None:
            shape = (kernel.heads, *shape)
        x = kernel.rounded(np.random.default_rng(0).standard_normal(shape))
        try:
            found = kernel(x, positions)
        except AssertionError:
            return None
        for words, rope, angles in self._mistakes(positions):
            z = to_channels(x, rope)
            pairs = rope.rotary_dim // 2
            turn = np.ones((len(positions), z.shape[-1]), dtype=np.complex128)
            turn[:, :pairs] = rope.attention_scaling * np.exp(1j * angles)
            size = np.abs(z)
            allowed = sum(
                each.channel_error(size, rope, positions + 1)
                for each in (kernel.arithmetic, EXACT)
            )
            if np.all(np.abs(to_channels(found, rope) - z * turn) <= allowed):
                return words
        return None

    def _positions(self) -> np.ndarray:
        """As many as the kernel takes at once, small ones and some where 8 bits are too few."""
        lengths = self.kernel.lengths
        count = lengths if isinstance(lengths, int) else lengths[1]
        last = self.kernel.context - 2
        if self.kernel.consecutive:
            start = max(min(1001, last - count + 1), 0)
            return start + np.arange(count)
        some = np.array([1, 3, 1001, 2, 517, 5, 30_001, 77_777])
        return np.minimum(np.resize(some, count), last)

    def _mistakes(self, at: np.ndarray) -> Iterator[tuple[str, Rope, np.ndarray]]:
        """Words, the RoPE whose layout and scaling they mean, and the angles (T, r/2)."""
        rope = self.kernel.rope
        theta = rope.frequencies[: rope.rotary_dim // 2]
        angles = at[:, None] * theta
        other = "interleaved" if rope.layout == "half" else "half"
        yield f"the layout {other!r}", replace(rope, layout=other), angles
        yield "positions one too large", rope, angles + theta
        yield "positions one too small", rope, angles - theta
        yield "the opposite direction", rope, -angles
        if rope.attention_scaling != 1.0:
            yield "no attention scaling", replace(rope, attention_scaling=1.0), angles
        if rope.type == "default" and rope.base is not None:
            exponent = 2 * np.arange(theta.size) / rope.rotary_dim
            for base in BASES:
                if base != rope.base:
                    yield f"base {base:g}", rope, at[:, None] * base**-exponent
        for dtype in ("bfloat16", "float16"):
            narrow = rounded(theta, dtype)
            yield f"frequencies in {dtype}", rope, at[:, None] * narrow
            with np.errstate(over="ignore"):
                product = rounded(rounded(at.astype(np.float64), dtype)[:, None] * narrow, dtype)
            if np.all(np.isfinite(product)):
                yield f"angles in {dtype}", rope, product
                yield f"positions in {dtype}", rope, rounded(at.astype(float), dtype)[:, None] * theta
