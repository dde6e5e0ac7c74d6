"""The report: built from files, self-contained, escaped, leading with what is worth knowing."""

import json
import re
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from simulations.schema import validate
from tappa_theory.app.report import HEAD_COLUMNS, THRESHOLD_MEANINGS, write_report
from tappa_theory.app.style import (
    PATTERN_MARKS,
    THEOREM_MARKS,
    figure_style,
    formula_svg,
    new_figure,
    number_text,
    save_figure,
    share_text,
)
from tappa_theory.errors import InputError
from tappa_theory.patterns import PATTERNS
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

ATTACK = '"><script>alert(1)</script>{{ 7*7 }}{% endif %}'


def _head(layer: int, head: int, **changes: Any) -> dict[str, Any]:
    theorem = {
        "applicable": True,
        "hypotheses": {"query_drift": 0.25 + 0.5 * head, "met": head == 0},
        "max_ratio": 0.75,
        "informative": 0.125,
    }
    return {
        "layer": layer,
        "head": head,
        "kv_head": 0,
        "q_similarity": {"adjacent_pre": 0.8125, "adjacent_post": 0.5, "all_pairs_pre": 0.25},
        "k_similarity": {"adjacent_pre": 0.5},
        "predictability": 0.9,
        "kappa": 3.25,
        "dominant_channel": 20,
        "dominant_share": 0.2,
        "frequency_dominant_channel": 0,
        "pattern_predicted": "re_access",
        "pattern_observed": "sequential",
        "pattern_published": None,
        "drift": {"key_metric": 0.5, "kl": 0.625},
        "theorems": dict.fromkeys(SHIFT_THEOREMS, theorem),
    } | changes


def _check() -> dict[str, Any]:
    """A check.json as far as the report reads it."""
    theorem = {
        "applicable_heads": 2,
        "hypotheses_met_heads": 1,
        "pairs": 123456,
        "violations": 0,
        "undecided": 0,
        "tight": 765,
        "max_ratio": 0.955,
        "worst": {"layer": 3, "head": 1, "t": 77, "i": 66},
        "informative": 0.0021,
        "published_violations": 753,
        "published_checked": 8838,
        "published_counted": "pairs",
    }
    return {
        "schema": 1,
        "complete": True,
        "verdict": "holds",
        "model": {
            "id": "tiny",
            "architecture": "LlamaForCausalLM",
            "layers": 3,
            "heads": 2,
            "kv_heads": 1,
            "head_dim": 16,
            "context_length": 8192,
            "source": {"file": "tiny.gguf", "sha256": "b179c9"},
            "rope": [{"layers": [0, 1, 2], "base": 1e4, "type": "default", "rotary_dim": 16}],
        },
        "texts": [{"source": "a.txt", "sha256": "5ead53", "tokens": 1024, "loss": 3.3125}],
        "environment": {
            "torch": "2.11.0",
            "device": "cpu",
            "dtype": "float32",
            "arithmetic": "float64",
            "seconds": {"load": 1.5, "check": 37.25},
        },
        "thresholds": {"visible": 0.3, "shortest": 128},
        "heads": [_head(0, 0), _head(0, 1)],
        "layers": [{"layer": 0}],
        "exemplars": [],
        "summary": {
            "patterns": {
                "heads": 2,
                "agreement": 0.8851,
                "cohen_kappa": 0.7939,
                "majority_agreement": 0.5703,
                "published_agreement": 0.4742,
                "published_cohen_kappa": 0.0129,
                "observed": dict.fromkeys(PATTERNS, 1),
                "confusion": {row: dict.fromkeys(PATTERNS, 4321) for row in PATTERNS},
            },
            "theorems": {
                name: theorem | {"published_counted": THEOREMS[name].published.counted}
                for name in SHIFT_THEOREMS
            },
            "drift": {"spearman_cosine_kl": 0.6131, "spearman_key_metric_kl": 0.9208},
            "predictability": {"mean": 0.9212, "spearman_q_similarity": 0.5641},
            "kappa_below_one": 1,
        },
    }


def _spread(by_text: list[float | None], mean: float, std: float | None) -> dict[str, Any]:
    there = [number for number in by_text if number is not None]
    return {"by_text": by_text, "mean": mean, "min": min(there), "max": max(there), "std": std}


