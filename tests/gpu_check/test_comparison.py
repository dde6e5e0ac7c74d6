"""What float64 proves, what it leaves open, and what becomes of that."""

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from flint import arb, ctx

from gpu_check import comparison, pairs
from gpu_check.arb import Exact, Settled
from gpu_check.comparison import CEILING, Comparison, error_factors, rounding_units
from gpu_check.pairs import Claim, Head, PairStatistics, TiledCheck
from gpu_check.visibility import Visibility
from tappa_theory.rope import Rope, rotate, to_channels, to_vectors, unrotate
from tappa_theory.separable import separate
from tappa_theory.shift_identity import LOGIT_CHANGE, bound_at, dw, dz
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

PLAIN = Rope(np.array([1.0, 0.4, 0.05]), "half", 6)
STILL = Rope.none(2)
SHIFTS = {
    "re_access": (1, 0),
    "sequential": (1, 1),
    "periodic_sequential": (0, 3),
    "seasonal": (5, 0),
}


def head_of(z: Any, w: Any, rope: Rope = PLAIN, visibility: Visibility | None = None) -> Head:
    z, w = (torch.as_tensor(np.asarray(x), dtype=torch.complex128) for x in (z, w))
    return Head(z, w, rope, 0.3, visibility or Visibility(len(z)))


