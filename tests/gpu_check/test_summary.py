"""What all heads say together, by hand."""

from dataclasses import replace
from typing import Any

import pytest

from gpu_check.results import HeadResult, TheoremResult
from gpu_check.summary import agreement, layer_means, mean, summarise, verdict
from tappa_theory.theorems import SHIFT_THEOREMS

CHECKED = TheoremResult(
    applicable=True, pairs=100, max_ratio=0.5, informative=0.1, hypotheses={"met": True}
)
SILENT = TheoremResult(applicable=False, reason="too short")


def head(index: int = 0, theorem: TheoremResult = CHECKED, **changes: Any) -> HeadResult:
    given: dict[str, Any] = {
        "text": 0,
        "layer": 0,
        "head": index,
        "kv_head": 0,
        "q_similarity": {"adjacent_pre": 0.5, "adjacent_post": 0.4},
        "k_similarity": {"adjacent_pre": 0.3},
        "dominant_channel": 0,
        "dominant_share": 0.5,
        "frequency_dominant_channel": 0,
        "kappa": 0.5,
        "curvature": 0.5,
        "angle_deviation": None,
        "channel_energy": (1.0,),
        "pattern_predicted": "re_access",
        "pattern_observed": "re_access",
        "pattern_published": "sequential",
        "pattern_scores": {},
        "predictability": 0.9,
        "drift": {
            "kl": 1.0,
            "key_metric": 1.0,
            "kl_bound": 2.0,
            "spearman_cosine_kl": 0.1,
            "spearman_key_metric_kl": 0.9,
        },
        "theorems": dict.fromkeys(SHIFT_THEOREMS, theorem),
    }
    return HeadResult(**given | changes)


def test_the_mean_is_over_what_is_there():
    assert mean([1.0, None, 3.0]) == 2.0
    assert mean([None]) is None


def test_agreement_and_kappa_by_hand():
    # 20 said yes-yes, 5 yes-no, 10 no-yes, 15 no-no: the textbook example, kappa = 0.4
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert agreement(pairs) == pytest.approx((0.7, 0.4))
    assert agreement([("a", "b"), ("b", "a")]) == (0.0, -1.0)
    assert agreement([("a", "b"), ("c", "d")]) == (0.0, 0.0)
    assert agreement([("a", "a"), ("b", "b")]) == (1.0, 1.0)


def test_kappa_is_undefined_where_both_always_say_the_same():
    assert agreement([("a", "a")] * 3) == (1.0, None)
    assert agreement([]) == (None, None)


def test_patterns_are_compared_where_both_are_there():
    heads = [
        head(0),
        head(1, pattern_observed="sequential"),
        head(2, pattern_predicted="sequential", pattern_observed="sequential"),
        head(3, pattern_predicted="unpredictable", pattern_observed="sequential"),
        head(4, pattern_predicted=None),
        head(5, pattern_observed=None),
        head(6, pattern_published=None),
    ]
    found = summarise(heads)["patterns"]
    assert found["heads"] == 5
    assert found["agreement"] == pytest.approx(3 / 5)
    # predicted: 3 re_access, 1 sequential, 1 unpredictable; observed: 2 re_access, 3 sequential
    chance = (3 * 2 + 1 * 3) / 25
    assert found["cohen_kappa"] == pytest.approx((0.6 - chance) / (1 - chance))
    assert found["majority_agreement"] == pytest.approx(3 / 5)
    # published says sequential on five heads that show a pattern; three of them show it
    assert found["published_agreement"] == pytest.approx(3 / 5)
    assert found["observed"]["sequential"] == 3
    assert found["observed"]["seasonal"] == 0
    assert found["confusion"]["re_access"]["sequential"] == 1
    assert found["confusion"]["unpredictable"]["sequential"] == 1
    assert found["confusion"]["sequential"]["re_access"] == 0
    assert sum(sum(row.values()) for row in found["confusion"].values()) == 5


def test_no_pattern_at_all_gives_null():
    found = summarise([head(pattern_observed=None)])["patterns"]
    assert found["heads"] == 0
    for name in ("agreement", "cohen_kappa", "majority_agreement", "published_agreement"):
        assert found[name] is None


