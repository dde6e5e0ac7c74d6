"""Drift of the query against the divergence of attention rows that it causes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, target
from hypothesis import strategies as st

from tappa_theory.drift import key_metric_drift, relative_drift, step_change, step_divergence
from tappa_theory.errors import InputError

U64 = 2.0**-53
CUBIC = 1 / (36 * np.sqrt(3))
quick = settings(max_examples=100)


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@st.composite
def rows(draw, batch=(3,)):
    """Logits (..., T) of two consecutive rows on common keys; -inf on hidden keys."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    length = draw(st.integers(1, 12))
    before = draw(st.sampled_from([0.1, 1.0, 6.0])) * random.standard_normal((*batch, length))
    change = 10.0 ** draw(st.integers(-3, 1)) * random.standard_normal((*batch, length))
    if draw(st.booleans()):
        hidden = random.random((*batch, length)) < 0.4
        hidden[..., 0] = False
        before[hidden] = -np.inf
    return before, change


def divergence(before, change):
    """KL of softmax(before) from softmax(before + change), from its definition."""
    p, q = softmax(before), softmax(before + change)
    visible = p > 0
    terms = np.where(visible, p * np.log(np.where(visible, p / np.where(visible, q, 1), 1)), 0)
    return terms.sum(axis=-1)


def oscillation(before, change):
    """omega: largest less smallest change over the visible keys."""
    visible = before > -np.inf
    largest = np.where(visible, change, -np.inf).max(axis=-1)
    return largest - np.where(visible, change, np.inf).min(axis=-1)


@pytest.mark.parametrize("kind", [np.asarray, torch.asarray])
@quick
@given(rows())
def test_step_divergence_is_the_kl_of_the_two_rows(kind, pair):
    before, change = pair
    found = np.asarray(step_divergence(kind(change), kind(softmax(before))))
    # every exponent, logarithm and sum errs by a few u of logits up to omega
    limit = 64 * U64 * (1 + np.abs(change).max() + oscillation(before, change))
    assert np.all(np.abs(found - divergence(before, change)) <= limit)


@pytest.mark.parametrize("kind", [np.asarray, torch.asarray])
@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 10), st.floats(0.05, 1.0))
def test_key_metric_drift_is_half_the_key_covariance_form(kind, seed, keys, scale):
    random = np.random.default_rng(seed)
    k, dq = random.standard_normal((keys, 6)), random.standard_normal(6)
    attention = softmax(random.standard_normal(keys))
    mean = sum(p * key for p, key in zip(attention, k, strict=True))
    covariance = sum(
        p * np.outer(key - mean, key - mean) for p, key in zip(attention, k, strict=True)
    )
    expected = 0.5 * scale**2 * dq @ covariance @ dq
    found = key_metric_drift(kind(scale * k @ dq), kind(attention))
    assert float(found) == pytest.approx(expected, abs=256 * U64 * (1 + (k @ dq) @ (k @ dq)))


@quick
@given(rows())
def test_drift_in_the_key_metric_is_the_divergence_to_third_order(pair):
    before, change = pair
    attention, omega = softmax(before), oscillation(before, change)
    kl = step_divergence(change, attention)
    rounding = 64 * U64 * (1 + np.abs(change).max() ** 2)
    gap = np.abs(kl - key_metric_drift(change, attention))
    assert np.all(gap <= CUBIC * omega**3 + rounding)
    assert np.all(kl <= omega**2 / 8 + rounding)
    assert np.all(kl >= -rounding)


def row_with_skew(share, omega):
    """Two keys, the second with that share of the attention, whose logit moves by omega."""
    return np.array([0.0, omega]), np.array([1 - share, share])


@quick
@given(st.floats(0.001, 0.999), st.floats(0.01, 3.0))
def test_the_two_bounds_hold_where_they_are_pushed(share, omega):
    row = row_with_skew(share, omega)
    kl = float(step_divergence(*row))
    cubic = abs(kl - float(key_metric_drift(*row))) / (CUBIC * omega**3)
    quadratic = kl / (omega**2 / 8)
    target(cubic, label="cubic")
    target(quadratic, label="quadratic")
    assert cubic <= 1 + 1e-8
    assert quadratic <= 1 + 1e-8


