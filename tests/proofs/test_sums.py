"""Finite sums: what has the same normal form, and what must not be certified."""

from itertools import product

import numpy as np
import pytest
import sympy as sp

from proofs.engine.certificates import Solver
from proofs.engine.derivation import Lemma
from proofs.engine.relations import le, lt
from proofs.engine.sums import Cases, Differentiated, Opaque, Sums, Termwise, entry, real
from proofs.lemmas.exponential import TANGENT, AboveTangent
from proofs.query_drift.moments import ROW, THIRD_ABOVE, D, P, _third, i, j, low, n, over_keys, x
from tappa_theory.theorems.attention_distance import OMEGA
from tappa_theory.theorems.query_drift import MEAN

a, b, t, k = sp.symbols("a b t k", integer=True)
d = sp.Symbol("d", integer=True, positive=True)
q, m = sp.IndexedBase("q", real=True), sp.IndexedBase("m", real=True)
X = sp.Sum(q[i] * m[i, a], (i, 1, n))


def same(left, right, hypotheses=()):
    return Sums().certify(left, "=", right, hypotheses).ok


def numbers(expression, values):
    """The expression with n = d = 3 and these entries, in float64."""
    shown = expression.subs({n: 3, d: 3}).doit()
    put = {part: values[part] for part in shown.atoms(sp.Indexed)}
    return float(shown.xreplace(put).evalf())


LAWS = [
    (sp.Sum(q[i], (i, 1, n)) ** 2, sp.Sum(q[i] * q[j], (i, 1, n), (j, 1, n))),
    (sp.Sum(m[i, j], (i, 1, n), (j, 1, d)), sp.Sum(m[k, t], (t, 1, d), (k, 1, n))),
    (
        sp.Sum(q[i] * sp.Sum(m[i, j], (j, 1, n)), (i, 1, n)),
        sp.Sum(m[i, j] * q[i], (i, 1, n), (j, 1, n)),
    ),
    (sp.Sum(sp.Integer(1), (i, 1, n)), n),
    (
        sp.Sum(sp.Sum(m[i, a] * q[a], (a, 1, n)) ** 2, (i, 1, n)),
        sp.Sum(q[a] * q[b] * sp.Sum(m[i, a] * m[i, b], (i, 1, n)), (a, 1, n), (b, 1, n)),
    ),
    (sp.Sum(P[i] / sp.Sum(P[j], (j, 1, n)), (i, 1, n)), sp.Integer(1)),
    (sp.exp(x + q[i]) * sp.exp(-q[i]), sp.exp(x)),
    (sp.log(P[i] * sp.exp(q[i])), sp.log(P[i]) + q[i]),
]


@pytest.mark.parametrize(("left", "right"), LAWS)
def test_a_law_is_certified_and_no_multiple_of_it(left, right):
    assert same(left, right)
    assert not same(left, right * sp.Rational(101, 100))
    assert not same(left, right + 1)


DIFFERENT = [
    sp.Sum(q[i], (i, 1, n)) ** 2,
    sp.Sum(q[i] ** 2, (i, 1, n)),
    n * sp.Sum(q[i] ** 2, (i, 1, n)),
    sp.Sum(q[i] * q[j] * m[i, j], (i, 1, n), (j, 1, n)),
    sp.Sum(q[i] * q[j] * m[i, i], (i, 1, n), (j, 1, n)),
    sp.Sum(q[i] * q[j] * m[j, j], (i, 1, n), (j, 1, n)),
    sp.Sum(m[i, j] * m[j, i], (i, 1, n), (j, 1, n)),
    sp.Sum(m[i, j] * m[i, j], (i, 1, n), (j, 1, n)),
    sp.Sum(m[i, j], (i, 1, n), (j, 1, n)) ** 2,
    sp.Sum(m[i, j] * m[i, k], (i, 1, n), (j, 1, n), (k, 1, n)),
    sp.Sum(m[i, j] * m[k, j], (i, 1, n), (j, 1, n), (k, 1, n)),
    sp.Sum(sp.exp(q[i]), (i, 1, n)) ** 2,
    sp.Sum(sp.exp(q[i]) ** 2, (i, 1, n)),
    sp.Sum(sp.exp(q[i] * sp.Sum(q[j], (j, 1, n))), (i, 1, n)),
    sp.Sum(sp.exp(q[i] * sp.Sum(q[j] * m[i, j], (j, 1, n))), (i, 1, n)),
]


@pytest.mark.parametrize(("left", "right"), list(product(DIFFERENT, DIFFERENT)))
def test_sums_are_the_same_exactly_where_numbers_are(left, right):
    random = np.random.default_rng(1)
    values = {q[r]: random.normal() for r in range(1, 4)}
    values |= {m[r, c]: random.normal() for r in range(1, 4) for c in range(1, 4)}
    equal = numbers(left, values) == pytest.approx(numbers(right, values), rel=1e-9)
    try:
        answer = Sums().certify(left, "=", right).ok
    except ValueError:
        return  # not understood is not certified
    assert not answer or equal
    if not (left.has(sp.exp) or right.has(sp.exp)):
        assert answer == equal


