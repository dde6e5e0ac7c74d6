"""What a transformers configuration says about the rotary position embedding of each layer.

It tells frequencies, not how components pair up, nor which layers leave RoPE out: that is read off
the running model (`rotation_probe`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tappa_theory.arrays import to_numpy
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.rope_precision import frequency_error

_FLOAT32_UNIT = 2.0**-24


def rope_for_layer(
    config: Any, layer: int, length: int | None = None, head_dim: int | None = None
) -> Rope | None:
    """The Rope that a configuration names for one layer, for a text of `length` positions.

    config: a transformers configuration (5.x `rope_parameters`, flat or one per layer type, or
        4.56+ `rope_theta` and `rope_scaling`). layer counts from 0. head_dim: where it is known
        better than the configuration tells it.
    The layout is left at "half": no configuration tells it. None if the configuration names no
    base; `Rope.none` if it says that this layer has no RoPE.

    Raises InputError if the layer does not exist, or if its parameters are of a kind that is not
    supported.
    """
    config = config.get_text_config()
    if not 0 <= layer < config.num_hidden_layers:
        raise InputError(f"layer {layer} does not exist; the model has {config.num_hidden_layers}")
    head_dim = head_dim or head_size(config)
    parameters = _parameters(config, layer_type(config, layer))
    if parameters is None:
        return Rope.none(head_dim)
    if parameters.get("rope_theta") is None:
        return None
    return Rope.from_parameters(
        head_dim,
        parameters,
        length=length,
        max_position_embeddings=getattr(config, "max_position_embeddings", None),
    )


def missing(config: Any) -> str:
    """What to say about a model that tells no RoPE frequencies anywhere."""
    return (
        f"model type {config.get_text_config().model_type!r} shows no rotary position embedding "
        "(RoPE): no rope_theta in its configuration, no inv_freq in a module; choose a model with "
        "RoPE, such as Llama, Qwen or Gemma"
    )


def refuse_unsupported(config: Any, length: int) -> None:
    """Raise InputError for what the configuration tells and one-token texts would not show."""
    config = config.get_text_config()
    if getattr(config, "qk_rope_head_dim", None) is not None:
        raise InputError(
            f"model type {config.model_type!r} uses multi-head latent attention, whose split "
            "rotary heads are not supported; choose a model with ordinary heads"
        )
    if getattr(config, "alibi", False):  # Falcon; the base in its configuration is not used then
        raise InputError(
            f"model type {config.model_type!r} adds biases to its logits (ALiBi) in place of a "
            "rotary position embedding (RoPE); choose a model with RoPE"
        )
    # Llama-4 scales queries by the row they stand in, whatever position_ids says
    if getattr(config, "attn_temperature_tuning", False):
        first = int(getattr(config, "floor_scale", 1)) - 1
        if length > first:
            raise InputError(
                f"model type {config.model_type!r} scales queries with their position from "
                f"position {first} on (attn_temperature_tuning); use --tokens {first} or fewer"
            )


def head_size(config: Any) -> int:
    """Number of components of a query, as the configuration tells it."""
    config = config.get_text_config()
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def layer_type(config: Any, layer: int) -> str | None:
    """What the configuration calls this kind of layer; None where it does not."""
    layer_types = getattr(config.get_text_config(), "layer_types", None)
    return layer_types[layer] if layer_types else None


def frequency_tolerance(rope: Rope) -> np.ndarray:
    """Bound (r/2,) on |float32 - float64| frequency of the rotary channels, radians per position.

    Raises InputError for a blend without a base.
    """
    theta = rope.frequencies[: rope.rotary_dim // 2]
    return theta * frequency_error(rope, _FLOAT32_UNIT)


def verify_against_model(
    rope: Rope, rotary_module: Any, length: int, layer_type: str | None = None
) -> None:
    """Check the numbers of a Rope against the rotary embedding module of the loaded model.

    Compares `inv_freq` within `frequency_tolerance` and `attention_scaling` within float32
    precision. length: number of positions of the text; the module is called with its last
    position, because "dynamic" and "longrope" adapt to it. layer_type: for modules that keep one
    set of frequencies per layer type (Gemma-3); None otherwise. A Rope of type "none" has nothing
    to compare.

    Raises InputError naming what differs.
    """
    if rope.type == "none":
        return
    cos_and_sin(rotary_module, np.array([0, max(length - 1, 0)]), layer_type)
    _verify_frequencies(rope, _frequencies(rotary_module, layer_type))
    model_scaling = float(module_value(rotary_module, "attention_scaling", layer_type, 1.0))
    if not abs(model_scaling - rope.attention_scaling) <= 2 * _FLOAT32_UNIT * model_scaling:
        raise InputError(
            f"the model's RoPE attention_scaling is {model_scaling:.9g} where its configuration "
            f"gives {rope.attention_scaling:.9g}; check attention_factor, factor and mscale"
        )


def rope_of_module(
    rotary_module: Any, head_dim: int, length: int, layer_type: str | None = None
) -> Rope:
    """The Rope that a rotary embedding module holds: type "module", base unknown, layout "half".

    Arguments as for `verify_against_model`. Raises InputError if its frequencies are kept in 16
    bits or do not fit the head size.
    """
    cos_and_sin(rotary_module, np.array([0, max(length - 1, 0)]), layer_type)
    theta = _frequencies(rotary_module, layer_type)
    if theta.ndim != 1 or 2 * theta.size > head_dim:
        raise InputError(
            f"{type(rotary_module).__name__} holds inv_freq of shape {theta.shape}, which does not "
            f"fit heads of size {head_dim}; its RoPE is not supported"
        )
    padding = np.zeros(head_dim // 2 - theta.size)
    scaling = float(module_value(rotary_module, "attention_scaling", layer_type, 1.0))
    return Rope(np.concatenate([theta, padding]), "half", 2 * theta.size, scaling, "module")


def cos_and_sin(
    rotary_module: Any,
    positions: np.ndarray,
    layer_type: str | None = None,
    dtype: Any = None,
) -> tuple[Any, Any] | None:
    """cos and sin, (T, .) float64 in main memory, that a rotary module gives at positions (T,).

    dtype: of the hidden states it is told, default float32. Returns None if the module cannot be
    called in one of the ways known, or gives something else.
    """
    import torch

    device = module_value(rotary_module, "inv_freq", layer_type).device
    if device.type == "meta":
        device = torch.device("cpu")  # a hook of accelerate moves what the module is called with
    plain = torch.asarray(positions, device=device)[None]
    hidden = torch.zeros(1, positions.size, 1, device=device, dtype=dtype or torch.float32)
    # Qwen2-VL and its kin take three coordinates per token, all equal in a text
    for position_ids in (plain, plain.expand(3, 1, -1)):
        arguments = (hidden, position_ids, *([layer_type] if layer_type else []))
        try:
            found = rotary_module(*arguments)
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError):
            continue
        if torch.is_tensor(found) and found.is_complex():
            found = found.real, found.imag
        if isinstance(found, tuple) and len(found) == 2 and all(map(torch.is_tensor, found)):
            cos, sin = found
            if cos.shape == sin.shape and cos.ndim > 1 and cos.shape[-2] == positions.size:
                size = cos.shape[-1]
                return tuple(x.reshape(-1, positions.size, size)[0].cpu().double() for x in found)
    return None


def _verify_frequencies(rope: Rope, model_frequencies: np.ndarray) -> None:
    theta = rope.frequencies[: rope.rotary_dim // 2]
    if model_frequencies.shape != theta.shape:
        raise InputError(
            f"the model has {model_frequencies.size} RoPE frequencies where its configuration "
            f"says {theta.size}; check head_dim and partial_rotary_factor"
        )
    excess = np.abs(model_frequencies - theta) - frequency_tolerance(rope)
    if not np.all(excess <= 0):
        channel = int(np.argmax(np.where(np.isnan(excess), np.inf, excess)))
        raise InputError(
            f"the model's RoPE frequency of channel {channel} is {model_frequencies[channel]:.9g} "
            f"where its configuration (type {rope.type!r}) gives {theta[channel]:.9g}; check "
            "rope_theta, the scaling factors and the length of the text"
        )


def _frequencies(rotary_module: Any, layer_type: str | None) -> np.ndarray:
    """The float64 values of inv_freq, also where a hook of accelerate keeps it elsewhere."""
    offloaded = module_value(rotary_module, "inv_freq", layer_type).device.type == "meta"
    if offloaded:
        rotary_module._hf_hook.pre_forward(rotary_module)
    inv_freq = module_value(rotary_module, "inv_freq", layer_type)
    if offloaded:
        rotary_module._hf_hook.post_forward(rotary_module, None)
    dtype = str(inv_freq.dtype)
    if "16" in dtype:
        raise InputError(
            f"the model holds its RoPE frequencies in {dtype}; load it with dtype=... instead of "
            "converting it afterwards, which keeps them in float32"
        )
    return to_numpy(inv_freq).astype(np.float64)


def module_value(module: Any, name: str, layer_type: str | None, default: Any = None) -> Any:
    """An attribute of a rotary module, that of the layer type where it keeps one per type.

    Raises InputError if there is neither such an attribute nor a default.
    """
    value = getattr(module, f"{layer_type}_{name}", None) if layer_type else None
    value = getattr(module, name, default) if value is None else value
    if value is None:
        raise InputError(f"{type(module).__name__} has no {name}; its RoPE cannot be verified")
    return value


def _parameters(config: Any, layer_type: str | None) -> dict[str, Any] | None:
    """Flat RoPE parameters of a layer; None where the configuration gives this layer no RoPE."""
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if layer_type in given:
        given = given[layer_type]
        if given is None:
            return None
    local_base = getattr(config, "rope_local_base_freq", None)
    if local_base is not None and layer_type == "sliding_attention":
        given = {"rope_theta": local_base}  # Gemma-3 before transformers 5: local layers, unscaled
    parameters = dict(given)
    if any(isinstance(value, Mapping) for value in parameters.values()):
        return {}  # one entry per layer type, but none for this one
    for name in ("rope_theta", "partial_rotary_factor"):
        if parameters.get(name) is None and getattr(config, name, None) is not None:
            parameters[name] = getattr(config, name)
    trained = getattr(config, "original_max_position_embeddings", None)
    if trained is not None:
        # Phi-3 keeps it outside the parameters, and transformers lets it win
        parameters["original_max_position_embeddings"] = trained
    return parameters
