"""How each layer of a running model turns its queries and keys with the position.

A text of one token attends only to itself, with weight 1, wherever it stands: nothing in the model
depends on its position but the rotation of queries and keys. So one forward pass of one-token texts
at different positions shows the rotation itself, whatever the architecture is called.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gpu_check.attention_interface import (
    attention_function,
    check_finite,
    checked_softcap,
    input_device,
    layer_of,
    own_attention,
    registered,
    run_without_cache,
)
from gpu_check.rope_config import frequency_tolerance
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, to_channels, to_vectors

TOLERANCE = {torch.bfloat16: 2.0**-4, torch.float16: 2.0**-6}
"""Largest |q_p - R(p) q_0| / |q_0| taken for rounding, by dtype; `TOLERANCE_FLOAT32` for others.

Rows of equal texts may be summed in different orders, and that grows from layer to layer. A wrong
layout, or RoPE in a layer that has none, is off by about 1.
"""
TOLERANCE_FLOAT32 = 2.0**-10
_FLOAT32_UNIT = 2.0**-24


@dataclass(frozen=True, eq=False)
class LayerProbe:
    """What one layer made of the same tokens at several positions.

    positions: (P,) integers, from 0. queries: (N, heads, P, d), keys: (N, kv_heads, P, d), float64,
    of N different tokens, after RoPE. tolerance: relative rounding, see `TOLERANCE`.
    """

    layer: int
    positions: np.ndarray
    queries: torch.Tensor
    keys: torch.Tensor
    tolerance: float

    @property
    def head_dim(self) -> int:
        return self.queries.shape[-1]

    def misfit(self, rope: Rope) -> float:
        """Largest |x_p - R(p) x_0| / |x_0| over its tolerance; at most 1 if `rope` explains all.

        |.| is over all heads together. attention_scaling cancels, so it is not seen.
        """
        bare = replace(rope, attention_scaling=1.0)
        theta = rope.frequencies[: rope.rotary_dim // 2]
        angle = np.max(frequency_tolerance(rope) + _FLOAT32_UNIT * theta, initial=0.0)
        bound = torch.tensor(self.tolerance + self.positions * angle)
        worst = 0.0
        for vectors in (self.queries, self.keys):
            start = to_channels(vectors[..., :1, :].expand_as(vectors), bare)
            turned = to_vectors(rotate(start, bare, self.positions), bare)
            difference = (vectors - turned).square().sum(dim=(1, 3)).sqrt()
            size = vectors[..., 0, :].square().sum(dim=(1, 2)).sqrt()[:, None]
            # vectors of norm zero turn into themselves with every rotation
            relative = torch.where(difference == 0, 0.0, difference / size)
            worst = max(worst, float((relative / bound).max()))
        return worst

    def turns(self) -> bool:
        """Do queries or keys depend on the position at all?"""
        return self.misfit(Rope.none(self.head_dim)) > 1

    def choose(self, ropes: Sequence[Rope]) -> Rope:
        """The hypothesis that fits best: one of `ropes` in either layout, or no RoPE at all.

        Of several that fit equally well (as for queries and keys of norm zero) the first is taken.
        Raises InputError if none fits within rounding.
        """
        hypotheses = [
            replace(rope, layout=layout)
            for rope in ropes
            if rope.type != "none"
            for layout in ("half", "interleaved")
        ]
        hypotheses.append(Rope.none(self.head_dim))
        misfits = [self.misfit(rope) for rope in hypotheses]
        best = int(np.argmin(misfits))
        if not misfits[best] <= 1:
            raise InputError(
                f"layer {self.layer}: its queries and keys do not turn with the position as RoPE "
                "does (the vectors at one position are not those at position 0, rotated by its "
                f"frequencies; off by {misfits[best]:.3g} times the rounding allowed); this "
                "architecture, or the length of the text, is not supported"
            )
        return hypotheses[best]


def probe_rotations(model: Any, length: int) -> dict[int, LayerProbe]:
    """Run one-token texts at some positions up to length - 1, and keep every layer's vectors.

    length: number of positions of the text to come, at least 1; three positions are used also for a
    shorter text, because less would not tell one rotation from another. The model must be in
    evaluation mode.

    Raises InputError if the model cannot be run on positions of the caller's choice, or if queries
    or keys are not finite.
    """
    # "dynamic" and "longrope" adapt to the largest position of a batch, so the last one is needed
    positions = np.unique([0, 1, 2, length // 2, length - 1])
    device = input_device(model)
    tokens = torch.tensor(_tokens(model.get_input_embeddings()), device=device)
    input_ids = tokens.repeat_interleave(len(positions))[:, None]
    position_ids = torch.tensor(positions, device=device).repeat(len(tokens))[:, None]
    recorder = _Recorder(positions, own_attention(model))
    with torch.no_grad(), registered(model, recorder.original, recorder.attention):
        try:
            run_without_cache(model, input_ids, torch.ones_like(input_ids), position_ids)
        except (InputError, torch.OutOfMemoryError):
            raise
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{type(model).__name__} cannot be run on one-token texts at positions of our "
                f"choice (position_ids), which shows how it rotates: {told}"
            ) from error
    return recorder.layers


class _Recorder:
    """Stands in for the model's attention: keeps queries and keys, then calls the original."""

    def __init__(self, positions: np.ndarray, original: str) -> None:
        self.positions = positions
        self.original = original
        self.layers: dict[int, LayerProbe] = {}

    def attention(
        self, module: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """The function that is registered; query (N P, heads, 1, d), key (N P, kv_heads, 1, d)."""
        layer = layer_of(module)
        if layer not in self.layers:
            check_finite(layer, query, key)
            checked_softcap(layer, self.original, kwargs)
            self.layers[layer] = LayerProbe(
                layer,
                self.positions,
                self._by_token(query),
                self._by_token(key),
                TOLERANCE.get(query.dtype, TOLERANCE_FLOAT32),
            )
        return attention_function(module, self.original)(module, query, key, value, *args, **kwargs)

    def _by_token(self, vectors: torch.Tensor) -> torch.Tensor:
        own = vectors[:, :, 0].cpu().double()
        return own.unflatten(0, (-1, len(self.positions))).transpose(1, 2)


def _tokens(embedding: Any) -> list[int]:
    """Two tokens from the middle of the vocabulary, away from special ones and padding."""
    size = embedding.weight.shape[0]
    padding = getattr(embedding, "padding_idx", None)
    return [token for token in {size // 3, 2 * size // 3} if token != padding] or [0]
