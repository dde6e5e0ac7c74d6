"""The kernel of all pairs: against plain torch in float64, and what bfloat16 may leave open."""

import dataclasses

import pytest
import torch

from gpu_check.kernels import shift_check as module
from gpu_check.kernels.shift_check import BINS, Tile, shift_check
from gpu_check.kernels.shift_check_reference import shift_check_reference
from gpu_check.shift_features import ShiftFeatures, shift_features
from gpu_check.spread import logit_spread
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.rounding import ACCUMULATION, BFLOAT16_ROUNDOFF, bfloat16_product_error
from tappa_theory.shift_identity import BOUND

SMALL = Tile(16, 16, 4, 1)
SHIFTS = ((1, 0), (1, 1), (0, 9), (17, 0))


def features(
    heads=2, kv_heads=1, length=83, channels=8, shift=(1, 0), device="cpu", seed=0, share=1.0
) -> ShiftFeatures:
    """Of heads whose queries are alike from row to row; the bound is `share` of (B)."""
    generator = torch.Generator().manual_seed(seed)
    z, w = (
        torch.randn(count, length, channels, dtype=torch.complex128, generator=generator)
        for count in (heads, kv_heads)
    )
    z = z + 2 * z[:, :1]
    rope = Rope.from_parameters(2 * channels, {"rope_type": "default", "rope_theta": 1e4})
    return shift_features(z.to(device), w.to(device), rope, 0.3, shift, share * BOUND)


def spread(found: ShiftFeatures, seed=1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = found.query_error.shape
    return torch.rand(shape, dtype=torch.float64, generator=generator).to(found.query_error.device)


def offsets(length, shift, device, window=None, padded=False):
    valid = torch.arange(length, device=device) % 7 != 3 if padded else None
    return Visibility(length, window, valid).offsets(*shift)


def equal(found, reference, columns):
    """float64 sums of as many terms as a row has, in another order."""
    scale = reference.sums.abs().amax(dim=(0, 1))
    error = (found.sums - reference.sums).abs().amax(dim=(0, 1)) / scale
    assert bool((error <= 8 * columns * 2.0**-53).all()), error
    assert torch.equal(found.counts, reference.counts)
    assert torch.equal(found.bins, reference.bins)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("window", "padded"), [(None, False), (29, False), (29, True)])
def test_float64_counts_what_plain_torch_counts(shift, window, padded, device):
    found = features(shift=shift, device=device)
    pairs = offsets(83, shift, device, window, padded)
    limits = spread(found)
    got = shift_check(found, limits, pairs, dtype=torch.float64, exceeded=True, tile=SMALL)
    equal(got, shift_check_reference(found, limits, pairs), 83)
    assert int(got.bins.sum()) == 2 * pairs.pairs()


@pytest.mark.parametrize(
    ("heads", "kv_heads", "length", "channels"), [(6, 2, 40, 5), (1, 1, 2, 32), (2, 2, 33, 40)]
)
def test_odd_shapes(heads, kv_heads, length, channels, device):
    found = features(heads, kv_heads, length, channels, device=device)
    pairs = offsets(length, (1, 0), device)
    limits = spread(found)
    got = shift_check(found, limits, pairs, dtype=torch.float64, exceeded=True, tile=SMALL)
    equal(got, shift_check_reference(found, limits, pairs), length)


def within(screen, reference, found):
    """Sums of changes and bounds within what bfloat16 may do to every pair of a row."""
    query, key = module.sides(found, torch.bfloat16)
    units = key.unit.repeat_interleave(found.group)
    largest = key.error.amax(dim=1).repeat_interleave(found.group) / units
    allowed = (query.error / query.unit[:, None]) * largest[:, None] * reference.bins.sum(dim=-1)
    difference = (screen.sums - reference.sums).abs()[..., :2]
    assert bool((difference <= allowed[..., None]).all())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_long_heads_with_the_tiles_that_are_used(dtype):
    found = features(8, 2, 2500, 64, shift=(1, 1), device="cuda")
    pairs = offsets(2500, (1, 1), "cuda")
    limits = spread(found)
    got = shift_check(found, limits, pairs, dtype=dtype, exceeded=True)
    reference = shift_check_reference(found, limits, pairs)
    if dtype == torch.float64:
        equal(got, reference, 2500)
    else:
        within(got, reference, found)
    assert not bool(got.counts[..., 1:].any())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_same_bits_every_run_and_nothing_unwritten(dtype, device, monkeypatch):
    found = features(shift=(1, 1), device=device)
    pairs, limits = offsets(83, (1, 1), device, padded=True), spread(found)
    first = shift_check(found, limits, pairs, dtype=dtype, tile=SMALL)

    def poisoned(shape, *, dtype, device):
        value = float("nan") if dtype.is_floating_point else -(2**30)
        return torch.full(shape, value, dtype=dtype, device=device)

    monkeypatch.setattr(module.torch, "empty", poisoned)
    again = shift_check(found, limits, pairs, dtype=dtype, tile=SMALL)
    for name in ("sums", "counts", "bins"):
        assert torch.equal(getattr(first, name), getattr(again, name))


