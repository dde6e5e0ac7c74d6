"""What each law of RoPE measures on a kernel: how far it is off, and what rounding allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulations.testing.arithmetic import EXACT
from simulations.testing.kernel import Kernel
from tappa_theory.energy import channel_gain
from tappa_theory.rope import Rope, to_channels, to_vectors
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import INVARIANCE_LOSS, UNIT_ROUNDOFF

_U64 = float(UNIT_ROUNDOFF["float64"])


@dataclass(frozen=True, eq=False)
class Misfit:
    """What a law measured: error <= allowed, elementwise, and where an element stands.

    place: the element's place in words, from its index.
    """

    error: np.ndarray
    allowed: np.ndarray
    place: Callable[[tuple[int, ...]], str]

    @property
    def ratios(self) -> np.ndarray:
        """error / allowed; 0 where nothing is off, infinite where nothing is allowed."""
        some = self.allowed > 0
        ratio = self.error / np.where(some, self.allowed, 1.0)
        return np.where(some, ratio, np.where(self.error > 0, np.inf, 0.0))


def _allowed(kernel: Kernel, x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Largest |kernel's - float64's| of a channel, (..., T, M)."""
    size = np.abs(to_channels(x, kernel.rope))
    own, exact = (each.channel_error(size, kernel.rope, at) for each in (kernel.arithmetic, EXACT))
    return own + exact


