"""Heads, measured: similarities, energies, patterns, drift, and the four theorems on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from gpu_check import divergence
from gpu_check.attention import Attention, heads_together, observe
from gpu_check.lifetimes import Lifetimes
from gpu_check.maxima import check_maxima
from gpu_check.moments import HeadMoments, of_head
from gpu_check.pairs import Claim, Head, LogitFeatures, PairStatistics, TiledCheck
from gpu_check.results import HeadResult, TheoremResult
from gpu_check.reuse import Reuse
from gpu_check.vectors import Subject, Vectors, kept, mean_drift, or_none, vectors
from gpu_check.visibility import Visibility
from tappa_theory import patterns, prediction
from tappa_theory.arrays import to_numpy
from tappa_theory.energy import ChannelEnergy, channel_energy, period, rotation_share
from tappa_theory.separable import evaluate
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

SMALL_DRIFT = 0.5
"""Mean relative step |dx|/|x| up to which a drift hypothesis counts as met: for equal norms, a
cosine of 0.875."""
SMALL_ROTATION = 0.5
"""Rotation residual over energy up to which a rotation or resonance hypothesis counts as met."""
LISTED = 16
"""Columns or offsets named in a result, at most."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A head's result, with what later steps (an exemplar's picture) need of the measurement."""

    result: HeadResult
    attention: Attention
    prediction: prediction.Prediction | None
    check: TiledCheck
    moments: HeadMoments | None = None
    softcap: float | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A head of which only its pairs are not compared yet: a result without theorems.

    theorems: of each theorem the claim and the measured hypotheses, or why it says nothing, and
    what it predicts.
    """

    measured: Measured
    theorems: dict[str, tuple[Claim | str, dict[str, Any], dict[str, object]]]

    @property
    def claims(self) -> list[Claim]:
        """What is to be compared on every pair."""
        return [claim for claim, *_ in self.theorems.values() if isinstance(claim, Claim)]


def measure(subject: Subject, lag: int | None = None) -> Measured:
    """Measure one head. lag: period for the seasonal theorem, None for the best query lag."""
    (head,) = prepare([subject], vectors([subject]), lag)
    check, row_std = head.measured.check, head.measured.attention.row_std
    return finish(head, check.run(head.claims, row_std))


def prepare(
    subjects: Sequence[Subject], own: Sequence[Vectors], lag: int | None = None
) -> list[Prepared]:
    """Measure heads of one layer but for their pairs, as many together as memory is left for.

    own: `vectors` of these subjects.
    """
    if not subjects:
        return []
    at_once = heads_together(subjects[0].head.visibility.length, subjects[0].query.device)
    found: list[Prepared] = []
    for start in range(0, len(subjects), at_once):
        part = slice(start, start + at_once)
        for each in zip(subjects[part], own[part], _maps(subjects[part]), strict=True):
            found.append(_prepare(*each, lag))
    return found


@dataclass(frozen=True, eq=False)
class _Map:
    """What a head's rows of attention show; error: largest rounding error of a logit."""

    check: TiledCheck
    attention: Attention
    lifetime: dict[str, Any] | None
    reuse: dict[str, Any] | None
    error: float


def _maps(subjects: Sequence[Subject]) -> list[_Map]:
    """The maps of heads of one layer, all at once."""
    heads, softcap = [subject.head for subject in subjects], subjects[0].softcap
    logits = LogitFeatures.of(heads)
    query = torch.stack([subject.query for subject in subjects])
    key = torch.stack([subject.key for subject in subjects])
    lifetimes = Lifetimes(heads[0], query, key, softcap)
    reuse = Reuse(lifetimes)
    attention = observe(
        logits.query,
        logits.key,
        heads[0].visibility,
        softcap=softcap,
        watchers=(lifetimes.add, reuse.add),
    )
    checks = [TiledCheck(head, logits=logits.of_head(i, head)) for i, head in enumerate(heads)]
    each = checks, attention, lifetimes.summary(), reuse.summary(), lifetimes.errors
    return [_Map(*one) for one in zip(*each, strict=True)]


