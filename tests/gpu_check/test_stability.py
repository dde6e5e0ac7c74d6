"""Lifetimes and discarded keys of a head against double loops over rows and keys."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_check import attention, lifetimes, reuse
from gpu_check.attention import observe
from gpu_check.check import Checker
from gpu_check.lifetimes import HORIZON, KEPT_SHARE, Lifetimes
from gpu_check.pairs import Head, TiledCheck
from gpu_check.reuse import HORIZONS, Reuse, mass_later
from gpu_check.rows import followed, seen_keys, square_distances
from gpu_check.visibility import Visibility
from tappa_theory.patterns import observed_rows
from tappa_theory.rope import Rope, to_channels, unrotate

SCALE = 0.4
ROPE = Rope(np.array([0.6, 0.1, 0.0]), "half", 4, attention_scaling=1.2, type="yarn")
PLAIN = Rope.none(4)


@dataclass(frozen=True)
class Case:
    """Vectors after RoPE and how they meet."""

    query: torch.Tensor
    key: torch.Tensor
    visibility: Visibility
    rope: Rope = ROPE
    softcap: float | None = None

    @property
    def head(self) -> Head:
        positions = torch.arange(len(self.query))
        z, w = (
            unrotate(to_channels(x, self.rope), self.rope, positions)
            for x in (self.query, self.key)
        )
        return Head(z, w, self.rope, SCALE, self.visibility)


def wander(length: int, seed: int, step: float, size: int = 6) -> torch.Tensor:
    """A mean with noise that is remembered for some steps."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(length, size, generator=random, dtype=torch.float64)
    return torch.randn(size, generator=random, dtype=torch.float64) + step * noise


def steady(length: int, seed: int) -> torch.Tensor:
    """Queries that hardly move, so that something is certified."""
    return 2 * wander(length, seed, 0.0) + wander(length, seed + 50, 0.02)


def cases() -> dict[str, Case]:
    length = 150
    query, key = steady(length, 0), wander(length, 1, 1.0)
    repeated = key.clone()
    repeated[1::2] = repeated[::2]
    silent = query.clone()
    silent[60:64] = 0.0
    valid = torch.ones(length, dtype=torch.bool)
    valid[:9] = False
    gap = valid.clone()
    gap[80] = False
    return {
        "plain": Case(query, key, Visibility(length)),
        "restless": Case(wander(length, 2, 1.0), key, Visibility(length)),
        "long": Case(steady(300, 3), wander(300, 4, 1.0), Visibility(300)),
        "window": Case(query, key, Visibility(length, window=13)),
        "padding": Case(query, key, Visibility(length, valid=valid)),
        "padding inside": Case(query, key, Visibility(length, window=40, valid=gap)),
        "soft-cap": Case(4 * query, key, Visibility(length), softcap=1.5),
        "repeated keys": Case(query, repeated, Visibility(length)),
        "zero queries": Case(silent, key, Visibility(length)),
        "zero keys": Case(query, 0.0 * key, Visibility(length)),
        "no rotation": Case(steady(length, 5)[:, :4], key[:, :4], Visibility(length), PLAIN),
    }


CASES = cases()


class Life:
    """Of one head what `Lifetimes` tells of several."""

    def __init__(self, heads: Lifetimes) -> None:
        assert len(heads.query) == 1
        self.heads, self.first, self.top = heads, heads.first, heads.top[0]
        self.angle, self.angle_discarded = heads.angle[0], heads.angle_discarded[0]

    def certified(self) -> torch.Tensor:
        return self.heads.certified()[0]

    def observed(self) -> tuple[torch.Tensor, torch.Tensor]:
        old, every = self.heads.observed()
        return old[0], every[0]

    def turn(self, row: int, step: int) -> float:
        return float(self.heads.turn(step)[0, row])

    def summary(self) -> dict[str, Any] | None:
        (found,) = self.heads.summary()
        return found


