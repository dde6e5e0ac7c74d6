"""Files of captured queries and keys: what goes in comes out, and what is wrong is named."""

import json

import pytest
import torch
from safetensors.torch import save_file

from gpu_check import captured_tensors
from gpu_check.captured_tensors import load_captured_tensors, save_captured_tensors
from gpu_check.checkpoints import CapturedTensors, load
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

T, D = 6, 8
ROPE = {"head_dim": D, "rope_type": "default", "rope_theta": 10000.0}


def layers(numbers=(0, 3), heads=4, kv_heads=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)

    def random(count):
        return torch.randn(count, T, D, generator=generator).to(dtype)

    return {n: (random(heads), random(kv_heads)) for n in numbers}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "captured.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_saved_is_loaded(path, dtype):
    saved = layers(dtype=dtype)
    save_captured_tensors(path, saved, rope=ROPE, scale=0.25, model="m/x", text_sha256="ab" * 32)
    found = load(str(path))
    assert isinstance(found, CapturedTensors)
    assert (found.id, found.model, found.text_sha256) == ("m/x", "m/x", "ab" * 32)
    assert (found.layers, found.tokens) == ((0, 3), T)
    assert (found.heads, found.kv_heads) == ({0: 4, 3: 4}, {0: 2, 3: 2})
    assert found.scale == {0: 0.25, 3: 0.25}
    assert found.sliding_window == {0: None, 3: None}
    assert found.rope[3] == Rope.from_parameters(D, {"rope_type": "default", "rope_theta": 1e4})
    assert found.source["file"] == str(path)
    assert found.source["bytes"] == path.stat().st_size
    for layer, q, k in found:
        assert q.dtype == dtype
        assert torch.equal(q, saved[layer][0])
        assert torch.equal(k, saved[layer][1])


def test_every_layer_may_have_its_own_rope_scale_and_window(path):
    local = {**ROPE, "rope_theta": 500.0, "layout": "interleaved", "partial_rotary_factor": 0.5}
    save_captured_tensors(
        path,
        layers((0, 1, 2)),
        rope={0: ROPE, 1: local, 2: {"head_dim": D, "rope_type": "none"}},
        scale={0: 0.5, 1: 1.0, 2: 2.0},
        sliding_window={0: None, 1: 3, 2: None},
    )
    found = load_captured_tensors(path)
    assert [found.rope[n].base for n in (0, 1)] == [10000.0, 500.0]
    assert found.rope[1].layout == "interleaved"
    assert found.rope[1].rotary_dim == 4
    assert not found.rope[2].frequencies.any()
    assert found.scale == {0: 0.5, 1: 1.0, 2: 2.0}
    assert found.sliding_window == {0: None, 1: 3, 2: None}


def test_q_and_k_may_share_memory_and_the_model_name_may_be_absent(path):
    x = torch.randn(2, T, D)
    save_captured_tensors(path, {0: (x, x)}, rope=ROPE, scale=1)
    assert load_captured_tensors(path).id == "captured"


def test_a_layer_is_read_only_when_asked_for(path, monkeypatch):
    save_captured_tensors(path, layers(), rope=ROPE, scale=1.0)
    read = []
    original = CapturedTensors.queries_and_keys
    monkeypatch.setattr(
        CapturedTensors,
        "queries_and_keys",
        lambda self, layer: read.append(layer) or original(self, layer),
    )
    found = load_captured_tensors(path)
    assert read == []
    next(iter(found))
    assert read == [0]