def _prepare(subject: Subject, own: Vectors, seen: _Map, lag: int | None) -> Prepared:
    head, check, attention = subject.head, seen.check, seen.attention
    valid = head.visibility.valid
    q_similarity, k_similarity = own.q_similarity, own.k_similarity
    energy = or_none(lambda: channel_energy(kept(head.z, valid), kept(head.w, valid), head.rope))
    predicted = None
    if attention.pattern is not None and k_similarity["all_pairs_post"] is not None:
        predicted = or_none(
            lambda: prediction.predict(
                kept(head.z, valid),
                kept(head.w, valid),
                head.rope,
                head.scale,
                k_similarity["all_pairs_post"] or 0.0,
                head.visibility.window,
                own.alike,
                own.lines,
            )
        )
    result = HeadResult(
        text=subject.text,
        layer=subject.layer,
        head=subject.index,
        kv_head=subject.kv_head,
        q_similarity=q_similarity,
        k_similarity=k_similarity,
        dominant_channel=energy.dominant_channel if energy else None,
        dominant_share=energy.dominant_share if energy else None,
        frequency_dominant_channel=energy.frequency_dominant_channel if energy else None,
        kappa=energy.kappa if energy else None,
        curvature=energy.curvature if energy else None,
        angle_deviation=subject.angle_deviation,
        channel_energy=energy.energy if energy else None,
        pattern_predicted=predicted.pattern if predicted else None,
        pattern_observed=attention.pattern,
        pattern_published=_published_pattern(head, energy, q_similarity, k_similarity, attention),
        pattern_scores={
            "predicted": _scores(
                predicted.lines if predicted else None, predicted.season if predicted else None
            ),
            "observed": _scores(attention.lines, attention.season),
        },
        predictability=attention.recall,
        drift=_drift(subject, own, attention),
        theorems={},
        angle_bound=_angle(subject),
        lifetime=seen.lifetime,
        reuse=seen.reuse,
        kl=divergence.compare(
            *_observed_steps(head.visibility, attention),
            error=seen.error,
        ),
    )
    theorems = {}
    for name in SHIFT_THEOREMS:
        claim = _claim(name, head, energy, own.best_lag if lag is None else lag)
        stated = claim if isinstance(claim, Claim) else None
        theorems[name] = (
            claim,
            _hypotheses(name, head, own, energy, stated) if stated else {},
            _prediction(name, check, attention, energy, predicted, stated),
        )
    moments = None if own.moments is None else of_head(own.moments, head, result)
    measured = Measured(result, attention, predicted, check, moments, subject.softcap)
    return Prepared(measured, theorems)


def finish(head: Prepared, statistics: Sequence[PairStatistics]) -> Measured:
    """The head with its theorems. statistics: of its claims, in their order."""
    counted, theorems = iter(statistics), {}
    for name, (claim, hypotheses, expected) in head.theorems.items():
        if isinstance(claim, Claim):
            theorems[name] = _result(next(counted), claim, hypotheses, expected)
        else:
            theorems[name] = TheoremResult(
                applicable=False,
                reason=claim,
                published_counted=THEOREMS[name].published.counted,
                prediction=expected,
            )
    return replace(head.measured, result=replace(head.measured.result, theorems=theorems))


def _scores(lines: patterns.Lines | None, season: float | None) -> dict[str, float | None]:
    return {
        "column": lines.column if lines else None,
        "diagonal": lines.diagonal if lines else None,
        "season": season,
    }


def _published_pattern(
    head: Head,
    energy: ChannelEnergy | None,
    q_similarity: dict[str, float | None],
    k_similarity: dict[str, float | None],
    attention: Attention,
) -> str | None:
    q_value, k_value = q_similarity["adjacent_pre"], k_similarity["adjacent_pre"]
    if energy is None or q_value is None or k_value is None or attention.pattern is None:
        return None
    frequency = float(head.rope.frequencies[energy.dominant_channel])
    return prediction.predict_published(q_value, k_value, frequency, head.visibility.length)


