"""`row_steps`, `later_rows` and `least_leads` against torch, one by one and in what uses them."""

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
    index = torch.arange(53)
    return {
        "plain": (Visibility(53), None),
        "soft-cap": (Visibility(45), 3.0),
        "window": (Visibility(53, 19), None),
        "narrow window": (Visibility(41, 1), None),
        "left padding": (Visibility(53, None, index >= 9), None),
        "hole": (Visibility(53, 35, (index - 30).abs() > 3), 2.0),
        "nothing but padding": (Visibility(53, None, index < 0), None),
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


HEADS = 2


def vectors(length: int, device: str, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries that move a little from row to row, and keys of which one attracts, (H, T, d)."""
    generator = torch.Generator().manual_seed(torch.initial_seed() % 2**32)
    query, key = torch.randn(2, HEADS, length, SIZE, generator=generator, dtype=torch.float64)
    key[:, length // 3] *= 2.0
    return (0.4 * spread * query.cumsum(1) / 4).to(device), key.to(device)


def blocks(name: str, device: str, monkeypatch, rows: int = 20) -> list[Block]:
    visibility, softcap = CASES[name]
    monkeypatch.setattr(attention, "rows_of_block", lambda length, device, heads: rows)
    return list(row_blocks(*vectors(visibility.length, device), visibility, softcap))


def parts(name: str, device: str, monkeypatch):
    """(H, R, W) logits and attention of every block, whole and without some rows; the first row."""
    for block in blocks(name, device, monkeypatch):
        yield block.logits, block.attention, block.first
        if len(block.rows) > 3:  # heads that lie farther apart than their rows
            yield block.logits[:, 2:], block.attention[:, 2:], block.first + 2


def shared_keys(logits: torch.Tensor, early: int, late: int) -> torch.Tensor:
    return logits[early].isfinite() & logits[late].isfinite()


@pytest.mark.parametrize("name", CASES)
def test_steps_are_reduced_as_their_definitions_say(name, device, monkeypatch):
    for logits, shares, first in parts(name, device, monkeypatch):
        found = row_steps.row_steps(logits, shares, first)
        heads, count, width = logits.shape
        seen = logits[logits.isfinite()]
        size = 1 + float(seen.abs().max()) if len(seen) else 1.0
        near = 64 * width * UNITS * size**2
        numbers = found.largest, found.smallest, found.exponentials, found.variance
        assert found.std.shape == (heads, count)
        assert all(each.shape == (heads, count - 1) for each in numbers)
        for head in range(heads):
            for row in range(count):
                own = logits[head, row][logits[head, row].isfinite()]
                expected = float(own.std(correction=0)) if len(own) else 0.0
                assert float(found.std[head, row]) == pytest.approx(expected, abs=near)
                if row + 1 == count:
                    continue
                by_kernel = [float(each[head, row]) for each in numbers]
                assert by_kernel == pytest.approx(
                    of_step(logits[head], shares[head], row), abs=near
                )


def of_step(logits: torch.Tensor, shares: torch.Tensor, row: int) -> list[float]:
    """largest, smallest, exponentials and variance of the step from a row to the next."""
    keys = shared_keys(logits, row, row + 1) & (shares[row] > 0)
    if not keys.any():
        return [0.0] * 4
    share = shares[row][keys] / shares[row][keys].sum()
    change = (logits[row + 1] - logits[row])[keys]
    centred = change - (share * change).sum()
    spread = (share * (centred - centred.max()).exp()).sum()
    return [float(x) for x in (centred.max(), centred.min(), spread, (share * centred**2).sum())]


@pytest.mark.parametrize("step", HORIZONS)
@pytest.mark.parametrize("name", CASES)
def test_later_rows_are_compared_on_the_keys_that_both_see(name, step, device, monkeypatch):
    for logits, shares, first in parts(name, device, monkeypatch):
        heads, count, _ = logits.shape
        thresholds = shares.amax(dim=-1) / 3
        begin = min(2, count)
        found = later_rows.later_rows(
            logits, shares, thresholds, first=first, begin=begin, step=step
        )
        assert found.early.shape == (heads, max(count - step - begin, 0))
        for head in range(heads):
            for place, row in enumerate(range(begin, count - step)):
                check_later_row(found, (head, place), logits[head], shares[head], row, step)


def check_later_row(found, place, logits, shares, row: int, step: int) -> None:
    """Of `later_rows`, whose thresholds are a third of the rows' largest, the number of a row."""
    later, width = row + step, logits.shape[-1]
    shared = shared_keys(logits, row, later)
    gone = shared & (shares[row] < shares[row].max() / 3)
    change = (logits[later] - logits[row])[shared]
    sums = [found.early, found.early_gone, found.late, found.late_gone]
    weights = [shares[at][keys].sum() for at in (row, later) for keys in (shared, gone)]
    assert [float(each[place]) for each in sums] == pytest.approx(
        [float(each) for each in weights], abs=4 * width * UNITS
    )
    rivals = logits[later][gone]
    # Extremes of given numbers are exact.
    assert float(found.rival[place]) == (float(rivals.max()) if len(rivals) else -np.inf)
    assert float(found.highest[place]) == (float(change.max()) if len(change) else -np.inf)
    assert float(found.lowest[place]) == (float(change.min()) if len(change) else np.inf)


@pytest.mark.parametrize("name", CASES)
def test_the_least_lead_is_that_of_the_nearest_rival(name, device, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    for logits, shares, first in parts(name, device, monkeypatch):
        heads, count, width = logits.shape
        squares = torch.rand(heads, count, width, generator=generator, dtype=torch.float64) - 0.1
        highest, top = logits.max(dim=-1)
        thresholds = shares.amax(dim=-1) / 3
        levels = highest - 0.25  # above which some rivals are
        found = least_leads.least_leads(
            logits,
            shares,
            squares.to(device),
            levels=levels,
            top=top,
            thresholds=thresholds,
            first=first,
            smallest=1e-300,
        )
        for place in np.ndindex(heads, count):
            every = logits[place].isfinite().cpu()
            if every.any():
                every[int(top[place])] = False
            some = every & (shares[place] < thresholds[place]).cpu()
            margin = (levels[place] - logits[place]).clamp(min=0).cpu()
            with np.errstate(over="ignore"):
                ratio = margin * margin * (1.0 / squares[place].clamp(min=1e-300))
            least = found[:, place[0], place[1]].tolist()
            for number, keys in zip(least, (every, some), strict=True):
                assert number == (float(ratio[keys].min()) if keys.any() else np.inf)


def measured(name: str, device: str, spread: float):
    """What the watchers and the steps of some heads show."""
    visibility, softcap = CASES[name]
    query, key = vectors(visibility.length, device, spread)
    rope = Rope.none(SIZE)
    z, w = (to_channels(x[0], rope) for x in (query, key))
    head = Head(z, w, rope, 1.0, visibility)
    life = Lifetimes(head, query, key, softcap)
    again = Reuse(life)
    seen = observe(query, key, visibility, softcap, (life.add, again.add))
    return seen, life, again


@pytest.mark.parametrize(
    ("name", "spread"),
    [*((name, 1.0) for name in CASES), ("plain", 0.0), ("plain", 40.0), ("hole", 40.0)],
)
def test_a_head_is_measured_as_without_kernels(name, spread, device, monkeypatch):
    """Equal queries, ordinary ones, and such as leave most keys an attention of 0."""
    monkeypatch.setattr(attention, "rows_of_block", lambda length, device, heads: 20)
    monkeypatch.setattr(kth_largest, "LARGEST", 0)  # which is tested by itself
    for module in (attention, lifetimes, reuse):
        monkeypatch.setattr(module, "fused", lambda numbers: True)
    by_kernel = measured(name, device, spread)
    for module in (attention, lifetimes, reuse):
        monkeypatch.setattr(module, "fused", lambda numbers: False)
    by_torch = measured(name, device, spread)
    near = {"rel": 1e-11, "abs": 1e-11, "nan_ok": True}
    for one, other in zip(by_kernel[0], by_torch[0], strict=True):
        for attribute in ("row_std", "divergence", "key_metric", "oscillation"):
            found, expected = (
                torch.as_tensor(getattr(each, attribute)).cpu().numpy() for each in (one, other)
            )
            assert found == pytest.approx(expected, **near), attribute
    rows = torch.tensor(
        [t >= by_torch[1].first for t in range(CASES[name][0].length)], device=device
    )
    if CASES[name][0].valid is not None:
        rows &= CASES[name][0].valid.to(device)
    found, expected = (each[1].leads[..., rows].cpu().numpy() for each in (by_kernel, by_torch))
    # A product of other rows and keys may add up in another order.
    assert found == pytest.approx(expected, rel=1e-9)
    found, expected = (each[2].measured[..., rows].cpu().numpy() for each in (by_kernel, by_torch))
    assert found == pytest.approx(expected, **near)


@pytest.mark.parametrize(
    "maps",
    [
        (torch.ones(1, 2, 3), torch.ones(1, 2, 3)),
        (torch.ones(1, 2, 0).double(), torch.ones(1, 2, 0).double()),
        (torch.ones(0, 2, 3).double(), torch.ones(0, 2, 3).double()),
        (torch.ones(1, 2, 3).double(), torch.ones(1, 2, 4).double()),
        (torch.ones(1, 3, 2).double().mT, torch.ones(1, 3, 2).double().mT),
        (torch.ones(2, 3, 3).double()[:, 1:], torch.ones(2, 2, 3).double()),
        (torch.ones(2, 3).double(), torch.ones(2, 3).double()),
    ],
)
def test_other_shapes_and_types_are_refused(maps):
    with pytest.raises(InputError, match="pass float64 of one shape"):
        row_steps.row_steps(*maps, 0)


def test_other_numbers_by_row_are_refused():
    logits = torch.ones(1, 2, 3, dtype=torch.float64)
    rows = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(InputError, match=r"pass \(1, 2\) float64"):
        later_rows.later_rows(logits, logits, rows[:, :1], first=0, begin=0, step=1)
    with pytest.raises(InputError, match="pass 0 or more"):
        later_rows.later_rows(logits, logits, rows, first=0, begin=0, step=-1)
    given = {"levels": rows, "top": rows, "thresholds": rows, "first": 0, "smallest": 1e-9}
    with pytest.raises(InputError, match=r"pass \(1, 2\) torch.int64"):
        least_leads.least_leads(logits, logits, logits, **given)
    with pytest.raises(InputError, match=r"squares \(1, 2, 2\) given; pass \(1, 2, 3\)"):
        least_leads.least_leads(logits, logits, logits[..., :2].contiguous(), **given)
