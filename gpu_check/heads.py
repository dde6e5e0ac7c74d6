"""One head, measured: similarities, energies, patterns, drift, and the four theorems on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from scipy.stats import spearmanr

from gpu_check import divergence
from gpu_check.attention import Attention, observe
from gpu_check.lifetimes import Lifetimes
from gpu_check.maxima import check_maxima
from gpu_check.pairs import Claim, Head, PairStatistics, TiledCheck
from gpu_check.results import HeadResult, TheoremResult
from gpu_check.reuse import Reuse
from gpu_check.visibility import Visibility
from tappa_theory import drift, patterns, prediction, similarity
from tappa_theory.arrays import to_numpy
from tappa_theory.energy import ChannelEnergy, best_lag, channel_energy, period, rotation_share
from tappa_theory.errors import InputError
from tappa_theory.separable import evaluate
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

T = TypeVar("T")

SMALL_DRIFT = 0.5
"""Mean relative step |dx|/|x| up to which a drift hypothesis counts as met: for equal norms, a
cosine of 0.875."""
SMALL_ROTATION = 0.5
"""Rotation residual over energy up to which a rotation or resonance hypothesis counts as met."""
LISTED = 16
"""Columns or offsets named in a result, at most."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured: a head's vectors after RoPE, (T, d) float64, and where it sits.

    text: which of the texts of the check they come from. angle_deviation, angle_bound: largest
    angle between the model's rotation and the exact one, and what its dtype allows; radians.
    """

    layer: int
    index: int
    kv_head: int
    query: torch.Tensor
    key: torch.Tensor
    head: Head
    softcap: float | None = None
    angle_deviation: float | None = None
    angle_bound: float | None = None
    text: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """A head's result, with what later steps (an exemplar's picture) need of the measurement."""

    result: HeadResult
    attention: Attention
    prediction: prediction.Prediction | None
    check: TiledCheck


def measure(subject: Subject, lag: int | None = None) -> Measured:
    """Measure one head. lag: period for the seasonal theorem, None for the best query lag."""
    head = subject.head
    check = TiledCheck(head)
    lifetimes = Lifetimes(head, subject.query, subject.key, subject.softcap)
    reuse = Reuse(lifetimes)
    attention = observe(
        check.query_logit,
        check.key_logit,
        head.visibility,
        softcap=subject.softcap,
        watchers=(lifetimes.add, reuse.add),
    )
    valid = head.visibility.valid
    q_similarity, k_similarity = _similarities(subject, valid)
    energy = _or_none(lambda: channel_energy(_kept(head.z, valid), _kept(head.w, valid), head.rope))
    predicted = None
    if attention.pattern is not None and k_similarity["all_pairs_post"] is not None:
        predicted = _or_none(
            lambda: prediction.predict(
                _kept(head.z, valid),
                _kept(head.w, valid),
                head.rope,
                head.scale,
                k_similarity["all_pairs_post"] or 0.0,
                head.visibility.window,
            )
        )
    theorems = _theorems(check, attention, energy, predicted, lag)
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
        drift=_drift(subject, attention),
        theorems=theorems,
        angle_bound=_angle(subject),
        lifetime=lifetimes.summary(),
        reuse=reuse.summary(),
        kl=divergence.compare(
            *_observed_steps(head.visibility, attention),
            error=lifetimes.error,
        ),
    )
    return Measured(result, attention, predicted, check)


def _or_none(compute: Callable[[], T]) -> T | None:
    """The value, or None where the input leaves it undefined (too short, all zero)."""
    try:
        return compute()
    except InputError:
        return None


def _kept(x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    return x if valid is None else x[valid.to(x.device)]


def _similarities(
    subject: Subject, valid: torch.Tensor | None
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    z, w = subject.head.z, subject.head.w
    queries: dict[str, Callable[[], torch.Tensor]] = {
        "adjacent_pre": lambda: similarity.adjacent(z, valid),
        "adjacent_post": lambda: similarity.adjacent(subject.query, valid),
        "all_pairs_pre": lambda: similarity.all_pairs(z, valid),
        "window_post": lambda: similarity.window(_kept(subject.query, valid)),
    }
    keys: dict[str, Callable[[], torch.Tensor]] = {
        "adjacent_pre": lambda: similarity.adjacent(w, valid),
        "all_pairs_post": lambda: similarity.all_pairs(subject.key, valid),
    }
    return _numbers(queries), _numbers(keys)


def _numbers(parts: dict[str, Callable[[], torch.Tensor]]) -> dict[str, float | None]:
    values = {name: _or_none(compute) for name, compute in parts.items()}
    return {name: None if value is None else float(value) for name, value in values.items()}


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


def _mean(values: torch.Tensor, valid: torch.Tensor | None, step: int) -> float | None:
    if valid is not None:
        valid = valid.to(values.device)
        values = values[valid[:-step] & valid[step:]]
    return float(values.mean()) if values.numel() else None


def mean_drift(x: torch.Tensor, valid: torch.Tensor | None, step: int = 1) -> float | None:
    """Mean relative drift of (T, ...) vectors over `step` positions, padding left out."""
    return _mean(drift.relative_drift(x, step), valid, step) if x.shape[0] > step else None


def _drift(subject: Subject, attention: Attention) -> dict[str, float | None]:
    """Query and key drift, and how much attention changed from row to row, over observed rows."""
    head, valid = subject.head, subject.head.visibility.valid
    unit = torch.nn.functional.normalize(subject.query, dim=-1)
    distance = to_numpy(1 - (unit[1:] * unit[:-1]).sum(dim=-1))[_steps(head.visibility)]
    divergences, key_metric, oscillation = _observed_steps(head.visibility, attention)
    bound = divergence.quadratic_bound(oscillation)
    return {
        "query_pre": mean_drift(head.z, valid),
        "query_post": mean_drift(subject.query, valid),
        "key_pre": mean_drift(head.w, valid),
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
    return float(spearmanr(x, y).statistic)


def _theorems(
    check: TiledCheck,
    attention: Attention,
    energy: ChannelEnergy | None,
    predicted: prediction.Prediction | None,
    lag: int | None,
) -> dict[str, TheoremResult]:
    claims, results = {}, {}
    for name in SHIFT_THEOREMS:
        claim = _claim(name, check.head, energy, lag)
        if isinstance(claim, str):
            results[name] = TheoremResult(
                applicable=False,
                reason=claim,
                published_counted=THEOREMS[name].published.counted,
                prediction=_prediction(name, check, attention, energy, predicted, None),
            )
        else:
            claims[name] = claim
    statistics = check.run(list(claims.values()), attention.row_std)
    for (name, claim), counted in zip(claims.items(), statistics, strict=True):
        results[name] = _result(
            counted,
            claim,
            _hypotheses(name, check.head, energy, claim),
            _prediction(name, check, attention, energy, predicted, claim),
        )
    return {name: results[name] for name in SHIFT_THEOREMS}


def _claim(name: str, head: Head, energy: ChannelEnergy | None, lag: int | None) -> Claim | str:
    """The claim to check, or the reason why the theorem says nothing of this head."""
    length, theorem = head.visibility.length, THEOREMS[name]
    if energy is None:
        return "every query or every key is zero"
    if name == "seasonal":
        found = lag if lag is not None else best_lag(head.z, head.visibility.valid)
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
    name: str, head: Head, energy: ChannelEnergy | None, claim: Claim
) -> dict[str, float | bool | None]:
    """The theorem's hypotheses as measured, and whether they are met at the named thresholds."""
    assert energy is not None
    s, u = claim.shift
    valid = head.visibility.valid
    drifts: dict[str, float | None] = {}
    if s:
        drifts["query_drift"] = mean_drift(head.z, valid, s)
    if u:
        drifts["key_drift"] = mean_drift(head.w, valid, u)
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
