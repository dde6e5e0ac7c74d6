"""The theorems of TAPPA, one file each; `THEOREMS` is the registry, by id."""

from tappa_theory.errors import InputError
from tappa_theory.theorems import (
    periodic_sequential,
    proposition_4_1,
    re_access,
    seasonal,
    sequential,
    shift_bound,
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
    )
}
"""Every theorem by its id."""

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
