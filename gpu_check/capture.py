"""Queries and keys of a running model, handed over layer by layer as the model computes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from gpu_check.attention_interface import (
    attention_function,
    check_all_seen,
    check_finite,
    checked_softcap,
    input_device,
    layer_of,
    own_attention,
    registered,
    run_without_cache,
)
from gpu_check.rotary_modules import Rotation, left_as_found, verified_rotations
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

BLOCK = 512
"""Rows of a mask or of the logits looked at together, so that copies of them stay small."""

_OUTPUT_UNIT = 2.0**-13
"""Relative rounding that every output may have: matrix units may shorten float32 to 11 bits."""

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
) -> list[float | None]:
    """Run a model once and call `analyse` for every layer and text, one layer at a time.

    model: a transformers language model with RoPE, on any device and in any dtype; it is left as
        it was found, also when `analyse` raises. input_ids: (B, T) token ids; positions are
        0 .. T - 1 in every row, so pad on the right. attention_mask: (B, T), 1 on tokens and 0 on
        padding, which must be one stretch at either end. layers: those to capture, default all.

    Returns the mean next-token loss of each text over its pairs of adjacent tokens, nats; None for
    a text without such a pair, or if the model has no language-modelling head. Raises InputError if
    the input does not fit the model, if the model's RoPE, mask or attention is of a kind that
    `LayerCapture` cannot tell, or if queries, keys or loss are not finite.
    """
    input_ids, valid = _checked_input(model, input_ids, attention_mask)
    with torch.no_grad(), left_as_found(model):
        model.eval()
        rotations = verified_rotations(model, layers, input_ids.shape[1])
        tap = _Tap(analyse, rotations, _visible_tokens(valid), own_attention(model))
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        with registered(model, tap.original, tap.attention):
            output = run_without_cache(model, input_ids, valid.to(torch.int64), positions)
        check_all_seen([layer for layer in rotations if layer not in tap.seen])
        logits = getattr(output, "logits", None)
        if logits is None:
            return [None] * len(input_ids)
        return [_mean_loss(*text) for text in zip(logits, input_ids, valid, strict=True)]


@dataclass(eq=False)
class _Tap:
    """Stands in for the model's attention: calls the original, then hands queries and keys over."""

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
        layer = layer_of(module)
        captures = []
        if layer in self.rotations:
            captures = self._captures(layer, module, query, key, attention_mask, kwargs)
        original = attention_function(module, self.original)
        found = original(module, query, key, value, attention_mask, *args, **kwargs)
        for each in captures:
            _check_output(each, value[each.sample], found[0][each.sample])
            self.analyse(each)
        return found

    def _captures(
        self, layer: int, module: Any, query: Any, key: Any, mask: Any, kwargs: dict[str, Any]
    ) -> list[LayerCapture]:
        """What the layer computes for each text. Raises InputError if it cannot be told truly."""
        if layer in self.seen:
            raise InputError(f"layer {layer} attends more than once; choose other layers")
        self.seen.add(layer)
        for name, what in _ADDED_TO_LOGITS.items():
            if kwargs.get(name) is not None:
                raise InputError(f"layer {layer} has {what}, which is not supported")
        softcap = checked_softcap(layer, self.original, kwargs)
        rotation = self.rotations[layer]
        _check_vectors(layer, query, key, len(self.valid), rotation.rope.head_dim)
        window = kwargs.get("sliding_window", getattr(module, "sliding_window", None))
        visibilities = [
            # layers of a model may stand on different devices
            Visibility(query.shape[2], window, None if valid is None else valid.to(query.device))
            for valid in self.valid
        ]
        self._check_mask(layer, module, mask, kwargs.get("is_causal"), visibilities)
        scale = kwargs.get("scaling")
        return [
            LayerCapture(
                layer=layer,
                sample=sample,
                queries=query[sample],
                keys=key[sample],
                rope=rotation.rope,
                scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
                visibility=visibility,
                softcap=softcap,
                angle_deviation=rotation.angle_deviation,
            )
            for sample, visibility in enumerate(visibilities)
        ]

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
    check_finite(layer, query, key)


