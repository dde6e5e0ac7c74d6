"""A proof of few milliseconds that has one of everything, in the place of a theorem's."""

import pytest
import sympy as sp

from proofs.engine.attack import Attack
from proofs.engine.balls import Balls
from proofs.engine.certificates import Identity, Solver
from proofs.engine.claims import Claim, Conclusion, Exact, Proof, Reading
from proofs.engine.derivation import Derivation, Link
from proofs.ledger import ledger
from tappa_theory.shift_identity import BOUND
from tappa_theory.theorems import THEOREMS

x, y = sp.symbols("x y", real=True)
LONG = sum((x**k * y ** (20 - k) for k in range(2, 19)), start=sp.Integer(0))


def make_proof(*, by=None, second="refuted", rises=1.0, relation="<"):
    """One of everything, new each time: what is certified once is remembered by the object.

    by: certificate of the claim "double". second: verdict of the second reading. rises: largest
    ratio that the attack can find. relation: of the instance 1 ? 2.
    """
    at_least_0 = Link("<=", BOUND, "a sum of products of moduli", Solver())
    square = Derivation(
        "the square of $x$ <= its double",
        x**2,
        (Link("<=", x**2 + y**2, "a square is added", Solver()),),
        hypotheses=(sp.Gt(x, 0), sp.Le(y, 1)),
    )
    expanded = Link("=", x**2 + 2 * x + 1, "binomial", by or Identity())
    long_sum = Link("=", sp.expand(LONG * (x + 1)), "multiplied out", Identity())
    covered = Link("<=", sp.Integer(2), "by intervals", Balls(x, sp.Integer(0), sp.Integer(1)))
    on_interval = (sp.Ge(x, 0), sp.Le(x, 1))
    one = Exact("one", sp.Integer(1), relation, sp.Integer(2))
    whole = Derivation("(B)", sp.Integer(0), (at_least_0,))
    double = Derivation("twice", (x + 1) ** 2, (expanded,))
    long = Derivation("sum", LONG * (x + 1), (long_sum,))
    sine = Derivation("sine", sp.sin(x), (covered,), on_interval)
    counted = Conclusion("so it is", "counting")
    return Proof(
        THEOREMS["shift_bound"],
        (
            Claim("whole", "bound", "(B) is not negative", (whole,)),
            Claim("square", "bound", "$x^2$ grows, see [this]", (square,)),
            Claim("double", "identity", "$(x + 1)^2$", (double,)),
            Claim("long", "identity", "a long sum", (long,)),
            Claim("again", "bound", "the same", (square,)),
            Claim("balls", "bound", "a sine", (sine,)),
            Claim("best", "sharpness", "reached", (square,), witness="$y = 0$", ratio="1"),
            Claim("less", "counterexample", "1 < 2", instances=(one,), conclusions=(counted,)),
        ),
        (
            Reading("for *all* $x$", "holds", ("double",), "mind $|x|$"),
            Reading("for none", second, ("less",) if second == "refuted" else ("square",)),
        ),
        (Attack("a|b", 1, lambda point: rises * (1 - point[0] ** 2), True, 1e-9),),
        "It means $x$.",
    )


@pytest.fixture
def tiny_proof(monkeypatch):
    """Put a new tiny proof, changed as asked, in the place of that of shift_bound."""

    def put(**changes):
        proof = make_proof(**changes)
        monkeypatch.setattr(ledger, "proof_of", lambda name: proof)
        return proof

    return put


@pytest.fixture(scope="session")
def document():
    """The ledger of the tiny proof."""
    proof = make_proof()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "proof_of", lambda name: proof)
        return ledger.prove(["shift_bound"], workers=1)
