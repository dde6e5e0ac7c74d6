"""The ledger for people, from ledger.json: a derivation in the terminal, and ledger.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from proofs.ledger.notation import RELATIONS, formula, plain
from proofs.ledger.symbols import PRINTED

WIDTH = 100
"""Columns of ledger.md's blocks."""

SETTING = (
    r"One head of size $d$ with RoPE: $d/2$ channels $m$, each turned by an angular frequency"
    r" $\theta_m \ge 0$, radians per position. (Of a partial RoPE, what is not turned has"
    r" frequency 0.)",
    r"$z_t^m$ is channel $m$ of query $t$ and $w_i^m$ of key $i$, before RoPE, as complex numbers;"
    r" $\mathrm i$ is the imaginary unit, printed ⅈ in plain text. After RoPE they are"
    r" $\tilde z_t = e^{\mathrm it\theta}z_t$ and $\tilde w_i = e^{\mathrm ii\theta}w_i$. $q_t$ and"
    r" $k_i$ are the whole vectors.",
    r"The logit is $a_{t,i} = \mathrm{Re} \sum_m \lambda_m z_t^m \overline{w_i^m}"
    r" e^{\mathrm i(t-i)\theta_m}$, $i \le t$. $\lambda_m$ is the softmax scale, with the factor"
    r" that some RoPE types give a channel; $\lambda$ without index is that of the channel, and of"
    r" whole vectors one number, the factors drawn into the keys.",
    r"A shift $(s, u)$ goes from query $t$ and key $i$ to $t + s$ and $i + u$. Primes are what is"
    r" shifted: $z' = z_{t+s}$, $w' = w_{i+u}$. It turns a channel by $\alpha = (s - u)\theta$."
    r" Where formulas are of one channel the index $m$ is left out.",
    r"(B) is the bound of the theorem shift_bound.",
    r"A derivation holds for all values of its symbols, which are listed with what is assumed of"
    r" them, under what is given and nothing else.",
)
"""What the formulas of every theorem have in common, as prose."""

ROWS = (
    r"$P$ and $P'$ are two rows of attention, softmax of logits; TV is their total variation"
    r" distance, half the sum of the moduli of the differences, and KL their divergence, in nats;"
    r" $\omega$ is the oscillation of the changes of the logits: the largest less the smallest.",
)
"""The same for theorems that speak of softmax rows."""


def setting(entries: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """What the formulas of these theorems take for granted, as items of prose."""
    used = " ".join(
        text
        for entry in entries
        for text in (entry["statement_latex"], *(claim["statement"] for claim in entry["claims"]))
    )
    rows = any(sign in used for sign in (r"\omega", r"\mathrm{TV}", r"\mathrm{KL}"))
    return (*SETTING[:-1], *(ROWS if rows else ()), SETTING[-1])


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
    lines += ["", "Setting"]
    for item in setting([entry]):
        lines += _prose(plain(item), width, "  - ")
    lines += ["", "Hypotheses"]
    for hypothesis in entry["hypotheses"]:
        lines += _prose(plain(hypothesis), width, "  - ")
    lines += ["", "Published"]
    lines += _prose(plain(entry["published"]), width, "  ")
    lines += ["", "Readings"]
    for reading in entry["readings"]:
        lines += _reading(reading, width)
    if entry["auxiliary"]:
        lines += ["", "Formulas by name"]
        for name, shape in entry["auxiliary"].items():
            lines += _wrapped(f"{name} = {shape['text']}", width, "  ")
    if entry["symbols"]:
        lines += ["", "where"]
        for item in symbols(entry, "text"):
            lines += _prose(plain(item), width, "  - ")
    shown: dict[str, str] = {}
    for claim in entry["claims"]:
        lines += ["", *_claim(claim, width, shown)]
    if entry["lemmas"]:
        lines += ["", "Lemmas"]
        for lemma in entry["lemmas"]:
            lines += _derivation(lemma, width, "  ")
    if entry["attacks"]:
        lines += ["", "Attacks (largest observed / bound)"]
        for attack in entry["attacks"]:
            lines += _prose(_attack(attack), width, "  - ")
    if entry["meaning"]:
        lines += ["", "What it means for a head"]
        lines += _prose(plain(entry["meaning"]), width, "  ")
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
        "## Setting",
        "",
        *(f"- {plain(item)}" for item in setting(document["theorems"])),
        "",
        "## Verdicts",
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
            for verdict, word in (("holds", "hold"), ("refuted", "refuted"), ("open", "open"))
            if verdict in verdicts
        )
        lines.append(f"| `{entry['id']}` | {origin(entry)} | {entry['status']} | {counted} |")
    return lines


