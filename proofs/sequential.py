"""Theorem 5.2: the diagonal, its constant, and the exact supremum under global norms and steps.

At the shift (s, s) the turn of RoPE cancels: only the drift of query and key is left. For whole
heads, D_1 and D_2 stand for the sums over channels that the two drifts leave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sympy as sp

from proofs.arcs import COSINE_NONNEGATIVE, COSINE_NOT_POSITIVE, SINE_NONNEGATIVE, Same, x
from proofs.attack import Attack
from proofs.certificates import Identity, Solver
from proofs.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.lemmas import (
    CAUCHY_SCHWARZ_SUM,
    FINITE_SUM,
    REAL_PART,
    TRIANGLE,
    Finite,
    Induction,
    Products,
    a,
    b,
    first_norm,
    inner,
    second_norm,
)
from proofs.shift_bound import CHANNEL, ROUNDOFF, shift_attack
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import (
    BOUND,
    KEY_DRIFT,
    QUERY_DRIFT,
    SHIFT_DIFFERENCE,
    i,
    lam,
    s,
    t,
    theta,
    u,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems.sequential import (
    CONSTANT,
    EPSILON,
    GLOBAL_CONSTANT,
    KEY_ANGLE,
    KEY_NORM_MAX,
    KEY_NORM_U,
    KEY_STEP,
    QUERY_ANGLE,
    QUERY_NORM,
    QUERY_NORM_MAX,
    QUERY_STEP,
    SEVERAL_STEPS,
    SHIFT,
    SUPREMUM,
    THEOREM,
)


def le(left: sp.Expr | int, right: sp.Expr | int) -> sp.Rel:
    """left <= right, not evaluated."""
    return sp.Le(left, right, evaluate=False)


def on_diagonal(expression: sp.Expr, steps: sp.Expr = s) -> sp.Expr:
    """The expression of one channel at the shift (steps, steps)."""
    return expression.subs({s: steps, u: steps}, simultaneous=True)


CHANGE = on_diagonal(SHIFT_DIFFERENCE)
TURN = sp.exp(sp.I * (t - i) * theta)
UNTURN = sp.exp(-sp.I * (t - i) * theta)

# --- (B) on the diagonal -----------------------------------------------------------------------


def _diagonal(title: str, steps: sp.Expr, bound: sp.Expr) -> Derivation:
    return Derivation(
        title,
        sp.Abs(on_diagonal(SHIFT_DIFFERENCE, steps)),
        (
            Link(
                "<=",
                on_diagonal(BOUND, steps),
                f"bound (B) at the shift (${sp.latex(steps)}$, ${sp.latex(steps)}$)",
                Lemma(CHANNEL, {s: steps, u: steps}),
            ),
            Link("=", bound, "which is the bound of the theorem", Identity()),
            Link("=", QUERY_DRIFT + KEY_DRIFT, "no turn is left: $\\alpha = 0$", Identity()),
        ),
    )


ONE_STEP = _diagonal("a diagonal after one step, one channel", SHIFT[0], THEOREM.bound)
SEVERAL = _diagonal("a diagonal after s steps, one channel", s, SEVERAL_STEPS)

_SEEN = {
    z: z * sp.exp(sp.I * t * theta),
    z_s: z_s * sp.exp(sp.I * (t + s) * theta),
    w: w * sp.exp(sp.I * i * theta),
    w_u: w_u * sp.exp(sp.I * (i + s) * theta),
}
"""Query and key after RoPE."""
AFTER_ROPE = Derivation(
    "the same with drifts measured after RoPE, one channel",
    sp.Abs(CHANGE),
    (
        Link(
            "=",
            sp.Abs(SHIFT_DIFFERENCE.subs({**_SEEN, theta: sp.Integer(0)}, simultaneous=True)),
            "a logit is the inner product of the vectors after RoPE",
            Identity(),
        ),
        Link(
            "<=",
            BOUND.subs({**_SEEN, theta: sp.Integer(0)}, simultaneous=True),
            "bound (B) for vectors that RoPE no longer turns",
            Lemma(CHANNEL, {**_SEEN, theta: sp.Integer(0)}),
        ),
        Link(
            "=",
            (QUERY_DRIFT + KEY_DRIFT).subs(_SEEN, simultaneous=True),
            "no turn is left",
            Identity(),
        ),
    ),
)

beta, gamma, rho = sp.symbols("beta gamma rho", nonnegative=True)
_ALONG = {z: rho * UNTURN * w, z_s: (1 + gamma) * rho * UNTURN * w, w_u: (1 + beta) * w}
DIAGONAL_SHARP = Derivation(
    "query and key that grow along themselves attain (B), one channel",
    CHANGE.subs(_ALONG, simultaneous=True),
    (
        Link(
            "=",
            lam * rho * (beta + gamma + beta * gamma) * sp.Abs(w) ** 2,
            "both changes are nonnegative",
            Identity(),
        ),
        Link("=", SEVERAL_STEPS.subs(_ALONG, simultaneous=True), "as their moduli", Identity()),
    ),
)

# --- the constant of a pair --------------------------------------------------------------------

D_1, D_2 = sp.symbols("D_1 D_2", nonnegative=True)


def _cauchy_schwarz(total: sp.Expr, first: sp.Expr, second: sp.Expr) -> Lemma:
    return Lemma(CAUCHY_SCHWARZ_SUM, {inner: total, first_norm: first, second_norm: second})


PAIR = Derivation(
    r"the constant of a pair; $D_1 = \sum|\Delta z||w_{i+1}|$, $D_2 = \sum|z_t||\Delta w|$",
    lam * (D_1 + D_2),
    (
        Link(
            "<=",
            lam * (QUERY_STEP * KEY_NORM_U + QUERY_NORM * KEY_STEP),
            "Cauchy-Schwarz over the channels",
            Terms(
                (
                    (
                        lam,
                        D_1,
                        QUERY_STEP * KEY_NORM_U,
                        _cauchy_schwarz(D_1, QUERY_STEP, KEY_NORM_U),
                    ),
                    (lam, D_2, QUERY_NORM * KEY_STEP, _cauchy_schwarz(D_2, QUERY_NORM, KEY_STEP)),
                )
            ),
        ),
        Link("<=", CONSTANT * EPSILON, "both steps are at most the larger one", Solver()),
    ),
    hypotheses=(Products(D_1, QUERY_STEP, KEY_NORM_U), Products(D_2, QUERY_NORM, KEY_STEP)),
)

epsilon, query_size, key_size = sp.symbols("epsilon Q K", positive=True)
_PULLED = {
    z_s: z + epsilon * UNTURN * w_u / key_size,
    w: w_u - epsilon * TURN * z / query_size,
}
PAIR_SHARP = Derivation(
    "a query step along the key and a key step along the query, one channel of any head",
    CHANGE.subs(_PULLED, simultaneous=True),
    (
        Link(
            "=",
            lam * epsilon * (sp.Abs(w_u) ** 2 / key_size + sp.Abs(z) ** 2 / query_size),
            "each change is a real, nonnegative part",
            Identity(),
        ),
    ),
)
PAIR_SHARP_STEPS = (
    Derivation(
        "the query step of that witness, one channel, squared",
        sp.Abs((z_s - z).subs(_PULLED)) ** 2,
        (
            Link(
                "=",
                epsilon**2 * sp.Abs(w_u) ** 2 / key_size**2,
                r"summed over channels, with $\sum|w_{i+1}|^2 = K^2$: $\varepsilon^2$",
                Identity(),
            ),
        ),
    ),
    Derivation(
        "the key step of that witness, one channel, squared",
        sp.Abs((w_u - w).subs(_PULLED)) ** 2,
        (
            Link(
                "=",
                epsilon**2 * sp.Abs(z) ** 2 / query_size**2,
                r"summed over channels, with $\sum|z_t|^2 = Q^2$: $\varepsilon^2$",
                Identity(),
            ),
        ),
    ),
)
PAIR_SHARP_SUM = Derivation(
    r"the sum over the channels, with $\sum|w_{i+1}|^2 = K^2$ and $\sum|z_t|^2 = Q^2$",
    lam * epsilon * (key_size**2 / key_size + query_size**2 / query_size),
    (
        Link(
            "=",
            (CONSTANT * EPSILON).subs(
                {
                    KEY_NORM_U: key_size,
                    QUERY_NORM: query_size,
                    QUERY_STEP: epsilon,
                    KEY_STEP: epsilon,
                }
            ),
            "which is the bound, with both steps equal",
            Identity(),
        ),
    ),
)

# --- the supremum under global norms and steps -------------------------------------------------

MIDDLE_QUERY, MIDDLE_KEY = (z + z_s) / 2, (w + w_u) / 2
_BY_QUERY = (z_s - z) * sp.conjugate(MIDDLE_KEY)
_BY_KEY = MIDDLE_QUERY * sp.conjugate(w_u - w)
HALF_SUMS = Derivation(
    "the change by half sums, one channel",
    sp.Abs(CHANGE),
    (
        Link(
            "<=",
            lam * sp.Abs(_BY_QUERY + _BY_KEY),
            r"$z'\bar w' - z\bar w = \Delta z\,\overline{(w + w')/2} + \frac{z + z'}2"
            r"\overline{\Delta w}$; a real part is no larger than the modulus",
            Scaled(lam, Lemma(REAL_PART, {a: TURN * (_BY_QUERY + _BY_KEY)})),
        ),
        Link(
            "<=",
            lam * (sp.Abs(_BY_QUERY) + sp.Abs(_BY_KEY)),
            "triangle inequality",
            Scaled(lam, Lemma(TRIANGLE, {a: _BY_QUERY, b: _BY_KEY})),
        ),
        Link(
            "=",
            lam * (sp.Abs(z_s - z) * sp.Abs(MIDDLE_KEY) + sp.Abs(MIDDLE_QUERY) * sp.Abs(w_u - w)),
            "moduli of products",
            Identity(),
        ),
    ),
)


class HalfSum(Finite):
    """HalfSum(p, q, h, d): norms of two real vectors, of half their sum and of half their
    difference."""

    def shortest(self) -> tuple[sp.Expr, ...]:
        return (sp.Integer(0),) * 4

    def longer(self) -> tuple[sp.Expr, ...]:
        p, q, h, d = self.args
        one, other = sp.Dummy("x", real=True), sp.Dummy("y", real=True)
        return (
            sp.sqrt(p**2 + one**2),
            sp.sqrt(q**2 + other**2),
            sp.sqrt(h**2 + ((one + other) / 2) ** 2),
            sp.sqrt(d**2 + ((one - other) / 2) ** 2),
        )


_p, _q, _h, _d = sp.symbols("p q h d", nonnegative=True)
PARALLELOGRAM = Derivation(
    "parallelogram law for half sum and half difference",
    _h**2 + _d**2,
    (
        Link(
            "=",
            (_p**2 + _q**2) / 2,
            "by induction over the coordinates",
            Induction(Solver()),
        ),
    ),
    hypotheses=(HalfSum(_p, _q, _h, _d),),
)

A, B = sp.symbols("A B", nonnegative=True)
"""The two angles of the registry's supremum."""
NAMED = {QUERY_ANGLE: A, KEY_ANGLE: B}
SUPREMUM_NAMED = SUPREMUM.xreplace(NAMED)
q, q_later, query_middle, query_half = sp.symbols("q q' p x", nonnegative=True)
k, k_later, key_middle, key_half = sp.symbols("k k' m y", nonnegative=True)

