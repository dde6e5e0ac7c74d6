"""Architectures that capture is tested on: tiny random models, and what must be found in each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers

VOCABULARY = 97
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
QUERY_KEY = ("q_proj", "k_proj", "query_key_value", "qkv_proj")
"""How modelling files call the projections of queries and keys, fused ones included."""
QUERY_KEY_NORM = ("q_norm", "k_norm", "q_layernorm", "k_layernorm")


@dataclass(frozen=True)
class Architecture:
    """A tiny random model.

    prefix: of the configuration class. values: of the configuration, beyond SMALL. special: what
    the architecture does that others do not (the words of docs/architectures.md). types, layout:
    of the Rope of each layer. rotary_dim, windows: likewise. length: tokens of the text.
    optional: the installed transformers may lack it. since: major version of transformers in which
    the architecture came to use the attention interface.
    """

    prefix: str
    special: str
    values: dict[str, Any] = field(default_factory=dict)
    types: tuple[str, ...] = ("default", "default")
    layout: str = "half"
    rotary_dim: int = 16
    windows: tuple[int | None, ...] = (None, None)
    length: int = 48
    factor: float = 14.0
    optional: bool = False
    since: int = 4

    def configuration(self) -> Any:
        """The configuration. Skips the test where this transformers has no such architecture."""
        cls = getattr(transformers, f"{self.prefix}Config", None)
        if cls is None and self.optional:
            pytest.skip(f"transformers {transformers.__version__} has no {self.prefix}")
        if transformers_major() < self.since:
            pytest.skip(f"{self.prefix} does not use the attention interface before 5")
        # what transformers is given it writes into
        return cls(**{key: _copy(value) for key, value in (SMALL | self.values).items()})

    def build(self, implementation: str = "eager", dtype: torch.dtype = torch.float32) -> Any:
        """The model, with logits of order 1 and more and norms that are not trivial."""
        return build(self.configuration(), implementation, dtype, self.factor)


def transformers_major() -> int:
    """4 or 5: they take RoPE parameters in different forms."""
    return int(transformers.__version__.split(".")[0])


def build(
    config: Any,
    implementation: str = "eager",
    dtype: torch.dtype = torch.float32,
    factor: float = 14.0,
    make: Callable[..., Any] | None = None,
) -> Any:
    """A random model of that configuration, with large queries and keys."""
    torch.manual_seed(0)
    make = make or transformers.AutoModelForCausalLM.from_config
    model = make(config, attn_implementation=implementation, dtype=dtype)
    enlarge(model, factor)
    return model.eval()


def enlarge(model: Any, factor: float = 14.0) -> None:
    """Make the projections of queries and keys large, and their biases and norms random."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parts = name.split(".")
            if any(part in QUERY_KEY_NORM for part in parts):
                parameter.copy_(1 + 2 * torch.rand(parameter.shape, generator=generator))
            elif any(part in QUERY_KEY for part in parts):
                if parts[-1] == "bias":
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))
                else:
                    parameter.mul_(factor)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    return list(value) if isinstance(value, list) else value


def rope(**parameters: Any) -> dict[str, Any]:
    """RoPE parameters as transformers 5 or as transformers 4 takes them."""
    if transformers_major() >= 5:
        return {"rope_parameters": parameters}
    parameters = dict(parameters)
    base = parameters.pop("rope_theta")
    if parameters["rope_type"] == "longrope":  # Phi-3 takes these alone
        parameters = {
            "type": "longrope",
            "short_factor": parameters["short_factor"],
            "long_factor": parameters["long_factor"],
        }
    return {"rope_theta": base, "rope_scaling": parameters}


_LONGROPE = rope(
    rope_type="longrope",
    rope_theta=1e4,
    factor=8.0,
    short_factor=[1.0 + 0.1 * j for j in range(8)],
    long_factor=[1.5 + j for j in range(8)],
    original_max_position_embeddings=32,
) | {"original_max_position_embeddings": 32, "max_position_embeddings": 256}
_MOE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "decoder_sparse_step": 1,
}
_SLIDING = ["sliding_attention", "full_attention"]

