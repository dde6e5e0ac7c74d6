"""The figures of a check: drawn from files alone, from any check that is valid, always the same."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_check.figure_parts import values
from gpu_check.figures import FIGURES, conditions, write_figures
from gpu_check.schema import validate
from tappa_theory.app.style import figure_style
from tappa_theory.errors import InputError
from tappa_theory.patterns import PATTERNS
from tappa_theory.theorems import SHIFT_THEOREMS

NAMES = [
    "q_similarity_map",
    "q_similarity_layers",
    "exemplars",
    "confusion",
    "observed_bound",
    "channel_spectra",
    "drift_kl",
]
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
        "published_counted": "pairs",
        "hypotheses": {"query_drift": 0.4, "met": True} if applicable else {},
        "prediction": {"predicted": None, "observed": None},
        **(number if applicable else dict.fromkeys(number)),
    }


def _head(
    rng: np.random.Generator, layer: int, head: int, observed: str | None, empty: bool
) -> dict[str, Any]:
    def number(low: float, high: float) -> float | None:
        return None if empty else float(rng.uniform(low, high))

    scores = ("column", "diagonal", "season")
    return {
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
                    "frequencies": [*(1e4 ** (-m / CHANNELS) for m in range(CHANNELS - 1)), 0.0],
                }
            ],
        },
        "texts": [{"source": "a.txt", "sha256": None, "tokens": 256, "loss": None}],
        "environment": {
            "device": "cpu",
            "dtype": "float32",
            "arithmetic": "float64",
            "seconds": {},
        },
        "thresholds": {"visible": 0.3},
        "heads": entries,
        "layers": [
            {"layer": layer, **similarities, "predictability": None} for layer in range(layers)
        ],
        "exemplars": [
            {
                "pattern": name,
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
        },
    }


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


VARIANTS: dict[str, dict[str, Any]] = {
    "ordinary": {"heads": 5},
    "one layer, one head": {"layers": 1, "heads": 1, "patterns": ("sequential",)},
    "null everywhere": {"empty": True},
    "no head yet": {"layers": 0, "complete": False, "empty": True},
    "unknown context": {"layers": 1, "heads": 3, "patterns": PATTERNS[:2], "context": None},
}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ordinary check and its figures."""
    folder = _write(tmp_path_factory.mktemp("ordinary"), make_check(heads=5))
    write_figures(folder)
    return folder


def _draw(name: str, check: dict[str, Any]) -> tuple[bytes, str]:
    """(PNG, caption) of one figure, small and without files."""
    maps = {entry["map"]: _map(entry["map"]) for entry in check["exemplars"]}
    with figure_style():
        figure, _title, caption, alt = FIGURES[name](check, maps)
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
        assert "Model tiny; text a.txt, 256 tokens; float32 on cpu" in _caption(ordinary, name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_figure_is_drawn_from_any_valid_check(variant: str) -> None:
    check = make_check(**VARIANTS[variant])
    validate(check)
    for name in NAMES:
        png, caption = _draw(name, check)
        assert png.startswith(PNG_SIGNATURE)
        assert not {"nan", "None", "null"} & set(caption.replace("(", " ").split())


def test_the_same_check_gives_the_same_bytes_whatever_the_users_settings(
    ordinary: Path, tmp_path: Path
) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": "x"}):
        again = write_figures(_write(tmp_path, make_check(heads=5)))
        assert matplotlib.rcParams["font.size"] == 20
    for path in again:
        assert path.read_bytes() == (ordinary / "figures" / path.name).read_bytes(), path.name


def test_the_figures_depend_on_the_numbers() -> None:
    check, other = make_check(heads=5), make_check(heads=5)
    for head in other["heads"]:
        for name in ("adjacent_pre", "adjacent_post"):
            head["q_similarity"][name] /= 2
        head["channel_energy"] = head["channel_energy"][::-1]
        for theorem in head["theorems"].values():
            if theorem["applicable"]:
                theorem["mean_observed"] *= 0.7
    other["layers"][1]["k_similarity"]["adjacent_pre"] = 0.1
    other["summary"]["patterns"]["confusion"]["re_access"]["seasonal"] += 5
    other["exemplars"][0]["columns"] = [50]
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
    with figure_style():
        figure = FIGURES["observed_bound"](check, {})[0]
    panel = figure.axes[SHIFT_THEOREMS.index("sequential")]
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
    with figure_style():
        axes = FIGURES["confusion"](check, {})[0].axes[0]
    places = [text.get_position() for text in axes.texts if text.get_text() == "987"]
    assert places == [(PATTERNS.index("seasonal"), PATTERNS.index("sequential"))]
    assert "pattern_predicted" in axes.get_ylabel()
    assert "pattern_observed" in axes.get_xlabel()


def test_the_map_shows_a_head_at_its_layer_and_number() -> None:
    check = make_check(layers=3, heads=4)
    check["heads"][2 * 4 + 1]["q_similarity"]["adjacent_pre"] = 0.125
    check["heads"][0]["q_similarity"]["adjacent_pre"] = None
    with figure_style():
        axes = FIGURES["q_similarity_map"](check, {})[0].axes[0]
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
