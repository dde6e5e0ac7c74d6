"""Where queries and keys come from: a model that runs texts, or a file of captured tensors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gpu_check.capture import LayerCapture, capture
from gpu_check.check import Checker, CheckResult, check_lag
from gpu_check.checkpoints import CapturedTensors, Checkpoint, load
from gpu_check.clock import Clock
from gpu_check.distributed import ALONE, ROUND, Agreed, World
from gpu_check.options import (
    Job,
    check_options,
    layer_range,
    reference_dtype,
    refuse_model_options,
)
from gpu_check.precision import compare
from gpu_check.rotary_modules import left_as_found, model_ropes, verified_rotations
from gpu_check.texts import default_text, read_text, tokenize
from gpu_check.visibility import Visibility
from tappa_theory.app.progress import progress_bar, progress_reports
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope


class Source:
    """One source of queries and keys, and the results of the whole layers so far.

    Of several processes that share a check the first has the results.
    """

    world: World
    checker: Checker
    result: CheckResult
    model: dict[str, Any]
    texts: list[dict[str, Any]]
    device: str
    dtype: str
    precision: dict[str, Any] | None = None

    def measure(self) -> None:
        raise NotImplementedError

    def measure_precision(self) -> None:
        """Measure again in the reference dtype; called only where `precision` is not None."""
        raise NotImplementedError

    def keep_layer(self) -> None:
        """Copy the results at the end of a layer: an interrupt may fall inside the next one.

        Several processes bring theirs together first, after a round of heads.
        """
        if self.world.size == 1:
            self.result = self.checker.finished.ordered()
        elif self.checker.pending >= ROUND * self.world.size:
            self.gather()

    def gather(self) -> None:
        """Copy the results of all processes; called at the end of a layer."""
        self.checker.gather()
        self.result = self.checker.result.ordered()


class ModelSource(Source):
    """A checkpoint that runs texts."""

    def __init__(self, job: Job, clock: Clock, world: World = ALONE) -> None:
        check_options(job, world.size)
        self.world = world
        texts = [read_text(path) for path in job.texts] or [default_text()]
        # A folder is there; anything else may have to be fetched or converted, once for all.
        in_turn = nullcontext() if Path(job.model).expanduser().is_dir() else world.first_alone()
        with in_turn, progress_reports() as report:
            loaded = load(
                job.model,
                device=job.device,
                dtype=job.dtype,
                progress=report,
                trust_remote_code=job.trust_remote_code,
                allow_pickle=job.allow_pickle,
                device_map="auto" if job.device_map == "auto" else None,
            )
        assert isinstance(loaded, Checkpoint)
        clock.stop("load")
        self.checkpoint, self.job = loaded, job
        vocabulary = loaded.model.get_input_embeddings().num_embeddings
        self.ids = [
            tokenize(
                text,
                loaded.tokenizer,
                job.tokens,
                loaded.context_length,
                vocabulary_size=vocabulary,
                chat=job.chat,
            )[0]
            for text in texts
        ]
        for ids in self.ids:
            check_lag(job.lag, len(ids))
        with _naming(loaded.id):
            by_length = {n: model_ropes(loaded.model, n) for n in {len(ids) for ids in self.ids}}
        self.ropes = [by_length[len(ids)] for ids in self.ids]
        config = loaded.model.config.get_text_config()
        layers = len(self.ropes[0])
        self.layers = layer_range(job.layers, layers)
        self.checker, self.result = Checker(job.lag, world=world), CheckResult()
        heads = config.num_attention_heads
        self.model = {
            "id": loaded.id,
            "architecture": loaded.architecture,
            "layers": layers,
            "heads": heads,
            "kv_heads": getattr(config, "num_key_value_heads", None) or heads,
            "head_dim": self.ropes[0][0].head_dim,
            "context_length": loaded.context_length,
            "source": loaded.source,
            "rope": _rope_groups([dict(enumerate(each)) for each in self.ropes]),
        }
        self.texts = [
            {
                "source": text.source,
                "sha256": text.sha256,
                "tokens": len(ids),
                "loss": None,
                "chat": job.chat,
            }
            for text, ids in zip(texts, self.ids, strict=True)
        ]
        self.device = _devices(loaded.model)
        if loaded.model.device.type == "cuda":
            _compile(loaded.model, self.model["head_dim"], heads, max(map(len, self.ids)))
            clock.stop("compile")
        self.dtype = str(loaded.model.dtype).removeprefix("torch.")
        reference = reference_dtype(job)
        if reference is not None:
            self.precision = _not_measured(self.dtype, reference, "the run ended before it was")

    def measure(self) -> None:
        heads = len(self.ids) * len(self.layers) * self.model["heads"]
        with _fitting(self.device), progress_bar("heads", heads) as bar:
            self.checker.on_head = bar.advance
            for batch in batches(self.ropes, self.job.batch or 1):
                for text, loss in zip(batch, self._run(self.checker, batch), strict=True):
                    self.texts[text]["loss"] = loss
            self.gather()

    def _run(self, checker: Checker, batch: Sequence[int]) -> list[float | None]:
        """Run these texts in one forward pass and measure them; their losses."""
        ids, mask = padded([self.ids[text] for text in batch])

        model = self.checkpoint.model
        deviations = self._angle_deviations(batch, ids.shape[1])

        def analyse(layer: LayerCapture) -> None:
            if layer.sample in deviations:
                own = deviations[layer.sample][layer.layer]
                layer = replace(layer, angle_deviation=own)
            checker.add_capture(layer, text=batch[layer.sample])
            if checker is self.checker:
                self.keep_layer()

        with _naming(self.checkpoint.id):
            losses = capture(model, ids, analyse, attention_mask=mask, layers=self.layers)
            checker.finish()
            return losses

    def _angle_deviations(
        self, batch: Sequence[int], length: int
    ) -> dict[int, dict[int, float | None]]:
        """By place in the batch, by layer: the angle deviation over the text's own positions.

        For texts shorter than the pass, over whose padding `capture` takes it too.
        """
        model = self.checkpoint.model
        found = {}
        for sample, text in enumerate(batch):
            own = len(self.ids[text])
            if own < length:
                with torch.no_grad(), left_as_found(model):
                    model.eval()
                    rotations = verified_rotations(model, self.layers, own)
                found[sample] = {n: each.angle_deviation for n, each in rotations.items()}
        return found

    def measure_precision(self) -> None:
        assert self.precision is not None
        dtype, reference = self.precision["dtype"], self.precision["reference"]
        reason = self._first_reason(self._convert(reference))
        if reason is None:
            checker = Checker(self.job.lag, world=self.world)
            try:
                with progress_bar(
                    f"heads in {reference}", len(self.layers) * self.model["heads"]
                ) as bar:
                    checker.on_head = bar.advance
                    (loss,) = self._run(checker, [0])
            except InputError as error:
                reason = str(error)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                reason = f"the memory does not hold the model's pass in {reference}"
            reason = self._first_reason(reason)
        if reason is not None:
            self.precision = _not_measured(dtype, reference, reason)
            return
        checker.gather()
        if not self.world.first:
            return
        run = [head for head in self.result.heads if head.text == 0]
        self.precision = {
            "dtype": dtype,
            "reference": reference,
            "text": 0,
            **compare(run, checker.result.ordered().heads),
            "loss": {"dtype": self.texts[0]["loss"], "reference": loss},
        }

    def _first_reason(self, reason: str | None) -> str | None:
        """The first process's reason that has one: what one cannot measure, none does."""
        return next((each for each in self.world.everyone(reason) if each is not None), None)

    def _convert(self, reference: str) -> str | None:
        """Convert the model in place to the reference dtype; the reason if that cannot be."""
        model = self.checkpoint.model
        if self.checkpoint.spread:
            return f"the model is spread over {self.device}"
        if getattr(model, "is_quantized", False):
            return "the model computes with quantised weights, which have no other dtype"
        try:
            model.to(getattr(torch, reference))
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            return f"the memory does not hold the model in {reference}"
        return None


