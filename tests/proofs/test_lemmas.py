"""The lemmas, the induction that earns those of finite lists, and what it must not certify."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from proofs.engine.certificates import BySquares, Solver
from proofs.engine.derivation import Derivation, Lemma, Link
from proofs.lemmas import finite as lemmas
from proofs.lemmas.finite import (
    BETWEEN,
    CAUCHY_SCHWARZ,
    CENTRED,
    LOW_BELOW_TOP,
    MAX_NORM,
    POPOVICIU,
    SPREAD,
    SUM_BELOW_TOP,
    About,
    Alike,
    Dominated,
    Induction,
    InnerProduct,
    Multiple,
    Products,
    Size,
    Spread,
    first_norm,
    inner,
    largest,
    low,
    numbers,
    second_norm,
    squares,
    top,
    total,
)

ALL = {name: value for name, value in vars(lemmas).items() if isinstance(value, Derivation)}


@pytest.mark.parametrize("name", ALL)
def test_every_lemma_is_certified(name):
    assert ALL[name].ok, [step.evidence for step in ALL[name].steps()]


def with_link(derivation, **changes):
    """The derivation with its last link changed."""
    return replace(
        derivation, links=(*derivation.links[:-1], replace(derivation.links[-1], **changes))
    )


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name].end != 0])
def test_no_lemma_survives_a_smaller_right_hand_side(name):
    derivation = ALL[name]
    assert not with_link(derivation, right=derivation.end * sp.Rational(99, 100)).ok


def test_a_number_below_zero_is_not_certified_between_either():
    assert not with_link(BETWEEN, right=sp.Integer(-1)).ok


def test_the_facts_before_an_induction_are_needed():
    lone = with_link(BETWEEN, by=Induction(Solver()))
    assert not lone.ok
    # and they must speak of the same list
    other = sp.Symbol("other", positive=True)
    elsewhere = replace(BETWEEN, hypotheses=(Spread(other, total, squares, top, low),))
    assert not elsewhere.ok


def test_an_induction_uses_no_relation_that_holds_of_the_whole_list_only():
    # "the sum is 0" is no property of the shorter lists
    short = Derivation(
        "a list of sum 0 has largest entry 0",
        top,
        (Link("<=", sp.Integer(0), "wrong", Induction(Solver())),),
        hypotheses=(SPREAD, sp.Le(top, 0, evaluate=False)),
    )
    assert not short.ok


@pytest.mark.parametrize(
    "meanings",
    [
        (),
        (InnerProduct(inner, first_norm, first_norm),),
        (InnerProduct(inner, first_norm + 1, second_norm),),
        (
            InnerProduct(inner, first_norm, second_norm),
            Products(inner, first_norm, second_norm),
        ),
        (Products(inner, first_norm, sp.Symbol("r", nonnegative=True)),),
    ],
)
def test_an_induction_needs_one_meaning_of_its_own_symbols(meanings):
    assert not replace(CAUCHY_SCHWARZ, hypotheses=meanings).ok


def test_a_false_relation_fails_at_the_shortest_list_or_at_the_next_entry():
    at_first = Derivation(
        "a norm above 1",
        sp.Integer(1),
        (Link("<=", first_norm, "wrong", Induction(Solver())),),
        hypotheses=CAUCHY_SCHWARZ.hypotheses,
    )
    assert "shortest" in at_first.steps()[0].evidence.detail
    later = with_link(CAUCHY_SCHWARZ, right=first_norm * second_norm / 2)
    assert "one more entry" in later.steps()[0].evidence.detail
    assert not at_first.ok
    assert not later.ok


def test_a_lemma_of_vectors_holds_of_nothing_else():
    g, p, q = sp.Symbol("g_2", real=True), *sp.symbols("p_2 q_2", nonnegative=True)
    use = Lemma(CAUCHY_SCHWARZ, {inner: g, first_norm: p, second_norm: q})
    assert use.certify(sp.Abs(g), "<=", p * q, [InnerProduct(g, p, q)]).ok
    assert not use.certify(sp.Abs(g), "<=", p * q, []).ok
    assert not use.certify(sp.Abs(g), "<=", p * q, [InnerProduct(g, q, p)]).ok
    assert not use.certify(sp.Abs(g), "<=", p * q, [Products(g, p, q)]).ok
    assert not use.certify(sp.Abs(g), "<=", p * q, [sp.Ge(p, 1, evaluate=False)]).ok


def test_popoviciu_fails_with_a_wrong_middle():
    first, second = POPOVICIU.links
    wrong = replace(first, right=CENTRED + (total - numbers * top) ** 2)
    assert not replace(POPOVICIU, links=(wrong, second)).ok
    assert not replace(POPOVICIU, facts=()).ok


def test_by_squares_is_no_help_for_a_larger_count():
    wrong = Derivation(
        MAX_NORM.title,
        lemmas.norm,
        (Link("<=", largest, "the root of n is missing", Induction(BySquares(Solver()))),),
        hypotheses=MAX_NORM.hypotheses,
    )
    assert not wrong.ok


def fold(meaning, entries):
    """The quantities of the meaning for a list of entries, by its own definition."""
    values = [float(v) if not v.free_symbols else v for v in map(sp.sympify, meaning.shortest())]
    start = entries
    if any(isinstance(v, sp.Expr) and v.has(sp.Dummy) for v in values):
        dummies = sorted({d for v in meaning.shortest() for d in v.atoms(sp.Dummy)}, key=str)
        assert len(dummies) == 1
        raw = meaning.shortest()
        dummy = next(iter(raw[1].atoms(sp.Dummy)))
        values = [float(v.subs(dummy, entries[0][0])) for v in raw]
        start = entries[1:]
    for entry in start:
        after = meaning.longer()
        dummies = sorted({d for v in after for d in v.atoms(sp.Dummy)}, key=lambda d: d.dummy_index)
        put = dict(zip(meaning.args, values, strict=True)) | dict(zip(dummies, entry, strict=True))
        values = [float(v.subs(put)) for v in after]
    return values


def test_a_sum_is_bounded_only_by_bounds_of_all_of_its_terms():
    for sums in (lemmas.FINITE_SUM, lemmas.EQUAL_SUM):
        assert not replace(sums, hypotheses=()).ok
    # the moduli of terms do not add up to the modulus of the sum
    assert not with_link(lemmas.FINITE_SUM, relation="=").ok
    # without a bound of the terms nothing is known of the sum
    swapped = Dominated(lemmas.Y, lemmas.X)
    assert not replace(lemmas.FINITE_SUM, hypotheses=(swapped,)).ok


def test_the_sine_of_a_multiple_needs_the_unit_circle():
    lone = with_link(lemmas.SINE_OF_MULTIPLE, by=Induction(Solver()))
    assert not lone.ok
    for count in range(1, 6):
        at = {lemmas.steps: count, lemmas.single: sp.Rational(1, 3)}
        assert sp.Abs(sp.sin(sp.Rational(count, 3))) <= lemmas.SINE_OF_MULTIPLE.end.subs(at)


def test_the_meanings_of_sums_are_what_they_say():
    random = np.random.default_rng(6)
    entries = random.standard_normal(5)
    spare = random.uniform(0, 1, 5)
    X, Y, n, c, s = sp.symbols("X Y n C S", real=True)
    found = fold(Dominated(X, Y), list(zip(entries, spare, strict=True)))
    assert np.allclose(found, [entries.sum(), np.abs(entries).sum() + spare.sum()])
    assert np.allclose(fold(Alike(X, Y), [(e,) for e in entries]), [entries.sum()] * 2)
    angle = 0.7
    multiple = Multiple(n, c, s, sp.Float(angle))
    values = [float(v) for v in multiple.shortest()[:3]]
    for _ in range(4):
        put = dict(zip((n, c, s), values, strict=True))
        values = [float(v.subs(put)) for v in multiple.longer()[:3]]
    assert np.allclose(values, [5, np.cos(5 * angle), np.sin(5 * angle)])


def test_the_meanings_are_what_they_say():
    random = np.random.default_rng(5)
    x, y = random.standard_normal((2, 6))
    n, p, m, f, sq, up, down = sp.symbols("n p m f s up down", real=True)
    pairs = list(zip(x, y, strict=True))
    singles = [(number,) for number in x]
    norms = [np.linalg.norm(x), np.linalg.norm(y)]
    assert np.allclose(fold(InnerProduct(n, p, m), pairs), [x @ y, *norms])
    absolute = [(abs(a), abs(b)) for a, b in pairs]
    assert np.allclose(fold(Products(n, p, m), absolute), [np.abs(x) @ np.abs(y), *norms])
    assert np.allclose(fold(Size(n, p, m), singles), [6, norms[0], np.abs(x).max()])
    expected = [6, x.sum(), x @ x, x.max(), x.min()]
    assert np.allclose(fold(Spread(n, f, sq, up, down), singles), expected)
    about = About(n, f, sq, up, m)
    values = [float(v) for v in about.shortest()[:4]]
    for number in x:
        after = about.longer()
        dummy = next(iter(after[1].atoms(sp.Dummy)))
        put = dict(zip((n, f, sq, up), values, strict=True)) | {m: 0.3, dummy: number}
        values = [float(v.subs(put)) for v in after[:4]]
    assert np.allclose(values, [6, x.sum(), x @ x, np.sum((x - 0.3) ** 2)])


def test_the_lemmas_of_a_list_are_shown_in_words():
    assert r"inner product $g$" in sp.latex(CAUCHY_SCHWARZ.hypotheses[0])
    assert SUM_BELOW_TOP.hypotheses == LOW_BELOW_TOP.hypotheses == (SPREAD,)