def screened(found, limits, pairs):
    """The screen in bfloat16 alone, without what follows."""
    launch = module._Launch(found, limits, pairs, torch.bfloat16, True, Tile(32, 32, 4, 1))
    heads, blocks = len(limits), -(-limits.shape[1] // 32)
    every = torch.arange(heads).repeat_interleave(blocks)
    return launch.run(every, torch.arange(blocks).repeat(heads))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("share", [1.0, 0.9, 0.5])
def test_the_screen_leaves_open_whatever_is_above_the_bound(shift, share, device):
    found = features(shift=shift, device=device, share=share)
    pairs, limits = offsets(83, shift, device), spread(found)
    reference = shift_check_reference(found, limits, pairs)
    screen = screened(found, limits, pairs)
    above = reference.counts[..., 2]
    if share == 0.5:
        assert bool(above.any())
    assert bool((screen.counts[..., 1] >= reference.counts[..., 1]).all())
    assert bool((screen.counts[..., 1] >= above).all())
    # what it is certain to be above the bound is so
    assert bool((screen.counts[..., 2] <= above).all())
    # and with float64 after it nothing is lost
    got = shift_check(found, limits, pairs, exceeded=True, tile=Tile(32, 32, 4, 1))
    assert torch.equal(got.counts[..., 1:], reference.counts[..., 1:])


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_screen_errs_by_no_more_than_it_says(shift, device):
    found = features(shift=shift, device=device)
    pairs, limits = offsets(83, shift, device), spread(found)
    reference, screen = shift_check_reference(found, limits, pairs), screened(found, limits, pairs)
    within(screen, reference, found)
    assert bool((screen.sums != reference.sums).any())


def on_the_bound(device) -> ShiftFeatures:
    """Pairs whose change is the bound exactly: one channel, one direction."""
    generator = torch.Generator().manual_seed(5)
    query = torch.rand(1, 40, 1, dtype=torch.float64, generator=generator).to(device)
    key = torch.rand(1, 40, 1, dtype=torch.float64, generator=generator).to(device)
    error = 1e-14 * query[..., 0], key[..., 0]
    return ShiftFeatures(query, key, query, key, *error)


def test_pairs_on_the_bound_stay_open_and_just_inside_they_do_not(device):
    found = on_the_bound(device)
    limits, pairs = (
        torch.zeros(1, 40, dtype=torch.float64, device=device),
        offsets(41, (1, 1), device),
    )
    assert int(shift_check(found, limits, pairs).counts[..., 1].sum()) == pairs.pairs()
    inside = dataclasses.replace(found, query_bound=found.query_bound * (1 + 3e-14))
    got = shift_check(inside, limits, pairs, exceeded=True)
    assert not bool(got.counts[..., 1:].any())
    outside = dataclasses.replace(found, query_bound=found.query_bound * (1 - 3e-9))
    got = shift_check(outside, limits, pairs, exceeded=True)
    assert int(got.counts[..., 2].sum()) == pairs.pairs()


def test_zero_rows_are_never_open(device):
    found = features(device=device)
    for name in ("query_change", "query_bound", "query_error"):
        getattr(found, name)[:, 5] = 0.0
    got = shift_check(found, spread(found), offsets(83, (1, 0), device))
    assert not bool(got.counts[:, 5, 1].any())
    assert bool((got.bins[:, 5, 0] == 6).all())
    assert bool((got.bins[:, 5, 1:] == 0).all())
    assert got.bins.shape[-1] == BINS


@pytest.mark.parametrize("name", ["query", "key"])
def test_what_is_not_finite_is_named(name, device):
    found = features(device=device)
    getattr(found, f"{name}_error")[0, 7] = torch.nan
    with pytest.raises(InputError, match=f"the {name} of head 0 at position 7 is not finite"):
        shift_check(found, spread(found), offsets(83, (1, 0), device))


def test_shapes_and_dtypes_that_do_not_fit_are_named(device):
    found = features(device=device)
    with pytest.raises(InputError, match="do not fit together"):
        shift_check(found, spread(found), offsets(83, (2, 0), device))
    with pytest.raises(InputError, match=r"use torch.bfloat16 or torch.float64"):
        shift_check(found, spread(found), offsets(83, (1, 0), device), dtype=torch.float16)
    with pytest.raises(InputError, match="do not fit together"):
        features(heads=3, kv_heads=2)
    with pytest.raises(InputError, match="needs more than 9 positions"):
        features(length=9, shift=(9, 0))


@pytest.mark.parametrize(("window", "padded"), [(None, False), (50, False), (None, True)])
def test_the_spread_by_running_moments_is_that_of_the_logits(window, padded, device):
    generator = torch.Generator().manual_seed(2)
    queries, keys = (
        torch.randn(heads, 530, 6, dtype=torch.float64, generator=generator).to(device) + 3
        for heads in (4, 2)
    )
    valid = torch.arange(530, device=device) > 4 if padded else None
    visibility = Visibility(530, window, valid)
    every = torch.arange(530, device=device)
    visible = visibility.block(every, every)
    logits = queries @ keys.repeat_interleave(2, dim=0).mT
    count = visible.sum(dim=1).clamp(min=1)
    mean = torch.where(visible, logits, 0.0).sum(dim=-1) / count
    centred = torch.where(visible, logits - mean[..., None], 0.0)
    expected = (centred.square().sum(dim=-1) / count).sqrt()
    torch.testing.assert_close(logit_spread(queries, keys, visibility), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (3, 2), (2, 5), (30, 0), (40, 0)])
