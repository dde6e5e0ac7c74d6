"""Settling pairs in balls: against exact fractions, on the bound, and just beside it."""

import copy
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
import torch
from flint import arb, ctx, fmpq

from gpu_check.arb import TIGHT, Exact, Settled, settle
from gpu_check.pairs import Claim, Head
from gpu_check.visibility import Visibility
from tappa_theory.rope import Rope, to_channels, unrotate
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

PLAIN = Rope.from_parameters(6, {"rope_theta": 100.0})
PARTIAL = Rope(np.array([0.9, 0.2, 0.0, 0.0]), "half", 4, attention_scaling=1.4, type="yarn")
INTERLEAVED = Rope(np.array([0.7, 0.01]), "interleaved", 4, attention_scaling=0.7)
STILL = Rope.none(2)
SHIFTS = {
    "re_access": (1, 0),
    "sequential": (1, 1),
    "periodic_sequential": (0, 5),
    "seasonal": (4, 0),
}


def captured(length: int, rope: Rope, seed: int, scale: float = 0.3) -> Head:
    """Random vectors after RoPE, of float32 numbers, un-rotated as a check does it."""
    random = np.random.default_rng(seed)
    query, key = (
        torch.tensor(random.standard_normal((length, rope.head_dim)).astype(np.float32)).double()
        for _ in range(2)
    )
    positions = torch.arange(length)
    z, w = (unrotate(to_channels(x, rope), rope, positions) for x in (query, key))
    return Head(z, w, rope, scale, Visibility(length), (query, key))


def exact_head(z: Any, w: Any, rope: Rope = STILL) -> Head:
    z, w = (torch.tensor(np.asarray(x, dtype=complex)) for x in (z, w))
    return Head(z, w, rope, 0.3, Visibility(len(z)))


def claim_of(name: str, factor: Any = 1) -> Claim:
    """A theorem at its shift, its bound multiplied by a factor that may make it false."""
    theorem = copy.copy(THEOREMS[name])
    bound = sp.Mul(theorem.bound, factor, evaluate=False)
    object.__setattr__(theorem, "bound", bound)  # a Theorem refuses any bound but (B)
    return Claim(theorem, SHIFTS[name])


def fraction(x: Fraction) -> fmpq:
    return fmpq(x.numerator, x.denominator)


def dot(x: torch.Tensor, y: torch.Tensor) -> Fraction:
    return sum(
        (Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)),
        Fraction(0),
    )


@pytest.mark.parametrize("precision", [64, 128, 256])
@pytest.mark.parametrize("rope", [PLAIN, PARTIAL, INTERLEAVED, Rope.none(4)])
@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_the_change_is_that_of_the_captured_vectors(name, rope, precision):
    """A logit is scale <q, k> after RoPE: a fraction, without any angle."""
    head, claim = captured(40, rope, seed=1), claim_of(name)
    (s, u), (query, key) = claim.shift, head.captured
    for t, i in [(0, 0), (34, 0), (34, 34), (17, 3)]:
        change = dot(query[t + s], key[i + u]) - dot(query[t], key[i])
        expected = fraction(abs(Fraction(head.scale) * change))
        with ctx.workprec(precision):
            found, _ = Exact(head, claim).sides(t, i)
        assert found.rad() < 2.0 ** (12 - precision)
        with ctx.workprec(1000):
            assert abs(arb(expected) - found.mid()) <= found.rad() * (1 + 2.0**-900)


@pytest.mark.parametrize("rope", [PLAIN, PARTIAL, INTERLEAVED, Rope.none(4)])
@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_the_bound_is_that_of_the_definition(name, rope):
    head, claim = captured(40, rope, seed=2), claim_of(name)
    (s, u), place = claim.shift, (29, 11)
    with mpmath.workprec(400):

        def channel(side: int, position: int, m: int) -> Any:
            value = complex(to_channels(head.captured[side], rope)[position, m])
            turn = mpmath.expj(-position * mpmath.mpf(float(rope.frequencies[m])))
            scaling = rope.attention_scaling if m < rope.rotary_dim // 2 else 1.0
            return mpmath.mpc(value) * turn / mpmath.mpf(scaling)

        total = mpmath.mpf(0)
        for m, theta in enumerate(rope.frequencies.tolist()):
            z, z_s = channel(0, place[0], m), channel(0, place[0] + s, m)
            w, w_u = channel(1, place[1], m), channel(1, place[1] + u, m)
            scaling = rope.attention_scaling if m < rope.rotary_dim // 2 else 1.0
            gain = mpmath.mpf(head.scale) * mpmath.mpf(scaling) ** 2
            turned = 2 * abs(mpmath.sin((s - u) * mpmath.mpf(theta) / 2)) * abs(z) * abs(w)
            total += gain * (abs(z_s - z) * abs(w_u) + abs(z) * abs(w_u - w) + turned)
        expected = mpmath.nstr(total, 100)
    with ctx.workprec(256):
        _, found = Exact(head, claim).sides(*place)
        assert found.rad() < 2.0**-240
        assert abs(found - arb(expected)) < 2.0**-240


