"""The texts a check runs on: read, named by hash, tokenised and cut."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

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
    return decode(data, str(path))


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
    n_tokens: int,
    context_length: int | None,
    *,
    vocabulary_size: int | None = None,
) -> torch.Tensor:
    """The first `n_tokens` ids of a text, shape (1, n_tokens), dtype int64.

    Special tokens are the tokenizer's own. `context_length` and `vocabulary_size` (rows of the
    model's embedding) are limits where they are known. Raises InputError if n_tokens is not
    positive or exceeds the context, if the text has fewer tokens, or if an id has no embedding.
    """
    if n_tokens <= 0:
        raise InputError(f"tokens {n_tokens}: must be positive; use --tokens 1024")
    if context_length is not None and n_tokens > context_length:
        raise InputError(
            f"tokens {n_tokens}: beyond the model's context of {context_length}; use fewer"
        )
    # verbose=False: a text longer than the context is no cause for a warning, it is cut below.
    ids = tokenizer(text.content, add_special_tokens=True, verbose=False)["input_ids"]
    if len(ids) < n_tokens:
        raise InputError(
            f"text {text.source}: has {len(ids)} tokens, fewer than {n_tokens}; "
            f"give a longer text or use --tokens {len(ids)}"
        )
    ids = ids[:n_tokens]
    if vocabulary_size is not None and max(ids) >= vocabulary_size:
        raise InputError(
            f"text {text.source}: token id {max(ids)} is beyond the model's {vocabulary_size} "
            "embeddings; give the model its own tokenizer"
        )
    return torch.tensor([ids], dtype=torch.int64)