MEANINGS = (
    Products(D_1, query_half, key_middle),
    Products(D_2, query_middle, key_half),
    HalfSum(q, q_later, query_middle, query_half),
    HalfSum(k, k_later, key_middle, key_half),
)
LIMITS = (
    le(q, QUERY_NORM_MAX),
    le(q_later, QUERY_NORM_MAX),
    le(k, KEY_NORM_MAX),
    le(k_later, KEY_NORM_MAX),
    le(2 * query_half, QUERY_STEP),
    le(2 * key_half, KEY_STEP),
)


def _circle(
    middle: sp.Expr, half: sp.Expr, first: sp.Expr, later: sp.Expr, radius: sp.Expr
) -> tuple[Fact, Fact]:
    return (
        Fact(
            middle**2 + half**2,
            "=",
            (first**2 + later**2) / 2,
            "parallelogram law",
            Lemma(PARALLELOGRAM, {_p: first, _q: later, _h: middle, _d: half}),
        ),
        Fact(
            middle**2 + half**2,
            "<=",
            radius**2,
            "neither norm exceeds the largest",
            Solver(),
        ),
    )


CIRCLES = (
    *_circle(query_middle, query_half, q, q_later, QUERY_NORM_MAX),
    *_circle(key_middle, key_half, k, k_later, KEY_NORM_MAX),
)

