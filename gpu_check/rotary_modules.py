"""The rotary embedding modules of a model: which layer uses which, and how exact they are."""

from dataclasses import dataclass
from typing import Any

import torch

from gpu_check.rope_config import rope_for_layer, verify_against_model
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope


@dataclass(frozen=True)
class Rotation:
    """The RoPE of a layer and `LayerCapture.angle_deviation`."""

    rope: Rope
    angle_deviation: float | None


def rotary_modules(model: Any) -> list[tuple[str, Any]]:
    """The rotary embedding modules of the language model, with their names in it."""
    language_model = model.get_decoder() if hasattr(model, "get_decoder") else model
    return [
        (name, module)
        for name, module in language_model.named_modules()
        if type(module).__name__.endswith("RotaryEmbedding")
        and "Vision" not in type(module).__name__
    ]


def verified_rotations(model: Any, layers: range | None, length: int) -> dict[int, Rotation]:
    """The rotation of each layer to capture, verified against the module that computes it."""
    config = model.config.get_text_config()
    chosen = range(config.num_hidden_layers) if layers is None else layers
    if len(chosen) == 0:
        raise InputError(
            f"layers {chosen.start}:{chosen.stop}: no layer; the model has layers 0 to "
            f"{config.num_hidden_layers - 1}"
        )
    ropes = {layer: rope_for_layer(config, layer, length) for layer in chosen}
    modules = rotary_modules(model)
    deviations: dict[Any, float | None] = {}
    found = {}
    for layer, rope in ropes.items():
        module = None if rope.type == "none" else _module_of_layer(modules, config, layer)
        if module is None:
            found[layer] = Rotation(rope, None)
            continue
        layer_type = _layer_type(config, layer)
        if not hasattr(module, f"{layer_type}_inv_freq"):
            layer_type = None  # one set of frequencies for all layers
        key = id(module), layer_type, rope
        if key not in deviations:
            verify_against_model(rope, module, length, layer_type)
            deviations[key] = _angle_deviation(rope, module, length, layer_type, model.dtype)
        found[layer] = Rotation(rope, deviations[key])
    return found


def _layer_type(config: Any, layer: int) -> str | None:
    layer_types = getattr(config, "layer_types", None)
    return layer_types[layer] if layer_types else None


def _module_of_layer(modules: list[tuple[str, Any]], config: Any, layer: int) -> Any | None:
    own = [module for name, module in modules if f"layers.{layer}." in f"{name}."]
    shared = {name: module for name, module in modules if "layers." not in name}
    if not own and "rotary_emb_local" in shared:  # Gemma-3 before transformers 5
        slides = _layer_type(config, layer) == "sliding_attention"
        own = [shared["rotary_emb_local" if slides else "rotary_emb"]]
    found = own or list(shared.values())
    if len(found) > 1:
        names = ", ".join(name for name, _ in modules)
        raise InputError(f"layer {layer}: which of the model's RoPEs ({names}) it uses is unknown")
    return found[0] if found else None


def _angle_deviation(
    rope: Rope, module: Any, length: int, layer_type: str | None, dtype: torch.dtype
) -> float:
    """Largest |arg((cos + i sin) e^{-i p theta})| over positions p and rotary channels, radians."""
    inv_freq = getattr(module, f"{layer_type}_inv_freq" if layer_type else "inv_freq")
    positions = torch.arange(length, device=inv_freq.device)
    hidden = torch.zeros(1, length, 1, dtype=dtype, device=inv_freq.device)
    arguments = (
        (hidden, positions[None]) if layer_type is None else (hidden, positions[None], layer_type)
    )
    pairs = rope.rotary_dim // 2
    cos, sin = (_once_per_channel(each[0].double(), pairs) for each in module(*arguments))
    theta = torch.tensor(rope.frequencies[:pairs], device=inv_freq.device)
    angle = positions[:, None].double() * theta
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
