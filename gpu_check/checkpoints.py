"""Loading what a check runs on: a checkpoint, or a file of captured queries and keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_check.cache import Progress, cache_directory, no_progress
from gpu_check.captured_tensors import (
    CapturedTensors,
    load_captured_tensors,
    save_captured_tensors,
)
from gpu_check.default_checkpoint import FILE as DEFAULT_FILE
from gpu_check.default_checkpoint import ID as DEFAULT_ID
from gpu_check.default_checkpoint import REQUIREMENT, default_gguf
from gpu_check.default_checkpoint import SHA256 as DEFAULT_SHA256
from gpu_check.gguf_checkpoint import load_gguf
from gpu_check.hub import HUB_ID, hub_directory
from gpu_check.model_directory import describe_weights, load_directory
from tappa_theory.errors import InputError

__all__ = [
    "DEFAULT_ID",
    "CapturedTensors",
    "Checkpoint",
    "Progress",
    "load",
    "load_captured_tensors",
    "save_captured_tensors",
]

ACCEPTED = (
    f"give {DEFAULT_ID}, a GGUF file, a Hugging Face directory, a Hub id (org/name), "
    "or a .safetensors file of captured queries and keys"
)
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Checkpoint:
    """A causal language model ready for inference, with its tokenizer and its provenance.

    `model` is in evaluation mode, its parameters require no gradient. `context_length` counts
    tokens, None where the configuration names none. `source` holds file (as it was given), sha256,
    bytes and quantization (None, or "Q4_1", ...), and `package` or `revision` where there is one.
    """

    model: Any
    tokenizer: Any
    id: str
    architecture: str
    context_length: int | None
    source: dict[str, Any]


def load(
    model_id: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    cache_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Checkpoint | CapturedTensors:
    """Load a checkpoint, or open a file of captured queries and keys.

    `model_id`: "smollm2-135m" (fetched once from the package index), a GGUF file, a local
    Hugging Face directory (safetensors), a Hub id "org/name", or a .safetensors file as
    `gpu_check.captured_tensors` describes it. `device`: "auto", "cpu", "cuda" or "cuda:0", ....
    `dtype`: "float32", "float64", "bfloat16" or "float16"; captured tensors keep their own.
    `cache_dir`: instead of $TAPPA_CACHE or the user cache directory. Pickle files are never read
    and no code of a checkpoint is run. Raises InputError for everything that cannot be loaded.
    """
    progress = progress or no_progress
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype)
    cache = cache_directory(cache_dir)
    path = Path(model_id).expanduser()

    if model_id == DEFAULT_ID:
        model, tokenizer, source = load_gguf(
            default_gguf(cache, progress),
            dtype=torch_dtype,
            cache=cache,
            given=DEFAULT_ID,
            sha256=DEFAULT_SHA256,
            progress=progress,
        )
        source |= {"file": DEFAULT_FILE, "package": REQUIREMENT}
    elif model_id and path.is_dir():
        model, tokenizer = load_directory(
            path, dtype=torch_dtype, given=model_id, progress=progress
        )
        source = {"file": model_id, **describe_weights(path, progress)}
    elif path.suffix.lower() == ".gguf":
        model, tokenizer, source = load_gguf(
            path, dtype=torch_dtype, cache=cache, given=model_id, progress=progress
        )
    elif path.suffix.lower() == ".safetensors":
        return load_captured_tensors(path, device=torch_device, given=model_id, progress=progress)
    elif HUB_ID.fullmatch(model_id) and not path.exists():
        folder, revision = hub_directory(model_id, progress=progress)
        model, tokenizer = load_directory(
            folder, dtype=torch_dtype, given=model_id, progress=progress
        )
        source = {"file": model_id, **describe_weights(folder, progress), **revision}
    else:
        raise InputError(f"{model_id!r}: no such model or file; {ACCEPTED}")
    return finish(model, tokenizer, model_id, source, torch_device)


def finish(
    model: Any, tokenizer: Any, model_id: str, source: dict[str, Any], device: torch.device
) -> Checkpoint:
    """Put the model on its device, ready for inference, and describe it."""
    try:
        model = model.to(device)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{model_id}: does not fit in the memory of {device}; "
            "use --dtype bfloat16 or --device cpu"
        ) from error
    model.eval()
    model.requires_grad_(False)
    config = model.config
    method = quantization_method(config)
    return Checkpoint(
        model=model,
        tokenizer=tokenizer,
        id=name_of(model_id),
        architecture=(config.architectures or [type(model).__name__])[0],
        context_length=getattr(config.get_text_config(), "max_position_embeddings", None),
        source={"quantization": method, **source},
    )


def name_of(model_id: str) -> str:
    """The id as given for the default checkpoint and the Hub, else the last part of the path."""
    path = Path(model_id).expanduser()
    return path.resolve().name if path.exists() else model_id


def quantization_method(config: Any) -> str | None:
    """The quantisation that a configuration names ("gptq", ...), None for plain weights."""
    entry = getattr(config, "quantization_config", None)
    if entry is None:
        return None
    entry = entry if isinstance(entry, dict) else entry.to_dict()
    return str(entry.get("quant_method"))


def resolve_dtype(name: str) -> torch.dtype:
    """The torch type of that name, or InputError."""
    if name not in DTYPES:
        raise InputError(f"dtype {name!r}: unknown; use one of {', '.join(DTYPES)}")
    return DTYPES[name]


def resolve_device(name: str) -> torch.device:
    """The device of that name, "auto" being the first GPU if there is one; InputError if absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (name != "cuda" and not (index.isascii() and index.isdigit())):
        raise InputError(f"device {name!r}: unknown; use auto, cpu, cuda or cuda:0, cuda:1, ...")
    if not torch.cuda.is_available():
        raise InputError(f"device {name!r}: no usable GPU on this machine; use --device cpu")
    if index and int(index) >= (count := torch.cuda.device_count()):
        raise InputError(f"device {name!r}: there are {count} GPUs; use --device cuda or cpu")
    return torch.device(name)
