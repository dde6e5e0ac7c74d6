"""What `attention_rows` measures, in plain torch and float64, and what both accept and return."""

import math
from dataclasses import dataclass

import torch

from gpu_check.visibility import Visibility
from tappa_theory import patterns
from tappa_theory.arrays import as_float64
from tappa_theory.attention import softmax
from tappa_theory.drift import step_change
from tappa_theory.errors import InputError
from tappa_theory.predictability import TOP, shift_aware_recall

ROWS = 128
"""Query rows of a block."""
LARGEST_HEAD = 256
"""Largest head size."""


@dataclass(frozen=True, eq=False)
class AttentionRows:
    """Rows of attention P_t and the steps from one to the next, for every head of every text.

    Per row, (B, H, T), 0 on rows of padding: log_normaliser, log of the sum of e^logit over the
    visible keys; row_std, standard deviation of the visible logits; sink and slash, the attention
    on the sink columns and at the slash offsets, 0..1.
    Per step t -> t + 1, (B, H, T - 1), 0 where one of the rows is padding: divergence
    KL(P_t || P_{t+1}) and key_metric, nats, oscillation, and total_variation, half of
    sum |P_t - P_{t+1}|, all on the keys that both rows see, where both sum to 1; recall, the
    shift-aware recall, 0..1.
    column_sum: (B, H, T) attention that each key receives, `patterns.column_sums` over the observed
    rows; None unless asked for.
    """

    log_normaliser: torch.Tensor
    row_std: torch.Tensor
    sink: torch.Tensor
    slash: torch.Tensor
    divergence: torch.Tensor
    key_metric: torch.Tensor
    oscillation: torch.Tensor
    total_variation: torch.Tensor
    recall: torch.Tensor
    column_sum: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class RowInputs:
    """Checked arguments: what is said of them at `attention_rows`, defaults filled in."""

    queries: torch.Tensor
    keys: torch.Tensor
    scale: float
    window: int | None
    valid: torch.Tensor | None
    softcap: float | None
    columns: torch.Tensor
    offsets: torch.Tensor

    @property
    def group(self) -> int:
        """Query heads of a key head."""
        return self.queries.shape[1] // self.keys.shape[1]

    def require_finite(self) -> None:
        """Raises InputError naming the first vector with a NaN or an infinity, padding aside."""
        for name, vectors in (("query", self.queries), ("key", self.keys)):
            bad = ~vectors.isfinite().all(dim=-1)
            if self.valid is not None:
                bad &= self.valid[:, None, :]
            if bool(bad.any()):
                text, head, row = (int(index) for index in bad.nonzero()[0])
                raise InputError(
                    f"the {name} of text {text}, head {head}, row {row} holds a NaN or an infinity;"
                    " mark padding in `valid`, and check what the model computed"
                )


def row_inputs(
    queries: torch.Tensor,
    keys: torch.Tensor,
    scale: float,
    window: int | None,
    valid: torch.Tensor | None,
    softcap: float | None,
    columns: torch.Tensor | None,
    offsets: torch.Tensor | None,
) -> RowInputs:
    """Check the arguments of `attention_rows`. Raises InputError as it does."""
    shapes = f"queries of shape {tuple(queries.shape)} and keys of shape {tuple(keys.shape)} given"
    if queries.ndim != 4 or keys.ndim != 4:
        raise InputError(f"{shapes}; pass (B, H, T, d) and (B, H_kv, T, d)")
    texts, heads, length, size = queries.shape
    if 0 in queries.shape or 0 in keys.shape:
        raise InputError(f"{shapes}; none of their sizes may be 0")
    if keys.shape != (texts, keys.shape[1], length, size) or heads % keys.shape[1]:
        raise InputError(
            f"{shapes}; they must agree but for the heads, of which H must be a multiple of H_kv"
        )
    if size > LARGEST_HEAD:
        raise InputError(f"heads of size {size} given; the largest size is {LARGEST_HEAD}")
    if queries.dtype != keys.dtype or queries.device != keys.device:
        raise InputError(
            f"queries of {queries.dtype} on {queries.device} and keys of {keys.dtype} on"
            f" {keys.device} given; convert one of them"
        )
    if not math.isfinite(scale):
        raise InputError(f"a scale of {scale} given; pass the softmax scale, often d ** -0.5")
    if window is not None and window < 1:
        raise InputError(f"a window of {window} given; pass 1 or more, or None for all keys")
    if softcap is not None and not 0 < softcap < math.inf:
        raise InputError(f"a soft-cap of {softcap} given; pass a positive number, or None")
    device = queries.device
    if valid is not None:
        valid = _flags("valid", valid, (texts, length), device)
    if columns is None:
        columns = torch.arange(length, device=device) < 1
    if offsets is None:
        offsets = torch.arange(length, device=device) < 2
    columns = _flags("columns", columns, (length,), device)
    offsets = _flags("offsets", offsets, (length,), device)
    return RowInputs(queries, keys, float(scale), window, valid, softcap, columns, offsets)


