"""The ledger: every theorem's proof run, and what came out, as data (ledger.json)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import sympy as sp

from proofs.engine.attack import run_attack
from proofs.engine.certificates import Evidence, MissingProver
from proofs.engine.claims import Claim, Proof, Reading
from proofs.engine.derivation import Derivation, Lemma, Step
from proofs.engine.witness import Chosen
from proofs.ledger.notation import RELATIONS, every, latex, prose_of, text
from proofs.ledger.symbols import explained
from tappa_theory.app.parallel import WORKERS, results
from tappa_theory.theorems import THEOREMS, Theorem, theorem

SCHEMA = 1

Advance = Callable[[], None]
"""Is called after every finished part of the work."""


@dataclass(frozen=True)
class Part:
    """A part of the work that one process does: a claim, an attack, or the lemmas of a theorem."""

    theorem: str
    kind: str
    number: int = 0


def proof_of(theorem_id: str) -> Proof:
    """The proof of a theorem: `PROOF` of the module `proof` in the folder of its name.

    Raises InputError with the list of ids for an unknown one.
    """
    theorem(theorem_id)
    return import_module(f"proofs.{theorem_id}.proof").PROOF


def chosen_ids(names: Sequence[str]) -> tuple[str, ...]:
    """The theorems that are meant, each once and in the order of the registry; all for no name.

    Raises InputError with the list of ids for an unknown one.
    """
    for name in names:
        theorem(name)
    return tuple(name for name in THEOREMS if not names or name in names)


def prove(
    ids: Sequence[str] = (),
    workers: int = WORKERS,
    begin: Callable[[int], Advance] | None = None,
    interrupted: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run the proofs of these theorems, of all if none is named; the document of ledger.json.

    workers: processes; 1 stays in this one. begin: is told the number of parts and returns what to
    call after each. interrupted: is given the document of the finished parts on KeyboardInterrupt,
    which is raised again. Raises InputError for an unknown theorem.
    """
    started = time.monotonic()
    names = chosen_ids(ids)
    parts = [part for name in names for part in parts_of(name)]
    advance = begin(len(parts)) if begin is not None else lambda: None
    done: dict[Part, dict[str, Any]] = {}
    try:
        with results(work, parts, workers) as finished:
            for part, found in finished:
                done[part] = found
                advance()
    except KeyboardInterrupt:
        if interrupted is not None:
            interrupted(_document(names, parts, done, time.monotonic() - started))
        raise
    return _document(names, parts, done, time.monotonic() - started)


def parts_of(theorem_id: str) -> list[Part]:
    """The parts of a theorem's proof."""
    proof = proof_of(theorem_id)
    attacks = [Part(theorem_id, "attack", k) for k in range(len(proof.attacks))]
    claims = [Part(theorem_id, "claim", k) for k in range(len(proof.claims))]
    return [*attacks, *claims, Part(theorem_id, "lemmas")]


def work(part: Part) -> dict[str, Any]:
    """Do a part. A missing prover is answered as {"missing": what to install}."""
    proof = proof_of(part.theorem)
    try:
        if part.kind == "claim":
            return _claim(proof.claims[part.number])
        if part.kind == "attack":
            return asdict(run_attack(proof.attacks[part.number]))
        return {"lemmas": [_derivation(lemma) for lemma in lemmas_of(proof)]}
    except MissingProver as error:
        return {"missing": str(error)}


def lemmas_of(proof: Proof) -> list[Derivation]:
    """What the derivations of the claims use as lemmas and are not themselves, each once."""
    shown = [part for claim in proof.claims for part in claim.derivations]
    found: dict[int, Derivation] = {}
    waiting = list(shown)
    while waiting:
        part = waiting.pop()
        certificates = [fact.by for fact in part.facts] + [link.by for link in part.links]
        for certificate in certificates:
            for lemma in _used(certificate):
                if id(lemma) not in found:
                    found[id(lemma)] = lemma
                    waiting.append(lemma)
    known = {id(part) for part in shown}
    answer = [lemma for key, lemma in found.items() if key not in known]
    return sorted(answer, key=lambda lemma: lemma.title)


def _used(certificate: Any) -> Iterator[Derivation]:
    """Derivations inside a certificate."""
    if isinstance(certificate, Derivation):
        yield certificate
    elif isinstance(certificate, Lemma):
        yield certificate.derivation
    elif isinstance(certificate, tuple):
        for part in certificate:
            yield from _used(part)
    elif is_dataclass(certificate) and not isinstance(certificate, type):
        for field in fields(certificate):
            yield from _used(getattr(certificate, field.name))