SUMMED = Link(
    "<=",
    2 * lam * (query_half * key_middle + query_middle * key_half),
    "Cauchy-Schwarz over the channels",
    Terms(
        (
            (2 * lam, D_1, query_half * key_middle, _cauchy_schwarz(D_1, query_half, key_middle)),
            (2 * lam, D_2, query_middle * key_half, _cauchy_schwarz(D_2, query_middle, key_half)),
        )
    ),
)
START = 2 * lam * (D_1 + D_2)
"""Half sums summed over channels: D_1 = sum |dz/2| |(w+w')/2|, D_2 = sum |(z+z')/2| |dw/2|."""


def angle_of(
    angle: sp.Symbol, radius: sp.Symbol, step: sp.Symbol
) -> tuple[tuple[sp.Basic, ...], tuple[Fact, ...]]:
    """(definition of angle = arcsin min(1, step/(2 radius)), what follows from it)."""
    definition = (
        le(angle, sp.pi / 2),
        sp.Eq(2 * radius * sp.sin(angle), sp.Min(2 * radius, step), evaluate=False),
    )
    facts = (
        Fact(
            sp.Integer(0),
            "<=",
            sp.cos(angle),
            "the angle is at most $\\pi/2$",
            Lemma(COSINE_NONNEGATIVE, {x: angle}),
        ),
        Fact(
            sp.Integer(0),
            "<=",
            sp.sin(angle),
            "the angle lies between 0 and $\\pi$",
            Lemma(SINE_NONNEGATIVE, {x: angle}),
        ),
    )
    return definition, facts


