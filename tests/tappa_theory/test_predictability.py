"""Shift-aware recall: what stays and what moves along is foretold, what jumps is not."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tappa_theory.predictability import TOP, shift_aware_recall

LENGTH = 60


def one_hot(keys: np.ndarray) -> np.ndarray:
    return np.eye(LENGTH)[keys]


def test_a_column_and_a_diagonal_are_foretold_in_full():
    rows = np.arange(20, 50)
    assert shift_aware_recall(one_hot(np.zeros(30, dtype=int))).tolist() == [1.0] * 29
    assert shift_aware_recall(one_hot(rows - 1)).tolist() == [1.0] * 29
    mixed = 0.5 * one_hot(np.zeros(30, dtype=int)) + 0.5 * one_hot(rows)
    assert shift_aware_recall(mixed) == pytest.approx(np.ones(29))


def test_a_jump_is_not_foretold():
    rows = one_hot(np.array([30, 50, 33, 3]))
    assert shift_aware_recall(rows, top=1).tolist() == [0.0] * 3
    backwards = one_hot(np.arange(50, 30, -1))
    assert shift_aware_recall(backwards, top=1).tolist() == [0.0] * 19


def test_recall_by_hand():
    before = [0.6, 0.3, 0.1, 0.0, 0.0]
    after = [0.1, 0.2, 0.4, 0.0, 0.3]
    # top 2 of the first row: keys 0, 1; moved by one: 1 (counted once), 2; best two: 0.4 + 0.2
    assert shift_aware_recall(np.array([before, after]), top=2) == pytest.approx([0.6 / 0.7])
    assert shift_aware_recall(np.array([before, after]), top=1) == pytest.approx([0.2 / 0.4])


def test_the_last_key_does_not_move_beyond_the_map():
    rows = np.array([[0.0, 0.0, 1.0], [0.5, 0.2, 0.3]])
    assert shift_aware_recall(rows, top=1) == pytest.approx([0.3 / 0.5])


def naive(attention: np.ndarray, top: int) -> list[float]:
    shares = []
    for row, following in pairwise(attention):
        best = sorted(range(len(row)), key=lambda i: -row[i])[:top]
        candidates = set(best) | {i + 1 for i in best if i + 1 < len(row)}
        found = sorted((following[i] for i in candidates), reverse=True)[:top]
        shares.append(sum(found) / sum(sorted(following, reverse=True)[:top]))
    return shares


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 20), st.integers(2, 40))
def test_recall_against_plain_loops(seed, top, length):
    attention = np.random.default_rng(seed).dirichlet(np.full(length, 0.3), size=7)
    expected = naive(attention, min(top, length))
    assert shift_aware_recall(attention, top) == pytest.approx(expected)
    found = shift_aware_recall(torch.tensor(attention), top)
    assert found.numpy() == pytest.approx(expected)
    assert (found >= 0).all()
    assert (found <= 1 + 1e-12).all()


def test_sixteen_keys_of_many_heads_at_once():
    assert TOP == 16
    maps = np.random.default_rng(0).dirichlet(np.full(40, 0.2), size=(2, 3, 9))
    found = shift_aware_recall(maps)
    assert found.shape == (2, 3, 8)
    assert found[1, 2] == pytest.approx(naive(maps[1, 2], 16))
    assert np.all(shift_aware_recall(maps[..., :10]) == pytest.approx(1))  # top is every key
