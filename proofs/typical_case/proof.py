"""Typical case: means of squared logit changes, by sums over steps, keys and coordinates."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim, Proof, Reading
from proofs.engine.derivation import Derivation, Link
from proofs.engine.relations import le
from proofs.engine.sums import Entries, Sums, Termwise
from proofs.query_drift.moments import POPOVICIU_WEIGHTED, ROW, VARIANCE_SUM, D, P, i, n, over_keys
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import lam
from tappa_theory.theorems.query_drift import KEY_A, KEY_B, MEAN, STEP_A, STEP_B
from tappa_theory.theorems.typical_case import (
    EXCEEDING,
    KEY_MOMENT,
    KEY_TERM,
    MASKED_TERM,
    MEAN_SQUARE,
    QUERY_MOMENT,
    QUERY_TERM,
    RECTANGLE_TERM,
    ROW_SQUARE,
    ROW_TERM,
    THEOREM,
    THRESHOLD,
    VISIBLE,
)

step = sp.IndexedBase("dq", real=True)
key = sp.IndexedBase("k", real=True)
mask = sp.IndexedBase("m", nonnegative=True)
visible = sp.IndexedBase("N", positive=True)
steps, size = sp.symbols("T d", integer=True, positive=True)
t, a, b, j = sp.symbols("t a b j", integer=True)

CHANGE = lam * sp.Sum(step[t, a] * key[i, a], (a, 1, size))
"""Logit change of step t and key i."""
_AT = {STEP_A: step[t, a], STEP_B: step[t, b], KEY_A: key[i, a], KEY_B: key[i, b]}
_COORDINATES = ((a, 1, size), (b, 1, size))


def _over(term: sp.Expr, *limits: tuple[sp.Symbol, int, sp.Symbol]) -> sp.Sum:
    return sp.Sum(term, *limits)


RECTANGLE = Derivation(
    "every step sees every key",
    _over(CHANGE**2, (i, 1, n), (t, 1, steps)) / (steps * n),
    (
        Link(
            "=",
            _over(
                RECTANGLE_TERM.subs(
                    {
                        QUERY_MOMENT: _over(QUERY_TERM.subs(_AT), (t, 1, steps)) / steps,
                        KEY_MOMENT: _over(KEY_TERM.subs(_AT), (i, 1, n)) / n,
                    },
                    simultaneous=True,
                ),
                *_COORDINATES,
            ),
            "a square of a sum is a double sum, and the sums over steps and keys come apart",
            Sums(),
        ),
    ),
)

_ROW_SQUARE = _over(
    ROW_TERM.subs(
        {
            STEP_A: step[t, a],
            STEP_B: step[t, b],
            KEY_MOMENT: _over(mask[t, i] * KEY_TERM.subs(_AT), (i, 1, n)) / visible[t],
        },
        simultaneous=True,
    ),
    *_COORDINATES,
)

MASKED = Derivation(
    "each step sees some of the keys",
    _over(mask[t, i] * CHANGE**2, (i, 1, n), (t, 1, steps)) / _over(visible[t], (t, 1, steps)),
    (
        Link(
            "=",
            _over(
                MASKED_TERM.subs({VISIBLE: visible[t], ROW_SQUARE: _ROW_SQUARE}, simultaneous=True),
                (t, 1, steps),
            )
            / _over(visible[t], (t, 1, steps)),
            "row by row",
            Sums(),
        ),
    ),
)

_MEANS = tuple(over_keys(P[j] * key[j, part], j) for part in (a, b))
_COVARIANCE = over_keys(P[i] * (key[i, a] - _MEANS[0]) * (key[i, b] - _MEANS[1]))
_MEAN_CHANGE = over_keys(P[j] * CHANGE.subs(i, j), j)

ROW_VARIANCE = Derivation(
    "the variance of a row's logit changes, any weights on the keys",
    over_keys(P[i] * (CHANGE - _MEAN_CHANGE) ** 2),
    (
        Link(
            "=",
            _over(
                ROW_TERM.subs(
                    {STEP_A: step[t, a], STEP_B: step[t, b], KEY_MOMENT: _COVARIANCE},
                    simultaneous=True,
                ),
                *_COORDINATES,
            ),
            "a square of a sum is a double sum",
            Sums(),
        ),
    ),
)

constant = sp.Symbol("c", real=True)

CONSTANT = Derivation(
    "a constant over the row leaves the variance alone",
    over_keys(P[i] * (D[i] + constant - over_keys(P[j] * (D[j] + constant), j)) ** 2),
    (Link("=", VARIANCE_SUM, "it cancels, since the weights sum to 1", Sums()),),
    hypotheses=(ROW,),
)

APART = Derivation(
    "mean square, variance and mean of a row",
    over_keys(P[i] * D[i] ** 2),
    (Link("=", VARIANCE_SUM + MEAN**2, "deviations sum to 0", Sums()),),
    hypotheses=(ROW,),
)

large = sp.IndexedBase("s", nonnegative=True)


class Large(Entries):
    """Large(s, D, P, n, x, v): s_i is 1 where |D_i| >= x and 0 elsewhere; v is the mean of D^2."""

    says = (
        "{0} is 1 where |{1}| is {4} or more, 0 elsewhere; {2} are the shares of the {3} pairs,"
        " {5} is the mean of the squares of {1}"
    )

    def of(self, index: sp.Symbol) -> tuple[sp.Basic, ...]:
        where, numbers, _, _, threshold, _ = self.args
        # in either case
        return (le(where[index] * threshold**2, numbers[index] ** 2),)

    def totals(self) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
        _, numbers, weights, count, _, mean = self.args
        return ((sp.Sum(weights[i] * numbers[i] ** 2, (i, 1, count)), mean),)


MARKOV = Derivation(
    "the share of the pairs that change by x or more",
    over_keys(P[i] * large[i]),
    (
        Link(
            "<=",
            over_keys(P[i] * D[i] ** 2 / THRESHOLD**2),
            r"such a pair has $D^2/x^2 \ge 1$",
            Termwise(Solver(), weight=P[i]),
        ),
        Link("=", EXCEEDING, "the mean of the squares", Sums()),
    ),
    hypotheses=(Large(large, D, P, n, THRESHOLD, MEAN_SQUARE),),
)

share = sp.Symbol("p", nonnegative=True)

ATTAINED = Derivation(
    "a share p of the pairs changes by x, the rest not at all",
    EXCEEDING.subs(MEAN_SQUARE, share * THRESHOLD**2 + (1 - share) * 0**2),
    (Link("=", share, "the mean of the squares is $p x^2$", Identity()),),
)

SHAPE = (2, 3, 2)
"""Steps, keys and coordinates of the attacks."""
SIZE = (SHAPE[0] + SHAPE[1]) * SHAPE[2]
SCALE = 0.25


def _vectors(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count, keys, coordinates = SHAPE
    cut = count * coordinates
    return point[:cut].reshape(count, coordinates), point[cut:].reshape(keys, coordinates)


def _changes(moves: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Logit changes: the rows of logits after each step less the row before it."""
    before = np.ones(SHAPE[2])
    return SCALE * ((before + moves) @ keys.T) - SCALE * (before @ keys.T)


