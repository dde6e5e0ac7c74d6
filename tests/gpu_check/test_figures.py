"""The figures of a check: drawn from files alone, from any check that is valid, always the same."""

import copy
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from gpu_check.figure_parts import values
from gpu_check.figures import FIGURES, conditions, write_figures
from gpu_check.over_texts import heads_over_texts
from gpu_check.schema import validate
from tappa_theory.app.style import INK, PATTERN_MARKS, figure_style
from tappa_theory.errors import InputError
from tappa_theory.patterns import PATTERNS
from tappa_theory.theorems import SHIFT_THEOREMS

ALWAYS = [
    "q_similarity_map",
    "q_similarity_layers",
    "exemplars",
    "confusion",
    "observed_bound",
    "channel_spectra",
    "drift_kl",
]
NAMES = [*ALWAYS, "stability", "spread", "precision"]
STABILITY = ("lifetime", "reuse", "kl")
CHANNELS = 8
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _theorem(rng: np.random.Generator, applicable: bool) -> dict[str, Any]:
    bound, ratio = float(rng.uniform(5, 40)), float(rng.uniform(0.3, 0.95))
    number = {
        "max_ratio": ratio,
        "mean_ratio": ratio / 4,
        "worst": {"t": 20, "i": 3, "observed": bound * ratio / 2, "bound": bound / 2},
        "mean_observed": bound / 9,
        "mean_bound": bound,
        "informative": float(rng.uniform(0, 0.01)),
        "published_violations": 3,
        "published_checked": 400,
    }
    return {
        "applicable": applicable,
        "reason": None if applicable else "no period within the text",
        "shift": [1, 0] if applicable else None,
        "pairs": 400 if applicable else 0,
        "violations": 0,
        "undecided": 0,
        "tight": 0,
        "published_counted": "pairs",
        "hypotheses": {"query_drift": 0.4, "met": True} if applicable else {},
        "prediction": {"predicted": None, "observed": None},
        **(number if applicable else dict.fromkeys(number)),
    }


def _stability(rng: np.random.Generator) -> dict[str, Any]:
    """What later rows are worth, with numbers that could be a head's."""
    certified, old = float(rng.uniform(0, 2)), float(rng.uniform(3, 64))

    def steps(mean: float) -> dict[str, float]:
        return {"mean": mean, "median": mean, "low": 0.0, "high": 2 * mean}

    def masses(number: float) -> dict[str, Any]:
        return {
            "rows": 40,
            "discarded": number,
            "observed": 1.5 * number,
            "measured": 5 * number,
            "a_priori": 9 * number,
            "oscillation": 3.0,
            "oscillation_a_priori": 9.0,
            "tightness": 0.3,
            "informative_measured": 0.5,
            "informative": 0.25,
            "top_certified": 0.125,
            "top_observed": 0.75,
            "broken": 0,
        }

    kl = float(rng.uniform(0.1, 2))
    return {
        "lifetime": {
            "rows": 40,
            "certified": steps(certified),
            "observed_old": steps(old),
            "observed": steps(old / 2),
            "certified_share": 0.5,
            "broken": 0,
            "angle": float(rng.uniform(0.01, 0.2)),
            "turn": float(rng.uniform(0.3, 0.8)),
        },
        "reuse": {step: masses(float(rng.uniform(0.01, 0.1))) for step in ("1", "4", "16")},
        "kl": {
            "steps": 40,
            "predicted": kl,
            "observed": 0.9 * kl,
            "remainder": 9 * kl,
            "lowest": kl / 5,
            "highest": 5 * kl,
            "informative": 0.01,
            "outside": 0,
        },
    }


def _head(
    rng: np.random.Generator, layer: int, head: int, observed: str | None, empty: bool
) -> dict[str, Any]:
    def number(low: float, high: float) -> float | None:
        return None if empty else float(rng.uniform(low, high))

    scores = ("column", "diagonal", "season")
    return {
        "text": 0,
        "layer": layer,
        "head": head,
        "kv_head": 0,
        "q_similarity": {
            name: number(0.5, 0.99)
            for name in ("adjacent_pre", "adjacent_post", "all_pairs_pre", "window_post")
        },
        "k_similarity": {name: number(0.5, 0.99) for name in ("adjacent_pre", "all_pairs_post")},
        "dominant_channel": None if empty else 5,
        "dominant_share": number(0.1, 0.5),
        "frequency_dominant_channel": None if empty else 0,
        "kappa": number(0.5, 4),
        "curvature": number(0.5, 4),
        "angle_deviation": number(0, 1e-4),
        "channel_energy": None if empty else rng.exponential(size=CHANNELS).tolist(),
        "pattern_predicted": None if empty else PATTERNS[int(rng.integers(len(PATTERNS)))],
        "pattern_observed": observed,
        "pattern_published": None if empty else "re_access",
        "pattern_scores": {
            side: {name: number(0, 1) for name in scores} for side in ("predicted", "observed")
        },
        "predictability": number(0.8, 1),
        "drift": {
            name: number(0.1, 2)
            for name in (
                "query_pre",
                "query_post",
                "key_pre",
                "key_metric",
                "kl",
                "kl_bound",
                "spearman_cosine_kl",
                "spearman_key_metric_kl",
            )
        },
        "theorems": {
            name: _theorem(rng, not empty and name != "seasonal") for name in SHIFT_THEOREMS
        },
        "angle_bound": None if empty else {"bound": 3e-4, "within": True},
        **(dict.fromkeys(STABILITY) if empty else _stability(rng)),
    }