def random_channels(length: int, count: int = 3, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((length, count)) + 1j * random.standard_normal((length, count))


def captured(query: torch.Tensor, key: torch.Tensor, rope: Rope) -> Head:
    positions = torch.arange(len(query))
    z, w = (unrotate(to_channels(x, rope), rope, positions) for x in (query, key))
    return Head(z, w, rope, 0.3, Visibility(len(query)), (query, key))


def claim_of(name: str, factor: Any = 1, shift: tuple[int, int] | None = None) -> Claim:
    """A theorem at a shift, its bound multiplied by a factor that may make it false."""
    theorem = copy.copy(THEOREMS[name])
    object.__setattr__(theorem, "bound", sp.expand(theorem.bound * factor))
    return Claim(theorem, shift or SHIFTS[name], 0)


def run(head: Head, claim: Claim, tile: int = 7, settled: int = 10_000) -> PairStatistics:
    std = torch.ones(len(head.z), dtype=torch.float64)
    return TiledCheck(head, tile, settled).run([claim], std)[0]


def verdicts(found: PairStatistics) -> tuple[int, int, int]:
    return found.violations, found.undecided, found.tight


# --- the rounding error


def long_text(kind: str, length: int, rope: Rope, seed: int) -> Head:
    random = np.random.default_rng(seed)
    x, y = (torch.tensor(random.standard_normal((length, rope.head_dim))) for _ in range(2))
    if kind == "norms":
        x, y = (a * torch.tensor(10.0 ** random.uniform(-8, 8, (length, 1))) for a in (x, y))
    if kind == "channels":
        x, y = (a * torch.tensor(10.0 ** random.uniform(-8, 8, rope.head_dim)) for a in (x, y))
    if kind == "float32":
        x, y = (a.float().double() for a in (x, y))
    if kind == "still":  # drift is nothing but what the rotation in float64 left
        positions = torch.arange(length)
        x, y = (
            to_vectors(rotate(to_channels(a[:1], rope).expand(length, -1), rope, positions), rope)
            for a in (x, y)
        )
    return captured(x, y, rope)


ROPES = {
    "one": Rope(np.array([1.0]), "half", 2),
    "default": Rope.from_parameters(16, {"rope_theta": 10000.0}),
    "scaled": Rope(np.array([0.9, 0.2, 0.0, 0.0]), "half", 4, attention_scaling=1.37, type="yarn"),
    "fast": Rope(np.array([3.1, 900.0]), "interleaved", 4, attention_scaling=0.6),
    "none": Rope.none(4),
}


KINDS = ["random", "norms", "channels", "float32", "still"]
LONG = [(kind, rope, 31_000) for kind in ("random", "still") for rope in ("default", "fast")]


@pytest.mark.parametrize(
    ("kind", "rope", "length"),
    [*((kind, rope, 90) for kind in KINDS for rope in ROPES), *LONG],
)
def test_the_error_of_a_comparison_is_within_its_bound(kind, rope, length):
    """Against the exact slack, as difference of two logits and by moves."""
    seed = sum(map(ord, kind + rope)) + length
    head = long_text(kind, length, ROPES[rope], seed)
    check, random = TiledCheck(head), np.random.default_rng(seed)
    far = {"seasonal": (length // 3, 0), "periodic_sequential": (0, length // 4)}
    for name in SHIFT_THEOREMS:
        claim = claim_of(name, shift=far.get(name))
        s, u = claim.shift
        prepared, exact = pairs._Prepared(check, claim), Exact(head, claim)
        by_logits = prepared.comparison.query_error, prepared.comparison.key_error
        query_change, key_change, by_moves = moved_features(check, claim)
        for _ in range(12):
            t = int(random.integers(max(0, length - s - 400), length - s))
            i = int(random.integers(0, length - u))
            logits = [
                float(check.query_logit[t + a] @ check.key_logit[i + b])
                for a, b in ((s, u), (0, 0))
            ]
            change = float(query_change[t] @ key_change[i])
            bound = float(prepared.query_bound[t] @ prepared.key_bound[i])
            with ctx.workprec(256):
                observed, limit = exact.sides(t, i)
                for found, (query, key) in (
                    (bound - abs(logits[0] - logits[1]), by_logits),
                    (bound - abs(change), by_moves),
                ):
                    assert abs(arb(found) - (limit - observed)) <= float(query[t] * key[i])


def moved_features(check: TiledCheck, claim: Claim) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Query and key features of LOGIT_CHANGE, and the factors of the error."""
    s, u = claim.shift
    change = separate(bound_at(claim.shift, LOGIT_CHANGE))
    values = dict(pairs._Prepared(check, claim).values)
    values |= {dz.name: values["z_s"] - values["z"], dw.name: values["w_u"] - values["w"]}
    length = check.head.visibility.length
    values |= {"t": values["t"][: length - s], "i": values["i"][: length - u]}
    query, key = change.query_features(values), change.key_features(values)
    angle = length * float(check.head.rope.frequencies.max())
    terms = separate(claim.theorem.bound).query_features(values).shape[1]
    units = rounding_units(query.shape[1], terms, angle, by_moves=True)
    norms = check.query_norm, check.key_norm
    return query, key, error_factors(norms, claim.shift, units, check.head.scale)


def test_the_units_are_those_of_the_derivation():
    """First-order parts by hand: 13A + 2n + 6m + 348, and by moves 29A + 6n + 6m + 662."""
    for n, m, angle in itertools.product((2, 256), (2, 300), (0.0, 5e4)):
        assert rounding_units(n, m, angle) >= (8 + 5) * angle + 2 * n + 6 * m + 96 + 246 + 6
        assert rounding_units(n, m, angle) == 14 * angle + 2 * n + 6 * m + 384
        moves = (24 + 5) * angle + 6 * (n + m) + 410 + 246 + 6
        assert rounding_units(n, m, angle, by_moves=True) >= moves
        assert rounding_units(n, m, angle, by_moves=True) == 30 * angle + 6 * (n + m) + 768


def test_the_factors_cover_norms_before_and_after_the_shift():
    norms = torch.tensor([1.0, 5.0, 2.0, 0.0]), torch.tensor([3.0, 4.0, 7.0, 6.0])
    norms = tuple(norm.double() for norm in norms)
    query, key = error_factors(norms, (1, 2), units=10.0, scale=0.5)
    assert query.tolist() == [0.5 * 2.0**-53 * 10 * norm for norm in (5.0, 5.0, 2.0)]
    assert key.tolist() == [7.0, 6.0]
    nothing, _ = error_factors((torch.zeros(3).double(), norms[1]), (0, 0), 10.0, 0.5)
    assert bool((nothing > 0).all())  # what underflows is no zero


# --- one tile


def tile_of(slack: list[float], norm: float = 1.0) -> tuple[Comparison, dict[str, Any]]:
    """A comparison of one row with these slacks, in units of an error of 1."""
    head = head_of(np.full((len(slack) + 1, 1), norm), np.full((len(slack) + 1, 1), norm), STILL)
    ones = torch.ones(len(slack), dtype=torch.float64)
    compared = Comparison(head, claim_of("sequential"), ones, ones)
    given = {
        "observed": torch.zeros(1, len(slack), dtype=torch.float64),
        "bound": torch.tensor([slack], dtype=torch.float64),
        "rows": slice(0, 1),
        "columns": slice(0, len(slack)),
        "hidden": None,
        "scratch": torch.full((len(slack),), math.nan, dtype=torch.float64),
    }
    return compared, given


def test_the_error_is_taken_to_the_last_percent():
    """Had the error been 1% smaller, pairs on its edge would count as proven."""
    compared, given = tile_of([1.0, 0.995, 5.0, -0.995, -1.005, 0.0, math.nan, math.inf])
    compared.add(**given)
    assert compared.close.places() == [(0, 1), (0, 3), (0, 5), (0, 6)]
    assert compared.exceeded.places() == [(0, 4)]
    assert compared.places() == [(0, 4), (0, 1), (0, 3), (0, 5), (0, 6)]


def test_hidden_pairs_and_given_tensors_are_left_alone():
    compared, given = tile_of([-5.0, -5.0, 0.0, 9.0])
    before = given["bound"].clone()
    compared.add(**given | {"hidden": torch.tensor([[True, False, True, True]])})
    assert compared.places() == [(0, 1)]
    assert torch.equal(given["bound"], before)
    assert torch.equal(given["observed"], torch.zeros(1, 4, dtype=torch.float64))


def test_an_infinite_error_proves_nothing():
    compared, given = tile_of([9.0, math.inf, math.nan])
    compared.query_error = torch.full_like(compared.query_error, math.inf)
    compared.add(**given)
    assert compared.places() == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("scale", [CEILING, 2.0**520])
def test_norms_too_large_for_float64_are_settled(scale):
    z = random_channels(9) * scale
    found = run(head_of(z, random_channels(9, seed=1)), claim_of("sequential"))
    assert verdicts(found) == (0, 0, 0)
    wrong = run(head_of(z, random_channels(9, seed=1)), claim_of("sequential", sp.Rational(1, 50)))
    assert wrong.violations > 10


def test_norms_too_small_for_float64_are_settled():
    """|z|^2 is zero in float64, z is not: the bound looks like 0, the change does not."""
    z, w = random_channels(9) * 1e-170, random_channels(9, seed=1) * 1e150
    found = run(head_of(z, w), claim_of("re_access"))
    assert found.sum_bound == 0
    assert found.sum_observed > 0
    assert verdicts(found) == (0, 0, 0)
    assert run(head_of(z, w), claim_of("re_access", sp.Rational(1, 50))).violations > 10


# --- zero rows


@pytest.mark.parametrize("tile", [1, 7, 100])
@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_zero_queries_and_keys_are_tight_without_arb(name, tile, monkeypatch):
    z, w = random_channels(40), random_channels(40, seed=1)
    z[5:25], w[10:20], w[39] = 0, 0, 0
    (s, u), vectors, crossed = SHIFTS[name], 0, []
    for t, i in itertools.product(range(40 - s), range(40 - u)):
        if i <= t and i + u <= t + s:
            queries, keys = (z[t].any(), z[t + s].any()), (w[i].any(), w[i + u].any())
            if not (any(queries) and any(keys)):
                vectors += 1
            elif not (queries[0] or keys[1]):
                crossed.append((t, i))  # no side is zero throughout, and still 0 <= 0

    def watched(places: list, *rest: Any) -> Settled:
        assert places == crossed
        return original(places, *rest)

    original = comparison.settle
    monkeypatch.setattr(comparison, "settle", watched)
    found = run(head_of(z, w), claim_of(name), tile)
    assert verdicts(found) == (0, 0, vectors + len(crossed))
    assert vectors > 100
    crossed = []
    nothing = run(head_of(0 * z, w), claim_of(name), tile)
    assert verdicts(nothing) == (0, 0, nothing.pairs)


def test_zero_padding_is_no_pair_that_is_tight():
    z, w = random_channels(40), random_channels(40, seed=1)
    z[:25] = w[:25] = 0
    visibility = Visibility(40, None, torch.arange(40) >= 25)
    for name in SHIFT_THEOREMS:
        assert verdicts(run(head_of(z, w, PLAIN, visibility), claim_of(name))) == (0, 0, 0)
        assert run(head_of(z, w), claim_of(name)).tight > 100


def test_a_vector_that_only_looks_zero_is_settled():
    """Its channels before RoPE underflow; the captured vector is not zero."""
    rope = Rope(np.array([1.3]), "half", 2, attention_scaling=4.0)
    tiny = torch.zeros(6, 2, dtype=torch.float64)
    tiny[::2, 0] = 5e-324
    head = captured(tiny, torch.ones(6, 2, dtype=torch.float64), rope)
    assert not head.z.any()
    found = run(head, claim_of("re_access"))
    assert verdicts(found) == (0, 0, 0)
    assert run(head, claim_of("re_access", sp.Rational(1, 100))).violations == found.pairs


# --- on the bound and beside it


def growing(length: int) -> Head:
    """Everything real and growing on a channel that does not turn: all pairs are equalities."""
    random = np.random.default_rng(length)
    z, w = (np.cumsum(random.uniform(0.1, 1.0, (length, 1)), axis=0) for _ in range(2))
    return head_of(z, w, STILL)


@pytest.mark.parametrize("name", SHIFT_THEOREMS)
@pytest.mark.parametrize("digits", [2, 12, 13, 14, 15, 16, 17, 18, 20, 40])
def test_all_pairs_on_the_bound_are_told_from_pairs_beside_it(name, digits):
    head, epsilon = growing(23), sp.Rational(1, 10**digits)
    on = run(head, claim_of(name))
    assert verdicts(on) == (0, 0, on.pairs)
    assert verdicts(run(head, claim_of(name, 1 - epsilon))) == (on.pairs, 0, 0)
    assert verdicts(run(head, claim_of(name, 1 + epsilon))) == (0, 0, 0)


@pytest.mark.parametrize("units", [0.0, 1e-3, 1.0, 1e30])
def test_no_verdict_of_float64_alone_is_a_violation(units, monkeypatch):
    """Whatever its error is taken to be; what it proves to hold is the one thing it decides."""
    monkeypatch.setattr(pairs, "rounding_units", lambda *_: units)
    head = growing(23)
    for name in SHIFT_THEOREMS:
        found = run(head, claim_of(name))
        assert found.violations == found.undecided == 0
    if units == 0:
        prepared = pairs._Prepared(TiledCheck(head), claim_of("sequential"))
        prepared.comparison.query_error.zero_()
        steps = torch.zeros(22, 22, dtype=torch.float64)
        prepared.comparison.add(
            steps + 1, steps, slice(0, 22), slice(0, 22), None, steps.flatten() * 0
        )
        assert prepared.comparison.exceeded.count == 22**2
        assert prepared.comparison.settle().violated == 0
    if units == 1e30:
        wrong = run(head, claim_of("sequential", 1 - sp.Rational(1, 10**25)))
        assert verdicts(wrong) == (wrong.pairs, 0, 0)


@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_a_bound_one_percent_too_small_is_found(name):
    head = growing(23)
    found = run(head, claim_of(name, sp.Rational(99, 100)))
    assert found.violations == found.pairs
    assert found.max_ratio == pytest.approx(100 / 99)


def test_the_verdict_is_of_what_was_captured():
    """Un-rotating rounds: of the rounded channels the pairs violate the equality, or do not."""
    rope = Rope(np.array([0.7]), "half", 2)
    positions = torch.arange(60)
    z = torch.cumsum(torch.rand(60, 1, generator=torch.Generator().manual_seed(0)).double(), 0) + 0j
    vectors = to_vectors(rotate(z, rope, positions), rope)
    head = captured(vectors, vectors, rope)
    found = run(head, claim_of("sequential"))
    assert (found.violations, found.undecided) == (0, 0)
    exact = Exact(head, claim_of("sequential"))
    with ctx.workprec(256):
        change, _ = exact.sides(20, 20)
        query = [arb(x) for x in vectors[20].tolist()]
        after = [arb(x) for x in vectors[21].tolist()]
        expected = 0.3 * sum((b * b - a * a for a, b in zip(query, after, strict=True)), arb(0))
        assert change.overlaps(abs(expected))


# --- how many, and in which order


@pytest.mark.parametrize("tile", [1, 5, 16, 100])
@pytest.mark.parametrize("settled", [0, 1, 40, 41, 10_000])
def test_no_more_pairs_are_settled_than_asked_for(tile, settled, monkeypatch):
    head, claim, seen = growing(23), claim_of("sequential", sp.Rational(1, 2)), []

    def watched(places: list, *rest: Any) -> Settled:
        seen.extend(places)
        return original(places, *rest)

    original = comparison.settle
    monkeypatch.setattr(comparison, "settle", watched)
    found = run(head, claim, tile, settled)
    every = [(t, i) for t in range(22) for i in range(t + 1)]
    assert seen == every[:settled]
    assert verdicts(found) == (min(settled, len(every)), max(len(every) - settled, 0), 0)


def test_what_exceeds_the_bound_in_float64_goes_first():
    """Behind a thousand pairs that are close, what looks like a violation is still settled."""
    check = TiledCheck(growing(50), settled=3)
    compared = pairs._Prepared(check, claim_of("sequential")).comparison
    slack = torch.zeros(49, 49, dtype=torch.float64)
    slack[48, 7] = slack[48, 3] = -1.0
    nothing = torch.zeros_like(slack)
    compared.add(nothing, slack, slice(0, 49), slice(0, 49), None, nothing.flatten().clone())
    assert compared.places() == [(48, 3), (48, 7), (0, 0)]


def test_places_take_no_memory_beyond_their_number():
    found = comparison._Found(1000, 8)
    for start in (600, 0, 300):
        rows = torch.arange(start, start + 300, 3)
        found.add(torch.ones(100, 50, dtype=torch.bool), rows, slice(20, 70))
        assert found.first.numel() == 8
    assert found.count == 3 * 5000
    assert found.places() == [(0, 20 + step) for step in range(8)]


# --- some rows only


WINDOWS = [None, 9]
VALID = [None, (torch.arange(40) >= 6) & (torch.arange(40) != 21)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("valid", VALID)
@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_rows_left_open_are_decided_alone(name, window, valid):
    """Half of the rows are proven, half are not: a coarser comparison hands over the latter."""
    z, w = random_channels(40), random_channels(40, seed=1)
    z[10:14] = 0
    visibility = Visibility(40, window, valid)
    head, claim = head_of(z, w, PLAIN, visibility), claim_of(name, sp.Rational(1, 2))
    whole = run(head, claim)
    assert whole.violations > 5
    check = TiledCheck(head, tile=7)
    every = torch.ones(40, dtype=torch.bool)
    (found,) = check.decide([claim], [every])
    assert (found.violated, found.undecided, found.tight) == verdicts(whole)
    parts = [every & (torch.arange(40) % 3 == part) for part in range(3)]
    split = [check.decide([claim], [part])[0] for part in parts]
    for count in ("violated", "undecided", "tight", "holds"):
        assert sum(getattr(part, count) for part in split) == getattr(found, count)
    assert min(part.violated for part in split) > 0
    both = check.decide([claim, claim_of(name)], [~every, every])
    assert both[0] == Settled()
    assert (both[1].violated, both[1].undecided) == (0, 0)


def test_two_rows_of_a_long_text_are_decided_in_small_tiles():
    length = 3000
    head = head_of(random_channels(length), random_channels(length, seed=1))
    chosen = torch.zeros(length, dtype=torch.bool)
    chosen[[5, 2990]] = True
    (found,) = TiledCheck(head, 64).decide([claim_of("sequential", sp.Rational(1, 50))], [chosen])
    assert 500 < found.violated <= 6 + 2991
