"""Exact instances, claims, readings and proofs: what is not certified does not count."""

import math

import pytest
import sympy as sp

from proofs.engine.certificates import Evidence, Identity, Solver
from proofs.engine.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.engine.derivation import Derivation, Link
from proofs.engine.relations import lt
from tappa_theory.shift_identity import SHIFT_DIFFERENCE, s, u, w, w_u
from tappa_theory.theorems import THEOREMS

x = sp.Symbol("x", real=True)
ZERO, ONE = sp.Integer(0), sp.Integer(1)


class Anything:
    def certify(self, left, relation, right, hypotheses):
        return Evidence(True, "test", "whatever")


GOOD = Derivation("good", ZERO, (Link("<=", x**2, "", Solver()),))
BAD = Derivation("bad", ONE, (Link("<=", x**2, "", Solver()),))
TRUE, FALSE = Exact("", ZERO, "<", ONE), Exact("", ONE, "<", ZERO)
RULE = Conclusion("whatever", "a textbook rule")


def ok(*arguments, **more):
    return Exact("", *arguments, **more).step().evidence.ok


def test_instances_are_exact():
    assert ok(sp.Rational(314159265358979, 10**14), "<", sp.pi)
    assert ok(sp.sqrt(2) * sp.sqrt(3), "=", sp.sqrt(6))
    assert ok(sp.cos(sp.pi / 12), "=", (sp.sqrt(6) + sp.sqrt(2)) / 4)
    assert ok(sp.sin(1), "<", sp.sin(1) + sp.Rational(1, 10**30))
    for arguments in (
        (ONE, "<", ONE),
        (sp.pi, "<", sp.Rational(314159265358979, 10**14)),
        (sp.sin(1) ** 2 + sp.cos(1) ** 2, "<", ONE),  # equal: no ball is above 0
        (sp.sqrt(2), "=", sp.Rational(math.sqrt(2))),
        (ZERO, ">", ONE),
        (ZERO, "<=", ONE),
        (ZERO, ">", -ONE),
        (sp.I, "<", 1 + sp.I),  # no order among them
        (sp.sqrt(-2), "<", sp.sqrt(-2) + 1),
        (sp.log(-2), "<", sp.log(-2) + 1),
        (ONE, "<", sp.oo),
        (-sp.oo, "<", ZERO),
        (sp.zoo, "=", sp.zoo),
        (sp.nan, "=", sp.nan),
        (x, "=", x),
        (x, "<", x + 1),
        (sp.Float(0.1) + sp.Float(0.2), "=", sp.Rational(3, 10)),
    ):
        assert not ok(*arguments)


def test_a_replay_must_agree():
    root = sp.sqrt(2)
    right = (math.sqrt(2), 1.0)
    assert ok(ONE, "<", root, replay=lambda: right)
    for wrong in (
        (1.0, math.sqrt(2)),
        (math.sqrt(2) * (1 + 1e-6), 1.0),
        (math.sqrt(2), 1 + 1e-6),
        (math.nan, 1.0),
        (math.inf, 1.0),
    ):
        assert not ok(ONE, "<", root, replay=lambda wrong=wrong: wrong)
    # and it cannot make true what is false
    assert not ok(root, "<", ONE, replay=lambda: (1.0, math.sqrt(2)))


def test_a_claim_stands_on_all_of_its_parts_and_on_one_at_least():
    assert Claim("c", "bound", "", (GOOD,), (TRUE,)).ok
    assert not Claim("c", "bound", "", (GOOD, BAD)).ok
    assert not Claim("c", "bound", "", (GOOD,), (TRUE, FALSE)).ok
    assert Claim("c", "counterexample", "", (), (TRUE,)).ok
    assert not Claim("c", "counterexample", "", (), (FALSE,)).ok
    # a rule that is not certified makes no claim
    assert not Claim("c", "counterexample", "", (), (), (RULE,)).ok
    assert not Claim("c", "sharpness", "", (), (), (RULE,), witness="w", ratio="1").ok
    assert len(Claim("c", "bound", "", (GOOD, GOOD), (TRUE,)).steps()) == 3


