"""The ledger as pages of the documentation: one per theorem, in Markdown with formulas in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from proofs.ledger.notation import RELATIONS, lines, signs
from proofs.ledger.readable import concluded, evidence_of, key_of, origin, setting, symbols

SIGNS = 68
"""Signs of a formula that fit into a line of the page."""

VERDICTS = {
    "holds": "The published form holds, in every reading below.",
    "repaired": "The published form fails in a reading below; a repaired one is proved.",
    "refuted": "The published form fails, and nothing is proved in its place.",
    "open": "Open: not everything below is certified.",
}
KINDS = {
    "identity": "Identities",
    "bound": "Bounds",
    "sharpness": "Sharpness",
    "counterexample": "Counterexamples",
}
"""Kind of a claim -> heading of its section, in the order of the page."""


def write_pages(document: dict[str, Any], folder: Path) -> list[Path]:
    """Write `index.md` and `<id>.md` of every theorem into a folder; the files.

    document: ledger.json. Pages of an earlier run are replaced; other files stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"index": index_page(document)}
    pages |= {entry["id"]: theorem_page(entry) for entry in document["theorems"]}
    written = []
    for name, text in pages.items():
        path = folder / f"{name}.md"
        # Sphinx reads again what is newer.
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8", newline="\n")
        written.append(path)
    return written


