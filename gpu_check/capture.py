"""Queries and keys of a running model, handed over layer by layer as the model computes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gpu_check.rotary_modules import Rotation, rotary_modules, verified_rotations
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

BLOCK = 512
"""Rows of a mask or of the logits looked at together, so that copies of them stay small."""

_ADDED_TO_LOGITS = {"s_aux": "learned attention sinks", "position_bias": "a position bias"}


@dataclass(frozen=True, eq=False)
class LayerCapture:
    """What one attention layer computed for one text.

    layer, sample: index of the layer in the model and of the text in the batch, from 0.
    queries: (heads, T, d), keys: (kv_heads, T, d), after RoPE and any query-key normalisation, in
        the model's dtype, row p rotated to position p; padding is included. They are views: clone
        them to keep them after `analyse` returns.
    rope, scale: logit = scale <q, k>, before the softcap c (c tanh(logit / c)), None for none.
    angle_deviation: largest angle, radians, between the rotation the model applied, in its dtype,
        and the exact one, over positions and rotary channels; None where it cannot be measured:
        a layer without RoPE, or a model without a rotary module.
    """

    layer: int
    sample: int
    queries: torch.Tensor
    keys: torch.Tensor
    rope: Rope
    scale: float
    visibility: Visibility
    softcap: float | None
    angle_deviation: float | None


def capture(
    model: Any,
    input_ids: torch.Tensor,
    analyse: Callable[[LayerCapture], None],
    *,
    attention_mask: torch.Tensor | None = None,
    layers: range | None = None,
) -> float | None:
    """Run a model once and call `analyse` for every layer and text, one layer at a time.

    model: a transformers language model with RoPE, on any device and in any dtype; it is left as
        it was found, also when `analyse` raises. input_ids: (B, T) token ids; positions are
        0 .. T - 1 in every row, so pad on the right. attention_mask: (B, T), 1 on tokens and 0 on
        padding, which must be one stretch at either end. layers: those to capture, default all.

    Returns the mean next-token loss over all pairs of adjacent tokens, nats; None if there is no
    such pair or the model has no language-modelling head. Raises InputError if the input does not
    fit the model, if the model's RoPE, mask or attention is of a kind that `LayerCapture` cannot
    tell, or if queries, keys or loss are not finite.
    """
    input_ids, valid = _checked_input(model, input_ids, attention_mask)
    with torch.no_grad(), _as_found(model):
        model.eval()
        rotations = verified_rotations(model, layers, input_ids.shape[1])
        tap = _Tap(analyse, rotations, _visible_tokens(valid), _own_attention(model))
        with _registered(model, tap):
            output = model(
                input_ids=input_ids,
                attention_mask=valid.to(torch.int64),
                position_ids=torch.arange(input_ids.shape[1], device=input_ids.device)[None],
                use_cache=False,
                output_attentions=False,
                output_hidden_states=False,
                return_dict=True,
            )
        tap.check_complete()
        logits = getattr(output, "logits", None)
        return None if logits is None else _mean_loss(logits, input_ids, valid)


@dataclass(eq=False)
class _Tap:
    """Stands in for the model's attention: hands queries and keys over, then calls the original."""

    analyse: Callable[[LayerCapture], None]
    rotations: dict[int, Rotation]
    valid: list[torch.Tensor | None]
    original: str
    seen: set[int] = field(default_factory=set)
    agreed: dict[int | None, Any] = field(default_factory=dict)  # window -> the last mask compared

    def attention(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The function that is registered; query (B, heads, T, d), key (B, kv_heads, T, d)."""
        layer = getattr(module, "layer_idx", None)
        if layer is None:
            raise InputError(
                f"{type(module).__name__} does not say which layer it is (layer_idx); "
                "this architecture is not supported"
            )
        if layer in self.rotations:
            self._hand_over(layer, module, query, key, attention_mask, kwargs)
        original = _attention_function(module, self.original)
        return original(module, query, key, value, attention_mask, *args, **kwargs)

    def check_complete(self) -> None:
        """Raise InputError if a layer passed by without being seen."""
        missing = sorted(self.rotations.keys() - self.seen)
        if missing:
            raise InputError(
                f"layers {', '.join(map(str, missing))} did not hand over queries and keys: the "
                "architecture, or this kind of layer, does not use transformers' attention "
                "interface; choose other layers"
            )

    def _hand_over(
        self, layer: int, module: Any, query: Any, key: Any, mask: Any, kwargs: dict[str, Any]
    ) -> None:
        if layer in self.seen:
            raise InputError(f"layer {layer} attends more than once; choose other layers")
        self.seen.add(layer)
        for name, what in _ADDED_TO_LOGITS.items():
            if kwargs.get(name) is not None:
                raise InputError(f"layer {layer} has {what}, which is not supported")
        softcap = kwargs.get("softcap")
        if softcap is not None and self.original == "sdpa":
            raise InputError(
                f"layer {layer} caps its logits, which sdpa ignores; load the model with "
                "attn_implementation='eager'"
            )
        rotation = self.rotations[layer]
        _check_vectors(layer, query, key, len(self.valid), rotation.rope.head_dim)
        window = kwargs.get("sliding_window", getattr(module, "sliding_window", None))
        visibilities = [Visibility(query.shape[2], window, valid) for valid in self.valid]
        self._check_mask(layer, module, mask, kwargs.get("is_causal"), visibilities)
        scale = kwargs.get("scaling")
        for sample, visibility in enumerate(visibilities):
            self.analyse(
                LayerCapture(
                    layer=layer,
                    sample=sample,
                    queries=query[sample],
                    keys=key[sample],
                    rope=rotation.rope,
                    scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
                    visibility=visibility,
                    softcap=None if softcap is None else float(softcap),
                    angle_deviation=rotation.angle_deviation,
                )
            )

    def _check_mask(
        self, layer: int, module: Any, mask: Any, causal: Any, visibilities: list[Visibility]
    ) -> None:
        window = visibilities[0].window
        if mask is None:
            causal = getattr(module, "is_causal", True) if causal is None else causal
            agrees = bool(causal) and self.original == "sdpa"
            agrees = agrees and all(_is_plainly_causal(each) for each in visibilities)
        elif self.agreed.get(window) is mask:
            return  # the layers of a model share their masks
        else:
            agrees = all(
                _mask_agrees(mask[min(sample, mask.shape[0] - 1)], visibility)
                for sample, visibility in enumerate(visibilities)
            )
            self.agreed[window] = mask
        if not agrees:
            kind = "causal" if window is None else f"causal with a sliding window of {window}"
            raise InputError(
                f"layer {layer} hides other pairs than its mask should ({kind}, padding hidden): "
                "chunked and bidirectional attention are not supported; choose other layers"
            )


def _is_plainly_causal(visibility: Visibility) -> bool:
    window = visibility.window
    return visibility.valid is None and (window is None or window >= visibility.length)


def _mask_agrees(mask: torch.Tensor, visibility: Visibility) -> bool:
    """Does a mask (1 or heads, T, T), boolean or added to the logits, say what visibility says?

    Rows of padding are left out: what they see reaches no token.
    """
    columns = torch.arange(visibility.length, device=mask.device)
    for rows in columns.split(BLOCK):
        if visibility.valid is not None:
            rows = rows[visibility.valid.to(rows.device)[rows]]
        part = mask[:, rows, : visibility.length]
        visible = visibility.block(rows, columns)
        if part.dtype == torch.bool:
            agrees = part == visible
        else:
            # hidden is written as -inf or as the lowest number of the dtype
            agrees = torch.where(visible, part == 0, part <= torch.finfo(part.dtype).min / 2)
        if not bool(agrees.all()):
            return False
    return True


def _check_vectors(layer: int, query: Any, key: Any, batch: int, head_dim: int) -> None:
    shapes = f"queries {tuple(query.shape)} and keys {tuple(key.shape)}"
    if query.shape[0] != batch or query.shape[2:] != key.shape[2:] or query.shape[-1] != head_dim:
        raise InputError(f"layer {layer} has {shapes}; (batch, heads, T, {head_dim}) is supported")
    if query.shape[1] % key.shape[1]:
        raise InputError(f"layer {layer} has {shapes}; key heads must divide the query heads")
    for name, vectors in (("queries", query), ("keys", key)):
        finite = torch.isfinite(vectors).all(dim=-1).all(dim=-1).all(dim=0)
        if not bool(finite.all()):
            head = int((~finite).nonzero()[0])
            raise InputError(
                f"layer {layer}, head {head}: its {name} are not finite (NaN or infinity); "
                "check the weights, or use --dtype float32"
            )


def _attention_function(module: Any, name: str) -> Callable[..., Any]:
    """The attention of that name as the source file of the module's class sees it."""
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


def _own_attention(model: Any) -> str:
    """ "sdpa" or "eager": the model's own where it is one of them."""
    config = model.config.get_text_config()
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "eager"  # sdpa would leave the cap out
    if config._attn_implementation in ("eager", "sdpa"):
        return config._attn_implementation
    return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"


@contextmanager
def _registered(model: Any, tap: _Tap) -> Iterator[None]:
    """Let every attention layer of the model call the tap."""
    name = f"tappa_capture_{id(tap)}"
    configs = _configs(model)
    before = [config._attn_implementation_internal for config in configs]
    try:
        AttentionInterface.register(name, tap.attention)
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[tap.original])
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


