import numpy as np
import pytest

from simulations.experiment import Settings
from simulations.experiments.dose_response import experiment as dose_response
from simulations.experiments.dose_response import panels
from simulations.experiments.dose_response.experiment import EXPERIMENT, coefficient, power
from simulations.experiments.dose_response.panels import PANELS, PERIOD
from tappa_theory.app.style import figure_style
from tappa_theory.theorems import THEOREMS

BY_NAME = {panel.name: panel for panel in PANELS}
BOUNDS = {
    "vertical": ("proposition_4_1", "upper_before"),
    "diagonal": ("sequential", "supremum"),
    "seasonal": ("seasonal", "repaired"),
    "periodic": ("periodic_sequential", "displacement"),
}
"""The expression that each panel draws as the bound."""
LEAST, MOST = 0.01, 0.09


def criteria(name):
    """The criteria about one panel, from two small doses."""
    panel = BY_NAME[name]
    rng = np.random.default_rng(1)
    found = [panel.respond(rng, dose, 2) for dose in (LEAST, 0.03, MOST)]
    return dose_response._criteria(panel, found, dose_response._fits(panel, found))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_criterion_is_met(name):
    found = criteria(name)
    assert len(found) >= 3
    assert all(criterion.met for criterion in found), found


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("factor", [0.985, 1.015])
def test_a_bound_that_is_wrong_by_little_more_than_one_percent_is_noticed(
    name, factor, monkeypatch
):
    theorem, part = BOUNDS[name]
    auxiliary = THEOREMS[theorem].auxiliary
    monkeypatch.setitem(auxiliary, part, auxiliary[part] * factor)
    assert any(criterion.proven and not criterion.met for criterion in criteria(name))


def test_a_response_that_is_not_linear_is_noticed():
    dose = np.geomspace(1e-3, 0.3, 9)
    assert power(dose, 3 * dose**1.2) == pytest.approx(1.2)
    assert coefficient(dose, 3 * dose + 0.5) == pytest.approx(3)


@pytest.mark.parametrize("dose", [1e-3, 0.1, 1.0])
def test_the_doses_are_what_they_are_called(dose):
    rope = panels._resonant(np.full(8, dose))
    assert np.allclose(np.abs(np.exp(1j * PERIOD * rope.frequencies) - 1), dose, rtol=1e-10)
    energy = panels._scaled(np.arange(1.0, len(panels.DIAGONAL_ROPE.frequencies)), dose)
    theta = panels.DIAGONAL_ROPE.frequencies
    assert (energy * theta)[1:].sum() / (energy * theta)[0] == pytest.approx(dose)


def test_the_published_form_fails_where_a_minor_channel_does_not_resonate():
    found = BY_NAME["seasonal"].respond(np.random.default_rng(0), 1e-3, 1)
    # a tenth of the energy turned half a turn, and the rest by the dose
    assert found.published == pytest.approx(0.2 + 0.9e-3)
    assert found.published > 100 * found.bound


def test_a_maximum_too_many_is_counted():
    theta = panels.DIAGONAL_ROPE.frequencies
    energy = np.ones(len(theta))
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, len(theta))
    assert panels._displacements(energy, phase)[2] > 0


@pytest.fixture(scope="module")
def outcome():
    return EXPERIMENT.run(Settings(quick=True))


def test_the_quick_run_meets_every_criterion(outcome):
    assert outcome.verdict == "met", [c for c in outcome.criteria if not c.met]
    assert outcome.tables["responses"] == EXPERIMENT.run(Settings(quick=True)).tables["responses"]
    assert set(outcome.tables["responses"]["panel"]) == set(BY_NAME)


def test_another_seed_gives_other_heads(outcome):
    other = EXPERIMENT.run(Settings(seed=1, quick=True))
    assert other.tables["responses"] != outcome.tables["responses"]
    assert other.verdict == "met"


def test_the_figure_has_a_panel_for_each_dose(outcome):
    with figure_style():
        drawn = EXPERIMENT.draw(outcome)
        drawn.figure.draw_without_rendering()
    assert len(drawn.figure.axes) == len(PANELS)
    for axis in drawn.figure.axes:
        assert axis.get_xlabel()
        assert axis.get_ylabel()