@pytest.mark.parametrize(
    "bad",
    [
        sp.Sum(q[i], (i, 0, n)),
        sp.Sum(q[i], (i, 1, sp.Symbol("c"))),
        1 / sp.Sum(q[i], (i, 1, n)),
        sp.log(q[i]),
        sp.exp(sp.Symbol("c", complex=True)),
        1 / (1 + P[i]),
        q[1],
        sp.sqrt(P[i]),
        sp.sin(q[i]),
    ],
)
def test_what_has_no_normal_form_is_not_certified(bad):
    with pytest.raises(ValueError, match=r"sum|symbol|from 1|division|log|expon|index"):
        Sums().certify(bad, "=", bad + 1)


def test_totals_of_a_meaning_are_used_and_only_with_it():
    left, right = over_keys(P[i] * (D[i] + 2)), MEAN + 2
    assert same(left, right, (ROW,))
    assert not same(left, right)
    assert not same(left, MEAN + 3, (ROW,))
    assert not same(over_keys(P[i] ** 2 * D[i]), MEAN, (ROW,))
    assert not Sums().certify(left, "<=", right, (ROW,)).ok


def test_terms_compare_under_positive_weights_only():
    def answer(left, right, weight, hypotheses=(ROW,)):
        return Termwise(Solver(), weight).certify(
            over_keys(left), "<=", over_keys(right), hypotheses
        )

    assert answer(P[i] * low, P[i] * D[i], P[i]).ok
    assert not answer(P[i] * low, P[i] * D[i], P[i], ()).ok
    assert not answer(P[i] * D[i], P[i] * low, P[i]).ok
    assert not answer(D[i] * low, D[i] * D[i], D[i]).ok
    assert not answer(P[i] * low, P[i] * D[i], 1 / P[i]).ok
    assert (
        not Termwise(Solver(), P[i])
        .certify(over_keys(P[i] * low), "<=", over_keys(P[j] * D[j], j), (ROW,))
        .ok
    )
    # a symbol that is named as an entry is no entry
    assert not answer(P[i] * entry(D[i]), P[i] * D[i], P[i]).ok


def test_a_derivative_by_the_rules_and_no_other():
    left = sp.Derivative(over_keys(P[i] * sp.exp(x * D[i])), x)
    right = over_keys(P[i] * D[i] * sp.exp(x * D[i]))
    assert Differentiated().certify(left, "=", right).ok
    assert not Differentiated().certify(left, "=", 2 * right).ok
    assert not Differentiated().certify(left.expr, "=", left.expr).ok
    assert not Differentiated().certify(left, "<=", right).ok


def test_a_hidden_expression_may_be_no_more_than_it_is():
    y, r = sp.Symbol("y", real=True), sp.Symbol("r", positive=True)
    use = Opaque({sp.exp(y): r}, Solver())
    assert use.certify(sp.S.Zero, "<", sp.exp(y) + sp.exp(2 * y), ()).ok
    assert use.certify(sp.exp(-y) * sp.exp(y), "<=", sp.S.One, ()).ok
    assert not use.certify(sp.S.One, "<=", sp.exp(y), ()).ok
    assert not Opaque({y: r}, Solver()).certify(sp.S.Zero, "<", y, ()).ok
    assert not use.certify(r, "<=", sp.exp(y), ()).ok
    whole = sp.Symbol("w", positive=True, integer=True)
    assert not Opaque({sp.exp(y): whole}, Solver()).certify(sp.S.One, "<=", sp.exp(y), ()).ok


def test_a_logarithm_is_real_of_what_is_known_to_be_positive():
    c = sp.Symbol("c", real=True)
    assert not real(sp.log(c), ())
    assert real(sp.log(c) + 1, (lt(0, c),))
    assert not real(sp.log(c) + sp.log(-c), (lt(0, c),))
    hidden = Opaque({sp.log(c): sp.Symbol("h", real=True)}, Solver())
    assert not hidden.certify(sp.S.Zero, "<=", sp.log(c) ** 2, ()).ok
    assert hidden.certify(sp.S.Zero, "<=", sp.log(c) ** 2, (lt(0, c),)).ok


def test_both_cases_are_needed():
    chord, tangent, *_ = _third(1)
    link = THIRD_ABOVE.links[0].by
    sides = (THIRD_ABOVE.start, "<=", THIRD_ABOVE.end, [ROW])
    assert link.certify(*sides).ok
    for wrong in (chord, tangent):
        assert not Cases(link.condition, Lemma(wrong, {}), Lemma(wrong, {})).certify(*sides).ok


def test_the_exponential_is_above_its_tangent_and_no_steeper_line():
    y = sp.Symbol("y", real=True)
    assert all(part.ok for part in TANGENT)
    assert AboveTangent(y).certify(1 + y, "<=", sp.exp(y), ()).ok
    assert AboveTangent(OMEGA).certify(1 + OMEGA, "<", sp.exp(OMEGA), ()).ok
    assert not AboveTangent(y).certify(1 + y, "<", sp.exp(y), ()).ok
    assert not AboveTangent(y).certify(1 + 2 * y, "<=", sp.exp(y), ()).ok
    assert not AboveTangent(y).certify(1 + y, "<=", sp.exp(y) / 2, ()).ok
    assert not AboveTangent(y, -P[i]).certify(-P[i] * (1 + y), "<=", -P[i] * sp.exp(y), ()).ok
    assert not AboveTangent(sp.I * y).certify(1 + sp.I * y, "<=", sp.exp(sp.I * y), ()).ok
    assert not Solver().certify(1 + y, "<=", y**2, (le(0, y),)).ok