def index_page(document: dict[str, Any]) -> str:
    """The page that lists the theorems with their verdicts."""
    with_status = [
        f"| [{entry['title']}]({entry['id']}.md) | {origin(entry)}"
        f" | {entry['status']} | {_certified(entry)} | {_withstood(entry)} |"
        for entry in document["theorems"]
    ]
    names = [entry["id"] for entry in document["theorems"]]
    parts = [
        "# Theorems and their proofs",
        f"Verdict of `tappa prove`: **{document['verdict']}**. Everything here is taken from its"
        " `ledger.json`.",
        "| theorem | source | verdict | steps certified | attacks withstood |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(with_status),
        "## Setting\n\n" + _list(setting(document["theorems"])),
        _CERTIFICATES,
        "```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


_CERTIFICATES = """## What certifies a step

Every step is certified by itself, and what cannot be decided is not certified.

| certificate | what it means |
| --- | --- |
| Identity | the difference of both sides is exactly 0, by algebra over the rationals (sympy) |
| Solver | z3 finds the negation unsatisfiable, and the hypotheses satisfiable |
| Squares, BySquares | the difference is a sum of squares, exactly; or the squares compare |
| Balls | intervals of Arb with rigorous ends cover the whole domain |
| Lemma | another derivation, at other expressions whose hypotheses are shown |
| Scaled, Terms | a certified relation, times a nonnegative factor; or term by term |
| AtChosen | the relation at the values that the witness gives to its symbols |
| Induction | the shortest list, and one entry more |
| Arcsine, ByCosines | of the sines or cosines, where these are monotone |
| Exact | an instance, decided in exact arithmetic or by Arb |

A *textbook* step names a rule of analysis or linear algebra that is not certified here. Attacks are
numeric searches for an input above the bound: they can refute, and they prove nothing."""


def theorem_page(entry: dict[str, Any]) -> str:
    """The page of one theorem."""
    parts = [
        f"# {entry['title']}",
        f"`{entry['id']}`: **{entry['status']}**. {_verdict(entry)}"
        f" Source: {_escaped(entry['source'])}.",
        *(f"Open because: {_escaped(reason)}." for reason in entry["open_because"]),
        f"**Published.** {_escaped(entry['published'])}",
        "## Setting\n\n" + _list(setting([entry])),
        "## What became of the published form",
        "\n".join(_reading(reading, entry["id"]) for reading in entry["readings"]),
        "## What is proved",
        _display([entry["statement_latex"]]),
        "Conditions of the formula, or of the pattern that it stands for:\n\n"
        + _list(entry["hypotheses"]),
    ]
    if entry["auxiliary"]:
        parts += ["## Formulas by name", "Claims and code speak of these formulas by name."]
        parts.append(
            "\n".join(_named(name, formula) for name, formula in entry["auxiliary"].items())
        )
    if entry["symbols"]:
        parts += ["In these formulas and in the derivations", _list(tuple(symbols(entry, "latex")))]
    shown: dict[str, str] = {}
    for kind, heading in KINDS.items():
        claims = [claim for claim in entry["claims"] if claim["kind"] == kind]
        if claims:
            parts.append(f"## {heading}")
        for claim in claims:
            parts += _claim(claim, entry["id"], shown)
    if entry["lemmas"]:
        parts.append("## Lemmas")
        parts += ["\n\n".join(_derivation(lemma)) for lemma in entry["lemmas"]]
    if entry["attacks"]:
        parts += ["## Attacks", _attacks(entry["attacks"])]
    if entry["meaning"]:
        parts += ["## What it means for a head", _escaped(entry["meaning"])]
    return "\n\n".join(parts) + "\n"


def _named(name: str, formula: dict[str, str]) -> str:
    if signs(formula["latex"]) <= SIGNS / 2:
        return rf"- `{name}`: $\displaystyle {formula['latex']}$"
    return f"- `{name}`:\n\n{indent(_display([formula['latex']], broken=True), '  ')}\n"


def _verdict(entry: dict[str, Any]) -> str:
    if entry["status"] == "holds" and entry["source"].startswith("not in the paper"):
        return "There is no published form; what is proved is stated below."
    return VERDICTS[entry["status"]]


def _reading(reading: dict[str, Any], theorem: str) -> str:
    by = ", ".join(f"[{name}](#{_anchor(theorem, name)})" for name in reading["by"])
    note = f" {_sentence(_capital(_escaped(reading['note'])))}" if reading["note"] else ""
    text = _sentence(_capital(_escaped(reading["text"])))
    return f"- **{reading['verdict']}**: {text}{note} By {by}."


def _claim(claim: dict[str, Any], theorem: str, shown: dict[str, str]) -> Iterator[str]:
    yield f"({_anchor(theorem, claim['id'])})=\n### {claim['id']}"
    if not claim["ok"]:
        yield "**Not certified.**"
    yield _escaped(claim["statement"])
    if claim["witness"]:
        ratio = f" Observed over bound: {_escaped(claim['ratio'])}." if claim["ratio"] else ""
        yield f"**Witness.** {_sentence(_escaped(claim['witness']))}{ratio}"
    for derivation in claim["derivations"]:
        earlier = shown.setdefault(key_of(derivation), claim["id"])
        if earlier == claim["id"]:
            yield from _derivation(derivation)
        else:
            title = _capital(_escaped(derivation["title"]))
            yield f"*{title}*: see [{earlier}](#{_anchor(theorem, earlier)})."
    for step in claim["instances"]:
        yield f"*Instance*: {_sentence(_escaped(step['claim']))} {_evidence(step)}"
        yield _display([step["latex"]], broken=True)
    for conclusion in claim["conclusions"]:
        kind, rest = concluded(conclusion).split(": ", 1)
        other = re.search(r"By claim (\w+)", rest)
        said = _escaped(rest)
        if kind == "Hence" and other is not None:
            link = f"[{_escaped(other[1])}](#{_anchor(theorem, other[1])})"
            said = said.replace(f"By claim {_escaped(other[1])}", f"By claim {link}")
        yield f"*{kind}*: {said}"


def _derivation(derivation: dict[str, Any]) -> Iterator[str]:
    """A title, what is given, and one formula for every step with its reason below."""
    assumed = f" For all {derivation['for_all']}" if derivation["for_all"] else ""
    given = [_escaped(hypothesis["prose"]) for hypothesis in derivation["hypotheses"]]
    if given:
        assumed += f"{',' if assumed else ''} {'given' if assumed else 'Given'} {'; '.join(given)}"
    title = _capital(_escaped(derivation["title"]))
    yield f"*{title}*.{assumed}{'.' if assumed else ''}"
    if derivation["hypotheses"] and not derivation["instance"]["ok"]:
        yield f"**No instance of these hypotheses**: {_escaped(derivation['instance']['detail'])}."
    for fact in derivation["facts"]:
        yield f"First, {_sentence(_escaped(fact['claim']))} {_evidence(fact)}"
        yield _display([fact["latex"]], broken=True)
    if derivation["facts"]:
        yield "Then"
    yield _display([derivation["start"]["latex"]], broken=True)
    for link in derivation["links"]:
        sign = RELATIONS[link["relation"]][0]
        yield _display([rf"{sign}\ {link['right']['latex']}"], broken=True)
        yield f"{_sentence(_capital(_escaped(link['claim'])))} {_evidence(link)}"


def _evidence(step: dict[str, Any]) -> str:
    mark = "" if step["ok"] else "not certified: "
    return f"<small>[{mark}{_escaped(evidence_of(step))}]</small>"


def _display(formulas: Sequence[str], broken: bool = False) -> str:
    """A displayed formula, in aligned lines where it is long."""
    rows = [row for formula in formulas for row in (lines(formula, SIGNS) if broken else [formula])]
    if len(rows) == 1:
        return f"$$\n{rows[0]}\n$$"
    first, *others = rows
    # What goes on is set in, so that it is told from the next step.
    inside = "\\\\\n".join([f"& {first}", *(rf"& \qquad {row}" for row in others)])
    return f"$$\n\\begin{{aligned}}\n{inside}\n\\end{{aligned}}\n$$"


def _attacks(attacks: Sequence[dict[str, Any]]) -> str:
    rows = ["| attack | largest observed / bound | evaluations | outcome |", "| --- " * 4 + "|"]
    for attack in attacks:
        best = "not a number" if attack["best"] is None else f"{attack['best']:.9f}"
        outcome = "withstood" if attack["ok"] else "**failed**"
        outcome += ", reached" if attack["ok"] and attack["sharp"] else ""
        name = _escaped(attack["name"]).replace("|", r"\|")
        rows.append(f"| {name} | {best} | {attack['evaluations']:,} | {outcome} |")
    return "\n".join(rows)


def _certified(entry: dict[str, Any]) -> str:
    return f"{sum(step['ok'] for step in entry['steps'])} of {len(entry['steps'])}"


def _withstood(entry: dict[str, Any]) -> str:
    return f"{sum(attack['ok'] for attack in entry['attacks'])} of {len(entry['attacks'])}"


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {_escaped(item)}" for item in items)


def _anchor(theorem: str, claim: str) -> str:
    """Label of a claim, of which there is one on the whole site."""
    return f"{theorem}-{claim}".replace("_", "-")


def _escaped(prose: str) -> str:
    """Prose as Markdown: outside the formulas nothing is markup."""
    parts = prose.split("$")
    return "$".join(
        part if k % 2 else re.sub(r"([\\`*_{}\[\]<>|~])", r"\\\1", part.replace("<=", "≤"))
        for k, part in enumerate(parts)
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
