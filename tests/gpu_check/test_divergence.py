"""Divergences of single steps against their bounds, at steps that attain them."""

from typing import Any

import numpy as np
import pytest

from gpu_check import divergence
from gpu_check.divergence import LARGEST_OMEGA, SMALLEST_OMEGA, compare, interval, quadratic_bound

Step = tuple[float, float, float]


def two_point(mass: float, gain: float) -> Step:
    """(KL, key_metric, omega) of a row of which `mass` gains `gain` logits, and the rest none."""
    kl = np.log1p(mass * np.expm1(gain)) - mass * gain
    return float(kl), mass * (1 - mass) * gain**2 / 2, abs(gain)


MOST = 1 / 2.0 - 1 / np.expm1(2.0)
ATTAINED = {
    # of all two-point rows these have the largest third cumulant, and no fourth
    "ERROR": two_point((1 - 1 / np.sqrt(3)) / 2, 0.05),
    "UPPER": two_point(1e-5, 2.0),
    "LOWER": two_point(1e-5, -2.0),
    "LARGEST": two_point(MOST, 2.0),
}
"""A step at the edge of what each expression allows."""


def compared(*steps: Step, error: float = 0.0) -> dict[str, Any]:
    found = compare(*np.array(steps).T, error=error)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ATTAINED)
def test_what_is_attained_is_not_outside_and_a_bound_one_percent_tighter_is_seen(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    step = ATTAINED[name]
    assert compared(step)["outside"] == 0
    tighter = (1.01 if name == "LOWER" else 0.99) * getattr(divergence, name)
    monkeypatch.setattr(divergence, name, tighter)
    assert compared(step)["outside"] == 1


def test_the_bounds_are_attained():
    kl, metric, _ = ATTAINED["ERROR"]
    assert compared(ATTAINED["ERROR"])["remainder"] == pytest.approx(abs(kl - metric), rel=1e-3)
    assert compared(ATTAINED["UPPER"])["highest"] == pytest.approx(ATTAINED["UPPER"][0], rel=1e-3)
    assert compared(ATTAINED["LOWER"])["lowest"] == pytest.approx(ATTAINED["LOWER"][0], rel=1e-3)
    largest = compared(ATTAINED["LARGEST"])
    assert largest["highest"] == pytest.approx(ATTAINED["LARGEST"][0], rel=1e-9)


def test_the_quadratic_bound_is_attained_by_small_steps(monkeypatch: pytest.MonkeyPatch):
    kl, _, omega = two_point(0.5, 0.01)
    bound = quadratic_bound(np.array([omega]))[0]
    assert kl <= bound == pytest.approx(kl, rel=1e-3)
    monkeypatch.setattr(divergence, "QUADRATIC", 0.99 * divergence.QUADRATIC)
    assert quadratic_bound(np.array([omega]))[0] < kl


def random_steps(seed: int, size: float) -> list[Step]:
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(200):
        weights = rng.exponential(size=9) ** 3
        weights /= weights.sum()
        change = size * rng.normal(size=9)
        change -= weights @ change
        steps.append(
            (
                float(np.log(weights @ np.exp(change))),
                float(weights @ change**2 / 2),
                float(np.ptp(change)),
            )
        )
    return steps


@pytest.mark.parametrize("size", [1e-4, 0.1, 1.0, 10.0, 100.0])
def test_no_random_step_is_outside(size: float):
    for seed in range(5):
        assert compared(*random_steps(seed, size))["outside"] == 0


def test_the_means_and_counts_are_over_the_steps():
    steps = [two_point(0.3, 0.1), two_point(0.3, 4.0), (9.0, 0.1, 1.0)]
    found = compared(*steps)
    assert found["steps"] == 3
    assert found["observed"] == pytest.approx(np.mean([step[0] for step in steps]))
    assert found["predicted"] == pytest.approx(np.mean([step[1] for step in steps]))
    omegas = np.array([0.1, 4.0, 1.0])
    remainders = omegas**3 / (36 * np.sqrt(3))
    assert found["remainder"] == pytest.approx(remainders.mean())
    metrics = np.array([step[1] for step in steps])
    lowest = 2 * metrics * (np.exp(-omegas) - 1 + omegas) / omegas**2
    assert found["lowest"] == pytest.approx(lowest.mean())
    assert found["informative"] == pytest.approx((remainders < metrics).mean())
    assert found["informative"] > 0
    assert found["outside"] == 1  # the made-up one


def test_rounding_of_the_logits_is_not_outside_and_no_more_is_allowed():
    kl, metric, omega = ATTAINED["ERROR"]
    off = kl + np.sign(kl - metric) * 1e-9
    assert compared((off, metric, omega))["outside"] == 1
    assert compared((off, metric, omega), error=1e-9)["outside"] == 0
    assert compared((off, metric, omega), error=1e-11)["outside"] == 1


def test_still_and_huge_steps_have_an_interval():
    lowest, highest = interval(np.zeros(2), np.array([0.0, SMALLEST_OMEGA]))
    assert lowest.tolist() == highest.tolist() == [0.0, 0.0]
    omegas = np.array([LARGEST_OMEGA, 800.0, 1e5])
    lowest, highest = interval(omegas**2 / 8, omegas)
    assert np.isfinite([lowest, highest]).all()
    assert highest[1:].tolist() == omegas[1:].tolist()
    assert (lowest < highest).all()
    assert compared((0.0, 0.0, 0.0))["outside"] == 0


def test_no_step_has_no_divergence():
    assert compare(*[np.zeros(0)] * 3, error=0.0) is None
