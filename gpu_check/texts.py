"""The texts a check runs on: read, named by hash, tokenised and cut."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jinja2.exceptions import TemplateError

from gpu_check.cache import printable
from gpu_check.defaults import DEFAULT_TOKENS
from tappa_theory.errors import InputError

DEFAULT_FILE = "default_text.txt"
DEFAULT_SHA256 = "5ead53c1d4cd12571b6d04fd85a2c6b387a86fe66b8359a709e0a61f528e1c61"


@dataclass(frozen=True)
class Text:
    """A text, its source (a path as given, or "default") and the SHA-256 of its file's bytes."""

    source: str
    sha256: str
    content: str


def default_text() -> Text:
    """The text that ships with the package: technical prose with code, 15,000 characters.

    Raises InputError if the installed file is not the original one.
    """
    data = (resources.files("gpu_check") / "data" / DEFAULT_FILE).read_bytes()
    text = decode(data, "default")
    if text.sha256 != DEFAULT_SHA256:
        raise InputError(f"default text: {DEFAULT_FILE} was changed; install the package again")
    return text


def read_text(path: Path | str) -> Text:
    """Read a UTF-8 text file; a byte order mark is dropped.

    Raises InputError if it cannot be read, is not UTF-8, or holds nothing but white space.
    """
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise InputError(
            f"text {path}: cannot be read ({error.strerror}); give a readable text file"
        ) from error
    return decode(data, printable(str(path)))


def decode(data: bytes, source: str) -> Text:
    """The Text of a file's bytes; InputError if they are not UTF-8 or only white space."""
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"text {source}: not UTF-8 (byte {error.start}); convert it to UTF-8"
        ) from error
    if not content.strip():
        raise InputError(f"text {source}: empty; give a text with words in it")
    return Text(source=source, sha256=hashlib.sha256(data).hexdigest(), content=content)


def tokenize(
    text: Text,
    tokenizer: Any,
    n_tokens: int | None,
    context_length: int | None,
    *,
    vocabulary_size: int | None = None,
    chat: bool = False,
) -> torch.Tensor:
    """The first `n_tokens` ids of a text, shape (1, n_tokens), dtype int64.

    n_tokens: None for the first 1,024 or the context, whichever is less, or all of a shorter text.
    `context_length` and `vocabulary_size` (rows of the model's embedding) are limits where they are
    known. chat: the text is one message of the user in the tokenizer's chat template, followed by
    the generation prompt, all of it cut as one text; else special tokens are the tokenizer's own.

    Raises InputError if n_tokens is not positive or exceeds the context, if the text has fewer
    tokens or none, if an id has no embedding, or if there is no chat template that takes the text.
    """
    if n_tokens is None:
        wanted = min(DEFAULT_TOKENS, context_length or DEFAULT_TOKENS)
        ids = _ids(text, tokenizer, chat)[:wanted]
        if not ids:
            raise InputError(f"text {text.source}: has no tokens; give a text with words in it")
        return _embedded(text, ids, vocabulary_size)
    if n_tokens <= 0:
        raise InputError(f"tokens {n_tokens}: must be positive; use --tokens 1024")
    if context_length is not None and n_tokens > context_length:
        raise InputError(
            f"tokens {n_tokens}: beyond the model's context of {context_length}; use fewer"
        )
    ids = _ids(text, tokenizer, chat)
    if len(ids) < n_tokens:
        raise InputError(
            f"text {text.source}: has {len(ids)} tokens, fewer than {n_tokens}; "
            f"give a longer text, use --tokens {len(ids)}, or leave --tokens out"
        )
    return _embedded(text, ids[:n_tokens], vocabulary_size)


def _ids(text: Text, tokenizer: Any, chat: bool) -> list[int]:
    """All ids of a text. verbose=False: that it is longer than the context is no cause to warn."""
    if not chat:
        return tokenizer(text.content, add_special_tokens=True, verbose=False)["input_ids"]
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "--chat: the model's tokenizer has no chat template; leave --chat out, or give a model "
            "that has one (usually its name ends in Instruct or Chat)"
        )
    try:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": text.content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            tokenizer_kwargs={"verbose": False},
        )["input_ids"]
    except (TemplateError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"--chat: the tokenizer's chat template does not take text {text.source} as a message "
            f"({reason}); leave --chat out"
        ) from error


def _embedded(text: Text, ids: list[int], vocabulary_size: int | None) -> torch.Tensor:
    """(1, T) of the ids; InputError if the model has no embedding for one of them."""
    if vocabulary_size is not None and max(ids) >= vocabulary_size:
        raise InputError(
            f"text {text.source}: token id {max(ids)} is beyond the model's {vocabulary_size} "
            "embeddings; give the model its own tokenizer"
        )
    return torch.tensor([ids], dtype=torch.int64)
