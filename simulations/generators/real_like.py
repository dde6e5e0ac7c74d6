"""Real-like heads: stationary normal channels with the moments that a `check` measured."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simulations.generators.parts import noisy
from simulations.head import SyntheticHead
from tappa_theory.errors import InputError
from tappa_theory.patterns import PATTERNS
from tappa_theory.rope import Rope

SHIPPED = Path(__file__).parent.parent / "data" / "smollm2_moments.npz"
"""A few heads of SmolLM2-135M, one or more for every pattern that it shows."""

SCHEMA = 1
LARGEST_COEFFICIENT = 0.9999
"""Modulus of an AR(1) coefficient, at most: measured ones may reach 1 by rounding."""

_SIDES = ("query", "key")
_ARRAYS = (
    "schema",
    "conditions",
    "layer",
    "head",
    "observed",
    "scale",
    "channels",
    "rotary_dim",
    "attention_scaling",
    "frequencies",
    "first_key",
    *(f"{side}_{part}" for side in _SIDES for part in ("mean", "variance", "autocovariance")),
)


@dataclass(frozen=True, eq=False)
class Side:
    """Moments of a head's queries or keys by channel, before RoPE, (M,) each.

    mean: complex. variance: E|z - mean|^2. autocovariance: E (z_{t+1} - mean) conj(z_t - mean).
    """

    mean: np.ndarray
    variance: np.ndarray
    autocovariance: np.ndarray


@dataclass(frozen=True, eq=False)
class HeadMoments:
    """What one head of a model is like: the keys without the first, and the first, (M,) complex.

    observed: the pattern that the head showed.
    """

    layer: int
    head: int
    observed: str
    rope: Rope
    scale: float
    query: Side
    key: Side
    first_key: np.ndarray


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of heads, and the conditions they were measured under (model, texts, dtype, ...)."""

    heads: tuple[HeadMoments, ...]
    conditions: Mapping[str, Any]


def read_moments(path: Path | None = None) -> Moments:
    """Read moments.npz, or that of a check's folder; None for the heads that come with the package.

    Raises InputError if there is no such file or it is none.
    """
    given = SHIPPED if path is None else Path(path).expanduser()
    file = given / "moments.npz" if given.is_dir() else given
    if not file.is_file():
        raise InputError(f"{file}: no such file; give the folder of a `tappa check`, or its file")
    try:
        with np.load(file, allow_pickle=False) as archive:
            data = {name: archive[name] for name in _ARRAYS}
        if int(data["schema"]) != SCHEMA:
            raise InputError(
                f"{file}: schema {data['schema']} is not {SCHEMA}; run the check again"
            )
        heads = tuple(_head(data, row) for row in range(len(data["layer"])))
        return Moments(heads, json.loads(str(data["conditions"])))
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(
            f"{file}: no moments of a `tappa check` ({error}); run it again"
        ) from error


_UNREADABLE = (KeyError, IndexError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile)
"""What numpy raises for files that are no archives, are cut off, or hold something else."""


def _head(data: Mapping[str, np.ndarray], row: int) -> HeadMoments:
    channels = int(data["channels"][row])

    def of(name: str) -> np.ndarray:
        return data[name][row, :channels]

    rope = Rope(
        of("frequencies"),
        "half",
        int(data["rotary_dim"][row]),
        float(data["attention_scaling"][row]),
        "measured",
    )
    sides = {
        side: Side(
            of(f"{side}_mean").astype(np.complex128),
            of(f"{side}_variance").astype(np.float64),
            of(f"{side}_autocovariance").astype(np.complex128),
        )
        for side in _SIDES
    }
    return HeadMoments(
        int(data["layer"][row]),
        int(data["head"][row]),
        str(data["observed"][row]),
        rope,
        float(data["scale"][row]),
        sides["query"],
        sides["key"],
        of("first_key").astype(np.complex128),
    )


def generate(
    rng: np.random.Generator,
    moments: Moments | None = None,
    head_index: int = 0,
    length: int = 256,
    snr_db: float | None = None,
) -> SyntheticHead:
    """A head whose channels before RoPE have the moments of head `head_index` of `moments`.

    Each channel of the queries, and of the keys after the first, is a stationary complex normal
    AR(1) process of its own; the first key is that of the model. Channels are independent, which
    those of the model are not. moments: default those that come with the package.
    snr_db: of additional noise, None for none.

    The pattern intended is that of the real head; nothing is promised.
    """
    moments = read_moments() if moments is None else moments
    if not 0 <= head_index < len(moments.heads):
        raise InputError(f"head {head_index} given; the moments hold 0 to {len(moments.heads) - 1}")
    head = moments.heads[head_index]
    observed = [name for name in PATTERNS if name == head.observed]
    if not observed:
        raise InputError(
            f"the text of that head was too short to show a pattern: {head.observed!r}"
        )
    z = _process(rng, head.query, length)
    w = _process(rng, head.key, length)
    w[0] = head.first_key
    return SyntheticHead(
        noisy(rng, z, snr_db), noisy(rng, w, snr_db), head.rope, head.scale, observed[0]
    )


def coefficient(side: Side) -> np.ndarray:
    """(M,) AR(1) coefficients: autocovariance over variance, cut to modulus 0.9999; 0 for 0/0."""
    moving = side.variance > 0
    rho = np.where(moving, side.autocovariance / np.where(moving, side.variance, 1.0), 0.0)
    return rho / np.maximum(np.abs(rho) / LARGEST_COEFFICIENT, 1.0)


def _process(rng: np.random.Generator, side: Side, length: int) -> np.ndarray:
    """(T, M): mean + y_t, y_{t+1} = rho y_t + sqrt(v (1 - |rho|^2)) e_t, complex normal."""
    rho = coefficient(side)
    real, imaginary = rng.standard_normal((2, length, rho.size))
    y = (real + 1j * imaginary) * np.sqrt(side.variance / 2)
    y[1:] *= np.sqrt(1 - np.abs(rho) ** 2)
    for t in range(1, length):
        y[t] += rho * y[t - 1]
    return side.mean + y