def _several() -> dict[str, Any]:
    """The same on two texts, 0 and 1, with what differs between them."""
    check = _check()
    check["heads"] = [_head(0, head, text=text) for text in (0, 1) for head in (0, 1)]
    check["texts"] = [
        {"source": "a.txt", "sha256": None, "tokens": 1024, "chat": False, "loss": 3.3125},
        {"source": "b.txt", "sha256": None, "tokens": 256, "chat": True, "loss": None},
    ]
    check["model"]["rope"] = [
        check["model"]["rope"][0] | {"texts": [text], "base": 1e4 * (1 + text)} for text in (0, 1)
    ]
    numbers = {
        "agreement": _spread([0.8125, 0.9], mean=0.85, std=0.05),
        "cohen_kappa": _spread([None, 0.25], mean=0.25, std=None),
        "re_access.hypotheses_met_heads": _spread([3, 12], mean=7.5, std=6.364),
    }
    check["summary"]["spread"] = {
        "texts": 2,
        "numbers": numbers,
        "observed_stable": 0.625,
        "predicted_stable": None,
    }
    for result in check["summary"]["theorems"].values():
        result["worst"] = {"text": 1} | result["worst"]
    return check


PRECISION = {
    "dtype": "bfloat16",
    "reference": "float32",
    "text": 0,
    "heads": 2,
    "observed_changed": 1,
    "predicted_changed": 0,
    "differences": {
        "predictability": {"median": 0.00125, "max": 0.0625},
        "seasonal.max_ratio": {"median": None, "max": None},
    },
    "loss": {"dtype": 3.95341, "reference": 3.94821},
    "angle_deviation": {"dtype": 0.73, "reference": None},
}


def _emptied(value: Any) -> Any:
    """The same with null for every number that may be null."""
    if isinstance(value, dict):
        return {key: _emptied(item) for key, item in value.items()}
    return None if isinstance(value, float) else value


