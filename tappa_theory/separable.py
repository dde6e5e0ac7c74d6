"""Sums of (query factor) x (key factor), split from an expression and evaluated on arrays.

A bound such as (B) is, for every pair (t, i), an inner product of per-query and per-key features.
`separate` finds the features in the expression itself, so that all pairs cost one matrix product
and no formula is typed a second time. numpy and torch arrays go through the same code.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import array_api_compat
import sympy as sp

from tappa_theory.arrays import Array, namespace
from tappa_theory.shift_identity import KEY_SYMBOLS, QUERY_SYMBOLS

Values = Mapping[str, Any]
"""An array or number for the name of each free symbol: "z", "w", "theta", "lambda", ..."""


@lru_cache(maxsize=256)
def _compiled(expressions: tuple[sp.Expr, ...], names: tuple[str, ...], xp: Any) -> Any:
    def modulus(x: Array) -> Array:
        # On a CPU several times faster than hypot, and features are far from overflow.
        if not xp.isdtype(x.dtype, "complex floating") or getattr(x, "is_cuda", False):
            return xp.abs(x)
        return xp.sqrt(xp.real(x) ** 2 + xp.imag(x) ** 2)

    def root(x: Array) -> Array:
        # torch's root takes no plain number, such as the 2 of a constant sqrt(2)
        return xp.sqrt(x) if hasattr(x, "shape") else math.sqrt(x)

    functions = {
        "Abs": modulus,
        "sin": xp.sin,
        "cos": xp.cos,
        "asin": xp.asin,
        "exp": xp.exp,
        "log": xp.log,
        "tanh": xp.tanh,
        "re": xp.real,
        "im": xp.imag,
        "conjugate": xp.conj,
        "arg": lambda x: xp.atan2(xp.imag(x), xp.real(x)),
        # of two at a time: a third argument is where numpy writes its answer
        "Min": lambda *values: reduce(xp.minimum, values),
        "Max": lambda *values: reduce(xp.maximum, values),
        "sqrt": root,
    }
    symbols = {symbol.name: symbol for part in expressions for symbol in part.free_symbols}
    arguments = [symbols[name] for name in names]
    return sp.lambdify(arguments, list(expressions), modules=[functions], cse=True)


@lru_cache(maxsize=256)
def _names(expressions: tuple[sp.Expr, ...]) -> tuple[str, ...]:
    return tuple(sorted({symbol.name for part in expressions for symbol in part.free_symbols}))


def _evaluate(expressions: tuple[sp.Expr, ...], values: Values) -> list[Any]:
    names = _names(expressions)
    arrays = [value for value in values.values() if hasattr(value, "shape")]
    xp, device = namespace(*arrays), array_api_compat.device(arrays[0])
    # torch's functions take no plain numbers
    arguments = [
        value
        if hasattr(value, "shape")
        # a fill: a GPU would be waited for to copy the number
        else xp.full((), value, dtype=xp.float64, device=device)
        for value in (values[name] for name in names)
    ]
    return _compiled(expressions, names, xp)(*arguments)


def evaluate(expression: sp.Expr, values: Values) -> Array:
    """`expression` on arrays, elementwise with broadcasting.

    values: array or number for the name of each free symbol ("z", "w", "theta", ...).
    Raises KeyError for a free symbol without a value.
    """
    return _evaluate((expression,), values)[0]


@dataclass(frozen=True)
class Separable:
    """f(t, i) = sum over channels m and terms r of query[r](t, m) * key[r](i, m).

    Factors that belong to neither side (frequency, scale, shift) stand on the side that was
    collected: the keys', unless collecting the queries leaves fewer features.
    """

    expression: sp.Expr
    query: tuple[sp.Expr, ...]
    key: tuple[sp.Expr, ...]

    def __post_init__(self) -> None:
        rebuilt = sp.Add(*(q * k for q, k in zip(self.query, self.key, strict=True)))
        parts = (_real_products(self.expression, collected) for collected in (True, False))
        if all(sp.expand(rebuilt - part) != 0 for part in parts):
            raise ValueError(f"{self.expression} is not the sum of its features")

    def query_features(self, values: Values) -> Array:
        """(..., T, R*M) features of the queries; `values` as in `evaluate`, arrays (..., T, M)."""
        return _stack(self.query, values, like=values["z"])

    def key_features(self, values: Values) -> Array:
        """(..., T, R*M) features of the keys; `values` as in `evaluate`, arrays (..., T, M)."""
        return _stack(self.key, values, like=values["w"])


def _stack(factors: tuple[sp.Expr, ...], values: Values, like: Array) -> Array:
    xp = namespace(like)
    columns = [
        # a factor without symbols is a plain number
        xp.broadcast_to(value, like.shape)
        if hasattr(value, "shape")
        else xp.full(like.shape, float(value), dtype=xp.float64, device=like.device)
        for value in _evaluate(factors, values)
    ]
    return xp.concat(columns, axis=-1)


def _real_products(expression: sp.Expr, collect_queries: bool = True) -> sp.Expr:
    """`expression` with Re(product) written as products of real parts of its two sides.

    What belongs to neither side goes with the key if the queries are to be collected.
    """

    def split(product: sp.Expr) -> sp.Expr:
        product = sp.expand(product, power_exp=True, mul=True)
        if isinstance(product, sp.Add):
            raise ValueError(f"re({product}) is not a single product")
        query_part, key_part, neither = _sides(product)
        if collect_queries:
            key_part *= neither
        else:
            query_part *= neither
        real = sp.Function("re"), sp.Function("im")
        return real[0](query_part) * real[0](key_part) - real[1](query_part) * real[1](key_part)

    return expression.replace(sp.re, split)


def _sides(term: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """(query factor, key factor, what belongs to neither) of a product."""
    rest, query_part = term.as_independent(*QUERY_SYMBOLS, as_Add=False)
    neither, key_part = rest.as_independent(*KEY_SYMBOLS, as_Add=False)
    if query_part.free_symbols & set(KEY_SYMBOLS):
        raise ValueError(f"{term} does not separate into a query factor and a key factor")
    return query_part, key_part, neither


@lru_cache(maxsize=256)
def separate(expression: sp.Expr) -> Separable:
    """Split a sum of products into query features and key features, as few as can be collected.

    expression: sympy expression of one channel in the symbols of `shift_identity`; terms may be
    products of a query and a key factor, or ``re`` of such a product.
    Raises ValueError if a term does not factor.
    """
    query, key = _collected(expression, collect_queries=True)
    fewer_keys, fewer_queries = _collected(expression, collect_queries=False)
    if len(fewer_keys) < len(query):
        query, key = fewer_queries, fewer_keys
    return Separable(expression, query, key)


def _collected(expression: sp.Expr, collect_queries: bool) -> tuple[tuple, tuple]:
    """Factors of one side, each once, and for each the sum of what it is multiplied with."""
    sums: dict[sp.Expr, sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand(_real_products(expression, collect_queries))):
        query_part, key_part, neither = _sides(term)
        one, other = (query_part, key_part) if collect_queries else (key_part, query_part)
        sums[one] = sums.get(one, sp.Integer(0)) + neither * other
    return tuple(sums), tuple(sums.values())
