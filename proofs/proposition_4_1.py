"""Proposition 4.1: a query step and the logit change it makes, both ways; what does not follow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from proofs.attack import Attack
from proofs.certificates import BySquares, Identity, Solver
from proofs.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.derivation import Derivation, Fact, Lemma, Link, Scaled
from proofs.lemmas import (
    CAUCHY_SCHWARZ,
    CENTRED,
    FINITE_SUM,
    LOW_BELOW_TOP,
    MAX_NORM,
    POPOVICIU,
    SQUARES_ABOUT,
    About,
    InnerProduct,
    Size,
    Spread,
    about,
    count,
    first_norm,
    inner,
    largest,
    low,
    middle,
    norm,
    numbers,
    second_norm,
    squares,
    top,
    total,
)
from proofs.witness import AtChosen, chosen
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import (
    LOGIT,
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
from tappa_theory.theorems.proposition_4_1 import (
    CHANGE_MAX,
    DIAMETER,
    KEY_NORM_MAX,
    KEYS,
    LOWER,
    LOWER_BEFORE,
    NECESSARY,
    OSCILLATION_LOWER,
    OSCILLATION_UPPER,
    QUERY_NORM,
    QUERY_NORM_S,
    SIGMA,
    SIGMA_CENTRED,
    SIMILARITY,
    SLOPE,
    STEP,
    STEP_BEFORE,
    STEP_SQUARED,
    SUFFICIENT,
    THEOREM,
    TURNED,
    TURNED_SQUARED,
    UPPER,
    UPPER_BEFORE,
)

g = sp.Symbol("g", real=True)
"""Inner product of one key with the query step, after RoPE."""
key_norm, product_norm, product_max = sp.symbols("k P M", nonnegative=True)
"""||k_i||; ||K dq||; max |<k_i, dq>|: the logit change is lambda times the products."""

SINGULAR = sp.Le(SIGMA * STEP, product_norm, evaluate=False)
SIZE = Size(KEYS, product_norm, product_max)

TWO_SIDED_LOWER = Derivation(
    "lower side",
    LOWER,
    (
        Link(
            "<=",
            lam / sp.sqrt(KEYS) * product_norm,
            r"$\sigma^+ \|v\| \le \|\tilde K v\|$ for $v$ in the span of the keys",
            Scaled(lam / sp.sqrt(KEYS), Solver()),
        ),
        Link(
            "<=",
            lam * product_max,
            "no norm of n numbers exceeds the root of n times the largest",
            Scaled(
                lam / sp.sqrt(KEYS),
                BySquares(Lemma(MAX_NORM, {norm: product_norm, count: KEYS, largest: product_max})),
            ),
        ),
    ),
    hypotheses=(SINGULAR, SIZE),
)

TWO_SIDED_UPPER = Derivation(
    "upper side, one key",
    lam * sp.Abs(g),
    (
        Link(
            "<=",
            lam * key_norm * STEP,
            "Cauchy-Schwarz",
            Scaled(lam, Lemma(CAUCHY_SCHWARZ, {inner: g, first_norm: key_norm, second_norm: STEP})),
        ),
        Link("<=", UPPER, "no key is longer than the longest", Scaled(lam, Solver())),
    ),
    hypotheses=(
        InnerProduct(g, key_norm, STEP),
        sp.Le(key_norm, KEY_NORM_MAX, evaluate=False),
    ),
)

# Before RoPE: one channel of the step is the turned drift plus the turn of the old query.

AHEAD = sp.exp(sp.I * theta)
HALF = sp.sin(theta / 2)
BISECTOR = sp.I * sp.exp(sp.I * theta / 2)
"""AHEAD - 1 = 2 HALF BISECTOR."""
PLACE = sp.exp(sp.I * t * theta)

CHANNEL_STEP = Derivation(
    "the step after RoPE, one channel",
    sp.Abs(PLACE * AHEAD * z_s - PLACE * z) ** 2,
    (
        Link(
            "=",
            sp.Abs(z_s - z) ** 2
            + TURNED_SQUARED
            + 2 * sp.re(AHEAD * (z_s - z) * sp.conjugate((AHEAD - 1) * z)),
            "the step is the drift of the query, turned, and the turn of the old query",
            Identity(),
        ),
    ),
)

h = sp.Symbol("h", real=True)
"""Inner product of the turned drift and the turn of the old query."""
SPLIT = (
    InnerProduct(h, STEP_BEFORE, TURNED),
    sp.Eq(STEP**2, STEP_BEFORE**2 + TURNED**2 + 2 * h, evaluate=False),
)
_CAUCHY = Fact(
    sp.Abs(h),
    "<=",
    STEP_BEFORE * TURNED,
    "Cauchy-Schwarz",
    Lemma(CAUCHY_SCHWARZ, {inner: h, first_norm: STEP_BEFORE, second_norm: TURNED}),
)

STEP_SHORTER = Derivation(
    "the step after RoPE is at least the drift less the turn",
    STEP_BEFORE - TURNED,
    (Link("<=", STEP, "the squares compare", Solver()),),
    hypotheses=SPLIT,
    facts=(_CAUCHY,),
)

STEP_LONGER = Derivation(
    "the step after RoPE is at most the drift and the turn together",
    STEP,
    (Link("<=", STEP_BEFORE + TURNED, "the squares compare", Solver()),),
    hypotheses=SPLIT,
    facts=(_CAUCHY,),
)

BEFORE_LOWER = Derivation(
    "lower side before RoPE",
    LOWER_BEFORE,
    (
        Link("=", SLOPE * (STEP_BEFORE - TURNED), "$c_2$ is $c_1$ times the turn", Identity()),
        Link("<=", LOWER, STEP_SHORTER.title, Scaled(SLOPE, Lemma(STEP_SHORTER, {}))),
        Link("<=", lam * product_max, "the lower side after RoPE", Lemma(TWO_SIDED_LOWER, {})),
    ),
    hypotheses=(*SPLIT, *TWO_SIDED_LOWER.hypotheses),
)

BEFORE_UPPER = Derivation(
    "upper side before RoPE, one key",
    lam * sp.Abs(g),
    (
        Link("<=", UPPER, "the upper side after RoPE", Lemma(TWO_SIDED_UPPER, {})),
        Link(
            "<=",
            UPPER_BEFORE,
            STEP_LONGER.title,
            Scaled(lam * KEY_NORM_MAX, Lemma(STEP_LONGER, {})),
        ),
    ),
    hypotheses=(*SPLIT, *TWO_SIDED_UPPER.hypotheses),
)

# Softmax sees differences of logits only: the keys less their mean.

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

# Cosine and step.

CHANNEL_COSINE = Derivation(
    "the step of one channel",
    sp.Abs(z_s - z) ** 2,
    (
        Link(
            "=",
            sp.Abs(z_s) ** 2 + sp.Abs(z) ** 2 - 2 * sp.re(z_s * sp.conjugate(z)),
            "law of cosines",
            Identity(),
        ),
    ),
)

COSINE = Derivation(
    "the step from norms and cosine",
    QUERY_NORM_S**2 + QUERY_NORM**2 - 2 * g,
    (Link("=", STEP_SQUARED, r"the inner product is $r r' S$", Solver()),),
    hypotheses=(sp.Eq(g, QUERY_NORM * QUERY_NORM_S * SIMILARITY, evaluate=False),),
)

BY_COSINE = sp.Eq(STEP**2, STEP_SQUARED, evaluate=False)

SIMILAR_IS_ENOUGH = Derivation(
    "what norms and cosine allow, one key",
    lam * sp.Abs(g),
    (
        Link("<=", UPPER, "the upper side", Lemma(TWO_SIDED_UPPER, {})),
        Link("=", SUFFICIENT, "the step from norms and cosine", Solver()),
    ),
    hypotheses=(*TWO_SIDED_UPPER.hypotheses, BY_COSINE),
)

SIMILAR_IS_NEEDED = Derivation(
    "what a small logit change asks of the cosine",
    1 - SIMILARITY,
    (Link("<=", NECESSARY, "solved for the cosine", Solver()),),
    hypotheses=(
        SINGULAR,
        SIZE,
        BY_COSINE,
        sp.Gt(SIGMA, 0, evaluate=False),
        sp.Eq(CHANGE_MAX, lam * product_max, evaluate=False),
    ),
    facts=(
        Fact(
            product_norm**2,
            "<=",
            KEYS * product_max**2,
            MAX_NORM.title,
            Lemma(MAX_NORM, {norm: product_norm, count: KEYS, largest: product_max}),
        ),
    ),
)

# Witnesses. One position later, the key fixed:

ONE_STEP = SHIFT_DIFFERENCE.subs({s: 1, u: 0, w_u: w}, simultaneous=True)
"""a_{t+1,i} - a_{t,i}, one channel."""
FACING = sp.exp(sp.I * (t - i) * theta)

kappa, delta = sp.symbols("kappa delta", nonnegative=True)
gamma = sp.Symbol("gamma", nonnegative=True)

EQUAL_KEYS = Derivation(
    "n equal keys of norm kappa, the step along them: both sides are what is observed",
    LOWER,
    (
        Link("=", lam * kappa * delta, r"$\sigma^+ = \sqrt n\,\kappa$", AtChosen((SIGMA, STEP))),
        Link("=", UPPER, "the change of every logit", AtChosen((KEY_NORM_MAX, STEP))),
    ),
    hypotheses=chosen({SIGMA: sp.sqrt(KEYS) * kappa, STEP: delta, KEY_NORM_MAX: kappa}),
)

ALONG_KEY = Derivation(
    "the step along the longest key, one channel",
    sp.re(kappa * (z_s - z) * sp.conjugate(z_s - z)),
    (Link("=", kappa * sp.Abs(z_s - z) ** 2, "no product is lost", Identity()),),
)

_TWO_KEYS = {1: 1 + sp.I, -1: 1 - sp.I}
_BACK = z + 2 * (1 + gamma) * HALF * sp.conjugate(BISECTOR) * z
"""The query turns back against RoPE, and 1 + gamma times as far."""


def _key(factor: sp.Expr) -> sp.Expr:
    return kappa * factor * HALF * FACING * BISECTOR * z


BEFORE_LOWER_SHARP = tuple(
    Derivation(
        f"the lower side before RoPE is attained, key {number} of two",
        ONE_STEP,
        (
            Link(
                "=",
                2 * lam * kappa * gamma * HALF**2 * sp.Abs(z) ** 2,
                "the step lies halfway between the two orthogonal keys",
                AtChosen((z_s, w)),
            ),
            Link(
                "=",
                LOWER_BEFORE,
                r"$n = 2$, both singular values are $\sqrt 2\,\kappa|\sin(\theta/2)||z|$",
                AtChosen((z_s, STEP_BEFORE, TURNED, SIGMA, KEYS)),
            ),
        ),
        hypotheses=chosen(
            {
                KEYS: sp.Integer(2),
                z_s: _BACK,
                w: -_key(factor),
                STEP_BEFORE: sp.Abs(z_s - z),
                TURNED: 2 * sp.Abs(HALF) * sp.Abs(z),
                SIGMA: sp.sqrt(2) * kappa * sp.Abs(HALF) * sp.Abs(z),
            }
        ),
    )
    for number, factor in _TWO_KEYS.items()
)

v = sp.Symbol("v", complex=True)
SINGULAR_VALUES = Derivation(
    "two orthogonal keys of equal norm stretch every vector alike",
    sp.re(v * sp.conjugate((1 + sp.I) * w)) ** 2 + sp.re(v * sp.conjugate((1 - sp.I) * w)) ** 2,
    (Link("=", 2 * sp.Abs(w) ** 2 * sp.Abs(v) ** 2, "Pythagoras", Identity()),),
)

TURN_OF_ONE = Derivation(
    "the turn of the witness is the turn",
    TURNED_SQUARED,
    (Link("=", (2 * sp.Abs(HALF) * sp.Abs(z)) ** 2, "a square", Identity()),),
)

BEFORE_UPPER_SHARP = Derivation(
    "the upper side before RoPE is attained",
    ONE_STEP,
    (
        Link(
            "=",
            2 * lam * kappa * (1 + gamma) * HALF**2 * sp.Abs(z) ** 2,
            "drift, turn and key point the same way",
            AtChosen((z_s, w)),
        ),
        Link(
            "=",
            UPPER_BEFORE,
            "and so do their moduli",
            AtChosen((z_s, STEP_BEFORE, TURNED, KEY_NORM_MAX)),
        ),
    ),
    hypotheses=chosen(
        {
            z_s: z - 2 * gamma * HALF * sp.conjugate(BISECTOR) * z,
            w: _key(sp.Integer(1)),
            STEP_BEFORE: sp.Abs(z_s - z),
            TURNED: 2 * sp.Abs(HALF) * sp.Abs(z),
            KEY_NORM_MAX: kappa * sp.Abs(HALF) * sp.Abs(z),
        }
    ),
)

OPPOSITE_KEYS = Derivation(
    "n keys, half of them kappa and half of them -kappa along the step: both sides are attained",
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

# Counterexamples.

z_2, z_s2, w_2 = sp.symbols("z_2 z_s2 w_2", complex=True)
theta_2 = sp.Symbol("theta_2", nonnegative=True)
_SECOND = {z: z_2, z_s: z_s2, w: w_2, theta: theta_2}
_FLIP = {z_s: sp.conjugate(AHEAD) * z, z_s2: -z_2}

SILENT_CHANNEL = Derivation(
    "keys that vanish on a channel in which the query flips its sign: no logit changes",
    ONE_STEP + ONE_STEP.subs(_SECOND, simultaneous=True),
    (
        Link(
            "=",
            sp.Integer(0),
            "the first channel turns with RoPE, the second meets no key",
            AtChosen(),
        ),
    ),
    hypotheses=chosen({**_FLIP, w_2: sp.Integer(0)}),
)

SILENT_COSINES = (
    Derivation(
        "inner product of the two queries before RoPE",
        sp.re(z_s * sp.conjugate(z)) + sp.re(z_s2 * sp.conjugate(z_2)),
        (
            Link(
                "=",
                sp.cos(theta) * sp.Abs(z) ** 2 - sp.Abs(z_2) ** 2,
                "the second channel counts negative",
                AtChosen(),
            ),
        ),
        hypotheses=chosen(_FLIP),
    ),
    Derivation(
        "inner product of the two queries after RoPE",
        sp.re(AHEAD * z_s * sp.conjugate(z))
        + sp.re(AHEAD.subs(theta, theta_2) * z_s2 * sp.conjugate(z_2)),
        (
            Link(
                "=",
                sp.Abs(z) ** 2 - sp.cos(theta_2) * sp.Abs(z_2) ** 2,
                "the second channel counts negative",
                AtChosen(),
            ),
        ),
        hypotheses=chosen(_FLIP),
    ),
)

SILENT_STEP = Derivation(
    "the query step of that channel",
    sp.Abs(z_s2 - z_2),
    (Link("=", 2 * sp.Abs(z_2), "a vector and its opposite", AtChosen((z_s2,))),),
    hypotheses=chosen({z_s2: -z_2}),
)

c_1, c_2, size = sp.symbols("c_1 c_2 X", real=True)
NO_CONSTANTS = Derivation(
    "whatever the constants, a long enough step asks for a change",
    sp.Integer(0),
    (Link("<", c_1 * 2 * size - c_2, r"$2c_1X = |c_2| + 1$", Solver()),),
    hypotheses=(
        sp.Gt(c_1, 0, evaluate=False),
        sp.Eq(2 * c_1 * size, sp.Abs(c_2) + 1, evaluate=False),
    ),
)

WITH_ROPE = Derivation(
    "a query that turns back exactly as RoPE turns it: no logit changes",
    ONE_STEP,
    (Link("=", sp.Integer(0), "the turns cancel", AtChosen()),),
    hypotheses=chosen({z_s: sp.conjugate(AHEAD) * z}),
)

WITH_ROPE_STEP = Derivation(
    "and yet it steps by the turn, so that the lower side before RoPE is 0 with it",
    sp.Abs(sp.conjugate(AHEAD) * z - z) ** 2,
    (Link("=", TURNED_SQUARED, "a chord", Identity()),),
)

TENFOLD = Derivation(
    "ten times the query, turned back by RoPE's step: cosine 1 after RoPE, ten times the logit",
    ONE_STEP,
    (Link("=", 9 * LOGIT, "one tenfold logit less one", AtChosen()),),
    hypotheses=chosen({z_s: 10 * sp.conjugate(AHEAD) * z}),
)

TENFOLD_COSINE = Derivation(
    "its inner product with the query is the product of the norms, after RoPE",
    sp.re(AHEAD * z_s * sp.conjugate(z)),
    (Link("=", sp.Abs(z_s) * sp.Abs(z), "a positive multiple", AtChosen()),),
    hypotheses=chosen({z_s: 10 * sp.conjugate(AHEAD) * z}),
)


def _after(query: np.ndarray, position: int, theta: np.ndarray) -> np.ndarray:
    """A query or key after RoPE, as a real vector."""
    turned = query * np.exp(1j * position * theta)
    return np.concatenate([turned.real, turned.imag])


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


GENUINE = np.array([1.0, 0.01])
"""RoPE of head size 4 with base 10,000."""


def _replay_flip(before: bool) -> Callable[[], tuple[float, float]]:
    def replay() -> tuple[float, float]:
        position = 7
        old = np.array([1.0 + 0j, 10.0])
        new = np.array([np.exp(-1j), -10.0])
        moved = _after(new, position + 1, GENUINE), _after(old, position, GENUINE)
        change = max(
            abs(float((moved[0] - moved[1]) @ _after(np.array([k, 0.0]), 3, GENUINE)))
            for k in (1.0, 2j, -0.5 + 1j)
        )
        if change > 1e-13:
            return np.inf, np.inf
        if not before:
            return -0.97, _cosine(*moved)
        return -0.98, _cosine(_after(new, 0, GENUINE), _after(old, 0, GENUINE))

    return replay


def _replay_wide() -> tuple[float, float]:
    keys, step = np.array([[1.0, 0.0]]), np.array([0.0, 1.0])
    sigma = np.linalg.svd(keys, compute_uv=False).min()
    return float(sigma * np.linalg.norm(step)), float(np.max(np.abs(keys @ step)))


def _replay_tenfold() -> tuple[float, float]:
    def row(query: float) -> np.ndarray:
        weights = np.exp(query * np.array([0.25, -0.25]))
        return weights / weights.sum()

    return 0.5 * float(np.abs(row(10.0) - row(1.0)).sum()), 1 / 3


ROUNDOFF = 2.0**-53
SCALE = 0.125
RANK = 1e-6
"""Singular values below this share of the largest are cut off the keys before they are used."""


def _span(keys: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Keys of clear rank, their smallest nonzero singular value (0 for none), basis of the span."""
    left, singular, right = np.linalg.svd(keys, full_matrices=False)
    rank = int(np.sum(singular > RANK * singular[0])) if singular[0] > 0 else 0
    cut = (left[:, :rank] * singular[:rank]) @ right[:rank]
    return cut, float(singular[rank - 1]) if rank else 0.0, right[:rank]