def _drift(subject: Subject, own: Vectors, attention: Attention) -> dict[str, float | None]:
    """Query and key drift, and how much attention changed from row to row, over observed rows."""
    visibility = subject.head.visibility
    distance = (1 - own.query_cosine)[_steps(visibility)]
    divergences, key_metric, oscillation = _observed_steps(visibility, attention)
    bound = divergence.quadratic_bound(oscillation)
    return {
        **own.drift,
        "key_metric": float(key_metric.mean()) if key_metric.size else None,
        "kl": float(divergences.mean()) if divergences.size else None,
        "kl_bound": float(bound.mean()) if bound.size else None,
        "spearman_cosine_kl": rank_correlation(distance, divergences),
        "spearman_key_metric_kl": rank_correlation(key_metric, divergences),
    }


def _steps(visibility: Visibility) -> np.ndarray:
    """(T - 1,) bool: steps from an observed row to the next, neither of them padding."""
    steps = np.arange(visibility.length - 1) >= patterns.observed_rows(visibility.length)
    if visibility.valid is not None:
        steps &= to_numpy(visibility.valid[:-1] & visibility.valid[1:])
    return steps


def _observed_steps(
    visibility: Visibility, attention: Attention
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(divergence, key_metric, oscillation) of these steps."""
    steps = _steps(visibility)
    return attention.divergence[steps], attention.key_metric[steps], attention.oscillation[steps]


def _angle(subject: Subject) -> dict[str, float | bool] | None:
    """The bound of the angle deviation, and whether the deviation is within it."""
    if subject.angle_bound is None or subject.angle_deviation is None:
        return None
    within = subject.angle_deviation <= subject.angle_bound
    return {"bound": subject.angle_bound, "within": within}


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's rank correlation, None where it is undefined."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(numbers: np.ndarray) -> np.ndarray:
    """From 1 on; equal numbers share the mean of theirs."""
    order = np.argsort(numbers)
    ordered = numbers[order]
    if not (ordered[1:] > ordered[:-1]).all():
        return rankdata(numbers)
    ranks = np.empty(len(numbers))
    ranks[order] = np.arange(1.0, len(numbers) + 1)
    return ranks


def _claim(name: str, head: Head, energy: ChannelEnergy | None, found: int | None) -> Claim | str:
    """The claim to check, or the reason why the theorem says nothing of this head."""
    length, theorem = head.visibility.length, THEOREMS[name]
    if energy is None:
        return "every query or every key is zero"
    if name == "seasonal":
        if found is None:
            return f"a text of {length} tokens is too short for a period"
        if found >= length:
            return f"the lag {found} does not fit into {length} tokens"
        return Claim(theorem, theorem.shift(L=found), star=energy.dominant_channel)
    if name == "periodic_sequential":
        star = energy.frequency_dominant_channel
        if star is None:
            return "no channel of this layer turns"
        spacing = round(period(float(head.rope.frequencies[star])))
        reach = length if head.visibility.window is None else head.visibility.window
        if 2 * spacing >= min(length, reach):
            return f"two periods of {spacing} do not fit into {min(length, reach)} positions"
        return Claim(theorem, theorem.shift(N=spacing), star=star)
    if length < 2:
        return "a text of one token has no step"
    return Claim(theorem, theorem.shift())


def _hypotheses(
    name: str, head: Head, own: Vectors, energy: ChannelEnergy | None, claim: Claim
) -> dict[str, float | bool | None]:
    """The theorem's hypotheses as measured, and whether they are met at the named thresholds."""
    assert energy is not None
    s, u = claim.shift
    valid = head.visibility.valid
    drifts: dict[str, float | None] = {}
    if s:
        drifts["query_drift"] = own.drift["query_pre"] if s == 1 else mean_drift(head.z, valid, s)
    if u:
        drifts["key_drift"] = own.drift["key_pre"] if u == 1 else mean_drift(head.w, valid, u)
    met = all(value is not None and value <= SMALL_DRIFT for value in drifts.values())
    measured: dict[str, float | bool | None] = {**drifts}
    if name == "periodic_sequential":
        kappa, curvature = energy.kappa, energy.curvature
        assert kappa is not None
        assert curvature is not None
        measured |= {"kappa": kappa, "curvature": curvature}
        sums = {"kappa": np.asarray(kappa), "R": np.asarray(curvature)}
        met = met and float(evaluate(THEOREMS[name].auxiliary["squares"], sums)) < 1
    elif s != u:
        rotation = rotation_share(energy.energy, head.rope, claim.shift)
        measured["rotation"] = rotation
        met = met and rotation <= SMALL_ROTATION
    if name == "seasonal":
        one = [0.0] * len(energy.energy)
        one[energy.dominant_channel] = 1.0
        measured["dominant_resonance_error"] = rotation_share(one, head.rope, claim.shift)
    return measured | {"met": bool(met)}


def _prediction(
    name: str,
    check: TiledCheck,
    attention: Attention,
    energy: ChannelEnergy | None,
    predicted: prediction.Prediction | None,
    claim: Claim | None,
) -> dict[str, object]:
    """What the theorem's ingredients predict of the map, beside what the map shows."""
    expected = predicted.lines if predicted else None
    seen = attention.lines
    if name == "re_access":
        return {
            "predicted": expected.column if expected else None,
            "observed": seen.column if seen else None,
            "columns_predicted": list(expected.columns[:LISTED]) if expected else None,
            "columns_observed": list(seen.columns[:LISTED]) if seen else None,
        }
    if name == "sequential":
        return {
            "predicted": expected.diagonal if expected else None,
            "observed": seen.diagonal if seen else None,
            "offsets_predicted": list(expected.offsets[:LISTED]) if expected else None,
            "offsets_observed": list(seen.offsets[:LISTED]) if seen else None,
        }
    if name == "seasonal":
        return {
            "predicted": predicted.season_lag if predicted else None,
            "observed": attention.season_lag,
            "strength_predicted": predicted.season if predicted else None,
            "strength_observed": attention.season,
        }
    frequencies = check.head.rope.frequencies
    star = energy.frequency_dominant_channel if energy else None
    answer: dict[str, object] = {
        "predicted": None if star is None else period(float(frequencies[star])),
        "observed": seen.spacing if seen else None,
        "published": None,
    }
    if energy is not None and frequencies[energy.dominant_channel] > 0:
        answer["published"] = period(float(frequencies[energy.dominant_channel]))
    if claim is not None and star is not None:
        maxima = check_maxima(check, star)
        answer |= {
            "maxima_pairs": maxima.pairs,
            "maxima_binding": maxima.binding,
            "maxima_tested": maxima.tested,
            "maxima_outside": maxima.outside,
        }
    return answer


def _result(
    counted: PairStatistics,
    claim: Claim,
    hypotheses: dict[str, float | bool | None],
    expected: dict[str, object],
) -> TheoremResult:
    pairs = counted.pairs
    worst = None
    if counted.worst is not None:
        worst = {
            "t": counted.worst[0],
            "i": counted.worst[1],
            "observed": counted.worst_observed,
            "bound": counted.worst_bound,
        }
    return TheoremResult(
        applicable=pairs > 0,
        reason=None if pairs else "no pair is visible both before and after the shift",
        shift=counted.shift,
        pairs=pairs,
        violations=counted.violations,
        undecided=counted.undecided,
        tight=counted.tight,
        max_ratio=counted.max_ratio if pairs else None,
        mean_ratio=counted.sum_ratio / pairs if pairs else None,
        worst=worst,
        mean_observed=counted.sum_observed / pairs if pairs else None,
        mean_bound=counted.sum_bound / pairs if pairs else None,
        hypotheses=hypotheses,
        informative=counted.informative / pairs if pairs else None,
        published_violations=counted.published_violations,
        published_checked=counted.published_checked,
        published_counted=claim.theorem.published.counted,
        prediction=expected,
    )
