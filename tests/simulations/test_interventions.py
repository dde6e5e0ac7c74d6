"""Interventions: where maxima lie, what the theorem promises of them, and that errors show."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations import diagonals
from simulations.diagonals import drifting_row, maxima, promise, whole_maxima
from simulations.experiment import Outcome, Settings
from simulations.experiments.interventions import EXPERIMENT
from simulations.experiments.interventions.changes import (
    CHANGES,
    Content,
    content,
    interventions,
    moved,
)
from simulations.generators.parts import default_rope
from simulations.generators.periodic_sequential import generate
from tappa_theory.app.style import figure_style
from tappa_theory.energy import channel_energy
from tappa_theory.rope import Rope

QUICK = Settings(quick=True)


@cache
def outcome() -> Outcome:
    return EXPERIMENT.run(QUICK)


def channels(*parts: tuple[float, complex]) -> tuple[np.ndarray, np.ndarray, Rope]:
    """Query, key and RoPE of channels (theta, z conj(w))."""
    theta, product = (np.array(column) for column in zip(*parts, strict=True))
    return (
        product.astype(complex),
        np.ones(len(parts), complex),
        Rope(theta, "half", 2 * len(parts)),
    )


def test_two_channels_of_the_counterexample() -> None:
    """theta = (1, 3/5), energies (1, 5/6): maxima 5 pi / 3 apart about 0, not 2 pi apart."""
    z, w, rope = channels((1.0, -1.0), (0.6, -5 / 6))
    said = promise(z, w, rope)
    assert (said.energy_channel, said.star, said.met) == (0, 0, True)
    assert said.kappa == pytest.approx(0.5)
    assert said.curvature == pytest.approx(0.3)
    assert said.spacing == pytest.approx(2 * math.pi / 6)
    seen = maxima(z, w, rope, 40.0)
    gaps = np.diff(seen.places)
    assert np.abs(gaps - 2 * math.pi).max() > 0.5
    assert np.ptp(seen.places - said.period * np.arange(len(seen.places))) <= said.spacing


def test_the_error_bar_is_attained() -> None:
    """A slow competitor is steepest at two neighbouring maxima, and pushes them apart: half a turn
    of it takes 2 pi + 2 arcsin(kappa)."""
    beta = math.asin(0.5)
    theta = math.pi / (2 * math.pi + 2 * beta)
    phase = math.pi / 2 + theta * beta
    z, w, rope = channels((1.0, 1.0), (theta, 0.5 / theta * np.exp(1j * phase)))
    said = promise(z, w, rope)
    assert said.met
    assert said.spacing == pytest.approx(2 * beta)
    gaps = np.diff(maxima(z, w, rope, 60.0).places)
    assert np.abs(gaps - said.period).max() == pytest.approx(said.spacing, rel=1e-9)


def test_energy_that_is_not_weighted() -> None:
    """A slow channel with 4 times the energy does not set the spacing."""
    z, w, rope = channels((1.0, 1.0), (0.01, 4.0))
    said = promise(z, w, rope)
    assert (said.energy_channel, said.star, said.met) == (1, 0, True)
    assert said.energy_kappa == pytest.approx(25.0)
    gaps = np.diff(maxima(z, w, rope, 100.0).places)
    assert said.spacing == pytest.approx(2 * math.asin(0.04))
    assert np.abs(gaps - 2 * math.pi).max() < 2 * math.asin(0.04)


def test_promise_agrees_with_the_channel_energies() -> None:
    rng = np.random.default_rng(0)
    rope = default_rope()
    for profile in ("slow rest", "flat rest", "energy elsewhere"):
        made = content(rng, profile, rope, 9)
        said = promise(made.z, made.w, rope)
        energy = channel_energy(made.z[None], made.w[None], rope)
        assert (said.energy_channel, said.star) == (9, energy.frequency_dominant_channel)
        assert said.kappa == pytest.approx(energy.kappa)
        assert said.curvature == pytest.approx(energy.curvature)
        assert (said.star != 9) == (profile == "energy elsewhere")


def test_nothing_is_promised_without_the_hypothesis() -> None:
    """kappa and R below 1 are not enough: the theorem's own counterexample has two maxima."""
    z, w, rope = channels((1.0, 1.0), (1.5, 0.62 / 1.5), (0.1, 3.5))
    said = promise(z, w, rope)
    assert said.star == 0
    assert said.kappa == pytest.approx(0.97)
    assert said.curvature < 1
    assert not said.met
    assert said.spacing is None
    assert not said.on_whole_distances


