"""Laws that every RoPE kernel obeys, each within the proven bound of what rounding may change.

    LAWS = rope_laws(rotate, Rope.from_parameters(64, {"rope_theta": 1e4}), dtype="float32")

    @pytest.mark.parametrize("law", LAWS, ids=str)
    @given(data=st.data())
    def test_rotation(law, data):
        law.check(*data.draw(law.inputs()))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simulations.testing.hints import Hints
from simulations.testing.kernel import Kernel, Rotate, dtype_name
from simulations.testing.rounding import EXACT, Arithmetic
from simulations.testing.strategies import CONTEXT, Lengths, positions, queries
from tappa_theory.arrays import Array
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


Measure = Callable[[Kernel, np.ndarray, np.ndarray, int], Misfit]


@dataclass(frozen=True, eq=False)
class Law:
    """One law of RoPE, for one kernel.

    name: as the message of a failure calls it. claim: what it says. moves: it turns vectors on by a
    further shift.
    """

    name: str
    claim: str
    moves: bool
    kernel: Kernel
    measure: Measure
    hints: Hints

    def __str__(self) -> str:
        return self.name

    def check(self, x: Array, positions: Array, shift: int = 0) -> float:
        """Apply the law to vectors at positions; the largest error over what is allowed, 0 to 1.

        x: (T, d), or (heads, T, d) for a kernel with heads; rounded to the kernel's dtype first.
        positions: (T,) integers. shift: further positions, for laws that move.
        Raises AssertionError, one line that names law, position, error and what is allowed.
        """
        x, positions = self.kernel.rounded(x), np.asarray(positions, dtype=np.int64)
        misfit = self.measure(self.kernel, x, positions, shift)
        ratios = misfit.ratios
        worst = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
        if ratios[worst] > 1:
            raise AssertionError(
                f"{self.name}: {misfit.place(tuple(map(int, worst)))}: off by"
                f" {misfit.error[worst]:.3g}, {misfit.allowed[worst]:.3g} allowed"
                f" ({self.claim}){self.hints}"
            )
        return float(ratios[worst])

    def inputs(self) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray, int]]:
        """Vectors, positions and a shift for `check`."""
        return _inputs(self.kernel, self.moves)


@st.composite
def _inputs(draw: st.DrawFn, kernel: Kernel, moves: bool) -> tuple[np.ndarray, np.ndarray, int]:
    dtype: Any = kernel.arithmetic.dtype
    x = draw(queries(kernel.rope.head_dim, kernel.lengths, heads=kernel.heads, dtype=dtype))
    at = draw(positions(x.shape[-2], context=kernel.context, consecutive=kernel.consecutive))
    left = kernel.context - 1 - int(at.max())
    return x, at, draw(st.integers(0, left)) if moves else 0


def rope_laws(
    rotate: Rotate,
    rope: Rope,
    *,
    dtype: Any = "float32",
    angles: str | None = None,
    table: str | None = None,
    rotation: str | None = None,
    frequencies: float | None = None,
    trigonometry: float | None = None,
    context: int = CONTEXT,
    lengths: Lengths = (1, 8),
    heads: int | None = None,
    consecutive: bool = False,
    device: Any = None,
) -> tuple[Law, ...]:
    """The laws for rotate(x, positions) -> x after RoPE.

    x: (T, d), or (heads, T, d) where `heads` is given; positions: (T,) int64. Both come as numpy
    arrays, or as torch tensors on `device` if dtype is one of torch's.
    rope: the RoPE that the kernel should apply.
    dtype: of x. angles: in which frequencies, angles, cosines and sines are computed (default
    float32; float64 if dtype is). table: in which cosines and sines are stored, rotation: in which
    products and sums are rounded (default dtype). From these the tolerances follow, by the theorem
    `rotation_precision`, and from frequencies and trigonometry, bounds on the errors of frequency
    (relative), cosine and sine, if better ones are known than those of common libraries.
    context: positions stay below it. lengths: T, or the least and the largest T.
    consecutive: the kernel takes only positions start, start + 1, ...

    Raises InputError if there is no bound for a dtype, or for positions up to the context.
    """
    name = dtype_name(dtype)
    wide = "float64" if name == "float64" else "float32"
    arithmetic = Arithmetic(
        name, angles or wide, table or name, rotation or name, frequencies, trigonometry
    )
    kernel = Kernel(rotate, rope, dtype, arithmetic, context, lengths, heads, consecutive, device)
    hints = Hints(kernel)
    laws = [
        Law("exact angles", "R(p) z = s exp(i p theta) z", False, kernel, _exact, hints),
        Law("position 0", "R(0) x = s x", False, kernel, _position_0, hints),
        Law("norm", "|R(p) x| = s |x|", False, kernel, _norm, hints),
        Law("layout", "a pair turns within itself", False, kernel, _layout, hints),
        Law("scaling", "R(p) (a x) = a R(p) x", False, kernel, _scaling, hints),
        Law("additivity", "R(p) (x + y) = R(p) x + R(p) y", False, kernel, _additivity, hints),
        Law("relative position", "<R(p+s) q, R(i+s) k> = <R(p) q, R(i) k>", True, kernel,
            _relative, hints),
    ]  # fmt: skip
    if not consecutive:
        claim = "R(r) R(p) x = s R(p+r) x"
        laws.append(Law("composition", claim, True, kernel, _composition, hints))
    if rope.rotary_dim < rope.head_dim:
        claim = "what RoPE leaves alone passes through, bit by bit"
        laws.append(Law("unrotated components", claim, False, kernel, _unrotated, hints))
    return tuple(laws)


def _allowed(kernel: Kernel, x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Largest |kernel's - float64's| of a channel, (..., T, M)."""
    size = np.abs(to_channels(x, kernel.rope))
    return sum(
        each.channel_error(size, kernel.rope, at) for each in (kernel.arithmetic, EXACT)
    )


