from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.experiment import Settings
from simulations.experiments.phase_diagram import EXPERIMENT
from simulations.experiments.phase_diagram import cells as phase_cells
from simulations.experiments.phase_diagram import certificates as phase_certificates
from simulations.experiments.phase_diagram import experiment as phase_diagram
from simulations.experiments.phase_diagram.certificates import (
    SEASON,
    ColumnCertificate,
    certify_column,
    certify_diagonals,
    farthest,
    largest,
)
from simulations.experiments.phase_diagram.plane import (
    CHANNELS,
    GAP,
    LENGTH,
    MOVEMENTS,
    NORM,
    ROPE,
    ROWS,
    SCALE,
    head,
    keys,
    queries,
    turn,
)
from simulations.head import SyntheticHead
from tappa_theory.app.style import figure_style
from tappa_theory.patterns import lag_similarity, season
from tappa_theory.shift_identity import QUERY_DRIFT, rotation_residual, theta
from tappa_theory.theorems.re_access import tau

channels = st.integers(0, CHANNELS - 1)
dissimilarities = st.floats(-11, 0).map(lambda exponent: 10.0**exponent)
movements = st.sampled_from(MOVEMENTS)
seeds = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=25)


@FEW
@given(movements, channels, dissimilarities, seeds)
def test_every_adjacent_cosine_is_the_one_asked_for(movement, channel, dissimilarity, seed):
    z = queries(movement, channel, dissimilarity, np.random.default_rng(seed))
    assert np.allclose(np.linalg.norm(z, axis=1), NORM, rtol=1e-12)
    # 1 - cos from the chord, which does not cancel
    apart = (np.linalg.norm(z[1:] - z[:-1], axis=1) / NORM) ** 2 / 2
    assert np.allclose(apart, dissimilarity, rtol=1e-6, atol=1e-14)


@given(st.floats(0, 2))
def test_the_turn_has_that_cosine(dissimilarity):
    assert np.cos(turn(dissimilarity)) == pytest.approx(1 - dissimilarity, abs=1e-14)


@FEW
@given(movements, channels, dissimilarities, seeds)
def test_no_query_is_farther_than_the_certificate_assumes(movement, channel, dissimilarity, seed):
    z = queries(movement, channel, dissimilarity, np.random.default_rng(seed))[ROWS]
    anchor, far = farthest(movement, channel, dissimilarity)
    size = np.abs(keys(channel)[1])
    slack = 1e-12 * NORM**2
    assert np.all(np.abs(z - anchor) @ size <= np.abs(far - anchor) @ size + slack)
    assert np.all(np.abs(z) @ size <= np.abs(far) @ size + slack)
    # what every key can make of it: the norm of the drift on each channel, weighted by the key's
    if movement != "about a mean":
        assert np.all(np.abs(z - anchor) <= np.abs(far - anchor) + 1e-12 * NORM)


def test_the_sink_is_ahead_by_the_gap_where_all_are_in_phase():
    alike = head("steady", CHANNELS - 1, 0.0, np.random.default_rng(0))
    assert alike.logits[0, 0] - alike.logits[1, 1] == pytest.approx(GAP)
    assert alike.observed.pattern == "re_access"


@FEW
@given(movements, channels, dissimilarities, seeds)
def test_nothing_certified_exceeds_what_is_seen(movement, channel, dissimilarity, seed):
    made = head(movement, channel, dissimilarity, np.random.default_rng(seed))
    column = certify_column(movement, channel, dissimilarity)
    diagonal = certify_diagonals(movement, channel, dissimilarity)
    lead, share = phase_cells.above(made, column, diagonal)
    assert lead <= 1e-10
    assert share <= 1e-10


def test_a_certificate_that_forgets_what_turns_is_caught(monkeypatch):
    monkeypatch.setattr(phase_certificates, "SEVERAL_STEPS", QUERY_DRIFT)
    made = head("steady", CHANNELS - 8, 1e-10, np.random.default_rng(0))
    column = certify_column("steady", CHANNELS - 8, 1e-10)
    lead, _ = phase_cells.above(made, column, None)
    assert lead > 0.1


def test_a_certificate_that_forgets_the_drift_is_caught(monkeypatch):
    monkeypatch.setattr(phase_certificates, "SEVERAL_STEPS", rotation_residual(tau * theta))
    made = head("steady", CHANNELS - 1, 1e-4, np.random.default_rng(0))
    lead, _ = phase_cells.above(made, certify_column("steady", CHANNELS - 1, 1e-4), None)
    assert lead > 0.1


