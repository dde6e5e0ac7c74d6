"""Query drift: moments of a row's logit changes, and derivatives of their cumulants."""

from __future__ import annotations

import sympy as sp

from proofs.engine.certificates import Solver
from proofs.engine.derivation import Derivation, Fact, Lemma, Link
from proofs.engine.relations import le
from proofs.engine.sums import Cases, Differentiated, Entries, Sums, Termwise
from tappa_theory.theorems.attention_distance import OMEGA
from tappa_theory.theorems.query_drift import (
    ATTENTION,
    CHANGE,
    EXPONENTIAL_TERM,
    MEAN,
    SQUARE_TERM,
)

P = sp.IndexedBase("P", positive=True)
D = sp.IndexedBase("D", real=True)
n = sp.Symbol("n", integer=True, positive=True)
i, j, other = sp.symbols("i j l", integer=True)
low, x = sp.symbols("low x", real=True)


def over_keys(term: sp.Expr, index: sp.Symbol = i) -> sp.Sum:
    """The sum over the keys of a term of the registry, or of the entries at i."""
    if not term.has(sp.Indexed):
        term = term.subs({ATTENTION: P[i], CHANGE: D[i]}, simultaneous=True)
    return sp.Sum(term.subs(i, index), (index, 1, n))


class Changes(Entries):
    """Changes(P, D, n, mean, low, omega): weights P of sum 1, on numbers D of range omega."""

    says = (
        "positive weights {0} of sum 1 on {2} numbers {1} of mean {3}, none below {4}, none"
        " further than {5} above it"
    )

    def of(self, index: sp.Symbol) -> tuple[sp.Basic, ...]:
        _, numbers, _, _, least, spread = self.args
        return le(least, numbers[index]), le(numbers[index], least + spread)

    def totals(self) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
        weights, numbers, count, mean, *_ = self.args
        return (
            (sp.Sum(weights[i], (i, 1, count)), sp.Integer(1)),
            (sp.Sum(weights[i] * numbers[i], (i, 1, count)), mean),
        )


ROW = Changes(P, D, n, MEAN, low, OMEGA)
HIGH = low + OMEGA
VARIANCE_SUM = over_keys(SQUARE_TERM)
EXPONENTIAL_SUM = over_keys(EXPONENTIAL_TERM)
EACH = Termwise(Solver(), weight=P[i])

LOW_BELOW_MEAN = Derivation(
    "the mean is no smaller than the least change",
    low,
    (
        Link("=", over_keys(P[i] * low), "the weights sum to 1", Sums()),
        Link("<=", over_keys(P[i] * D[i]), "no change is smaller", EACH),
        Link("=", MEAN, "the mean", Sums()),
    ),
    hypotheses=(ROW,),
)

MEAN_BELOW_HIGH = Derivation(
    "the mean is no larger than the largest change",
    MEAN,
    (
        Link("=", over_keys(P[i] * D[i]), "the mean", Sums()),
        Link("<=", over_keys(P[i] * HIGH), "no change is larger", EACH),
        Link("=", HIGH, "the weights sum to 1", Sums()),
    ),
    hypotheses=(ROW,),
)

BETWEEN = tuple(
    Fact(part.start, "<=", part.end, part.title, Lemma(part, {}))
    for part in (LOW_BELOW_MEAN, MEAN_BELOW_HIGH)
)

VARIANCE_MAX = OMEGA**2 / 4

POPOVICIU_WEIGHTED = Derivation(
    "Popoviciu: the variance is no larger than a quarter of the squared oscillation",
    VARIANCE_SUM,
    (
        Link(
            "<=",
            over_keys(
                P[i] * ((D[i] - MEAN) * (low + HIGH - 2 * MEAN) + (MEAN - low) * (HIGH - MEAN))
            ),
            r"$(D - \mathrm{low})(D - \mathrm{low} - \omega) \le 0$",
            EACH,
        ),
        Link("=", (MEAN - low) * (HIGH - MEAN), "deviations from the mean sum to 0", Sums()),
        Link("<=", VARIANCE_MAX, "two numbers of sum omega", Solver()),
    ),
    hypotheses=(ROW,),
)

THIRD_MAX = OMEGA**3 / (6 * sp.sqrt(3))


