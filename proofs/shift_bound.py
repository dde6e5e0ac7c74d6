"""The shift identity and bound (B), on which the theorems of the paper are repaired."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sympy as sp

from proofs.attack import Attack
from proofs.certificates import Identity, Solver
from proofs.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.lemmas import FINITE_SUM, REAL_PART, TRIANGLE_3, a, b, c
from proofs.witness import AtChosen, chosen
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import (
    ALPHA,
    BOUND,
    LOGIT,
    MODULUS_SQUARED,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    TIGHTER_BOUND,
    i,
    lam,
    psi,
    s,
    t,
    theta,
    u,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems.shift_bound import THEOREM

TURN = sp.exp(sp.I * (t - i) * theta)
STEP = sp.exp(sp.I * ALPHA)
OLD, NEW = z * sp.conjugate(w), z_s * sp.conjugate(w_u)
CHANGE = STEP * NEW - OLD

IDENTITY = Derivation(
    "shift identity, one channel",
    SHIFTED_LOGIT - LOGIT,
    (
        Link(
            "=",
            SHIFT_DIFFERENCE,
            r"$e^{\mathrm i(t+s-i-u)\theta} = e^{\mathrm i(t-i)\theta}\,e^{\mathrm i(s-u)\theta}$",
            Identity(),
        ),
    ),
)


def _changes(query_first: bool, turn_first: bool) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """CHANGE as three terms: of the query, of the key and of the turn, in one of four orders."""
    outside = STEP if turn_first else sp.Integer(1)
    turned = OLD if turn_first else NEW
    key_of_query, query_of_key = (w_u, z) if query_first else (w, z_s)
    return (
        outside * (z_s - z) * sp.conjugate(key_of_query),
        outside * query_of_key * sp.conjugate(w_u - w),
        (STEP - 1) * turned,
    )


def _bound(query_first: bool, turn_first: bool) -> sp.Expr:
    """lambda times the moduli of those terms; (B) where both are True."""
    key_of_query, query_of_key = (w_u, z) if query_first else (w, z_s)
    turned = sp.Abs(z) * sp.Abs(w) if turn_first else sp.Abs(z_s) * sp.Abs(w_u)
    return (
        lam * sp.Abs(z_s - z) * sp.Abs(key_of_query)
        + lam * sp.Abs(query_of_key) * sp.Abs(w_u - w)
        + lam * 2 * sp.Abs(sp.sin(ALPHA / 2)) * turned
    )


def _channel(title: str, bound: sp.Expr, query_first: bool, turn_first: bool) -> Derivation:
    query, key, turn = _changes(query_first, turn_first)
    return Derivation(
        title,
        sp.Abs(SHIFT_DIFFERENCE),
        (
            Link(
                "<=",
                lam * sp.Abs(CHANGE),
                "a real part is no larger than the modulus, and a turn has modulus 1",
                Scaled(lam, Lemma(REAL_PART, {a: TURN * CHANGE})),
            ),
            Link(
                "=",
                lam * sp.Abs(query + key + turn),
                "query, key and turn change one after the other",
                Identity(),
            ),
            Link(
                "<=",
                lam * (sp.Abs(query) + sp.Abs(key) + sp.Abs(turn)),
                "triangle inequality",
                Scaled(lam, Lemma(TRIANGLE_3, {a: query, b: key, c: turn})),
            ),
            Link("=", bound, r"$|e^{\mathrm i\alpha} - 1| = 2|\sin(\alpha/2)|$", Identity()),
        ),
    )


CHANNEL = _channel("bound (B), one channel", BOUND, True, True)

ORDERS = tuple(
    _channel(f"the changes in order {number}, one channel", _bound(*order), *order)
    for number, order in enumerate(((True, True), (False, True), (True, False), (False, False)), 1)
)

difference = sp.Symbol("x", complex=True)
drift, other_drift, old, new = sp.symbols("p_1 p_2 r_1 r_2", real=True)
factor = sp.Symbol("f", nonnegative=True)

BEST_OF_FOUR = Derivation(
    "what is below four sums is below the sum of the minima",
    sp.Abs(difference),
    (
        Link(
            "<=",
            sp.Min(drift, other_drift) + factor * sp.Min(old, new),
            "each minimum is one of its two values",
            Solver(),
        ),
    ),
    hypotheses=tuple(
        sp.Le(sp.Abs(difference), first + factor * second, evaluate=False)
        for first in (drift, other_drift)
        for second in (old, new)
    ),
)

_LATER = lam * sp.Abs(z_s - z) * sp.Abs(w) + lam * sp.Abs(z_s) * sp.Abs(w_u - w)
_EARLIER = lam * sp.Abs(z_s - z) * sp.Abs(w_u) + lam * sp.Abs(z) * sp.Abs(w_u - w)

TIGHTER = Derivation(
    "the tighter bound, one channel",
    sp.Abs(SHIFT_DIFFERENCE),
    (
        Link(
            "<=",
            TIGHTER_BOUND,
            "each minimum is one of its two values",
            Lemma(
                BEST_OF_FOUR,
                {
                    difference: SHIFT_DIFFERENCE,
                    drift: _EARLIER,
                    other_drift: _LATER,
                    old: sp.Abs(z) * sp.Abs(w),
                    new: sp.Abs(z_s) * sp.Abs(w_u),
                    factor: lam * 2 * sp.Abs(sp.sin(ALPHA / 2)),
                },
            ),
        ),
    ),
    facts=tuple(
        Fact(
            order.start,
            "<=",
            order.end,
            f"query, key and turn change in order {number} of four",
            Lemma(order, {}),
        )
        for number, order in enumerate(ORDERS, 1)
    ),
)

NEVER_WEAKER = Derivation(
    "the tighter bound is never above (B)",
    TIGHTER_BOUND,
    (Link("<=", BOUND, "a minimum is no larger than either value", Solver()),),
)

size_z, size_zs, size_w, size_wu = sp.symbols("a a' b b'", nonnegative=True)
angle_z, angle_zs, angle_w, angle_wu = sp.symbols("mu mu' nu nu'", real=True)
POLAR = {
    z: size_z * sp.exp(sp.I * angle_z),
    z_s: size_zs * sp.exp(sp.I * angle_zs),
    w: size_w * sp.exp(sp.I * angle_w),
    w_u: size_wu * sp.exp(sp.I * angle_wu),
    psi: angle_zs - angle_wu - angle_z + angle_w,
}

MODULUS = Derivation(
    "exact modulus of the change of one channel, in polar coordinates",
    (CHANGE * sp.conjugate(CHANGE)).subs(POLAR, simultaneous=True),
    (
        Link(
            "=",
            MODULUS_SQUARED.subs(POLAR, simultaneous=True),
            "law of cosines, and the half-angle formula",
            Identity(),
        ),
    ),
)

ALIGNED = Derivation(
    r"turned by the phase that makes it real, the change is its modulus",
    sp.re(sp.conjugate(CHANGE) * CHANGE),
    (Link("=", sp.Abs(CHANGE) ** 2, r"$\bar D D = |D|^2$", Identity()),),
)

beta, gamma = sp.symbols("beta gamma", nonnegative=True)
rho = sp.Symbol("rho", positive=True)
HALF = sp.sin(ALPHA / 2)
BISECTOR = sp.I * sp.exp(sp.I * ALPHA / 2)
"""STEP - 1 = 2 HALF BISECTOR."""

_TOWARDS = rho * HALF * sp.conjugate(TURN) * sp.conjugate(BISECTOR) * w * w_u
WITNESS = {
    w_u: w * (1 - 2 * beta * HALF * BISECTOR),
    z: _TOWARDS * sp.conjugate(w_u),
    z_s: z - 2 * gamma * HALF * sp.conjugate(BISECTOR) * _TOWARDS * sp.conjugate(w),
}
"""w_u = w (1 + beta (1 - STEP)); z is a positive multiple of conj(TURN (STEP - 1)) w, and z_s - z =
gamma (1 - 1/STEP) z conj(w) / conj(w_u)."""

PART = 2 * rho * HALF**2 * sp.Abs(w) ** 2 * sp.Abs(w_u) ** 2
"""TURN (STEP - 1) z conj(w) of the witness: all three changes are multiples of it."""
ATTAINED = lam * gamma * PART + lam * beta * PART + lam * PART


def _half(expression: sp.Expr) -> sp.Expr:
    """The real part as half of the sum with the conjugate, which sympy leaves in one piece."""
    return (expression + sp.conjugate(expression)) / 2


def _each(pairs: Sequence[tuple[sp.Expr, sp.Expr, tuple[sp.Symbol, ...]]]) -> Terms:
    return Terms(tuple((lam, left, right, AtChosen(put)) for left, right, put in pairs))


_PARTS = (gamma * PART, beta * PART, PART)
_TURNED = tuple(_half(TURN * change) for change in _changes(True, True))
_ALIKE = (_TURNED[0], beta * _TURNED[2], _TURNED[2])
_MODULI = (
    sp.Abs(z_s - z) * sp.Abs(w_u),
    sp.Abs(z) * sp.Abs(w_u - w),
    2 * sp.Abs(HALF) * sp.Abs(z) * sp.Abs(w),
)

SHARP = Derivation(
    r"the witness attains (B), one channel",
    SHIFT_DIFFERENCE,
    (
        Link(
            "=",
            sp.Add(*(lam * part for part in _TURNED)),
            "query, key and turn change one after the other; a real part is half of a sum",
            Identity(),
        ),
        Link(
            "=",
            sp.Add(*(lam * part for part in _ALIKE)),
            "the key changes as it is turned",
            _each(tuple(zip(_TURNED, _ALIKE, ((z_s,), (w_u,), (z,)), strict=True))),
        ),
        Link(
            "=",
            ATTAINED,
            "the three changes are nonnegative multiples of one number",
            _each(tuple(zip(_ALIKE, _PARTS, ((z_s, z), (z,), (z,)), strict=True))),
        ),
        Link(
            "=",
            BOUND,
            "and so are their moduli",
            _each(tuple(zip(_PARTS, _MODULI, ((z_s, z), (z, w_u), (z,)), strict=True))),
        ),
    ),
    hypotheses=chosen(WITNESS),
)

POSITIVE = Derivation(
    r"what the witness attains is not 0 unless $\alpha$ is a multiple of $2\pi$",
    sp.Integer(0),
    (Link("<", ATTAINED, "every factor is positive", Solver()),),
    hypotheses=(
        sp.Ne(HALF, 0),
        sp.Gt(sp.Abs(w), 0, evaluate=False),
        sp.Gt(sp.Abs(w_u), 0, evaluate=False),
    ),
)

KEY_GROWS = Derivation(
    "the shifted key of the witness is no shorter than the key",
    sp.Abs(w) ** 2,
    (
        Link(
            "<=",
            sp.Abs(w) ** 2 * (1 + 4 * beta * (1 + beta) * HALF**2),
            "a square is added",
            Solver(),
        ),
        Link(
            "=",
            w_u * sp.conjugate(w_u),
            r"$1 - \cos\alpha = 2\sin^2(\alpha/2)$",
            AtChosen((w_u,)),
        ),
    ),
    hypotheses=chosen(WITNESS),
)

ALONG = {
    w_u: w + beta * w,
    z: rho * sp.conjugate(TURN) * w,
    z_s: z + gamma * z,
}
"""Query and key grow along their own directions."""

GROWN = lam * (beta + gamma + beta * gamma) * rho * sp.Abs(w) ** 2

SHARP_RESONANT = Derivation(
    r"the second witness attains (B), one channel, $\alpha$ a multiple of $2\pi$",
    SHIFT_DIFFERENCE,
    (
        Link(
            "=",
            GROWN,
            "nothing turns, and the changes point along query and key",
            AtChosen(by=Solver()),
        ),
        Link("=", BOUND, "and so do their moduli", AtChosen(by=Solver())),
    ),
    hypotheses=(sp.Eq(HALF, 0, evaluate=False), *chosen(ALONG)),
)

ROUNDOFF = 2.0**-53


def _channels(x: np.ndarray, shift: tuple[int, int]) -> dict[str, np.ndarray]:
    """Two channels at one shift as values of the registry's symbols, from numbers in [-1, 1]."""
    parts = x[:16].reshape(2, 8)
    values = {
        name: parts[:, 2 * column] + 1j * parts[:, 2 * column + 1]
        for column, name in enumerate(("z", "z_s", "w", "w_u"))
    }
    values["theta"] = np.pi * np.abs(x[16:18])
    numbers = {"lambda": 0.125, "s": shift[0], "u": shift[1], "t": 5, "i": 2}
    return values | {name: np.asarray(number) for name, number in numbers.items()}


