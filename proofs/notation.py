"""How formulas are shown: expressions as LaTeX and as plain text, prose with formulas as text."""

from __future__ import annotations

import re
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from proofs.certificates import Meaning

SPECIAL = {"z_s": "z'", "w_u": "w'"}
"""Names of the code that are written with a prime: the shifted query and key."""

GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "varepsilon": "ε",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "phi": "φ",
    "varphi": "φ",
    "chi": "χ",
    "psi": "ψ",
    "omega": "ω",
    "Delta": "Δ",
    "Theta": "Θ",
    "Lambda": "Λ",
    "Pi": "Π",
    "Sigma": "Σ",
    "Phi": "Φ",
    "Psi": "Ψ",
    "Omega": "Ω",
}

SIGNS = {
    "le": "≤",
    "leq": "≤",
    "ge": "≥",
    "geq": "≥",
    "ne": "≠",
    "neq": "≠",
    "approx": "≈",
    "in": "∈",
    "notin": "∉",
    "to": "→",
    "mapsto": "↦",
    "Rightarrow": "⇒",
    "pm": "±",
    "cdot": "·",
    "times": "×",
    "infty": "∞",
    "sum": "Σ",
    "langle": "⟨",
    "rangle": "⟩",
    "lfloor": "⌊",
    "rfloor": "⌋",
    "lceil": "⌈",
    "rceil": "⌉",
    "dots": "…",
    "ldots": "…",
    "cdots": "…",
    "quad": "  ",
    "qquad": "    ",
    "|": "‖",
    ",": " ",
    ";": " ",
    ":": " ",
    "!": "",
    " ": " ",
    "{": "{",
    "}": "}",
    "%": "%",
    "_": "_",
    "left": "",
    "right": "",
    "bigl": "",
    "bigr": "",
    "limits": "",
    "ell": "ℓ",
}

FUNCTIONS = (
    *("sin", "cos", "tan", "arcsin", "arccos", "arg", "exp", "ln", "log"),
    *("min", "max", "sup", "inf"),
)
FRACTIONS = ("frac", "tfrac", "dfrac")

ACCENTS = {"bar": "\u0304", "tilde": "\u0303", "hat": "\u0302"}
"""Combining characters over one letter."""

SUPERSCRIPTS = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")

RELATIONS = {"=": ("=", "="), "<=": (r"\le", "≤"), "<": ("<", "<")}
"""Relation of a link -> (LaTeX, text)."""


def latex(expression: sp.Basic) -> str:
    """LaTeX of an expression or hypothesis."""
    return _Latex({"imaginary_unit": "ri"}).doprint(expression)


def text(expression: sp.Basic) -> str:
    """An expression or hypothesis in one line of Unicode text; the imaginary unit is ⅈ."""
    if isinstance(expression, Meaning):
        if len(expression.args) == 2 and not hasattr(expression, "says"):
            return " stands for ".join(map(text, expression.args))
        return plain(_says(expression))
    return _Text().doprint(expression)


def plain(prose: str) -> str:
    """Prose with formulas between dollar signs, as Unicode. Raises ValueError if one is open."""
    parts = prose.split("$")
    if len(parts) % 2 == 0:
        raise ValueError(f"a dollar sign without its partner: {prose}")
    return "".join(formula(part) if k % 2 else part for k, part in enumerate(parts))


def formula(source: str) -> str:
    """A LaTeX formula as Unicode text. Raises ValueError on a command it does not know."""
    shown = _convert(_tokens(source))
    return re.sub(r" {3,}", "  ", shown).strip()


def _says(meaning: Meaning) -> str:
    """A meaning in words, with its symbols as formulas."""
    says = getattr(meaning, "says", None)
    if says is not None:
        return says.format(*(f"${latex(part)}$" for part in meaning.args))
    shown = [f"${latex(part)}$" for part in meaning.args]
    if len(shown) == 2:  # a symbol and the value chosen for it
        return " stands for ".join(shown)
    return f"{type(meaning).__name__} of {', '.join(shown)}"


def prose_of(hypothesis: sp.Basic) -> str:
    """A hypothesis as prose with formulas."""
    return _says(hypothesis) if isinstance(hypothesis, Meaning) else f"${latex(hypothesis)}$"


class _PositiveFirst:
    """Sums that begin with a positive term: t - i, not -i + t."""

    def _as_ordered_terms(self, expr: sp.Expr, order: str | None = None) -> list[sp.Expr]:
        terms = super()._as_ordered_terms(expr, order)  # type: ignore[misc]
        return sorted(terms, key=lambda term: bool(term.could_extract_minus_sign()))


