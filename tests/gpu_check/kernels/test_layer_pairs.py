"""The kernel's way through all pairs against the tiled one, from queries and keys to verdicts."""

from dataclasses import replace

import pytest
import torch

from gpu_check import layer_pairs
from gpu_check.layer_pairs import check_pairs, head_statistics, layer_statistics
from gpu_check.pairs import Claim, Head, TiledCheck
from gpu_check.spread import logit_spread
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, to_channels, unrotate
from tappa_theory.theorems import THEOREMS

LENGTH, SIZE = 97, 16
CLAIMS = (
    Claim(THEOREMS["re_access"], (1, 0)),
    Claim(THEOREMS["sequential"], (1, 1)),
    Claim(THEOREMS["periodic_sequential"], (0, 9), star=2),
    Claim(THEOREMS["seasonal"], (17, 0), star=3),
)

visibilities = pytest.mark.parametrize(
    "visibility",
    [
        Visibility(LENGTH),
        Visibility(LENGTH, 31),
        Visibility(LENGTH, None, torch.arange(LENGTH) > 3),
    ],
    ids=["causal", "window", "padded"],
)


@pytest.fixture
def rope() -> Rope:
    return Rope.from_parameters(SIZE, {"rope_type": "default", "rope_theta": 1e4})


def layer(device, heads=4, kv_heads=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries, keys = (
        torch.randn(count, LENGTH, SIZE, generator=generator) for count in (heads, kv_heads)
    )
    return (queries + 2 * queries[:, :1]).to(device), keys.to(device)


def tiled(queries, keys, rope, visibility, index, group):
    """The head's `TiledCheck` on the CPU, and the spread of its logits."""
    query, key = queries[index].cpu().double(), keys[index // group].cpu().double()
    positions = torch.arange(LENGTH)
    z, w = (unrotate(to_channels(x, rope), rope, positions) for x in (query, key))
    head = Head(z, w, rope, 0.25, visibility, (query, key))
    return TiledCheck(head), logit_spread(0.25 * query[None], key[None], visibility)[0]


def on(device, check):
    """The check of the same head, held by the device."""
    head = check.head
    exact = tuple(x.to(device) for x in head.exact)
    return TiledCheck(replace(head, z=head.z.to(device), w=head.w.to(device), captured=exact))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@visibilities
def test_a_layer_by_the_kernel_is_its_heads_by_tiles(dtype, visibility, rope, device):
    queries, keys = layer(device)
    counts = check_pairs(
        queries, keys, rope, CLAIMS[:3], scale=0.25, visibility=visibility, dtype=dtype
    )
    rough = 3e-2 if dtype == torch.bfloat16 else 1e-11
    for index in (0, 3):
        check, spread = tiled(queries, keys, rope, visibility, index, 2)
        for found, expected in zip(counts, check.run(CLAIMS[:3], spread), strict=True):
            pairs = expected.pairs
            assert found.pairs == pairs
            assert int(found.histogram[index].sum()) == pairs
            assert tuple(found.worst[index].tolist()) == expected.worst
            assert float(found.max_ratio[index]) == pytest.approx(expected.max_ratio, rel=1e-11)
            assert float(found.mean_ratio[index]) == pytest.approx(
                expected.sum_ratio / pairs, rel=rough
            )
            assert float(found.mean_bound[index]) == pytest.approx(
                expected.sum_bound / pairs, rel=rough
            )
            assert float(found.mean_observed[index]) == pytest.approx(
                expected.sum_observed / pairs, rel=rough
            )
            assert abs(int(found.informative[index]) - expected.informative) <= rough * pairs
            assert int(found.violations[index]) == int(found.undecided[index]) == 0


@pytest.mark.parametrize("window", [None, 31])
def test_a_head_by_the_kernel_is_the_head_by_tiles(window, rope, device):
    queries, keys = layer(device)
    visibility = Visibility(LENGTH, window)
    check, spread = tiled(queries, keys, rope, visibility, 1, 2)
    expected = check.run(CLAIMS, spread)
    if device == "cuda":
        head = Head(
            check.head.z.cuda(),
            check.head.w.cuda(),
            rope,
            0.25,
            visibility,
            tuple(x.cuda() for x in check.head.exact),
        )
        check, spread = TiledCheck(head), spread.cuda()
    for found, one in zip(head_statistics(check, CLAIMS, spread), expected, strict=True):
        for name in (
            "shift", "pairs", "violations", "undecided", "tight", "worst", "informative",
            "published_checked", "published_violations",
        ):  # fmt: skip
            assert getattr(found, name) == getattr(one, name), name
        for name in (
            "sum_observed", "sum_bound", "sum_ratio", "max_ratio", "worst_observed", "worst_bound"
        ):  # fmt: skip
            assert getattr(found, name) == pytest.approx(getattr(one, name), rel=1e-11), name


def test_equal_pairs_and_violations_reach_the_verdict(rope, device):
    """A zero query makes pairs tight; a planted smaller bound is violated, proven in Arb."""
    queries, keys = layer(device)
    queries[0, 40:42] = 0.0
    visibility = Visibility(LENGTH)
    counts = check_pairs(queries, keys, rope, CLAIMS[:1], scale=0.25, visibility=visibility)[0]
    check, spread = tiled(queries, keys, rope, visibility, 0, 2)
    expected = check.run(CLAIMS[:1], spread)[0]
    assert expected.tight > 0
    assert int(counts.tight[0]) == expected.tight
    assert counts.tight[1:].tolist() == [0, 0, 0]
    whole = CLAIMS[0].theorem
    smaller = replace(whole, bound=whole.bound / 2, pattern_shift=None)
    claim = replace(CLAIMS[0], theorem=smaller)
    counts = check_pairs(queries, keys, rope, [claim], scale=0.25, visibility=visibility)[0]
    for index in range(4):
        check, spread = tiled(queries, keys, rope, visibility, index, 2)
        expected = check.run([claim], spread)[0]
        assert int(counts.violations[index]) == expected.violations > 0
        assert int(counts.undecided[index]) == expected.undecided == 0


COUNTED = (
    "shift", "pairs", "violations", "undecided", "tight", "worst", "informative",
    "published_checked", "published_violations",
)  # fmt: skip
SUMMED = ("sum_observed", "sum_bound", "sum_ratio", "max_ratio", "worst_observed", "worst_bound")


@visibilities
@pytest.mark.parametrize("at_once", [2, 99])
def test_heads_of_other_shifts_are_compared_together_as_each_alone(
    at_once, visibility, rope, device, monkeypatch
):
    """Lags and spacings differ, one head makes fewer claims, and one has pairs that are tight."""
    queries, keys = layer(device)
    queries[2, 40:42] = 0.0
    claims = [
        (CLAIMS[0], CLAIMS[1], replace(CLAIMS[2], shift=(0, n), star=star), replace(
            CLAIMS[3], shift=(lag, 0), star=star
        ))
        for lag, n, star in ((17, 9, 2), (5, 24, 1), (17, 3, 0))
    ]  # fmt: skip
    claims.append(claims[0][1:2])
    checks, spreads, expected = [], [], []
    for index, own in enumerate(claims):
        check, spread = tiled(queries, keys, rope, visibility, index, 2)
        expected.append(check.run(own, spread))
        checks.append(on(device, check))
        spreads.append(spread.to(device))
    assert expected[2][0].tight > 0
    monkeypatch.setattr(layer_pairs, "FLOATS", at_once * 12 * checks[0].head.z.numel())
    together = layer_statistics(checks, claims, spreads)
    for found, ones in zip(together, expected, strict=True):
        for counted, one in zip(found, ones, strict=True):
            for name in COUNTED:
                assert getattr(counted, name) == getattr(one, name), name
            for name in SUMMED:
                close = pytest.approx(getattr(one, name), rel=1e-11)
                assert getattr(counted, name) == close, name


def test_a_published_form_by_norms_is_counted_where_it_fails(rope, device):
    queries, keys = layer(device)
    whole = CLAIMS[1].theorem
    smaller = replace(whole.published, bound=whole.published.bound / 40)
    claim = replace(CLAIMS[1], theorem=replace(whole, published=smaller))
    check, spread = tiled(queries, keys, rope, Visibility(LENGTH), 1, 2)
    expected = check.run([claim], spread)[0]
    assert 0 < (expected.published_violations or 0) < expected.pairs
    found = head_statistics(on(device, check), [claim], spread.to(device))[0]
    assert found.published_violations == expected.published_violations


def test_a_head_too_large_to_be_compared_is_named(rope, device):
    queries, keys = layer(device)
    check, spread = tiled(queries, keys, rope, Visibility(LENGTH), 1, 2)
    check.head.z[7, 2] = 1e200  # its square would overflow
    with pytest.raises(InputError, match="query of head 0 at position 6 is not finite"):
        head_statistics(on(device, check), CLAIMS[:1], spread.to(device))