@pytest.mark.parametrize("kind", ["identity", "bound"])
def test_instances_prove_nothing_of_all_values(kind):
    with pytest.raises(ValueError, match="instances do not prove"):
        Claim("c", kind, "", (), (TRUE,))


def test_sharpness_has_a_witness_and_its_ratio():
    for more in ({}, {"witness": "w"}, {"ratio": "1"}):
        with pytest.raises(ValueError, match="needs a witness"):
            Claim("c", "sharpness", "", (GOOD,), **more)


BOUND = Claim("bound", "bound", "", (GOOD,))
COUNTER = Claim("counter", "counterexample", "", (), (TRUE,))
SHARP = Claim("sharp", "sharpness", "", (GOOD,), witness="w", ratio="1")


def proof(*readings, claims=(BOUND, COUNTER, SHARP), theorem="shift_bound"):
    return Proof(THEOREMS[theorem], claims, tuple(Reading("text", *part) for part in readings))


def test_verdicts():
    assert proof(("holds", ("bound",))).verdict == "holds"
    assert proof(("holds", ("bound",)), ("refuted", ("counter",))).verdict == "repaired"
    assert proof(("refuted", ("counter",)), claims=(COUNTER,)).verdict == "refuted"


@pytest.mark.parametrize(
    "reading",
    [
        ("refuted", ("bound",)),
        ("refuted", ()),
        ("refuted", ("unknown",)),
        ("holds", ()),
        ("holds", ("bound", "unknown")),
        ("holds", ("counter",)),
        ("holds", ("sharp", "counter")),
    ],
)
def test_a_reading_rests_on_claims_that_can_decide_it(reading):
    with pytest.raises(ValueError, match=r"rests on nothing|no counterexample|examples only"):
        proof(reading)


def test_a_proof_needs_a_reading_and_names_each_claim_once():
    with pytest.raises(ValueError, match="no reading"):
        proof()
    with pytest.raises(ValueError, match="twice"):
        proof(("holds", ("bound",)), claims=(BOUND, BOUND))


def proving(theorem, start, relation, end, hypotheses=(), kind="bound"):
    """Is a claim with this derivation one that proves the theorem's bound?"""
    part = Derivation("part", start, (Link(relation, end, "", Anything()),), hypotheses)
    claim = Claim("claim", kind, "", (part,), witness="w", ratio="1")
    found = Proof(
        THEOREMS[theorem], (claim, BOUND), (Reading("text", "holds", ("bound",)),)
    ).proving_the_bound()
    return found == ("claim",)


@pytest.mark.parametrize("name", ["re_access", "sequential", "periodic_sequential", "seasonal"])
def test_the_bound_is_proved_of_the_change_of_the_logit(name):
    theorem = THEOREMS[name]
    by_query, by_key = theorem.pattern_shift
    change = sp.Abs(SHIFT_DIFFERENCE.subs({s: by_query, u: by_key}, simultaneous=True))
    bound = theorem.bound
    assert proving(name, change, "<=", bound)
    assert proving(name, change, "<", bound)
    if by_key == 0:
        assert proving(name, change.subs(w_u, w), "<=", bound.subs(w_u, w))
    assert not proving(name, change, "=", bound)
    assert not proving(name, ZERO, "<=", bound)
    assert not proving(name, change / 2, "<=", bound)
    assert not proving(name, change, "<=", 2 * bound)
    assert not proving(name, change, "<=", bound, (lt(0, x),))
    assert not proving(name, change, "<=", bound, kind="identity")
    elsewhere = sp.Abs(SHIFT_DIFFERENCE.subs({s: by_query + 1, u: by_key}, simultaneous=True))
    assert not proving(name, elsewhere, "<=", bound)


def test_an_identity_is_what_the_registry_asks_for_too():
    assert ok(ZERO, "=", sp.sin(sp.pi))
    assert not Identity().certify(ZERO, "=", sp.sin(sp.pi / 7)).ok