ARCHITECTURES = {
    "Llama": Architecture("Llama", "plain RoPE, grouped key heads"),
    "Llama, linear": Architecture(
        "Llama",
        "RoPE with positions squeezed",
        rope(rope_type="linear", rope_theta=1e4, factor=4.0),
        types=("linear",) * 2,
    ),
    "Llama, dynamic": Architecture(
        "Llama",
        "RoPE whose base grows beyond the trained context",
        rope(rope_type="dynamic", rope_theta=1e4, factor=4.0) | {"max_position_embeddings": 32},
        types=("dynamic",) * 2,
    ),
    "Llama, llama3": Architecture(
        "Llama",
        "RoPE with long wavelengths stretched",
        rope(
            rope_type="llama3",
            rope_theta=5e5,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
        types=("llama3",) * 2,
    ),
    "Llama, yarn": Architecture(
        "Llama",
        "blended frequencies, vectors scaled by RoPE",
        rope(
            rope_type="yarn",
            rope_theta=1e4,
            factor=4.0,
            original_max_position_embeddings=64,
        ),
        types=("yarn",) * 2,
    ),
    "Mistral": Architecture("Mistral", "sliding window", {"sliding_window": 16}, windows=(16, 16)),
    "Qwen2": Architecture("Qwen2", "biases on queries and keys"),
    "Qwen3": Architecture("Qwen3", "norm of queries and keys before RoPE"),
    "Gemma2": Architecture(
        "Gemma2",
        "capped logits, own scale, sliding window in every second layer",
        {"sliding_window": 16, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 20.0},
        windows=(16, None),
    ),
    "Gemma3": Architecture(
        "Gemma3Text",
        "two RoPE bases, sliding window in the local layers",
        {
            "sliding_window": 16,
            "query_pre_attn_scalar": 24,
            "layer_types": _SLIDING,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            },
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        types=("default", "linear"),
        windows=(16, None),
    ),
    "Phi3, short": Architecture(
        "Phi3",
        "fused projection, longrope within the trained context",
        _LONGROPE,
        types=("longrope",) * 2,
        length=32,
    ),
    "Phi3, long": Architecture(
        "Phi3",
        "fused projection, longrope beyond the trained context",
        _LONGROPE,
        types=("longrope",) * 2,
    ),
    "Olmo2": Architecture("Olmo2", "norm over all heads before RoPE"),
    "Olmo3": Architecture(
        "Olmo3",
        "norm over all heads before RoPE, sliding window",
        {"sliding_window": 16, "layer_types": _SLIDING},
        windows=(16, None),
        optional=True,
    ),
    "GPTNeoX": Architecture(
        "GPTNeoX", "a quarter of each head rotates, fused projection", rotary_dim=4
    ),
    "StableLm": Architecture(
        "StableLm", "a quarter of each head rotates", {"qk_layernorm": True}, rotary_dim=4, since=5
    ),
    "Phi": Architecture("Phi", "half of each head rotates", {"qk_layernorm": True}, rotary_dim=8),
    "Cohere": Architecture(
        "Cohere", "interleaved pairs", {"use_qk_norm": True}, layout="interleaved"
    ),
    "Cohere2": Architecture(
        "Cohere2",
        "interleaved pairs, no RoPE in global layers",
        {"sliding_window": 16, "layer_types": _SLIDING},
        types=("default", "none"),
        layout="interleaved",
        windows=(16, None),
    ),
    "Glm": Architecture(
        "Glm", "interleaved pairs in half of each head", layout="interleaved", rotary_dim=8
    ),
    "Glm4": Architecture(
        "Glm4", "interleaved pairs in half of each head", layout="interleaved", rotary_dim=8
    ),
    "SmolLM3": Architecture(
        "SmolLM3",
        "no RoPE in some layers",
        {"no_rope_layers": [1, 0]},
        types=("default", "none"),
    ),
    "Exaone4": Architecture(
        "Exaone4",
        "no RoPE in global layers, norm before RoPE",
        {"sliding_window": 16, "layer_types": _SLIDING},
        types=("default", "none"),
        windows=(16, None),
    ),
    "Mixtral": Architecture(
        "Mixtral", "mixture of experts", {"num_local_experts": 4, "sliding_window": None}
    ),
    "Qwen2Moe": Architecture("Qwen2Moe", "mixture of experts, biases", _MOE, since=5),
    "Qwen3Moe": Architecture("Qwen3Moe", "mixture of experts, norm before RoPE", _MOE),
    "Granite": Architecture("Granite", "own scale", {"attention_multiplier": 0.2}),
    "Helium": Architecture("Helium", "interleaved pairs", layout="interleaved"),
    "Starcoder2": Architecture(
        "Starcoder2", "biases, sliding window", {"sliding_window": 16}, windows=(16, 16)
    ),
    "Nemotron": Architecture("Nemotron", "half of each head rotates", rotary_dim=8, since=5),
    "Persimmon": Architecture(
        "Persimmon",
        "half of each head rotates, norm before RoPE, fused projection",
        {"qk_layernorm": True},
        rotary_dim=8,
    ),
    "Ministral": Architecture(
        "Ministral",
        "sliding window in some layers",
        {"sliding_window": 16, "layer_types": _SLIDING},
        windows=(16, None),
        optional=True,
    ),
    "Ernie4_5": Architecture("Ernie4_5", "interleaved pairs", layout="interleaved", optional=True),
    "Olmo": Architecture("Olmo", "clipped projections", {"clip_qkv": 2.5}),
    "Arcee": Architecture("Arcee", "plain RoPE, other activation", optional=True),
    "SeedOss": Architecture("SeedOss", "biases", {"attention_bias": True}, optional=True),
    "Apertus": Architecture(
        "Apertus",
        "norm of queries and keys before RoPE",
        rope(rope_type="default", rope_theta=1e4),
        optional=True,
    ),
}
