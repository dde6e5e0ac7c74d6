"""`attention_rows` against the float64 reference, within the tolerances its module derives."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from tappa_theory.errors import InputError
from tappa_theory.predictability import TOP, shift_aware_recall

TINY = 1e-36
"""Smaller attentions may vanish in float32."""


@pytest.fixture
def kernel():
    """The module, imported where conftest has said how kernels run."""
    from gpu_check.kernels import attention_rows

    return attention_rows


def inputs(device, texts=1, heads=1, kv_heads=1, length=45, size=64, dtype=torch.float32, seed=0):
    """Queries that jump in the first half and hardly move in the second; a zero row of each."""
    generator = torch.Generator().manual_seed(seed)
    queries, keys = (
        torch.randn(texts, number, length, size, generator=generator)
        for number in (heads, kv_heads)
    )
    half = length // 2
    queries[:, :, half:] = queries[:, :, half : half + 1] + 1e-3 * queries[:, :, half:].cumsum(2)
    queries[:, :, half // 2] = 0
    keys[:, :, 3 * half // 4] = 0
    return queries.to(device, dtype), keys.to(device, dtype)


class Tolerance:
    """Largest errors of every number, (B, H, T or T - 1): the table of the module's docstring."""

    def __init__(self, kernel, queries, keys, scale, expected, tile, exact=False):
        length, group = queries.shape[2], queries.shape[1] // keys.shape[1]
        norms = queries.double().norm(dim=-1), keys.double().norm(dim=-1).amax(dim=-1)
        product = scale * norms[0] * norms[1].repeat_interleave(group, dim=1)[..., None]
        e = kernel.logit_roundoff(queries.shape[-1]) * product
        if exact:
            e = 0 * e
        spread = 2 * float(product.max()) + np.log(length)
        r = kernel.probability_roundoff(spread, tile)
        self.gap = 2 * e
        step = torch.maximum(e[..., 1:], e[..., :-1])
        kl, metric = expected.divergence, expected.key_metric
        sigma = (2 * metric).sqrt()
        self.numbers = {
            "log_normaliser": e + r,
            "row_std": 2 * e + r * expected.row_std,
            "sink": (3 * e + r) * expected.sink + TINY,
            "slash": (3 * e + r) * expected.slash + TINY,
            "divergence": step * (2 * expected.total_variation + sigma)
            + 8 * step**2
            + (24 * r + 4 * step) * kl
            + r**2,
            "key_metric": 2 * step * sigma
            + 8 * step**2
            + (24 * r + 4 * step) * (metric + kl + kl**2)
            + r**2,
            "oscillation": 5 * step + r,
            "total_variation": 4 * step + 6 * r,
            "recall": 4 * step + 2 * r,
        }
        self.column = 3 * e.amax(dim=-1, keepdim=True) + r


def compare(kernel, device, queries, keys, tiling, **options):
    """Every number of both, over both halves of the rows; returns what the kernel found."""
    scale = queries.shape[-1] ** -0.5
    from gpu_check.kernels.attention_rows_reference import attention_rows_reference

    found = kernel.attention_rows(
        queries, keys, scale=scale, column_sum=True, tiling=tiling, **options
    )
    expected = attention_rows_reference(queries, keys, scale=scale, column_sum=True, **options)
    counted = queries, keys
    if options.get("valid") is not None:
        counted = tuple(
            torch.where(options["valid"][:, None, :, None], x, 0.0) for x in (queries, keys)
        )
    limits = Tolerance(kernel, *counted, scale, expected, 32 if tiling is None else tiling.keys)
    for name, limit in limits.numbers.items():
        mine, theirs = getattr(found, name).double(), getattr(expected, name)
        assert mine.shape == theirs.shape, name
        error = (mine - theirs).abs()
        if name == "recall":
            clear = clear_rows(*counted, scale, limits.gap, **options)
            # Zero queries make ties, and nothing else should.
            assert clear.double().mean() > 0.75 or queries.shape[2] < 20
            error = torch.where(clear[..., :-1], error, 0.0)
        assert bool((error <= limit).all()), (name, float((error / limit).max()))
    error = (found.column_sum.double() - expected.column_sum).abs()
    assert bool((error <= limits.column * expected.column_sum + TINY).all())
    return found


def clear_rows(queries, keys, scale, gap, window=None, valid=None, softcap=None, **_):
    """(B, H, T) bool: are the 16th and 17th largest logits of the row farther apart than `gap`?"""
    from gpu_check.visibility import Visibility

    length = queries.shape[2]
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    logits = scale * queries.double() @ keys.double().mT
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    rows = torch.arange(length, device=queries.device)
    for text in range(queries.shape[0]):
        known = None if valid is None else valid[text]
        visible = Visibility(length, window, known).block(rows, rows)
        logits[text] = torch.where(visible, logits[text], -torch.inf)
    best = logits.topk(min(TOP + 1, length), dim=-1).values
    if length <= TOP:
        return torch.ones_like(gap, dtype=torch.bool)
    last = best[..., -1]
    return ~last.isfinite() | (best[..., -2] - last > gap)