A_MEANS, A_FACTS = angle_of(A, QUERY_NORM_MAX, QUERY_STEP)
B_MEANS, B_FACTS = angle_of(B, KEY_NORM_MAX, KEY_STEP)
SUM_SMALL, SUM_LARGE = le(A + B, sp.pi / 2), sp.Ge(A + B, sp.pi / 2, evaluate=False)
WHOLE, CAPPED = sp.Min(sp.pi / 2, A + B), 2 * lam * QUERY_NORM_MAX * KEY_NORM_MAX

LARGE_STEPS = Derivation(
    r"the supremum is an upper bound where $A + B \ge \pi/2$",
    START,
    (
        SUMMED,
        Link(
            "<=",
            CAPPED,
            "both vectors (half sum, half step) are no longer than the largest norms",
            Scaled(2 * lam, Solver()),
        ),
        Link(
            "=",
            SUPREMUM_NAMED,
            r"$\sin(\pi/2) = 1$",
            Same(WHOLE, sp.pi / 2, Solver()),
        ),
    ),
    hypotheses=(*MEANINGS, *LIMITS, SUM_LARGE),
    facts=CIRCLES,
)

KEY_REST = sp.sqrt(KEY_NORM_MAX**2 - key_half**2)
_LEAN = sp.cos(A) * key_half + sp.sin(A) * KEY_REST

_radius = sp.Symbol("R", positive=True)
_m, _n, _f, _g = sp.symbols("m_1 n_1 f g", nonnegative=True)
_angle = sp.Symbol("phi", real=True)
TURN_ON = Derivation(
    "a vector in a quarter disc turns on towards another, as far as its angle may",
    _m * _f + _n * _g,
    (
        Link(
            "<=",
            _radius * (sp.cos(_angle) * _f + sp.sin(_angle) * _g),
            r"its sine is at most $\sin\varphi$, and at $\varphi$ it has not yet passed (f, g)",
            Solver(),
        ),
    ),
    hypotheses=(
        le(_m**2 + _n**2, _radius**2),
        le(_n, _radius * sp.sin(_angle)),
        le(0, sp.cos(_angle)),
        le(sp.sin(_angle) * _f, sp.cos(_angle) * _g),
    ),
)

