"""`tappa figures`: every figure that the installed packages can draw.

A package adds figures by an entry point in the group `tappa.figures` that names a function
(output folder) -> exit code, or None where the folder holds nothing that it could draw.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from tappa_theory.app.commands import DEFAULT_OUT, Command
from tappa_theory.app.files import output_folder
from tappa_theory.errors import InputError

GROUP = "tappa.figures"

Draw = Callable[[Path], int | None]


def figures(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder.")] = DEFAULT_OUT,
) -> int:
    """Draw every figure as PNG and SVG: simulations are run in full, a check in DIR is drawn."""
    folder = output_folder(out)
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return draw_figures({point.name: point.load() for point in points}, folder)


def draw_figures(sources: Mapping[str, Draw], out: Path) -> int:
    """Let every source draw into `out`, name those without anything, return the worst exit code.

    Raises InputError if nothing at all was drawn.
    """
    codes = []
    for name, draw in sources.items():
        code = draw(out)
        if code is None:
            print(f"{name}: nothing to draw in {out}, left out", file=sys.stderr)
        else:
            codes.append(code)
    if not codes:
        raise InputError(f"nothing to draw in {out}; run `tappa check` with --out first")
    drawn = len(list((out / "figures").glob("*.svg")))
    print(f"{drawn} figures: {out / 'figures'}")
    return max(codes)


COMMAND = Command("figures", "Every figure, as PNG and SVG.", figures)
