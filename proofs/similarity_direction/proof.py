"""Which similarity: the drift of the query as the shifted key sees it, after or before RoPE."""

from __future__ import annotations

import numpy as np
import sympy as sp

from proofs.engine.attack import Attack
from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim, Exact, Proof, Reading
from proofs.engine.derivation import Derivation, Fact, Lemma, Link, Scaled
from proofs.engine.instances import floats
from proofs.engine.relations import eq
from proofs.lemmas.finite import (
    CAUCHY_SCHWARZ,
    FINITE_SUM,
    InnerProduct,
    first_norm,
    inner,
    second_norm,
)
from proofs.proposition_4_1.cosine import COSINE
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import (
    ALPHA,
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
    QUERY_NORM_S,
    STEP,
    STEP_SQUARED,
)
from tappa_theory.theorems.similarity_direction import (
    CHANGE,
    DRIFT,
    KEY_CHANGE,
    KEY_NORM,
    KEY_STEP,
    PRODUCT,
    REPEATED,
    THEOREM,
    WITH_KEY_STEP,
)

TURN = sp.exp(sp.I * (t - i) * theta)

APART = Derivation(
    "the drift of the query, then that of the key, one channel",
    SHIFT_DIFFERENCE,
    (Link("=", CHANGE + KEY_CHANGE, "the key changes last", Identity()),),
)

REPEATS = Derivation(
    "where the key repeats, one channel",
    SHIFT_DIFFERENCE.subs(w_u, w),
    (Link("=", CHANGE, "the key is a common factor", Identity()),),
)

_QUERY, _QUERY_S = z * sp.exp(sp.I * t * theta), z_s * sp.exp(sp.I * (t + s) * theta)
_KEY = w * sp.exp(sp.I * i * theta)

COLUMN = Derivation(
    "a column: the drift after RoPE, one channel",
    CHANGE.subs(u, 0),
    (
        Link(
            "=",
            lam * sp.re((_QUERY_S - _QUERY) * sp.conjugate(_KEY)),
            "queries and keys turned to their positions",
            Identity(),
        ),
    ),
)

DIAGONAL = Derivation(
    "a diagonal: the drift before RoPE, one channel",
    CHANGE.subs(u, s),
    (Link("=", lam * sp.re(TURN * (z_s - z) * sp.conjugate(w)), "no turn is left", Identity()),),
)

LENGTH = Derivation(
    "a turned key is as long, one channel",
    sp.Abs(sp.conjugate(TURN) * w),
    (Link("=", sp.Abs(w), "a turn has modulus 1", Identity()),),
)

COSINES = Derivation(
    "the drift from lengths and inner product, one channel",
    sp.Abs(DRIFT) ** 2,
    (
        Link(
            "=",
            sp.Abs(z_s) ** 2 + sp.Abs(z) ** 2 - 2 * PRODUCT,
            "law of cosines",
            Identity(),
        ),
    ),
)

product, key_product = sp.symbols("g h", real=True)
VECTORS = InnerProduct(product, KEY_NORM, STEP)
KEYS = InnerProduct(key_product, QUERY_NORM_S, KEY_STEP)
BY_SIMILARITY = eq(STEP**2, STEP_SQUARED)

WHOLE = Derivation(
    "all channels: norms and similarity",
    lam * sp.Abs(product),
    (
        Link(
            "<=",
            lam * (KEY_NORM * STEP),
            CAUCHY_SCHWARZ.title,
            Scaled(
                lam,
                Lemma(CAUCHY_SCHWARZ, {inner: product, first_norm: KEY_NORM, second_norm: STEP}),
            ),
        ),
        Link("=", REPEATED, "the step from norms and similarity", Solver()),
    ),
    hypotheses=(VECTORS, BY_SIMILARITY),
)

WHOLE_KEY = Derivation(
    "all channels, with the drift of the key",
    lam * sp.Abs(product + key_product),
    (
        Link(
            "<=",
            lam * sp.Abs(product) + lam * sp.Abs(key_product),
            "triangle inequality",
            Solver(),
        ),
        Link("<=", REPEATED + lam * (QUERY_NORM_S * KEY_STEP), "both drifts", Solver()),
        Link("=", WITH_KEY_STEP, "rearranged", Identity()),
    ),
    hypotheses=(VECTORS, KEYS, BY_SIMILARITY),
    facts=(
        Fact(lam * sp.Abs(product), "<=", REPEATED, "the drift of the query", Lemma(WHOLE, {})),
        Fact(
            sp.Abs(key_product),
            "<=",
            QUERY_NORM_S * KEY_STEP,
            CAUCHY_SCHWARZ.title,
            Lemma(
                CAUCHY_SCHWARZ,
                {inner: key_product, first_norm: QUERY_NORM_S, second_norm: KEY_STEP},
            ),
        ),
    ),
)

ALONG = Derivation(
    "a key along the drift, one channel",
    CHANGE.subs(w, TURN * DRIFT),
    (
        Link(
            "=",
            lam * sp.Abs(DRIFT) ** 2,
            r"a number times its conjugate",
            Identity(),
        ),
    ),
)