def holes(texts, length):
    """Padding in front, at the end and within."""
    valid = torch.ones(texts, length, dtype=torch.bool)
    valid[0, :5] = False
    valid[-1, length - 4 :] = False
    valid[-1, length // 2] = False
    return valid


CASES = {
    "one token": ({"length": 1}, {}),
    "two tokens": ({"length": 2, "heads": 2}, {}),
    "grouped heads": ({"heads": 4, "kv_heads": 2, "size": 80, "length": 25}, {}),
    "bfloat16, window": ({"length": 40, "dtype": torch.bfloat16}, {"window": 18}),
    "window of one": ({"length": 17}, {"window": 1}),
    "float16, padding": (
        {"texts": 2, "dtype": torch.float16, "length": 37},
        {"valid": True},
    ),
    "everything": (
        {"texts": 2, "heads": 2, "size": 96, "length": 27},
        {"valid": True, "window": 18, "softcap": 1.5, "columns": (0, 3, 20), "offsets": (1, 7, 17)},
    ),
    "soft-cap": ({"length": 33}, {"softcap": 2.0}),
}


def options_of(given, texts, length, device):
    options = dict(given)
    if "valid" in options:
        options["valid"] = holes(texts, length).to(device)
    for name in ("columns", "offsets"):
        if name in options:
            flags = torch.zeros(length, dtype=torch.bool, device=device)
            flags[list(options[name])] = True
            options[name] = flags
    return options


@pytest.mark.parametrize("case", CASES)
def test_every_number_agrees_with_the_reference(kernel, device, case):
    shape, given = CASES[case]
    queries, keys = inputs(device, **shape)
    options = options_of(given, queries.shape[0], queries.shape[2], device)
    compare(kernel, device, queries, keys, kernel.Tiling(16, 16), **options)


def test_the_default_tiles_and_keys_in_any_memory_order(kernel, device):
    queries, keys = inputs(device, length=75, size=64)
    compare(kernel, device, queries, keys, None)
    turned = queries.transpose(1, 2).contiguous().transpose(1, 2)
    strange = keys.mT.contiguous().mT
    assert strange.stride() != keys.stride()
    compare(kernel, device, turned, strange, None)  # other code, whose sums have another order


def same(one, other):
    for field in fields(one):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_tiny_steps_without_cancellation(kernel, device):
    """Logits without a rounding error leave only that of the formulas, relative to the KL."""
    from gpu_check.kernels.attention_rows_reference import attention_rows_reference

    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(-2, 3, (1, 1, 33, 64), generator=generator).float()
    queries = torch.randint(-2, 3, (1, 1, 1, 64), generator=generator).float()
    queries = queries + torch.randint(-1, 2, keys.shape, generator=generator) / 2**8
    queries, keys, scale = queries.to(device), keys.to(device), 2.0**-5
    expected = attention_rows_reference(queries, keys, scale=scale)
    found = kernel.attention_rows(queries, keys, scale=scale, tiling=kernel.Tiling(16, 16))
    limits = Tolerance(kernel, queries, keys, scale, expected, 16, exact=True).numbers
    assert float(expected.divergence.max()) < 1e-4
    for name in ("log_normaliser", "sink", "slash", "divergence", "key_metric", "oscillation"):
        error = (getattr(found, name).double() - getattr(expected, name)).abs()
        assert bool((error <= limits[name]).all()), name
    # The first steps see few keys, all the others move.
    moving = expected.divergence[..., 3:]
    assert bool((limits["divergence"][..., 3:] < 0.01 * moving).all())


def test_steep_rows(kernel, device):
    """Logits of +-60: levels jump, rows lose nearly all their attention from one to the next."""
    queries, keys = inputs(device, length=40)
    found = compare(kernel, device, 15 * queries, keys, kernel.Tiling(16, 16), window=25)
    assert float(found.divergence.max()) > 20


def test_every_output_is_written_and_bits_are_the_same_again(kernel, device, monkeypatch):
    queries, keys = inputs(device, texts=2, length=18)
    options = {"scale": 0.125, "valid": holes(2, 18).to(device), "tiling": kernel.Tiling(16, 16)}
    first = kernel.attention_rows(queries, keys, **options, column_sum=True)
    empty = torch.empty

    def poisoned(*shape, dtype=torch.float32, **other):
        made = empty(*shape, dtype=dtype, **other)
        return made.fill_(torch.nan if dtype.is_floating_point else 12345)

    monkeypatch.setattr(torch, "empty", poisoned)
    same(first, kernel.attention_rows(queries, keys, **options, column_sum=True))


def test_equal_logits_keep_the_first_keys(kernel, device):
    length = 50
    # By turns: all logits equal, many equal, all different.
    queries = torch.zeros(1, 1, length, 16)
    queries[:, :, 1::3, 0] = queries[:, :, 2::3, 1] = 1.0
    keys = torch.zeros(1, 1, length, 16)
    keys[..., :2] = 2 * torch.randn(length, 2, generator=torch.Generator().manual_seed(0))
    keys[..., 0] = (keys[..., 0] > -0.5).float()
    logits = (queries @ keys.mT)[0, 0].double()
    visible = torch.ones(length, length).tril() > 0
    attention = torch.softmax(torch.where(visible, logits, -torch.inf), dim=-1)
    # numpy sorts stably: of equals, the first.
    expected = shift_aware_recall(attention.numpy())
    queries, keys = queries.to(device), keys.to(device)
    found = kernel.attention_rows(queries, keys, scale=1.0, tiling=kernel.Tiling(16, 16))
    assert found.recall[0, 0].cpu().numpy() == pytest.approx(expected, rel=1e-5)
    assert expected.min() < 0.9


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_what_is_not_finite_is_named(kernel, device, bad):
    queries, keys = inputs(device, heads=2, length=18)
    queries[0, 1, 7, 3] = bad
    options = {"scale": 0.125, "tiling": kernel.Tiling(16, 16)}
    with pytest.raises(InputError, match="query of text 0, head 1, row 7"):
        kernel.attention_rows(queries, keys, **options)
    keys[0, 0, 11] = bad
    with pytest.raises(InputError, match="key of text 0, head 0, row 11"):
        kernel.attention_rows(torch.zeros_like(queries), keys, **options, softcap=3.0)


def test_padding_may_hold_anything(kernel, device):
    queries, keys = inputs(device, length=18)
    valid = torch.arange(18, device=device)[None] != 6
    options = {"scale": 0.125, "valid": valid, "column_sum": True}
    options["tiling"] = kernel.Tiling(16, 16)
    clean = kernel.attention_rows(queries, keys, **options)
    queries[:, :, 6], keys[:, :, 6] = torch.nan, torch.inf
    same(clean, kernel.attention_rows(queries, keys, **options))
    assert float(clean.log_normaliser[0, 0, 6]) == 0


@pytest.mark.filterwarnings("ignore:.* encountered:RuntimeWarning")
def test_logits_that_overflow_are_told(kernel, device):
    queries, keys = inputs(device, length=5)
    with pytest.raises(InputError, match="beyond the range of float32"):
        kernel.attention_rows(1e20 * queries, 1e20 * keys, scale=1.0, tiling=kernel.Tiling(16, 16))


def test_arguments_that_do_not_fit(kernel):
    from gpu_check.kernels.attention_rows_reference import attention_rows_reference

    queries, keys = inputs("cpu", heads=4, kv_heads=2, length=5)
    for wrong, message in (
        ({"keys": keys[:, :, :4]}, "must agree"),
        ({"queries": queries[:, :3]}, "multiple of H_kv"),
        ({"queries": queries[0]}, r"pass \(B, H, T, d\)"),
        ({"keys": keys.half()}, "convert one of them"),
        ({"window": 0}, "window of 0"),
        ({"softcap": -1.0}, "soft-cap of -1"),
        ({"scale": np.nan}, "scale of nan"),
        ({"valid": torch.ones(5, dtype=torch.bool)}, "`valid` of shape"),
        ({"columns": torch.ones(5)}, "`columns` of shape"),
        ({"offsets": torch.ones(4, dtype=torch.bool)}, "`offsets` of shape"),
    ):
        arguments = {"queries": queries, "keys": keys, "scale": 1.0} | wrong
        for function in (kernel.attention_rows, attention_rows_reference):
            with pytest.raises(InputError, match=message):
                function(**arguments)
    with pytest.raises(InputError, match="float64 given; convert them to float32"):
        kernel.attention_rows(queries.double(), keys.double(), scale=1.0)
    wide = torch.zeros(1, 1, 2, 257)
    with pytest.raises(InputError, match="largest size is 256"):
        kernel.attention_rows(wide, wide, scale=1.0)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [64, 96, 128, 256])
def test_long_texts_on_the_device(kernel, dtype, size):
    queries, keys = inputs("cuda", 2, 4, 2, 1500, size, dtype)
    compare(kernel, "cuda", queries, keys, None)
    options = {"window": 500, "softcap": 5.0, "valid": holes(2, 1500).cuda()}
    compare(kernel, "cuda", queries, keys, None, **options)
