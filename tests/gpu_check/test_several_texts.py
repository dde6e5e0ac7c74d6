"""Checks of several texts: each as if alone, batches, chat, what the texts say together, Ctrl-C."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from gpu_check.check import Checker, check_model
from gpu_check.checkpoints import load
from gpu_check.job import headline
from gpu_check.schema import validate
from gpu_check.sources import batches, padded
from gpu_check.texts import read_text, tokenize
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

LENGTHS = (151, 2, 140, 160)  # 151 is prime; two tokens have one step and no pattern
FILES = {"check.json", "heads.parquet", "exemplars.npz", "moments.npz"}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, words: Path) -> list[Path]:
    """Texts of LENGTHS tokens for the tiny checkpoint, each with words of its own."""
    folder = tmp_path_factory.mktemp("several")
    vocabulary = sorted(set(words.read_text(encoding="utf-8").split()))
    paths = []
    for seed, length in enumerate(LENGTHS):
        path = folder / f"text-{length}.txt"
        chosen = random.Random(seed).choices(vocabulary[seed * 5 :], k=length)
        path.write_text(" ".join(chosen), encoding="utf-8")
        paths.append(path)
    return paths


@pytest.fixture
def checking(tappa, tiny, out, no_figures) -> Callable[..., dict[str, Any]]:
    """`tappa check` of the tiny model on these texts -> check.json, with a folder of its own."""
    runs = iter(range(100))

    def run(texts: list[Path], *options: object, model: Path = tiny) -> dict[str, Any]:
        folder = out / str(next(runs))
        chosen = [argument for text in texts for argument in ("--text", text)]
        done = tappa("check", model, *chosen, *options, "--out", folder)
        assert done.code == 0, done.err
        document = read(folder)
        document["printed"], document["log"], document["folder"] = done.out, done.err, folder
        return document

    return run


def read(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    validate(document)
    return document


def of_text(document: dict[str, Any], text: int) -> list[dict[str, Any]]:
    return [head for head in document["heads"] if head["text"] == text]


def same(found: Any, expected: Any, rel: float = 0.0, key: str = "") -> None:
    """The same value; numbers within `rel`, which stands for rounding, of their size."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if name != "text":
                same(found[name], value, rel, f"{key}.{name}")
    elif isinstance(expected, list) and isinstance(found, list):
        assert len(found) == len(expected), key
        for one, other in zip(found, expected, strict=True):
            same(one, other, rel, key)
    elif isinstance(expected, float):
        # A distance of keys is the root of a difference of squares: of those that are almost equal,
        # rounding leaves half of the digits.
        size = rel**0.75 if key.endswith("a_priori") else rel
        assert found == pytest.approx(expected, rel=rel, abs=size), key
    else:
        assert found == expected, key


# --- each text as if alone


def test_every_text_has_the_heads_and_the_loss_it_has_alone(checking, tiny, texts):
    found = checking(texts)
    assert [(head["text"], head["layer"], head["head"]) for head in found["heads"]] == [
        (text, layer, head) for text in range(4) for layer in range(2) for head in range(4)
    ]
    loaded = load(str(tiny))
    for index, path in enumerate(texts):
        told = found["texts"][index]
        assert (told["source"], told["tokens"], told["chat"]) == (str(path), LENGTHS[index], False)
        ids = tokenize(read_text(path), loaded.tokenizer, None, 256)
        with torch.no_grad():
            own = float(loaded.model(input_ids=ids, labels=ids).loss)
        assert told["loss"] == pytest.approx(own, rel=LENGTHS[index] * 2**-23)
        alone = checking([path])
        assert {head["text"] for head in alone["heads"]} == {0}
        same(of_text(found, index), alone["heads"])  # to the last bit


@pytest.mark.parametrize("batch", [2, 3, 9])
def test_a_batch_gives_every_text_the_numbers_it_has_alone(checking, texts, batch):
    # In float64, so that another order of summation in the model is far below what is compared:
    # T^2 2^-53 = 3e-12 of sums, a few digits more where logit changes cancel.
    one = checking(texts, "--dtype", "float64")
    many = checking(texts, "--dtype", "float64", "--batch", batch)
    same(many["heads"], one["heads"], rel=1e-8)
    same(many["texts"], one["texts"], rel=1e-8)
    same(many["summary"], one["summary"], rel=1e-8)
    # The padding of a batch lies beyond the text's own positions.
    deviations = [head["angle_deviation"] for head in many["heads"]]
    assert deviations == [head["angle_deviation"] for head in one["heads"]]
    assert len(set(deviations)) > 1


