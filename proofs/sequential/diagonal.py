"""Theorem 5.2: RoPE cancels on the diagonal, bound (B) there, and the constant of a pair."""

from __future__ import annotations

import sympy as sp

from proofs.engine.arcs import Same
from proofs.engine.certificates import Identity, Solver
from proofs.engine.derivation import Derivation, Lemma, Link, Scaled, Terms
from proofs.engine.relations import eq
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import (
    CAUCHY_SCHWARZ_SUM,
    Finite,
    Induction,
    Products,
    first_norm,
    inner,
    second_norm,
)
from proofs.shift_bound.proof import CHANNEL, IDENTITY, TURN
from tappa_theory.shift_identity import (
    BOUND,
    KEY_DRIFT,
    LOGIT,
    QUERY_DRIFT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
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
    KEY_NORM_U,
    KEY_STEP,
    QUERY_NORM,
    QUERY_STEP,
    SEVERAL_STEPS,
    SHIFT,
    THEOREM,
)


def on_diagonal(expression: sp.Expr, steps: sp.Expr = s) -> sp.Expr:
    """The expression of one channel at the shift (steps, steps)."""
    return expression.subs({s: steps, u: steps}, simultaneous=True)


CHANGE = on_diagonal(SHIFT_DIFFERENCE)

UNTURN = sp.exp(-sp.I * (t - i) * theta)

# --- (B) on the diagonal -----------------------------------------------------------------------

_SEEN = {
    z: z * sp.exp(sp.I * t * theta),
    z_s: z_s * sp.exp(sp.I * (t + s) * theta),
    w: w * sp.exp(sp.I * i * theta),
    w_u: w_u * sp.exp(sp.I * (i + s) * theta),
}
"""Query and key after RoPE, both shifted by s."""

CANCELS = Derivation(
    "change of a logit along the diagonal, one channel: RoPE cancels",
    lam * sp.re((z_s * sp.conjugate(w_u)).subs(_SEEN, simultaneous=True))
    - lam * sp.re((z * sp.conjugate(w)).subs(_SEEN, simultaneous=True)),
    (
        Link(
            "=",
            on_diagonal(SHIFTED_LOGIT - LOGIT),
            r"the logits, inner products of query and key after RoPE: $(t + s) - (i + s) = t - i$",
            Identity(),
        ),
        Link(
            "=",
            CHANGE,
            "the shift identity at $(s, s)$",
            Lemma(IDENTITY, {u: s}),
        ),
    ),
)
NO_TURN = Derivation(
    "(B) with equal shifts, one channel: no turn is left",
    BOUND,
    (
        Link(
            "=",
            QUERY_DRIFT + KEY_DRIFT,
            r"$\alpha = (s - u)\theta = 0$",
            Same(s, u, Solver()),
        ),
    ),
    hypotheses=(eq(s, u),),
)


def _diagonal(title: str, steps: sp.Expr, bound: sp.Expr) -> Derivation:
    return Derivation(
        title,
        sp.Abs(on_diagonal(SHIFT_DIFFERENCE, steps)),
        (
            Link(
                "<=",
                bound,
                f"bound (B) at the shift $({sp.latex(steps)}, {sp.latex(steps)})$",
                Lemma(CHANNEL, {s: steps, u: steps}),
            ),
        ),
    )


ONE_STEP = _diagonal("a diagonal after one step, one channel", SHIFT[0], THEOREM.bound)
SEVERAL = _diagonal("a diagonal after s steps, one channel", s, SEVERAL_STEPS)


class Path(Finite):
    """Path(x, y, l): the steps of a path in the plane add up to (x, y), their lengths to l."""

    says = "the steps of a path in the plane add up to ({0}, {1}), their lengths to {2}"

    def shortest(self) -> tuple[sp.Expr, ...]:
        return (sp.Integer(0),) * 3

    def longer(self) -> tuple[sp.Expr, ...]:
        across, along, length = self.args
        first, second = sp.Dummy("x", real=True), sp.Dummy("y", real=True)
        return across + first, along + second, length + sp.sqrt(first**2 + second**2)


_across, _along = sp.symbols("x y", real=True)
_length = sp.Symbol("l", nonnegative=True)
SEVERAL_DRIFTS = Derivation(
    "the drift over several positions is at most the sum of the single drifts",
    sp.sqrt(_across**2 + _along**2),
    (Link("<=", _length, "by induction over the positions", Induction(Solver())),),
    hypotheses=(Path(_across, _along, _length),),
)

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

# --- sums over the channels --------------------------------------------------------------------


class Changes(Finite):
    """Changes(X, D_1, D_2, c): what channels change, X in all, each at most by c(d_1 + d_2).

    D_1 and D_2 sum the channels' d_1 and d_2, which are not negative; c is one number for all.
    """

    says = (
        "{0} sums the changes of the channels; no modulus of a change exceeds {3} times the sum of"
        " the channel's terms of {1} and {2}"
    )

    def shortest(self) -> tuple[sp.Expr, ...]:
        zero = sp.Integer(0)
        return zero, zero, zero, self.args[3]

    def longer(self) -> tuple[sp.Expr, ...]:
        change, first, second, factor = self.args
        d_1, d_2 = sp.Dummy("d_1", nonnegative=True), sp.Dummy("d_2", nonnegative=True)
        angle = sp.Dummy("phi", real=True)  # its cosine is any number in [-1, 1]
        this = factor * (d_1 + d_2) * sp.cos(angle)
        return change + this, first + d_1, second + d_2, factor


