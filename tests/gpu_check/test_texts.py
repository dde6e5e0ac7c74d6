"""Texts: what ships, what is refused, and which ids come out."""

import hashlib
import logging
import os

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from gpu_check.texts import DEFAULT_SHA256, Text, default_text, read_text, tokenize
from tappa_theory.errors import InputError


@pytest.fixture
def tokenizer():
    words = {word: index for index, word in enumerate(["[UNK]", "[BOS]", "a", "b", "c"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[BOS] $A", special_tokens=[("[BOS]", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", bos_token="[BOS]", model_max_length=4
    )


def text(content):
    return Text("t.txt", "0" * 64, content)


def test_default_text_is_the_one_named_by_its_hash():
    found = default_text()
    assert found.sha256 == DEFAULT_SHA256
    assert found.sha256 == hashlib.sha256(found.content.encode()).hexdigest()
    assert found.source == "default"


def test_default_text_is_long_enough_and_not_filler():
    content = default_text().content
    # SmolLM2 cuts this text into 3,378 tokens, 4.5 characters each.
    assert len(content) > 2600 * 4.5
    paragraphs = [part for part in content.split("\n\n") if part.strip()]
    assert len(set(paragraphs)) == len(paragraphs)
    assert "```python" in content


def test_read_text_hashes_the_bytes_of_the_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfa \xcf\x80 b\r\n")
    found = read_text(path)
    assert found == Text(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), "a π b\r\n")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b" \n\t", "empty"), (b"ab\xff\xfe", r"not UTF-8 \(byte 2\)")],
)
def test_read_text_refuses_what_is_no_text(tmp_path, data, message):
    path = tmp_path / "t.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as raised:
        read_text(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_read_text_refuses_what_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"absent\.txt: cannot be read \(No such file"):
        read_text(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path)


def test_tokenize_keeps_special_tokens_and_the_first_ids(tokenizer):
    ids = tokenize(text("a b c a b c"), tokenizer, 4, 8)
    assert ids.dtype == torch.int64
    assert ids.tolist() == [[1, 2, 3, 4]]


def test_tokenize_accepts_exactly_the_tokens_and_the_context_there_are(tokenizer):
    assert tokenize(text("a b c"), tokenizer, 4, 4).shape == (1, 4)
    assert tokenize(text("a b c"), tokenizer, 4, None, vocabulary_size=5).shape == (1, 4)


def test_tokenize_does_not_warn_about_a_text_longer_than_the_context(tokenizer, caplog):
    # transformers keeps its records from the root logger, where caplog listens.
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        tokenize(text("a b c " * 5), tokenizer, 4, 4)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


@pytest.mark.parametrize(
    ("n_tokens", "message"),
    [
        (0, "tokens 0: must be positive"),
        (-3, "tokens -3: must be positive"),
        (9, "tokens 9: beyond the model's context of 8"),
        (5, r"text t\.txt: has 4 tokens, fewer than 5"),
    ],
)
def test_tokenize_refuses_impossible_lengths(tokenizer, n_tokens, message):
    with pytest.raises(InputError, match=message):
        tokenize(text("a b c"), tokenizer, n_tokens, 8)


@pytest.mark.parametrize(
    ("context", "tokens"), [(3, 3), (8, 4), (None, 4)], ids=["cut", "whole", "no context"]
)
def test_without_a_length_a_text_is_cut_to_the_context_or_used_whole(tokenizer, context, tokens):
    assert tokenize(text("a b c"), tokenizer, None, context).shape == (1, tokens)


@pytest.mark.parametrize("context", [None, 4096])
def test_without_a_length_a_text_is_cut_to_1024_tokens(tokenizer, context):
    assert tokenize(text("a b " * 1000), tokenizer, None, context).shape == (1, 1024)
    assert tokenize(text("a b " * 1000), tokenizer, None, 512).shape == (1, 512)


def test_a_text_of_no_tokens_is_refused(tokenizer):
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", special_tokens=[]
    )
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("a", "")
    with pytest.raises(InputError, match=r"text t\.txt: has no tokens"):
        tokenize(text("a a"), tokenizer, None, 8)


TEMPLATE = (
    "[BOS]{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} c{% endif %}"
)


def test_a_chat_has_the_special_tokens_of_the_template_alone(tokenizer):
    tokenizer.chat_template = TEMPLATE
    # The post-processor would put a second [BOS] before it.
    assert tokenize(text("a b"), tokenizer, None, 8, chat=True).tolist() == [[1, 2, 3, 4]]
    assert tokenize(text("a b"), tokenizer, 2, 8, chat=True).tolist() == [[1, 2]]
    with pytest.raises(InputError, match="has 4 tokens, fewer than 5"):
        tokenize(text("a b"), tokenizer, 5, 8, chat=True)


def test_a_long_chat_does_not_warn(tokenizer, caplog):
    tokenizer.chat_template = TEMPLATE
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        tokenize(text("a b c " * 5), tokenizer, 4, 4, chat=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


def test_a_chat_without_a_template_is_refused(tokenizer):
    with pytest.raises(InputError, match="no chat template; leave --chat out"):
        tokenize(text("a b"), tokenizer, None, 8, chat=True)


def test_tokenize_refuses_ids_without_an_embedding(tokenizer):
    with pytest.raises(InputError, match="token id 4 is beyond the model's 4 embeddings"):
        tokenize(text("a b c"), tokenizer, 4, 8, vocabulary_size=4)


def test_a_file_name_that_is_not_utf_8_can_be_written_down(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.txt"
    with open(path, "wb") as file:
        file.write(b"some words")
    source = read_text(os.fsdecode(path)).source
    assert source.endswith("\\udcff.txt")
    source.encode("utf-8")
