"""The laws of RoPE: on kernels that obey them, and on wrong ones, each found out."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings, target
from hypothesis import strategies as st

from simulations.testing import Law, rope_laws, ropes
from simulations.testing.arithmetic import EXACT, Arithmetic
from simulations.testing.kernel import Kernel
from simulations.testing.laws import LAWS
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, to_channels, to_vectors
from tests.simulations.testing import kernels
from tests.simulations.testing.kernels import BASE, CONTEXT, HEAD_DIM, YARN

ROPE = Rope.from_parameters(HEAD_DIM, {"rope_theta": BASE})
YARN_ROPE = Rope.from_parameters(HEAD_DIM, YARN, max_position_embeddings=CONTEXT)
NEOX_ROPE = Rope.from_parameters(HEAD_DIM, {"rope_theta": BASE}, partial_rotary_factor=0.25)
GPTJ_ROPE = Rope.from_parameters(
    HEAD_DIM, {"rope_theta": BASE}, partial_rotary_factor=0.5, layout="interleaved"
)


def in_numpy(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """tappa's own rotation, on queries and keys of three heads at once."""
    return to_vectors(rotate(to_channels(x, YARN_ROPE), YARN_ROPE, positions), YARN_ROPE)


RIGHT: dict[str, tuple[Law, ...]] = {
    "llama": rope_laws(kernels.llama(), ROPE, dtype=torch.float32),
    "llama in bfloat16": rope_laws(kernels.llama(), ROPE, dtype=torch.bfloat16),
    "llama with yarn": rope_laws(kernels.llama(scaled=YARN), YARN_ROPE, dtype=torch.float32),
    "gpt-neox": rope_laws(kernels.gpt_neox(), NEOX_ROPE, dtype=torch.float32),
    "gpt-j": rope_laws(
        kernels.gptj(HEAD_DIM // 2, 4096),
        GPTJ_ROPE,
        dtype=torch.float32,
        context=4096,
        heads=2,
        consecutive=True,
    ),
    "ours in float64": rope_laws(in_numpy, YARN_ROPE, dtype=np.float64, lengths=3, heads=3),
}
CASES = [
    pytest.param(law, id=f"{law}.{name}") for name, laws in RIGHT.items() for law in laws
]  # fmt: skip


EXAMPLES = max(10, settings().max_examples // 4)
"""Of each law on each kernel, of which there are many."""


@pytest.mark.parametrize("law", CASES)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_kernels_obey_the_laws(law, data):
    target(law.check(*data.draw(law.inputs())))


@given(rope=ropes(), data=st.data())
def test_any_rope_in_plain_float32_obeys_the_laws(rope, data):
    laws = rope_laws(kernels.plain(rope), rope, lengths=(1, 3))
    law = data.draw(st.sampled_from(laws))
    target(law.check(*data.draw(law.inputs())), label=law.name)


def failures(laws: tuple[Law, ...]) -> dict[str, str]:
    """The message of every law that some example breaks."""
    found = {law.name: failure(law) for law in laws}
    return {name: message for name, message in found.items() if message is not None}


def failure(law: Law, phases=(Phase.generate, Phase.target)) -> str | None:
    """The message at an example that breaks the law, the plainest if shrinking is a phase."""

    @settings(max_examples=60, derandomize=True, database=None, deadline=None, phases=phases)
    @given(law.inputs())
    def attempt(inputs):
        target(law.check(*inputs))

    try:
        attempt()
    except AssertionError as error:
        return str(error)
    return None


ANY = {"composition", "relative position"}
"""Laws that a mistake may break or not, as rounding falls."""
WRONG: dict[str, tuple[Any, set[str], str]] = {
    "bf16 phase": (
        kernels.bf16_phase,
        {"exact angles", "relative position", "composition"},
        "angles in bfloat16",
    ),
    "wrong layout": (
        kernels.wrong_layout,
        {"exact angles", "layout"},
        "the layout 'interleaved'",
    ),
    "off by one": (
        kernels.off_by_one,
        {"exact angles", "position 0", "composition"},
        "positions one too large",
    ),
    "wrong base": (kernels.wrong_base, {"exact angles"}, "base 500000"),
    "backwards": (kernels.backwards, {"exact angles"}, "the opposite direction"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_found_out_by_the_laws_that_it_breaks(name):
    kernel, broken, mistake = WRONG[name]
    found = failures(rope_laws(kernel, ROPE, dtype=torch.float32))
    assert broken <= set(found) <= broken | (ANY if name == "wrong layout" else set())
    for law, message in found.items():
        # law, position, error and what is allowed, in one line
        told = rf"{law}: .*position \d+.*: off by [\d.e+-]+, [\d.e+-]+ allowed \(.*\)"
        assert re.match(told, message)
        assert "\n" not in message
        assert message.endswith(f"; the answers fit {mistake}")


def test_examples_shrink_to_one_component_at_the_first_position():
    law = rope_laws(kernels.off_by_one, ROPE, dtype=torch.float32)[0]
    message = failure(law, (Phase.generate, Phase.target, Phase.shrink))
    assert "position 0, channel 0 (components 0 and 16) turned by 1 instead of 0 rad" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", [kernels.bf16_phase, kernels.off_by_one, kernels.wrong_base])
def test_the_exact_angles_find_it_in_either_precision(kernel, dtype):
    laws = rope_laws(kernel, ROPE, dtype=dtype)
    assert "exact angles" in failures(laws[:1])


def test_lengths_and_linearity_are_laws_of_their_own():
    found = failures(rope_laws(kernels.unbalanced, ROPE, dtype=torch.float32))
    assert {"exact angles", "norm", "position 0"} <= set(found)
    assert not {"scaling", "additivity", "layout"} & set(found)
    found = failures(rope_laws(kernels.shifted_by_one, ROPE, dtype=torch.float32))
    assert {"scaling", "additivity", "layout"} <= set(found)


def test_forgotten_attention_scaling_is_a_matter_of_norm():
    bare = Rope(YARN_ROPE.frequencies, "half", HEAD_DIM, 1.0, "yarn", BASE)
    found = failures(rope_laws(kernels.plain(bare), YARN_ROPE))
    assert {"norm", "exact angles", "position 0", "composition"} == set(found)
    assert found["norm"].endswith("; the answers fit no attention scaling")


def test_components_that_rope_leaves_alone_must_not_change_at_all():
    def touched(x, positions):
        turned = kernels.plain(NEOX_ROPE)(x, positions)
        turned[..., -1] = np.nextafter(turned[..., -1], np.float32(np.inf))
        return turned

    found = failures(rope_laws(touched, NEOX_ROPE))
    assert "position 0, component 31: off by" in found["unrotated components"]
    assert "norm" not in found


def test_the_hint_tells_mistakes_apart_where_one_position_at_a_time_is_taken():
    for kernel, _, mistake in WRONG.values():
        laws = rope_laws(kernel, ROPE, dtype=torch.float32, lengths=1)
        with pytest.raises(AssertionError, match=re.escape(mistake)):
            laws[0].check(np.ones((1, HEAD_DIM)), [300])


def test_no_hint_where_no_usual_mistake_explains_it():
    laws = rope_laws(kernels.unbalanced, ROPE, dtype=torch.float32)
    with pytest.raises(AssertionError, match=r"\(R\(0\) x = s x\)$"):
        laws[1].check(np.ones((1, HEAD_DIM)), [5])


@pytest.mark.parametrize(("factor", "caught"), [(0.98, False), (1.01, True)])
@pytest.mark.parametrize("rope", [ROPE, YARN_ROPE])
def test_one_percent_more_than_the_proven_bound_is_caught(rope, factor, caught):
    arithmetic = Arithmetic("float32", "float32", "float32", "float32")
    x = np.random.default_rng(1).standard_normal((5, HEAD_DIM)).astype(np.float32)
    positions = np.array([0, 1, 7, 3000, CONTEXT - 1])
    z = to_channels(x, rope)
    allowed = sum(each.channel_error(np.abs(z), rope, positions) for each in (arithmetic, EXACT))

    def worst(_, at):
        return to_vectors(rotate(z, rope, at) + factor * allowed, rope)

    law = rope_laws(worst, rope)[0]
    if caught:
        with pytest.raises(AssertionError, match="exact angles: position"):
            law.check(x, positions)
    else:
        assert law.check(x, positions) == pytest.approx(factor, abs=1e-3)


def test_what_the_kernel_is_given():
    seen = []

    def record(x, positions):
        seen.append((x, positions))
        return x

    for dtype, heads in (("float32", None), (torch.bfloat16, 2)):
        for law in rope_laws(record, ROPE, dtype=dtype, heads=heads, lengths=(2, 2)):
            shape = (2, HEAD_DIM) if heads is None else (heads, 2, HEAD_DIM)
            law.measure(law.kernel, np.ones(shape), np.array([0, 3]), 4)
            x, positions = seen[-1]
            assert x.shape == shape
            assert x.dtype == (np.float32 if heads is None else torch.bfloat16)
            assert positions.shape == (2,)
            assert str(positions.dtype).endswith("int64")


@given(data=st.data())
def test_inputs_stay_within_what_the_kernel_takes(data):
    laws = rope_laws(kernels.plain(ROPE), ROPE, context=10, lengths=(2, 4), consecutive=True)
    assert "composition" not in {law.name for law in laws}
    law = data.draw(st.sampled_from(laws))
    x, positions, shift = data.draw(law.inputs())
    assert x.shape in {(2, HEAD_DIM), (3, HEAD_DIM), (4, HEAD_DIM)}
    assert np.all(np.diff(positions) == 1)
    assert positions[0] >= 0
    assert positions[-1] + shift < 10


def test_vectors_are_rounded_to_the_kernels_type_before_they_are_compared():
    # otherwise 1/3 would not pass through bit by bit
    for law in rope_laws(kernels.gpt_neox(), NEOX_ROPE, dtype=torch.bfloat16):
        assert law.check(np.full((1, HEAD_DIM), 1 / 3), [77]) <= 1


def test_a_kernel_that_answers_nonsense():
    def nan(x, positions):
        return np.where(positions[:, None] == 4, np.float32(np.nan), x)

    def short(x, positions):
        return x[:, :-1]

    x = np.ones((3, HEAD_DIM))
    with pytest.raises(AssertionError, match=r"^finite: position 4, component 0 is nan after RoPE"):
        rope_laws(nan, ROPE)[0].check(x, [0, 4, 2])
    with pytest.raises(AssertionError, match=r"^shape: vectors \(3, 32\) came back as \(3, 31\)"):
        rope_laws(short, ROPE)[0].check(x, [0, 4, 2])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dtype": "bfloat16"}, "not one of numpy's; pass for example 'float32' or torch.bfloat16"),
        ({"dtype": "int32"}, "number type 'int32' has no bound"),
        ({"table": "float8"}, "number type 'float8' has no bound"),
        ({"context": 2**24 + 1}, "at most 16777216, which float32 still holds exactly"),
        ({"context": 1}, "at least 2"),
        ({"rope": Rope.none(HEAD_DIM)}, "turns nothing"),
    ],
)
def test_what_cannot_be_tested_is_told(changed, message):
    rope = changed.pop("rope", ROPE)
    with pytest.raises(InputError, match=message):
        rope_laws(kernels.plain(ROPE), rope, **changed)


def test_every_law_has_a_claim_and_is_shown_by_its_name():
    laws = rope_laws(kernels.plain(NEOX_ROPE), NEOX_ROPE)
    assert [str(law) for law in laws] == list(LAWS)
    assert all(law.claim for law in laws)
    assert isinstance(laws[0].kernel, Kernel)