KEY_ALONG = Derivation(
    "a step of the key along the query, one channel",
    KEY_CHANGE.subs(w_u, w + TURN * sp.exp(sp.I * ALPHA) * z_s),
    (Link("=", lam * sp.Abs(z_s) ** 2, "a number times its conjugate", Identity()),),
)

ATTAINED = Derivation(
    "summed: the key is as long as the drift",
    lam * STEP**2,
    (Link("=", REPEATED.subs(KEY_NORM, STEP), "both norms are the drift's", Solver()),),
    hypotheses=(BY_SIMILARITY,),
)

_COUNTER = sp.exp(-sp.I * s * theta) * z
COLUMN_STAYS = Derivation(
    "a query that turns against RoPE: the column stays, one channel",
    SHIFT_DIFFERENCE.subs(u, 0).subs({z_s: _COUNTER, w_u: w}, simultaneous=True),
    (Link("=", sp.S.Zero, "the turn of the position undoes its own", Identity()),),
)
DIAGONAL_STAYS = Derivation(
    "a query that repeats: the diagonal stays, one channel",
    SHIFT_DIFFERENCE.subs(u, s).subs({z_s: z, w_u: w}, simultaneous=True),
    (Link("=", sp.S.Zero, "nothing changes and nothing turns", Identity()),),
)
OTHER_SIMILARITY = (
    Derivation(
        "its similarity before RoPE, one channel",
        PRODUCT.subs(u, s).subs(z_s, _COUNTER),
        (Link("=", sp.cos(s * theta) * sp.Abs(z) ** 2, "the turn by s positions", Identity()),),
    ),
    Derivation(
        "its similarity after RoPE, one channel",
        PRODUCT.subs(u, 0).subs(z_s, z),
        (Link("=", sp.cos(s * theta) * sp.Abs(z) ** 2, "the turn by s positions", Identity()),),
    ),
)

_FIRST_CHANNEL = {theta: 1, s: 3, t: 1, i: 1, z: 1, w: 1, w_u: 1, lam: 1}


def _example(name: str, shift: int, moved: sp.Expr) -> tuple[Exact, ...]:
    """Where the channel of frequency 1 keeps its value, and where it does not, after 3 steps."""
    change = SHIFT_DIFFERENCE.subs(u, shift).subs(_FIRST_CHANNEL).subs(z_s, moved)
    similarity = PRODUCT.subs(u, 3 - shift).subs(_FIRST_CHANNEL).subs(z_s, moved)
    back = SHIFT_DIFFERENCE.subs(u, 3 - shift).subs(_FIRST_CHANNEL).subs(z_s, moved)
    values = {"theta": 1.0, "s": 3.0, "t": 1.0, "i": 1.0, "w": 1 + 0j, "w_u": 1 + 0j}
    values |= {"z": 1 + 0j, "z_s": complex(moved), "lambda": 1.0}
    return (
        Exact(f"{name}: nothing changes", sp.S.Zero, "=", sp.simplify(change)),
        Exact(
            f"{name}: the other similarity is below -0.98", similarity, "<", sp.Rational(-98, 100)
        ),
        Exact(
            f"{name}: the other pattern changes by more than 1.98",
            sp.Rational(198, 100),
            "<",
            sp.Abs(sp.re(back)),
            replay=lambda: (
                abs(floats(SHIFT_DIFFERENCE, **values, u=float(3 - shift))),
                1.98,
            ),
        ),
    )


CHANNELS = 2


