"""What rounding can do to a logit."""

UNIT_ROUNDOFF = 2.0**-53
"""Of float64."""


def logit_error(channels: int, angle: float, product: float) -> float:
    """Largest rounding error of a logit, or of lambda <q, k> from the vectors after RoPE.

    channels: M. angle: the largest position times frequency, radians. product: lambda |q||k|.
    To first order the sum of 2M terms errs by 2M units in the last place of the product; cosines,
    products, the scale and the division by the attention scaling by 47; and turning either side to
    its position, and back, by its angle in units each. The rest is more than the second order.
    """
    return product * UNIT_ROUNDOFF * (4 * channels + 64 + 4 * angle)


BFLOAT16_ROUNDOFF = 2.0**-8
"""Unit roundoff of bfloat16, whose significand has 8 bits."""
ACCUMULATION = 2.0**-22
"""Largest error of one addition in a matrix unit that accumulates in float32, relative to the sum
of the magnitudes added: a truncated addition, 2^-23, with one bit lost in alignment. A hypothesis
about the hardware; a test measures it."""


def bfloat16_product_error(terms: int) -> float:
    """Largest error of an inner product of vectors rounded to bfloat16, over |x||y|.

    terms: length of the vectors. Each factor is off by u, so each product by 2u + u^2, and the sum
    of the magnitudes is at most |x||y| (Cauchy-Schwarz). Products of two bfloat16 are exact in
    float32. Every term is part of `terms` additions at most; eight more roundings are left for
    scaling and comparing. No term may underflow.
    """
    u = BFLOAT16_ROUNDOFF
    return 2 * u + u**2 + (terms + 8) * ACCUMULATION * (1 + u) ** 2
