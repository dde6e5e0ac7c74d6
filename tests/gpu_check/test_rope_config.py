"""Every layer's Rope, read from transformers configurations and held against their own modules."""

import copy
import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from gpu_check.rope_config import (
    cos_and_sin,
    frequency_tolerance,
    refuse_unsupported,
    rope_for_layer,
    rope_of_module,
    verify_against_model,
)
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tests.gpu_check.architectures import rope as as_taken
from tests.gpu_check.architectures import transformers_major

SMALL = {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
    "max_position_embeddings": 4096,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": np.linspace(1, 2, 32).tolist(),
    "long_factor": np.geomspace(1, 40, 32).tolist(),
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 2048,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 4.0,
    "original_max_position_embeddings": 1024,
}
# model folder, class prefix, configuration beyond SMALL, (base, type, rotary_dim), length
MODELS = {
    "llama": ("llama", "Llama", {}, (1e4, "default", 64), 100),
    "llama3": ("llama", "Llama", {"rope_parameters": LLAMA3}, (5e5, "llama3", 64), 4096),
    "llama-dynamic": (
        "llama",
        "Llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
        (1e4, "dynamic", 64),
        9000,
    ),
    "mistral": ("mistral", "Mistral", {"head_dim": 32}, (1e4, "default", 32), 100),
    "qwen2": ("qwen2", "Qwen2", {"rope_parameters": YARN}, (1e6, "yarn", 64), 100),
    "qwen3": ("qwen3", "Qwen3", {"head_dim": 128}, (1e4, "default", 128), 100),
    "phi": ("phi", "Phi", {}, (1e4, "default", 32), 100),
    "gpt_neox": ("gpt_neox", "GPTNeoX", {}, (1e4, "default", 16), 100),
    "phi3-short": (
        "phi3",
        "Phi3",
        {"rope_parameters": LONG, "original_max_position_embeddings": 512, "pad_token_id": 0},
        (1e4, "longrope", 64),
        512,
    ),
    "phi3-long": (
        "phi3",
        "Phi3",
        {"rope_parameters": LONG, "original_max_position_embeddings": 512, "pad_token_id": 0},
        (1e4, "longrope", 64),
        513,
    ),
    "cohere": (
        "cohere",
        "Cohere",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        (5e5, "default", 64),
        100,
    ),
    "glm": ("glm", "Glm", {"head_dim": 64}, (1e4, "default", 32), 100),
    "glm4": ("glm4", "Glm4", {"head_dim": 64}, (1e4, "default", 32), 100),
    "helium": ("helium", "Helium", {"head_dim": 64}, (1e5, "default", 64), 100),
    "ernie4_5": ("ernie4_5", "Ernie4_5", {"head_dim": 64}, (5e5, "default", 64), 100),
}


def build(folder, prefix, extra):
    source = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    config_class = getattr(transformers, f"{prefix}Config")
    if "rope_parameters" in extra:
        extra = {**extra, **as_taken(**extra["rope_parameters"])}
    # transformers writes into the dictionaries it is given
    config = config_class(**copy.deepcopy({**SMALL, **extra}))
    return config, getattr(source, f"{prefix}RotaryEmbedding")(config)


