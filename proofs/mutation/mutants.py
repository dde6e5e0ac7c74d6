"""Mutants: what becomes of a proof when what it proves is wrong in one place.

`python -m proofs.mutation [ID ...]` changes an expression of the registry in one place, everywhere
at once: statement, derivations, witnesses and attacks are built anew from the changed expression.
Some certificate, sharpness claim or attack must then fail. A hypothesis is dropped from the
derivation that has it: a certificate of it must fail. What fails nowhere is a survivor, unless an
exact certificate shows that the mutant is the same function.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import pkgutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import sympy as sp

import tappa_theory.theorems
from proofs.engine import certificates
from proofs.engine.attack import Attack, Attacked, run_attack
from proofs.engine.claims import Exact, Proof
from proofs.engine.derivation import Derivation, Fact, Link
from proofs.mutation.mutations import Mutation, Weakened, are_equal, mutations, weakened
from proofs.mutation.rebuilt import Keys, derivations_of, pairs_of, rebuilt, reusing
from proofs.mutation.refuted import point_against
from tappa_theory.app.files import output_folder, write_json, write_text_atomic
from tappa_theory.app.parallel import WORKERS, results
from tappa_theory.app.progress import ProgressBar, progress_reports
from tappa_theory.errors import InputError
from tappa_theory.shift_identity import bound_at, w, w_u, z, z_s
from tappa_theory.theorems import Theorem

SCHEMA = 1
SOLVER_MILLISECONDS = 4_000
"""Time a solver gets for one question about a mutant; most of them are false."""
SECONDS = 40.0
"""Processor time for one step, instance or attack of a mutant."""

Outcome = Literal["killed", "equivalent", "undecided", "survived"]


class TimeLimit(BaseException):
    """Is raised when time is up; no `except Exception` stops it."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    "killed": something fails for certain. "undecided": nothing fails for certain, but not all of
    it is certified (a solver gave up). by: "certificate", "instance", "sharpness",
    "counterexample" (a point, or what an attack found), "ledger" (no derivation ends with the
    bound), "statement" (the derivation that starts or ends with the expression does not with the
    mutant), "construction" (the proof cannot be built).
    """

    outcome: Outcome
    by: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Job:
    """One mutant: number `number` of the mutations of `of` in a theorem's proof.

    of: name of an expression of the registry, or the number of a derivation among
    `derivations_of` the proof, the hypotheses of which are weakened.
    """

    theorem: str
    of: str | int
    number: int


def proof_ids() -> tuple[str, ...]:
    """Ids of the theorems that have a proof, registered or not yet."""
    names = (found.name for found in pkgutil.iter_modules(tappa_theory.theorems.__path__))
    modules = (import_module(f"tappa_theory.theorems.{name}") for name in names)
    ids = (module.THEOREM.id for module in modules if hasattr(module, "THEOREM"))
    return tuple(name for name in ids if find_spec(f"proofs.{name}.proof") is not None)


def proof_of(theorem_id: str) -> Proof:
    """`PROOF` of the module of that name."""
    proof: Proof = import_module(f"proofs.{theorem_id}.proof").PROOF
    return proof


@functools.cache
def expressions_of(theorem_id: str) -> dict[str, sp.Expr]:
    """The expressions of a theorem by name, each once."""
    theorem = proof_of(theorem_id).theorem
    first: dict[sp.Expr, str] = {}
    for name, expression in {"bound": theorem.bound, **theorem.auxiliary}.items():
        first.setdefault(expression, name)
    return {name: expression for expression, name in first.items()}


@functools.cache
def expression_mutants(theorem_id: str, name: str) -> tuple[Mutation, ...]:
    """The mutations of an expression of a theorem."""
    return tuple(mutations(expressions_of(theorem_id)[name]))


@functools.cache
def derivations(theorem_id: str) -> tuple[Derivation, ...]:
    """The derivations of a theorem's proof, lemmas included."""
    return tuple(derivations_of(proof_of(theorem_id).claims))


@functools.cache
def hypothesis_mutants(theorem_id: str, number: int) -> tuple[Weakened, ...]:
    """The ways to weaken the hypotheses of a derivation."""
    return tuple(weakened(derivations(theorem_id)[number].hypotheses))


def jobs_of(theorem_id: str, done: set[int] | None = None) -> list[Job]:
    """All mutants of a theorem. done: ids of derivations that have been counted, to be added to."""
    done = set() if done is None else done
    jobs = [
        Job(theorem_id, name, number)
        for name in expressions_of(theorem_id)
        for number in range(len(expression_mutants(theorem_id, name)))
    ]
    for index, derivation in enumerate(derivations(theorem_id)):
        if id(derivation) not in done:
            done.add(id(derivation))
            found = range(len(hypothesis_mutants(theorem_id, index)))
            jobs += [Job(theorem_id, index, number) for number in found]
    return jobs


