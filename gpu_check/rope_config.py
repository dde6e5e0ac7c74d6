"""The rotary position embedding of each layer, read from a transformers configuration."""

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from tappa_theory.arrays import to_numpy
from tappa_theory.errors import InputError
from tappa_theory.rope import Layout, Rope, rotate, to_channels, to_vectors

# Every entry was read in transformers' source; every other model type pairs (j, j + rotary_dim/2).
_INTERLEAVED = {
    "codegen": "rotate_every_two pairs (2j, 2j + 1)",
    "cohere": "rotate_half pairs (2j, 2j + 1), cos and sin repeated by repeat_interleave",
    "cohere2": "as cohere",
    "ernie4_5": "rotate_half pairs (2j, 2j + 1), 'glm rope style'",
    "ernie4_5_moe": "as ernie4_5",
    "glm": "rotate_half pairs (2j, 2j + 1) within the first rotary_dim components",
    "glm4": "as glm",
    "gptj": "rotate_every_two pairs (2j, 2j + 1)",
    "helium": "rotate_half pairs (2j, 2j + 1)",
    "llama4_text": "view_as_complex of consecutive components",
}

# Bounds of the model's own float32 arithmetic, in units of 2^-24; derived in `frequency_tolerance`.
_FLOAT32_UNIT = 2.0**-24
_OPERATIONS = 16
_DYNAMIC_OPERATIONS = 64
_BLEND_OPERATIONS = 2


def rope_for_layer(config: Any, layer: int, length: int | None = None) -> Rope:
    """The Rope of one layer of a model, for a text of `length` positions.

    config: a transformers configuration (5.x `rope_parameters`, flat or one per layer type, or
        4.56+ `rope_theta` and `rope_scaling`). layer counts from 0.
    A layer that skips RoPE in a model that has it gives `Rope.none`: all frequencies 0.

    Raises InputError if the model has no RoPE, if the layer does not exist, or if its RoPE is of a
    kind that is not supported.
    """
    config = config.get_text_config()
    if not 0 <= layer < config.num_hidden_layers:
        raise InputError(f"layer {layer} does not exist; the model has {config.num_hidden_layers}")
    if getattr(config, "qk_rope_head_dim", None) is not None:
        raise InputError(
            f"model type {config.model_type!r} uses multi-head latent attention, whose split "
            "rotary heads are not supported; choose a model with ordinary heads"
        )
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    parameters = _parameters(config, _layer_type(config, layer), head_dim)
    if parameters is None or _skips_rope(config, layer):
        return Rope.none(head_dim)
    return Rope.from_parameters(
        head_dim,
        parameters,
        layout=layout_of(config),
        length=length,
        max_position_embeddings=getattr(config, "max_position_embeddings", None),
    )


def ropes(config: Any, length: int | None = None) -> list[Rope]:
    """The Rope of every layer, in order; errors as for `rope_for_layer`."""
    count = config.get_text_config().num_hidden_layers
    return [rope_for_layer(config, layer, length) for layer in range(count)]


def layout_of(config: Any) -> Layout:
    """How the model pairs rotary components; "half" unless its type is known to interleave."""
    return "interleaved" if config.get_text_config().model_type in _INTERLEAVED else "half"


