"""The shift identity and bound (B), on which the theorems of the paper are repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import sympy as sp

from proofs.engine.arcs import Same
from proofs.engine.attack import Attack
from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled, Terms
from proofs.engine.instances import exact, floats, spelled
from proofs.engine.relations import eq, le
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import EQUAL_SUM, FINITE_SUM, REAL_PART, TRIANGLE_3, a, b, c
from proofs.lemmas.soft_cap import SOFT_CAP
from tappa_theory.separable import evaluate, separate
from tappa_theory.shift_identity import (
    ALPHA,
    BOUND,
    KEY_FIRST,
    LOGIT,
    MODULUS_SQUARED,
    QUERY_FIRST,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    TIGHTER_BOUND,
    i,
    lam,
    psi,
    t,
    theta,
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


@dataclass(frozen=True)
class Order:
    """Query, key and turn change one after the other, in the order of `names`.

    What changes later still has its old value when an earlier one changes.
    """

    names: tuple[str, ...]

    def before(self, first: str, second: str) -> bool:
        return self.names.index(first) < self.names.index(second)

    @property
    def changes(self) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
        """CHANGE as three terms: of the query, of the key and of the turn."""
        at_query = STEP if self.before("turn", "query") else sp.Integer(1)
        at_key = STEP if self.before("turn", "key") else sp.Integer(1)
        key_then = w_u if self.before("key", "query") else w
        query_then = z_s if self.before("query", "key") else z
        return (
            at_query * (z_s - z) * sp.conjugate(key_then),
            at_key * query_then * sp.conjugate(w_u - w),
            (STEP - 1) * self.turned_query * sp.conjugate(self.turned_key),
        )

    @property
    def turned_query(self) -> sp.Expr:
        return z_s if self.before("query", "turn") else z

    @property
    def turned_key(self) -> sp.Expr:
        return w_u if self.before("key", "turn") else w

    @property
    def energy(self) -> sp.Expr:
        """|query||key| at the moment of the turn."""
        return sp.Abs(self.turned_query) * sp.Abs(self.turned_key)

    @property
    def drifts(self) -> sp.Expr:
        return KEY_FIRST if self.before("key", "query") else QUERY_FIRST

    @property
    def bound(self) -> sp.Expr:
        """lambda times the moduli of the changes."""
        return self.drifts + lam * 2 * sp.Abs(sp.sin(ALPHA / 2)) * self.energy


TURN_FIRST = Order(("turn", "key", "query"))
"""The order of (B)."""
ORDERS = tuple(map(Order, permutations(("turn", "key", "query"))))


def _channel(title: str, bound: sp.Expr, order: Order) -> Derivation:
    query, key, turn = order.changes
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
                f"{', '.join(order.names)} change one after the other",
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


CHANNEL = _channel("bound (B), one channel", BOUND, TURN_FIRST)

OTHER_ORDERS = tuple(
    _channel(f"{', then '.join(order.names)}: one channel", order.bound, order)
    for order in ORDERS
    if order != TURN_FIRST
)

difference = sp.Symbol("x", complex=True)
drift, other_drift = sp.symbols("p_1 p_2", real=True)
energies = sp.symbols("r_1:4", real=True)
factor = sp.Symbol("h", nonnegative=True)

LEAST_ENERGY = Derivation(
    "what is below three sums is below the sum with the least of three",
    sp.Abs(difference),
    (
        Link(
            "<=",
            drift + factor * sp.Min(*energies),
            "a minimum is one of its values",
            Solver(),
        ),
    ),
    hypotheses=tuple(le(sp.Abs(difference), drift + factor * energy) for energy in energies),
)

BETTER_DRIFT = Derivation(
    "what is below two numbers is below the smaller one",
    sp.Abs(difference),
    (Link("<=", sp.Min(drift, other_drift), "a minimum is one of its values", Solver()),),
    hypotheses=(le(sp.Abs(difference), drift), le(sp.Abs(difference), other_drift)),
)

_COST = lam * 2 * sp.Abs(sp.sin(ALPHA / 2))


def _energies(drifts: sp.Expr) -> dict[sp.Symbol, sp.Expr]:
    """The energies that the turn may act on in the orders with these drifts, (B)'s first."""
    found = [order.energy for order in (TURN_FIRST, *ORDERS) if order.drifts == drifts]
    return dict(zip(energies, dict.fromkeys(found), strict=True))


def _least(drifts: sp.Expr, words: str) -> Fact:
    """The change is below these drifts plus the turn of the least energy."""
    at = _energies(drifts)
    return Fact(
        sp.Abs(SHIFT_DIFFERENCE),
        "<=",
        drifts + _COST * sp.Min(*at.values()),
        f"{words}, the turn where it costs least",
        Lemma(LEAST_ENERGY, {difference: SHIFT_DIFFERENCE, drift: drifts, factor: _COST, **at}),
    )


_LEAST = (
    _least(KEY_FIRST, "key before query"),
    _least(QUERY_FIRST, "query before key"),
)

