"""The laws of RoPE, its formulas against transformers' own, and the refusal of bad input."""

import warnings
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tappa_theory.arrays import namespace, to_numpy
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, to_channels, to_vectors, unrotate

U32 = 2.0**-24
U64 = 2.0**-53
HEAD_DIM = 64
CONTEXT = 4096

YARN = {"rope_type": "yarn", "rope_theta": 1e6, "original_max_position_embeddings": 1024}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "original_max_position_embeddings": 1024,
    "short_factor": np.linspace(1.0, 1.7, HEAD_DIM // 2).tolist(),
    "long_factor": np.geomspace(1.0, 31.0, HEAD_DIM // 2).tolist(),
}
HALF_LONGROPE = {
    **LONGROPE,
    "partial_rotary_factor": 0.5,
    "short_factor": LONGROPE["short_factor"][::2],
    "long_factor": LONGROPE["long_factor"][::2],
}
CASES = {
    "linear": ({"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0}, None),
    "linear-partial": (
        {"rope_type": "linear", "rope_theta": 1e5, "factor": 3.0, "partial_rotary_factor": 0.25},
        None,
    ),
    "dynamic-within": ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, 4000),
    "dynamic-beyond": ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, 4097),
    "dynamic-far": ({"rope_type": "dynamic", "rope_theta": 5e5, "factor": 4.0}, 20000),
    "llama3": ({**LLAMA3, "factor": 8.0}, None),
    "llama3-32": ({**LLAMA3, "factor": 32.0, "high_freq_factor": 2.0}, None),
    "yarn": ({**YARN, "factor": 4.0}, None),
    "yarn-none": ({**YARN, "factor": None}, None),
    "yarn-betas": ({**YARN, "factor": 16.0, "beta_fast": 8.0, "beta_slow": 2.0}, None),
    "yarn-untruncated": ({**YARN, "factor": 32.0, "truncate": False}, None),
    "yarn-mscale": ({**YARN, "factor": 40.0, "mscale": 0.7, "mscale_all_dim": 1.0}, None),
    "yarn-one-mscale": ({**YARN, "factor": 40.0, "mscale": 0.7}, None),
    "yarn-attention": ({**YARN, "factor": 4.0, "attention_factor": 1.3}, None),
    "longrope-short": (LONGROPE, 1024),
    "longrope-long": (LONGROPE, 1025),
    "longrope-factor": ({**LONGROPE, "factor": 12.0}, 4096),
    "longrope-attention": ({**LONGROPE, "attention_factor": 1.1}, None),
    "longrope-partial": (HALF_LONGROPE, 5000),
    "proportional": (
        {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
        None,
    ),
    "proportional-factor": (
        {
            "rope_type": "proportional",
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.5,
            "factor": 8.0,
        },
        None,
    ),
}


def float32_tolerance(parameters: dict, theta: np.ndarray, factor: float, rotary_dim: int):
    """What the reference's float32 arithmetic may add; u = 2^-24.

    Exponent: u |ln theta|; base, power (1 ulp), reciprocal and scaling: 8u, all relative.
    The dynamic base cancels: 2 factor u more. A blend weight w (llama3: (turns - low)/(high - low);
    yarn: (j - low)/(high - low)) is off by at most 2u (|ln theta_0| + 8), high/(high - low) <= 2,
    which counts relative to the unblended theta_0, and only on the channels that are blended.
    """
    logarithm = np.abs(np.log(np.where(theta > 0, theta, 1.0)))
    relative = logarithm + 8
    if parameters["rope_type"] == "dynamic":
        relative = relative + 2 * (factor + 2)
    tolerance = U32 * theta * relative
    if parameters["rope_type"] in ("yarn", "llama3"):
        unblended = parameters["rope_theta"] ** (-2 * np.arange(theta.size) / rotary_dim)
        blended = (theta < unblended * (1 - 1e-9)) & (theta > unblended / factor * (1 + 1e-9))
        tolerance += blended * 2 * U32 * unblended * (np.abs(np.log(unblended)) + 8)
    return tolerance


@pytest.mark.parametrize("name", CASES)
def test_frequencies_and_scaling_equal_transformers(name):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters, length = CASES[name]
    if parameters["rope_type"] not in ROPE_INIT_FUNCTIONS:
        pytest.skip(f"this transformers has no rope_type {parameters['rope_type']}")
    config = LlamaConfig(
        hidden_size=2 * HEAD_DIM, num_attention_heads=2, max_position_embeddings=CONTEXT
    )
    config.rope_parameters = dict(parameters)
    expected, expected_scaling = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](
        config, torch.device("cpu"), seq_len=length
    )
    rope = Rope.from_parameters(
        HEAD_DIM, parameters, length=length, max_position_embeddings=CONTEXT
    )
    theta = rope.frequencies[: rope.rotary_dim // 2]
    assert expected.shape == theta.shape
    factor = parameters.get("factor") or CONTEXT / 1024
    tolerance = float32_tolerance(parameters, theta, factor, rope.rotary_dim)
    assert np.all(np.abs(expected.double().numpy() - theta) <= tolerance)
    assert rope.attention_scaling == pytest.approx(expected_scaling, rel=8 * U64)
    assert np.all(rope.frequencies[rope.rotary_dim // 2 :] == 0)


def test_default_frequencies_are_correctly_rounded():
    rope = Rope.from_parameters(HEAD_DIM, {"rope_theta": 5e5}, partial_rotary_factor=0.5)
    with mpmath.workdps(50):
        exact = [float(mpmath.mpf(500000) ** (-mpmath.mpf(2 * j) / 32)) for j in range(16)]
    assert rope.frequencies.tolist() == exact + [0.0] * 16


def test_the_parameters_own_partial_rotary_factor_wins():
    rope = Rope.from_parameters(
        8, {"rope_theta": 1e4, "partial_rotary_factor": 0.5}, partial_rotary_factor=1.0
    )
    assert rope.rotary_dim == 4


def reference_rotation(source, rope, x, positions):
    """`apply_rotary_pos_emb` of a transformers model in float64, on cos and sin of exact angles."""
    angles = torch.asarray(positions[:, None] * rope.frequencies[: rope.rotary_dim // 2])
    if source.__name__.endswith("cohere"):
        angles = torch.repeat_interleave(angles, 2, dim=-1)
    else:
        angles = torch.cat([angles, angles], dim=-1)
    cos = rope.attention_scaling * torch.cos(angles)[None]
    sin = rope.attention_scaling * torch.sin(angles)[None]
    return source.apply_rotary_pos_emb(x, x, cos, sin)[0]


@pytest.mark.parametrize(
    ("model", "layout", "share"),
    [("llama", "half", 1.0), ("glm", "interleaved", 0.5), ("glm", "interleaved", 1.0)],
)
def test_rotation_equals_transformers_in_float64(model, layout, share):
    import importlib

    source = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    rope = Rope.from_parameters(
        HEAD_DIM, {**YARN, "factor": 4.0}, partial_rotary_factor=share, layout=layout
    )
    positions = np.array([0, 1, 2, 17, 5000])
    x = torch.asarray(np.random.default_rng(1).standard_normal((1, 3, 5, HEAD_DIM)))
    expected = reference_rotation(source, rope, x, positions)
    turned = to_vectors(rotate(to_channels(x, rope), rope, positions), rope)
    assert turned.dtype == torch.float64
    # numpy and torch cos/sin differ by an ulp or two; products and sums add a few roundings more
    tolerance = 16 * U64 * rope.attention_scaling * x.abs().max()
    assert torch.max(torch.abs(turned - expected)) <= tolerance


@pytest.mark.parametrize("model", ["cohere", "helium", "ernie4_5"])
def test_interleaved_rotation_equals_transformers_that_round_to_float32(model):
    import importlib

    source = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    rope = Rope.from_parameters(16, {"rope_theta": 1e4}, layout="interleaved")
    x = torch.asarray(np.random.default_rng(2).standard_normal((1, 2, 4, 16)), dtype=torch.float32)
    expected = reference_rotation(source, rope, x, np.array([0, 1, 2, 900]))
    turned = to_vectors(rotate(to_channels(x, rope), rope, [0, 1, 2, 900]), rope)
    assert torch.max(torch.abs(turned - expected)) <= 8 * U32 * x.abs().max()


@st.composite
def heads(draw):
    """A Rope of any layout and partial share, vectors (2, T, d) and positions (T,)."""
    pairs = draw(st.integers(1, 6))
    rotary_pairs = draw(st.integers(0, pairs))
    frequencies = np.zeros(pairs)
    frequencies[:rotary_pairs] = draw(
        st.lists(st.floats(0, 1), min_size=rotary_pairs, max_size=rotary_pairs)
    )
    rope = Rope(
        frequencies,
        draw(st.sampled_from(["half", "interleaved"])),
        2 * rotary_pairs,
        draw(st.floats(0.5, 2.0)),
    )
    count = draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = random.standard_normal((2, count, 2 * pairs)) * 10.0 ** draw(st.integers(-6, 6))
    positions = random.integers(0, 10**6, count)
    return rope, x, positions


quick = settings(max_examples=60, deadline=None)


@quick
@given(heads())
def test_channels_give_back_the_vectors_exactly(head):
    rope, x, _ = head
    z = to_channels(x, rope)
    assert z.dtype == np.complex128
    assert z.shape == (*x.shape[:-1], rope.head_dim // 2)
    assert np.array_equal(to_vectors(z, rope), x)


@quick
@given(heads())
def test_inner_product_is_the_real_part_of_the_channel_product(head):
    rope, x, _ = head
    q, k = x
    channels = np.real(np.sum(to_channels(q, rope) * np.conj(to_channels(k, rope)), axis=-1))
    tolerance = 2 * rope.head_dim * U64 * np.sum(np.abs(q * k), axis=-1)
    assert np.all(np.abs(np.sum(q * k, axis=-1) - channels) <= tolerance)


@quick
@given(heads())
def test_unrotate_undoes_rotate(head):
    rope, x, positions = head
    z = to_channels(x, rope)
    turned = rotate(z, rope, positions)
    # both use the same phase, unit to 2u; two complex products and the scale add under 12u
    assert np.all(np.abs(unrotate(turned, rope, positions) - z) <= 16 * U64 * np.abs(z))
    pairs = rope.rotary_dim // 2
    assert np.array_equal(turned[..., pairs:], z[..., pairs:])


@quick
@given(heads())
def test_rotation_scales_the_norm_of_rotary_channels_only(head):
    rope, x, positions = head
    z = to_channels(x, rope)
    scale = np.where(np.arange(z.shape[-1]) < rope.rotary_dim // 2, rope.attention_scaling, 1.0)
    turned = np.abs(rotate(z, rope, positions))
    assert np.all(np.abs(turned - scale * np.abs(z)) <= 16 * U64 * scale * np.abs(z))


@quick
@given(heads(), st.integers(1, 10**6))
def test_logits_depend_on_relative_position_only(head, shift):
    rope, x, positions = head
    q, k = to_channels(x, rope)

    def logits(offset):
        turned_q = rotate(q, rope, positions + offset)
        turned_k = rotate(k, rope, positions[::-1] + offset)
        return np.real(np.sum(turned_q * np.conj(turned_k), axis=-1))

    # each of the four angles p theta is rounded once, by u p theta; the rest is a few roundings
    angles = (positions.max() + shift) * rope.frequencies
    size = rope.attention_scaling**2 + 1
    tolerance = size * np.sum(U64 * (4 * angles + 16 + q.shape[-1]) * np.abs(q * k), axis=-1)
    assert np.all(np.abs(logits(shift) - logits(0)) <= tolerance)


@quick
@given(heads())
def test_numpy_and_torch_agree(head):
    rope, x, positions = head
    z = to_channels(x, rope)
    tensor = to_channels(torch.asarray(x), rope)
    assert tensor.dtype == torch.complex128
    assert np.array_equal(to_numpy(tensor), z)
    assert np.array_equal(to_numpy(to_vectors(tensor, rope)), to_vectors(z, rope))
    for turn in (rotate, unrotate):
        expected = turn(z, rope, positions)
        result = turn(tensor, rope, torch.asarray(positions))
        gap = np.abs(to_numpy(result) - expected)
        assert np.all(gap <= 16 * U64 * np.abs(expected))


def test_rotation_turns_by_plus_the_angle():
    rope = Rope(np.array([0.5]), "half", 2)
    turned = rotate(to_channels(np.array([[1.0, 0.0]]), rope), rope, [3])
    assert turned[0, 0] == pytest.approx(np.exp(1.5j), rel=4 * U64)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("half", [0 + 2j, 1 + 3j, 4 + 5j, 6 + 7j]),
        ("interleaved", [0 + 1j, 2 + 3j, 4 + 5j, 6 + 7j]),
    ],
)
def test_which_components_pair_up(layout, expected):
    rope = Rope(np.array([1.0, 0.1, 0.0, 0.0]), layout, 4)
    assert to_channels(np.arange(8.0), rope).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_floats_are_widened_before_any_arithmetic(dtype):
    rope = Rope.from_parameters(8, {"rope_theta": 1e4})
    x = torch.asarray(np.random.default_rng(3).standard_normal((4, 8))).to(dtype)
    turned = rotate(to_channels(x, rope), rope, range(4))
    assert torch.equal(turned, rotate(to_channels(x.double(), rope), rope, range(4)))


def test_positions_broadcast_over_a_batch():
    rope = Rope.from_parameters(8, {"rope_theta": 1e4})
    z = to_channels(np.random.default_rng(4).standard_normal((2, 3, 5, 8)), rope)
    positions = np.array([[0, 1, 2, 3, 4], [7, 8, 9, 10, 11]])[:, None]
    turned = rotate(z, rope, positions)
    assert np.array_equal(turned[1, 2], rotate(z[1, 2], rope, positions[1, 0]))


def test_equal_ropes_are_equal_and_frozen():
    first, second = (Rope.from_parameters(8, {"rope_theta": 1e4}) for _ in range(2))
    assert first == second
    assert len({first, second, Rope.from_parameters(8, {"rope_theta": 1e5})}) == 2
    with pytest.raises(ValueError, match="read-only"):
        first.frequencies[0] = 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rotate(to_channels(torch.ones(1, 8), first), first, [1])


def test_a_layer_without_rope_leaves_vectors_alone():
    rope = Rope.none(8)
    z = to_channels(np.arange(16.0).reshape(2, 8), rope)
    assert np.array_equal(rotate(z, rope, [5, 9]), z)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frequencies": np.ones((2, 2))}, "shape"),
        ({"frequencies": np.array([])}, "shape"),
        ({"frequencies": np.array([1.0, np.nan])}, "finite"),
        ({"frequencies": np.array([1.0, -0.1])}, "negative"),
        ({"layout": "quarter"}, "layout 'quarter'"),
        ({"rotary_dim": 3}, "rotary_dim 3"),
        ({"rotary_dim": 6}, "rotary_dim 6"),
        ({"rotary_dim": 2}, "beyond channel 1"),
        ({"attention_scaling": 0.0}, "attention_scaling"),
        ({"attention_scaling": float("nan")}, "attention_scaling"),
    ],
)
def test_an_inconsistent_rope_is_refused(values, message):
    good = {"frequencies": np.array([1.0, 0.1]), "layout": "half", "rotary_dim": 4}
    Rope(**good)
    with pytest.raises(InputError, match=message):
        Rope(**{**good, **values})


@pytest.mark.parametrize(
    ("head_dim", "parameters", "message"),
    [
        (7, {"rope_theta": 1e4}, "head size 7"),
        (8, {}, "'rope_theta' is missing"),
        (8, {"rope_theta": "10000"}, "must be a number"),
        (8, {"rope_theta": 1.0}, "greater than 1"),
        (8, {"rope_theta": float("inf")}, "positive and finite"),
        (8, {"rope_theta": 1e4, "rope_type": "spiral"}, "'spiral' is not supported"),
        (8, {"rope_theta": 1e4, "rope_type": "linear"}, "'factor' is missing"),
        (8, {"rope_theta": 1e4, "rope_type": "linear", "factor": 0}, "positive"),
        (8, {"rope_theta": 1e4, "partial_rotary_factor": 0.4}, "gives 3"),
        (8, {"rope_theta": 1e4, "partial_rotary_factor": 1.5}, "at most 1"),
        (8, {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2}, "max_position_embeddings"),
        (2, {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2}, "4 rotary components"),
        (8, {**LONGROPE}, "'short_factor' must be a list of 4"),
        (8, {**LLAMA3, "factor": 8.0, "high_freq_factor": 1.0}, "must exceed"),
        (8, {"rope_theta": 1e4, "rope_type": "yarn", "factor": 2}, "original_max_position"),
    ],
)
def test_bad_parameters_are_refused_by_name(head_dim, parameters, message):
    with pytest.raises(InputError, match=message):
        Rope.from_parameters(head_dim, parameters)


def test_bad_arrays_are_refused():
    rope = Rope.from_parameters(8, {"rope_theta": 1e4})
    z = to_channels(np.ones((3, 8)), rope)
    with pytest.raises(InputError, match="head size 8"):
        to_channels(np.ones((3, 6)), rope)
    with pytest.raises(InputError, match="not finite"):
        to_channels(np.array([[np.nan] * 8]), rope)
    with pytest.raises(InputError, match="not finite"):
        to_channels(torch.full((1, 8), float("inf"), dtype=torch.float16), rope)
    with pytest.raises(InputError, match="floating-point"):
        to_channels(np.ones((3, 8), dtype=np.int64), rope)
    with pytest.raises(InputError, match="channels of shape"):
        to_vectors(z[:, :3], rope)
    with pytest.raises(InputError, match="pass integers"):
        rotate(z, rope, np.arange(3.0))
    with pytest.raises(InputError, match="do not broadcast"):
        unrotate(z, rope, np.arange(4))
    with pytest.raises(InputError, match="do not broadcast"):
        rotate(z, rope, np.zeros((2, 3), dtype=int))
    with pytest.raises(InputError, match="of type SimpleNamespace"):
        namespace(SimpleNamespace())
    with pytest.raises(InputError, match="of type Tensor, ndarray"):
        namespace(np.ones(1), torch.ones(1))
