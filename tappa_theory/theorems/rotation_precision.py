"""Rotation precision: what rounding leaves of a RoPE rotation, from the angle to the logit."""

import sympy as sp

from tappa_theory.shift_identity import lam, theta, w, z
from tappa_theory.theorems.theorem import PublishedForm, Theorem

POSITION = sp.Symbol("p", nonnegative=True)
"""Position, a whole number that the type of the angles holds exactly (up to 2^24 in float32)."""

FREQUENCY_ERROR, U_ANGLE, TRIG_ERROR, U_TABLE, U, TINY = sp.symbols(
    "frequency_error u_angle trig_error u_table u tiny", nonnegative=True
)
"""Relative error of the stored angular frequency; unit roundoff of the angles p theta (float32:
2^-24); largest error of a computed cosine or sine of the rounded angle, before it is rounded to
the type of the table; unit roundoff of that type (UNIT_ROUNDOFF), 0 if it is not rounded; unit
roundoff of the rotation's arithmetic; half its smallest subnormal number, 0 without underflow."""

UNIT_ROUNDOFF = {
    "bfloat16": sp.Rational(1, 2**8),
    "float16": sp.Rational(1, 2**11),
    "float32": sp.Rational(1, 2**24),
    "float64": sp.Rational(1, 2**53),
}
"""2^-p for p significant bits: largest relative error of rounding to nearest."""

HALF_SUBNORMAL = {
    "bfloat16": sp.Rational(1, 2**134),
    "float16": sp.Rational(1, 2**25),
    "float32": sp.Rational(1, 2**150),
    "float64": sp.Rational(1, 2**1075),
}
"""Half the smallest subnormal number: largest error of rounding what lies below the normal ones."""

ANGLE_ERROR = POSITION * theta * ((1 + FREQUENCY_ERROR) * (1 + U_ANGLE) - 1)
"""Largest error of the computed angle p theta, radians."""

TABLE_ERROR = sp.sqrt(2) * TRIG_ERROR + U_TABLE / sp.sqrt(2)
"""Largest distance of the stored (cos, sin) from the unit vector of the computed angle."""

TABLE_ERROR_SCALED = sp.sqrt(2) * TRIG_ERROR + U_TABLE * (1 + sp.sqrt(2) * TRIG_ERROR)
"""The same relative to a factor that multiplies cos and sin before they are rounded (YaRN)."""

ANGLE_DEVIATION = ANGLE_ERROR + sp.asin(TABLE_ERROR)
"""Largest angle, radians, between the stored (cos, sin) and the exact p theta; TABLE_ERROR <= 1,
the stored pair not 0. ANGLE_DEVIATION_SCALED, of a scaled table: TABLE_ERROR_SCALED instead."""

ANGLE_DEVIATION_SCALED = ANGLE_ERROR + sp.asin(TABLE_ERROR_SCALED)

TURN_ERROR = ANGLE_ERROR + TABLE_ERROR
"""Largest |(cos, sin) stored - (cos, sin) exact|, as a complex number."""

ARITHMETIC = 4 / sp.sqrt(3) * U * (1 + U)
"""Largest relative error of x cos - y sin, x sin + y cos, each product and sum rounded."""

ARITHMETIC_FUSED = U * (2 + U)
"""The same where a fused multiply-add leaves one product of each sum unrounded."""

RELATIVE_ERROR = TURN_ERROR + (1 + TABLE_ERROR) * ARITHMETIC
"""Largest error of a rotated channel relative to |z|, without underflow."""

RELATIVE_ERROR_FUSED = TURN_ERROR + (1 + TABLE_ERROR) * ARITHMETIC_FUSED

UNDERFLOW = 2 * sp.sqrt(2) * TINY * (1 + U)
"""Largest error that underflow of the four products adds to a channel."""

CHANNEL_ERROR = sp.Abs(z) * RELATIVE_ERROR + UNDERFLOW
"""Largest |computed rotation of z - z exp(i p theta)|."""

CHANNEL_ERROR_FUSED = sp.Abs(z) * RELATIVE_ERROR_FUSED + UNDERFLOW
"""The same with fused multiply-adds."""

ERROR_Q, ERROR_K, ERROR_Q_S, ERROR_K_S = sp.symbols(
    "error_q error_k error_q_s error_k_s", nonnegative=True
)
"""RELATIVE_ERROR of the query at t, the key at i, the query at t + s and the key at i + s."""

INVARIANCE_LOSS = (
    lam
    * sp.Abs(z)
    * sp.Abs(w)
    * ((1 + ERROR_Q) * (1 + ERROR_K) - 1 + (1 + ERROR_Q_S) * (1 + ERROR_K_S) - 1)
)
"""Largest difference of the logits at (t, i) and (t + s, i + s) of the same query and key, which
are equal without rounding; one channel, products and sums of the logit itself exact."""

CROSSOVER = U_TABLE / (sp.sqrt(2) * U_ANGLE)
"""p theta beyond which rounding of the angle can cost more than rounding of the table."""

THEOREM = Theorem(
    id="rotation_precision",
    title="Rotation precision: what rounding leaves of a rotation",
    source="not in the paper: rounding of angles, of cosines and sines, and of the rotation",
    statement=(
        r"|\mathrm{fl}(z e^{\mathrm i p\theta}) - z e^{\mathrm i p\theta}| \le |z| \left("
        r"A + E + (1 + E)\tfrac{4}{\sqrt 3} u (1 + u)\right) + 2\sqrt 2\,h(1 + u),"
        r"\quad A = p\theta\left((1 + \varepsilon)(1 + u_a) - 1\right),"
        r"\quad E = \sqrt 2\,\delta + u_t/\sqrt 2"
    ),
    hypotheses=(
        r"the position $p$ is held exactly (in float32: $p \le 2^{24}$), the stored frequency has"
        r" relative error at most $\varepsilon$, and the product $p\theta$ is rounded once,"
        r" relative error at most $u_a$",
        r"cosine and sine of that angle are computed within $\delta$ each, lie in $[-1, 1]$, and"
        r" are rounded to nearest in a type of unit roundoff $u_t \le 1/2$ (underflow included)",
        r"every product and sum of the rotation has relative error at most $u$; below the normal"
        r" numbers products are off by at most $h$ more, and sums are exact",
    ),
    published=PublishedForm(
        text="Nothing is published: the paper takes rotations as exact.",
        reading="there is no published form to compare with",
    ),
    bound=CHANNEL_ERROR,
    auxiliary={
        "angle_error": ANGLE_ERROR,
        "table_error": TABLE_ERROR,
        "table_error_scaled": TABLE_ERROR_SCALED,
        "angle_deviation": ANGLE_DEVIATION,
        "angle_deviation_scaled": ANGLE_DEVIATION_SCALED,
        "turn_error": TURN_ERROR,
        "arithmetic": ARITHMETIC,
        "arithmetic_fused": ARITHMETIC_FUSED,
        "channel_error_fused": CHANNEL_ERROR_FUSED,
        "relative_error": RELATIVE_ERROR,
        "relative_error_fused": RELATIVE_ERROR_FUSED,
        "invariance_loss": INVARIANCE_LOSS,
        "crossover": CROSSOVER,
    },
)