def test_neither_constant_can_be_made_smaller():
    # the third cumulant p(1-p)(1-2p) is largest at p = (1 - 1/sqrt 3)/2, the variance at 1/2
    steep = row_with_skew((1 - 1 / np.sqrt(3)) / 2, 0.01)
    gap = abs(step_divergence(*steep) - key_metric_drift(*steep))
    assert gap >= 0.99 * CUBIC * 0.01**3
    assert step_divergence(*row_with_skew(0.5, 0.01)) >= 0.999 * 0.01**2 / 8


@pytest.mark.parametrize("measure", [key_metric_drift, step_divergence])
@pytest.mark.parametrize("filler", [0.0, 5000.0, -np.inf, np.inf, np.nan])
@pytest.mark.parametrize("kind", [np.asarray, torch.asarray])
def test_hidden_keys_never_count(measure, filler, kind):
    change, attention = np.array([0.3, -1.0, 2.0]), np.array([0.5, 0.2, 0.3])
    expected = measure(change, attention)
    padded = measure(kind(np.append(change, filler)), kind(np.append(attention, 0.0)))
    assert float(padded) == pytest.approx(float(expected), rel=1e-14)


@pytest.mark.parametrize("kind", [np.asarray, torch.asarray])
@quick
@given(rows())
def test_oscillation_is_over_the_visible_keys(kind, pair):
    before, change = pair
    found = step_change(kind(change), kind(softmax(before)))
    assert np.allclose(
        np.asarray(found.oscillation), oscillation(before, change), rtol=1e-14, atol=1e-14
    )
    assert np.all(np.asarray(found.divergence) >= 0)


@pytest.mark.parametrize("kind", [np.asarray, torch.asarray])
def test_a_row_without_visible_keys_changes_nothing(kind):
    found = step_change(kind(np.array([[3.0, np.nan]])), kind(np.zeros((1, 2))))
    assert [float(part[0]) for part in vars(found).values()] == [0, 0, 0]


def test_a_huge_step_does_not_overflow():
    # all attention moves from the first key to the second: KL = D E[...] exactly
    found = step_divergence(np.array([0.0, 4000.0]), np.array([0.75, 0.25]))
    assert found == pytest.approx(4000 - 1000 + np.log(0.25), rel=1e-14)


def test_a_common_change_of_all_logits_is_no_drift_and_never_less():
    attention = softmax(np.random.default_rng(9).standard_normal((50, 7)))
    found = step_change(np.full((50, 7), 7.5), attention)
    # rows that sum to 1 - u would give a divergence below zero
    assert np.any(attention.sum(axis=-1) < 1)
    assert np.all(found.divergence >= 0)
    assert np.allclose(found.divergence, 0, atol=1e-14)
    assert np.allclose(found.key_metric, 0, atol=1e-28)


@pytest.mark.parametrize("kind", [np.asarray, torch.asarray])
def test_relative_drift_by_hand(kind):
    x = kind(np.array([[[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]]))
    assert relative_drift(x).tolist() == [[0.0, 1.0, 0.0, 2.0]]
    assert relative_drift(x, 2).tolist() == [[1.0, pytest.approx(np.sqrt(20) / 5), 0.0]]
    channels = x[..., 0] + 1j * x[..., 1]
    assert np.allclose(relative_drift(channels[..., None]), relative_drift(x), atol=1e-15)
    assert relative_drift(x, 5).shape == (1, 0)


def test_relative_drift_of_half_precision_is_float64():
    x = np.full((3, 64), 60000.0, dtype=np.float16)
    x[1] = 0
    found = relative_drift(x)
    assert found.dtype == np.float64
    assert found.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("step", [0, -1])
def test_a_step_that_leads_nowhere_is_refused(step):
    with pytest.raises(InputError, match="step of"):
        relative_drift(np.ones((4, 2)), step)