def test_a_batch_in_float32_agrees_within_its_rounding(checking, texts):
    one, many = checking(texts), checking(texts, "--batch", 4)
    for head, other in zip(many["heads"], one["heads"], strict=True):
        for name, value in other["q_similarity"].items():
            if value is not None:
                # A cosine of vectors with 64 terms and a few layers of float32 before them.
                assert head["q_similarity"][name] == pytest.approx(value, abs=1e-5)
        for name, theorem in other["theorems"].items():
            found = head["theorems"][name]
            assert (found["pairs"], found["violations"]) == (theorem["pairs"], 0)


def test_texts_whose_rope_depends_on_the_length_do_not_share_a_pass(checking, own_tiny, texts):
    torch.manual_seed(1)
    config = LlamaConfig.from_pretrained(own_tiny)
    config.original_max_position_embeddings = 145
    parameters = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [1.5 + 0.5 * n for n in range(8)],
        "original_max_position_embeddings": 145,
        "factor": 256 / 145,  # what every transformers makes of the two lengths
    }
    # transformers 5 renamed it
    name = "rope_parameters" if hasattr(config, "rope_parameters") else "rope_scaling"
    setattr(config, name, parameters)
    LlamaForCausalLM(config).save_pretrained(own_tiny)
    found = checking(texts, "--dtype", "float64", "--batch", 4, model=own_tiny)
    ropes = found["model"]["rope"]
    assert [rope["texts"] for rope in ropes] == [[0, 3], [1, 2]]
    assert [rope["layers"] for rope in ropes] == [[0, 1], [0, 1]]
    assert ropes[0]["frequencies"] != ropes[1]["frequencies"]
    for index, path in enumerate(texts):
        alone = checking([path], "--dtype", "float64", model=own_tiny)
        same(of_text(found, index), alone["heads"], rel=1e-8)


def test_batches_hold_neighbours_of_one_rope():
    short, long = (Rope.from_parameters(8, {"rope_theta": base}) for base in (1e4, 2e4))
    lists = [[short], [short], [short], [long], [long], [short]]
    assert batches(lists, 2) == [[0, 1], [2], [3, 4], [5]]
    assert batches(lists, 1) == [[0], [1], [2], [3], [4], [5]]
    assert batches(lists, 9) == [[0, 1, 2], [3, 4], [5]]
    assert batches([[short, long], [short, short]], 2) == [[0], [1]]


