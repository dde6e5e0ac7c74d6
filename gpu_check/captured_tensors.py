"""Captured queries and keys in a safetensors file: a model's vectors without the model.

Schema 1. Per captured layer n (counted from 0; any subset of the model's layers) two tensors:

    layers.{n}.q   (heads, T, head_dim)      queries after RoPE, positions 0..T-1
    layers.{n}.k   (kv_heads, T, head_dim)   keys after RoPE, heads a multiple of kv_heads

of one floating type, with one T throughout. Query head h reads key head h // (heads / kv_heads).
Metadata, each value a string holding JSON:

    tappa.schema          1
    tappa.rope            an object for all layers, or one object per layer, {"0": {...}, ...}:
                          "head_dim"; "layout" ("half" by default, or "interleaved");
                          "partial_rotary_factor", "length" (T by default) and
                          "max_position_embeddings" where they matter; and what transformers calls
                          the RoPE parameters ("rope_type", "rope_theta", "factor", ...);
                          "rope_type": "none" for a layer without RoPE
    tappa.scale           softmax scale: a number, or one per layer, {"0": ..., ...}
    tappa.model           optional: name of the model, a string
    tappa.text_sha256     optional: SHA-256 of the text's bytes, a string
    tappa.sliding_window  optional: visible keys per query, itself included: null, a number, or one
                          of these per layer
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_check.cache import Progress, no_progress, printable, save_safetensors, sha256_of_file
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

SCHEMA = 1
TENSOR_NAME = re.compile(r"layers\.(0|[1-9]\d*)\.([qk])")
DTYPES = {"F64", "F32", "F16", "BF16"}
REMEDY = "write the file with gpu_check.captured_tensors.save_captured_tensors"


@dataclass(frozen=True)
class CapturedTensors:
    """An opened file of captured queries and keys; the tensors are read layer by layer.

    `rope`, `scale` and `sliding_window` (None: none) are keyed by layer, as are `heads` and
    `kv_heads`. `tokens` is T. `source` holds file, sha256 and bytes.
    """

    path: Path
    id: str
    layers: tuple[int, ...]
    tokens: int
    heads: Mapping[int, int]
    kv_heads: Mapping[int, int]
    rope: Mapping[int, Rope]
    scale: Mapping[int, float]
    sliding_window: Mapping[int, int | None]
    model: str | None
    text_sha256: str | None
    device: torch.device
    source: Mapping[str, Any]

    def queries_and_keys(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """q (heads, T, head_dim) and k (kv_heads, T, head_dim) of one layer, both after RoPE.

        Raises InputError if the layer is not in the file or holds a number that is not finite.
        """
        if layer not in self.layers:
            raise InputError(
                f"{self.path}: layer {layer} is not in the file; it holds {self.layers}"
            )
        from safetensors import SafetensorError, safe_open

        names = (f"layers.{layer}.q", f"layers.{layer}.k")
        try:
            with safe_open(self.path, framework="pt", device=str(self.device)) as file:
                q, k = (file.get_tensor(name) for name in names)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path}: can no longer be read ({error})") from error
        for name, tensor in zip(names, (q, k), strict=True):
            if not torch.isfinite(tensor).all():
                raise InputError(
                    f"{self.path}: {name} holds numbers that are not finite; capture it again"
                )
        return q, k

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """(layer, q, k) in the order of layers, one layer in memory at a time."""
        for layer in self.layers:
            yield (layer, *self.queries_and_keys(layer))


def save_captured_tensors(
    path: Path | str,
    layers: Mapping[int, tuple[torch.Tensor, torch.Tensor]],
    *,
    rope: Mapping[Any, Any],
    scale: float | Mapping[int, float],
    sliding_window: int | Mapping[int, int | None] | None = None,
    model: str | None = None,
    text_sha256: str | None = None,
) -> None:
    """Write {layer: (q, k)} as a file of schema 1 (module docstring), whole or not at all.

    `rope` is one dict of RoPE parameters with "head_dim" for all layers, or {layer: such a dict}.
    Raises InputError, and leaves no file, for anything that `load_captured_tensors` would refuse.
    """
    path = Path(path)
    tensors = {
        f"layers.{layer}.{name}": tensor.detach().cpu().contiguous()
        for layer, pair in layers.items()
        for name, tensor in zip("qk", pair, strict=True)
    }
    metadata = {"tappa.schema": SCHEMA, "tappa.rope": rope, "tappa.scale": scale}
    metadata |= {"tappa.sliding_window": sliding_window}
    metadata |= {"tappa.model": model, "tappa.text_sha256": text_sha256}
    text = {key: json.dumps(value) for key, value in metadata.items() if value is not None}
    # q and k may be one tensor (or views of one) in a caller's experiment; the format wants copies.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    staged = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        save_safetensors(tensors, staged, text)
        for _ in load_captured_tensors(staged, given=str(path)):
            pass
        os.replace(staged, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        staged.unlink(missing_ok=True)


def load_captured_tensors(
    path: Path | str,
    *,
    device: torch.device | str = "cpu",
    given: str | None = None,
    progress: Progress = no_progress,
) -> CapturedTensors:
    """Open a file of schema 1 (module docstring) and check everything but the numbers themselves.

    `given` is the name by which errors call the file. Raises InputError for a file that is missing,
    damaged, of another schema, or inconsistent.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    given = given or str(path)
    if not path.is_file():
        raise InputError(f"{given}: no such file; give a safetensors file of captured q and k")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{given}: truncated or corrupt safetensors file; {REMEDY}") from error

    values = parse_metadata(metadata, given)
    layers = check_names(shapes, given)
    check_shapes(layers, shapes, dtypes, given)
    head_dim = {layer: shapes[f"layers.{layer}.q"][2] for layer in layers}
    ropes = per_layer(values["tappa.rope"], layers, "tappa.rope", given)
    scales = per_layer(values["tappa.scale"], layers, "tappa.scale", given)
    windows = per_layer(values.get("tappa.sliding_window"), layers, "tappa.sliding_window", given)
    model, text_sha256 = (values.get(key) for key in ("tappa.model", "tappa.text_sha256"))
    for key, value in (("tappa.model", model), ("tappa.text_sha256", text_sha256)):
        if value is not None and not isinstance(value, str):
            raise InputError(f"{given}: {key} is {value!r}, not a string; {REMEDY}")
    for layer in layers:
        check_scale(scales[layer], given)
        check_window(windows[layer], given)
    tokens = shapes[f"layers.{layers[0]}.q"][1]
    return CapturedTensors(
        path=path,
        id=printable(model) if model else path.stem,
        layers=layers,
        tokens=tokens,
        heads={layer: shapes[f"layers.{layer}.q"][0] for layer in layers},
        kv_heads={layer: shapes[f"layers.{layer}.k"][0] for layer in layers},
        rope={layer: build_rope(ropes[layer], head_dim[layer], tokens, given) for layer in layers},
        scale={layer: float(scales[layer]) for layer in layers},
        sliding_window=windows,
        model=None if model is None else printable(model),
        text_sha256=text_sha256,
        device=torch.device(device),
        source={
            "file": given,
            "sha256": sha256_of_file(path, progress),
            "bytes": path.stat().st_size,
        },
    )