def _turned(vector: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Real pairs turned by the angles of their channels."""
    x, y = vector.real, vector.imag
    return np.concatenate(
        [np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y]
    )


def direction_attack(bound: sp.Expr, shift: tuple[int, int], name: str, repeats: bool) -> Attack:
    """|a_{t+s,i+u} - a_{t,i}| from rotated vectors, over a bound from norms and similarity."""
    query_at, key_at = 9, 4

    def ratio(point: np.ndarray) -> float:
        parts = point[CHANNELS:].reshape(-1, 2, CHANNELS)
        query, later, key, *rest = parts[:, 0] + 1j * parts[:, 1]
        (other,) = rest or (key,)
        frequency = np.pi * (1 + point[:CHANNELS]) / 2
        q = _turned(query, query_at * frequency)
        q_s = _turned(later, (query_at + shift[0]) * frequency)
        k = _turned(key, key_at * frequency)
        k_u = _turned(other, (key_at + shift[1]) * frequency)
        observed = abs(float(q_s @ k_u) - float(q @ k))
        # the later query, as the shifted key sees it
        seen = _turned(later, (query_at + shift[0] - shift[1]) * frequency)
        norms = float(np.linalg.norm(q)), float(np.linalg.norm(q_s))
        if min(norms) < 1e-3:
            return 0.0
        similarity = min(1.0, max(-1.0, float(q @ seen) / (norms[0] * norms[1])))
        values = {
            "lambda": 1.0,
            "key_norm": np.linalg.norm(k),
            "key_step": np.linalg.norm(_turned(other - key, 0 * frequency)),
            "query_norm": norms[0],
            "query_norm_s": norms[1],
            "similarity": similarity,
        }
        allowed = float(evaluate(bound, {name: np.asarray(v) for name, v in values.items()}))
        # the root of a difference that cancels keeps half of the digits
        rounding = 1e-7 * norms[0] if allowed < 1e-3 else 1e-13
        return observed / (allowed + rounding)

    size = CHANNELS + 2 * CHANNELS * (3 if repeats else 4)
    zero, still, no_key = np.zeros(size), np.full(size, 0.5), np.full(size, 0.4)
    still[:CHANNELS] = -1.0
    no_key[5 * CHANNELS :] = 0.0
    return Attack(name, size, ratio, True, 1e-9, (zero, still, no_key))


PROOF = Proof(
    theorem=THEOREM,
    claims=(
        Claim(
            id="identity",
            kind="identity",
            statement=(
                r"Where the key repeats before RoPE, $k_{i+u} = k_i$, the logit changes by $\lambda"
                r"\langle D^{s-u}q_{t+s} - q_t, R_{i-t}k_i\rangle$, D the turn of one position, R"
                " the turn by a distance. For $u = 0$ (a column; no hypothesis) it is the drift"
                r" after RoPE, for $u = s$ (a diagonal) the drift before RoPE. Otherwise $\lambda"
                r"\langle D^{s-u} q_{t+s}, R_{i-t}(k_{i+u} - k_i)\rangle$ is added."
            ),
            derivations=(APART, REPEATS, COLUMN, DIAGONAL, FINITE_SUM),
        ),
        Claim(
            id="bound",
            kind="bound",
            statement=(
                r"$|\Delta a| \le \lambda\|k_i\|\sqrt{(r' - r)^2 + 2rr'(1 - S)}$, S the cosine of"
                r" $D^{s-u}q_{t+s}$ and $q_t$: q-similarity after RoPE for a column, before RoPE"
                " for a diagonal."
            ),
            derivations=(LENGTH, COSINES, COSINE, FINITE_SUM, WHOLE),
        ),
        Claim(
            id="key_step",
            kind="bound",
            statement=(
                r"Where the key does not repeat, $\lambda\|q_{t+s}\|\,\|k_{i+u} - k_i\|$ is added,"
                " keys before RoPE."
            ),
            derivations=(WHOLE_KEY,),
        ),
        Claim(
            id="attained",
            kind="sharpness",
            statement=(
                r"The bound is attained for all norms and every similarity from -1 to 1, at every"
                " shift, and with the drift of the key as well."
            ),
            derivations=(ALONG, KEY_ALONG, COSINES, COSINE, ATTAINED),
            witness=(
                r"$w = e^{\mathrm i(t-i)\theta}(e^{\mathrm i\alpha}z_{t+s} - z_t)$ on every"
                r" channel; $w' - w = e^{\mathrm i(t-i)\theta}e^{\mathrm i\alpha}z_{t+s}$ or 0"
            ),
            ratio="1",
        ),
        Claim(
            id="other_column",
            kind="counterexample",
            statement=(
                r"Similarity before RoPE decides nothing for a column: a query that turns against"
                r" RoPE, $z_{t+s} = e^{-\mathrm is\theta}z_t$, keeps every column exactly, while"
                r" its similarity before RoPE is $\cos s\theta$ on each channel. On RoPE's first"
                " channel (frequency 1), three steps: $\\cos 3 < -0.98$; the diagonal, which"
                " similarity before RoPE governs, changes by almost 2."
            ),
            derivations=(COLUMN_STAYS, OTHER_SIMILARITY[0]),
            instances=_example("column", 0, sp.exp(-3 * sp.I)),
        ),
        Claim(
            id="other_diagonal",
            kind="counterexample",
            statement=(
                "Similarity after RoPE decides nothing for a diagonal: a query that repeats keeps"
                " every diagonal of repeating keys exactly, while its similarity after RoPE is"
                r" $\cos s\theta$ on each channel; on RoPE's first channel, three steps, the column"
                " changes by almost 2."
            ),
            derivations=(DIAGONAL_STAYS, OTHER_SIMILARITY[1]),
            instances=_example("diagonal", 3, sp.S.One),
        ),
    ),
    readings=(
        Reading(
            "q-similarity after RoPE governs columns, before RoPE diagonals of repeating keys",
            "holds",
            ("identity", "bound", "attained"),
            "the other similarity may take any value meanwhile (claims other_column,"
            " other_diagonal)",
        ),
    ),
    attacks=(
        direction_attack(REPEATED, (1, 0), "a column, similarity after RoPE", True),
        direction_attack(REPEATED, (3, 3), "a diagonal, similarity before RoPE", True),
        direction_attack(WITH_KEY_STEP, (2, 5), "different shifts, the key drifts", False),
    ),
    meaning=(
        "A sink or any column is stable where queries after RoPE stay alike; a slash where queries"
        " (and keys) before RoPE do. A head can be high in one and low in the other, so that the"
        " wrong one predicts nothing."
    ),
)