def _value(expression: sp.Expr, **values: float) -> float:
    given = {name: np.asarray(float(number)) for name, number in values.items()}
    return float(evaluate(expression, given | {"lambda": np.asarray(SCALE)}))


def _share(smaller: float, larger: float, size: float, cost: float = 256 * ROUNDOFF) -> float:
    """smaller/larger, where the larger may be below its exact value by cost * size."""
    larger += cost * size
    return smaller / larger if larger > 0 and smaller > 0 else 0.0


def _two_sided(x: np.ndarray, n: int, d: int, r: int) -> dict[str, float]:
    """n keys of rank <= r in d dimensions and a step: what is observed and what it depends on."""
    product = x[: n * r].reshape(n, r) @ x[n * r : (n + d) * r].reshape(r, d)
    keys, sigma, basis = _span(product)
    step = x[(n + d) * r :]
    longest = float(np.max(np.linalg.norm(keys, axis=1)))
    return {
        "observed": float(np.max(np.abs(SCALE * (keys @ step)))),
        "step": float(np.linalg.norm(basis @ step)),
        "sigma": sigma,
        "key_norm_max": longest,
        "n": float(n),
        "size": longest * float(np.linalg.norm(step)),
    }


def two_sided_attack(
    lower: bool, n: int, d: int, r: int, bound: sp.Expr | None = None, sharp: bool = True
) -> Attack:
    """The lower or the upper side on n keys of rank at most r in d dimensions."""
    side = "lower" if lower else "upper"
    expression = bound if bound is not None else LOWER if lower else UPPER

    def ratio(x: np.ndarray) -> float:
        found = _two_sided(x, n, d, r)
        observed, extent = found.pop("observed"), found.pop("size")
        allowed = _value(expression, **found)
        return _share(allowed, observed, extent) if lower else _share(observed, allowed, extent)

    numbers = (n + d) * r + d
    repeated = np.full(numbers, 0.5)
    lone = np.zeros(numbers)
    lone[[0, n * r, -d]] = 1.0  # one key, the others are zero
    name = f"{side} side, {n} keys of rank <= {r} in {d} dimensions"
    return Attack(name, numbers, ratio, sharp, 1e-9, (np.zeros(numbers), repeated, lone))


