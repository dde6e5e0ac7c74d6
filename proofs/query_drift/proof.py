"""Query drift: the divergence of a step is half a variance, in the metric of the attended keys."""

from __future__ import annotations

from proofs.engine.claims import Claim, Conclusion, Proof, Reading
from proofs.lemmas.exponential import EVERY_NUMBER, TANGENT
from proofs.query_drift.attacks import ATTACKS
from proofs.query_drift.bounds import (
    CHORD,
    CONSTANT,
    CUBIC,
    EXPECTED,
    IDENTITY,
    LOWER_SIDE,
    METRIC,
    MOST,
    REVERSE_CUBIC,
    REVERSE_IDENTITY,
    REVERSE_LOWER_SIDE,
    REVERSE_UPPER_SIDE,
    REVERSED,
    SOFTMAX,
    SQUARE,
    UPPER_SIDE,
)
from proofs.query_drift.moments import (
    DERIVATIVES,
    POPOVICIU_WEIGHTED,
    REVERSE_DERIVATIVE,
    THIRD_ABOVE,
    THIRD_BELOW,
    THIRD_BY_MINUS_VARIANCE,
    THIRD_BY_VARIANCE,
    TILTED_ROW,
)
from proofs.query_drift.sharpness import (
    COSINE_INSTANCES,
    MASS_IS_ONE,
    MOST_ATTAINED,
    MOST_SUM,
    RARE,
    SMALL,
    TWO_EXPONENTIAL,
    TWO_LOGARITHM,
    TWO_VARIANCE,
)
from tappa_theory.theorems.query_drift import THEOREM

_TILT = Conclusion(
    "what is said of P holds of every tilted row, with $g'(x)$ as its mean",
    "substitution: the tilted weights are positive and sum to 1, and the changes are the same.",
)
_EXCHANGE = Conclusion(
    r"the same bound holds of $\mathrm{KL}(P_{t+1}\|P_t)$",
    "substitution: exchanging the rows turns D into -D, whose oscillation is the same.",
)
_TWO_KEYS = (*TWO_EXPONENTIAL, TWO_LOGARITHM, *TWO_VARIANCE)

PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="divergence",
            kind="identity",
            statement=(
                r"Over common keys the later row is the earlier one times $e^{D}$, normalised, D"
                r" the logit change; $\mathrm{KL}(P_t\|P_{t+1}) = \ln \sum P_i e^{D_i - \bar D}$"
                r" with $\bar D = \sum P_i D_i$. A change of the whole row by a constant is none."
                r" The other direction is $g'(1) - g(1)$ with $g(x) = \ln \sum P_i e^{x D_i}$."
            ),
            derivations=(SOFTMAX, IDENTITY, CONSTANT, REVERSE_IDENTITY, REVERSED),
        ),
        Claim(
            id="metric",
            kind="identity",
            statement=(
                r"The variance of the logit changes under the earlier row is $\lambda^2\,\Delta q^T"
                r"\,\mathrm{Cov}_{P_t}(k)\,\Delta q$: drift in the metric of the attended keys, any"
                r" number of keys and of coordinates."
            ),
            derivations=(METRIC,),
        ),
        Claim(
            id="error",
            kind="bound",
            statement=(
                r"$|\mathrm{KL}(P_t\|P_{t+1}) - \frac12\mathrm{Var}_{P_t}(D)| \le \omega^3/(36"
                r"\sqrt3)$: the third central moment of numbers in a range $\omega$ is at most"
                r" $\omega^3/(6\sqrt3)$ on either side, for any weights."
            ),
            derivations=(TILTED_ROW, *DERIVATIVES, THIRD_ABOVE, THIRD_BELOW, CUBIC),
            conclusions=(
                _TILT,
                Conclusion(
                    r"$\mathrm{KL} = g(1) - g'(0) = \frac12 g''(0) + \frac16 g'''(y)$ for"
                    " some y in (0, 1)",
                    "Taylor's theorem with Lagrange's remainder; g(0) = 0.",
                ),
            ),
        ),
        Claim(
            id="quadratic",
            kind="bound",
            statement=(r"$\mathrm{KL} \le \omega^2/8$ in both directions."),
            derivations=(TILTED_ROW, *DERIVATIVES[:2], POPOVICIU_WEIGHTED, SQUARE, REVERSED),
            conclusions=(
                _TILT,
                Conclusion(
                    r"$\mathrm{KL} = g(1) - g'(0) = \frac12 g''(y)$ for some y in (0, 1)",
                    "Taylor's theorem with Lagrange's remainder; g(0) = 0.",
                ),
                _EXCHANGE,
            ),
        ),
        Claim(
            id="largest",
            kind="bound",
            statement=(
                r"At any $\omega > 0$, in both directions, $\mathrm{KL} \le \ln A + 1/A - 1$ with"
                r" $A = (e^\omega - 1)/\omega$: never above $\omega^2/8$, as it is"
                r" attained, and close to $\omega - \ln\omega - 1$ for large $\omega$."
            ),
            derivations=(*TANGENT, CHORD, EXPECTED, MOST, REVERSED),
            conclusions=(EVERY_NUMBER, _EXCHANGE),
        ),
        Claim(
            id="relative",
            kind="bound",
            statement=(
                r"Half the variance gives the divergence up to a factor that depends on $\omega$"
                r" alone: $\mathrm{Var}\,(e^{-\omega} - 1 + \omega)/\omega^2 \le \mathrm{KL} \le"
                r" \mathrm{Var}\,(e^{\omega} - 1 - \omega)/\omega^2$ for $\omega > 0$, and"
                r" with $1 - (1 + \omega)e^{-\omega}$ and $1 - (1 - \omega)e^{\omega}$ for the"
                " other direction. So it is 0 exactly where the variance is."
            ),
            derivations=(
                *DERIVATIVES,
                REVERSE_DERIVATIVE,
                THIRD_BY_VARIANCE,
                THIRD_BY_MINUS_VARIANCE,
                *UPPER_SIDE,
                *LOWER_SIDE,
                *REVERSE_UPPER_SIDE,
                *REVERSE_LOWER_SIDE,
            ),
            conclusions=(
                _TILT,
                Conclusion(
                    r"$g''(0)e^{-\omega x} \le g''(x) \le g''(0)e^{\omega x}$",
                    "monotone functions: since $|g'''| \\le \\omega g''$, $g''(x)e^{-\\omega x}$"
                    " falls and $g''(x)e^{\\omega x}$ rises.",
                ),
                Conclusion(
                    "the divergence lies on one side of each curve at x = 1",
                    "monotone functions, twice: both start at 0, with the same slope (for $g(x) -"
                    " x g'(0)$) or none (for $x g'(x) - g(x)$, whose slope is $x g''(x)$).",
                ),
            ),
        ),
        Claim(
            id="reverse_error",
            kind="bound",
            statement=(
                r"$|\mathrm{KL}(P_{t+1}\|P_t) - \frac12\mathrm{Var}_{P_t}(D)| \le \omega^3/(18"
                r"\sqrt3)$: twice as much, as the variance is taken under the other row."
            ),
            derivations=(
                TILTED_ROW,
                *DERIVATIVES,
                REVERSE_DERIVATIVE,
                THIRD_ABOVE,
                THIRD_BELOW,
                REVERSE_CUBIC,
            ),
            conclusions=(
                _TILT,
                Conclusion(
                    r"$|g''(x) - g''(0)| \le x\,\omega^3/(6\sqrt3)$",
                    "the mean value theorem.",
                ),
                Conclusion(
                    r"$|g'(1) - g(1) - \frac12 g''(0)| \le \frac13\omega^3/(6\sqrt3)$",
                    "monotone functions: $x g'(x) - g(x) - \\frac12 x^2 g''(0)$ is 0 at 0 and its"
                    " slope $x(g''(x) - g''(0))$ is no larger than $x^2\\omega^3/(6\\sqrt3)$.",
                ),
            ),
        ),
        Claim(
            id="largest_attained",
            kind="sharpness",
            statement=(
                r"$\ln A + 1/A - 1$ is attained at every $\omega > 0$, by two keys of which one"
                r" changes by $\omega$."
            ),
            derivations=(*TANGENT, *_TWO_KEYS, *MASS_IS_ONE, MOST_SUM, MOST_ATTAINED),
            conclusions=(EVERY_NUMBER,),
            witness=r"two keys, attention $1/\omega - 1/(e^\omega - 1)$ on the one that changes",
            ratio="1",
        ),
        Claim(
            id="small_steps",
            kind="sharpness",
            statement=(
                r"1/8, $1/(36\sqrt3)$ and $1/(18\sqrt3)$ are best possible: for $\omega \le 1/4$"
                r" each bound is reached up to the factor $1 - \omega/2$."
            ),
            derivations=(*_TWO_KEYS, *SMALL),
            witness=(
                r"two keys of which one changes by $\omega$; attention 1/2 on it, or $(1 - 1/"
                r"\sqrt3)/2$, where the third central moment is largest"
            ),
            ratio="-> 1",
        ),
        Claim(
            id="rare_key",
            kind="sharpness",
            statement=(
                r"The factors between variance and divergence are best possible at every $\omega >"
                r" 0$, in both directions: with a rare key of attention p, divergence over bound is"
                r" 1 plus p times what stays bounded as $p \to 0$, or better."
            ),
            derivations=(*TANGENT, *_TWO_KEYS, *RARE),
            conclusions=(EVERY_NUMBER,),
            witness=(
                r"two keys; one of attention $p \to 0$ changes by $\omega$ (largest divergence) or"
                r" by $-\omega$ (smallest)"
            ),
            ratio="-> 1",
        ),
        Claim(
            id="cosine",
            kind="counterexample",
            statement=(
                "What the cosine of the queries misses. The same two queries, of cosine 3/5: with"
                " the key (2, 1) nothing changes, with the key (-1, 2), as long, the divergence is"
                " positive; the other key is 0. And the cosine may be -1 without any change, or 1"
                " with one (the query grows)."
            ),
            instances=COSINE_INSTANCES,
        ),
    ),
    readings=(
        Reading(
            "the divergence of a step is half the variance of the logit changes, up to an error"
            r" of third order in $\omega$",
            "holds",
            ("divergence", "metric", "error", "relative", "small_steps"),
            r"relative to the variance the error is a factor that depends on $\omega$ alone; the"
            " cosine of the queries decides nothing of the kind (claim cosine)",
        ),
    ),
    attacks=ATTACKS,
    meaning=(
        "How much a step changes the attention is half the variance of the logit changes under the"
        " attention itself: drift of the query, measured by the keys that are attended to. It can"
        " be read off a head and compared with the divergence; a cosine stands in for it only where"
        " norms and keys are alike."
    ),
)
