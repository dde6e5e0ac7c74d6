"""Progress: plain lines in a log, a bar on a terminal, stdout untouched by both."""

import os
import pty
import re
import subprocess
import sys

import pytest

from tappa_theory.app.progress import progress_bar, progress_reports


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
