"""The kernels run on a CUDA device where there is one, else in Triton's interpreter."""

import os

import pytest
import torch

# Read when a kernel is defined, so before any is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
