"""What a theorem's ledger entry is made of: claims, each with its certificates, and readings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from proofs.engine.balls import number
from proofs.engine.certificates import Evidence, Identity, MissingProver
from proofs.engine.derivation import Derivation, Step
from tappa_theory.shift_identity import SHIFT_DIFFERENCE, s, u, w, w_u, z, z_s
from tappa_theory.theorems import Theorem

Kind = Literal["identity", "bound", "sharpness", "counterexample"]


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What follows from derivations by a named textbook rule, which is not certified here.

    rule: the rule and how it applies, in words. Nothing but a standard theorem of analysis or
    linear algebra may stand here, and the ledger shows it as such.
    """

    claim: str
    rule: str


@dataclass(frozen=True, eq=False)
class Exact:
    """An exact instance: allowed = observed, or allowed < observed (a counterexample).

    Both are closed expressions, of real numbers for <. replay: the same numbers in float64 through
    the generated functions, (observed, allowed).
    """

    claim: str
    allowed: sp.Expr
    relation: Literal["=", "<"]
    observed: sp.Expr
    replay: Callable[[], tuple[float, float]] | None = None

    def step(self) -> Step:
        """Decide it exactly, then compare with the replay."""
        evidence = self._decided()
        if evidence.ok and self.replay is not None:
            evidence = self._replayed(evidence)
        return Step(self.claim, self.allowed, self.relation, self.observed, evidence, "Exact")

    def _decided(self) -> Evidence:
        allowed, observed = sp.sympify(self.allowed), sp.sympify(self.observed)
        if allowed.free_symbols | observed.free_symbols:
            return Evidence(False, "exact", "the instance has free symbols")
        if self.relation == "=":
            return Identity().certify(allowed, "=", observed)
        if self.relation != "<":
            return Evidence(False, "exact", f"an instance does not certify {self.relation}")
        try:
            smaller, larger = number(allowed), number(observed)
        except MissingProver:
            raise
        except ValueError as error:
            return Evidence(False, "arb", f"{error}")
        gap = larger - smaller
        return Evidence(bool(gap > 0), "arb", f"the difference is {gap.str(8)}")

    def _replayed(self, evidence: Evidence) -> Evidence:
        assert self.replay is not None
        observed, allowed = self.replay()
        exact = float(self.observed), float(self.allowed)
        if not np.allclose((observed, allowed), exact, rtol=1e-9, atol=1e-9):
            return Evidence(False, evidence.engine, f"replayed {observed}, {allowed}, not {exact}")
        return Evidence(True, evidence.engine, f"{evidence.detail}; replayed in float64")


@dataclass(frozen=True, eq=False)
class Claim:
    """One statement and everything that certifies it.

    statement: words and LaTeX. derivations, instances: all must be certified, and there must be at
    least one of them. conclusions: textbook rules that join them. ratio: of a sharpness claim,
    observed over bound at the witness ("1", or "-> 1").
    """

    id: str
    kind: Kind
    statement: str
    derivations: tuple[Derivation, ...] = ()
    instances: tuple[Exact, ...] = ()
    conclusions: tuple[Conclusion, ...] = ()
    witness: str | None = None
    ratio: str | None = None

    def __post_init__(self) -> None:
        if self.kind in ("identity", "bound") and not self.derivations:
            raise ValueError(f"{self.id}: instances do not prove what is said of all values")
        if self.kind == "sharpness" and not (self.witness and self.ratio):
            raise ValueError(f"{self.id}: sharpness needs a witness and its ratio")

    def steps(self) -> list[Step]:
        """Every certified or failed step, derivations first."""
        found = [step for derivation in self.derivations for step in derivation.steps()]
        return found + [instance.step() for instance in self.instances]

    @property
    def ok(self) -> bool:
        """Certified: every derivation and instance is, and there is one."""
        parts = [derivation.ok for derivation in self.derivations]
        parts += [instance.step().evidence.ok for instance in self.instances]
        return bool(parts) and all(parts)


@dataclass(frozen=True)
class Reading:
    """One way to read the published form, and what became of it.

    verdict: "holds" or "refuted". by: ids of the claims that decide it. note: what it means.
    """

    text: str
    verdict: Literal["holds", "refuted"]
    by: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Proof:
    """Everything that earns one theorem its verdict."""

    theorem: Theorem
    claims: tuple[Claim, ...]
    readings: tuple[Reading, ...]
    attacks: tuple[Attack, ...] = ()
    meaning: str = ""

    def __post_init__(self) -> None:
        kinds = {claim.id: claim.kind for claim in self.claims}
        if len(kinds) != len(self.claims) or not self.readings:
            raise ValueError(f"{self.theorem.id}: a claim twice, or no reading")
        for reading in self.readings:
            by = {kinds.get(name) for name in reading.by}
            if not by or None in by:
                raise ValueError(f"{self.theorem.id}: {reading.text!r} rests on nothing")
            if reading.verdict == "refuted" and "counterexample" not in by:
                raise ValueError(f"{self.theorem.id}: {reading.text!r} has no counterexample")
            if reading.verdict == "holds" and not by & {"identity", "bound"}:
                raise ValueError(f"{self.theorem.id}: {reading.text!r} is shown by examples only")

    def proving_the_bound(self) -> tuple[str, ...]:
        """Ids of the bound claims with a derivation that ends with the bound of the registry.

        Of a theorem that is (B) at a shift it starts with the change of the logit at that shift,
        without hypotheses. A key or query that is not shifted is itself: w_u is w at u = 0, z_s is
        z at s = 0.
        """
        starts, ends = None, {self.theorem.bound}
        if self.theorem.pattern_shift is not None:
            by_query, by_key = self.theorem.pattern_shift
            here = {w_u: w} if by_key == 0 else {}
            here |= {z_s: z} if by_query == 0 else {}
            change = sp.Abs(SHIFT_DIFFERENCE.subs({s: by_query, u: by_key}, simultaneous=True))
            starts = {change, change.subs(here, simultaneous=True)}
            ends.add(self.theorem.bound.subs(here, simultaneous=True))

        def proves(part: Derivation) -> bool:
            if starts is not None and (part.start not in starts or part.hypotheses):
                return False
            return part.end in ends and part.relation != "="

        return tuple(
            claim.id
            for claim in self.claims
            if claim.kind == "bound" and any(map(proves, claim.derivations))
        )

    @property
    def verdict(self) -> Literal["holds", "repaired", "refuted"]:
        """What the readings say, given that every claim is certified.

        "repaired" if a reading is refuted and a bound is proved in its place.
        """
        if all(reading.verdict == "holds" for reading in self.readings):
            return "holds"
        return "repaired" if any(claim.kind == "bound" for claim in self.claims) else "refuted"
