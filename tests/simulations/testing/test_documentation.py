"""docs/testing.md does what it says: its code runs, and its messages are those that are printed."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from simulations.testing import rope_laws
from tappa_theory.rope import Rope
from tests.simulations.testing import kernels

PAGE = (Path(__file__).parents[3] / "docs/testing.md").read_text(encoding="utf-8")
KERNEL, TESTS, HEADS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MESSAGES = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
WRONG = (kernels.bf16_phase, kernels.wrong_layout, kernels.off_by_one, kernels.wrong_base)
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e-?\d+)?|\d+e-\d+")


def test_the_five_lines_work(monkeypatch: pytest.MonkeyPatch):
    kernel = ModuleType("my_kernel")
    exec(KERNEL, kernel.__dict__)
    monkeypatch.setitem(sys.modules, "my_kernel", kernel)
    written: dict = {}
    exec(TESTS, written)
    lines = [line for line in TESTS.splitlines() if line and not re.match("import|from", line)]
    assert len(lines) == 5
    (mark,) = written["test_rotation"].pytestmark
    assert mark.args == ("law", written["LAWS"])
    for law in written["LAWS"]:
        written["test_rotation"](law=law)


def test_the_five_lines_find_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch):
    kernel = ModuleType("my_kernel")
    kernel.rotate = kernels.off_by_one  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_kernel", kernel)
    written: dict = {}
    exec(TESTS, written)
    with pytest.raises(AssertionError, match=r"^exact angles: position 0"):
        written["test_rotation"](law=written["LAWS"][0])


def test_the_example_with_a_head_works():
    written: dict = {}
    exec(HEADS, written)
    written["test_my_cache_keeps_diagonals"]()


@pytest.mark.parametrize(("kernel", "shown"), list(zip(WRONG, MESSAGES, strict=True)))
def test_the_messages_are_those_of_wrong_kernels(kernel, shown):
    rope = Rope.from_parameters(32, {"rope_theta": 10_000.0})
    with pytest.raises(AssertionError) as found:
        rope_laws(kernel, rope, dtype=torch.float32)[0].check(np.ones((1, 32)), [300])
    message = str(found.value)
    assert NUMBER.sub("#", message) == NUMBER.sub("#", shown)
    # platforms differ in the last places
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (message, shown)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-2)
    assert len(numbers[0]) >= 4
