"""The report on precision: the first text again in a wider dtype, and when that cannot be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from gpu_check.check import Checker, check
from gpu_check.job import headline
from gpu_check.precision import compare
from gpu_check.schema import validate
from gpu_check.sources import ModelSource
from tappa_theory.rope import Rope
from tappa_theory.theorems import SHIFT_THEOREMS

TOKENS = 160


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def checking(tappa, tiny, words, out, no_figures):
    """`tappa check` of the tiny model in bfloat16 with more options -> (check.json, outcome)."""

    def run(*options: object, model: Path = tiny, code: int = 0, dtype: str = "bfloat16"):
        arguments = ["check", model, "--text", words, "--tokens", TOKENS, "--dtype", dtype]
        done = tappa(*arguments, *options, "--out", out)
        assert done.code == code, done.err
        return read(out), done

    return run


def read(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    validate(document)
    return document


# --- two runs compared, by hand


@pytest.fixture(scope="module")
def heads():
    random = np.random.default_rng(0)
    q, k = (random.standard_normal((3, 140, 8)) for _ in range(2))
    return check(q, k, Rope.from_parameters(8, {"rope_theta": 100.0})).heads


def test_equal_runs_differ_in_nothing(heads):
    found = compare(heads, heads)
    assert (found["heads"], found["observed_changed"], found["predicted_changed"]) == (3, 0, 0)
    assert all(value == {"median": 0, "max": 0} for value in found["differences"].values())
    assert found["angle_deviation"] == {"dtype": None, "reference": None}


def test_differences_are_absolute_and_over_the_heads_that_have_both(heads):
    steps = (0.25, -0.5, None)
    other = [
        replace(
            head,
            q_similarity=head.q_similarity | {"adjacent_pre": None if step is None else step},
            pattern_observed="seasonal" if index == 1 else head.pattern_observed,
            angle_deviation=0.1 * index,
        )
        for index, (head, step) in enumerate(zip(heads, steps, strict=True))
    ]
    base = [replace(head, q_similarity=head.q_similarity | {"adjacent_pre": 0.0}) for head in heads]
    found = compare(base, other)
    assert found["differences"]["q_similarity.adjacent_pre"] == {"median": 0.375, "max": 0.5}
    assert found["differences"]["predictability"] == {"median": 0, "max": 0}
    assert (found["observed_changed"], found["predicted_changed"]) == (1, 0)
    assert found["angle_deviation"] == {"dtype": None, "reference": 0.2}


def test_no_number_at_all_gives_null(heads):
    empty = [replace(head, predictability=None) for head in heads]
    assert compare(heads, empty)["differences"]["predictability"] == {"median": None, "max": None}


# --- the whole check


def at(head: dict[str, Any], name: str) -> Any:
    if name.split(".")[0] in SHIFT_THEOREMS:
        head = head["theorems"]
    for part in name.split("."):
        head = head[part]
    return head


def test_bfloat16_is_compared_with_float32_of_the_same_weights(
    checking, tiny, tmp_path, out, words, tappa
):
    found, done = checking("--text", words)
    precision = found["precision"]
    assert (precision["dtype"], precision["reference"]) == ("bfloat16", "float32")
    assert (precision["text"], precision["heads"]) == (0, 8)
    assert found["environment"]["dtype"] == "bfloat16"
    assert set(found["environment"]["seconds"]) == {"load", "check", "reference"}
    assert found["complete"] is True
    assert [head["text"] for head in found["heads"]] == [0] * 8 + [1] * 8
    assert "heads: done in" in done.err
    assert "heads in float32: done in" in done.err

    # The same by another way: a float32 checkpoint that holds the rounded weights.
    model = LlamaForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16).to(torch.float32)
    rounded = tmp_path / "rounded"
    model.save_pretrained(rounded)
    for file in tiny.glob("tokenizer*"):
        (rounded / file.name).write_bytes(file.read_bytes())
    run = found["heads"][:8]
    exact, _ = checking(model=rounded, dtype="float32")
    assert exact["precision"] is None
    for kind in ("observed", "predicted"):
        changed = [
            a[f"pattern_{kind}"] != b[f"pattern_{kind}"]
            for a, b in zip(run, exact["heads"], strict=True)
        ]
        assert precision[f"{kind}_changed"] == sum(changed)
    for name, told in precision["differences"].items():
        pairs = [(at(a, name), at(b, name)) for a, b in zip(run, exact["heads"], strict=True)]
        values = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        assert told["median"] == pytest.approx(np.median(values), abs=1e-12), name
        assert told["max"] == pytest.approx(max(values), abs=1e-12), name
    assert precision["differences"].keys() == {
        *("q_similarity.adjacent_pre", "q_similarity.adjacent_post", "q_similarity.all_pairs_pre"),
        *("k_similarity.adjacent_pre", "predictability", "drift.kl"),
        *(f"{name}.{key}" for name in SHIFT_THEOREMS for key in ("max_ratio", "informative")),
    }
    assert 0 < precision["differences"]["q_similarity.adjacent_pre"]["max"] < 0.05
    assert precision["loss"] == {
        "dtype": found["texts"][0]["loss"],
        "reference": pytest.approx(exact["texts"][0]["loss"]),
    }
    assert precision["loss"]["dtype"] != precision["loss"]["reference"]
    deviation = precision["angle_deviation"]
    # cos and sin rounded to 2^-9 each turn the angle by at most about 2^-8.
    assert deviation["reference"] < 1e-4 < deviation["dtype"] < 2**-8
    assert deviation["reference"] == max(head["angle_deviation"] for head in exact["heads"])


def test_the_headline_says_what_precision_changed(checking):
    found, done = checking()
    line = headline(found).splitlines()[-2]
    assert line in done.out
    assert line.startswith("precision, bfloat16 against float32: observed pattern changed on ")
    assert f"on {found['precision']['observed_changed']} of 8 heads" in line


@pytest.mark.parametrize(
    ("dtype", "options", "reference"),
    [
        ("bfloat16", ["--reference", "none"], None),
        ("float32", [], None),
        ("float16", [], "float32"),
        ("float32", ["--reference", "float64"], "float64"),
        ("bfloat16", ["--reference", "float64"], "float64"),
    ],
)
def test_the_reference_is_float32_after_16_bits_unless_another_is_asked_for(
    checking, dtype, options, reference
):
    found, _ = checking(*options, "--layers", "0:1", dtype=dtype)
    told = found["precision"]
    assert (told and told["reference"]) == reference
    assert found["environment"]["dtype"] == dtype
    if dtype == "float32" and reference:
        # float32 is far closer to float64 than bfloat16 would be.
        assert 0 < told["differences"]["q_similarity.adjacent_pre"]["max"] < 1e-5


def raising(error: BaseException):
    def convert(self: Any, *args: Any, **kwargs: Any) -> None:
        raise error

    return convert


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["gpu", "python", "cpu", "cublas"],
)
@pytest.mark.parametrize("where", ["converting", "running"])
def test_memory_that_does_not_hold_the_reference_costs_only_the_reference(
    checking, monkeypatch, error, where
):
    if where == "converting":
        original = LlamaForCausalLM.to

        def to(self, target, *args, **kwargs):
            if target == torch.float32:
                raise error
            return original(self, target, *args, **kwargs)

        monkeypatch.setattr(LlamaForCausalLM, "to", to)
    else:
        run = ModelSource._run

        def _run(self, checker, batch):
            if checker is not self.checker:
                raise error
            return run(self, checker, batch)

        monkeypatch.setattr(ModelSource, "_run", _run)
    found, done = checking()
    reason = found["precision"]["not_measured"]
    assert reason.startswith("the memory does not hold the model")
    assert found["precision"].keys() == {"dtype", "reference", "not_measured"}
    assert (found["complete"], found["verdict"], len(found["heads"])) == (True, "holds", 8)
    assert f"precision, bfloat16 against float32: not measured ({reason})" in done.out


def test_another_error_is_not_taken_for_a_lack_of_memory(checking, monkeypatch):
    monkeypatch.setattr(ModelSource, "_convert", raising(RuntimeError("mat1 and mat2 differ")))
    with pytest.raises(RuntimeError, match="mat1"):
        checking()


def test_a_spread_model_has_no_reference(checking, monkeypatch):
    from gpu_check import sources

    original = sources.load

    def load(*args: Any, **kwargs: Any) -> Any:
        loaded = original(*args, **kwargs)
        loaded.model.hf_device_map = {"model.layers.0": "cpu", "model.layers.1": "disk"}
        return replace(loaded, spread=True)

    monkeypatch.setattr(sources, "load", load)
    found, _ = checking()
    assert found["precision"]["not_measured"] == "the model is spread over cpu, disk"
    assert found["environment"]["device"] == "cpu, disk"


def test_an_interrupt_of_the_reference_keeps_the_whole_run(checking, monkeypatch, out):
    original = Checker.add_layer

    def add_layer(self: Checker, *args: Any, **kwargs: Any) -> None:
        if args[1].dtype == torch.float32:
            # What would be left if the process were killed here.
            left = read(out)
            assert (left["complete"], len(left["heads"])) == (False, 8)
            raise KeyboardInterrupt
        original(self, *args, **kwargs)

    monkeypatch.setattr(Checker, "add_layer", add_layer)
    found, done = checking(code=130)
    assert (found["complete"], len(found["heads"])) == (False, 8)
    assert found["texts"][0]["loss"] is not None
    assert found["precision"] == {
        "dtype": "bfloat16",
        "reference": "float32",
        "not_measured": "the run ended before it was",
    }
    assert done.out == ""


def test_what_capture_refuses_in_the_reference_does_not_cost_the_run(checking, monkeypatch):
    from gpu_check import sources
    from tappa_theory.errors import InputError

    original = sources.capture

    def capture(model: Any, *args: Any, **kwargs: Any) -> Any:
        if model.dtype == torch.float32:
            raise InputError("layer 0: not this time")
        return original(model, *args, **kwargs)

    monkeypatch.setattr(sources, "capture", capture)
    found, _ = checking()
    assert found["precision"]["not_measured"].endswith("layer 0: not this time")
    assert found["complete"] is True


def test_a_last_layer_that_does_not_fit_in_the_reference_does_not_cost_the_run(
    checking, monkeypatch
):
    """On a GPU the last layer is finished after the model's pass."""
    from gpu_check import check, layer_pipeline

    usual, seen = layer_pipeline.prepare, []

    def prepare(subjects: Any, *given: Any) -> Any:
        seen.append(subjects[0].layer)
        if seen == [0, 1, 0, 1]:
            raise torch.OutOfMemoryError("no more")
        return usual(subjects, *given)

    monkeypatch.setattr(check, "_together", lambda device: True)
    monkeypatch.setattr(layer_pipeline, "prepare", prepare)
    found, _ = checking()
    assert seen == [0, 1, 0, 1]
    assert (found["complete"], len(found["heads"])) == (True, 8)
    assert found["precision"]["not_measured"].startswith("the memory does not hold")