def _png(width: int = 10) -> bytes:
    """A PNG file of that width and one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" + b"\x80" * width)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def _figure(folder: Path, name: str, caption: str = "What is seen.") -> None:
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    (figures / f"{name}.png").write_bytes(_png())
    texts = {"title": f"Title of {name}", "caption": caption, "alt": f"Alt of {name}"}
    (figures / f"{name}.json").write_text(json.dumps(texts), encoding="utf-8")


def _report(folder: Path, check: dict[str, Any] | None = None) -> str:
    if check is not None:
        (folder / "check.json").write_text(json.dumps(check), encoding="utf-8")
    path = write_report(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


class _Page(HTMLParser):
    """The text of a page, its elements, and whether each one is closed."""

    VOID = ("meta", "img", "link", "br", "path", "wbr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def test_the_report_leads_with_prediction_and_not_with_violations(tmp_path: Path) -> None:
    text = _Page(_report(tmp_path, _check())).text
    order = [
        "Do the ingredients predict the pattern?",
        "88.5%",
        "0.794",
        "57.0%",
        "47.4%",
        "Where are the hypotheses met?",
        "How informative are the bounds?",
        "How often do the published forms fail?",
        "Do the bounds hold?",
        "triangle inequality always holds",
        "violations",
        "All heads",
        "Conditions",
        "Definitions and thresholds",
        "The theorems, as checked and as published",
    ]
    text = text[text.index(order[0]) :]
    places = [text.index(phrase) for phrase in order]
    assert places == sorted(places)


def test_the_numbers_are_those_of_the_json(tmp_path: Path) -> None:
    text = _Page(_report(tmp_path, _check())).text
    assert "Cohen's kappa 0.794 1 is perfect" in text
    assert "Agreement 88.5% of 2 heads" in text
    assert "The paper's own rule 47.4% kappa 0.0129" in text
    assert "re_access 2 of 2 1 50.0% query_drift 0.500 (0.250 to 0.750)" in text
    assert "re_access 0.210% 123,456" in text
    assert "re_access 753 8,838 query-channel steps 8.52%" in text
    assert "sequential 753 8,838 pairs 8.52%" in text
    assert "0 0 765 123,456 0.955 layer 3, head 1, t 77, i 66" in text
    assert "below 1 on 1 of 2 heads" in text
    assert "4321" in text
    assert "a.txt, 1,024 tokens, loss 3.31 nats per token; sha256 5ead53" in text
    assert "load 1.50, check 37.2" in text
    assert "visible 0.3 share of attention from which a pattern counts as shown" in text


def test_another_kappa_gives_another_report(tmp_path: Path) -> None:
    check = _check()
    check["summary"]["patterns"]["cohen_kappa"] = -0.1234
    assert "Cohen's kappa -0.123 1 is perfect" in _Page(_report(tmp_path, check)).text


def test_the_table_of_heads_has_every_head_with_values_to_sort_by(tmp_path: Path) -> None:
    page = _report(tmp_path, _check())
    rows = re.findall(r"<tr>(.*?)</tr>", page.split('class="heads"')[1].split("</table>")[0], re.S)
    assert rows[0].count("<button") == len(HEAD_COLUMNS)
    assert len(rows) == 3
    assert rows[1].count("<td") == len(HEAD_COLUMNS)
    assert '<td class="n" data-value="0.8125">0.812</td>' in rows[1]
    assert '<td data-value=""></td>' in rows[1]
    assert "<td>sequential</td>" in rows[1]


def test_the_file_needs_nothing_else(tmp_path: Path) -> None:
    _figure(tmp_path, "confusion")
    page = _Page(_report(tmp_path, _check()))
    assert page.open == []
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href"):
            link = attributes.get(name)
            assert link is None or link.startswith(("#", "data:image/png;base64,")), link
    style = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "@import" not in style
    assert "url(" not in style


@pytest.mark.parametrize("check", [_check(), _several() | {"precision": PRECISION}])
def test_links_inside_the_page_have_targets(tmp_path: Path, check: dict[str, Any]) -> None:
    page = _Page(_report(tmp_path, check))
    targets = {attributes.get("id") for _, attributes in page.elements}
    links = {link[1:] for _, a in page.elements if (link := a.get("href")) and link.startswith("#")}
    assert len(links) > 10
    assert links <= targets


def test_figures_are_embedded_with_caption_and_alt(tmp_path: Path) -> None:
    for name in ("confusion", "exemplars", "of_another_stage"):
        _figure(tmp_path, name, f"Caption of {name}, 50% of <b>heads</b>.")
    page = _Page(_report(tmp_path, _check()))
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert {image["alt"] for image in images} == {
        "Alt of confusion",
        "Alt of exemplars",
        "Alt of of_another_stage",
    }
    assert page.text.count("Caption of exemplars, 50% of <b>heads</b>.") == 1
    assert page.text.index("Caption of confusion") < page.text.index("Where are the hypotheses")


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    check = _check()
    check["model"] |= {"id": ATTACK, "architecture": ATTACK, "source": {ATTACK: ATTACK}}
    check["texts"] = [{"source": ATTACK, "sha256": ATTACK, "tokens": 2, "chat": True}] * 2
    number = {"by_text": [0.5], "mean": 0.5, "min": 0.5, "max": 0.5, "std": None}
    check["summary"]["spread"] = {
        "texts": 1,
        "numbers": {"agreement": number, ATTACK: number},
        "observed_stable": 1.0,
        "predicted_stable": 1.0,
    }
    differences = {ATTACK: {"median": 0.5, "max": 0.5}}
    names = {"dtype": ATTACK, "reference": ATTACK, "differences": differences}
    check["precision"] = PRECISION | names
    check["environment"] |= {"device": ATTACK, ATTACK: ATTACK}
    check["thresholds"] = {ATTACK: ATTACK}
    check["heads"][0]["pattern_observed"] = ATTACK
    check["verdict"] = ATTACK
    _figure(tmp_path, "confusion", ATTACK)
    for name, content in (
        ("ledger", {"verdict": ATTACK, "theorems": [{"id": ATTACK, "title": "", "status": ""}]}),
        ("simulations", _hostile_simulations()),
    ):
        document = json.dumps({"schema": 1, **content})
        (tmp_path / f"{name}.json").write_text(document, encoding="utf-8")
    page = _report(tmp_path, check)
    assert page.count("<script") == 1
    assert "alert(1)</script>" not in page
    parsed = _Page(page)
    assert parsed.open == []
    assert parsed.text.count(ATTACK) > 22
    assert "49" not in parsed.text
    assert all("onerror" not in attributes for _, attributes in parsed.elements)


def test_an_incomplete_run_says_so_at_the_top(tmp_path: Path) -> None:
    check = _check() | {"complete": False}
    text = _Page(_report(tmp_path, check)).text
    phrase = "Incomplete. The run was interrupted: this report covers the 1 finished of 3 layers."
    assert text.index(phrase) < text.index("Do the ingredients")
    assert "Incomplete." not in _Page(_report(tmp_path, _check())).text


def test_several_texts_are_told_with_their_spread(tmp_path: Path) -> None:
    text = _Page(_report(tmp_path, _several())).text
    assert "2 heads x 2 texts, 256 to 1,024 tokens each" in text
    assert "Agreement 88.5% of 2 heads x texts" in text
    assert "On the 2 texts one by one the agreement is 81.2% to 90.0%; 62.5% of the heads" in text
    assert "0 a.txt 1,024 no 3.31 1 b.txt 256 yes n/a" in text
    assert "same on every text for 62.5% of the heads, the predicted pattern for n/a" in text
    assert "std text 0 text 1 agreement 0.850 0.812 0.900 0.0500 0.812 0.900" in text
    assert "cohen_ kappa 0.250 0.250 0.250 n/a n/a 0.250" in text
    assert "re_ access. hypotheses_ met_ heads 7.50 3 12 6.36 3 12" in text
    assert "text 1, layer 3, head 1, t 77, i 66" in text
    assert "base 20,000, 16 rotary dimensions, 3 layers, texts 1" in text
    assert "b.txt, 256 tokens as a chat message" in text
    assert "below 1 on 1 of 4 heads x texts" in text
    assert "2 of 4" in text


def test_the_spread_of_an_interrupted_run_names_the_texts_that_it_compares(tmp_path: Path) -> None:
    check = _several() | {"complete": False}
    check["texts"].insert(0, {"source": "short.txt", "sha256": None, "tokens": 7})
    check["heads"] = [_head(0, 0, text=0)] + [
        head | {"text": head["text"] + 1} for head in check["heads"]
    ]
    text = _Page(_report(tmp_path, check)).text
    assert "std text 1 text 2 agreement" in text
    check["heads"] = check["heads"][:1]
    check["summary"]["spread"] = None
    assert "Fewer than two texts were finished" in _Page(_report(tmp_path, check)).text


def test_the_table_of_heads_names_the_text_where_there_are_several(tmp_path: Path) -> None:
    page = _report(tmp_path, _several())
    rows = re.findall(r"<tr>(.*?)</tr>", page.split('class="heads"')[1].split("</table>")[0], re.S)
    assert rows[0].count("<button") == len(HEAD_COLUMNS) + 1
    assert '<button type="button">text</button>' in rows[0]
    starts = [re.findall(r'data-value="(\d+)"', row)[:3] for row in rows[1:]]
    assert starts == [["0", "0", "0"], ["0", "0", "1"], ["1", "0", "0"], ["1", "0", "1"]]


def test_one_text_gets_no_section_of_texts_and_precision(tmp_path: Path) -> None:
    check = _check() | {"precision": None}
    check["summary"]["spread"] = None
    check["texts"][0]["chat"] = True
    page = _Page(_report(tmp_path, check))
    assert "2 heads, 1,024 tokens of text a.txt, as a chat message, float32 on cpu" in page.text
    assert "heads x texts" not in page.text
    assert not {"texts", "precision"} & {attributes.get("id") for _, attributes in page.elements}


def test_the_precision_is_told_against_its_reference(tmp_path: Path) -> None:
    _figure(tmp_path, "precision")
    _figure(tmp_path, "spread")
    check = _several() | {"precision": PRECISION}
    text = _Page(_report(tmp_path, check)).text
    assert "Text 0 was run again with the same weights in float32" in text
    assert "Observed pattern differs 1 of 2 heads Predicted pattern differs 0 of 2 heads" in text
    assert "loss (nats per token) 3.9534 3.9482" in text
    assert "largest angle_deviation (radians) 0.73 n/a" in text
    assert "predictability 0.00125 0.0625 seasonal.max_ratio n/a n/a" in text
    assert text.count("Title of precision") == text.count("Title of spread") == 1
    assert text.index("Title of spread") < text.index("How much depends on the model's precision?")
    assert text.index("Title of precision") < text.index("All heads Press")


def test_a_precision_that_was_not_measured_says_why(tmp_path: Path) -> None:
    why = {"dtype": "bfloat16", "reference": "float32", "not_measured": "out of memory"}
    text = _Page(_report(tmp_path, _check() | {"precision": why})).text
    assert "bfloat16 was not compared with float32: out of memory." in text
    assert "pattern differs" not in text


def _lasting() -> dict[str, Any]:
    """The same with what later rows are worth."""

    def steps(number: float) -> dict[str, float]:
        return {"mean": number, "median": number + 1, "low": number / 2, "high": number + 7}

    def part(number: float, broken: int) -> dict[str, Any]:
        names = ("discarded", "observed", "measured", "a_priori", "informative")
        numbers = {name: number * (1 + index) for index, name in enumerate(names)}
        return numbers | {"top_certified": 0.0125, "top_observed": 0.9375, "broken": broken}

    check = _check()
    check["thresholds"] |= {"lifetime_horizon": 64, "kept_share": 0.25, "informative_mass": 0.5}
    check["summary"] |= {
        "lifetime": {
            "heads": 2,
            "rows": 1234,
            "broken": 3,
            "certified_heads": 1,
            "certified_rows": 17,
            "certified": steps(0.125),
            "observed_old": steps(9.25),
            "observed": steps(4.5),
            "angle": 0.0423,
            "turn": 0.617,
        },
        "reuse": {"1": part(0.0313, 5), "4": part(0.0521, 7)},
        "kl": {
            "steps": 99,
            "predicted": 0.211,
            "observed": 0.223,
            "remainder": 2.51,
            "lowest": 0.0617,
            "highest": 1.87,
            "informative": 0.0625,
            "outside": 11,
        },
        "angle_bound": {"heads": 2, "within": 1, "bound": 3.05e-4, "deviation": 3.62e-5},
    }
    return check


def _section(html: str) -> str:
    """Text of the section on lifetimes, blanks made one."""
    found = re.search(r'<section id="lasting">(.*?)</section>', html, flags=re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]*>", " ", found[1]).split())


def test_how_long_attention_lasts_is_told_with_its_numbers(tmp_path: Path) -> None:
    text = _section(_report(tmp_path, _lasting()))
    assert "contradict a theorem by more than rounding: 15; steps: 11." in text
    assert "certified 0.125 1.12 0.0625 7.12" in text
    assert "observed, among the keys of the row 9.25 10.2 4.62 16.2" in text
    assert "observed, among all keys 4.50 5.50 2.25 11.5" in text
    assert "Medians over 2 heads, of at most 64 steps." in text
    assert "certified on 17 of 1,234 rows, on 1 heads" in text
    assert "turns by 0.617 radians in a step, and a certificate needs less than 0.0423" in text
    assert "1 row later 0.0313 0.0626 0.0939 0.125 15.7% 1.25% 93.8%" in text
    assert "4 rows later 0.0521 0.104 0.156 0.208 26.1% 1.25% 93.8%" in text
    assert "all but the most attended 25.0% of the keys" in text
    assert "is 0.223 nats in the mean, predicted to second order 0.211" in text
    assert "remainder is 2.51, below the prediction on 6.25% of the steps" in text
    assert "0.0617 to 1.87 nats" in text
    assert "at most 3.62e-05 radians; their dtype allows 0.000305, and 1 of 2 heads" in text


def test_without_lifetimes_or_angles_nothing_is_told_of_them(tmp_path: Path) -> None:
    check = _lasting()
    check["summary"]["angle_bound"] = None
    assert "radians; their dtype" not in _section(_report(tmp_path, check))
    for name in ("lifetime", "reuse", "kl"):
        check = _lasting()
        check["summary"][name] = None
        assert 'id="lasting"' not in _report(tmp_path, check)


def test_null_everywhere_still_makes_a_report(tmp_path: Path) -> None:
    check = _emptied(_several() | {"precision": PRECISION})
    check["summary"]["patterns"]["heads"] = 0
    check["model"]["context_length"] = None
    text = _Page(_report(tmp_path, check)).text
    assert "No head has both a predicted and an observed pattern" in text
    assert "None" not in text
    assert "nan" not in text.split()


def test_a_check_without_heads_still_makes_a_report(tmp_path: Path) -> None:
    check = _check() | {"heads": [], "layers": [], "complete": False}
    for result in check["summary"]["theorems"].values():
        result.update(applicable_heads=0, pairs=0, published_checked=0, worst=None)
    assert "nothing to check" in _Page(_report(tmp_path, check)).text


def test_missing_stages_are_named_in_one_line_each(tmp_path: Path) -> None:
    text = _Page(_report(tmp_path, _check())).text
    assert "Stage prove is missing: there is no ledger.json in this folder." in text
    assert "Stage simulate is missing" in text
    assert "Stage check is missing" not in text


def test_ledger_and_simulations_make_a_report_without_a_check(tmp_path: Path) -> None:
    steps = [{"claim": "c", "ok": True}, {"claim": "d", "ok": False}, {"claim": "e", "ok": "yes"}]
    entry = {"id": "re_access", "title": "Columns", "status": "repaired", "steps": steps}
    ledger = {"schema": 1, "verdict": "decided", "theorems": [entry]}
    simulations = _simulations()
    (tmp_path / "ledger.json").write_text(json.dumps(ledger), encoding="utf-8")
    (tmp_path / "simulations.json").write_text(json.dumps(simulations), encoding="utf-8")
    _figure(tmp_path, "simulation_gallery")
    text = _Page(_report(tmp_path)).text
    assert "Stage check is missing" in text
    assert "re_access Columns repaired 1 of 3 0 of 0" in text
    assert f"{THEOREMS['re_access'].source}. Verdict: repaired." in text
    assert f"{THEOREMS['seasonal'].source}. Verdict: none in this folder" in text
    assert "Verdict of ledger.json: decided ." in text
    assert "gallery Which patterns arise? not met" in text
    assert "All of them. Title of simulation_gallery" in text
    assert "the quick form of every experiment" in text
    assert "Criteria: 1 of 2 met" in text
    assert "ratio at most 1 proven 0.5 ≤ 1 yes" in text
    assert "agreement expected n/a ≥ 0.95 no" in text
    assert "heads: 5; bases: [1.0, 2.0]. Data: simulations/gallery.heads.csv" in text
    assert text.count("Title of simulation_gallery") == 1


def test_simulations_that_were_interrupted_say_so(tmp_path: Path) -> None:
    (tmp_path / "simulations.json").write_text(
        json.dumps(_simulations() | {"complete": False, "quick": False}), encoding="utf-8"
    )
    text = _Page(_report(tmp_path, _check())).text
    assert "Incomplete. The simulations were interrupted." in text
    assert "the quick form" not in text


def _simulations() -> dict:
    criterion = {
        "claim": "ratio at most 1",
        "observed": 0.5,
        "relation": "<=",
        "limit": 1.0,
        "proven": True,
        "met": True,
    }
    missed = {
        "claim": "agreement",
        "observed": None,
        "relation": ">=",
        "limit": 0.95,
        "proven": False,
        "met": False,
    }
    entry = {
        "name": "gallery",
        "title": "Gallery",
        "question": "Which patterns arise?",
        "verdict": "not met",
        "finding": "All of them.",
        "criteria": [criterion, missed],
        "conditions": {"heads": 5, "bases": [1.0, 2.0]},
        "data": [{"file": "simulations/gallery.heads.csv", "sha256": "0" * 64, "rows": 5}],
        "figures": ["simulation_gallery"],
    }
    document = {
        "schema": 1,
        "complete": True,
        "verdict": "holds",
        "summary": {"met": 0, "not met": 1, "violated": 0},
        "seed": 0,
        "quick": True,
        "moments": None,
        "environment": {"device": "cpu", "dtype": "float64"},
        "experiments": [entry],
    }
    validate(document)
    return document


def _hostile_simulations() -> dict:
    document = _simulations()
    (entry,) = document["experiments"]
    entry |= dict.fromkeys(("name", "title", "question", "verdict", "finding"), ATTACK)
    entry["criteria"][0]["claim"] = ATTACK
    entry["conditions"] = {ATTACK: ATTACK}
    entry["data"][0]["file"] = ATTACK
    return document | {"verdict": ATTACK, "environment": {"device": ATTACK, "dtype": ATTACK}}


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no result \(ledger\.json, .*check\.json\)"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("check.json", b'{"schema": 1, '),
        ("check.json", b"[1]"),
        ("check.json", b'{"schema": 2}'),
        ("check.json", b'{"schema": 1}'),
        ("ledger.json", b"\xff"),
        ("figures/confusion.json", b"{}"),
        ("figures/confusion.png", b"not a picture"),
        ("figures/confusion.png", b"\x89PNG\r\n\x1a\n"),
    ],
)
def test_a_damaged_file_is_bad_input_and_leaves_the_older_report(
    tmp_path: Path, name: str, content: bytes
) -> None:
    _figure(tmp_path, "confusion")
    before = _report(tmp_path, _check())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name.split("/")[-1].split(".")[0]) + "|lacks"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    _figure(tmp_path, "confusion")
    assert _report(tmp_path, _check()) == _report(tmp_path, _check())


def test_every_theorem_is_told_with_its_published_form(tmp_path: Path) -> None:
    page = _report(tmp_path, _check())
    text = _Page(page).text
    for name, theorem in THEOREMS.items():
        assert f"{theorem.title} {name}" in text
        assert f"{theorem.source}. Verdict: none in this folder, run tappa prove ." in text
    for theorem in THEOREMS.values():
        assert theorem.published.text[:20] in page
    published = [t for t in THEOREMS.values() if "not in the paper" not in t.source]
    assert page.count("As publicly summarised: ") == len(published)
    assert page.count('class="display"><svg') == len(THEOREMS)


def test_every_threshold_of_the_patterns_has_a_meaning() -> None:
    from dataclasses import fields

    from tappa_theory.patterns import Thresholds

    assert {field.name for field in fields(Thresholds)} <= set(THRESHOLD_MEANINGS)


def test_a_formula_is_drawn_in_the_colour_of_the_text() -> None:
    svg = formula_svg(r"|a_{t+1,i}| \le \tfrac{1}{\sqrt n}")
    assert svg is not None
    assert svg.startswith("<svg")
    assert 'fill="currentColor"' in svg
    assert r'aria-label="|a_{t+1,i}| \le \tfrac{1}{\sqrt n}"' in svg
    assert formula_svg(r"a \le b") == formula_svg(r"a \leq b").replace(r"\leq", r"\le")


def test_a_formula_that_cannot_be_set_is_shown_as_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert formula_svg(r"\begin{cases} <b> \end{cases}") is None
    import tappa_theory.app.report as report

    monkeypatch.setattr(report, "formula_svg", lambda latex: None)
    page = _report(tmp_path, _check())
    assert "<code>\\theta_m</code>" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (0, "0"),
        (0.0, "0"),
        (1234567, "1,234,567"),
        (0.9, "0.900"),
        (-0.35123, "-0.351"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.000012, "1.20e-05"),
        (1.5e7, "1.50e+07"),
    ],
)
def test_numbers_are_told_to_three_digits(value: float | None, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (0.0, "0%"), (1.0, "100%"), (0.8851, "88.5%"), (0.0000064842, "0.000648%")],
)
def test_shares_are_told_as_percentages(value: float | None, text: str) -> None:
    assert share_text(value) == text


def test_every_pattern_and_theorem_has_a_look_of_its_own() -> None:
    assert set(PATTERN_MARKS) == set(PATTERNS)
    assert set(THEOREM_MARKS) == set(SHIFT_THEOREMS)
    for marks in (PATTERN_MARKS, THEOREM_MARKS):
        assert len({mark.colour for mark in marks.values()}) == len(marks)
        assert len({mark.marker for mark in marks.values()}) == len(marks)


def test_a_figure_is_saved_in_two_formats_with_its_texts(tmp_path: Path) -> None:
    def save(folder: Path) -> list[Path]:
        with figure_style():
            figure = new_figure(2, 1)
            figure.subplots().plot([1, 2], [3, 4])
            return save_figure(figure, folder, "line", "A line.", "Going up.", title="Line")

    paths = save(tmp_path / "new" / "a")
    assert [path.name for path in paths] == ["line.png", "line.svg", "line.json"]
    header = paths[0].read_bytes()[16:24]
    assert struct.unpack(">II", header) == (400, 200)
    assert json.loads(paths[2].read_text(encoding="utf-8")) == {
        "title": "Line",
        "caption": "A line.",
        "alt": "Going up.",
    }
    for one, other in zip(paths, save(tmp_path / "b"), strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert "date" not in paths[1].read_text(encoding="utf-8").lower()
    assert len(list((tmp_path / "b").iterdir())) == 3


def test_a_figure_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with figure_style(), pytest.raises(InputError, match="file"):
        save_figure(new_figure(1, 1), tmp_path / "file", "f", "c", "a", title="t")


def test_nothing_heavy_is_imported_before_a_report_is_written() -> None:
    code = (
        "import sys, tappa_theory.app.report, tappa_theory.app.style;"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'jinja2', 'sympy', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
