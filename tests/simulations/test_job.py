"""The job of `tappa simulate` on experiments of its own: files, verdicts, interrupts, bad input."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations import job
from simulations.experiment import Criterion, Drawn, Experiment, Outcome, Settings
from simulations.schema import validate
from tappa_theory.app.style import COLUMN_WIDTH, new_figure
from tappa_theory.errors import InputError


def criterion(observed: float, proven: bool = False) -> Criterion:
    return Criterion("the number is at most 1", observed, "<=", 1.0, proven)


def outcome(settings: Settings, *criteria: Criterion) -> Outcome:
    numbers = settings.random(7).standard_normal(4)
    return Outcome(
        tables={"numbers": {"place": range(4), "number": numbers, "name": ["a", "b", None, "d"]}},
        criteria=criteria or (criterion(0.5),),
        finding="Four numbers.",
        conditions={"numbers": 4},
        arrays={"square": np.outer(numbers, numbers)},
    )


def draw(outcome: Outcome) -> Drawn:
    figure = new_figure(COLUMN_WIDTH, 1.5)
    figure.add_subplot().plot(outcome.tables["numbers"]["number"])
    return Drawn(figure, "Numbers", "Four of them.", "A line.")


def experiments(**runs) -> dict[str, Experiment]:
    return {
        name: Experiment(name, name.title(), "How many?", run, draw) for name, run in runs.items()
    }


@pytest.fixture
def installed(monkeypatch):
    """Install experiments by their run functions, in this process."""

    def install(**runs):
        found = experiments(**runs)
        monkeypatch.setattr(job, "NAMES", tuple(found))
        monkeypatch.setattr(job, "experiment", lambda name: found[name])
        monkeypatch.setattr(job, "WORKERS", 1)

    return install


def document(folder: Path) -> dict:
    found = json.loads((folder / "simulations.json").read_text())
    validate(found)
    return found


def test_data_figures_and_verdict_are_written(installed, tmp_path, capsys):
    installed(first=outcome, second=lambda settings: outcome(settings, criterion(2.0)))
    assert job.run((), tmp_path, Settings(seed=3)) == 0
    found = document(tmp_path)
    assert (found["verdict"], found["complete"], found["seed"]) == ("holds", True, 3)
    assert found["summary"] == {"met": 1, "not met": 1, "violated": 0}
    assert [entry["verdict"] for entry in found["experiments"]] == ["met", "not met"]
    for entry in found["experiments"]:
        for data in entry["data"]:
            content = (tmp_path / data["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == data["sha256"]
        for name in entry["figures"]:
            for suffix in ("png", "svg", "json"):
                assert (tmp_path / "figures" / f"{name}.{suffix}").stat().st_size
    rows = list(csv.DictReader((tmp_path / "simulations" / "first.numbers.csv").open()))
    expected = Settings(seed=3).random(7).standard_normal(4)
    assert [float(row["number"]) for row in rows] == expected.tolist()
    assert [row["name"] for row in rows] == ["a", "b", "", "d"]
    assert "first: met. Four numbers.\nsecond: not met." in capsys.readouterr().out


def test_the_same_seed_gives_the_same_bytes(installed, tmp_path):
    installed(first=outcome)
    digests = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        job.run((), tmp_path / folder, Settings(seed=seed))
        (entry,) = document(tmp_path / folder)["experiments"]
        digests.append([data["sha256"] for data in entry["data"]])
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


def test_a_missed_proven_criterion_violates(installed, tmp_path):
    installed(first=lambda settings: outcome(settings, criterion(0.5), criterion(1.5, True)))
    assert job.run((), tmp_path) == 1
    assert document(tmp_path)["verdict"] == "violated"


def test_what_is_not_a_number_meets_nothing(installed, tmp_path):
    installed(first=lambda settings: outcome(settings, criterion(float("nan"))))
    assert job.run((), tmp_path) == 0
    (entry,) = document(tmp_path)["experiments"]
    assert entry["verdict"] == "not met"
    assert entry["criteria"][0]["observed"] is None


def test_an_interrupt_leaves_what_is_finished(installed, tmp_path):
    def stopped(settings):
        raise KeyboardInterrupt

    installed(first=outcome, second=stopped)
    with pytest.raises(KeyboardInterrupt):
        job.run((), tmp_path)
    found = document(tmp_path)
    assert not found["complete"]
    assert [entry["name"] for entry in found["experiments"]] == ["first"]


def test_an_earlier_run_leaves_nothing_behind_but_other_figures_stay(installed, tmp_path):
    installed(first=outcome, second=outcome)
    job.run((), tmp_path)
    other = tmp_path / "figures" / "confusion.png"
    other.write_bytes(b"of a check")
    job.run(("second",), tmp_path)
    assert other.exists()
    names = {path.name for path in (tmp_path / "simulations").iterdir()}
    assert names == {"second.numbers.csv", "second.npz"}
    assert not list((tmp_path / "figures").glob("simulation_first*"))
    assert [entry["name"] for entry in document(tmp_path)["experiments"]] == ["second"]


def test_bad_input_is_named_before_anything_is_lost(tmp_path):
    kept = tmp_path / "simulations.json"
    kept.write_text("{}")
    with pytest.raises(InputError, match="experiment 'galery' is unknown; the names are gallery,"):
        job.run(("galery",), tmp_path)
    with pytest.raises(InputError, match="--seed -1 is negative"):
        job.run(("gallery",), tmp_path, Settings(seed=-1))
    with pytest.raises(InputError, match="nothing-here"):
        job.run(("gallery",), tmp_path, Settings(moments=tmp_path / "nothing-here.npz"))
    assert kept.read_text() == "{}"


def test_columns_of_unequal_length_are_no_table():
    with pytest.raises(ValueError, match="table numbers: columns of lengths"):
        replace(outcome(Settings()), tables={"numbers": {"a": [1], "b": [1, 2]}})
    with pytest.raises(ValueError, match="no verdict"):
        replace(outcome(Settings()), criteria=())


def test_every_experiment_is_there_under_its_name():
    for name in job.NAMES:
        found = job.experiment(name)
        assert found.name == name
        assert found.question.endswith("?")