class CaptureSource(Source):
    """Queries and keys that were captured elsewhere."""

    def __init__(self, job: Job, clock: Clock, world: World = ALONE) -> None:
        refuse_model_options(job)
        check_options(job, world.size)
        self.world = world
        loaded = load(job.model, device=job.device, dtype=job.dtype)
        assert isinstance(loaded, CapturedTensors)
        clock.stop("load")
        self.tensors = loaded
        check_lag(job.lag, loaded.tokens)
        chosen = set(layer_range(job.layers, max(loaded.layers) + 1))
        self.layers = [layer for layer in loaded.layers if layer in chosen]
        if not self.layers:
            raise InputError(f"--layers {job.layers}: {job.model} holds none of these layers")
        self.checker, self.result = Checker(job.lag, world=world), CheckResult()
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
            "rope": _rope_groups([loaded.rope]),
        }
        self.texts = [
            {
                "source": "captured",
                "sha256": loaded.text_sha256,
                "tokens": loaded.tokens,
                "loss": None,
                "chat": False,
            }
        ]
        self.device = str(loaded.device)
        self.dtype = "as captured"

    def measure(self) -> None:
        heads = sum(self.tensors.heads[layer] for layer in self.layers)
        with _fitting(self.device), progress_bar("heads", heads) as bar:
            self.checker.on_head = bar.advance
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
            self.gather()