def _stability_summary(entries: list[dict[str, Any]], empty: bool) -> dict[str, Any]:
    if empty or not entries:
        return dict.fromkeys(STABILITY)
    first = entries[0]
    return {
        "lifetime": first["lifetime"] | {"heads": 9, "certified_rows": 8, "certified_heads": 6},
        "reuse": {step: part | {"heads": 9} for step, part in first["reuse"].items()},
        "kl": first["kl"],
    }


def make_check(
    layers: int = 3,
    heads: int = 4,
    patterns: tuple[str, ...] = PATTERNS,
    empty: bool = False,
    complete: bool = True,
    context: int | None = 8192,
) -> dict[str, Any]:
    """A check.json with random numbers, deterministic; `empty` has null wherever null may be."""
    rng = np.random.default_rng(7)
    entries = [
        _head(rng, layer, head, None if empty else patterns[(layer + head) % len(patterns)], empty)
        for layer in range(layers)
        for head in range(heads)
    ]
    seen = [entry["pattern_observed"] for entry in entries]
    labelled = [(entry["pattern_predicted"], entry["pattern_observed"]) for entry in entries]
    theorems = {
        name: {
            "applicable_heads": 0 if empty else len(entries),
            "hypotheses_met_heads": 0,
            "pairs": 0 if empty else 400 * len(entries),
            "violations": 0,
            "undecided": 0,
            "tight": 0,
            "max_ratio": None if empty else 0.9,
            "worst": None,
            "informative": None if empty else 0.004,
            "published_violations": 0,
            "published_checked": 0,
            "published_counted": "pairs",
        }
        for name in SHIFT_THEOREMS
    }
    similarities = {
        side: dict.fromkeys(entries[0][side] if entries else (), None if empty else 0.8)
        for side in ("q_similarity", "k_similarity")
    }
    return {
        "schema": 1,
        "complete": complete,
        "verdict": "undecided" if empty else "holds",
        "model": {
            "id": "tiny",
            "architecture": "LlamaForCausalLM",
            "layers": layers,
            "heads": heads,
            "kv_heads": 1,
            "head_dim": 2 * CHANNELS,
            "context_length": context,
            "source": {"file": "tiny.gguf"},
            "rope": [
                {
                    "layers": list(range(layers)),
                    "base": 1e4,
                    "type": "default",
                    "rotary_dim": 2 * CHANNELS - 2,
                    "layout": "half",
                    "attention_scaling": 1.0,
                    "texts": [0],
                    "frequencies": [*(1e4 ** (-m / CHANNELS) for m in range(CHANNELS - 1)), 0.0],
                }
            ],
        },
        "texts": [{"source": "a.txt", "sha256": None, "tokens": 256, "chat": False, "loss": None}],
        "environment": {
            "device": "cpu",
            "dtype": "float32",
            "arithmetic": "float64",
            "seconds": {},
        },
        "thresholds": {"visible": 0.3, "lifetime_horizon": 64, "kept_share": 0.25},
        "heads": entries,
        "layers": [
            {"layer": layer, **similarities, "predictability": None} for layer in range(layers)
        ],
        "exemplars": [
            {
                "pattern": name,
                "text": 0,
                "layer": 0,
                "head": seen.index(name),
                "map": name,
                "block": 1,
                "columns": [0, 90] if name == "re_access" else [],
                "offsets": [0, 1, 40] if "sequential" in name else [],
                "spacing": 40.0 if name == "periodic_sequential" else None,
                "lag": 60 if name == "seasonal" else None,
                "predicted": "re_access",
            }
            for name in PATTERNS
            if name in seen[:heads]
        ],
        "summary": {
            **_stability_summary(entries, empty),
            "patterns": {
                "heads": 0 if empty else len(entries),
                "agreement": None if empty else 0.25,
                "cohen_kappa": None if empty else 0.1234,
                "majority_agreement": None if empty else 0.5,
                "published_agreement": None if empty else 0.3,
                "published_cohen_kappa": None,
                "observed": {name: seen.count(name) for name in PATTERNS},
                "confusion": {
                    row: {column: labelled.count((row, column)) for column in PATTERNS}
                    for row in PATTERNS
                },
            },
            "theorems": theorems,
            "drift": dict.fromkeys(
                (
                    "spearman_cosine_kl",
                    "spearman_key_metric_kl",
                    "heads_spearman_q_similarity_kl",
                    "heads_spearman_key_metric_kl",
                    "kl",
                    "key_metric",
                    "kl_bound",
                ),
                None if empty else 0.5,
            ),
            "predictability": {"mean": None, "spearman_q_similarity": None},
            **similarities,
            "kappa_below_one": 0,
            "spread": None,
        },
        "precision": None,
    }