def before_attack(lower: bool, bound: sp.Expr | None = None) -> Attack:
    """The side before RoPE: one channel, two keys, from the rotated pairs."""
    expression = bound if bound is not None else LOWER_BEFORE if lower else UPPER_BEFORE
    side = "lower" if lower else "upper"

    def ratio(x: np.ndarray) -> float:
        # drift and keys in polar form: the ridge of the ratio then runs along the axes
        old, speed = complex(*x[:2]), np.array([np.pi * abs(x[8])])
        new = old * (1 + 3 * x[2] * np.exp(1j * np.pi * x[3]))
        middle, apart = np.exp(1j * np.pi * x[4]), np.exp(1j * np.pi * x[5])
        pair = (x[6] * middle * apart, x[7] * x[6] * middle / apart)
        keys = np.stack([_after(np.array([key]), 2, speed) for key in pair])
        step = _after(np.array([new]), 6, speed) - _after(np.array([old]), 5, speed)
        observed = float(np.max(np.abs(SCALE * (keys @ step))))
        longest = float(np.max(np.linalg.norm(keys, axis=1)))
        turned = {"theta": np.asarray(speed[0]), "z": np.asarray(old)}
        allowed = _value(
            expression,
            sigma=float(np.linalg.svd(keys, compute_uv=False)[-1]),
            n=2,
            key_norm_max=longest,
            step_before=abs(new - old),
            turned=float(np.sqrt(evaluate(TURNED_SQUARED, turned))),
        )
        extent = longest * (abs(new) + abs(old))
        return _share(allowed, observed, extent) if lower else _share(observed, allowed, extent)

    still, turned = np.full(9, 0.5), np.full(9, 0.5)
    still[8], turned[8] = 0.0, 1.0  # theta = 0 and pi, the keys equal
    return Attack(f"{side} side before RoPE", 9, ratio, True, 1e-9, (np.zeros(9), still, turned))


