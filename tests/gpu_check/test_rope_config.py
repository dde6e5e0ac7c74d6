"""Every layer's Rope, read from transformers configurations and held against their own modules."""

import copy
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from gpu_check.rope_config import (
    frequency_tolerance,
    layout_of,
    rope_for_layer,
    ropes,
    verify_against_model,
)
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

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
# model folder, class prefix, configuration beyond SMALL, (base, type, rotary_dim, layout), length
MODELS = {
    "llama": ("llama", "Llama", {}, (1e4, "default", 64, "half"), 100),
    "llama3": ("llama", "Llama", {"rope_parameters": LLAMA3}, (5e5, "llama3", 64, "half"), 4096),
    "llama-dynamic": (
        "llama",
        "Llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
        (1e4, "dynamic", 64, "half"),
        9000,
    ),
    "mistral": ("mistral", "Mistral", {"head_dim": 32}, (1e4, "default", 32, "half"), 100),
    "qwen2": ("qwen2", "Qwen2", {"rope_parameters": YARN}, (1e6, "yarn", 64, "half"), 100),
    "qwen3": ("qwen3", "Qwen3", {"head_dim": 128}, (1e4, "default", 128, "half"), 100),
    "phi": ("phi", "Phi", {}, (1e4, "default", 32, "half"), 100),
    "gpt_neox": ("gpt_neox", "GPTNeoX", {}, (1e4, "default", 16, "half"), 100),
    "phi3-short": (
        "phi3",
        "Phi3",
        {"rope_parameters": LONG, "original_max_position_embeddings": 512, "pad_token_id": 0},
        (1e4, "longrope", 64, "half"),
        512,
    ),
    "phi3-long": (
        "phi3",
        "Phi3",
        {"rope_parameters": LONG, "original_max_position_embeddings": 512, "pad_token_id": 0},
        (1e4, "longrope", 64, "half"),
        513,
    ),
    "cohere": ("cohere", "Cohere", {}, (5e5, "default", 64, "interleaved"), 100),
    "glm": ("glm", "Glm", {"head_dim": 64}, (1e4, "default", 32, "interleaved"), 100),
    "glm4": ("glm4", "Glm4", {"head_dim": 64}, (1e4, "default", 32, "interleaved"), 100),
    "helium": ("helium", "Helium", {"head_dim": 64}, (1e5, "default", 64, "interleaved"), 100),
    "ernie4_5": (
        "ernie4_5",
        "Ernie4_5",
        {"head_dim": 64},
        (5e5, "default", 64, "interleaved"),
        100,
    ),
}


def build(folder, prefix, extra):
    source = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    config_class = getattr(transformers, f"{prefix}Config")
    # transformers writes into the dictionaries it is given
    config = config_class(**copy.deepcopy({**SMALL, **extra}))
    return config, getattr(source, f"{prefix}RotaryEmbedding")(config)


@pytest.mark.parametrize("name", MODELS)
def test_a_rope_is_the_models_own(name):
    folder, prefix, extra, expected, length = MODELS[name]
    config, module = build(folder, prefix, extra)
    rope = rope_for_layer(config, 1, length)
    assert (rope.base, rope.type, rope.rotary_dim, rope.layout) == expected
    assert verify_against_model(rope, module, length) is True


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
    found = ropes(config, 100)
    assert [(rope.base, rope.type) for rope in found[4:7]] == [
        (1e4, "default"),
        (1e6, "linear"),
        (1e4, "default"),
    ]
    for rope, layer_type in zip(found, config.layer_types, strict=True):
        assert verify_against_model(rope, module, 100, layer_type) is True
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
    assert [(rope.base, rope.type) for rope in ropes(gemma)] == [
        (1e4, "default"),
        (1e6, "linear"),
    ] * 2


def test_layers_that_skip_rope_have_zero_frequencies():
    smollm3 = transformers.SmolLM3Config(**SMALL, no_rope_layers=[1, 0, 1, 1], pad_token_id=0)
    assert [rope.type for rope in ropes(smollm3)] == ["default", "none", "default", "default"]
    cohere2 = transformers.Cohere2Config(**SMALL)
    assert [rope.type for rope in ropes(cohere2)] == ["default", "default", "default", "none"]
    exaone4 = transformers.Exaone4Config(**SMALL, sliding_window=16, sliding_window_pattern=2)
    expected = ["default" if "sliding" in kind else "none" for kind in exaone4.layer_types]
    assert [rope.type for rope in ropes(exaone4)] == expected
    assert set(expected) == {"default", "none"}
    assert verify_against_model(Rope.none(64), None, 100) is False


def test_gptj_rotates_its_first_components():
    config = transformers.GPTJConfig(n_embd=256, n_head=4, n_layer=2, rotary_dim=32)
    rope = rope_for_layer(config, 1)
    assert rope == Rope.from_parameters(
        64, {"rope_theta": 1e4}, partial_rotary_factor=0.5, layout="interleaved"
    )


def test_models_without_rope_are_refused():
    with pytest.raises(InputError, match="'gpt2' has no rotary position embedding"):
        rope_for_layer(transformers.GPT2Config(), 0)
    with pytest.raises(InputError, match="'bloom' has no rotary position embedding"):
        rope_for_layer(transformers.BloomConfig(), 0)
    with pytest.raises(InputError, match="'falcon' has no rotary position embedding"):
        rope_for_layer(transformers.FalconConfig(alibi=True), 0)
    with pytest.raises(InputError, match="latent attention"):
        rope_for_layer(transformers.DeepseekV3Config(), 0)


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
    with pytest.raises(InputError, match="in another way than layout 'interleaved'"):
        verify_against_model(changed(rope, layout="interleaved"), module, 100)
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
    assert verify_against_model(rope_for_layer(config, 0, 9000), module, 9000)
    with pytest.raises(InputError, match="length of the text"):
        verify_against_model(rope_for_layer(config, 0, 9000), module, 9500)


def test_an_unknown_interleaved_architecture_is_not_taken_for_half():
    config, module = build("glm", "Glm", {"head_dim": 64})
    config.model_type = "unknown"
    assert layout_of(config) == "half"
    with pytest.raises(InputError, match="needs an entry"):
        verify_against_model(rope_for_layer(config, 0), module, 100)


def test_a_blend_without_a_base_has_no_tolerance():
    with pytest.raises(InputError, match="has no base"):
        frequency_tolerance(changed(Rope.from_parameters(64, LLAMA3), base=None))


def test_a_module_of_another_kind_is_refused():
    rope = Rope.from_parameters(64, {"rope_theta": 1e4})
    with pytest.raises(InputError, match="Linear has no inv_freq"):
        verify_against_model(rope, torch.nn.Linear(2, 2), 10)
