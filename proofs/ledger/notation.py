"""How formulas are shown: expressions as LaTeX and as plain text, prose with formulas as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from proofs.engine.certificates import Meaning
from proofs.ledger.symbols import PRINTED

GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "zeta": "ζ",
    "varepsilon": "ε",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "xi": "ξ",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "phi": "φ",
    "varphi": "φ",
    "chi": "χ",
    "psi": "ψ",
    "omega": "ω",
    "Gamma": "Γ",
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
    "mp": "∓",
    "equiv": "≡",
    "sim": "∼",
    "ll": "≪",
    "gg": "≫",
    "perp": "⊥",
    "subset": "⊂",
    "cup": "∪",
    "cap": "∩",
    "circ": "∘",
    "prod": "Π",
    "int": "∫",
    "iff": "⇔",
    "star": "⋆",
    "prime": "′",
    "lVert": "‖",
    "rVert": "‖",
    "lvert": "|",
    "rvert": "|",
    "Bigl": "",
    "Bigr": "",
    "big": "",
    "Big": "",
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
    *("sin", "cos", "tan", "tanh", "arcsin", "arccos", "arg", "exp", "ln", "log"),
    *("min", "max", "sup", "inf"),
)
FRACTIONS = ("frac", "tfrac", "dfrac")
OPERATORS = tuple("+-=<>,.;:)")
RELATION = re.compile("[≤≥≠≈∈→⇒±∓≡∼≪≫⇔]")
"""What comes after a function, and is no argument of it."""

ACCENTS = {"bar": "\u0304", "tilde": "\u0303", "hat": "\u0302"}
"""Combining characters over one letter."""

SUPERSCRIPTS = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")

RELATIONS = {"=": ("=", "="), "<=": (r"\le", "≤"), "<": ("<", "<")}
"""Relation of a link -> (LaTeX, text)."""


def latex(expression: sp.Basic) -> str:
    """LaTeX of an expression or hypothesis."""
    return _Latex({"imaginary_unit": "ri", "inv_trig_style": "full"}).doprint(expression)


def text(expression: sp.Basic) -> str:
    """An expression or hypothesis in one line of Unicode text; the imaginary unit is ⅈ."""
    if isinstance(expression, Meaning):
        if len(expression.args) == 2 and not hasattr(expression, "says"):
            return " stands for ".join(map(text, expression.args))
        return plain(_says(expression))
    return _Text().doprint(expression)


def lines(source: str, limit: int) -> list[str]:
    """A LaTeX formula in lines of about `limit` signs, broken before a sum's signs or after commas.

    The shallowest brackets are broken first. Brackets lose their stretch where a line is broken.
    """
    if signs(source) <= limit:
        return [source]
    parts = _broken(_tokens(source), limit)
    return [re.sub(r"\\(left|right)(?![a-zA-Z])", "", part) for part in parts]


def signs(source: str) -> int:
    """About how many signs a formula shows in a row."""
    tokens = _tokens(re.sub(r"\\(left|right|mathrm|operatorname|mathrm|text|,)", "", source))
    return sum(token not in "{}^_ " for token in tokens)


def _broken(tokens: list[str], limit: int) -> list[str]:
    places = _places(tokens)
    found: list[str] = []
    start = 0
    while signs("".join(tokens[start:])) > limit:
        fitting = [
            (depth, -place)
            for place, depth in places
            if place > start and limit / 3 <= signs("".join(tokens[start:place])) <= limit
        ]
        if not fitting:  # the next place there is, if any
            fitting = [(0, -place) for place, _ in places if place > start + 1][:1]
        if not fitting:
            break
        place = -min(fitting)[1]
        found.append("".join(tokens[start:place]).strip())
        start = place
    return [*found, "".join(tokens[start:]).strip()]


def _places(tokens: list[str]) -> list[tuple[int, int]]:
    """(index, depth in brackets) of the tokens before which a line may end."""
    places = []
    braces = depth = 0
    for k, token in enumerate(tokens):
        braces += {"{": 1, "}": -1}.get(token, 0)
        if token in (r"\left", r"\right"):
            depth += 1 if token == r"\left" else -1
        elif tokens[k - 1] not in (r"\left", r"\right"):
            depth += {"(": 1, ")": -1}.get(token, 0)
        if braces or k == 0:
            continue
        binary = token in "+-" and tokens[k - 1] == " " and tokens[k - 2] not in "(,|"
        if binary or tokens[k - 1] == ",":
            places.append((k, depth))
    return places


def plain(prose: str) -> str:
    """Prose with formulas between dollar signs, as Unicode. Raises ValueError if one is open."""
    parts = prose.split("$")
    if len(parts) % 2 == 0:
        raise ValueError(f"a dollar sign without its partner: {prose}")
    return "".join(
        formula(part) if k % 2 else part.replace("<=", "≤") for k, part in enumerate(parts)
    )


def formula(source: str) -> str:
    """A LaTeX formula as Unicode text; a command that it does not know stays as it is typed."""
    shown = _convert(_tokens(source))
    shown = re.sub(r"([(\[⌊⌈⟨]) +", r"\1", shown)
    shown = re.sub(r" +([)\]⌋⌉⟩])", r"\1", shown)
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


def real_part(total: sp.Expr) -> sp.Expr | None:
    """A cos y + B sin y with A = sum of c Re X, B = sum of c Im X, as Re(e^{-iy} sum of c X).

    sympy splits such real parts by itself, which hides what they are. None for any other sum.
    """
    terms = {}
    for term in total.args if total.is_Add else ():
        wave = next((f for f in sp.Mul.make_args(term) if isinstance(f, sp.sin | sp.cos)), None)
        if wave is not None:
            terms[wave.func] = (wave.args[0], term / wave)
    if len(terms) != 2 or len(total.args) != 2 or terms[sp.sin][0] != terms[sp.cos][0]:
        return None
    angle, by_cosine = terms[sp.cos]
    inner = _linear_in_real_parts(by_cosine)
    if inner is None or not angle.is_extended_real:
        return None
    if sp.expand(by_cosine.replace(sp.re, sp.im) - terms[sp.sin][1]) != 0:
        return None
    return sp.re(sp.exp(-sp.I * sp.factor(angle)) * inner, evaluate=False)


def _linear_in_real_parts(total: sp.Expr) -> sp.Expr | None:
    """sum of c X for a sum of c Re X with real c; None for anything else."""
    names = {part: sp.Dummy() for part in total.atoms(sp.re)}
    linear = total.xreplace(names)
    factors = [sp.diff(linear, name) for name in names.values()]
    plain_factors = all(
        c.is_extended_real
        and not c.atoms(sp.re, sp.im)
        and not c.free_symbols & set(names.values())
        for c in factors
    )
    if not names or not plain_factors or linear.subs(dict.fromkeys(names.values(), 0)) != 0:
        return None
    return linear.xreplace({name: part.args[0] for part, name in names.items()})


def distance(squared: sp.Expr) -> sp.Expr | None:
    """a conj(a) + b conj(b) - a conj(b) - b conj(a), which is |a - b|^2, as |a - b|; else None."""
    if not squared.is_Add or len(squared.args) != 4:
        return None
    for term in squared.args:
        if not term.could_extract_minus_sign():
            continue
        factors = sp.Mul.make_args(-term)
        seconds = [part for part in factors if isinstance(part, sp.conjugate)]
        a = sp.Mul(*(part for part in factors if part not in seconds))
        b = sp.conjugate(sp.Mul(*seconds))
        difference = sp.Add(a, -b)
        if sp.expand(difference * sp.conjugate(difference) - squared) == 0:
            return sp.Abs(difference, evaluate=False)
    return None


KINDS = (
    ("integer positive", "whole", r" \ge 1"),
    ("integer nonnegative", "whole", r" \ge 0"),
    ("integer", "whole", ""),
    ("positive", "real", " > 0"),
    ("nonnegative", "real", r" \ge 0"),
    ("real", "real", ""),
    ("", "complex", ""),
)
"""What is assumed of a symbol -> (word before it, sign after it); the first that applies."""


def every(symbols: Iterable[sp.Symbol]) -> str:
    """Symbols as prose, with what is assumed of each: "complex $w, z$; real $x \\ge 0$"."""
    groups: dict[tuple[str, str], list[str]] = {}
    for symbol in symbols:
        kind = next(
            (word, sign)
            for assumed, word, sign in KINDS
            if all(getattr(symbol, f"is_{name}") for name in assumed.split())
        )
        groups.setdefault(kind, []).append(latex(symbol))
    order = [(word, sign) for _, word, sign in reversed(KINDS)]
    return "; ".join(
        f"{word} ${', '.join(sorted(set(groups[word, sign]), key=str.lower))}{sign}$"
        for word, sign in order
        if (word, sign) in groups
    )


class _AsWritten:
    """Sums that begin with a positive term (t - i, not -i + t); real parts and moduli gathered."""

    def _print_Add(self, expr: sp.Expr, order: str | None = None) -> str:
        whole = real_part(expr)
        return self._print(whole) if whole is not None else super()._print_Add(expr, order)  # type: ignore[misc, attr-defined]

    def _print_Pow(self, expr: sp.Expr, *options: Any, **named: Any) -> str:
        whole = distance(expr.base) if expr.exp == sp.Rational(1, 2) else None
        if whole is not None:
            return self._print(whole)  # type: ignore[attr-defined]
        return super()._print_Pow(expr, *options, **named)  # type: ignore[misc]

    def _as_ordered_terms(self, expr: sp.Expr, order: str | None = None) -> list[sp.Expr]:
        terms = super()._as_ordered_terms(expr, order)  # type: ignore[misc]
        # A sum over an index comes last: what followed would seem to be summed too.
        return sorted(
            terms,
            key=lambda term: (isinstance(term, sp.Sum), bool(term.could_extract_minus_sign())),
        )


class _Latex(_AsWritten, LatexPrinter):
    def _needs_mul_brackets(self, expr: sp.Expr, first: bool = False, last: bool = False) -> bool:
        if expr.is_Add and real_part(expr) is not None:
            return False
        return super()._needs_mul_brackets(expr, first, last)

    def _print_Symbol(self, symbol: sp.Symbol, style: str = "plain") -> str:
        name = symbol.name
        if name in PRINTED:
            return PRINTED[name]
        base, _, below = name.partition("_")
        if len(base.rstrip("'")) > 1 and base.rstrip("'") not in GREEK:
            # An index of one letter stands below, other words go on in the line.
            word, _, below = name.rpartition("_") if name[-2:-1] == "_" else (name, "", "")
            word = word.replace("_", r"\_")
            # A word needs air beside letters.
            return rf"\mathrm{{\,{word}\,}}" + (f"_{{{below}}}" if below else "")
        letter = base.rstrip("'")
        primes = base[len(letter) :]
        shown = (f"\\{letter}" if letter in GREEK else letter) + primes
        return shown + (f"_{{{below.strip('{}')}}}" if below else "")

    _print_Dummy = _print_Symbol

    def _print_Abs(self, expression: sp.Expr, exp: str | None = None) -> str:
        # Without the braces of sympy, so that a line may be broken inside.
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\left|{self._print(expression.args[0])}\right|{power}"

    def _print_re(self, expression: sp.Expr, exp: str | None = None) -> str:
        return self._function(r"\mathrm{Re}", expression, exp)

    def _print_im(self, expression: sp.Expr, exp: str | None = None) -> str:
        return self._function(r"\mathrm{Im}", expression, exp)

    def _function(self, name: str, expression: sp.Expr, exp: str | None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"{name}{power}\left({self._print(expression.args[0])}\right)"


class _Text(_AsWritten, StrPrinter):
    def parenthesize(self, item: sp.Basic, level: int, strict: bool = False) -> str:
        if item.is_Add and real_part(item) is not None:
            return self._print(item)
        if isinstance(item, sp.Sum | sp.Derivative) and level > PRECEDENCE["Add"]:
            return f"({self._print(item)})"
        return super().parenthesize(item, level, strict)

    def _print(self, expr: Any, **named: Any) -> str:
        # Such entries bring a printer of their own.
        if isinstance(expr, sp.Indexed):
            return self._print_Indexed(expr)
        return super()._print(expr, **named)

    def doprint(self, expr: Any) -> str:
        return super().doprint(expr).replace("**", "^").replace("*", "·")

    def _print_Symbol(self, symbol: sp.Symbol) -> str:
        if symbol.name in PRINTED:
            return formula(PRINTED[symbol.name])
        base, low, below = symbol.name.partition("_")
        letter = base.rstrip("'")
        return GREEK.get(letter, letter) + base[len(letter) :] + low + below.replace("*", "⋆")

    _print_Dummy = _print_Symbol

    def _print_Indexed(self, expression: sp.Expr) -> str:
        below = ",".join(map(self._print, expression.indices))
        return f"{expression.base}_" + (below if len(below) == 1 else f"{{{below}}}")

    def _print_Sum(self, expression: sp.Expr) -> str:
        limits = "".join(
            f"Σ_{{{self._print(k)}={self._print(first)}}}^{{{self._print(last)}}} "
            for k, first, last in reversed(expression.limits)
        )
        return limits + self._operand(expression.function)

    def _print_Derivative(self, expression: sp.Expr) -> str:
        signs = ""
        for variable, times in expression.variable_count:
            power = "" if times == 1 else str(times).translate(SUPERSCRIPTS)
            signs += f"d{power}/d{self._print(variable)}{power} "
        return f"{signs}({self._print(expression.expr)})"

    def _operand(self, expression: sp.Expr) -> str:
        """What a sum's sign stands before."""
        shown = self._print(expression)
        return f"({shown})" if expression.is_Add else shown

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
        fraction = tokens[0][1:] in FRACTIONS
        shown = _next(tokens)
        if fraction and _factor_follows(tokens, out):
            shown = f"({shown})"  # else the factor would seem to stand in the denominator
        out = _joined(out, shown)
    return out


