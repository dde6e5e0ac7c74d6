"""A model run with another function in place of its attention, through transformers' interface."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tappa_theory.errors import InputError


def own_attention(model: Any) -> str:
    """ "sdpa" or "eager": the model's own where it is one of them."""
    config = model.config.get_text_config()
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "eager"  # sdpa would leave the cap out
    if config._attn_implementation in ("eager", "sdpa"):
        return config._attn_implementation
    return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"


def attention_function(module: Any, name: str) -> Callable[..., Any]:
    """The attention of that name as the source file of the module's class sees it.

    Raises InputError if that file has no eager attention.
    """
    for cls in type(module).__mro__:
        source = sys.modules.get(cls.__module__)
        if name == "eager":
            eager = getattr(source, "eager_attention_forward", None)
            if eager is not None:
                return eager
        elif name in (known := getattr(source, "ALL_ATTENTION_FUNCTIONS", {})):
            return known[name]
    if name == "eager":
        raise InputError(
            f"{type(module).__name__} has no eager_attention_forward; load the model with "
            "attn_implementation='sdpa'"
        )
    return ALL_ATTENTION_FUNCTIONS[name]


@contextmanager
def registered(model: Any, original: str, attention: Callable[..., Any]) -> Iterator[None]:
    """Let every attention layer of the model call `attention`, with the masks of `original`."""
    name = f"tappa_{id(attention)}"
    configs = _configs(model)
    before = [config._attn_implementation_internal for config in configs]
    try:
        AttentionInterface.register(name, attention)
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[original])
        for config in configs:
            # the public setter would also write into sub-configurations, and warn
            config._attn_implementation_internal = name
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation_internal = implementation
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)


def _configs(model: Any) -> list[Any]:
    """Every configuration that a part of the model reads, once."""
    found = [getattr(module, "config", None) for module in model.modules()]
    distinct = {id(config): config for config in found}
    return [each for each in distinct.values() if hasattr(each, "_attn_implementation_internal")]


def run_without_cache(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor
) -> Any:
    """One forward pass; input_ids and the integer attention_mask (B, T), position_ids (1 or B, T).

    Returns the model's output object.
    """
    return model(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        use_cache=False,
        output_attentions=False,
        output_hidden_states=False,
        return_dict=True,
    )


def input_device(model: Any) -> torch.device:
    """Where the token ids of a model belong, also if accelerate keeps its weights elsewhere.

    Raises InputError if the model has no weights.
    """
    embedding = model.get_input_embeddings()
    if embedding.weight.device.type != "meta":
        return embedding.weight.device
    # offloaded weights stand on "meta" until a hook of accelerate brings them for one call
    hook = getattr(embedding, "_hf_hook", None)
    if hook is None:
        raise InputError("the model has no weights (they are on the meta device); load them first")
    device = getattr(hook, "execution_device", None)
    return torch.device("cpu" if device is None else device)


def layer_of(module: Any) -> int:
    """The index of the layer that an attention module belongs to.

    Raises InputError if the module does not tell.
    """
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise InputError(
            f"{type(module).__name__} does not say which layer it is (layer_idx); "
            "this architecture is not supported"
        )
    return int(layer)


def check_finite(layer: int, query: torch.Tensor, key: torch.Tensor) -> None:
    """Raise InputError if queries or keys, (B, heads, T, d), hold NaN or infinity."""
    for name, vectors in (("queries", query), ("keys", key)):
        finite = torch.isfinite(vectors).all(dim=-1).all(dim=-1).all(dim=0)
        if not bool(finite.all()):
            head = int((~finite).nonzero()[0])
            raise InputError(
                f"layer {layer}, head {head}: its {name} are not finite (NaN or infinity); "
                "check the weights, or use --dtype float32"
            )


def checked_softcap(layer: int, original: str, kwargs: dict[str, Any]) -> float | None:
    """The cap that a layer puts on its logits; None for none.

    Raises InputError if the attention `original` would leave it out or fail on it.
    """
    softcap = kwargs.get("softcap")
    if softcap is not None and original == "sdpa":
        raise InputError(
            f"layer {layer} caps its logits, which sdpa ignores; load the model with "
            "attn_implementation='eager'"
        )
    return None if softcap is None else float(softcap)


def check_all_seen(missing: list[int]) -> None:
    """Raise InputError if the attention of a layer that is needed was not called."""
    if missing:
        raise InputError(
            f"layers {', '.join(map(str, sorted(missing)))} did not hand over queries and keys: "
            "the architecture, or this kind of layer, does not use transformers' attention "
            "interface; choose other layers"
        )
