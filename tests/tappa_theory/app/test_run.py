"""`tappa run`: order of stages, worst exit code, the report."""

from pathlib import Path

import pytest

from tappa_theory.app.cli import main
from tappa_theory.app.commands import Command
from tappa_theory.app.run import COMMAND, run_stages
from tappa_theory.errors import InputError


class Log:
    """Stages and a report that note when they run."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Path]] = []

    def stage(self, name: str, code: int | None) -> Command:
        def stage(out: Path) -> int:
            self.entries.append((name, out))
            if code is None:
                raise InputError("bad\nmodel")
            return code

        return Command(name, name, lambda: 0, stage)

    def write_report(self, out: Path) -> None:
        self.entries.append(("report", out))


def test_stages_run_in_order_and_the_report_comes_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    commands = {name: log.stage(name, 0) for name in ("check", "simulate", "prove")}
    assert run_stages(commands, tmp_path, log.write_report) == 0
    assert log.entries == [(n, tmp_path) for n in ("prove", "simulate", "check", "report")]
    assert capsys.readouterr().out == f"report: {tmp_path / 'report.html'}\n"


def test_a_missing_stage_is_named_and_not_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    assert run_stages({"check": log.stage("check", 0)}, tmp_path, log.write_report) == 0
    out = capsys.readouterr().out
    assert "prove: not installed, skipped\n" in out
    assert "simulate: not installed, skipped\n" in out
    assert "check: not installed" not in out


@pytest.mark.parametrize(
    ("prove", "check", "worst"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, None, 2), (None, 0, 2)]
)
def test_the_exit_code_is_the_worst_of_the_stages(
    prove: int | None, check: int | None, worst: int, tmp_path: Path
) -> None:
    log = Log()
    commands = {"prove": log.stage("prove", prove), "check": log.stage("check", check)}
    assert run_stages(commands, tmp_path, log.write_report) == worst
    assert [name for name, _ in log.entries] == ["prove", "check", "report"]


def test_without_any_result_there_is_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    assert run_stages({"check": log.stage("check", None)}, tmp_path, log.write_report) == 2
    assert log.entries == [("check", tmp_path)]
    assert capsys.readouterr().err == "tappa: error: check: bad model\n"


def test_without_any_stage_the_input_is_bad(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stage is installed"):
        run_stages({}, tmp_path, Log().write_report)


def test_an_interrupt_ends_the_run(tmp_path: Path) -> None:
    log = Log()

    def interrupted(out: Path) -> int:
        raise KeyboardInterrupt

    commands = {
        "prove": Command("prove", "prove", lambda: 0, interrupted),
        "check": log.stage("check", 0),
    }
    with pytest.raises(KeyboardInterrupt):
        run_stages(commands, tmp_path, log.write_report)
    assert log.entries == []


def test_a_bad_output_folder_ends_the_run_before_any_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "file"
    taken.write_text("mine")
    assert main(["run", "--out", str(taken)], {"run": COMMAND}) == 2
    assert "is a file" in capsys.readouterr().err
    assert taken.read_text() == "mine"
