"""The kernels run on a CUDA device where there is one, else in Triton's interpreter."""

import pytest
import torch


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
