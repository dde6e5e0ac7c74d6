"""`tappa simulate`: the patterns and bounds of the theory on synthetic queries and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tappa_theory.app.commands import DEFAULT_OUT, Command


def simulate(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Experiments to run; default: all of them."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of every random number.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller and coarser, within half a minute.")
    ] = False,
    moments: Annotated[
        Path | None,
        typer.Option(
            "--moments",
            metavar="FILE",
            help="moments.npz of a check, whose heads the real-like heads then resemble; default: "
            "ten heads of SmolLM2-135M.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder.")] = DEFAULT_OUT,
) -> int:
    """Show each pattern arise, and try to break every theorem; write simulations.json, figures."""
    from simulations.experiment import Settings
    from simulations.job import run

    return run(tuple(names or ()), out, Settings(seed=seed, quick=quick, moments=moments))


def _stage(out: Path) -> int:
    from simulations.experiment import Settings
    from simulations.job import run

    return run((), out, Settings(quick=True))


COMMAND = Command(
    "simulate", "Each pattern on synthetic heads, and every theorem under attack.", simulate, _stage
)
