"""Safe file writing: a file is there whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tappa_theory.errors import InputError


def output_folder(path: Path | str) -> Path:
    """Return `path` as a folder that exists and can be written to, creating it if need be.

    Raises InputError if it is a file, lies below a file, or cannot be created or written to.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output folder {folder} is a file; name a folder, for example with --out")
    probe = folder / f".tappa-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits do not tell (root, read-only mounts, full disks): only writing does.
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"output folder {folder} cannot be written to ({_reason(error)}); "
            "name another folder, for example with --out"
        ) from error
    return folder


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, else remove it.

    The temporary path keeps the suffix, from which writers choose their format. The block must
    create the file. On any exception, KeyboardInterrupt included, an older `path` stays as it was.
    Raises InputError if the folder is missing or the file cannot be put in place.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: no folder {target.parent}; create it first")
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield temporary
        _rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomic(path: Path | str, text: str) -> Path:
    """Write `text` as UTF-8 with Unix line ends, whole or not at all, and return the path.

    Raises InputError if the file cannot be written.
    """
    target = Path(path)
    with atomic_path(target) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise _cannot_write(target, error) from error
    return target


def write_json(path: Path | str, data: Any) -> Path:
    """Write `data` as indented JSON, whole or not at all, and return the path.

    numpy and torch scalars and arrays become numbers and lists. JSON has no NaN and no infinity:
    ValueError names the place of the first one. Raises TypeError on other types that JSON lacks,
    InputError if the file cannot be written.
    """
    plain = _plain(data, "data")
    return write_text_atomic(path, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path | str, columns: Mapping[str, Sequence[Any]]) -> Path:
    """Write columns of equal length as CSV with a header, whole or not at all; return the path.

    Numbers are written in full (the shortest decimal that reads back as the same float), so equal
    data give equal bytes; None is an empty cell. Raises ValueError on NaN, infinity or unequal
    lengths, TypeError on what is neither number, string nor None, InputError if the file cannot be
    written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    cells = [[_cell(value, name) for value in column] for name, column in columns.items()]
    writer.writerows(zip(*cells, strict=True))
    return write_text_atomic(path, text.getvalue())


def _cell(value: Any, column: str) -> str:
    plain = _plain(value, column)
    if isinstance(plain, list | dict):
        raise TypeError(f"column {column} holds a {type(value).__name__}, not a single value")
    if plain is None:
        return ""
    return repr(plain) if isinstance(plain, float) else str(plain)


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, dict):
        return {_key(key, place): _plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {float(value)}; write null where no number applies")
        return float(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), place)
    raise TypeError(f"{place} is a {type(value).__name__}, which JSON cannot hold")


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{place} has the key {key!r}; JSON keys are strings")
    return key


def _rename(temporary: Path, target: Path) -> None:
    if not temporary.exists():
        raise FileNotFoundError(f"nothing was written for {target}")
    try:
        os.replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error


def _cannot_write(target: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {target} ({_reason(error)}); name another folder")


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
