"""q-similarity of every head in one pass over its queries (or keys)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import triton

from gpu_check.kernels.q_similarity_kernel import SLOTS, similarity_kernel
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope


@dataclass(frozen=True)
class Tuning:
    """How the work is laid out. It moves rounding errors and speed, and no meaning.

    streams: rows read side by side by a program of `warps` warps (twice the warps above a head size
    of 128, and so on). unroll: rows of a stream asked for at once, and if `ahead` as many more
    while those are summed. steps: most rows of a stream, a multiple of unroll. programs: how many
    programs to split the work into before streams grow. registers: most per thread, None for any.
    """

    streams: int
    warps: int
    unroll: int
    steps: int
    programs: int
    ahead: bool = False
    registers: int | None = None


PLAIN = Tuning(streams=8, warps=4, unroll=8, steps=256, programs=768, registers=80)
HALF = Tuning(streams=16, warps=4, unroll=2, steps=256, programs=512, registers=128)
INTERLEAVED = Tuning(streams=8, warps=4, unroll=4, steps=256, programs=768, registers=80)
PARTIAL = Tuning(streams=8, warps=4, unroll=2, steps=256, programs=512, registers=128)


@dataclass(frozen=True, eq=False)
class Workspace:
    """Memory that a call of `q_similarity` fills, for calls of one shape, one after another.

    sums: float32, any content. tickets: int32, zeros, and zeros again after each call.
    """

    sums: torch.Tensor
    tickets: torch.Tensor


@dataclass(frozen=True, eq=False)
class QSimilarity:
    """Mean cosines of the rows of every head, (batch, heads) float64.

    adjacent, all_pairs, lag: of neighbours, of all pairs s != t, of rows `lag` apart (None unless
    asked for), on the vectors as given. adjacent_pre, all_pairs_pre: the same before RoPE, and
    energies: (batch, heads, M) float64, the sum over t of |z_m| before RoPE; None without `rope`.
    norms: (batch, heads, T) float32 of the vectors as given, 0 at padding; None unless asked for.
    first_not_finite: (batch, heads) int32, the first row with a NaN or an infinity, -1 if none.

    A mean without a pair of nonzero rows is NaN; so is everything about a head with a row that is
    not finite. `undefined` tells where, and `check` raises.
    """

    adjacent: torch.Tensor
    all_pairs: torch.Tensor
    lag: torch.Tensor | None
    adjacent_pre: torch.Tensor | None
    all_pairs_pre: torch.Tensor | None
    energies: torch.Tensor | None
    norms: torch.Tensor | None
    first_not_finite: torch.Tensor

    @property
    def undefined(self) -> torch.Tensor:
        """(batch, heads) bool: a mean of this head is NaN."""
        means = (self.adjacent, self.all_pairs, self.lag, self.adjacent_pre, self.all_pairs_pre)
        return torch.stack([mean.isnan() for mean in means if mean is not None]).any(dim=0)

    def check(self) -> None:
        """Raise InputError if a row is not finite, naming the first. Waits for the device."""
        found = (self.first_not_finite >= 0).nonzero()
        if len(found):
            batch, head = found[0].tolist()
            row = int(self.first_not_finite[batch, head])
            raise InputError(
                f"batch {batch}, head {head}: row {row} is not finite (NaN or infinity); "
                "similarity needs numbers"
            )


def q_similarity(
    x: torch.Tensor,
    *,
    rope: Rope | None = None,
    lag: int | None = None,
    valid: torch.Tensor | None = None,
    norms: bool = False,
    workspace: Workspace | None = None,
    tuning: Tuning | None = None,
) -> QSimilarity:
    """Similarities of the queries or keys x (batch, heads, T, d), in one launch of one kernel.

    x: bfloat16, float16 or float32, any strides, on a CUDA device. Sums are float32 in a chunk and
    float64 over chunks. Zero rows are excluded, and rows where `valid` (batch, T) is 0.
    rope: x is after this RoPE; asks for the measures before it. Row t is at position t, or at
        any first position plus t: a turn common to all rows changes no measure.
    lag: also the mean cosine of rows this far apart, which reads x twice.
    norms: also the norm of every row.
    workspace: of `make_workspace`; saves the launch that clears the tickets of a new one. Calls
        that share one must not overlap. For a CUDA graph, call once before capture.

    Nothing waits for the device: rows that are not finite are told by `QSimilarity.check`.
    Errors, with n <= tuning.steps rows of a stream and unit roundoff u = 2^-24: adjacent and lag
    (n + d + 32) u, all_pairs four times that, before RoPE with 5 n in place of n.
    Raises InputError if shapes, dtypes, devices or the lag do not fit.
    """
    _check(x, rope, lag, valid)
    tuning = tuning or default_tuning(rope)
    batches, heads, length, size = x.shape
    layout, width = _layout(x, rope)
    chunks, steps = _split(x, tuning)
    workspace = workspace or make_workspace(x, rope, tuning)
    needed = _sums(x, rope, tuning), batches * heads
    if workspace.sums.numel() < needed[0] or workspace.tickets.numel() < needed[1]:
        raise InputError("the workspace is too small for these vectors; make one for their shape")
    out = torch.empty((batches, heads, 5), device=x.device, dtype=torch.float64)
    first_bad = torch.empty((batches, heads), device=x.device, dtype=torch.int32)
    energies = row_norms = None
    if rope is not None:
        energies = torch.empty((batches, heads, size // 2), device=x.device, dtype=torch.float64)
    if norms:
        row_norms = torch.empty((batches, heads, length), device=x.device, dtype=torch.float32)
    if valid is not None:
        valid = (valid if valid.dtype == torch.bool else valid != 0).view(torch.uint8)
    # what a thread holds of a row grows no further above a head size of 128
    warps = tuning.warps * max(1, triton.next_power_of_2(size) // 128)
    # What a thread loads at once: 16 bytes, less if threads would be left without, and single
    # components where pairs lie scattered.
    group = 16 // x.element_size() // (2 if layout == "interleaved" else 1)
    group = min(group, max(1, width * tuning.streams // (32 * warps)))
    if rope is not None and layout == "half" and rope.rotary_dim < size:
        group = 1
    options = {} if tuning.registers is None else {"maxnreg": tuning.registers}
    with torch.cuda.device_of(x):
        similarity_kernel[(batches * heads * chunks,)](
            x,
            out if valid is None else valid,
            out if rope is None else _table(rope, x.device),
            out if row_norms is None else row_norms,
            workspace.sums,
            workspace.tickets,
            out,
            out if energies is None else energies,
            first_bad,
            *x.stride(),
            *((0, 0) if valid is None else valid.stride()),
            heads,
            chunks,
            length,
            steps,
            lag or 0,
            D=size,
            WIDTH=width,
            LAYOUT=layout,
            ROTARY=0 if rope is None else rope.rotary_dim,
            SCALED=rope is not None and rope.attention_scaling != 1 and rope.rotary_dim < size,
            WITH_LAG=lag is not None,
            WITH_VALID=valid is not None,
            WITH_NORMS=norms,
            CONTIGUOUS=x.stride(2) == size,
            ROWS=tuning.streams,
            UNROLL=tuning.unroll,
            GROUP=min(group, width),
            AHEAD=tuning.ahead,
            num_warps=warps,
            **options,
        )
    return QSimilarity(
        adjacent=out[..., 0],
        all_pairs=out[..., 2],
        lag=None if lag is None else out[..., 1],
        adjacent_pre=None if rope is None else out[..., 3],
        all_pairs_pre=None if rope is None else out[..., 4],
        energies=energies,
        norms=row_norms,
        first_not_finite=first_bad,
    )


def default_tuning(rope: Rope | None) -> Tuning:
    """The tuning that `q_similarity` takes of itself."""
    if rope is None:
        return PLAIN
    if rope.layout == "interleaved" or not rope.rotary_dim:
        return INTERLEAVED
    return HALF if rope.rotary_dim == rope.head_dim else PARTIAL


def make_workspace(
    x: torch.Tensor, rope: Rope | None = None, tuning: Tuning | None = None
) -> Workspace:
    """A workspace for calls of `q_similarity` with vectors of x's shape."""
    count = _sums(x, rope, tuning or default_tuning(rope))
    return Workspace(
        sums=torch.empty(count, device=x.device, dtype=torch.float32),
        tickets=torch.zeros(x.shape[0] * x.shape[1], device=x.device, dtype=torch.int32),
    )


