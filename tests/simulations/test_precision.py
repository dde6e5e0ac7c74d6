"""The experiment `precision`: rounding by hand, bounds that can fail, the same data twice."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.experiment import Outcome, Settings
from simulations.experiments.precision import EXPERIMENT, rope
from simulations.experiments.precision import experiment as precision
from simulations.experiments.precision import figure as precision_figure
from simulations.experiments.precision import measures as precision_measures
from simulations.experiments.precision.measures import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    LAST,
    NEAR,
    PRACTICES,
    WRONG,
    ByAngle,
    drift,
    shifted_to,
)
from simulations.experiments.precision.rope import in_type, stored_frequencies, table, turn
from tappa_theory.app.style import figure_style, save_figure

BITS = {"float32": 24, "float16": 11, "bfloat16": 8}
QUICK = Settings(quick=True)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return EXPERIMENT.run(QUICK)


def nearest(x: float | Fraction, bits: int) -> float:
    """x with that many significant bits, ties to even, by whole numbers; any exponent."""
    if not x:
        return 0.0
    exact = Fraction(x)
    exponent = math.floor(math.log2(abs(exact))) - bits + 1
    scaled = exact / Fraction(2) ** exponent
    return float(round(scaled) * Fraction(2) ** exponent)  # Fractions round half to even


numbers = st.floats(0.01, 100.0).map(lambda x: x if int(x * 1e6) % 2 else -x)


@given(
    st.sampled_from(["float32", "float16", "bfloat16"]), st.lists(numbers, min_size=4, max_size=4)
)
def test_a_rotation_rounds_every_product_and_sum_once(dtype, values):
    bits = BITS[dtype]
    x, y, c, s = (nearest(value, bits) for value in values)
    found = turn(np.array([complex(x, y)]), np.array([complex(c, s)]), dtype)[0]
    xc, ys, xs, yc = (
        Fraction(nearest(Fraction(a) * Fraction(b), bits))
        for a, b in ((x, c), (y, s), (x, s), (y, c))
    )
    cancels = min(abs(xc - ys), abs(xs + yc)) < Fraction(1, 2**13)  # subnormal in float16
    if not cancels:
        assert found == complex(nearest(xc - ys, bits), nearest(xs + yc, bits))


@given(st.sampled_from(PRACTICES), st.integers(0, LAST), st.integers(0, 63))
def test_angles_are_products_rounded_once_and_tables_their_cosines(practice, place, channel):
    bits = BITS[practice.angles]
    theta = stored_frequencies(practice, 128, 5e5)[channel]
    made = table(practice, np.array([place]), theta)
    held = nearest(place, bits)
    angle = nearest(Fraction(held) * Fraction(float(theta)), bits)
    assert made.angle[0] == angle
    if practice.angles == "float32":
        assert held == place
    unit = 2.0 ** -BITS[practice.table]
    off = abs(made.pair[0] - complex(math.cos(angle), math.sin(angle)))
    assert off <= math.sqrt(2) * (made.trig_error + unit / 2)
    assert made.trig_error < 2.0**-23


def test_frequencies_are_those_of_float32():
    theta = stored_frequencies(FLOAT32, 128, 5e5)
    exact = 5e5 ** (-np.arange(64) / 64)
    assert theta[0] == 1.0
    assert np.all(theta == theta.astype(np.float32))
    assert 0 < np.abs(theta / exact - 1).max() < 17 * 2.0**-24  # |ln theta| + 4 roundings
    assert np.abs(stored_frequencies(WRONG, 128, 5e5) / exact - 1).max() > 2.0**-10


def test_what_a_theorem_says_is_met_and_the_tables_are_plain_numbers(outcome):
    assert all(criterion.met for criterion in outcome.criteria if criterion.proven)
    assert sum(criterion.proven for criterion in outcome.criteria) == 4
    for name in ("drift", "angles", "bounds", "crossovers", "channels"):
        for column in outcome.tables[name].values():
            for value in column:
                assert value is None or isinstance(value, str | int | float)
                assert not isinstance(value, float) or math.isfinite(value)
    assert "No bound was exceeded" in outcome.finding


def test_the_same_settings_give_the_same_data_and_another_seed_others(outcome):
    assert EXPERIMENT.run(QUICK).tables == outcome.tables
    other = EXPERIMENT.run(Settings(seed=1, quick=True))
    assert other.tables["drift"] != outcome.tables["drift"]
    assert other.tables["angles"] == outcome.tables["angles"]


@pytest.mark.parametrize(
    ("name", "factor"),
    [("ANGLE_DEVIATION", 0.99), ("CHANNEL_ERROR", 0.99), ("INVARIANCE_LOSS", 0.9)],
)
def test_a_bound_too_small_is_a_violation(monkeypatch, name, factor):
    monkeypatch.setattr(precision_measures, name, factor * getattr(precision_measures, name))
    assert EXPERIMENT.run(QUICK).verdict == "violated"


@pytest.mark.parametrize("wrong", ["table cut off", "position late", "another frequency"])
def test_a_rotation_that_rounds_otherwise_is_a_violation(monkeypatch, wrong):
    if wrong == "table cut off":
        monkeypatch.setattr(rope, "rounded", _cut_off)
    elif wrong == "position late":
        late = precision_measures.table
        monkeypatch.setattr(
            precision_measures, "table", lambda p, at, f: late(p, at + (at > LAST - 99), f)
        )
    else:
        near = precision_measures.table
        monkeypatch.setattr(
            precision_measures, "table", lambda p, at, f: near(p, at, f * (1 + 2.0**-22))
        )
    assert EXPERIMENT.run(QUICK).verdict == "violated"


def _cut_off(x: np.ndarray, dtype: str) -> np.ndarray:
    """Toward zero, as a cast without rounding would."""
    fraction, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    scale = 2.0 ** BITS[dtype]
    return np.ldexp(np.trunc(fraction * scale) / scale, exponent)


def test_drifts_are_those_of_a_loop_over_channels():
    for practice in (FLOAT16, WRONG):
        (entry,), _, _ = drift(QUICK.random(1), practice, [(7001, "grid")], 1)
        rng = QUICK.random(1)
        q, k = (
            in_type(rng.standard_normal((1, 64, 2)) @ np.array([1, 1j]), practice.table)[0]
            for _ in range(2)
        )
        behind, key = (int(rng.integers(0, NEAR + 1, (1, 1))[0, 0]) for _ in range(2))
        theta = stored_frequencies(practice, 128, 5e5)

        def logit(at, q=q, k=k, theta=theta, practice=practice, behind=behind):
            total = 0.0
            for m in range(64):
                pairs = (table(practice, np.array(p), theta[m]).pair for p in (at, at - behind))
                one, other = (
                    complex(turn(np.array(z[m]), pair, practice.table))
                    for z, pair in zip((q, k), pairs, strict=True)
                )
                total += (one * other.conjugate()).real
            return total

        change = abs(logit(7001) - logit(key + behind))
        size = np.linalg.norm(q) * np.linalg.norm(k)
        assert entry["median"] == pytest.approx(change / size, rel=1e-9)


def test_bfloat16_angles_have_a_bound_up_to_position_256_only(outcome):
    assert [practice.exact_to for practice in PRACTICES] == [2**24] * 3 + [256]
    rows = outcome.tables["drift"]
    for practice, place, bound, largest in zip(
        *(rows[n] for n in ("practice", "position", "bound", "largest")), strict=True
    ):
        assert (bound is None) == (practice == WRONG.name and place > 256)
        assert largest >= 0


def test_positions_are_a_grid_and_the_worst_of_each_octave():
    rounding = np.zeros(LAST // 16 + 1)
    rounding[[9, 4000]] = 1.0  # positions 144 and 64,000
    places = shifted_to(rounding, 16)
    assert places == sorted(places)
    assert (LAST, "grid") in places
    assert (2 * NEAR, "grid") in places
    assert {p for p, chosen in places if chosen == "worst"} == {144, 64_000}
    assert len([p for p, chosen in places if chosen == "grid"]) == 81


def test_the_crossover_is_the_first_bin_with_more_than_any_table_entry():
    by_angle = {"angles": ByAngle(), "bfloat16": ByAngle()}
    angle = 2.0 ** np.arange(1, 17, 0.01)
    by_angle["bfloat16"].add(angle, np.full(angle.size, 0.001))
    by_angle["angles"].add(angle, angle * 2.0**-24)
    found = precision._crossover(by_angle, BFLOAT16)
    assert found["theorem"] == pytest.approx(46_340.95)
    # 0.001 at 2^14.03, in the bin that begins at 2^14
    assert found["observed"] == 2.0**14
    assert found["largest_angle_rounding_below"] <= 46_341 * 2.0**-24
    by_angle["angles"].largest[:] = 0.0
    assert precision._crossover(by_angle, BFLOAT16)["observed"] is None


def test_the_figure_has_axes_with_units_and_words_with_numbers(outcome, tmp_path):
    with figure_style():
        drawn = precision_figure.draw(outcome)
        paths = save_figure(
            drawn.figure, tmp_path, "precision", drawn.caption, drawn.alt, title=drawn.title
        )
    left, right = drawn.figure.axes
    assert left.get_xlabel() == "position of the query"
    assert right.get_xlabel().endswith("(radians)")
    assert len(left.get_lines()) == 2 * len(PRACTICES) + 1
    assert all(path.stat().st_size > 0 for path in paths)
    assert "256" in drawn.caption
