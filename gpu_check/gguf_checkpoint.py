"""GGUF files: checked before use, dequantised once, then loaded from a safetensors copy.

transformers takes 20 to 30 seconds to dequantise a 135M-parameter GGUF file and refuses to save
the outcome. The copy in the cache is written here: the state dict with tied weights stored once,
the configuration free of its quantisation entry, and the tokenizer, in a folder named by the
SHA-256 of the GGUF file and the major version of transformers.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gpu_check.cache import (
    CACHE_VARIABLE,
    Progress,
    no_progress,
    publish,
    save_safetensors,
    sha256_of_file,
    staging_directory,
)
from gpu_check.gguf_header import FRESH_COPY, read_header
from gpu_check.model_directory import LoadOptions, load_directory, one_line, quiet_transformers
from tappa_theory.errors import InputError

WEIGHTS = "model.safetensors"
ORIGIN = "source.json"


def load_gguf(
    path: Path,
    options: LoadOptions,
    *,
    cache: Path,
    given: str | None = None,
    sha256: str | None = None,
    progress: Progress = no_progress,
) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer and source of a GGUF file, through its dequantised copy in `cache`.

    The source holds file, sha256, bytes and quantization ("Q4_1", ...). Without a writable cache
    the model is dequantised on every call. Raises InputError if the file is missing, is not GGUF,
    is truncated, or holds a model that transformers cannot load or would load with wrong
    frequencies.
    """
    given = given or str(path)
    require_gguf(path, given)
    sha256 = sha256 or sha256_of_file(path, progress)
    copy = cache / "dequantised" / f"{sha256}-transformers-{transformers_major()}"
    source = {"file": given, "sha256": sha256, "bytes": path.stat().st_size}

    origin = read_origin(copy, progress)
    if origin is None:
        quantization = inspect_gguf(path, given)
        model, tokenizer = dequantise(path, given, progress)
        origin = {**source, "file": path.name, "quantization": quantization}
        if not write_copy(copy, model, tokenizer, origin, progress):
            if options.memory is not None:
                raise InputError(
                    f"{cache}: cannot be written, and a GGUF model is spread over devices from its "
                    f"copy there; set {CACHE_VARIABLE} to a folder that can be written"
                )
            return model.to(options.dtype), tokenizer, {**source, "quantization": quantization}
        # Loaded again from the copy, so that a first and a second run see the same model object.
        del model
    model, tokenizer = load_directory(copy, options, given=given, progress=progress)
    return model, tokenizer, {**source, "quantization": origin["quantization"]}


def require_gguf(path: Path, given: str) -> None:
    """Raise InputError unless the file can be read and begins as GGUF version 2 or 3 does."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except FileNotFoundError as error:
        raise InputError(f"{given}: no such file; give the path of a GGUF file") from error
    except OSError as error:
        raise InputError(f"{given}: cannot be read ({error.strerror}); check the path") from error
    if head[:4] != b"GGUF":
        raise InputError(f"{given}: not a GGUF file (it does not begin with 'GGUF'); {FRESH_COPY}")
    if len(head) < 8:
        raise InputError(f"{given}: truncated GGUF file ({len(head)} bytes); {FRESH_COPY}")
    if struct.unpack("<I", head[4:])[0] not in (2, 3):
        raise InputError(
            f"{given}: a GGUF version other than 2 and 3 (or big-endian); convert it with llama.cpp"
        )


def inspect_gguf(path: Path, given: str) -> str:
    """Read header and tensor table; the name of the tensor type that most weights have.

    Raises InputError if a table is damaged, if tensor data lies beyond the end of the file, or if
    the file scales its RoPE frequencies, which transformers would drop in silence.
    """
    header = read_header(path, given)
    architecture = header.architecture
    if not architecture or not header.tensors:
        raise InputError(f"{given}: a GGUF file without a model in it; {FRESH_COPY}")
    layers = header.metadata.get(f"{architecture}.block_count", 0)
    # Every layer has tensors; transformers would build whatever number of layers is claimed.
    if not isinstance(layers, int) or layers > len(header.tensors):
        raise InputError(
            f"{given}: corrupt GGUF file ({layers} layers, {len(header.tensors)} tensors); "
            f"{FRESH_COPY}"
        )
    scaling = header.text(f"{architecture}.rope.scaling.type") or "none"
    factors = [tensor.name for tensor in header.tensors if tensor.name.startswith("rope_f")]
    if architecture != "gpt-oss" and (factors or scaling != "none"):
        raise InputError(
            f"{given}: its RoPE frequencies are scaled ({[*factors, scaling][0]!r:.80}), "
            "which transformers does not read from GGUF; give the safetensors checkpoint"
        )
    elements: dict[str, int] = {}
    for tensor in header.tensors:
        elements[tensor.type] = elements.get(tensor.type, 0) + tensor.elements
    return max(elements, key=lambda name: elements[name])


def dequantise(path: Path, given: str, progress: Progress) -> tuple[Any, Any]:
    """Model in float32 and tokenizer, read from the GGUF file by transformers itself."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    progress(f"Dequantising {path.name} (once)", None, None)
    with quiet_transformers(), gguf_bars_to(progress, path.name):
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                str(path.parent),
                gguf_file=path.name,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **dense(),
            )
            tokenizer = AutoTokenizer.from_pretrained(
                str(path.parent), gguf_file=path.name, local_files_only=True
            )
        except Exception as error:
            raise InputError(
                f"{given}: transformers cannot load this GGUF file ({one_line(error)}); "
                "give a Hugging Face directory of the model instead"
            ) from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"{given}: {len(missing)} weights are missing, {missing[0]} among them; {FRESH_COPY}"
        )
    return model, tokenizer


