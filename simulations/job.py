"""Simulations as the command line runs them: experiments, data files, figures, simulations.json."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from simulations.experiment import Criterion, Experiment, Settings
from simulations.schema import validate
from tappa_theory.app.files import atomic_path, output_folder, write_csv, write_json
from tappa_theory.app.parallel import WORKERS, results
from tappa_theory.app.progress import ProgressBar, progress_reports
from tappa_theory.app.style import figure_style, save_figure
from tappa_theory.errors import InputError

NAMES = (
    "gallery",
    "phase_diagram",
    "attack",
    "dose_response",
    "interventions",
    "pattern_prediction",
    "predictability",
    "precision",
    "lifetimes",
)
"""Every experiment, each a module of `simulations.experiments`, in the order of the report."""

FOLDER = "simulations"
FIGURES = "figures"
FIGURE_PREFIX = "simulation_"

EXIT_CODES = {"holds": 0, "violated": 1}


def experiment(name: str) -> Experiment:
    """The experiment of that name. Raises InputError with the list of names for an unknown one."""
    if name not in NAMES:
        raise InputError(f"experiment {name!r} is unknown; the names are {', '.join(NAMES)}")
    found: Experiment = import_module(f"simulations.experiments.{name}").EXPERIMENT
    return found


def run(names: Sequence[str], out: Path, settings: Settings | None = None) -> int:
    """Run the experiments (all if none is named); write simulations.json, data and figures.

    Data are FOLDER/NAME.TABLE.csv and FOLDER/NAME.npz, figures FIGURES/simulation_NAME.*; those of
    an earlier run are removed. An interrupt leaves the finished experiments in valid files marked
    "complete": false. Returns 0, or 1 if what a theorem says was not met.
    Raises InputError for an unknown name, a negative seed, unusable moments or output folder.
    """
    settings = settings or Settings()
    chosen = [name for name in NAMES if name in names] if names else list(NAMES)
    for name in names:
        experiment(name)
    if settings.seed < 0:
        raise InputError(f"--seed {settings.seed} is negative; pass 0 or more")
    if settings.moments is not None:
        from simulations.generators.real_like import read_moments

        read_moments(settings.moments)
    folder = output_folder(out)
    _remove_earlier(folder)
    output_folder(folder / FOLDER)
    entries: dict[str, dict[str, Any]] = {}
    try:
        with progress_reports() as report:
            bar = ProgressBar(report, "simulations", len(chosen))
            work = partial(_finish, settings=settings, folder=folder)
            with results(work, chosen, WORKERS) as finished:
                for name, entry in finished:
                    entries[name] = entry
                    bar.advance()
    except KeyboardInterrupt:
        for name in chosen:
            if name not in entries:
                _remove(name, folder)
        if entries:
            _write(folder, chosen, entries, settings, complete=False)
        raise
    document = _write(folder, chosen, entries, settings, complete=True)
    print(headline(document))
    return EXIT_CODES[document["verdict"]]


def headline(document: Mapping[str, Any]) -> str:
    """A simulations.json in a few lines: every experiment's verdict and finding."""
    lines = [
        f"{entry['name']}: {entry['verdict']}. {entry['finding']}"
        for entry in document["experiments"]
    ]
    return "\n".join([*lines, f"simulations: {document['verdict']}"])


def _finish(name: str, settings: Settings, folder: Path) -> dict[str, Any]:
    """Run an experiment, write its data and figure; return its entry in simulations.json."""
    described = experiment(name)
    outcome = described.run(settings)
    data = []
    for table, columns in outcome.tables.items():
        path = write_csv(folder / FOLDER / f"{name}.{table}.csv", columns)
        data.append(_described(path, folder) | {"rows": len(next(iter(columns.values()), ()))})
    if outcome.arrays:
        path = folder / FOLDER / f"{name}.npz"
        with atomic_path(path) as temporary:
            arrays: dict[str, Any] = dict(outcome.arrays)
            np.savez_compressed(temporary, **arrays)
        data.append(_described(path, folder) | {"rows": None})
    with figure_style():
        drawn = described.draw(outcome)
    figure = FIGURE_PREFIX + name
    save_figure(drawn.figure, folder / FIGURES, figure, drawn.caption, drawn.alt, title=drawn.title)
    return {
        "name": name,
        "title": described.title,
        "question": described.question,
        "verdict": outcome.verdict,
        "finding": outcome.finding,
        "criteria": [_told(criterion) for criterion in outcome.criteria],
        "conditions": dict(outcome.conditions),
        "data": data,
        "figures": [figure],
    }


def _told(criterion: Criterion) -> dict[str, Any]:
    observed = criterion.observed if math.isfinite(criterion.observed) else None
    return {
        "claim": criterion.claim,
        "observed": observed,
        "relation": criterion.relation,
        "limit": criterion.limit,
        "proven": criterion.proven,
        "met": criterion.met,
    }


def _described(path: Path, folder: Path) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.relative_to(folder).as_posix(), "sha256": digest}


def _write(
    folder: Path,
    chosen: Sequence[str],
    entries: Mapping[str, dict[str, Any]],
    settings: Settings,
    complete: bool,
) -> dict[str, Any]:
    experiments = [entries[name] for name in chosen if name in entries]
    verdicts = [entry["verdict"] for entry in experiments]
    document = {
        "schema": 1,
        "complete": complete,
        "verdict": "violated" if "violated" in verdicts else "holds",
        "summary": {word: verdicts.count(word) for word in ("met", "not met", "violated")},
        "seed": settings.seed,
        "quick": settings.quick,
        "moments": None if settings.moments is None else str(settings.moments),
        "environment": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("tappa", "numpy", "scipy", "sympy")},
            "device": "cpu",
            "dtype": "float64",
        },
        "experiments": experiments,
    }
    validate(document)
    write_json(folder / "simulations.json", document)
    return document


def _remove_earlier(folder: Path) -> None:
    """Remove what an earlier run left, which would pass for this one's."""
    (folder / "simulations.json").unlink(missing_ok=True)
    for name in NAMES:
        _remove(name, folder)


def _remove(name: str, folder: Path) -> None:
    """Remove data and figure of an experiment, also what a process that was ended left of them."""
    for start, place in ((name, FOLDER), (FIGURE_PREFIX + name, FIGURES)):
        for pattern in (f"{start}.*", f".{start}[.-]*"):
            for path in (folder / place).glob(pattern):
                path.unlink(missing_ok=True)


def draw(out: Path) -> int:
    """Run every experiment in full and draw it into `out`: the simulations of `tappa figures`."""
    return run((), out)