def with_theorem(name: str, result: TheoremResult, index: int = 0, layer: int = 0) -> HeadResult:
    theorems = dict.fromkeys(SHIFT_THEOREMS, SILENT) | {name: result}
    return head(index, layer=layer, theorems=theorems)


def test_theorems_are_summed_and_informative_is_weighted_by_pairs():
    first = replace(
        CHECKED,
        pairs=300,
        informative=0.5,
        max_ratio=0.7,
        violations=1,
        tight=5,
        published_checked=300,
        published_violations=4,
    )
    second = replace(
        CHECKED,
        pairs=100,
        informative=0.1,
        max_ratio=0.9,
        undecided=2,
        tight=7,
        hypotheses={"met": False},
        worst={"t": 5, "i": 3, "observed": 0.9, "bound": 1.0},
        published_checked=100,
        published_violations=0,
    )
    heads = [
        with_theorem("sequential", first),
        with_theorem("sequential", second, 4, 2),
        with_theorem("sequential", SILENT, 5),
    ]
    summary = summarise(heads)["theorems"]
    found = summary["sequential"]
    assert (found["applicable_heads"], found["hypotheses_met_heads"]) == (2, 1)
    assert (found["pairs"], found["violations"], found["undecided"]) == (400, 1, 2)
    assert found["tight"] == 12
    assert found["informative"] == pytest.approx((300 * 0.5 + 100 * 0.1) / 400)
    assert found["max_ratio"] == 0.9
    assert found["worst"] == {
        "text": 0,
        "layer": 2,
        "head": 4,
        "t": 5,
        "i": 3,
        "observed": 0.9,
        "bound": 1.0,
    }
    assert (found["published_checked"], found["published_violations"]) == (400, 4)
    assert found["published_counted"] == "pairs"
    assert summary["re_access"]["published_counted"] == "steps"
    silent = summary["seasonal"]
    assert (silent["applicable_heads"], silent["pairs"]) == (0, 0)
    assert silent["max_ratio"] is silent["informative"] is silent["worst"] is None


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([CHECKED], "holds"),
        ([CHECKED, replace(CHECKED, undecided=1)], "undecided"),
        ([replace(CHECKED, tight=100)], "holds"),
        ([replace(CHECKED, undecided=1), replace(CHECKED, violations=1)], "violated"),
        ([CHECKED, SILENT], "holds"),
        ([SILENT], "undecided"),  # nothing was checked
        ([], "undecided"),
    ],
)
@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_the_verdict(name, results, expected):
    heads = [with_theorem(name, result, index) for index, result in enumerate(results)]
    assert verdict(heads) == expected


def test_layers_are_means_over_their_heads():
    heads = [
        head(0, layer=3, predictability=None),
        head(1, layer=1),
        head(1, layer=3, q_similarity={"adjacent_pre": 0.9, "adjacent_post": None}),
    ]
    first, second = layer_means(heads)
    assert (first["layer"], second["layer"]) == (1, 3)
    assert second["q_similarity"] == pytest.approx({"adjacent_pre": 0.7, "adjacent_post": 0.4})
    assert second["k_similarity"] == {"adjacent_pre": 0.3}
    assert second["predictability"] == 0.9


def drifting(index: int, similarity: float, kl: float | None, rank: float | None) -> HeadResult:
    base = head(index)
    return replace(
        base,
        q_similarity={"adjacent_pre": similarity, "adjacent_post": similarity},
        drift=base.drift | {"kl": kl, "spearman_cosine_kl": rank},
        predictability=similarity**3,
    )