def oscillation_attack(lower: bool, n: int, d: int, bound: sp.Expr | None = None) -> Attack:
    """The oscillation of the logit change over n keys in d dimensions."""
    expression = bound if bound is not None else OSCILLATION_LOWER if lower else OSCILLATION_UPPER
    side = "lower" if lower else "upper"

    def ratio(x: np.ndarray) -> float:
        keys, step = x[: n * d].reshape(n, d), x[n * d :]
        mean = keys.mean(axis=0)
        centred, sigma, basis = _span(keys - mean)
        keys = centred + mean
        change = SCALE * (keys @ step)
        apart = np.linalg.norm(keys[:, None] - keys[None], axis=-1)
        allowed = _value(
            expression,
            sigma_centred=sigma,
            diameter=float(apart.max()),
            step=float(np.linalg.norm(basis @ step)),
            n=n,
        )
        observed = float(np.ptp(change))
        extent = float(np.max(np.linalg.norm(keys, axis=1)) * np.linalg.norm(step))
        return _share(allowed, observed, extent) if lower else _share(observed, allowed, extent)

    numbers = (n + 1) * d
    halves = np.full(numbers, 0.4)  # two nearly opposite groups of keys
    halves[: n // 2 * d] = -0.5
    name = f"{side} side of the oscillation, {n} keys in {d} dimensions"
    corners = (np.zeros(numbers), np.full(numbers, 0.5), halves)
    return Attack(name, numbers, ratio, True, 1e-9, corners)


def cosine_attack(needed: bool, bound: sp.Expr | None = None) -> Attack:
    """What norms and cosine allow (or are forced to) after RoPE, two keys in two dimensions."""
    expression = bound if bound is not None else NECESSARY if needed else SUFFICIENT

    def ratio(x: np.ndarray) -> float:
        old, new, keys = x[:2], x[2:4], x[4:].reshape(2, 2)
        norms = float(np.linalg.norm(old)), float(np.linalg.norm(new))
        singular = np.linalg.svd(keys, compute_uv=False)
        if min(norms) < 1e-2 or singular[-1] < 1e-2:
            return 0.0  # no cosine, or no rank
        similarity = _cosine(old, new)
        change = float(np.max(np.abs(SCALE * (keys @ (new - old)))))
        allowed = _value(
            expression,
            sigma=float(singular[-1]),
            n=2,
            change_max=change,
            key_norm_max=float(np.max(np.linalg.norm(keys, axis=1))),
            query_norm=norms[0],
            query_norm_s=norms[1],
            similarity=min(similarity, 1.0),
        )
        # 1 - cosine and the squared step lose half of the digits near 0
        if needed:
            return _share(1 - similarity, allowed, 1e8, 256 * ROUNDOFF)
        return _share(change, allowed, 1.0, float(np.sqrt(ROUNDOFF)))

    name = "cosine that is needed" if needed else "change that the cosine allows"
    repeated = np.full(8, 0.5)
    return Attack(name, 8, ratio, True, 1e-9, (repeated, -repeated))


_TURNED_KEY = ONE_STEP.subs({z: 1, z_s: 1, w: sp.I * sp.exp(sp.I / 2), theta: 1, lam: 1, t: i})
_LOGISTIC = {power: 1 / (1 + sp.exp(-power)) for power in (sp.Rational(1, 2), sp.Integer(5))}
_PROJECTION = Conclusion(
    r"every logit change is $\lambda\langle k_i, \Pi\Delta\tilde q\rangle$",
    r"orthogonal projection: $\Delta\tilde q - \Pi\Delta\tilde q$ is orthogonal to every key",
)
_SINGULAR = Conclusion(
    r"$\sigma^+\|v\| \le \|\tilde K v\|$ for every $v$ in the span of the keys",
    "the smallest nonzero singular value is the smallest stretch on the row space (singular value"
    r" decomposition); it is $\sigma_d$ if the keys have rank $d$, and then $\Pi$ is the identity",
)

PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="two_sided",
            kind="bound",
            statement=(
                r"$\frac{\lambda\sigma^+}{\sqrt n}\|\Pi\Delta\tilde q\| \le \|\Delta a\|_\infty"
                r" \le \lambda\max_i\|k_i\|\,\|\Pi\Delta\tilde q\|$, $\Delta\tilde q$ the query"
                r" step after RoPE, for any n keys of any rank, fewer than $d$ or repeated."
            ),
            derivations=(MAX_NORM, TWO_SIDED_LOWER, CAUCHY_SCHWARZ, TWO_SIDED_UPPER),
            conclusions=(_PROJECTION, _SINGULAR),
        ),
        Claim(
            id="two_sided_sharp",
            kind="sharpness",
            statement=(
                "Both sides are attained at once, for every number of keys and every head size;"
                " the upper side for every query step."
            ),
            derivations=(EQUAL_KEYS, ALONG_KEY),
            witness=r"n equal keys $\kappa e$ and the step $\delta e$ after RoPE",
            ratio="1",
        ),
        Claim(
            id="before_rope",
            kind="bound",
            statement=(
                r"The published form: $\|\Delta a\|_\infty \ge c_1\|q_{t+1} - q_t\| - c_2$ before"
                r" RoPE, with $c_1 = \lambda\sigma_d/\sqrt n$ and $c_2 = c_1(\sum_m"
                r" 4\sin^2(\theta_m/2)|z_t^m|^2)^{1/2}$; and $\|\Delta a\|_\infty \le"
                r" \lambda\max_i\|k_i\|(\|q_{t+1} - q_t\| + c_2/c_1)$. It says something only for"
                r" keys of rank $d$: otherwise $c_1 = 0$."
            ),
            derivations=(
                CHANNEL_STEP,
                FINITE_SUM,
                STEP_SHORTER,
                BEFORE_LOWER,
                STEP_LONGER,
                BEFORE_UPPER,
            ),
            conclusions=(
                Conclusion(
                    "the channels' identity holds of the whole vectors",
                    "linearity: an equality of every term is one of the sums",
                ),
                _SINGULAR,
            ),
        ),
        Claim(
            id="before_rope_sharp",
            kind="sharpness",
            statement=(
                "Both sides before RoPE are attained, for every frequency, every query and every"
                r" drift: the lower one with $\|q_{t+1} - q_t\| = (1 + \gamma)$ turns, $\gamma"
                r" \ge 0$, so that neither $c_1$ nor $c_2$ can be improved."
            ),
            derivations=(
                *BEFORE_LOWER_SHARP,
                SINGULAR_VALUES,
                TURN_OF_ONE,
                BEFORE_UPPER_SHARP,
            ),
            witness=(
                r"one channel; lower: $z' = z - (1+\gamma)(1 - e^{-\mathrm i\theta})z$ and two"
                r" orthogonal keys of equal norm with the step halfway between them; upper:"
                r" $z' = z + \gamma(1 - e^{-\mathrm i\theta})z$ and a key along the step"
            ),
            ratio="1",
        ),
        Claim(
            id="softmax",
            kind="bound",
            statement=(
                r"What softmax sees: the oscillation $\omega = \max_i\Delta a_i - \min_i\Delta a_i$"
                r" lies between $\frac{2\lambda\sigma^+_c}{\sqrt n}\|\Pi_c\Delta\tilde q\|$ and"
                r" $\lambda\,\mathrm{diam}(\tilde K)\,\|\Pi_c\Delta\tilde q\|$, with the keys less"
                r" their mean. With $\omega = 0$ the attention over these keys does not change."
            ),
            derivations=(
                SQUARES_ABOUT,
                CENTRED_SQUARES,
                POPOVICIU,
                OSCILLATION_BELOW,
                OSCILLATION_ABOVE,
            ),
            conclusions=(_PROJECTION, _SINGULAR),
        ),
        Claim(
            id="softmax_sharp",
            kind="sharpness",
            statement="Both sides of the oscillation are attained, for every even number of keys.",
            derivations=(OPPOSITE_KEYS,),
            witness=r"half of the keys $\kappa e$, half $-\kappa e$, the step $\delta e$",
            ratio="1",
        ),
        Claim(
            id="cosine",
            kind="identity",
            statement=(
                r"Cosine and step: $\|q' - q\|^2 = (r' - r)^2 + 2rr'(1 - S)$ with the norms $r,"
                r" r'$ and the cosine $S$, before RoPE or after it."
            ),
            derivations=(CHANNEL_COSINE, FINITE_SUM, COSINE),
        ),
        Claim(
            id="similar_enough",
            kind="bound",
            statement=(
                r"What is true of \"high q-similarity suffices\": $\|\Delta a\|_\infty \le"
                r" \lambda\max_i\|k_i\|\sqrt{(r'-r)^2 + 2rr'(1-S)}$, norms and cosine after RoPE."
            ),
            derivations=(SIMILAR_IS_ENOUGH,),
        ),
        Claim(
            id="similar_needed",
            kind="bound",
            statement=(
                r"What is true of \"high q-similarity is necessary\": for keys of rank $d$, after"
                r" RoPE, $1 - S \le (n\|\Delta a\|_\infty^2/(\lambda\sigma_d)^2 - (r'-r)^2)/"
                r"(2rr')$."
            ),
            derivations=(SIMILAR_IS_NEEDED,),
            conclusions=(_SINGULAR,),
        ),
        Claim(
            id="not_necessary",
            kind="counterexample",
            statement=(
                "Stable logits without similar queries: the keys vanish on a channel in which the"
                " query flips its sign at every step, and on the other channel the query turns"
                " back as RoPE turns it. No logit ever changes, whatever the frequencies; as the"
                " silent channel grows, the cosine tends to $-1$ before RoPE, and after RoPE to"
                r" $-\cos\theta$ of that channel."
            ),
            derivations=(SILENT_CHANNEL, *SILENT_COSINES, SILENT_STEP, NO_CONSTANTS),
            instances=(
                Exact(
                    "head size 4, base 10,000, the silent channel 10 times the other: the cosine"
                    " before RoPE is below -0.98",
                    (sp.cos(1) - 100) / 101,
                    "<",
                    sp.Rational(-98, 100),
                    _replay_flip(True),
                ),
                Exact(
                    "and after RoPE below -0.97",
                    (1 - 100 * sp.cos(sp.Rational(1, 100))) / 101,
                    "<",
                    sp.Rational(-97, 100),
                    _replay_flip(False),
                ),
                Exact(
                    r"with fewer keys than dimensions the smallest of the $\min(n, d)$ singular"
                    r" values is no $\sigma_d$: key $(1, 0)$, step $(0, 1)$, nothing changes"
                    r" although $\sigma\|\Delta\tilde q\| = 1$",
                    sp.Integer(0),
                    "<",
                    sp.Integer(1),
                    _replay_wide,
                ),
            ),
            witness=r"$z_t^1 = e^{-\mathrm it\theta_1}$, $z_t^2 = (-1)^t X$, $w_i^2 = 0$",
        ),
        Claim(
            id="query_in_c2",
            kind="counterexample",
            statement=(
                "$c_2$ must depend on the query: a query that turns back exactly as RoPE turns it"
                r" changes no logit, for any keys, and steps by $2|\sin(\theta/2)||z|$, which grows"
                " with the query beyond every constant. There the lower side before RoPE is 0, as"
                " is what it bounds."
            ),
            derivations=(WITH_ROPE, WITH_ROPE_STEP, NO_CONSTANTS),
            witness=r"$z_{t+1} = e^{-\mathrm i\theta}z_t$",
        ),
        Claim(
            id="not_sufficient",
            kind="counterexample",
            statement=(
                "A cosine of 1 allows any change: ten times the query means ten times the logit."
                " And a cosine of 1 before RoPE allows the turn, also at equal norms."
            ),
            derivations=(TENFOLD, TENFOLD_COSINE),
            instances=(
                Exact(
                    "two keys with logits 1/4 and -1/4: the attention moves by more than 1/3 in"
                    " total variation",
                    sp.Rational(1, 3),
                    "<",
                    _LOGISTIC[sp.Integer(5)] - _LOGISTIC[sp.Rational(1, 2)],
                    _replay_tenfold,
                ),
                Exact(
                    r"the same query before RoPE, $\theta = 1$, a unit key: the logit changes by"
                    r" $2\sin(1/2)$",
                    _TURNED_KEY,
                    "=",
                    2 * sp.sin(sp.Rational(1, 2)),
                ),
            ),
            witness=r"$q_{t+1} = 10\,q_t$",
        ),
    ),
    readings=(
        Reading(
            r"before RoPE, $c_1 = \lambda\sigma_d/\sqrt n$ depending on the keys, $c_2$ on keys,"
            " frequencies and the query",
            "holds",
            ("before_rope", "before_rope_sharp", "two_sided"),
            r"$c_1 > 0$ exactly for keys of rank $d$, so never while fewer than $d$ are visible",
        ),
        Reading(
            r"some $c_1 > 0$ and $c_2$ for any keys, whatever they depend on but the query",
            "refuted",
            ("not_necessary",),
            "a query step that no key sees may be as long as one likes",
        ),
        Reading(
            r"for keys of rank $d$, $c_2$ depending on keys and frequencies only",
            "refuted",
            ("query_in_c2",),
        ),
        Reading(
            "high q-similarity is necessary for stable logits",
            "refuted",
            ("not_necessary", "similar_needed"),
            "necessary is similarity in the span of the keys, of steps in their norm; for keys of"
            r" rank $d$ a cosine near 1 after RoPE is forced, with the constant of similar_needed",
        ),
        Reading(
            "high q-similarity suffices for a stable pattern",
            "refuted",
            ("not_sufficient", "similar_enough", "cosine"),
            "cosine says nothing of the norms; with both, similar_enough is what holds",
        ),
    ),
    attacks=(
        two_sided_attack(True, 2, 4, 2),
        two_sided_attack(True, 5, 2, 1),
        two_sided_attack(False, 3, 3, 2),
        before_attack(True),
        before_attack(False),
        oscillation_attack(True, 4, 2),
        oscillation_attack(False, 3, 2),
        cosine_attack(True),
        cosine_attack(False),
    ),
    meaning=(
        "How far the logits move is the query step in the metric of the keys, not the cosine of"
        " the queries: a step that no key sees costs nothing, and a long query moves logits at"
        r" cosine 1. The constant $\sigma_d/\sqrt n$ of a real head is its weakest direction, so"
        " the lower side says little where keys lie near a subspace."
    ),
)