def description(job: Job) -> dict[str, str]:
    """What a mutant is: of which expression or derivation, the kind of error, the change."""
    if isinstance(job.of, int):
        weaker = hypothesis_mutants(job.theorem, job.of)[job.number]
        title = derivations(job.theorem)[job.of].title
        return {"of": title, "kind": weaker.kind, "change": weaker.change}
    mutant = expression_mutants(job.theorem, job.of)[job.number]
    return {"of": job.of, "kind": mutant.kind, "change": mutant.change}


def work(job: Job) -> dict[str, Any]:
    """Judge one mutant: what it is, and its verdict."""
    started = time.monotonic()
    with _solver_limit(SOLVER_MILLISECONDS):
        if isinstance(job.of, int):
            weaker = hypothesis_mutants(job.theorem, job.of)[job.number]
            verdict = judge_hypotheses(derivations(job.theorem)[job.of], weaker.hypotheses)
        else:
            mutant = expression_mutants(job.theorem, job.of)[job.number]
            verdict = judge(job.theorem, expressions_of(job.theorem)[job.of], mutant.expression)
    seconds = round(time.monotonic() - started, 2)
    return {"theorem": job.theorem, **description(job), **asdict(verdict), "seconds": seconds}


def judge(theorem_id: str, old: sp.Expr, new: sp.Expr) -> Verdict:
    """What becomes of a theorem's proof with `new` for `old`, everywhere at once."""
    if are_equal(old, new):
        return Verdict("equivalent", "certificate", "both are exactly the same function")
    proof = proof_of(theorem_id)
    try:
        mutant = rebuilt(theorem_id, old, new)
    except Exception as error:
        # whatever the modules raise: there is no proof of the mutant
        return Verdict("killed", "construction", f"{type(error).__name__}: {error}")
    verdict = compare(proof, reusing(mutant, proof), (old, new))
    if verdict.outcome == "survived":
        still = unshifted(proof.theorem, old)
        if are_equal(old.subs(still), new.subs(still)):
            detail = f"the same function where {still}, as at its shift"
            return Verdict("equivalent", "certificate", detail)
    return verdict


def unshifted(theorem: Theorem, expression: sp.Expr) -> dict[sp.Symbol, sp.Symbol]:
    """In (B) at the theorem's shift or a multiple, what does not move is itself.

    w_u is w at (s, 0), z_s is z at (0, u).
    """
    if theorem.pattern_shift is None:
        return {}
    by_query, by_key = theorem.pattern_shift
    steps = [sp.Integer(1), *sorted(expression.free_symbols, key=str)]
    if by_key == 0 and any(expression == bound_at((step, 0)) for step in steps):
        return {w_u: w}
    if by_query == 0 and any(expression == bound_at((0, step)) for step in steps):
        return {z_s: z}
    return {}


def judge_hypotheses(derivation: Derivation, hypotheses: tuple[sp.Basic, ...]) -> Verdict:
    """Is every step of a derivation certified under other hypotheses, too?"""
    found = _first(
        failed
        for ours, theirs in _links(derivation, replace(derivation, hypotheses=hypotheses))
        if (failed := _failure(theirs)) is not None and _certified(ours)
    )
    return found or Verdict("survived")


def compare(proof: Proof, mutant: Proof, changed: tuple[sp.Expr, sp.Expr] | None = None) -> Verdict:
    """What fails of the mutant of a proof, and not of the proof.

    changed: an expression and what stands for it. Where a derivation starts or ends with the first,
    one must with the second.
    """
    return _first(_verdicts(proof, mutant, changed)) or Verdict("survived")