def test_drift_is_a_median_over_heads_and_a_rank_correlation_across_them():
    heads = [
        drifting(0, 0.1, 5.0, 0.2),
        drifting(1, 0.2, 4.0, None),
        drifting(2, 0.3, 1.0, 0.9),
        drifting(3, 0.9, 0.5, 0.3),
        drifting(4, 0.5, None, 0.4),
    ]
    found = summarise(heads)
    assert found["drift"]["spearman_cosine_kl"] == pytest.approx(0.35)
    assert found["drift"]["heads_spearman_q_similarity_kl"] == pytest.approx(-1)
    assert found["drift"]["kl"] == pytest.approx(10.5 / 4)
    assert found["drift"]["heads_spearman_key_metric_kl"] is None  # all key metrics are equal
    assert found["predictability"]["spearman_q_similarity"] == pytest.approx(1)
    assert found["predictability"]["mean"] == pytest.approx(
        (0.001 + 0.008 + 0.027 + 0.729 + 0.125) / 5
    )
    assert found["q_similarity"]["adjacent_pre"] == pytest.approx(0.4)


def test_heads_with_kappa_below_one_are_counted():
    heads = [head(0, kappa=0.99), head(1, kappa=1.0), head(2, kappa=None), head(3, kappa=3.0)]
    assert summarise(heads)["kappa_below_one"] == 1


# --- several texts


def two_heads(text: int, patterns: tuple[str | None, str | None], **changes: Any) -> list[Any]:
    """Both heads of a text, with these observed patterns; the predicted is always re_access."""
    return [
        head(index, text=text, pattern_observed=pattern, **changes)
        for index, pattern in enumerate(patterns)
    ]


def test_the_spread_of_a_number_by_hand():
    heads = [
        *two_heads(0, ("re_access", "re_access"), predictability=0.5),
        *two_heads(1, ("re_access", "sequential"), predictability=0.9),
        *two_heads(2, (None, None), predictability=None),
    ]
    found = summarise(heads)["spread"]
    assert found["texts"] == 3
    agreed = found["numbers"]["agreement"]
    assert agreed["by_text"] == [1.0, 0.5, None]
    assert (agreed["mean"], agreed["min"], agreed["max"]) == (0.75, 0.5, 1.0)
    # sqrt(((1 - 0.75)^2 + (0.5 - 0.75)^2) / (2 - 1))
    assert agreed["std"] == pytest.approx(0.125**0.5)
    recall = found["numbers"]["predictability"]
    assert recall["by_text"] == pytest.approx([0.5, 0.9, None])
    met = found["numbers"]["seasonal.hypotheses_met_heads"]
    assert (met["by_text"], met["std"]) == ([2, 2, 2], 0)
    # Head 0 shows re_access twice, head 1 two patterns; text 2 shows none.
    assert found["observed_stable"] == 0.5
    assert found["predicted_stable"] == 1.0


def test_one_text_has_no_spread():
    assert summarise(two_heads(0, ("re_access", "sequential")))["spread"] is None
    assert summarise([])["spread"] is None


def test_a_number_that_one_text_has_has_no_deviation():
    heads = [*two_heads(0, ("re_access", "re_access")), *two_heads(1, (None, None))]
    found = summarise(heads)["spread"]
    assert found["numbers"]["agreement"] == {
        "by_text": [1.0, None],
        "mean": 1.0,
        "min": 1.0,
        "max": 1.0,
        "std": None,
    }
    # No head has a pattern in two texts.
    assert found["observed_stable"] is None


def test_a_text_that_an_interrupt_left_short_is_not_compared():
    first, second = (two_heads(text, ("re_access", "sequential")) for text in (0, 1))
    third = two_heads(2, ("seasonal", "seasonal"))
    assert summarise([*first, *second, *third[:1]])["spread"]["texts"] == 2
    assert summarise([*first, *second[:1]])["spread"] is None
    # All that was measured counts in the rest of the summary.
    assert summarise([*first, *second[:1]])["patterns"]["heads"] == 3


def test_the_worst_pair_names_its_text():
    worst = {"t": 5, "i": 3, "observed": 0.9, "bound": 1.0}
    large = replace(CHECKED, max_ratio=0.9, worst=worst)
    heads = [
        with_theorem("sequential", CHECKED),
        replace(with_theorem("sequential", large), text=1),
    ]
    found = summarise(heads)["theorems"]["sequential"]
    assert found["worst"] == {"text": 1, "layer": 0, "head": 0, **worst}
    assert found["pairs"] == 200


