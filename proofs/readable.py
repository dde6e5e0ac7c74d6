"""The ledger for people, from ledger.json: a derivation in the terminal, and ledger.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from proofs.notation import RELATIONS, formula, plain

WIDTH = 100
"""Columns of ledger.md's blocks."""


def summary(document: dict[str, Any]) -> str:
    """One line per theorem: status, certified steps, attacks; and why what is open is open."""
    lines = []
    for entry in document["theorems"]:
        steps, attacks = entry["steps"], entry["attacks"]
        certified = sum(step["ok"] for step in steps)
        held = sum(attack["ok"] for attack in attacks)
        lines.append(
            f"{entry['id']}: {entry['status']}, {certified} of {len(steps)} steps certified,"
            f" {held} of {len(attacks)} attacks withstood"
        )
        lines += [f"  open because: {reason}" for reason in entry["open_because"]]
    return "\n".join([*lines, f"ledger: {document['verdict']}"])


def derivation_text(entry: dict[str, Any], width: int = WIDTH) -> str:
    """One theorem with every step of its proof, wrapped to a width."""
    lines = [f"{entry['title']} ({entry['id']})", f"{entry['status']}; {entry['source']}", ""]
    lines += _wrapped(formula(entry["statement_latex"]), width, "  ")
    lines += ["", "Hypotheses"]
    for hypothesis in entry["hypotheses"]:
        lines += _wrapped(plain(hypothesis), width, "  ")
    lines += ["", "Published"]
    lines += _wrapped(plain(entry["published"]), width, "  ")
    lines += ["", "Readings"]
    for reading in entry["readings"]:
        lines += _reading(reading, width)
    for claim in entry["claims"]:
        lines += ["", *_claim(claim, width)]
    if entry["lemmas"]:
        lines += ["", "Lemmas"]
        for lemma in entry["lemmas"]:
            lines += _derivation(lemma, width, "  ")
    if entry["attacks"]:
        lines += ["", "Attacks (largest observed / bound)"]
        for attack in entry["attacks"]:
            lines += _wrapped(_attack(attack), width, "  ")
    if entry["meaning"]:
        lines += ["", "What it means for a head"]
        lines += _wrapped(plain(entry["meaning"]), width, "  ")
    return "\n".join(lines)


def markdown(document: dict[str, Any]) -> str:
    """The text of ledger.md."""
    lines = ["# Ledger of proofs", "", f"Verdict: **{document['verdict']}**."]
    if not document["complete"]:
        lines += ["", "The run was interrupted: what is missing here was not reached."]
    lines += [
        "",
        "Every step is certified by itself: an identity by an exact zero (sympy), an inequality by",
        "a solver that finds its negation unsatisfiable (z3), by an exact sum of squares, or balls",
        "that cover the whole domain (Arb). Attacks search for counterexamples in float64; they",
        "refute and prove nothing. A conclusion is a textbook rule that is named, not certified.",
        "",
        *verdict_table(document),
    ]
    for entry in document["theorems"]:
        lines += _section(entry)
    return "\n".join([*lines, ""])


def verdict_table(document: dict[str, Any]) -> list[str]:
    """A Markdown table: theorem, source, verdict, what the published form becomes."""
    lines = ["| theorem | source | verdict | readings |", "| --- | --- | --- | --- |"]
    for entry in document["theorems"]:
        verdicts = [reading["verdict"] for reading in entry["readings"]]
        counted = ", ".join(
            f"{verdicts.count(verdict)} {word}"
            for verdict, word in (("holds", "hold"), ("refuted", "refuted"))
            if verdict in verdicts
        )
        source = entry["source"].split(", ")[-1].split(":")[0]
        lines.append(f"| `{entry['id']}` | {source} | {entry['status']} | {counted} |")
    return lines


