"""Proposition 4.1: a query step and the logit change it makes, both ways; what does not follow."""

from __future__ import annotations

from proofs.engine.claims import Proof, Reading
from proofs.proposition_4_1 import before_rope as proposition_4_1_before_rope
from proofs.proposition_4_1 import cosine as proposition_4_1_cosine
from proofs.proposition_4_1 import counterexamples as proposition_4_1_counterexamples
from proofs.proposition_4_1 import softmax as proposition_4_1_softmax
from proofs.proposition_4_1 import two_sided as proposition_4_1_two_sided
from proofs.proposition_4_1.attacks import ATTACKS
from tappa_theory.theorems.proposition_4_1 import THEOREM

PROOF = Proof(
    theorem=THEOREM,
    claims=(
        *proposition_4_1_two_sided.CLAIMS,
        *proposition_4_1_before_rope.CLAIMS,
        *proposition_4_1_softmax.CLAIMS,
        *proposition_4_1_cosine.CLAIMS,
        *proposition_4_1_counterexamples.CLAIMS,
    ),
    readings=(
        Reading(
            r"before RoPE, $c_1 = \lambda\sigma_d/\sqrt n$ depending on the keys, $c_2$ on keys,"
            " frequencies and the query",
            "holds",
            ("before_rope", "before_rope_sharp", "two_sided"),
            r"$c_1 > 0$ exactly for keys of rank $d$, so never while fewer than $d$ are visible",
        ),
        Reading(
            r"before RoPE or after it, for any given keys: some $c_1 > 0$ and $c_2$, both free to"
            " depend on keys and frequencies, but not on the query",
            "refuted",
            ("not_necessary",),
            "a query step that no key sees may be as long as one likes, before RoPE and after it",
        ),
        Reading(
            r"before RoPE, for keys of rank $d$, $c_2$ depending on keys and frequencies only",
            "refuted",
            ("query_in_c2",),
        ),
        Reading(
            "after RoPE with the smallest singular value of the keys and the whole step, whatever"
            " their rank",
            "refuted",
            ("projection_needed",),
        ),
        Reading(
            "high q-similarity is necessary for stable logits",
            "refuted",
            ("not_necessary", "similar_needed", "similar_sharp"),
            "necessary is similarity in the span of the keys, of steps in their norm; for keys of"
            r" rank $d$ a cosine near 1 after RoPE is forced, with the constant of similar_needed",
        ),
        Reading(
            "the converse, which the proposition does not claim but theorem 5.1 builds on: high"
            " q-similarity suffices for a stable pattern",
            "refuted",
            ("not_sufficient", "similar_enough", "cosine"),
            "a cosine says nothing of the norms, and near 1 not which key is on top; with the"
            " norms, similar_enough is what holds",
        ),
    ),
    attacks=ATTACKS,
    meaning=(
        "How far the logits move is the query step in the metric of the keys, not the cosine of"
        " the queries: a step that no key sees costs nothing, and a long query moves logits at"
        r" cosine 1. The constant $\sigma_d/\sqrt n$ of a real head is its weakest direction, so"
        " the lower side says little where keys lie near a subspace."
    ),
)