def _length_error(kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """The same for what no angle enters."""
    size = np.abs(to_channels(x, kernel.rope))
    return sum(each.norm_error(size, kernel.rope) for each in (kernel.arithmetic, EXACT))


def _exact(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    found, exact = kernel.channels(x, at), kernel.exact(x, at)
    z = to_channels(x, kernel.rope)

    def place(index: tuple[int, ...]) -> str:
        turned, wanted = (float(np.angle(c[index] * np.conj(z[index]))) for c in (found, exact))
        return (
            f"position {at[index[-2]]}, {_channel(kernel.rope, index[-1])} turned by {turned:.6g}"
            f" instead of {wanted:.6g} rad"
        )

    return Misfit(np.abs(found - exact), _allowed(kernel, x, at), place)


def _position_0(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    if not kernel.consecutive:
        at = np.zeros_like(at)
    elif at[0] != 0:
        at = at - at[0]
    rows = at == 0
    found, exact = kernel.channels(x, at), kernel.exact(x, at)

    def place(index: tuple[int, ...]) -> str:
        return f"position 0, {_channel(kernel.rope, index[-1])}"

    return Misfit(
        np.abs(found - exact)[..., rows, :], _length_error(kernel, x)[..., rows, :], place
    )


def _norm(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
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


def _layout(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
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


def _scaling(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    """By -1/2: exact in every type, and a change of sign."""
    half = kernel.rounded(-0.5 * x)
    error = np.abs(kernel.channels(half, at) + 0.5 * kernel.channels(2 * -half, at))
    allowed = _length_error(kernel, half) + 0.5 * _length_error(kernel, 2 * -half)
    return Misfit(error, allowed, _at(kernel, at))


def _additivity(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    """Of the first and the second components of all pairs."""
    z = to_channels(x, kernel.rope)
    parts = [to_vectors(part, kernel.rope) for part in (z.real + 0j, 1j * z.imag)]
    error = kernel.channels(x, at) - sum(kernel.channels(part, at) for part in parts)
    allowed = sum(_length_error(kernel, each) for each in (x, *parts))
    return Misfit(np.abs(error), allowed, _at(kernel, at))


def _relative(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    """Every row as a query against every row as a key."""
    z = to_channels(x, kernel.rope)
    size = np.abs(z)
    some = np.where(size > 0, size, 1.0)
    scaling = np.sqrt(channel_gain(kernel.rope, 1.0))

    def logits(moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turned = kernel.channels(x, moved)
        loss = kernel.arithmetic.channel_error(size, kernel.rope, moved) / (some * scaling)
        return np.real(turned @ np.conj(np.swapaxes(turned, -1, -2))), loss

    here, loss_here = logits(at)
    there, loss_there = logits(at + shift)
    values = {
        "lambda": scaling**2,
        "z": z[..., :, None, :],
        "w": z[..., None, :, :],
        "error_q": loss_here[..., :, None, :],
        "error_k": loss_here[..., None, :, :],
        "error_q_s": loss_there[..., :, None, :],
        "error_k_s": loss_there[..., None, :, :],
    }
    products = scaling**2 * size[..., :, None, :] * size[..., None, :, :]
    # the sum of 2M products in float64, on both sides, of channels up to (1 + loss) each
    own = 2 * _U64 * (2 * z.shape[-1] + 2) * np.sum(products, axis=-1) * 4

    def place(index: tuple[int, ...]) -> str:
        query, key = at[index[-2]], at[index[-1]]
        return f"query at position {query} and key at {key}, both moved by {shift}, logit"

    allowed = np.sum(evaluate(INVARIANCE_LOSS, values), axis=-1) + own
    return Misfit(np.abs(there - here), allowed, place)


def _composition(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
    rope = kernel.rope
    scaling = np.sqrt(channel_gain(rope, 1.0))
    once = kernel(x, at)
    further = np.full_like(at, shift)
    twice, whole = kernel.channels(once, further), kernel.channels(x, at + shift)
    allowed = (
        scaling * (_allowed(kernel, x, at) + _allowed(kernel, x, at + shift))
        + _allowed(kernel, once, further)
    )  # fmt: skip

    def place(index: tuple[int, ...]) -> str:
        position = at[index[-2]]
        return (
            f"position {position}, then {shift} further, against position {position + shift},"
            f" {_channel(rope, index[-1])}"
        )

    return Misfit(np.abs(twice - scaling * whole), allowed, place)


def _unrotated(kernel: Kernel, x: np.ndarray, at: np.ndarray, shift: int) -> Misfit:
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