def _pairs(vectors: np.ndarray, weights: np.ndarray, term: sp.Expr, names: str) -> np.ndarray:
    """Mean over the vectors of a term of two coordinates, (d, d)."""
    values = {f"{names}_a": vectors[:, :, None], f"{names}_b": vectors[:, None, :]}
    return np.tensordot(weights / weights.sum(), evaluate(term, values), 1)


def predicted(moves: np.ndarray, keys: np.ndarray, seen: np.ndarray) -> float:
    """The mean square from the registry's terms; seen: (steps, keys), 1 where a step sees a key."""
    if seen.all():
        values = {
            "m_q": _pairs(moves, np.ones(len(moves)), QUERY_TERM, "dq"),
            "m_k": _pairs(keys, np.ones(len(keys)), KEY_TERM, "k"),
            "lambda": np.asarray(SCALE),
        }
        return float(evaluate(RECTANGLE_TERM, values).sum())
    total = 0.0
    for move, row in zip(moves, seen, strict=True):
        values = {"dq_a": move[:, None], "dq_b": move[None, :], "lambda": np.asarray(SCALE)}
        values["m_k"] = _pairs(keys, row, KEY_TERM, "k")
        square = evaluate(ROW_TERM, values).sum()
        total += float(evaluate(MASKED_TERM, {"N": np.asarray(row.sum()), "mean_square_t": square}))
    return total / float(seen.sum())


