"""Lifetimes and KV-reuse certificates against what happens afterwards: coverage and tightness.

Heads have unrelated random keys, and queries that drift with a given adjacent similarity before
RoPE, on the slower half of the channels or on all of them. Each row is certified when it is
computed, and then followed.
"""

from __future__ import annotations

import numpy as np

from simulations.experiment import Criterion, Experiment, Outcome, Row, Settings, columns
from simulations.experiments.lifetimes.figure import draw
from simulations.experiments.lifetimes.measures import (
    BASE,
    CHANNELS,
    FORMS,
    HEAD_DIM,
    HORIZON,
    HORIZONS,
    INFORMATIVE,
    KEPT_SHARE,
    KINDS,
    SPREAD,
    Reuse,
    drift_head,
    each,
    lifetimes,
    mean,
    reuse,
    where,
)
from simulations.head import SyntheticHead
from tappa_theory.app.style import digits_text, number_text, share_text
from tappa_theory.similarity import adjacent

# Limits from theory, not from data (that the mean over heads counts, and not the worst head, was
# settled after trial runs). The gap between the two largest of n normal logits is exponential with
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


def _run(settings: Settings) -> Outcome:
    length, copies = (160, 2) if settings.quick else (256, 4)
    halves = range(2, 11, 2 if settings.quick else 1)
    similarities = [1 - 10.0 ** (-half / 2) for half in halves]
    heads: list[Row] = []
    later: list[Row] = []
    for place, similarity in enumerate(similarities):
        for kind in KINDS:
            for channels in CHANNELS:
                for copy in range(copies):
                    stream = place, KINDS.index(kind), CHANNELS.index(channels), copy
                    head = drift_head(settings.random(*stream), length, similarity, kind, channels)
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
        "head_size": HEAD_DIM,
        "base": BASE,
        "heads": len(heads),
        "logit_deviation": SPREAD,
        "kept_share": KEPT_SHARE,
        "horizon": HORIZON,
    }
    tables = {"heads": columns(heads), "reuse": columns(later)}
    return Outcome(tables, _criteria(heads, later), _finding(heads, later), conditions)


