"""How formulas are shown: what is gathered, broken and quantified says the same as before."""

import pytest
import sympy as sp

from proofs.engine.certificates import Identity
from proofs.engine.derivation import Derivation, Link
from proofs.ledger.ledger import _free, lemmas_of, proof_of
from proofs.ledger.notation import distance, every, formula, latex, lines, plain, real_part, text
from proofs.ledger.symbols import MEANS, PRINTED, SETTING, explained
from tappa_theory.shift_identity import SHIFT_DIFFERENCE, i, lam, s, t, theta, u, w, w_u, z, z_s
from tappa_theory.theorems import THEOREMS

POINT = {
    z: 0.3 + 1.1j,
    z_s: -0.7 + 0.2j,
    w: 1.3 - 0.4j,
    w_u: 0.9 + 0.8j,
    theta: 0.37,
    lam: 0.5,
    t: 7,
    i: 2,
    s: 3,
    u: 1,
}


def value(expression):
    return complex(expression.subs(POINT).doit().evalf())


def test_a_real_part_that_sympy_split_is_shown_whole():
    split = SHIFT_DIFFERENCE / lam
    whole = real_part(split)
    assert isinstance(whole, sp.re)
    assert value(whole) == pytest.approx(value(split), abs=1e-12)
    assert text(SHIFT_DIFFERENCE).startswith("λ·Re((z'·exp(")
    assert latex(SHIFT_DIFFERENCE).startswith(r"\lambda \mathrm{Re}\left(")


@pytest.mark.parametrize(
    "total",
    [
        sp.re(z * w) * sp.cos(theta) + sp.re(z * w) * sp.sin(theta),  # not the imaginary part
        sp.re(z * w) * sp.cos(theta) - sp.im(z * w) * sp.sin(theta),  # the other sign
        sp.re(z * w) * sp.cos(theta) + sp.im(z * w) * sp.sin(2 * theta),
        sp.I * sp.re(z * w) * sp.cos(theta) + sp.I * sp.im(z * w) * sp.sin(theta),
        sp.re(z) * sp.re(w) * sp.cos(theta) + sp.im(z) * sp.im(w) * sp.sin(theta),
        (1 + sp.re(z)) * sp.cos(theta) + (1 + sp.im(z)) * sp.sin(theta),
        sp.cos(theta) + sp.sin(theta),
        z + w,
    ],
)
def test_nothing_else_is_taken_for_a_real_part(total):
    assert real_part(total) is None


def test_a_squared_distance_is_shown_as_a_modulus():
    squared = w * sp.conjugate(w) + z * sp.conjugate(z) - w * sp.conjugate(z) - z * sp.conjugate(w)
    whole = distance(squared)
    assert value(whole) ** 2 == pytest.approx(value(squared), abs=1e-12)
    assert text(sp.sqrt(squared)) in ("|w - z|", "|z - w|")
    assert distance(squared + 1) is None
    assert distance(squared + 2 * w * sp.conjugate(z)) is None
    assert "sqrt" in text(sp.sqrt(z * sp.conjugate(w) + 1))


def test_every_symbol_comes_with_what_is_assumed_of_it():
    x = sp.Symbol("x", real=True)
    n = sp.Symbol("n", integer=True, positive=True)
    said = plain(every({z, x, theta, lam, s, t, n}))
    assert said == ("complex z; real x; real θ ≥ 0; real λ > 0; whole s; whole t ≥ 0; whole n ≥ 1")
    assert every(set()) == ""


def test_a_short_formula_is_one_line():
    assert lines(r"\left|z\right| + 1", 40) == [r"\left|z\right| + 1"]


def test_a_long_formula_is_broken_at_the_shallowest_brackets():
    source = r"\left(aaaa + bbbb\right) \left(cccc - dddd\right) + \left(eeee + ffff\right)"
    assert lines(source, 25) == ["(aaaa + bbbb) (cccc - dddd)", "+ (eeee + ffff)"]
    inside = lines(r"\left(aaaaaaaa + bbbbbbbbb - ccccccc\right)", 16)
    assert inside == ["(aaaaaaaa", "+ bbbbbbbbb", "- ccccccc)"]
    unbreakable = r"\frac{aaaaaaaaaaaaaa + bbbbbbbbbbbbbbbb}{2}"
    assert lines(unbreakable, 10) == [unbreakable]