def test_padding_stands_on_the_right_and_is_masked():
    ids, mask = padded([torch.tensor([5, 6, 7]), torch.tensor([8])])
    assert ids.tolist() == [[5, 6, 7], [8, 8, 8]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_given_number_of_tokens_cuts_every_text(checking, texts):
    found = checking([texts[0], texts[2], texts[3]], "--tokens", 130)
    assert [text["tokens"] for text in found["texts"]] == [130, 130, 130]


def test_a_text_beyond_the_default_length_is_cut_and_a_shorter_one_whole(checking, words, texts):
    found = checking([words, texts[0]])
    assert [text["tokens"] for text in found["texts"]] == [256, 151]  # the context is 256


def test_the_files_have_a_column_and_maps_of_texts(checking, texts):
    found = checking(texts)
    column = parquet.read_table(found["folder"] / "heads.parquet").column("text")
    assert column.to_pylist() == [head["text"] for head in found["heads"]]
    with np.load(found["folder"] / "exemplars.npz", allow_pickle=False) as maps:
        for entry in found["exemplars"]:
            shown = maps[entry["map"]]
            assert shown.shape == (LENGTHS[entry["text"]], LENGTHS[entry["text"]])
            (head,) = [
                head
                for head in of_text(found, entry["text"])
                if (head["layer"], head["head"]) == (entry["layer"], entry["head"])
            ]
            assert head["pattern_observed"] == entry["pattern"]
    assert found["exemplars"]


# --- what the texts say together


def test_the_summary_adds_up_the_texts_and_tells_their_spread(checking, texts):
    found = checking(texts)
    alone = [checking([path])["summary"] for path in texts]
    assert all(part["spread"] is None for part in alone)
    for name, part in found["summary"]["theorems"].items():
        for count in ("applicable_heads", "pairs", "violations", "published_checked"):
            assert part[count] == sum(each["theorems"][name][count] for each in alone)
        assert part["max_ratio"] == max(each["theorems"][name]["max_ratio"] or 0 for each in alone)
        worst = part["worst"]
        assert worst["text"] == max(
            range(4), key=lambda n: alone[n]["theorems"][name]["max_ratio"] or 0
        )
    assert found["summary"]["patterns"]["heads"] == 24  # the text of two tokens shows none
    spread = found["summary"]["spread"]
    assert spread["texts"] == 4
    ways: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "agreement": lambda s: s["patterns"]["agreement"],
        "cohen_kappa": lambda s: s["patterns"]["cohen_kappa"],
        "q_similarity.adjacent_pre": lambda s: s["q_similarity"]["adjacent_pre"],
        "k_similarity.adjacent_pre": lambda s: s["k_similarity"]["adjacent_pre"],
        "predictability": lambda s: s["predictability"]["mean"],
        "drift.spearman_cosine_kl": lambda s: s["drift"]["spearman_cosine_kl"],
        "drift.spearman_key_metric_kl": lambda s: s["drift"]["spearman_key_metric_kl"],
    }
    for theorem in found["summary"]["theorems"]:
        for key in ("hypotheses_met_heads", "informative", "max_ratio"):
            ways[f"{theorem}.{key}"] = lambda s, t=theorem, k=key: s["theorems"][t][k]
    assert spread["numbers"].keys() == ways.keys()
    for name, way in ways.items():
        by_text = [way(each) for each in alone]
        there = [value for value in by_text if value is not None]
        number = spread["numbers"][name]
        assert number["by_text"] == by_text
        assert number["min"] == min(there, default=None)
        assert number["max"] == max(there, default=None)
        assert number["mean"] == (pytest.approx(mean(there)) if there else None)
        assert number["std"] == (pytest.approx(stdev(there)) if len(there) > 1 else None)
    assert spread["numbers"]["agreement"]["by_text"][1] is None


def test_stable_patterns_are_counted_by_head(checking, texts):
    found = checking(texts)
    for kind in ("observed", "predicted"):
        heads: dict[tuple[int, int], set[str]] = {}
        for head in found["heads"]:
            if head["text"] != 1:
                place = head["layer"], head["head"]
                heads.setdefault(place, set()).add(head[f"pattern_{kind}"])
        stable = sum(len(patterns) == 1 for patterns in heads.values())
        assert found["summary"]["spread"][f"{kind}_stable"] == stable / 8


def test_the_headline_counts_heads_and_texts_and_tells_the_spread(checking, texts):
    found = checking([texts[0], texts[2], texts[3]])
    lines = headline(found).splitlines()
    assert found["printed"].splitlines()[-len(lines) :] == lines
    assert " of 8 heads x 3 texts, Cohen's kappa " in lines[0]
    agreement = found["summary"]["spread"]["numbers"]["agreement"]
    low, high = f"{agreement['min']:.1%}", f"{agreement['max']:.1%}"
    assert lines[1].startswith(f"over 3 texts: predicted = observed {low} to {high}, kappa ")
    assert "of 24 heads x texts" in lines[2]
    # Of four texts one shows no pattern.
    found = checking(texts)
    assert " of 8 heads x 3 texts, Cohen's kappa " in headline(found).splitlines()[0]
    found["heads"][0]["pattern_predicted"] = None
    found["summary"]["patterns"]["heads"] = 23
    assert " of 23 heads x texts, Cohen's kappa " in headline(found).splitlines()[0]


def test_progress_counts_every_head_of_every_text(checking, texts, monkeypatch):
    seen: list[tuple[str, int | None, int | None]] = []
    monkeypatch.setattr(
        "tappa_theory.app.progress._Lines.report", lambda self, *step: seen.append(step)
    )
    checking(texts, "--batch", 3)
    steps = [(done, total) for description, done, total in seen if description == "heads"]
    assert steps == [(done, 32) for done in range(33)]


