"""What float64 can do to the logits of a synthetic head."""

from __future__ import annotations

import numpy as np

from tappa_theory import rounding
from tappa_theory.energy import channel_gain
from tappa_theory.rope import Rope
from tappa_theory.rounding import UNIT_ROUNDOFF


def logit_error(z: np.ndarray, w: np.ndarray, rope: Rope, scale: float) -> float:
    """`rounding.logit_error` for the longest query and key, (T, M) channels before RoPE."""
    norms = [float(np.linalg.norm(x, axis=-1).max()) for x in (z, w)]
    angle = max(len(z), len(w)) * float(rope.frequencies.max())
    gain = float(channel_gain(rope, scale).max())
    return rounding.logit_error(z.shape[-1], angle, gain * norms[0] * norms[1])


__all__ = ["UNIT_ROUNDOFF", "logit_error"]