def frequency_tolerance(rope: Rope) -> np.ndarray:
    """Bound (r/2,) on |float32 - float64| frequency of the rotary channels, radians per position.

    u = 2^-24. The exponent x = 2j/r carries one rounding, so c^-x is off by u |ln theta|; the base,
    the power (4 ulp = 8u, the loosest of the platforms), the reciprocal and the scaling add at most
    16u: u theta (|ln theta| + 16). A text-dependent base adds 2 (factor + 2) u, 64u up to factor
    30. A blend (yarn, llama3) has a weight off by at most 2u (|ln c^-x| + 16) for the usual
    high/(high - low) <= 2, which counts relative to the unblended c^-x.

    Raises InputError for a blend without a base.
    """
    theta = rope.frequencies[: rope.rotary_dim // 2]
    logarithm = np.abs(np.log(np.where(theta > 0, theta, 1.0)))
    operations = _OPERATIONS + (_DYNAMIC_OPERATIONS if rope.type == "dynamic" else 0)
    tolerance = theta * (logarithm + operations)
    if rope.type in ("yarn", "llama3"):
        if rope.base is None:
            raise InputError(f"a Rope of type {rope.type!r} has no base; give it its rope_theta")
        exponent = 2 * np.arange(theta.size) / rope.rotary_dim
        unblended = rope.base**-exponent
        tolerance += _BLEND_OPERATIONS * unblended * (exponent * math.log(rope.base) + _OPERATIONS)
    return _FLOAT32_UNIT * tolerance


def verify_against_model(
    rope: Rope, rotary_module: Any, length: int, layer_type: str | None = None
) -> bool:
    """Check a Rope against the rotary embedding module of the loaded model.

    Compares `inv_freq` within `frequency_tolerance`, `attention_scaling` within float32 precision
    and, where the model's source has an `apply_rotary_pos_emb`, the rotation of random vectors,
    which settles layout and sign. length: number of positions of the text; the module is called
    with its last position, because "dynamic" and "longrope" adapt to it. layer_type: for modules
    that keep one set of frequencies per layer type (Gemma-3); None otherwise.

    Returns True if the rotation was compared, False if only the numbers were (or, for a Rope of
    type "none", nothing). Raises InputError naming what differs.
    """
    if rope.type == "none":
        return False
    positions = np.array([0, 1, 2, max(length - 1, 0)])
    cos, sin = _call(rotary_module, positions, layer_type)
    _verify_frequencies(rope, _module_value(rotary_module, "inv_freq", layer_type))
    model_scaling = float(_module_value(rotary_module, "attention_scaling", layer_type, 1.0))
    if not abs(model_scaling - rope.attention_scaling) <= 2 * _FLOAT32_UNIT * model_scaling:
        raise InputError(
            f"the model's RoPE attention_scaling is {model_scaling:.9g} where its configuration "
            f"gives {rope.attention_scaling:.9g}; check attention_factor, factor and mscale"
        )
    source = sys.modules[type(rotary_module).__module__]
    apply = getattr(source, "apply_rotary_pos_emb", None)
    if apply is None:
        return False
    _verify_rotation(rope, apply, cos, sin, positions)
    return True


def _call(rotary_module: Any, positions: np.ndarray, layer_type: str | None) -> tuple[Any, Any]:
    import torch

    device = _module_value(rotary_module, "inv_freq", layer_type).device
    position_ids = torch.asarray(positions, device=device)[None]
    hidden = torch.zeros(1, positions.size, 1, device=device)
    arguments = (hidden, position_ids) if layer_type is None else (hidden, position_ids, layer_type)
    try:
        cos, sin = rotary_module(*arguments)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise InputError(
            f"{type(rotary_module).__name__} cannot be called with plain positions ({error}); "
            "its RoPE is not supported"
        ) from error
    return cos, sin


def _verify_frequencies(rope: Rope, inv_freq: Any) -> None:
    dtype = str(inv_freq.dtype)
    if "16" in dtype:
        raise InputError(
            f"the model holds its RoPE frequencies in {dtype}; load it with dtype=... instead of "
            "converting it afterwards, which keeps them in float32"
        )
    model_frequencies = to_numpy(inv_freq).astype(np.float64)
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


def _verify_rotation(rope: Rope, apply: Any, cos: Any, sin: Any, positions: np.ndarray) -> None:
    import torch

    r = rope.rotary_dim
    rotary = Rope(rope.frequencies[: r // 2], rope.layout, r, rope.attention_scaling)
    vectors = np.random.default_rng(0).standard_normal((1, 1, positions.size, r))
    tensor = torch.asarray(vectors, dtype=torch.float32, device=cos.device)
    try:
        turned, _ = apply(tensor, tensor, cos, sin)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"apply_rotary_pos_emb of {apply.__module__} cannot be called ({error}); "
            "its RoPE is not supported"
        ) from error
    exact = to_vectors(rotate(to_channels(tensor, rotary), rotary, positions), rotary)
    gap = np.linalg.norm(to_numpy(turned).astype(np.float64) - to_numpy(exact), axis=-1)[0, 0]
    angle_error = positions * np.max(frequency_tolerance(rope) + _FLOAT32_UNIT * rotary.frequencies)
    # cos, sin, two products and a sum add at most 8 roundings per component
    bound = (angle_error + 8 * _FLOAT32_UNIT) * rope.attention_scaling
    size = np.linalg.norm(vectors, axis=-1)[0, 0]
    if not np.all(gap <= bound * size):
        raise InputError(
            f"the model turns its vectors in another way than layout {rope.layout!r} says; "
            "this architecture needs an entry in gpu_check.rope_config"
        )


def _module_value(module: Any, name: str, layer_type: str | None, default: Any = None) -> Any:
    value = getattr(module, f"{layer_type}_{name}", None) if layer_type else None
    value = getattr(module, name, default) if value is None else value
    if value is None:
        raise InputError(f"{type(module).__name__} has no {name}; its RoPE cannot be verified")
    return value


def _layer_type(config: Any, layer: int) -> str | None:
    layer_types = getattr(config, "layer_types", None)
    return layer_types[layer] if layer_types else None


def _skips_rope(config: Any, layer: int) -> bool:
    rotates = getattr(config, "no_rope_layers", None)  # 1 where the layer does rotate
    if rotates:
        return not rotates[layer]
    slides = _layer_type(config, layer) == "sliding_attention"
    if config.model_type == "cohere2":  # Cohere2Attention rotates where it has a sliding window
        return config.sliding_window is None or not slides
    if config.model_type == "exaone4":  # the global layers of a hybrid model are not rotated
        return config.sliding_window is not None and not slides
    return False


def _parameters(config: Any, layer_type: str | None, head_dim: int) -> dict[str, Any] | None:
    """Flat RoPE parameters of a layer; None where the configuration gives this layer no RoPE."""
    if config.model_type in ("gptj", "codegen"):
        # base 10000 is written into their code; the configuration holds rotary_dim only
        rotary_dim = config.rotary_dim or head_dim
        return {"rope_theta": 10000.0, "partial_rotary_factor": rotary_dim / head_dim}
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
        raise InputError(
            f"rope_parameters of {config.model_type!r} have an entry per layer type but none for "
            f"{layer_type!r}; add it to config.json"
        )
    for name in ("rope_theta", "partial_rotary_factor"):
        if parameters.get(name) is None and getattr(config, name, None) is not None:
            parameters[name] = getattr(config, name)
    trained = getattr(config, "original_max_position_embeddings", None)
    if trained is not None:
        # Phi-3 keeps it outside the parameters, and transformers lets it win
        parameters["original_max_position_embeddings"] = trained
    if parameters.get("rope_theta") is None or getattr(config, "alibi", False):
        raise InputError(
            f"model type {config.model_type!r} has no rotary position embedding (RoPE) in its "
            "configuration; choose a model with RoPE, such as Llama, Qwen or Gemma"
        )
    return parameters