@pytest.mark.parametrize("window", [None, 1, 3, 11])
@pytest.mark.parametrize("padded", [False, True])
def test_the_band_of_a_shift_is_what_the_mask_says_before_and_after(shift, window, padded):
    s, u = shift
    valid = torch.arange(40) % 5 != 2 if padded else None
    visibility = Visibility(40, window, valid)
    band = visibility.offsets(s, u)
    t, i = torch.arange(band.rows), torch.arange(band.columns)
    both = visibility.block(t, i) & visibility.block(t + s, i + u)
    offset = t[:, None] - i
    inside = (offset >= band.low) & (offset < band.high)
    if padded:
        inside &= band.row_counts[:, None] & band.column_counts
    assert torch.equal(inside, both)
    assert band.pairs() == int(both.sum())


@pytest.mark.parametrize("channels", [16, pytest.param(128, marks=pytest.mark.gpu)])
def test_matrix_units_add_as_is_supposed(channels, device):
    """With a window of 1 a row has one pair: its sum is one product, as the units added it."""
    length = 600 if device == "cuda" else 70
    found = features(2, 1, length, channels, shift=(1, 1), device=device)
    pairs, limits = offsets(length, (1, 1), device, window=1), spread(found)
    launch = module._Launch(
        found, limits, pairs, torch.bfloat16, False, None if device == "cuda" else SMALL
    )
    blocks = -(-(length - 1) // launch.tile.rows)
    every = torch.arange(2).repeat_interleave(blocks)
    got = launch.run(every, torch.arange(blocks).repeat(2)).sums * launch.unit[:, None, None]
    for place in (0, 1):
        query, key = (
            side[place][:, : length - 1].double() for side in (launch.queries, launch.keys)
        )
        exact = (query * key).sum(dim=-1).abs()
        magnitude = (query * key).abs().sum(dim=-1)
        error = (got[..., place] - exact).abs() / magnitude
        assert float(error.max()) <= query.shape[-1] * ACCUMULATION
        assert float(error.max()) > 0


def test_the_error_of_bfloat16_products_is_nearly_attained():
    """Half-way between two numbers both factors lose a unit roundoff: 1% less would be too little.

    With one term, so that hardly anything comes from adding.
    """
    factor = torch.tensor(1 + BFLOAT16_ROUNDOFF, dtype=torch.float64)
    exact, rounded = factor**2, factor.to(torch.bfloat16).double() ** 2
    error, allowed = float((exact - rounded).abs() / exact), bfloat16_product_error(1)
    assert 0.99 * allowed < error <= allowed


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_pair_that_is_no_number_stays_open(dtype, device):
    found = features(device=device)
    found.query_change[0, 9, 0] = torch.nan  # its error says nothing of it
    got = shift_check(found, spread(found), offsets(83, (1, 0), device), dtype=dtype)
    assert int(got.counts[0, 9, 1]) == 10  # every key that the row sees
    assert not bool(got.counts[1, :, 1].any())


def test_a_bound_of_zero_that_is_exceeded_is_counted_in_the_last_bin(device):
    found = features(device=device)
    found.query_bound[0, 9] = 0.0
    got = shift_check(found, spread(found), offsets(83, (1, 0), device), exceeded=True)
    assert got.bins[0, 9].tolist() == [0] * (BINS - 1) + [10]
    assert int(got.counts[0, 9, 2]) == 10
