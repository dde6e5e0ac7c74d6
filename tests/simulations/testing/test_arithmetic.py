"""What rounding may add to a rotation: by hand, and against torch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from simulations.number_formats import rounded
from simulations.testing.arithmetic import Arithmetic
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.rope_precision import frequency_error
from tests.simulations.testing.kernels import HEAD_DIM, YARN

U = 2.0**-24
UB = 2.0**-8
FLOAT32 = Arithmetic("float32", "float32", "float32", "float32")
ONE = Rope(np.ones(1), "half", 2)


def error(arithmetic: Arithmetic, rope: Rope = ONE, size: float = 3.0, position: int = 5) -> float:
    """Of one channel of frequency 1."""
    return float(arithmetic.channel_error(np.full((1, 1), size), rope, np.array([position]))[0, 0])


def by_hand(size: float, angle: float, table: float, u: float, h: float) -> float:
    arithmetic = 4 / math.sqrt(3) * u * (1 + u)
    return size * (angle + table + (1 + table) * arithmetic) + 2 * math.sqrt(2) * h * (1 + u)


def test_the_error_of_a_channel_by_hand():
    angle = 5 * ((1 + 16 * U) * (1 + U) - 1)
    trig = 2 * math.sqrt(2) * U
    wanted = by_hand(3.0, angle, trig, U, 2.0**-150)
    assert error(FLOAT32) == pytest.approx(wanted, rel=1e-12)
    # tables and arithmetic in bfloat16
    wanted = by_hand(3.0, angle, trig + UB / math.sqrt(2), UB, 2.0**-134)
    narrow = Arithmetic("bfloat16", "float32", "bfloat16", "bfloat16")
    assert error(narrow) == pytest.approx(wanted, rel=1e-12)


def test_a_result_that_is_rounded_at_the_end_by_hand():
    inside = error(FLOAT32)
    wanted = inside + UB * (3.0 + inside) + math.sqrt(2) * 2.0**-134
    outside = Arithmetic("bfloat16", "float32", "float32", "float32")
    assert error(outside) == pytest.approx(wanted, rel=1e-12)


def test_a_scaled_table_by_hand():
    # the factor is rounded, and so is the product with it
    rope = Rope(np.ones(1), "half", 2, 1.3, "longrope")
    angle = 5 * ((1 + 16 * U) * (1 + U) - 1)
    trig = 2 * math.sqrt(2) * U
    table = trig + ((1 + U) ** 2 - 1) * (1 + trig)
    wanted = by_hand(1.3 * 3.0, angle, table, U, 2.0**-150)
    assert error(FLOAT32, rope) == pytest.approx(wanted, rel=1e-12)


def test_what_is_zero_or_left_alone_has_no_error():
    rope = Rope(np.array([1.0, 0.0]), "half", 2)
    errors = FLOAT32.channel_error(np.array([[0.0, 2.0], [1.0, 2.0]]), rope, np.array([9, 9]))
    assert errors[0].tolist() == [0.0, 0.0]
    assert errors[1, 0] > 0
    assert errors[1, 1] == 0


def test_no_angle_enters_the_norm():
    size = np.full((2, 1), 3.0)
    at_0 = FLOAT32.channel_error(size, ONE, np.zeros(2, dtype=np.int64))
    assert np.array_equal(FLOAT32.norm_error(size, ONE), at_0)


def test_errors_that_are_known_better_are_used():
    known = Arithmetic("float32", "float32", "float32", "float32", frequencies=0.0, trigonometry=U)
    wanted = by_hand(3.0, 5 * U, math.sqrt(2) * U, U, 2.0**-150)
    assert error(known) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("parameters", [{"rope_type": "default", "rope_theta": 5e5}, YARN])
def test_torchs_own_frequencies_are_within_the_error(parameters):
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=2 * HEAD_DIM,
        num_attention_heads=2,
        max_position_embeddings=131_072,
        rope_theta=parameters["rope_theta"],
        rope_scaling=dict(parameters),
    )
    rope = Rope.from_parameters(HEAD_DIM, parameters, max_position_embeddings=131_072)
    found = LlamaRotaryEmbedding(config).inv_freq.double().numpy()
    assert np.all(np.abs(found / rope.frequencies - 1) <= frequency_error(rope, U) + 2.0**-52)


def test_a_blend_without_a_base_is_refused():
    with pytest.raises(InputError, match="has no base; give it its rope_theta"):
        frequency_error(Rope(np.ones(1), "half", 2, type="yarn"), U)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20))
def test_rounding_to_bfloat16_is_torchs(values):
    x = np.array(values)
    assert rounded(x, "bfloat16").tolist() == torch.tensor(x).float().bfloat16().tolist()


def test_ties_go_to_the_even_bfloat16():
    x = 1 + np.arange(1, 8, 2) * 2.0**-8
    assert rounded(x, "bfloat16").tolist() == [1.0, 1 + 2 * UB * 2, 1 + 2 * UB * 2, 1 + 4 * UB * 2]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounding_to_the_types_of_numpy(dtype):
    x = np.random.default_rng(0).standard_normal(100)
    assert np.array_equal(rounded(x, dtype), x.astype(dtype).astype(np.float64))


def test_the_last_position_that_is_held_exactly():
    assert FLOAT32.last_position == 2**24
    assert float(np.float32(2**24)) == 2**24
    assert float(np.float32(2**24 + 1)) != 2**24 + 1
