"""The angle by which a rotation may deviate in its dtype: theorem `rotation_precision`.

Assumed of the model, as transformers computes its tables: frequencies, angles, cosines and sines in
float32, each rounded once to the dtype of the queries. What a table is computed in cannot be read
off it, so that `within` false says that one of these assumptions does not hold, or that the angles
are wrong.
"""

import numpy as np
import torch

from tappa_theory.rope import Rope
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import (
    ANGLE_DEVIATION,
    ANGLE_DEVIATION_SCALED,
    UNIT_ROUNDOFF,
)

FLOAT32 = float(UNIT_ROUNDOFF["float32"])
FREQUENCY_ERROR = 4 * FLOAT32
"""Assumed relative error of a stored frequency c^-x = 1 / c^x, but for the rounding of x, which
moves it by |log theta| times FLOAT32."""
TRIG_ERROR = 2 * FLOAT32
"""Assumed error of a float32 cosine or sine: two units in the last place of numbers up to 1."""


def angle_bound(rope: Rope, length: int, dtype: torch.dtype) -> float | None:
    """Largest angle, radians, between the rotation in this dtype and the exact one.

    length: number of positions T. None for a layer without RoPE, a dtype that has no bound, a
    text too long for its positions to be exact in float32, or a bound that allows every angle.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in UNIT_ROUNDOFF or not rope.rotary_dim or length > 2**24:
        return None
    table, scaled = float(UNIT_ROUNDOFF[name]), rope.attention_scaling != 1.0
    theta = rope.frequencies[: rope.rotary_dim // 2]
    values = {
        "p": float(length - 1),
        "theta": theta,
        "frequency_error": FREQUENCY_ERROR + FLOAT32 * np.abs(np.log(np.where(theta, theta, 1.0))),
        "u_angle": FLOAT32,
        "trig_error": TRIG_ERROR,
        # Rounding to float32 is in TRIG_ERROR; a scaled table is multiplied in float32 first.
        "u_table": (table if table > FLOAT32 else 0.0) + (FLOAT32 if scaled else 0.0),
    }
    bound = float(evaluate(ANGLE_DEVIATION_SCALED if scaled else ANGLE_DEVIATION, values).max())
    return bound if bound < np.pi else None