def test_a_lag_must_fit_every_text(tappa, tiny, texts, out):
    chosen = ["--text", texts[0], "--text", texts[1]]
    done = tappa("check", tiny, *chosen, "--lag", 5, "--out", out)
    assert done.code == 2
    assert done.err.splitlines()[-1].endswith("--lag 5 does not fit 2 tokens; use 1 to 1")


# --- chat

TEMPLATE = (
    "<s> text {% for message in messages %}{{ message['role'] == 'user' and 'query' or 'key' }} "
    "{{ message['content'] }} {% endfor %}{% if add_generation_prompt %}model{% endif %}"
)


@pytest.fixture
def templated(own_tiny: Path) -> Callable[[str], Path]:
    """A function that gives a copy of the tiny checkpoint a chat template."""

    def save(template: str) -> Path:
        tokenizer = AutoTokenizer.from_pretrained(own_tiny)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(own_tiny)
        return own_tiny

    return save


def test_a_chat_is_one_message_of_the_user_and_a_prompt_for_the_answer(
    checking, templated, tmp_path
):
    message, written = tmp_path / "message.txt", tmp_path / "written.txt"
    message.write_text("the token sees a row and a column")
    # What the template makes of it, written by hand.
    written.write_text("<s> text query the token sees a row and a column model")
    model = templated(TEMPLATE)
    chat = checking([message], "--chat", model=model)
    plain = checking([written], model=model)
    assert (chat["texts"][0]["chat"], plain["texts"][0]["chat"]) == (True, False)
    assert chat["texts"][0]["tokens"] == 12
    assert chat["texts"][0]["loss"] == plain["texts"][0]["loss"]
    same(chat["heads"], plain["heads"])
    cut = checking([message], "--chat", "--tokens", 5, model=model)
    assert cut["texts"][0]["tokens"] == 5


def test_a_tokenizer_without_a_chat_template_is_refused(tappa, tiny, words, out):
    done = tappa("check", tiny, "--text", words, "--chat", "--out", out)
    assert done.code == 2
    error = done.err.splitlines()[-1]
    assert error.startswith("tappa: error: --chat: the model's tokenizer has no chat template; ")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('Only robots\nmay speak') }}", "Only robots may speak"),
        ("{% for message in %}", "Expected an expression"),
        ("{{ messages[0]['content'] + 1 }}", "can only concatenate str"),
    ],
)
def test_a_chat_template_that_fails_is_refused(tappa, templated, words, out, template, reason):
    done = tappa("check", templated(template), "--text", words, "--chat", "--out", out)
    assert done.code == 2
    error = done.err.splitlines()[-1]
    assert error.startswith("tappa: error: --chat: the tokenizer's chat template does not take ")
    assert str(words) in error
    assert reason in error
    assert error.endswith("leave --chat out")


# --- from Python


def test_a_batch_from_python_gives_what_the_texts_give_alone(tiny, texts):
    loaded = load(str(tiny), dtype="float64")
    ids = [tokenize(read_text(text), loaded.tokenizer, None, 256)[0] for text in texts[:3]]
    together = check_model(loaded.model, *padded(ids))
    places = [(head.text, head.layer, head.head) for head in together.heads]
    assert places == sorted(places)
    assert len(places) == 24
    for text, own in enumerate(ids):
        alone = check_model(loaded.model, own[None])
        found = [head for head in together.heads if head.text == text]
        for head, other in zip(found, alone.heads, strict=True):
            for name, theorem in other.theorems.items():
                assert head.theorems[name].pairs == theorem.pairs
                assert head.theorems[name].max_ratio == pytest.approx(theorem.max_ratio)
            assert head.q_similarity == pytest.approx(other.q_similarity)
            assert head.pattern_observed == other.pattern_observed