@contextmanager
def _as_found(model: Any) -> Iterator[None]:
    """Put back what a forward pass changes: the mode, and frequencies that follow the text."""
    modes = [(module, module.training) for module in model.modules()]
    rotary = [module for _, module in rotary_modules(model)]
    attributes = [dict(vars(module)) for module in rotary]
    buffers = [dict(module._buffers) for module in rotary]
    # transformers writes "longrope" frequencies into the buffer, and replaces "dynamic" ones
    values = [{name: _copy(buffer) for name, buffer in each.items()} for each in buffers]
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


def _copy(buffer: torch.Tensor | None) -> torch.Tensor | None:
    return None if buffer is None else buffer.clone()


def _checked_input(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and a boolean mask, both (B, T), on the device of the model's embedding."""
    if input_ids.ndim != 2 or input_ids.numel() == 0 or input_ids.is_floating_point():
        raise InputError(
            f"input_ids of shape {tuple(input_ids.shape)}, {input_ids.dtype}: "
            "integers of shape (batch, T), T at least 1, are needed"
        )
    embedding = model.get_input_embeddings().weight
    low, high = int(input_ids.min()), int(input_ids.max())
    if low < 0 or high >= embedding.shape[0]:
        raise InputError(
            f"input_ids from {low} to {high}: the model embeds 0 to {embedding.shape[0] - 1}; "
            "use its own tokenizer"
        )
    input_ids = input_ids.to(embedding.device)
    if attention_mask is None:
        return input_ids, torch.ones_like(input_ids, dtype=torch.bool)
    mask = attention_mask.to(embedding.device)
    if mask.shape != input_ids.shape or bool(((mask != 0) & (mask != 1)).any()):
        raise InputError(
            f"attention_mask of shape {tuple(mask.shape)}: 0 and 1 of the shape of input_ids, "
            f"{tuple(input_ids.shape)}, are needed"
        )
    valid = mask == 1
    changes = torch.count_nonzero(valid[:, 1:] != valid[:, :-1], dim=1)
    bad = ((changes > 1) | ~valid.any(dim=1)).nonzero()
    if len(bad):
        raise InputError(
            f"attention_mask of text {int(bad[0])}: padding must be one stretch on the right (or "
            "left) of at least one token"
        )
    return input_ids, valid


def _visible_tokens(valid: torch.Tensor) -> list[torch.Tensor | None]:
    return [None if bool(row.all()) else row for row in valid]


def _mean_loss(logits: torch.Tensor, input_ids: torch.Tensor, valid: torch.Tensor) -> float | None:
    counted = (valid[:, 1:] & valid[:, :-1]).to(logits.device)
    targets = input_ids[:, 1:].to(logits.device)
    if not bool(counted.any()):
        return None
    total = 0.0
    for sample in range(len(targets)):
        for rows in counted[sample].nonzero()[:, 0].split(BLOCK):
            scores = logits[sample, rows]
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            losses = cross_entropy(scores, targets[sample, rows], reduction="none")
            total += float(losses.double().sum())
    loss = total / int(torch.count_nonzero(counted))
    if not torch.isfinite(torch.tensor(loss)):
        raise InputError(
            "the model's loss is not finite (NaN or infinity); check the weights, or use "
            "--dtype float32"
        )
    return loss
