"""Loading a local Hugging Face directory: safetensors weights only, no code, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gpu_check.cache import Progress, no_progress, sha256_of_file
from tappa_theory.errors import InputError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def load_directory(
    directory: Path,
    *,
    dtype: torch.dtype,
    given: str | None = None,
    progress: Progress = no_progress,
) -> tuple[Any, Any]:
    """Model and tokenizer of a Hugging Face directory, on the CPU.

    `given` is the name by which errors call the input. Raises InputError if the directory is
    empty, has no configuration, no tokenizer, no safetensors weights (pickle weights are never
    read), or if transformers cannot load it without running code from it.
    """
    given = given or str(directory)
    require_complete(directory, given)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    progress(f"Loading {given}", None, None)
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False
            )
        # A tokenizer file can be wrong in as many ways as there are tokenizer libraries.
        except Exception as error:
            raise InputError(
                f"{given}: its tokenizer cannot be loaded ({one_line(error)}); "
                "save it again with tokenizer.save_pretrained"
            ) from error
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                str(directory),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:
            raise InputError(
                f"{given}: transformers cannot load it ({one_line(error)}); give a causal language "
                "model that transformers knows, saved with model.save_pretrained"
            ) from error
    # transformers fills absent weights with random numbers and only logs it.
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"{given}: {len(missing)} weights are missing, {missing[0]} among them; "
            "give a complete checkpoint of a causal language model"
        )
    return model, tokenizer


def require_complete(directory: Path, given: str) -> None:
    """Raise InputError unless configuration, tokenizer and safetensors weights are all there."""
    try:
        names = {entry.name for entry in directory.iterdir()}
    except OSError as error:
        raise InputError(f"{given}: cannot be read ({error.strerror}); check the path") from error
    if not names:
        raise InputError(f"{given}: the directory is empty; give one with a saved model")
    if "config.json" not in names:
        gguf = sorted(name for name in names if name.endswith(".gguf"))
        remedy = (
            f"give the GGUF file itself, {given.rstrip('/')}/{gguf[0]}"
            if gguf
            else "give a Hugging Face directory (config.json, *.safetensors, tokenizer files)"
        )
        raise InputError(f"{given}: holds no config.json; {remedy}")
    if not any(name.endswith(".safetensors") for name in names):
        pickles = sorted(p.name for pattern in PICKLE_PATTERNS for p in directory.glob(pattern))
        if pickles:
            raise InputError(
                f"{given}: holds only pickle weights ({pickles[0]}), which can run code when read; "
                "convert them to safetensors"
            )
        raise InputError(f"{given}: holds no *.safetensors weights; add them")
    if not any(name in names for name in TOKENIZER_FILES):
        raise InputError(
            f"{given}: holds no tokenizer; add its files (tokenizer.save_pretrained writes them)"
        )


def describe_weights(directory: Path, progress: Progress = no_progress) -> dict[str, Any]:
    """SHA-256 and size in bytes of a directory's safetensors weights.

    Of several files, the SHA-256 is that of the lines "<sha256>  <name>" sorted by name, as
    `sha256sum *.safetensors | sha256sum` computes it.
    """
    files = sorted(directory.glob("*.safetensors"))
    hashes = [sha256_of_file(file, progress) for file in files]
    lines = "".join(f"{sha}  {file.name}\n" for sha, file in zip(hashes, files, strict=True))
    return {
        "sha256": hashes[0] if len(hashes) == 1 else hashlib.sha256(lines.encode()).hexdigest(),
        "bytes": sum(file.stat().st_size for file in files),
    }


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the log and the progress bars of transformers and its hub client, then restore."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    hub_bars_disabled = are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if hub_bars_disabled:
            disable_progress_bars()


def one_line(error: BaseException) -> str:
    """The first non-empty line of an error's message, or its class where there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # A KeyError's message is the bare key.
    return f"KeyError: {lines[0]}" if isinstance(error, KeyError) else lines[0]
