"""The bounds on rows, steps, lifetimes, discarded keys and rounding: what is observed, plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from numpy.testing import assert_allclose

from simulations.bounds import (
    attention_distance,
    kv_reuse,
    lifetime,
    query_drift,
    rotation_precision,
    typical_case,
)
from simulations.bounds.bound import Bound, Instances
from simulations.bounds.head_rows import draw_head, head_pair
from simulations.bounds.rows import draw_rows, free_pair
from simulations.bounds.steps import steps
from simulations.number_formats import FORMATS, product, rotated, rounded, total
from tappa_theory.attention import logits
from tappa_theory.rope import Rope, rotate, to_vectors
from tappa_theory.theorems import THEOREMS

MODULES = (
    attention_distance,
    kv_reuse,
    lifetime,
    query_drift,
    rotation_precision,
    typical_case,
)
BOUNDS = {bound.name: bound for module in MODULES for bound in module.BOUNDS}
BATCH = 64


def random(*stream: int) -> np.random.Generator:
    return np.random.default_rng([6, *stream])


def instances(name: str, channels: int = 3) -> tuple[Bound, Instances]:
    """A bound, and instances that attain it."""
    bound = BOUNDS[name]
    assert bound.equality is not None
    return bound, bound.equality(random(), channels, BATCH)


def row(scores: np.ndarray) -> np.ndarray:
    """Softmax by its definition; -inf is a key out of sight."""
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def free_row(values: Instances, k: int, which: str) -> np.ndarray:
    seen = values["seen" if which == "before" else "seen_later"][k]
    return row(np.where(seen, values[which][k], -np.inf))


def head_of(values: Instances, k: int) -> Rope:
    return Rope(values["theta"][k], "half", 2 * values["theta"].shape[1])


@pytest.mark.parametrize("name", [n for n, bound in BOUNDS.items() if bound.equality])
def test_attained_and_rounding_does_not_hide_an_error_of_a_percent(name: str) -> None:
    bound, values = instances(name)
    observed, limit, rounding = (np.asarray(side) for side in bound.sides(values))
    assert np.all(bound.ratios(values) >= 0.999)
    assert np.all(rounding <= 1e-3 * limit)
    assert np.all(observed - rounding > 0.99 * limit)


@pytest.mark.parametrize("name", BOUNDS)
def test_every_one_holds_on_instances_far_from_random_ones(name: str) -> None:
    bound = BOUNDS[name]
    for factor in (0.0, 1e-140, 1e-8, 1e3):
        values = bound.draw(random(1), 2, BATCH)
        values |= {part: values[part] * factor for part in bound.free if part != "theta"}
        with np.errstate(all="ignore"):
            observed, limit, rounding = (np.asarray(side) for side in bound.sides(values))
        assert np.all(np.isfinite(observed) & np.isfinite(limit) & np.isfinite(rounding))
        assert np.all(observed <= limit + rounding)


def test_every_theorem_and_every_form_that_is_a_bound_is_there() -> None:
    parts = {
        "divergence", "key_metric", "mean_term", "exponential_term", "square_term",
        "covariance_term", "metric_term", "query_term", "key_term", "rectangle_term", "row_term",
        "masked_term", "margin", "crossover",
        # said of masses that mass_in_row has
        "mass_later",
    }  # fmt: skip
    for module in MODULES:
        theorem = module.THEOREM
        assert theorem.id in BOUNDS
        for name in theorem.auxiliary.keys() - parts:
            assert f"{theorem.id}.{name}" in BOUNDS, name


# --- rows --------------------------------------------------------------------------------------


def test_distance_of_rows_is_half_the_sum_of_what_masses_change() -> None:
    bound, values = instances("attention_distance")
    observed = bound.sides(values).observed
    for k in range(BATCH):
        apart = np.abs(free_row(values, k, "after") - free_row(values, k, "before"))
        assert_allclose(observed[k], apart.sum() / 2, rtol=1e-12)


def test_equality_cases_have_every_case_of_the_excess() -> None:
    _, values = instances("attention_distance")
    found = free_pair(values)
    stretch = np.exp(found.omega / 2) * np.sqrt((1 - found.gained) / (1 - found.lost))
    assert np.any(stretch < 1)
    assert np.any((stretch > 1) & (stretch < np.exp(found.omega)))
    assert np.any(stretch > np.exp(found.omega))
    assert np.any((found.gained > 0) & (found.lost > 0))
    assert np.any((found.gained == 0) & (found.lost == 0))


def test_same_keys_attain_tanh_of_a_quarter_of_the_oscillation() -> None:
    _, values = instances("attention_distance.same_keys")
    for k in range(BATCH):
        shared = values["seen"][k] & values["seen_later"][k]
        omega = np.ptp((values["after"] - values["before"])[k, shared])
        apart = np.abs(free_row(values, k, "after") - free_row(values, k, "before"))
        assert_allclose(apart.sum() / 2, math.tanh(omega / 4), rtol=1e-10)


def test_rows_of_a_head_are_those_of_its_logits() -> None:
    values = draw_head(random(), 3, BATCH)
    found = head_pair(values)
    kept = 0
    for k in range(BATCH):
        t, s, u = (int(values[name][k]) for name in ("t", "s", "u"))
        later = values["z"][k] if s == 0 else values["z_s"][k]
        queries = np.stack([values["z"][k], later])
        both = logits(queries, values["w"][k], head_of(values, k), 1.0, np.array([t, t + s]))
        both = both * values["lambda"][k, 0]
        cap = values["inverse_cap"][k]
        if cap:
            both = np.tanh(both * cap) / cap
        before = row(both[0, : t + 1])
        after = row(both[1, : t + s + 1])
        shared = range(max(0, -u), min(t, t + s - u) + 1)
        lost = 1 - before[list(shared)].sum()
        gained = 1 - after[[i + u for i in shared]].sum()
        change = [both[1, i + u] - both[0, i] for i in shared]
        kept += len(change)
        assert_allclose(found.rows.lost[k], lost, atol=1e-12)
        assert_allclose(found.rows.gained[k], gained, atol=1e-12)
        assert_allclose(found.rows.omega[k], max(np.ptp(change), 1e-4), rtol=1e-9)
    assert kept > 2 * BATCH


def test_a_soft_cap_may_widen_a_column_by_more_than_the_uncapped_logits() -> None:
    """Two keys far from 0 and close to each other: both logits grow by 1, the capped ones do not
    grow alike, and the uncapped oscillation is small."""
    channels = 2
    values = draw_head(random(), channels, 1, "column") | {
        "theta": np.zeros((1, channels)),
        "lambda": np.ones((1, channels)),
        "t": np.array([1]),
        "s": np.array([1]),
        "u": np.array([0]),
        "z": np.array([[0.0, 10.0]]) + 0j,
        "z_s": np.array([[0.01, 10.0]]) + 0j,
        "inverse_cap": np.array([1.0]),
    }
    values["w"] = np.zeros((1, 8, channels), dtype=complex)
    values["w"][0, :2] = [[100.0, 0.0], [100.0, 0.1]]
    capped = head_pair(values).rows.omega[0]
    assert_allclose(capped, 2 * math.tanh(1) - math.tanh(2), rtol=1e-9)
    assert BOUNDS["attention_distance.column_oscillation"].sides(values).bound[0] < 0.01
    observed, limit, rounding = BOUNDS["attention_distance.only_gaining"].sides(values)
    assert observed[0] <= limit[0] + rounding[0]


# --- steps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("backward", [False, True])
def test_divergence_is_that_of_scipy(backward: bool) -> None:
    values = BOUNDS["query_drift"].draw(random(), 1, BATCH)
    found = query_drift.step(values)
    for k in range(BATCH):
        p, q = (row(values[name][k]) for name in ("before", "after"))
        expected = scipy.special.rel_entr(*((q, p) if backward else (p, q))).sum()
        assert_allclose((found.backward if backward else found.forward)[k], expected, atol=1e-10)


def test_small_steps_attain_the_constants() -> None:
    """1/(36 sqrt 3) and 1/8 as omega vanishes, from masses in long double."""
    for p, power, constant in (((1 - 3**-0.5) / 2, 3, 1 / (36 * 3**0.5)), (0.5, 2, 1 / 8)):
        for omega in (0.02, 0.01):
            mass, change = np.longdouble(p), np.longdouble(omega)
            divergence = np.log(1 - mass + mass * np.exp(change)) - mass * change
            less = mass * (1 - mass) * change**2 / 2 if power == 3 else 0
            assert_allclose(float(divergence - less), constant * omega**power, rtol=1e-3)


def test_mean_square_is_lambda_squared_times_a_trace() -> None:
    bound = BOUNDS["typical_case.mean_square"]
    values = bound.draw(random(), 2, BATCH)
    observed, limit, _ = bound.sides(values)
    for k in range(BATCH):
        rope = head_of(values, k)
        first = int(values["first"][k])
        queries = to_vectors(rotate(values["z"][k], rope, first + np.arange(4)), rope)
        keys = to_vectors(rotate(values["w"][k], rope, np.arange(5)), rope)
        moves = np.diff(queries, axis=0)
        change = values["lambda"][k] * moves @ keys.T
        moments = (moves.T @ moves / len(moves)), (keys.T @ keys / len(keys))
        expected = values["lambda"][k] ** 2 * np.trace(moments[0] @ moments[1])
        assert_allclose(limit[k], expected, rtol=1e-8)
        assert_allclose(observed[k], np.mean(change**2), rtol=1e-8)


def test_under_the_mask_a_step_counts_the_keys_of_its_earlier_row() -> None:
    values = BOUNDS["typical_case.masked"].draw(random(), 2, BATCH)
    observed = BOUNDS["typical_case.masked"].sides(values).observed
    found = steps(values)
    for k in range(BATCH):
        squares = [
            found.change[k, t, i] ** 2
            for t in range(3)
            for i in range(5)
            if i <= values["first"][k] + t
        ]
        assert_allclose(observed[k], np.mean(squares), rtol=1e-12)


def test_shares_that_attain_chebyshev_are_of_several_sizes() -> None:
    bound, values = instances("typical_case")
    shares = np.unique(np.round(bound.sides(values).observed, 6))
    assert shares[-1] == 1.0
    assert len(shares) > 5


# --- lifetimes ---------------------------------------------------------------------------------


def test_margins_are_those_of_rotated_vectors() -> None:
    bound = BOUNDS["lifetime"]
    values = bound.draw(random(), 3, BATCH)
    observed = bound.sides(values).observed
    for k in range(BATCH):
        rope = head_of(values, k)
        t, s, i, u = (int(values[name][k]) for name in ("t", "s", "i", "u"))
        vectors = np.stack([values[name][k] for name in ("z", "z_s", "w", "w_u")])
        query, later, key, rival = to_vectors(
            rotate(vectors, rope, np.array([t, t + s, i, i + u])), rope
        )
        margins = [values["lambda"][k, 0] * q @ (key - rival) for q in (query, later)]
        size = values["lambda"][k, 0] * np.abs(vectors).sum() ** 2
        assert_allclose(observed[k], abs(margins[1] - margins[0]), rtol=1e-9, atol=1e-12 * size)


def test_a_query_that_turns_by_less_than_the_angle_keeps_its_key() -> None:
    """Towards a random direction, over the whole angle: the key falls behind beyond it only."""
    values = BOUNDS["lifetime.by_angle"].draw(random(), 2, BATCH)
    angle, tie, _ = BOUNDS["lifetime.by_angle"].sides(values)
    asked = 0
    for k in range(BATCH):
        rope = head_of(values, k)
        t, s, i, u = (int(values[name][k]) for name in ("t", "s", "i", "u"))
        vectors = np.stack([values[name][k] for name in ("z", "z_s", "w", "w_u")])
        query, later, key, rival = to_vectors(
            rotate(vectors, rope, np.array([t, t + s, i, i + u])), rope
        )
        query = query / np.linalg.norm(query)
        across = later - later @ query * query
        across /= np.linalg.norm(across)
        lead = (key - rival) * np.sign(query @ (key - rival))
        if angle[k] < 1e-3:
            continue
        asked += 1
        for turn in np.linspace(0.01, 0.99, 9) * angle[k]:
            for side in (1, -1):
                assert (np.cos(turn) * query + side * np.sin(turn) * across) @ lead > 0
        margins = [
            (np.cos(1.001 * tie[k]) * query + side * np.sin(1.001 * tie[k]) * across) @ lead
            for side in (1, -1)
        ]
        assert min(margins) < 0
    assert asked > BATCH // 2


def test_gap_of_the_top_keys_may_end_in_a_tie() -> None:
    bound, values = instances("lifetime.oscillation")
    head = head_pair(values)
    first, second = head.before[:, 3], head.before[:, 4]
    assert np.all(first < second)
    lost = (second - first) - (head.after[:, 3] - head.after[:, 4]) * -1
    assert_allclose(bound.sides(values).observed, lost, rtol=1e-9)


# --- discarded keys ----------------------------------------------------------------------------


def test_output_without_the_discarded_keys() -> None:
    bound = BOUNDS["kv_reuse"]
    values = bound.draw(random(), 1, BATCH)
    observed, limit, _ = bound.sides(values)
    for k in range(BATCH):
        weights, value = free_row(values, k, "after"), values["value"][k]
        shared = values["seen"][k] & values["seen_later"][k]
        gone = values["chosen"][k] & shared
        kept = np.where(gone, 0.0, weights)
        order = (1, 2, np.inf)[values["norm"][k]]
        change = weights @ value - kept @ value / kept.sum()
        error = np.linalg.norm(change, order)
        assert_allclose(observed[k], error, rtol=1e-9, atol=1e-12)
        farthest = max(
            np.linalg.norm(value[i] - value[j], order)
            for i in np.flatnonzero(gone)
            for j in np.flatnonzero(values["seen_later"][k] & ~gone)
        )
        # the statement's other form: the mass itself, not its bound
        assert error <= weights[gone].sum() * farthest * (1 + 1e-9) + 1e-12
        assert_allclose(limit[k] / farthest, kv_mass(values, k, gone, shared), rtol=1e-9)


def kv_mass(values: Instances, k: int, gone: np.ndarray, shared: np.ndarray) -> float:
    earlier = free_row(values, k, "before")
    share = earlier[gone].sum() / earlier[shared].sum()
    # any number no smaller may stand for the oscillation
    omega = max(np.ptp((values["after"] - values["before"])[k, shared]), 1e-4)
    return share * math.exp(omega) / (1 - share + share * math.exp(omega))


def test_new_keys_and_a_window_are_among_the_instances() -> None:
    values = draw_rows(random(), 1, BATCH)
    found = free_pair(values)
    assert np.any((found.gained > 0) & (found.lost > 0))
    assert np.any((found.gained == 0) & (found.lost > 0))


# --- rounding ----------------------------------------------------------------------------------


def awkward(rng: np.random.Generator) -> np.ndarray:
    """Numbers of all sizes, ties and subnormal numbers among them."""
    plain = rng.standard_normal(4000) * 2.0 ** rng.integers(-160, 15, 4000)
    ties = (1 + (2 * rng.integers(0, 128, 500) + 1) / 256) * 2.0 ** rng.integers(-140, 15, 500)
    return np.concatenate([plain, ties, -ties, [0.0, -0.0, 1.0]])


def test_bfloat16_is_rounded_as_torch_rounds_float32() -> None:
    x = awkward(random()).astype(np.float32)
    expected = torch.tensor(x).to(torch.bfloat16).to(torch.float64).numpy()
    assert np.array_equal(rounded(x.astype(np.float64), "bfloat16"), expected)


def test_bfloat16_is_rounded_once() -> None:
    """Just above the middle between two numbers, where float32 would have rounded to it."""
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8, 1 + 3 * 2.0**-8])
    assert rounded(x, "bfloat16").tolist() == [1 + 2.0**-7, 1.0, 1 + 2.0**-6]


@pytest.mark.parametrize("name", FORMATS)
def test_arithmetic_is_that_of_torch(name: str) -> None:
    kind = getattr(torch, name)
    a, b = (rounded(random(k).standard_normal(2000), name) for k in (1, 2))
    ta, tb = torch.tensor(a).to(kind), torch.tensor(b).to(kind)
    assert np.array_equal(product(a, b, name), (ta * tb).to(torch.float64).numpy())
    assert np.array_equal(total(a, b, name), (ta + tb).to(torch.float64).numpy())
    found = rotated(a, b, b, a, name, False)
    expected = torch.complex((ta * tb - tb * ta).double(), (ta * ta + tb * tb).double())
    assert np.array_equal(found, expected.numpy())


def test_unit_vectors_between_the_numbers_of_bfloat16() -> None:
    """Within 0.5% of the bound by rounding alone."""
    values = rotation_precision.draw_angles(random(), 1, 4)
    cosine, sine = rotation_precision.CORNERS["bfloat16"]
    angle = np.full((4, 1), math.atan2(sine, cosine))
    values |= {"angle": angle, "single": np.zeros(4, dtype=bool)}
    values["format"] = np.full(4, FORMATS.index("bfloat16"))
    ratios = BOUNDS["rotation_precision.table_error"].ratios(values)
    assert np.all((ratios > 0.995) & (ratios <= 1))


def test_angles_of_the_last_positions_are_off_by_what_float32_allows() -> None:
    bound, values = instances("rotation_precision.angle_error")
    stored = values["theta"].astype(np.float32)
    angle = values["p"][:, None].astype(np.float32) * stored
    exact = values["p"][:, None] * values["theta"]
    off = np.abs(angle.astype(np.float64) - exact) / exact
    # half a spacing of the product, and nearly half a spacing of the frequency
    assert np.all(off > 1.4 * 2.0**-24)
    assert np.all(bound.sides(values).observed > 0.005)


def test_formats_and_positions_are_all_drawn() -> None:
    values = rotation_precision.draw(random(), 2, 2000)
    assert set(values["format"]) == {0, 1, 2}
    assert values["p"].min() == 0
    assert values["p"].max() > 100_000
    assert values["p"].max() <= 131_072


def test_theorems_of_these_bounds_are_in_the_registry() -> None:
    assert {bound.theorem for bound in BOUNDS.values()} <= THEOREMS.keys()
