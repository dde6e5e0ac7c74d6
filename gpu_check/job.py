"""A whole check as the command line runs it: load, capture, measure, write."""

import platform
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_check import heads as head_thresholds
from gpu_check.capture import LayerCapture, capture
from gpu_check.check import Checker, CheckResult, check_lag
from gpu_check.checkpoints import CapturedTensors, Checkpoint, load
from gpu_check.command import DEFAULT_MODEL, DEFAULT_TOKENS
from gpu_check.exemplars import Exemplars
from gpu_check.rope_config import ropes
from gpu_check.schema import validate
from gpu_check.texts import Text, default_text, read_text, tokenize
from gpu_check.visibility import Visibility
from tappa_theory.app.files import atomic_path, output_folder, write_json
from tappa_theory.app.progress import progress_bar, progress_reports
from tappa_theory.errors import InputError
from tappa_theory.patterns import THRESHOLDS
from tappa_theory.prediction import HIGH_SIMILARITY
from tappa_theory.rope import Rope

EXIT_CODES = {"holds": 0, "undecided": 1, "violated": 1}


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


def run(job: Job, out: Path, report: bool = True) -> int:
    """Run a check; write check.json, heads.parquet, exemplars.npz, figures and report into `out`.

    An interrupt leaves the finished layers in valid files marked "complete": false. Returns 0 if
    every bound holds, 1 if a pair is violated or undecided. Raises InputError on bad input.
    """
    folder = output_folder(out)
    clock = _Clock()
    run_ = (_CaptureRun if _is_capture_file(job.model) else _ModelRun)(job, clock)
    try:
        run_.measure()
    except KeyboardInterrupt:
        if run_.result.heads:
            _write(run_, folder, clock, complete=False)
        raise
    clock.stop("check")
    result = _write(run_, folder, clock, complete=True)
    _figures(folder, report)
    print(headline(result["summary"], result["verdict"]))
    return EXIT_CODES[result["verdict"]]


def headline(summary: dict[str, Any], verdict: str) -> str:
    """The result in three lines: prediction first, then hypotheses, then the verdict."""
    patterns, theorems = summary["patterns"], summary["theorems"]
    lines = []
    if patterns["heads"]:
        kappa, published = patterns["cohen_kappa"], patterns["published_agreement"]
        lines.append(
            f"patterns: predicted = observed on {patterns['agreement']:.1%} of {patterns['heads']} "
            f"heads, Cohen's kappa {'undefined' if kappa is None else f'{kappa:.2f}'} (always the "
            f"commonest pattern: {patterns['majority_agreement']:.1%}; the paper's rule: "
            f"{'undefined' if published is None else f'{published:.1%}'})"
        )
    else:
        lines.append(f"patterns: none; a text of {THRESHOLDS.shortest} tokens or more is needed")
    for name, part in theorems.items():
        if part["pairs"]:
            lines.append(
                f"{name}: hypotheses met on {part['hypotheses_met_heads']} of "
                f"{part['applicable_heads']} heads, informative on {part['informative']:.2%} of "
                f"{part['pairs']:,} pairs, largest ratio {part['max_ratio']:.3f}"
            )
        else:
            lines.append(f"{name}: applies to no head")
    return "\n".join([*lines, f"bounds: {verdict}"])


class _Clock:
    """Wall-clock seconds of the parts of a run."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = round(now - self._last, 2)
        self._last = now


class _Run:
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


def _is_capture_file(model: str) -> bool:
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


class _ModelRun(_Run):
    """A checkpoint that runs a text."""

    def __init__(self, job: Job, clock: _Clock) -> None:
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
                self.checker.add_layer(
                    layer.layer,
                    layer.queries,
                    layer.keys,
                    layer.rope,
                    scale=layer.scale,
                    visibility=layer.visibility,
                    softcap=layer.softcap,
                    angle_deviation=layer.angle_deviation,
                )
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


class _CaptureRun(_Run):
    """Queries and keys that were captured elsewhere."""

    def __init__(self, job: Job, clock: _Clock) -> None:
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


def _write(run_: _Run, folder: Path, clock: _Clock, complete: bool) -> dict[str, Any]:
    result = run_.result
    document: dict[str, Any] = {
        "schema": 1,
        "complete": complete,
        "verdict": result.verdict,
        "model": run_.model,
        "texts": run_.texts,
        "environment": _environment(run_, clock),
        "thresholds": asdict(THRESHOLDS)
        | {
            "high_similarity": HIGH_SIMILARITY,
            "small_drift": head_thresholds.SMALL_DRIFT,
            "small_rotation": head_thresholds.SMALL_ROTATION,
        },
        "heads": [asdict(head) for head in result.heads],
        "layers": result.layers,
        "exemplars": result.exemplars.listed(),
        "summary": result.summary,
    }
    validate(document)
    write_json(folder / "check.json", document)
    _write_parquet(document["heads"], folder / "heads.parquet")
    _write_maps(result, folder / "exemplars.npz")
    return document


def _environment(run_: _Run, clock: _Clock) -> dict[str, Any]:
    packages = ("tappa", "torch", "transformers", "numpy", "scipy", "sympy")
    return {
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": run_.device,
        "dtype": run_.dtype,
        "arithmetic": "float64",
        "threads": run_.checker.threads,
        "started": clock.started,
        "seconds": clock.seconds,
    }


def _write_parquet(heads: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_flat(head) for head in heads]
    names = list(dict.fromkeys(name for row in rows for name in row))
    # What is an object on one head and null on another has columns for its parts already.
    parents = {name.rpartition(".")[0] for name in names}
    table = pa.table(
        {name: [row.get(name) for row in rows] for name in names if name not in parents}
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            row |= _flat(value, f"{prefix}{key}.")
        else:
            row[prefix + key] = value
    return row


def _write_maps(result: CheckResult, path: Path) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **result.exemplars.maps)  # type: ignore[arg-type]


def _figures(folder: Path, report: bool) -> None:
    from gpu_check.figures import write_figures

    write_figures(folder)
    if report:
        from tappa_theory.app.report import write_report

        print(f"report: {write_report(folder)}")
