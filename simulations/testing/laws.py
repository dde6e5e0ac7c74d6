"""Laws that every RoPE kernel obeys, each within the proven bound of what rounding may change.

Applied to a kernel in five lines::

    LAWS = rope_laws(rotate, Rope.from_parameters(64, {"rope_theta": 1e4}), dtype="float32")

    @pytest.mark.parametrize("law", LAWS, ids=str)
    @given(data=st.data())
    def test_rotation(law, data):
        law.check(*data.draw(law.inputs()))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simulations.testing import misfits
from simulations.testing.arithmetic import Arithmetic
from simulations.testing.hints import Hints
from simulations.testing.kernel import Kernel, Rotate, dtype_name
from simulations.testing.misfits import Misfit
from simulations.testing.strategies import CONTEXT, Lengths, positions, queries
from tappa_theory.arrays import Array
from tappa_theory.rope import Rope

Measure = Callable[[Kernel, np.ndarray, np.ndarray, int], Misfit]


LAWS: dict[str, tuple[str, bool, Measure]] = {
    "exact angles": ("R(p) z = s exp(i p theta) z", False, misfits.exact_angles),
    "position 0": ("R(0) x = s x", False, misfits.position_0),
    "norm": ("|R(p) x| = s |x|", False, misfits.norm),
    "layout": ("a pair turns within itself", False, misfits.layout),
    "scaling": ("R(p) (a x) = a R(p) x", False, misfits.scaling),
    "additivity": ("R(p) (x + y) = R(p) x + R(p) y", False, misfits.additivity),
    "relative position": ("<R(p+n) q, R(i+n) k> = <R(p) q, R(i) k>", True, misfits.relative),
    "composition": ("R(n) R(p) x = s R(p+n) x", True, misfits.composition),
    "unrotated components": ("what RoPE leaves alone stays as it is", False, misfits.unrotated),
}
"""Name, claim, whether it turns vectors on by a further shift n, and what it measures.

s is the attention scaling, on the components that RoPE acts on; it is 1 but for scaled types.
"""


@dataclass(frozen=True, eq=False, repr=False)
class Law:
    """One law of RoPE, for one kernel.

    name: as the message of a failure calls it. claim: what it says. moves: does it turn vectors on
    by a further shift?
    """

    name: str
    claim: str
    moves: bool
    kernel: Kernel
    measure: Measure
    hints: Hints

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<law {self.name!r}>"

    def check(self, x: Array, positions: Array, shift: int = 0) -> float:
        """Apply the law to vectors at positions; the largest error over what is allowed, 0 to 1.

        x: (T, d), or (heads, T, d) for a kernel with heads; rounded to the kernel's dtype first.
        positions: (T,) integers. shift: further positions, for laws that move.
        Raises AssertionError, one line that names law, position, error and what is allowed.
        """
        x, positions = self.kernel.rounded(x), np.asarray(positions, dtype=np.int64)
        misfit = self.measure(self.kernel, x, positions, shift)
        ratios = misfit.ratios
        worst = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
        if ratios[worst] > 1:
            raise AssertionError(
                f"{self.name}: {misfit.place(tuple(map(int, worst)))}: off by"
                f" {misfit.error[worst]:.3g}, {misfit.allowed[worst]:.3g} allowed"
                f" ({self.claim}){self.hints}"
            )
        return float(ratios[worst])

    def inputs(self) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray, int]]:
        """Vectors, positions and a shift for `check`."""
        return _inputs(self.kernel, self.moves)


@st.composite
def _inputs(draw: st.DrawFn, kernel: Kernel, moves: bool) -> tuple[np.ndarray, np.ndarray, int]:
    dtype: Any = kernel.arithmetic.dtype
    x = draw(queries(kernel.rope.head_dim, kernel.lengths, heads=kernel.heads, dtype=dtype))
    at = draw(positions(x.shape[-2], context=kernel.context, consecutive=kernel.consecutive))
    left = kernel.context - 1 - int(at.max())
    return x, at, draw(st.integers(0, left)) if moves else 0


def rope_laws(
    rotate: Rotate,
    rope: Rope,
    *,
    dtype: Any = "float32",
    angles: str | None = None,
    table: str | None = None,
    rotation: str | None = None,
    frequencies: float | None = None,
    trigonometry: float | None = None,
    context: int = CONTEXT,
    lengths: Lengths = (1, 8),
    heads: int | None = None,
    consecutive: bool = False,
    device: Any = None,
) -> tuple[Law, ...]:
    """The laws for rotate(x, positions) -> x after RoPE.

    x: (T, d), or (heads, T, d) where `heads` is given; positions: (T,) int64. Both come as numpy
    arrays, or as torch tensors on `device` if dtype is one of torch's.
    rope: the RoPE that the kernel should apply.
    dtype: of x. angles: in which frequencies, angles, cosines and sines are computed (default
    float32; float64 if dtype is). table: in which cosines and sines are stored, rotation: in which
    products and sums are rounded (default dtype). From these the tolerances follow, by the theorem
    `rotation_precision`, and from frequencies and trigonometry, bounds on the errors of frequency
    (relative), cosine and sine, if better ones are known than those of common libraries.
    context: positions stay below it. lengths: T, or the least and the largest T.
    consecutive: the kernel takes only positions start, start + 1, ...

    Raises InputError if there is no bound for a dtype, or for positions up to the context.
    """
    name = dtype_name(dtype)
    wide = "float64" if name == "float64" else "float32"
    arithmetic = Arithmetic(
        name, angles or wide, table or name, rotation or name, frequencies, trigonometry
    )
    kernel = Kernel(rotate, rope, dtype, arithmetic, context, lengths, heads, consecutive, device)
    hints = Hints(kernel)
    return tuple(
        Law(name, claim, moves, kernel, measure, hints)
        for name, (claim, moves, measure) in LAWS.items()
        if (name != "composition" or not consecutive)
        and (name != "unrotated components" or rope.rotary_dim < rope.head_dim)
    )
