"""The figures of a check, drawn from check.json and exemplars.npz alone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpu_check.exemplar_figure import exemplars
from gpu_check.figure_parts import Check, Drawing, Maps
from gpu_check.head_figures import (
    confusion,
    drift_kl,
    observed_bound,
    q_similarity_layers,
    q_similarity_map,
)
from gpu_check.spectra_figure import channel_spectra
from gpu_check.spread_figures import precision, spread
from gpu_check.stability_figure import stability
from tappa_theory.app.style import figure_style, save_figure
from tappa_theory.errors import InputError

FOLDER = "figures"

TEXTS_NAMED = 8
"""Texts that a caption names, at most."""

FIGURES: dict[str, Callable[[Check, Maps], Drawing | None]] = {
    "q_similarity_map": lambda check, _: q_similarity_map(check),
    "q_similarity_layers": lambda check, _: q_similarity_layers(check),
    "exemplars": exemplars,
    "confusion": lambda check, _: confusion(check),
    "observed_bound": lambda check, _: observed_bound(check),
    "channel_spectra": lambda check, _: channel_spectra(check),
    "drift_kl": lambda check, _: drift_kl(check),
    "stability": lambda check, _: stability(check),
    "spread": lambda check, _: spread(check),
    "precision": lambda check, _: precision(check),
}
"""Every figure by its name; None for a check that has nothing to show in it."""


def write_figures(out_dir: Path) -> list[Path]:
    """Draw every figure of the check in `out_dir` into its folder figures; return all files.

    Each figure is NAME.png, NAME.svg and NAME.json {title, caption, alt}; one of an earlier check
    that this check does not have is removed. Reads check.json and exemplars.npz. Raises InputError
    if one is missing or damaged, or a file cannot be written.
    """
    folder = Path(out_dir)
    check = _read_check(folder / "check.json")
    maps = _read_maps(folder / "exemplars.npz", check)
    written = []
    for name, draw in FIGURES.items():
        with figure_style():
            drawing = draw(check, maps)
            if drawing is None:
                _remove(folder / FOLDER, name)
                continue
            figure, title, caption, alt = drawing
            full = f"{caption} {conditions(check)}"
            written += save_figure(figure, folder / FOLDER, name, full, alt, title=title)
    return written


def draw(out: Path) -> int | None:
    """The check's part of `tappa figures`; None if `out` holds no check."""
    if not (out / "check.json").is_file():
        return None
    write_figures(out)
    return 0


def remove_figures(out_dir: Path) -> None:
    """Remove the figures of an earlier check from `out_dir`."""
    for name in FIGURES:
        _remove(Path(out_dir) / FOLDER, name)


def conditions(check: Check) -> str:
    """The sentence that says on what the numbers were measured."""
    model, environment = check["model"], check["environment"]
    unfinished = "" if check["complete"] else " The run was interrupted: finished layers only."
    return (
        f"Model {model['id']}; {_texts(check['texts'])}; {environment.get('dtype')} on"
        f" {environment.get('device')}, measured in {environment.get('arithmetic')}.{unfinished}"
    )


def _texts(texts: list[dict[str, Any]]) -> str:
    """Every text with its tokens, numbered if there are several; of many the first ones."""
    if not texts:
        return "no text"
    told = [
        f"text {f'{index} ' if len(texts) > 1 else ''}{text['source']}, {text['tokens']:,} tokens"
        + (" as a chat message" if text.get("chat") else "")
        for index, text in enumerate(texts[:TEXTS_NAMED])
    ]
    if len(texts) > TEXTS_NAMED:
        tokens = [text["tokens"] for text in texts]
        told.append(
            f"and {len(texts) - TEXTS_NAMED} more texts named in check.json; all of"
            f" {min(tokens):,} to {max(tokens):,} tokens"
        )
    return "; ".join(told)


def _remove(folder: Path, name: str) -> None:
    """Remove a figure of an earlier check, which would pass for one of this check."""
    for suffix in ("png", "svg", "json"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)


def _read_check(path: Path) -> Check:
    if not path.is_file():
        raise InputError(f"{path} is missing; run `tappa check` into that folder first")
    try:
        check = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run `tappa check` again") from error
    if not isinstance(check, dict) or check.get("schema") != 1:
        raise InputError(f"{path} is not a check.json of schema 1; run `tappa check` again")
    return check


def _read_maps(path: Path, check: Check) -> Maps:
    if not path.is_file():
        raise InputError(f"{path} is missing; run `tappa check` into that folder first")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {entry["map"]: stored[entry["map"]] for entry in check["exemplars"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} does not hold the maps of check.json ({error}); run `tappa check` again"
        ) from error
