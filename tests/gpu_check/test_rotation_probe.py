"""Which rotation explains vectors of the same token at several positions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gpu_check.rotary_modules import model_ropes
from gpu_check.rotation_probe import TOLERANCE_FLOAT32, LayerProbe, probe_rotations
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, to_channels, to_vectors
from tests.gpu_check.architectures import ARCHITECTURES

POSITIONS = np.array([0, 1, 2, 24, 47])
PARTIAL = Rope.from_parameters(16, {"rope_theta": 1e4}, partial_rotary_factor=0.5)
YARN = Rope.from_parameters(
    16,
    {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0},
    max_position_embeddings=64,
    layout="interleaved",
)
PLAIN = Rope.from_parameters(16, {"rope_theta": 1e4})
ROPES = {"plain": PLAIN, "partial": PARTIAL, "yarn": YARN, "none": Rope.none(16)}


def vectors(heads: int, rope: Rope, positions: np.ndarray = POSITIONS, seed: int = 0) -> Any:
    """(2, heads, P, 16): two tokens, each turned to every position."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2, heads, 1, 16, generator=generator).double()
    spread = start.expand(2, heads, len(positions), 16)
    return to_vectors(rotate(to_channels(spread, rope), rope, positions), rope)


def probe(rope: Rope, positions: np.ndarray = POSITIONS) -> LayerProbe:
    queries, keys = vectors(4, rope, positions), vectors(2, rope, positions, seed=1)
    return LayerProbe(3, positions, queries, keys, TOLERANCE_FLOAT32)


@pytest.mark.parametrize("name", ROPES)
@pytest.mark.parametrize("offered", ["half", "interleaved"])
def test_the_rotation_that_was_applied_is_found(name: str, offered: str) -> None:
    rope = ROPES[name]
    candidates = [replace(PLAIN if rope.type == "none" else rope, layout=offered)]
    found = probe(rope).choose(candidates)
    assert found == rope
    # float64 rotations of vectors of 16 components, against a tolerance of 2^-10
    assert probe(rope).misfit(found) < 2**-30
    for other in (replace(candidates[0], layout=each) for each in ("half", "interleaved")):
        if other != found:
            assert probe(rope).misfit(other) > 50


def test_among_several_frequencies_the_right_ones_are_found() -> None:
    other = Rope.from_parameters(16, {"rope_theta": 1.2e4})
    assert probe(PLAIN).choose([other, PLAIN]) == PLAIN
    assert probe(other).choose([PLAIN, other]) == other


@pytest.mark.parametrize("which", ["queries", "keys"])
def test_queries_and_keys_must_both_fit(which: str) -> None:
    wrong = probe(Rope.from_parameters(16, {"rope_theta": 5e3}))
    mixed = replace(probe(PLAIN), **{which: getattr(wrong, which)})
    with pytest.raises(InputError, match="layer 3: its queries and keys do not turn"):
        mixed.choose([PLAIN])


def test_every_position_and_token_must_fit() -> None:
    for token in range(2):
        for position in range(1, 5):
            seen = probe(PLAIN)
            seen.keys[token, 1, position] *= 1.01
            assert seen.misfit(PLAIN) > 1
    seen = probe(PLAIN)
    seen.keys[1, 1] *= 1.01  # at every position: another token, as good as any
    assert seen.misfit(PLAIN) <= 2**-30


def test_rounding_is_allowed_for_and_no_more() -> None:
    seen = probe(PLAIN)
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(seen.queries.shape, generator=generator).double() * TOLERANCE_FLOAT32
    assert replace(seen, queries=seen.queries + 0.1 * noise).choose([PLAIN]) == PLAIN
    with pytest.raises(InputError, match="do not turn"):
        replace(seen, queries=seen.queries + 10 * noise).choose([PLAIN])


def test_far_positions_carry_the_rounding_of_their_angle() -> None:
    positions = np.array([0, 1, 2, 400_000])
    # frequencies off by 2^-24 turn 400,000 positions by up to 2^-6: beyond 2^-10
    rounded = replace(PLAIN, frequencies=PLAIN.frequencies * (1 + 2.0**-24))
    assert probe(rounded, positions).choose([PLAIN]) == PLAIN
    wrong = replace(PLAIN, frequencies=PLAIN.frequencies * (1 + 1e-4))
    with pytest.raises(InputError, match="do not turn"):
        probe(wrong, positions).choose([PLAIN])