SMALL_STEPS = Derivation(
    r"the supremum is an upper bound where $A + B \le \pi/2$",
    START,
    (
        SUMMED,
        Link(
            "<=",
            2 * lam * (query_half * KEY_REST + query_middle * key_half),
            "the half sum of the keys is as long as their half step allows",
            Scaled(2 * lam, Solver()),
        ),
        Link(
            "<=",
            2 * lam * QUERY_NORM_MAX * _LEAN,
            "the query takes its largest step: it has not yet passed the key",
            Scaled(
                2 * lam,
                Lemma(
                    TURN_ON,
                    {
                        _m: query_middle,
                        _n: query_half,
                        _f: key_half,
                        _g: KEY_REST,
                        _radius: QUERY_NORM_MAX,
                        _angle: A,
                    },
                ),
            ),
        ),
        Link(
            "<=",
            CAPPED * sp.sin(A + B),
            "and so does the key; addition formula",
            Scaled(
                2 * lam * QUERY_NORM_MAX,
                Lemma(
                    TURN_ON,
                    {
                        _m: KEY_REST,
                        _n: key_half,
                        _f: sp.sin(A),
                        _g: sp.cos(A),
                        _radius: KEY_NORM_MAX,
                        _angle: B,
                    },
                ),
            ),
        ),
        Link("=", SUPREMUM_NAMED, "the smaller of the two", Same(WHOLE, A + B, Solver())),
    ),
    # that neither angle exceeds pi/2 follows from the sum
    hypotheses=(*MEANINGS, *LIMITS, A_MEANS[1], B_MEANS[1], SUM_SMALL),
    facts=(
        *CIRCLES,
        *A_FACTS,
        *B_FACTS,
        Fact(
            sp.Integer(0),
            "<=",
            sp.cos(A + B),
            r"$A + B \le \pi/2$",
            Lemma(COSINE_NONNEGATIVE, {x: A + B}),
        ),
        Fact(
            query_half,
            "<=",
            QUERY_NORM_MAX * sp.sin(A),
            "half a step is at most the norm, and at most half the largest step",
            Solver(),
        ),
        Fact(
            key_half,
            "<=",
            KEY_NORM_MAX * sp.sin(B),
            "the same for keys",
            Solver(),
        ),
        Fact(
            sp.sin(A) * key_half,
            "<=",
            sp.cos(A) * KEY_REST,
            r"the angle of the key is at most $B \le \pi/2 - A$",
            Solver(),
        ),
    ),
)


# --- it is attained ----------------------------------------------------------------------------


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
    (*A_MEANS, *B_MEANS, SUM_LARGE),
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
    CHANGE.subs(WITNESS_SMALL, simultaneous=True),
    (
        Link(
            "=", CAPPED * sp.sin(A + B), "both logits are $\\pm\\lambda QK\\sin(A + B)$", Identity()
        ),
        Link("=", SUPREMUM_NAMED, "the smaller of the two", Same(WHOLE, A + B, Solver())),
    ),
    hypotheses=(SUM_SMALL,),
)
ATTAINED_LARGE = Derivation(
    r"the witness attains the supremum, $A + B \ge \pi/2$",
    CHANGE.subs(WITNESS_LARGE, simultaneous=True),
    (
        Link("=", CAPPED, "opposite before, aligned after", Identity()),
        Link("=", SUPREMUM_NAMED, r"$\sin(\pi/2) = 1$", Same(WHOLE, sp.pi / 2, Solver())),
    ),
    hypotheses=(SUM_LARGE,),
)

# --- one constant for all pairs ----------------------------------------------------------------

NEVER_REACHED = Derivation(
    r"$\lambda(Q + K)\varepsilon$ is never reached",
    START,
    (
        SUMMED,
        Link(
            "<",
            GLOBAL_CONSTANT * EPSILON,
            "a half sum is shorter than the largest norm as soon as there is a step",
            Scaled(lam, Solver()),
        ),
    ),
    hypotheses=(*MEANINGS, *LIMITS, sp.Gt(EPSILON, 0, evaluate=False)),
    facts=CIRCLES,
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
    ),
    hypotheses=(
        le(A, sp.pi / 2),
        le(B, sp.pi / 2),
        sp.Eq(2 * QUERY_NORM_MAX * sp.sin(A), epsilon, evaluate=False),
        sp.Eq(2 * KEY_NORM_MAX * sp.sin(B), epsilon, evaluate=False),
    ),
    facts=(A_FACTS[0], B_FACTS[0]),
)


