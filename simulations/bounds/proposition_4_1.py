"""Proposition 4.1: the largest change of a row's logits in a step, from below and from above.

The keys of a row are (batch, n, M), key i at position i; every row sees them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import sympy as sp

from simulations.bounds.bound import (
    Bound,
    Sides,
    Values,
    logit,
    norm,
    sum_rounding,
)
from simulations.bounds.key_rows import (
    Count,
    Equality,
    after_rope,
    ahead,
    back,
    draw_rows,
    either,
    equal_keys,
    few,
    four,
    full_rank,
    half_each,
    longest_along,
    orthogonal,
    rows_from_head,
)
from tappa_theory.arrays import Array, namespace, real_vectors
from tappa_theory.separable import evaluate
from tappa_theory.theorems.proposition_4_1 import THEOREM

AUXILIARY = THEOREM.auxiliary
FREE = ("z", "z_s", "w")
ZERO = 1e-9
"""Singular values below this share of the largest count as 0, on both sides of a bound alike."""


def _changes(values: Values) -> Array:
    """(batch, n) a_{t+1,i} - a_{t,i}."""
    xp = namespace(values["w"])
    theta, gain, t = (
        values["theta"][..., None, :],
        values["lambda"][..., None, :],
        values["t"][..., None, None],
    )
    i = xp.arange(values["w"].shape[-2], dtype=values["theta"].dtype)[:, None]
    before, after = (values[name][..., None, :] for name in ("z", "z_s"))
    return logit(after, values["w"], theta, gain, t + 1, i) - logit(
        before, values["w"], theta, gain, t, i
    )


def _seen(keys: Array, step: Array) -> tuple[Array, Array, Array]:
    """(smallest singular value, smallest nonzero one, step projected on the span of the keys)."""
    xp = namespace(keys)
    real_keys, real_step = real_vectors(keys), real_vectors(step)
    _, sizes, directions = xp.linalg.svd(real_keys, full_matrices=False)
    counts = sizes > ZERO * sizes[..., :1]
    infinite = xp.full_like(sizes, np.inf)
    smallest = xp.min(xp.where(counts, sizes, infinite), axis=-1)
    along = (directions @ real_step[..., None])[..., 0]
    return sizes[..., -1], smallest, norm(xp.where(counts, along, xp.zeros_like(along)))


def _row(values: Values, centred: bool = False, full: bool = False) -> dict[str, Array]:
    """What the registry's expressions ask of a row; full: sigma is that of keys of rank d."""
    before, after, keys = after_rope(values)
    xp = namespace(keys)
    if centred:
        keys = keys - xp.mean(keys, axis=-2, keepdims=True)
    last, smallest, seen = _seen(keys, after - before)
    turned = xp.sum(evaluate(AUXILIARY["turned_squared"], values), axis=-1)
    lengths = norm(keys)
    product = xp.sum(xp.real(after * xp.conj(before)), axis=-1)
    row = {
        "lambda": values["lambda"][..., 0],
        "n": xp.ones_like(seen) * keys.shape[-2],
        "step": seen,
        "step_before": norm(values["z_s"] - values["z"]),
        "turned": xp.sqrt(turned),
        "sigma": last if full else smallest,
        "sigma_centred": smallest,
        "key_norm_max": xp.max(lengths, axis=-1),
        "query_norm": norm(before),
        "query_norm_s": norm(after),
        "similarity": xp.clip(product / (norm(before) * norm(after)), -1.0, 1.0),
    }
    if centred:
        apart = norm(keys[..., :, None, :] - keys[..., None, :, :])
        row["diameter"] = xp.max(xp.max(apart, axis=-1), axis=-1)
    return row


def _rounding(values: Values, row: dict[str, Array]) -> Array:
    """Of changes and bounds: none exceeds the largest key times all queries; ZERO leaves some."""
    xp = namespace(row["step"])
    count, channels = values["w"].shape[-2:]
    queries = row["query_norm"] + row["query_norm_s"]
    # keys less their mean may be short where the keys are long
    keys = xp.max(norm(values["w"]), axis=-1)
    size = row["lambda"] * keys * queries
    angle = xp.max(values["theta"], axis=-1) * (values["t"] + 1)
    # an SVD is exact for keys that are off by a few n d roundings of the largest one
    products = sum_rounding(size, angle, channels + 4 * count * channels)
    return products + 2 * ZERO * np.sqrt(count) * size


Of = Literal["largest", "oscillation"]