def _equal(name: str, seen: np.ndarray) -> Attack:
    def ratio(point: np.ndarray) -> float:
        moves, keys = _vectors(point)
        observed = float((seen * _changes(moves, keys) ** 2).sum() / seen.sum())
        expected = predicted(moves, keys, seen)
        rounding = 1e-14  # logits of size 1
        return max(
            observed / (expected + rounding),
            expected / (observed + rounding),
        )

    alone = np.zeros(SIZE)
    alone[[0, 4]] = 1.0
    return Attack(name, SIZE, ratio, True, 1e-9, (np.zeros(SIZE), alone, np.full(SIZE, 0.5)))


def _exceeding(point: np.ndarray) -> float:
    moves, keys = _vectors(point[:-1])
    threshold = 0.5 * abs(float(point[-1])) + 1e-3
    seen = np.ones(SHAPE[:2])
    # a change that equals the threshold up to rounding counts
    observed = float((np.abs(_changes(moves, keys)) >= threshold * (1 - 1e-12)).mean())
    values = {"mean_square": np.asarray(predicted(moves, keys, seen)), "x": np.asarray(threshold)}
    allowed = float(evaluate(EXCEEDING, values))
    return observed / allowed if allowed > 0 else observed


def _two_sizes() -> np.ndarray:
    """Every change is 0 or SCALE / 2."""
    point = np.zeros(SIZE + 1)
    point[0], point[[4, 6]] = 1.0, 0.5
    point[-1] = (SCALE / 2 - 1e-3) / 0.5
    return point


CAUSAL = np.tril(np.ones(SHAPE[:2]))

PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="rectangle",
            kind="identity",
            statement=(
                r"Where every step sees the same keys, the mean of $(\Delta a)^2$ over steps and"
                r" keys is $\lambda^2\,\mathrm{tr}(M_q M_k)$, the second moments not centred: any"
                " number of steps, keys and coordinates."
            ),
            derivations=(RECTANGLE,),
        ),
        Claim(
            id="masked",
            kind="identity",
            statement=(
                r"Under any mask the mean is $\lambda^2\sum_t N_t\,\Delta q_t^T M_t \Delta q_t /"
                r" \sum_t N_t$, $M_t$ the mean of $k_i k_i^T$ over the $N_t$ keys that step t sees:"
                " under the causal mask the keys up to t."
            ),
            derivations=(MASKED,),
        ),
        Claim(
            id="softmax",
            kind="identity",
            statement=(
                "What softmax sees of a row is its variance: a constant over the row cancels. With"
                " any weights on the keys it is the same form with the covariance of the keys, and"
                " the mean square is the variance plus the square of the mean. With the attention"
                " as weights, half of it is the key metric of query_drift."
            ),
            derivations=(ROW_VARIANCE, CONSTANT, APART),
        ),
        Claim(
            id="oscillation",
            kind="bound",
            statement=(
                r"The row's variance, any weights, is at most $\omega^2/4$: a typical change that"
                r" is large forces a large oscillation."
            ),
            derivations=(POPOVICIU_WEIGHTED,),
        ),
        Claim(
            id="exceeding",
            kind="bound",
            statement=(
                "The share of the pairs whose logit changes by x or more is at most the mean square"
                r" over $x^2$, on any set of pairs."
            ),
            derivations=(MARKOV,),
        ),
        Claim(
            id="attained",
            kind="sharpness",
            statement="The bound on the share is attained for every share and every x.",
            derivations=(ATTAINED,),
            witness=(
                r"one coordinate, keys of length 1, a share p of the steps of length $x/\lambda$"
                " and the rest of length 0"
            ),
            ratio="1",
        ),
    ),
    readings=(
        Reading(
            "the mean over pairs is exact; it says how many pairs can change much, not which",
            "holds",
            ("rectangle", "masked", "softmax", "exceeding", "attained"),
        ),
    ),
    attacks=(
        _equal("mean square, all keys", np.ones(SHAPE[:2])),
        _equal("mean square, causal mask", CAUSAL),
        Attack(
            "share of large changes",
            SIZE + 1,
            _exceeding,
            True,
            1e-9,
            (_two_sizes(), np.zeros(SIZE + 1), np.full(SIZE + 1, 0.5)),
        ),
    ),
    meaning=(
        "The worst pair says little of a head whose queries move in directions that few keys have:"
        " the trace weighs every direction of the drift by the energy of the keys along it. It"
        " costs two matrices instead of all pairs."
    ),
)
