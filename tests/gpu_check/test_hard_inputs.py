"""Inputs at the edges, through the command line: damaged weights, shortest texts, hostile names."""

import json
import math
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpu_check import checkpoints
from gpu_check.captured_tensors import save_captured_tensors
from gpu_check.schema import validate

SCRIPT = "<script>alert(1)</script>"
HANDLER = "<img src=x onerror=alert(2)>"
TEMPLATE = "{{7*7}}"
FORMULA = r"$\frac{1}{0}$"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def no_constant(name):
    raise AssertionError(f"{name} in check.json")


def read(out):
    """check.json by the letter of JSON: NaN and Infinity are refused."""
    document = json.loads((out / "check.json").read_text(), parse_constant=no_constant)
    validate(document)
    return document


# --- weights


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("weight", "row", "place"),
    [
        # Head 2 of layer 1 reads rows 32 to 47, and key head 1 of layer 0 rows 16 to 31.
        ("model.layers.1.self_attn.q_proj", 40, "layer 1, head 2"),
        ("model.layers.0.self_attn.k_proj", 20, "layer 0, head 1"),
        ("model.layers.0.mlp.up_proj", 0, "layer 1, head 0"),
        ("lm_head", 3, "loss"),
    ],
)
def test_weights_that_are_not_finite(
    tappa, edited, words, out, no_figures, weight, row, place, value
):
    def edit(model):
        model.get_submodule(weight).weight[row] = value

    done = tappa("check", edited(edit), "--text", words, "--tokens", 40, "--out", out)
    assert done.code == 2, done.err
    error = done.err.splitlines()[-1]
    assert error.startswith("tappa: error: ")
    assert place in error
    assert "not finite" in error
    assert not out.exists() or list(out.iterdir()) == []


def test_finite_weights_whose_products_are_not(tappa, edited, words, out, no_figures):
    def edit(model):
        model.model.layers[0].self_attn.q_proj.weight.fill_(3e38)

    done = tappa("check", edited(edit), "--text", words, "--tokens", 40, "--out", out)
    assert done.code == 2
    assert "layer 0, head 0" in done.err.splitlines()[-1]


def test_a_model_without_queries_and_keys(tappa, edited, words, out, no_figures):
    def edit(model):
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.zero_()
            layer.self_attn.k_proj.weight.zero_()

    done = tappa("check", edited(edit), "--text", words, "--tokens", 160, "--out", out)
    assert done.code == 1, done.err  # nothing was decided
    heads = read(out)["heads"]
    assert len(heads) == 8
    assert {head["pattern_predicted"] for head in heads} == {None}
    assert {head["q_similarity"]["adjacent_pre"] for head in heads} == {None}


# --- lengths


@pytest.mark.parametrize("tokens", [1, 2, 3, 31, 157, 251])
def test_the_shortest_texts_and_prime_lengths(tappa, tiny, words, out, no_figures, tokens):
    done = tappa("check", tiny, "--text", words, "--tokens", tokens, "--out", out)
    assert done.code == (1 if tokens == 1 else 0), done.err  # one token decides nothing
    found = read(out)
    assert found["texts"][0]["tokens"] == tokens
    assert len(found["heads"]) == 8
    assert (found["texts"][0]["loss"] is None) == (tokens == 1)
    # Nothing can be shifted in a text of one token; of two there is one step.
    sequential = [head["theorems"]["sequential"] for head in found["heads"]]
    pairs = (tokens - 1) * tokens // 2
    assert [theorem["pairs"] for theorem in sequential] == [pairs] * 8


# --- names and texts that would like to be code


