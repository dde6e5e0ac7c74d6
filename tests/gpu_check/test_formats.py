"""Every form of weights: the numbers arrive as stored, and nothing unsafe comes along."""

import gc
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers.dynamic_module_utils
from gguf.constants import GGUFValueType
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from gpu_check import checkpoints, gguf_checkpoint, model_directory
from gpu_check.captured_tensors import load_captured_tensors
from gpu_check.checkpoints import load
from gpu_check.gguf_header import MAX_ELEMENTS, read_header
from tappa_theory.errors import InputError

IDS = torch.tensor([[1, 5, 3, 7, 7, 11]])
ROOT = Path(checkpoints.__file__).parents[1]


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def refused(*parts, call=load, **arguments):
    """The message of the InputError that is raised: one line holding all the parts."""
    with pytest.raises(InputError) as raised:
        call(**arguments)
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, message
    return message


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


# --- GGUF: what llama.cpp writes is what is loaded

WORDS = ["<unk>", "<s>", "</s>", *"abcdefghijklm", "ab", "cd"]
# K-quants pack 256 numbers of a row together.
WIDTH, HEADS, KV_HEADS = 256, 4, 2
SHAPE = {
    "vocab_size": len(WORDS),
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
}
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"} | {
    f"model.layers.{n}.{ours}": f"blk.{n}.{theirs}"
    for n in range(SHAPE["num_hidden_layers"])
    for ours, theirs in PARTS.items()
}
# Where a block of 256 numbers keeps its half-precision scales; the rest may be any bytes.
K_SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", *K_SCALES]


def model_of(architecture):
    """A random model of that architecture, with logits of order 1 and biases that are not 0."""
    torch.manual_seed(0)
    model = MODELS[architecture]().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.15)
    return model


