"""`make attack`: the property tests again and again, other examples every time, for some minutes.

A round is one run of the property tests under the profile "thorough". The attack ends when the time
is up, or at the first counterexample, which Hypothesis keeps in .hypothesis/examples.
"""

import argparse
import os
import random
import re
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import pytest

TESTS = ("tests/simulations",)
"""The theorems' bounds and the laws of RoPE."""
STATISTICS = "hypothesis statistics"
UNTIL = "TAPPA_ATTACK_UNTIL"
ORDER = "TAPPA_ATTACK_ORDER"
"""Environment variables, for every process of the attack: the time.time() at which it ends, and the
seed of this round's order of tests."""
_SCORE = re.compile(r"^(?:  - Highest target score:)? +(\S+)  \(label=", re.MULTILINE)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator:
    """Send what Hypothesis counted along with the report, also from another process."""
    report = (yield).get_result()
    counted = getattr(item, "hypothesis_statistics", None)
    if counted is not None and report.when == "call":
        report.user_properties.append((STATISTICS, counted))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Another order in every round: a short attack does not always try the same tests."""
    random.Random(os.environ[ORDER]).shuffle(items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """No test begins when the time is up."""
    if time.time() > float(os.environ[UNTIL]):
        pytest.skip("the time is up")


@dataclass
class Tally:
    """What was tried and found: a pytest plugin that hears of every test.

    examples: by test function. scores: largest value of `target()`, by test function and what
    stands before the first dot of its parameters. failures: message of each failed test.
    """

    rounds: int = 0
    examples: dict[str, int] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = str(crash.message if crash else report.longrepr)
            # Ctrl-C inside a test is no counterexample, whatever took it for a failure.
            if "KeyboardInterrupt" in report.longreprtext:
                self.interrupted = True
            else:
                self.failures[report.nodeid] = message
        for name, counted in report.user_properties if report.when == "call" else ():
            if name == STATISTICS:
                self._count(report.nodeid, str(counted))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo) -> None:
        # pytest's own way of stopping at a failure is a kind of KeyboardInterrupt, too
        self.interrupted = excinfo.type is KeyboardInterrupt

    def _count(self, test: str, counted: str) -> None:
        function, _, parameters = test.partition("[")
        valid = sum(map(int, re.findall(r"(\d+) passing", counted)))
        self.examples[function] = self.examples.get(function, 0) + valid
        label = re.split(r"[.\]]", parameters)[0] or function.rpartition("::")[2]
        for score in _SCORE.findall(counted):
            self.scores[label] = max(self.scores.get(label, float("-inf")), float(score))

    def __str__(self) -> str:
        lines = [f"{self.rounds} rounds begun, {sum(self.examples.values())} examples:"]
        lines += [f"{count:12}  {test}" for test, count in sorted(self.examples.items())]
        if self.scores:
            lines.append("largest ratio of what was observed to what is allowed:")
            ordered = sorted(self.scores.items(), key=lambda scored: -scored[1])
            lines += [f"{score:12.9f}  {label}" for label, score in ordered]
        for test, message in self.failures.items():
            lines += [
                f"COUNTEREXAMPLE {test}",
                f"  {message.splitlines()[0] if message else 'no message'}",
                "  kept in .hypothesis/examples; tried first by",
                f"  HYPOTHESIS_PROFILE=dev {sys.executable} -m pytest '{test}'",
            ]
        if self.examples and not self.failures:
            lines.append("no counterexample")
        return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 nothing found, 1 a counterexample, 2 no such tests, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: this one)")
    parser.add_argument("tests", nargs="*", default=TESTS)
    given = parser.parse_args(arguments)
    os.environ["HYPOTHESIS_PROFILE"] = "thorough"
    options = ["-q", "-x", "--no-header", "-m", "hypothesis", "-p", "tests.attack"]
    if given.jobs:
        options += ["-n", str(given.jobs)]
    tally, code = Tally(), 0
    until = time.time() + 60 * given.minutes
    os.environ[UNTIL] = str(until)
    try:
        while time.time() < until and code == pytest.ExitCode.OK:
            tally.rounds += 1
            os.environ[ORDER] = f"{until}, {tally.rounds}"
            code = pytest.main([*options, *given.tests], plugins=[tally])
    except KeyboardInterrupt:
        # between two rounds, or while tests are imported
        tally.interrupted = True
    print(tally)
    if tally.failures:
        return 1
    if tally.interrupted:
        return 130
    if code != pytest.ExitCode.OK:
        print("attack: these tests could not be run; pytest told above what is wrong with them")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
