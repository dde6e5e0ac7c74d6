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
    kept = keys[..., :-1, :]
    moved = kept + 1
    repeated = xp.any(moved[..., :, None] == kept[..., None, :], axis=-1)
    inside = moved < attention.shape[-1]
    following = attention[..., 1:, :]
    kept_mass = xp.take_along_axis(following, kept, axis=-1)
    moved_mass = xp.take_along_axis(following, xp.where(inside, moved, kept), axis=-1)
    moved_mass = xp.where(inside & ~repeated, moved_mass, xp.zeros_like(moved_mass))
    found, _ = largest(xp.concat([kept_mass, moved_mass], axis=-1), top)
    return xp.sum(found, axis=-1) / xp.sum(best[..., 1:, :], axis=-1)
