"""Hypothesis profiles, the tests that need a CUDA device, and Triton's interpreter without one."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

# Triton reads it when it is imported, which other libraries may do.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Said, not inherited: where CI is set, Hypothesis' own defaults repeat the same examples and keep
# none.
_OTHER = {
    "derandomize": False,
    "database": DirectoryBasedExampleDatabase(".hypothesis/examples"),
    "deadline": None,
    "print_blob": True,
}
# The default: deterministic, for a red test must be red again at the next run.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
# While writing code: few examples, other ones at every run, and those that failed before.
settings.register_profile("dev", max_examples=10, **_OTHER)
# `make attack`: many examples, other ones at every run.
settings.register_profile(
    "thorough",
    max_examples=1000,
    **_OTHER,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if torch.cuda.is_available():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))