def _length_error(kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """The same for what no angle enters."""
    size = np.abs(to_channels(x, kernel.rope))
    own, exact = (each.norm_error(size, kernel.rope) for each in (kernel.arithmetic, EXACT))
    return own + exact


def exact_angles(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    found, exact = kernel.channels(x, at), kernel.exact(x, at)
    z = to_channels(x, kernel.rope)

    def place(index: tuple[int, ...]) -> str:
        where = _at(kernel, at)(index)
        if z[index] == 0:
            return f"{where}, where only zeros went in"
        turned, wanted = (float(np.angle(c[index] * np.conj(z[index]))) for c in (found, exact))
        return f"{where} turned by {turned:.6g} instead of {wanted:.6g} rad"

    return Misfit(np.abs(found - exact), _allowed(kernel, x, at), place)


def position_0(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    at = at - at[0] if kernel.consecutive else np.zeros_like(at)
    rows = at == 0
    found, exact = kernel.channels(x, at), kernel.exact(x, at)

    def place(index: tuple[int, ...]) -> str:
        return f"position 0, {_channel(kernel.rope, index[-1])}"

    return Misfit(
        np.abs(found - exact)[..., rows, :], _length_error(kernel, x)[..., rows, :], place
    )


def norm(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    """Of the rotary components together, so that it holds in any layout."""
    turned = kernel(x, at)[..., : kernel.rope.rotary_dim]
    before = x[..., : kernel.rope.rotary_dim]
    error = np.linalg.norm(turned, axis=-1) - kernel.rope.attention_scaling * np.linalg.norm(
        before, axis=-1
    )

    def place(index: tuple[int, ...]) -> str:
        return f"position {at[index[-1]]}"

    # float64 norms: each a sum of r squares, and a root
    own = 2 * (kernel.rope.rotary_dim + 2) * _U64 * np.linalg.norm(turned, axis=-1)
    return Misfit(np.abs(error), np.linalg.norm(_length_error(kernel, x), axis=-1) + own, place)


def layout(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    """Every pair alone, a row at a time: what comes back outside it."""
    rope = kernel.rope
    pairs, rows = rope.frequencies.size, np.arange(len(at))
    # a pair of zeros would show nothing
    filled = np.where(x == 0, 1.0, x)
    outside = np.zeros((*x.shape[:-1], pairs))
    largest = np.zeros((*x.shape[:-1], pairs), dtype=np.int64)
    for first in range(0, pairs, len(at)):
        here = (rows + first) % pairs
        alone = np.zeros((len(at), pairs))
        alone[rows, here] = 1.0
        mask = to_vectors(alone * (1 + 1j), rope)
        found = np.abs(kernel(filled * mask, at)) * (1 - mask)
        outside[..., rows, here] = found.max(axis=-1)
        largest[..., rows, here] = found.argmax(axis=-1)

    def place(index: tuple[int, ...]) -> str:
        return (
            f"position {at[index[-2]]}, {_channel(rope, index[-1])} alone comes back in component"
            f" {largest[index]} too"
        )

    return Misfit(outside, np.zeros_like(outside), place)


def scaling(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    """By -1/2: exact in every type, and a change of sign."""
    half = kernel.rounded(-0.5 * x)
    error = np.abs(kernel.channels(half, at) + 0.5 * kernel.channels(2 * -half, at))
    allowed = _length_error(kernel, half) + 0.5 * _length_error(kernel, 2 * -half)
    return Misfit(error, allowed, _at(kernel, at))


def additivity(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    """Of the first and the second components of all pairs."""
    z = to_channels(x, kernel.rope)
    first, second = (to_vectors(part, kernel.rope) for part in (z.real + 0j, 1j * z.imag))
    parts = kernel.channels(first, at) + kernel.channels(second, at)
    allowed = _length_error(kernel, first) + _length_error(kernel, second)
    error = np.abs(kernel.channels(x, at) - parts)
    return Misfit(error, allowed + _length_error(kernel, x), _at(kernel, at))


def relative(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    """Every row as a query against every row as a key."""
    z = to_channels(x, kernel.rope)
    size = np.abs(z)
    some = np.where(size > 0, size, 1.0)
    scaling = np.sqrt(channel_gain(kernel.rope, 1.0))

    def logits(moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits, relative errors of the channels, and what the sum in float64 may add."""
        turned = kernel.channels(x, moved)
        loss = kernel.arithmetic.channel_error(size, kernel.rope, moved) / (some * scaling)
        sums = np.abs(turned) @ np.swapaxes(np.abs(turned), -1, -2)
        own = (2 * z.shape[-1] + 2) * _U64 * sums
        return np.real(turned @ np.conj(np.swapaxes(turned, -1, -2))), loss, own

    here, loss_here, own_here = logits(at)
    there, loss_there, own_there = logits(at + shift)
    values = {
        "lambda": scaling**2,
        "z": z[..., :, None, :],
        "w": z[..., None, :, :],
        "error_q": loss_here[..., :, None, :],
        "error_k": loss_here[..., None, :, :],
        "error_q_s": loss_there[..., :, None, :],
        "error_k_s": loss_there[..., None, :, :],
    }

    def place(index: tuple[int, ...]) -> str:
        query, key = at[index[-2]], at[index[-1]]
        return f"logit of the query at position {query} and the key at {key}, both moved by {shift}"

    allowed = np.sum(evaluate(INVARIANCE_LOSS, values), axis=-1) + own_here + own_there
    return Misfit(np.abs(there - here), allowed, place)


def composition(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    rope = kernel.rope
    scaling = np.sqrt(channel_gain(rope, 1.0))
    once = kernel.rounded(kernel(x, at))
    further = np.full_like(at, shift)
    twice, whole = kernel.channels(once, further), kernel.channels(x, at + shift)
    allowed = (
        scaling * (_allowed(kernel, x, at) + _allowed(kernel, x, at + shift))
        + _allowed(kernel, once, further)
    )  # fmt: skip

    def place(index: tuple[int, ...]) -> str:
        position, channel = at[index[-2]], _channel(rope, index[-1])
        return f"position {position} and {shift} further, against {position + shift}, {channel}"

    return Misfit(np.abs(twice - scaling * whole), allowed, place)


def unrotated(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    first = kernel.rope.rotary_dim
    error = np.abs(kernel(x, at) - x)[..., first:]

    def place(index: tuple[int, ...]) -> str:
        return f"position {at[index[-2]]}, component {first + index[-1]}"

    return Misfit(error, np.zeros_like(error), place)


def _at(kernel: Kernel, at: np.ndarray) -> Callable[[tuple[int, ...]], str]:
    return lambda index: f"position {at[index[-2]]}, {_channel(kernel.rope, index[-1])}"


def _channel(rope: Rope, channel: int) -> str:
    """A channel and its two components, in words."""
    r, m = rope.rotary_dim, channel
    half = rope.layout == "half" and m < r // 2
    first, second = (m, m + r // 2) if half else (2 * m, 2 * m + 1)
    return f"channel {m} (components {first} and {second})"
