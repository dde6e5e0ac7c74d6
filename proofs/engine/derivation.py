"""A derivation: start = ... <= ... = end, every link certified by itself, all links meeting.

The left side of a link is the right side of the one before it, so that nothing can be lost between
them; `Derivation.proves` compares the two ends with a statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import sympy as sp

from proofs.engine.certificates import (
    Certificate,
    Evidence,
    Identity,
    Meaning,
    MissingProver,
    atoms,
    follows,
    has_value,
)
from proofs.engine.values import admits, at_example, instance_of

_KINDS = {"=": sp.Eq, "<=": sp.Le, "<": sp.Lt}


@dataclass(frozen=True)
class Step:
    """One certified (or failed) step, as the ledger lists it. certificate: the kind of it."""

    claim: str
    left: sp.Expr
    relation: str
    right: sp.Expr
    evidence: Evidence
    certificate: str

    @property
    def latex(self) -> str:
        """LaTeX of the relation."""
        sign = {"=": "=", "<=": r"\le", "<": "<"}[self.relation]
        return f"{sp.latex(self.left)} {sign} {sp.latex(self.right)}"


@dataclass(frozen=True)
class Link:
    """The next term of a derivation. claim: why, in words; by: what certifies it."""

    relation: str
    right: sp.Expr
    claim: str
    by: Certificate


@dataclass(frozen=True)
class Fact:
    """A relation earned before the chain starts, for its links to use."""

    left: sp.Expr
    relation: str
    right: sp.Expr
    claim: str
    by: Certificate

    @property
    def hypothesis(self) -> sp.Rel:
        """The fact as a relation."""
        return _KINDS[self.relation](self.left, self.right, evaluate=False)


@dataclass(frozen=True, eq=False)
class Derivation:
    """start (= or <= or <) ... end under `hypotheses` and no others.

    hypotheses: sympy relations. facts: relations that follow from them, each certified, in order;
    a fact may use the ones before it. example: values of the symbols at which the hypotheses hold,
    where a search does not find some itself. Raises ValueError without a link, or for another
    relation.
    """

    title: str
    start: sp.Expr
    links: tuple[Link, ...]
    hypotheses: tuple[sp.Basic, ...] = ()
    facts: tuple[Fact, ...] = ()
    example: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.links:
            raise ValueError(f"{self.title}: there is no link")
        relations = {part.relation for part in self.facts} | {part.relation for part in self.links}
        if not relations <= _KINDS.keys():
            raise ValueError(f"{self.title}: a derivation uses =, <= and <, not {relations}")

    @property
    def end(self) -> sp.Expr:
        """The last term."""
        return self.links[-1].right

    @property
    def relation(self) -> str:
        """How start and end compare: "=" if every link is an equality, "<" if one is strict."""
        relations = {link.relation for link in self.links}
        return "<" if "<" in relations else "<=" if "<=" in relations else "="

    @cache  # noqa: B019  (a derivation lives as long as the program)
    def steps(self) -> tuple[Step, ...]:
        """Certify every fact and link."""
        known: list[sp.Basic] = list(self.hypotheses)
        steps = []
        for fact in self.facts:
            steps.append(_step(fact.claim, fact.left, fact.relation, fact.right, fact.by, known))
            known.append(fact.hypothesis)
        left = self.start
        for link in self.links:
            steps.append(_step(link.claim, left, link.relation, link.right, link.by, known))
            left = link.right
        return tuple(steps)

    @cache  # noqa: B019
    def instance(self) -> Evidence:
        """Do the hypotheses have an instance? What follows from none that can be met says nothing.

        Meanings (the norm of a vector) always have one.
        """
        known = [h for h in atoms(self.hypotheses) if not isinstance(h, Meaning)]
        if not known:
            return Evidence(True, "sympy", "there is no relation among the hypotheses")
        return at_example(known, self.example) if self.example else instance_of(known)

    @property
    def ok(self) -> bool:
        """Is every step certified, and do the hypotheses have an instance?"""
        return all(step.evidence.ok for step in self.steps()) and self.instance().ok

    def proves(self, left: sp.Expr, relation: str, right: sp.Expr) -> bool:
        """Are these the two ends and the relation of this derivation, and is it certified?"""
        strength = ("<=", "=", "<")
        implied = self.relation == relation or (relation == "<=" and self.relation in strength)
        return self.ok and implied and self.start == left and self.end == right


@dataclass(frozen=True, eq=False)
class Lemma:
    """A derivation used at other expressions: its symbols replaced, its hypotheses shown there."""

    derivation: Derivation
    at: Mapping[sp.Symbol, sp.Expr]

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        lemma = self.derivation
        if not lemma.ok:
            return Evidence(False, "lemma", f"{lemma.title} is not certified")
        if relation not in (lemma.relation, "<="):
            return Evidence(False, "lemma", f"{lemma.title} does not give {relation}")
        put = {symbol: sp.sympify(value) for symbol, value in self.at.items()}
        for symbol, value in put.items():
            if not admits(symbol, value, hypotheses):
                return Evidence(False, "lemma", f"{value} is not of the kind of {symbol}")
        for ours, theirs in ((left, lemma.start), (right, lemma.end)):
            there = theirs.subs(put, simultaneous=True)
            if ours != there and not Identity().certify(ours, "=", there, hypotheses).ok:
                return Evidence(False, "lemma", f"{lemma.title} speaks of {there}, not of {ours}")
        for hypothesis in atoms(lemma.hypotheses):
            needed = hypothesis.subs(put, simultaneous=True)
            if needed == sp.true or needed in hypotheses:
                continue
            if not follows(needed, hypotheses).ok:
                return Evidence(False, "lemma", f"its hypothesis {needed} is not given here")
        return Evidence(True, "lemma", lemma.title)


@dataclass(frozen=True, eq=False)
class Terms:
    """left = sum of weight * l_k and right = sum of weight * r_k, where each l_k <= r_k.

    parts: (weight, l, r, certificate of l <= r); a weight must be nonnegative by its symbols.
    """

    parts: tuple[tuple[sp.Expr, sp.Expr, sp.Expr, Certificate], ...]

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        if relation not in ("<=", "="):
            return Evidence(False, "terms", "terms give <= or =")
        details = []
        for weight, smaller, larger, certificate in self.parts:
            if relation == "<=" and not weight.is_nonnegative:
                return Evidence(False, "terms", f"the weight {weight} is not known to be >= 0")
            if not has_value(weight, hypotheses):
                return Evidence(False, "terms", f"the weight {weight} may be undefined")
            found = certificate.certify(smaller, relation, larger, hypotheses)
            if not found.ok:
                return found
            details.append(found.detail)
        for side, index in ((left, 1), (right, 2)):
            total = sp.Add(*(part[0] * part[index] for part in self.parts))
            if side != total and not Identity().certify(side, "=", total, hypotheses).ok:
                return Evidence(False, "terms", f"{side} is not the sum of the terms, {total}")
        return Evidence(True, "terms", "; ".join(dict.fromkeys(details)))


@dataclass(frozen=True, eq=False)
class Scaled:
    """weight * l <= weight * r with a weight that is nonnegative by its symbols, since l <= r."""

    weight: sp.Expr
    by: Certificate

    def certify(
        self, left: sp.Expr, relation: str, right: sp.Expr, hypotheses: Sequence[sp.Basic]
    ) -> Evidence:
        if not self.weight.is_nonnegative or (relation == "<" and not self.weight.is_positive):
            return Evidence(False, "terms", f"{self.weight} times {relation} is not certified")
        if not has_value(self.weight, hypotheses):
            return Evidence(False, "terms", f"the weight {self.weight} may be undefined")
        sides = left / self.weight, right / self.weight
        if not self.weight.is_positive:
            # where the weight is zero both products are, unless a side divides by it
            for side in sides:
                if not has_value(side, hypotheses):
                    return Evidence(False, "terms", f"{self.weight} may be zero under {side}")
        return self.by.certify(sides[0], relation, sides[1], hypotheses)


def _step(
    claim: str,
    left: sp.Expr,
    relation: str,
    right: sp.Expr,
    by: Certificate,
    hypotheses: Sequence[sp.Basic],
) -> Step:
    try:
        evidence = by.certify(left, relation, right, tuple(hypotheses))
    except MissingProver:
        raise
    except Exception as error:
        # a certificate that does not understand its input certifies nothing
        evidence = Evidence(False, type(by).__name__, f"{type(error).__name__}: {error}")
    return Step(claim, left, relation, right, evidence, type(by).__name__)
