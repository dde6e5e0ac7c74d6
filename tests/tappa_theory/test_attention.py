"""Logits and softmax from channels, against the plain definition on rotated vectors."""

import numpy as np
import pytest
import torch

from tappa_theory.attention import causal, logits, softmax
from tappa_theory.rope import Rope, rotate, to_vectors

LENGTH, HEAD_DIM, SCALE = 12, 8, 0.3
ROPE = Rope(np.array([1.0, 0.3, 0.02, 0.0]), "half", 6, attention_scaling=1.2)


def channels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((LENGTH, 4)) + 1j * rng.standard_normal((LENGTH, 4))


def plain(z: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Inner products of the rotated vectors; the attention scaling is in both of them."""
    positions = np.arange(LENGTH)
    query, key = (to_vectors(rotate(x, ROPE, positions), ROPE) for x in (z, w))
    return SCALE * query @ key.T


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_logits_are_inner_products_after_rope(kind):
    z, w = channels(0), channels(1)
    found = logits(kind(z), kind(w), ROPE, SCALE)
    np.testing.assert_allclose(np.asarray(found), plain(z, w), atol=1e-12)
    rows = np.array([3, 7])
    some = logits(kind(z[rows]), kind(w), ROPE, SCALE, kind(rows))
    np.testing.assert_allclose(np.asarray(some), plain(z, w)[rows], atol=1e-12)


def test_softmax_sees_causal_keys_only():
    rows = np.arange(LENGTH)
    seen = causal(rows, LENGTH, window=4)
    a = plain(channels(0), channels(1))
    attention = softmax(a, seen)
    for t in range(LENGTH):
        keys = [i for i in range(LENGTH) if 0 <= t - i < 4]
        weights = np.exp(a[t, keys])
        np.testing.assert_allclose(attention[t, keys], weights / weights.sum(), atol=1e-15)
        assert attention[t].sum() == pytest.approx(1.0)
        assert np.count_nonzero(attention[t]) == len(keys)
    assert np.array_equal(causal(rows, LENGTH), np.tril(np.ones((LENGTH, LENGTH), bool)))


def test_softmax_of_huge_logits_is_finite():
    a = np.array([[1e6, 1e6 - 1.0]])
    assert softmax(a, np.ones((1, 2), bool))[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))
