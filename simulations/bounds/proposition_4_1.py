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
    Instances,
    Sides,
    Values,
    channel_vectors,
    complex_normal,
    frequencies,
    gains,
    logit,
    scales,
    sum_rounding,
)
from simulations.bounds.shift_bound import column, drifted
from simulations.head import SyntheticHead
from tappa_theory.arrays import Array, namespace, real_vectors
from tappa_theory.separable import evaluate
from tappa_theory.theorems.proposition_4_1 import THEOREM

AUXILIARY = THEOREM.auxiliary
FREE = ("z", "z_s", "w")
LATEST = 32
ZERO = 1e-9
"""Singular values below this share of the largest count as 0, on both sides of a bound alike."""


def _norm(vectors: Array) -> Array:
    return namespace(vectors).linalg.vector_norm(vectors, axis=-1)


def _after_rope(values: Values) -> tuple[Array, Array, Array]:
    """(query, later query, keys) after RoPE, as channels."""
    theta, t = values["theta"], column(values["t"])
    xp = namespace(theta)
    places = xp.arange(values["w"].shape[-2], dtype=theta.dtype)[:, None]
    keys = values["w"] * xp.exp(1j * places * theta[..., None, :])
    turned = [values["z"] * xp.exp(1j * t * theta), values["z_s"] * xp.exp(1j * (t + 1) * theta)]
    return turned[0], turned[1], keys


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
    return sizes[..., -1], smallest, _norm(xp.where(counts, along, xp.zeros_like(along)))


def _row(values: Values, centred: bool = False, full: bool = False) -> dict[str, Array]:
    """What the registry's expressions ask of a row; full: sigma is that of keys of rank d."""
    before, after, keys = _after_rope(values)
    xp = namespace(keys)
    if centred:
        keys = keys - xp.mean(keys, axis=-2, keepdims=True)
    last, smallest, seen = _seen(keys, after - before)
    turned = xp.sum(evaluate(AUXILIARY["turned_squared"], values), axis=-1)
    lengths = _norm(keys)
    product = xp.sum(xp.real(after * xp.conj(before)), axis=-1)
    row = {
        "lambda": values["lambda"][..., 0],
        "n": xp.ones_like(seen) * keys.shape[-2],
        "step": seen,
        "step_before": _norm(values["z_s"] - values["z"]),
        "turned": xp.sqrt(turned),
        "sigma": last if full else smallest,
        "sigma_centred": smallest,
        "key_norm_max": xp.max(lengths, axis=-1),
        "query_norm": _norm(before),
        "query_norm_s": _norm(after),
        "similarity": xp.clip(product / (_norm(before) * _norm(after)), -1.0, 1.0),
    }
    if centred:
        apart = _norm(keys[..., :, None, :] - keys[..., None, :, :])
        row["diameter"] = xp.max(xp.max(apart, axis=-1), axis=-1)
    return row


def _rounding(values: Values, row: dict[str, Array]) -> Array:
    """Of changes and bounds: none exceeds the largest key times all queries; ZERO leaves some."""
    xp = namespace(row["step"])
    count, channels = values["w"].shape[-2:]
    queries = row["query_norm"] + row["query_norm_s"]
    # keys less their mean may be short where the keys are long
    keys = xp.max(_norm(values["w"]), axis=-1)
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


# --- instances ---------------------------------------------------------------------------------

Count = Callable[[int], int]
"""Number of keys of a row from the number of channels."""
Signs = Callable[[int], np.ndarray]
"""Signs of the keys from their number."""
Equality = Callable[[np.random.Generator, Instances], Instances]
"""Gives instances keys (and a drift) that put them on a bound."""


def _few(channels: int) -> int:
    """Fewer keys than dimensions where there is room: the span is not everything."""
    return min(4, 2 * channels)


def _four(channels: int) -> int:
    return 4


def _full(channels: int) -> int:
    """As many keys as dimensions."""
    return 2 * channels


def _draw(count: Count) -> Callable[[np.random.Generator, int, int], Instances]:
    def draw(rng: np.random.Generator, channels: int, batch: int) -> Instances:
        query = channel_vectors(rng, batch, channels)
        rows = count(channels)
        return {
            "z": query,
            "z_s": drifted(rng, query),
            "w": channel_vectors(rng, batch, rows, channels),
            "theta": frequencies(rng, channels, batch),
            "lambda": scales(rng, channels, batch),
            "t": rng.integers(rows, rows + LATEST, batch) * 1.0,
        }

    return draw


def _from_head(count: Count) -> Callable[[np.random.Generator, SyntheticHead, int], Instances]:
    """As many keys of a head as asked for, anywhere before the query, moved to the places 0..n-1.

    A logit knows distances only: the keys keep their turns by going there.
    """

    def from_head(rng: np.random.Generator, head: SyntheticHead, batch: int) -> Instances:
        theta, gain = gains(head, batch)
        rows = count(theta.shape[-1])
        t = rng.integers(rows, head.length - 1, size=batch)
        places = np.stack([rng.choice(int(last) + 1, rows, replace=False) for last in t])
        turn = np.exp(1j * (places - np.arange(rows))[..., None] * theta[:, None, :])
        # one lambda: a factor that RoPE gives a channel belongs to its keys
        share = gain / gain[:, :1]
        keys = head.w[places] * turn * share[:, None, :]
        lam = np.broadcast_to(gain[:, :1], gain.shape)
        values = {"z": head.z[t], "z_s": head.z[t + 1], "w": keys, "theta": theta}
        return values | {"lambda": lam, "t": t * 1.0}

    return from_head


