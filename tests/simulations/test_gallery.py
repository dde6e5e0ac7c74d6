"""The gallery: what it counts, what it draws, and that a wrong generator would be seen."""

from collections import Counter

import numpy as np
import pytest
from matplotlib.text import Text

from simulations.experiment import Settings
from simulations.experiments.gallery import experiment as gallery
from simulations.generators import GENERATORS
from simulations.generators.real_like import read_moments
from tappa_theory.app.style import PAGE_WIDTH, figure_style
from tappa_theory.patterns import PATTERNS

QUICK = Settings(quick=True)


@pytest.fixture(scope="module")
def outcome():
    return gallery.run(QUICK)


def test_every_generator_is_counted_and_the_verdict_is_theirs(outcome):
    heads = outcome.tables["heads"]
    counts = Counter(heads["generator"])
    assert counts.pop("real_like") == len(read_moments().heads)
    assert counts == dict.fromkeys(gallery.MADE, gallery.SEEDS)
    made = [
        (intended, observed)
        for name, intended, observed in zip(
            heads["generator"], heads["intended"], heads["observed"], strict=True
        )
        if name != "real_like"
    ]
    assert {intended for intended, _ in made} == set(PATTERNS)
    assert np.mean([intended == observed for intended, observed in made]) >= 0.99
    assert outcome.verdict == "met"
    assert not any(criterion.proven for criterion in outcome.criteria)


def test_seeds_and_lengths_vary(outcome):
    heads = outcome.tables["heads"]
    settings = set(zip(heads["length"], heads["head_size"], heads["base"], strict=True))
    assert len(settings) == 27 + 1  # and that of the real-like heads
    columns = np.array(heads["column"])[np.array(heads["generator"]) == "re_access"]
    assert np.unique(columns).size == columns.size


def test_the_same_settings_give_the_same_data(monkeypatch):
    monkeypatch.setattr(gallery, "SEEDS", 3)
    once, again, other = (gallery.run(Settings(seed, quick=True)) for seed in (0, 0, 1))
    assert again.tables == once.tables
    for name, array in once.arrays.items():
        assert again.arrays[name].tobytes() == array.tobytes()
    assert other.tables["heads"] != once.tables["heads"]


def test_maps_and_features_of_seven_heads_are_kept(outcome):
    names = [*PATTERNS, "mixture", "real_like"]
    assert set(outcome.arrays) == {f"{k}_{n}" for k in ("logits", "attention") for n in names}
    for name in names:
        np.testing.assert_allclose(outcome.arrays[f"attention_{name}"].sum(axis=1), 1, rtol=1e-5)
    table = outcome.tables["features"]
    found = {
        (head, feature): value
        for head, feature, value in zip(
            table["head"], table["feature"], table["position"], strict=True
        )
    }
    assert found["re_access", "column"] == 0
    assert found["sequential", "offset"] == 1
    assert found["periodic_sequential", "spacing"] == pytest.approx(35.3, abs=0.5)
    assert found["seasonal", "lag"] == 16
    assert ("unpredictable", "column") not in found


def test_a_generator_that_misses_its_pattern_is_a_finding(monkeypatch):
    """Sequential heads in place of seasonal ones: the verdict and the sentence say so."""

    def wrong(rng, **dials):
        head = GENERATORS["sequential"](rng, **dials)
        return type(head)(head.z, head.w, head.rope, head.scale, "seasonal")

    monkeypatch.setattr(gallery, "SEEDS", 3)
    monkeypatch.setitem(gallery.MADE, "seasonal", wrong)
    outcome = gallery.run(QUICK)
    assert outcome.verdict == "not met"
    assert "(seasonal)" in outcome.criteria[0].claim
    assert outcome.criteria[0].observed == 0


def test_the_figure_fits_the_page_and_tells_every_head(outcome):
    with figure_style():
        drawn = gallery.draw(outcome)
        assert drawn.figure.get_figwidth() == PAGE_WIDTH
        drawn.figure.draw_without_rendering()
        box = drawn.figure.get_tightbbox()
        sizes = [text.get_fontsize() for text in drawn.figure.findobj(Text)]
    assert box.x0 >= 0
    assert box.x1 <= PAGE_WIDTH
    assert min(sizes) >= 7
    for name in [*PATTERNS, "mixture", "real_like"]:
        assert f"{name}: intended" in drawn.caption
        assert f"{name}: intended" in drawn.alt
