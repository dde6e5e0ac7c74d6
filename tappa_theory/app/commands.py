"""Subcommands of `tappa`: what one is, and finding the installed ones by entry point.

A package adds a subcommand by an entry point in the group `tappa.commands` that names a `Command`:

    [project.entry-points."tappa.commands"]
    check = "gpu_check.command:COMMAND"

That module is imported for every call of `tappa`, `tappa --help` included, so it must be light:
torch, transformers, sympy and matplotlib are imported inside the function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from tappa_theory.app.processes import speaks
from tappa_theory.errors import InputError

GROUP = "tappa.commands"
DEFAULT_OUT = Path("tappa-out")


@dataclass(frozen=True)
class Command:
    """One subcommand.

    - name: what is typed after `tappa`; equal to the entry point's name
    - help: one line for `tappa --help`
    - function: a function with typer annotations; it returns the exit code (0 or 1; None counts
      as 0) and raises InputError on bad input
    - stage: the command as a stage of `tappa run`, output folder -> exit code; None if it is none
    - missing: why the command cannot be used; None if it can
    """

    name: str
    help: str
    function: Callable[..., int | None]
    stage: Callable[[Path], int] | None = None
    missing: str | None = None


def installed_commands() -> dict[str, Command]:
    """Return the commands of all installed packages by name, in alphabetical order.

    An entry point that cannot be loaded becomes a command that raises InputError with the reason,
    so that one broken package leaves the others usable.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {point.name: load_command(point) for point in points}


def load_command(point: EntryPoint) -> Command:
    """Return the command an entry point names, or a stand-in that tells why it is unavailable."""
    try:
        command = point.load()
    except Exception as error:
        return _unavailable(point, f"{type(error).__name__}: {error}")
    if not isinstance(command, Command):
        return _unavailable(point, f"it is a {type(command).__name__}, not a Command")
    if command.name != point.name:
        return _unavailable(point, f"it calls itself {command.name!r}")
    return command


def print_error(message: str) -> None:
    """Print `tappa: error: message` on stderr as exactly one line of printable characters.

    Names from outside may hold escape codes of the terminal, or bytes that are not UTF-8. Of
    several processes of one command line only the first prints it.
    """
    if not speaks():
        return
    line = " ".join(message.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    print("tappa: error:", shown, file=sys.stderr)


def _unavailable(point: EntryPoint, reason: str) -> Command:
    message = (
        f"command {point.name!r} is unavailable, {point.value} cannot be loaded ({reason}); "
        "reinstall the package that provides it"
    )

    def fail(*_: object) -> int:
        raise InputError(message)

    return Command(
        name=point.name,
        help=f"Unavailable: {reason}",
        function=fail,
        stage=fail,
        missing=message,
    )