TIGHTER = Derivation(
    "the tighter bound, one channel",
    sp.Abs(SHIFT_DIFFERENCE),
    (
        Link(
            "<=",
            TIGHTER_BOUND,
            "the better of both",
            Lemma(
                BETTER_DRIFT,
                {
                    difference: SHIFT_DIFFERENCE,
                    drift: _LEAST[0].right,
                    other_drift: _LEAST[1].right,
                },
            ),
        ),
    ),
    facts=(
        *(
            Fact(order.start, "<=", order.end, order.title, Lemma(order, {}))
            for order in (CHANNEL, *OTHER_ORDERS)
        ),
        *_LEAST,
    ),
)

FIRST_OF_TWO = Derivation(
    "a minimum is no larger than its first value",
    sp.Min(drift, other_drift),
    (Link("<=", drift, "one of the values", Solver()),),
)

FIRST_OF_THREE = Derivation(
    "a minimum of three is no larger than its first value",
    drift + factor * sp.Min(*energies),
    (Link("<=", drift + factor * energies[0], "one of the values", Solver()),),
)

NEVER_WEAKER = Derivation(
    "the tighter bound is never above (B)",
    TIGHTER_BOUND,
    (
        Link(
            "<=",
            _LEAST[0].right,
            "a minimum is no larger than either value",
            Lemma(FIRST_OF_TWO, {drift: _LEAST[0].right, other_drift: _LEAST[1].right}),
        ),
        Link(
            "<=",
            BOUND,
            "and no larger than any of three",
            Lemma(FIRST_OF_THREE, {drift: KEY_FIRST, factor: _COST, **_energies(KEY_FIRST)}),
        ),
    ),
)

_FEATURES = separate(BOUND)
SEPARATED = Derivation(
    "(B) as a sum of query feature times key feature, one channel",
    BOUND,
    (
        Link(
            "=",
            sp.Add(*(q * k for q, k in zip(_FEATURES.query, _FEATURES.key, strict=True))),
            "what belongs to the query is factored out",
            Identity(),
        ),
    ),
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

change, turn = sp.symbols("c v", complex=True)
"""The change of one channel as it enters the logit, and a common turn of z and z'."""
_CANCELS = (
    sp.Gt(sp.Abs(change), 0, evaluate=False),
    eq(sp.re(turn) * sp.Abs(change), sp.re(change)),
    eq(sp.im(turn) * sp.Abs(change), -sp.im(change)),
)
"""turn = conj(change) / |change|, without a quotient."""

ALIGNED = Derivation(
    r"query and shifted query turned by $v = \bar c/|c|$: the logit changes by $\lambda|c|$",
    SHIFT_DIFFERENCE.subs({z: turn * z, z_s: turn * z_s}, simultaneous=True),
    (
        Link("=", lam * sp.re(turn * change), "the turn is common to both", AtChosen((change,))),
        Link("=", lam * sp.Abs(change), r"$\bar c c = |c|^2$", Scaled(lam, Solver())),
        Link(
            "=",
            lam * sp.Abs(CHANGE),
            r"$e^{\mathrm i(t-i)\theta}$ has modulus 1",
            AtChosen((change,)),
        ),
    ),
    hypotheses=(*chosen({change: TURN * CHANGE}), *_CANCELS[1:]),
)

UNIT_TURN = Derivation(
    "and it is a turn",
    sp.Abs(turn),
    (Link("=", sp.Integer(1), r"$|\bar c| = |c|$", Solver()),),
    hypotheses=_CANCELS,
)

_AFTER = CHANGE.subs({z: turn * z, z_s: turn * z_s}, simultaneous=True)
TURNED_ALIKE = Derivation(
    "a common turn of query and shifted query leaves the modulus as it is",
    sp.Abs(_AFTER),
    (
        Link("=", sp.Abs(turn) * sp.Abs(CHANGE), "it is a common factor", Identity()),
        Link("=", sp.Abs(CHANGE), "of modulus 1", Same(sp.Abs(turn), sp.Integer(1), Solver())),
    ),
    hypotheses=(eq(sp.Abs(turn), 1),),
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
_TURNED = tuple(_half(TURN * change) for change in TURN_FIRST.changes)
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
            AtChosen(),
        ),
    ),
    hypotheses=chosen({w_u: WITNESS[w_u]}),
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