def parse_metadata(metadata: Mapping[str, str], given: str) -> dict[str, Any]:
    """The decoded "tappa." entries of the metadata; InputError for an absent or broken one."""
    if "tappa.schema" not in metadata:
        raise InputError(
            f"{given}: no file of captured queries and keys (its metadata has no tappa.schema); "
            "for a model give its directory, not the weights file"
        )
    values = {}
    for key, text in metadata.items():
        if not key.startswith("tappa."):
            continue
        try:
            values[key] = json.loads(text)
        except ValueError as error:
            raise InputError(f"{given}: metadata {key} is not JSON; {REMEDY}") from error
    if values["tappa.schema"] != SCHEMA:
        raise InputError(f"{given}: schema {values['tappa.schema']!r} is not {SCHEMA}; {REMEDY}")
    for key in ("tappa.rope", "tappa.scale"):
        if key not in values:
            raise InputError(f"{given}: metadata has no {key}; {REMEDY}")
    return values


def check_names(shapes: Mapping[str, tuple[int, ...]], given: str) -> tuple[int, ...]:
    """The layers of a file, ascending; InputError if a tensor is unknown or lacks its partner."""
    present: dict[int, set[str]] = {}
    for name in shapes:
        match = TENSOR_NAME.fullmatch(name)
        if match is None:
            raise InputError(f"{given}: tensor {name!r} is not layers.N.q or layers.N.k; {REMEDY}")
        present.setdefault(int(match[1]), set()).add(match[2])
    if not present:
        raise InputError(f"{given}: holds no layers; {REMEDY}")
    for layer, names in sorted(present.items()):
        for absent in sorted({"q", "k"} - names):
            raise InputError(f"{given}: layers.{layer}.{absent} is missing; {REMEDY}")
    return tuple(sorted(present))


