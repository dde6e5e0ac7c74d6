"""The shift identity and bound (B), per RoPE channel, in sympy: the one place they stand.

A channel of a query is a complex number z, of a key w, both before RoPE. The logit of query t and
key i is the sum over channels of ``LOGIT``. Shifting the query by s steps and the key by u steps
turns the channel by alpha = (s - u) theta; primes (z_s, w_u) are the shifted query and key.
Everything that a head is measured with is generated from these expressions (`separable`).
"""

import sympy as sp

z, z_s = sp.symbols("z z_s", complex=True)
"""Query channel at position t, and at position t + s."""
w, w_u = sp.symbols("w w_u", complex=True)
"""Key channel at position i, and at position i + u."""
t, i = sp.symbols("t i", integer=True, nonnegative=True)
s, u = sp.symbols("s u", integer=True)
theta = sp.Symbol("theta", nonnegative=True)
theta_star = sp.Symbol("theta_*", positive=True)
"""Angular frequency of the channel, and of a dominant channel that turns, radians per position."""
lam = sp.Symbol("lambda", positive=True)
"""Softmax scale times the squared RoPE attention scaling of the channel."""


ALPHA = (s - u) * theta
"""Angle by which the shift (s, u) turns the channel."""

LOGIT = lam * sp.re(z * sp.conjugate(w) * sp.exp(sp.I * (t - i) * theta))
"""a_{t,i}, one channel."""

SHIFTED_LOGIT = LOGIT.subs({z: z_s, w: w_u, t: t + s, i: i + u}, simultaneous=True)
"""a_{t+s,i+u}, one channel."""

SHIFT_DIFFERENCE = lam * sp.re(
    sp.exp(sp.I * (t - i) * theta)
    * (sp.exp(sp.I * ALPHA) * z_s * sp.conjugate(w_u) - z * sp.conjugate(w))
)
"""a_{t+s,i+u} - a_{t,i}, one channel: the right-hand side of the shift identity."""

QUERY_DRIFT = lam * sp.Abs(z_s - z) * sp.Abs(w_u)
KEY_DRIFT = lam * sp.Abs(z) * sp.Abs(w_u - w)


def rotation_residual(angle: sp.Expr) -> sp.Expr:
    """lambda 2|sin(angle/2)| |z||w|: what turning one channel by `angle` can change."""
    return lam * 2 * sp.Abs(sp.sin(angle / 2)) * sp.Abs(z) * sp.Abs(w)


BOUND = QUERY_DRIFT + KEY_DRIFT + rotation_residual(ALPHA)
"""Bound (B), one channel: |SHIFT_DIFFERENCE| <= BOUND."""


def _less_turned(drifts: sp.Expr, between: sp.Expr) -> sp.Expr:
    """`drifts` plus what the turn costs at the least of the energies it may act on.

    The turn comes before both drifts, after both, or between them, where it acts on `between`.
    """
    energy = sp.Min(sp.Abs(z) * sp.Abs(w), sp.Abs(z_s) * sp.Abs(w_u), between)
    return drifts + lam * 2 * sp.Abs(sp.sin(ALPHA / 2)) * energy


KEY_FIRST = QUERY_DRIFT + KEY_DRIFT
QUERY_FIRST = lam * sp.Abs(z_s - z) * sp.Abs(w) + lam * sp.Abs(z_s) * sp.Abs(w_u - w)
"""Both drifts, the key's taken first, and the query's taken first."""

TIGHTER_BOUND = sp.Min(
    _less_turned(KEY_FIRST, sp.Abs(z) * sp.Abs(w_u)),
    _less_turned(QUERY_FIRST, sp.Abs(z_s) * sp.Abs(w)),
)
"""The best of the six orders of query, key and turn: |SHIFT_DIFFERENCE| <= TIGHTER_BOUND <= BOUND.

No product of a query and a key feature, so it costs one evaluation per pair.
"""

psi = sp.Symbol("psi", real=True)
"""Angle from z conj(w) to z_s conj(w_u); any angle where one of them is 0."""

PSI = sp.arg(z_s * sp.conjugate(w_u) * sp.conjugate(z) * w)
"""`psi` from the channels."""

MODULUS_SQUARED = (sp.Abs(z_s) * sp.Abs(w_u) - sp.Abs(z) * sp.Abs(w)) ** 2 + 4 * sp.Abs(
    z_s
) * sp.Abs(w_u) * sp.Abs(z) * sp.Abs(w) * sp.sin((ALPHA + psi) / 2) ** 2
"""|exp(i alpha) z_s conj(w_u) - z conj(w)|^2: lambda times its root bounds the logit change of one
channel; turning z and z_s by one common phase leaves it as it is and can make it the change."""


def bound_at(shift: tuple[sp.Expr | int, sp.Expr | int], bound: sp.Expr = BOUND) -> sp.Expr:
    """`bound` (default (B)) at the shift (s, u), one channel."""
    return bound.subs({s: shift[0], u: shift[1]}, simultaneous=True)


dz, dw = sp.symbols("dz dw", complex=True)
"""Moves of a query and of a key: z_s - z and w_u - w."""

QUERY_SYMBOLS = (z, z_s, dz, t)
KEY_SYMBOLS = (w, w_u, dw, i)

LOGIT_CHANGE = (
    lam * sp.re(dz * sp.conjugate(w_u) * sp.exp(sp.I * (t + s - i - u) * theta))
    + lam * sp.re(z * sp.conjugate(dw) * sp.exp(sp.I * (t + s - i - u) * theta))
    + lam * sp.re(z * sp.conjugate(w) * sp.exp(sp.I * (t + s - i - u) * theta))
    - LOGIT
)
"""SHIFT_DIFFERENCE by its moves, one channel: it separates, and where little moves no large logits
cancel. Equal to SHIFTED_LOGIT - LOGIT, as a test certifies."""


def features_at(shift: tuple[int, int], expression: sp.Expr) -> sp.Expr:
    """`expression` at the shift (s, u); what is not moved is written as itself, its move as 0.

    With u = 0 the shifted key is the key, and terms of both are one.
    """
    fixed = {} if shift[0] else {z_s: z, dz: 0}
    fixed |= {} if shift[1] else {w_u: w, dw: 0}
    return bound_at(shift, expression).subs(fixed, simultaneous=True)