def _document(
    names: Sequence[str], parts: Sequence[Part], done: dict[Part, dict[str, Any]], seconds: float
) -> dict[str, Any]:
    entries = [_entry(name, parts, done) for name in names]
    complete = all(part in done for part in parts)
    decided = complete and all(entry["status"] != "open" for entry in entries)
    return {
        "schema": SCHEMA,
        "complete": complete,
        "verdict": "decided" if decided else "open",
        "environment": {
            name: _version(package)
            for name, package in (
                ("tappa", "tappa"),
                ("sympy", "sympy"),
                ("z3", "z3-solver"),
                ("arb", "python-flint"),
            )
        }
        | {"seconds": round(seconds, 2)},
        "theorems": entries,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _entry(name: str, parts: Sequence[Part], done: dict[Part, dict[str, Any]]) -> dict[str, Any]:
    proof = proof_of(name)
    mine = [part for part in parts if part.theorem == name]
    found = {part: done[part] for part in mine if part in done}
    missing = sorted({part["missing"] for part in found.values() if "missing" in part})
    undecided = [
        proof.claims[part.number].id
        for part in mine
        if part.kind == "claim" and "missing" in found.get(part, {})
    ]
    if undecided:
        missing.append(f"without it these claims are not decided: {', '.join(undecided)}")

    def of(kind: str) -> list[dict[str, Any]]:
        return [
            found[part]
            for part in mine
            if part.kind == kind and part in found and "missing" not in found[part]
        ]

    claims, attacks = of("claim"), of("attack")
    lemmas = [lemma for part in of("lemmas") for lemma in part["lemmas"]]
    reasons = _reasons(proof, claims, attacks, missing, len(found) == len(mine))
    sharp = next((claim for claim in claims if claim["kind"] == "sharpness"), None)
    counter = next((claim for claim in claims if claim["kind"] == "counterexample"), None)
    entry = theorem(name)
    return {
        "id": entry.id,
        "title": entry.title,
        "source": entry.source,
        "published": entry.published.text,
        "status": "open" if reasons else proof.verdict,
        "open_because": reasons,
        "statement_latex": entry.statement,
        "hypotheses": list(entry.hypotheses),
        "bound_latex": latex(entry.bound),
        "auxiliary": {
            name: {"latex": latex(formula), "text": text(formula)}
            for name, formula in entry.auxiliary.items()
        },
        "symbols": _symbols(entry),
        "bound_proved_by": list(proof.proving_the_bound()),
        "meaning": proof.meaning,
        "readings": [_reading(reading, claims) for reading in proof.readings],
        "claims": claims,
        "lemmas": lemmas,
        "steps": _steps(claims, lemmas),
        "sharpness": sharp and {"witness": sharp["witness"], "ratio": sharp["ratio"]},
        "counterexample": counter and counter["statement"],
        "attacks": attacks,
    }


def _symbols(entry: Theorem) -> list[dict[str, str]]:
    """The symbols of a theorem's formulas, with what they are."""
    formulas = (entry.bound, *entry.auxiliary.values())
    named = {symbol.name: symbol for formula in formulas for symbol in formula.free_symbols}
    means = explained(named.values(), entry.id)
    return [{"name": name, "means": means[name]} | _shown(named[name]) for name in means]


def _reading(reading: Reading, claims: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A reading; its verdict is "open" unless every claim that it rests on is certified."""
    certified = {claim["id"] for claim in claims if claim["ok"]}
    decided = certified.issuperset(reading.by)
    return asdict(reading) | ({} if decided else {"verdict": "open"})


def _reasons(
    proof: Proof,
    claims: Sequence[dict[str, Any]],
    attacks: Sequence[dict[str, Any]],
    missing: Sequence[str],
    complete: bool,
) -> list[str]:
    """Why a theorem is open; none if it is decided."""
    reasons = list(missing)
    if not complete:
        reasons.append("the run was interrupted")
    reasons += [f"claim {claim['id']} is not certified" for claim in claims if not claim["ok"]]
    reasons += [f"attack {attack['name']}" for attack in attacks if not attack["ok"]]
    if not (claims or missing) or not proof.claims:
        reasons.append("there is no claim")
    if proof.verdict != "refuted" and not proof.proving_the_bound():
        reasons.append("no derivation ends with the bound")
    return reasons


def _steps(
    claims: Sequence[dict[str, Any]], lemmas: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every step of the claims and of the lemmas they use, each once."""
    steps: dict[tuple[str, ...], dict[str, Any]] = {}
    derivations = [part for claim in claims for part in claim["derivations"]]
    for part in [*derivations, *lemmas]:
        listed = [*part["facts"], *part["links"]]
        if part["hypotheses"]:
            listed.append(
                {
                    "claim": f"the hypotheses have an instance: {part['title']}",
                    "certificate": "Instance",
                    **part["instance"],
                    "latex": r",\ ".join(_math(h["prose"]) for h in part["hypotheses"]),
                    "text": "; ".join(h["text"] for h in part["hypotheses"]),
                }
            )
        for step in listed:
            steps.setdefault((part["title"], step["claim"], step["latex"]), step)
    for claim in claims:
        for step in claim["instances"]:
            steps.setdefault((claim["id"], step["claim"], step["latex"]), step)
    return [
        {key: step[key] for key in ("claim", "certificate", "engine", "ok", "detail", "latex")}
        for step in steps.values()
    ]


def _math(prose: str) -> str:
    """Prose as part of a formula."""
    return prose.strip("$") if prose.count("$") == 2 else rf"\text{{{prose}}}"


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.id,
        "kind": claim.kind,
        "statement": claim.statement,
        "ok": claim.ok,
        "witness": claim.witness,
        "ratio": claim.ratio,
        "derivations": [_derivation(part) for part in claim.derivations],
        "instances": [_step(instance.step()) for instance in claim.instances],
        "conclusions": [asdict(conclusion) for conclusion in claim.conclusions],
    }


def _derivation(derivation: Derivation) -> dict[str, Any]:
    steps = [_step(step) for step in derivation.steps()]
    facts = len(derivation.facts)
    return {
        "title": derivation.title,
        "ok": derivation.ok,
        "for_all": every(_free(derivation)),
        "hypotheses": [
            {"prose": prose_of(hypothesis), "text": text(hypothesis)}
            for hypothesis in derivation.hypotheses
        ],
        "instance": asdict(derivation.instance()),
        "start": _shown(derivation.start),
        "facts": steps[:facts],
        "links": steps[facts:],
    }


def _free(derivation: Derivation) -> set[sp.Symbol]:
    """The symbols that a derivation says something of, for all their values."""
    parts = [derivation.start, *(link.right for link in derivation.links), *derivation.hypotheses]
    parts += [side for fact in derivation.facts for side in (fact.left, fact.right)]
    fixed = {part.args[0] for part in derivation.hypotheses if isinstance(part, Chosen)}
    free = {symbol for part in parts for symbol in _outside_lists(sp.sympify(part))} - fixed
    # Of a list one entry is said: what is assumed holds of all of them.
    entries = {x for part in parts for x in sp.sympify(part).atoms(sp.Indexed)}
    lists = {x.base for x in entries}
    return free | {min((x for x in entries if x.base == name), key=_shortest) for name in lists}


def _outside_lists(expression: sp.Basic) -> set[sp.Symbol]:
    """The free symbols, without the names and indices of lists."""
    if isinstance(expression, sp.Indexed):
        return set()
    if not expression.has(sp.Indexed):
        return expression.free_symbols
    found = {symbol for part in expression.args for symbol in _outside_lists(part)}
    return found - set(getattr(expression, "bound_symbols", ()))


def _shortest(expression: sp.Expr) -> tuple[int, str]:
    return len(str(expression)), str(expression)


def _step(step: Step) -> dict[str, Any]:
    left, right = _shown(step.left), _shown(step.right)
    in_latex, in_text = RELATIONS[step.relation]
    evidence: Evidence = step.evidence
    return {
        "claim": step.claim,
        "certificate": step.certificate,
        "engine": evidence.engine,
        "ok": evidence.ok,
        "detail": evidence.detail,
        "relation": step.relation,
        "left": left,
        "right": right,
        "latex": f"{left['latex']} {in_latex} {right['latex']}",
        "text": f"{left['text']} {in_text} {right['text']}",
    }


def _shown(expression: sp.Expr) -> dict[str, str]:
    return {"latex": latex(expression), "text": text(expression)}
