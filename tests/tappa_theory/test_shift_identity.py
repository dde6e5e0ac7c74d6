"""The shift identity exactly, bound (B) on random channels, and the witness that attains it."""

import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings, target
from hypothesis import strategies as st

from tappa_theory import shift_identity as identity
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import (
    ALPHA,
    BOUND,
    KEY_DRIFT,
    LOGIT,
    QUERY_DRIFT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    bound_at,
    rotation_residual,
)

U64 = 2.0**-53
RESIDUAL = rotation_residual(ALPHA)
CHANNELS = (identity.z, identity.z_s, identity.w, identity.w_u)


def in_real_coordinates(expression):
    """`expression` with every channel written x + iy, x and y real symbols."""
    parts = {c: sp.symbols(f"{c.name}_x {c.name}_y", real=True) for c in CHANNELS}
    real = {channel: x + sp.I * y for channel, (x, y) in parts.items()}
    return sp.expand(expression.subs(real, simultaneous=True), complex=True)


def test_the_shift_identity_is_an_exact_zero():
    gap = in_real_coordinates(SHIFTED_LOGIT) - in_real_coordinates(LOGIT)
    gap = gap - in_real_coordinates(SHIFT_DIFFERENCE)
    assert gap.has(identity.s, identity.u, identity.theta)
    assert sp.expand(sp.expand_trig(sp.expand(gap))).equals(0)


def test_the_logit_is_the_rotated_inner_product():
    z, w, t, i, theta, lam = (
        getattr(identity, name) for name in ("z", "w", "t", "i", "theta", "lam")
    )
    query, key = z * sp.exp(sp.I * t * theta), w * sp.exp(sp.I * i * theta)
    gap = in_real_coordinates(LOGIT - lam * sp.re(query * sp.conjugate(key)))
    assert sp.expand(sp.expand_trig(gap)).equals(0)


def channel(z, z_s, w, w_u, theta, s, u, t=0, i=0, scale=1.0):
    """Values for `evaluate`: one channel, or many as arrays."""
    values = {"z": z, "z_s": z_s, "w": w, "w_u": w_u, "theta": theta, "lambda": scale}
    values |= {"s": s, "u": u, "t": t, "i": i}
    return {name: np.asarray(value) for name, value in values.items()}


def ratio(values, bound=BOUND):
    return float(np.abs(evaluate(SHIFT_DIFFERENCE, values)) / evaluate(bound, values))


def size(values):
    """lambda (|z'||w'| + |z||w|): the size that rounding errors are relative to."""
    moved = np.abs(values["z_s"]) * np.abs(values["w_u"])
    return values["lambda"] * (moved + np.abs(values["z"]) * np.abs(values["w"]))