def _before_rope(values: Instances, keys: np.ndarray) -> Instances:
    """The same with these keys (after RoPE)."""
    places = np.arange(keys.shape[1])[:, None]
    return {**values, "w": keys * np.exp(-1j * places * values["theta"][:, None, :])}


def _step(values: Instances) -> np.ndarray:
    before, after, _ = _after_rope(values)
    return after - before


def _longest_along(rng: np.random.Generator, values: Instances) -> Instances:
    """The longest key lies along the step; the others are any shorter ones."""
    keys = complex_normal(rng, *values["w"].shape)
    keys /= column(_norm(keys)) * rng.uniform(1, 3, (*keys.shape[:2], 1))
    step = _step(values)
    keys[:, 0] = step / column(_norm(step)) * rng.choice([-1, 1], (len(step), 1))
    return _before_rope(values, keys * np.exp(rng.standard_normal((len(step), 1, 1))))


def _equal_keys(signs: Signs) -> Equality:
    """Keys along the step, equally long, with these signs."""

    def along(rng: np.random.Generator, values: Instances) -> Instances:
        step, rows = _step(values), values["w"].shape[1]
        one = step / column(_norm(step)) * np.exp(rng.standard_normal((len(step), 1)))
        return _before_rope(values, signs(rows)[:, None] * one[:, None, :])

    return along


def _orthogonal(signs: Signs) -> Equality:
    """Orthogonal keys, equally long, the step (projected on their span) halfway between them all.

    A Householder reflection takes the step to the diagonal; its rows are the keys. With signs, the
    products with the step have them too.
    """

    def keys_of(rng: np.random.Generator, values: Instances) -> Instances:
        step, count = real_vectors(_step(values)), values["w"].shape[1]
        dimension = step.shape[-1]
        goal = np.ones(dimension) / np.sqrt(dimension)
        normal = step / column(_norm(step)) - goal
        normal /= column(_norm(normal))
        rows = (np.eye(dimension) - 2 * normal[:, :, None] * normal[:, None, :])[:, :count]
        rows = rows * signs(count)[:, None] * np.exp(rng.standard_normal((len(step), 1, 1)))
        half = dimension // 2
        return _before_rope(values, rows[..., :half] + 1j * rows[..., half:])

    return keys_of


def _either(one: Equality, other: Equality) -> Equality:
    """Every second instance of one kind; where keys cannot be orthogonal all are of the first."""

    def keys_of(rng: np.random.Generator, values: Instances) -> Instances:
        count, channels = values["w"].shape[1:]
        first = one(rng, values)
        if count > 2 * channels:
            return first
        odd = np.arange(len(values["w"])) % 2 == 1
        second = other(rng, values)
        return {**values, "w": np.where(odd[:, None, None], second["w"], first["w"])}

    return keys_of


def _with_turn(values: Instances, low: float, high: float, rng: np.random.Generator) -> Instances:
    """The query drifts by `share` times what RoPE turns it: ahead, or back where negative."""
    share = rng.uniform(low, high, (len(values["z"]), 1))
    by_rope = (1 - np.exp(-1j * values["theta"])) * values["z"]
    return {**values, "z_s": values["z"] + share * by_rope}


def _ahead(rng: np.random.Generator, values: Instances) -> Instances:
    return _longest_along(rng, _with_turn(values, 0.1, 3, rng))


def _back(rng: np.random.Generator, values: Instances) -> Instances:
    """Back against RoPE, and too far."""
    return _orthogonal(np.ones)(rng, _with_turn(values, -6, -2, rng))


def _bound(
    name: str,
    sides: Callable[[Values], Sides],
    count: Count,
    equality: Equality,
    sizes: tuple[int, ...] = (1, 4, 32),
) -> Bound:
    draw = _draw(count)
    return Bound(
        theorem=THEOREM.id,
        name=f"{THEOREM.id}.{name}" if name else THEOREM.id,
        sharp=True,
        free=FREE,
        draw=draw,
        sides=sides,
        equality=lambda rng, m, batch: equality(rng, draw(rng, m, batch)),
        from_head=_from_head(count),
        sizes=sizes,
    )


def _half_each(rows: int) -> np.ndarray:
    return np.where(np.arange(rows) % 2, -1.0, 1.0)


# as many keys as dimensions cost an SVD of that size at every evaluation
_SMALL = (1, 2, 4)
_OPPOSITE, _SPREAD = _equal_keys(_half_each), _orthogonal(_half_each)
BOUNDS = (
    _bound("", _above(THEOREM.bound), _few, _longest_along),
    _bound(
        "lower",
        _below(AUXILIARY["lower"]),
        _few,
        _either(_equal_keys(np.ones), _orthogonal(np.ones)),
    ),
    _bound("upper_before", _above(AUXILIARY["upper_before"]), _few, _ahead),
    _bound("lower_before", _below(AUXILIARY["lower_before"], full=True), _full, _back, _SMALL),
    _bound(
        "oscillation_upper",
        _above(AUXILIARY["oscillation_upper"], "oscillation"),
        _four,
        _OPPOSITE,
    ),
    _bound(
        "oscillation_lower",
        _below(AUXILIARY["oscillation_lower"], "oscillation"),
        _four,
        _either(_OPPOSITE, _SPREAD),
    ),
    _bound("sufficient", _sufficient, _few, _longest_along),
    _bound("necessary", _necessary, _full, _orthogonal(np.ones), _SMALL),
)