def _layout(x: torch.Tensor, rope: Rope | None) -> tuple[str, int]:
    """(how components pair up, columns of a tile)."""
    size = x.shape[-1]
    if rope is None:
        return "plain", triton.next_power_of_2(size)
    # what does not turn pairs up consecutively, whatever the layout
    layout = rope.layout if rope.rotary_dim else "interleaved"
    return layout, triton.next_power_of_2(size // 2)


def _split(x: torch.Tensor, tuning: Tuning) -> tuple[int, int]:
    """(chunks of a head, rows of a stream), which depend on nothing but shape and tuning."""
    rows = x.shape[0] * x.shape[1] * x.shape[2]
    steps = triton.cdiv(rows, tuning.programs * tuning.streams)
    steps = min(triton.cdiv(steps, tuning.unroll) * tuning.unroll, tuning.steps)
    pieces, rest = divmod(x.shape[2], tuning.streams * tuning.unroll)
    return triton.cdiv(pieces, steps // tuning.unroll) + (rest > 0), steps


def _sums(x: torch.Tensor, rope: Rope | None, tuning: Tuning) -> int:
    """Numbers of float32 that all chunks leave."""
    chunks, _ = _split(x, tuning)
    _, width = _layout(x, rope)
    return x.shape[0] * x.shape[1] * chunks * (SLOTS.value + (1 if rope is None else 5) * width)


@lru_cache(maxsize=64)
def _table(rope: Rope, device: torch.device) -> torch.Tensor:
    """(4, M) float64: turns per position, cosine and sine of a step, inverse attention scaling."""
    theta = rope.frequencies
    unscaling = np.ones_like(theta)
    unscaling[: rope.rotary_dim // 2] = 1 / rope.attention_scaling
    rows = (theta / (2 * np.pi), np.cos(theta), np.sin(theta), unscaling)
    return torch.from_numpy(np.stack(rows)).to(device)


def _check(x: torch.Tensor, rope: Rope | None, lag: int | None, valid: torch.Tensor | None) -> None:
    if x.ndim != 4 or 0 in x.shape:
        raise InputError(
            f"vectors of shape {tuple(x.shape)} given; pass (batch, heads, T, head size), none 0"
        )
    if x.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise InputError(f"vectors of dtype {x.dtype} given; pass bfloat16, float16 or float32")
    if not (x.is_cuda or triton.knobs.runtime.interpret):
        raise InputError(
            f"vectors on the device {x.device} given; this kernel needs a CUDA device "
            "(q_similarity_reference runs anywhere)"
        )
    if rope is not None and rope.head_dim != x.shape[-1]:
        raise InputError(
            f"vectors of head size {x.shape[-1]} given with a RoPE of head size {rope.head_dim}"
        )
    if lag is not None and lag < 1:
        raise InputError(f"a lag of {lag} positions given; pass a lag of 1 or more")
    if valid is not None and (valid.shape != (x.shape[0], x.shape[2]) or valid.device != x.device):
        raise InputError(
            f"a mask of shape {tuple(valid.shape)} on {valid.device} given; pass (batch, T) = "
            f"{(x.shape[0], x.shape[2])} on {x.device}"
        )
