"""The proof of the seasonal theorem: certified as it stands, and open with an error planted."""

from dataclasses import replace

import pytest
import sympy as sp

from proofs.engine.attack import run_attack
from proofs.engine.balls import Balls
from proofs.lemmas.rows import changed, only_turn
from proofs.seasonal import proof
from proofs.seasonal.proof import AUXILIARY, CLAIMS, PROOF, PUBLISHED, THEOREM
from tappa_theory.shift_identity import KEY_DRIFT, QUERY_DRIFT, rotation_residual, w, w_u, z, z_s

BY_ID = {claim.id: claim for claim in CLAIMS}
LESS, MORE = sp.Rational(99, 100), sp.Rational(101, 100)


def ending(derivation, right):
    last = replace(derivation.links[-1], right=right)
    return replace(derivation, links=(*derivation.links[:-1], last))


@pytest.mark.parametrize("name", BY_ID)
def test_every_claim_is_certified(name):
    claim = BY_ID[name]
    assert [step.claim for step in claim.steps() if not step.evidence.ok] == []
    assert claim.ok


def test_the_published_form_is_repaired():
    assert PROOF.verdict == "repaired"
    assert len(BY_ID) == len(CLAIMS)
    assert {reading.verdict for reading in PROOF.readings} == {"refuted", "holds"}


def test_what_is_proved_is_the_registry():
    assert proof.QUERY_BOUND.end == THEOREM.bound.subs(w_u, w)
    assert proof.KEY_BOUND.end == AUXILIARY["later_key"].subs(z_s, z)
    assert PROOF.proving_the_bound() == ("constant_of_everything", "later_query")
    assert proof.REPAIRED.end == AUXILIARY["repaired"]
    constants = AUXILIARY["drift_constant"], AUXILIARY["resonance_constant"]
    assert AUXILIARY["repaired"].has(*constants)
    assert proof.BOTH_BOUND.end == AUXILIARY["both_later"]
    assert proof.WORST.end == AUXILIARY["worst_channel"]
    assert THEOREM.bound == QUERY_DRIFT + KEY_DRIFT + rotation_residual(proof.L * proof.theta)


@pytest.mark.parametrize(
    "wrong",
    [
        ending(proof.QUERY_BOUND, LESS * THEOREM.bound),
        ending(proof.QUERY_BOUND, AUXILIARY["both_later"]),
        ending(proof.QUERY_BOUND, PUBLISHED),
        ending(proof.KEY_BOUND, QUERY_DRIFT + KEY_DRIFT),
        ending(proof.EXACT_REPEAT, sp.Integer(1)),
        replace(proof.EXACT_REPEAT, hypotheses=proof.EXACT_REPEAT.hypotheses[:1]),
        ending(proof.REPAIRED, LESS * AUXILIARY["repaired"]),
        ending(proof.REPAIRED, AUXILIARY["repaired"] - proof.lam * proof.DELTA * proof.ENERGY_SUM),
        replace(proof.REPAIRED, hypotheses=proof.REPAIRED.hypotheses[:-1]),
        ending(proof.TURNED_SUM, proof.lam * (proof.D_1 + proof.D_2)),
        ending(proof.WORST, PUBLISHED),
        ending(proof.WORST, QUERY_DRIFT + KEY_DRIFT),
        replace(proof.WORST, hypotheses=()),
        ending(proof.BOTH_ATTAINED, LESS * proof.BOTH_ATTAINED.end),
        ending(proof.REPAIRED_ATTAINED, MORE * AUXILIARY["repaired"]),
        ending(proof.REPAIRED_ATTAINED, LESS * AUXILIARY["repaired"]),
        *(
            replace(
                proof.REPAIRED_ATTAINED,
                hypotheses=tuple(h for h in proof.REPAIRED_ATTAINED.hypotheses if h != dropped),
            )
            for dropped in proof.REPAIRED_ATTAINED.hypotheses
        ),
        replace(proof.EQUALLY_LONG, hypotheses=proof.EQUALLY_LONG.hypotheses[:1]),
        ending(proof.phase_of(proof.LATER_KEY, "(0, L)"), proof.WITHOUT_PHASE),
        ending(proof.ERRORS[0], LESS * proof.gap),
        ending(proof.ERRORS_OF_TURNS[1], LESS * proof.gap),
        replace(proof.ERRORS[1], hypotheses=proof.ERRORS[1].hypotheses[:1]),
        proof.error_near("odd half turns", sp.pi * (2 * proof.count + 1) + proof.gap),
        replace(proof.CHANGES[0], start=sp.Rational(201, 100)),
        replace(proof.CHANGES[2], start=sp.Rational(19, 10)),
        replace(proof.CHANGES[0], hypotheses=proof.CHANGES[0].hypotheses[:1]),
        proof.change_near(3, 1),  # an odd ratio: the first channel does not resonate
        replace(proof.ANTI, start=sp.Rational(201, 100)),
        replace(proof.ANTI, hypotheses=()),
        replace(proof.VACUOUS, hypotheses=()),
        ending(proof.as_distance(1)[0], LESS * proof.gap),
        ending(proof.as_distance(-1)[1], LESS * proof.as_distance(-1)[1].end),
        only_turn("wrong", proof.LATER_QUERY, LESS * THEOREM.bound),
        only_turn("wrong", proof.LATER_QUERY, PUBLISHED),
    ],
)
def test_an_error_in_a_derivation_leaves_it_open(wrong):
    assert not wrong.ok