def exact(expression: sp.Expr, **values: sp.Expr | int) -> sp.Expr:
    """The expression at exact values, given by the names of its symbols."""
    return expression.subs(
        {symbol: values[symbol.name] for symbol in expression.free_symbols}, simultaneous=True
    )


def _norms_and_steps(size: int, step: int) -> dict[str, int]:
    names = ("query_norm_max", "key_norm_max", "query_step", "key_step")
    return dict(zip(names, (size, size, step, step), strict=True)) | {"lambda": 1}


def _replay(step: int) -> tuple[float, float]:
    """Change at the witness from the definition, and the registry's supremum, norms 1, float64."""
    values = {name: np.asarray(float(v)) for name, v in _norms_and_steps(1, step).items()}
    turn = np.arcsin(min(1.0, step / 2))
    query, key = -1j * np.exp(1j * turn * np.array([-1, 1])), np.exp(1j * turn * np.array([1, -1]))
    logits = np.real(query * np.conj(key))
    return float(logits[1] - logits[0]), float(evaluate(SUPREMUM, values))


def _at_unit(angle: sp.Expr) -> sp.Expr:
    """The change at the witness, all norms and lambda 1, both angles the same."""
    put = {A: angle, QUERY_NORM_MAX: 1, KEY_NORM_MAX: 1, lam: 1}
    unit = {symbol: value.subs({B: A}).subs(put) for symbol, value in WITNESS_SMALL.items()}
    return CHANGE.subs(unit, simultaneous=True).subs({lam: 1, t: 0, i: 0})


# --- attacks -----------------------------------------------------------------------------------

FAR = 3
"""Distance t - i of the attacked pair; it stays the same along the diagonal."""
SCALE = 0.125


def _vectors(point: np.ndarray) -> list[np.ndarray]:
    """Query, later query, key, later key, complex of M channels, from 8M numbers."""
    parts = point.reshape(8, -1)
    return [parts[2 * n] + 1j * parts[2 * n + 1] for n in range(4)]


def _change(vectors: Sequence[np.ndarray], frequency: np.ndarray) -> tuple[float, float]:
    """(change of the logit after RoPE, what float64 may add to it)."""
    query, later, key, key_later = vectors
    turned = np.exp(1j * FAR * frequency)
    logits = [
        SCALE * float(np.sum(np.real(turned * q * np.conj(k))))
        for q, k in ((query, key), (later, key_later))
    ]
    sizes = SCALE * float(np.sum(np.abs(query * key) + np.abs(later * key_later)))
    return abs(logits[1] - logits[0]), 64 * ROUNDOFF * sizes


def _against(
    bound: sp.Expr, vectors: Sequence[np.ndarray], frequency: np.ndarray, room: Sequence[float]
) -> float:
    """Change over bound of one pair; 0/0 counts as 0. room: limits of the steps over the steps."""
    query, later, key, key_later = vectors

    def norm(vector: np.ndarray) -> float:
        return float(np.linalg.norm(vector))

    values = {
        "query_norm": norm(query),
        "key_norm_u": norm(key_later),
        "query_step": norm(later - query) * room[0],
        "key_step": norm(key_later - key) * room[1],
        "query_norm_max": max(norm(query), norm(later)),
        "key_norm_max": max(norm(key), norm(key_later)),
        "lambda": SCALE,
    }
    if min(values["query_norm_max"], values["key_norm_max"]) < 1e-9:
        return 0.0  # every logit is 0
    allowed = evaluate(bound, {name: np.asarray(value) for name, value in values.items()})
    change, rounding = _change(vectors, frequency)
    return float(max(0.0, change - rounding) / allowed) if allowed > 0 else 0.0


def pair_attack(bound: sp.Expr, name: str) -> Attack:
    """Two channels: 16 numbers of the vectors, two of the frequencies, two of the limits."""

    def ratio(point: np.ndarray) -> float:
        # a step may stay below its limit, and half of the range reaches it
        room = 1 + 3 * np.maximum(point[18:], 0)
        return _against(bound, _vectors(point[:16]), np.pi * np.abs(point[16:18]), room)

    zero, still, turned, one = (np.full(20, value) for value in (0.0, 0.5, 0.5, 0.3))
    still[16:18], turned[16:18], one[1:16:2] = 0, 1, 0
    queries_only = np.concatenate([np.full(8, 0.4), np.zeros(8), np.full(4, 0.5)])
    return Attack(name, 20, ratio, True, 1e-9, (zero, still, turned, one, queries_only))