def test_vectors_of_norm_zero_leave_it_to_what_is_told() -> None:
    zero = replace(
        probe(PLAIN), queries=torch.zeros(2, 4, 5, 16).double(), keys=torch.zeros(2, 2, 5, 16)
    )
    assert zero.choose([PLAIN]) == PLAIN
    assert zero.choose([Rope.none(16)]).type == "none"
    assert not zero.turns()
    # one of both is enough to tell
    half = replace(probe(YARN), queries=torch.zeros(2, 4, 5, 16).double())
    assert half.choose([replace(YARN, layout="half")]) == YARN
    # zero at position 0 only is no rotation
    broken = probe(PLAIN)
    broken.queries[:, :, 0] = 0
    with pytest.raises(InputError, match="do not turn"):
        broken.choose([PLAIN])


def test_a_layer_turns_or_not() -> None:
    assert probe(PLAIN).turns()
    assert not probe(Rope.none(16)).turns()


@pytest.mark.parametrize(
    ("length", "positions"),
    [
        (1, [0, 1, 2]),
        (2, [0, 1, 2]),
        (3, [0, 1, 2]),
        (5, [0, 1, 2, 4]),
        (48, [0, 1, 2, 24, 47]),
        (101, [0, 1, 2, 50, 100]),
    ],
)
def test_positions_reach_to_the_end_of_the_text(length: int, positions: list[int]) -> None:
    model = ARCHITECTURES["Llama"].build()
    probes = probe_rotations(model, length)
    assert sorted(probes) == [0, 1]
    assert probes[1].positions.tolist() == positions
    assert probes[1].queries.shape == (2, 4, len(positions), 16)
    assert probes[1].keys.shape == (2, 2, len(positions), 16)


def test_hidden_states_do_not_depend_on_the_position() -> None:
    model, inputs = ARCHITECTURES["Llama"].build(), []
    handle = model.model.layers[1].register_forward_pre_hook(
        lambda module, given: inputs.append(given[0])
    )
    probe_rotations(model, 48)
    handle.remove()
    own = inputs[0][:, 0].unflatten(0, (2, 5))
    # rows of a matrix product may be summed in other orders: 64 to 96 terms, five products
    atol = 5 * 96 * 2**-24 * float(own.abs().max())
    torch.testing.assert_close(own, own[:, :1].expand_as(own), rtol=0, atol=atol)
    assert float((own[0, 0] - own[1, 0]).abs().max()) > 100 * atol  # two tokens, not one


@pytest.mark.parametrize("padding", [None, 0, 97 // 3, 2 * 97 // 3])
def test_the_padding_token_is_not_asked(padding: int | None) -> None:
    model, asked = ARCHITECTURES["Llama"].build(), []
    embedding = model.get_input_embeddings()
    embedding.padding_idx = padding
    embedding.register_forward_pre_hook(
        lambda module, given: asked.append(set(given[0].flatten().tolist()))
    )
    probe_rotations(model, 48)
    assert asked == [{97 // 3, 2 * 97 // 3} - {padding}]


def test_the_model_is_left_as_it_was_found() -> None:
    for name in ("Llama", "Llama, dynamic", "Phi3, long"):
        model = ARCHITECTURES[name].build().train()
        before = {key: each.clone() for key, each in model.named_buffers()}
        implementation = model.config._attn_implementation
        model_ropes(model, 200)
        assert model.training
        assert model.config._attn_implementation == implementation
        after = dict(model.named_buffers())
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key], before[key]) for key in before)


def test_layers_without_attention_have_no_rope() -> None:
    model = ARCHITECTURES["Llama"].build()

    class Other(torch.nn.Module):
        def forward(self, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
            return hidden_states

    model.model.layers[0] = Other()
    assert [rope.type for rope in model_ropes(model, 48)] == ["none", "default"]
    model.model.layers[1] = Other()
    with pytest.raises(InputError, match="layers 0, 1 did not hand over"):
        model_ropes(model, 48)
