"""The RoPE of each layer of a loaded model, confirmed by its modules and by what it computes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gpu_check.attention_interface import check_all_seen
from gpu_check.rope_config import (
    cos_and_sin,
    head_size,
    layer_type,
    missing,
    refuse_unsupported,
    rope_for_layer,
    rope_of_module,
    verify_against_model,
)
from gpu_check.rotation_probe import LayerProbe, probe_rotations
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope


@dataclass(frozen=True)
class Rotation:
    """The RoPE of a layer and `LayerCapture.angle_deviation`."""

    rope: Rope
    angle_deviation: float | None


@dataclass(frozen=True)
class _Frequencies:
    """One set of frequencies that a rotary module holds, for one layer type or for all."""

    module: Any
    layer_type: str | None


def verified_rotations(model: Any, layers: range | None, length: int) -> dict[int, Rotation]:
    """The rotation of each layer to capture, for a text of `length` positions.

    The numbers come from the configuration, held against the rotary module, or from that module
    where the configuration names none; layout, and whether a layer rotates at all, from a forward
    pass of one-token texts (`rotation_probe`), which must confirm all of it. layers: default all.

    Raises InputError if a layer does not exist or takes no part, if no frequencies are found, if
    configuration, module and forward pass disagree, or if no layer of the model rotates.
    """
    chosen = _chosen(model, layers)
    _check_told(model, chosen, length)
    probes = probe_rotations(model, length)
    check_all_seen([layer for layer in chosen if layer not in probes])
    return _rotations(model, {layer: probes[layer] for layer in chosen}, probes, length)


def model_ropes(model: Any, length: int) -> list[Rope]:
    """The Rope of every layer, in order, for a text of `length` positions.

    A layer without attention (of a hybrid model) has `Rope.none`. The model runs one-token texts
    and is left as it was found. Errors as for `verified_rotations`.
    """
    chosen = _chosen(model, None)
    with torch.no_grad(), left_as_found(model):
        model.eval()
        _check_told(model, chosen, length)
        probes = probe_rotations(model, length)
        if not probes:
            check_all_seen(list(chosen))
        found = _rotations(model, probes, probes, length)
    none = Rotation(Rope.none(head_size(model.config)), None)
    return [found.get(layer, none).rope for layer in chosen]


def rotary_modules(model: Any) -> list[tuple[str, Any]]:
    """The modules of the language model that hold RoPE frequencies, with their names in it."""
    language_model = model.get_decoder() if hasattr(model, "get_decoder") else model
    return [
        (name, module)
        for name, module in language_model.named_modules()
        if _prefixes(module) and "Vision" not in type(module).__name__
    ]


@contextmanager
def left_as_found(model: Any) -> Iterator[None]:
    """Put back what a forward pass changes: the mode, and frequencies that follow the text."""
    modes = [(module, module.training) for module in model.modules()]
    rotary = [module for _, module in rotary_modules(model)]
    attributes = [dict(vars(module)) for module in rotary]
    buffers = [dict(module._buffers) for module in rotary]
    # transformers writes "longrope" frequencies into the buffer, and replaces "dynamic" ones
    values = [
        {name: None if buffer is None else buffer.clone() for name, buffer in each.items()}
        for each in buffers
    ]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for i, module in enumerate(rotary):
            vars(module).clear()
            vars(module).update(attributes[i])
            module._buffers.clear()
            module._buffers.update(buffers[i])
            for name, value in values[i].items():
                if value is not None:
                    module._buffers[name].copy_(value)


def _chosen(model: Any, layers: range | None) -> range:
    count = model.config.get_text_config().num_hidden_layers
    chosen = range(count) if layers is None else layers
    if len(chosen) == 0:
        raise InputError(
            f"layers {chosen.start}:{chosen.stop}: no layer; the model has layers 0 to {count - 1}"
        )
    return chosen


def _check_told(model: Any, chosen: range, length: int) -> None:
    """Refuse before the model runs what its configuration and modules already rule out."""
    refuse_unsupported(model.config, length)
    has_module = bool(rotary_modules(model))
    for layer in chosen:
        try:
            told = rope_for_layer(model.config, layer, length)
        except InputError:
            if not has_module or layer >= model.config.get_text_config().num_hidden_layers:
                raise
        else:
            if told is None and not has_module:
                raise InputError(missing(model.config))


def _rotations(
    model: Any, chosen: Mapping[int, LayerProbe], probes: Mapping[int, LayerProbe], length: int
) -> dict[int, Rotation]:
    modules = rotary_modules(model)
    deviations: dict[Any, float | None] = {}
    found = {}
    for layer, probe in chosen.items():
        candidates = _candidates(model.config, modules, probe, length)
        rope = probe.choose(list(candidates))
        source = candidates.get(replace(rope, layout="half"))
        key = rope, source
        if key not in deviations:
            deviations[key] = _angle_deviation(rope, source, length, model.dtype)
        found[layer] = Rotation(rope, deviations[key])
    if all(rotation.rope.type == "none" for rotation in found.values()) and not any(
        probe.turns() for probe in probes.values()
    ):
        raise InputError(
            f"model type {model.config.get_text_config().model_type!r}: queries and keys turn with "
            "position_ids in no layer, so it has no rotary position embedding (RoPE), or takes its "
            "positions from elsewhere; choose a model with RoPE"
        )
    return found


def _candidates(
    config: Any, modules: list[tuple[str, Any]], probe: LayerProbe, length: int
) -> dict[Rope, _Frequencies | None]:
    """The Ropes that a layer may have, in layout "half", each with the module it stands in.

    What the configuration names goes first, and must agree with the module. Frequencies of modules
    that it does not explain count where it names none, or where a model has several modules.
    """
    layer, head_dim = probe.layer, probe.head_dim
    sets = _frequency_sets(modules, layer, layer_type(config, layer))
    told, problem = None, InputError(missing(config))
    try:
        told = rope_for_layer(config, layer, length, head_dim)
    except InputError as error:
        problem = error
    if told is not None and (told.type == "none" or not sets):
        return {told: None}
    found: dict[Rope, _Frequencies | None] = {}
    for each in sets:
        if told is not None:
            try:
                verify_against_model(told, each.module, length, each.layer_type)
                found.setdefault(told, each)
                continue
            except InputError as error:
                problem = error
        if told is None or len(sets) > 1:
            rope = rope_of_module(each.module, head_dim, length, each.layer_type)
            found.setdefault(rope, each)
    if not found:
        raise problem
    # the configuration's name for a rotation, where it has one, wins a tie
    return dict(sorted(found.items(), key=lambda item: item[0] != told))


def _frequency_sets(
    modules: list[tuple[str, Any]], layer: int, kind: str | None
) -> list[_Frequencies]:
    """The sets of frequencies that a layer can use: of its own module, else of shared ones."""
    own = [module for name, module in modules if f"layers.{layer}." in f"{name}."]
    shared = [module for name, module in modules if "layers." not in name]
    sets = []
    for module in own or shared:
        prefixes = _prefixes(module)
        if kind in prefixes:
            prefixes = [kind]
        sets += [_Frequencies(module, prefix) for prefix in prefixes]
    return sets


def _prefixes(module: Any) -> list[str | None]:
    """The layer types that a module keeps frequencies of; [None] for one set; [] for no RoPE."""
    names = [*module._buffers, *(name for name in vars(module) if name.endswith("inv_freq"))]
    found: list[str | None] = []
    for name in names:
        prefix = name.removesuffix("inv_freq")
        if prefix != name and not prefix.endswith("original_") and _is_vector(module, name):
            found.append(prefix.removesuffix("_") or None)
    return list(dict.fromkeys(found))


def _is_vector(module: Any, name: str) -> bool:
    value = getattr(module, name)
    return torch.is_tensor(value) and value.ndim == 1


def _angle_deviation(
    rope: Rope, source: _Frequencies | None, length: int, dtype: torch.dtype
) -> float | None:
    """Largest |arg((cos + i sin) e^{-i p theta})| over positions p and rotary channels, radians.

    None where no module computes cos and sin, or it cannot be called.
    """
    if source is None:
        return None
    found = cos_and_sin(source.module, np.arange(length), source.layer_type, dtype)
    pairs = rope.rotary_dim // 2
    if found is None or found[0].shape[-1] not in (pairs, 2 * pairs):
        return None
    cos, sin = (_once_per_channel(each, pairs) for each in found)
    positions = torch.arange(length, device=cos.device, dtype=torch.float64)
    angle = positions[:, None] * torch.tensor(rope.frequencies[:pairs], device=cos.device)
    turned = sin * angle.cos() - cos * angle.sin()
    along = cos * angle.cos() + sin * angle.sin()
    return float(torch.atan2(turned, along).abs().max())


def _once_per_channel(values: torch.Tensor, pairs: int) -> torch.Tensor:
    """(T, pairs) of the cos or sin (T, rotary_dim) in which each channel stands twice."""
    if values.shape[-1] == pairs:
        return values
    if torch.equal(values[:, :pairs], values[:, pairs:]):
        return values[:, :pairs]
    return values[:, ::2]
