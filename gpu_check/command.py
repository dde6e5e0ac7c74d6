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
        typer.Option(
            "--text",
            metavar="FILE",
            help="UTF-8 text; repeat for several; default: the built-in text.",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            metavar="N",
            help=f"Tokens of every text; default: the first {DEFAULT_TOKENS}, or the whole of a "
            "shorter text.",
        ),
    ] = None,
    chat: Annotated[
        bool,
        typer.Option("--chat", help="Each text is a user's message in the model's chat template."),
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option("--batch", metavar="N", help="Texts per forward pass; default 1."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="A:B", help="Layers A to B-1; default all.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="auto, cpu, cuda or cuda:i; processes of torchrun take a GPU each.",
        ),
    ] = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, bfloat16, float16 or float64.")
    ] = "float32",
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="DTYPE",
            help="Run the first text in this wider type as well, or none; default: float32 where "
            "--dtype has 16 bits, else none.",
        ),
    ] = None,
    device_map: Annotated[
        str | None,
        typer.Option(
            "--device-map", help="auto: spread the model over GPUs, memory and disk; default none."
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that MODEL brings along.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read weights in pickle files, weights only.")
    ] = False,
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
            chat=chat,
            batch=batch,
            layers=layers,
            device=device,
            device_map=device_map,
            dtype=dtype,
            reference=reference,
            lag=lag,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        ),
        out,
    )


def _stage(out: Path) -> int:
    from gpu_check.job import Job, run

    return run(Job(), out, report=False)


COMMAND = Command("check", "The theorems on every head of a real checkpoint.", check, stage=_stage)
