"""The theorems' bounds on arrays: `BOUNDS`, each with both of its sides and cases of equality."""

from simulations.bounds import (
    attention_distance,
    kv_reuse,
    lifetime,
    periodic_sequential,
    proposition_4_1,
    query_drift,
    re_access,
    rotation_precision,
    seasonal,
    sequential,
    shift_bound,
    similarity_direction,
    typical_case,
)
from simulations.bounds.bound import Bound, Sides

BOUNDS: tuple[Bound, ...] = tuple(
    bound
    for module in (
        shift_bound,
        proposition_4_1,
        re_access,
        sequential,
        periodic_sequential,
        seasonal,
        attention_distance,
        query_drift,
        typical_case,
        similarity_direction,
        lifetime,
        kv_reuse,
        rotation_precision,
    )
    for bound in module.BOUNDS
)
"""Every bound, in the order of `tappa_theory.theorems.THEOREMS`."""

__all__ = ["BOUNDS", "Bound", "Sides"]