def test_lines_lose_nothing():
    source = latex(SHIFT_DIFFERENCE**2 + SHIFT_DIFFERENCE * sp.Abs(z - w) / 3)
    bare = source.replace(r"\left", "").replace(r"\right", "").replace(" ", "")
    for limit in (10, 25, 60, 1000):
        joined = "".join(lines(source, limit)).replace(r"\left", "").replace(r"\right", "")
        assert joined.replace(" ", "") == bare


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (r"\psi = 2\lambda \sigma", "ψ = 2λσ"),
        (r"\alpha \le \pi", "α ≤ π"),
        (r"\tfrac{\theta_m}{2}", "θ_m/2"),
        (r"\|q\|^2", "‖q‖²"),
        (r"\kappa = 1/2", "κ = 1/2"),
        (r"\varepsilon > 0", "ε > 0"),
        (r"\psi <= \pi", "ψ <= π"),
        (r"\cos^2 + \sin^2 = 1", "cos² + sin² = 1"),
        (r"\sin^2 y", "sin² y"),
        (r"\lfloor x_n\rfloor", "⌊x_n⌋"),
        (r"\langle k_i, q \rangle", "⟨k_i, q⟩"),
        (r"\cos(\tau\theta/2 )", "cos(τθ/2)"),
        (r"\tfrac12 e^{x}", "(1/2) e^{x}".replace("^{x}", "^x")),
        (r"\tfrac\pi2 \tfrac{\varepsilon}{r}", "(π/2) ε/r"),
        (r"\frac{\lambda\sigma^+}{\sqrt n}\,\|\Pi q\| \le 1", "(λσ⁺/√n) ‖Πq‖ ≤ 1"),
        (r"|\tfrac{a}{b}| + \frac{c}{d}", "|a/b| + c/d"),
        (r"\|\tfrac{a}{b}\| \le \tfrac12\|q\|", "‖a/b‖ ≤ (1/2)‖q‖"),
        (r"\frac{a}{b} \cdot \frac{c}{d},\ x", "a/b · c/d, x"),
        (r"\theta_* + A_{*}", "θ_⋆ + A_⋆"),
        (r"\tanh\tfrac\omega4 \mp \xi", "tanh(ω/4) ∓ ξ"),
        (r"\int f", "∫ f"),
    ],
)
def test_latex_as_text(source, shown):
    assert formula(source) == shown


def test_an_unknown_command_stays_as_it_is():
    assert formula(r"\unheard{x} \mp 1") == r"\unheardx ∓ 1"


def test_an_open_formula_is_refused():
    with pytest.raises(ValueError, match="without its partner"):
        plain("a $b")


def test_sums_derivatives_and_entries_are_written_as_formulas():
    n, k = sp.symbols("n k", integer=True, positive=True)
    x = sp.Symbol("x", real=True)
    p = sp.IndexedBase("p", real=True)
    whole = sp.Sum(p[k] + x, (k, 1, n))
    assert text(whole) == "Σ_{k=1}^{n} (x + p_k)"
    assert text(sp.exp(x) * sp.Sum(p[k], (k, 1, n))) in (
        "(Σ_{k=1}^{n} p_k)·exp(x)",
        "exp(x)·(Σ_{k=1}^{n} p_k)",
    )
    assert text(sp.Sum(p[k], (k, 1, n)) - x) == "-x + Σ_{k=1}^{n} p_k"
    assert text(sp.Sum(p[k], (k, 1, n)) ** 2) == "(Σ_{k=1}^{n} p_k)^2"
    assert text(sp.Derivative(sp.sin(x), (x, 2))) == "d²/dx² (sin(x))"
    assert text(sp.IndexedBase("p")[n, k]) == "p_{n,k}"


def test_printed_names_do_not_meet_those_of_other_symbols():
    for theorem in THEOREMS:
        proof = proof_of(theorem)
        parts = [part for claim in proof.claims for part in claim.derivations]
        groups = [_free(part) for part in [*parts, *lemmas_of(proof)]]
        formulas = (proof.theorem.bound, *proof.theorem.auxiliary.values())
        groups.append({symbol for formula in formulas for symbol in formula.free_symbols})
        for group in groups:
            names = {getattr(symbol, "name", str(symbol)): latex(symbol) for symbol in group}
            assert len(set(names.values())) == len(names), (theorem, names)


def test_every_word_and_every_printed_name_of_the_registry_is_explained():
    for theorem in THEOREMS.values():
        formulas = (theorem.bound, *theorem.auxiliary.values())
        symbols = {symbol for formula in formulas for symbol in formula.free_symbols}
        unexplained = {symbol.name for symbol in symbols} - SETTING
        assert unexplained == unexplained & set(explained(symbols, theorem.id)), theorem.id


def test_every_explanation_is_of_a_symbol_of_the_registry():
    names = {
        symbol.name
        for theorem in THEOREMS.values()
        for formula in (theorem.bound, *theorem.auxiliary.values())
        for symbol in formula.free_symbols
    }
    assert set(MEANS) | set(PRINTED) <= names


def test_of_a_list_one_entry_is_said():
    n, k, j = sp.symbols("n k j", integer=True, positive=True)
    x = sp.Symbol("x", real=True)
    p = sp.IndexedBase("p", real=True)
    for start, said in (
        (p[j] + sp.Sum(x * p[k], (k, 1, n)), "real x, p_j; whole n ≥ 1"),
        (sp.Sum(k * p[k], (k, 1, n)) + k, "real p_k; whole k, n ≥ 1"),
    ):
        derivation = Derivation("", start, (Link("=", start, "", Identity()),))
        assert plain(every(_free(derivation))) == said