class Again:
    """Of one head what `Reuse` tells of several."""

    def __init__(self, heads: Reuse) -> None:
        self.heads, self.measured = heads, heads.measured[:, :, 0]

    def limit(self) -> torch.Tensor:
        return self.heads._oscillation()[:, 0]

    def summary(self) -> dict[str, Any] | None:
        (found,) = self.heads.summary()
        return found


def collected(case: Case) -> tuple[Life, Again]:
    check = TiledCheck(case.head)
    life = Lifetimes(case.head, case.query[None], case.key[None], case.softcap)
    again = Reuse(life)
    features = check.query_logit[None], check.key_logit[None]
    observe(*features, case.visibility, case.softcap, (life.add, again.add))
    return Life(life), Again(again)


class Naive:
    """The same by loops, one row and one key at a time."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.query, self.key = case.query.numpy(), case.key.numpy()
        length = len(self.query)
        self.raw = SCALE * self.query @ self.key.T
        cap = case.softcap
        self.logits = self.raw if cap is None else cap * np.tanh(self.raw / cap)
        index = torch.arange(length)
        self.visible = case.visibility.block(index, index).numpy()

    def seen(self, t: int) -> list[int]:
        return [int(i) for i in np.flatnonzero(self.visible[t])]

    def top(self, t: int) -> int:
        return max(self.seen(t), key=lambda i: self.raw[t, i])

    def kept(self, t: int) -> set[int]:
        """Indices; of equal attention all are kept."""
        count = math.ceil(KEPT_SHARE * len(self.seen(t)))
        least = sorted((self.logits[t, i] for i in self.seen(t)), reverse=True)[count - 1]
        return {i for i in self.seen(t) if self.logits[t, i] >= least - 1e-12}

    def radius(self, t: int, rivals: list[int]) -> float:
        """By norms: how far the query may move."""
        j, radius = self.top(t), math.inf
        for i in rivals:
            distance = np.linalg.norm(self.key[j] - self.key[i])
            if i != j:
                margin = self.raw[t, j] - self.raw[t, i]
                radius = min(radius, margin / (SCALE * distance) if distance > 1e-9 else 0.0)
        return max(radius, 0.0)

    def angle(self, t: int, rivals: list[int]) -> float:
        """By angle: the acute angle from the query to the plane on which a rival is as good."""
        j, angle, norm = self.top(t), math.inf, np.linalg.norm(self.query[t])
        for i in rivals:
            apart = self.key[j] - self.key[i]
            if i != j and norm * np.linalg.norm(apart) < 1e-9:
                angle = 0.0
            elif i != j:
                sine = self.query[t] @ apart / (norm * np.linalg.norm(apart))
                angle = min(angle, math.asin(min(max(sine, 0.0), 1.0)))
        return angle

    def turn(self, t: int, later: int) -> float:
        one, other = self.query[t], self.query[later]
        a, b = np.linalg.norm(one), np.linalg.norm(other)
        if a * b == 0:
            return math.pi
        return float(
            2 * math.atan2(np.linalg.norm(one / a - other / b), np.linalg.norm(one / a + other / b))
        )

    def certified(self, t: int) -> int:
        angle, j = self.angle(t, self.seen(t)), self.top(t)
        for step in range(1, HORIZON + 1):
            if not (self.turn(t, t + step) < angle and self.visible[t + step, j]):
                return step - 1
        return HORIZON

    def lasts(self, t: int, newer: bool) -> int:
        j = self.top(t)
        for step in range(1, HORIZON + 1):
            rivals = [i for i in self.seen(t + step) if newer or i <= t]
            if not self.visible[t + step, j]:
                return step - 1
            if any(self.raw[t + step, i] > self.raw[t + step, j] + 1e-12 for i in rivals):
                return step - 1
        return HORIZON

    def rows(self, steps: int) -> list[int]:
        length = len(self.query)
        return [
            t
            for t in range(observed_rows(length), length - steps)
            if all(self.visible[r, r] for r in range(t, t + steps + 1))
        ]

    def masses_there(self, t: int, step: int) -> bool:
        return any(self.visible[t + step, i] for i in self.seen(t))

    def masses(self, t: int, step: int) -> tuple[float, float, float, float]:
        """(epsilon, mass later, oscillation, largest a-priori oscillation by pairs of keys)."""
        common = [i for i in self.seen(t) if self.visible[t + step, i]]
        lost = [i for i in common if i not in self.kept(t)]
        mass = []
        for row in (t, t + step):
            weights = np.exp(self.logits[row] - self.logits[row, common].max())
            mass.append(sum(weights[lost]) / sum(weights[common]))
        change = self.logits[t + step, common] - self.logits[t, common]
        move = np.linalg.norm(self.query[t + step] - self.query[t])
        far = max(np.linalg.norm(self.key[i] - self.key[j]) for i in common for j in common)
        return mass[0], mass[1], float(np.ptp(change)), float(SCALE * move * far)


@pytest.mark.parametrize("name", CASES)
def test_the_rows_followed_are_those_whose_next_rows_are_all_there(name):
    naive = Naive(CASES[name])
    for steps in (1, 16, HORIZON):
        rows = torch.nonzero(followed(CASES[name].visibility, steps))[:, 0].tolist()
        assert rows == naive.rows(steps)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("zero keys",)])
def test_lifetimes_are_those_of_a_loop_over_rows_and_keys(name):
    life, _ = collected(CASES[name])
    naive, rows = Naive(CASES[name]), Naive(CASES[name]).rows(HORIZON)
    certified = life.certified()
    old, every = life.observed()
    for t in rows:
        rivals = [i for i in naive.seen(t) if i not in naive.kept(t)]
        assert float(life.angle[t]) == pytest.approx(naive.angle(t, naive.seen(t)), abs=1e-6)
        assert float(life.angle_discarded[t]) == pytest.approx(naive.angle(t, rivals), abs=1e-6)
        if name != "repeated keys":  # whose top key has an equal, found at another place
            assert int(life.top[t]) == naive.top(t)
            assert int(old[t]) == naive.lasts(t, newer=False)
            assert int(every[t]) == naive.lasts(t, newer=True)
        assert int(certified[t]) == naive.certified(t)


@pytest.mark.parametrize("rows", [1, 11, 64])
@pytest.mark.parametrize("name", CASES)
def test_blocks_of_any_size_give_the_same(name, rows, monkeypatch):
    life, again = collected(CASES[name])
    monkeypatch.setattr(attention, "ROWS", rows)
    other, later = collected(CASES[name])
    followed_rows = torch.nonzero(followed(CASES[name].visibility, HORIZON))[:, 0]
    for attribute in ("angle", "angle_discarded"):
        found, expected = (getattr(x, attribute)[followed_rows] for x in (other, life))
        assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-7, abs=1e-7)
    if name == "repeated keys":
        return  # rounding decides which of two equal keys is on top, and which is kept
    for found, expected in zip(other.observed(), life.observed(), strict=True):
        assert torch.equal(found[followed_rows], expected[followed_rows])
    for place, step in enumerate(HORIZONS):
        index = torch.nonzero(followed(CASES[name].visibility, step))[:, 0]
        found, expected = (x.measured[place][:3, index].numpy() for x in (later, again))
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", CASES)
def test_the_keys_that_rows_see_are_counted(name):
    assert seen_keys(CASES[name].visibility).tolist() == Naive(CASES[name]).visible.sum(1).tolist()


@pytest.mark.parametrize("name", CASES)
def test_distances_are_no_smaller_than_exact(name):
    """Against exact rational arithmetic, and not larger by more than what rounding may be."""
    keys = CASES[name].key[:40]
    squares = keys.square().sum(dim=-1)
    found = square_distances(keys[:20], keys, squares[:20], squares)
    for i, row in enumerate(found.tolist()):
        for j, number in enumerate(row):
            pairs = zip(keys[i].tolist(), keys[j].tolist(), strict=True)
            exact = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs)
            assert Fraction(number) >= exact
            size = float(squares[i] + squares[j])
            assert number - float(exact) <= 6 * (keys.shape[1] + 4) * 2.0**-53 * size


@pytest.mark.parametrize("name", CASES)
def test_no_certificate_is_broken(name):
    life, again = collected(CASES[name])
    summary, later = life.summary(), again.summary()
    assert later is not None
    assert all(part["broken"] == 0 for part in later.values())
    if summary is not None:
        assert summary["broken"] == 0


def test_the_cases_hold_rows_that_are_certified_and_rows_that_are_not():
    life, again = collected(CASES["plain"])
    summary, later = life.summary(), again.summary()
    assert summary is not None
    assert later is not None
    assert summary["certified_share"] > 0.3
    assert summary["certified"]["mean"] < summary["observed_old"]["mean"]
    assert later["16"]["top_certified"] > 0.3
    assert later["16"]["informative"] > 0.3
    restless = collected(CASES["restless"])[0].summary()
    assert restless is not None
    assert restless["certified_share"] < 0.1


@pytest.mark.parametrize("name", CASES)
def test_masses_are_those_of_a_loop_over_rows_and_keys(name):
    case = CASES[name]
    _, again = collected(case)
    naive = Naive(case)
    for place, step in enumerate(HORIZONS):
        rows = [t for t in naive.rows(step) if naive.masses_there(t, step)]
        assert len(rows) > 5 or (case.visibility.window or 99) <= step
        for t in rows[::5]:
            epsilon, mass, oscillation, a_priori = naive.masses(t, step)
            found = again.measured[place][:, t].tolist()
            assert found[:3] == pytest.approx([epsilon, mass, oscillation], abs=1e-12)
            allowed = float(again.limit()[place, t])
            assert allowed >= a_priori * (1 - 1e-12)
            if name not in ("window", "padding", "padding inside", "soft-cap"):
                assert allowed == pytest.approx(a_priori, rel=1e-6, abs=1e-6)


def test_summaries_are_means_and_quantiles_of_the_rows():
    life, again = collected(CASES["plain"])
    naive = Naive(CASES["plain"])
    summary, later = life.summary(), again.summary()
    assert summary is not None
    assert later is not None
    rows = naive.rows(HORIZON)
    certified = np.array([naive.certified(t) for t in rows])
    assert summary["rows"] == len(rows)
    assert summary["certified"] == {
        "mean": pytest.approx(certified.mean()),
        "median": np.median(certified),
        "low": pytest.approx(np.quantile(certified, 0.1)),
        "high": pytest.approx(np.quantile(certified, 0.9)),
    }
    assert summary["certified_share"] == pytest.approx((certified >= 1).mean())
    angles = [naive.angle(t, naive.seen(t)) for t in rows]
    turns = [naive.turn(t, t + 1) for t in rows]
    assert summary["angle"] == pytest.approx(np.median(angles), rel=1e-9)
    assert summary["turn"] == pytest.approx(np.median(turns), rel=1e-9)
    part = later["4"]
    numbers = np.array([naive.masses(t, 4) for t in naive.rows(4)])
    bound, limit = (
        numbers[:, 0] * np.exp(w) / (1 - numbers[:, 0] + numbers[:, 0] * np.exp(w))
        for w in (numbers[:, 2], numbers[:, 3])
    )
    assert part["discarded"] == pytest.approx(numbers[:, 0].mean())
    assert part["observed"] == pytest.approx(numbers[:, 1].mean())
    assert part["measured"] == pytest.approx(bound.mean())
    assert part["a_priori"] == pytest.approx(limit.mean(), rel=1e-6)
    assert part["tightness"] == pytest.approx(np.median(numbers[:, 1] / bound))
    assert part["informative"] == pytest.approx((limit < 0.5).mean())
    assert part["informative_measured"] == pytest.approx((bound < 0.5).mean())


def turning(length: int, rate: float) -> Case:
    """A query that turns by `rate` a row, and two keys at right angles among keys of zero."""
    angle = rate * torch.arange(length, dtype=torch.float64)
    query = torch.stack([angle.cos(), angle.sin(), *[0 * angle] * 2], dim=1)
    key = torch.zeros(length, 4, dtype=torch.float64)
    key[0, 0] = key[1, 1] = 1.0
    return Case(query, key, Visibility(length), PLAIN)


def test_a_turning_query_is_certified_for_as_long_as_its_top_key_stays_on_top():
    # From 45 - x degrees off the second key the query needs x more to be nearer to it, and the
    # certificate says so: nothing is lost. By norms it was less, since a chord is longer than the
    # distance of the line between the two, by 1 / cos(x / 2).
    rate = math.radians(0.1)
    life, _ = collected(turning(300, rate))
    certified, old = life.certified(), life.observed()[0]
    for t in range(100, 230):
        gap = math.pi / 4 - t * rate
        assert int(life.top[t]) == 0
        assert float(life.angle[t]) == pytest.approx(gap, abs=1e-9)
        assert life.turn(t, 7) == pytest.approx(7 * rate, abs=1e-9)
        steps = min(math.floor(gap / rate + 1e-9), HORIZON)
        assert (int(certified[t]), int(old[t])) == (steps, steps)


def test_a_query_that_grows_or_shrinks_keeps_its_certificate():
    """Only its direction counts: by norms, nothing would be certified here."""
    case = turning(150, 1e-4)
    sizes = 10.0 ** (torch.arange(150) % 7 - 3)[:, None]
    life, again = collected(Case(case.query * sizes, case.key, Visibility(150), PLAIN))
    rows = torch.arange(38, 86)
    assert life.certified()[rows].tolist() == [HORIZON] * 48
    assert float(life.angle[40]) == pytest.approx(math.pi / 4 - 40e-4, abs=1e-9)
    assert (life.summary() or {})["broken"] == 0
    assert (again.summary() or {})["1"]["broken"] == 0


def test_a_zero_query_certifies_nothing_and_is_certified_by_nothing():
    case = turning(150, 1e-4)
    query = case.query.clone()
    query[70], query[90] = 0.0, 1e-200 * query[90]
    life, _ = collected(Case(query, case.key, Visibility(150), PLAIN))
    certified = life.certified()
    assert float(life.angle[70]) == float(life.angle[90]) == 0.0
    assert (int(certified[70]), int(certified[90])) == (0, 0)
    assert certified[60:70].tolist() == list(range(9, -1, -1))
    assert certified[71:90].tolist() == list(range(18, -1, -1))
    assert life.turn(69, 1) == math.pi


def apart() -> Case:
    """A quarter of the keys that lose by the query's move what all others gain."""
    length = 140
    key = torch.zeros(length, 4, dtype=torch.float64)
    key[:, 0] = torch.where(torch.arange(length) % 4 == 0, 1.0, -1.0)
    query = torch.zeros(length, 4, dtype=torch.float64)
    query[:, 0] = 3.0 - 0.01 * torch.arange(length)
    return Case(query, key, Visibility(length), PLAIN)


