"""`kth_largest` against a sorted row."""

import numpy as np
import pytest
import torch

from gpu_check.kernels.kth_largest import LARGEST, kth_largest
from tappa_theory.errors import InputError


def rows_of(kind: str, rows: int, width: int, random: np.random.Generator) -> np.ndarray:
    if kind == "softmax":
        numbers = np.exp(20 * random.standard_normal((rows, width)))
        return numbers / numbers.sum(axis=1, keepdims=True)
    if kind == "ties":
        return random.integers(0, 3, (rows, width)) / 4
    if kind == "zeros":
        return np.zeros((rows, width))
    # every exponent there is, subnormal numbers and infinity included
    bits = random.integers(0, 0x7FF0000000000001, (rows, width))
    return bits.view(np.float64)


@pytest.mark.parametrize("kind", ["softmax", "ties", "zeros", "bits"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 7), (3, 128), (4, 129), (2, 1500)])
def test_it_is_the_number_at_that_place_of_the_sorted_row(kind, rows, width, device):
    random = np.random.default_rng(torch.initial_seed() % 2**32)
    numbers = rows_of(kind, rows, width, random)
    ordered = -np.sort(-numbers, axis=1)
    whole = torch.full((rows, width + 3), 1e300, dtype=torch.float64)  # what lies behind a row
    whole[:, :width] = torch.tensor(numbers)
    given = whole.to(device)[:, :width]
    for counts in (np.ones(rows), np.full(rows, width), random.integers(1, width + 1, rows)):
        places = torch.tensor(counts.astype(np.int64))
        found = kth_largest(given, places.to(device)).cpu().numpy()
        assert np.array_equal(found, ordered[np.arange(rows), places.numpy() - 1])


def test_no_row_is_no_number(device):
    none = torch.zeros(0, 5, dtype=torch.float64, device=device)
    assert kth_largest(none, torch.zeros(0, dtype=torch.int64, device=device)).shape == (0,)


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        (torch.ones(2, 3), torch.ones(2, dtype=torch.int64)),
        (torch.ones(2, 3, dtype=torch.float64), torch.ones(2)),
        (torch.ones(2, 3, dtype=torch.float64), torch.ones(3, dtype=torch.int64)),
        (torch.ones(2, 0, dtype=torch.float64), torch.ones(2, dtype=torch.int64)),
        (torch.ones(2, LARGEST + 1, dtype=torch.float64), torch.ones(2, dtype=torch.int64)),
        (torch.ones(3, 2, dtype=torch.float64).T, torch.ones(2, dtype=torch.int64)),
        (torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.int64)),
    ],
)
def test_other_shapes_and_types_are_refused(numbers, counts):
    with pytest.raises(InputError, match=r"pass \(R, W\) float64"):
        kth_largest(numbers, counts)
