"""The bound of the angle deviation, against tables as a model computes them and by hand."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gpu_check import heads, rotation_bound
from gpu_check.rotation_bound import angle_bound
from tappa_theory.rope import Rope

U = 2.0**-24
HALF_TYPES = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def rope(frequencies: np.ndarray, scaling: float = 1.0) -> Rope:
    frequencies = np.asarray(frequencies, dtype=np.float64)
    kind = "default" if scaling == 1.0 else "yarn"
    size = 2 * len(frequencies)
    return Rope(frequencies, "half", size, attention_scaling=scaling, type=kind)


def bound(given: Rope, length: int, dtype: torch.dtype) -> float:
    found = angle_bound(given, length, dtype)
    assert found is not None
    return found


def deviation(given: Rope, length: int, dtype: torch.dtype) -> float:
    """Largest angle between tables of that dtype, angles in float32, and the exact rotation."""
    positions, exact = torch.arange(length)[:, None], torch.tensor(given.frequencies)
    angles = positions.float() * exact.float()
    cos, sin = (
        (table * given.attention_scaling).to(dtype).double()
        for table in (angles.cos(), angles.sin())
    )
    exact = positions * exact
    return float(
        torch.atan2(
            sin * exact.cos() - cos * exact.sin(), cos * exact.cos() + sin * exact.sin()
        ).abs().max()
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, *HALF_TYPES])
@pytest.mark.parametrize("length", [1, 2, 300, 4096])
@pytest.mark.parametrize("scaling", [1.0, 1.3])
def test_tables_are_within_the_bound(dtype: torch.dtype, length: int, scaling: float):
    given = rope(1e4 ** (-np.arange(32) / 32), scaling)
    assert deviation(given, length, dtype) <= bound(given, length, dtype)


@pytest.mark.parametrize("dtype", HALF_TYPES)
@pytest.mark.parametrize("name", ["ANGLE_DEVIATION", "ANGLE_DEVIATION_SCALED"])
def test_the_bound_is_attained_and_one_percent_less_is_seen(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    # Near 45 degrees cosine and sine may both lie in the middle between two numbers of the type,
    # rounded in opposite directions: unscaled below 1, scaled just above 1, where gaps are widest.
    wide, close = np.linspace(-0.2, 0.2, 200_001), np.linspace(-1e-5, 1e-5, 401)
    frequencies = np.pi / 4 + np.concatenate([wide, close])
    scaling = math.sqrt(2) * (1 + HALF_TYPES[dtype]) if name.endswith("SCALED") else 1.0
    given = rope(frequencies, scaling)
    found = deviation(given, 2, dtype)
    assert 0.99 * bound(given, 2, dtype) < found <= bound(given, 2, dtype)
    monkeypatch.setattr(rotation_bound, name, 0.99 * getattr(rotation_bound, name))
    assert found > bound(given, 2, dtype)


@pytest.mark.parametrize("length", [1, 2, 1000])
def test_the_bound_by_hand(length: int):
    # Frequency 1 has no rounding of its exponent; the last position counts, not the length.
    angle = (length - 1) * ((1 + 4 * U) * (1 + U) - 1)
    tables = {
        (torch.float32, 1.0): 2 * math.sqrt(2) * U,
        (torch.bfloat16, 1.0): 2 * math.sqrt(2) * U + 2**-8 / math.sqrt(2),
        (torch.float32, 1.3): 2 * math.sqrt(2) * U + U * (1 + 2 * math.sqrt(2) * U),
        (torch.float16, 1.3): 2 * math.sqrt(2) * U + (2**-11 + U) * (1 + 2 * math.sqrt(2) * U),
    }
    for (dtype, scaling), table in tables.items():
        found = bound(rope(np.ones(1), scaling), length, dtype)
        assert found == pytest.approx(angle + math.asin(table), rel=1e-9)


def test_a_frequency_below_one_errs_by_its_exponent_too():
    theta, length = 1e-3, 10**6
    error = 4 * U + U * math.log(1000)
    angle = (length - 1) * theta * ((1 + error) * (1 + U) - 1)
    found = bound(rope(np.array([theta])), length, torch.float32)
    assert found == pytest.approx(angle + math.asin(2 * math.sqrt(2) * U), rel=1e-6)


def test_the_fastest_channel_decides():
    both, fast = (bound(rope(np.array(f)), 500, torch.float32) for f in ([0.01, 1.0], [1.0]))
    assert both == fast
    assert bound(rope(np.array([0.01])), 500, torch.float32) < fast


def test_where_nothing_is_bounded_there_is_no_bound():
    given = rope(np.ones(2))
    assert angle_bound(Rope.none(4), 100, torch.float32) is None
    assert angle_bound(given, 100, torch.float8_e4m3fn) is None
    assert angle_bound(given, 2**24 + 1, torch.float32) is None
    # five units of 2^-24 at position 2^24: more than half a turn
    assert angle_bound(given, 2**24, torch.float32) is None
    assert angle_bound(rope(np.array([1e-3])), 2**24, torch.float32) is not None


def subject(deviation: float | None, allowed: float | None) -> Any:
    return SimpleNamespace(angle_deviation=deviation, angle_bound=allowed)


def test_a_deviation_up_to_the_bound_is_within():
    assert heads._angle(subject(0.1, 0.1)) == {"bound": 0.1, "within": True}
    assert heads._angle(subject(0.101, 0.1)) == {"bound": 0.1, "within": False}
    assert heads._angle(subject(None, 0.1)) is None
    assert heads._angle(subject(0.1, None)) is None
