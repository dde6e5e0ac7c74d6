"""Rotate functions: those of transformers, a plain one, and wrong ones."""

from collections.abc import Callable

import numpy as np
import torch
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.models.gpt_neox import modeling_gpt_neox as gpt_neox_model
from transformers.models.gptj import modeling_gptj as gptj_model
from transformers.models.llama import modeling_llama as llama_model

from tappa_theory.rope import Rope

HEAD_DIM = 32
BASE = 10_000.0
CONTEXT = 131_072
YARN = {
    "rope_type": "yarn",
    "rope_theta": BASE,
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
}

Rotate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def llama(base: float = BASE, scaled: dict | None = None) -> Rotate:
    """Llama's: LlamaRotaryEmbedding and apply_rotary_pos_emb."""
    config = LlamaConfig(
        hidden_size=2 * HEAD_DIM,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        rope_theta=base,
        rope_scaling=scaled and dict(scaled),
    )
    embedding = llama_model.LlamaRotaryEmbedding(config)

    def rotate(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = embedding(x, positions[None])
        return llama_model.apply_rotary_pos_emb(x[None, None], x[None, None], cos, sin)[0][0, 0]

    return rotate


def gpt_neox(share: float = 0.25) -> Rotate:
    """GPT-NeoX's: only some of the components turn."""
    config = GPTNeoXConfig(
        hidden_size=2 * HEAD_DIM, num_attention_heads=2, rotary_pct=share, rotary_emb_base=BASE
    )
    embedding = gpt_neox_model.GPTNeoXRotaryEmbedding(config)

    def rotate(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = embedding(x, positions[None])
        return gpt_neox_model.apply_rotary_pos_emb(x[None, None], x[None, None], cos, sin)[0][0, 0]

    return rotate


def gptj(rotary_dim: int, context: int) -> Rotate:
    """GPT-J's: interleaved pairs, from a table made beforehand; heads (heads, T, d)."""
    table = gptj_model.create_sinusoidal_positions(context, rotary_dim)

    def rotate(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        sin, cos = table[positions].chunk(2, dim=-1)
        # GPT-J's axes are (batch, T, heads, d)
        turning = x[None, :, :, :rotary_dim].transpose(1, 2)
        turned = gptj_model.apply_rotary_pos_emb(turning, sin[None], cos[None]).transpose(1, 2)
        return torch.cat([turned[0], x[..., rotary_dim:]], dim=-1)

    return rotate


def plain(rope: Rope, dtype: str = "float32") -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """In numpy, every step in that number type."""
    pairs = rope.rotary_dim // 2
    theta = rope.frequencies[:pairs].astype(dtype)
    scaling = np.dtype(dtype).type(rope.attention_scaling)

    def rotate(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        angles = positions.astype(dtype)[:, None] * theta
        cos, sin = scaling * np.cos(angles), scaling * np.sin(angles)
        half = rope.layout == "half"
        first = slice(0, pairs) if half else slice(0, 2 * pairs, 2)
        second = slice(pairs, 2 * pairs) if half else slice(1, 2 * pairs, 2)
        turned = x.copy()
        turned[..., first] = x[..., first] * cos - x[..., second] * sin
        turned[..., second] = x[..., first] * sin + x[..., second] * cos
        return turned

    return rotate


# --- wrong ones, all for the RoPE of llama() ---------------------------------------------------


def bf16_phase(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Positions, frequencies and angles in bfloat16, as under a careless `.to(bfloat16)`."""
    exponents = torch.arange(0, HEAD_DIM, 2, dtype=torch.float32) / HEAD_DIM
    frequencies = (BASE**-exponents).bfloat16()
    angles = positions.bfloat16()[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=-1).float()
    return (x * angles.cos() + llama_model.rotate_half(x) * angles.sin()).to(x.dtype)


def wrong_layout(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Interleaved pairs where the model has halves."""
    rope = Rope.from_parameters(HEAD_DIM, {"rope_theta": BASE}, layout="interleaved")
    return torch.as_tensor(plain(rope)(x.numpy(), positions.numpy()))


def off_by_one(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Positions counted from 1."""
    return _LLAMA(x, positions + 1)


def wrong_base(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The base of Llama 3 in place of Llama's."""
    return _LLAMA_3(x, positions)


def backwards(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Turned the other way."""
    return _LLAMA(x, -positions)


def unbalanced(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Second components a thousandth too large."""
    turned = _LLAMA(x, positions)
    turned[..., HEAD_DIM // 2 :] *= 1.001
    return turned


def shifted_by_one(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Something added: no longer linear."""
    return _LLAMA(x, positions) + 1e-3


_LLAMA = llama()
_LLAMA_3 = llama(500_000.0)