def test_no_head_gives_null():
    found = summarise([])
    assert found["patterns"]["heads"] == 0
    assert found["drift"]["kl"] is None
    assert found["q_similarity"] == {}
    assert layer_means([]) == []


# --- lifetimes, reuse, divergence and angles


def steps(number: float) -> dict[str, float]:
    return {"mean": number, "median": number + 1, "low": number + 2, "high": number + 3}


def life(number: float, rows: int, share: float, angle: float | None = 0.5) -> dict[str, Any]:
    return {
        "rows": rows,
        "certified": steps(number),
        "observed_old": steps(10 * number),
        "observed": steps(5 * number),
        "certified_share": share,
        "broken": rows // 100,
        "angle": angle,
        "turn": number / 2,
    }


def test_lifetimes_are_medians_over_heads_and_rows_are_added_up():
    heads = [
        head(0, lifetime=life(1.0, 100, 0.07)),
        head(1, lifetime=life(2.0, 200, 0.0, angle=None)),
        head(2, lifetime=life(9.0, 300, 1.0, angle=0.7)),
        head(3, lifetime=None),
    ]
    assert summarise(heads)["lifetime"] == {
        "heads": 3,
        "rows": 600,
        "broken": 1 + 2 + 3,
        "certified_heads": 2,
        "certified_rows": 7 + 0 + 300,
        "certified": {"mean": 2.0, "median": 3.0, "low": 4.0, "high": 5.0},
        "observed_old": {"mean": 20.0, "median": 21.0, "low": 22.0, "high": 23.0},
        "observed": {"mean": 10.0, "median": 11.0, "low": 12.0, "high": 13.0},
        "angle": pytest.approx(0.6),
        "turn": 1.0,
    }


def later(number: float, rows: int) -> dict[str, Any]:
    numbers = ("discarded", "observed", "measured", "a_priori", "tightness")
    shares = ("informative", "informative_measured", "top_certified", "top_observed")
    return {"rows": rows, "broken": rows // 100, **dict.fromkeys((*numbers, *shares), number)}


def test_reuse_is_medians_over_heads_and_shares_of_all_rows_by_horizon():
    heads = [
        head(0, reuse={"1": later(0.1, 100), "4": later(0.2, 50)}),
        head(1, reuse={"1": later(0.2, 100)}),
        head(2, reuse={"1": later(0.9, 200)}),
        head(3, reuse=None),
    ]
    found = summarise(heads)["reuse"]
    assert list(found) == ["1", "4"]
    assert found["4"] == later(0.2, 50) | {"heads": 1}
    one = found["1"]
    assert (one["heads"], one["rows"], one["broken"]) == (3, 400, 4)
    for name in ("discarded", "observed", "measured", "a_priori", "tightness"):
        assert one[name] == 0.2
    for name in ("informative", "informative_measured", "top_certified", "top_observed"):
        assert one[name] == pytest.approx((0.1 * 100 + 0.2 * 100 + 0.9 * 200) / 400)


def test_divergences_are_means_over_heads_and_steps_are_added_up():
    first, second = (
        {"steps": count, "predicted": number, "observed": 2 * number, "outside": count // 10}
        for count, number in ((10, 0.5), (30, 1.5))
    )
    found = summarise([head(0, kl=first), head(1, kl=None), head(2, kl=second)])["kl"]
    assert found == {"steps": 40, "predicted": 1.0, "observed": 2.0, "outside": 4}


def test_the_angle_bound_is_the_largest_with_the_heads_within_theirs():
    heads = [
        head(0, angle_bound={"bound": 0.1, "within": True}, angle_deviation=0.05),
        head(1, angle_bound={"bound": 0.3, "within": False}, angle_deviation=0.4),
        head(2, angle_bound=None, angle_deviation=0.9),  # has no bound to be within
        head(3),
    ]
    found = summarise(heads)["angle_bound"]
    assert found == {"heads": 2, "within": 1, "bound": 0.3, "deviation": 0.4}


def test_what_no_head_has_is_null():
    found = summarise([head(0), head(1)])
    assert [found[name] for name in ("lifetime", "reuse", "kl", "angle_bound")] == [None] * 4