def _first(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The first one that is certain, else the first one."""
    undecided = None
    for verdict in verdicts:
        if verdict.outcome == "killed":
            return verdict
        undecided = undecided or verdict
    return undecided


def _verdicts(
    proof: Proof, mutant: Proof, changed: tuple[sp.Expr, sp.Expr] | None
) -> Iterator[Verdict]:
    """Whatever fails, cheap questions first."""
    if proof.proving_the_bound() and not mutant.proving_the_bound():
        yield Verdict("killed", "ledger", "no derivation ends with the bound")
    try:
        pairs = list(pairs_of(proof.claims, mutant.claims))
    except ValueError as error:
        yield Verdict("killed", "construction", f"the proof is made of other parts: {error}")
        return
    key = Keys(by_name=True)
    for before, after in sorted(pairs, key=lambda pair: len(pair[0].links)):
        if key(before) == key(after):
            continue
        for one, other in _links(before, after):
            # what was built anew but says what it said needs no second certificate
            if key(one) != key(other):
                failed = _failure(other)
                if failed is not None and _certified(one):
                    yield failed
    for claim, other_claim in zip(proof.claims, mutant.claims, strict=True):
        for instance, other_instance in zip(claim.instances, other_claim.instances, strict=True):
            failed = _instance_failure(instance, other_instance)
            if failed is not None:
                yield failed
    if changed is not None:
        ours, theirs = (_spoken_of(part) for part in (proof, mutant))
        if changed[0] in ours and changed[1] not in theirs:
            yield Verdict("killed", "statement", "no derivation starts or ends with the mutant")
    for attack, other_attack in zip(proof.attacks, mutant.attacks, strict=True):
        failed = _attack_failure(attack, other_attack)
        if failed is not None:
            yield failed


def _spoken_of(proof: Proof) -> set[sp.Expr]:
    """Both ends of every derivation of the claims."""
    found = [part for claim in proof.claims for part in claim.derivations]
    return {end for part in found for end in (part.start, part.end)}


def _links(first: Derivation, second: Derivation) -> Iterator[tuple[Derivation, Derivation]]:
    """Pairs of derivations with one step each: the facts and links of two derivations."""
    yield from zip(_apart(first), _apart(second), strict=False)


@functools.cache
def _apart(derivation: Derivation) -> tuple[Derivation, ...]:
    """Every fact and link as a derivation by itself, under all that is known there."""
    known = list(derivation.hypotheses)
    found = []

    def step(left: sp.Expr, part: Fact | Link) -> Derivation:
        link = Link(part.relation, part.right, part.claim, part.by)
        return Derivation(derivation.title, left, (link,), tuple(known))

    for fact in derivation.facts:
        found.append(step(fact.left, fact))
        known.append(fact.hypothesis)
    left = derivation.start
    for link in derivation.links:
        found.append(step(left, link))
        left = link.right
    return tuple(found)


def _failure(step: Derivation) -> Verdict | None:
    """Why a derivation with one step is not certified; None if it is."""
    try:
        with _time_limit(SECONDS):
            (found,) = step.steps()
    except TimeLimit:
        return Verdict("undecided", "certificate", f"{step.title}: time is up")
    if found.evidence.ok:
        return None
    detail = f"{step.title}: {found.claim}: {found.evidence.detail}"
    inner = [s.evidence.detail for d in derivations_of(step.links) for s in d.steps()]
    open_ = any(map(_gave_up, [found.evidence.detail, *inner]))
    if open_:
        (link,) = step.links
        values = point_against(step.start, link.relation, link.right, step.hypotheses)
        if values is not None:
            return Verdict("killed", "counterexample", f"{step.title}: false at {values}")
    return Verdict("undecided" if open_ else "killed", "certificate", detail)


def _gave_up(detail: str) -> bool:
    """Was a step left open, rather than refused?"""
    return "undecided" in detail or "(unknown)" in detail


@functools.cache
def _certified(step: Derivation) -> bool:
    """Is a step certified within the time that mutants have?"""
    return _failure(step) is None


def _instance_failure(instance: Exact, mutant: Exact) -> Verdict | None:
    sides = instance.allowed, instance.relation, instance.observed
    if sides == (mutant.allowed, mutant.relation, mutant.observed) and mutant.replay is None:
        return None
    try:
        with _time_limit(SECONDS):
            evidence = mutant.step().evidence
            failed = not evidence.ok and instance.step().evidence.ok
    except TimeLimit:
        return Verdict("undecided", "instance", f"{mutant.claim}: time is up")
    return Verdict("killed", "instance", f"{mutant.claim}: {evidence.detail}") if failed else None


def _attack_failure(attack: Attack, mutant: Attack) -> Verdict | None:
    try:
        with _time_limit(SECONDS):
            found = run_attack(mutant)
            if found.ok or not _attacked(attack).ok:
                return None
    except TimeLimit:
        return None
    reached = "no finite ratio" if found.best is None else f"largest ratio {found.best:.6g}"
    above = found.best is not None and found.best > 1
    by = "counterexample" if above else "sharpness"
    return Verdict("killed", by, f"attack {mutant.name}: {reached}")


@functools.cache
def _attacked(attack: Attack) -> Attacked:
    return run_attack(attack)


@contextmanager
def _solver_limit(milliseconds: int) -> Iterator[None]:
    """Other time limit of the solver for the block."""
    before = certificates.MILLISECONDS
    certificates.MILLISECONDS = min(before, milliseconds)
    try:
        yield
    finally:
        certificates.MILLISECONDS = before


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimit in the block when time is up, where there are alarms; limits may nest."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def up(number: int, frame: FrameType | None) -> None:
        raise TimeLimit

    handler = signal.signal(signal.SIGPROF, up)
    left, _ = signal.setitimer(signal.ITIMER_PROF, seconds)
    started = time.process_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        if left:
            passed = time.process_time() - started
            signal.setitimer(signal.ITIMER_PROF, max(left - passed, 1e-3))


def run(
    ids: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
    workers: int = WORKERS,
    begin: Callable[[int], Callable[[], None]] | None = None,
    interrupted: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Judge the mutants of these theorems, of all if none is named; the document of mutants.json.

    sample: so many per theorem, drawn with `seed`; all if None. begin: is told their number and
    returns what to call after each. interrupted: is given the document of the finished ones on
    KeyboardInterrupt, which is raised again. Raises InputError for an unknown id.
    """
    jobs = chosen_jobs(ids, sample, seed)
    advance = begin(len(jobs)) if begin is not None else lambda: None
    done: dict[Job, dict[str, Any]] = {}

    def document() -> dict[str, Any]:
        found = [done[job] for job in jobs if job in done]
        return {
            "schema": SCHEMA,
            "complete": len(found) == len(jobs),
            "sample": sample,
            "seed": seed,
            "counts": dict(Counter(mutant["outcome"] for mutant in found)),
            "mutants": found,
        }

    try:
        with results(work, jobs, workers) as finished:
            for job, found in finished:
                done[job] = found
                advance()
    except KeyboardInterrupt:
        if interrupted is not None:
            interrupted(document())
        raise
    return document()


def chosen_jobs(ids: Sequence[str] = (), sample: int | None = None, seed: int = 0) -> list[Job]:
    """The mutants of these theorems, of all if none is named, or a sample of each.

    Raises InputError for an unknown id.
    """
    known = proof_ids()
    for name in ids:
        if name not in known:
            raise InputError(f"theorem {name!r} has no proof; the ids are {', '.join(known)}")
    jobs, done = [], set[int]()
    for name in known:
        if not ids or name in ids:
            found = jobs_of(name, done)
            if sample is not None:
                found = sorted(found, key=lambda job: _rank(job, seed))[:sample]
            jobs += found
    return jobs


def _rank(job: Job, seed: int) -> str:
    """A random number for what the mutant is: other mutants may come and go beside it."""
    words = f"{seed} {job.theorem} {description(job)}"
    return hashlib.sha256(words.encode()).hexdigest()


def markdown(document: dict[str, Any]) -> str:
    """A table of counts by theorem, then all that was not killed."""
    mutants = document["mutants"]
    lines = ["# Mutants", ""]
    if not document["complete"]:
        lines += ["The run was interrupted: this is what was finished.", ""]
    outcomes = ("killed", "equivalent", "undecided", "survived")
    lines += [f"| theorem | mutants | {' | '.join(outcomes)} |", "| --- |" + " ---: |" * 5]
    for name in dict.fromkeys(mutant["theorem"] for mutant in mutants):
        counts = Counter(m["outcome"] for m in mutants if m["theorem"] == name)
        numbers = " | ".join(str(counts[outcome]) for outcome in outcomes)
        lines.append(f"| {name} | {counts.total()} | {numbers} |")
    by = Counter(mutant["by"] for mutant in mutants if mutant["outcome"] == "killed")
    lines += ["", "Killed by: " + ", ".join(f"{name} {count}" for name, count in by.items())]
    for outcome in reversed(outcomes[1:]):
        found = [mutant for mutant in mutants if mutant["outcome"] == outcome]
        if found:
            lines += ["", f"## {outcome.capitalize()}", ""]
        for m in found:
            detail = f" ({m['detail']})" if m["detail"] else ""
            lines.append(f"- {m['theorem']}, {m['of']}, {m['kind']}: {m['change']}{detail}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge mutants and write mutants.json and mutants.md.

    Returns 0 if none survives or is left undecided, 1 otherwise, 2 for bad input, 130 after an
    interrupt, which leaves both files with what was finished.
    """
    parser = argparse.ArgumentParser(
        prog="python -m proofs.mutation",
        description="Change what is proved in one place, and see every proof fail.",
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="theorems, all by default")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants of every theorem")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"(default {WORKERS})")
    parser.add_argument("--out", type=Path, default=Path("tappa-out"), help="folder of the files")
    options = parser.parse_args(arguments)
    try:
        folder = output_folder(options.out)

        def write(document: dict[str, Any]) -> None:
            write_json(folder / "mutants.json", document)
            write_text_atomic(folder / "mutants.md", markdown(document))

        with progress_reports() as report:
            document = run(
                options.ids,
                options.sample,
                options.seed,
                options.workers,
                begin=lambda total: ProgressBar(report, "mutants", total).advance,
                interrupted=write,
            )
    except InputError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    write(document)
    print(markdown(document))
    return int(any(m["outcome"] in ("survived", "undecided") for m in document["mutants"]))
