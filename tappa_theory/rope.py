"""Rotary position embedding (RoPE) as complex channels, with exact float64 angles.

RoPE splits a head of size d = 2M into M channels. Channel m of a query is a complex number z_m,
and at position p it is turned to z_m e^{i p theta_m}. A channel that does not turn has theta_m = 0.
Sources: RoFormer (arXiv 2104.09864); position interpolation, "linear" (arXiv 2306.15595);
YaRN and NTK-aware scaling, "yarn" and "dynamic" (arXiv 2309.00071); LongRoPE (arXiv 2402.13753);
"llama3" (the Llama 3.1 reference implementation).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Literal

import numpy as np

from tappa_theory.arrays import Array, as_complex128, as_float64, asarray_like, namespace
from tappa_theory.errors import InputError

Layout = Literal["half", "interleaved"]

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional")


@dataclass(frozen=True, eq=False)
class Rope:
    """The rotary position embedding of one attention layer.

    frequencies: (M,) float64, theta_m >= 0 in radians per position; head size d = 2M.
    layout: which of the first rotary_dim components pair up: "half" is (j, j + rotary_dim/2),
        "interleaved" is (2j, 2j + 1). The others pair up consecutively and do not turn.
    rotary_dim: number of components that RoPE acts on, even, 0 for a layer without RoPE.
    attention_scaling: factor on cos and sin, so on the rotary channels only.
    type: the rope type, e.g. "default" or "yarn". base: the RoPE base c, None where unknown.

    Raises InputError if the values are inconsistent.
    """

    frequencies: np.ndarray
    layout: Layout
    rotary_dim: int
    attention_scaling: float = 1.0
    type: str = "default"
    base: float | None = None

    def __post_init__(self) -> None:
        frequencies = np.array(self.frequencies, dtype=np.float64)
        if frequencies.ndim != 1 or frequencies.size == 0:
            raise InputError(
                f"RoPE frequencies of shape {frequencies.shape} given; pass a vector (M,), M >= 1"
            )
        if not np.all(np.isfinite(frequencies)) or np.any(frequencies < 0):
            raise InputError("RoPE frequencies must be finite and not negative")
        if self.layout not in ("half", "interleaved"):
            raise InputError(f"RoPE layout {self.layout!r} is unknown; use 'half' or 'interleaved'")
        head_dim = 2 * frequencies.size
        if self.rotary_dim % 2 or not 0 <= self.rotary_dim <= head_dim:
            raise InputError(
                f"RoPE rotary_dim {self.rotary_dim} must be even and between 0 and the head size "
                f"{head_dim}"
            )
        if np.any(frequencies[self.rotary_dim // 2 :] != 0):
            raise InputError(
                f"RoPE frequencies beyond channel {self.rotary_dim // 2} (rotary_dim/2) must be 0"
            )
        if not (math.isfinite(self.attention_scaling) and self.attention_scaling > 0):
            raise InputError(
                f"RoPE attention_scaling {self.attention_scaling} must be a positive number"
            )
        frequencies.flags.writeable = False
        object.__setattr__(self, "frequencies", frequencies)

    @property
    def head_dim(self) -> int:
        """Head size d = 2M."""
        return 2 * self.frequencies.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rope) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        return (
            tuple(self.frequencies.tolist()),
            self.layout,
            self.rotary_dim,
            self.attention_scaling,
            self.type,
            self.base,
        )

    @classmethod
    def none(cls, head_dim: int) -> "Rope":
        """A layer without RoPE: head_dim/2 channels with theta = 0, type "none"."""
        _check_head_dim(head_dim)
        return cls(np.zeros(head_dim // 2), "half", 0, type="none")

    @classmethod
    def from_parameters(
        cls,
        head_dim: int,
        parameters: Mapping[str, Any],
        *,
        partial_rotary_factor: float = 1.0,
        layout: Layout = "half",
        length: int | None = None,
        max_position_embeddings: int | None = None,
    ) -> "Rope":
        """The Rope that a model's RoPE parameters (named as in its configuration) describe.

        default: theta_j = c^(-2j/r), j = 0 .. r/2 - 1, c = rope_theta, r = rotary_dim.
        parameters: "rope_theta", "rope_type" (one of ROPE_TYPES; default "default") and what that
            type needs; its own "partial_rotary_factor", if any, goes before the keyword.
        length: number of positions of the text. "dynamic" and "longrope" depend on it; None means
            a text no longer than the trained context.
        max_position_embeddings: the model's context length, for the types that refer to it.

        Raises InputError if a parameter is missing or out of range.
        """
        _check_head_dim(head_dim)
        rope_type = parameters.get("rope_type") or parameters.get("type") or "default"
        if rope_type not in _FREQUENCIES:
            raise InputError(
                f"rope_type {rope_type!r} is not supported; supported: {', '.join(ROPE_TYPES)}"
            )
        values = _Parameters(rope_type, parameters, length, max_position_embeddings)
        base = values.number("rope_theta")
        if base <= 1:
            raise InputError(f"rope parameter 'rope_theta' is {base}; it must be greater than 1")
        share = values.number("partial_rotary_factor", partial_rotary_factor)
        if share > 1:
            raise InputError(f"rope parameter 'partial_rotary_factor' is {share}; at most 1 fits")
        rotary_dim = int(head_dim * share)
        if rotary_dim < 2 or rotary_dim % 2:
            raise InputError(
                f"head size {head_dim} times partial_rotary_factor {share} gives {rotary_dim} "
                "rotary components; an even number, 2 or more, is needed"
            )
        frequencies, attention_scaling = _FREQUENCIES[rope_type](values, base, rotary_dim, head_dim)
        if rope_type == "proportional":
            # its pairs span the whole head; those it leaves alone have theta = 0
            rotary_dim = head_dim
        padding = np.zeros(head_dim // 2 - frequencies.size)
        return cls(
            np.concatenate([frequencies, padding]),
            layout,
            rotary_dim,
            attention_scaling,
            rope_type,
            base,
        )


def to_channels(x: Array, rope: Rope) -> Array:
    """Real head vectors as complex channels: (..., T, d) to (..., T, M) complex128.

    A pair (a, b) becomes a + ib, so <q, k> = Re sum_m z_m conj(w_m). Rotary channels come first.
    Raises InputError if x is not real floating-point, not finite, or of another head size.
    """
    xp = namespace(x)
    if x.ndim < 1 or x.shape[-1] != rope.head_dim:
        raise InputError(
            f"vectors of shape {tuple(x.shape)} given; the last axis must be the head size "
            f"{rope.head_dim}"
        )
    x = as_float64(x)
    if not xp.all(xp.isfinite(x)):
        raise InputError("query or key vectors hold a value that is not finite (NaN or infinity)")
    r = rope.rotary_dim
    if rope.layout == "half":
        first, second = x[..., : r // 2], x[..., r // 2 : r]
    else:
        first, second = x[..., 0:r:2], x[..., 1:r:2]
    first = xp.concat([first, x[..., r::2]], axis=-1)
    second = xp.concat([second, x[..., r + 1 :: 2]], axis=-1)
    return first + 1j * second


def to_vectors(z: Array, rope: Rope) -> Array:
    """Complex channels as real head vectors: (..., T, M) to (..., T, d) float64.

    The exact inverse of `to_channels`. Raises InputError if z does not have M channels.
    """
    xp = namespace(z)
    z = _checked_channels(z, rope)
    first, second = xp.real(z), xp.imag(z)
    pairs = rope.rotary_dim // 2
    rest = _interleave(xp, first[..., pairs:], second[..., pairs:])
    if rope.layout == "half":
        return xp.concat([first[..., :pairs], second[..., :pairs], rest], axis=-1)
    return xp.concat([_interleave(xp, first[..., :pairs], second[..., :pairs]), rest], axis=-1)


def rotate(z: Array, rope: Rope, positions: Array) -> Array:
    """Apply RoPE: z_m to s e^{i p theta_m} z_m, s = attention_scaling on rotary channels, else 1.

    z: (..., T, M) complex. positions: integers, (T,) or whatever broadcasts to (..., T).
    Angles p theta_m are formed in float64. Returns complex128, (..., T, M).
    Raises InputError if shapes do not fit or positions are not integers.
    """
    z, phase, scale = _phase_and_scale(z, rope, positions)
    return z * (scale * phase)


def unrotate(z: Array, rope: Rope, positions: Array) -> Array:
    """Undo RoPE: z_m to e^{-i p theta_m} z_m / s, the inverse of `rotate`.

    Shapes, units and errors as for `rotate`.
    """
    xp = namespace(z)
    z, phase, scale = _phase_and_scale(z, rope, positions)
    return z * xp.conj(phase) / scale


def _phase_and_scale(z: Array, rope: Rope, positions: Array) -> tuple[Array, Array, Array]:
    xp = namespace(z)
    z = _checked_channels(z, rope)
    positions = asarray_like(positions, z)
    if not xp.isdtype(positions.dtype, "integral"):
        raise InputError(f"positions of dtype {positions.dtype} given; pass integers")
    try:
        fits = np.broadcast_shapes(positions.shape, z.shape[:-1]) == tuple(z.shape[:-1])
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"positions of shape {tuple(positions.shape)} do not broadcast to the "
            f"{tuple(z.shape[:-1])} vectors given"
        )
    frequencies = asarray_like(rope.frequencies, z, dtype=xp.float64)
    angles = xp.astype(positions, xp.float64)[..., None] * frequencies
    scale = np.ones(rope.frequencies.size)
    scale[: rope.rotary_dim // 2] = rope.attention_scaling
    phase = xp.cos(angles) + 1j * xp.sin(angles)
    return z, phase, asarray_like(scale, z, dtype=xp.float64)


def _checked_channels(z: Array, rope: Rope) -> Array:
    if z.ndim < 1 or z.shape[-1] != rope.frequencies.size:
        raise InputError(
            f"channels of shape {tuple(z.shape)} given; the last axis must be the "
            f"{rope.frequencies.size} channels of the RoPE"
        )
    return as_complex128(z)


def _interleave(xp: Any, first: Array, second: Array) -> Array:
    return xp.reshape(xp.stack([first, second], axis=-1), (*first.shape[:-1], 2 * first.shape[-1]))


def _check_head_dim(head_dim: int) -> None:
    if head_dim < 2 or head_dim % 2:
        raise InputError(f"head size {head_dim} given; RoPE needs an even head size, 2 or more")


@dataclass(frozen=True)
class _Parameters:
    """RoPE parameters, read with checks that name what is missing."""

    rope_type: str
    given: Mapping[str, Any]
    length: int | None
    max_position_embeddings: int | None

    def number(self, name: str, default: float | None = None) -> float:
        """The positive number called `name`; `default` where it is absent or None."""
        value = self.given.get(name)
        if value is None:
            value = default
        if value is None:
            raise InputError(
                f"rope parameter {name!r} is missing; rope_type {self.rope_type!r} needs it"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"rope parameter {name!r} is {value!r}; it must be a number")
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"rope parameter {name!r} is {value}; it must be positive and finite")
        return value

    def numbers(self, name: str, count: int) -> np.ndarray:
        """The `count` positive numbers called `name`."""
        try:
            values = np.asarray(self.given.get(name), dtype=np.float64)
        except (TypeError, ValueError):
            values = np.empty(0)
        if values.shape != (count,) or not np.all(np.isfinite(values) & (values > 0)):
            raise InputError(f"rope parameter {name!r} must be a list of {count} positive numbers")
        return values

    def context_length(self) -> float:
        """The model's context length, required."""
        if self.max_position_embeddings is None:
            raise InputError(
                f"max_position_embeddings is missing; rope_type {self.rope_type!r} needs it"
            )
        return self.max_position_embeddings

    def original_context_length(self) -> float:
        """The context length before scaling; the model's own where none is given."""
        name = "original_max_position_embeddings"
        value = self.number(name, self.max_position_embeddings)
        if value <= 1:
            raise InputError(f"rope parameter {name!r} is {value}; it must be greater than 1")
        return value

    def extension_factor(self) -> float:
        """How many times the context was extended: "factor", else the ratio of the contexts."""
        if self.given.get("factor") is not None:
            return self.number("factor")
        return self.context_length() / self.original_context_length()


