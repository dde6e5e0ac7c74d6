"""Pattern prediction: scores by hand, a balanced design, and thresholds that stay as they were."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache

import numpy as np
import pytest

from simulations.experiment import Outcome, Settings
from simulations.experiments.pattern_prediction import experiment as pattern_prediction
from simulations.experiments.pattern_prediction.experiment import EXPERIMENT
from simulations.experiments.pattern_prediction.heads import (
    BASES,
    LENGTHS,
    NOISE,
    SIZES,
    cases,
    make,
)
from simulations.experiments.pattern_prediction.scores import confusion, f1, interval, macro_f1
from tappa_theory.app.style import figure_style
from tappa_theory.patterns import PATTERNS, THRESHOLDS, Thresholds
from tappa_theory.prediction import HIGH_SIMILARITY, ROWS

QUICK = Settings(quick=True)


@cache
def outcome() -> Outcome:
    return EXPERIMENT.run(QUICK)


def test_thresholds_are_those_the_predictor_was_made_with() -> None:
    """They may change, but then on other heads than these, and here it must be noticed."""
    frozen = Thresholds(
        visible=0.3, prominence=8.0, local=32, warmup=0.25, spacing_peaks=3, spacing_spread=0.2,
        shortest=128,
    )  # fmt: skip
    assert frozen == THRESHOLDS
    assert (ROWS, HIGH_SIMILARITY) == (256, 0.8)


def test_confusion_has_the_reference_in_rows() -> None:
    counts = confusion(
        ["re_access", "re_access", "seasonal"], ["re_access", "seasonal", "seasonal"]
    )
    expected = np.zeros((5, 5), dtype=int)
    expected[0, 0] = expected[0, 3] = expected[3, 3] = 1
    assert np.array_equal(counts, expected)


def test_macro_f1_by_hand() -> None:
    """Two patterns: one hit among 2 heads and 1 prediction, and among 1 head and 2 predictions."""
    counts = confusion(
        ["re_access", "re_access", "seasonal"], ["re_access", "seasonal", "seasonal"]
    )
    assert f1(counts).tolist() == pytest.approx([2 / 3, 0, 0, 2 / 3, 0])
    assert macro_f1(counts) == pytest.approx(2 / 3)
    # a pattern that occurs as a prediction only has F1 = 0 and counts
    counts = confusion(["re_access", "re_access"], ["re_access", "seasonal"])
    assert macro_f1(counts) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1(np.eye(5, dtype=int)) == 1.0
    stack = np.stack([np.eye(5, dtype=int), np.roll(np.eye(5, dtype=int), 1, axis=0)])
    assert macro_f1(stack).tolist() == [1.0, 0.0]


def test_interval_narrows_with_heads() -> None:
    counts = confusion(
        ["re_access", "re_access", "seasonal"], ["re_access", "seasonal", "seasonal"]
    )
    widths = []
    for many in (10, 1000):
        low, high = interval(np.random.default_rng(0), counts * many)
        assert low < float(macro_f1(counts)) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


@pytest.mark.parametrize("quick", [False, True])
def test_the_design_is_balanced(quick: bool) -> None:
    found = list(cases(quick))
    assert len({case.stream for case in found}) == len(found)
    per_pattern = Counter(case.source.split(",")[0] for case in found)
    assert set(per_pattern) == set(PATTERNS)
    assert len(set(per_pattern.values())) == 1
    for pattern in PATTERNS:
        here = [case for case in found if case.source.startswith(pattern)]
        assert {case.base for case in here} == set(BASES)
        assert {case.size for case in here} == set(SIZES)
    if not quick:
        pairs = Counter((case.source, case.base, case.size) for case in found)
        assert len(pairs) == 6 * len(BASES) * len(SIZES)
        assert len(set(Counter(case.length for case in found).values())) == 1
    assert {case.length for case in found} == set(LENGTHS)


def test_noise_levels_share_their_content_and_differ_in_size() -> None:
    case = next(iter(cases(quick=True)))
    low, middle, high = (make(case, QUICK, noise).z for noise in NOISE)
    exact = make(case, QUICK, 300.0).z
    assert np.allclose((middle - exact) / (low - exact), math.sqrt(10))
    assert np.allclose((high - exact) / (low - exact), 10)
    signal, noise = np.mean(np.abs(exact) ** 2), np.mean(np.abs(middle - exact) ** 2)
    assert 10 * math.log10(signal / noise) == pytest.approx(10, abs=0.5)


def test_scores_are_of_the_heads_in_the_table() -> None:
    found = outcome()
    heads, scores = found.tables["heads"], found.tables["scores"]
    for n, reference, rule, expected in zip(
        scores["snr_db"], scores["reference"], scores["rule"], scores["macro_f1"], strict=True
    ):
        if rule == "majority":
            continue
        here = [k for k, noise in enumerate(heads["snr_db"]) if noise == n]
        truth, guess = ([heads[name][k] for k in here] for name in (reference, rule))
        assert macro_f1(confusion(truth, guess)) == expected
    at_ten = scores["macro_f1"][
        list(zip(scores["snr_db"], scores["reference"], scores["rule"], strict=True)).index(
            (10.0, "observed", "predicted")
        )
    ]
    assert found.criteria[0].observed == at_ten
    assert found.criteria[0].limit == 0.95
    for data in found.tables.values():
        for column in data.values():
            assert all(isinstance(x, str) or math.isfinite(x) for x in column)


def test_a_predictor_that_knows_nothing_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = pattern_prediction.measure

    def blind(*arguments: object) -> dict[str, object]:
        return {**measure(*arguments), "predicted": "seasonal"}  # type: ignore[arg-type]

    monkeypatch.setattr(pattern_prediction, "measure", blind)
    found = EXPERIMENT.run(QUICK)
    assert found.verdict == "not met"
    assert found.criteria[0].observed < 0.2


def test_the_same_settings_give_the_same_data() -> None:
    assert EXPERIMENT.run(QUICK).tables == outcome().tables


def test_another_seed_gives_other_heads() -> None:
    case = next(iter(cases(quick=True)))
    first, second = (make(case, Settings(seed=seed), 10.0) for seed in (0, 1))
    assert not np.allclose(first.z, second.z)


def test_it_is_drawn() -> None:
    with figure_style():
        drawn = EXPERIMENT.draw(outcome())
        drawn.figure.draw_without_rendering()
    assert len(drawn.figure.axes) == len(NOISE) + 1
