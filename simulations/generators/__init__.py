"""Synthetic heads, one generator for each pattern, with dials for what the theorems speak of.

Every `generate(rng, *, length, rope, ...)` returns a head that shows the pattern at its default
dials, and that promises, where it can, which theorem's hypotheses it meets and by how much; a
promise is computed from the dials and checked on the head when it is made.
"""

from collections.abc import Callable

from simulations.generators import (
    mixture,
    periodic_sequential,
    re_access,
    real_like,
    seasonal,
    sequential,
    unpredictable,
)
from simulations.generators.parts import default_rope
from simulations.head import SyntheticHead

GENERATORS: dict[str, Callable[..., SyntheticHead]] = {
    "re_access": re_access.generate,
    "sequential": sequential.generate,
    "periodic_sequential": periodic_sequential.generate,
    "seasonal": seasonal.generate,
    "unpredictable": unpredictable.generate,
    "mixture": mixture.generate,
    "real_like": real_like.generate,
}
"""The generators; those of the five patterns and of mixtures share length and rope."""

__all__ = ["GENERATORS", "default_rope"]
