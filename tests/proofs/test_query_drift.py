"""Query drift: the derivations, the numbers of `drift` and what must not be certified."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.query_drift import bounds, moments
from proofs.query_drift.attacks import drift_attack
from proofs.query_drift.proof import PROOF
from proofs.query_drift.sharpness import COSINE_INSTANCES, MOST_ATTAINED, RARE, SMALL, SPREAD, UP, p
from tappa_theory.drift import step_change
from tappa_theory.separable import evaluate
from tappa_theory.theorems import query_drift as registry
from tappa_theory.theorems.query_drift import THEOREM

MORE, LESS = sp.Rational(101, 100), sp.Rational(99, 100)


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    assert PROOF.verdict == "holds"
    assert PROOF.proving_the_bound() == ("error",)
    assert THEOREM.auxiliary["quadratic"] == bounds.SQUARE.end
    assert THEOREM.auxiliary["largest"] == bounds.MOST.end == MOST_ATTAINED.end
    assert THEOREM.auxiliary["upper"] == bounds.UPPER_SIDE[-1].end
    assert THEOREM.auxiliary["lower"] == bounds.LOWER_SIDE[-1].start
    assert THEOREM.auxiliary["reverse_error"] == bounds.REVERSE_CUBIC.end
    assert THEOREM.auxiliary["reverse_upper"] == bounds.REVERSE_UPPER_SIDE[-1].end
    assert THEOREM.auxiliary["reverse_lower"] == bounds.REVERSE_LOWER_SIDE[-1].start
    assert moments.VARIANCE_MAX / 2 == registry.QUADRATIC
    assert moments.THIRD_MAX / 6 == registry.ERROR
    # what is assumed of the third moment and the variance is what is proved of them
    assert {h.rhs for h in bounds.CUBIC.hypotheses[1:]} == {moments.THIRD_ABOVE.end}
    assert moments.THIRD_ABOVE.end == moments.THIRD_BELOW.end
    assert bounds.SQUARE.hypotheses[1].rhs == moments.POPOVICIU_WEIGHTED.end


@pytest.mark.parametrize(
    "derivation",
    [
        bounds.CUBIC,
        bounds.SQUARE,
        bounds.REVERSE_CUBIC,
        bounds.MOST,
        bounds.CHORD,
        bounds.UPPER_SIDE[-1],
        bounds.REVERSE_UPPER_SIDE[-1],
        moments.POPOVICIU_WEIGHTED,
        moments.THIRD_ABOVE,
        moments.THIRD_BELOW,
        *(part for sign in (1, -1) for part in moments._third(sign)[:2]),
    ],
    ids=lambda derivation: derivation.title,
)
def test_no_smaller_bound_is_certified(derivation):
    assert derivation.ok
    if derivation.title.endswith(
        "at most twice the smallest"
    ):  # its largest is 2/27, not 1/(6 sqrt 3)
        assert with_end(derivation, moments.OMEGA**3 * sp.Rational(2, 27)).ok
        assert not with_end(derivation, moments.OMEGA**3 * sp.Rational(2, 28)).ok
    else:
        assert not with_end(derivation, derivation.end * LESS).ok


@pytest.mark.parametrize(
    "derivation", [bounds.LOWER_SIDE[-1], bounds.REVERSE_LOWER_SIDE[-1]], ids=("to", "fro")
)
def test_no_larger_lower_bound_is_certified(derivation):
    assert derivation.ok
    assert not replace(derivation, start=derivation.start * MORE).ok


@pytest.mark.parametrize("derivation", SMALL, ids=lambda derivation: derivation.title)
def test_what_two_keys_reach_is_no_more_than_the_bound(derivation):
    assert derivation.ok
    assert not replace(derivation, start=derivation.start * MORE).ok


@pytest.mark.parametrize("derivation", RARE, ids=lambda derivation: derivation.title)
def test_a_rare_key_reaches_no_more_than_the_bound(derivation):
    assert derivation.ok
    if derivation.title.startswith("a rare key that gains"):
        assert not replace(derivation, start=derivation.start * MORE).ok
    else:
        assert not with_end(derivation, derivation.end * LESS).ok


@pytest.mark.parametrize(
    "derivation",
    [
        bounds.CUBIC,
        bounds.SQUARE,
        bounds.REVERSE_CUBIC,
        bounds.MOST,
        bounds.CHORD,
        moments.POPOVICIU_WEIGHTED,
        moments.THIRD_BY_VARIANCE,
    ],
    ids=lambda derivation: derivation.title,
)
def test_every_hypothesis_is_needed(derivation):
    for dropped in range(len(derivation.hypotheses)):
        kept = derivation.hypotheses[:dropped] + derivation.hypotheses[dropped + 1 :]
        assert not replace(derivation, hypotheses=kept).ok
    if derivation.facts and derivation is not bounds.CHORD:
        assert not replace(derivation, facts=()).ok


@pytest.mark.parametrize("derivation", [*moments.DERIVATIVES, moments.REVERSE_DERIVATIVE])
def test_no_other_derivative_is_certified(derivation):
    assert not with_end(derivation, -derivation.end).ok
    assert not with_end(derivation, derivation.end * MORE).ok


@pytest.mark.parametrize("derivation", [bounds.SOFTMAX, bounds.IDENTITY, bounds.METRIC])
def test_no_other_identity_is_certified(derivation):
    assert not with_end(derivation, derivation.end * MORE).ok
    assert not with_end(derivation, derivation.end + 1).ok


def random_rows():
    random = np.random.default_rng(4)
    logits = random.normal(0, 2, (40, 6))
    changes = random.normal(0, 1, (40, 6)) * random.uniform(0, 2, (40, 1))
    rows = [
        np.exp(part) / np.exp(part).sum(-1, keepdims=True) for part in (logits, logits + changes)
    ]
    return rows[0], rows[1], changes


def from_registry(attention, changes):
    """Divergence and key metric by the registry's terms."""
    values = {"P": attention, "D": changes}
    values["mean"] = evaluate(registry.MEAN_TERM, values).sum(-1, keepdims=True)
    sums = {
        "exponential": evaluate(registry.EXPONENTIAL_TERM, values).sum(-1),
        "variance": evaluate(registry.SQUARE_TERM, values).sum(-1),
    }
    return evaluate(registry.DIVERGENCE, sums), evaluate(registry.KEY_METRIC, sums)