def _rotated(values: dict[str, np.ndarray], query: str, key: str, moved: bool) -> float:
    """The logit from the definition: rotate the query and the key as real pairs, then multiply."""
    places = [float(values["t"]), float(values["i"])]
    if moved:
        places = [places[0] + float(values["s"]), places[1] + float(values["u"])]
    sides = []
    for vector, place in zip((values[query], values[key]), places, strict=True):
        cos, sin = np.cos(place * values["theta"]), np.sin(place * values["theta"])
        x, y = vector.real, vector.imag
        sides.append((cos * x - sin * y, sin * x + cos * y))
    (a_x, a_y), (b_x, b_y) = sides
    return float(values["lambda"]) * float(a_x @ b_x + a_y @ b_y)


def shift_attack(bound: sp.Expr, shift: tuple[int, int], name: str, sharp: bool = True) -> Attack:
    """|a_{t+s,i+u} - a_{t,i}| over `bound` summed over two channels, from the definition."""
    cost = 64 * (1 + 8 * np.pi)  # roundings of angles up to 8 pi and of some products

    def ratio(x: np.ndarray) -> float:
        values = _channels(x, shift)
        observed = abs(_rotated(values, "z_s", "w_u", True) - _rotated(values, "z", "w", False))
        allowed = float(np.sum(evaluate(bound, values)))
        size = np.sum(np.abs(values["z_s"] * values["w_u"]) + np.abs(values["z"] * values["w"]))
        allowed += cost * ROUNDOFF * float(values["lambda"] * size)
        return float(observed / allowed) if allowed > 0 else 0.0

    zero, still, turned = np.zeros(18), np.full(18, 0.5), np.full(18, 0.5)
    still[16:] = 0.0  # theta = 0: nothing turns
    turned[16:] = 1.0  # theta = pi
    lone = np.full(18, 0.3)
    lone[8:16] = 0.0  # the second channel is silent
    no_query = np.full(18, 0.4)
    no_query[[0, 1, 8, 9]] = 0.0
    return Attack(name, 18, ratio, sharp, 1e-9, (zero, still, turned, lone, no_query))


PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="identity",
            kind="identity",
            statement=(
                "For every shift $(s, u)$ and every channel, $a_{t+s,i+u} - a_{t,i} = \\lambda\\,"
                "\\mathrm{Re}\\,e^{\\mathrm i(t-i)\\theta}(e^{\\mathrm i\\alpha} z_{t+s}"
                "\\overline{w_{i+u}} - z_t\\overline{w_i})$ with $\\alpha = (s-u)\\theta$. Summed"
                " over channels it is the change of the logit."
            ),
            derivations=(IDENTITY,),
        ),
        Claim(
            id="bound",
            kind="bound",
            statement=(
                "(B): summed over channels, the right-hand side of the theorem bounds the change"
                " of the logit, for every shift, every number of channels and all vectors."
            ),
            derivations=(CHANNEL, FINITE_SUM),
        ),
        Claim(
            id="tighter",
            kind="bound",
            statement=(
                "The three changes may be taken in four orders. The smaller drift and the smaller"
                " energy under the turn, chosen per channel, still bound the change, and never"
                " exceed (B)."
            ),
            derivations=(*ORDERS, TIGHTER, NEVER_WEAKER, FINITE_SUM),
            instances=(
                Exact(
                    "it can be strictly smaller: $z_t = 2$, $z_{t+s} = w = w' = 1$,"
                    " $\\alpha = \\pi$, where the logit changes by 3",
                    sp.Integer(3),
                    "<",
                    BOUND.subs({z: 2, z_s: 1, w: 1, w_u: 1, lam: 1, s: 1, u: 0, theta: sp.pi}),
                ),
                Exact(
                    "and there it is attained",
                    TIGHTER_BOUND.subs(
                        {z: 2, z_s: 1, w: 1, w_u: 1, lam: 1, s: 1, u: 0, theta: sp.pi}
                    ),
                    "=",
                    sp.Abs(
                        SHIFT_DIFFERENCE.subs(
                            {z: 2, z_s: 1, w: 1, w_u: 1, lam: 1, s: 1, u: 0, theta: sp.pi, t: i}
                        )
                    ),
                ),
            ),
        ),
        Claim(
            id="modulus",
            kind="identity",
            statement=(
                "What the triangle inequality estimates is known exactly: $|e^{\\mathrm i\\alpha}"
                "z'\\bar w' - z\\bar w|^2 = (|z'w'| - |zw|)^2 + 4|z'w'zw|\\sin^2((\\alpha+\\psi)"
                "/2)$, $\\psi$ the angle from $z\\bar w$ to $z'\\bar w'$; and some phase of"
                " $e^{\\mathrm i(t-i)\\theta}$ turns all of it into a change of the logit."
            ),
            derivations=(MODULUS, ALIGNED),
            conclusions=(
                Conclusion(
                    "the formula holds of all channels",
                    "polar coordinates: every complex number is a nonnegative number times a"
                    " number of modulus 1",
                ),
            ),
        ),
        Claim(
            id="sharp",
            kind="sharpness",
            statement=(
                "(B) is attained for every shift $(s,u)$, on any number of channels at once, with"
                " any drift $\\beta, \\gamma \\ge 0$ of key and query: on every channel the change"
                " is the bound itself, so that the sums agree too. With $\\alpha$ no multiple of"
                " $2\\pi$ the three terms are in the ratio $\\gamma : \\beta : 1$, whatever"
                " $\\beta$ and $\\gamma$; so none of the three coefficients can be lowered. The"
                " tighter bound lies between and is attained with it."
            ),
            derivations=(SHARP, KEY_GROWS, POSITIVE, SHARP_RESONANT, NEVER_WEAKER),
            witness=(
                "$w' = w(1 + \\beta(1 - e^{\\mathrm i\\alpha}))$, $z = r\\,\\overline{e^{\\mathrm"
                " i(t-i)\\theta}(e^{\\mathrm i\\alpha} - 1)}\\,w$ with $r > 0$, $z' - z = \\gamma"
                "(1 - e^{-\\mathrm i\\alpha})\\,z\\bar w/\\bar w'$ (with $r = \\rho|w'|^2/2$, so"
                " that nothing is divided by); where"
                " $e^{\\mathrm i\\alpha} = 1$: $z = \\rho\\,\\overline{e^{\\mathrm"
                " i(t-i)\\theta}}\\,w$, $z' = (1 + \\gamma)z$, $w' = (1 + \\beta)w$"
            ),
            ratio="1",
        ),
    ),
    readings=(
        Reading(
            "for every shift, all queries and keys, any frequencies and any number of channels",
            "holds",
            ("identity", "bound", "sharp"),
            "a triangle inequality holds for any vectors: on a head the question is whether its"
            " right-hand side is small",
        ),
    ),
    attacks=(
        shift_attack(BOUND, (1, 0), "(B), one step of the query"),
        shift_attack(BOUND, (1, 1), "(B), along the diagonal"),
        shift_attack(BOUND, (2, 5), "(B), query and key by different shifts"),
        shift_attack(TIGHTER_BOUND, (2, 5), "the tighter bound"),
    ),
    meaning=(
        "What a shifted pair can gain or lose splits into three costs that are measured on a head:"
        " how far the query drifts, how far the key drifts, and how much energy lies on channels"
        " that the shift turns. Only the last depends on RoPE, and it vanishes for equal shifts."
    ),
)
