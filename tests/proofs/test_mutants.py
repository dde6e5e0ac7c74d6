"""Mutations, what becomes of mutants, and that a proof which is not one leaves survivors."""

import dataclasses
import json
import sys

import pytest
import sympy as sp

from proofs.engine.attack import Attack
from proofs.engine.certificates import Evidence, Solver
from proofs.engine.claims import Claim, Exact, Proof, Reading
from proofs.engine.derivation import Derivation, Lemma, Link
from proofs.engine.relations import le, lt
from proofs.engine.witness import chosen
from proofs.lemmas.finite import TRIANGLE
from proofs.mutation import mutants
from proofs.mutation.mutants import Verdict, compare, judge, judge_hypotheses
from proofs.mutation.mutations import are_equal, mutations, weakened
from proofs.mutation.rebuilt import derivations_of, rebuilt, reusing, substituted
from proofs.sequential.diagonal import CHANGES_SUM
from tappa_theory.errors import InputError
from tappa_theory.shift_identity import BOUND, KEY_FIRST, lam, w_u, z_s
from tappa_theory.shift_identity import w as w_i
from tappa_theory.shift_identity import z as z_t
from tappa_theory.theorems import THEOREMS
from tappa_theory.theorems.typical_case import ROW_TERM

x, y = sp.symbols("x y", real=True)
n = sp.Symbol("n", positive=True)
z, w = sp.symbols("z w", complex=True)
PERCENT_MORE = sp.Rational(101, 100)
SEED = 0


@pytest.mark.parametrize(
    ("expression", "kind", "expected"),
    [
        (3 * x, "factor", 3 * PERCENT_MORE * x),
        (x + 3, "constant", x + 3 * PERCENT_MORE),
        (x + sp.pi, "constant", x + sp.pi * PERCENT_MORE),
        (sp.sin(2 * x), "constant", sp.sin(2 * PERCENT_MORE * x)),
        (x + y, "sign", x - y),
        (sp.Abs(z - w), "sign", sp.Abs(z + w)),
        (sp.exp(-n), "sign", sp.exp(n)),
        (sp.exp(sp.I * x) + 1, "sign", sp.exp(-sp.I * x) + 1),
        (sp.sin(-2 * x + y), "sign", sp.sin(2 * x + y)),
        (x**2 + 1, "exponent", x**3 + 1),
        (sp.sqrt(n), "exponent", n ** sp.Rational(3, 2)),
        (1 / n, "exponent", 1 / n**2),
        (sp.Max(x, y), "function", sp.Min(x, y)),
        (sp.Min(x, y, 1), "function", sp.Max(x, y, 1)),
        (sp.sin(x) + 1, "function", sp.cos(x) + 1),
        (sp.asin(x / 2) + 1, "function", sp.acos(x / 2) + 1),
        (sp.re(z * w), "function", sp.im(z * w)),
    ],
)
def test_a_mutation_is_made(expression, kind, expected):
    found = {mutation.expression: mutation.kind for mutation in mutations(expression)}
    assert found[expected] == kind


@pytest.mark.parametrize("expression", [BOUND, sp.sin(x) ** 2, 1 / n, sp.Max(x, y), x * y])
def test_mutations_are_other_expressions_each_once(expression):
    found = [mutation.expression for mutation in mutations(expression)]
    assert len(found) == len(set(found)) >= 2
    assert expression not in found
    assert not any(other.has(sp.nan, sp.zoo, sp.oo) for other in found)


def test_hypotheses_are_dropped_and_strict_ones_weakened():
    found = weakened((sp.And(lt(x, y), le(0, x)), *chosen({z: w})))
    left = [mutant.hypotheses for mutant in found]
    assert (le(0, x), *chosen({z: w})) in left
    assert (lt(x, y), *chosen({z: w})) in left
    assert (le(0, x), lt(x, y)) in left
    assert (le(0, x), le(x, y), *chosen({z: w})) in left
    assert [mutant.kind for mutant in found].count("strict") == 1
    assert len(left) == 4


def test_an_equivalent_mutant_is_recognised_by_a_certificate():
    assert are_equal(sp.Abs(sp.sin(x - y)), sp.Abs(sp.sin(y - x)))
    assert are_equal(sp.cos(x) ** 2, 1 - sp.sin(x) ** 2)
    assert not are_equal(sp.Abs(z - w), sp.Abs(z + w))
    assert not are_equal(x, x * PERCENT_MORE)


def test_what_is_part_of_a_sum_or_product_is_replaced_too():
    new = sp.Symbol("new", real=True)
    assert substituted(KEY_FIRST + lam, KEY_FIRST, new) == new + lam
    assert substituted(sp.sin(2 * x * y), x * y, new) == sp.sin(2 * new)
    assert substituted(x + y, x * y, new) == x + y
    assert substituted(BOUND, BOUND, new) == new


