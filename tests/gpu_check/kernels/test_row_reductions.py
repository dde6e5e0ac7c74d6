"""`row_steps`, `later_rows` and `least_leads` against torch, one by one and in what uses them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gpu_check import attention, lifetimes, reuse
from gpu_check.attention import Block, observe, row_blocks
from gpu_check.kernels import kth_largest, later_rows, least_leads, row_steps
from gpu_check.lifetimes import Lifetimes
from gpu_check.pairs import Head
from gpu_check.reuse import HORIZONS, Reuse
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, to_channels

UNITS = 2.0**-53
SIZE = 6


def visibilities() -> dict[str, tuple[Visibility, float | None]]:
    """Lengths no block of keys fits, and what hides keys."""
    index = torch.arange(83)
    return {
        "plain": (Visibility(83), None),
        "soft-cap": (Visibility(70), 3.0),
        "window": (Visibility(83, 29), None),
        "narrow window": (Visibility(41, 1), None),
        "left padding": (Visibility(83, None, index >= 9), None),
        "hole": (Visibility(83, 40, (index - 50).abs() > 3), 2.0),
        "nothing but padding": (Visibility(83, None, index < 0), None),
        "one token": (Visibility(1), None),
    }


CASES = visibilities()


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that no program writes holds NaN, and few keys are taken at a time."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
    for module in (row_steps, later_rows, least_leads):
        monkeypatch.setattr(module, "KEYS", 32)


@dataclass(frozen=True)
class Random:
    """Vectors that move a little from row to row, and a key that attracts."""

    query: torch.Tensor
    key: torch.Tensor

    @classmethod
    def of(cls, length: int, device: str, spread: float = 1.0) -> "Random":
        generator = torch.Generator().manual_seed(torch.initial_seed() % 2**32)
        query, key = torch.randn(2, length, SIZE, generator=generator, dtype=torch.float64)
        key[length // 3] *= 2.0
        return cls((0.4 * spread * query.cumsum(0) / 4).to(device), key.to(device))


def blocks(name: str, device: str, monkeypatch, rows: int = 30) -> list[Block]:
    visibility, softcap = CASES[name]
    monkeypatch.setattr(attention, "rows_of_block", lambda length, device: rows)
    vectors = Random.of(visibility.length, device)
    return list(row_blocks(vectors.query, vectors.key, visibility, softcap))


def shared_keys(block: Block, early: int, late: int) -> torch.Tensor:
    return block.logits[early].isfinite() & block.logits[late].isfinite()


@pytest.mark.parametrize("name", CASES)
def test_steps_are_reduced_as_their_definitions_say(name, device, monkeypatch):
    for block in blocks(name, device, monkeypatch):
        found = row_steps.row_steps(block.logits, block.attention, block.first)
        count, width = block.logits.shape
        seen = block.logits[block.logits.isfinite()]
        size = 1 + float(seen.abs().max()) if len(seen) else 1.0
        near = 64 * width * UNITS * size**2
        assert found.std.shape == (count,)
        assert all(
            each.shape == (count - 1,)
            for each in (found.largest, found.smallest, found.exponentials, found.variance)
        )
        for row in range(count):
            own = block.logits[row][block.logits[row].isfinite()]
            expected = float(own.std(correction=0)) if len(own) else 0.0
            assert float(found.std[row]) == pytest.approx(expected, abs=near)
            if row + 1 == count:
                continue
            keys = shared_keys(block, row, row + 1) & (block.attention[row] > 0)
            numbers = [
                float(each[row])
                for each in (found.largest, found.smallest, found.exponentials, found.variance)
            ]
            if not keys.any():
                assert numbers == [0.0] * 4
                continue
            share = block.attention[row][keys] / block.attention[row][keys].sum()
            change = (block.logits[row + 1] - block.logits[row])[keys]
            centred = change - (share * change).sum()
            expected = [
                centred.max(),
                centred.min(),
                (share * (centred - centred.max()).exp()).sum(),
                (share * centred**2).sum(),
            ]
            assert numbers == pytest.approx([float(each) for each in expected], abs=near)


@pytest.mark.parametrize("step", HORIZONS)
@pytest.mark.parametrize("name", CASES)
def test_later_rows_are_compared_on_the_keys_that_both_see(name, step, device, monkeypatch):
    for block in blocks(name, device, monkeypatch):
        count, width = block.logits.shape
        thresholds = block.attention.amax(dim=1) / 3
        begin = min(2, count)
        found = later_rows.later_rows(
            block.logits, block.attention, thresholds, first=block.first, begin=begin, step=step
        )
        assert found.early.shape == (max(count - step - begin, 0),)
        for place, row in enumerate(range(begin, count - step)):
            shared = shared_keys(block, row, row + step)
            gone = shared & (block.attention[row] < thresholds[row])
            later = row + step
            change = (block.logits[later] - block.logits[row])[shared]
            sums = [found.early, found.early_gone, found.late, found.late_gone]
            weights = [
                block.attention[at][keys].sum() for at in (row, later) for keys in (shared, gone)
            ]
            assert [float(each[place]) for each in sums] == pytest.approx(
                [float(each) for each in weights], abs=4 * width * UNITS
            )
            rivals = block.logits[later][gone]
            # Extremes of given numbers are exact.
            assert float(found.rival[place]) == (float(rivals.max()) if len(rivals) else -np.inf)
            assert float(found.highest[place]) == (float(change.max()) if len(change) else -np.inf)
            assert float(found.lowest[place]) == (float(change.min()) if len(change) else np.inf)


@pytest.mark.parametrize("name", CASES)
def test_the_least_lead_is_that_of_the_nearest_rival(name, device, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    for block in blocks(name, device, monkeypatch):
        count, width = block.logits.shape
        squares = torch.rand(count, width, generator=generator, dtype=torch.float64) - 0.1
        highest, top = block.logits.max(dim=1)
        thresholds = block.attention.amax(dim=1) / 3
        levels = highest - 0.25  # above which some rivals are
        found = least_leads.least_leads(
            block.logits,
            block.attention,
            squares.to(device),
            levels=levels,
            top=top,
            thresholds=thresholds,
            first=block.first,
            smallest=1e-300,
        )
        for row in range(count):
            every = block.logits[row].isfinite().cpu()
            if every.any():
                every[int(top[row])] = False
            some = every & (block.attention[row] < thresholds[row]).cpu()
            margin = (levels[row] - block.logits[row]).clamp(min=0).cpu()
            with np.errstate(over="ignore"):
                ratio = margin * margin * (1.0 / squares[row].clamp(min=1e-300))
            for number, keys in zip(found[:, row].tolist(), (every, some), strict=True):
                assert number == (float(ratio[keys].min()) if keys.any() else np.inf)


def measured(name: str, device: str, spread: float):
    """What the watchers and the steps of a head show."""
    visibility, softcap = CASES[name]
    vectors = Random.of(visibility.length, device, spread)
    rope = Rope.none(SIZE)
    z, w = (to_channels(x, rope) for x in (vectors.query, vectors.key))
    head = Head(z, w, rope, 1.0, visibility)
    life = Lifetimes(head, vectors.query, vectors.key, softcap)
    again = Reuse(life)
    seen = observe(vectors.query, vectors.key, visibility, softcap, (life.add, again.add))
    return seen, life, again


@pytest.mark.parametrize(
    ("name", "spread"),
    [*((name, 1.0) for name in CASES), ("plain", 0.0), ("plain", 40.0), ("hole", 40.0)],
)
def test_a_head_is_measured_as_without_kernels(name, spread, device, monkeypatch):
    """Equal queries, ordinary ones, and such as leave most keys an attention of 0."""
    monkeypatch.setattr(attention, "rows_of_block", lambda length, device: 30)
    monkeypatch.setattr(kth_largest, "LARGEST", 0)  # which is tested by itself
    for module in (attention, lifetimes, reuse):
        monkeypatch.setattr(module, "fused", lambda numbers: True)
    by_kernel = measured(name, device, spread)
    for module in (attention, lifetimes, reuse):
        monkeypatch.setattr(module, "fused", lambda numbers: False)
    by_torch = measured(name, device, spread)
    near = {"rel": 1e-11, "abs": 1e-11, "nan_ok": True}
    for attribute in ("row_std", "divergence", "key_metric", "oscillation"):
        found, expected = (
            torch.as_tensor(getattr(each[0], attribute)).cpu().numpy()
            for each in (by_kernel, by_torch)
        )
        assert found == pytest.approx(expected, **near), attribute
    rows = torch.tensor(
        [t >= by_torch[1].first for t in range(CASES[name][0].length)], device=device
    )
    if CASES[name][0].valid is not None:
        rows &= CASES[name][0].valid.to(device)
    found, expected = (each[1].leads[:, rows].cpu().numpy() for each in (by_kernel, by_torch))
    # A product of other rows and keys may add up in another order.
    assert found == pytest.approx(expected, rel=1e-9)
    found, expected = (each[2].measured[..., rows].cpu().numpy() for each in (by_kernel, by_torch))
    assert found == pytest.approx(expected, **near)


@pytest.mark.parametrize(
    "maps",
    [
        (torch.ones(2, 3), torch.ones(2, 3)),
        (torch.ones(2, 0, dtype=torch.float64), torch.ones(2, 0, dtype=torch.float64)),
        (torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 4, dtype=torch.float64)),
        (torch.ones(3, 2, dtype=torch.float64).T, torch.ones(3, 2, dtype=torch.float64).T),
        (torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)),
    ],
)
def test_other_shapes_and_types_are_refused(maps):
    with pytest.raises(InputError, match="pass contiguous float64"):
        row_steps.row_steps(*maps, 0)


def test_other_numbers_by_row_are_refused():
    logits, rows = torch.ones(2, 3, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    with pytest.raises(InputError, match=r"pass \(2,\) float64"):
        later_rows.later_rows(logits, logits, rows[:1], first=0, begin=0, step=1)
    with pytest.raises(InputError, match="pass 0 or more"):
        later_rows.later_rows(logits, logits, rows, first=0, begin=0, step=-1)
    with pytest.raises(InputError, match=r"pass \(2,\) torch.int64"):
        least_leads.least_leads(
            logits, logits, logits, levels=rows, top=rows, thresholds=rows, first=0, smallest=1e-9
        )
