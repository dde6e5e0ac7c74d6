"""`tappa run`: every installed stage on the default checkpoint, then one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from tappa_theory.app.commands import DEFAULT_OUT, Command, installed_commands, print_error
from tappa_theory.app.files import output_folder
from tappa_theory.errors import InputError

STAGES = ("prove", "simulate", "check")


def run(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder.")] = DEFAULT_OUT,
) -> int:
    """Run every installed stage, write one report and print where it is."""
    folder = output_folder(out)

    from tappa_theory.app.report import write_report

    return run_stages(installed_commands(), folder, write_report)


def run_stages(
    commands: Mapping[str, Command], out: Path, write_report: Callable[[Path], object]
) -> int:
    """Run the stages among `commands` in order, then write the report; return the worst exit code.

    A stage that is not installed is named and does not count. A stage with bad input is told on
    stderr and counts as 2; the others still run. The report is written unless every stage failed.
    Raises InputError if no stage is installed.
    """
    codes = [
        code for name in STAGES if (code := _run_stage(name, commands.get(name), out)) is not None
    ]
    if not codes:
        raise InputError(f"no stage is installed ({', '.join(STAGES)}); reinstall tappa")
    if min(codes) < 2:
        write_report(out)
        print(f"report: {out / 'report.html'}")
    return max(codes)


def _run_stage(name: str, command: Command | None, out: Path) -> int | None:
    if command is None or command.stage is None:
        print(f"{name}: not installed, skipped", flush=True)
        return None
    try:
        return command.stage(out)
    except InputError as error:
        print_error(f"{name}: {error}")
        return 2


COMMAND = Command("run", "The main job: every stage on the default checkpoint, one report.", run)