def test_the_measured_divergence_and_metric_are_the_registrys():
    row, later, changes = random_rows()
    divergence, metric = from_registry(row, changes)
    measured = step_change(changes, row)
    assert np.allclose(measured.divergence, divergence, rtol=1e-12, atol=1e-14)
    assert np.allclose(measured.key_metric, metric, rtol=1e-12, atol=1e-14)
    assert np.allclose(divergence, (row * np.log(row / later)).sum(-1), rtol=1e-9, atol=1e-13)
    assert np.allclose(measured.oscillation, np.ptp(changes, axis=-1), rtol=1e-12)
    assert not np.allclose(measured.key_metric, metric * 1.01, rtol=1e-3)


def test_the_bounds_hold_of_measured_steps():
    row, _, changes = random_rows()
    measured = step_change(changes, row)
    values = {"omega": measured.oscillation, "variance": 2 * measured.key_metric}
    error = np.abs(measured.divergence - measured.key_metric)
    assert np.all(error <= evaluate(registry.ERROR, values))
    assert np.all(measured.divergence <= evaluate(registry.LARGEST, values))
    assert np.all(evaluate(registry.LARGEST, values) <= evaluate(registry.QUADRATIC, values))
    assert np.all(measured.divergence <= evaluate(registry.UPPER, values))
    assert np.all(measured.divergence >= evaluate(registry.LOWER, values))


def test_the_metric_is_the_covariance_of_the_keys_along_the_step():
    random = np.random.default_rng(5)
    keys, step = random.normal(size=(7, 3)), random.normal(size=3)
    row = random.dirichlet(np.ones(7))
    mean = row @ keys
    covariance = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            values = {"P": row, "k_a": keys[:, a], "k_b": keys[:, b]}
            values |= {"mean_a": mean[a], "mean_b": mean[b]}
            covariance[a, b] = evaluate(registry.COVARIANCE_TERM, values).sum()
    values = {"dq_a": step[:, None], "dq_b": step[None, :], "covariance": covariance}
    total = evaluate(registry.METRIC_TERM, values | {"lambda": np.asarray(0.25)}).sum()
    _, metric = from_registry(row[None], 0.25 * (keys @ step)[None])
    assert total == pytest.approx(2 * metric[0], rel=1e-12)


def test_the_cosine_instances_are_four_heads():
    assert all(instance.step().evidence.ok for instance in COSINE_INSTANCES)
    wrong = replace(COSINE_INSTANCES[3], observed=sp.S.Zero)
    assert not wrong.step().evidence.ok


def test_two_keys_are_what_softmax_says():
    mass, omega = 0.3, 1.7
    row = np.array([mass, 1 - mass])
    later = row * np.exp([omega, 0])
    later /= later.sum()
    for name, first, second in (("forward", row, later), ("backward", later, row)):
        shown = float(UP[name].subs({p: mass, registry.OMEGA: omega}))
        assert shown == pytest.approx(float(first @ np.log(first / second)), rel=1e-12)
    assert float(SPREAD.subs({p: mass, registry.OMEGA: omega})) == pytest.approx(
        mass * (1 - mass) * omega**2
    )


@pytest.mark.parametrize(
    ("bound", "kind", "least", "reverse"),
    [
        (registry.LARGEST, "most", 0.5, False),
        (registry.QUADRATIC, "most", 0.0, False),
        (registry.ERROR, "error", 0.0, False),
        (registry.REVERSE_ERROR, "error", 0.0, True),
        (registry.UPPER, "most", 1.0, False),
        (registry.REVERSE_UPPER, "most", 1.0, True),
    ],
)
def test_an_attack_breaks_a_bound_that_is_too_small(bound, kind, least, reverse):
    for factor in (LESS, MORE):
        attack = drift_attack("planted", bound * factor, kind, least=least, reverse=reverse)
        attacked = run_attack(replace(attack, corners=attack.corners[2:]), starts=0)
        assert (attacked.best > 1.005) if factor == LESS else (0.98 < attacked.best < 0.995)
        assert not attacked.ok


def test_an_attack_takes_the_degenerate_corners():
    attack = drift_attack("corners", registry.QUADRATIC, "most")
    assert attack.ratio(attack.corners[0]) == 0.0  # nothing changes
    assert all(0 <= attack.ratio(corner) <= 1 + 1e-9 for corner in attack.corners)