def small_steps_attack(bound: sp.Expr, name: str) -> Attack:
    """One channel, by norms and angles; query and key change by at most a few hundredths."""
    small = 0.01

    def ratio(point: np.ndarray) -> float:
        norms, angles = 1 - small * np.abs(point[:4]), np.pi * point[4:8]
        angles[1], angles[3] = angles[0] + small * angles[1], angles[2] + small * angles[3]
        vectors = [np.array([n * np.exp(1j * a)]) for n, a in zip(norms, angles, strict=True)]
        return _against(bound, vectors, np.pi * np.abs(point[8:]), (1.0, 1.0))

    return Attack(name, 9, ratio, True, 1e-9, (np.zeros(9), np.full(9, 0.5)))


ATTACKS = (
    shift_attack(SEVERAL_STEPS, (3, 3), "(B) at (3, 3): logits of a pair, 2 channels"),
    pair_attack(CONSTANT * EPSILON, "the constant of a pair, 2 channels"),
    pair_attack(SUPREMUM, "the supremum under global norms, 2 channels"),
    small_steps_attack(GLOBAL_CONSTANT * EPSILON, "one constant for all pairs, small steps"),
)

HALVES = (
    r" Summed over channels, $D_1 = \sum|\Delta z/2||(w + w')/2|$ and"
    r" $D_2 = \sum|(z + z')/2||\Delta w/2|$; x and y are the norms of the half steps, p and m of"
    " the half sums."
)