SPREAD = (
    "agreement",
    "cohen_kappa",
    "q_similarity.adjacent_pre",
    "k_similarity.adjacent_pre",
    "predictability",
    "drift.spearman_cosine_kl",
    "drift.spearman_key_metric_kl",
    *(
        f"{name}.{key}"
        for name in SHIFT_THEOREMS
        for key in ("hypotheses_met_heads", "informative", "max_ratio")
    ),
)


def several(check: dict[str, Any], texts: int = 3) -> dict[str, Any]:
    """The check as if run on several texts, 30 tokens shorter each: every number of text k is
    (10 - k) / 10 of the first, patterns are the same."""
    empty = check["summary"]["patterns"]["agreement"] is None
    heads = [
        _scaled(copy.deepcopy(head), (10 - text) / 10) | {"text": text}
        for text in range(texts)
        for head in check["heads"]
    ]
    spread = {
        name: {
            "by_text": [None if empty else 0.5 - 0.1 * text for text in range(texts)],
            "mean": None if empty else 0.5 - 0.05 * (texts - 1),
            "min": None if empty else 0.6 - 0.1 * texts,
            "max": None if empty else 0.5,
            "std": None if empty else 0.1,
        }
        for name in SPREAD
    }
    text = check["texts"][0]
    check["texts"] = [
        text | {"source": f"{name}.txt", "tokens": 256 - 30 * index, "chat": index == 1}
        for index, name in enumerate("abcdefghijklmnop"[:texts])
    ]
    check["model"]["rope"][0]["texts"] = list(range(texts))
    check["summary"]["spread"] = {
        "texts": texts,
        "numbers": spread,
        "observed_stable": None if empty else 0.75,
        "predicted_stable": None if empty else 0.5,
    }
    return check | {"heads": heads}


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, dict):
        return {key: _scaled(item, factor) for key, item in value.items()}
    if isinstance(value, list):
        return [_scaled(item, factor) for item in value]
    return value * factor if isinstance(value, float) else value


DIFFERENCES = (
    *("q_similarity.adjacent_pre", "q_similarity.adjacent_post", "q_similarity.all_pairs_pre"),
    *("k_similarity.adjacent_pre", "predictability", "drift.kl"),
    *(f"{name}.{key}" for name in SHIFT_THEOREMS for key in ("max_ratio", "informative")),
)


def with_precision(check: dict[str, Any], empty: bool = False) -> dict[str, Any]:
    """The check with a comparison against float32."""
    both = {"dtype": None if empty else 3.95341, "reference": None if empty else 3.94821}
    difference = {"median": None if empty else 1.25e-4, "max": None if empty else 0.0375}
    precision = {
        "dtype": "bfloat16",
        "reference": "float32",
        "text": 0,
        "heads": len(check["heads"]),
        "observed_changed": 1,
        "predicted_changed": 2,
        "differences": dict.fromkeys(DIFFERENCES, difference),
        "loss": both,
        "angle_deviation": both,
    }
    return check | {"precision": precision}


def old(check: dict[str, Any]) -> dict[str, Any]:
    """The check as it was before there were several texts and precisions."""
    check = {key: value for key, value in check.items() if key != "precision"}
    del check["summary"]["spread"], check["texts"][0]["chat"], check["model"]["rope"][0]["texts"]
    for entry in (*check["heads"], *check["exemplars"]):
        del entry["text"]
    return check


