"""The report: one HTML file that needs nothing else, built from the files of the output folder."""

from __future__ import annotations

import json
import re
import statistics
import struct
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tappa_theory.app.files import write_text_atomic
from tappa_theory.app.style import digits_text, formula_svg, number_text, share_text
from tappa_theory.errors import InputError

STAGES = {"prove": "ledger.json", "simulate": "simulations.json", "check": "check.json"}
"""The file that each stage of `tappa run` leaves."""

TEMPLATES = Path(__file__).parent / "templates"

THRESHOLD_MEANINGS = {
    "visible": "share of attention from which a pattern counts as shown",
    "prominence": "mean attention of a column or offset, over that of uniform attention",
    "local": "positions; keys nearer than this do not count for a column",
    "warmup": "share of the rows, from the top, that is left out",
    "spacing_peaks": "peaks of the offset profile that make a period",
    "spacing_spread": "largest relative spread of their distances",
    "shortest": "tokens needed to speak of a pattern at all",
    "high_similarity": "q- or k-similarity that counts as high in the published rule",
    "small_drift": "largest mean relative step |dx|/|x| at which a drift hypothesis counts as met",
    "small_rotation": "largest rotation residual over energy at which a rotation or resonance"
    " hypothesis counts as met",
    "lifetime_horizon": "steps for which a row's top key is followed",
    "kept_share": "share of a row's visible keys that is kept, the most attended",
    "informative_mass": "certified attention on discarded keys below which a certificate says"
    " something",
}

HEAD_COLUMNS = (
    "layer",
    "head",
    "kv_head",
    "pattern_observed",
    "pattern_predicted",
    "pattern_published",
    "q_similarity.adjacent_pre",
    "q_similarity.adjacent_post",
    "q_similarity.all_pairs_pre",
    "k_similarity.adjacent_pre",
    "predictability",
    "kappa",
    "dominant_channel",
    "dominant_share",
    "frequency_dominant_channel",
    "drift.key_metric",
    "drift.kl",
    "theorems.re_access.max_ratio",
    "theorems.re_access.informative",
    "theorems.sequential.max_ratio",
    "theorems.sequential.informative",
    "theorems.periodic_sequential.max_ratio",
    "theorems.periodic_sequential.informative",
    "theorems.seasonal.max_ratio",
    "theorems.seasonal.informative",
)
"""What the table of heads shows, as paths in check.json; with several texts the text before it."""