whole_change = sp.Symbol("X", real=True)
D_1, D_2, times = sp.symbols("D_1 D_2 c", nonnegative=True)
CHANGES_SUM = Derivation(
    "sum over channels of what two drifts change",
    sp.Abs(whole_change),
    (Link("<=", times * (D_1 + D_2), "by induction over the channels", Induction(Solver())),),
    hypotheses=(Changes(whole_change, D_1, D_2, times),),
)


def cauchy_schwarz(total: sp.Expr, first: sp.Expr, second: sp.Expr) -> Lemma:
    return Lemma(CAUCHY_SCHWARZ_SUM, {inner: total, first_norm: first, second_norm: second})


# --- the constant of a pair --------------------------------------------------------------------

PAIR = Derivation(
    r"the constant of a pair; $D_1 = \sum|\Delta z||w'|$, $D_2 = \sum|z||\Delta w|$",
    sp.Abs(whole_change),
    (
        Link(
            "<=",
            lam * (D_1 + D_2),
            "the sum over the channels, each by (B)",
            Lemma(CHANGES_SUM, {times: lam}),
        ),
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
                        cauchy_schwarz(D_1, QUERY_STEP, KEY_NORM_U),
                    ),
                    (lam, D_2, QUERY_NORM * KEY_STEP, cauchy_schwarz(D_2, QUERY_NORM, KEY_STEP)),
                )
            ),
        ),
        Link("<=", CONSTANT * EPSILON, "both steps are at most the larger one", Solver()),
    ),
    hypotheses=(
        Changes(whole_change, D_1, D_2, lam),
        Products(D_1, QUERY_STEP, KEY_NORM_U),
        Products(D_2, QUERY_NORM, KEY_STEP),
    ),
)

epsilon = sp.Symbol("epsilon", positive=True)
key_squares, query_squares = sp.symbols("P S", nonnegative=True)
"""Sums over the channels of |w'|^2 and of |z|^2."""
query_size, key_size = sp.symbols("Q K", positive=True)
"""Norms of q_t and of k_{i+1}, not 0."""
_PULLED_QUERY = chosen({z_s: z + epsilon * UNTURN * w_u / key_size})
_PULLED_KEY = chosen({w: w_u - epsilon * TURN * z / query_size})
PAIR_SHARP = Derivation(
    "a query step along the key and a key step along the query, one channel of any head",
    CHANGE,
    (
        Link(
            "=",
            lam * (epsilon * sp.Abs(w_u) ** 2 / key_size + epsilon * sp.Abs(z) ** 2 / query_size),
            "each change is a real, nonnegative part",
            AtChosen(),
        ),
    ),
    hypotheses=(*_PULLED_QUERY, *_PULLED_KEY),
)
PAIR_SHARP_STEPS = (
    Derivation(
        "the query step of that witness, one channel, squared",
        sp.Abs(z_s - z) ** 2,
        (
            Link(
                "=", epsilon**2 * sp.Abs(w_u) ** 2 / key_size**2, "a turn has modulus 1", AtChosen()
            ),
        ),
        hypotheses=_PULLED_QUERY,
    ),
    Derivation(
        "the key step of that witness, one channel, squared",
        sp.Abs(w_u - w) ** 2,
        (Link("=", epsilon**2 * sp.Abs(z) ** 2 / query_size**2, "the same", AtChosen()),),
        hypotheses=_PULLED_KEY,
    ),
)
PAIR_SHARP_SUM = Derivation(
    r"the sums over the channels, $P = \sum|w'|^2$ and $S = \sum|z|^2$",
    lam * (epsilon * key_squares / key_size + epsilon * query_squares / query_size),
    (
        Link(
            "=",
            lam * epsilon * (KEY_NORM_U + QUERY_NORM),
            "sums of squares are squared norms",
            Scaled(lam * epsilon, Solver()),
        ),
        Link("=", CONSTANT * EPSILON, r"both steps are $\varepsilon$", Solver()),
    ),
    hypotheses=(
        eq(KEY_NORM_U, key_size),
        eq(QUERY_NORM, query_size),
        eq(key_squares, key_size**2),
        eq(query_squares, query_size**2),
        eq(QUERY_STEP**2, epsilon**2 * key_squares / key_size**2),
        eq(KEY_STEP**2, epsilon**2 * query_squares / query_size**2),
    ),
    example={
        key_squares: sp.Integer(1),
        query_squares: sp.Integer(4),
        key_size: sp.Integer(1),
        query_size: sp.Integer(2),
        KEY_NORM_U: sp.Integer(1),
        QUERY_NORM: sp.Integer(2),
        QUERY_STEP: sp.Integer(3),
        KEY_STEP: sp.Integer(3),
        epsilon: sp.Integer(3),
    },
)
