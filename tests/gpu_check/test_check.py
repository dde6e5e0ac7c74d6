"""Whole layers through `check`: kinds of arrays, threads, padding, bad input."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from gpu_check.capture import LayerCapture
from gpu_check.check import Checker, check
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.theorems import SHIFT_THEOREMS

ROPE = Rope.from_parameters(8, {"rope_theta": 1000.0})
LENGTH = 150


def vectors(heads: int, length: int = LENGTH, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 0.5 + random.standard_normal((heads, length, 8)).astype(np.float32)


def test_numpy_and_torch_give_the_same():
    q, k = vectors(4), vectors(2, seed=1)
    numpy, torch_ = check(q, k, ROPE), check(torch.tensor(q), torch.tensor(k), ROPE)
    assert numpy.heads == torch_.heads
    assert numpy.summary == torch_.summary
    assert numpy.verdict == "holds"
    assert [head.head for head in numpy.heads] == [0, 1, 2, 3]
    assert [head.kv_head for head in numpy.heads] == [0, 0, 1, 1]
    assert len(numpy.layers) == 1
    json.dumps([asdict(head) for head in numpy.heads], allow_nan=False)


def test_a_gradient_and_a_low_precision_are_no_obstacle():
    q = torch.tensor(vectors(1)).to(torch.bfloat16).requires_grad_()
    k = torch.tensor(vectors(1, seed=1)).to(torch.float16)
    assert check(q, k, ROPE).verdict == "holds"


def test_the_scale_is_the_usual_one_unless_given():
    q, k = vectors(1), vectors(1, seed=1)
    usual, given, double = (check(q, k, ROPE, scale=s) for s in (None, 8**-0.5, 2 * 8**-0.5))
    assert usual.heads == given.heads
    one, two = (r.heads[0].theorems["sequential"] for r in (usual, double))
    assert two.mean_bound == pytest.approx(2 * one.mean_bound)
    assert two.max_ratio == pytest.approx(one.max_ratio)


def run_layers(threads: int) -> Checker:
    checker = Checker(threads=threads)
    for layer in range(2):
        q, k = (torch.tensor(vectors(6, seed=layer + part)) for part in (0, 5))
        checker.add_layer(layer, q, k, ROPE, scale=0.3, visibility=Visibility(LENGTH, 60))
    return checker


def test_heads_side_by_side_give_what_one_thread_gives():
    one, many = run_layers(1).result, run_layers(4).result
    assert [(head.layer, head.head) for head in many.heads] == [
        (layer, head) for layer in range(2) for head in range(6)
    ]
    assert many.heads == one.heads  # to the last bit
    assert many.summary == one.summary
    assert many.exemplars.listed() == one.exemplars.listed()
    for name, image in one.exemplars.maps.items():
        assert np.array_equal(many.exemplars.maps[name], image)


def test_a_window_a_softcap_and_padding_reach_the_measurement():
    q, k = vectors(1), vectors(1, seed=1)
    plain = check(q, k, ROPE).heads[0]
    window = check(q, k, ROPE, window=40).heads[0]
    assert window.theorems["re_access"].pairs == sum(
        min(t + 1, 40) - (t >= 39) for t in range(LENGTH - 1)
    )
    assert window.theorems["re_access"].pairs < plain.theorems["re_access"].pairs
    capped = check(q, k, ROPE, softcap=0.5).heads[0]
    assert capped.theorems["re_access"].mean_bound == plain.theorems["re_access"].mean_bound
    assert capped.drift["kl"] < plain.drift["kl"]
    for valid in (np.arange(LENGTH) >= 10, (np.arange(LENGTH) >= 10).astype(int)):
        padded = check(q, k, ROPE, valid=valid).heads[0]
        assert padded.theorems["sequential"].pairs == 139 * 140 // 2


def layer_capture(valid: torch.Tensor | None, window: int | None = None) -> LayerCapture:
    q, k = torch.tensor(vectors(2)), torch.tensor(vectors(1, seed=1))
    visibility = Visibility(LENGTH, window, valid)
    return LayerCapture(0, 3, q, k, ROPE, 0.3, visibility, softcap=5.0, angle_deviation=1e-6)


@pytest.mark.parametrize("window", [None, 40])
def test_padding_on_the_right_is_cut_off(window):
    padded = layer_capture(torch.arange(LENGTH) < 139, window)
    alone = replace(
        layer_capture(None),
        queries=padded.queries[:, :139],
        keys=padded.keys[:, :139],
        visibility=Visibility(139, window),
    )
    found, expected = Checker(), Checker()
    found.add_capture(padded)
    expected.add_capture(alone)
    assert found.result.heads == expected.result.heads  # to the last bit
    assert found.result.heads[0].text == 3
    assert found.result.heads[0].angle_deviation == 1e-6


def test_padding_on_the_left_stays():
    checker = Checker()
    checker.add_capture(layer_capture(torch.arange(LENGTH) >= 11), text=7)
    (one, _) = checker.result.heads
    assert one.text == 7
    assert one.theorems["sequential"].pairs == 138 * 139 // 2
    # Cut to 139 positions it would be the first 139, padding and all.
    assert one.theorems["sequential"].worst["t"] >= 11


def test_every_head_is_told_as_soon_as_it_is_kept():
    counts: list[int] = []
    checker = Checker(threads=3, on_head=lambda: counts.append(len(checker.result.heads)))
    checker.add_capture(layer_capture(None))
    checker.add_capture(layer_capture(None))
    assert counts == [1, 2, 3, 4]


def test_results_are_ordered_by_text_layer_and_head():
    checker = Checker()
    for layer in (0, 1):
        for text in (1, 0):
            checker.add_capture(replace(layer_capture(None), layer=layer), text=text)
    places = [(head.text, head.layer, head.head) for head in checker.result.ordered().heads]
    assert places == [(t, layer, h) for t in (0, 1) for layer in (0, 1) for h in (0, 1)]


def test_the_lag_reaches_the_seasonal_theorem():
    found = check(vectors(1), vectors(1, seed=1), ROPE, lag=33)
    assert found.heads[0].theorems["seasonal"].shift == (33, 0)


def test_a_single_token_is_no_evidence():
    """A check of no pair at all must not say that the bounds hold."""
    result = check(vectors(2, 1), vectors(2, 1), ROPE)
    assert result.verdict == "undecided"
    assert all(result.summary["theorems"][name]["pairs"] == 0 for name in SHIFT_THEOREMS)
    assert check(vectors(2, 2), vectors(2, 2, seed=1), ROPE).verdict == "holds"


GOOD = vectors(2), vectors(1, seed=1)


@pytest.mark.parametrize(
    ("q", "k", "match"),
    [
        (GOOD[0][0], GOOD[1], r"q has shape \(150, 8\); pass \(heads, T, head_dim\)"),
        (GOOD[0], GOOD[1][None], r"k has shape \(1, 1, 150, 8\)"),
        (GOOD[0], vectors(1, 149), "do not fit together"),
        (GOOD[0], vectors(3), "do not fit together"),
        (vectors(2), vectors(4), "do not fit together"),
        (GOOD[0][..., :6], GOOD[1][..., :6], "head size 8"),
        (GOOD[0], GOOD[1][..., :6], "head size 8"),
        (GOOD[0][:, :0], GOOD[1][:, :0], "pass one token or more"),
        (GOOD[0][:0], GOOD[1], "pass one token or more"),
        (GOOD[0], GOOD[1][:0], "pass one token or more"),
        (GOOD[0] * np.float32(np.nan), GOOD[1], "q holds NaN or infinite numbers"),
        (GOOD[0], GOOD[1] + np.float32(np.inf), "k holds NaN or infinite numbers"),
        (GOOD[0], GOOD[1].astype(np.float64) * 1e200, "k holds NaN or infinite numbers"),
    ],
)
def test_bad_arrays_are_refused(q, k, match):
    with pytest.raises(InputError, match=match):
        check(q, k, ROPE)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lag": 0}, "--lag 0 does not fit 150 tokens; use 1 to 149"),
        ({"lag": -3}, "--lag -3"),
        ({"lag": 150}, "--lag 150"),
        ({"scale": 0.0}, "scale is 0.0; pass a positive number"),
        ({"scale": -0.3}, "scale is -0.3"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"softcap": 0.0}, "softcap is 0.0"),
        ({"softcap": float("inf")}, "softcap is inf"),
        ({"window": 0}, "window is 0"),
        ({"valid": np.ones(149, dtype=bool)}, r"valid has shape \(149,\)"),
        ({"valid": np.ones((2, 150), dtype=bool)}, r"valid has shape \(2, 150\)"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        check(*GOOD, ROPE, **options)


def test_the_last_lag_that_fits():
    assert check(*GOOD, ROPE, lag=149).heads[0].theorems["seasonal"].pairs == 1
