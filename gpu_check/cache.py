"""Where downloaded and derived model files are kept, and how they get there whole."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import platformdirs
import torch

CACHE_VARIABLE = "TAPPA_CACHE"


class Progress(Protocol):
    """What loading reports to: a description and, where known, done and total (bytes or items).

    A call with neither `done` nor `total` opens a step of unknown length or is a notice.
    """

    def __call__(self, description: str, done: int | None, total: int | None) -> None: ...


def no_progress(description: str, done: int | None, total: int | None) -> None:
    """The progress callback that shows nothing."""


def cache_directory(cache_dir: Path | str | None = None) -> Path:
    """The cache folder: `cache_dir`, else $TAPPA_CACHE, else the user's own for "tappa"."""
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("tappa")


def printable(name: str) -> str:
    """A name that can be written as UTF-8: lone surrogates in it are spelled out, as \\udcff."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def sha256_of_file(path: Path, progress: Progress = no_progress) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits; progress counts bytes."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    done = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)
            done += len(block)
            progress(f"Hashing {path.name}", done, total)
    return digest.hexdigest()


@contextmanager
def staging_directory(parent: Path) -> Iterator[Path]:
    """A fresh folder inside `parent`, removed at the end; what is to stay is moved out of it.

    On the same file system as its destination, so that `publish` is one rename. OSError if
    `parent` cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    # tempfile would make a folder that only its owner can read, and the cache may be shared.
    staging = parent / f".staging-{os.getpid()}-{secrets.token_hex(4)}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def save_safetensors(
    tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file with the permissions of any other new file.

    The library's own are the owner's alone, which a shared cache has no use for.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata=dict(metadata))
    path.chmod(mode)


def publish(staged: Path, destination: Path) -> None:
    """Move a finished file or folder to its place; a folder another process put there first stays.

    OSError if the move fails for any other reason.
    """
    try:
        os.replace(staged, destination)
    except OSError:
        # A folder cannot replace a filled one: a second process has published the same content.
        if not (staged.is_dir() and destination.is_dir()):
            raise
