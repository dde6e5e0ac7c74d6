"""Hypothesis strategies for whole heads that satisfy a theorem's hypotheses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from simulations.generators import periodic_sequential, re_access, seasonal, sequential
from simulations.head import Hypothesis, SyntheticHead
from simulations.testing.strategies import keys, queries
from simulations.testing.strategies import ropes as any_rope
from tappa_theory.energy import period
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.theorems import THEOREMS

SMALL = 0.5
"""Drifts and turns of the energy are small up to here, as in a check of a model."""

Build = Callable[[st.DrawFn, int, Rope], SyntheticHead]


@st.composite
def heads(
    draw: st.DrawFn,
    theorem: str | None = None,
    *,
    length: int | tuple[int, int] = (8, 24),
    ropes: st.SearchStrategy[Rope] | None = None,
) -> SyntheticHead:
    """Whole heads, (T, M) queries and keys before RoPE, that satisfy the theorem's hypotheses.

    theorem: its id; what it asks for is among the head's `hypotheses`, where it can be measured on
    a head. "re_access", "sequential", "periodic_sequential" and "seasonal": small drift and small
    turning (up to `SMALL`), frequency dominance and a period shorter than the text.
    "similarity_direction": keys that repeat, no query zero. "proposition_4_1": RoPE gives all
    channels one factor. The other theorems hold for any head, and None is any head.
    length: T, 8 or more, or the least and the largest T. ropes: default any of type "default" that
    turns all components of heads of up to 32.

    Raises InputError for an unknown theorem, or a shorter length.
    """
    if theorem is not None and theorem not in THEOREMS:
        raise InputError(f"theorem {theorem!r} is unknown; the ids are {', '.join(THEOREMS)}")
    least, largest = (length, length) if isinstance(length, int) else length
    if not 8 <= least <= largest:
        raise InputError(f"a length of {length} given; heads of 8 positions or more can be drawn")
    if ropes is None:
        sizes = st.integers(4, 16).map(lambda pairs: 2 * pairs)
        ropes = any_rope(types=("default",), head_dims=sizes, partial=False)
    build = _BUILDERS.get(theorem or "", _any)
    try:
        return build(draw, draw(st.integers(least, largest)), draw(ropes))
    except InputError:
        # a RoPE on which no such head exists, as one that turns too slowly for the length
        reject()


def _random(draw: st.DrawFn) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def _strength(draw: st.DrawFn) -> float:
    """In logits."""
    return draw(st.sampled_from([10.0, 1.0, 30.0]) | st.floats(0.1, 50.0))


def _small(draw: st.DrawFn, largest: float = SMALL) -> float:
    # none, or enough to be seen beside 1
    return draw(st.just(0.0) | st.floats(2.0**-20, largest))


def _similarity(draw: st.DrawFn) -> float:
    """A cosine of vectors of equal norm that are at most `SMALL` of it apart."""
    return 1 - _small(draw) ** 2 / 2


def _any(draw: st.DrawFn, length: int, rope: Rope) -> SyntheticHead:
    z, w = draw(queries(rope, length)), draw(keys(rope, length))
    # logits are products of both: what is far from overflow alone may not be together
    sizes = [float(np.abs(x).max()) or 1.0 for x in (z, w)]
    scale = draw(st.sampled_from([1.0, rope.head_dim**-0.5]))
    return SyntheticHead(z / sizes[0], w / sizes[1] * _strength(draw), rope, scale, "unpredictable")


def _re_access(draw: st.DrawFn, length: int, rope: Rope) -> SyntheticHead:
    sinks = draw(st.just({0}) | st.sets(st.integers(0, length - 1), min_size=1, max_size=3))
    return _checked(
        re_access.generate(
            _random(draw),
            length=length,
            rope=rope,
            q_similarity=_similarity(draw),
            strength=_strength(draw),
            sinks=sorted(sinks),
            share=draw(st.floats(SMALL, 1.0, exclude_min=True)),
        )
    )


def _sequential(draw: st.DrawFn, length: int, rope: Rope) -> SyntheticHead:
    return _checked(
        sequential.generate(
            _random(draw),
            length=length,
            rope=rope,
            q_similarity=_similarity(draw),
            k_similarity=_similarity(draw),
            strength=_strength(draw),
            offset=draw(st.integers(0, length // 2)),
        )
    )


def _periodic_sequential(draw: st.DrawFn, length: int, rope: Rope) -> SyntheticHead:
    turns = np.flatnonzero(rope.frequencies)
    fitting = [m for m in turns.tolist() if round(period(float(rope.frequencies[m]))) < length]
    if not fitting:
        raise InputError("no channel has a period that is shorter than the text")
    channel = draw(st.sampled_from(fitting))
    slower = np.any(rope.frequencies < rope.frequencies[channel])
    return _checked(
        periodic_sequential.generate(
            _random(draw),
            length=length,
            rope=rope,
            channel=channel,
            # the rest is on slower channels: kappa and R are below 0.4/0.6, kappa^2 + R^2 below 1
            share=draw(st.floats(0.6, 1.0)) if slower else 1.0,
            strength=_strength(draw),
            drift=_small(draw, SMALL / 2),
        )
    )


def _seasonal(draw: st.DrawFn, length: int, rope: Rope) -> SyntheticHead:
    turns_all = rope.rotary_dim == rope.head_dim and bool(np.all(rope.frequencies > 0))
    return _checked(
        seasonal.generate(
            _random(draw),
            length=length,
            rope=rope,
            period=draw(st.integers(2, length // 2)),
            # channels that RoPE leaves alone resonate exactly, and cannot be moved
            resonance_error=_small(draw) if turns_all else None,
            strength=_strength(draw),
        )
    )


def _checked(head: SyntheticHead) -> SyntheticHead:
    """The head, if what it promises is as small as it should be."""
    for promise in head.hypotheses:
        if promise.name in ("query_drift", "key_drift", "rotation") and promise.limit > SMALL:
            raise InputError(f"{promise.name} is {promise.limit}, which is not small")
    return head


def _similarity_direction(draw: st.DrawFn, length: int, rope: Rope) -> SyntheticHead:
    head = _any(draw, length, rope)
    season = draw(st.integers(1, length - 1))
    repeated = np.resize(head.w[:season], head.w.shape)
    no_zero = np.where(np.any(head.z != 0, axis=-1, keepdims=True), head.z, 1.0)

    def differs(head: SyntheticHead) -> float:
        return float(np.max(np.abs(head.w[season:] - head.w[:-season])))

    promise = Hypothesis("similarity_direction", "key_step", differs, 0.0)
    return SyntheticHead(no_zero, repeated, rope, head.scale, head.intended, (promise,))


def _proposition_4_1(draw: st.DrawFn, length: int, rope: Rope) -> SyntheticHead:
    if rope.attention_scaling != 1.0 and rope.rotary_dim < rope.head_dim:
        raise InputError("this RoPE gives its channels different factors")
    return _any(draw, length, rope)


_BUILDERS: dict[str, Build] = {
    "re_access": _re_access,
    "sequential": _sequential,
    "periodic_sequential": _periodic_sequential,
    "seasonal": _seasonal,
    "similarity_direction": _similarity_direction,
    "proposition_4_1": _proposition_4_1,
}
