"""What a wrong kernel does instead: usual mistakes, tried on vectors that tell them apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from simulations.number_formats import rounded
from simulations.testing.arithmetic import EXACT
from simulations.testing.kernel import Kernel
from tappa_theory.rope import Layout, Rope, to_channels

BASES = (10_000.0, 500_000.0, 1_000_000.0, 100_000.0, 5_000_000.0, 10_000_000.0)
"""Bases of models in use, tried where a kernel may have another one than its Rope."""


@dataclass(frozen=True, eq=False)
class Hints:
    """The usual mistake that explains what a kernel does, if one does; looked for only once."""

    kernel: Kernel

    def __str__(self) -> str:
        return f"; the answers fit {self.mistake}" if self.mistake else ""

    @cached_property
    def mistake(self) -> str | None:
        """The first of the usual mistakes that the kernel's answers fit within rounding."""
        try:
            tried = [(x, at, self.kernel(x, at)) for x, at in self._probes()]
        except Exception:
            # a kernel that takes no such vectors; its failure is told without a hint
            return None
        names = [words for words, _, _ in self._mistakes(tried[0][1])]
        fits = [set(self._fitting(*one)) for one in tried]
        return next((words for words in names if all(words in each for each in fits)), None)

    def _fitting(self, x: np.ndarray, at: np.ndarray, found: np.ndarray) -> Iterator[str]:
        for words, rope, angles in self._mistakes(at):
            z = to_channels(x, rope)
            turn = np.ones((len(at), z.shape[-1]), dtype=np.complex128)
            turn[:, : rope.rotary_dim // 2] = rope.attention_scaling * np.exp(1j * angles)
            allowed = sum(
                # one position on, for the mistake that is one too large
                each.channel_error(np.abs(z), rope, at + 1)
                for each in (self.kernel.arithmetic, EXACT)
            )
            if np.all(np.abs(to_channels(found, rope) - z * turn) <= allowed):
                yield words

    def _probes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Vectors and positions that the kernel takes: small ones, and some beyond 8 bits."""
        kernel = self.kernel
        count = kernel.lengths if isinstance(kernel.lengths, int) else kernel.lengths[1]
        heads = () if kernel.heads is None else (kernel.heads,)
        rng = np.random.default_rng(0)
        last = kernel.context - 2
        some = np.array([1, 3, 1001, 2, 517, 5, 30_001, 77_777])
        for first in range(0, len(some), 1 if kernel.consecutive else count):
            if kernel.consecutive:
                at = max(min(int(some[first]), last - count + 1), 0) + np.arange(count)
            else:
                at = np.minimum(np.resize(some[first:], count), last)
            x = rng.standard_normal((*heads, count, kernel.rope.head_dim))
            yield kernel.rounded(x), at

    def _mistakes(self, at: np.ndarray) -> Iterator[tuple[str, Rope, np.ndarray]]:
        """Words, the RoPE whose layout and scaling they mean, and the angles (T, r/2)."""
        rope = self.kernel.rope
        theta = rope.frequencies[: rope.rotary_dim // 2]
        angles = at[:, None] * theta
        other: Layout = "interleaved" if rope.layout == "half" else "half"
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
                yield (
                    f"positions in {dtype}",
                    rope,
                    rounded(at.astype(float), dtype)[:, None] * theta,
                )