def test_the_mass_is_attained_where_discarded_and_kept_keys_move_apart():
    # Discarded keys all gain, kept keys all lose: the odds grow by e^omega, no less.
    again = collected(apart())[1].summary()
    assert again is not None
    for part in again.values():
        assert part["tightness"] == pytest.approx(1.0, abs=1e-9)
        assert part["a_priori"] == pytest.approx(part["measured"], rel=1e-6)
        assert part["broken"] == 0


def test_masses_later_that_underflow_are_not_certified_away():
    found = mass_later(torch.tensor([0.0, 0.0, 0.5, 1.0]), torch.tensor([1.0, 800.0, 800.0, 1e3]))
    assert found.tolist() == [0.0, 1.0, 1.0, 1.0]


def test_a_text_too_short_to_follow_has_no_lifetime():
    case = Case(steady(70, 0), wander(70, 1, 1.0), Visibility(70))
    life, again = collected(case)
    assert life.summary() is None
    assert set(again.summary() or {}) == {"1", "4", "16"}
    one = Case(steady(1, 0), wander(1, 1, 1.0), Visibility(1))
    life, again = collected(one)
    assert life.summary() is None
    assert again.summary() is None


def adversarial(seed: int) -> Case:
    """Queries of jumps and stops, keys of all sizes, some equal."""
    random = torch.Generator().manual_seed(seed)
    length = 130
    query = torch.randn(length, 6, generator=random, dtype=torch.float64)
    query = query.cumsum(0) * 0.05 if seed % 2 else query
    query[:: 3 + seed % 5] = query[0]
    size = torch.exp(2 * torch.randn(length, 1, generator=random, dtype=torch.float64))
    key = torch.randn(length, 6, generator=random, dtype=torch.float64) * size
    key[5:20] = key[4]
    return Case(query, key, Visibility(length, window=[None, 30][seed % 2]))