def _third(sign: int) -> tuple[Derivation, Derivation, Derivation, Derivation]:
    """The third central moment, or minus it: the chord, the tangent, both, and by the variance."""
    deviation = sign * (D[i] - MEAN)
    below, above = (MEAN - low, HIGH - MEAN)[::sign]
    word = "" if sign == 1 else "minus "
    start = over_keys(P[i] * deviation**3)
    far = le(2 * below, above)
    chord = Derivation(
        f"{word}the third central moment, the largest deviation at least twice the smallest",
        start,
        (
            Link(
                "<=",
                over_keys(
                    P[i]
                    * (
                        deviation * (above**2 - above * below + below**2)
                        + below * above * (above - below)
                    )
                ),
                "below the chord of the cube between the ends",
                EACH,
            ),
            Link("=", below * above * (above - below), "deviations sum to 0", Sums()),
            Link("<=", THIRD_MAX, "largest at $(1 - 1/\\sqrt3)/2$ of omega", Solver()),
        ),
        hypotheses=(ROW, far),
        facts=BETWEEN,
    )
    tangent = Derivation(
        f"{word}the third central moment, the largest deviation at most twice the smallest",
        start,
        (
            Link(
                "<=",
                over_keys(P[i] * (sp.Rational(3, 4) * above**2 * deviation + above**3 / 4)),
                "below the line from the upper end that touches the cube",
                EACH,
            ),
            Link("=", above**3 / 4, "deviations sum to 0", Sums()),
            Link("<=", THIRD_MAX, "the largest deviation is at most 2/3 of omega", Solver()),
        ),
        hypotheses=(ROW, le(above, 2 * below)),
        facts=BETWEEN,
    )
    either = Derivation(
        f"{word}the third central moment in a range omega",
        start,
        (
            Link(
                "<=",
                THIRD_MAX,
                "in either case",
                Cases(far, Lemma(chord, {}), Lemma(tangent, {})),
            ),
        ),
        hypotheses=(ROW,),
    )
    by_variance = Derivation(
        f"{word}the third central moment is no larger than omega times the variance",
        start,
        (
            Link(
                "<=",
                over_keys(P[i] * OMEGA * (D[i] - MEAN) ** 2),
                "no deviation is larger than omega",
                EACH,
            ),
            Link("=", OMEGA * VARIANCE_SUM, "a common factor", Sums()),
        ),
        hypotheses=(ROW,),
        facts=BETWEEN,
    )
    return chord, tangent, either, by_variance


*_, THIRD_ABOVE, THIRD_BY_VARIANCE = _third(1)
*_, THIRD_BELOW, THIRD_BY_MINUS_VARIANCE = _third(-1)

# The row tilted by x: P at x = 0, the later row at x = 1.
NORMALISER = over_keys(P[j] * sp.exp(x * D[j]), j)
TILTED = P[i] * sp.exp(x * D[i]) / NORMALISER
CUMULANT = sp.log(NORMALISER)
TILTED_MEAN = over_keys(TILTED * D[i])
_DEVIATION = D[i] - over_keys(TILTED * D[i], other)
TILTED_VARIANCE = over_keys(TILTED * _DEVIATION**2)
TILTED_THIRD = over_keys(TILTED * _DEVIATION**3)

TILTED_ROW = Derivation(
    "the tilted weights sum to 1",
    over_keys(TILTED),
    (Link("=", sp.Integer(1), "each is divided by their sum", Sums()),),
)


def _derivative(title: str, of: sp.Expr, answer: sp.Expr) -> Derivation:
    """The derivative with respect to the tilt."""
    link = Link("=", answer, "rules of differentiation, term by term", Differentiated())
    return Derivation(title, sp.Derivative(of, x), (link,))


DERIVATIVES = (
    _derivative("the cumulant function's slope is the tilted mean", CUMULANT, TILTED_MEAN),
    _derivative("the tilted mean's slope is the tilted variance", TILTED_MEAN, TILTED_VARIANCE),
    _derivative(
        "the tilted variance's slope is the third central moment", TILTED_VARIANCE, TILTED_THIRD
    ),
)

REVERSE_DERIVATIVE = _derivative(
    "the slope of $x g'(x) - g(x)$", x * TILTED_MEAN - CUMULANT, x * TILTED_VARIANCE
)