def _flags(
    name: str, flags: torch.Tensor, shape: tuple[int, ...], device: torch.device
) -> torch.Tensor:
    if flags.shape != shape or flags.dtype != torch.bool:
        raise InputError(
            f"`{name}` of shape {tuple(flags.shape)} and {flags.dtype} given; pass torch.bool of"
            f" shape {shape}"
        )
    return flags.to(device)


def attention_rows_reference(
    queries: torch.Tensor,
    keys: torch.Tensor,
    *,
    scale: float,
    window: int | None = None,
    valid: torch.Tensor | None = None,
    softcap: float | None = None,
    columns: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
    column_sum: bool = False,
) -> AttentionRows:
    """`attention_rows` head by head and block by block in float64; memory O(T) per row of a block.

    Arguments, results and errors as there, float64 queries and keys allowed.
    """
    given = row_inputs(queries, keys, scale, window, valid, softcap, columns, offsets)
    given.require_finite()
    texts, heads, length, _ = queries.shape
    found = [_head(given, text, head, column_sum) for text in range(texts) for head in range(heads)]
    steps = {"divergence", "key_metric", "oscillation", "total_variation", "recall"}
    numbers = {
        name: torch.stack([one[name] for one in found]).reshape(texts, heads, -1)
        for name in found[0]
    }
    numbers = {
        name: values[..., : length - 1] if name in steps else values
        for name, values in numbers.items()
    }
    return AttentionRows(**{"column_sum": None} | numbers)


def _head(given: RowInputs, text: int, head: int, column_sum: bool) -> dict[str, torch.Tensor]:
    """The numbers of one head, (T,) each; those of the step from row t at t."""
    query = as_float64(given.queries[text, head]) * given.scale
    key = as_float64(given.keys[text, head // given.group])
    length, device = query.shape[0], query.device
    visibility = Visibility(
        length, given.window, None if given.valid is None else given.valid[text]
    )
    if visibility.valid is not None:
        query, key = (
            torch.where(visibility.valid[:, None], vectors, 0.0) for vectors in (query, key)
        )
    found: dict[str, list[torch.Tensor]] = {}
    received = torch.zeros(length, dtype=torch.float64, device=device)
    first = patterns.observed_rows(length)
    everything = torch.arange(length, device=device)
    for start in range(0, length, ROWS):
        rows = everything[start : start + ROWS + 1]
        logits = query[rows] @ key.T
        if given.softcap is not None:
            logits = given.softcap * torch.tanh(logits / given.softcap)
        visible = visibility.block(rows, everything)
        seen = visible.any(dim=1)
        attention = _softmax(logits, visible)
        last = min(ROWS, length - start)
        numbers = _rows(given, rows[:last], logits[:last], visible[:last], attention[:last])
        numbers |= _steps(logits, visible, attention, seen)
        for name, values in numbers.items():
            found.setdefault(name, []).append(values)
        observed = (rows >= first) & seen & (rows < start + ROWS)
        if bool(observed.any()):
            received += patterns.column_sums(attention[observed], rows[observed])
    whole = {name: torch.cat(values) for name, values in found.items()}
    none = torch.zeros(1, dtype=torch.float64, device=device)
    whole = {
        name: values if len(values) == length else torch.cat([values, none])
        for name, values in whole.items()
    }
    return whole | ({"column_sum": received} if column_sum else {})


def _softmax(logits: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Attention over the keys that are visible, 0 in rows that see none."""
    some = visible.any(dim=1, keepdim=True)
    return torch.where(visible, softmax(logits, visible | ~some), 0.0)


def _rows(
    given: RowInputs,
    rows: torch.Tensor,
    logits: torch.Tensor,
    visible: torch.Tensor,
    attention: torch.Tensor,
) -> dict[str, torch.Tensor]:
    some = visible.any(dim=1)
    count = visible.sum(dim=1).clamp(min=1)
    mean = torch.where(visible, logits, 0.0).sum(dim=1) / count
    centred = torch.where(visible, logits - mean[:, None], 0.0)
    normaliser = torch.where(visible, logits, -torch.inf).logsumexp(dim=1)
    distance = patterns.distances(rows, logits.shape[1])
    slash = given.offsets[distance.clamp(min=0)]
    return {
        "log_normaliser": torch.where(some, normaliser, 0.0),
        "row_std": (centred.square().sum(dim=1) / count).sqrt(),
        "sink": torch.where(given.columns, attention, 0.0).sum(dim=1),
        "slash": torch.where(slash, attention, 0.0).sum(dim=1),
    }


def _steps(
    logits: torch.Tensor, visible: torch.Tensor, attention: torch.Tensor, seen: torch.Tensor
) -> dict[str, torch.Tensor]:
    common = visible[:-1] & visible[1:]
    before, after = _softmax(logits[:-1], common), _softmax(logits[1:], common)
    change = step_change(logits[1:] - logits[:-1], before)
    both = seen[:-1] & seen[1:]
    recall = shift_aware_recall(attention, TOP)
    return {
        "divergence": change.divergence,
        "key_metric": change.key_metric,
        "oscillation": change.oscillation,
        "total_variation": (before - after).abs().sum(dim=1) / 2,
        "recall": torch.where(both, recall, 0.0),
    }
