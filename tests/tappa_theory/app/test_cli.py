"""The command line: exit codes, one line per error, nothing heavy imported for help."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import pytest
import typer

from tappa_theory.app.cli import main
from tappa_theory.app.commands import Command
from tappa_theory.errors import InputError


def _work(
    model: str, tokens: Annotated[int, typer.Option("--tokens", help="How many.")] = 0
) -> int | None:
    if model == "bad":
        raise InputError("no model 'bad';\nname another")
    if model == "interrupt":
        raise KeyboardInterrupt
    if model == "none":
        return None
    return tokens


COMMANDS = {"work": Command("work", "Do the work.", _work)}


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def _tappa(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tappa_theory.app", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["x"], 0), (["x", "--tokens", "0"], 0), (["x", "--tokens", "1"], 1), (["none"], 0)],
)
def test_the_exit_code_is_what_the_function_returns(arguments: list[str], code: int) -> None:
    assert main(["work", *arguments], COMMANDS) == code


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["work", "bad"], "no model 'bad'; name another"),
        (["work"], "model"),
        (["work", "x", "--tokens", "many"], "--tokens"),
        (["work", "x", "--wrong"], "--wrong"),
        (["--wrong"], "--wrong"),
        (["wrok"], "no command 'wrok'; the commands are: work"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, COMMANDS) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tappa: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert names in err


def test_keyboard_interrupt_is_one_line_and_exit_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["work", "interrupt"], COMMANDS) == 130
    assert capsys.readouterr() == ("", "tappa: interrupted\n")


def test_a_defect_is_not_passed_off_as_bad_input() -> None:
    def fail() -> int:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        main(["fail"], {"fail": Command("fail", "Fail.", fail), **COMMANDS})


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], COMMANDS) == 0
    out, err = capsys.readouterr()
    assert "Do the work." in out
    assert err == ""


def test_version_help_and_unknown_command_in_a_process_of_their_own() -> None:
    shown = _tappa("--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"tappa {version('tappa')}\n", "")
    helped = _tappa("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "run" in helped.stdout
    unknown = _tappa("wrok")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("tappa: error: no command 'wrok'")
    assert unknown.stderr.count("\n") == 1


def test_the_installed_script_is_the_same_program() -> None:
    script = Path(sys.executable).with_name("tappa")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert shown.stdout == f"tappa {version('tappa')}\n"


def test_help_imports_nothing_heavy() -> None:
    done = _run(
        "import sys\n"
        "from tappa_theory.app.cli import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'sympy', 'scipy', 'numpy', 'matplotlib', 'pyarrow'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def test_ctrl_c_ends_the_process_with_130_and_no_traceback() -> None:
    code = (
        "import signal, sys, time\n"
        # A process started in the background may have inherited an ignored SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tappa_theory.app.cli import main\n"
        "from tappa_theory.app.commands import Command\n"
        "def wait() -> int:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(30)\n"
        "sys.exit(main(['wait'], {'wait': Command('wait', 'Wait.', wait)}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "tappa: interrupted\n")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_closed_pipe_leaves_no_traceback(option: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "tappa_theory.app", option],
        stdout=writer,
        stderr=subprocess.PIPE,
        # Only buffered output reaches the pipe as late as the exit of the interpreter.
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (1, "")
