"""The files of a check: check.json, heads.parquet, exemplars.npz and moments.npz, each whole."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gpu_check import heads as head_thresholds
from gpu_check import lifetimes, reuse
from gpu_check.check import CheckResult
from gpu_check.clock import Clock
from gpu_check.moments import write_moments
from gpu_check.schema import validate
from gpu_check.sources import Source
from tappa_theory.app.files import atomic_path, write_json
from tappa_theory.patterns import THRESHOLDS
from tappa_theory.prediction import HIGH_SIMILARITY

TEXT_CONDITIONS = ("source", "sha256", "tokens", "chat")


def write_check(source: Source, folder: Path, clock: Clock, complete: bool) -> dict[str, Any]:
    """Write the files of a check into the folder; returns the document of check.json."""
    result = source.result
    document: dict[str, Any] = {
        "schema": 1,
        "complete": complete,
        "verdict": result.verdict,
        "model": source.model,
        "texts": source.texts,
        "environment": _environment(source, clock),
        "thresholds": asdict(THRESHOLDS)
        | {
            "high_similarity": HIGH_SIMILARITY,
            "small_drift": head_thresholds.SMALL_DRIFT,
            "small_rotation": head_thresholds.SMALL_ROTATION,
            "lifetime_horizon": lifetimes.HORIZON,
            "kept_share": lifetimes.KEPT_SHARE,
            "informative_mass": reuse.INFORMATIVE,
        },
        "heads": [asdict(head) for head in result.heads],
        "layers": result.layers,
        "exemplars": result.exemplars.listed(),
        "summary": result.summary,
        "precision": source.precision,
    }
    validate(document)
    write_json(folder / "check.json", document)
    _write_parquet(document["heads"], folder / "heads.parquet")
    _write_maps(result, folder / "exemplars.npz")
    conditions = {
        "model": source.model["id"],
        "dtype": source.dtype,
        "texts": [{key: text[key] for key in TEXT_CONDITIONS} for text in source.texts],
        "tappa": version("tappa"),
        "complete": complete,
    }
    write_moments(result.moments, conditions, folder / "moments.npz")
    return document


def _environment(source: Source, clock: Clock) -> dict[str, Any]:
    packages = ("tappa", "torch", "transformers", "numpy", "scipy", "sympy")
    return {
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": source.device,
        "processes": source.world.size,
        "dtype": source.dtype,
        "arithmetic": "float64",
        "threads": source.checker.threads,
        "started": clock.started,
        "seconds": clock.seconds,
    }


def _write_parquet(heads: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_flat(head) for head in heads]
    names = list(dict.fromkeys(name for row in rows for name in row))
    # What is an object on one head and null on another has columns for its parts already.
    parents = {name.rpartition(".")[0] for name in names}
    table = pa.table(
        {name: [row.get(name) for row in rows] for name in names if name not in parents}
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            row |= _flat(value, f"{prefix}{key}.")
        else:
            row[prefix + key] = value
    return row


def _write_maps(result: CheckResult, path: Path) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **result.exemplars.maps)  # type: ignore[arg-type]
