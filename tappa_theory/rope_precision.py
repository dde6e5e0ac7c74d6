"""What rounding does to the angular frequencies of RoPE, as libraries compute them."""

import math

import numpy as np

from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

# Roundings in one frequency; derived in `frequency_error`.
_OPERATIONS = 16
_DYNAMIC_OPERATIONS = 64
_BLEND_OPERATIONS = 2


def frequency_error(rope: Rope, u: float) -> np.ndarray:
    """Bound (r/2,) on the relative error of frequencies that a library computed as usual.

    With u the unit roundoff of its arithmetic: the exponent x = 2j/r is rounded, so c^-x is off by
    u |ln theta|; base, power (4 units in the last place = 8u, the loosest of the platforms),
    reciprocal and scaling add at most 16u. A base that depends on the text adds 64u (factors up to
    30). A blend (yarn, llama3) has a weight off by at most 2u (|ln c^-x| + 16) for the usual
    high/(high - low) <= 2, which counts relative to the unblended c^-x.

    Raises InputError for a blend without a base.
    """
    theta = rope.frequencies[: rope.rotary_dim // 2]
    turning = np.where(theta > 0, theta, 1.0)
    roundings = np.abs(np.log(turning)) + _OPERATIONS
    if rope.type == "dynamic":
        roundings += _DYNAMIC_OPERATIONS
    if rope.type in ("yarn", "llama3"):
        if rope.base is None:
            raise InputError(f"a Rope of type {rope.type!r} has no base; give it its rope_theta")
        exponent = 2 * np.arange(theta.size) / rope.rotary_dim
        unblended = rope.base**-exponent / turning
        roundings += _BLEND_OPERATIONS * unblended * (exponent * math.log(rope.base) + _OPERATIONS)
    return u * roundings
