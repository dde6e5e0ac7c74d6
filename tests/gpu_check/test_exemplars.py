"""The heads kept for the figures, and their reduced maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gpu_check import exemplars
from gpu_check.attention import Attention
from gpu_check.exemplars import Exemplars, reduced_map
from gpu_check.heads import Measured, Subject, measure
from gpu_check.pairs import Head
from gpu_check.visibility import Visibility
from tappa_theory.patterns import PATTERNS, Lines
from tappa_theory.prediction import Prediction
from tappa_theory.rope import Rope

ROPE = Rope(np.array([0.5, 0.0]), "half", 4)
LENGTH = 150


@pytest.fixture(scope="module")
def head() -> Measured:
    random = np.random.default_rng(0)
    z, w = (torch.tensor(random.standard_normal((LENGTH, 2, 2))) for _ in range(2))
    z, w = (torch.view_as_complex(x.contiguous()) for x in (z, w))
    query, key = (torch.view_as_real(x).flatten(-2) for x in (z, w))
    visibility = Visibility(LENGTH, 100)
    return measure(Subject(0, 0, 0, query, key, Head(z, w, ROPE, 1.0, visibility)))


def full_map(head: Measured, softcap: float | None = None) -> np.ndarray:
    logits = (head.check.query_logit @ head.check.key_logit.T).numpy()
    logits = logits if softcap is None else softcap * np.tanh(logits / softcap)
    t, i = np.indices(logits.shape)
    weights = np.where((i <= t) & (t - i < 100), np.exp(logits), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize(("side", "block"), [(512, 1), (150, 1), (149, 2), (64, 3), (7, 22)])
def test_each_cell_is_its_largest_attention(head, side, block, softcap, monkeypatch):
    monkeypatch.setattr(exemplars, "SIDE", side)
    monkeypatch.setattr("gpu_check.attention.ROWS", 40)
    found_block, reduced = reduced_map(replace(head, softcap=softcap))
    assert found_block == block
    assert reduced.dtype == np.float32
    cells = -(-LENGTH // block)
    assert reduced.shape == (cells, cells)
    assert cells <= side
    whole = full_map(head, softcap)
    for row in range(cells):
        for column in range(cells):
            part = whole[
                row * block : (row + 1) * block, column * block : (column + 1) * block
            ].max()
            assert reduced[row, column] == pytest.approx(part, rel=1e-6)


def showing(
    head: Measured, pattern: str | None, index: int, shares: tuple[float, float, float]
) -> Measured:
    """The head as if it showed `pattern` with these shares of (column, diagonal, season)."""
    column, diagonal, season = shares
    lines = Lines((0,), (), column, diagonal, None)
    attention: Attention = replace(head.attention, lines=lines, season=season)
    result = replace(head.result, head=index, pattern_observed=pattern)
    expected = Prediction("sequential", Lines(tuple(range(40)), (4, 9), 0, 0.6, 5.0), 0.1, 17)
    return replace(head, result=result, attention=attention, prediction=expected)


@pytest.mark.parametrize(
    ("pattern", "weak", "strong"),
    [
        ("re_access", (0.9, 0.5, 0.9), (0.8, 0.1, 0.0)),
        ("sequential", (0.5, 0.9, 0.9), (0.1, 0.8, 0.0)),
        ("periodic_sequential", (0.5, 0.9, 0.9), (0.1, 0.8, 0.0)),
        ("seasonal", (0.0, 0.0, 0.5), (0.4, 0.4, 0.6)),
        ("unpredictable", (0.0, 0.0, 0.2), (0.1, 0.1, 0.0)),
    ],
)
def test_the_clearest_head_of_a_pattern_is_kept(head, pattern, weak, strong):
    for order in ((weak, strong), (strong, weak)):
        kept = Exemplars()
        for shares in order:
            kept.offer(showing(head, pattern, 7 if shares == strong else 1, shares))
        assert [entry["head"] for entry in kept.listed()] == [7]
        assert list(kept.maps) == [pattern]


def test_a_copy_does_not_see_later_heads(head):
    kept = Exemplars()
    kept.offer(showing(head, "seasonal", 1, (0.0, 0.0, 0.2)))
    copy = kept.copy()
    kept.offer(showing(head, "seasonal", 2, (0.0, 0.0, 0.5)))
    kept.offer(showing(head, "sequential", 3, (0.1, 0.8, 0.0)))
    assert [(entry["pattern"], entry["head"]) for entry in copy.listed()] == [("seasonal", 1)]
    assert list(copy.maps) == ["seasonal"]
    copy.offer(showing(head, "seasonal", 4, (0.0, 0.0, 0.3)))
    assert copy.entries["seasonal"]["head"] == 4
    assert kept.entries["seasonal"]["head"] == 2


def test_an_entry_says_on_which_text_the_head_showed_it(head):
    kept = Exemplars()
    for text, strength in ((0, 0.2), (1, 0.5), (2, 0.3)):
        shown = showing(head, "seasonal", 1, (0.0, 0.0, strength))
        kept.offer(replace(shown, result=replace(shown.result, text=text)))
    assert kept.entries["seasonal"]["text"] == 1


PLACES = [(0, 1, 3), (0, 2, 0), (1, 0, 2), (1, 0, 4)]
"""(text, layer, head) in order; by layers or by heads alone the order would be another."""


def at(head: Measured, place: tuple[int, int, int], strength: float) -> Measured:
    text, layer, index = place
    shown = showing(head, "seasonal", index, (0.0, 0.0, strength))
    return replace(shown, result=replace(shown.result, text=text, layer=layer))


@pytest.mark.parametrize("order", [PLACES, PLACES[::-1], PLACES[2:] + PLACES[:2]])
def test_the_first_of_equals_is_kept_in_whichever_order_they_come(head, order):
    kept, merged = Exemplars(), Exemplars()
    for place in order:
        kept.offer(at(head, place, 0.5))
        alone = Exemplars()
        alone.offer(at(head, place, 0.5))
        merged.merge(alone)
    for found in (kept, merged):
        entry = found.entries["seasonal"]
        assert (entry["text"], entry["layer"], entry["head"]) == PLACES[0]


@pytest.mark.parametrize("stronger", [0, 1])
def test_merging_keeps_the_clearer_head_with_its_map_and_all_other_patterns(head, stronger):
    sets = Exemplars(), Exemplars()
    for index, (found, place) in enumerate(zip(sets, PLACES, strict=False)):
        found.offer(at(head, place, 0.6 if index == stronger else 0.5))
        found.maps["seasonal"] = found.maps["seasonal"] + index
    sets[1].offer(showing(head, "sequential", 9, (0.1, 0.8, 0.0)))
    expected = sets[stronger].maps["seasonal"]
    sets[0].merge(sets[1])
    assert sets[0].entries["seasonal"]["layer"] == PLACES[stronger][1]
    assert sets[0].maps["seasonal"] is expected
    assert sets[0].strength["seasonal"] == 0.6
    assert sets[0].entries["sequential"]["head"] == 9
    assert set(sets[0].maps) == {"seasonal", "sequential"}


def test_an_entry_says_what_was_predicted(head):
    kept = Exemplars()
    for index, pattern in enumerate(reversed(PATTERNS)):
        kept.offer(showing(head, pattern, index, (0.2, 0.2, 0.2)))
    listed = kept.listed()
    assert [entry["pattern"] for entry in listed] == list(PATTERNS)
    for entry in listed:
        assert entry["map"] == entry["pattern"]
        assert entry["block"] == 1
        assert entry["columns"] == list(range(16))
        assert entry["offsets"] == [4, 9]
        assert entry["spacing"] == 5.0
        assert entry["lag"] == (17 if entry["pattern"] == "seasonal" else None)
        assert entry["predicted"] == head.result.pattern_predicted


def test_a_head_without_pattern_or_prediction(head):
    kept = Exemplars()
    kept.offer(showing(head, None, 0, (0.0, 0.0, 0.0)))
    assert kept.listed() == []
    kept.offer(replace(showing(head, "seasonal", 0, (0.0, 0.0, 0.4)), prediction=None))
    (entry,) = kept.listed()
    assert (entry["columns"], entry["offsets"], entry["spacing"], entry["lag"]) == (
        [],
        [],
        None,
        None,
    )
