"""Several processes that share a check: the same bits as one, and how they end together."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpu_check.captured_tensors import save_captured_tensors
from gpu_check.check import Checker
from gpu_check.distributed import ALONE, World, _own_device, digest, joined
from gpu_check.schema import validate
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

ROPE = {"head_dim": 8, "rope_type": "default", "rope_theta": 10000.0}
LAYERS, HEADS, TOKENS = 3, 3, 140
"""Nine units: two processes have five and four."""
TIMES = ("started", "seconds", "threads", "processes", "device")
"""What the environment says of a run besides its results; the processes share the threads."""
FILES = ("check.json", "heads.parquet", "exemplars.npz", "moments.npz")

DRIVER = """
import contextlib, json, os, sys, time
from gpu_check import job, sources
from gpu_check.check import Checker
from gpu_check.distributed import joined
from tappa_theory.app.cli import main
from tappa_theory.errors import InputError
job._figures = lambda folder, report: None  # they take longer than the check
rank, original, codes = os.environ.get("RANK", "0"), Checker.add_layer, []
usual = sources.ROUND
with joined(sys.argv[3]) as world:
    job.joined = lambda device: contextlib.nullcontext(world)
    for arguments, plant in json.loads(sys.argv[1]):
        Checker.add_layer, sources.ROUND = original, usual
        exec(plant)
        codes.append(main(arguments))
        if rank == "0":
            print("== end of a run", file=sys.stderr, flush=True)
with open(sys.argv[2] + rank, "w") as file:
    json.dump(codes, file)
