"""Layers measured as on a GPU, one begun before the one before it is finished."""

import pytest
import torch

from gpu_check import check, layer_pipeline
from gpu_check.check import Checker
from gpu_check.head_threads import HeadThreads
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

HEADS, LENGTH, SIZE = 2, 24, 8


@pytest.fixture(autouse=True)
def together(monkeypatch):
    monkeypatch.setattr(check, "_together", lambda device: True)


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def add(device):
    """Adds the layer of a number to a checker."""
    rope = Rope.from_parameters(SIZE, {"rope_type": "default", "rope_theta": 100.0})

    def layer(checker: Checker, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        queries, keys = (torch.randn(n, LENGTH, SIZE, generator=generator) for n in (HEADS, 1))
        visible = Visibility(LENGTH)
        checker.add_layer(
            number, queries.to(device), keys.to(device), rope, scale=0.3, visibility=visible
        )

    return layer


def layers(result) -> list[int]:
    return [head.layer for head in result.heads]


def test_a_layer_is_finished_when_the_next_is_added_or_the_result_is_asked_for(add):
    told: list[int] = []
    checker = Checker(threads=2, on_head=lambda: told.append(len(checker.finished.heads)))
    add(checker, 0)
    assert layers(checker.finished) == []
    add(checker, 1)
    assert layers(checker.finished) == [0, 0]
    assert layers(checker.result) == [0, 0, 1, 1] == layers(checker.finished)
    add(checker, 2)
    assert layers(checker.result) == [0, 0, 1, 1, 2, 2]
    assert told == [1, 2, 3, 4, 5, 6]


def test_each_layer_is_as_it_is_alone(add):
    checker = Checker(threads=2)
    for number in range(3):
        add(checker, number)
    found = checker.result
    for number in range(3):
        alone = Checker(threads=1)
        add(alone, number)
        assert alone.result.heads == found.heads[2 * number : 2 * number + 2]
    assert [head.layer for head in found.moments] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("error", [InputError("no"), KeyboardInterrupt()])
def test_an_error_leaves_the_layers_before_and_ends_the_threads(error, add, monkeypatch):
    usual = layer_pipeline.prepare
    ended = []
    close = layer_pipeline.HeadThreads.close

    def closed(self, cancel=False):
        close(self, cancel)
        ended.append(cancel)

    def failing(subjects, *given):
        if subjects[0].layer == 1:
            raise error
        return usual(subjects, *given)

    monkeypatch.setattr(layer_pipeline.HeadThreads, "close", closed)
    monkeypatch.setattr(layer_pipeline, "prepare", failing)
    checker = Checker(threads=2)
    add(checker, 0)
    add(checker, 1)
    with pytest.raises(type(error)):
        add(checker, 2)
    assert ended == [True]
    assert layers(checker.result) == [0, 0]
    add(checker, 3)
    assert layers(checker.result) == [0, 0, 3, 3]
    assert ended == [True, False]


def test_threads_of_a_processor_leave_out_what_an_interrupt_finds_unbegun(device):
    seen = []

    def work(number):
        seen.append(number)
        if number == 0:
            raise KeyboardInterrupt
        return number

    with pytest.raises(KeyboardInterrupt), HeadThreads(1, torch.device(device)) as pool:
        list(pool.map(work, range(500)))
    assert len(seen) < 500
