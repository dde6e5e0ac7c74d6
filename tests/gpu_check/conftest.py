"""A tiny checkpoint with a text of its own, and the command line run inside this process."""

import contextlib
import io
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tappa_theory.app.cli import main

VOCABULARY = (
    "the a query key head layer turns meets sees with its own position channel every so and or "
    "model text token row column period step small large near far first last again over under"
)
WORDS = VOCABULARY.split()
SHAPE = {
    "vocab_size": len(WORDS) + 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


@dataclass(frozen=True)
class Outcome:
    """What a call of `tappa` left: exit code and both streams."""

    code: int
    out: str
    err: str


def run_tappa(*arguments: object) -> Outcome:
    """Run `tappa` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def save_tiny_llama(folder: Path, edit: Callable[[Any], None] | None = None) -> Path:
    """Save a Llama of 2 layers, 4 heads and 2 kv heads with its tokenizer, and return the folder.

    Queries and keys are large enough for logits of order 1. `edit` changes the model before saving.
    """
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                parameter.mul_(14.0)
        if edit is not None:
            edit(model)
    model.save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(["<unk>", "<s>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny checkpoint, shared by all tests: copy it before changing it."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def own_tiny(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that the test may change."""
    return Path(shutil.copytree(tiny, tmp_path / "own-tiny-llama"))


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """A function that saves a tiny checkpoint with changed weights and returns its folder."""
    return lambda edit: save_tiny_llama(tmp_path / "edited-llama", edit)


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 400 tokens for the tiny checkpoint."""
    path = tmp_path_factory.mktemp("texts") / "words.txt"
    chosen = random.Random(0).choices(WORDS, k=400)
    path.write_text(" ".join(chosen), encoding="utf-8")
    return path


@pytest.fixture
def tappa() -> Callable[..., Outcome]:
    """`tappa` in this process: arguments -> exit code, stdout, stderr."""
    return run_tappa


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures and report out: they take longer than the check of a tiny model."""
    monkeypatch.setattr("gpu_check.job._figures", lambda folder, report: None)


@dataclass(frozen=True)
class Checked:
    """A finished check of the tiny checkpoint on 160 tokens, figures left out."""

    folder: Path
    outcome: Outcome


@pytest.fixture(scope="session")
def checked(tiny: Path, words: Path, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """The files of one check, shared by the tests that only read them."""
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu_check.job._figures", lambda folder, report: None)
        patch.setattr("torch.cuda.is_available", lambda: False)
        outcome = run_tappa("check", tiny, "--text", words, "--tokens", 160, "--out", folder)
    assert outcome.code == 0, outcome.err
    return Checked(folder, outcome)
