"""Local maxima found by brute force, and the displacement they are allowed."""

import math

import numpy as np
import pytest
import torch

from gpu_check import maxima
from gpu_check.maxima import Maxima, check_maxima
from gpu_check.pairs import Head, TiledCheck
from gpu_check.visibility import Visibility
from tappa_theory.rope import Rope

LENGTH = 60
SLOW = Rope(np.array([0.5, 0.07, 0.01]), "half", 6)
FAST = Rope(np.array([0.3, 3.0, 0.01]), "half", 6)  # its ripple makes maxima in the troughs
SCALED = Rope(np.array([0.5, 0.07, 0.0]), "half", 4, attention_scaling=1.3, type="yarn")


def head_of(
    rope: Rope, minor: float, visibility: Visibility | None = None, drift: float = 0.004
) -> Head:
    """Channel 0 dominates, the others have `minor` of its size; keys drift a little."""
    random = np.random.default_rng(0)
    size = np.array([1.0, minor, minor])

    def vectors() -> torch.Tensor:
        noise = random.standard_normal((2, LENGTH, 3)) * drift
        return torch.tensor(np.exp(1j * random.uniform(0, 6, 3)) + noise[0] + 1j * noise[1])

    z, w = vectors() * torch.tensor(size), vectors()
    return Head(z, w, rope, 0.7, visibility or Visibility(LENGTH))


def sees(visibility: Visibility, t: int, i: int) -> bool:
    inside = 0 <= t - i < (visibility.window or LENGTH)
    return inside and (visibility.valid is None or bool(visibility.valid[t] & visibility.valid[i]))