def _above(expression: sp.Expr, of: Of = "largest") -> Callable[[Values], Sides]:
    """What the changes are at most."""

    def sides(values: Values) -> Sides:
        row = _row(values, centred=of == "oscillation")
        return Sides(_observed(values, of), evaluate(expression, row), _rounding(values, row))

    return sides


def _below(
    expression: sp.Expr, of: Of = "largest", full: bool = False
) -> Callable[[Values], Sides]:
    """What the changes are at least: the two sides change places."""

    def sides(values: Values) -> Sides:
        row = _row(values, centred=of == "oscillation", full=full)
        return Sides(evaluate(expression, row), _observed(values, of), _rounding(values, row))

    return sides


def _observed(values: Values, of: Of) -> Array:
    changes = _changes(values)
    xp = namespace(changes)
    if of == "largest":
        return xp.max(xp.abs(changes), axis=-1)
    return xp.max(changes, axis=-1) - xp.min(changes, axis=-1)


def _sufficient(values: Values) -> Sides:
    """The step comes from norms and cosine, which cancel; a root may double the loss."""
    row = _row(values)
    xp = namespace(row["step"])
    queries = row["query_norm"] + row["query_norm_s"]
    angle = xp.max(values["theta"], axis=-1) * (values["t"] + 1)
    lost = sum_rounding(queries**2, angle, values["z"].shape[-1])
    step = xp.sqrt(xp.maximum(evaluate(AUXILIARY["step_squared"], row), lost))
    rounding = 2 * row["lambda"] * row["key_norm_max"] * lost / step
    bound = evaluate(AUXILIARY["sufficient"], row)
    return Sides(_observed(values, "largest"), bound, rounding + _rounding(values, row))


def _necessary(values: Values) -> Sides:
    """1 - cosine against the most that the observed changes leave possible."""
    row = _row(values, full=True)
    xp = namespace(row["step"])
    changes = _observed(values, "largest")
    bound = evaluate(AUXILIARY["necessary"], {**row, "change_max": changes})
    # 1 - cosine is a difference, and so is the bound: of two squares over 2 r r'
    norms = 2 * row["query_norm"] * row["query_norm_s"]
    stretched = np.sqrt(values["w"].shape[-2]) / (row["lambda"] * row["sigma"])
    squares = (stretched * changes) ** 2
    error = stretched * _rounding(values, row)
    lost = 2 * error * xp.sqrt(squares) + error**2
    angle = xp.max(values["theta"], axis=-1) * (values["t"] + 1)
    queries = (row["query_norm"] + row["query_norm_s"]) ** 2 + squares
    lost = lost + sum_rounding(queries, angle, values["z"].shape[-1])
    return Sides(1 - row["similarity"], bound, lost / norms)


def _bound(
    name: str,
    sides: Callable[[Values], Sides],
    count: Count,
    equality: Equality,
    sizes: tuple[int, ...] = (1, 4, 32),
) -> Bound:
    draw = draw_rows(count)
    return Bound(
        theorem=THEOREM.id,
        name=f"{THEOREM.id}.{name}" if name else THEOREM.id,
        sharp=True,
        free=FREE,
        draw=draw,
        sides=sides,
        equality=lambda rng, m, batch: equality(rng, draw(rng, m, batch)),
        from_head=rows_from_head(count),
        sizes=sizes,
    )


# as many keys as dimensions cost an SVD of that size at every evaluation
_SMALL = (1, 2, 4)
_OPPOSITE, _SPREAD = equal_keys(half_each), orthogonal(half_each)
BOUNDS = (
    _bound("", _above(THEOREM.bound), few, longest_along),
    _bound(
        "lower",
        _below(AUXILIARY["lower"]),
        few,
        either(equal_keys(np.ones), orthogonal(np.ones)),
    ),
    _bound("upper_before", _above(AUXILIARY["upper_before"]), few, ahead),
    _bound("lower_before", _below(AUXILIARY["lower_before"], full=True), full_rank, back, _SMALL),
    _bound(
        "oscillation_upper",
        _above(AUXILIARY["oscillation_upper"], "oscillation"),
        four,
        _OPPOSITE,
    ),
    _bound(
        "oscillation_lower",
        _below(AUXILIARY["oscillation_lower"], "oscillation"),
        four,
        either(_OPPOSITE, _SPREAD),
    ),
    _bound("sufficient", _sufficient, few, longest_along),
    _bound("necessary", _necessary, full_rank, orthogonal(np.ones), _SMALL),
)