@pytest.fixture
def hostile(tiny, tmp_path):
    """A checkpoint and a text whose names, tokens and configuration hold markup; both paths."""
    folder = tmp_path / f"model {HANDLER} {TEMPLATE} {FORMULA} & 'quoted' \"twice\""
    shutil.copytree(tiny, folder)
    # In place of words it has, so that the model's embedding still fits.
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    vocabulary["<script>alert(3)"] = vocabulary.pop("the")
    data["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    path.write_text(json.dumps(data), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = [SCRIPT]
    (folder / "config.json").write_text(json.dumps(config))
    text = tmp_path / f"text {HANDLER} {TEMPLATE} {FORMULA}.txt"
    text.write_text(" ".join(["<script>alert(3)", SCRIPT, "a", "query", TEMPLATE, "key"] * 30))
    return folder, text


class Tags(HTMLParser):
    """The tags of a page with their attributes, its scripts, and the text between the tags."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.texts, self.inside = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag if tag in ("script", "style") else self.inside

    def handle_endtag(self, tag):
        self.inside = None if tag == self.inside else self.inside

    def handle_data(self, data):
        (self.scripts if self.inside == "script" else self.texts).append(data)


def test_markup_in_names_and_texts_stays_text_in_the_report(tappa, hostile, out):
    folder, text = hostile
    done = tappa("check", folder, "--text", text, "--tokens", 150, "--out", out)
    assert done.code == 0, done.err
    found = read(out)
    assert found["model"]["id"] == folder.name
    assert found["model"]["architecture"] == SCRIPT
    assert found["texts"][0]["source"] == str(text)
    page = Tags((out / "report.html").read_text(encoding="utf-8"))
    shown = " ".join(page.texts)
    # What was given is there to read, letter by letter ...
    for name in (folder.name, SCRIPT, TEMPLATE, FORMULA):
        assert name in shown
    # ... and none of it has become markup, script, or the result of a template.
    assert not any("alert" in script for script in page.scripts)
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert attributes.get("src") != "x"
        assert not str(attributes.get("href", "")).startswith("javascript:")
    for figure in (out / "figures").glob("*.svg"):
        drawn = figure.read_text(encoding="utf-8")
        assert "<script" not in drawn
        assert "onerror=alert(2)>" not in drawn


def test_a_name_with_a_line_break_is_refused_in_one_line(tappa, tiny, tmp_path, out):
    path = tmp_path / "two\nlines.txt"
    path.write_bytes(b"\xff")
    done = tappa("check", tiny, "--text", path, "--out", out)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "not UTF-8" in done.err


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX systems only")
@pytest.mark.parametrize("suffix", ["", ".gguf", ".safetensors"])
def test_a_model_whose_name_is_not_utf_8(tappa, tiny, words, tmp_path, out, suffix):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/name-\xff" + suffix.encode()))
    shutil.copytree(tiny, path) if suffix == "" else path.touch()
    done = tappa("check", path, "--out", out)
    assert done.code == 2
    assert done.err.splitlines()[-1].endswith(
        f"name-\\udcff{suffix}: the name is not UTF-8; rename the file or folder"
    )


def test_names_inside_files_that_are_not_utf_8(tappa, own_tiny, words, tmp_path, out, no_figures):
    config = json.loads((own_tiny / "config.json").read_text())
    (own_tiny / "config.json").write_text(json.dumps(config | {"architectures": ["x\udcff"]}))
    done = tappa("check", own_tiny, "--text", words, "--tokens", 40, "--out", out)
    assert done.code == 0, done.err
    assert read(out)["model"]["architecture"] == "x\\udcff"

    q = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0))
    rope = {"head_dim": 8, "rope_type": "default", "rope_theta": 10000.0}
    path = tmp_path / "captured.safetensors"
    save_captured_tensors(path, {0: (q, q)}, rope=rope, scale=0.3, model="x\udcff")
    done = tappa("check", path, "--out", out)
    assert done.code == 0, done.err
    assert read(out)["model"]["id"] == "x\\udcff"


def test_a_text_of_unknown_words_only(tappa, tiny, tmp_path, out, no_figures):
    path = tmp_path / "unknown.txt"
    path.write_text("\x00\x1b[2J\u202e\U0001f600 " * 60, encoding="utf-8")
    done = tappa("check", tiny, "--text", path, "--tokens", 60, "--out", out)
    assert done.code == 0, done.err
    assert read(out)["texts"][0]["tokens"] == 60
    assert "\x1b" not in done.out + done.err


def test_embeddings_all_alike(tappa, edited, words, out, no_figures):
    # Every query and key is then the same before RoPE: similarities of 1, drifts of 0.
    def edit(model):
        model.model.embed_tokens.weight.copy_(torch.ones_like(model.model.embed_tokens.weight))

    done = tappa("check", edited(edit), "--text", words, "--tokens", 150, "--out", out)
    assert done.code == 0, done.err
    for head in read(out)["heads"]:
        assert head["q_similarity"]["adjacent_pre"] == pytest.approx(1, abs=1e-5)


# --- the three options for checkpoints that need them


def heads_of(tappa, out, *arguments):
    done = tappa("check", *arguments, "--tokens", 150, "--device", "cpu", "--out", out)
    assert done.code == 0, done.err
    return read(out)["heads"]


def test_pickle_weights_give_the_same_check(tappa, tiny, own_tiny, words, tmp_path, no_figures):
    torch.save(load_file(own_tiny / "model.safetensors"), own_tiny / "pytorch_model.bin")
    (own_tiny / "model.safetensors").unlink()
    arguments = (own_tiny, "--text", words)
    done = tappa("check", *arguments, "--out", tmp_path / "refused")
    assert done.code == 2
    assert "--allow-pickle" in done.err.splitlines()[-1]
    found = heads_of(tappa, tmp_path / "pickle", *arguments, "--allow-pickle")
    assert found == heads_of(tappa, tmp_path / "whole", tiny, "--text", words)


def test_a_model_partly_on_disk_gives_the_same_check(
    tappa, tiny, words, tmp_path, no_figures, monkeypatch
):
    bytes_of_weights = (tiny / "model.safetensors").stat().st_size
    memory = {"cpu": int(0.6 * bytes_of_weights)}
    monkeypatch.setattr(checkpoints, "memory_to_use", lambda *a: memory)
    arguments = (tiny, "--text", words)
    found = heads_of(tappa, tmp_path / "spread", *arguments, "--device-map", "auto")
    assert "disk" in read(tmp_path / "spread")["environment"]["device"]
    assert found == heads_of(tappa, tmp_path / "whole", *arguments)