def dense() -> dict[str, Any]:
    """Keywords with which transformers unpacks the weights, whatever else is installed.

    Since 5.23 it keeps them packed where it finds the package `kernels`, and fetches code from the
    Hub to multiply with them.
    """
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


@contextmanager
def gguf_bars_to(progress: Progress, name: str) -> Iterator[None]:
    """Report transformers' loop over GGUF tensors to `progress`, in place of its own bar.

    That bar is tqdm's own and heeds no setting of transformers, so the name is exchanged for the
    length of the call; a release that keeps it elsewhere just shows its bar.
    """
    from transformers import modeling_gguf_pytorch_utils as module

    original = getattr(module, "tqdm", None)

    def reported(items: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        items = list(items)
        for done, item in enumerate(items):
            progress(f"Dequantising {name} (once)", done, len(items))
            yield item
        progress(f"Dequantising {name} (once)", len(items), len(items))

    if original is not None:
        module.tqdm = reported
    try:
        yield
    finally:
        if original is not None:
            module.tqdm = original


def write_copy(
    copy: Path, model: Any, tokenizer: Any, origin: dict[str, Any], progress: Progress
) -> bool:
    """Write the dequantised copy whole or not at all; False, with a notice, if it cannot be."""
    from safetensors import SafetensorError

    progress("Saving the dequantised copy", None, None)
    try:
        with staging_directory(copy.parent) as staging:
            folder = staging / copy.name
            folder.mkdir()
            save_safetensors(stored_tensors(model), folder / WEIGHTS, {"format": "pt"})
            config = model.config.to_dict()
            config.pop("quantization_config", None)
            # The checkpoint's own internal name, or a path: neither says anything about the copy.
            config.pop("_name_or_path", None)
            config.pop("_model_name_or_path", None)
            config["architectures"] = config.get("architectures") or [type(model).__name__]
            (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            with quiet_transformers():
                tokenizer.save_pretrained(folder)
            origin = {**origin, "weights_sha256": sha256_of_file(folder / WEIGHTS)}
            (folder / ORIGIN).write_text(json.dumps(origin, indent=2), encoding="utf-8")
            publish(folder, copy)
    except (OSError, SafetensorError) as error:
        progress(f"Not cached: {copy.parent} cannot be written ({one_line(error)})", None, None)
        return False
    return True


def stored_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name, a tensor with two names only under its first."""
    persistent = model.state_dict()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    tensors = {**dict(model.named_parameters()), **buffers}
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def read_origin(copy: Path, progress: Progress) -> dict[str, Any] | None:
    """What a dequantised copy was made from; None if there is none or it is damaged.

    A damaged copy is moved out of the way: this program made it and can make it again.
    """
    if not copy.is_dir():
        return None
    try:
        origin = json.loads((copy / ORIGIN).read_text(encoding="utf-8"))
        if sha256_of_file(copy / WEIGHTS, progress) == origin["weights_sha256"]:
            return origin
    except (OSError, ValueError, KeyError, TypeError):
        pass
    progress(f"The dequantised copy {copy} is damaged; it is made again", None, None)
    try:
        with staging_directory(copy.parent) as staging:
            os.replace(copy, staging / copy.name)
    except OSError as error:
        raise InputError(f"{copy}: damaged and cannot be replaced; delete this folder") from error
    return None


def transformers_major() -> str:
    """The first number of transformers' version: configurations differ between major versions."""
    import transformers

    return transformers.__version__.split(".")[0]