def row(made: Content, rope: Rope, x: np.ndarray) -> np.ndarray:
    turned = np.exp(1j * np.multiply.outer(x, rope.frequencies))
    return np.real(turned @ (made.z * made.w.conj()))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["slow rest", "flat rest", "energy elsewhere"]))
def test_maxima_are_those_of_a_dense_grid_and_keep_the_promise(seed: int, profile: str) -> None:
    rng = np.random.default_rng(seed)
    rope = default_rope(64, 1e5)
    made = content(rng, profile, rope, int(rng.integers(5, 8)))
    said = promise(made.z, made.w, rope)
    end = 3 * said.energy_period
    if said.spacing is None:
        return
    seen = maxima(made.z, made.w, rope, end, said.apart)
    assert seen.errors.max() < 1e-9
    x = np.linspace(0, end, 40_001)
    f = row(made, rope, x)
    dense = x[1:-1][(f[1:-1] > f[:-2]) & (f[1:-1] >= f[2:])]
    inner = (seen.places > x[1]) & (seen.places < x[-2])
    assert len(dense) == inner.sum()
    assert np.abs(dense - seen.places[inner]).max(initial=0.0) < 2 * x[1]
    off = np.ptp(seen.places - said.period * np.arange(len(seen.places)))
    assert off <= said.spacing + 2 * seen.errors.max()
    if said.on_whole_distances:
        whole = whole_maxima(row(made, rope, np.arange(300.0)))
        mean = (whole[-1] - whole[0]) / (len(whole) - 1)
        assert abs(mean - said.period) <= said.whole_spacing(len(whole) - 1)


def test_moving_swaps_two_channels_and_back() -> None:
    before = content(np.random.default_rng(1), "slow rest", default_rope(), 5)
    after = moved(before, 8)
    assert (after.channel, after.z[8], after.z[5]) == (8, before.z[5], before.z[8])
    again = moved(after, 5)
    assert np.array_equal(again.z, before.z)
    assert np.array_equal(again.w, before.w)


@given(st.integers(0, 10**6), st.floats(0.0, 0.05))
def test_drifting_rows_keep_their_bounds(seed: int, drift: float) -> None:
    head = generate(np.random.default_rng(seed), length=128, channel=8, drift=drift)
    seen = drifting_row(head.z, head.w, head.rope, head.scale, 8)
    assert drift > 0.03 or seen.certain >= 2  # with more drift kappa may reach 1
    assert seen.excess is None or seen.excess <= 0
    if seen.spacing is not None:
        assert seen.bar is not None
        assert abs(seen.spacing - 2 * math.pi / head.rope.frequencies[8]) <= seen.bar


def test_nothing_is_certain_where_keys_jump() -> None:
    rng = np.random.default_rng(2)
    z, w = rng.standard_normal((2, 64, 32)) + 1j * rng.standard_normal((2, 64, 32))
    seen = drifting_row(z, w, default_rope(), 0.125, 8)
    assert (seen.certain, seen.excess, seen.spacing) == (0, None, None)


def test_two_hundred_interventions_with_the_papers() -> None:
    found = list(interventions(Settings()))
    assert len(found) >= 200
    assert {one.kind for one in found} == {"move", "base"}
    assert CHANGES[0] == (1e6, 1e5)
    bases = [(one.before[1].base, one.after[1].base) for one in found if one.kind == "base"]
    assert bases.count((1e6, 1e5)) >= 10
    for one in found:
        if one.kind == "base":
            assert one.before[0] is one.after[0]


def test_what_is_proven_is_met_and_the_data_are_plain() -> None:
    found = outcome()
    assert [c.proven for c in found.criteria[:4]] == [True] * 4
    assert all(c.met for c in found.criteria if c.proven)
    table = found.tables["configurations"]
    assert set(table["case"]) == {"same channel", "another channel", "not met"}
    for data in found.tables.values():
        for column in data.values():
            assert all(x is None or isinstance(x, str) or math.isfinite(x) for x in column)


def test_the_same_settings_give_the_same_data() -> None:
    again = EXPERIMENT.run(QUICK)
    assert again.tables == outcome().tables
    assert again.criteria == outcome().criteria
    other = EXPERIMENT.run(Settings(seed=1, quick=True))
    assert other.tables != again.tables


@pytest.mark.parametrize("name", ["spacing", "crest"])
def test_a_bound_that_is_too_short_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = dict(diagonals.PARTS)
    planted[name] = planted[name] / 20
    monkeypatch.setattr(diagonals, "PARTS", planted)
    assert EXPERIMENT.run(QUICK).verdict == "violated"


def test_it_is_drawn() -> None:
    with figure_style():
        drawn = EXPERIMENT.draw(outcome())
        drawn.figure.draw_without_rendering()
    assert len(drawn.figure.axes) == 2
