"""Loading a local Hugging Face directory: no network, and no pickle and no code unless allowed."""

from __future__ import annotations

import hashlib
import json
import logging as python_logging
import pickle
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LONGEST_LINE = 300
"""Characters of another library's message; some repeat what a file told them."""
LFS_POINTER = b"version https://git-lfs"
CODE_SETTINGS = ("attn_implementation", "_attn_implementation", "experts_implementation")
"""Configuration entries that may name a repository of compute kernels, which is code."""


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded; `gpu_check.checkpoints.load` tells what each entry means.

    `memory`: bytes by device (GPU number or "cpu") over which to spread the model; None puts it on
    the CPU in one piece.
    """

    dtype: torch.dtype = torch.float32
    trust_remote_code: bool = False
    allow_pickle: bool = False
    memory: Mapping[int | str, int] | None = None


def load_directory(
    directory: Path,
    options: LoadOptions,
    *,
    given: str | None = None,
    progress: Progress = no_progress,
) -> tuple[Any, Any]:
    """Model and tokenizer of a Hugging Face directory, on the CPU or spread as `options` say.

    `given` is the name by which errors call the input. Raises InputError if the directory is
    empty, has no configuration, no tokenizer, no weights of a kind that may be read, a damaged or
    missing weights file, or if transformers cannot load it without running code from it.
    """
    given = given or str(directory)
    config = read_config(directory, given)
    files = weight_files(directory, given, allow_pickle=options.allow_pickle)
    require_tokenizer(directory, given)
    check_config(config, files, given, trust_remote_code=options.trust_remote_code)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    progress(f"Loading {given}", None, None)
    local = {"local_files_only": True, "trust_remote_code": options.trust_remote_code}
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(directory), **local)
        # A tokenizer file can be wrong in as many ways as there are tokenizer libraries.
        except Exception as error:
            refuse_code(error, given, "tokenizer")
            raise InputError(
                f"{given}: its tokenizer cannot be loaded ({one_line(error)}); "
                "save it again with tokenizer.save_pretrained"
            ) from error
        try:
            with placement(options.memory) as (keywords, keep_until_gone):
                model, info = AutoModelForCausalLM.from_pretrained(
                    str(directory),
                    dtype=options.dtype,
                    use_safetensors=files[0].suffix == ".safetensors",
                    weights_only=True,
                    output_loading_info=True,
                    **local,
                    **keywords,
                )
                keep_until_gone(model)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{given}: does not fit in the memory of the GPU; use --dtype bfloat16 or "
                "--device cpu"
            ) from error
        except Exception as error:
            refuse_code(error, given, "model")
            refuse_unsafe_pickle(error, given)
            name = "it" if files[0].suffix == ".safetensors" else f"it from {files[0].name}"
            raise InputError(
                f"{given}: transformers cannot load {name} ({one_line(error)}); give a causal "
                "language model that transformers knows, saved with model.save_pretrained"
            ) from error
    # transformers fills absent weights with random numbers and only logs it.
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"{given}: {len(missing)} weights are missing, {missing[0]} among them; "
            "give a complete checkpoint of a causal language model"
        )
    return model, tokenizer


@contextmanager
def placement(memory: Mapping[int | str, int] | None) -> Iterator[tuple[dict[str, Any], Any]]:
    """Keywords for from_pretrained that spread a model, and a function to call with the model.

    What fits on no device goes to a temporary folder, removed with the model or at exit.
    """
    if memory is None:
        yield {}, lambda model: None
        return
    folder = tempfile.mkdtemp(prefix="tappa-offload-")
    kept = False

    def keep_until_gone(model: Any) -> None:
        nonlocal kept
        weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
        kept = True

    try:
        yield (
            {"device_map": "auto", "max_memory": dict(memory), "offload_folder": folder},
            keep_until_gone,
        )
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def read_config(directory: Path, given: str) -> dict[str, Any]:
    """The configuration of a directory as it stands in the file; InputError if there is none."""
    names = names_in(directory, given)
    if "config.json" not in names:
        gguf = sorted(name for name in names if name.endswith(".gguf"))
        if gguf:
            remedy = f"give the GGUF file itself, {given.rstrip('/')}/{gguf[0]}"
        elif "adapter_config.json" in names:
            remedy = "it is an adapter: merge it into its model (PEFT's merge_and_unload) and save"
        else:
            remedy = "give a Hugging Face directory (config.json, *.safetensors, tokenizer files)"
        raise InputError(f"{given}: holds no config.json; {remedy}")
    return read_json(directory / "config.json", given)


def read_json(path: Path, given: str) -> dict[str, Any]:
    """The JSON object in a file of a directory; InputError, naming the file, if it is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    # Brackets nested beyond Python's stack end in a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{given}: {path.name} is not JSON ({one_line(error)}); fetch the file again"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{given}: {path.name} holds no JSON object; fetch the file again")
    return value


def names_in(directory: Path, given: str) -> set[str]:
    """Names of the entries of a directory; InputError if it is empty or cannot be read."""
    try:
        names = {entry.name for entry in directory.iterdir()}
    except OSError as error:
        raise InputError(f"{given}: cannot be read ({error.strerror}); check the path") from error
    if not names:
        raise InputError(f"{given}: the directory is empty; give one with a saved model")
    return names


def require_tokenizer(directory: Path, given: str) -> None:
    """Raise InputError unless there is a tokenizer file."""
    if not names_in(directory, given).intersection(TOKENIZER_FILES):
        raise InputError(
            f"{given}: holds no tokenizer; add its files (tokenizer.save_pretrained writes them)"
        )