def _check_output(found: LayerCapture, value: torch.Tensor, output: torch.Tensor) -> None:
    """Raise InputError unless softmax of the logits told, times values, is what the layer gave.

    value: (kv_heads, T, e), output: (T, heads, e). Three rows are looked at, enough for whatever
    else an architecture puts into its attention: sinks, biases, another scale or mask. An error of
    e in the logits changes the output by at most (exp(2 e) - 1) max|v|.
    """
    queries, keys, rows = found.queries, found.keys, _some_rows(found.visibility, value.device)
    dtype = torch.promote_types(queries.dtype, torch.float32)
    shape = (found.visibility.length, queries.shape[0], value.shape[-1])
    if tuple(output.shape) != shape:
        raise InputError(
            f"layer {found.layer}: its attention gives {tuple(output.shape)} where {shape} is "
            "supported; choose other layers"
        )
    if not bool(torch.isfinite(value).all()):
        return  # named where it reaches queries, keys or the loss
    group = queries.shape[0] // keys.shape[0]
    query, key = queries[:, rows].to(dtype), keys.to(dtype).repeat_interleave(group, dim=0)
    values = value.to(dtype).repeat_interleave(group, dim=0)
    logits = found.scale * query @ key.mT
    if found.softcap is not None:
        logits = found.softcap * torch.tanh(logits / found.softcap)
    columns = torch.arange(found.visibility.length, device=rows.device)
    visible = found.visibility.block(rows, columns)
    expected = torch.where(visible, logits, -torch.inf).softmax(dim=-1) @ values
    unit = max(torch.finfo(queries.dtype).eps, _OUTPUT_UNIT)
    size = found.scale * query.norm(dim=-1).amax(dim=-1) * key.norm(dim=-1).amax(dim=-1)
    bound = (torch.expm1(4 * unit * size) + 4 * unit) * values.abs().amax(dim=(1, 2))
    excess = (output[rows].transpose(0, 1).to(dtype) - expected).abs().amax(dim=(1, 2)) - bound
    if bool((excess > 0).any()):
        raise InputError(
            f"layer {found.layer}, head {int(excess.argmax())}: its attention is not the softmax "
            "of scaled products of queries and keys (a bias, a sink or another scale takes part); "
            "this architecture is not supported"
        )


def _some_rows(visibility: Visibility, device: torch.device) -> torch.Tensor:
    """The first, the middle and the last token."""
    rows = torch.arange(visibility.length, device=device)
    if visibility.valid is not None:
        rows = rows[visibility.valid.to(device)]
    return rows[[0, len(rows) // 2, -1]].unique()


def _checked_input(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and a boolean mask, both (B, T), on the device that the model takes them on."""
    if input_ids.ndim != 2 or input_ids.numel() == 0 or input_ids.is_floating_point():
        raise InputError(
            f"input_ids of shape {tuple(input_ids.shape)}, {input_ids.dtype}: "
            "integers of shape (batch, T), T at least 1, are needed"
        )
    embedding = model.get_input_embeddings().weight
    device = input_device(model)
    low, high = int(input_ids.min()), int(input_ids.max())
    if low < 0 or high >= embedding.shape[0]:
        raise InputError(
            f"input_ids from {low} to {high}: the model embeds 0 to {embedding.shape[0] - 1}; "
            "use its own tokenizer"
        )
    input_ids = input_ids.to(device)
    if attention_mask is None:
        return input_ids, torch.ones_like(input_ids, dtype=torch.bool)
    mask = attention_mask.to(device)
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
    """Of one text: logits (T, vocabulary), input_ids (T,), valid (T,)."""
    pairs = (valid[1:] & valid[:-1]).nonzero()[:, 0].to(logits.device)
    targets = input_ids[1:].to(logits.device)
    if not len(pairs):
        return None
    total = 0.0
    for rows in pairs.split(BLOCK):
        scores = logits[rows]
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        total += float(cross_entropy(scores, targets[rows], reduction="none").double().sum())
    loss = total / len(pairs)
    if not math.isfinite(loss):
        raise InputError(
            "the model's loss is not finite (NaN or infinity); check the weights, or use "
            "--dtype float32"
        )
    return loss
