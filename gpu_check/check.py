"""The check of whole layers: from captured queries and keys to results, in memory."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from gpu_check.distributed import ALONE, World, digest
from gpu_check.exemplars import Exemplars
from gpu_check.head_threads import HeadThreads
from gpu_check.heads import Measured, measure
from gpu_check.layer_pipeline import LayerPipeline
from gpu_check.moments import HeadMoments
from gpu_check.pairs import Head
from gpu_check.results import HeadResult
from gpu_check.rotation_bound import angle_bound
from gpu_check.summary import layer_means, summarise, verdict
from gpu_check.vectors import Subject
from gpu_check.visibility import Visibility
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, to_channels, unrotate

if TYPE_CHECKING:
    from gpu_check.capture import LayerCapture


@dataclass
class CheckResult:
    """Results of the heads checked so far, and the moments of their queries and keys."""

    heads: list[HeadResult] = field(default_factory=list)
    exemplars: Exemplars = field(default_factory=Exemplars)
    moments: list[HeadMoments] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """ "holds", "violated" or "undecided"."""
        return verdict(self.heads)

    @property
    def summary(self) -> dict[str, Any]:
        """What all heads say together, as in check.json."""
        return summarise(self.heads)

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Means by layer, as in check.json."""
        return layer_means(self.heads)

    def ordered(self) -> "CheckResult":
        """A copy in the order of texts, layers and heads; a batch is measured layer by layer."""
        heads = sorted(self.heads, key=lambda head: (head.text, head.layer, head.head))
        moments = sorted(self.moments, key=lambda head: (head.text, head.layer, head.head))
        return CheckResult(heads, self.exemplars.copy(), moments)

    def add(self, other: "CheckResult") -> None:
        """Add the results of other heads."""
        self.heads += other.heads
        self.moments += other.moments
        self.exemplars.merge(other.exemplars)


