"""Lifetimes and reuse certificates: plain definitions, coverage, and planted errors."""

from dataclasses import replace

import numpy as np
import pytest

from simulations.experiment import Settings
from simulations.experiments.lifetimes import experiment, measures
from simulations.experiments.lifetimes.measures import (
    CHANNELS,
    FORMS,
    HORIZONS,
    KEPT_SHARE,
    KINDS,
    drift_head,
    lifetimes,
    reuse,
)
from tappa_theory.app.style import figure_style
from tappa_theory.patterns import observed_rows
from tappa_theory.rope import Rope

LENGTH = 128
HORIZON = 24


def a_head(similarity=0.999, kind="smooth", channels="slow", seed=0):
    return drift_head(np.random.default_rng(seed), LENGTH, similarity, kind, channels)


@pytest.fixture(scope="module")
def outcome():
    return experiment.EXPERIMENT.run(Settings(quick=True))


def test_a_head_has_the_similarity_and_the_channels_that_were_asked_for():
    head = a_head(0.99, "steps", "slow")
    products = np.sum(head.z[1:] * head.z[:-1].conj(), axis=1).real
    norms = np.linalg.norm(head.z, axis=1)
    np.testing.assert_allclose(products / (norms[1:] * norms[:-1]), 0.99, rtol=1e-9)
    assert not head.z[:, :16].any()
    assert not head.w[:, :16].any()
    assert a_head(channels="all").z.all()


@pytest.mark.parametrize("similarity", [0.9, 0.999])
def test_observed_lifetimes_are_those_of_a_walk_from_row_to_row(similarity):
    head = a_head(similarity)
    found = lifetimes(head, HORIZON)
    rows = range(observed_rows(LENGTH), LENGTH - HORIZON, measures.EVERY)
    assert len(found.old) == len(rows)
    for place, row in enumerate(rows):
        top = head.logits[row, : row + 1].argmax()
        old = every = HORIZON
        for step in reversed(range(1, HORIZON + 1)):
            later = head.logits[row + step]
            if later[: row + 1].argmax() != top:
                old = step - 1
            if later[: row + step + 1].argmax() != top:
                every = step - 1
        assert (found.old[place], found.every[place]) == (old, every)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("similarity", [0.99, 0.9999, 0.999999])
def test_no_certificate_outlasts_its_key(similarity, channels, kind):
    found = lifetimes(a_head(similarity, kind, channels), HORIZON)
    for form in FORMS:
        assert np.all(found.certified[form] <= found.old)
    assert np.all(found.certified["norms"] <= found.certified["angle"])
    assert np.all(found.certified["norms"] <= found.certified["channels"])


def test_a_query_that_does_not_move_is_certified_for_as_long_as_it_is_followed():
    head = a_head(1.0)
    still = replace(head, rope=Rope.none(measures.HEAD_DIM))
    found = lifetimes(still, HORIZON)
    for steps in (*found.certified.values(), found.old):
        np.testing.assert_array_equal(steps, HORIZON)


def test_the_angle_outlasts_a_query_that_only_grows():
    head = a_head(1.0)
    grown = head.z * 1.2 ** np.arange(LENGTH)[:, None]
    found = lifetimes(replace(head, z=grown, rope=Rope.none(64)), HORIZON)
    assert found.certified["angle"].min() == HORIZON > found.certified["norms"].max()


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("BY_NORMS", measures.BY_NORMS / 20),
        ("BY_ANGLE", 20 * measures.BY_ANGLE),
        ("MARGIN_CHANGE", measures.MARGIN_CHANGE / 20),
    ],
)
def test_a_certificate_that_promises_too_much_is_broken(monkeypatch, name, planted):
    monkeypatch.setattr(measures, name, planted)
    found = lifetimes(a_head(0.9999), HORIZON)
    assert any(np.any(found.certified[form] > found.old) for form in FORMS)


@pytest.mark.parametrize("step", HORIZONS)
def test_discarded_mass_is_that_of_the_keys_that_were_not_kept(step):
    head = a_head(0.99)
    found = reuse(head, step)
    for place, row in enumerate(range(observed_rows(LENGTH), LENGTH - step, measures.EVERY)):
        order = np.argsort(-head.attention[row, : row + 1])
        gone = order[int(np.ceil((row + 1) * KEPT_SHARE)) :]
        later = head.attention[row + step, : row + 1]
        assert found.discarded[place] == pytest.approx(head.attention[row, gone].sum(), rel=1e-12)
        assert found.observed[place] == pytest.approx(later[gone].sum() / later.sum(), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", [0.9, 0.999, 0.99999])
@pytest.mark.parametrize("step", HORIZONS)
def test_no_reuse_certificate_is_broken(similarity, kind, step):
    found = reuse(a_head(similarity, kind), step)
    assert found.broken == 0
    assert np.all(found.measured <= found.a_priori * (1 + found.slack))
    assert np.all(found.discarded <= found.measured)


def test_a_reuse_certificate_that_is_too_low_counts_as_broken(monkeypatch):
    found = reuse(a_head(0.99), 4)
    assert replace(found, measured=0.99 * found.observed).broken == len(found.observed)
    monkeypatch.setattr(measures, "MASS_LATER", measures.MASS_LATER / 4)
    assert reuse(a_head(0.99999), 1).broken > 0


def test_the_outcome_is_the_same_twice_and_breaks_nothing(outcome):
    again = experiment.EXPERIMENT.run(Settings(quick=True))
    assert again.tables == outcome.tables
    assert again.finding == outcome.finding
    assert outcome.verdict != "violated"
    assert all(criterion.met for criterion in outcome.criteria if criterion.proven)
    assert experiment.EXPERIMENT.run(Settings(seed=1, quick=True)).tables != outcome.tables


def test_the_tables_hold_plain_finite_numbers(outcome):
    for table in outcome.tables.values():
        for column in table.values():
            for value in column:
                assert value is None or isinstance(value, (str, int, float))
                assert not isinstance(value, float) or np.isfinite(value)


def test_a_broken_certificate_is_a_violation(monkeypatch):
    monkeypatch.setattr(measures, "BY_NORMS", measures.BY_NORMS / 20)
    assert experiment.EXPERIMENT.run(Settings(quick=True)).verdict == "violated"


def test_the_figure_tells_what_was_found(outcome):
    with figure_style():
        drawn = experiment.EXPERIMENT.draw(outcome)
    assert len(drawn.figure.axes) == 3
    assert outcome.finding in drawn.alt
    assert str(outcome.conditions["heads"]) in drawn.caption
