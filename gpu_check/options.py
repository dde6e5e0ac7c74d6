"""What a check is asked for, and what is wrong with that whatever the model."""

import re
from dataclasses import dataclass
from pathlib import Path

from gpu_check.defaults import DEFAULT_MODEL
from tappa_theory.errors import InputError

BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}


@dataclass(frozen=True)
class Job:
    """What to check, as on the command line; None means the default."""

    model: str = DEFAULT_MODEL
    texts: tuple[Path, ...] = ()
    tokens: int | None = None
    chat: bool = False
    batch: int | None = None
    layers: str | None = None
    device: str = "auto"
    device_map: str | None = None
    dtype: str = "float32"
    reference: str | None = None
    lag: int | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False


def check_options(job: Job, processes: int = 1) -> None:
    """Raise InputError for what is wrong with whatever model: before minutes of loading.

    processes: how many share the check.
    """
    layer_bounds(job.layers)
    for option, value, what in (
        ("--lag", job.lag, "a period"),
        ("--tokens", job.tokens, "a length"),
        ("--batch", job.batch, "a number of texts"),
    ):
        if value is not None and value < 1:
            raise InputError(f"{option} {value} is not {what}; use 1 or more")
    if job.device_map not in (None, "none", "auto"):
        raise InputError(f"--device-map {job.device_map!r}: unknown; use auto or none")
    if job.device_map == "auto" and processes > 1:
        raise InputError(
            "--device-map auto spreads the model over the GPUs of one process; "
            "leave it out, or start tappa without torchrun"
        )
    reference_dtype(job)


def refuse_model_options(job: Job) -> None:
    """Raise InputError for an option that captured queries and keys have no use for."""
    empty = Job()
    for option, given, unused in (
        ("--text", job.texts, empty.texts),
        ("--tokens", job.tokens, empty.tokens),
        ("--chat", job.chat, empty.chat),
        ("--batch", job.batch, empty.batch),
        ("--reference", job.reference, empty.reference),
        ("--device-map", job.device_map, empty.device_map),
        ("--trust-remote-code", job.trust_remote_code, empty.trust_remote_code),
        ("--allow-pickle", job.allow_pickle, empty.allow_pickle),
    ):
        if given != unused:
            raise InputError(f"{option} does not go with captured tensors; leave it out")


def reference_dtype(job: Job) -> str | None:
    """The dtype the first text is run in again: None for none, float32 by default after 16 bits.

    Raises InputError if it is not a wider type than that of the run: only then does it hold the
    same weights.
    """
    if job.reference == "none" or job.dtype not in BITS:
        return None
    if job.reference is None:
        return "float32" if BITS[job.dtype] == 16 else None
    if BITS.get(job.reference, 0) <= BITS[job.dtype]:
        wider = [name for name in BITS if BITS[name] > BITS[job.dtype]]
        raise InputError(
            f"--reference {job.reference!r} is not a wider type than --dtype {job.dtype}; "
            f"use {' or '.join([*wider, 'none'])}"
        )
    return job.reference


def layer_bounds(layers: str | None) -> tuple[int, int | None]:
    """(A, B) of "A:B"; a missing A is 0, a missing B None. Raises InputError if it is not that."""
    match = re.fullmatch(r"(\d*):(\d*)", ":" if layers is None else layers, re.ASCII)
    if match is None:
        raise InputError(f"--layers {layers!r} is not A:B; for example --layers 0:4")
    start, stop = int(match[1] or 0), int(match[2]) if match[2] else None
    if stop is not None and start >= stop:
        raise InputError(f"--layers {layers} holds no layer; layers A to B-1 need A below B")
    return start, stop


def layer_range(layers: str | None, count: int) -> range:
    """range of "A:B" among `count` layers. Raises InputError if it does not lie in them."""
    start, stop = layer_bounds(layers)
    stop = count if stop is None else stop
    if start >= count or stop > count:
        raise InputError(f"--layers {layers} does not lie in the {count} layers; use 0:{count}")
    return range(start, stop)