class _Latex(_PositiveFirst, LatexPrinter):
    def _print_Symbol(self, symbol: sp.Symbol, style: str = "plain") -> str:
        name = SPECIAL.get(symbol.name, symbol.name)
        base, _, below = name.partition("_")
        if len(base.rstrip("'")) > 1 and base.rstrip("'") not in GREEK:
            below = "*" if name.endswith("_*") else ""
            word = name.removesuffix("_*").replace("_", r"\_")
            return rf"\mathrm{{{word}}}" + (f"_{{{below}}}" if below else "")
        letter = base.rstrip("'")
        primes = base[len(letter) :]
        shown = (f"\\{letter}" if letter in GREEK else letter) + primes
        return shown + (f"_{{{below.strip('{}')}}}" if below else "")

    _print_Dummy = _print_Symbol

    def _print_re(self, expression: sp.Expr, exp: str | None = None) -> str:
        return self._function(r"\mathrm{Re}", expression, exp)

    def _print_im(self, expression: sp.Expr, exp: str | None = None) -> str:
        return self._function(r"\mathrm{Im}", expression, exp)

    def _function(self, name: str, expression: sp.Expr, exp: str | None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"{name}{power}\left({self._print(expression.args[0])}\right)"


class _Text(_PositiveFirst, StrPrinter):
    def doprint(self, expr: Any) -> str:
        return super().doprint(expr).replace("**", "^").replace("*", "·")

    def _print_Symbol(self, symbol: sp.Symbol) -> str:
        name = SPECIAL.get(symbol.name, symbol.name)
        base, low, below = name.partition("_")
        letter = base.rstrip("'")
        return GREEK.get(letter, letter) + base[len(letter) :] + low + below.replace("*", "⋆")

    _print_Dummy = _print_Symbol

    def _print_Pi(self, expression: sp.Expr) -> str:
        return "π"

    def _print_ImaginaryUnit(self, expression: sp.Expr) -> str:
        return "ⅈ"

    def _print_Abs(self, expression: sp.Expr) -> str:
        return f"|{self._print(expression.args[0])}|"

    def _print_conjugate(self, expression: sp.Expr) -> str:
        return f"conj({self._print(expression.args[0])})"

    def _print_re(self, expression: sp.Expr) -> str:
        return f"Re({self._print(expression.args[0])})"

    def _print_im(self, expression: sp.Expr) -> str:
        return f"Im({self._print(expression.args[0])})"

    def _print_Max(self, expression: sp.Expr) -> str:
        return f"max({self.stringify(expression.args, ', ')})"

    def _print_Min(self, expression: sp.Expr) -> str:
        return f"min({self.stringify(expression.args, ', ')})"

    def _print_asin(self, expression: sp.Expr) -> str:
        return f"arcsin({self._print(expression.args[0])})"

    def _print_Relational(self, expression: sp.Basic) -> str:
        signs = {"==": "=", "!=": "≠", "<=": "≤", ">=": "≥"}
        sign = signs.get(expression.rel_op, expression.rel_op)
        return f"{self._print(expression.lhs)} {sign} {self._print(expression.rhs)}"

    def _print_And(self, expression: sp.Basic) -> str:
        return " and ".join(self._print(part) for part in expression.args)

    def _print_Or(self, expression: sp.Basic) -> str:
        return " or ".join(self._print(part) for part in expression.args)


def _tokens(source: str) -> list[str]:
    return re.findall(r"\\[a-zA-Z]+|\\.|[{}^_]|[^\\{}^_]", source)


def _convert(tokens: list[str]) -> str:
    """The text of all tokens, which are used up."""
    out = ""
    while tokens:
        out = _joined(out, _next(tokens))
    return out


def _joined(before: str, after: str) -> str:
    """One after the other, with a blank between a letter and a word such as sin."""
    word = re.match(r"[a-z]{2,}", after)
    return before + (" " if word and before[-1:].isalnum() else "") + after


def _next(tokens: list[str]) -> str:
    token = tokens.pop(0)
    if token == "{":
        return _convert(_group(tokens))
    if token in "^_":
        return _script(token, _argument(tokens))
    if not token.startswith("\\"):
        return token
    name = token[1:]
    if name in GREEK:
        if tokens[:1] == [" "]:  # it only ends the command
            tokens.pop(0)
        return GREEK[name]
    if name in FUNCTIONS:
        return _function(name, tokens)
    if name in ACCENTS:
        inner = _argument(tokens)
        return inner[:1] + ACCENTS[name] + inner[1:] if len(inner) == 1 else f"{name}({inner})"
    if name in FRACTIONS:
        above, below = _argument(tokens), _argument(tokens)
        return f"{_numerator(above)}/{_denominator(below)}"
    if name == "sqrt":
        inner = _argument(tokens)
        return f"√{inner}" if len(inner) == 1 else f"√({inner})"
    if name == "overline":
        return f"conj({_argument(tokens)})"
    if name in ("mathrm", "text", "operatorname", "mathit"):
        return _argument(tokens)
    if name == "mathbb":
        return {"Z": "ℤ", "R": "ℝ", "C": "ℂ", "N": "ℕ"}[_argument(tokens)]
    if name in SIGNS:
        return SIGNS[name]
    raise ValueError(f"the LaTeX command {token} has no plain form")


def _function(name: str, tokens: list[str]) -> str:
    """A function's name with its powers and indices, and with what it is applied to."""
    out = name
    while tokens and tokens[0] in "^_":
        out += _next(tokens)
    while tokens and tokens[0] == " ":
        tokens.pop(0)
    if not tokens:
        return out
    if tokens[0][1:] in FRACTIONS:
        return f"{out}({_next(tokens)})"
    argument = _next(tokens)
    return out + (" " if argument[:1].isalnum() else "") + argument


def _argument(tokens: list[str]) -> str:
    while tokens and tokens[0] == " ":
        tokens.pop(0)
    if not tokens:
        raise ValueError("a LaTeX command without its argument")
    return _next(tokens)


def _group(tokens: list[str]) -> list[str]:
    """The tokens up to the brace that closes, which is dropped."""
    depth = 1
    inside: list[str] = []
    while tokens:
        token = tokens.pop(0)
        depth += {"{": 1, "}": -1}.get(token, 0)
        if depth == 0:
            return inside
        inside.append(token)
    raise ValueError("a brace that is not closed")


def _script(kind: str, inner: str) -> str:
    if kind == "^" and all(letter in "0123456789+-" for letter in inner):
        return inner.translate(SUPERSCRIPTS)
    return f"{kind}{inner}" if len(inner) == 1 else f"{kind}{{{inner}}}"


def _numerator(shown: str) -> str:
    return f"({shown})" if re.search(r"[-+ ]", shown.strip()) else shown.strip()


def _denominator(shown: str) -> str:
    simple = re.fullmatch(r"\d+|√?\w(_\S)?", shown.strip())
    return shown.strip() if simple else f"({shown.strip()})"
