"""What the strategies draw: within its limits, with the hard cases among it, and shrinking well."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, find, given, settings
from hypothesis import strategies as st

from simulations.generators.parts import default_rope
from simulations.number_formats import rounded
from simulations.testing import heads, keys, positions, queries, ropes, shifts
from simulations.testing.heads import SMALL
from simulations.testing.strategies import BASES
from tappa_theory.drift import relative_drift
from tappa_theory.energy import channel_energy, period, rotation_share
from tappa_theory.errors import InputError
from tappa_theory.rope import ROPE_TYPES, Rope, to_channels, to_vectors
from tappa_theory.theorems import THEOREMS

SEARCH = settings(
    max_examples=1000,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


FEW = settings(max_examples=max(10, settings().max_examples // 4))
"""For the tests that draw whole heads, of which there are many."""


def plainest(strategy, condition=lambda value: True):
    """The example that a failure would be shrunk to; NoSuchExample if none is found."""
    return find(strategy, condition, settings=SEARCH)


@given(rope=ropes(head_dims=st.sampled_from([4, 6, 64])))
def test_ropes_have_the_head_size_that_is_asked_for(rope):
    assert rope.head_dim in (4, 6, 64)
    assert rope.rotary_dim >= 4


@given(rope=ropes(types=["default", "llama3"], layouts=["interleaved"], partial=False))
def test_ropes_are_of_the_kind_that_is_asked_for(rope):
    assert rope.type in ("default", "llama3")
    assert rope.layout == "interleaved"
    assert rope.rotary_dim == rope.head_dim


@pytest.mark.parametrize("kind", ROPE_TYPES)
@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_every_type_and_layout_of_rope_is_drawn(kind, layout):
    small = ropes(head_dims=st.just(8))
    plainest(small, lambda rope: rope.type == kind and rope.layout == layout)


def test_partial_and_scaled_ropes_and_other_bases_are_drawn():
    small = ropes(head_dims=st.just(8))
    plainest(small, lambda rope: rope.rotary_dim < rope.head_dim)
    plainest(small, lambda rope: rope.attention_scaling > 1)
    plainest(small, lambda rope: rope.base not in BASES)
    only = ropes(bases=st.just(77.0))
    assert plainest(only).base == 77.0


def test_the_plainest_rope_is_the_default_one():
    rope = plainest(ropes())
    assert rope == Rope.from_parameters(4, {"rope_theta": 10_000.0})


@given(st.integers(1, 6), st.integers(1, 200_000), st.booleans(), st.data())
def test_positions_stay_below_the_context(length, context, consecutive, data):
    assume(not consecutive or length <= context)
    at = data.draw(positions(length, context=context, consecutive=consecutive))
    assert at.shape == (length,)
    assert at.dtype == np.int64
    assert at.min() >= 0
    assert at.max() < context
    if consecutive:
        assert np.all(np.diff(at) == 1)


@pytest.mark.parametrize("value", [0, 1, 255, 256, 257, 4096, 65_537, 131_071])
def test_positions_where_kernels_go_wrong_are_drawn(value):
    plainest(positions(2), lambda at: value in at)


def test_positions_shrink_to_zero_and_are_not_always_in_order():
    assert plainest(positions(3)).tolist() == [0, 0, 0]
    plainest(positions(3), lambda at: at[0] > at[1] > at[2])


@given(st.integers(0, 50), st.data())
def test_shifts_are_no_larger_than_asked_for(largest, data):
    s, u = data.draw(shifts(largest))
    assert 0 <= s <= largest
    assert 0 <= u <= largest


@pytest.mark.parametrize("shift", [(1, 0), (1, 1), (0, 7), (7, 0), (3, 5)])
def test_the_shifts_of_the_patterns_are_drawn(shift):
    plainest(shifts(9), lambda found: found == shift)


@pytest.mark.parametrize("strategy", [queries, keys])
@given(data=st.data())
def test_vectors_have_the_shape_and_type_that_is_asked_for(strategy, data):
    x = data.draw(strategy(6, (2, 5), heads=3, dtype="float16"))
    assert x.dtype == np.float16
    assert x.shape[0] == 3
    assert 2 <= x.shape[1] <= 5
    assert x.shape[2] == 6
    assert np.all(np.isfinite(x))


@given(data=st.data())
def test_vectors_for_bfloat16_are_held_by_it_exactly(data):
    x = data.draw(queries(4, dtype="bfloat16"))
    assert x.dtype == np.float32
    assert np.array_equal(rounded(x.astype(np.float64), "bfloat16"), x)


@given(rope=ropes(head_dims=st.just(8)), data=st.data())
def test_channels_in_place_of_vectors(rope, data):
    z = data.draw(queries(rope, 3))
    assert z.shape == (3, 4)
    assert z.dtype == np.complex128
    assert np.array_equal(to_channels(to_vectors(z, rope), rope), z)


def norms(x):
    return np.linalg.norm(x, axis=-1)


CASES = {
    "a zero vector among others": lambda x: (
        np.any(norms(x) == 0) and np.any(norms(x) > 0) and len(x) > 1
    ),
    "equal vectors": lambda x: len(x) > 2 and np.all(x == x[0]) and np.count_nonzero(x[0]) > 1,
    "nearly equal vectors": lambda x: (
        len(x) > 1 and 0 < norms(x[1] - x[0]) < 0.05 * norms(x[0])
    ),
    "alternating signs": lambda x: len(x) > 2 and np.all(x[1] == -x[0]) and np.any(x[0]),
    "a huge norm": lambda x: np.any(norms(x) > 1e24),
    "a tiny norm": lambda x: np.any((norms(x) > 0) & (norms(x) < 1e-20)),
    "huge and tiny together": lambda x: np.any(norms(x) > 1e20) and np.any(
        (norms(x) > 0) & (norms(x) < 1e-18)
    ),
    "one component": lambda x: np.count_nonzero(x) == 1,
    "no component zero": lambda x: len(x) > 2 and len(np.unique(np.abs(x))) == x.size,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strategy", [queries, keys])
def test_the_hard_cases_are_drawn(case, strategy):
    plainest(strategy(8), CASES[case])


def test_only_a_key_may_be_a_sink():
    def sink(x):
        ones = np.ones(4)
        return len(x) > 1 and np.array_equal(x[0], 8 * ones) and np.array_equal(x[1], ones)

    plainest(keys(4), sink)


def test_vectors_shrink_to_one_component():
    x = plainest(queries(6), lambda x: norms(x).max() > 0.5)
    assert x.tolist() == [[1.0, 0, 0, 0, 0, 0]]
    x = plainest(queries(6), lambda x: np.any(x[..., 4] != 0))
    assert x.tolist() == [[0, 0, 0, 0, 1.0, 0]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@given(data=st.data())
def test_vectors_are_far_from_the_ends_of_their_type(dtype, data):
    # a factor of 8 above for sums and scaling; products with cosines from 2^-30 on are not lost
    largest = 65_504 if dtype == "float16" else 1e38
    x = np.abs(data.draw(keys(4, dtype=dtype)).astype(np.float64))
    assert np.all(8 * x < largest)
    if dtype != "float16":
        assert np.all((x == 0) | (x > 2.0**-96))


# --- heads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("theorem", THEOREMS)
@FEW
@given(data=st.data())
def test_heads_meet_what_they_promise(theorem, data):
    head = data.draw(heads(theorem, length=(8, 16)))
    assert 8 <= head.length <= 16
    assert np.all(np.isfinite(head.attention))
    assert all(promise.theorem == theorem for promise in head.hypotheses)
    assert all(promise.met(head) for promise in head.hypotheses)


def turning(head, shift):
    return rotation_share(channel_energy(head.z, head.w, head.rope).energy, head.rope, shift)


@FEW
@given(head=heads("re_access"))
def test_re_access_heads_drift_little_on_slow_channels(head):
    assert relative_drift(head.z, 1).max() <= SMALL + 1e-9
    assert turning(head, (1, 0)) <= SMALL * (1 + 1e-12)  # rounded as below


@FEW
@given(head=heads("sequential"))
def test_sequential_heads_drift_little(head):
    assert relative_drift(head.z, 1).max() <= SMALL + 1e-9
    assert relative_drift(head.w, 1).max() <= SMALL + 1e-9


@FEW
@given(head=heads("periodic_sequential"))
def test_periodic_heads_have_a_dominant_channel_of_a_short_period(head):
    energy = channel_energy(head.z, head.w, head.rope)
    assert energy.kappa**2 + energy.curvature**2 < 1
    spacing = round(period(head.rope.frequencies[energy.frequency_dominant_channel]))
    assert spacing < head.length
    assert relative_drift(head.w, spacing).max() <= SMALL + 1e-9


@FEW
@given(head=heads("seasonal"))
def test_seasonal_heads_repeat_and_resonate(head):
    repeats = [lag for lag in range(2, head.length) if relative_drift(head.z, lag).max() < 1e-9]
    # the promise may be SMALL itself; sines and sums round it
    assert any(turning(head, (lag, 0)) <= SMALL * (1 + 1e-12) for lag in repeats)


@FEW
@given(head=heads("similarity_direction"))
def test_similarity_heads_have_keys_that_repeat_and_no_query_zero(head):
    steps = [np.abs(head.w[u:] - head.w[:-u]).max() for u in range(1, head.length)]
    assert min(steps) == 0
    assert np.all(np.any(head.z != 0, axis=-1))


@FEW
@given(head=heads("proposition_4_1", ropes=ropes(types=["yarn", "default"])))
def test_proposition_heads_have_one_factor(head):
    assert head.rope.attention_scaling == 1 or head.rope.rotary_dim == head.rope.head_dim


def test_heads_shrink_to_few_positions_and_the_default_rope():
    head = plainest(heads("re_access"))
    assert head.length == 8
    assert head.rope == default_rope(8)
    head = plainest(heads(), lambda head: np.abs(head.logits).max() > 0.5)
    assert np.count_nonzero(head.z) <= head.length
    assert np.count_nonzero(head.w) <= head.length


def test_a_rope_that_turns_too_slowly_for_any_such_head_gives_none():
    slow = st.just(Rope(np.array([1e-4, 1e-5]), "half", 4))

    @settings(SEARCH, max_examples=20)
    @given(heads("periodic_sequential", ropes=slow))
    def nothing(head):
        raise AssertionError("drawn all the same")

    # hypothesis says so itself
    with pytest.raises(Exception, match="Unable to satisfy"):
        nothing()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("re-access",), "theorem 're-access' is unknown; the ids are shift_bound"),
        (("re_access", 7), "a length of 7 given; heads of 8 positions or more"),
        ((None, (9, 8)), "a length of"),
    ],
)
def test_heads_that_cannot_be_drawn_are_told(arguments, message):
    theorem, *length = arguments
    with pytest.raises(InputError, match=message):
        plainest(heads(theorem, **({"length": length[0]} if length else {})))
