"""Pairs settled beyond float64: the theorem's own expressions, evaluated in balls (Arb).

A ball encloses the exact value, so a sign that it shows is proven. The exact inputs are what was
captured: queries and keys after RoPE as the binary numbers they are, whole positions, and the
float64 numbers of frequencies, attention scaling and softmax scale.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import repeat
from threading import Lock
from typing import TYPE_CHECKING, Any

import sympy as sp
from flint import acb, arb, ctx
from sympy.printing.pycode import PythonCodePrinter

from tappa_theory.arrays import to_numpy
from tappa_theory.rope import to_channels
from tappa_theory.shift_identity import SHIFT_DIFFERENCE

if TYPE_CHECKING:
    from gpu_check.pairs import Claim, Head

PRECISIONS = (64, 128, 256)
"""Bits, one after the other, for the pairs that are still open."""
TIGHT = 2.0**-200
"""Radius of the slack, over the bound, up to which a pair that 256 bits cannot decide is tight."""
KEPT = 1024
"""Positions whose channels are kept in balls."""

_PRECISION = Lock()
"""The precision of python-flint is one for all threads."""

FUNCTIONS: dict[str, Callable] = {
    "Abs": abs,
    "re": lambda x: acb(x).real,
    "im": lambda x: acb(x).imag,
    "conjugate": lambda x: acb(x).conjugate(),
    "exp": lambda x: acb(x).exp() if isinstance(x, acb) else arb(x).exp(),
    "sin": lambda x: arb(x).sin(),
    "cos": lambda x: arb(x).cos(),
    "sqrt": lambda x: arb(x).sqrt(),
    "Min": lambda *values: reduce(lambda x, y: x.min(y), map(arb, values)),
    "Max": lambda *values: reduce(lambda x, y: x.max(y), map(arb, values)),
    "ratio": lambda p, q: arb(p) / q,
    "imaginary_unit": lambda: acb(0, 1),
    "circle": arb.pi,
}


class _Balls(PythonCodePrinter):
    """Python code without a float: fractions, i and pi are made when they are needed."""

    def _print_Rational(self, expression: sp.Rational) -> str:
        return f"ratio({expression.p}, {expression.q})"

    def _print_ImaginaryUnit(self, expression: Any) -> str:
        return "imaginary_unit()"

    def _print_Pi(self, expression: Any) -> str:
        return "circle()"


@dataclass(frozen=True)
class Settled:
    """Numbers of pairs by verdict.

    holds: proven, without those that are tight. violated: proven. tight: both sides are equal, or
    256 bits cannot tell them apart; counts as holds. undecided: the rest.
    """

    holds: int = 0
    violated: int = 0
    tight: int = 0
    undecided: int = 0


def settle(pairs: Iterable[tuple[int, int]], head: "Head", claim: "Claim") -> Settled:
    """Decide |logit change| <= bound of the claim for these pairs (t, i), with growing precision.

    Every pair must lie in the text before and after the shift.
    """
    left, counts = list(pairs), {"holds": 0, "violated": 0, "tight": 0}
    exact = Exact(head, claim) if left else None
    for precision in PRECISIONS:
        if exact is None or not left:
            break
        still = []
        for pair in left:
            with _PRECISION, ctx.workprec(precision):
                verdict = _verdict(*exact.sides(*pair), last=precision == PRECISIONS[-1])
            if verdict is None:
                still.append(pair)
            else:
                counts[verdict] += 1
        left = still
    return Settled(**counts, undecided=len(left))


def _verdict(observed: arb, bound: arb, last: bool) -> str | None:
    slack = bound - observed
    if slack.is_zero():
        return "tight"
    if slack >= 0:
        return "holds"
    if slack < 0:
        return "violated"
    # Neither: the ball reaches over zero, or is no number, and then its radius is infinite.
    return "tight" if last and slack.rad() <= TIGHT * bound else None


class Exact:
    """Both sides of a claim on one head, in balls of the precision that is set."""

    def __init__(self, head: "Head", claim: "Claim") -> None:
        self.head = head
        self.claim = claim
        self.names, self.compiled = _compiled(claim.theorem.bound)
        self.vectors = [to_numpy(side) for side in head.exact]
        self._kept = lru_cache(maxsize=2 * KEPT)(self._channel_balls)

    def sides(self, t: int, i: int) -> tuple[arb, arb]:
        """(|a_{t+s,i+u} - a_{t,i}|, bound), both summed over the channels."""
        s, u = self.claim.shift
        rope, bits = self.head.rope, ctx.prec
        values: dict[str, Any] = {
            "z": self._kept(0, t, bits),
            "z_s": self._kept(0, t + s, bits),
            "w": self._kept(1, i, bits),
            "w_u": self._kept(1, i + u, bits),
            "theta": [arb(theta) for theta in rope.frequencies.tolist()],
            "lambda": self._gain(),
        }
        numbers = {"t": t, "i": i, "s": s, "u": u, "L": s, "N": u}
        values |= {name: repeat(arb(number)) for name, number in numbers.items()}
        change, bound = arb(0), arb(0)
        for arguments in zip(*(values[name] for name in self.names), strict=False):
            of_change, of_bound = self.compiled(*arguments)
            change += of_change
            bound += of_bound
        return abs(change), bound

    def _gain(self) -> list[arb]:
        """lambda of every channel, exact: `channel_gain` rounds twice."""
        rope, scale = self.head.rope, arb(self.head.scale)
        turning = rope.rotary_dim // 2
        scaled = scale * arb(rope.attention_scaling) ** 2
        return [scaled] * turning + [scale] * (rope.frequencies.size - turning)

    def _channel_balls(self, side: int, position: int, bits: int) -> list[acb]:
        """The channels of a query (side 0) or key (1) before RoPE, `unrotate` in balls."""
        rope, vector = self.head.rope, self.vectors[side][position]
        captured = self.head.captured is not None
        channels = to_channels(vector, rope) if captured else vector
        values = [acb(value.real, value.imag) for value in channels.tolist()]
        if not captured:
            return values
        scaling = arb(rope.attention_scaling)
        for m in range(rope.rotary_dim // 2):
            angle = arb(position) * arb(float(rope.frequencies[m]))
            values[m] = values[m] * acb(0, -angle).exp() / scaling
        return values


@lru_cache(maxsize=64)
def _compiled(bound: sp.Expr) -> tuple[tuple[str, ...], Callable]:
    """Names of the arguments, and the function that gives change and bound of one channel.

    Raises ValueError if the bound needs what balls have no function for here.
    """
    symbols = {
        symbol.name: symbol for part in (SHIFT_DIFFERENCE, bound) for symbol in part.free_symbols
    }
    names = tuple(sorted(symbols))
    printer = _Balls(
        {
            "fully_qualified_modules": False,
            "inline": True,
            "allow_unknown_functions": True,
            "user_functions": {name: name for name in FUNCTIONS},
        }
    )
    function = sp.lambdify(
        [symbols[name] for name in names],
        [SHIFT_DIFFERENCE, bound],
        modules=[FUNCTIONS],
        printer=printer,
        cse=True,
    )
    if printer.module_imports:
        floats = ", ".join(sorted(set().union(*printer.module_imports.values())))
        raise ValueError(f"{bound} needs {floats}, which would be computed in floats")
    return names, function