def test_padding_on_the_left_is_not_counted(tiny, texts):
    loaded = load(str(tiny), dtype="float64")
    ids = tokenize(read_text(texts[2]), loaded.tokenizer, None, 256)
    shifted = torch.cat([ids[:, :1].expand(1, 7), ids], dim=1)
    mask = (torch.arange(147) >= 7)[None].to(torch.int64)
    alone, left = check_model(loaded.model, ids), check_model(loaded.model, shifted, mask)
    for head, other in zip(left.heads, alone.heads, strict=True):
        assert head.theorems["sequential"].pairs == other.theorems["sequential"].pairs
        # RoPE sees distances only, but angles up to 147 in float32 err by up to 147 2^-24 = 1e-5,
        # whatever the model's dtype. (Where a token is repeated, ratios are those of such errors.)
        found, expected = (each.theorems["sequential"].mean_bound for each in (head, other))
        assert found == pytest.approx(expected, rel=1e-4)
        assert head.q_similarity == pytest.approx(other.q_similarity, abs=1e-4)


def test_a_lag_from_python_must_fit_every_text(tiny, texts):
    loaded = load(str(tiny))
    ids, mask = padded([torch.arange(2, 12), torch.arange(2, 6)])
    assert check_model(loaded.model, ids, mask, lag=3).heads[-1].theorems["seasonal"].pairs == 1
    with pytest.raises(InputError, match="--lag 4 does not fit 4 tokens"):
        check_model(loaded.model, ids, mask, lag=4)


# --- interrupts


def assert_layers(folder: Path, expected: dict[str, Any], places: set[tuple[int, int]]) -> None:
    """The finished layers, (text, layer), and nothing else, in valid files."""
    found = read(folder)
    assert found["complete"] is False
    assert {entry.name for entry in folder.iterdir()} == FILES
    assert {(head["text"], head["layer"]) for head in found["heads"]} == places
    assert len(found["heads"]) == 4 * len(places)
    same(
        found["heads"],
        [head for head in expected["heads"] if (head["text"], head["layer"]) in places],
        rel=1e-6,
    )
    assert len(parquet.read_table(folder / "heads.parquet")) == len(found["heads"])
    assert {(entry["text"], entry["layer"]) for entry in found["exemplars"]} <= places


@pytest.mark.parametrize(
    ("call", "places", "finished"),
    [
        (1, {(0, 0)}, 0),
        (2, {(0, 0), (0, 1)}, 1),
        (3, {(0, 0), (0, 1), (1, 0)}, 1),
        (4, {(0, 0), (0, 1), (1, 0), (1, 1)}, 2),
    ],
)
def test_an_interrupt_keeps_the_finished_layers_of_every_text(
    tappa, tiny, texts, out, checking, monkeypatch, call, places, finished
):
    chosen = [texts[0], texts[2], texts[3]]
    expected = checking(chosen)
    original, calls = Checker.add_layer, []

    def add_layer(*args: Any, **kwargs: Any) -> None:
        calls.append(None)
        if len(calls) > call:
            raise KeyboardInterrupt
        original(*args, **kwargs)

    monkeypatch.setattr(Checker, "add_layer", add_layer)
    folder = out / "interrupted"
    given = [argument for text in chosen for argument in ("--text", text)]
    assert tappa("check", tiny, *given, "--out", folder).code == 130
    assert_layers(folder, expected, places)
    found = read(folder)
    assert [text["loss"] is not None for text in found["texts"]] == [
        index < finished for index in range(3)
    ]
    spread = found["summary"]["spread"]
    # A text with fewer heads than another would not be compared like with like.
    assert spread is None if finished < 2 else spread["texts"] == 2


def test_ctrl_c_between_texts(tiny, texts, out, checking):
    expected = checking([texts[0], texts[2]])
    code = (
        "import signal, sys, time\n"
        # A process started in the background may have inherited an ignored SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gpu_check.check import Checker\n"
        "original = Checker.add_layer\n"
        "def add_layer(self, *args, **kwargs):\n"
        "    if kwargs['text'] == 1:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    return original(self, *args, **kwargs)\n"
        "Checker.add_layer = add_layer\n"
        "from tappa_theory.app.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    folder = out / "interrupted"
    arguments = ["check", str(tiny), "--text", str(texts[0]), "--text", str(texts[2])]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--device", "cpu", "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "tappa: interrupted"
    assert_layers(folder, expected, {(0, 0), (0, 1)})
