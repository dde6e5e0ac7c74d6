"""`tappa prove` at the command line: files, exit codes, bad input, interrupts."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from proofs.ledger import job, ledger
from proofs.ledger.command import COMMAND
from proofs.ledger.schema import validate
from tappa_theory.app.cli import main
from tappa_theory.app.commands import installed_commands
from tappa_theory.theorems import THEOREMS


@pytest.fixture
def prove(monkeypatch, capsys, tmp_path):
    """Run `tappa prove` in this process; exit code, stdout, stderr."""
    monkeypatch.setattr(job, "prove", partial(ledger.prove, workers=1))

    def run(*arguments, out=tmp_path / "out"):
        code = main(["prove", *arguments, "--out", str(out)], {"prove": COMMAND})
        return code, *capsys.readouterr()

    return run


def test_it_is_installed_as_a_stage():
    command = installed_commands()["prove"]
    assert (command.missing, command.stage is None) == (None, False)


def test_a_named_theorem_is_printed_with_every_step(prove, tiny_proof, tmp_path, monkeypatch):
    tiny_proof()
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = prove("shift_bound")
    assert code == 0, err
    document = json.loads((tmp_path / "out/ledger.json").read_text("utf-8"))
    validate(document)
    assert [entry["id"] for entry in document["theorems"]] == ["shift_bound"]
    assert "## Shift bound" in (tmp_path / "out/ledger.md").read_text("utf-8")
    assert max(map(len, out.splitlines())) <= 100
    assert out.endswith("attacks withstood\nledger: decided\n")
    for claim in document["theorems"][0]["claims"]:
        assert f"\n{claim['id']} (" in out


def test_an_unknown_theorem_is_answered_with_the_ids(prove, tmp_path):
    code, out, err = prove("nonsense")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert all(name in err for name in THEOREMS)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to(prove, tmp_path):
    taken = tmp_path / "file"
    taken.write_text("mine")
    for folder in (taken, taken / "below", "/proc/nowhere"):
        code, out, err = prove("shift_bound", out=folder)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert str(folder) in err
    assert taken.read_text() == "mine"


@pytest.mark.parametrize(
    ("module", "package", "claims"),
    [("z3", "z3-solver", {"whole", "square", "again"}), ("flint", "python-flint", {"balls"})],
)
def test_without_a_prover_nothing_that_needs_it_is_proved(
    prove, tiny_proof, tmp_path, monkeypatch, module, package, claims
):
    tiny_proof()
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = prove("shift_bound")
    assert code == 1
    (entry,) = json.loads((tmp_path / "out/ledger.json").read_text("utf-8"))["theorems"]
    assert entry["status"] == "open"
    missing, undecided = entry["open_because"][:2]
    assert missing.endswith(f"is missing; run: pip install {package}")
    before, _, named = undecided.partition(": ")
    assert before == "without it these claims are not decided"
    assert claims <= set(named.split(", "))
    assert not {claim["id"] for claim in entry["claims"]} & set(named.split(", "))
    assert err.splitlines()[-1] == f"tappa: error: shift_bound: {missing}"
    assert "ledger: open" in out


def processes_of(group):
    """Commands of the living processes of a process group."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                state, _, in_group = file.read().rpartition(")")[2].split()[:3]
            if int(in_group) == group and state != "Z":
                found.append(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads processes from /proc")
def test_an_interrupt_leaves_valid_files_and_no_process(tmp_path):
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "tappa_theory.app", "prove", "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stderr.readline() == "proofs ...\n"
        # Until the helpers are there: they must end too.
        deadline = time.monotonic() + 60
        while len(processes_of(running.pid)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(processes_of(running.pid)) >= 3
        os.killpg(running.pid, signal.SIGINT)
        printed, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert (printed, told) == ("", "tappa: interrupted\n")
    document = json.loads((out / "ledger.json").read_text("utf-8"))
    validate(document)
    assert (document["complete"], document["verdict"]) == (False, "open")
    assert [entry["id"] for entry in document["theorems"]] == list(THEOREMS)
    deadline = time.monotonic() + 10
    while processes_of(running.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(running.pid) == []


def test_an_interrupt_between_two_results_ends_the_helpers_at_once():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as held:  # the exception keeps its frames alive
        ledger.prove(("typical_case", "kv_reuse"), workers=2, begin=lambda parts: interrupted)
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert multiprocessing.active_children() == []
    assert held.traceback
