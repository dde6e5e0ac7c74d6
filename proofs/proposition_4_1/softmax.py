"""Proposition 4.1 as softmax sees it: differences of logits only, the keys less their mean."""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Solver
from proofs.engine.claims import Claim, Conclusion, Exact
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled
from proofs.engine.sums import Sums
from proofs.engine.witness import AtChosen, chosen
from proofs.lemmas.finite import (
    CAUCHY_SCHWARZ,
    CENTRED,
    EQUAL_SUM,
    LOW_BELOW_TOP,
    POPOVICIU,
    SQUARES_ABOUT,
    About,
    InnerProduct,
    Spread,
    about,
    count,
    first_norm,
    inner,
    low,
    middle,
    numbers,
    second_norm,
    squares,
    top,
    total,
)
from proofs.proposition_4_1.two_sided import CHANNEL_CHANGE, delta, g, kappa
from tappa_theory.shift_identity import lam
from tappa_theory.theorems.proposition_4_1 import (
    DIAMETER,
    KEYS,
    LOWER,
    OSCILLATION_LOWER,
    OSCILLATION_UPPER,
    SIGMA,
    SIGMA_CENTRED,
    STEP,
)

CENTRED_SQUARES = Derivation(
    "n times the sum of squares about the mean",
    numbers * about,
    (Link("=", CENTRED, "the mean is the sum over n", Solver()),),
    hypotheses=(
        About(numbers, total, squares, about, middle),
        sp.Eq(numbers * middle, total, evaluate=False),
    ),
    facts=(
        Fact(
            about,
            "=",
            squares - 2 * middle * total + numbers * middle**2,
            "the square is multiplied out",
            Lemma(SQUARES_ABOUT, {count: numbers}),
        ),
    ),
)

OSCILLATION_BELOW = Derivation(
    "lower side of the oscillation",
    OSCILLATION_LOWER,
    (
        Link(
            "<=",
            lam * (top - low),
            "the variance of the products is at most a quarter of their squared range",
            Scaled(lam / sp.sqrt(KEYS), Solver()),
        ),
    ),
    hypotheses=(
        Spread(KEYS, total, squares, top, low),
        About(KEYS, total, squares, about, middle),
        sp.Eq(KEYS * middle, total, evaluate=False),
        sp.Le((SIGMA_CENTRED * STEP) ** 2, about, evaluate=False),
    ),
    facts=(
        Fact(
            KEYS * about,
            "=",
            CENTRED.subs(numbers, KEYS),
            CENTRED_SQUARES.title,
            Lemma(CENTRED_SQUARES, {numbers: KEYS}),
        ),
        Fact(
            CENTRED.subs(numbers, KEYS),
            "<=",
            KEYS**2 * (top - low) ** 2 / 4,
            POPOVICIU.title,
            Lemma(POPOVICIU, {numbers: KEYS}),
        ),
        Fact(low, "<=", top, LOW_BELOW_TOP.title, Lemma(LOW_BELOW_TOP, {numbers: KEYS})),
    ),
)

distance = sp.Symbol("D", nonnegative=True)
OSCILLATION_ABOVE = Derivation(
    "upper side of the oscillation, one pair of keys",
    lam * sp.Abs(g),
    (
        Link(
            "<=",
            lam * distance * STEP,
            "Cauchy-Schwarz with the difference of the two keys",
            Scaled(lam, Lemma(CAUCHY_SCHWARZ, {inner: g, first_norm: distance, second_norm: STEP})),
        ),
        Link("<=", OSCILLATION_UPPER, "no two keys are farther apart", Scaled(lam, Solver())),
    ),
    hypotheses=(
        InnerProduct(g, distance, STEP),
        sp.Le(distance, DIAMETER, evaluate=False),
    ),
)

OPPOSITE_KEYS = Derivation(
    r"n keys, half of them $\kappa e$ and half $-\kappa e$, the step along $e$: both sides agree",
    OSCILLATION_LOWER,
    (
        Link(
            "=",
            2 * lam * kappa * delta,
            r"the mean is 0 and the singular value $\sqrt n\,\kappa$",
            AtChosen((SIGMA_CENTRED, STEP)),
        ),
        Link("=", OSCILLATION_UPPER, r"the diameter is $2\kappa$", AtChosen((DIAMETER, STEP))),
    ),
    hypotheses=chosen({SIGMA_CENTRED: sp.sqrt(KEYS) * kappa, STEP: delta, DIAMETER: 2 * kappa}),
)

along = sp.Symbol("x", real=True)
OPPOSITE_STRETCH = Derivation(
    r"these keys have mean 0 and the singular value $\sqrt n\,\kappa$: on $v = xe$",
    KEYS / 2 * (kappa * along) ** 2 + KEYS / 2 * (-kappa * along) ** 2,
    (Link("=", (SIGMA_CENTRED * along) ** 2, "n equal squares", AtChosen()),),
    hypotheses=chosen({SIGMA_CENTRED: sp.sqrt(KEYS) * kappa}),
)

logit = sp.IndexedBase("a", real=True)
i, j = sp.symbols("i j", integer=True)
common = sp.Symbol("c", real=True)
length = sp.Symbol("n", integer=True, positive=True)
COMMON_CHANGE = Derivation(
    "the same change of all logits of a row leaves the attention as it is",
    sp.exp(logit[i] + common) / sp.Sum(sp.exp(logit[j] + common), (j, 1, length)),
    (
        Link(
            "=",
            sp.exp(logit[i]) / sp.Sum(sp.exp(logit[j]), (j, 1, length)),
            "$e^c$ cancels",
            Sums(),
        ),
    ),
)