def test_a_layer_that_is_not_there_is_refused(path):
    save_captured_tensors(path, layers(), rope=ROPE, scale=1.0)
    with pytest.raises(InputError, match="layer 1 is not in the file"):
        load_captured_tensors(path).queries_and_keys(1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_and_leave_no_file(path, value):
    bad = layers()
    bad[3][1][0, 2, 1] = value
    with pytest.raises(InputError, match=r"layers\.3\.k holds numbers that are not finite"):
        save_captured_tensors(path, bad, rope=ROPE, scale=1.0)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_does_not_exist_is_refused(path):
    with pytest.raises(InputError, match="cannot be written"):
        save_captured_tensors(path.parent / "no" / "x.safetensors", layers(), rope=ROPE, scale=1.0)


def write(path, tensors=None, **changes):
    """A file of one layer, valid but for the given tensors and metadata (None: left out)."""
    q, k = layers()[0]
    metadata = {"tappa.schema": "1", "tappa.rope": json.dumps(ROPE), "tappa.scale": "0.5"}
    metadata |= {f"tappa.{key}": value for key, value in changes.items()}
    save_file(
        {"layers.0.q": q, "layers.0.k": k} if tensors is None else tensors,
        path,
        metadata={key: value for key, value in metadata.items() if value is not None},
    )


def test_the_helper_for_wrong_files_writes_a_right_one(path):
    write(path)
    assert load_captured_tensors(path).layers == (0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": None}, r"no tappa\.schema"),
        ({"schema": "2"}, "schema 2 is not 1"),
        ({"schema": "{"}, r"tappa\.schema is not JSON"),
        ({"rope": None}, r"no tappa\.rope"),
        ({"rope": "7"}, "no object with head_dim"),
        ({"rope": '{"1": {"head_dim": 8}}'}, "nothing about layer 0"),
        ({"rope": json.dumps({**ROPE, "head_dim": 16})}, "head_dim 16, the tensors 8"),
        ({"rope": json.dumps({**ROPE, "rope_type": "spiral"})}, "spiral"),
        ({"rope": json.dumps({**ROPE, "layout": "diagonal"})}, "diagonal"),
        ({"rope": json.dumps({**ROPE, "partial_rotary_factor": "x"})}, "rope"),
        ({"scale": None}, r"no tappa\.scale"),
        ({"scale": "0"}, "not a positive number"),
        ({"scale": "NaN"}, "not a positive number"),
        ({"scale": "true"}, "not a positive number"),
        ({"scale": '{"1": 1.0}'}, "nothing about layer 0"),
        ({"sliding_window": "0"}, "positive integer"),
        ({"sliding_window": "2.5"}, "positive integer"),
        ({"model": "3"}, "not a string"),
    ],
)
def test_wrong_metadata_is_named(path, changes, message):
    write(path, **changes)
    with pytest.raises(InputError, match=message) as raised:
        load_captured_tensors(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no layers"),
        ({"layers.0.q": zeros(4, T, D)}, r"layers\.0\.k is missing"),
        ({"layers.0.k": zeros(4, T, D)}, r"layers\.0\.q is missing"),
        ({"layers.0.v": zeros(4, T, D)}, r"'layers\.0\.v' is not"),
        ({"layers.0.q": zeros(T, D), "layers.0.k": zeros(T, D)}, "has shape"),
        ({"layers.0.q": zeros(4, 0, D), "layers.0.k": zeros(4, 0, D)}, "has shape"),
        ({"layers.0.q": zeros(4, T, D), "layers.0.k": zeros(4, T + 1, D)}, "differ in T"),
        ({"layers.0.q": zeros(4, T, D), "layers.0.k": zeros(4, T, 4)}, "differ in T or head_dim"),
        ({"layers.0.q": zeros(4, T, D), "layers.0.k": zeros(3, T, D)}, "no multiple of 3"),
        (
            {f"layers.0.{name}": zeros(4, T, D, dtype=torch.int32) for name in "qk"},
            "not floating point",
        ),
        (
            {f"layers.{n}.{name}": zeros(4, T + n, D) for name in "qk" for n in (0, 1)},
            "layer 1 has T = 7, layer 0 has 6",
        ),
    ],
)
def test_wrong_tensors_are_named(path, tensors, message):
    write(path, tensors)
    with pytest.raises(InputError, match=message):
        load_captured_tensors(path)


def test_missing_truncated_and_foreign_files_are_refused(path):
    with pytest.raises(InputError, match="no such file"):
        load(str(path))
    write(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="truncated or corrupt"):
        load(str(path))
    save_file({"model.embed_tokens.weight": zeros(2, 2)}, path)
    with pytest.raises(InputError, match="for a model give its directory"):
        load(str(path))


def test_the_documented_schema_names_every_metadata_entry():
    for key in ("schema", "rope", "scale", "model", "text_sha256", "sliding_window"):
        assert f"tappa.{key}" in captured_tensors.__doc__
