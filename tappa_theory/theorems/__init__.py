"""The theorems of TAPPA, one file each; `THEOREMS` is the registry, by id."""

from tappa_theory.errors import InputError
from tappa_theory.theorems import (
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
from tappa_theory.theorems.theorem import PublishedForm, Theorem

THEOREMS: dict[str, Theorem] = {
    module.THEOREM.id: module.THEOREM
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
}
"""Every theorem by its id: the shift bound, the paper's, and what goes beyond the paper."""

SHIFT_THEOREMS: tuple[str, ...] = tuple(
    name for name, theorem in THEOREMS.items() if theorem.pattern_shift is not None
)
"""The ids of the theorems that are bound (B) at a shift, checked on every (query, key) pair."""


def theorem(theorem_id: str) -> Theorem:
    """The theorem of that id. Raises InputError with the list of ids for an unknown one."""
    if theorem_id not in THEOREMS:
        raise InputError(f"theorem {theorem_id!r} is unknown; the ids are {', '.join(THEOREMS)}")
    return THEOREMS[theorem_id]


__all__ = ["SHIFT_THEOREMS", "THEOREMS", "PublishedForm", "Theorem", "theorem"]