@pytest.mark.parametrize("name", MODELS)
def test_a_rope_is_the_models_own(name):
    folder, prefix, extra, expected, length = MODELS[name]
    config, module = build(folder, prefix, extra)
    rope = rope_for_layer(config, 1, length)
    assert (rope.base, rope.type, rope.rotary_dim) == expected
    verify_against_model(rope, module, length)
    held = rope_of_module(module, rope.head_dim, length)
    assert (held.type, held.base, held.rotary_dim) == ("module", None, rope.rotary_dim)
    assert held.attention_scaling == pytest.approx(rope.attention_scaling, rel=2**-23)
    assert np.all(
        np.abs(held.frequencies - rope.frequencies)[: rope.rotary_dim // 2]
        <= frequency_tolerance(rope)
    )
    assert not np.any(held.frequencies[rope.rotary_dim // 2 :])


@pytest.mark.skipif(transformers_major() < 5, reason="transformers 4 has a module per layer type")
def test_gemma3_has_a_rope_per_layer_type():
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

    config = transformers.Gemma3TextConfig(
        **{**SMALL, "num_hidden_layers": 12},
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        },
    )
    module = Gemma3RotaryEmbedding(config)
    found = [rope_for_layer(config, layer, 100) for layer in range(12)]
    assert [(rope.base, rope.type) for rope in found[4:7]] == [
        (1e4, "default"),
        (1e6, "linear"),
        (1e4, "default"),
    ]
    for rope, layer_type in zip(found, config.layer_types, strict=True):
        verify_against_model(rope, module, 100, layer_type)
        cos, _ = cos_and_sin(module, np.array([0, 3]), layer_type)
        assert cos[1, 0] == pytest.approx(math.cos(3 * rope.frequencies[0]), abs=1e-6)
    with pytest.raises(InputError, match="frequency of channel"):
        verify_against_model(found[0], module, 100, "full_attention")


def legacy(model_type, **values):
    """A configuration as transformers 4.56 presents it: rope_theta and rope_scaling."""
    config = SimpleNamespace(model_type=model_type, **{**SMALL, **values})
    config.get_text_config = lambda: config
    return config


def test_transformers_4_configurations():
    plain = rope_for_layer(legacy("llama", rope_theta=1e5, rope_scaling=None), 0)
    assert plain == Rope.from_parameters(64, {"rope_theta": 1e5})
    scaling = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}
    llama3 = rope_for_layer(legacy("llama", rope_theta=5e5, rope_scaling=scaling), 0)
    assert llama3 == Rope.from_parameters(64, LLAMA3)
    typed = legacy("llama", rope_theta=1e4, rope_scaling={"type": "linear", "factor": 2.0})
    assert rope_for_layer(typed, 0).type == "linear"
    neox = legacy("gpt_neox", rope_theta=1e4, rope_scaling=None, partial_rotary_factor=0.25)
    assert rope_for_layer(neox, 0).rotary_dim == 16
    phi3 = legacy("phi3", rope_theta=1e4, rope_scaling=LONG, original_max_position_embeddings=512)
    assert rope_for_layer(phi3, 0, 513) != rope_for_layer(phi3, 0, 512)
    gemma = legacy(
        "gemma3_text",
        rope_theta=1e6,
        rope_local_base_freq=1e4,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    assert [
        (rope.base, rope.type) for rope in (rope_for_layer(gemma, layer) for layer in range(4))
    ] == [
        (1e4, "default"),
        (1e6, "linear"),
    ] * 2


def test_a_configuration_may_name_no_base_or_no_rope():
    assert rope_for_layer(transformers.GPT2Config(), 0) is None
    types = {"sliding_attention": {"rope_theta": 1e4}, "full_attention": None}
    hybrid = legacy(
        "x", rope_parameters=types, layer_types=["sliding_attention", "full_attention", "other"] * 2
    )
    assert rope_for_layer(hybrid, 0).base == 1e4
    assert rope_for_layer(hybrid, 1) == Rope.none(64)
    assert rope_for_layer(hybrid, 2) is None  # entries for layer types, but none for this one


def test_a_known_head_size_goes_before_the_configuration():
    rope = rope_for_layer(transformers.LlamaConfig(**SMALL), 0, head_dim=32)
    assert rope == Rope.from_parameters(32, {"rope_theta": 1e4})


def test_what_one_token_texts_would_not_show_is_refused():
    refuse_unsupported(transformers.LlamaConfig(**SMALL), 10**6)
    with pytest.raises(InputError, match="latent attention"):
        refuse_unsupported(transformers.DeepseekV3Config(), 1)
    with pytest.raises(InputError, match="ALiBi"):
        refuse_unsupported(transformers.FalconConfig(alibi=True), 1)
    llama4 = transformers.Llama4TextConfig(attn_temperature_tuning=True, floor_scale=8192)
    refuse_unsupported(llama4, 8191)
    with pytest.raises(InputError, match="--tokens 8191 or fewer"):
        refuse_unsupported(llama4, 8192)


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="layer 4 does not exist; the model has 4"):
        rope_for_layer(transformers.LlamaConfig(**SMALL), 4)


def changed(rope, **values):
    fields = ("frequencies", "layout", "rotary_dim", "attention_scaling", "type", "base")
    return Rope(**{**{name: getattr(rope, name) for name in fields}, **values})


def test_verification_sees_every_kind_of_difference():
    config, module = build("llama", "Llama", {})
    rope = rope_for_layer(config, 0)
    wrong_base = Rope.from_parameters(64, {"rope_theta": 1.01e4})
    with pytest.raises(InputError, match="frequency of channel"):
        verify_against_model(wrong_base, module, 100)
    with pytest.raises(InputError, match="attention_scaling is 1"):
        verify_against_model(changed(rope, attention_scaling=1.001), module, 100)
    half = Rope.from_parameters(64, {"rope_theta": 1e4}, partial_rotary_factor=0.5)
    with pytest.raises(InputError, match="32 RoPE frequencies"):
        verify_against_model(half, module, 100)
    too_far = rope.frequencies.copy()
    too_far[0] += 3 * frequency_tolerance(rope)[0]
    with pytest.raises(InputError, match="channel 0"):
        verify_against_model(changed(rope, frequencies=too_far), module, 100)
    module.to(torch.bfloat16)
    with pytest.raises(InputError, match="bfloat16"):
        verify_against_model(rope, module, 100)


def test_verification_sees_the_length_of_the_text():
    config, module = build(*MODELS["llama-dynamic"][:3])
    verify_against_model(rope_for_layer(config, 0, 9000), module, 9000)
    with pytest.raises(InputError, match="length of the text"):
        verify_against_model(rope_for_layer(config, 0, 9000), module, 9500)


def test_a_blend_without_a_base_has_no_tolerance():
    with pytest.raises(InputError, match="has no base"):
        frequency_tolerance(changed(Rope.from_parameters(64, LLAMA3), base=None))


def test_a_module_of_another_kind_is_refused():
    rope = Rope.from_parameters(64, {"rope_theta": 1e4})
    with pytest.raises(InputError, match="Linear has no inv_freq"):
        verify_against_model(rope, torch.nn.Linear(2, 2), 10)


class Module(torch.nn.Module):
    """A rotary module that is called as `call` says."""

    def __init__(self, inv_freq, call):
        super().__init__()
        self.inv_freq, self.call = inv_freq, call

    def forward(self, *arguments):
        return self.call(*arguments)


def three_axes(hidden, positions):
    angle = positions.float()[..., None] * torch.ones(2)
    return angle[0].cos(), angle[2].sin()


CALLS = {
    "complex": lambda hidden, positions: torch.polar(
        torch.ones(*positions.shape, 2), positions[..., None].float() * torch.ones(2)
    ),
    "three axes": three_axes,
}


@pytest.mark.parametrize("call", CALLS)
def test_cos_and_sin_of_modules_of_another_kind(call):
    cos, sin = cos_and_sin(Module(torch.ones(2), CALLS[call]), np.array([0, 3]))
    assert cos.dtype == torch.float64
    assert cos[:, 1].tolist() == pytest.approx([1, math.cos(3)], abs=1e-6)
    assert sin[:, 0].tolist() == pytest.approx([0, math.sin(3)], abs=1e-6)


def test_modules_that_cannot_be_asked_give_nothing():
    def missing(hidden):
        raise AssertionError

    for call in (missing, lambda *_: None, lambda *_: (torch.ones(2), torch.ones(2))):
        assert cos_and_sin(Module(torch.ones(2), call), np.array([0, 3])) is None


def test_frequencies_that_do_not_fit_the_heads_are_refused():
    with pytest.raises(InputError, match=r"inv_freq of shape \(9,\), .* heads of size 16"):
        rope_of_module(Module(torch.ones(9), lambda *_: None), 16, 10)
