"""Every bound on random instances and near its cases of equality, and that one percent is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings, target
from hypothesis import strategies as st

from simulations.bounds import BOUNDS
from simulations.bounds.bound import Bound, Instances, Sides, Values, complex_normal
from simulations.bounds.climb import climb
from simulations.head import SyntheticHead
from tappa_theory.rope import Rope
from tappa_theory.theorems import THEOREMS

EXAMPLES = max(10, settings().max_examples // 5)
"""Of each bound; each is a batch of instances."""
BATCH = 6
EQUAL = 0.999
PLANTED = 0.99

IDS = [bound.name for bound in BOUNDS]
SHARP = [bound for bound in BOUNDS if bound.sharp]
SHARP_IDS = [bound.name for bound in SHARP]


def instances(bound: Bound) -> st.SearchStrategy[Instances]:
    """Random ones, and cases of equality with noise from nothing to their own size."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Instances:
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
        channels = draw(st.sampled_from(bound.sizes), label="channels")
        if bound.equality is None or draw(st.booleans(), label="random"):
            return bound.draw(rng, channels, BATCH)
        values = bound.equality(rng, channels, BATCH)
        exponent = draw(st.none() | st.floats(-9, 0), label="power of ten of the noise")
        return values if exponent is None else bound.perturbed(values, rng, 10.0**exponent)

    return drawn()


def check(bound: Bound, values: Instances, climbing: bool = True) -> None:
    """observed <= bound, with nothing but the derived rounding in between."""
    ratios = bound.ratios(values)
    if climbing:
        target(float(np.max(ratios)), label="observed / bound")
    assert np.all(ratios <= 1), f"{bound.name}: observed / bound - 1 = {np.max(ratios) - 1:.3g}"


def weakened(bound: Bound) -> Bound:
    """The same bound, one percent too small."""

    def sides(values: Values) -> Sides:
        observed, allowed, rounding = bound.sides(values)
        return Sides(observed, PLANTED * allowed, rounding)

    return replace(bound, sides=sides)


# The data is drawn inside, so that each bound keeps and replays its own counterexamples.
@pytest.mark.parametrize("bound", BOUNDS, ids=IDS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_bound_holds(bound: Bound, data: st.DataObject) -> None:
    check(bound, data.draw(instances(bound)))


@pytest.mark.parametrize("bound", SHARP, ids=SHARP_IDS)
def test_one_percent_is_noticed(bound: Bound) -> None:
    @settings(
        max_examples=EXAMPLES,
        phases=(Phase.generate, Phase.target),
        database=None,
        report_multiple_bugs=False,
    )
    @given(values=instances(bound))
    def holds(values: Instances) -> None:
        check(weakened(bound), values)

    with pytest.raises(AssertionError, match="observed / bound"):
        holds()


@pytest.mark.parametrize("bound", SHARP, ids=SHARP_IDS)
def test_cases_of_equality_are_on_the_bound(bound: Bound) -> None:
    assert bound.equality is not None
    for channels in bound.sizes:
        ratios = bound.ratios(bound.equality(np.random.default_rng(channels), channels, 32))
        assert np.min(ratios) >= EQUAL
        assert np.max(ratios) <= 1


def small_head(rng: np.random.Generator) -> SyntheticHead:
    rope = Rope.from_parameters(8, {"rope_theta": 100.0})
    z, w = complex_normal(rng, 2, 96, 4)
    return SyntheticHead(z, w, rope, 0.5, "unpredictable")


@pytest.mark.parametrize(
    "bound", [bound for bound in BOUNDS if bound.from_head], ids=lambda bound: bound.name
)
def test_bound_holds_of_a_head(bound: Bound) -> None:
    rng = np.random.default_rng(0)
    assert bound.from_head is not None
    values = bound.from_head(rng, small_head(rng), 16)
    check(bound, values, climbing=False)
    # the sides are those of a head, not of nothing
    observed, allowed, _ = bound.sides(values)
    assert np.max(observed) > 0
    assert np.max(allowed) > 0


@pytest.mark.parametrize(
    "bound", [bound for bound in BOUNDS if bound.differentiable], ids=lambda bound: bound.name
)
def test_torch_sees_the_same_sides(bound: Bound) -> None:
    values = bound.draw(np.random.default_rng(1), bound.sizes[0], 4)
    tensors = {name: torch.tensor(array) for name, array in values.items()}
    for name in bound.free:
        tensors[name].requires_grad_(True)
    numbers, found = bound.sides(values), bound.sides(tensors)
    for expected, side in zip(numbers, found, strict=True):
        np.testing.assert_allclose(side.detach().numpy(), expected, rtol=1e-6, atol=1e-12)
    slopes = torch.autograd.grad(
        found.observed.sum() - found.bound.sum(),
        [tensors[name] for name in bound.free],
        allow_unused=True,
    )
    assert any(slope is not None and bool(torch.any(slope != 0)) for slope in slopes)


def test_every_theorem_has_bounds() -> None:
    assert {bound.theorem for bound in BOUNDS} == set(THEOREMS)
    assert len(set(IDS)) == len(IDS)
    # the first of each is its own, the others are named after it
    for theorem in THEOREMS:
        assert theorem in IDS
    for bound in BOUNDS:
        assert bound.name == bound.theorem or bound.name.startswith(f"{bound.theorem}.")


@pytest.mark.parametrize("name", ["shift_bound", "periodic_sequential.displacement"])
def test_a_search_climbs(name: str) -> None:
    bound = BOUNDS[IDS.index(name)]
    rng = np.random.default_rng(3)
    start = bound.draw(rng, 4, 4)
    found = climb(bound, start, 40, rng)
    assert np.all(found >= bound.ratios(start))
    assert np.max(found) > 0.99
    assert np.max(found) <= 1


def test_a_search_finds_a_violation() -> None:
    bound = weakened(BOUNDS[IDS.index("re_access")])
    rng = np.random.default_rng(4)
    assert np.max(climb(bound, bound.draw(rng, 32, 4), 60, rng)) > 1


def test_rounding_is_small() -> None:
    """A rounding that forgave a percent would forgive the theorem itself."""
    for bound in SHARP:
        assert bound.equality is not None
        values = bound.equality(np.random.default_rng(5), bound.sizes[0], 8)
        sides = bound.sides(values)
        assert np.median(sides.rounding / sides.bound) < 1e-3, bound.name