@pytest.mark.parametrize("seed", range(12))
def test_no_certificate_is_broken_on_adversarial_heads(seed):
    life, again = collected(adversarial(seed))
    summary, later = life.summary(), again.summary()
    assert summary is not None
    assert later is not None
    assert summary["broken"] == 0
    assert all(part["broken"] == 0 for part in later.values())


@st.composite
def small_heads(draw: st.DrawFn) -> Case:
    """Small whole numbers, so that ties and keys in line are common, and norms of all sizes.

    Half of them hold a direction for some rows, with or without a nudge that rounding may lose.
    """
    length = draw(st.integers(6, 14))
    whole = st.integers(-3, 3)
    query, key = (draw(hnp.arrays(np.float64, (length, 4), elements=whole)) for _ in range(2))
    sizes = [10.0 ** draw(hnp.arrays(np.int8, (length, 1), elements=whole)) for _ in range(2)]
    if draw(st.booleans()):
        hold = draw(st.integers(2, 6))
        nudge = draw(st.sampled_from([0.0, 1e-15, 1e-9, 1e-3, 0.1]))
        query = query[np.arange(length) // hold * hold] + nudge * query
    softcap = draw(st.sampled_from([None, 2.0]))
    query, key = torch.from_numpy(query * sizes[0]), torch.from_numpy(key * sizes[1])
    window = draw(st.sampled_from([None, 4]))
    return Case(query, key, Visibility(length, window=window), PLAIN, softcap)


@settings(max_examples=150)
@given(small_heads())
def test_a_certified_key_stays_on_top_and_the_angle_certifies_what_norms_do(case: Case):
    life, _ = collected(case)
    naive, certified = Naive(case), life.certified()
    query, key = (x.numpy().astype(np.longdouble) for x in (case.query, case.key))
    logits, length = query @ key.T, len(query)
    for t in range(life.first, length):
        top, steps = int(life.top[t]), int(certified[t])
        for later in range(t + 1, t + steps + 1):
            # Longer numbers than the certificate was made with, and no allowance for rounding.
            rivals = [i for i in naive.seen(t) if i != top and naive.visible[later, i]]
            assert naive.visible[later, top]
            assert all(logits[later, top] > logits[later, i] for i in rivals)
        radius = naive.radius(t, naive.seen(t))
        if steps < HORIZON and t + steps + 1 < length and naive.visible[t + steps + 1, top]:
            move = np.linalg.norm(case.query[t + steps + 1] - case.query[t])
            # 1e-9 of the norms is far above what rounding takes from either.
            assert not move < radius - 1e-9 * np.linalg.norm(case.query[t])


def approaching() -> Case:
    """A query that walks straight towards the key of its rival and is there after 200.7 steps."""
    position = torch.arange(300, dtype=torch.float64)
    query = torch.zeros(300, 4, dtype=torch.float64)
    query[:, 0], query[:, 1] = 2 * 200.7 - position, position
    key = torch.zeros(300, 4, dtype=torch.float64)
    key[0, 0] = key[1, 1] = 1.0
    return Case(query, key, Visibility(300), PLAIN)


def test_the_certificate_is_attained_where_the_query_walks_straight_to_the_border():
    life, _ = collected(approaching())
    certified, old = life.certified(), life.observed()[0]
    for t in range(75, 201):
        steps = 64 if t < 137 else 200 - t
        assert (int(certified[t]), int(old[t])) == (steps, steps)


def test_a_bound_one_percent_too_small_is_seen(monkeypatch: pytest.MonkeyPatch):
    wrong = lifetimes.BY_ANGLE.replace(sp.asin, lambda sine: sp.asin(sp.Min(1, 1.01 * sine)))
    monkeypatch.setattr(lifetimes, "BY_ANGLE", wrong)
    for case in (approaching(), turning(520, math.pi / 4 / 450.7)):
        broken: dict[str, Any] = collected(case)[0].summary() or {}
        assert broken["broken"] > 0
    monkeypatch.undo()
    wrong = lifetimes.QUERY_ANGLE.replace(sp.asin, lambda sine: sp.asin(0.99 * sine))
    monkeypatch.setattr(lifetimes, "QUERY_ANGLE", wrong)
    assert (collected(approaching())[0].summary() or {})["broken"] > 0
    monkeypatch.undo()
    monkeypatch.setattr(reuse, "MASS_LATER", 0.99 * reuse.MASS_LATER)
    later = collected(apart())[1].summary() or {}
    assert all(part["broken"] == part["rows"] for part in later.values())


def test_a_step_too_few_is_seen(monkeypatch: pytest.MonkeyPatch):
    move, turns = Lifetimes.move, Lifetimes.turns.func
    monkeypatch.setattr(Lifetimes, "move", lambda self, step: move(self, step - 1))
    one_less = property(lambda self: torch.nn.functional.pad(turns(self)[..., :-1], (1, 0)))
    monkeypatch.setattr(Lifetimes, "turns", one_less)
    life, _ = collected(approaching())
    old = life.observed()[0]
    assert all(int(life.certified()[t]) == int(old[t]) + 1 for t in range(137, 201))
    summary = life.summary()
    assert summary is not None
    assert summary["broken"] == 64  # rows 137 to 200; before, the top key outlasts HORIZON
    later = collected(apart())[1].summary() or {}
    assert [part["broken"] for part in later.values()] == [part["rows"] for part in later.values()]


def test_heads_that_share_their_keys_are_measured_each_on_its_own_queries():
    """Grouped queries: of four query heads two share a key head each."""
    length = 150
    queries = torch.stack([steady(length, 0), wander(length, 2, 1.0), *[steady(length, 7)] * 2])
    keys = torch.stack([wander(length, 1, 1.0), wander(length, 8, 0.5)])
    checker = Checker(threads=1)
    checker.add_layer(0, queries, keys, ROPE, scale=SCALE, visibility=Visibility(length))
    results = sorted(checker.result.heads, key=lambda head: head.head)
    assert [head.kv_head for head in results] == [0, 0, 1, 1]
    for head in results:
        alone = Case(queries[head.head], keys[head.head // 2], Visibility(length))
        life, again = collected(alone)
        assert head.lifetime == life.summary()
        assert head.reuse == again.summary()
        naive = Naive(alone)
        certified = [naive.certified(t) for t in naive.rows(HORIZON)]
        assert head.lifetime is not None
        assert head.lifetime["certified"]["mean"] == pytest.approx(np.mean(certified))
    assert results[0].lifetime != results[1].lifetime
    assert results[0].lifetime != results[2].lifetime
    assert (results[2].lifetime, results[2].reuse) == (results[3].lifetime, results[3].reuse)
