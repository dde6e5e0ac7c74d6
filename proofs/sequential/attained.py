"""Theorem 5.2: the supremum is attained, and for small steps it is near the constant."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.engine.arcs import COSINE_NOT_POSITIVE, SINE_NONNEGATIVE, Same, x
from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.sequential.diagonal import CHANGE, UNTURN, epsilon
from proofs.sequential.supremum import (
    A_FACTS,
    A_MEANS,
    B_FACTS,
    B_MEANS,
    CAPPED,
    SUM_LARGE,
    SUM_SMALL,
    SUPREMUM_NAMED,
    WHOLE,
    A,
    B,
)
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import i, lam, t, w, w_u, z, z_s
from tappa_theory.theorems.sequential import (
    GLOBAL_CONSTANT,
    KEY_NORM_MAX,
    KEY_STEP,
    QUERY_NORM_MAX,
    QUERY_STEP,
    SUPREMUM,
)


def _witness(key_angle: sp.Expr) -> dict[sp.Symbol, sp.Expr]:
    """One channel on which the query turns by 2A and the key by -2 key_angle, all norms largest."""
    query = -sp.I * QUERY_NORM_MAX * UNTURN
    return {
        z_s: query * sp.exp(sp.I * A),
        z: query * sp.exp(-sp.I * A),
        w_u: KEY_NORM_MAX * sp.exp(-sp.I * key_angle),
        w: KEY_NORM_MAX * sp.exp(sp.I * key_angle),
    }


def _step_of(
    title: str,
    step: sp.Expr,
    witness: dict[sp.Symbol, sp.Expr],
    links: tuple[Link, ...],
    hypotheses: tuple[sp.Basic, ...],
    facts: tuple[Fact, ...],
) -> Derivation:
    return Derivation(title, sp.Abs(step.subs(witness)), links, hypotheses, facts)


WITNESS_SMALL, WITNESS_LARGE = _witness(B), _witness(sp.pi / 2 - A)
STEP_OF_QUERY = _step_of(
    "the query step of the witness",
    z_s - z,
    WITNESS_SMALL,
    (
        Link("=", 2 * QUERY_NORM_MAX * sp.sin(A), "the chord of an angle $2A$", Solver()),
        Link("<=", QUERY_STEP, "by the definition of A", Solver()),
    ),
    A_MEANS,
    A_FACTS,
)
STEP_OF_KEY_SMALL = _step_of(
    r"the key step of the witness, $A + B \le \pi/2$",
    w_u - w,
    WITNESS_SMALL,
    (
        Link("=", 2 * KEY_NORM_MAX * sp.sin(B), "the chord of an angle $2B$", Solver()),
        Link("<=", KEY_STEP, "by the definition of B", Solver()),
    ),
    B_MEANS,
    B_FACTS,
)
STEP_OF_KEY_LARGE = _step_of(
    r"the key step of the witness, $A + B \ge \pi/2$",
    w_u - w,
    WITNESS_LARGE,
    (
        Link("=", 2 * KEY_NORM_MAX * sp.cos(A), r"the chord of an angle $\pi - 2A$", Solver()),
        Link(
            "<=",
            2 * KEY_NORM_MAX * sp.sin(B),
            r"$\pi/2 - A \le B$",
            Scaled(2 * KEY_NORM_MAX, Solver()),
        ),
        Link("<=", KEY_STEP, "by the definition of B", Solver()),
    ),
    (A_MEANS[0], *B_MEANS, SUM_LARGE),
    (
        *A_FACTS,
        *B_FACTS,
        Fact(
            sp.cos(A + B),
            "<=",
            sp.Integer(0),
            r"$\pi/2 \le A + B \le \pi$",
            Lemma(COSINE_NOT_POSITIVE, {x: A + B}),
        ),
    ),
)
ATTAINED_SMALL = Derivation(
    r"the witness attains the supremum, $A + B \le \pi/2$",
    sp.Abs(CHANGE.subs(WITNESS_SMALL, simultaneous=True)),
    (
        Link(
            "=",
            sp.Abs(CAPPED * sp.sin(A + B)),
            r"the logits are $\pm\lambda QK\sin(A + B)$",
            Identity(),
        ),
        Link("=", CAPPED * sp.sin(A + B), "it is not negative", Solver()),
        Link("=", SUPREMUM_NAMED, "the smaller of the two", Same(WHOLE, A + B, Solver())),
    ),
    hypotheses=(SUM_SMALL,),
    facts=(
        Fact(A + B, "<=", sp.pi, r"$\pi/2 \le \pi$", Solver()),
        Fact(
            sp.Integer(0),
            "<=",
            sp.sin(A + B),
            r"$0 \le A + B \le \pi$",
            Lemma(SINE_NONNEGATIVE, {x: A + B}),
        ),
    ),
)
ATTAINED_LARGE = Derivation(
    r"the witness attains the supremum, $A + B \ge \pi/2$",
    sp.Abs(CHANGE.subs(WITNESS_LARGE, simultaneous=True)),
    (
        Link("=", CAPPED, "opposite before, aligned after", Solver()),
        Link("=", SUPREMUM_NAMED, r"$\sin(\pi/2) = 1$", Same(WHOLE, sp.pi / 2, Solver())),
    ),
    hypotheses=(SUM_LARGE,),
)

SHARE = 1 - (epsilon / (2 * sp.Min(QUERY_NORM_MAX, KEY_NORM_MAX))) ** 2
BEST = Derivation(
    "the supremum for small equal steps is near the constant",
    GLOBAL_CONSTANT * epsilon * SHARE,
    (
        Link(
            "<=",
            lam * epsilon * (QUERY_NORM_MAX * sp.cos(A) + KEY_NORM_MAX * sp.cos(B)),
            r"$\cos A \ge \cos^2 A = 1 - (\varepsilon/2Q)^2$, and the same for B",
            Terms(
                tuple(
                    (
                        lam * epsilon * largest,
                        SHARE,
                        sp.cos(angle),
                        Solver(),
                    )
                    for largest, angle in ((QUERY_NORM_MAX, A), (KEY_NORM_MAX, B))
                )
            ),
        ),
        Link(
            "=",
            CAPPED * sp.sin(A + B),
            "addition formula",
            Scaled(lam, Solver()),
        ),
        Link("=", SUPREMUM_NAMED, "the smaller of the two", Same(WHOLE, A + B, Solver())),
    ),
    hypotheses=(
        SUM_SMALL,
        sp.Eq(2 * QUERY_NORM_MAX * sp.sin(A), epsilon, evaluate=False),
        sp.Eq(2 * KEY_NORM_MAX * sp.sin(B), epsilon, evaluate=False),
    ),
    facts=(A_FACTS[0], B_FACTS[0]),
)


def norms_and_steps(size: int, step: int) -> dict[str, int]:
    names = ("query_norm_max", "key_norm_max", "query_step", "key_step")
    return dict(zip(names, (size, size, step, step), strict=True)) | {"lambda": 1}


def replay(step: int) -> tuple[float, float]:
    """Change at the witness from the definition, and the registry's supremum, norms 1, float64."""
    values = {name: np.asarray(float(v)) for name, v in norms_and_steps(1, step).items()}
    turn = np.arcsin(min(1.0, step / 2))
    query, key = -1j * np.exp(1j * turn * np.array([-1, 1])), np.exp(1j * turn * np.array([1, -1]))
    logits = np.real(query * np.conj(key))
    return float(logits[1] - logits[0]), float(evaluate(SUPREMUM, values))


def at_unit(angle: sp.Expr) -> sp.Expr:
    """The change at the witness, all norms and lambda 1, both angles the same."""
    put = {A: angle, QUERY_NORM_MAX: 1, KEY_NORM_MAX: 1, lam: 1}
    unit = {symbol: value.subs({B: A}).subs(put) for symbol, value in WITNESS_SMALL.items()}
    return CHANGE.subs(unit, simultaneous=True).subs({lam: 1, t: 0, i: 0})