class Checker:
    """Measures layer after layer: its heads side by side on a processor, together on a GPU.

    threads: for the heads on a processor, default one per core. on_head: called after every head.
    world: the processes that share the heads; each is given all layers and measures its own heads.
    `result` holds those until `gather`; pending: heads of all processes since. `finished` is
    without the layer that a GPU still works on.
    """

    def __init__(
        self,
        lag: int | None = None,
        threads: int | None = None,
        on_head: Callable[[], None] = lambda: None,
        world: World = ALONE,
    ) -> None:
        self.lag = lag
        self.threads = threads or max(1, (os.cpu_count() or 1) // world.local_size)
        self.on_head = on_head
        self.world = world
        self.finished = CheckResult()
        self.pending = 0
        self._pipeline: LayerPipeline | None = None
        self._units = 0
        self._captured: list[torch.Tensor] = []

    @property
    def result(self) -> CheckResult:
        """What all layers gave that were added since the last `gather`."""
        self.finish()
        return self.finished

    def add_layer(
        self,
        layer: int,
        queries: torch.Tensor,
        keys: torch.Tensor,
        rope: Rope,
        *,
        scale: float,
        visibility: Visibility,
        softcap: float | None = None,
        angle_deviation: float | None = None,
        text: int = 0,
    ) -> None:
        """Measure every head of a layer: queries (H, T, d), keys (H_kv, T, d), after RoPE.

        On a GPU that may end, or fail, only when the next layer is added or `result` is asked for.
        """
        bound = None
        if angle_deviation is not None:
            bound = angle_bound(rope, visibility.length, queries.dtype)
        subjects = [
            replace(
                subject,
                softcap=softcap,
                angle_deviation=angle_deviation,
                angle_bound=bound,
                text=text,
            )
            for subject in _subjects(layer, queries, keys, rope, scale, visibility)
        ]
        subjects = self._own(subjects, queries, keys)
        if self._pipeline is not None and self._pipeline.device != queries.device:
            self.finish()
        if _together(queries.device):
            if subjects:
                with self._working(queries.device) as pipeline:
                    self._keep(pipeline.add(subjects))
            return
        # Heads are independent, and one thread each wastes less than threads inside small tiles.
        # One by one: the features of a measured head are let go once it is kept.
        with HeadThreads(self.threads, queries.device) as pool:
            self._keep(pool.map(partial(measure, lag=self.lag), subjects))

    def add_capture(self, captured: "LayerCapture", text: int | None = None) -> None:
        """Measure every head of a layer that `gpu_check.capture` handed over.

        text: index of its text in the check, default that in the batch. Padding on the right is
        cut off first: the text is measured as if it had run alone.
        """
        visibility = _trimmed(captured.visibility)
        self.add_layer(
            captured.layer,
            captured.queries[:, : visibility.length],
            captured.keys[:, : visibility.length],
            captured.rope,
            scale=captured.scale,
            visibility=visibility,
            softcap=captured.softcap,
            angle_deviation=captured.angle_deviation,
            text=captured.sample if text is None else text,
        )

    def gather(self) -> None:
        """Bring the results of all processes together in the first; in the others none are left.

        Raises InputError if the processes were given different queries and keys.
        """
        if self.world.size == 1 or not self.pending:
            return
        self.finish()
        own = CheckResult() if self.world.first else self.finished
        parts = self.world.gather([(self.world.rank, own)])
        if not self.world.same(torch.stack(self._captured)):
            raise InputError(
                "the processes captured different queries and keys: their devices differ, or the "
                "model's kernels are not deterministic; run it in one process"
            )
        self.pending, self._captured = 0, []
        if not self.world.first:
            self.finished = CheckResult()
        for part in parts:
            self.finished.add(part)
            for _ in part.heads:
                self.on_head()

    def _own(
        self, subjects: list[Subject], queries: torch.Tensor, keys: torch.Tensor
    ) -> list[Subject]:
        """Of a layer's heads those that this process measures.

        On a GPU all or none: heads are measured together there, and the bits of a sum may depend on
        how many sums are taken at once.
        """
        together = _together(queries.device)
        start, units = self._units, 1 if together else len(subjects)
        self._units += units
        self.pending += len(subjects)
        if self.world.size > 1:
            self._captured.append(31 * digest(queries) + digest(keys))
        own = self.world.mine(range(start, self._units))
        if together:
            return subjects if own else []
        return [subjects[unit - start] for unit in own]

    def finish(self) -> None:
        """Keep the heads of the layer that a GPU still works on."""
        if self._pipeline is None:
            return
        with self._working(self._pipeline.device) as pipeline:
            self._pipeline = None
            self._keep(pipeline.rest())
            pipeline.close()

    @contextmanager
    def _working(self, device: torch.device) -> Iterator[LayerPipeline]:
        """A pipeline on the device; an error or an interrupt ends it."""
        if self._pipeline is None:
            self._pipeline = LayerPipeline(device, self.lag)
        pipeline = self._pipeline
        try:
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                yield pipeline
        except BaseException:
            self._pipeline = None
            pipeline.close(cancel=True)
            raise

    def _keep(self, heads: Iterable[Measured]) -> None:
        for measured in heads:
            self.finished.heads.append(measured.result)
            if measured.moments is not None:
                self.finished.moments.append(measured.moments)
            self.finished.exemplars.offer(measured)
            self.on_head()


def _together(device: torch.device) -> bool:
    """Are the heads of a layer measured together there?"""
    return device.type != "cpu"


def _trimmed(visibility: Visibility) -> Visibility:
    """The visibility without padding on the right, which no token sees."""
    tokens = visibility.tokens
    if visibility.valid is None or not bool(visibility.valid[:tokens].all()):
        return visibility
    return Visibility(tokens, visibility.window)


def _subjects(
    layer: int,
    queries: torch.Tensor,
    keys: torch.Tensor,
    rope: Rope,
    scale: float,
    visibility: Visibility,
) -> Iterator[Subject]:
    heads, length, _ = queries.shape
    kv_heads = keys.shape[0]
    if heads % kv_heads or keys.shape[1] != length:
        raise InputError(
            f"layer {layer}: queries {tuple(queries.shape)}, keys {tuple(keys.shape)} do not fit "
            "together; pass (heads, T, d) and (kv_heads, T, d)"
        )
    # A copy, where they are still worked on when the caller may change them.
    copy = _together(queries.device)
    queries, keys = (x.detach().to(torch.float64, copy=copy) for x in (queries, keys))
    positions = torch.arange(length, device=queries.device)
    z = unrotate(to_channels(queries, rope), rope, positions)
    w = unrotate(to_channels(keys, rope), rope, positions)
    for index in range(heads):
        kv_head = index // (heads // kv_heads)
        yield Subject(
            layer=layer,
            index=index,
            kv_head=kv_head,
            query=queries[index],
            key=keys[kv_head],
            head=Head(
                z[index], w[kv_head], rope, scale, visibility, (queries[index], keys[kv_head])
            ),
        )


def check(
    q: Any,
    k: Any,
    rope: Rope,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    valid: Any | None = None,
    lag: int | None = None,
) -> CheckResult:
    """Check the theorems on every visible pair of the heads of one layer.

    q: (heads, T, d), k: (kv_heads, T, d), after RoPE, numpy or torch, row p at position p.
    rope: how they were rotated. scale: softmax scale, default 1/sqrt(d). window: sliding window.
    softcap: of the logits. valid: (T,), false on padding. lag: period of the seasonal theorem,
    default the lag at which the queries are most alike.

    Raises InputError if shapes, lag or numbers do not fit.
    """
    queries, keys = torch.as_tensor(q), torch.as_tensor(k)
    for name, tensor in (("q", queries), ("k", keys)):
        if tensor.ndim != 3:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}; pass (heads, T, head_dim)")
        if 0 in tensor.shape:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}; pass one token or more")
        # Squares of numbers beyond float32 would overflow.
        if not bool(torch.isfinite(tensor.to(torch.float32)).all()):
            raise InputError(f"{name} holds NaN or infinite numbers; repair the capture")
    length = queries.shape[1]
    check_lag(lag, length)
    for name, value in (("scale", scale), ("softcap", softcap), ("window", window)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} is {value}; pass a positive number, or None for the default")
    counted = None if valid is None else torch.as_tensor(valid) != 0
    if counted is not None and tuple(counted.shape) != (length,):
        shape = tuple(counted.shape)
        raise InputError(f"valid has shape {shape}; pass one entry per token, ({length},)")
    checker = Checker(lag)
    checker.add_layer(
        0,
        queries,
        keys,
        rope,
        scale=rope.head_dim**-0.5 if scale is None else scale,
        visibility=Visibility(length, window, counted),
        softcap=softcap,
    )
    return checker.result