def _factor_follows(tokens: list[str], before: str) -> bool:
    """Whether what comes next is a factor, and not a sign, an end, or a bar that closes."""
    skipped = (" ", r"\,", r"\;", r"\!", r"\bigl", r"\Bigl", r"\left")
    token = next((token for token in tokens if token not in skipped), "")
    if token in ("|", r"\|"):
        bar = SIGNS["|"] if token != "|" else "|"
        return before.count(bar) % 2 == 0
    if token in (r"\sum", r"\prod", r"\int", r"\lVert", r"\lvert", r"\langle", r"\lfloor", r"\ell"):
        return True
    name = token[1:]
    return bool(re.match(r"[\w({]|\\[a-zA-Z]", token)) and name not in SIGNS


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
        after = tokens[1] if tokens[:1] == [" "] and tokens[1:] else ""
        if re.match(r"\w|\\[a-zA-Z]", after) and after[1:] not in SIGNS:
            tokens.pop(0)  # the blank only ends the command
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
        return _argument(tokens).strip() if name == "mathrm" else _argument(tokens)
    if name == "mathbb":
        return {"Z": "ℤ", "R": "ℝ", "C": "ℂ", "N": "ℕ"}[_argument(tokens)]
    if name in SIGNS:
        return SIGNS[name]
    return token  # shown as it is typed, rather than not at all


def _function(name: str, tokens: list[str]) -> str:
    """A function's name with its powers and indices, and with what it is applied to."""
    out = name
    while tokens and tokens[0] in "^_":
        out += _next(tokens)
    after = next((token for token in tokens if token != " "), "")
    if tokens[:1] == [" "] and (after in OPERATORS or RELATION.fullmatch(SIGNS.get(after[1:], ""))):
        return out
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
    inner = inner.replace("*", "⋆")  # as the symbols of expressions are printed
    if kind == "^" and all(letter in "0123456789+-" for letter in inner):
        return inner.translate(SUPERSCRIPTS)
    return f"{kind}{inner}" if len(inner) == 1 else f"{kind}{{{inner}}}"


def _numerator(shown: str) -> str:
    return f"({shown})" if re.search(r"[-+ ]", shown.strip()) else shown.strip()


def _denominator(shown: str) -> str:
    simple = re.fullmatch(r"\d+|√?\w(_\S)?", shown.strip())
    return shown.strip() if simple else f"({shown.strip()})"
