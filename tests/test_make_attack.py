"""`make attack` on tests of its own: rounds, the tally, counterexamples kept and replayed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFTEST = """
import os
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
OTHER = dict(
    derandomize=False,
    database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("thorough", max_examples=200, **OTHER)
settings.register_profile("dev", max_examples=1, **OTHER)
settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])
"""
TESTS = """
import pytest
from hypothesis import given, target
from hypothesis import strategies as st

@pytest.mark.parametrize("limit", [100_000, {limit}], ids=["wide.one", "tight.two"])
@given(data=st.data())
def test_numbers(limit, data):
    number = data.draw(st.integers(0, 65_536))
    target(number / limit)
    assert number <= limit, f"{{number}} is above {{limit}}"

def test_no_property():
    raise AssertionError("not a property test")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    return tmp_path


def run(folder: Path, *command: str, profile: str = "thorough") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=_environment(profile),
        capture_output=True,
        text=True,
        timeout=120,
    )


def _environment(profile: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HYPOTHESIS_PROFILE": profile}


def test_a_counterexample_ends_the_attack_and_comes_first_from_then_on(folder):
    (folder / "test_it.py").write_text(TESTS.format(limit=1000))
    found = run(folder, "tests.attack", "--minutes", "2", "test_it.py")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "1 rounds begun" in found.stdout
    assert "COUNTEREXAMPLE test_it.py::test_numbers[tight.two]" in found.stdout
    assert "AssertionError: 1001 is above 1000" in found.stdout
    assert (folder / ".hypothesis/examples").is_dir()
    # one example is all that it takes
    again = run(folder, "pytest", "-q", "test_it.py::test_numbers", profile="dev")
    assert again.returncode == 1
    assert "1001 is above 1000" in again.stdout


def test_rounds_go_on_until_the_time_is_up(folder):
    (folder / "test_it.py").write_text(TESTS.format(limit=200_000))
    found = run(folder, "tests.attack", "--minutes", "0.05", "test_it.py")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "no counterexample" in found.stdout
    tally = found.stdout.partition("rounds begun")[2]
    # the largest number that is drawn, against the limit of each
    assert "0.655360000  wide" in tally
    assert "0.327680000  tight" in tally
    assert "test_it.py::test_numbers" in tally
    assert "test_no_property" not in tally


def test_no_such_tests(folder):
    found = run(folder, "tests.attack", "nowhere.py")
    assert found.returncode == 2
    assert "could not be run" in found.stdout
    assert "no counterexample" not in found.stdout


@pytest.mark.skipif(os.name != "posix", reason="sends the signal of Ctrl-C")
def test_an_interrupt_ends_it_with_the_tally(folder):
    (folder / "test_it.py").write_text(TESTS.format(limit=200_000))
    attack = subprocess.Popen(
        [sys.executable, "-m", "tests.attack", "--minutes", "5", "test_it.py"],
        cwd=folder,
        env=_environment("thorough"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert attack.stdout is not None
    begun = attack.stdout.readline()  # the first round is over
    time.sleep(0.5)
    told = _interrupted(attack)
    assert "passed" in begun or begun.startswith(".")
    assert attack.returncode == 130, told
    assert "rounds begun" in told
    assert "COUNTEREXAMPLE" not in told


def _interrupted(process: subprocess.Popen) -> str:
    """Its output after Ctrl-C, pressed again if Python drops it, as it does in a finaliser."""
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=15)[0]
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    raise AssertionError("five interrupts did not end it")