def interleaved(weight, heads):
    """Rows as llama.cpp writes those of a Llama: the two halves of each head taken in turn."""
    rows = weight.shape[0]
    halves = weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def halved(weight, heads):
    """The inverse of `interleaved`."""
    rows = weight.shape[0]
    pairs = weight.reshape(heads, rows // heads // 2, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def permuted(name, weight, change):
    if "q_proj" in name:
        return change(weight, HEADS)
    if "k_proj" in name:
        return change(weight, KV_HEADS)
    return weight


def packed(weight, kind):
    """A matrix in blocks of a type, as bytes by row; random blocks where gguf cannot quantise."""
    if kind.name not in K_SCALES:
        return gguf.quants.quantize(weight, kind)
    size = gguf.GGML_QUANT_SIZES[kind][1]
    random = np.random.default_rng(weight.shape[0])
    count = weight.size // 256
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    for start in K_SCALES[kind.name]:
        scales = random.uniform(0.001, 0.01, count).astype("<f2")
        blocks[:, start : start + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks.reshape(weight.shape[0], -1)


def write_model(path, architecture, kind=gguf.GGMLQuantizationType.F32, permute=True):
    """Write a random model as a GGUF file; the model, and the weights gguf reads back by name."""
    model = model_of(architecture)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(SHAPE["max_position_embeddings"])
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(SHAPE["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    stored = {}
    for name, parameter in model.named_parameters():
        module, _, part = name.rpartition(".")
        weight = parameter.detach().numpy()
        if architecture == "llama" and permute:
            weight = permuted(name, weight, interleaved)
        target = f"{NAMES[module]}.{part}"
        if weight.ndim == 1 or kind.name == "F32":
            writer.add_tensor(target, np.ascontiguousarray(weight))
        else:
            blocks = packed(np.ascontiguousarray(weight), kind)
            writer.add_tensor(target, blocks.view(np.uint8), raw_dtype=kind)
            weight = gguf.quants.dequantize(blocks, kind).reshape(weight.shape)
        if architecture == "llama":
            weight = permuted(name, weight, halved)
        stored[name] = weight
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, stored


def test_the_two_permutations_are_inverse_and_not_the_identity():
    rows = np.arange(WIDTH)[:, None]
    assert (halved(interleaved(rows, HEADS), HEADS) == rows).all()
    # The second row of the file is the first of the second half of head 0.
    assert interleaved(rows, HEADS)[1, 0] == WIDTH // HEADS // 2


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("architecture", MODELS)
def test_gguf_weights_are_what_gguf_itself_reads(tmp_path, cache, architecture, kind):
    path = tmp_path / f"tiny.{kind}.gguf"
    _, stored = write_model(path, architecture, gguf.GGMLQuantizationType[kind])
    found = load(str(path), cache_dir=cache)
    assert found.source["quantization"] == kind
    assert found.architecture == type(MODELS[architecture]()).__name__
    parameters = dict(found.model.named_parameters())
    assert parameters.keys() == stored.keys()
    for name, weight in stored.items():
        assert np.isfinite(weight).all()
        assert np.array_equal(parameters[name].numpy(), weight), name
    assert torch.isfinite(logits(found.model)).all()


@pytest.mark.parametrize("architecture", MODELS)
def test_a_gguf_file_has_the_logits_of_the_model_it_was_written_from(tmp_path, cache, architecture):
    path = tmp_path / "tiny.gguf"
    model, _ = write_model(path, architecture)
    assert torch.equal(logits(load(str(path), cache_dir=cache).model), logits(model))


def test_rows_in_the_wrong_order_would_be_seen(tmp_path, cache):
    path = tmp_path / "tiny.gguf"
    model, _ = write_model(path, "llama", permute=False)
    expected = logits(model)
    error = (logits(load(str(path), cache_dir=cache).model) - expected).abs().max()
    assert error > 0.01 * expected.abs().max()


def test_weights_stay_dense_where_transformers_could_keep_them_packed():
    keywords = gguf_checkpoint.dense()
    if not hasattr(transformers, "GgufConfig"):
        assert keywords == {}
    else:
        assert keywords["quantization_config"].dequantize is True


# --- GGUF: headers that lie


@pytest.fixture
def small(tmp_path):
    """A GGUF file of one small tensor with metadata of several kinds: path and bytes."""
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["a", "b", "c"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, path.read_bytes()


def test_an_honest_header_is_read(small):
    header = read_header(small[0], "given")
    assert (header.architecture, header.metadata["llama.block_count"]) == ("llama", 1)
    (tensor,) = header.tensors
    assert (tensor.name, tensor.type, tensor.elements) == ("token_embd.weight", "F32", 128)


def test_a_gguf_file_cut_anywhere_is_refused(small):
    path, data = small
    for length in range(8, len(data)):
        path.write_bytes(data[:length])
        refused("given", "truncated", call=read_header, path=path, given="given")


@pytest.mark.parametrize("claim", [1 << 60, (1 << 64) - 1, 1 << 32, 0])
def test_a_header_is_never_taken_at_its_word(small, claim):
    # Wherever the number stands that is made huge, reading ends with an answer and little memory.
    path, data = small
    messages, peaks = [], []
    for position in range(8, len(data) - 512):
        path.write_bytes(data[:position] + struct.pack("<Q", claim) + data[position + 8 :])
        tracemalloc.start()
        try:
            read_header(path, "given")
        except InputError as error:
            messages.append(str(error))
        finally:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)
    assert max(peaks) < 1 << 20


def gguf_bytes(entries, tensors=b"", counts=None):
    """A GGUF file of version 3 from raw entries and a raw table."""
    tensor_count, entry_count = counts or (0, len(entries))
    head = b"GGUF" + struct.pack("<IQQ", 3, tensor_count, entry_count)
    return head + b"".join(entries) + tensors + bytes(64)


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def entry(key, kind, value):
    return string(key) + struct.pack("<I", kind) + value


def array(kind, count, value=b""):
    return struct.pack("<IQ", kind, count) + value


HUGE = 1 << 60
FLOAT, INT, TEXT, LIST = (
    GGUFValueType[name].value for name in ("FLOAT32", "UINT8", "STRING", "ARRAY")
)
TENSOR = string("t") + struct.pack("<I", 1)
LYING = {
    "tensor count": gguf_bytes([], counts=(HUGE, 0)),
    "entry count": gguf_bytes([], counts=(0, HUGE)),
    "key length": gguf_bytes([struct.pack("<Q", HUGE)]),
    "string length": gguf_bytes([entry("k", TEXT, struct.pack("<Q", HUGE))]),
    "array of bytes": gguf_bytes([entry("k", LIST, array(INT, HUGE))]),
    "array of strings": gguf_bytes([entry("k", LIST, array(TEXT, HUGE))]),
    "array of empty strings": gguf_bytes([entry("k", LIST, array(TEXT, 100, bytes(8)))]),
    "array beyond any vocabulary": gguf_bytes(
        [entry("k", LIST, array(INT, MAX_ELEMENTS + 1, bytes(MAX_ELEMENTS + 1)))]
    ),
    "array of arrays": gguf_bytes([entry("k", LIST, array(LIST, 1, array(INT, 0)))]),
    "unknown type": gguf_bytes([entry("k", 77, b"")]),
    "key not UTF-8": gguf_bytes([struct.pack("<Q", 1) + b"\xff" + struct.pack("<IB", INT, 0)]),
    "dimensions": gguf_bytes([], string("t") + struct.pack("<I", 1 << 31), counts=(1, 0)),
    "shape that overflows": gguf_bytes(
        [], string("t") + struct.pack("<IQQIQ", 2, 1 << 32, 1 << 32, 0, 0), counts=(1, 0)
    ),
    "shape of nothing": gguf_bytes([], TENSOR + struct.pack("<QIQ", 0, 0, 0), counts=(1, 0)),
    "half a block": gguf_bytes([], TENSOR + struct.pack("<QIQ", 16, 8, 0), counts=(1, 0)),
    "unknown tensor type": gguf_bytes([], TENSOR + struct.pack("<QIQ", 32, 999, 0), counts=(1, 0)),
    "offset": gguf_bytes([], TENSOR + struct.pack("<QIQ", 1, 0, HUGE), counts=(1, 0)),
    "alignment": gguf_bytes([entry("general.alignment", INT, b"\0")]),
}


SAYS = {
    "tensor count": "'' has 0 dimensions",
    "entry count": "bytes are announced",
    "key length": "1152921504606846976 bytes are announced at byte 32 of 96",
    "string length": "1152921504606846976 bytes are announced",
    "array of bytes": "'k' has 1152921504606846976 elements",
    "array of strings": "'k' has 1152921504606846976 elements",
    "array of empty strings": "8 bytes are announced at byte 121 of 121",
    "array beyond any vocabulary": "elements",
    "array of arrays": "'k' is of the unknown type 9",
    "unknown type": "'k' is of the unknown type 77",
    "key not UTF-8": "can't decode byte 0xff",
    "dimensions": "'t' has 2147483648 dimensions",
    "shape that overflows": "truncated GGUF file, 129 of 73786976294838206560 bytes",
    "shape of nothing": "'t' has the shape (0,)",
    "half a block": "'t' has the shape (16,)",
    "unknown tensor type": "'t' is of type 999, which the installed gguf",
    "offset": "truncated GGUF file, 121 of",
    "alignment": "alignment 0",
}


@pytest.mark.parametrize("lie", LYING)
def test_a_lying_gguf_file_is_refused_before_transformers_sees_it(tmp_path, lie, monkeypatch):
    monkeypatch.setattr(gguf_checkpoint, "dequantise", lambda *a: pytest.fail("handed on"))
    monkeypatch.setattr(gguf, "GGUFReader", lambda *a: pytest.fail("read by gguf"))
    path = tmp_path / "lying.gguf"
    path.write_bytes(LYING[lie])
    message = refused(path, SAYS[lie], "fetch", model_id=str(path))
    assert message.count(str(path)) == 1


def test_more_layers_than_tensors_are_refused(small, monkeypatch):
    path, data = small
    monkeypatch.setattr(gguf_checkpoint, "dequantise", lambda *a: pytest.fail("handed on"))
    key = b"llama.block_count"
    at = data.index(key) + len(key) + 4
    path.write_bytes(data[:at] + struct.pack("<I", 1 << 31) + data[at + 4 :])
    refused(path, f"{1 << 31} layers, 1 tensors", model_id=str(path))


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"GGML" + struct.pack("<I", 3), "not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "a GGUF version other than 2 and 3"),
        (b"GGUF" + struct.pack(">I", 3), "a GGUF version other than 2 and 3 (or big-endian)"),
        (b"GGUF" + struct.pack("<I", 4), "a GGUF version other than 2 and 3"),
    ],
)
def test_a_wrong_magic_or_version_is_refused(small, head, says):
    path, data = small
    path.write_bytes(head + data[8:])
    refused(path, says, model_id=str(path))


# --- safetensors: shards and headers


def save_sharded(tiny, folder):
    """The tiny checkpoint in several shards; their names."""
    shutil.copytree(tiny, folder)
    model = load(str(tiny)).model
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(names) > 2
    return names


def test_a_sharded_directory_is_the_same_model(tiny, tmp_path):
    names = save_sharded(tiny, tmp_path / "sharded")
    found = load(str(tmp_path / "sharded"))
    assert torch.equal(logits(found.model), logits(load(str(tiny)).model))
    sizes = [(tmp_path / "sharded" / name).stat().st_size for name in names]
    assert found.source["bytes"] == sum(sizes)


def test_a_missing_or_damaged_shard_is_named(tiny, tmp_path):
    names = save_sharded(tiny, tmp_path / "sharded")
    shard = tmp_path / "sharded" / names[1]
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    refused(names[1], "truncated or corrupt", model_id=str(shard.parent))
    shard.unlink()
    refused(names[1], "is missing", "add the file", model_id=str(shard.parent))


@pytest.mark.parametrize("name", ["weights.bin", "../outside.safetensors", "sub/a.safetensors"])
def test_an_index_that_leads_elsewhere_is_refused(tiny, tmp_path, name):
    folder = tmp_path / "sharded"
    save_sharded(tiny, folder)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    key = next(iter(index["weight_map"]))
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    shutil.copy(folder / index["weight_map"][key], target)
    index["weight_map"][key] = name
    path.write_text(json.dumps(index))
    refused(repr(name), "no .safetensors file of this directory", model_id=str(folder))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no JSON object"),
        ("{}", "no weight_map"),
    ],
    ids=["broken", "deep", "list", "empty"],
)
def test_an_index_that_is_none_is_refused(tiny, tmp_path, text, says):
    folder = tmp_path / "sharded"
    save_sharded(tiny, folder)
    (folder / "model.safetensors.index.json").write_text(text)
    refused("model.safetensors.index.json", says, model_id=str(folder))