PLACED_FIGURES = (
    "confusion",
    "observed_bound",
    "drift_kl",
    "stability",
    "spread",
    "precision",
    "exemplars",
    "q_similarity_map",
    "q_similarity_layers",
    "channel_spectra",
)
"""Figures that have a place of their own in the report; others follow them."""


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report; image is a data URI, width that of the picture in pixels."""

    name: str
    title: str
    caption: str
    alt: str
    image: str
    width: int


def write_report(out_dir: Path) -> Path:
    """Write report.html into `out_dir` from the results that lie there, and return its path.

    Reads check.json, ledger.json and simulations.json, each of which may be missing and is then
    named in the report, and the figures in the folder figures. The file opens offline.
    Raises InputError if there is no result at all, one cannot be read, or the report not written.
    """
    from jinja2 import UndefinedError

    folder = Path(out_dir)
    found = {stage: _read_json(folder / name) for stage, name in STAGES.items()}
    if all(document is None for document in found.values()):
        raise InputError(
            f"{folder} holds no result ({', '.join(STAGES.values())}); run `tappa run` or"
            " `tappa check` with --out first"
        )
    try:
        page = _environment().get_template("report.html").render(_content(folder, found))
    except (UndefinedError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"a result in {folder} lacks what the report needs ({error}); run its command again"
        ) from error
    return write_text_atomic(folder / "report.html", page)


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number_text,
        "digits": digits_text,
        "share": share_text,
        "formula": _formula,
        "prose": _prose,
        "breakable": _breakable,
        "plain": lambda value: "n/a" if value is None else value,
    }
    return environment


def _content(folder: Path, found: dict[str, Any]) -> dict[str, Any]:
    from tappa_theory.theorems import THEOREMS

    check = found["check"]
    figures = _figures(folder / "figures")
    heads = (check or {}).get("heads", [])
    texts = sorted({head.get("text", 0) for head in heads})
    columns = HEAD_COLUMNS if len(texts) < 2 else ("text", *HEAD_COLUMNS)
    return {
        "check": check,
        "ledger": found["prove"],
        "proofs": {entry["id"]: entry for entry in (found["prove"] or {}).get("theorems", [])},
        "simulations": found["simulate"],
        "simulation_figures": [
            name
            for entry in (found["simulate"] or {}).get("experiments", [])
            for name in entry["figures"]
        ],
        "missing": {name: STAGES[name] for name, document in found.items() if document is None},
        "figures": figures,
        "theorems": THEOREMS,
        "threshold_meanings": THRESHOLD_MEANINGS,
        "hypotheses": _hypotheses(check) if check else {},
        "head_columns": columns,
        "head_rows": [[_at(head, path) for path in columns] for head in heads],
        "placed_figures": PLACED_FIGURES,
        "several": len(texts) > 1,
        "unit": "heads x texts" if len(texts) > 1 else "heads",
        "measured": _measured(heads, len(texts)),
        "spread": _spread(check) if check else None,
        "precision": (check or {}).get("precision"),
    }


def _measured(heads: list[dict[str, Any]], texts: int) -> str:
    """How many heads on how many texts: "270 heads x 3 texts"."""
    places = len({(head["layer"], head["head"]) for head in heads})
    return f"{places:,} heads x {texts:,} texts" if texts > 1 else f"{len(heads):,} heads"


def _spread(check: dict[str, Any]) -> dict[str, Any] | None:
    """The spread of the summary with the indices of its texts; None without several texts."""
    found: dict[str, Any] | None = check["summary"].get("spread")
    if not found:
        return None
    sizes = Counter(head.get("text", 0) for head in check["heads"])
    # An interrupted run compares only the texts that it finished.
    finished = sorted(text for text, size in sizes.items() if size == max(sizes.values()))
    if len(finished) != found["texts"]:
        finished = list(range(found["texts"]))
    return found | {"compared": finished}


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None if there is no file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run its command again") from error
    if not isinstance(document, dict) or document.get("schema") != 1:
        raise InputError(f"{path} is not of schema 1; run its command again")
    return document


def _figures(folder: Path) -> dict[str, ReportFigure]:
    """Every figure that has both its picture and its caption, by name."""
    figures = {}
    for sidecar in sorted(folder.glob("*.json")):
        picture = sidecar.with_suffix(".png")
        if not picture.is_file():
            continue
        try:
            texts = json.loads(sidecar.read_text(encoding="utf-8"))
            data = picture.read_bytes()
            figures[sidecar.stem] = ReportFigure(
                name=sidecar.stem,
                title=texts["title"],
                caption=texts["caption"],
                alt=texts["alt"],
                image="data:image/png;base64," + b64encode(data).decode("ascii"),
                width=_png_width(data),
            )
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise InputError(
                f"figure {sidecar} cannot be read ({error!r}); run `tappa check` again"
            ) from error
    return figures


def _png_width(data: bytes) -> int:
    """Pixels across, from the header that every PNG file starts with."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("not a PNG file")
    width: int = struct.unpack(">I", data[16:20])[0]
    return width


def _hypotheses(check: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Per theorem, every measured hypothesis with its median and range over applicable heads."""
    answer: dict[str, list[dict[str, Any]]] = {}
    for theorem in check["summary"]["theorems"]:
        measured: dict[str, list[float]] = {}
        for head in check["heads"]:
            result = head["theorems"][theorem]
            for name, value in result["hypotheses"].items() if result["applicable"] else ():
                if name != "met" and value is not None:
                    measured.setdefault(name, []).append(value)
        answer[theorem] = [
            {
                "name": name,
                "median": statistics.median(numbers),
                "lowest": min(numbers),
                "highest": max(numbers),
                "heads": len(numbers),
            }
            for name, numbers in measured.items()
        ]
    return answer


def _at(data: dict[str, Any], path: str) -> Any:
    value: Any = data
    for key in path.split("."):
        value = value[key]
    return value


def _formula(latex: str) -> Any:
    """A formula as an inline picture, or its source where it cannot be set."""
    from markupsafe import Markup

    picture = formula_svg(latex)
    return Markup("<code>{}</code>").format(latex) if picture is None else Markup(picture)


def _prose(text: str) -> Any:
    """Text whose parts between dollar signs are formulas."""
    from markupsafe import Markup, escape

    parts = re.split(r"\$([^$]+)\$", text)
    return Markup("").join(
        _formula(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def _breakable(name: str) -> Any:
    """A JSON name that may be broken across lines after its dots and underscores."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))
