"""Heads that drift, how long their top keys stay on top, and what discarded keys are still worth.

Definitions as in `tappa check`; certificates from the registry's theorems lifetime and kv_reuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from simulations.experiment import Row
from simulations.generators.parts import default_rope, scale_of
from simulations.generators.paths import Kind, drifting
from simulations.head import SyntheticHead
from simulations.rounding import UNIT_ROUNDOFF
from tappa_theory.attention import causal
from tappa_theory.patterns import observed_rows
from tappa_theory.separable import evaluate, separate
from tappa_theory.theorems.attention_distance import MASS_LATER
from tappa_theory.theorems.lifetime import BY_ANGLE, BY_NORMS, MARGIN_CHANGE

HEAD_DIM = 64
BASE = 10_000.0
ROPE = default_rope(HEAD_DIM, BASE)
SCALE = scale_of(ROPE)
SPREAD = 2.0
"""Standard deviation of a row's logits."""
HORIZON = 64
"""Steps for which a top key is followed; one still on top then counts as HORIZON."""
HORIZONS = (1, 4, 16)
"""Steps after which discarded keys are looked at again."""
KEPT_SHARE = 0.25
"""Share of the visible keys that is kept: the most attended, rounded up, ties included."""
INFORMATIVE = 0.5
"""A certificate below this says that most of the attention is still on kept keys."""

EVERY = 4
"""Every fourth row is certified; rows between differ little from it."""

KINDS: tuple[Kind, ...] = ("smooth", "steps")
CHANNELS = ("slow", "all")
FORMS = ("channels", "norms", "angle")
"""The certificates of a lifetime: registry `lifetime`, bound, by_norms and by_angle."""


