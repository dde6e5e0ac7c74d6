"""What capture hands over is what the model's own eager attention computes, by architecture.

The reference is recorded inside the modelling file: vectors as they enter apply_rotary_pos_emb, the
argument of softmax, and the attention the model returns. Nothing of capture takes part in it.
"""

import functools
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from gpu_check.capture import LayerCapture, capture
from gpu_check.rotary_modules import model_ropes
from gpu_check.visibility import Visibility
from tappa_theory.energy import channel_gain
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, to_channels, to_vectors, unrotate
from tappa_theory.separable import separate
from tappa_theory.shift_identity import LOGIT
from tests.gpu_check.architectures import (
    ARCHITECTURES,
    SMALL,
    VOCABULARY,
    build,
    transformers_major,
)

FLOAT32_UNIT = 2.0**-24
PADDED = 11
"""Tokens of padding in the second text, where there is any."""
PADDINGS = ("none", "right", "left")


def texts(length: int, padding: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two texts and their attention mask; the second is padded."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(2, length, dtype=torch.int64)
    if padding == "right":
        mask[1, -PADDED:] = 0
    elif padding == "left":
        mask[1, :PADDED] = 0
    return torch.randint(1, VOCABULARY, (2, length), generator=generator), mask


# --- the reference


@dataclass
class Recorded:
    """One layer's own numbers: (B, heads, T, .) vectors before RoPE, None where RoPE is not called,
    (B, heads, T, T) arguments of softmax and attention."""

    before_rope: tuple[torch.Tensor, torch.Tensor] | None = None
    scores: torch.Tensor | None = None
    attention: torch.Tensor | None = None


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def recorded(model: Any, input_ids: torch.Tensor, mask: torch.Tensor) -> list[Recorded]:
    """Run the eager model and write down what its own source file computes."""
    blocks = next(each.layers for each in model.modules() if hasattr(each, "layers"))
    layers = [Recorded() for _ in blocks]
    current = []
    handles = [
        block.register_forward_pre_hook(lambda *_, index=index: current.append(index))
        for index, block in enumerate(blocks)
    ]
    source = sys.modules[type(blocks[0]).__module__]
    turn, softmax = source.apply_rotary_pos_emb, functional.softmax

    def turned(q: torch.Tensor, k: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        layers[current[-1]].before_rope = q.clone(), k.clone()
        return turn(q, k, *args, **kwargs)

    def weighted(scores: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if scores.ndim == 4:  # a router of experts has fewer axes
            layers[current[-1]].scores = scores.clone()
        return softmax(scores, *args, **kwargs)

    try:
        with (
            torch.no_grad(),
            replaced(source, "apply_rotary_pos_emb", turned),
            replaced(functional, "softmax", weighted),
        ):
            output = model(
                input_ids,
                attention_mask=mask,
                position_ids=torch.arange(input_ids.shape[1])[None],
                use_cache=False,
                output_attentions=True,
            )
    finally:
        for handle in handles:
            handle.remove()
    for layer, attention in zip(layers, output.attentions, strict=True):
        layer.attention = attention
    return layers


@dataclass(frozen=True)
class Run:
    """Both sides of the comparison for one architecture and one padding."""

    found: list[LayerCapture]
    reference: list[Recorded]


@functools.cache
def run(name: str, padding: str) -> Run:
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    input_ids, mask = texts(architecture.length, padding)
    found: list[LayerCapture] = []
    capture(model, input_ids, found.append, attention_mask=mask)
    return Run(found, recorded(model, input_ids, mask))


# --- the comparison


def excess(found: LayerCapture, reference: Recorded) -> float:
    """Largest difference over its float32 rounding bound, at most 1 if the capture is right.

    Compared are un-rotated vectors, logits and attention; infinite where other pairs are hidden.
    """
    sample, visibility = found.sample, found.visibility
    valid = torch.ones(visibility.length, dtype=torch.bool)
    if visibility.valid is not None:
        valid = visibility.valid
    positions = torch.arange(visibility.length)
    rotated = found.queries, found.keys
    if reference.before_rope is None:
        own = rotated
    else:
        # a modelling file may split off the components that RoPE leaves alone
        own = tuple(
            torch.cat([before[sample], after[..., before.shape[-1] :]], dim=-1)
            for before, after in zip(reference.before_rope, rotated, strict=True)
        )
    rope, angle = found.rope, found.angle_deviation or 0.0
    channels, worst = [], 0.0
    for before, after in zip(own, rotated, strict=True):
        exact = to_channels(before, rope)
        undone = unrotate(to_channels(after, rope), rope, positions)
        # cos, sin and their scaling, two products and a sum: at most 10 roundings
        bound = (angle + 10 * FLOAT32_UNIT) * exact.abs()
        worst = max(worst, ratio((undone - exact).abs(), bound))
        channels.append(exact)

    z, w = channels
    scores, attention = reference.scores[sample], reference.attention[sample]
    shown = scores > torch.finfo(scores.dtype).min / 2
    agree = visibility.block(positions, positions)
    group = z.shape[0] // w.shape[0]
    logit = separate(LOGIT)
    d, length = found.queries.shape[-1], visibility.length
    for head in range(z.shape[0]):
        if not torch.equal(shown[head][valid], agree[valid]):
            return math.inf
        values = {
            "z": z[head],
            "w": w[head // group],
            "theta": torch.tensor(rope.frequencies),
            "lambda": torch.tensor(channel_gain(rope, found.scale)),
            "t": positions[:, None].double(),
            "i": positions[:, None].double(),
        }
        logits = logit.query_features(values) @ logit.key_features(values).T
        size = found.scale * float(rotated[0][head].norm(dim=-1).max())
        size *= float(rotated[1][head // group].norm(dim=-1).max())
        # d products and sums, the rotations of both vectors, the cap
        bound = (d + 2 + 20 + 8) * FLOAT32_UNIT * size + 2 * angle * size
        if found.softcap is not None:
            logits = found.softcap * torch.tanh(logits / found.softcap)
        rows = valid[:, None] & agree
        worst = max(worst, float((logits - scores[head]).abs()[rows].max()) / bound)
        # softmax counts the error of a logit twice, and adds a sum of T terms and exponentials of
        # arguments as large as the logits
        weights = torch.where(rows, logits, -math.inf)[valid].softmax(dim=-1)
        units = length + 16 + 8 * float(logits[rows].abs().max())
        relative = math.expm1(2 * bound + units * FLOAT32_UNIT)
        gap = (weights - attention[head][valid].double()).abs()
        worst = max(worst, ratio(gap, relative * weights + 2.0**-126))
    return worst


def ratio(gap: torch.Tensor, bound: torch.Tensor) -> float:
    return float(torch.where(gap == 0, 0.0, gap / bound).max())


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_capture_is_the_models_own_attention(name: str, padding: str) -> None:
    architecture, both = ARCHITECTURES[name], run(name, padding)
    assert [(each.layer, each.sample) for each in both.found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for each in both.found:
        reference = both.reference[each.layer]
        expected = architecture.types[each.layer]
        assert each.rope.type == expected
        assert (reference.before_rope is None) == (expected == "none")
        if expected != "none":
            assert (each.rope.layout, each.rope.rotary_dim) == (
                architecture.layout,
                architecture.rotary_dim,
            )
        assert each.visibility.window == architecture.windows[each.layer]
        scores = reference.scores[each.sample]
        seen = scores[scores > torch.finfo(scores.dtype).min / 2]
        assert float(seen.std()) >= 2  # an error in nearly constant logits could not be seen
        assert excess(each, reference) <= 1


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "Gemma2"])
def test_sdpa_hands_over_the_same_as_eager(name: str) -> None:
    architecture = ARCHITECTURES[name]
    model = architecture.build("sdpa")  # which caps of logits, as in Gemma2, rule out
    input_ids, mask = texts(architecture.length, "right")
    found: list[LayerCapture] = []
    capture(model, input_ids, found.append, attention_mask=mask)
    for one, other in zip(found, run(name, "right").found, strict=True):
        assert (one.rope, one.scale, one.softcap) == (other.rope, other.scale, other.softcap)
        assert one.visibility.window == other.visibility.window
        if one.layer == 0:
            assert torch.equal(one.queries, other.queries)
            assert torch.equal(one.keys, other.keys)


# --- the comparison sees every error that matters


def other_layout(found: LayerCapture) -> LayerCapture | None:
    if found.rope.type == "none":
        return None
    layout = "half" if found.rope.layout == "interleaved" else "interleaved"
    return replace(found, rope=replace(found.rope, layout=layout))


def other_base(found: LayerCapture) -> LayerCapture | None:
    if found.rope.type == "none":
        return None
    theta, r = found.rope.frequencies.copy(), found.rope.rotary_dim
    theta[: r // 2] *= 1.01 ** (-2 * torch.arange(r // 2).numpy() / r)
    return replace(found, rope=replace(found.rope, frequencies=theta))


def rope_elsewhere(found: LayerCapture) -> LayerCapture:
    """RoPE in a layer that has none, none in a layer that has it."""
    if found.rope.type != "none":
        return replace(found, rope=Rope.none(found.rope.head_dim))
    return replace(found, rope=Rope.from_parameters(found.rope.head_dim, {"rope_theta": 1e4}))


def other_visibility(found: LayerCapture, **change: Any) -> LayerCapture:
    return replace(found, visibility=replace(found.visibility, **change))


def longer_window(found: LayerCapture) -> LayerCapture | None:
    window = found.visibility.window
    return window and other_visibility(found, window=window + 1)


def shorter_window(found: LayerCapture) -> LayerCapture:
    valid = found.visibility.valid
    longest = found.visibility.length if valid is None else int(valid.sum())
    return other_visibility(found, window=(found.visibility.window or longest) - 1)


def no_window(found: LayerCapture) -> LayerCapture | None:
    return None if found.visibility.window is None else other_visibility(found, window=None)


def no_padding(found: LayerCapture) -> LayerCapture | None:
    return None if found.visibility.valid is None else other_visibility(found, valid=None)


class Bidirectional(Visibility):
    """Forgets that a query sees no later key."""

    def block(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return super().block(rows, columns) | (rows[:, None] < columns[None, :])


def not_causal(found: LayerCapture) -> LayerCapture:
    told = found.visibility
    return replace(found, visibility=Bidirectional(told.length, told.window, told.valid))


SWAPS: dict[str, Callable[[LayerCapture], LayerCapture | None]] = {
    "layout": other_layout,
    "base": other_base,
    "rope elsewhere": rope_elsewhere,
    "scale": lambda found: replace(found, scale=found.scale * 1.01),
    "attention scaling": lambda found: replace(
        found, rope=replace(found.rope, attention_scaling=found.rope.attention_scaling * 1.01)
    ),
    "cap": lambda found: found.softcap and replace(found, softcap=found.softcap * 1.01),
    "window one longer": longer_window,
    "window one shorter": shorter_window,
    "no window": no_window,
    "padding dropped": no_padding,
    "not causal": not_causal,
    "queries one late": lambda found: replace(found, queries=found.queries.roll(1, dims=1)),
    "heads swapped": lambda found: replace(found, keys=found.keys.flip(0)),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_planted_error_is_seen(name: str) -> None:
    both = run(name, "right")
    planted = set()
    for found in both.found:
        for error, swap in SWAPS.items():
            wrong = swap(found)
            if wrong is None or (error == "attention scaling" and found.rope.rotary_dim == 0):
                continue
            planted.add(error)
            assert excess(wrong, both.reference[found.layer]) > 10, (error, found.layer)
    assert {"rope elsewhere", "scale", "window one shorter", "padding dropped"} <= planted
    assert {"layout", "base", "attention scaling"} <= planted
    windows = {"window one longer", "no window"}
    assert planted & windows == (windows if any(ARCHITECTURES[name].windows) else set())


# --- every text length, and precisions


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("name", ["Llama", "Cohere", "SmolLM3", "Gemma3", "Phi3, long"])
def test_short_texts_find_the_same_layout(name: str, length: int) -> None:
    architecture = ARCHITECTURES[name]
    found: list[LayerCapture] = []
    capture(architecture.build(), texts(length, "none")[0], found.append)
    assert [each.rope.type for each in found[::2]] == list(architecture.types)
    assert found[0].rope.layout == architecture.layout


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_precisions_find_the_same_rope(name: str, dtype: torch.dtype) -> None:
    architecture = ARCHITECTURES[name]
    if dtype == torch.float64 and "experts" in architecture.special:
        pytest.skip("transformers' grouped product of experts does not take float64")
    if dtype == torch.float16 and name == "Apertus" and transformers_major() < 5:
        pytest.skip("the activation of Apertus does not take float16 in transformers 4")
    model = architecture.build(dtype=dtype)
    ropes = model_ropes(model, architecture.length)
    assert ropes == [each.rope for each in run(name, "none").found[::2]]


# --- what cannot be told is refused, with the one fact that is missing


def refused(model: Any, message: str, length: int = 48) -> None:
    with pytest.raises(InputError, match=message) as caught:
        capture(model, texts(length, "none")[0], lambda _: None)
    assert "\n" not in str(caught.value)


def small(prefix: str, **values: Any) -> Any:
    given = {key: value for key, value in (SMALL | values).items() if value is not None}
    return build(getattr(transformers, f"{prefix}Config")(**given))


def test_attention_sinks_are_refused() -> None:
    model = small("GptOss", num_local_experts=2, num_experts_per_tok=1)
    refused(model, "layer 0 has learned attention sinks")


def llama4(**values: Any) -> Any:
    moe = {"num_local_experts": 2, "num_experts_per_tok": 1, "intermediate_size_mlp": 96}
    return small("Llama4Text", **moe | {"no_rope_layers": [1, 0]} | values)


def test_llama4_is_refused_beyond_its_chunks_and_where_it_scales_queries() -> None:
    refused(llama4(attention_chunk_size=16), "layer 0 hides other pairs than its mask should")
    refused(llama4(floor_scale=16), r"from position 15 on \(attn_temperature_tuning\)")
    found: list[LayerCapture] = []
    capture(llama4(floor_scale=49), texts(48, "none")[0], found.append)
    assert [each.rope.type for each in found[::2]] == ["default", "none"]
    assert found[0].rope.layout == "interleaved"


def test_latent_attention_is_refused() -> None:
    latent = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8}
    experts = {"n_routed_experts": 8, "moe_intermediate_size": 32}
    model = small("DeepseekV3", **latent | experts, v_head_dim=16, num_key_value_heads=4)
    refused(model, "multi-head latent attention")


def test_norm_after_rope_is_refused() -> None:
    model = small("HunYuanDenseV1")
    capture(model, texts(48, "none")[0], lambda _: None)  # a norm with equal weights only scales
    with torch.no_grad():
        model.model.layers[1].self_attn.query_layernorm.weight.copy_(torch.linspace(0.5, 2, 16))
    refused(model, "layer 1: its queries and keys do not turn with the position as RoPE")


@pytest.mark.parametrize("prefix", ["GPT2", "Bloom", "GPTJ", "OPT"])
def test_models_that_show_no_frequencies_are_refused(prefix: str) -> None:
    values = {"ffn_dim": 96, "word_embed_proj_dim": 64} if prefix == "OPT" else {}
    refused(small(prefix, **values), "shows no rotary position embedding")


def test_alibi_is_refused() -> None:
    refused(small("Falcon", head_dim=None, alibi=True), r"adds biases to its logits \(ALiBi\)")


def test_attention_outside_the_interface_is_refused() -> None:
    refused(small("Falcon", head_dim=None), "layers 0, 1 did not hand over queries and keys")


def test_a_text_beyond_a_position_where_queries_are_scaled_is_refused() -> None:
    if not hasattr(transformers, "Ministral3Config"):
        pytest.skip(f"transformers {transformers.__version__} has no Ministral3")
    parameters = {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "llama_4_scaling_beta": 0.1,
    }
    model = small("Ministral3", rope_parameters=parameters, sliding_window=None)
    capture(model, texts(32, "none")[0], lambda _: None)
    refused(model, "layer 0: its queries and keys do not turn", length=33)


# --- decoders that transformers has never seen


def eager_attention_forward(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = query @ key.mT * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    scores = scores + getattr(module, "added", 0.0)
    weights = torch.softmax(scores, dim=-1) * getattr(module, "share", 1.0)
    return (weights @ value).transpose(1, 2), weights


class HomeConfig(transformers.PretrainedConfig):
    """Tells nothing about RoPE."""

    model_type = "home_made"

    def __init__(self, **values: Any) -> None:
        self.hidden_size, self.num_attention_heads, self.num_hidden_layers = 64, 4, 2
        self.vocab_size = VOCABULARY
        super().__init__(**values)


class Turning(torch.nn.Module):
    """A rotary module of an unusual name, base 500, which gives angles rather than cos and sin."""

    def __init__(self, base: float = 500.0) -> None:
        super().__init__()
        self.register_buffer("inv_freq", base ** -(torch.arange(8) / 8), persistent=False)

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        return positions[..., None].float() * self.inv_freq


class HomeAttention(torch.nn.Module):
    is_causal = True

    def __init__(self, config: HomeConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        for name in ("q_proj", "k_proj", "v_proj"):
            self.add_module(name, torch.nn.Linear(64, 64, bias=False))

    def forward(self, x: torch.Tensor, angles: torch.Tensor, mask: Any) -> torch.Tensor:
        q, k, v = (
            each(x).unflatten(-1, (4, 16)).transpose(1, 2)
            for each in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = self.turn(q, angles), self.turn(k, angles)
        attend: Any = eager_attention_forward
        if self.config._attn_implementation != "eager" and self.uses_interface:
            attend = transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS[
                self.config._attn_implementation
            ]
        return attend(self, q, k, v, mask, scaling=0.25)[0].flatten(2)

    uses_interface = True

    def turn(self, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.float().unflatten(-1, (8, 2)).contiguous())
        turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
        return torch.view_as_real(turned).flatten(-2)


class HomeModel(transformers.PreTrainedModel):
    """A decoder with interleaved RoPE, whose base stands in its module only."""

    config_class = HomeConfig
    _supports_sdpa = _supports_attention_backend = True
    attention_class: type = HomeAttention

    def __init__(self, config: HomeConfig, *turning: torch.nn.Module) -> None:
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, 64)
        self.turning = torch.nn.ModuleList(turning)
        self.blocks = torch.nn.ModuleList(
            self.attention_class(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        pass

    def get_input_embeddings(self) -> Any:
        return self.embed

    def angles(self, layer: int, positions: torch.Tensor) -> torch.Tensor:
        found = self.turning[layer % len(self.turning)](positions)
        return torch.atan2(found[1], found[0]) if isinstance(found, tuple) else found

    def forward(
        self, input_ids: Any, attention_mask: Any = None, position_ids: Any = None, **_: Any
    ) -> Any:
        x = self.embed(input_ids)
        mask = transformers.masking_utils.create_causal_mask(
            self.config, x, attention_mask, **_mask_extra(x)
        )
        for layer, block in enumerate(self.blocks):
            x = x + 0.5 * block(x, self.angles(layer, position_ids), mask)
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=x)


def _mask_extra(x: torch.Tensor) -> dict[str, Any]:
    """What transformers 4 also wants."""
    import inspect

    wanted = inspect.signature(transformers.masking_utils.create_causal_mask).parameters
    extra: dict[str, Any] = {"past_key_values": None}
    if "cache_position" in wanted and wanted["cache_position"].default is inspect.Parameter.empty:
        extra["cache_position"] = torch.arange(x.shape[1])
    return extra


def home(model_class: type = HomeModel, *turning: torch.nn.Module, **values: Any) -> Any:
    torch.manual_seed(0)
    return model_class(HomeConfig(**values), *(turning or (Turning(),))).eval()


def home_attention(**members: Any) -> type:
    attention = type("OddAttention", (HomeAttention,), members)
    return type("OddModel", (HomeModel,), {"attention_class": attention})


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_an_unknown_architecture_is_read_off_its_module(implementation: str) -> None:
    model = home()
    model.config._attn_implementation_internal = implementation
    found: list[LayerCapture] = []
    capture(model, texts(48, "none")[0], found.append)
    for each in found:
        assert (each.rope.type, each.rope.base, each.rope.layout) == ("module", None, "interleaved")
        assert each.rope.frequencies == pytest.approx(500 ** -(torch.arange(8) / 8), rel=1e-6)
        assert each.angle_deviation is None  # it does not say how it forms cos and sin
    x = model.embed(texts(48, "none")[0][:1])
    own = to_channels(
        model.blocks[0].q_proj(x).unflatten(-1, (4, 16)).transpose(1, 2)[0], rope := found[0].rope
    )
    again = to_vectors(rotate(own.detach(), rope, torch.arange(48)), rope)
    # the angle of float32, 48 radians at most, and 8 roundings
    atol = (48 + 8) * FLOAT32_UNIT * float(again.abs().max())
    torch.testing.assert_close(found[0].queries.double(), again, rtol=0, atol=atol)


def test_each_layer_is_given_the_module_it_uses() -> None:
    model = home(HomeModel, Turning(500.0), Turning(9000.0))
    second = [rope.frequencies[1] for rope in model_ropes(model, 48)]
    assert second == pytest.approx([500 ** (-1 / 8), 9000 ** (-1 / 8)], rel=1e-6)
    # the base that the configuration names is that of one module; the other speaks for itself
    for order in ((500.0, 9000.0), (9000.0, 500.0)):
        named = model_ropes(home(HomeModel, *map(Turning, order), rope_theta=500.0), 48)
        assert [rope.base for rope in named] == [500.0 if base == 500.0 else None for base in order]
        assert [rope.frequencies[1] for rope in named] == pytest.approx(
            [base ** (-1 / 8) for base in order], rel=1e-6
        )


def test_a_configuration_that_names_the_base_is_held_against_the_module() -> None:
    rope = model_ropes(home(rope_theta=500.0), 48)[0]
    assert (rope.type, rope.base, rope.layout) == ("default", 500.0, "interleaved")
    refused(home(rope_theta=501.0), "frequency of channel 1 is .* gives")


def test_attention_without_the_interface_is_refused() -> None:
    model = home(home_attention(uses_interface=False))
    refused(model, "layers 0, 1 did not hand over queries and keys")


def test_a_layer_without_a_number_is_refused() -> None:
    model = home()
    del model.blocks[0].layer_idx
    refused(model, "HomeAttention does not say which layer it is")


def test_a_model_without_frequencies_is_refused() -> None:
    class Hidden(torch.nn.Module):
        def forward(self, positions: torch.Tensor) -> torch.Tensor:
            return positions[..., None].float() * 500.0 ** -(torch.arange(8) / 8)

    refused(home(HomeModel, Hidden()), "'home_made' shows no rotary position embedding")


def _backwards(self: Any, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    return HomeAttention.turn(self, x, -angles)


def _one_and_a_half(self: Any, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    return HomeAttention.turn(self, x, 1.5 * angles)


def _growing(self: Any, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    return HomeAttention.turn(self, x, angles) * (1 + 0.001 * angles[:, None, :, :1])


def _added(self: Any, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    return x + torch.cat([angles.cos(), angles.sin()], dim=-1)[:, None]


def _one_head(self: Any, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    return torch.cat([HomeAttention.turn(self, x, angles)[:, :3], x[:, 3:]], dim=1)


@pytest.mark.parametrize("turn", [_backwards, _one_and_a_half, _growing, _added, _one_head])
def test_a_rotation_that_is_not_rope_is_refused(turn: Any) -> None:
    refused(home(home_attention(turn=turn)), "layer 0: its queries and keys do not turn")


def test_positions_on_top_of_the_tokens_are_refused() -> None:
    class Placed(HomeModel):
        def forward(self, input_ids: Any, position_ids: Any = None, **kwargs: Any) -> Any:
            self.embed.forward = lambda ids: (
                functional.embedding(ids, self.embed.weight)
                + 0.1 * torch.sin(position_ids[..., None] * torch.arange(64))
            )
            return super().forward(input_ids, position_ids=position_ids, **kwargs)

    refused(home(Placed), "layer 0: its queries and keys do not turn")


def test_a_model_that_takes_no_positions_is_refused() -> None:
    class Own(HomeModel):
        def angles(self, layer: int, positions: torch.Tensor) -> torch.Tensor:
            return super().angles(layer, torch.arange(positions.shape[1])[None])

    refused(home(Own), "turn with position_ids in no layer")

    class Without(HomeModel):
        def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
            raise AssertionError("the model ran")

    refused(home(Without), r"cannot be run on one-token texts .*unexpected keyword")


@pytest.mark.parametrize("members", [{"added": torch.arange(48.0)}, {"share": 0.9}])
def test_attention_that_is_not_softmax_of_the_logits_is_refused(members: dict[str, Any]) -> None:
    model = home(home_attention(share=members.get("share", 1.0)))
    model.config._attn_implementation_internal = "eager"
    if "added" in members:
        # only in the text itself: one-token texts would already show another shape
        for block in model.blocks:
            block.register_forward_pre_hook(
                lambda block, given: setattr(
                    block, "added", members["added"] if given[0].shape[1] == 48 else 0.0
                )
            )
    refused(model, "layer 0, head .: its attention is not the softmax")


@pytest.mark.parametrize("prefix", ["StableLm", "Nemotron", "Qwen2Moe"])
def test_older_modelling_files_are_refused(prefix: str) -> None:
    if transformers_major() >= ARCHITECTURES[prefix].since:
        pytest.skip(f"{prefix} uses the attention interface in this transformers")
    refused(small(prefix), "layers 0, 1 did not hand over queries and keys")


# --- weights that accelerate keeps elsewhere


@pytest.mark.parametrize("offload_buffers", [False, True])
@pytest.mark.parametrize("where", ["cpu", "disk"])
@pytest.mark.parametrize("name", ["Llama", "Gemma3", "Phi3, long", "Cohere2"])
def test_offloaded_weights_change_nothing(
    name: str, where: str, offload_buffers: bool, tmp_path: Path
) -> None:
    accelerate = pytest.importorskip("accelerate")
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    if where == "cpu":
        accelerate.cpu_offload(model, torch.device("cpu"), offload_buffers=offload_buffers)
    else:
        accelerate.disk_offload(model, tmp_path, torch.device("cpu"), offload_buffers)
    assert model.get_input_embeddings().weight.device.type == "meta"
    before = {key: each.device for key, each in model.named_parameters()}
    input_ids, mask = texts(architecture.length, "right")
    found: list[LayerCapture] = []
    capture(model, input_ids, found.append, attention_mask=mask)
    for one, other in zip(found, run(name, "right").found, strict=True):
        assert torch.equal(one.queries, other.queries)
        assert torch.equal(one.keys, other.keys)
        assert (one.rope, one.scale) == (other.rope, other.scale)
        assert one.angle_deviation == other.angle_deviation
    assert {key: each.device for key, each in model.named_parameters()} == before
    assert model_ropes(model, architecture.length) == [each.rope for each in found[::2]]


def test_frequencies_that_are_offloaded_too_are_read() -> None:
    class Kept(Turning):
        """Offloaded with the weights, since it is part of what is saved."""

        def __init__(self) -> None:
            super().__init__()
            self._non_persistent_buffers_set.clear()

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            angles = super().forward(given[-1])
            return angles.cos(), angles.sin()

    model = home(HomeModel, Kept())
    accelerate = pytest.importorskip("accelerate")
    before: list[LayerCapture] = []
    capture(model, texts(48, "none")[0], before.append)
    accelerate.cpu_offload(model, torch.device("cpu"), offload_buffers=True)
    assert model.turning[0].inv_freq.device.type == "meta"
    found: list[LayerCapture] = []
    capture(model, texts(48, "none")[0], found.append)
    for one, other in zip(found, before, strict=True):
        assert one.rope == other.rope
        assert 0 < one.angle_deviation == other.angle_deviation
        assert torch.equal(one.queries, other.queries)
    assert model.turning[0].inv_freq.device.type == "meta"


def test_weights_that_are_nowhere_are_refused() -> None:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            ARCHITECTURES["Llama"].configuration()
        )
    refused(model, "the model has no weights")


# --- the page about all this


def test_the_page_lists_the_architectures_tested() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")
    table = page.split("## Tested")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|", table, re.MULTILINE)[2:]
    told = [(name, each.special, each.layout) for name, each in ARCHITECTURES.items()]
    assert rows == told