def _described(head: SyntheticHead) -> Row:
    """One row of the table of heads; lifetimes are means over the rows, in steps."""
    lived = lifetimes(head)
    moved = np.linalg.norm(np.diff(head.query, axis=0), axis=-1)
    alive = lived.old >= 1
    found: Row = {
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


def _reused(found: Reuse) -> Row:
    """One row of the table of reuse: means over the rows of a head, tightness the median."""
    entry: Row = {"rows": len(found.observed), "broken": found.broken}
    for name in ("discarded", "observed", "measured", "a_priori"):
        entry[name] = float(getattr(found, name).mean())
    for name in ("measured", "a_priori"):
        certificate = getattr(found, name)
        entry[f"tightness_{name}"] = float(np.median(found.observed / certificate))
        entry[f"informative_{name}"] = float((certificate < INFORMATIVE).mean())
    return entry


def _criteria(heads: list[Row], later: list[Row]) -> tuple[Criterion, ...]:
    broken = float(sum(each(heads, f"broken_{form}").sum() for form in FORMS))
    speaking = where(heads, channels="slow", least=SPEAKS_FROM)
    straight = where(speaking, kind="smooth")
    soon = where(later, channels="slow", least=REUSE_FROM, horizon=1)
    far = where(later, channels="slow", kind="smooth", most=REUSE_FROM, horizon=16)
    return (
        Criterion("top keys overtaken before a certificate ended, rows", broken, "<=", 0, True),
        Criterion(
            "rows that the norms certify for longer than the channels or the angle",
            float(each(heads, "norms_longer").sum()), "<=", 0, True,
        ),
        Criterion(
            "rows with more mass on discarded keys than a reuse certificate allows",
            float(each(later, "broken").sum()), "<=", 0, True,
        ),
        Criterion(
            f"slow channels, similarity {SPEAKS_FROM} or more: share of the rows certified by angle"
            " for a step",
            mean(speaking, "share_angle"), ">=", 0.5,
        ),
        Criterion(
            f"similarity {SILENT_TO} or less: the same share",
            mean(where(heads, most=SILENT_TO), "share_angle"), "<=", FEW,
        ),
        Criterion(
            "all channels, any similarity before RoPE: the same share",
            mean(where(heads, channels="all"), "share_angle"), "<=", FEW,
        ),
        Criterion(
            f"slow channels, smooth drift, similarity {SPEAKS_FROM} or more: mean lifetime"
            " certified by angle over mean lifetime observed",
            mean(straight, "certified_angle") / mean(straight, "observed_old"),
            ">=", TIGHTNESS,
        ),
        Criterion(
            f"slow channels, similarity {REUSE_FROM} or more, one step: share of the rows with an"
            f" a priori reuse certificate below {INFORMATIVE}",
            mean(soon, "informative_a_priori"), ">=", 0.5,
        ),
        Criterion(
            f"slow channels, smooth drift, similarity {REUSE_FROM} or less, sixteen steps: the same"
            " share",
            mean(far, "informative_a_priori"), "<=", 0.5,
        ),
        Criterion(
            f"slow channels, similarity {REUSE_FROM} or more, one step: observed mass over the"
            " certificate from the measured oscillation, mean of the heads' medians",
            mean(soon, "tightness_measured"), ">=", MEASURED_TIGHTNESS,
        ),
    )  # fmt: skip


def _speaks_from(heads: list[Row], share: str) -> float | None:
    """Least similarity from which on at least half of the rows are certified for a step."""
    found = None
    for similarity in sorted({entry["similarity_set"] for entry in heads}, reverse=True):
        if mean(where(heads, least=similarity, most=similarity), share) < 0.5:
            break
        found = similarity
    return found


def _finding(heads: list[Row], later: list[Row]) -> str:
    broken = int(sum(each(heads, f"broken_{form}").sum() for form in FORMS))
    broken += int(each(later, "broken").sum())
    starts = ", ".join(
        f"{'no value tried' if start is None else digits_text(start)} ({channels} channels, {kind})"
        for channels in CHANNELS
        for kind in KINDS
        for start in [_speaks_from(where(heads, channels=channels, kind=kind), "share_angle")]
    )
    straight = where(heads, channels="slow", kind="smooth", least=SPEAKS_FROM)
    soon = where(later, channels="slow", least=REUSE_FROM, horizon=1)
    far = where(later, channels="slow", least=REUSE_FROM, horizon=HORIZONS[-1])
    return (
        f"{broken} certificates are broken on {int(each(heads, 'rows').sum()):,} followed rows and"
        f" {int(each(later, 'rows').sum()):,} comparisons of discarded mass. Half of the rows are"
        f" certified for a step by angle from q-similarity {starts}; from {SPEAKS_FROM} on, on slow"
        f" channels under smooth drift, {number_text(mean(straight, 'certified_angle'))} of"
        f" {number_text(mean(straight, 'observed_old'))} steps are certified by angle,"
        f" {number_text(mean(straight, 'certified_channels'))} by channels and"
        f" {number_text(mean(straight, 'certified_norms'))} by norms. The a priori reuse"
        f" certificate on slow channels, from {REUSE_FROM} on, is below {INFORMATIVE} for"
        f" {share_text(mean(soon, 'informative_a_priori'))} of the rows one step after keys are"
        f" discarded and for {share_text(mean(far, 'informative_a_priori'))} after {HORIZONS[-1]}."
    )


EXPERIMENT = Experiment(
    name="lifetimes",
    title="Lifetimes and KV-reuse certificates against what happens afterwards",
    question=(
        "Are the certificates of lifetime and KV reuse ever broken, how much of what happens do"
        " they certify, and from which q-similarity on do they say anything?"
    ),
    run=_run,
    draw=draw,
)
