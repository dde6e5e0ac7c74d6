"""A whole run of the proofs as the command line does it: prove, write, print."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proofs.ledger.ledger import chosen_ids, prove
from proofs.ledger.readable import derivation_text, markdown, summary
from proofs.ledger.schema import validate
from tappa_theory.app.commands import print_error
from tappa_theory.app.files import output_folder, write_json, write_text_atomic
from tappa_theory.app.progress import ProgressBar, progress_reports

EXIT_CODES = {"decided": 0, "open": 1}


def run(ids: Sequence[str], out: Path) -> int:
    """Prove these theorems (all if none is named) and write ledger.json and ledger.md into `out`.

    Prints every step of the theorems that are named, then a summary. An interrupt leaves both
    files with what was finished, marked "complete": false. Returns 0 if every theorem is decided,
    1 if one is open. Raises InputError for an unknown id.
    """
    chosen_ids(ids)
    folder = output_folder(out)
    with progress_reports() as report:
        document = prove(
            ids,
            begin=lambda total: ProgressBar(report, "proofs", total).advance,
            interrupted=lambda partial: _write(partial, folder),
        )
    _write(document, folder)
    if ids:
        width = shutil.get_terminal_size((100, 24)).columns
        for entry in document["theorems"]:
            _show(derivation_text(entry, width) + "\n")
    _show(summary(document))
    for name, remedy in _missing(document).items():
        print_error(f"{name}: {remedy}")
    return EXIT_CODES[document["verdict"]]


def _missing(document: dict[str, Any]) -> dict[str, str]:
    """Theorem -> what to install, each prover named once."""
    found: dict[str, str] = {}
    for entry in document["theorems"]:
        for reason in entry["open_because"]:
            if "is missing; run:" in reason and reason not in found.values():
                found[entry["id"]] = reason
    return found


def _write(document: dict[str, Any], folder: Path) -> None:
    validate(document)
    write_json(folder / "ledger.json", document)
    write_text_atomic(folder / "ledger.md", markdown(document))


def _show(text: str) -> None:
    """Print text with signs that the terminal may not have."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
