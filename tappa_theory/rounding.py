"""What float64 can do to a logit."""

UNIT_ROUNDOFF = 2.0**-53
"""Of float64."""


def logit_error(channels: int, angle: float, product: float) -> float:
    """Largest rounding error of a logit, or of lambda <q, k> from the vectors after RoPE.

    channels: M. angle: the largest position times frequency, radians. product: lambda |q||k|.
    An inner product of 2M features of few roundings each errs by less than (4M + 16) units in the
    last place of the product; turning to position p, and back, costs p theta units for either side.
    """
    return product * UNIT_ROUNDOFF * (4 * channels + 16 + 4 * angle)