def drift_head(
    rng: np.random.Generator, length: int, similarity: float, kind: Kind, channels: str
) -> SyntheticHead:
    """Random unrelated keys, and queries of that adjacent cosine before RoPE.

    kind: of `paths.drifting`. channels: "slow" puts everything on the slower half, "all" on all.
    """
    count = ROPE.frequencies.size
    used = slice(count // 2 if channels == "slow" else 0, count)
    width = len(range(*used.indices(count)))
    z, w = (np.zeros((length, count), dtype=np.complex128) for _ in range(2))
    z[:, used] = drifting(rng, length, width, cosine=similarity, norm=SPREAD / SCALE, kind=kind)
    shape = length, width
    w[:, used] = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return SyntheticHead(z, w, ROPE, SCALE, intended="unpredictable")


@dataclass(frozen=True, eq=False)
class Lifetimes:
    """Steps for which the top key of each row stays on top, at most HORIZON; (R,) each.

    certified: by form. old: among the keys of the row, which is what the certificates are about.
    every: among all keys, later ones included.
    """

    certified: Mapping[str, np.ndarray]
    old: np.ndarray
    every: np.ndarray


def lifetimes(head: SyntheticHead, horizon: int = HORIZON) -> Lifetimes:
    """Certified and observed lifetimes of the rows that can be followed for `horizon` steps."""
    length = len(head.z)
    rows = np.arange(observed_rows(length), length - horizon, EVERY)
    later = rows[:, None] + np.arange(1, horizon + 1)
    seen = np.where(causal(np.arange(length), length), head.logits, -np.inf)
    top = seen[rows].argmax(axis=1)
    own = head.logits[later, top[:, None]]
    # Every row of `later` sees all keys of its row.
    overtaken = np.maximum.accumulate(seen, axis=1)[later, rows[:, None]] > own
    overtaken_by_any = seen.max(axis=1)[later] > own

    rival = causal(rows, length)
    rival[np.arange(len(rows)), top] = False
    # Eight roundings of logits, in the margin now, the margin later, and their certificates.
    lead = head.logits[rows, top][:, None] - head.logits[rows] - 8 * head.logit_error
    lead = np.where(rival, np.maximum(lead, 0.0), np.inf)
    distance = np.where(rival, cdist(head.key[top], head.key), 1.0)
    more = 1 + (HEAD_DIM + 8) * UNIT_ROUNDOFF
    query, after = head.query[rows], head.query[later]
    move = np.linalg.norm(after - query[:, None], axis=-1) * more
    by_norms = evaluate(
        BY_NORMS,
        {
            "lambda": head.scale,
            "query_move": move[:, :, None],
            "key_distance": distance[:, None] * more,
        },
    )
    turns = _angle(query[:, None], after) + (HEAD_DIM + 8) * UNIT_ROUNDOFF
    size = np.linalg.norm(query, axis=-1)[:, None]
    angles = evaluate(
        BY_ANGLE,
        {
            "lambda": head.scale,
            "query_norm": size * more,
            "lead": lead,
            "key_distance": distance * more,
        },
    )
    holds = {
        "channels": (_margin_changes(head, rows, later, top) * more < lead[:, None]).all(axis=-1),
        "norms": (by_norms < lead[:, None]).all(axis=-1),
        "angle": turns < angles.min(axis=-1)[:, None],
    }
    return Lifetimes(
        {form: _leading(flags) for form, flags in holds.items()},
        _leading(~overtaken),
        _leading(~overtaken_by_any),
    )


def _margin_changes(
    head: SyntheticHead, rows: np.ndarray, later: np.ndarray, top: np.ndarray
) -> np.ndarray:
    """(R, S, T): what every step to a later row may change in the margin over every key."""
    feature = separate(MARGIN_CHANGE)
    values = {
        "z": head.z[rows][:, None],
        "z_s": head.z[later],
        "w": head.w[top][:, None],
        "w_u": head.w[None],
        "s": (later - rows[:, None])[..., None].astype(np.float64),
        "u": (np.arange(len(head.w)) - top[:, None])[..., None].astype(np.float64),
        "theta": head.rope.frequencies,
        "lambda": head.scale,
    }
    shape = len(rows), len(head.w), head.w.shape[1]
    query = feature.query_features(
        values | {"z": np.broadcast_to(values["z"], values["z_s"].shape)}
    )
    key = feature.key_features(values | {"w": np.broadcast_to(values["w"], shape)})
    return query @ np.swapaxes(key, -1, -2)


def _angle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Angle between vectors, radians, as exact for small ones as for others."""
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    return 2 * np.arctan2(np.linalg.norm(x - y, axis=-1), np.linalg.norm(x + y, axis=-1))


def _leading(flags: np.ndarray) -> np.ndarray:
    """(R,) number of steps before the first that is false."""
    return np.logical_and.accumulate(flags, axis=1).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Reuse:
    """Mass of the keys discarded at each row, some steps later; (R,) each.

    discarded: at the row itself. observed: later, among the keys of the row. measured, a_priori:
    its certificates, from the measured oscillation and from the move and the keys' diameter alone.
    slack: relative rounding of a mass.
    """

    discarded: np.ndarray
    observed: np.ndarray
    measured: np.ndarray
    a_priori: np.ndarray
    slack: float

    @property
    def broken(self) -> int:
        """Rows in which the observed mass is above one of the certificates."""
        limit = np.minimum(self.measured, self.a_priori) * (1 + self.slack)
        return int(np.count_nonzero(self.observed > limit))


def reuse(head: SyntheticHead, step: int) -> Reuse:
    """All but the most attended keys of each row are discarded, and looked at `step` rows later."""
    length = len(head.z)
    rows = np.arange(observed_rows(length), length - step, EVERY)
    seen = causal(rows, length)
    kept = np.ceil(seen.sum(axis=1) * KEPT_SHARE).astype(int)
    now, then = head.attention[rows], head.attention[rows + step]
    least = np.sort(now, axis=1)[np.arange(len(rows)), length - kept]
    gone = seen & (now < least[:, None])
    discarded, observed = (
        np.where(gone, mass, 0.0).sum(axis=1) / np.where(seen, mass, 0.0).sum(axis=1)
        for mass in (now, then)
    )
    change = head.logits[rows + step] - head.logits[rows]
    oscillation = np.where(seen, change, -np.inf).max(axis=1)
    oscillation -= np.where(seen, change, np.inf).min(axis=1)
    more = 1 + (HEAD_DIM + 8) * UNIT_ROUNDOFF
    farthest = np.tril(cdist(head.key, head.key)).max(axis=1)
    limit = evaluate(
        BY_NORMS,
        {
            "lambda": head.scale,
            "query_move": np.linalg.norm(head.query[rows + step] - head.query[rows], axis=-1),
            "key_distance": np.maximum.accumulate(farthest)[rows] * more,
        },
    )
    measured, a_priori = (
        evaluate(MASS_LATER, {"mass": discarded, "omega": omega}) for omega in (oscillation, limit)
    )
    # Each mass errs by its sum's roundings and four logits' errors, relative to itself.
    slack = 8 * head.logit_error + 8 * length * UNIT_ROUNDOFF
    return Reuse(discarded, observed, measured, a_priori, slack)


def where(entries: list[Row], **fixed: Any) -> list[Row]:
    """The entries with these values; `least` and `most` limit the similarity that was set."""
    least, most = fixed.pop("least", 0.0), fixed.pop("most", 1.0)
    return [
        entry
        for entry in entries
        if least - 1e-9 <= entry["similarity_set"] <= most + 1e-9
        and all(entry[name] == value for name, value in fixed.items())
    ]


def each(entries: list[Row], name: str) -> np.ndarray:
    """That column, without the entries in which it is None."""
    found = [entry[name] for entry in entries if entry[name] is not None]
    return np.array(found, dtype=np.float64)


def mean(entries: list[Row], name: str) -> float:
    """Mean over heads, which have equally many rows."""
    return float(each(entries, name).mean())