def by_brute_force(head: Head) -> Maxima:
    """f(n) = Re sum_m B_{m,n} e^{i n theta_m} of every row, n = t - i, one by one."""
    theta = head.rope.frequencies
    gain = np.ones(len(theta))
    gain[: head.rope.rotary_dim // 2] = head.rope.attention_scaling**2
    pairs = binding = tested = outside = 0
    for t in range(LENGTH):
        amplitude = [gain * head.z[t].numpy() * head.w[t - n].numpy().conj() for n in range(t + 1)]
        f = [(amplitude[n] * np.exp(1j * n * theta)).real.sum() for n in range(t + 1)]
        for n in range(1, t):
            if not all(sees(head.visibility, t, t - m) for m in (n - 1, n, n + 1)):
                continue
            pairs += 1
            slow = (2 * np.sin(theta / 2) * abs(amplitude[n]))[1:].sum()
            steps = [abs(amplitude[n] - amplitude[n + side]).sum() for side in (-1, 1)]
            kappa = (slow + max(steps)) / (2 * math.sin(theta[0] / 2) * abs(amplitude[n][0]))
            if kappa >= 1:
                continue
            binding += 1
            if not f[n - 1] < f[n] > f[n + 1]:
                continue
            tested += 1
            crest = abs(np.angle(np.exp(1j * theta[0] * n) * amplitude[n][0]))
            near_crest = crest <= theta[0] / 2 + math.asin(kappa) + 1e-9
            near_trough = math.pi - crest <= math.asin(kappa) - theta[0] / 2 + 1e-9
            outside += not (near_crest or near_trough)
    return Maxima(pairs, binding, tested, outside)


CASES = {
    "slow": head_of(SLOW, 0.3),
    "fast": head_of(FAST, 0.1),
    "scaled": head_of(SCALED, 0.3),
    "drifting": head_of(SLOW, 0.3, drift=0.12),
    "window": head_of(SLOW, 0.3, Visibility(LENGTH, 25)),
    "padding": head_of(SLOW, 0.3, Visibility(LENGTH, None, torch.arange(LENGTH) >= 15)),
    "hole": head_of(SLOW, 0.3, Visibility(LENGTH, None, torch.arange(LENGTH) != 9)),
}


@pytest.mark.parametrize("group", [1, 7, 64])
@pytest.mark.parametrize("entries", [1, 7 * LENGTH, None])
@pytest.mark.parametrize("name", CASES)
def test_every_local_maximum_is_tested_and_lies_where_the_theorem_says(
    name, entries, group, monkeypatch
):
    monkeypatch.setattr(maxima, "GROUP", group)
    found = check_maxima(TiledCheck(CASES[name]), 0, entries)
    assert found == by_brute_force(CASES[name])
    assert found.tested > 50
    assert found.outside == 0
    assert found.tested < found.binding <= found.pairs


def test_only_pairs_with_kappa_below_one_are_binding():
    found = check_maxima(TiledCheck(CASES["drifting"]), 0, 16 * LENGTH)
    assert found.binding < 0.9 * found.pairs


@pytest.mark.parametrize("name", ["slow", "scaled", "window", "padding", "hole"])
def test_half_of_the_allowed_displacement_is_too_little(name, monkeypatch):
    head = CASES[name]
    monkeypatch.setattr(maxima, "MARGIN", -float(head.rope.frequencies[0]) / 4)
    assert check_maxima(TiledCheck(head), 0, 16 * LENGTH).outside > 0


SLACK = 1e-3
"""Angle, radians, by which the maxima below lie inside what is allowed."""


def at_the_limit(frequency: float, size: float, phase: float) -> Head:
    """Equal queries and equal keys: the rows with the maxima that lie farthest off.

    At the distances 4, 4 + 2 pi/frequency, ... the dominant channel has this phase and a channel
    that turns by pi falls by `size` on both sides.
    """
    start = np.exp(1j * (np.array([phase, 0.0]) - 4 * np.array([frequency, math.pi])))
    z = torch.tensor(np.tile(start * np.array([1.0, size]), (LENGTH, 1)))
    rope = Rope(np.array([frequency, math.pi]), "half", 4)
    return Head(z, torch.ones_like(z), rope, 1.0, Visibility(LENGTH))


LIMITS = {
    "crest": at_the_limit(math.pi / 3, 0.25, SLACK - math.pi / 3),
    "trough": at_the_limit(math.pi / 6, math.sin(math.pi / 12) / 2**0.5, 5 * math.pi / 6 + SLACK),
}


@pytest.mark.parametrize("place", LIMITS)
def test_a_maximum_is_allowed_up_to_the_limit_and_not_beyond(place, monkeypatch):
    head = LIMITS[place]
    found = check_maxima(TiledCheck(head), 0, 16 * LENGTH)
    assert found == by_brute_force(head)
    assert found.tested > 50
    assert found.outside == 0
    monkeypatch.setattr(maxima, "MARGIN", -2 * SLACK)
    assert check_maxima(TiledCheck(head), 0, 16 * LENGTH).outside > 50


def test_another_channel_does_not_tell_where_the_maxima_are():
    check = TiledCheck(CASES["slow"])
    assert check_maxima(check, 1).binding == 0
    assert not len(maxima._Features(check, 1).candidates())


def test_a_zero_vector_hides_no_other_pair():
    """Nothing divides by the dominant channel of a zero query or key."""
    head = CASES["slow"]
    z, w = head.z.clone(), head.w.clone()
    z[30], w[20] = 0.0, 0.0
    z[31, 0], w[41, 0] = 1e-310, 1e-310
    silent = Head(z, w, head.rope, head.scale, head.visibility)
    zero = TiledCheck(silent)
    found = check_maxima(zero, 0)
    rows = torch.arange(LENGTH)
    assert found.tested == int(maxima._Features(zero, 0).count(rows, slice(0, LENGTH - 2))[1])
    assert found.tested > 50
    assert found.outside == 0


def test_a_text_without_inner_keys_has_no_maximum():
    for length in (1, 2):
        vectors = torch.ones(length, 3, dtype=torch.complex128)
        head = Head(vectors, vectors, SLOW, 1.0, Visibility(length))
        assert check_maxima(TiledCheck(head), 0) == Maxima(0, 0, 0, 0)
