"""Captured queries and keys against the model's own projections and attention maps."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface

from gpu_check.capture import LayerCapture, capture
from gpu_check.visibility import Visibility
from tappa_theory.energy import channel_gain
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, to_channels, unrotate
from tappa_theory.separable import separate
from tappa_theory.shift_identity import LOGIT

VOCABULARY = 97
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
FLOAT32_UNIT = 2.0**-24
# configuration beyond SMALL, and the window of each layer
MODELS: dict[str, tuple[dict[str, Any], list[int | None]]] = {
    "Llama": ({}, [None, None]),
    "Mistral": ({"sliding_window": 16}, [16, 16]),
    "Gemma2": (
        {"sliding_window": 16, "head_dim": 16, "query_pre_attn_scalar": 16},
        [16, None],
    ),
    "Glm": ({"head_dim": 16}, [None, None]),
    "Cohere": ({}, [None, None]),
}


def build(
    name: str = "Llama",
    implementation: str = "sdpa",
    dtype: torch.dtype = torch.float32,
    **extra: Any,
) -> Any:
    """A tiny random model whose attention logits are of order 1 and more, not nearly zero."""
    given = SMALL | MODELS.get(name, ({}, []))[0] | extra
    config = getattr(transformers, f"{name}Config")(**given)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=implementation, dtype=dtype
    )
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "q_proj.weight" in parameter_name or "k_proj.weight" in parameter_name:
                parameter.mul_(14.0)
    return model.eval()


def tokens(batch: int = 1, length: int = 48, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (batch, length), generator=generator)


def captured(model: Any, input_ids: torch.Tensor, **options: Any) -> list[LayerCapture]:
    found: list[LayerCapture] = []
    capture(model, input_ids, found.append, **options)
    return found


# --- the captured vectors are the model's, in every respect that the mathematics uses


def own_numbers(model: Any, input_ids: torch.Tensor) -> tuple[list, list, list]:
    """Projected queries and keys before RoPE, and attention maps, of each layer: the reference."""
    queries, keys, handles = [], [], []
    for block in model.model.layers:
        for projection, outputs in (("q_proj", queries), ("k_proj", keys)):
            linear = getattr(block.self_attn, projection)
            hook = lambda module, arguments, output, kept=outputs: kept.append(output)  # noqa: E731
            handles.append(linear.register_forward_hook(hook))
    with torch.no_grad():
        output = model(input_ids, use_cache=False, output_attentions=True)
    for handle in handles:
        handle.remove()

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x[0].unflatten(-1, (-1, 16)).transpose(0, 1)

    maps = [attention[0] for attention in output.attentions]
    return [heads(x) for x in queries], [heads(x) for x in keys], maps


def excess(found: LayerCapture, query: torch.Tensor, key: torch.Tensor, attention: Any) -> float:
    """Largest difference over its float32 rounding bound; at most 1 if the capture is right.

    The logits come from the projections with the captured Rope: computed from the captured vectors
    they would be right with any Rope, because un-rotating and rotating cancel.
    """
    rope, length, d = found.rope, query.shape[1], query.shape[2]
    positions = torch.arange(length)
    z, w = to_channels(query, rope), to_channels(key, rope)
    angle = found.angle_deviation
    worst = 0.0
    for own, vectors in ((z, found.queries), (w, found.keys)):
        undone = unrotate(to_channels(vectors, rope), rope, positions)
        # cos and sin, two products and a sum: at most 8 roundings
        bound = (angle + 8 * FLOAT32_UNIT) * own.abs()
        worst = max(worst, float(((undone - own).abs() / bound).max()))

    visible = found.visibility.block(positions, positions)
    group = z.shape[0] // w.shape[0]
    logit = separate(LOGIT)
    for head in range(z.shape[0]):
        values = {
            "z": z[head],
            "w": w[head // group],
            "theta": torch.tensor(rope.frequencies),
            "lambda": torch.tensor(channel_gain(rope, found.scale)),
            "t": positions[:, None].double(),
            "i": positions[:, None].double(),
        }
        logits = logit.query_features(values) @ logit.key_features(values).T
        assert float(logits[visible].std()) >= 2
        size = found.scale * float(query[head].norm(dim=-1).max())
        size *= float(key[head // group].norm(dim=-1).max())
        if found.softcap is not None:
            logits = found.softcap * torch.tanh(logits / found.softcap)
        if not torch.equal(attention[head] > 0, visible):
            return math.inf
        ours = torch.log_softmax(torch.where(visible, logits, -math.inf), dim=-1)
        theirs = torch.log(attention[head].double())
        # a logit: d products and sums, and the rotations of both vectors; log-softmax counts it
        # twice, adds a sum of T terms, and exponentials of arguments as large as the logits
        units = 2 * (d + 2 + 16) * size + length + 8 + 8 * float(logits.abs().max())
        bound = units * FLOAT32_UNIT + 4 * angle * size
        worst = max(worst, float((ours - theirs).abs()[visible].max()) / bound)
    return worst


@pytest.mark.parametrize("name", MODELS)
def test_logits_from_channels_are_the_models_own(name: str) -> None:
    model = build(name, "eager")
    own = own_numbers(model, tokens())
    layers = captured(model, tokens())
    assert [found.layer for found in layers] == [0, 1]
    assert [found.visibility.window for found in layers] == MODELS[name][1]
    assert [found.softcap for found in layers] == [50.0 if name == "Gemma2" else None] * 2
    for found, query, key, attention in zip(layers, *own, strict=True):
        assert excess(found, query, key, attention) <= 1


def other_layout(found: LayerCapture) -> LayerCapture:
    layout = "half" if found.rope.layout == "interleaved" else "interleaved"
    return replace(found, rope=replace(found.rope, layout=layout))


def other_base(found: LayerCapture) -> LayerCapture:
    parameters = {"rope_theta": found.rope.base * 1.01}
    share = found.rope.rotary_dim / found.rope.head_dim
    rope = Rope.from_parameters(
        found.rope.head_dim, parameters, partial_rotary_factor=share, layout=found.rope.layout
    )
    return replace(found, rope=rope)


def other_window(found: LayerCapture) -> LayerCapture:
    window = (found.visibility.window or found.visibility.length) - 1
    return replace(found, visibility=Visibility(found.visibility.length, window))


ERRORS = {
    "layout": other_layout,
    "base": other_base,
    "scale": lambda found: replace(found, scale=found.scale * 1.01),
    "window": other_window,
    "queries shifted": lambda found: replace(found, queries=found.queries.roll(1, dims=1)),
    "heads swapped": lambda found: replace(found, keys=found.keys.flip(0)),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["Llama", "Mistral", "Glm"])
def test_comparison_sees_a_planted_error(name: str, error: str) -> None:
    model = build(name, "eager")
    own = own_numbers(model, tokens())
    for found, query, key, attention in zip(captured(model, tokens()), *own, strict=True):
        assert excess(ERRORS[error](found), query, key, attention) > 10


def test_comparison_sees_a_missing_softcap() -> None:
    model = build("Gemma2", "eager")
    own = own_numbers(model, tokens())
    found = replace(captured(model, tokens())[0], softcap=None)
    assert excess(found, *(layers[0] for layers in own)) > 10


@pytest.mark.parametrize("name", ["Llama", "Mistral"])
def test_sdpa_hands_over_the_same_as_eager(name: str) -> None:
    eager = captured(build(name, "eager"), tokens())
    sdpa = captured(build(name, "sdpa"), tokens())
    assert torch.equal(eager[0].queries, sdpa[0].queries)
    assert torch.equal(eager[0].keys, sdpa[0].keys)
    # the first layer's output sums 48 values with float32 weights, four linear maps of 64 to 96
    # inputs follow
    units = 48 + 3 * 64 + 96
    for one, other in ((sdpa[1].queries, eager[1].queries), (sdpa[1].keys, eager[1].keys)):
        atol = units * FLOAT32_UNIT * float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=0, atol=atol)


def test_loss_is_the_models_own() -> None:
    model, ids = build(), tokens(2)
    with torch.no_grad():
        expected = [float(model(text[None], labels=text[None]).loss) for text in ids]
    # means of 47 float32 losses near 4.6
    assert capture(model, ids, lambda _: None) == pytest.approx(expected, rel=47 * FLOAT32_UNIT)


def test_loss_needs_two_tokens_and_a_head() -> None:
    assert capture(build(), tokens(length=1), lambda _: None) == [None]
    assert capture(build().model, tokens(2), lambda _: None) == [None, None]


def test_angle_deviation_is_the_rounding_of_cos_and_sin() -> None:
    half = captured(build(dtype=torch.bfloat16), tokens())[0]
    assert half.queries.dtype == torch.bfloat16
    # relative errors of at most 2^-8 in cos and sin turn the angle by at most 2^-8
    assert 2**-12 < half.angle_deviation <= 2**-8
    full = captured(build(), tokens())[0]
    # an angle below 48 radians carries a few float32 roundings
    assert 0 < full.angle_deviation < 48 * 8 * FLOAT32_UNIT


# --- padding


def test_right_padding_is_marked_and_changes_no_token() -> None:
    model = build("Mistral", dtype=torch.float64)
    ids, mask = tokens(2), torch.ones(2, 48, dtype=torch.int64)
    mask[1, 30:] = 0
    alone = captured(model, ids[1:, :30])
    batch = captured(model, ids, attention_mask=mask)
    assert [(found.layer, found.sample) for found in batch] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for found in batch[::2]:
        assert found.visibility.valid is None
    for found, expected in zip(batch[1::2], alone, strict=True):
        assert torch.equal(found.visibility.valid, mask[1] == 1)
        torch.testing.assert_close(found.queries[:, :30], expected.queries, rtol=0, atol=1e-11)
        torch.testing.assert_close(found.keys[:, :30], expected.keys, rtol=0, atol=1e-11)
    losses = [
        *capture(model, ids[:1], lambda _: None),
        *capture(model, ids[1:, :30], lambda _: None),
    ]
    found = capture(model, ids, lambda _: None, attention_mask=mask)
    assert found == pytest.approx(losses, rel=1e-12)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_left_padding_keeps_positions_from_zero(implementation: str) -> None:
    model = build("Llama", implementation)
    mask = torch.ones(1, 48, dtype=torch.int64)
    mask[0, :10] = 0
    projections = []
    handle = model.model.layers[0].self_attn.q_proj.register_forward_hook(
        lambda module, arguments, output: projections.append(output)
    )
    found = captured(model, tokens(), attention_mask=mask)[0]
    handle.remove()
    assert torch.equal(found.visibility.valid, mask[0] == 1)
    own = to_channels(projections[-1][0].unflatten(-1, (4, 16)).transpose(0, 1), found.rope)
    undone = unrotate(to_channels(found.queries, found.rope), found.rope, np.arange(48))
    bound = (found.angle_deviation + 8 * FLOAT32_UNIT) * own.abs()
    assert bool(((undone - own).abs() <= bound).all())


@pytest.mark.parametrize("row", [[1, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]])
def test_other_masks_are_refused(row: list[int]) -> None:
    with pytest.raises(InputError, match="attention_mask of text 0"):
        capture(build(), tokens(length=4), print, attention_mask=torch.tensor([row]))


@pytest.mark.parametrize("mask", [torch.ones(1, 5), torch.full((1, 4), 2)])
def test_mask_must_fit(mask: torch.Tensor) -> None:
    with pytest.raises(InputError, match="0 and 1 of the shape"):
        capture(build(), tokens(length=4), print, attention_mask=mask)


# --- the model is left as it was found


class Stop(Exception):
    """Raised by an analysis."""


def nested_model() -> Any:
    text = transformers.LlamaConfig(**SMALL)
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        projection_dim=16,
    )
    config = transformers.LlavaConfig(text_config=text, vision_config=vision, image_token_index=96)
    implementation = {"text_config": "sdpa", "vision_config": "eager"}
    return transformers.LlavaForConditionalGeneration._from_config(
        config, attn_implementation=implementation
    )


def longrope_model() -> Any:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "factor": 8.0,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": 32,
    }
    # transformers 4 reads the trained length from the configuration, not from its RoPE
    return build(rope_parameters=rope, rope_scaling=rope, original_max_position_embeddings=32)


def dynamic_model() -> Any:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    return build("Llama", rope_parameters=rope, rope_scaling=rope, max_position_embeddings=32)


def state(model: Any) -> dict[str, Any]:
    """Everything about a model, apart from its weights, that a capture could have changed."""
    hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    modules = list(model.named_modules())
    configs = {name: module.config for name, module in modules if hasattr(module, "config")}
    return {
        "implementation": {name: each._attn_implementation for name, each in configs.items()},
        "configuration": {name: each.to_dict() for name, each in configs.items()},
        "training": {name: module.training for name, module in modules},
        "hooks": {name: [len(getattr(module, kind)) for kind in hooks] for name, module in modules},
        "forward": {name: "forward" in vars(module) for name, module in modules},
        "attributes": {name: sorted(vars(module)) for name, module in modules},
        "buffers": {name: buffer.tolist() for name, buffer in model.named_buffers()},
        "storage": {name: buffer.data_ptr() for name, buffer in model.named_buffers()},
        "attention": dict(AttentionInterface._global_mapping),
        "masks": dict(AttentionMaskInterface._global_mapping),
        "gradients": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("raised", [None, Stop, KeyboardInterrupt])
@pytest.mark.parametrize(
    "make",
    [build, lambda: build("Gemma2", "eager"), nested_model, longrope_model, dynamic_model],
    ids=["llama", "gemma2", "nested", "longrope", "dynamic"],
)
def test_model_is_left_as_found(make: Any, raised: type[BaseException] | None) -> None:
    model = make().train()
    model.get_decoder().layers[1].eval()
    before = state(model)
    during = []

    def analyse(found: LayerCapture) -> None:
        during.append(state(model))
        if raised is not None and found.layer == 1:
            raise raised

    if raised is None:
        capture(model, tokens(), analyse)
    else:
        with pytest.raises(raised):
            capture(model, tokens(), analyse)
    assert len(during) == 2
    for name in ("implementation", "training", "attention", "masks", "gradients"):
        assert during[0][name] != before[name]  # the comparison below can fail
    assert state(model) == before


def test_frequencies_that_follow_the_text_are_put_back() -> None:
    for model in (longrope_model(), dynamic_model()):
        ids = tokens(length=24)
        with torch.no_grad():
            expected = model(ids).logits
        buffers = state(model)["buffers"]
        during = []
        capture(model, tokens(), lambda _, m=model, kept=during: kept.append(state(m)["buffers"]))
        assert during[0] != buffers
        assert state(model)["buffers"] == buffers
        with torch.no_grad():
            assert torch.equal(model(ids).logits, expected)


def test_nested_model_is_captured() -> None:
    found = captured(nested_model(), tokens())
    assert [each.layer for each in found] == [0, 1]


# --- what cannot be told truly is refused


def test_model_without_rope_is_refused_before_it_runs() -> None:
    config = transformers.GPT2Config(n_embd=64, n_head=4, n_layer=2, vocab_size=VOCABULARY)
    model = transformers.AutoModelForCausalLM.from_config(config)

    def forward(*_: Any, **__: Any) -> None:
        raise AssertionError("the model ran")

    model.forward = forward
    with pytest.raises(InputError, match="'gpt2' shows no rotary position embedding"):
        capture(model, tokens(), print)


def test_attention_sinks_are_refused() -> None:
    model = build("GptOss", "eager", head_dim=16, num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(InputError, match="layer 0 has learned attention sinks"):
        capture(model, tokens(), print)


def test_softcap_that_sdpa_would_drop_is_refused() -> None:
    model = build("Gemma2", "eager", attn_logit_softcapping=None)
    model.config._attn_implementation = "sdpa"
    model.model.layers[1].self_attn.attn_logit_softcapping = 30.0
    with pytest.raises(InputError, match="layer 1 caps its logits"):
        capture(model, tokens(), lambda _: None)


def test_window_off_by_one_is_refused() -> None:
    model = build("Gemma2", "eager")
    model.model.layers[0].self_attn.sliding_window -= 1
    with pytest.raises(InputError, match=r"layer 0 hides .* sliding window of 15"):
        capture(model, tokens(), print)


def test_forgotten_window_is_refused() -> None:
    model = build("Gemma2", "eager")
    model.model.layers[1].self_attn.sliding_window = 16
    with pytest.raises(InputError, match="layer 1 hides other pairs"):
        capture(model, tokens(), lambda _: None)


def test_bidirectional_attention_is_refused() -> None:
    model = build()
    model.model.layers[1].self_attn.is_causal = False
    with pytest.raises(InputError, match="layer 1 hides other pairs"):
        capture(model, tokens(), lambda _: None)


def test_rope_unlike_the_configuration_is_refused() -> None:
    model = build()
    model.model.rotary_emb.inv_freq[3] *= 1.01
    with pytest.raises(InputError, match="RoPE frequency of channel 3"):
        capture(model, tokens(), print)


@pytest.mark.parametrize(("projection", "what"), [("q_proj", "queries"), ("k_proj", "keys")])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(projection: str, what: str, value: float) -> None:
    model = build()
    with torch.no_grad():
        getattr(model.model.layers[1].self_attn, projection).weight[16] = value
    with pytest.raises(InputError, match=f"layer 1, head 1: its {what} are not finite"):
        capture(model, tokens(), lambda _: None)


def test_loss_that_is_not_finite_is_refused() -> None:
    model = build()
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(InputError, match="loss is not finite"):
        capture(model, tokens(), lambda _: None)


@pytest.mark.parametrize(
    ("input_ids", "message"),
    [
        (torch.tensor([1, 2]), "input_ids of shape"),
        (torch.zeros(1, 0, dtype=torch.int64), "input_ids of shape"),
        (torch.ones(1, 4), "input_ids of shape"),
        (torch.tensor([[1, VOCABULARY]]), "embeds 0 to 96"),
        (torch.tensor([[-1, 1]]), "embeds 0 to 96"),
    ],
)
def test_ids_that_do_not_fit_are_refused(input_ids: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        capture(build(), input_ids, print)


def test_layers_are_chosen() -> None:
    found = captured(build(), tokens(), layers=range(1, 2))
    assert [each.layer for each in found] == [1]
    with pytest.raises(InputError, match="layer 2 does not exist"):
        captured(build(), tokens(), layers=range(1, 3))
    with pytest.raises(InputError, match="no layer"):
        captured(build(), tokens(), layers=range(1, 1))


@pytest.mark.gpu
def test_cuda_hands_over_the_same_as_cpu() -> None:
    model, ids, mask = build("Mistral", dtype=torch.float64), tokens(2), torch.ones(2, 48)
    mask[1, 30:] = 0
    expected = captured(model, ids, attention_mask=mask)
    found = captured(model.cuda(), ids, attention_mask=mask)
    for one, other in zip(found, expected, strict=True):
        assert one.queries.is_cuda
        # cos and sin are float32 and may differ by a rounding between devices
        atol = 8 * FLOAT32_UNIT * float(other.queries.abs().max()) * 48
        torch.testing.assert_close(one.queries.cpu(), other.queries, rtol=0, atol=atol)