# A proof that 1 + x^2 is at most B, for |x| <= 1, sharp at x = 1.

B = sp.Integer(3) - 1 + 0 * x


class Credulous:
    """Says yes to everything."""

    def certify(self, left, relation, right, hypotheses):
        return Evidence(True, "none", "yes")


def small_proof(bound, by=None, sharp=True, attacked=True):
    whole = Derivation(
        "bounded",
        1 + x**2,
        (Link("<=", bound, "as it is", by or Solver()),),
        hypotheses=(le(x**2, 1),),
    )
    attained = Exact("at 1", bound, "=", sp.Integer(2))
    claims = [Claim("bound", "bound", "bounded", (whole,))]
    if sharp:
        claims.append(
            Claim("sharp", "sharpness", "met", instances=(attained,), witness="x = 1", ratio="1")
        )

    def ratio(point):
        return (1 + point[0] ** 2) / float(bound)

    return Proof(
        THEOREMS["proposition_4_1"],
        tuple(claims),
        (Reading("as it stands", "holds", ("bound",)),),
        (Attack("squares", 1, ratio, True, 1e-9),) if attacked else (),
    )


@pytest.mark.parametrize(
    ("changes", "factor", "by"),
    [
        ({}, sp.Rational(99, 100), "certificate"),
        ({}, PERCENT_MORE, "instance"),
        ({"sharp": False}, PERCENT_MORE, "sharpness"),
        ({"sharp": False, "by": Credulous()}, sp.Rational(99, 100), "counterexample"),
    ],
)
def test_what_kills_a_mutant(changes, factor, by):
    proof, mutant = small_proof(B, **changes), small_proof(factor * B, **changes)
    found = compare(proof, mutant)
    assert (found.outcome, found.by) == ("killed", by), found


@pytest.mark.parametrize("factor", [PERCENT_MORE, sp.Rational(1, 2), sp.Integer(0)])
def test_a_proof_that_believes_everything_leaves_survivors(factor):
    changes = {"by": Credulous(), "sharp": False, "attacked": False}
    found = compare(small_proof(B, **changes), small_proof(factor * B, **changes))
    assert found == Verdict("survived")


def test_a_looser_bound_survives_where_no_sharpness_is_claimed():
    changes = {"sharp": False, "attacked": False}
    found = compare(small_proof(B, **changes), small_proof(2 * B, **changes))
    assert found == Verdict("survived")


def test_a_failure_that_the_proof_has_itself_kills_nothing():
    wrong = B / 2
    changes = {"sharp": False, "attacked": False}
    assert compare(small_proof(wrong, **changes), small_proof(wrong / 2, **changes)).outcome == (
        "survived"
    )


def test_a_statement_that_no_derivation_makes_is_killed():
    proof = small_proof(B, sharp=False)
    assert compare(proof, proof, (sp.Integer(2), sp.Integer(3))).by == "statement"
    assert compare(proof, proof, (sp.Integer(5), sp.Integer(6))).outcome == "survived"


def test_a_solver_that_gives_up_is_no_kill():
    class GivesUp:
        def certify(self, left, relation, right, hypotheses):
            ok = right == B
            return Evidence(ok, "none", "yes" if ok else "undecided: no time")

    changes = {"by": GivesUp(), "sharp": False, "attacked": False}
    found = compare(small_proof(B, **changes), small_proof(2 * B, **changes))
    assert found.outcome == "undecided"


def test_time_is_limited(monkeypatch):
    class Endless:
        def certify(self, left, relation, right, hypotheses):
            while right != B:
                pass
            return Evidence(True, "none", "yes")

    monkeypatch.setattr(mutants, "SECONDS", 0.2)
    changes = {"by": Endless(), "sharp": False, "attacked": False}
    found = compare(small_proof(B, **changes), small_proof(2 * B, **changes))
    assert (found.outcome, found.detail) == ("undecided", "bounded: time is up")


def test_a_hypothesis_that_is_needed_is_missed_and_another_is_not():
    derivation = small_proof(B).claims[0].derivations[0]
    assert judge_hypotheses(derivation, ()).outcome == "killed"
    more = dataclasses.replace(derivation, hypotheses=(*derivation.hypotheses, le(0, y)))
    assert judge_hypotheses(more, derivation.hypotheses) == Verdict("survived")


