"""Lifetimes and KV-reuse certificates against what happens afterwards: coverage and tightness.

Heads have unrelated random keys, and queries that drift with a given adjacent similarity before
RoPE, on the slower half of the channels or on all of them. Each row is certified when it is
computed, and then followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from simulations.experiment import Criterion, Drawn, Experiment, Outcome, Settings
from simulations.generators.paths import drifting
from simulations.rounding import UNIT_ROUNDOFF, logit_error
from tappa_theory.app.style import (
    GUIDE,
    INK,
    KEY_COLOUR,
    PAGE_WIDTH,
    QUERY_COLOUR,
    digits_text,
    new_figure,
    number_text,
    share_text,
)
from tappa_theory.arrays import real_vectors
from tappa_theory.attention import causal, logits, softmax
from tappa_theory.patterns import observed_rows
from tappa_theory.rope import Rope, rotate
from tappa_theory.separable import evaluate, separate
from tappa_theory.similarity import adjacent
from tappa_theory.theorems.attention_distance import MASS_LATER
from tappa_theory.theorems.lifetime import BY_ANGLE, BY_NORMS, MARGIN_CHANGE

HEAD_DIM = 64
SCALE = HEAD_DIM**-0.5
BASE = 10_000.0
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

KINDS = ("smooth", "steps")
CHANNELS = ("slow", "all")
FORMS = ("channels", "norms", "angle")
"""The certificates of a lifetime: registry `lifetime`, bound, by_norms and by_angle."""

# Fixed before any data. The gap between the two largest of n normal logits is exponential with
# mean sigma / sqrt(2 ln n), so its median is 0.21 sigma at n = 200; the rival is sqrt(2) key norms
# away, sigma = lambda |q||k| / sqrt(d'), d' the components in use. The query may then turn by
# 0.21 / sqrt(2 d') in the median: 0.026 rad on the slower half (d' = 32), a cosine of 0.99966.
SPEAKS_FROM = 0.9999
"""Similarity from which half of the rows are certified for a step; it turns a query by 0.014."""
SILENT_TO = 0.99
"""Similarity up to which at most a tenth of the rows is: it turns a query by 0.14, five times the
median angle, and an exponential gap is that large in 3% of the rows (7% with d' = 16)."""
FEW = 0.1
TIGHTNESS = 32**-0.5
"""Share of a lifetime on a straight path that is certified, at least: the certificate fears a move
straight towards the rival, of which a move in any of 32 directions has 1/sqrt(32)."""
REUSE_FROM = 0.999
"""Similarity from which the a priori reuse certificate is informative one step later for half of
the rows: omega is 2 x 0.045 x the diameter of the keys, about 11, so 1; three quarters of the keys
hold about a tenth of the attention, and odds of 1/9 times e are below 1."""
MEASURED_TIGHTNESS = 0.5
"""Observed mass over the certificate from the measured oscillation, one step later, in the median:
an oscillation of 0.5 raises the odds by 1.6 where the true mass hardly changes."""


@dataclass(frozen=True, eq=False)
class DriftHead:
    """Channels before RoPE with what is computed from them.

    query, key: (T, d) after RoPE. logits, attention: (T, T). error: rounding of a logit.
    """

    z: np.ndarray
    w: np.ndarray
    rope: Rope
    scale: float
    query: np.ndarray
    key: np.ndarray
    logits: np.ndarray
    attention: np.ndarray
    error: float

    @classmethod
    def of(cls, z: np.ndarray, w: np.ndarray, rope: Rope, scale: float) -> DriftHead:
        """The head with these channels, query t and key t at position t."""
        rows = np.arange(len(z))
        logit = logits(z, w, rope, scale)
        return cls(
            z, w, rope, scale,
            query=real_vectors(rotate(z, rope, rows)),
            key=real_vectors(rotate(w, rope, rows)),
            logits=logit,
            attention=softmax(logit, causal(rows, len(z))),
            error=logit_error(z, w, rope, scale),
        )  # fmt: skip


def drift_head(
    rng: np.random.Generator, length: int, similarity: float, kind: str, channels: str
) -> DriftHead:
    """Random unrelated keys, and queries of that adjacent cosine before RoPE.

    kind: of `paths.drifting`. channels: "slow" puts everything on the slower half, "all" on all.
    """
    rope = Rope.from_parameters(HEAD_DIM, {"rope_theta": BASE})
    count = rope.frequencies.size
    used = slice(count // 2 if channels == "slow" else 0, count)
    width = len(range(*used.indices(count)))
    z, w = (np.zeros((length, count), dtype=np.complex128) for _ in range(2))
    z[:, used] = drifting(rng, length, width, cosine=similarity, norm=SPREAD / SCALE, kind=kind)
    shape = length, width
    w[:, used] = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return DriftHead.of(z, w, rope, SCALE)


@dataclass(frozen=True, eq=False)
class Lifetimes:
    """Steps for which the top key of each row stays on top, at most HORIZON; (R,) each.

    certified: by form. old: among the keys of the row, which is what the certificates are about.
    every: among all keys, later ones included.
    """

    certified: Mapping[str, np.ndarray]
    old: np.ndarray
    every: np.ndarray


def lifetimes(head: DriftHead, horizon: int = HORIZON) -> Lifetimes:
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
    lead = head.logits[rows, top][:, None] - head.logits[rows] - 8 * head.error
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
    head: DriftHead, rows: np.ndarray, later: np.ndarray, top: np.ndarray
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
    query = feature.query_features(values | {"z": np.broadcast_to(values["z"], values["z_s"].shape)})
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


def reuse(head: DriftHead, step: int) -> Reuse:
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
    certificates = (
        evaluate(MASS_LATER, {"mass": discarded, "omega": omega}) for omega in (oscillation, limit)
    )
    # Each mass errs by its sum's roundings and four logits' errors, relative to itself.
    slack = 8 * head.error + 8 * length * UNIT_ROUNDOFF
    return Reuse(discarded, observed, *certificates, slack)


def _run(settings: Settings) -> Outcome:
    length, copies = (160, 3) if settings.quick else (256, 6)
    halves = range(2, 11, 2 if settings.quick else 1)
    similarities = [1 - 10.0 ** (-half / 2) for half in halves]
    heads: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    for place, similarity in enumerate(similarities):
        for kind in KINDS:
            for channels in CHANNELS:
                for copy in range(copies):
                    stream = place, KINDS.index(kind), CHANNELS.index(channels), copy
                    head = drift_head(
                        settings.random(*stream), length, similarity, kind, channels
                    )
                    named = {
                        "kind": kind,
                        "channels": channels,
                        "similarity_set": round(similarity, 6),
                        "copy": copy,
                    }
                    heads.append(named | _described(head))
                    later.extend(
                        named | {"horizon": step} | _reused(reuse(head, step)) for step in HORIZONS
                    )
    conditions = {
        "length": length,
        "head size": HEAD_DIM,
        "base": BASE,
        "heads": len(heads),
        "standard deviation of the logits of a row": SPREAD,
        "share of keys kept": KEPT_SHARE,
        "horizon": HORIZON,
    }
    tables = {"heads": _table(heads), "reuse": _table(later)}
    return Outcome(tables, _criteria(heads, later), _finding(heads, later), conditions)


def _described(head: DriftHead) -> dict[str, Any]:
    """One row of the table of heads; lifetimes are means over the rows, in steps."""
    lived = lifetimes(head)
    moved = np.linalg.norm(np.diff(head.query, axis=0), axis=-1)
    alive = lived.old >= 1
    found: dict[str, Any] = {
        "similarity_before": float(adjacent(head.z)),
        "similarity_after": float(adjacent(head.query)),
        "step": float(np.median(moved / np.linalg.norm(head.query[:-1], axis=-1))),
        "rows": len(lived.old),
        "observed_old": float(lived.old.mean()),
        "observed": float(lived.every.mean()),
        "whole_horizon": float((lived.old == HORIZON).mean()),
    }
    for form, certified in lived.certified.items():
        ratio = certified[alive] / lived.old[alive]
        found |= {
            f"certified_{form}": float(certified.mean()),
            f"share_{form}": float((certified >= 1).mean()),
            f"tightness_{form}": float(np.median(ratio)) if ratio.size else None,
            f"broken_{form}": int(np.count_nonzero(certified > lived.old)),
        }
    by_norms = lived.certified["norms"]
    weaker = np.minimum(lived.certified["channels"], lived.certified["angle"]) < by_norms
    return found | {"norms_longer": int(np.count_nonzero(weaker))}


def _reused(found: Reuse) -> dict[str, Any]:
    """One row of the table of reuse: means over the rows of a head, tightness the median."""
    entry: dict[str, Any] = {"rows": len(found.observed), "broken": found.broken}
    for name in ("discarded", "observed", "measured", "a_priori"):
        entry[name] = float(getattr(found, name).mean())
    for name in ("measured", "a_priori"):
        certificate = getattr(found, name)
        entry[f"tightness_{name}"] = float(np.median(found.observed / certificate))
        entry[f"informative_{name}"] = float((certificate < INFORMATIVE).mean())
    return entry


def _table(entries: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [entry[name] for entry in entries] for name in entries[0]}


def _where(entries: list[dict[str, Any]], **fixed: Any) -> list[dict[str, Any]]:
    """The entries with these values; `least` and `most` limit the similarity that was set."""
    least, most = fixed.pop("least", 0.0), fixed.pop("most", 1.0)
    return [
        entry
        for entry in entries
        if least - 1e-9 <= entry["similarity_set"] <= most + 1e-9
        and all(entry[name] == value for name, value in fixed.items())
    ]


def _each(entries: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([entry[name] for entry in entries], dtype=np.float64)


def _mean(entries: list[dict[str, Any]], name: str) -> float:
    """Mean over heads, which have equally many rows."""
    return float(_each(entries, name).mean())


def _criteria(
    heads: list[dict[str, Any]], later: list[dict[str, Any]]
) -> tuple[Criterion, ...]:
    broken = float(sum(_each(heads, f"broken_{form}").sum() for form in FORMS))
    speaking = _where(heads, channels="slow", least=SPEAKS_FROM)
    straight = _where(speaking, kind="smooth")
    soon = _where(later, channels="slow", least=REUSE_FROM, horizon=1)
    far = _where(later, channels="slow", kind="smooth", most=REUSE_FROM, horizon=16)
    return (
        Criterion("top keys overtaken before a certificate ended, rows", broken, "<=", 0, True),
        Criterion(
            "rows that the norms certify for longer than the channels or the angle",
            float(_each(heads, "norms_longer").sum()), "<=", 0, True,
        ),
        Criterion(
            "rows with more mass on discarded keys than a reuse certificate allows",
            float(_each(later, "broken").sum()), "<=", 0, True,
        ),
        Criterion(
            f"slow channels, similarity {SPEAKS_FROM} or more: share of the rows certified by angle"
            " for a step",
            _mean(speaking, "share_angle"), ">=", 0.5,
        ),
        Criterion(
            f"similarity {SILENT_TO} or less: the same share",
            _mean(_where(heads, most=SILENT_TO), "share_angle"), "<=", FEW,
        ),
        Criterion(
            "all channels, any similarity before RoPE: the same share",
            _mean(_where(heads, channels="all"), "share_angle"), "<=", FEW,
        ),
        Criterion(
            f"slow channels, smooth drift, similarity {SPEAKS_FROM} or more: mean lifetime certified"
            " by angle over mean lifetime observed",
            _mean(straight, "certified_angle") / _mean(straight, "observed_old"),
            ">=", TIGHTNESS,
        ),
        Criterion(
            f"slow channels, similarity {REUSE_FROM} or more, one step: share of the rows with an"
            f" a priori reuse certificate below {INFORMATIVE}",
            _mean(soon, "informative_a_priori"), ">=", 0.5,
        ),
        Criterion(
            f"slow channels, smooth drift, similarity {REUSE_FROM} or less, sixteen steps: the same"
            " share",
            _mean(far, "informative_a_priori"), "<=", 0.5,
        ),
        Criterion(
            f"slow channels, similarity {REUSE_FROM} or more, one step: observed mass over the"
            " certificate from the measured oscillation, mean of the heads' medians",
            _mean(soon, "tightness_measured"), ">=", MEASURED_TIGHTNESS,
        ),
    )  # fmt: skip


def _speaks_from(heads: list[dict[str, Any]], share: str) -> float | None:
    """Least similarity from which on at least half of the rows are certified for a step."""
    found = None
    for similarity in sorted({entry["similarity_set"] for entry in heads}, reverse=True):
        if _mean(_where(heads, least=similarity, most=similarity), share) < 0.5:
            break
        found = similarity
    return found


def _finding(heads: list[dict[str, Any]], later: list[dict[str, Any]]) -> str:
    broken = int(sum(_each(heads, f"broken_{form}").sum() for form in FORMS))
    broken += int(_each(later, "broken").sum())
    starts = {
        (channels, kind): _speaks_from(
            _where(heads, channels=channels, kind=kind), "share_angle"
        )
        for channels in CHANNELS
        for kind in KINDS
    }
    told = [
        "no similarity" if start is None else f"similarity {digits_text(start)}"
        for start in starts.values()
    ]
    straight = _where(heads, channels="slow", kind="smooth", least=SPEAKS_FROM)
    soon = _where(later, channels="slow", least=REUSE_FROM, horizon=1)
    return (
        f"{broken} certificates broken on {int(_each(heads, 'rows').sum())} followed rows and"
        f" {int(_each(later, 'rows').sum())} comparisons of discarded mass. Half of the rows are"
        f" certified for a step by angle from {told[0]} (smooth drift, slow channels), {told[1]}"
        f" (independent steps), and from {told[2]} and {told[3]} before RoPE on all channels,"
        f" whose turning moves the query by {number_text(_least_step(heads))} of its norm or more."
        f" From {SPEAKS_FROM} on, smooth drift on slow channels, the angle certifies"
        f" {number_text(_mean(straight, 'certified_angle'))} of"
        f" {number_text(_mean(straight, 'observed_old'))} steps, the channels"
        f" {number_text(_mean(straight, 'certified_channels'))}, the norms"
        f" {number_text(_mean(straight, 'certified_norms'))}. One step after keys are discarded,"
        f" from {REUSE_FROM} on, the a priori certificate is below {INFORMATIVE} for"
        f" {share_text(_mean(soon, 'informative_a_priori'))} of the rows on slow channels."
    )


def _least_step(heads: list[dict[str, Any]]) -> float:
    return float(_each(_where(heads, channels="all"), "step").min())


def _draw(outcome: Outcome) -> Drawn:
    heads, later = (_entries(outcome.tables[name]) for name in ("heads", "reuse"))
    figure = new_figure(PAGE_WIDTH, 3.0)
    left, middle, right = figure.subplots(1, 3)
    _draw_lifetimes(left, heads)
    _draw_shares(middle, heads)
    _draw_reuse(right, later)
    for axes in (left, middle, right):
        axes.grid(color="#e4e4e4", linewidth=0.4)
        axes.set_axisbelow(True)
    rows = int(_each(heads, "rows").sum())
    conditions = outcome.conditions
    where = (
        f"{conditions['heads']} synthetic heads of length {conditions['length']}, head size"
        f" {HEAD_DIM}, base {BASE:g}, unrelated random keys, logits of a row with standard"
        f" deviation {SPREAD:g}"
    )
    caption = (
        f"Certificates against what happened, {where}. Left: steps for which the top key of a row"
        f" stays on top among the keys of the row, mean over the rows of a head, at most {HORIZON},"
        " against the median step of the query after RoPE over its norm; certified by channels, by"
        " angle and by norms (theorem lifetime). Middle: share of the rows certified for a step or"
        " more by angle, against 1 less the adjacent q-similarity before RoPE; energy on the slower"
        " half of the channels or on all of them. Right: attention on the three quarters of the"
        " keys that were attended least, some steps later, against its certificate (theorem"
        " kv_reuse) from the measured oscillation and a priori; means over the rows of a head."
    )
    alt = (
        f"Three panels from {rows} followed rows. Certified lifetimes lie below the observed ones"
        " at every drift and reach one step only for the smallest drifts; the share of certified"
        " rows rises as the similarity nears 1 on slow channels and stays near 0 on all channels;"
        " all points of observed mass lie below the line of equality with the certificate."
        f" {outcome.finding}"
    )
    return Drawn(figure, "Lifetimes and KV reuse: certified and observed", caption, alt)


def _entries(table: Any) -> list[dict[str, Any]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def _draw_lifetimes(axes: Any, heads: list[dict[str, Any]]) -> None:
    step = _each(heads, "step")
    for name, colour, marker, label in (
        ("observed_old", GUIDE, ".", "observed"),
        ("certified_channels", KEY_COLOUR, "x", "by channels"),
        ("certified_angle", QUERY_COLOUR, "o", "by angle"),
        ("certified_norms", INK, "+", "by norms"),
    ):
        face = "none" if marker == "o" else colour
        axes.scatter(
            step, _each(heads, name), s=11, marker=marker, linewidths=0.6, label=label,
            facecolors=face, edgecolors=None if marker in "x+" else colour, clip_on=False,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
    axes.set_ylim(0, HORIZON * 1.2)
    axes.set_yticks([0, 0.1, 1, 10, HORIZON], ["0", "0.1", "1", "10", str(HORIZON)])
    axes.minorticks_off()
    axes.set_xlabel("step of the query / its norm, after RoPE")
    axes.set_ylabel("lifetime of the top key (steps)")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)


def _draw_shares(axes: Any, heads: list[dict[str, Any]]) -> None:
    levels = sorted({entry["similarity_set"] for entry in heads})
    for channels, colour in zip(CHANNELS, (QUERY_COLOUR, KEY_COLOUR), strict=True):
        for kind, style, marker in zip(KINDS, ("-", "--"), "os", strict=True):
            chosen = _where(heads, channels=channels, kind=kind)
            shares = [_mean(_where(chosen, least=at, most=at), "share_angle") for at in levels]
            axes.plot(
                [1 - at for at in levels], shares, style, color=colour, marker=marker, markersize=3,
                label=f"{channels} channels, {kind}", clip_on=False,
            )  # fmt: skip
    axes.axhline(0.5, color=GUIDE, linewidth=0.6, linestyle=":")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("1 − adjacent q-similarity, before RoPE")
    axes.set_ylabel("share of rows certified ≥ 1 step")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def _draw_reuse(axes: Any, later: list[dict[str, Any]]) -> None:
    for step, marker in zip(HORIZONS, "o^s", strict=True):
        chosen = _where(later, horizon=step)
        for name, colour, label in (
            ("measured", QUERY_COLOUR, "measured"),
            ("a_priori", KEY_COLOUR, "a priori"),
        ):
            axes.scatter(
                _each(chosen, name), _each(chosen, "observed"), s=9, marker=marker,
                facecolors="none", edgecolors=colour, linewidths=0.6, label=f"{label}, {step}",
            )  # fmt: skip
    axes.plot([0.05, 1], [0.05, 1], color=GUIDE, linewidth=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [0.05, 0.1, 0.2, 0.5, 1]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("certified attention on discarded keys")
    axes.set_ylabel("observed, later")
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)


EXPERIMENT = Experiment(
    name="lifetimes",
    title="Lifetimes and KV-reuse certificates against what happens afterwards",
    question=(
        "Are the certificates of lifetime and KV reuse ever broken, how much of what happens do"
        " they certify, and from which q-similarity on do they say anything?"
    ),
    run=_run,
    draw=_draw,
)