def check_model(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    layers: range | None = None,
    lag: int | None = None,
) -> CheckResult:
    """Check the theorems on a loaded transformers model, which is left as it was found.

    input_ids: (B, T) token ids of B texts; `HeadResult.text` is the row. attention_mask: (B, T),
    1 on tokens and 0 on padding; padding on the right is cut off before a text is measured.
    layers: those to check, default all. lag: as in `check`; it must fit every text.

    Raises InputError for shapes or a lag that do not fit, or what `capture` refuses.
    """
    from gpu_check.capture import capture

    if input_ids.ndim != 2 or input_ids.numel() == 0:
        raise InputError(
            f"input_ids have shape {tuple(input_ids.shape)}; pass (texts, T), T at least 1"
        )
    if lag is not None:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        for tokens in torch.count_nonzero(mask, dim=-1).tolist():
            check_lag(lag, tokens)
    checker = Checker(lag)
    capture(model, input_ids, checker.add_capture, attention_mask=attention_mask, layers=layers)
    return checker.result.ordered()


def check_lag(lag: int | None, length: int) -> None:
    """Raise InputError unless the lag lies in 1..T-1."""
    if lag is not None and not 1 <= lag < length:
        raise InputError(f"--lag {lag} does not fit {length} tokens; use 1 to {length - 1}")