def batches(ropes: Sequence[Sequence[Rope]], size: int) -> list[list[int]]:
    """Indices of the texts that share a forward pass: up to `size` neighbours.

    ropes: of each text, one per layer. Some RoPEs ("dynamic", "longrope") depend on the length of
    the pass, and padding would change that of a shorter text; texts of other RoPEs are kept apart.
    """
    found: list[list[int]] = []
    for text, own in enumerate(ropes):
        if found and len(found[-1]) < size and ropes[found[-1][0]] == own:
            found[-1].append(text)
        else:
            found.append([text])
    return found


def padded(texts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids (B, T), attention mask (B, T)) of texts (T_b,), padded on the right.

    The padding repeats the last token: any id that the model embeds would do, no token sees it.
    """
    length = max(len(ids) for ids in texts)
    ids = torch.stack([torch.cat([each, each[-1:].expand(length - len(each))]) for each in texts])
    mask = torch.stack([torch.arange(length) < len(each) for each in texts])
    return ids, mask.to(torch.int64)


@contextmanager
def _naming(model_id: str) -> Iterator[None]:
    """Put the model's id before what is wrong with its weights or its architecture."""
    try:
        yield
    except Agreed:
        raise  # another process has put it
    except InputError as error:
        raise InputError(f"{model_id}: {error}") from error


@contextmanager
def _fitting(device: str) -> Iterator[None]:
    """Say what to do where a GPU's memory holds the model, but not the check of the text."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"the memory of {device} does not hold the check of a text this long; use fewer "
            "--tokens, or --device cpu"
        ) from error


def _compile(model: Any, head_dim: int, heads: int, length: int) -> None:
    """Have the kernels compiled now, so that it counts as a part of the run of its own."""
    from gpu_check.kernels.warm_up import warm_up

    window = getattr(model.config.get_text_config(), "sliding_window", None)
    windows = (None,) if window is None else (None, window)
    warm_up(head_dim, model.device, heads=heads, length=length, windows=windows)


def _devices(model: Any) -> str:
    """Where the model's weights lie: several devices, or "disk", where accelerate spread them."""
    placed = getattr(model, "hf_device_map", None) or {"": model.device}
    names = {f"cuda:{d}" if isinstance(d, int) else str(d) for d in placed.values()}
    return ", ".join(sorted(names))


def _not_measured(dtype: str, reference: str, reason: str) -> dict[str, Any]:
    return {"dtype": dtype, "reference": reference, "not_measured": reason}


def _out_of_memory(error: Exception) -> bool:
    """On a GPU torch has a class of its own for it, on the CPU only a message."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "alloc" in str(error).lower()


def _rope_groups(texts: Sequence[Mapping[int, Rope]]) -> list[dict[str, Any]]:
    """One entry per distinct RoPE, with its layers and the texts whose length it belongs to."""
    groups: dict[Rope, list[tuple[int, int]]] = {}
    for text, by_layer in enumerate(texts):
        for layer, rope in by_layer.items():
            groups.setdefault(rope, []).append((text, layer))
    return [
        {
            "layers": sorted({layer for _, layer in places}),
            "texts": sorted({text for text, _ in places}),
            "base": rope.base,
            "type": rope.type,
            "rotary_dim": rope.rotary_dim,
            "layout": rope.layout,
            "attention_scaling": rope.attention_scaling,
            "frequencies": rope.frequencies.tolist(),
        }
        for rope, places in groups.items()
    ]
