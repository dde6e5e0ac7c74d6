"""Predictors and responses against plain definitions, rank correlations, and planted errors."""

import numpy as np
import pytest
from scipy.stats import entropy, spearmanr

from simulations.experiment import Settings
from simulations.experiments.predictability import experiment, measures
from simulations.experiments.predictability.heads import FAMILIES, LENGTH, drawn_heads
from simulations.experiments.predictability.measures import (
    PREDICTORS,
    RESPONSES,
    interval,
    resampled,
    spearman,
    steps,
)
from simulations.generators import re_access, unpredictable
from tappa_theory.app.style import figure_style
from tappa_theory.patterns import observed_rows
from tappa_theory.rope import rotate, to_vectors
from tappa_theory.theorems.query_drift import KEY_A


@pytest.fixture(scope="module")
def head():
    return unpredictable.generate(np.random.default_rng(3), length=LENGTH, strength=1.0)


@pytest.fixture(scope="module")
def found(head):
    return steps(head)


@pytest.fixture(scope="module")
def outcome():
    return experiment.EXPERIMENT.run(Settings(quick=True))


def pairs(head):
    """Every step: row, attention of it, of the next over its keys, and whole."""
    for row in range(observed_rows(head.length), head.length - 1):
        then = head.attention[row + 1]
        old = then[: row + 1] / then[: row + 1].sum()
        yield row, head.attention[row, : row + 1], old, then


def test_responses_are_the_plain_ones(head, found):
    columns = found.columns
    for place, (row, now, old, then) in enumerate(pairs(head)):
        distance = (np.abs(then[: row + 1] - now).sum() + then[row + 1]) / 2
        assert columns["total_variation"][place] == pytest.approx(distance, rel=1e-9)
        assert columns["kl"][place] == pytest.approx(entropy(now, old), rel=1e-9)
        whole = entropy(now, old) - np.log1p(-then[row + 1])
        assert columns["kl_whole"][place] == pytest.approx(whole, rel=1e-9)
    assert all(len(column) == place + 1 for column in columns.values())


def test_predictors_are_the_plain_ones(head, found):
    before = to_vectors(head.z, head.rope)
    after = to_vectors(rotate(head.z, head.rope, np.arange(head.length)), head.rope)
    key = to_vectors(rotate(head.w, head.rope, np.arange(head.length)), head.rope)
    total = count = 0.0
    for place, (row, now, _, _) in enumerate(pairs(head)):
        for name, x in (("q_before", before), ("q_after", after)):
            cosine = x[row] @ x[row + 1] / (np.linalg.norm(x[row]) * np.linalg.norm(x[row + 1]))
            assert found.columns[name][place] == pytest.approx(cosine, rel=1e-9)
        change = head.scale * key[: row + 1] @ (after[row + 1] - after[row])
        mean = now @ change
        drift = now @ (change - mean) ** 2 / 2
        assert found.columns["key_metric"][place] == pytest.approx(drift, rel=1e-9)
        assert found.columns["mean_square"][place] == pytest.approx(np.mean(change**2), rel=1e-9)
        assert found.columns["variance"][place] == pytest.approx(np.var(change), rel=1e-9)
        total, count = total + np.sum(change**2), count + row + 1
    assert found.means()["mean_square"] == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("similarity", [0.5, 0.999, 1.0])
def test_the_identity_holds_up_to_rounding(similarity):
    head = re_access.generate(np.random.default_rng(1), length=LENGTH, q_similarity=similarity)
    assert steps(head).error <= 1


@pytest.mark.parametrize("factor", [1 + 1e-6, 1 - 1e-6])
def test_an_identity_that_is_wrong_by_a_millionth_is_seen(monkeypatch, head, factor):
    monkeypatch.setattr(measures, "ROW_TERM", measures.ROW_TERM * factor)
    assert steps(head).error > 1


def test_moments_of_other_keys_are_seen(monkeypatch, head):
    monkeypatch.setattr(measures, "KEY_TERM", KEY_A**2)
    assert steps(head).error > 1


def test_correlations_over_steps_are_spearmans(found):
    correlations = found.correlations()
    assert set(correlations) == {(p, r) for p in PREDICTORS for r in RESPONSES}
    for (predictor, response), rho in correlations.items():
        plain = spearmanr(found.columns[predictor], found.columns[response]).statistic
        assert rho == pytest.approx(plain, abs=1e-12)


def test_what_is_constant_up_to_rounding_has_no_correlation():
    head = re_access.generate(np.random.default_rng(1), length=LENGTH, q_similarity=0.9)
    correlations = steps(head).correlations()
    assert ("q_before", "kl") not in correlations
    assert ("key_metric", "kl") in correlations


def test_rank_correlation_of_columns_with_ties():
    values = np.random.default_rng(0).integers(0, 6, (40, 3)).astype(float)
    np.testing.assert_allclose(spearman(values), spearmanr(values).statistic, atol=1e-12)
    values[:, 1] = 2.0
    assert spearman(values)[0, 1] == 0


def test_bootstrap_intervals_hold_the_correlation_of_the_population():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        x = rng.standard_normal((60, 2))
        x[:, 1] += x[:, 0]
        low, high = interval(spearman(x[resampled(rng, 60, 200)]))
        # 6/pi asin(rho/2) for normal numbers of correlation rho
        covered += low[0, 1] <= 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2) <= high[0, 1]
    # 95% of 60 is 57; fewer than 49 has a probability below 1e-4
    assert covered >= 49


def test_every_family_has_heads_of_its_own():
    heads = drawn_heads(Settings(), 2)
    names = [name for name, _ in heads]
    assert set(names) == {*FAMILIES, "real_like"}
    for name in FAMILIES:
        first, second = (head for family, head in heads if family == name)
        assert not np.array_equal(first.z, second.z)


def test_the_outcome_is_the_same_twice(outcome):
    again = experiment.EXPERIMENT.run(Settings(quick=True))
    assert again.tables == outcome.tables
    assert again.finding == outcome.finding
    assert outcome.verdict != "violated"
    assert experiment.EXPERIMENT.run(Settings(seed=1, quick=True)).tables != outcome.tables


def test_the_tables_hold_plain_finite_numbers(outcome):
    for table in outcome.tables.values():
        for column in table.values():
            for value in column:
                assert isinstance(value, (str, int, float))
                assert not isinstance(value, float) or np.isfinite(value)
    rows = outcome.tables["correlations"]
    for rho, low, high in zip(rows["rho"], rows["low"], rows["high"], strict=True):
        assert -1 - 1e-12 <= low <= high <= 1 + 1e-12
        assert abs(rho) <= 1 + 1e-12


def test_a_wrong_identity_is_a_violation(monkeypatch):
    monkeypatch.setattr(measures, "ROW_TERM", measures.ROW_TERM * 1.01)
    assert experiment.EXPERIMENT.run(Settings(quick=True)).verdict == "violated"


def test_the_figure_tells_what_was_found(outcome):
    with figure_style():
        drawn = experiment.EXPERIMENT.draw(outcome)
    assert len(drawn.figure.axes) == 5
    assert outcome.finding in drawn.alt
    assert str(outcome.conditions["heads"]) in drawn.caption
