"""`tappa check`: the theorems on every head of a real checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpu_check.defaults import DEFAULT_MODEL, DEFAULT_TOKENS
from tappa_theory.app.commands import DEFAULT_OUT, Command


def check(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="smollm2-135m, a GGUF file, a Hugging Face directory, a Hub id, or a safetensors "
            "file of captured queries and keys.",
        ),
    ] = DEFAULT_MODEL,
    text: Annotated[
        list[Path] | None,
        typer.Option("--text", metavar="FILE", help="UTF-8 text; default: the built-in text."),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens", metavar="N", help=f"Tokens of the text; default {DEFAULT_TOKENS}."
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="A:B", help="Layers A to B-1; default all.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:i.")] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, bfloat16, float16 or float64.")
    ] = "float32",
    lag: Annotated[
        int | None,
        typer.Option("--lag", metavar="L", help="Period of the seasonal theorem; default: best."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder.")] = DEFAULT_OUT,
) -> int:
    """Check the theorems on every (query, key) pair of every head, and predict its pattern."""
    from gpu_check.job import Job, run

    return run(
        Job(
            model=model,
            texts=tuple(text or ()),
            tokens=tokens,
            layers=layers,
            device=device,
            dtype=dtype,
            lag=lag,
        ),
        out,
    )


def _stage(out: Path) -> int:
    from gpu_check.job import Job, run

    return run(Job(), out, report=False)


COMMAND = Command("check", "The theorems on every head of a real checkpoint.", check, stage=_stage)
