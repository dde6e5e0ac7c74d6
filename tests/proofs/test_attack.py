"""Attacks: a ratio above 1 is found where there is one, and nothing but numbers counts."""

import math

import numpy as np
import pytest

from proofs.engine.attack import EVALUATIONS, REACHED, Attack, run_attack


def attack(ratio, sharp=False, rounding=1e-9, size=2, corners=()):
    return run_attack(Attack("test", size, ratio, sharp, rounding, corners))


def hill(top):
    """A ratio with its largest value inside the cube."""
    return lambda x: top - float(np.sum((x - 0.3) ** 2)) / 10


def test_the_largest_ratio_is_found():
    found = attack(hill(0.75))
    assert found.best == pytest.approx(0.75, abs=1e-6)
    assert found.ok
    assert found.starts == 8
    assert found.evaluations >= 8


@pytest.mark.parametrize("top", [1.01, 1 + 1e-6, 3.0])
def test_a_ratio_above_one_refutes(top):
    assert not attack(hill(top)).ok


def test_rounding_is_allowed_and_no_more():
    assert attack(hill(1 + 5e-10)).ok
    assert not attack(hill(1 + 5e-9)).ok
    assert attack(hill(1 + 5e-9), rounding=1e-8).ok


def test_what_is_sharp_must_be_reached():
    assert attack(hill(REACHED + 5e-4), sharp=True).ok
    assert not attack(hill(REACHED - 5e-4), sharp=True).ok
    assert attack(hill(REACHED - 5e-4)).ok


def test_a_ratio_that_is_no_number_anywhere_is_a_failure():
    def sometimes(x):
        return math.nan if x[0] > 0.25 else 0.5

    found = attack(sometimes)
    assert not found.ok
    assert found.best is None
    assert not attack(lambda x: math.inf if x[0] > 0.25 else 0.5).ok
    assert not attack(lambda x: math.nan).ok


def test_nothing_compared_is_a_failure():
    assert not attack(lambda x: 0.0).ok
    assert not attack(lambda x: -1.0).ok


def test_corners_are_tried_and_points_stay_in_the_cube():
    seen = []

    def spike(x):
        seen.append(x.copy())
        return 2.0 if np.all(np.abs(x - 0.123) < 1e-6) else 0.5

    assert attack(spike).ok  # a random search does not find it
    assert not attack(spike, corners=(np.full(2, 0.123),)).ok
    assert np.all(np.abs(np.array(seen)) <= 1)


def test_an_attack_is_the_same_every_time_and_ends():
    def rough(x):
        return 0.5 + 0.4 * math.sin(1e4 * x[0]) * math.cos(1e4 * x[1])

    first, second = attack(rough, size=6), attack(rough, size=6)
    assert first == second
    # Powell looks at its limit after every line, which takes at most some hundred points
    assert first.evaluations <= 8 * (EVALUATIONS + 1000)