def safetensors_bytes(header, length=None, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


HEADERS = {
    "length 2^60": safetensors_bytes({}, length=HUGE),
    "length 2^63": safetensors_bytes({}, length=1 << 63),
    "length beyond the file": safetensors_bytes({}, length=1000),
    "not JSON": safetensors_bytes(b"{not json}"),
    "nested": safetensors_bytes(b"[" * 100_000),
    "offsets beyond the file": safetensors_bytes(
        {"layers.0.q": {"dtype": "F32", "shape": [1, 1, 2], "data_offsets": [0, 8]}}
    ),
    "a shape of 2^60": safetensors_bytes(
        {"layers.0.q": {"dtype": "F32", "shape": [1, HUGE, 2], "data_offsets": [0, HUGE * 8]}}
    ),
    "a shape that overflows": safetensors_bytes(
        {"layers.0.q": {"dtype": "F32", "shape": [1 << 32, 1 << 32, 4], "data_offsets": [0, 0]}}
    ),
    "offsets in the wrong order": safetensors_bytes(
        {"layers.0.q": {"dtype": "F32", "shape": [1, 1, 2], "data_offsets": [8, 0]}}, data=bytes(8)
    ),
    "seven bytes": b"\0" * 7,
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_lying_safetensors_file_is_refused_by_name(own_tiny, tmp_path, kind):
    (own_tiny / "model.safetensors").write_bytes(HEADERS[kind])
    refused(own_tiny, "model.safetensors is truncated or corrupt", model_id=str(own_tiny))
    path = tmp_path / "captured.safetensors"
    path.write_bytes(HEADERS[kind])
    refused(path, "truncated or corrupt safetensors file", model_id=str(path))


def test_a_git_lfs_pointer_is_recognised(own_tiny):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (own_tiny / "model.safetensors").write_text(pointer)
    refused("model.safetensors is a Git LFS pointer", "git lfs pull", model_id=str(own_tiny))


def test_safetensors_under_another_name_are_not_guessed_at(own_tiny):
    (own_tiny / "model.safetensors").rename(own_tiny / "weights.safetensors")
    refused("weights.safetensors", "neither model.safetensors nor", model_id=str(own_tiny))


# --- configurations that lead to code, to pickle, or nowhere


def edit_config(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_a_configuration_that_is_no_json_is_refused(own_tiny):
    for text in ("{", "[]", "\udcff"):
        (own_tiny / "config.json").write_text(text, errors="surrogateescape")
        refused(own_tiny, "config.json", "fetch the file again", model_id=str(own_tiny))


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ({"num_hidden_layers": 10**9}, ("claims 1000000000 layers", "21 tensors")),
        ({"text_config": {"num_hidden_layers": 10**9}}, ("claims 1000000000 layers",)),
        ({"transformers_weights": "adapter_model.bin"}, ("transformers_weights",)),
        ({"attn_implementation": "org/kernel"}, ("'org/kernel'", "--trust-remote-code")),
        ({"_attn_implementation": "org/kernel"}, ("'org/kernel'", "--trust-remote-code")),
        ({"experts_implementation": "org/kernel"}, ("'org/kernel'", "--trust-remote-code")),
    ],
)
def test_a_configuration_is_not_followed_everywhere(own_tiny, entries, parts, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("handed on")
    )
    edit_config(own_tiny, **entries)
    refused(own_tiny, *parts, model_id=str(own_tiny))


def test_an_adapter_without_its_model_is_refused(own_tiny):
    (own_tiny / "config.json").rename(own_tiny / "adapter_config.json")
    refused("it is an adapter", "merge", model_id=str(own_tiny))


OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def coded(own_tiny, tmp_path, monkeypatch):
    """A checkpoint whose model is code of its own, and the file that this code makes when run."""
    marker = tmp_path / "ran"
    (own_tiny / "own.py").write_text(OWN_CODE.format(marker=str(marker)))
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    edit_config(own_tiny, model_type="own", architectures=["OwnModel"], auto_map=auto_map)
    modules = str(tmp_path / "modules")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", [*sys.path, modules])
    return own_tiny, marker


def test_code_of_a_checkpoint_is_run_only_when_trusted(coded, tiny):
    folder, marker = coded
    message = refused("code of its own", model_id=str(folder), allow_pickle=True)
    assert "--trust-remote-code" in message
    assert not marker.exists()
    found = load(str(folder), trust_remote_code=True)
    assert marker.exists()
    assert found.architecture == "OwnModel"
    assert torch.equal(logits(found.model), logits(load(str(tiny)).model))


def test_a_model_transformers_knows_does_not_run_code_beside_it(coded):
    folder, marker = coded
    edit_config(folder, model_type="llama", architectures=["LlamaForCausalLM"])
    assert load(str(folder)).architecture == "LlamaForCausalLM"
    assert not marker.exists()


@pytest.fixture
def pickled(own_tiny):
    """The tiny checkpoint with its weights in a pickle file, and what they were."""
    model = load(str(own_tiny)).model
    (own_tiny / "model.safetensors").unlink()
    torch.save(model.state_dict(), own_tiny / "pytorch_model.bin")
    return own_tiny, model


def test_pickle_weights_are_read_only_when_allowed(pickled):
    folder, model = pickled
    parts = ("only pickle weights (pytorch_model.bin)", "--allow-pickle")
    refused(*parts, model_id=str(folder), trust_remote_code=True)
    found = load(str(folder), allow_pickle=True)
    assert torch.equal(logits(found.model), logits(model))
    assert found.source["bytes"] == (folder / "pytorch_model.bin").stat().st_size


def test_safetensors_are_preferred_to_pickle(pickled, tiny):
    folder, _ = pickled
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    shutil.copy(tiny / "model.safetensors", folder)
    assert load(str(folder), allow_pickle=True).source == load(str(tiny)).source | {
        "file": str(folder)
    }


class Command:
    """What a pickle file can hold: a call of any function when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def test_a_pickle_file_never_runs_what_is_in_it(pickled, tmp_path):
    folder, model = pickled
    marker = tmp_path / "ran"
    torch.save({**model.state_dict(), "x": Command(marker)}, folder / "pytorch_model.bin")
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert marker.exists(), "the file would do no harm"
    marker.rmdir()
    refused("more than tensors", model_id=str(folder), allow_pickle=True)
    assert not marker.exists()


def test_damaged_and_foreign_pickle_files_are_refused(pickled):
    folder, _ = pickled
    path = folder / "pytorch_model.bin"
    for data in (path.read_bytes()[:-2000], b"", b"PK\x03\x04 and no more"):
        path.write_bytes(data)
        refused("pytorch_model.bin", model_id=str(folder), allow_pickle=True)
    path.rename(folder / "consolidated.pth")
    refused(
        "consolidated.pth", "neither pytorch_model.bin", model_id=str(folder), allow_pickle=True
    )


# --- spread over devices


@pytest.fixture
def room(monkeypatch):
    """A function that gives the processor room for a share of a float32 model's weights."""

    def leave(model, share):
        size = sum(4 * parameter.numel() for parameter in model.parameters())
        memory = {"cpu": int(share * size)}
        monkeypatch.setattr(checkpoints, "memory_to_use", lambda *a: memory)

    return leave


@pytest.fixture
def offloaded(tmp_path, monkeypatch):
    """The folder in which offload folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(model_directory.tempfile, "tempdir", str(folder))
    return folder


def test_a_model_that_fits_on_the_processor_stays_whole(tiny, offloaded):
    found = load(str(tiny), device="cpu", device_map="auto", dtype="float64")
    assert not found.spread
    assert {parameter.device.type for parameter in found.model.parameters()} == {"cpu"}
    expected = logits(load(str(tiny), dtype="float64").model)
    assert torch.equal(logits(found.model), expected)


@pytest.mark.parametrize("room_for", [0.9, 0.6])
def test_what_fits_nowhere_goes_to_disk_and_leaves_with_the_model(tiny, room, offloaded, room_for):
    expected = load(str(tiny)).model
    room(expected, room_for)
    found = load(str(tiny), device_map="auto")
    assert found.spread
    assert any(parameter.is_meta for parameter in found.model.parameters())
    assert torch.equal(logits(found.model), logits(expected))
    assert len(list(offloaded.iterdir())) == 1
    del found
    gc.collect()
    assert list(offloaded.iterdir()) == []


def test_pickle_weights_may_be_spread_as_well(pickled, room, offloaded):
    folder, model = pickled
    room(model, 0.6)
    found = load(str(folder), device_map="auto", allow_pickle=True)
    # These weights are written anew, since they cannot be read one by one where they lie.
    assert any(path.stat().st_size > 0 for path in offloaded.glob("*/*"))
    assert torch.equal(logits(found.model), logits(model))


def test_a_failed_load_leaves_no_offload_folder(pickled, room, offloaded):
    folder, model = pickled
    room(model, 0.6)
    (folder / "pytorch_model.bin").write_bytes(b"")
    refused(model_id=str(folder), device_map="auto", allow_pickle=True)
    assert list(offloaded.iterdir()) == []


def test_a_gguf_model_is_spread_from_its_copy(tmp_path, cache, room, offloaded):
    path = tmp_path / "tiny.gguf"
    model, _ = write_model(path, "llama")
    room(model, 0.6)
    found = load(str(path), cache_dir=cache, device_map="auto")
    assert found.spread
    assert torch.equal(logits(found.model), logits(model))


def test_memory_is_that_of_the_devices_asked_for(monkeypatch):
    import accelerate.utils

    known = {0: 100, 1: 200, "cpu": 50}
    monkeypatch.setattr(accelerate.utils, "get_max_memory", lambda: dict(known))
    for name, device, expected in (
        ("auto", "cuda", {0: 80, 1: 160, "cpu": 40}),
        ("cuda", "cuda", {0: 80, "cpu": 40}),
        ("cuda:1", "cuda:1", {1: 160, "cpu": 40}),
        ("cpu", "cpu", {"cpu": 40}),
    ):
        assert checkpoints.memory_to_use(name, torch.device(device)) == expected


def test_an_unknown_device_map_is_refused(tiny):
    refused("'balanced'", "use auto or none", model_id=str(tiny), device_map="balanced")


# --- the Hub without a network


def test_a_hub_model_in_the_local_cache_needs_no_network(tiny, tmp_path):
    revision = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "home"
    repository = home / "hub" / "models--org--tiny"
    shutil.copytree(tiny, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    code = """
import json
from gpu_check.checkpoints import load
from tappa_theory.errors import InputError
print(json.dumps(load("org/tiny").source))
try:
    load("org/absent")
except InputError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(home)}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    source, message = done.stdout.splitlines()
    found = json.loads(source)
    assert (found["file"], found["revision"]) == ("org/tiny", revision)
    assert found["bytes"] == (tiny / "model.safetensors").stat().st_size
    for part in ("org/absent", "offline", "hf download org/absent", "HF_HOME", "directory"):
        assert part in message


# --- the documentation

DOCS = ROOT / "docs" / "formats.md"


def test_the_documented_example_writes_a_file_that_is_read(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert "gpu_check" not in example, "the example is for a machine without this package"
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "example", "exec"), {})
    found = load_captured_tensors("captured.safetensors")
    assert (found.layers, found.tokens, found.heads[0], found.kv_heads[0]) == ((0,), 64, 4, 2)
    assert found.rope[0].head_dim == 32
    assert all(torch.isfinite(q).all() for _, q, _ in found)


def test_the_documentation_names_every_metadata_entry_and_every_type():
    text = DOCS.read_text(encoding="utf-8")
    for key in ("schema", "rope", "scale", "model", "text_sha256", "sliding_window"):
        assert f"`tappa.{key}`" in text
    for kind in TYPES:
        assert kind in text