_CROSSED = {"z": 10, "z_s": 1, "w": 1, "w_u": 10, "lambda": 1, "s": 1, "u": 0, "theta": sp.pi}
_CROSSED |= {"t": 1, "i": 0}
"""The query becomes short and the key long."""
_CROSSED_FLOATS = {name: float(value) for name, value in _CROSSED.items()}
_STILL = {"z": 1, "z_s": sp.I, "w": 1, "w_u": 1, "lambda": 1, "s": 1, "u": 0, "theta": 0}
_STILL |= {"t": 1, "i": 0}
_TURN_AT_AN_END = sp.Min(*(order.bound for order in ORDERS if order.names[1] != "turn"))

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
            derivations=(IDENTITY, EQUAL_SUM),
        ),
        Claim(
            id="bound",
            kind="bound",
            statement=(
                "(B): summed over channels, the right-hand side of the theorem bounds the change"
                " of the logit, for every shift, every number of channels and all vectors;"
                " $\\lambda$ may differ from channel to channel."
            ),
            derivations=(IDENTITY, CHANNEL, FINITE_SUM),
        ),
        Claim(
            id="features",
            kind="identity",
            statement=(
                "(B) is a sum of two products of a feature of the query with one of the key, on"
                " every channel: for all pairs at once it costs one matrix product."
            ),
            derivations=(SEPARATED,),
        ),
        Claim(
            id="tighter",
            kind="bound",
            statement=(
                "Query, key and turn may change in six orders. The order that costs least, chosen"
                " per channel, still bounds the change, and never exceeds (B): the better of"
                " both sums of drifts with the least $|z||w|$ that the turn may act on, $|zw|$"
                " before the drifts, $|z'w'|$ after them, $|zw'|$ or $|z'w|$ between them."
            ),
            derivations=(*OTHER_ORDERS, TIGHTER, NEVER_WEAKER, FINITE_SUM),
            instances=(
                Exact(
                    "$z_t = 10$, $z_{t+s} = 1$, $w_i = 1$, $w_{i+u} = 10$, $\\alpha = \\pi$: the"
                    " turn between the drifts costs less than the turn first or last, and less"
                    " than (B)",
                    spelled(TIGHTER_BOUND, **_CROSSED),
                    "<",
                    spelled(_TURN_AT_AN_END, **_CROSSED),
                    lambda: (
                        floats(_TURN_AT_AN_END, **_CROSSED_FLOATS),
                        floats(TIGHTER_BOUND, **_CROSSED_FLOATS),
                    ),
                ),
                Exact(
                    "and there the tighter bound is attained",
                    spelled(TIGHTER_BOUND, **_CROSSED),
                    "=",
                    spelled(sp.Abs(SHIFTED_LOGIT - LOGIT), **_CROSSED),
                ),
                Exact(
                    "where (B) is ten times the change",
                    spelled(BOUND, **_CROSSED),
                    "=",
                    10 * spelled(sp.Abs(SHIFTED_LOGIT - LOGIT), **_CROSSED),
                ),
            ),
        ),
        Claim(
            id="modulus",
            kind="identity",
            statement=(
                "What the triangle inequality estimates is known exactly: $|e^{\\mathrm i\\alpha}"
                "z'\\bar w' - z\\bar w|^2 = (|z'w'| - |zw|)^2 + 4|z'w'zw|\\sin^2((\\alpha+\\psi)"
                "/2)$, $\\psi$ the angle from $z\\bar w$ to $z'\\bar w'$. Turning $z$ and $z'$ by"
                " one common phase leaves it as it is and, where it is not 0, can turn all of it"
                " into a change of the logit. The phase $e^{\\mathrm i(t-i)\\theta}$ alone need not"
                " do that: at $\\theta = 0$ it is 1 for every distance."
            ),
            derivations=(MODULUS, TURNED_ALIKE, UNIT_TURN, ALIGNED),
            instances=(
                Exact(
                    "$\\theta = 0$, $z_t = w_i = w_{i+u} = 1$, $z_{t+s} = \\mathrm i$: the logit"
                    " changes by less than the modulus",
                    exact(sp.Abs(SHIFTED_LOGIT - LOGIT), **_STILL),
                    "<",
                    exact(sp.Abs(CHANGE), **_STILL),
                ),
            ),
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
                "(B) is attained for every shift $(s,u)$, on any number of channels at once: with"
                " any drift $\\beta, \\gamma \\ge 0$ of key and query, where $\\gamma = 0$ for $s ="
                " 0$ and $\\beta = 0$ for $u = 0$, since a query or key that is not shifted does"
                " not drift. On every channel the change is the bound itself, so that the sums"
                " agree too. With $\\alpha$ no multiple of $2\\pi$ the three terms are in the"
                " ratio $\\gamma : \\beta : 1$, so that no coefficient of a term that the shift"
                " leaves in (B) can be lowered. The tighter bound lies between and is attained"
                " with it."
            ),
            derivations=(SHARP, KEY_GROWS, POSITIVE, SHARP_RESONANT, NEVER_WEAKER, EQUAL_SUM),
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
        Claim(
            id="soft_cap",
            kind="bound",
            statement=(
                "(B), and every upper bound of the modulus of a logit change, holds of soft-capped"
                " logits $C\\,\\mathrm{tanh}(a/C)$ too: the cap makes no two logits differ more."
                " Lower bounds of a change, and bounds of the difference between the changes of"
                " two logits, do not carry over: the cap is steeper near 0."
            ),
            derivations=(SOFT_CAP,),
            conclusions=(
                Conclusion(
                    "the modulus of the difference is the same in either order",
                    "symmetry: $y$ is the smaller of the two logits over $C$, $y + d$ the larger",
                ),
            ),
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