PROOF = Proof(
    THEOREM,
    claims=(
        Claim(
            "one_step",
            "bound",
            "$|a_{t+1,i+1} - a_{t,i}| \\le$ (B) at (1, 1), summed over channels: RoPE cancels"
            " exactly, drift is all that is left.",
            derivations=(CHANNEL, ONE_STEP, FINITE_SUM),
        ),
        Claim(
            "several_steps",
            "bound",
            "The same at $(s, s)$ for every $s$, with the drifts over $s$ positions, which are at"
            " most the sum of $s$ single drifts.",
            derivations=(CHANNEL, SEVERAL, TRIANGLE, FINITE_SUM),
        ),
        Claim(
            "after_rope",
            "bound",
            "The same bound with drifts measured between the vectors after RoPE.",
            derivations=(CHANNEL, AFTER_ROPE, FINITE_SUM),
        ),
        Claim(
            "constant",
            "bound",
            r"Per pair, $|a_{t+1,i+1} - a_{t,i}| \le C\varepsilon$ with"
            r" $C = \lambda(\|k_{i+1}\| + \|q_t\|)$ and $\varepsilon$ the larger of the two steps;"
            " it follows from (B).",
            derivations=(CAUCHY_SCHWARZ_SUM, PAIR),
        ),
        Claim(
            "global_constant",
            "bound",
            r"Norms at most Q and K, steps at most $\varepsilon > 0$:"
            r" $|a_{t+1,i+1} - a_{t,i}| < \lambda(Q + K)\varepsilon$, never equal." + HALVES,
            derivations=(HALF_SUMS, FINITE_SUM, CAUCHY_SCHWARZ_SUM, PARALLELOGRAM, NEVER_REACHED),
        ),
        Claim(
            "supremum",
            "bound",
            r"Norms at most $Q, K > 0$, steps at most $\varepsilon_q, \varepsilon_k$:"
            r" $|a_{t+1,i+1} - a_{t,i}| \le 2\lambda QK\sin\min(\pi/2, A + B)$ with"
            r" $A = \arcsin\min(1, \varepsilon_q/2Q)$, $B = \arcsin\min(1, \varepsilon_k/2K)$."
            " The same at $(s, s)$." + HALVES,
            derivations=(
                HALF_SUMS,
                FINITE_SUM,
                CAUCHY_SCHWARZ_SUM,
                PARALLELOGRAM,
                TURN_ON,
                SMALL_STEPS,
                LARGE_STEPS,
            ),
            conclusions=(
                Conclusion(
                    "A and B stand for the two arcsines",
                    "definition of the arcsine: the angle in $[-\\pi/2, \\pi/2]$ of that sine; of"
                    " a number in $[0, 1]$ it is not negative.",
                ),
            ),
        ),
        Claim(
            "supremum_attained",
            "sharpness",
            "The supremum is attained, for all $Q, K$ and steps, every head size and pair: it is"
            " the exact supremum.",
            derivations=(
                ATTAINED_SMALL,
                ATTAINED_LARGE,
                STEP_OF_QUERY,
                STEP_OF_KEY_SMALL,
                STEP_OF_KEY_LARGE,
            ),
            instances=(
                Exact(
                    r"norms, steps and $\lambda$ all 1: the registry's expression is attained",
                    exact(SUPREMUM, **_norms_and_steps(1, 1)),
                    "=",
                    _at_unit(sp.pi / 6),
                    replay=lambda: _replay(1),
                ),
                Exact(
                    "steps 2, from antipode to antipode",
                    exact(SUPREMUM, **_norms_and_steps(1, 2)),
                    "=",
                    _at_unit(sp.pi / 4),
                ),
            ),
            witness=(
                r"one channel: $\tilde q$ turns from $-\pi/2 - A$ to $-\pi/2 + A$ and $\tilde k$"
                r" from $B$ to $-B$ seen from one place, norms Q and K; where"
                r" $A + B > \pi/2$, B replaced by $\pi/2 - A$; all other channels 0"
            ),
            ratio="1",
        ),
        Claim(
            "constant_attained",
            "sharpness",
            r"C of a pair is attained for every $q_t \ne 0$, $k_{i+1} \ne 0$ and"
            r" $\varepsilon > 0$: no constant free of the norms exists.",
            derivations=(PAIR_SHARP, *PAIR_SHARP_STEPS, PAIR_SHARP_SUM),
            witness=(
                r"$\Delta q = \varepsilon\,k_{i+1}/\|k_{i+1}\|$ and"
                r" $\Delta k = \varepsilon\,q_t/\|q_t\|$, as seen after RoPE"
            ),
            ratio="1",
        ),
        Claim(
            "global_constant_best",
            "sharpness",
            r"$\lambda(Q + K)$ is the smallest constant for all pairs that is free of"
            r" $\varepsilon$, and is not attained: the supremum over $\varepsilon$ is at least"
            r" $\lambda(Q + K)(1 - (\varepsilon/2\min(Q, K))^2)$.",
            derivations=(BEST, NEVER_REACHED),
            conclusions=(
                Conclusion(
                    "no smaller constant serves all steps",
                    r"limit $\varepsilon \to 0$ of $1 - (\varepsilon/2\min(Q, K))^2$, which is 1.",
                ),
            ),
            witness="the witness of the supremum with both steps equal, towards 0",
            ratio="-> 1",
        ),
        Claim(
            "diagonal_sharp",
            "sharpness",
            "(B) at $(s, s)$ is attained on all channels at once.",
            derivations=(DIAGONAL_SHARP,),
            witness=(
                r"$z_t$ a positive multiple of $e^{-\mathrm i(t-i)\theta}w_i$,"
                r" $z_{t+s} = (1 + \gamma)z_t$, $w_{i+s} = (1 + \beta)w_i$"
            ),
            ratio="1",
        ),
    ),
    readings=(
        Reading(
            r"C may depend on the pair: $C = \lambda(\|k_{i+1}\| + \|q_t\|)$, steps before RoPE",
            "holds",
            ("constant", "constant_attained"),
            "C grows with the norms and must: it is attained for all of them.",
        ),
        Reading(
            "the same with steps measured after RoPE",
            "holds",
            ("after_rope", "constant"),
            "RoPE keeps norms, and a logit is the inner product of the vectors after it.",
        ),
        Reading(
            r"one C for a head, free of t, i and $\varepsilon$, from its largest norms Q and K",
            "holds",
            ("global_constant", "global_constant_best", "supremum", "supremum_attained"),
            r"$\lambda(Q + K)$ is the best such C and is never reached; the exact supremum for"
            r" each $\varepsilon$ is below it.",
        ),
    ),
    attacks=ATTACKS,
    meaning=(
        "A diagonal persists as long as queries and keys hardly change before RoPE: RoPE itself"
        " costs nothing at equal shifts, whatever its frequencies. The bound grows with the norms,"
        " so a head with long queries or keys needs smaller steps for the same diagonal."
    ),
)
