"""What is launched ahead of a check is all that the check launches."""

import pytest
import torch

from gpu_check import check
from gpu_check.check import Checker
from gpu_check.kernels import shift_check, warm_up
from gpu_check.visibility import Visibility
from tappa_theory.rope import Rope

SIZE, LENGTH = 64, 200


class Recorded:
    """Notes the compile-time constants of every launch."""

    def __init__(self, kernel, seen):
        self.kernel, self.seen = kernel, seen

    def __getitem__(self, grid):
        def launch(*args, **constants):
            self.seen.add(tuple(sorted(constants.items())))
            return self.kernel[grid](*args, **constants)

        return launch


@pytest.fixture
def launched(monkeypatch):
    """The constants of the launches since it was cleared; layers are measured as on a GPU."""
    seen: set = set()
    recorded = Recorded(shift_check._shift_check, seen)
    monkeypatch.setattr(shift_check, "_shift_check", recorded)
    monkeypatch.setattr(check, "_together", lambda device: True)
    return seen


@pytest.mark.parametrize("window", [None, 120])
def test_no_other_kernel_is_launched_later(window, launched, device):
    warm_up.check_random(SIZE, torch.device(device), None if window is None else 128)
    ahead = set(launched)
    launched.clear()
    generator = torch.Generator().manual_seed(7)
    queries, keys = (torch.randn(n, LENGTH, SIZE, generator=generator).to(device) for n in (4, 2))
    rope = Rope.from_parameters(SIZE, {"rope_type": "default", "rope_theta": 500.0})
    checker = Checker(threads=2)
    visibility = Visibility(LENGTH, window)
    checker.add_layer(0, queries, keys, rope, scale=0.25, visibility=visibility)
    assert all(each.applicable for each in checker.result.heads[0].theorems.values())
    assert len(launched) >= 3
    assert launched <= ahead


def test_nothing_happens_without_a_gpu(launched):
    warm_up.warm_up(SIZE, "cpu")
    assert not launched


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_it_runs_in_a_thread(launched):
    from concurrent.futures import ThreadPoolExecutor

    for window in (None, warm_up.TOKENS // 2):
        warm_up.check_random(SIZE, torch.device("cuda"), window)
    expected = set(launched)
    launched.clear()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(warm_up.warm_up, SIZE, "cuda", windows=(None, 512)).result()
    assert launched == expected


@pytest.mark.parametrize(("heads", "length"), [(1, 700), (9, 8192), (32, 8192), (32, 16384)])
def test_blocks_of_all_their_widths_are_foreseen(heads, length, monkeypatch):
    from gpu_check import attention

    gpu = torch.device("cuda")
    monkeypatch.setattr(attention, "CELLS", 2**22)
    together = attention.heads_together(length, gpu)
    seen = set()
    for start in range(0, heads, together):
        size = attention.rows_of_block(length, gpu, min(heads - start, together))
        seen |= {min(begin + size, length) for begin in range(0, length, size)}
    assert warm_up.block_widths(heads, length, gpu) == sorted(
        width for width in seen if width <= warm_up.LARGEST
    )