"""
"""Runs of `tappa` one after another in processes joined once, each after code planted for it."""


@dataclass(frozen=True)
class Run:
    """What a run left: the exit code of each process, and what the first one said on stderr."""

    codes: list[int]
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("tappa: ")]


Runs = dict[str, tuple[list[object], str]]
"""By name: the arguments of `tappa check` without --out, and the code planted before."""


def environment() -> dict[str, str]:
    # One thread each: the sums of a forward pass on the CPU depend on their number.
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@contextmanager
def started(folder: Path, processes: int, runs: Runs, device: str = "cpu") -> Iterator[Any]:
    """The processes at these runs, which write into folders of the run's name; none stays."""
    (folder / "driver.py").write_text(DRIVER)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    told = [
        ([*map(str, ["check", *arguments, "--out", folder / name])], plant)
        for name, (arguments, plant) in runs.items()
    ]
    command = [sys.executable, *(launcher if processes > 1 else []), str(folder / "driver.py")]
    process = subprocess.Popen(
        [*command, json.dumps(told), str(folder / "codes"), device],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        yield process
    finally:
        process.terminate()  # the launcher ends its processes
        process.communicate()


def finished(folder: Path, processes: int, runs: Runs, device: str = "cpu") -> dict[str, Run]:
    """What the runs left, by name."""
    with started(folder, processes, runs, device) as process:
        _, err = process.communicate(timeout=240)
    each_said = err.split("== end of a run\n")
    assert len(each_said) == len(runs) + 1, err
    codes = [json.loads((folder / f"codes{rank}").read_text()) for rank in range(processes)]
    return {
        name: Run([of_rank[index] for of_rank in codes], each_said[index])
        for index, name in enumerate(runs)
    }


def vectors(heads: int, seed: int) -> torch.Tensor:
    return 3 * torch.randn(heads, TOKENS, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def captured(tmp_path_factory) -> Path:
    """Layers of the same heads, the last in another order: every exemplar has its equals."""
    path = tmp_path_factory.mktemp("captured") / "captured.safetensors"
    queries, keys = vectors(HEADS, 1), vectors(1, 2)
    layers = {0: (queries, keys), 1: (queries, keys), 2: (queries.flip(0), keys)}
    save_captured_tensors(path, layers, rope=ROPE, scale=0.3)
    return path


def document(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    validate(found)
    return found


def assert_same_bits(one: Path, other: Path) -> None:
    """Every file of two checks is the same, but for times and the processes themselves."""
    first, second = document(one), document(other)
    for found in (first, second):
        for name in TIMES:
            del found["environment"][name]
    assert first == second
    for name in ("heads.parquet", "moments.npz", "exemplars.npz"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


BAD_SECOND = """
sources.ROUND = 1
def add_layer(self, layer, *args, **kwargs):
    if layer == 1 and rank == "1":
        raise InputError("layer 1 is bad")
    return original(self, layer, *args, **kwargs)
Checker.add_layer = add_layer
"""
OTHER_VECTORS = """
def add_layer(self, layer, queries, keys, *args, **kwargs):
    if layer == 1 and rank == "1":
        queries[2, 77, 5] *= 1 + 2**-23
    return original(self, layer, queries, keys, *args, **kwargs)
Checker.add_layer = add_layer
"""


@dataclass(frozen=True)
class Compared:
    """The same runs by one process and by two, in folders "1" and "2", and more by the two."""

    folder: Path
    one: dict[str, Run]
    two: dict[str, Run]

    def same(self, name: str) -> dict[str, Any]:
        """check.json of a run, after it was found to be the same."""
        for processes, runs in ((1, self.one), (2, self.two)):
            assert runs[name].codes == [0] * processes, runs[name].err
            # Progress is shown once, of all heads.
            assert runs[name].err.count("heads: done in") == 1, runs[name].err
            found = document(self.folder / str(processes) / name)
            assert found["environment"]["processes"] == processes
            assert ("wait" in found["environment"]["seconds"]) == (processes > 1)
        assert_same_bits(self.folder / "1" / name, self.folder / "2" / name)
        return found


@pytest.fixture(scope="module")
def compared(captured, tiny, words, tmp_path_factory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    model = ["--text", words, "--text", words, "--batch", 2, "--dtype", "bfloat16"]
    runs = {
        "captured": ([captured, "--device", "cpu"], ""),
        "model": ([tiny, *model, "--device", "cpu", "--tokens", TOKENS], ""),
    }
    bad = {
        "second": (runs["model"][0], BAD_SECOND),
        "others": ([captured, "--device", "cpu"], OTHER_VECTORS),
        "again": ([captured, "--device", "cpu"], ""),
    }
    found = []
    for processes, chosen in ((1, runs), (2, runs | bad)):
        own = folder / str(processes)
        own.mkdir()
        found.append(finished(own, processes, chosen))
    return Compared(folder, *found)


# --- the same bits


def test_two_processes_give_the_bits_of_one_on_captured_tensors(compared):
    found = compared.same("captured")
    places = [(head["layer"], head["head"]) for head in found["heads"]]
    assert places == [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    # Later layers have the equal of every exemplar, measured by either process.
    assert found["exemplars"]
    assert {entry["layer"] for entry in found["exemplars"]} == {0}


def test_two_processes_give_the_bits_of_one_on_a_model(compared):
    """Two texts in one pass, in 16 bits: the second pass, in float32, is shared, too."""
    found = compared.same("model")
    assert len(found["heads"]) == 16
    assert found["precision"]["heads"] == 8
    assert found["environment"]["device"] == "cpu"
    assert all(text["loss"] is not None for text in found["texts"])


# --- ending together


def test_bad_input_of_the_second_process_ends_both(compared):
    run = compared.two["second"]
    assert run.codes == [2, 2]
    # The first one hears of it inside the model's pass.
    assert run.errors == ["tappa: error: tiny-llama: layer 1 is bad"]
    assert list((compared.folder / "2" / "second").iterdir()) == []


def test_processes_that_capture_other_vectors_are_refused(compared):
    run = compared.two["others"]
    assert run.codes == [2, 2]
    (error,) = run.errors
    assert "captured different queries and keys" in error
    assert list((compared.folder / "2" / "others").iterdir()) == []


def test_processes_can_run_again_after_a_refusal(compared):
    assert compared.two["again"].codes == [0, 0]
    assert_same_bits(compared.folder / "1" / "captured", compared.folder / "2" / "again")


def test_bad_input_is_told_once(tmp_path, captured):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    module = ["-m", "tappa_theory.app", "check", str(captured), "--lag", "0"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *module, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    assert done.returncode == 1  # the launcher's; of its processes it tells
    said = [line for line in done.stderr.splitlines() if line.startswith("tappa: ")]
    assert said == ["tappa: error: --lag 0 is not a period; use 1 or more"]
    assert "exitcode  : 2" in done.stderr
    assert "exitcode  : 1 " not in done.stderr
    assert list(tmp_path.iterdir()) == []


def ended(folder: Path, captured: Path, plant: str, end: Any) -> list[str]:
    """Two processes that exchange after every layer and are ended in the third; what they said."""
    before = (
        "sources.ROUND = 1\n"
        "def add_layer(self, layer, *args, **kwargs):\n"
        "    if layer == 2:\n"
        f"        {plant}\n"
        "    return original(self, layer, *args, **kwargs)\n"
        "Checker.add_layer = add_layer\n"
    )
    with started(folder, 2, {"out": ([captured, "--device", "cpu"], before)}) as process:
        end(process)
        _, err = process.communicate(timeout=120)
        assert process.returncode != 0
    return Run([], err).errors


def assert_first_layers_only(out: Path) -> None:
    """Layers 0 and 1 were brought together before the third began: they are there, whole."""
    found = document(out)
    assert found["complete"] is False
    assert sorted(entry.name for entry in out.iterdir()) == sorted(FILES)
    places = [(head["layer"], head["head"]) for head in found["heads"]]
    assert places == [(layer, head) for layer in range(2) for head in range(HEADS)]
    with np.load(out / "moments.npz", allow_pickle=False) as moments:
        assert moments["layer"].tolist() == [layer for layer, _ in places]


def test_what_is_finished_outlives_a_process_that_dies(tmp_path, captured):
    errors = ended(tmp_path, captured, "os._exit(7) if rank == '1' else None", lambda process: None)
    # Whichever comes first: the launcher's signal, or the silence of the other process.
    assert len(errors) == 1
    assert errors[0].startswith(("tappa: interrupted", "tappa: error: lost another process"))
    assert_first_layers_only(tmp_path / "out")


def test_ctrl_c_leaves_the_finished_layers(tmp_path, captured):
    def interrupt(process: Any) -> None:
        for _ in range(2):
            assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)

    plant = "os.write(1, b'ready\\n'); time.sleep(60)"
    assert ended(tmp_path, captured, plant, interrupt) == ["tappa: interrupted"]
    assert_first_layers_only(tmp_path / "out")


# --- the parts, in one process


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_unit_is_one_processes_and_the_shares_are_even(size):
    # Layers of 9 heads, as of a small model: the running index evens out what a layer cannot.
    layers = [range(start, start + 9) for start in range(0, 90, 9)]
    shares = [
        [unit for layer in layers for unit in World(r, size).mine(layer)] for r in range(size)
    ]
    assert sorted(unit for share in shares for unit in share) == list(range(90))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_gathers_in_the_order_of_the_indices():
    assert ALONE.gather([(5, "b"), (-1, "a"), (7, "c")]) == ["a", "b", "c"]
    assert ALONE.everyone("x") == ["x"]
    assert ALONE.same(torch.zeros(2, dtype=torch.int64))
    error = InputError("bad")
    with pytest.raises(InputError) as caught:
        ALONE.everyone(None, error)
    assert caught.value is error


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "MASTER_ADDR", None])
def test_a_process_that_no_launcher_started_is_alone(monkeypatch, missing):
    """A cluster may set some of the variables; one process of one joins nothing either."""
    told = {"RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    told |= {"MASTER_PORT": "1", "WORLD_SIZE": "2" if missing else "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    if missing:
        monkeypatch.delenv(missing)
    with joined("cpu") as world:
        assert (world.rank, world.size, world.device) == (0, 1, "cpu")


@pytest.fixture
def second_of_three(monkeypatch):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    for name, value in zip(names, ("1", "1", "3", "3", "127.0.0.1", "1"), strict=True):
        monkeypatch.setenv(name, value)


def test_several_processes_do_not_all_go_to_one_gpu(tappa, second_of_three, captured, tmp_path):
    with (
        pytest.raises(InputError, match=r"--device cuda:1 with several processes"),
        joined("cuda:1"),
    ):
        pass
    # Only the first process speaks.
    done = tappa("check", captured, "--device", "cuda:1", "--out", tmp_path / "out")
    assert (done.code, done.out, done.err) == (2, "", "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("count", "expected"), [(1, "cuda:0"), (2, "cuda:1"), (4, "cuda:1")])
def test_more_processes_than_gpus_share_them_in_turn(monkeypatch, count, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert _own_device("auto", 1) == _own_device("cuda", 1) == expected
    assert _own_device("auto", 5) == ("cuda:0" if count == 1 else "cuda:1")
    assert _own_device("cpu", 1) == "cpu"


def test_a_device_map_is_for_one_process(tiny, tmp_path):
    from gpu_check.clock import Clock
    from gpu_check.options import Job
    from gpu_check.sources import ModelSource

    with pytest.raises(InputError, match=r"--device-map auto .* one process"):
        ModelSource(Job(str(tiny), device_map="auto"), Clock(), World(0, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_digest_follows_every_bit(dtype):
    generator = torch.Generator().manual_seed(torch.initial_seed() % 2**32)
    x = torch.randn(3, 7, 5, generator=generator).to(dtype)
    same = x.flip(0).flip(0)
    assert digest(x) == digest(same)
    assert digest(x.mT) == digest(x.mT.contiguous())
    changed = x.clone()
    changed[1, 2, 3] *= 1 + torch.finfo(dtype).eps
    assert digest(changed) != digest(x)
    # Two roundings that cancel in a plain sum.
    y = torch.ones(2, dtype=dtype)
    one, other = y.clone(), y.clone()
    one[0] += torch.finfo(dtype).eps
    other[1] += torch.finfo(dtype).eps
    assert len({int(digest(each)) for each in (y, one, other)}) == 3


def test_the_digest_of_more_than_one_part():
    x = torch.zeros(2**24 + 3, dtype=torch.float16)
    moved = x.clone()
    x[0], moved[2**24] = 1, 1  # at the start of either part
    assert len({int(digest(each)) for each in (torch.zeros_like(x), x, moved)}) == 3


def test_each_process_measures_its_own_heads():
    rope = Rope.from_parameters(8, {"rope_type": "default", "rope_theta": 10000.0})
    queries, keys = vectors(5, 3)[:, :20], vectors(1, 4)[:, :20]
    found = []
    for rank in range(3):
        checker = Checker(threads=1, world=World(rank, 3))
        for layer in range(2):
            checker.add_layer(
                layer, queries, keys, rope, scale=0.3, visibility=Visibility(20), text=4
            )
        assert checker.pending == 10
        found.append({(head.text, head.layer, head.head) for head in checker.result.heads})
    assert [len(each) for each in found] == [4, 3, 3]
    assert set.union(*found) == {(4, layer, head) for layer in range(2) for head in range(5)}


# --- on GPUs

needs_two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


@pytest.mark.gpu
@needs_two_gpus
def test_two_gpus_give_the_bits_of_one(tiny, words, tmp_path):
    options = ["--text", words, "--tokens", TOKENS, "--dtype", "bfloat16"]
    for processes in (1, 2):
        own = tmp_path / str(processes)
        own.mkdir()
        run = finished(own, processes, {"out": ([tiny, *options], "")}, "auto")["out"]
        assert run.codes == [0] * processes, run.err
    assert_same_bits(tmp_path / "1" / "out", tmp_path / "2" / "out")
    assert document(tmp_path / "2" / "out")["environment"]["device"] == "cuda:0, cuda:1"


@pytest.mark.gpu
@needs_two_gpus
def test_a_model_spread_over_two_gpus_gives_the_bits_of_one(
    tappa, tiny, words, tmp_path, no_figures, monkeypatch
):
    """Layer by layer on its own device: one result of both."""
    weights = (tiny / "model.safetensors").stat().st_size
    memory = {0: int(0.6 * weights), 1: weights, "cpu": 0}
    monkeypatch.setattr("gpu_check.checkpoints.memory_to_use", lambda *args: memory)
    options = ("--text", words, "--tokens", TOKENS)
    for name, more in (("spread", ("--device-map", "auto")), ("one", ("--device", "cuda:0"))):
        done = tappa("check", tiny, *options, *more, "--out", tmp_path / name)
        assert done.code == 0, done.err
    assert document(tmp_path / "spread")["environment"]["device"] == "cuda:0, cuda:1"
    assert_same_bits(tmp_path / "one", tmp_path / "spread")