def _section(entry: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"## {entry['title']}", "", f"`{entry['id']}`, **{entry['status']}**.")
    yield from (f"Source: {entry['source']}.", "")
    yield from ("```", *_wrapped(formula(entry["statement_latex"]), WIDTH, ""), "```", "")
    yield from (f"- {plain(hypothesis)}" for hypothesis in entry["hypotheses"])
    yield from ("", "**Published.** " + plain(entry["published"]))
    for reason in entry["open_because"]:
        yield from ("", f"**Open:** {reason}.")
    yield from ("", "| reading | verdict | by |", "| --- | --- | --- |")
    for reading in entry["readings"]:
        note = f" ({plain(reading['note'])})" if reading["note"] else ""
        cell = (plain(reading["text"]) + note).replace("|", r"\|")
        yield f"| {cell} | {reading['verdict']} | {', '.join(reading['by'])} |"
    for claim in entry["claims"]:
        mark = "" if claim["ok"] else " NOT CERTIFIED"
        yield from ("", f"### {claim['id']} ({claim['kind']}){mark}", "")
        yield plain(claim["statement"])
        if claim["witness"]:
            yield from ("", f"Witness: {_witness(claim)}.")
        block = list(_body(claim, WIDTH, ""))
        if block:
            yield from ("", "```", *block, "```")
        for conclusion in claim["conclusions"]:
            claimed, rule = plain(conclusion["claim"]), plain(conclusion["rule"])
            yield from ("", f"Conclusion: {claimed} By {rule}")
    if entry["lemmas"]:
        yield from ("", "### Lemmas", "", "```")
        for lemma in entry["lemmas"]:
            yield from _derivation(lemma, WIDTH, "")
        yield "```"
    if entry["attacks"]:
        yield from ("", "### Attacks", "", "| attack | largest ratio | evaluations | withstood |")
        yield "| --- | --- | --- | --- |"
        for attack in entry["attacks"]:
            best = "not a number" if attack["best"] is None else f"{attack['best']:.9f}"
            name = plain(attack["name"]).replace("|", r"\|")
            verdict = "yes" if attack["ok"] else "NO"
            yield f"| {name} | {best} | {attack['evaluations']:,} | {verdict} |"
    if entry["meaning"]:
        yield from ("", "### What it means for a head", "", plain(entry["meaning"]))


def _reading(reading: dict[str, Any], width: int) -> Iterator[str]:
    yield from _wrapped(
        f"{reading['verdict']}: {plain(reading['text'])} [{', '.join(reading['by'])}]", width, "  "
    )
    if reading["note"]:
        yield from _wrapped(plain(reading["note"]), width, "    ")


def _claim(claim: dict[str, Any], width: int) -> Iterator[str]:
    mark = "" if claim["ok"] else ", NOT CERTIFIED"
    yield f"{claim['id']} ({claim['kind']}{mark})"
    yield from _wrapped(plain(claim["statement"]), width, "  ")
    if claim["witness"]:
        yield from _wrapped(f"witness: {_witness(claim)}", width, "  ")
    yield from _body(claim, width, "  ")
    for conclusion in claim["conclusions"]:
        claimed, rule = plain(conclusion["claim"]), plain(conclusion["rule"])
        yield from _wrapped(f"conclusion (textbook): {claimed} By {rule}", width, "  ")


def _body(claim: dict[str, Any], width: int, indent: str) -> Iterator[str]:
    for derivation in claim["derivations"]:
        yield from _derivation(derivation, width, indent)
    for step in claim["instances"]:
        yield from _wrapped(f"instance: {plain(step['claim'])}", width, indent)
        yield from _wrapped(step["text"], width, indent + "    ")
        yield from _because(step, width, indent, why=False)


def _derivation(derivation: dict[str, Any], width: int, indent: str) -> Iterator[str]:
    yield from _wrapped(f"{plain(derivation['title'])}:", width, indent)
    inner = indent + "  "
    for hypothesis in derivation["hypotheses"]:
        yield from _wrapped(f"given {hypothesis['text']}", width, inner)
    if derivation["hypotheses"] and not derivation["instance"]["ok"]:
        yield from _wrapped(f"NO INSTANCE: {derivation['instance']['detail']}", width, inner)
    for fact in derivation["facts"]:
        yield from _wrapped(f"fact  {fact['text']}", width, inner)
        yield from _because(fact, width, inner)
    yield from _wrapped(derivation["start"]["text"], width, inner + "  ")
    for link in derivation["links"]:
        sign = RELATIONS[link["relation"]][1]
        yield from _wrapped(f"{sign} {link['right']['text']}", width, inner)
        yield from _because(link, width, inner)


def _because(step: dict[str, Any], width: int, indent: str, why: bool = True) -> Iterator[str]:
    reason = f"{plain(step['claim'])} " if why else ""
    mark = "" if step["ok"] else "NOT CERTIFIED: "
    evidence = f"[{mark}{step['certificate']}, {step['engine']}: {step['detail']}]"
    yield from _wrapped(reason + evidence, width, indent + "      ")


def _witness(claim: dict[str, Any]) -> str:
    ratio = f"; ratio {plain(claim['ratio'])}" if claim["ratio"] else ""
    return plain(claim["witness"]) + ratio


def _attack(attack: dict[str, Any]) -> str:
    best = "no number" if attack["best"] is None else f"{attack['best']:.9f}"
    mark = "" if attack["ok"] else "FAILED: "
    return f"{mark}{plain(attack['name'])}: {best} in {attack['evaluations']:,} evaluations"


def _wrapped(line: str, width: int, indent: str) -> Iterable[str]:
    return textwrap.wrap(
        line,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