def test_the_repaired_bound_survives_where_the_published_one_fails():
    for row, period in ((proof.RESONANT, 2), (proof.REALISTIC, 700)):
        assert proof.fails_at(row, period).step().evidence.ok
        assert not row.beyond(THEOREM.bound, period, 0, L=period).step().evidence.ok


@pytest.mark.parametrize(
    ("ratio", "period"), [(2, 43), (2, 45), (2, 22), (2, 709), (100, 313), (100, 628), (100, 44)]
)
def test_a_period_that_does_not_resonate_is_no_counterexample(ratio, period):
    row = proof.of_base(sp.Rational(1, ratio))
    assert not proof.fails_at(row, period, 5).step().evidence.ok


def test_the_counterexample_of_the_phase_is_causal():
    at = proof.QUARTER
    assert at[proof.i] + at[proof.L] <= at[proof.t]
    assert proof.SHIFT_DIFFERENCE.subs(proof.LATER_KEY).subs(at) == -2


def test_the_constant_is_refuted_only_as_far_as_the_period_goes():
    row = proof.of_base(sp.Rational(1, 2))
    assert proof.fails_at(row, 44, 5).step().evidence.ok
    assert not proof.fails_at(row, 44, 20).step().evidence.ok
    assert proof.fails_at(row, 710, 1000).step().evidence.ok


def test_a_replay_that_differs_is_noticed():
    instance = proof.fails_at(proof.RESONANT, 2)
    assert not replace(instance, replay=lambda: (2.001, 0.0)).step().evidence.ok


def test_balls_do_not_take_the_wrong_order_at_an_end():
    *links, last = proof.ERRORS[0].links
    wrong = replace(last, by=Balls(proof.gap, sp.Integer(0), sp.Integer(1)))
    assert not replace(proof.ERRORS[0], links=(*links, wrong)).ok


@pytest.mark.parametrize("attack", PROOF.attacks, ids=lambda attack: attack.name)
def test_an_attack_reaches_the_bound_and_does_not_pass(attack):
    assert run_attack(attack, starts=1).ok


@pytest.mark.parametrize("shift", [(7, 0), (0, 7), (7, 7)])
def test_an_attack_breaks_a_bound_that_is_too_small(shift):
    name = {(7, 0): THEOREM.bound, (0, 7): AUXILIARY["later_key"], (7, 7): AUXILIARY["both_later"]}
    assert run_attack(changed(LESS * name[shift], shift, L=7.0), starts=1).best > 1.005
    drift = QUERY_DRIFT if shift[0] else KEY_DRIFT
    assert run_attack(changed(drift, shift, L=7.0), starts=1).best > 1.1