def weight_files(directory: Path, given: str, *, allow_pickle: bool) -> list[Path]:
    """The files that hold a directory's weights, each there and of the kind that may be read.

    The same choice as transformers': model.safetensors, else the shards its index names, else
    (with `allow_pickle`) pytorch_model.bin, else the shards of its index. Raises InputError, naming
    the file, if one is missing, or if none may be read.
    """
    names = names_in(directory, given)
    for name in (SAFETENSORS, PICKLE) if allow_pickle else (SAFETENSORS,):
        if name in names:
            return [directory / name]
        if f"{name}.index.json" in names:
            return shards(directory, f"{name}.index.json", given)
    others = sorted(name for name in names if name.endswith(".safetensors"))
    if others:
        raise InputError(
            f"{given}: holds {others[0]}, but neither {SAFETENSORS} nor {SAFETENSORS}.index.json; "
            "add the missing file"
        )
    pickles = sorted(path.name for pattern in PICKLE_PATTERNS for path in directory.glob(pattern))
    if pickles and not allow_pickle:
        raise InputError(
            f"{given}: holds only pickle weights ({pickles[0]}), which can run code when read; "
            "convert them to safetensors, or pass --allow-pickle to read tensors from them"
        )
    if pickles:
        raise InputError(
            f"{given}: holds {pickles[0]}, but neither {PICKLE} nor {PICKLE}.index.json; "
            "convert it to safetensors"
        )
    raise InputError(f"{given}: holds no *.safetensors weights; add them")


def shards(directory: Path, index: str, given: str) -> list[Path]:
    """The files that an index names, sorted; InputError if one is missing or of another kind."""
    weight_map = read_json(directory / index, given).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{given}: {index} has no weight_map; fetch the file again")
    # transformers chooses how to read a shard by its name: a pickle must not come in this way.
    suffix = Path(index.removesuffix(".index.json")).suffix
    found = sorted(map(str, set(weight_map.values())))
    for name in found:
        if Path(name).name != name or not name.endswith(suffix):
            raise InputError(
                f"{given}: {index} names {name!r}, which is no {suffix} file of this directory; "
                "fetch the index again"
            )
        if not (directory / name).is_file():
            raise InputError(
                f"{given}: {name} is missing ({index} names it); add the file, "
                f"or fetch the {len(found)} shards again"
            )
    return [directory / name for name in found]


def check_config(
    config: Mapping[str, Any], files: list[Path], given: str, *, trust_remote_code: bool
) -> None:
    """Raise InputError for a damaged weights file, or a configuration not to be handed on.

    transformers would follow a configuration to code on the Hub, to a pickle file, or into building
    a billion layers.
    """
    tensors = None
    if files[0].suffix == ".safetensors":
        tensors = sum(tensors_in(file, given) for file in files)
    if "transformers_weights" in config:
        raise InputError(
            f"{given}: config.json names a weights file of its own (transformers_weights); "
            f"remove the entry and call the file {SAFETENSORS}"
        )
    text_config = config.get("text_config")
    for part in (config, text_config if isinstance(text_config, dict) else {}):
        for key in CODE_SETTINGS:
            if "/" in str(part.get(key, "")) and not trust_remote_code:
                raise InputError(
                    f"{given}: config.json asks for code from the Hub ({key} is {part[key]!r}); "
                    f"remove the entry, or pass --trust-remote-code if you trust that code"
                )
        layers = part.get("num_hidden_layers")
        if tensors is not None and isinstance(layers, int) and layers > tensors:
            raise InputError(
                f"{given}: config.json claims {layers} layers, the weights hold {tensors} tensors; "
                "give a complete checkpoint"
            )


def tensors_in(file: Path, given: str) -> int:
    """Number of tensors in a safetensors file; InputError, naming it, if it is damaged.

    Only the header is read, and its claims are compared with the size of the file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with file.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise InputError(
                    f"{given}: {file.name} is a Git LFS pointer, not weights; run `git lfs pull`"
                )
        with safe_open(file, framework="pt") as opened:
            return len(opened.keys())
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{given}: {file.name} is truncated or corrupt ({one_line(error)}); fetch it again"
        ) from error


def refuse_code(error: BaseException, given: str, what: str) -> None:
    """Raise InputError if an error of transformers says that code of the checkpoint is needed."""
    if "trust_remote_code" in str(error):
        raise InputError(
            f"{given}: its {what} is code of its own (auto_map), which is not run; read that code, "
            "and pass --trust-remote-code if you trust it"
        ) from error


def refuse_unsafe_pickle(error: BaseException, given: str) -> None:
    """Raise InputError if an error came from a pickle file with more in it than tensors."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, pickle.UnpicklingError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        raise InputError(
            f"{given}: its pickle weights hold more than tensors, or are damaged; nothing in them "
            "was run; give safetensors weights"
        ) from error


def describe_weights(files: list[Path], progress: Progress = no_progress) -> dict[str, Any]:
    """SHA-256 and size in bytes of the files that hold the weights.

    Of several files, the SHA-256 is that of the lines "<sha256>  <name>" sorted by name, as
    `sha256sum *.safetensors | sha256sum` computes it.
    """
    files = sorted(files)
    hashes = [sha256_of_file(file, progress) for file in files]
    lines = "".join(f"{sha}  {file.name}\n" for sha, file in zip(hashes, files, strict=True))
    return {
        "sha256": hashes[0] if len(hashes) == 1 else hashlib.sha256(lines.encode()).hexdigest(),
        "bytes": sum(file.stat().st_size for file in files),
    }


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence log, warnings and progress bars of transformers, accelerate and the hub client."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    hub_bars_disabled = are_progress_bars_disabled()
    accelerate = python_logging.getLogger("accelerate")
    accelerate_level = accelerate.level
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    accelerate.setLevel(python_logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        accelerate.setLevel(accelerate_level)
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
    line = f"KeyError: {lines[0]}" if isinstance(error, KeyError) else lines[0]
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."