def test_a_diagonal_certificate_with_a_tenth_of_the_oscillation_is_caught(monkeypatch):
    channel, dissimilarity = 8, 1e-7
    anchor, far = farthest("about a mean", channel, dissimilarity)
    # Every query deviates along the key turned by a right angle: all diagonals move one way.
    z = np.tile(anchor, (LENGTH, 1)) + 1j * (far[0] - anchor)
    made = SyntheticHead(z, keys(channel), ROPE, SCALE, "sequential")
    right = certify_diagonals("about a mean", channel, dissimilarity)
    assert phase_cells.above(made, _nothing(), right)[1] <= 1e-10
    monkeypatch.setattr(phase_certificates, "OSCILLATION", phase_certificates.OSCILLATION / 10)
    wrong = certify_diagonals("about a mean", channel, dissimilarity)
    assert phase_cells.above(made, _nothing(), wrong)[1] > 1e-10


def _nothing():
    return ColumnCertificate(np.full(len(ROWS), -np.inf), np.zeros(len(ROWS)), np.zeros(len(ROWS)))


@pytest.mark.parametrize("movement", ["steady", "about a mean"])
@pytest.mark.parametrize("channel", [8, 27, 31])
def test_what_is_certain_stays_certain_for_more_similar_queries(movement, channel):
    def certain(dissimilarity):
        column = certify_column(movement, channel, dissimilarity)
        diagonal = certify_diagonals(movement, channel, dissimilarity)
        return np.array(
            [
                column.bounds_hold,
                column.together_holds,
                diagonal is not None and diagonal.holds,
            ]
        )

    found = [certain(x) for x in np.geomspace(1e-13, 1, 40)]
    assert any(some.any() for some in found)
    assert all(np.all(less >= more) for less, more in pairwise(found))


def test_margins_certify_no_less_than_bounds():
    for channel, exponent in product((24, 28, 31), (-9, -7, -5, -2)):
        found = certify_column("about a mean", channel, 10.0**exponent)
        assert not found.bounds_hold or found.together_holds


def test_largest_finds_the_edge():
    assert largest(lambda x: x <= 1e-5, 1e-12, 1.0, 20) == pytest.approx(1e-5, rel=1e-3)
    assert largest(lambda x: True, 1e-12, 1.0, 3) == 1.0
    assert largest(lambda x: False, 1e-12, 1.0, 3) is None


@given(st.integers(8, 60), st.integers(1, 6), seeds)
def test_a_season_counts_for_no_more_than_its_limit(rows, width, seed):
    rng = np.random.default_rng(seed)
    attention = rng.random((rows, width)) * 10.0 ** rng.uniform(-3, 0, (rows, 1))
    attention[rng.random(rows) < 0.5] = 0.0
    attention[0] += 1e-3
    # rows of a map; the largest shift is a quarter of them
    assert season(lag_similarity(attention))[1] <= SEASON + 1e-9


@pytest.fixture(scope="module")
def outcome():
    patched = pytest.MonkeyPatch()
    patched.setattr(phase_diagram, "QUICK_EXPONENTS", (-12.0, -4.0, -0.5))
    found = EXPERIMENT.run(Settings(quick=True)), EXPERIMENT.run(Settings(quick=True))
    patched.undo()
    return found


def test_no_theorem_is_contradicted_and_some_heads_are_certain(outcome):
    first, _ = outcome
    assert first.verdict != "violated"
    assert set(first.tables["cells"]["certified_by"]) == {*phase_cells.CERTIFIED, "nothing"}


def test_the_same_settings_give_the_same_data(outcome):
    first, second = outcome
    assert first.tables == second.tables
    assert first.finding == second.finding


def test_a_certified_head_that_shows_another_pattern_violates():
    """If the reading of a certified head changes, the verdict says so."""
    (cell,) = phase_cells.place(Settings(), "steady", CHANNELS - 1, 0, 1e-12, 1)
    assert cell.certified == ("re_access",)
    other = replace(cell, observed="seasonal")
    criteria = phase_diagram._criteria([other], [])
    assert any(criterion.proven and not criterion.met for criterion in criteria)


def test_the_figure_shows_every_movement(outcome):
    with figure_style():
        drawn = EXPERIMENT.draw(outcome[0])
        drawn.figure.draw_without_rendering()
    assert len(drawn.figure.axes) == len(MOVEMENTS)
    assert drawn.alt


def test_the_boundary_seen_ends_where_most_heads_stop_showing_the_pattern():
    (cell,) = phase_cells.place(Settings(), "steady", CHANNELS - 1, 0, 1e-12, 1)
    column = [
        replace(cell, dissimilarity=10.0**-place, observed=shown)
        for place, shown in ((3, "seasonal"), (5, "re_access"), (4, "re_access"), (2, "re_access"))
    ]
    assert phase_cells._seen(column, ("re_access",)) == (1e-4, False)
    assert phase_cells._seen(column[1:3], ("re_access",)) == (1e-4, True)
    assert phase_cells._seen(column, ("sequential",)) == (None, False)
