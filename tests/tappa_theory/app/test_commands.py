"""Finding commands by entry point; a broken one leaves the others usable."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from tappa_theory.app.cli import main
from tappa_theory.app.commands import GROUP, Command, installed_commands, load_command, print_error
from tappa_theory.errors import InputError

GOOD = Command("good", "Do good.", lambda: 0)


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("planted_commands")
    module.__dict__.update(COMMAND=GOOD, NUMBER=3)
    monkeypatch.setitem(sys.modules, "planted_commands", module)


def _point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def test_an_entry_point_loads_its_command() -> None:
    assert load_command(_point("good", "planted_commands:COMMAND")) is GOOD


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("gone", "no_such_module:COMMAND", "ModuleNotFoundError"),
        ("empty", "planted_commands:NOTHING", "AttributeError"),
        ("number", "planted_commands:NUMBER", "it is a int, not a Command"),
        ("other", "planted_commands:COMMAND", "it calls itself 'good'"),
    ],
)
def test_an_unusable_entry_point_is_listed_and_told_when_invoked(
    name: str, value: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = load_command(_point(name, value))
    commands = {name: command, "good": GOOD}

    assert main(["--help"], commands) == 0
    assert "Unavailable" in capsys.readouterr().out

    assert main([name, "argument", "--option", "3"], commands) == 2
    _, err = capsys.readouterr()
    assert err.startswith(f"tappa: error: command {name!r} is unavailable")
    assert reason in err
    assert err.count("\n") == 1

    assert command.stage is not None
    with pytest.raises(InputError, match="is unavailable"):
        command.stage(tmp_path)
    assert main(["good"], commands) == 0


def test_run_is_installed() -> None:
    commands = installed_commands()
    assert commands["run"].missing is None
    assert list(commands) == sorted(commands)


def test_an_error_of_several_lines_is_printed_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("first\n  second\tthird")
    assert capsys.readouterr().err == "tappa: error: first second third\n"


def test_an_error_is_one_line_of_printable_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("model \x1b[2Jhidden\nand \udcff: caf\u00e9")
    assert capsys.readouterr().err == (
        "tappa: error: model \\x1b[2Jhidden and \\udcff: caf\u00e9\n"
    )
