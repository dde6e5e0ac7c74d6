"""Work in several processes. Ctrl-C is tested where it is used (tests/proofs/test_job.py)."""

import os

import pytest

from tappa_theory.app.parallel import results


@pytest.mark.parametrize("workers", [1, 2])
def test_every_part_comes_with_its_result(workers):
    with results(abs, [-3, -2, 5], workers) as found:
        assert sorted(found) == [(-3, 3), (-2, 2), (5, 5)]


@pytest.mark.parametrize(("set_by_user", "seen"), [(None, "1"), ("3", "3")])
def test_processes_have_one_thread_each_unless_the_user_says_otherwise(
    monkeypatch, set_by_user, seen
):
    name = "OMP_NUM_THREADS"
    monkeypatch.delenv(name, raising=False)
    if set_by_user is not None:
        monkeypatch.setenv(name, set_by_user)
    with results(os.getenv, [name, "PATH"], 2) as found:
        assert dict(found)[name] == seen
    assert os.environ.get(name) == set_by_user


def test_an_error_in_a_part_reaches_the_caller():
    with pytest.raises(TypeError), results(abs, ["a", "b"], 2) as found:
        list(found)
