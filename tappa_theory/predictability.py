"""How well one attention row foretells the next, whether its targets stay or move along."""

from tappa_theory.arrays import Array, largest, namespace

TOP = 16
"""Keys per row that recall looks at."""


def shift_aware_recall(attention: Array, top: int = TOP) -> Array:
    """Share of each next row's best `top` attention found where the row before leads to look.

    The candidates are the `top` keys of row t, kept, and moved by one (a diagonal moves every step
    and is no less predictable). Their best `top` attentions in row t + 1, over the best `top` of
    that row: 1 if all of it was foretold.

    attention: (..., R, T) consecutive rows, 0 on hidden keys. Returns (..., R - 1), 0..1.
    """
    xp = namespace(attention)
    top = min(top, attention.shape[-1])
    best, keys = largest(attention, top)
    kept, following = keys[..., :-1, :], attention[..., 1:, :]
    moved = kept + 1
    inside = moved < attention.shape[-1]
    kept_mass = xp.take_along_axis(following, kept, axis=-1)
    moved_mass = xp.take_along_axis(following, xp.where(inside, moved, kept), axis=-1)
    moved_mass = xp.where(inside, moved_mass, xp.zeros_like(moved_mass))
    return recall_of_candidates(kept, kept_mass, moved_mass, best[..., 1:, :])


def recall_of_candidates(kept: Array, kept_mass: Array, moved_mass: Array, best: Array) -> Array:
    """`shift_aware_recall` (...) where only the attention on the candidates is at hand.

    kept: (..., top) the keys of row t. kept_mass, moved_mass: (..., top) attention of row t + 1 on
    them and on the keys after them, 0 where hidden. best: (..., top) the largest attentions of row
    t + 1. The three may be scaled by a number per row. A row t of fewer keys fills up with keys
    below -1, all different, of mass 0.
    """
    xp = namespace(kept_mass, moved_mass, best)
    repeated = xp.any((kept + 1)[..., :, None] == kept[..., None, :], axis=-1)
    moved_mass = xp.where(repeated, xp.zeros_like(moved_mass), moved_mass)
    found, _ = largest(xp.concat([kept_mass, moved_mass], axis=-1), best.shape[-1])
    return xp.sum(found, axis=-1) / xp.sum(best, axis=-1)
