"""Progress: plain lines in a log, a bar on a terminal, stdout untouched by both."""

import os
import pty
import re
import subprocess
import sys

import pytest

from tappa_theory.app import progress
from tappa_theory.app.progress import duration, progress_bar, progress_reports


def test_a_log_gets_one_line_at_start_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Layers", 3) as bar:
        assert capsys.readouterr() == ("", "Layers ...\n")
        bar.advance()
        bar.advance()
        assert capsys.readouterr() == ("", "")
        bar.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"Layers: done in \d+\.\d s\n", err)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that progress reads off the clock; set its only entry."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_long_run_tells_a_log_every_30_seconds_how_much_is_left(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with progress_bar("Heads", 1000) as bar:
        for _ in range(1000):
            clock[0] += 0.5
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Heads ..."
    assert lines[1] == "Heads: 6%, about 7 min 50 s left"  # 30 s for 60 of 1,000
    assert lines[2] == "Heads: 12%, about 7 min 20 s left"
    assert lines[-1] == "Heads: done in 500.0 s"
    assert len(lines) == 2 + 16  # at 30, 60, ... 480 s


def test_slow_steps_are_told_one_by_one(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with progress_bar("Heads", 3) as bar:
        clock[0] += 29
        bar.advance()
        assert capsys.readouterr().err == "Heads ...\n"
        clock[0] += 3600
        bar.advance()
        assert capsys.readouterr().err == "Heads: 67%, about 30 min 14 s left\n"


def test_steps_before_the_first_is_done_or_of_an_unknown_number_tell_nothing(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with progress_reports() as report:
        for part, total in (("Download", None), ("Heads", 3)):
            report(part, 0, total)
            clock[0] += 60
            report(part, 0 if total else 5, total)
    assert capsys.readouterr().err == "Download ...\nHeads ...\n"


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (3600 * 30 + 61, "30 h 01 min"),
    ],
)
def test_a_duration_has_two_units(seconds: float, says: str) -> None:
    assert duration(seconds) == says


def test_unfinished_work_is_not_called_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress_bar("Layers", 3) as bar:
        bar.advance(2)
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "Layers ...\n"


def test_reports_of_several_parts_get_lines_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_reports() as report:
        for part in ("Download", "Loading"):
            report(part, 0, None)
            report(part, 5, 10)
            report(part, 10, 10)
            report(part, 10, 10)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        "Download ...",
        "Download: done",
        "Loading ...",
        "Loading: done",
    ]


def test_a_terminal_gets_a_bar() -> None:
    code = (
        "from tappa_theory.app.progress import progress_bar\n"
        "with progress_bar('Layers [bold]', 4) as bar:\n"
        "    bar.advance()\n"
        "    bar.advance(3)\n"
    )
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        timeout=60,
    )
    os.close(follower)
    shown = os.read(leader, 100_000).decode()
    os.close(leader)
    assert (done.returncode, done.stdout) == (0, b"")
    for piece in ("Layers [bold]", "100%", "elapsed", "remaining"):
        assert piece in shown
    assert "done in" not in shown
