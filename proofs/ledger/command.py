"""`tappa prove`: the proofs of the theorems, and the ledger of their verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tappa_theory.app.commands import DEFAULT_OUT, Command


def prove(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...",
            help="Theorems to prove, each printed with every step; default: all of them.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder.")] = DEFAULT_OUT,
) -> int:
    """Certify every step of the theorems' proofs; write ledger.json and ledger.md."""
    from proofs.ledger.job import run

    return run(tuple(ids or ()), out)


def _stage(out: Path) -> int:
    from proofs.ledger.job import run

    return run((), out)


COMMAND = Command("prove", "The proofs of the theorems, every step certified.", prove, _stage)