def _map(name: str, size: int = 200) -> np.ndarray:
    """(size, size) float32: an attention map that shows the pattern."""
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    logits = np.random.default_rng(3).normal(size=(size, size))
    if name == "re_access":
        logits[:, [0, 90]] += 6
    if name == "sequential":
        logits += 6 * (distance < 2)
    if name == "periodic_sequential":
        logits += 4 * np.cos(2 * np.pi * distance / 40)
    if name == "seasonal":
        logits += 4 * np.cos(2 * np.pi * np.arange(size) / 60)[:, None] * np.cos(np.arange(size))
    weights = np.where(distance >= 0, np.exp(logits), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _write(folder: Path, check: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "check.json").write_text(json.dumps(check), encoding="utf-8")
    np.savez(folder / "exemplars.npz", **{e["map"]: _map(e["map"]) for e in check["exemplars"]})
    return folder


def _caption(folder: Path, name: str) -> str:
    sidecar = json.loads((folder / "figures" / f"{name}.json").read_text(encoding="utf-8"))
    assert set(sidecar) == {"title", "caption", "alt"}
    return str(sidecar["caption"])


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ordinary": lambda: make_check(heads=5),
    "one layer, one head": lambda: make_check(layers=1, heads=1, patterns=("sequential",)),
    "null everywhere": lambda: make_check(empty=True),
    "no head yet": lambda: make_check(layers=0, complete=False, empty=True),
    "unknown context": lambda: make_check(layers=1, heads=3, patterns=PATTERNS[:2], context=None),
    "several texts": lambda: several(make_check(heads=5)),
    "several texts, null everywhere": lambda: several(make_check(heads=2, empty=True)),
    "before there were several texts": lambda: old(make_check(heads=2)),
}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a check that has every figure, and its figures."""
    check = with_precision(several(make_check(heads=5)))
    folder = _write(tmp_path_factory.mktemp("ordinary"), check)
    write_figures(folder)
    return folder


def _figure(name: str, check: dict[str, Any]) -> Figure:
    """One figure that the check has."""
    maps = {entry["map"]: _map(entry["map"]) for entry in check["exemplars"]}
    with figure_style():
        drawing = FIGURES[name](check, maps)
    assert drawing is not None
    return drawing[0]


def _draw(name: str, check: dict[str, Any]) -> tuple[bytes, str]:
    """(PNG, caption) of one figure that the check has, small and without files."""
    maps = {entry["map"]: _map(entry["map"]) for entry in check["exemplars"]}
    with figure_style():
        drawing = FIGURES[name](check, maps)
        assert drawing is not None
        figure, _title, caption, alt = drawing
        stream = io.BytesIO()
        figure.savefig(stream, dpi=40, metadata={"Software": None})
    assert alt
    return stream.getvalue(), caption


def test_every_figure_is_written_in_two_formats_with_its_caption(ordinary: Path) -> None:
    expected = {f"{name}.{suffix}" for name in NAMES for suffix in ("png", "svg", "json")}
    assert {path.name for path in (ordinary / "figures").iterdir()} == expected
    for name in NAMES:
        assert (ordinary / "figures" / f"{name}.png").read_bytes().startswith(PNG_SIGNATURE)
        assert "</svg>" in (ordinary / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert _caption(ordinary, name).endswith(
            "Model tiny; text 0 a.txt, 256 tokens; text 1 b.txt, 226 tokens as a chat message;"
            " text 2 c.txt, 196 tokens; float32 on cpu, measured in float64."
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_figure_is_drawn_from_any_valid_check(variant: str) -> None:
    check = VARIANTS[variant]()
    if not variant.startswith("before"):
        validate(check)
    for name in [*ALWAYS, "spread"] if check["summary"].get("spread") else ALWAYS:
        png, caption = _draw(name, check)
        assert png.startswith(PNG_SIGNATURE)
        assert not {"nan", "None", "null"} & set(caption.replace("(", " ").split())


@pytest.mark.parametrize("empty", [False, True])
def test_the_figure_of_the_precision_is_drawn_from_any_valid_check(empty: bool) -> None:
    check = with_precision(make_check(empty=empty), empty)
    validate(check)
    _, caption = _draw("precision", check)
    assert not {"nan", "None", "null"} & set(caption.replace("(", " ").split())


NOT_MEASURED = {"dtype": "float16", "reference": "float32", "not_measured": "no memory"}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("spread", make_check()),
        ("spread", old(make_check())),
        ("precision", make_check()),
        ("precision", make_check() | {"precision": NOT_MEASURED}),
        ("precision", old(make_check())),
    ],
)
def test_a_figure_is_left_out_where_there_is_nothing_to_show(
    name: str, check: dict[str, Any]
) -> None:
    assert FIGURES[name](check, {}) is None


def test_figures_of_an_earlier_check_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {name: FIGURES[name] for name in ("spread", "precision")}
    monkeypatch.setattr("gpu_check.figures.FIGURES", some)
    _write(tmp_path, with_precision(several(make_check(heads=2))))
    assert {path.stem for path in write_figures(tmp_path)} == set(some)
    _write(tmp_path, make_check(heads=2))
    assert write_figures(tmp_path) == []
    assert list((tmp_path / "figures").iterdir()) == []


def test_the_same_check_gives_the_same_bytes_whatever_the_users_settings(
    ordinary: Path, tmp_path: Path
) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": "x"}):
        again = write_figures(_write(tmp_path, with_precision(several(make_check(heads=5)))))
        assert matplotlib.rcParams["font.size"] == 20
    for path in again:
        assert path.read_bytes() == (ordinary / "figures" / path.name).read_bytes(), path.name


def test_the_figures_depend_on_the_numbers() -> None:
    check, other = (with_precision(several(make_check(heads=5))) for _ in range(2))
    for head in other["heads"]:
        for name in ("adjacent_pre", "adjacent_post"):
            head["q_similarity"][name] /= 2
        head["channel_energy"] = head["channel_energy"][::-1]
        head["lifetime"]["angle"] *= 2
        for theorem in head["theorems"].values():
            if theorem["applicable"]:
                theorem["mean_observed"] *= 0.7
    other["layers"][1]["k_similarity"]["adjacent_pre"] = 0.1
    other["summary"]["patterns"]["confusion"]["re_access"]["seasonal"] += 5
    other["exemplars"][0]["columns"] = [50]
    other["summary"]["spread"]["numbers"]["cohen_kappa"]["by_text"][1] = -0.25
    other["precision"]["differences"]["drift.kl"] = {"median": 0.5, "max": 1.0}
    for name in NAMES:
        assert _draw(name, check)[0] != _draw(name, other)[0], name


def test_patterns_that_no_head_shows_are_named_absent() -> None:
    _, caption = _draw("exemplars", make_check(heads=2, patterns=("re_access", "seasonal")))
    assert "Shown by no head: sequential, periodic_sequential, unpredictable." in caption
    assert "re_access, layer 0, head 0: attention on column" in caption


def test_captions_carry_the_numbers_of_the_summary() -> None:
    check = make_check()
    confusion, bounds, spectra = (
        _draw(name, check)[1] for name in ("confusion", "observed_bound", "channel_spectra")
    )
    assert "agreement 25.0% of 12 heads, Cohen's kappa 0.123." in confusion
    assert "the paper's own rule: 30.0% (kappa n/a)" in confusion
    assert "re_access: 12 heads, max_ratio 0.900, informative 0.400% of 4,800 pairs." in bounds
    assert "seasonal: 0 heads" in bounds
    # Channel 5 turns once in 2 pi 10^(4 * 5/8) = 1,987 positions: more than the 256 of the text.
    assert "dominant_channel on 12 of 12 heads" in spectra
    assert "frequency_dominant_channel on 0 of 12 heads" in spectra


def test_a_point_below_the_axes_is_counted() -> None:
    check = make_check()
    assert "drawn at their edge" not in _draw("drift_kl", check)[1]
    check["heads"][0]["drift"]["kl"] = 1e-7
    assert "2 points below the axes are drawn at their edge" in _draw("drift_kl", check)[1]


@pytest.mark.parametrize("missing", ["check.json", "exemplars.npz"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    _write(tmp_path, make_check())
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=missing):
        write_figures(tmp_path)
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("check.json", b'{"schema": 1, "hea'),
        ("check.json", b"[]"),
        ("check.json", b'{"schema": 99}'),
        ("check.json", b"\xff\xfe"),
        ("exemplars.npz", b"PK\x03\x04 cut off"),
        ("exemplars.npz", b""),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    _write(tmp_path, make_check())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        write_figures(tmp_path)


def test_a_pickled_map_is_refused(tmp_path: Path) -> None:
    check = make_check(layers=1, heads=1, patterns=("sequential",))
    _write(tmp_path, check)
    np.savez(tmp_path / "exemplars.npz", sequential=np.array([[None]], dtype=object))
    with pytest.raises(InputError, match=r"exemplars\.npz"):
        write_figures(tmp_path)


def test_observed_lies_over_bound_head_by_head() -> None:
    check = make_check()
    panel = _figure("observed_bound", check).axes[SHIFT_THEOREMS.index("sequential")]
    assert panel.get_title(loc="left") == "sequential"
    results = [head["theorems"]["sequential"] for head in check["heads"]]
    worst, mean = (np.asarray(points.get_offsets()) for points in panel.collections)
    expected = [[result["mean_bound"], result["mean_observed"]] for result in results]
    np.testing.assert_allclose(mean, expected)
    expected = [[result["worst"]["bound"], result["worst"]["observed"]] for result in results]
    np.testing.assert_allclose(worst, expected)


def test_rows_of_the_confusion_matrix_are_predicted_patterns() -> None:
    check = make_check()
    check["summary"]["patterns"]["confusion"]["sequential"]["seasonal"] = 987
    axes = _figure("confusion", check).axes[0]
    places = [text.get_position() for text in axes.texts if text.get_text() == "987"]
    assert places == [(PATTERNS.index("seasonal"), PATTERNS.index("sequential"))]
    assert "pattern_predicted" in axes.get_ylabel()
    assert "pattern_observed" in axes.get_xlabel()


def test_the_map_shows_a_head_at_its_layer_and_number() -> None:
    check = make_check(layers=3, heads=4)
    check["heads"][2 * 4 + 1]["q_similarity"]["adjacent_pre"] = 0.125
    check["heads"][0]["q_similarity"]["adjacent_pre"] = None
    axes = _figure("q_similarity_map", check).axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert shown.shape == (4, 3)
    assert shown[1, 2] == 0.125
    assert np.isnan(shown[0, 0])


def test_a_missing_map_is_named(tmp_path: Path) -> None:
    _write(tmp_path, make_check())
    np.savez(tmp_path / "exemplars.npz", other=np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"exemplars\.npz"):
        write_figures(tmp_path)


def test_values_read_null_and_missing_as_nan() -> None:
    entries = [{"a": {"b": 2}}, {"a": {"b": None}}, {"a": None}, {}]
    found = values(entries, "a.b")
    assert found[0] == 2
    assert np.isnan(found[1:]).all()


def test_conditions_tell_of_an_interrupted_run() -> None:
    assert conditions(make_check(complete=False)).endswith("interrupted: finished layers only.")


def test_conditions_name_model_text_tokens_dtype_and_device() -> None:
    assert conditions(make_check()) == (
        "Model tiny; text a.txt, 256 tokens; float32 on cpu, measured in float64."
    )


def _patterned(*rows: tuple[str | None, ...]) -> dict[str, Any]:
    """A check of one layer whose heads show these patterns, one per text."""
    check = several(make_check(layers=1, heads=len(rows)), len(rows[0]))
    for entry in check["heads"]:
        entry["pattern_observed"] = rows[entry["head"]][entry["text"]]
    return check


def test_the_pattern_of_a_head_is_the_commonest_of_its_texts() -> None:
    check = _patterned(
        ("seasonal", "sequential", "seasonal"),
        ("unpredictable", "re_access", None),
        ("unpredictable", "seasonal", "sequential"),
        ("sequential", None, "sequential"),
        (None, None, None),
    )
    found = [(head["pattern_observed"], head["pattern_other"]) for head in heads_over_texts(check)]
    assert found == [
        ("seasonal", "sequential"),
        ("re_access", "unpredictable"),
        ("sequential", "seasonal"),
        ("sequential", None),
        (None, None),
    ]


def test_numbers_of_a_head_are_means_over_the_texts_that_have_them() -> None:
    check = several(make_check(layers=2, heads=2))
    first = [head for head in check["heads"] if head["text"] == 0]
    check["heads"][-1]["q_similarity"]["adjacent_pre"] = None
    found = heads_over_texts(check)
    assert [(head["layer"], head["head"]) for head in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # Text k has (10 - k) / 10 of the first: 0.9 on average of three, 0.95 of the first two.
    for head, entry, mean in zip(found, first, (0.9, 0.9, 0.9, 0.95), strict=True):
        similarity = head["q_similarity"]["adjacent_pre"]
        assert similarity == pytest.approx(mean * entry["q_similarity"]["adjacent_pre"])
        assert head["drift"]["kl"] == pytest.approx(0.9 * entry["drift"]["kl"])
        theorem, of_first = head["theorems"]["re_access"], entry["theorems"]["re_access"]
        assert theorem["mean_bound"] == pytest.approx(0.9 * of_first["mean_bound"])
        # The ratio is largest on the first text.
        assert theorem["worst"] == of_first["worst"]


def test_a_theorem_counts_on_the_texts_to_which_it_applies() -> None:
    check = several(make_check(layers=1, heads=1), 2)
    first, second = (entry["theorems"] for entry in check["heads"])
    first["re_access"] = first["seasonal"]
    theorem = heads_over_texts(check)[0]["theorems"]
    assert theorem["re_access"]["applicable"]
    assert theorem["re_access"]["mean_bound"] == second["re_access"]["mean_bound"]
    assert not theorem["seasonal"]["applicable"]


def test_one_text_is_shown_as_it_is() -> None:
    check = make_check()
    for shown, entry in zip(heads_over_texts(check), check["heads"], strict=True):
        assert shown["q_similarity"] == entry["q_similarity"]
        assert shown["drift"] == entry["drift"]
        assert shown["pattern_observed"] == entry["pattern_observed"]
        assert shown["pattern_other"] is None
    for name in ALWAYS:
        assert "texts" not in _draw(name, check)[1].split(" Model tiny")[0], name


def test_the_map_shows_means_and_marks_heads_that_differ_between_texts() -> None:
    check = _patterned(("seasonal",) * 3, ("re_access", "sequential", "re_access"))
    for entry in check["heads"]:
        entry["q_similarity"]["adjacent_pre"] = (0.25, 0.5)[entry["head"]] + 0.125 * entry["text"]
    figure = _figure("q_similarity_map", check)
    top, bottom = figure.axes[:2]
    assert np.ma.filled(top.images[0].get_array(), np.nan).tolist() == [[0.375], [0.625]]
    assert bottom.images[0].get_array().tolist() == [
        [PATTERNS.index("seasonal")],
        [PATTERNS.index("re_access")],
    ]
    (corner,) = bottom.patches
    assert to_hex(corner.get_facecolor()) == PATTERN_MARKS["sequential"].colour
    assert corner.get_path().vertices.mean(axis=0)[1] > 0.5  # in the row of head 1
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["re_access (1)", "seasonal (1)", "differs between texts (1)"]
    caption = _draw("q_similarity_map", check)[1]
    assert "The numbers of a head are means over 3 texts." in caption
    assert "the commonest over 3 texts" in caption
    assert "differs between texts on 1 of 2 heads" in caption


def test_a_dot_of_the_drift_is_a_head_and_outlined_where_its_texts_differ() -> None:
    check = _patterned(("seasonal",) * 3, ("re_access", "sequential", "re_access"))
    panel = _figure("drift_kl", check).axes[1]
    dots = {
        to_hex(part.get_edgecolors()[0]): part.get_offsets().tolist()
        for part in panel.collections
        if len(part.get_offsets())
    }
    expected = [
        [head["drift"]["key_metric"], head["drift"]["kl"]] for head in heads_over_texts(check)
    ]
    assert dots == {"#ffffff": [expected[0]], INK: [expected[1]]}


def test_counts_over_texts_are_called_that() -> None:
    check = several(make_check())
    assert _figure("confusion", check).axes[0].get_xlabel() == "pattern_observed (heads x texts)"
    captions = {name: _draw(name, check)[1] for name in ("confusion", "drift_kl", "observed_bound")}
    assert "agreement 25.0% of 12 heads x texts" in captions["confusion"]
    assert "A head counts once for each of 3 texts." in captions["confusion"]
    assert "across heads x texts" in captions["drift_kl"]
    assert "Of 3 texts: a filled point is a mean" in captions["observed_bound"]


def test_an_exemplar_is_told_with_its_text() -> None:
    check = several(make_check(heads=2, patterns=("re_access",)))
    check["exemplars"][0] |= {"text": 2, "head": 1}
    entry = next(e for e in check["heads"] if (e["text"], e["layer"], e["head"]) == (2, 0, 1))
    entry["q_similarity"]["adjacent_pre"] = 0.123456
    title = _figure("exemplars", check).axes[0].get_title(loc="left")
    assert title.startswith("layer 0, head 1, text 2\n")
    caption = _draw("exemplars", check)[1]
    assert "re_access, layer 0, head 1, text 2: attention on" in caption
    assert "q_similarity.adjacent_pre 0.123;" in caption


def test_spectra_are_weighted_with_the_rope_that_each_text_had() -> None:
    check = several(make_check(layers=1, heads=1), 2)
    rope = check["model"]["rope"][0]
    stretched = [theta / 100 for theta in rope["frequencies"]]
    other = rope | {"type": "dynamic", "texts": [1], "frequencies": stretched}
    check["model"]["rope"] = [rope | {"texts": [0]}, other]
    for entry in check["heads"]:
        entry["dominant_channel"] = 3
    energy, weighted = (
        axes.images[0].get_array()[0] for axes in _figure("channel_spectra", check).axes[:2]
    )
    base = np.array(check["heads"][0]["channel_energy"])
    np.testing.assert_allclose(energy, base / base.sum())
    # The second text adds 0.9 of the energy at a hundredth of the frequency: the shares stay.
    product = base * np.array(rope["frequencies"])
    np.testing.assert_allclose(weighted, np.maximum(product / product.sum(), 1e-5))
    caption = _draw("channel_spectra", check)[1]
    # Channel 3 turns once in 2 pi 10^(4 * 3/8) = 199 of 256 positions, or in 19,900 of 226.
    assert "dominant_channel on 1 of 2 heads x texts" in caption
    assert "1 layers, texts 0; dynamic" in caption


def test_the_spread_has_a_dot_per_text_and_a_line_at_the_mean() -> None:
    check = several(make_check(), 4)
    numbers = check["summary"]["spread"]["numbers"]
    numbers["cohen_kappa"]["by_text"] = [0.5, None, -0.25, 0.125]
    numbers["seasonal.max_ratio"]["by_text"] = [None] * 4
    figure = _figure("spread", check)
    kappa = figure.axes[0].collections[3]
    assert kappa.get_offsets()[:, 0].tolist() == [0.5, -0.25, 0.125]
    heights = kappa.get_offsets()[:, 1]
    assert (np.diff(heights) > 0).all()
    line = figure.axes[0].collections[2].get_segments()[0]
    assert line[:, 0].tolist() == [0.125, 0.125]
    assert figure.axes[0].get_xlim()[0] < -0.25
    ratio = figure.axes[5]
    assert ratio.get_title(loc="left") == "max_ratio"
    assert [text.get_text() for text in ratio.texts] == ["n/a"]
    assert {axes.get_xlabel() for axes in figure.axes} == {
        "share; kappa",
        "cosine; share",
        "rank correlation",
        "heads",
        "share of pairs",
        "observed / bound",
    }
    caption = _draw("spread", check)[1]
    assert "Means over 4 texts (lowest to highest): agreement 0.350 (0.200 to 0.500" in caption
    assert "observed pattern on 75.0% of the heads, predicted pattern on 50.0%." in caption


def test_the_precision_shows_median_and_largest_difference() -> None:
    check = with_precision(make_check())
    check["precision"]["differences"] |= {
        "drift.kl": {"median": 0.0, "max": 0.5},
        "sequential.informative": {"median": None, "max": None},
    }
    similarity, attention, _, informative = _figure("precision", check).axes
    dots = [line.get_xdata()[0] for line in similarity.lines if len(line.get_xdata()) == 1]
    assert dots == [1.25e-4, 0.0375] * 4
    assert [label.get_text() for label in similarity.get_yticklabels()] == list(DIFFERENCES[:4])
    drift = [line.get_xdata()[0] for line in attention.lines if len(line.get_xdata()) == 1][2:]
    assert drift == [attention.get_xlim()[0], 0.5]
    assert [text.get_text() for text in informative.texts] == ["n/a"]
    caption = _draw("precision", check)[1]
    assert (
        "between the model in bfloat16 and the same weights in float32, both on text 0" in caption
    )
    assert "differs on 1 of 12 heads, the predicted on 2;" in caption
    assert "loss 3.9534 against 3.9482 nats" in caption
    assert "Differences of zero (1) are drawn at the left edge." in caption


HOSTILE = "<script>alert(1)</script>{{ 7*7 }} $\\frac{$ -->.txt"


def test_text_from_outside_is_neither_markup_nor_mathematics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = with_precision(several(make_check(layers=1, heads=2, patterns=PATTERNS[:2])))
    check["model"] |= {"id": HOSTILE, "architecture": HOSTILE}
    check["model"]["rope"][0]["type"] = HOSTILE
    check["environment"] |= {"device": HOSTILE, "dtype": HOSTILE}
    check["precision"] |= {"dtype": HOSTILE, "reference": HOSTILE}
    check["exemplars"][0] |= {"predicted": HOSTILE}
    for text in check["texts"]:
        text["source"] = HOSTILE
    names = ("exemplars", "channel_spectra", "spread", "precision")
    monkeypatch.setattr("gpu_check.figures.FIGURES", {name: FIGURES[name] for name in names})
    write_figures(_write(tmp_path, check))
    for name in names:
        caption = _caption(tmp_path, name)
        assert caption.count(HOSTILE) >= 6
        assert "49" not in caption
        tree = ElementTree.parse(tmp_path / "figures" / f"{name}.svg")
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert "script" not in tags
        assert "g" in tags


def test_a_caption_names_the_first_of_many_texts() -> None:
    check = several(make_check(layers=1, heads=1, patterns=("sequential",)))
    check["texts"] = [{"source": f"{index}.txt", "tokens": 20 + index} for index in range(30)]
    told = conditions(check)
    assert "text 7 7.txt, 27 tokens; and 22 more texts named in check.json" in told
    assert "all of 20 to 49 tokens" in told
    assert "8.txt" not in told


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = (
        "import sys, gpu_check.figures, tappa_theory.app.style;"
        "sys.exit('matplotlib' in sys.modules)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == 0


def test_drawing_leaves_pyplot_and_its_global_state_alone(ordinary: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path;"
        "from gpu_check.figures import confusion; from tappa_theory.app.style import figure_style\n"
        "with figure_style(): confusion(json.loads(Path(sys.argv[1]).read_text()))\n"
        "sys.exit('matplotlib.pyplot' in sys.modules or 'matplotlib.figure' not in sys.modules)"
    )
    run = [sys.executable, "-c", code, str(ordinary / "check.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    assert subprocess.run(run, env=environment, timeout=120).returncode == 0