DIFFERENCES = Conclusion(
    r"the products $x_i = \langle k_i, \Delta\tilde q\rangle$ have the differences $x_i - x_j ="
    r" \langle k_i - k_j, \Pi_c\Delta\tilde q\rangle$, and $x_i$ less their mean is"
    r" $\langle k_i - \bar k, \Pi_c\Delta\tilde q\rangle$, $\bar k$ the mean key",
    r"orthogonal projection: $\Delta\tilde q - \Pi_c\Delta\tilde q$ is orthogonal to every"
    r" $k_i - \bar k$, and so to every $k_i - k_j$; the mean of the products is the product with"
    " the mean",
)
SINGULAR_CENTRED = Conclusion(
    r"$(\sigma_c^+\|\Pi_c\Delta\tilde q\|)^2 \le \sum_i(x_i - \bar x)^2$",
    "singular value decomposition: the smallest nonzero singular value is the smallest stretch on"
    " the row space of the keys less their mean. If all keys are equal, there is none,"
    r" $\sigma_c^+$ counts as 0, and both sides are 0",
)

_SEEN = sp.Matrix([[1, 0], [0, 1]]), sp.Matrix([100, 0]), sp.Matrix([100, 0])
"""Keys, query, and step: far along the first key."""
_SHIFTED = sp.Matrix([[0, 1], [10, 1]]), sp.Matrix([1, 0]), sp.Matrix([0, 1])
"""Keys with the same product with the step, and a query that tells them apart."""


def _capped(keys: sp.Matrix, query: sp.Matrix, step: sp.Matrix) -> list[sp.Expr]:
    """The changes of the logits tanh(<k, q>) that the step makes."""
    return list((keys * (query + step)).applyfunc(sp.tanh) - (keys * query).applyfunc(sp.tanh))


def _apart(keys: sp.Matrix, step: sp.Matrix) -> dict[sp.Symbol, sp.Expr]:
    """Diameter of two keys, and length of the step along their difference."""
    difference = (keys.row(1) - keys.row(0)).T
    return {
        DIAMETER: difference.norm(),
        STEP: sp.Abs(difference.dot(step)) / difference.norm(),
    }


CLAIMS = (
    Claim(
        id="softmax",
        kind="bound",
        statement=(
            r"What softmax sees: the oscillation $\omega = \max_i\Delta a_i - \min_i\Delta a_i$"
            r" lies between $(2\lambda\sigma^+_c/\sqrt n)\,\|\Pi_c\Delta\tilde q\|$ and"
            r" $\lambda\,\mathrm{diam}(\tilde K)\,\|\Pi_c\Delta\tilde q\|$; $\Pi_c$ projects on the"
            r" span of the keys less their mean, $\sigma_c^+$ is the smallest nonzero singular"
            r" value of these, 0 if all keys are equal, and the diameter the largest distance of"
            r" two keys, D the one of some pair. With $\omega = 0$ the attention over these keys"
            r" does not change. In the derivations the numbers from low to top are"
            r" $x_i = \langle k_i, \Delta\tilde q\rangle$, so that"
            r" $\omega = \lambda(\mathrm{top} - \mathrm{low})$, and"
            r" step is $\|\Pi_c\Delta\tilde q\|$."
        ),
        derivations=(
            CHANNEL_CHANGE,
            EQUAL_SUM,
            SQUARES_ABOUT,
            CENTRED_SQUARES,
            POPOVICIU,
            OSCILLATION_BELOW,
            OSCILLATION_ABOVE,
            COMMON_CHANGE,
        ),
        conclusions=(DIFFERENCES, SINGULAR_CENTRED),
    ),
    Claim(
        id="softmax_sharp",
        kind="sharpness",
        statement=(
            "Both sides of the oscillation are attained, for every even number of keys: they agree"
            " there, so that by softmax both are the oscillation."
        ),
        derivations=(OPPOSITE_KEYS, OPPOSITE_STRETCH),
        witness=r"half of the keys $\kappa e$, half $-\kappa e$, the step $\delta e$",
        ratio="1",
    ),
    Claim(
        id="soft_cap_excepted",
        kind="counterexample",
        statement=(
            "Soft-capped logits keep the upper side of two_sided (soft_cap of shift_bound), and"
            " neither the lower sides nor the oscillation's upper side: a cap flattens large logits"
            " and tells apart logits that change alike. Of the capped oscillation what is left is"
            r" twice the upper side of two_sided."
        ),
        instances=(
            Exact(
                r"cap 1, two orthogonal unit keys, $\tilde q = \Delta\tilde q = (100, 0)$: the"
                " largest change is below the lower side",
                sp.Max(*map(sp.Abs, _capped(*_SEEN))),
                "<",
                LOWER.subs({lam: 1, SIGMA: 1, KEYS: 2, STEP: _SEEN[2].norm()}),
            ),
            Exact(
                r"keys $(0, 1)$ and $(10, 1)$, $\tilde q = (1, 0)$, $\Delta\tilde q = (0, 1)$: the"
                " logits change alike and the capped ones do not",
                OSCILLATION_UPPER.subs({lam: 1, **_apart(_SHIFTED[0], _SHIFTED[2])}),
                "<",
                sp.Abs(_capped(*_SHIFTED)[0] - _capped(*_SHIFTED)[1]),
            ),
        ),
        witness="logits far from 0, and logits at different distances from it",
    ),
)
