"""Where queries and keys come from: a model that runs a text, or a file of captured tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_check.capture import LayerCapture, capture
from gpu_check.check import Checker, CheckResult, check_lag
from gpu_check.checkpoints import CapturedTensors, Checkpoint, load
from gpu_check.clock import Clock
from gpu_check.defaults import DEFAULT_MODEL, DEFAULT_TOKENS
from gpu_check.exemplars import Exemplars
from gpu_check.rope_config import ropes
from gpu_check.texts import Text, default_text, read_text, tokenize
from gpu_check.visibility import Visibility
from tappa_theory.app.progress import progress_bar, progress_reports
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope


@dataclass(frozen=True)
class Job:
    """What to check, as on the command line; None means the default."""

    model: str = DEFAULT_MODEL
    texts: tuple[Path, ...] = ()
    tokens: int | None = None
    layers: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    lag: int | None = None


class Source:
    """One source of queries and keys, and the results of the whole layers so far."""

    checker: Checker
    result: CheckResult
    model: dict[str, Any]
    texts: list[dict[str, Any]]
    device: str
    dtype: str

    def measure(self) -> None:
        raise NotImplementedError

    def keep_layer(self) -> None:
        """Copy the results at the end of a layer: an interrupt may fall inside the next one."""
        heads, kept = self.checker.result.heads, self.checker.result.exemplars
        exemplars = Exemplars(dict(kept.strength), dict(kept.entries), dict(kept.maps))
        self.result = CheckResult(list(heads), exemplars)


def is_capture_file(model: str) -> bool:
    path = Path(model).expanduser()
    return path.suffix.lower() == ".safetensors" and not path.is_dir()


def _check_options(job: Job) -> None:
    """Raise InputError for what is wrong with whatever model: before minutes of loading."""
    _layer_bounds(job.layers)
    if job.lag is not None and job.lag < 1:
        raise InputError(f"--lag {job.lag} is not a period; use 1 or more")


def _layer_bounds(layers: str | None) -> tuple[int, int | None]:
    """(A, B) of "A:B"; a missing A is 0, a missing B None. Raises InputError if it is not that."""
    match = re.fullmatch(r"(\d*):(\d*)", ":" if layers is None else layers, re.ASCII)
    if match is None:
        raise InputError(f"--layers {layers!r} is not A:B; for example --layers 0:4")
    start, stop = int(match[1] or 0), int(match[2]) if match[2] else None
    if stop is not None and start >= stop:
        raise InputError(f"--layers {layers} holds no layer; layers A to B-1 need A below B")
    return start, stop


def _layer_range(layers: str | None, count: int) -> range:
    """range of "A:B" among `count` layers. Raises InputError if it does not lie in them."""
    start, stop = _layer_bounds(layers)
    stop = count if stop is None else stop
    if start >= count or stop > count:
        raise InputError(f"--layers {layers} does not lie in the {count} layers; use 0:{count}")
    return range(start, stop)


class ModelSource(Source):
    """A checkpoint that runs a text."""

    def __init__(self, job: Job, clock: Clock) -> None:
        _check_options(job)
        if len(job.texts) > 1:
            raise InputError(f"{len(job.texts)} texts given; a check takes one --text FILE")
        if job.tokens is not None and job.tokens < 1:
            raise InputError(f"--tokens {job.tokens} is not a length; use 1 or more")
        source = read_text(job.texts[0]) if job.texts else default_text()
        with progress_reports() as report:
            loaded = load(job.model, device=job.device, dtype=job.dtype, progress=report)
        assert isinstance(loaded, Checkpoint)
        clock.stop("load")
        self.checkpoint = loaded
        self.job = job
        self.ids = _tokens(source, loaded, job.tokens)
        length = self.ids.shape[1]
        check_lag(job.lag, length)
        self.ropes = ropes(loaded.model.config, length)
        config = loaded.model.config.get_text_config()
        self.layers = _layer_range(job.layers, len(self.ropes))
        self.checker, self.result = Checker(job.lag), CheckResult()
        heads = config.num_attention_heads
        self.model = {
            "id": loaded.id,
            "architecture": loaded.architecture,
            "layers": len(self.ropes),
            "heads": heads,
            "kv_heads": getattr(config, "num_key_value_heads", None) or heads,
            "head_dim": self.ropes[0].head_dim,
            "context_length": loaded.context_length,
            "source": loaded.source,
            "rope": _rope_groups(dict(enumerate(self.ropes))),
        }
        self.texts = [
            {"source": source.source, "sha256": source.sha256, "tokens": length, "loss": None}
        ]
        self.device = str(loaded.model.device)
        self.dtype = str(loaded.model.dtype).removeprefix("torch.")

    def measure(self) -> None:
        with progress_bar("layers", len(self.layers)) as bar:

            def analyse(layer: LayerCapture) -> None:
                self.checker.add_capture(layer)
                self.keep_layer()
                bar.advance()

            loss = capture(self.checkpoint.model, self.ids, analyse, layers=self.layers)
        self.texts[0]["loss"] = loss


def _tokens(source: Text, loaded: Checkpoint, tokens: int | None) -> torch.Tensor:
    wanted = tokens
    if wanted is None:
        context = loaded.context_length or DEFAULT_TOKENS
        wanted = min(DEFAULT_TOKENS, context)
    vocabulary = loaded.model.get_input_embeddings().num_embeddings
    ids = tokenize(
        source, loaded.tokenizer, wanted, loaded.context_length, vocabulary_size=vocabulary
    )
    return ids.to(loaded.model.device)


class CaptureSource(Source):
    """Queries and keys that were captured elsewhere."""

    def __init__(self, job: Job, clock: Clock) -> None:
        _check_options(job)
        for option, given in (("--text", job.texts), ("--tokens", job.tokens)):
            if given not in ((), None):
                raise InputError(f"{option} does not go with captured tensors; leave it out")
        loaded = load(job.model, device=job.device, dtype=job.dtype)
        assert isinstance(loaded, CapturedTensors)
        clock.stop("load")
        self.tensors = loaded
        check_lag(job.lag, loaded.tokens)
        chosen = set(_layer_range(job.layers, max(loaded.layers) + 1))
        self.layers = [layer for layer in loaded.layers if layer in chosen]
        if not self.layers:
            raise InputError(f"--layers {job.layers}: {job.model} holds none of these layers")
        self.checker, self.result = Checker(job.lag), CheckResult()
        first = self.layers[0]
        self.model = {
            "id": loaded.model or loaded.id,
            "architecture": "captured tensors",
            "layers": len(loaded.layers),
            "heads": loaded.heads[first],
            "kv_heads": loaded.kv_heads[first],
            "head_dim": loaded.rope[first].head_dim,
            "context_length": None,
            "source": loaded.source,
            "rope": _rope_groups(loaded.rope),
        }
        self.texts = [
            {
                "source": "captured",
                "sha256": loaded.text_sha256,
                "tokens": loaded.tokens,
                "loss": None,
            }
        ]
        self.device = str(loaded.device)
        self.dtype = "as captured"

    def measure(self) -> None:
        with progress_bar("layers", len(self.layers)) as bar:
            for layer in self.layers:
                queries, keys = self.tensors.queries_and_keys(layer)
                self.checker.add_layer(
                    layer,
                    queries,
                    keys,
                    self.tensors.rope[layer],
                    scale=self.tensors.scale[layer],
                    visibility=Visibility(
                        self.tensors.tokens, self.tensors.sliding_window.get(layer)
                    ),
                )
                self.keep_layer()
                bar.advance()


def _rope_groups(by_layer: Mapping[int, Rope]) -> list[dict[str, Any]]:
    """One entry per distinct RoPE, with its layers."""
    groups: dict[Rope, list[int]] = {}
    for layer, rope in by_layer.items():
        groups.setdefault(rope, []).append(layer)
    return [
        {
            "layers": layers,
            "base": rope.base,
            "type": rope.type,
            "rotary_dim": rope.rotary_dim,
            "layout": rope.layout,
            "attention_scaling": rope.attention_scaling,
            "frequencies": rope.frequencies.tolist(),
        }
        for rope, layers in groups.items()
    ]