_Scaled = tuple[np.ndarray, float]
"""Frequencies of the rotary channels, and the attention scaling."""


def _powers(base: float, count: int, dim: int) -> np.ndarray:
    """base^(-2j/dim) for j < count, correctly rounded and so the same on every machine."""
    with localcontext() as context:
        context.prec = 40
        return np.array(
            [float(Decimal(base) ** (Decimal(-2 * j) / Decimal(dim))) for j in range(count)]
        )


def _default(values: _Parameters, base: float, rotary_dim: int, head_dim: int) -> _Scaled:
    return _powers(base, rotary_dim // 2, rotary_dim), 1.0


def _linear(values: _Parameters, base: float, rotary_dim: int, head_dim: int) -> _Scaled:
    """theta / factor: positions are squeezed into the trained range."""
    return _powers(base, rotary_dim // 2, rotary_dim) / values.number("factor"), 1.0


def _proportional(values: _Parameters, base: float, rotary_dim: int, head_dim: int) -> _Scaled:
    """theta_j = c^(-2j/d) / factor over the whole head size d, of which the first j turn."""
    return _powers(base, rotary_dim // 2, head_dim) / values.number("factor", 1.0), 1.0


def _dynamic(values: _Parameters, base: float, rotary_dim: int, head_dim: int) -> _Scaled:
    """NTK: the base grows with the text, c (factor L / L0 - (factor - 1))^(r/(r-2)), L >= L0."""
    if rotary_dim < 4:
        raise InputError(f"rope_type 'dynamic' needs 4 rotary components or more, not {rotary_dim}")
    factor = values.number("factor")
    trained = values.context_length()
    length = max(values.length or trained, trained)
    growth = factor * length / trained - (factor - 1)
    grown_base = base * growth ** (rotary_dim / (rotary_dim - 2))
    return _powers(grown_base, rotary_dim // 2, rotary_dim), 1.0


def _llama3(values: _Parameters, base: float, rotary_dim: int, head_dim: int) -> _Scaled:
    """theta / factor on long wavelengths, theta on short ones, a linear blend between.

    The weight of theta is (turns - low) / (high - low) cut to [0, 1], turns = L0 theta / 2 pi.
    """
    theta = _powers(base, rotary_dim // 2, rotary_dim)
    factor = values.number("factor")
    low, high = values.number("low_freq_factor"), values.number("high_freq_factor")
    if high <= low:
        raise InputError(
            f"rope parameter 'high_freq_factor' ({high}) must exceed 'low_freq_factor' ({low})"
        )
    turns = values.original_context_length() * theta / (2 * math.pi)
    weight = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return theta * (weight + (1 - weight) / factor), 1.0


def _yarn(values: _Parameters, base: float, rotary_dim: int, head_dim: int) -> _Scaled:
    """theta on channels that turn often in the trained context, theta / factor on the others.

    The blend is linear in the channel index, between the channels that turn beta_fast and
    beta_slow times in the trained context.
    """
    theta = _powers(base, rotary_dim // 2, rotary_dim)
    factor = values.extension_factor()
    trained = values.original_context_length()

    def channel(turns: float) -> float:
        return rotary_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = channel(values.number("beta_fast", 32))
    high = channel(values.number("beta_slow", 1))
    if values.given.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    if low == high:
        high += 0.001  # as in the reference implementation: a step in place of a ramp
    ramp = np.clip((np.arange(rotary_dim // 2) - low) / (high - low), 0.0, 1.0)
    return theta * ((1 - ramp) + ramp / factor), _yarn_scaling(values, factor)


def _yarn_scaling(values: _Parameters, factor: float) -> float:
    """ "attention_factor", else m(mscale) / m(mscale_all_dim), m(a) = 0.1 a ln(factor) + 1."""
    if values.given.get("attention_factor") is not None:
        return float(values.number("attention_factor"))
    if factor <= 1:
        return 1.0
    if values.given.get("mscale") and values.given.get("mscale_all_dim"):
        numerator, denominator = values.number("mscale"), values.number("mscale_all_dim")
    else:
        numerator, denominator = 1.0, 0.0
    grown = 0.1 * math.log(factor)
    return (numerator * grown + 1) / (denominator * grown + 1)


def _longrope(values: _Parameters, base: float, rotary_dim: int, head_dim: int) -> _Scaled:
    """theta_j / factor_j, the long factors for a text longer than the trained context.

    Scaling: "attention_factor", else sqrt(1 + ln(factor) / ln(L0)) for a factor above 1.
    """
    trained = values.original_context_length()
    name = "long_factor" if (values.length or 0) > trained else "short_factor"
    theta = _powers(base, rotary_dim // 2, rotary_dim) / values.numbers(name, rotary_dim // 2)
    if values.given.get("attention_factor") is not None:
        return theta, float(values.number("attention_factor"))
    factor = values.extension_factor()
    if factor <= 1:
        return theta, 1.0
    return theta, math.sqrt(1 + math.log(factor) / math.log(trained))


_FREQUENCIES = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "proportional": _proportional,
}
