"""Safe file writing: a file is there whole or not at all, and errors name the remedy."""

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tappa_theory.app.files import (
    atomic_path,
    output_folder,
    write_csv,
    write_json,
    write_text_atomic,
)
from tappa_theory.errors import InputError


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_output_folder_is_created_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert output_folder(folder) == folder
    assert _names(folder) == []
    assert output_folder(str(folder)) == folder


def test_output_folder_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}")
    output_folder(tmp_path)
    assert _names(tmp_path) == ["old.json"]


def test_output_folder_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(InputError, match="is a file; name a folder"):
        output_folder(path)
    assert path.read_text() == "mine"


def test_output_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"cannot be written to \(Not a directory\)"):
        output_folder(tmp_path / "file" / "out")


def test_output_folder_that_refuses_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, data: bytes) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError, match="Read-only file system"):
        output_folder(tmp_path)


def test_text_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    write_text_atomic(path, "old\n")
    assert write_text_atomic(path, "θ = 1\n") == path
    assert path.read_bytes() == "θ = 1\n".encode()
    assert _names(tmp_path) == ["text.md"]


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        path = write_text_atomic(tmp_path / "text.md", "text")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    failure: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "data.parquet"
    path.write_text("old")
    with pytest.raises(failure), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["data.parquet"]


def test_the_old_file_stands_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_text("old")
    with atomic_path(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert _names(tmp_path) == ["figure.png"]


def test_a_block_that_writes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing was written"), atomic_path(tmp_path / "x"):
        pass


def test_a_missing_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        write_text_atomic(tmp_path / "none" / "text.md", "text")


def test_a_folder_in_place_of_the_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "text.md").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_text_atomic(tmp_path / "text.md", "text")
    assert _names(tmp_path) == ["text.md"]


def test_a_full_disk_is_bad_input_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_text_atomic(tmp_path / "text.md", "old")

    def fill(self: Path, text: str, **_: object) -> int:
        self.write_bytes(text[:2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(InputError, match="No space left on device"):
        write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["text.md"]


def test_json_holds_numpy_and_torch_values(tmp_path: Path) -> None:
    data = {
        "float": np.float32(0.5),
        "double": np.float64(0.1),
        "int": np.int64(3),
        "bool": np.bool_(True),
        "array": np.arange(3),
        "tensor": torch.tensor([[1.0, 2.0]]),
        "pair": (1, None),
        "text": "κ",
    }
    text = write_json(tmp_path / "data.json", data).read_text(encoding="utf-8")
    assert json.loads(text) == {
        "float": 0.5,
        "double": 0.1,
        "int": 3,
        "bool": True,
        "array": [0, 1, 2],
        "tensor": [[1.0, 2.0]],
        "pair": [1, None],
        "text": "κ",
    }
    assert "κ" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float64("nan"), np.float32("-inf")])
def test_json_refuses_what_is_not_finite_and_names_the_place(value: float, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"data\.heads\[1\]\.kappa is (nan|inf|-inf); write null"):
        write_json(path, {"heads": [{"kappa": 1.0}, {"kappa": value}]})
    with pytest.raises(ValueError, match=r"data\.q\[1\]"):
        write_json(path, {"q": np.array([0.0, value])})
    assert path.read_text() == "{}"
    assert _names(tmp_path) == ["data.json"]


def test_json_refuses_other_types_and_keys(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"data\.x is a set"):
        write_json(tmp_path / "data.json", {"x": {1}})
    with pytest.raises(TypeError, match="has the key 3"):
        write_json(tmp_path / "data.json", {3: 1})
    assert _names(tmp_path) == []


def test_csv_reads_back_as_written(tmp_path: Path) -> None:
    columns = {"name": ["a,b", None], "number": np.array([0.1, 1e-300]), "count": [1, True]}
    path = write_csv(tmp_path / "table.csv", columns)
    assert path.read_bytes() == b'name,number,count\n"a,b",0.1,1\n,1e-300,True\n'


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ({"a": [float("nan")]}, "a is nan"),
        ({"a": [1], "b": [1, 2]}, "shorter|longer"),
        ({"a": [[1]]}, "column a holds a list"),
        ({"a": [object()]}, "a is a object"),
    ],
)
def test_csv_refuses_what_a_table_cannot_hold(tmp_path: Path, columns: dict, error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        write_csv(tmp_path / "table.csv", columns)
    assert not list(tmp_path.iterdir())
