"""Moments of queries and keys: plain definitions, the file, and simulations that read it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_check.check import Checker, check
from gpu_check.moments import (
    HeadMoments,
    Side,
    arrays,
    measure_moments,
    sides,
    write_moments,
)
from gpu_check.visibility import Visibility
from simulations.generators.real_like import generate, read_moments
from tappa_theory.rope import Rope, rotate, to_vectors

ROPE = Rope.from_parameters(8, {"rope_type": "default", "rope_theta": 100.0})


def channels(seed: int, heads: int, length: int) -> np.ndarray:
    real, imaginary = np.random.default_rng(seed).standard_normal((2, heads, length, 4))
    return real + 1j * imaginary + np.arange(4)


def rotated(z: np.ndarray) -> np.ndarray:
    return to_vectors(rotate(z, ROPE, np.arange(z.shape[-2])), ROPE)


def plain(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = x.mean(axis=0)
    y = x - mean
    return mean, (np.abs(y) ** 2).mean(axis=0), sum(y[1:] * y[:-1].conj()) / len(x)


def assert_is(found: Side, x: np.ndarray) -> None:
    parts = (found.mean, found.variance, found.autocovariance)
    for part, expected in zip(parts, plain(x), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-12, atol=1e-12)


def test_moments_are_those_of_the_channels_before_rope():
    z, w = channels(0, 4, 150), channels(1, 2, 150)
    result = check(rotated(z), rotated(w), ROPE)
    assert [moments.head for moments in result.moments] == [0, 1, 2, 3]
    for moments, head in zip(result.moments, result.heads, strict=True):
        assert_is(moments.query, z[moments.head])
        assert_is(moments.key, w[head.kv_head][1:])
        np.testing.assert_allclose(moments.first_key, w[head.kv_head][0], rtol=1e-12)
        assert (moments.observed, moments.predicted) == (
            head.pattern_observed,
            head.pattern_predicted,
        )
        assert moments.scale == 8**-0.5
        assert moments.rope == ROPE


def test_padding_does_not_count():
    z, w = channels(0, 1, 40), channels(1, 1, 40)
    valid = np.arange(40) >= 6
    (moments,) = check(rotated(z), rotated(w), ROPE, valid=valid).moments
    assert_is(moments.query, z[0, 6:])
    assert_is(moments.key, w[0, 7:])
    np.testing.assert_allclose(moments.first_key, w[0, 6], rtol=1e-12)


def test_neighbours_across_a_gap_are_none():
    x = torch.tensor([[1.0], [3.0], [7.0], [5.0]], dtype=torch.complex128)
    (found,) = sides(x[None], torch.tensor([True, True, False, True]))
    # mean 3, deviations -2, 0, -, 2: the only neighbours multiply to 0
    assert found.mean[0] == 3
    assert found.variance[0] == pytest.approx(8 / 3)
    assert found.autocovariance[0] == 0


@pytest.mark.parametrize("kind", ["constant", "alternating", "turning"])
def test_an_autocovariance_is_never_above_the_variance(kind):
    t = np.arange(30.0)
    x = {"constant": 0 * t, "alternating": (-1) ** t, "turning": np.exp(0.01j * t)}[kind]
    (found,) = sides(torch.tensor(x[None, :, None] + 0j), torch.ones(30, dtype=torch.bool))
    assert np.all(np.abs(found.autocovariance) <= found.variance + 1e-15)


def test_a_text_of_two_tokens_has_no_moments():
    z = channels(0, 1, 3)
    assert check(rotated(z[:, :2]), rotated(z[:, :2]), ROPE).moments == []
    assert len(check(rotated(z), rotated(z), ROPE).moments) == 1


def test_moments_come_in_the_order_of_texts_layers_and_heads():
    checker = Checker(threads=1)
    z = torch.tensor(rotated(channels(0, 2, 12)))
    for text, layer in ((1, 0), (0, 1), (0, 0)):
        checker.add_layer(layer, z, z, ROPE, scale=1.0, visibility=Visibility(12), text=text)
    found = checker.result.ordered().moments
    order = [(moments.text, moments.layer, moments.head) for moments in found]
    assert order == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)]


def example(size: int, observed: str) -> HeadMoments:
    rope = Rope.from_parameters(size, {"rope_type": "default", "rope_theta": 100.0})
    count = size // 2
    one = Side(np.arange(count) + 1j, np.ones(count), np.full(count, 0.9j))
    return HeadMoments(one, one, np.full(count, 2.0 + 0j), 0, 3, 1, observed, "", rope, 0.5)


def test_the_file_is_read_by_simulations(tmp_path: Path):
    path = tmp_path / "moments.npz"
    heads = [example(4, "re_access"), example(8, "")]
    write_moments(heads, {"model": "tiny"}, path)
    for given in (path, tmp_path):
        found = read_moments(given)
        assert found.conditions == {"model": "tiny"}
        for read, written in zip(found.heads, heads, strict=True):
            assert (read.layer, read.head, read.observed) == (3, 1, written.observed)
            np.testing.assert_array_equal(read.rope.frequencies, written.rope.frequencies)
            assert (read.rope.rotary_dim, read.scale) == (written.rope.rotary_dim, 0.5)
            for name in ("query", "key"):
                for part in ("mean", "variance", "autocovariance"):
                    values = (getattr(getattr(side, name), part) for side in (read, written))
                    np.testing.assert_array_equal(*values)
            np.testing.assert_array_equal(read.first_key, written.first_key)
    assert generate(np.random.default_rng(0), found, 0, 16).intended == "re_access"


def test_the_file_of_a_check_that_measured_nothing_is_whole(tmp_path: Path):
    write_moments([], {}, tmp_path / "moments.npz")
    assert read_moments(tmp_path).heads == ()


def test_the_file_holds_no_pickles_and_is_the_same_twice(tmp_path: Path):
    heads = [example(8, "seasonal")] * 3
    for name in ("a.npz", "b.npz"):
        write_moments(heads, {"model": "tiny"}, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert set(archive.files) == set(arrays(heads, {}))
        assert json.loads(str(archive["conditions"])) == {"model": "tiny"}


def test_270_heads_of_32_channels_take_less_than_two_megabytes(tmp_path: Path):
    rng = np.random.default_rng(0)
    rope = Rope.from_parameters(64, {"rope_type": "default", "rope_theta": 1e4})

    def numbers() -> np.ndarray:
        return rng.standard_normal(32) + 1j * rng.standard_normal(32)

    heads = [
        HeadMoments(
            *(Side(numbers(), numbers().real, numbers()) for _ in range(2)),
            numbers(),
            0,
            number // 9,
            number % 9,
            "re_access",
            "sequential",
            rope,
            0.125,
        )
        for number in range(270)
    ]
    write_moments(heads, {}, tmp_path / "moments.npz")
    assert (tmp_path / "moments.npz").stat().st_size < 2e6


def test_a_check_writes_moments_of_every_head(checked):
    with np.load(checked.folder / "moments.npz", allow_pickle=False) as archive:
        heads = list(zip(archive["layer"].tolist(), archive["head"].tolist(), strict=True))
        assert heads == [(layer, head) for layer in range(2) for head in range(4)]
        conditions = json.loads(str(archive["conditions"]))
    document = json.loads((checked.folder / "check.json").read_text())
    assert conditions["model"] == document["model"]["id"]
    assert conditions["texts"][0]["sha256"] == document["texts"][0]["sha256"]
    assert (conditions["dtype"], conditions["complete"]) == ("float32", True)


def test_the_first_key_keeps_no_other_alive():
    z, w = torch.ones(2, 3, 50, 4, dtype=torch.complex128)
    for found in measure_moments(z, w, None):
        assert found is not None
        assert not np.shares_memory(found.first_key, w.numpy())
