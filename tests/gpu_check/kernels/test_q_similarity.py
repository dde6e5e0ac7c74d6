"""The q-similarity kernel against plain torch in float64.

Tolerances follow the docstring of `q_similarity`: unit roundoff of float32 times the rows of a
stream and the components of a row.
"""

import math
from dataclasses import replace

import pytest
import torch

from gpu_check.kernels.q_similarity import (
    QSimilarity,
    Tuning,
    Workspace,
    default_tuning,
    make_workspace,
    q_similarity,
)
from gpu_check.kernels.q_similarity_reference import q_similarity_reference
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

# A zero row divides by zero before its chunk is read again, with masks; numpy would warn.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

SMALL = Tuning(streams=8, warps=1, unroll=2, steps=4, programs=1)
"""Chunks of 32 rows, so that short texts have several, and the last is cut."""
ROUNDOFF = 2.0**-24


def vectors(
    *shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> torch.Tensor:
    """Rows that turn slowly and share a direction, so that no mean is near zero by chance."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator)
    x = x + x.roll(1, dims=-2) + torch.randn(shape[-1], generator=generator)
    return x.to(dtype).to(device)


def rope_of(size: int, layout: str = "half", rotary: int | None = None, scaling: float = 1.0):
    rotary = size if rotary is None else rotary
    if not rotary:
        return Rope.none(size)
    parameters = {"rope_type": "default", "rope_theta": 1e4}
    rope = Rope.from_parameters(
        size, parameters, layout=layout, partial_rotary_factor=rotary / size
    )
    return replace(rope, attention_scaling=scaling)


def assert_close(found: QSimilarity, wanted: QSimilarity, size: int, steps: int) -> None:
    """Every measure within its bound, NaN where the reference has NaN, and only there."""
    base = (steps + size + 32) * ROUNDOFF
    turning = (5 * steps + size + 32) * ROUNDOFF
    bounds = {
        "adjacent": base,
        "lag": base,
        "all_pairs": 4 * base,
        "adjacent_pre": turning,
        "all_pairs_pre": 4 * turning,
        "energies": base,
        "norms": base,
    }
    for name, bound in bounds.items():
        left, right = getattr(found, name), getattr(wanted, name)
        assert (left is None) == (right is None), name
        if left is None:
            continue
        assert left.shape == right.shape, name
        assert torch.equal(left.isnan(), right.isnan()), name
        # energies and norms are sums of what is not negative: relative to themselves
        unit = right.abs() if name in ("energies", "norms") else torch.ones_like(right)
        excess = ((left - right).abs() - bound * unit).nan_to_num(0.0)
        assert float(excess.max()) <= 0, f"{name}: {float((left - right).abs().nan_to_num().max())}"
    assert torch.equal(found.first_not_finite, wanted.first_not_finite)


def compare(x: torch.Tensor, tuning: Tuning = SMALL, start: int = 0, **options) -> QSimilarity:
    """Kernel against reference; the sums of its chunks go where NaN was."""
    rope = options.get("rope")
    workspace = make_workspace(x, rope, tuning)
    workspace.sums.fill_(math.nan)
    found = q_similarity(x, tuning=tuning, workspace=workspace, **options)
    assert not workspace.tickets.any()
    wanted = q_similarity_reference(x, start=start, **options)
    assert_close(found, wanted, x.shape[-1], tuning.steps)
    return found


@pytest.mark.parametrize("length", [1, 2, 3, 32, 33, 77])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_length(length: int, dtype: torch.dtype, device: str) -> None:
    x = vectors(2, 2, length, 64, seed=length, dtype=dtype, device=device)
    found = compare(x, lag=2, norms=True)
    assert bool(found.undefined.all()) == (length < 3)
    assert bool(found.adjacent.isnan().all()) == (length < 2)


@pytest.mark.parametrize("size", [5, 80, 96, 128, 256])
def test_every_head_size(size: int, device: str) -> None:
    compare(vectors(1, 2, 67, size, seed=size, dtype=torch.float16, device=device))


@pytest.mark.parametrize("scaling", [1.0, 1.3])
@pytest.mark.parametrize(
    ("layout", "size", "rotary"),
    [
        ("half", 64, 64),
        ("interleaved", 64, 64),
        ("half", 80, 80),
        ("interleaved", 80, 80),
        ("half", 80, 32),
        ("interleaved", 96, 24),
        ("half", 64, 0),
    ],
)
def test_before_rope(layout: str, size: int, rotary: int, scaling: float, device: str) -> None:
    rope = rope_of(size, layout, rotary, scaling)
    x = vectors(2, 1, 43, size, seed=rotary, device=device)
    found = compare(x, rope=rope, start=1000)
    if rotary:
        assert not torch.allclose(found.adjacent, found.adjacent_pre, atol=1e-3)


def test_far_positions_keep_their_angles(device: str) -> None:
    """Angles of thousands of radians, of rows equal before RoPE: all pairs have cosine 1."""
    rope = rope_of(64)
    z = vectors(1, 1, 1, 64, dtype=torch.float32, device=device).double()
    frequencies = torch.from_numpy(rope.frequencies.copy()).to(device)
    angles = torch.arange(5003, device=device)[:, None] * frequencies
    a, b = z[..., :32], z[..., 32:]
    x = torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)
    tuning = Tuning(streams=64, warps=4, unroll=2, steps=32, programs=1)
    found = q_similarity(x.float(), rope=rope, tuning=tuning)
    bound = 4 * (5 * 32 + 64 + 32) * ROUNDOFF
    assert float((found.all_pairs_pre - 1).abs()) < bound
    assert float((found.adjacent_pre - 1).abs()) < bound


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("unroll", [1, 4])
def test_every_schedule_agrees(ahead: bool, unroll: int, device: str) -> None:
    x = vectors(1, 1, 39, 64, seed=3, device=device)
    tuning = Tuning(streams=2, warps=1, unroll=unroll, steps=8, programs=4, ahead=ahead)
    compare(x, tuning, lag=5, norms=True)
    compare(x, tuning, rope=rope_of(64))


@pytest.mark.parametrize("rope", [None, rope_of(64), rope_of(64, "interleaved")])
def test_default_schedule(rope: Rope | None, device: str) -> None:
    compare(vectors(1, 1, 70, 64, seed=4, device=device), default_tuning(rope), rope=rope)


def test_strides_are_honoured(device: str) -> None:
    """(B, T, H, d) as most models hold it, every second position, components far apart."""
    whole = vectors(2, 2, 66, 64, seed=5, device=device)
    by_position = whole.transpose(1, 2).contiguous().transpose(1, 2)
    backwards = whole.transpose(2, 3).contiguous().transpose(2, 3)
    assert by_position.stride() != whole.stride() != backwards.stride()
    wanted = compare(whole)
    for x in (by_position, backwards):
        found = compare(x)
        assert_close(found, wanted, 64, SMALL.steps)
    compare(whole[:, ::2, ::2, :48], rope=rope_of(48))
    compare(whole[:1, :1, :40].expand(1, 3, 40, 64))


@pytest.mark.parametrize("lag", [1, 16, 40, 90])
def test_lags(lag: int, device: str) -> None:
    x = vectors(1, 1, 73, 64, seed=lag, device=device)
    found = compare(x, lag=lag)
    if lag == 1:
        assert float((found.lag - found.adjacent).abs().max()) < 1e-5
    assert bool(found.undefined.all()) == (lag > 73)


def test_padding_is_left_out(device: str) -> None:
    """Left and right padding, single holes, a text that is padding throughout."""
    length = 90
    valid = torch.ones(4, length, dtype=torch.bool)
    valid[0, :41] = False
    valid[1, 70:] = False
    valid[2, [3, 32, 33, 50]] = False
    valid[3] = False
    valid = valid.to(device)
    x = vectors(4, 1, length, 64, seed=6, device=device)
    x[~valid[:, None]] = math.nan  # never read
    found = compare(x, valid=valid, lag=7, norms=True)
    assert found.undefined[:, 0].tolist() == [False, False, False, True]
    compare(x, valid=valid, rope=rope_of(64))
    strided = valid.int().repeat(1, 2)[2:3, :length]
    same = q_similarity(x[2:3], valid=strided, tuning=SMALL)
    assert torch.equal(same.adjacent[0], found.adjacent[2])


def test_zero_rows_are_left_out(device: str) -> None:
    x = vectors(1, 3, 50, 64, seed=7, device=device)
    x[0, 0, [0, 5, 6, 31, 32, 49]] = 0
    x[0, 1] = 0
    x[0, 2, 1:] = 0  # one row is left, and nothing to compare it with
    found = compare(x, lag=3, norms=True)
    assert found.undefined.tolist() == [[False, True, True]]
    found.check()  # zeros are no error
    compare(x, rope=rope_of(64))


def test_tiny_and_huge_rows(device: str) -> None:
    """Rows whose squares leave float32 count like any other."""
    x = vectors(1, 1, 40, 64, seed=8, dtype=torch.float32, device=device)
    scale = torch.logspace(-36, 36, 40, device=device)
    x = x / x.abs().amax(-1, keepdim=True) * scale[:, None]
    compare(x, lag=9, norms=True)
    compare(x, rope=rope_of(64))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_named(value: float, device: str) -> None:
    x = vectors(2, 2, 50, 64, seed=9, device=device)
    x[1, 0, 33, 7] = value
    x[1, 0, [35, 40], 8] = math.nan  # one in the same stream, one in another
    found = compare(x, rope=rope_of(64), norms=True)
    expected = torch.zeros(2, 2, dtype=torch.bool, device=device)
    expected[1, 0] = True
    assert torch.equal(found.undefined, expected)
    with pytest.raises(InputError, match="batch 1, head 0: row 33 is not finite"):
        found.check()


def test_same_bits_every_time(device: str) -> None:
    """Also from a workspace that another call has used: its tickets are back at zero."""
    x = vectors(1, 2, 41, 64, seed=10, device=device)
    rope = rope_of(64)
    workspace = make_workspace(x, rope, SMALL)
    first = q_similarity(x, rope=rope, tuning=SMALL, workspace=workspace)
    workspace.sums.fill_(math.nan)
    second = q_similarity(x, rope=rope, tuning=SMALL, workspace=workspace)
    third = q_similarity(x, rope=rope, tuning=SMALL)
    for name in ("adjacent", "all_pairs", "adjacent_pre", "all_pairs_pre", "energies"):
        one = getattr(first, name)
        assert torch.equal(one, getattr(second, name)), name
        assert torch.equal(one, getattr(third, name)), name


def test_bad_input_is_named(device: str) -> None:
    x = vectors(1, 1, 8, 64, device=device)
    cases = [
        (x[0], {}, "shape"),
        (x[:, :, :0], {}, "shape"),
        (x.double(), {}, "dtype"),
        (x, {"rope": rope_of(32)}, "head size"),
        (x, {"lag": 0}, "lag"),
        (x, {"valid": torch.ones(1, 7, device=device)}, "mask"),
        (
            x,
            {"workspace": Workspace(x.new_empty(3, dtype=torch.float32), torch.zeros(1).int())},
            "workspace",
        ),
    ]
    for given, options, word in cases:
        with pytest.raises(InputError, match=word):
            q_similarity(given, **options)


@pytest.mark.gpu
@pytest.mark.parametrize("length", [32, 4096, 32768, 40001])
@pytest.mark.parametrize(
    "rope", [None, rope_of(128), rope_of(128, "interleaved"), rope_of(128, rotary=64)]
)
def test_many_programs_at_once(length: int, rope: Rope | None) -> None:
    """Whichever program of a head is last, the bits are the same."""
    x = vectors(1, 32, length, 128, seed=length, device="cuda")
    tuning = default_tuning(rope)
    workspace = make_workspace(x, rope)
    first = q_similarity(x, rope=rope, workspace=workspace)
    for _ in range(20):
        workspace.sums.fill_(math.nan)
        again = q_similarity(x, rope=rope, workspace=workspace)
        assert torch.equal(first.adjacent, again.adjacent)
        assert torch.equal(first.all_pairs, again.all_pairs)
        if rope is not None:
            assert torch.equal(first.energies, again.energies)
            assert torch.equal(first.all_pairs_pre, again.all_pairs_pre)
    some = x[:, ::11]
    found = q_similarity(some, rope=rope)
    assert_close(found, q_similarity_reference(some, rope=rope), 128, tuning.steps)


@pytest.mark.gpu
def test_cuda_graph_replays() -> None:
    x = vectors(1, 32, 4096, 128, device="cuda")
    workspace = make_workspace(x)
    wanted = q_similarity(x, workspace=workspace)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = q_similarity(x, workspace=workspace)
    for _ in range(3):
        found.adjacent.fill_(math.nan)
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(found.adjacent, wanted.adjacent)