def origin(entry: dict[str, Any]) -> str:
    """Where a theorem is from, in short: "Theorem 5.1", or "not in the paper"."""
    before, _, after = entry["source"].partition(": ")
    return before if after else entry["source"].split(", ")[-1]


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
    if entry["auxiliary"]:
        yield from ("", "### Formulas by name", "", "```")
        for name, shape in entry["auxiliary"].items():
            yield from _wrapped(f"{name} = {shape['text']}", WIDTH, "")
        yield "```"
    if entry["symbols"]:
        yield from ("", "where", "", *(f"- {plain(item)}" for item in symbols(entry, "text")))
    shown: dict[str, str] = {}
    for claim in entry["claims"]:
        mark = "" if claim["ok"] else " NOT CERTIFIED"
        yield from ("", f"### {claim['id']} ({claim['kind']}){mark}", "")
        yield plain(claim["statement"])
        if claim["witness"]:
            yield from ("", f"Witness: {_witness(claim)}.")
        block = list(_body(claim, WIDTH, "", shown))
        if block:
            yield from ("", "```", *block, "```")
        for conclusion in claim["conclusions"]:
            yield from ("", plain(concluded(conclusion)))
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
    by = ", ".join(reading["by"])
    yield from _prose(f"{reading['verdict']}: {plain(reading['text'])} [{by}]", width, "  - ")
    if reading["note"]:
        yield from _prose(plain(reading["note"]), width, "    ")


def _claim(claim: dict[str, Any], width: int, shown: dict[str, str]) -> Iterator[str]:
    mark = "" if claim["ok"] else ", NOT CERTIFIED"
    yield f"{claim['id']} ({claim['kind']}{mark})"
    yield from _prose(plain(claim["statement"]), width, "  ")
    if claim["witness"]:
        yield from _prose(f"witness: {_witness(claim)}", width, "  ")
    yield from _body(claim, width, "  ", shown)
    for conclusion in claim["conclusions"]:
        yield from _prose(plain(concluded(conclusion)), width, "  ")


def concluded(conclusion: dict[str, str]) -> str:
    """A conclusion as prose, with the textbook rule or the claim of the theorem it rests on."""
    claimed, rule = _sentence(_capital(conclusion["claim"])), _capital(conclusion["rule"])
    if rule.startswith("The claim "):
        return f"Hence: {claimed} By {_sentence(rule.removeprefix('The '))}"
    return f"Textbook: {claimed} Rule: {_sentence(rule)}"


def symbols(entry: dict[str, Any], form: str) -> Iterator[str]:
    """The symbols of a theorem's formulas as prose; form: "latex", or "text" for the terminal."""
    for symbol in entry["symbols"]:
        sign = f"${symbol['latex']}$" if form == "latex" else symbol["text"]
        name = symbol["name"]
        code = f" ({name} in the code)" if name in PRINTED else ""
        yield f"{sign}{code} is {_sentence(symbol['means'])}"


def _body(claim: dict[str, Any], width: int, indent: str, shown: dict[str, str]) -> Iterator[str]:
    """Derivations and instances; what an earlier claim has shown is only named."""
    for derivation in claim["derivations"]:
        earlier = shown.setdefault(key_of(derivation), claim["id"])
        if earlier != claim["id"]:
            yield from _wrapped(f"{plain(derivation['title'])}: see {earlier}", width, indent)
        else:
            yield from _derivation(derivation, width, indent)
    for step in claim["instances"]:
        yield from _wrapped(f"instance: {plain(step['claim'])}", width, indent)
        yield from _wrapped(step["text"], width, indent + "    ")
        yield from _because(step, width, indent, why=False)


def key_of(derivation: dict[str, Any]) -> str:
    """Tells whether two derivations of a ledger are the same."""
    links = [(link["relation"], link["right"]["text"]) for link in derivation["links"]]
    return repr((derivation["title"], derivation["start"]["text"], links))


def _derivation(derivation: dict[str, Any], width: int, indent: str) -> Iterator[str]:
    yield from _wrapped(f"{plain(derivation['title'])}:", width, indent)
    inner = indent + "  "
    if derivation["for_all"]:
        yield from _wrapped(f"for {plain(derivation['for_all'])}", width, inner)
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
    evidence = f"[{mark}{evidence_of(step)}]"
    yield from _wrapped(reason + evidence, width, indent + "      ")


def evidence_of(step: dict[str, Any]) -> str:
    """Certificate, engine and what it found: "Solver, z3: the negation is unsatisfiable"."""
    by, engine = step["certificate"], step["engine"]
    named = by if by.lower() == engine.lower() else f"{by}, {engine}"
    return f"{named}: {plain(step['detail'])}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    """Text with a full stop at its end."""
    return text if text.endswith(".") else f"{text}."


def _witness(claim: dict[str, Any]) -> str:
    ratio = f"; ratio {plain(claim['ratio'])}" if claim["ratio"] else ""
    return plain(claim["witness"]) + ratio


def _attack(attack: dict[str, Any]) -> str:
    best = "no number" if attack["best"] is None else f"{attack['best']:.9f}"
    mark = "" if attack["ok"] else "FAILED: "
    return f"{mark}{plain(attack['name'])}: {best} in {attack['evaluations']:,} evaluations"


def _prose(text: str, width: int, indent: str) -> Iterable[str]:
    """Text wrapped as a block; a list's dash stands before its first line only."""
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def _wrapped(line: str, width: int, indent: str) -> Iterable[str]:
    return textwrap.wrap(
        line,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
