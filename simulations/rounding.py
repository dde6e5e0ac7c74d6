"""What float64 can do to the logits of a synthetic head."""

from __future__ import annotations

import numpy as np

from tappa_theory.energy import channel_gain
from tappa_theory.rope import Rope

UNIT_ROUNDOFF = 2.0**-53


def logit_error(z: np.ndarray, w: np.ndarray, rope: Rope, scale: float) -> float:
    """Largest rounding error of a logit, or of lambda <q, k> from the vectors after RoPE.

    z, w: (T, M) channels before RoPE. An inner product of 2M features of few roundings each errs
    by less than (4M + 16) units in the last place of lambda |q||k|; turning to position p costs
    p theta units on either side, and as much again for the vectors that are turned on their own.
    """
    angle = max(len(z), len(w)) * float(rope.frequencies.max())
    units = 4 * z.shape[-1] + 16 + 4 * angle
    norms = [float(np.linalg.norm(x, axis=-1).max()) for x in (z, w)]
    return float(channel_gain(rope, scale).max()) * UNIT_ROUNDOFF * units * norms[0] * norms[1]
