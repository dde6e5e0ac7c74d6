"""Loading what a check runs on: a checkpoint, or a file of captured queries and keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_check.cache import Progress, cache_directory, no_progress, printable
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
from gpu_check.model_directory import (
    LoadOptions,
    describe_weights,
    load_directory,
    weight_files,
)
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
ROOM_FOR_WEIGHTS = 0.8
"""Share of a device's free memory for the weights of a spread model; the check needs the rest."""
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
    `spread`: the model lies on several devices, or partly on disk, and must not be moved.
    """

    model: Any
    tokenizer: Any
    id: str
    architecture: str
    context_length: int | None
    source: dict[str, Any]
    spread: bool = False


def load(
    model_id: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    cache_dir: Path | str | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    device_map: str | None = None,
) -> Checkpoint | CapturedTensors:
    """Load a checkpoint, or open a file of captured queries and keys.

    `model_id`: "smollm2-135m" (fetched once from the package index), a GGUF file, a local
    Hugging Face directory, a Hub id "org/name", or a .safetensors file as
    `gpu_check.captured_tensors` describes it. `device`: "auto", "cpu", "cuda" or "cuda:0", ....
    `dtype`: "float32", "float64", "bfloat16" or "float16"; captured tensors keep their own.
    `cache_dir`: instead of $TAPPA_CACHE or the user cache directory.

    `trust_remote_code`: run the Python code that a directory or Hub model brings along; without
    it none is run or fetched. `allow_pickle`: read pytorch_model*.bin where there is no
    safetensors file, tensors only (`weights_only`); without it pickle files are never opened.
    `device_map`: None, or "auto" to spread a model over the GPU or GPUs that `device` names, then
    the processor's memory, then a temporary folder on disk ($TMPDIR) that goes with the model.

    Raises InputError for everything that cannot be loaded.
    """
    progress = progress or no_progress
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype)
    if device_map not in (None, "none", "auto"):
        raise InputError(f"device map {device_map!r}: unknown; use auto or none")
    options = LoadOptions(
        dtype=torch_dtype,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        memory=None if device_map != "auto" else memory_to_use(device, torch_device),
    )
    if printable(model_id) != model_id:
        # safetensors opens no such path, and no report could name it.
        raise InputError(f"{printable(model_id)}: the name is not UTF-8; rename the file or folder")
    cache = cache_directory(cache_dir)
    path = Path(model_id).expanduser()

    if model_id == DEFAULT_ID:
        model, tokenizer, source = load_gguf(
            default_gguf(cache, progress),
            options,
            cache=cache,
            given=DEFAULT_ID,
            sha256=DEFAULT_SHA256,
            progress=progress,
        )
        source |= {"file": DEFAULT_FILE, "package": REQUIREMENT}
    elif model_id and path.is_dir():
        model, tokenizer = load_directory(path, options, given=model_id, progress=progress)
        source = {"file": model_id, **described(path, options, model_id, progress)}
    elif path.suffix.lower() == ".gguf":
        model, tokenizer, source = load_gguf(
            path, options, cache=cache, given=model_id, progress=progress
        )
    elif path.suffix.lower() == ".safetensors":
        return load_captured_tensors(path, device=torch_device, given=model_id, progress=progress)
    elif HUB_ID.fullmatch(model_id) and not path.exists():
        folder, revision = hub_directory(
            model_id,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            progress=progress,
        )
        model, tokenizer = load_directory(folder, options, given=model_id, progress=progress)
        source = {"file": model_id, **described(folder, options, model_id, progress), **revision}
    else:
        raise InputError(f"{model_id!r}: no such model or file; {ACCEPTED}")
    return finish(model, tokenizer, model_id, source, torch_device)


def finish(
    model: Any, tokenizer: Any, model_id: str, source: dict[str, Any], device: torch.device
) -> Checkpoint:
    """Put the model on its device, ready for inference, and describe it."""
    places = set(getattr(model, "hf_device_map", {}).values())
    spread = len(places) > 1 or "disk" in places
    # A device map has placed the model already, and accelerate forbids to move one that is spread.
    if not places:
        try:
            model = model.to(device)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{model_id}: does not fit in the memory of {device}; "
                "use --dtype bfloat16, --device-map auto or --device cpu"
            ) from error
    model.eval()
    model.requires_grad_(False)
    config = model.config
    method = quantization_method(config)
    return Checkpoint(
        model=model,
        tokenizer=tokenizer,
        id=name_of(model_id),
        architecture=printable(str((config.architectures or [type(model).__name__])[0])),
        context_length=getattr(config.get_text_config(), "max_position_embeddings", None),
        source={"quantization": method, **source},
        spread=spread,
    )


def described(folder: Path, options: LoadOptions, given: str, progress: Progress) -> dict[str, Any]:
    """SHA-256 and bytes of the weights that `load_directory` reads from a folder."""
    return describe_weights(
        weight_files(folder, given, allow_pickle=options.allow_pickle), progress
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
    return printable(str(entry.get("quant_method")))


def memory_to_use(name: str, device: torch.device) -> dict[int | str, int]:
    """Bytes of memory by device that a spread model may take, GPUs by number, then "cpu".

    `name` is the device as given: "auto" means every GPU, else the one that `device` is.
    """
    from accelerate.utils import get_max_memory  # type: ignore[import-untyped]

    found = get_max_memory()
    gpus = [place for place in found if isinstance(place, int)]
    if name != "auto":
        gpus = [] if device.type == "cpu" else [device.index or 0]
    # Where a GPU shares the processor's memory, accelerate names that memory only once.
    sizes = {place: found[place] for place in gpus} | {"cpu": found.get("cpu", max(found.values()))}
    return {place: int(ROOM_FOR_WEIGHTS * size) for place, size in sizes.items()}


def resolve_dtype(name: str) -> torch.dtype:
    """The torch type of that name, or InputError."""
    if name not in DTYPES:
        raise InputError(f"dtype {name!r}: unknown; use one of {', '.join(DTYPES)}")
    return DTYPES[name]


def resolve_device(name: str) -> torch.device:
    """The device of that name, "auto" being the first GPU if there is one; InputError if absent."""
    if name == "auto":
        cuda = torch.device("cuda")
        return cuda if torch.cuda.is_available() and _computes(cuda) else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (name != "cuda" and not (index.isascii() and index.isdigit())):
        raise InputError(f"device {name!r}: unknown; use auto, cpu, cuda or cuda:0, cuda:1, ...")
    if not torch.cuda.is_available():
        raise InputError(f"device {name!r}: no usable GPU on this machine; use --device cpu")
    if index and int(index) >= (count := torch.cuda.device_count()):
        there = "there is 1 GPU" if count == 1 else f"there are {count} GPUs"
        raise InputError(f"device {name!r}: {there}; use --device cuda or cpu")
    device = torch.device(name)
    if not _computes(device):
        raise InputError(
            f"device {name!r}: the installed torch {torch.__version__} cannot compute on this GPU "
            "(it is too old, its memory is full, or others keep it to themselves); use --device cpu"
        )
    return device


def _computes(device: torch.device) -> bool:
    """Does a kernel of the installed torch run there? Some GPUs are seen and too old for it."""
    try:
        return float(torch.ones(1, device=device).add_(1)) == 2
    except RuntimeError:
        return False
