"""Which RoPE channels carry a head's energy, and what that predicts about spacing and period.

Queries z and keys w are channels (T, M), complex, before RoPE.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tappa_theory.arrays import Array, namespace, to_numpy
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import ALPHA, rotation_residual
from tappa_theory.similarity import all_lags
from tappa_theory.theorems.periodic_sequential import CURVATURE, PERIOD, SLOPE

SLOWEST = 1e-150
"""Radians per position up to which a channel counts as one that does not turn: its square, which
curvature needs, would be no number of full precision in float64."""


@dataclass(frozen=True)
class ChannelEnergy:
    """Energy per RoPE channel and what dominates it.

    energy: (M,) A_m = mean_t |z_t^m| * mean_i |w_i^m|, logit units before the softmax scale.
    dominant_channel: argmax of A_m, the dominance of the paper. dominant_share: its share of the
    energy. frequency_dominant_channel: argmax of A_m theta_m, the dominance the repaired
    periodic theorem needs; None where no channel turns. kappa: sum of A_m theta_m over the other
    channels, over A_* theta_* (* the frequency-dominant channel). curvature: the same with
    A_m theta_m^2, so R of the theorem.
    """

    energy: tuple[float, ...]
    dominant_channel: int
    dominant_share: float
    frequency_dominant_channel: int | None
    kappa: float | None
    curvature: float | None


def channel_energy(z: Array, w: Array, rope: Rope) -> ChannelEnergy:
    """Channel energies of one head from queries z and keys w, (T, M) complex, before RoPE.

    Raises InputError if all queries or all keys are zero, or one is not finite.
    """
    xp = namespace(z, w)
    energy = to_numpy(xp.mean(xp.abs(z), axis=-2) * xp.mean(xp.abs(w), axis=-2))
    energy = energy * channel_gain(rope, 1.0)
    total = float(energy.sum())
    if not 0 < total < math.inf:
        raise InputError(
            "every query or every key is zero, or one is not finite; no channel energies exist"
        )
    dominant = int(energy.argmax())
    frequencies = np.where(rope.frequencies > SLOWEST, rope.frequencies, 0.0)
    weighted = energy * frequencies
    star = int(weighted.argmax())
    frequency_dominant = kappa = curvature = None
    if weighted[star] > 0:
        frequency_dominant = star
        values = {"energy": energy, "theta": frequencies}
        values |= {f"{name}_*": value[star] for name, value in values.items()}
        kappa, curvature = (
            float(np.delete(evaluate(share, values), star).sum()) for share in (SLOPE, CURVATURE)
        )
    return ChannelEnergy(
        energy=tuple(energy.tolist()),
        dominant_channel=dominant,
        dominant_share=float(energy[dominant]) / total,
        frequency_dominant_channel=frequency_dominant,
        kappa=kappa,
        curvature=curvature,
    )


def channel_gain(rope: Rope, scale: float) -> np.ndarray:
    """(M,) lambda_m: softmax scale times the squared attention scaling of rotary channels."""
    gain = np.full(rope.frequencies.shape, scale)
    gain[: rope.rotary_dim // 2] *= rope.attention_scaling**2
    return gain


def rotation_share(energy: Sequence[float], rope: Rope, shift: tuple[int, int]) -> float:
    """Rotation residual of the shift (s, u) over the energy: 0 where nothing turns, at most 2.

    energy: (M,) as in `ChannelEnergy`.
    """
    weights = np.asarray(energy)
    ones = np.ones_like(weights)
    values = {"lambda": weights, "z": ones, "w": ones, "theta": rope.frequencies}
    residual = evaluate(rotation_residual(ALPHA), values | {"s": shift[0], "u": shift[1]})
    return float(residual.sum() / weights.sum())


def period(frequency: float) -> float:
    """2 pi / theta, positions; infinity for a channel that does not turn."""
    if not frequency > 0:
        return math.inf
    return float(evaluate(PERIOD, {"theta_*": np.asarray(frequency, dtype=np.float64)}))


def best_lag(z: Array, valid: Array | None = None) -> int | None:
    """The lag in 2..T/4 at which the queries (T, M), before RoPE, are most alike in the mean.

    None where T < 8, so that no lag is left to compare.
    """
    lags = best_lags(z[None], valid)
    return None if lags is None else int(lags[0])


def best_lags(z: Array, valid: Array | None = None) -> np.ndarray | None:
    """`best_lag` of (H, T, M) queries, (H,). Raises InputError if those of a head are all zero."""
    longest = z.shape[-2] // 4
    if longest < 2:
        return None
    return 2 + to_numpy(all_lags(z, valid))[:, 2 : longest + 1].argmax(axis=-1)