@st.composite
def random_channels(draw, count=200):
    """`count` random channels at one random shift and pair of positions, all magnitudes mixed."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def component():
        values = random.standard_normal(count) + 1j * random.standard_normal(count)
        return values * 10.0 ** random.integers(-3, 3, count)

    z, w = component(), component()
    near = draw(st.sampled_from([0.0, 1e-3, 1.0]))  # 0: no drift at all
    s, u = draw(st.integers(0, 64)), draw(st.integers(0, 64))
    i = draw(st.integers(0, 1000))
    t = i + draw(st.integers(0, 1000))
    theta = random.uniform(0, 1, count)
    return channel(z, z + near * component(), w, w + near * component(), theta, s, u, t, i, 0.125)


@settings(max_examples=50)
@given(random_channels())
def test_the_shift_identity_holds_in_numbers(values):
    gap = evaluate(SHIFTED_LOGIT, values) - evaluate(LOGIT, values)
    angles = (2 * values["t"] + 200) * values["theta"]  # formed in floating point, in both
    assert np.all(
        np.abs(gap - evaluate(SHIFT_DIFFERENCE, values)) <= U64 * (angles + 32) * size(values)
    )


@settings(max_examples=50)
@given(random_channels())
def test_the_bound_holds_on_random_channels(values):
    slack = evaluate(BOUND, values) - np.abs(evaluate(SHIFT_DIFFERENCE, values))
    # alpha <= 64 is rounded before its sine is taken; the rest is a few roundings
    assert np.all(slack >= -U64 * (64 + 32) * size(values))


amounts = st.integers(-4096, 4096).map(lambda number: number / 1024)
complexes = st.builds(complex, amounts, amounts)


@settings(max_examples=300)
@given(
    complexes, complexes, complexes, complexes, st.floats(0, math.pi), st.integers(0, 3), amounts
)
def test_the_bound_holds_where_it_is_pushed(z, z_s, w, w_u, theta, s, phase):
    values = channel(z * np.exp(1j * phase), z_s * np.exp(1j * phase), w, w_u, theta, s, 1)
    observed = abs(float(evaluate(SHIFT_DIFFERENCE, values)))
    bound = float(evaluate(BOUND, values))
    if bound > 1e-6:
        target(observed / bound)
    assert observed <= bound + 64 * U64 * float(size(values))


def witness(w, theta, s, u, distance, beta, gamma):
    """The channel of theory: all three terms of (B) point the same way as the logit difference."""
    alpha = (s - u) * theta
    turn = np.exp(1j * alpha)
    if alpha == 0:
        z = np.exp(-1j * distance * theta) * w
        return channel(z, (1 + gamma) * z, w, (1 + beta) * w, theta, s, u, distance)
    z = np.conj(np.exp(1j * distance * theta) * (turn - 1) * np.conj(w))
    z = z / abs(z)
    w_u = w * (1 + beta * (1 - turn))
    z_s = z + gamma * (1 - np.conj(turn)) * z * np.conj(w) / np.conj(w_u)
    return channel(z, z_s, w, w_u, theta, s, u, distance)


WITNESSES = {
    "column": witness(1 - 2j, 0.7, 1, 0, 5, 0.8, 1.3),
    "parallel": witness(0.5 + 1j, 0.3, 0, 20, 40, 1.0, 1.0),
    "season": witness(-1 + 0.2j, 1.0, 44, 0, 3, 0.4, 0.6),
    "backwards": witness(2j, 2.0, 2, 7, 9, 2.0, 0.5),
}
DIAGONAL = witness(1 - 2j, 0.7, 3, 3, 5, 0.8, 1.3)


@pytest.mark.parametrize("values", [*WITNESSES.values(), DIAGONAL])
def test_the_witness_attains_the_bound(values):
    assert ratio(values) == pytest.approx(1, abs=1e-12)
    pairs = zip(("z", "w"), ("z_s", "w_u"), strict=True)
    assert all(abs(values[before] - values[after]) > 1e-3 for before, after in pairs)


@pytest.mark.parametrize("term", [QUERY_DRIFT, KEY_DRIFT, RESIDUAL])
@pytest.mark.parametrize("name", WITNESSES)
def test_no_term_of_the_bound_can_be_made_smaller(name, term):
    values = WITNESSES[name]
    share = float(evaluate(term, values) / evaluate(BOUND, values))
    assert share > 0.1
    assert ratio(values, BOUND - 0.01 * term) > 1 + 0.009 * share


def test_the_witness_attains_the_bound_on_all_channels_at_once():
    theta = 10000.0 ** (-np.arange(8) / 8)
    channels = [witness(np.exp(2j * m), theta[m], 5, 2, 11, 0.5, 0.7) for m in range(8)]
    observed = abs(sum(float(evaluate(SHIFT_DIFFERENCE, values)) for values in channels))
    assert observed == pytest.approx(
        sum(float(evaluate(BOUND, values)) for values in channels), rel=1e-12
    )


def test_the_bound_is_its_three_terms_and_a_diagonal_needs_no_rotation():
    assert sp.expand(BOUND - QUERY_DRIFT - KEY_DRIFT - RESIDUAL) == 0
    for steps in (1, 7):
        assert sp.expand(bound_at((steps, steps)) - QUERY_DRIFT - KEY_DRIFT) == 0
    assert bound_at((1, 0)) != bound_at((0, 0))


def test_the_change_by_its_moves_is_the_difference_of_two_logits():
    moves = {identity.dz: identity.z_s - identity.z, identity.dw: identity.w_u - identity.w}
    difference = identity.LOGIT_CHANGE.subs(moves) - (identity.SHIFTED_LOGIT - identity.LOGIT)
    real = {
        symbol: sp.Symbol(f"a_{symbol}", real=True) + sp.I * sp.Symbol(f"b_{symbol}", real=True)
        for symbol in (identity.z, identity.z_s, identity.w, identity.w_u)
    }
    assert sp.simplify(sp.expand_complex(sp.expand(difference.subs(real)))) == 0


@pytest.mark.parametrize("shift", [(1, 0), (0, 3), (1, 1), (5, 2), (0, 0)])
def test_what_is_not_moved_is_written_as_itself(shift):
    change = identity.features_at(shift, identity.LOGIT_CHANGE)
    assert (identity.z_s in change.free_symbols) is False  # by its move alone
    assert (identity.dz in change.free_symbols) is (shift[0] > 0)
    assert (identity.w_u in change.free_symbols) is (shift[0] > 0 and shift[1] > 0)
    moves = {identity.dz: identity.z_s - identity.z, identity.dw: identity.w_u - identity.w}
    still = ({} if shift[0] else {identity.z_s: identity.z}) | (
        {} if shift[1] else {identity.w_u: identity.w}
    )
    exact = identity.SHIFT_DIFFERENCE.subs(
        {identity.s: shift[0], identity.u: shift[1], **still}, simultaneous=True
    )
    numbers = {
        identity.z: 1 - 2 * sp.I,
        identity.z_s: 3 + sp.I,
        identity.w: 2 + 5 * sp.I,
        identity.w_u: -1 + sp.I,
    }
    numbers |= {identity.theta: 0.7, identity.lam: 1.3}
    numbers |= {identity.t: 11, identity.i: 4}
    values = [sp.N(each.subs(moves).subs(numbers)) for each in (change, exact)]
    assert abs(values[0] - values[1]) < 1e-12