def check_shapes(
    layers: tuple[int, ...],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
    given: str,
) -> None:
    """InputError unless q is (heads, T, d) and k (kv_heads, T, d), with one T in all layers."""
    tokens = None
    for layer in layers:
        names = (f"layers.{layer}.q", f"layers.{layer}.k")
        q, k = (shapes[name] for name in names)
        for name in names:
            if len(shapes[name]) != 3 or 0 in shapes[name]:
                raise InputError(
                    f"{given}: {name} has shape {shapes[name]}, not (heads, T, head_dim); {REMEDY}"
                )
            if dtypes[name] not in DTYPES:
                raise InputError(f"{given}: {name} is {dtypes[name]}, not floating point; {REMEDY}")
        if q[1:] != k[1:]:
            raise InputError(
                f"{given}: layer {layer}: q {q} and k {k} differ in T or head_dim; {REMEDY}"
            )
        if q[0] % k[0]:
            raise InputError(
                f"{given}: layer {layer}: {q[0]} heads are no multiple of {k[0]} kv_heads; {REMEDY}"
            )
        if tokens not in (None, q[1]):
            raise InputError(
                f"{given}: layer {layer} has T = {q[1]}, layer {layers[0]} has {tokens}; {REMEDY}"
            )
        tokens = q[1]


def per_layer(value: Any, layers: tuple[int, ...], key: str, given: str) -> dict[int, Any]:
    """One value per layer, from one for all or from an object keyed by layer."""
    if not isinstance(value, dict) or "head_dim" in value:
        return dict.fromkeys(layers, value)
    for layer in layers:
        if str(layer) not in value:
            raise InputError(f"{given}: {key} says nothing about layer {layer}; {REMEDY}")
    return {layer: value[str(layer)] for layer in layers}


def check_scale(scale: Any, given: str) -> None:
    """InputError unless the softmax scale is a positive finite number."""
    number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
    if not number or not math.isfinite(scale) or scale <= 0:
        raise InputError(f"{given}: tappa.scale is {scale!r}, not a positive number; {REMEDY}")


def check_window(window: Any, given: str) -> None:
    """InputError unless the sliding window is null or a positive integer."""
    number = isinstance(window, int) and not isinstance(window, bool)
    if window is not None and (not number or window < 1):
        raise InputError(
            f"{given}: tappa.sliding_window is {window!r}, not null or a positive integer; {REMEDY}"
        )


def build_rope(entry: Any, head_dim: int, tokens: int, given: str) -> Rope:
    """The Rope that an entry of tappa.rope describes; InputError if it does not fit head_dim."""
    if not isinstance(entry, dict) or "head_dim" not in entry:
        raise InputError(f"{given}: tappa.rope is no object with head_dim; {REMEDY}")
    if entry["head_dim"] != head_dim:
        raise InputError(
            f"{given}: tappa.rope has head_dim {entry['head_dim']!r}, "
            f"the tensors {head_dim}; {REMEDY}"
        )
    optional = ("partial_rotary_factor", "layout", "length", "max_position_embeddings")
    keywords = {"length": tokens, **{key: entry[key] for key in optional if key in entry}}
    if entry.get("rope_type") == "none":
        return Rope.none(head_dim)
    parameters = {k: v for k, v in entry.items() if k != "head_dim" and k not in optional}
    try:
        return Rope.from_parameters(head_dim, parameters, **keywords)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{given}: tappa.rope: {error}") from error