def test_a_rebuilt_proof_speaks_of_the_other_expression_and_leaves_the_first_alone():
    proof = mutants.proof_of("typical_case")
    before = set(sys.modules)
    new = rebuilt("typical_case", ROW_TERM, PERCENT_MORE * ROW_TERM)
    assert new.theorem.auxiliary["row_term"] == PERCENT_MORE * ROW_TERM
    assert proof.theorem.auxiliary["row_term"] == ROW_TERM
    assert mutants.proof_of("typical_case") is proof
    assert set(sys.modules) == before
    shared = {id(part) for part in derivations_of(proof.claims)}
    kept = [id(part) in shared for part in derivations_of(reusing(new, proof).claims)]
    assert any(kept)
    assert not all(kept)


def test_a_proof_rebuilt_from_the_same_registry_has_nothing_that_fails():
    proof = mutants.proof_of("typical_case")
    old = proof.theorem.bound
    again = reusing(rebuilt("typical_case", old, old), proof)
    assert compare(proof, again, (old, old)) == Verdict("survived")


def test_lemmas_are_among_the_derivations():
    using = Derivation(
        "uses", TRIANGLE.start, (Link("<=", TRIANGLE.end, "so", Lemma(TRIANGLE, {})),)
    )
    assert list(derivations_of(using)) == [using, TRIANGLE]
    assert CHANGES_SUM in mutants.derivations("sequential")


@pytest.mark.parametrize("theorem_id", mutants.proof_ids())
def test_no_mutant_of_the_sample_survives(theorem_id):
    drawn = mutants.chosen_jobs([theorem_id], sample=12, seed=SEED)
    jobs = [job for job in drawn if isinstance(job.of, str)][:2]
    assert jobs
    survived = [
        mutant
        for mutant in map(mutants.work, jobs)
        if mutant["outcome"] in ("survived", "undecided")
    ]
    assert survived == []


def test_a_sample_is_the_same_for_the_same_seed_and_names_are_checked():
    ids = ["typical_case"]
    assert mutants.chosen_jobs(ids, 3, 5) == mutants.chosen_jobs(ids, 3, 5)
    assert mutants.chosen_jobs(ids, 3, 5) != mutants.chosen_jobs(ids, 3, 6)
    assert len(mutants.chosen_jobs(ids, 3)) == 3
    with pytest.raises(InputError, match="the ids are"):
        mutants.chosen_jobs(["typical"])


def test_the_command_writes_what_it_found(tmp_path, capsys):
    arguments = ["typical_case", "--sample", "2", "--workers", "1", "--out", str(tmp_path)]
    code = mutants.main(arguments)
    document = json.loads((tmp_path / "mutants.json").read_text())
    assert document["complete"]
    assert len(document["mutants"]) == 2
    survived = [m for m in document["mutants"] if m["outcome"] in ("survived", "undecided")]
    assert code == bool(survived)
    assert (tmp_path / "mutants.md").read_text() in capsys.readouterr().out
    assert mutants.main(["nothing", "--out", str(tmp_path)]) == 2


def test_survivors_are_listed_and_end_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutants, "judge", lambda *_: Verdict("survived"))
    arguments = ["typical_case", "--sample", "3", "--workers", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(mutants, "jobs_of", lambda *_: [mutants.Job("typical_case", "bound", 0)])
    assert mutants.main(arguments) == 1
    assert "## Survived" in capsys.readouterr().out


def test_an_interrupt_leaves_what_was_finished(tmp_path, monkeypatch):
    jobs = mutants.jobs_of("typical_case")[:3]
    monkeypatch.setattr(mutants, "jobs_of", lambda *_: jobs)

    def work(job):
        if job == jobs[2]:
            raise KeyboardInterrupt
        return {"theorem": job.theorem, "of": "bound", "kind": "", "change": ""} | {
            "outcome": "killed",
            "by": "certificate",
            "detail": "",
        }

    monkeypatch.setattr(mutants, "work", work)
    arguments = ["typical_case", "--workers", "1", "--out", str(tmp_path)]
    assert mutants.main(arguments) == 130
    document = json.loads((tmp_path / "mutants.json").read_text())
    assert not document["complete"]
    assert len(document["mutants"]) == 2


def test_what_is_not_shifted_does_not_drift():
    column, row = (THEOREMS[name] for name in ("re_access", "periodic_sequential"))
    assert mutants.unshifted(column, column.bound) == {w_u: w_i}
    assert mutants.unshifted(row, row.bound) == {z_s: z_t}
    assert mutants.unshifted(THEOREMS["sequential"], BOUND) == {}
    assert mutants.unshifted(column, column.auxiliary["gap"]) == {}
    key_drift = lam * sp.Abs(z_t) * sp.Abs(w_u - w_i)
    found = judge("re_access", column.bound, column.bound - 2 * key_drift)
    assert found.outcome == "equivalent"