# One channel that does not turn, everything real and growing: (B) is an equality, and exact.
GROWING = exact_head([[1.0], [2.25], [3.5], [5.0]], [[1.0], [1.5], [2.0], [4.5]])
# The same where the angle of the pair is 0, on channels that turn.
DIAGONAL = exact_head(
    np.outer([1.0, 2.25, 3.5, 5.0], [1.0, 0.3, 1e-9]),
    np.outer([1.0, 1.5, 2.0, 4.5], [2.0, 0.7, 1e3]),
    PLAIN,
)
EQUAL = [
    (GROWING, "re_access", (2, 0)),
    (GROWING, "sequential", (2, 1)),
    (DIAGONAL, "sequential", (2, 2)),
    (DIAGONAL, "sequential", (0, 0)),
]


def test_the_fractions_of_an_expression_stay_fractions():
    """1/3 is no binary number: as a float it would be off by 2e-17."""
    third = sp.Rational(1, 3)
    for head, name, pair in EQUAL:
        assert settle([pair], head, claim_of(name, 3 * (third + sp.Rational(1, 10**20)))).holds == 1
        less = claim_of(name, sp.Add(1, -third / 10**20, evaluate=False))
        assert settle([pair], head, less).violated == 1


@pytest.mark.parametrize("digits", [2, 13, 14, 15, 16, 17, 18, 19, 20, 30, 50, 59])
@pytest.mark.parametrize(("head", "name", "pair"), EQUAL)
def test_a_pair_beside_the_bound_is_told_from_one_on_it(head, name, pair, digits):
    epsilon = sp.Rational(1, 10**digits)
    assert settle([pair], head, claim_of(name)) == Settled(tight=1)
    assert settle([pair], head, claim_of(name, 1 - epsilon)) == Settled(violated=1)
    assert settle([pair], head, claim_of(name, 1 + epsilon)) == Settled(holds=1)


ONE = sp.sin(1, evaluate=False) ** 2 + sp.cos(1, evaluate=False) ** 2
"""Equal to 1, but no ball of it is a point."""


@pytest.mark.parametrize(("head", "name", "pair"), EQUAL)
def test_what_256_bits_cannot_tell_from_equality_is_tight(head, name, pair):
    assert settle([pair], head, claim_of(name, ONE)) == Settled(tight=1)
    for digits, expected in ((59, Settled(violated=1)), (90, Settled(tight=1))):
        assert (10.0**-digits < TIGHT) == (expected.tight == 1)
        less = claim_of(name, sp.Mul(ONE, 1 - sp.Rational(1, 10**digits), evaluate=False))
        assert settle([pair], head, less) == expected


def test_a_bound_that_would_need_floats_is_refused():
    for part in (sp.log(2), sp.E, sp.gamma(sp.pi)):
        with pytest.raises(ValueError, match="computed in floats"):
            settle([(1, 0)], GROWING, claim_of("sequential", part))
    assert settle([(1, 0)], GROWING, claim_of("sequential", sp.pi / 3)) == Settled(holds=1)


def test_a_ball_too_wide_to_tell_is_undecided():
    blurred = claim_of("sequential", sp.exp(300) * (ONE - 1) + ONE)
    assert settle([(1, 1)], DIAGONAL, blurred) == Settled(undecided=1)


@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_random_pairs_hold_and_none_is_left(name):
    head = captured(30, PARTIAL, seed=3)
    pairs = [(t, i) for t in range(20) for i in range(20)]
    assert settle(pairs, head, claim_of(name)) == Settled(holds=len(pairs))


@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_threads_share_a_precision_and_do_not_disturb_each_other(name):
    before = ctx.prec
    tiny = sp.Rational(1, 10**30)
    cases = [
        (head, claim_of(name, factor), pair, expected)
        for head, name, pair in EQUAL
        for factor, expected in (
            (1, Settled(tight=1)),
            (1 - tiny, Settled(violated=1)),
            (ONE, Settled(tight=1)),
            (1 + tiny, Settled(holds=1)),
        )
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: settle([case[2]] * 20, *case[:2]), cases))
    for settled, (*_, expected) in zip(found, cases, strict=True):
        twenty = {name: 20 * count for name, count in vars(expected).items()}
        assert settled == Settled(**twenty)
    assert ctx.prec == before


def test_nothing_to_settle_is_nothing():
    assert settle([], GROWING, claim_of("sequential")) == Settled()
