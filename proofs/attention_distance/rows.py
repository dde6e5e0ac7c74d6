"""Two softmax rows: what a set of keys gains, how far the rows are apart, in every case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy as sp

from proofs.engine.certificates import Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Terms
from proofs.engine.relations import eq, le, lt
from proofs.lemmas.attention import (
    ODDS,
    ROWS,
    TOTAL_VARIATION,
    Changes,
    Exponentials,
    change,
    grown,
    high,
    later,
    low,
    mass,
    moduli,
    ratio,
    rest,
    rest_high,
    rest_later,
    rest_low,
)
from tappa_theory.theorems.attention_distance import (
    APPENDED,
    DISTANCE,
    EXCESS,
    GAINED,
    LOST,
    MASS,
    MASS_LATER,
    OMEGA,
    SAME_KEYS,
)

root_gained, root_lost = sp.symbols("S R", nonnegative=True)
"""The roots of what is not gained and of what is not lost."""
y = sp.Symbol("y", positive=True)
"""e^(omega/2)."""
CLOSE = le(high, sp.exp(OMEGA) * rest_low)
ODDS_OF_ROWS = Fact(
    later * rest,
    "<=",
    sp.exp(OMEGA) * mass * rest_later,
    r"the odds grow by $e^\omega$ at most",
    Exponentials(Lemma(ODDS, {ratio: y**2}), {y: OMEGA / 2}),
)

MASS_GROWS = Derivation(
    "the mass of a set of keys, both rows over the same keys",
    later,
    (Link("<=", MASS_LATER, "odds as a share", Exponentials(Solver())),),
    hypotheses=(
        *ROWS,
        CLOSE,
        eq(mass, MASS),
        eq(mass + rest, 1),
        eq(later + rest_later, 1),
    ),
    facts=(ODDS_OF_ROWS,),
    example={
        **{symbol: sp.Rational(1, 2) for symbol in (mass, MASS, rest, later, rest_later)},
        **{symbol: sp.Integer(1) for symbol in (OMEGA, low, high, rest_low, rest_high)},
    },
)


GAIN = Derivation(
    "the gain of a set of keys from its odds",
    later - mass,
    (
        Link(
            "<=",
            (
                sp.Max(0, root_gained - root_lost / y) ** 2
                - sp.Max(0, root_gained / y - root_lost) ** 2
            )
            / (1 - y**-2),
            r"$k = \rho/r + (1 - 1/r)p$: the gain times $1 - 1/r$ is at most $\sigma + \rho/r -"
            r" (k + \sigma\rho/(rk))$, and $k$ lies between $\rho/r$ and $\rho$",
            Solver(),
        ),
    ),
    hypotheses=(
        lt(1, y),
        eq(mass + rest, root_lost**2),
        eq(later + rest_later, root_gained**2),
        le(later * rest, y**2 * mass * rest_later),
    ),
)

MASSES = (eq(mass + rest, 1 - LOST), eq(later + rest_later, 1 - GAINED))
EXAMPLE = {
    **{symbol: sp.Rational(1, 4) for symbol in (mass, rest, later, rest_later)},
    **{symbol: sp.Rational(1, 2) for symbol in (GAINED, LOST)},
    **{symbol: sp.Integer(1) for symbol in (low, high, rest_low, rest_high)},
}
_AT_ROOTS = {root_gained: sp.sqrt(1 - GAINED), root_lost: sp.sqrt(1 - LOST)}

SET_GAINS = Derivation(
    "what a set of common keys can gain",
    later - mass,
    (
        Link(
            "<=",
            EXCESS,
            "the gain from the odds",
            Exponentials(Lemma(GAIN, _AT_ROOTS), {y: OMEGA / 2}),
        ),
    ),
    hypotheses=(*ROWS, CLOSE, *MASSES),
    facts=(ODDS_OF_ROWS,),
    example={**EXAMPLE, OMEGA: sp.Integer(1)},
)

SUMS = (
    Changes(change, moduli, grown),
    eq(change, 0),
    eq(grown, GAINED + later - mass),
)
"""Changes of the masses of all keys: they sum to 0, and `grown` is what grows, the gained keys and
the set of common keys that gain."""

FARTHEST = Derivation(
    "distance of two rows",
    moduli / 2,
    (
        Link("=", GAINED + later - mass, "gained keys, and the common keys that gain", Solver()),
        Link(
            "<=",
            DISTANCE,
            "what a set of common keys can gain",
            Terms(
                (
                    (sp.Integer(1), GAINED, GAINED, Solver()),
                    (sp.Integer(1), later - mass, EXCESS, Lemma(SET_GAINS, {})),
                )
            ),
        ),
    ),
    hypotheses=(*SUMS, *ROWS, CLOSE, *MASSES),
    facts=(
        Fact(
            moduli,
            "=",
            2 * grown - change,
            "half the moduli are what grows, as the sum is 0",
            Lemma(TOTAL_VARIATION, {}),
        ),
    ),
    example={**EXAMPLE, OMEGA: sp.Integer(1), change: 0, moduli: 1, grown: sp.Rational(1, 2)},
)


SAME = Derivation(
    "nothing gained, nothing lost",
    DISTANCE.subs({GAINED: 0, LOST: 0}),
    (
        Link(
            "=",
            SAME_KEYS,
            r"$(1 - y^{-1})^2/(1 - y^{-2}) = (y - 1)/(y + 1)$, $y = e^{\omega/2}$",
            Exponentials(Solver()),
        ),
    ),
)

ONLY_APPENDED = Derivation(
    "nothing lost",
    DISTANCE.subs(LOST, 0),
    (Link("=", APPENDED, r"$e^{-\omega/2}\sqrt{1-g} \le 1$", Exponentials(Solver())),),
    hypotheses=(le(GAINED, 1),),
)

stretch = sp.Symbol("D", positive=True)
"""sqrt(sigma r / rho)."""
_LOST_ROOT = {LOST: 1 - root_lost**2}
_ROOTS = {GAINED: 1 - root_gained**2, **_LOST_ROOT}


@dataclass(frozen=True, eq=False)
class Case:
    """One of three cases of the formula. at: what is gained and lost, in the symbols of the case.

    value: of EXCESS. hypotheses and example: when the case occurs.
    """

    title: str
    at: Mapping[sp.Symbol, sp.Expr]
    value: sp.Expr
    hypotheses: tuple[sp.Rel, ...]
    example: Mapping[sp.Symbol, sp.Expr]

    def formula(self, why: str) -> Derivation:
        """EXCESS has that value."""
        return Derivation(
            f"the formula, {self.title}",
            EXCESS.subs(self.at),
            (Link("=", self.value, why, Exponentials(Solver())),),
            hypotheses=self.hypotheses,
            example=self.example,
        )


MIDDLE = Case(
    r"$1 \le D \le r$",
    {GAINED: 1 - (stretch * root_lost) ** 2 * sp.exp(-OMEGA), **_LOST_ROOT},
    root_lost**2 * (stretch - 1) ** 2 / (sp.exp(OMEGA) - 1),
    (le(1, stretch), le(stretch, sp.exp(OMEGA))),
    {stretch: sp.Rational(3, 2), root_lost: sp.Rational(1, 2), OMEGA: sp.Integer(1)},
)
SHRINKING = Case(
    r"$D \le 1$: no set of common keys gains",
    _ROOTS,
    sp.Integer(0),
    (le(root_gained * sp.exp(OMEGA / 2), root_lost),),
    {root_gained: sp.Rational(1, 4), root_lost: sp.Integer(1), OMEGA: sp.Integer(1)},
)
GROWING = Case(
    r"$D \ge r$: all common keys may gain",
    _ROOTS,
    root_gained**2 - root_lost**2,
    (le(root_lost * sp.exp(OMEGA / 2), root_gained),),
    {root_gained: sp.Integer(1), root_lost: sp.Rational(1, 4), OMEGA: sp.Integer(1)},
)
CASES = (
    MIDDLE.formula(r"only the first square is left: $\sqrt\sigma = D\sqrt\rho\,e^{-\omega/2}$"),
    SHRINKING.formula("no square is left"),
    GROWING.formula("both squares are left"),
)

less_root = sp.Symbol("T", nonnegative=True)


def _excess(gained: sp.Expr, lost: sp.Expr) -> sp.Expr:
    """EXCESS from the roots of what is not gained and of what is not lost."""
    return EXCESS.subs({GAINED: 1 - gained**2, LOST: 1 - lost**2}, simultaneous=True)


GROWTH = Derivation(
    "what is gained lowers the excess by no more than itself",
    _excess(root_gained, root_lost),
    (
        Link(
            "<=",
            root_gained**2 - less_root**2 + _excess(less_root, root_lost),
            r"each square is monotone where it is not 0",
            Exponentials(Solver()),
        ),
    ),
    hypotheses=(le(less_root, root_gained),),
)

more = sp.Symbol("h", nonnegative=True)
_MORE_GAINED = EXCESS.subs(GAINED, GAINED + more)

GROWS_WITH_GAINED = Derivation(
    "the bound grows with what is gained",
    DISTANCE,
    (
        Link(
            "<=",
            DISTANCE.subs(GAINED, GAINED + more),
            "the excess falls by no more",
            Terms(
                (
                    (sp.Integer(1), GAINED, GAINED, Solver()),
                    (
                        sp.Integer(1),
                        EXCESS,
                        more + _MORE_GAINED,
                        Lemma(
                            GROWTH,
                            {
                                root_gained: sp.sqrt(1 - GAINED),
                                less_root: sp.sqrt(1 - GAINED - more),
                                root_lost: sp.sqrt(1 - LOST),
                            },
                        ),
                    ),
                )
            ),
        ),
    ),
    hypotheses=(le(GAINED + more, 1), le(LOST, 1)),
)


def _grows(expression: sp.Expr, symbol: sp.Symbol, title: str, *within: sp.Rel) -> Derivation:
    """The expression grows with the symbol."""
    claim = "each part is monotone in it"
    link = Link("<=", expression.subs(symbol, symbol + more), claim, Exponentials(Solver()))
    return Derivation(title, expression, (link,), hypotheses=within)


GROWS_WITH_LOST = _grows(
    DISTANCE, LOST, "the bound grows with what is lost", le(GAINED, 1), le(LOST + more, 1)
)
GROWS_WITH_OMEGA = _grows(
    DISTANCE, OMEGA, "the bound grows with the oscillation", le(GAINED, 1), le(LOST, 1)
)
MASS_GROWS_WITH_MASS = _grows(MASS_LATER, MASS, "the later mass grows with the earlier one")
MASS_GROWS_WITH_OMEGA = _grows(
    MASS_LATER, OMEGA, "the later mass grows with the oscillation", le(MASS, 1)
)
