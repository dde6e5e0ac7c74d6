"""A proof built anew from a registry in which one expression is another one.

The modules of the proof run again, importing a copy of the registry: whatever is made from the
expression, however it is made, is made from the other one. Nothing that is loaded changes.
"""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import sympy as sp

from proofs.engine.certificates import Meaning
from proofs.engine.claims import Proof
from proofs.engine.derivation import Derivation

REGISTRY = ("tappa_theory.shift_identity", "tappa_theory.theorems")


def rebuilt(theorem_id: str, old: sp.Expr, new: sp.Expr) -> Proof:
    """The proof of a theorem with `new` for `old` in every expression of the registry.

    The checks that a theorem makes of itself are left out: certificates are to find the error.
    Raises what the modules of the proof raise while they run.
    """
    import_module(f"proofs.{theorem_id}.proof")
    registry, changed = _registry(old, new)
    stale = _stale(changed)
    with _loaded(registry, stale):
        proof: Proof = import_module(f"proofs.{theorem_id}.proof").PROOF
    return proof


def substituted(expression: sp.Basic, old: sp.Expr, new: sp.Expr) -> sp.Basic:
    """`new` for `old`, also where `old` is some of the terms of a sum or factors of a product."""
    if expression == old:
        return new
    if not expression.args or not old.free_symbols <= expression.free_symbols:
        return expression
    arguments = [substituted(part, old, new) for part in expression.args]
    if any(a is not b for a, b in zip(arguments, expression.args, strict=True)):
        # sums and products are put together anew; what was left as written is left as written
        expression = expression.func(*arguments)
    if isinstance(old, (sp.Add, sp.Mul)) and type(expression) is type(old):
        rest = Counter(expression.args)
        rest.subtract(Counter(old.args))
        if min(rest.values()) >= 0:
            return expression.func(new, *rest.elements())
    return expression


def derivations_of(value: Any) -> Iterator[Derivation]:
    """All derivations in a proof, a claim or a derivation, lemmas included, each once."""
    seen: set[int] = set()

    def walk(part: Any) -> Iterator[Derivation]:
        if id(part) in seen:
            return
        seen.add(id(part))
        if isinstance(part, Derivation):
            yield part
        if isinstance(part, tuple):
            for inner in part:
                yield from walk(inner)
        elif is_dataclass(part) and not isinstance(part, type):
            for field in fields(part):
                yield from walk(getattr(part, field.name))

    return walk(value)


def pairs_of(first: Any, second: Any) -> Iterator[tuple[Derivation, Derivation]]:
    """The derivations of two proofs of the same make, side by side, lemmas included.

    Raises ValueError if one has parts that the other lacks.
    """
    seen: set[tuple[int, int]] = set()

    def walk(a: Any, b: Any) -> Iterator[tuple[Derivation, Derivation]]:
        if (id(a), id(b)) in seen or a is b:
            return
        seen.add((id(a), id(b)))
        if isinstance(a, sp.Basic):
            return
        if type(a).__qualname__ != type(b).__qualname__:
            raise ValueError(f"{type(b).__name__} in the place of {type(a).__name__}")
        if isinstance(a, Derivation):
            yield a, b
        if isinstance(a, tuple):
            if len(a) != len(b):
                raise ValueError(f"{len(b)} parts in the place of {len(a)}")
            for one, other in zip(a, b, strict=True):
                yield from walk(one, other)
        elif is_dataclass(a) and not isinstance(a, type):
            for field in fields(a):
                yield from walk(getattr(a, field.name), getattr(b, field.name))

    return walk(first, second)


def reusing(proof: Proof, known: Proof) -> Proof:
    """The proof with derivations of `known` for those that are the same, to certify them once."""
    ours = Keys()
    same = {ours(part): part for part in derivations_of(known)}
    return _Reuse(ours, same)(proof)


def _registry(old: sp.Expr, new: sp.Expr) -> tuple[dict[str, ModuleType], set[tuple[str, str]]]:
    """Copies of the registry's modules, and (module, name) of all that is another one in them."""
    originals = {name: sys.modules[name] for name in sorted(sys.modules) if _is_registry(name)}
    copies = {}
    for name, module in originals.items():
        copies[name] = ModuleType(name)
        copies[name].__dict__.update(module.__dict__)
    memo: dict[int, Any] = {}
    changed = set()
    for name, module in originals.items():
        for attribute, value in module.__dict__.items():
            other = _other(value, old, new, memo)
            if other is not value:
                setattr(copies[name], attribute, other)
                changed.add((name, attribute))
    _functions(originals, copies, old, new, memo, changed)
    return copies, changed


def _functions(
    originals: Mapping[str, ModuleType],
    copies: Mapping[str, ModuleType],
    old: sp.Expr,
    new: sp.Expr,
    memo: dict[int, Any],
    changed: set[tuple[str, str]],
) -> None:
    """Functions of the registry look their names up in the copies."""
    made: dict[int, FunctionType] = {}
    for name, module in originals.items():
        for value in module.__dict__.values():
            if isinstance(value, FunctionType) and value.__module__ == name:
                defaults = value.__defaults__ and _other(value.__defaults__, old, new, memo)
                made[id(value)] = FunctionType(
                    value.__code__, copies[name].__dict__, value.__name__, defaults
                )
                uses = {(name, used) for used in value.__code__.co_names}
                if defaults is not value.__defaults__ or uses & changed:
                    changed.add((name, value.__name__))
    for name, module in originals.items():
        for attribute, value in module.__dict__.items():
            if id(value) in made and isinstance(value, FunctionType):
                setattr(copies[name], attribute, made[id(value)])
                if (value.__module__, value.__name__) in changed:
                    changed.add((name, attribute))


def _other(value: Any, old: sp.Expr, new: sp.Expr, memo: dict[int, Any]) -> Any:
    """The value with `new` for `old` in it; the same object if it does not occur."""
    if id(value) in memo:
        return memo[id(value)]
    result = value
    if isinstance(value, sp.Basic):
        result = substituted(value, old, new)
    elif isinstance(value, (tuple, list)):
        parts = [_other(part, old, new, memo) for part in value]
        if any(a is not b for a, b in zip(parts, value, strict=True)):
            result = type(value)(parts)
    elif isinstance(value, dict) and "__builtins__" not in value:  # that is a module's
        entries = {key: _other(part, old, new, memo) for key, part in value.items()}
        if any(entries[key] is not value[key] for key in value):
            result = entries
    elif is_dataclass(value) and not isinstance(value, type):
        result = _with_fields(value, lambda part: _other(part, old, new, memo))
    memo[id(value)] = result
    return result


def _with_fields(value: Any, change: Any) -> Any:
    """A dataclass with changed fields, unchecked; the same object if none changes."""
    parts = {field.name: change(getattr(value, field.name)) for field in fields(value)}
    if all(parts[name] is getattr(value, name) for name in parts):
        return value
    result = copy.copy(value)
    for name, part in parts.items():
        object.__setattr__(result, name, part)
    return result


def _is_registry(name: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in REGISTRY)


def _stale(changed: set[tuple[str, str]]) -> set[str]:
    """Loaded modules of proofs that import something changed, at first or at second hand."""
    imports = {name: _imports(name) for name in sys.modules if name.startswith("proofs.")}
    stale = {name for name, found in imports.items() if found & changed}
    while True:
        more = {
            name
            for name, found in imports.items()
            if name not in stale
            and any(
                module in stale or f"{module}.{attribute}" in stale for module, attribute in found
            )
        }
        if not more:
            return stale
        stale |= more


@cache
def _imports(name: str) -> set[tuple[str, str]]:
    """(module, name) of all that a module imports."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
    return found


@contextmanager
def _loaded(registry: Mapping[str, ModuleType], stale: set[str]) -> Iterator[None]:
    """Import from the copies and run stale modules again; as before after the block."""
    saved = {name: sys.modules[name] for name in (*registry, *stale)}
    before = set(sys.modules)
    try:
        sys.modules.update(registry)
        for name in stale:
            del sys.modules[name]
            # "from proofs.x import y" would find it there
            package, _, module = name.rpartition(".")
            delattr(sys.modules[package], module)
        yield
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("proofs."):
                del sys.modules[name]
        sys.modules.update(saved)
        for name in stale:
            package, _, module = name.rpartition(".")
            setattr(sys.modules[package], module, saved[name])


class Keys:
    """What a value is made of, as something that compares equal for equal values.

    by_name: classes are the same if their names are, though a module was run again.
    """

    def __init__(self, by_name: bool = False) -> None:
        self._by_name = by_name
        self._known: dict[int, tuple[Any, Any]] = {}

    def __call__(self, value: Any) -> Any:
        if id(value) not in self._known:
            # the value is kept, so that its id stays its own
            self._known[id(value)] = value, self._key(value)
        return self._known[id(value)][1]

    def _key(self, value: Any) -> Any:
        if isinstance(value, Meaning):
            return self._class(value), tuple(map(self, value.args))
        if isinstance(value, (sp.Basic, str, int, float, type(None))):
            return type(value), value
        if isinstance(value, (tuple, list)):
            return type(value), tuple(map(self, value))
        if isinstance(value, Mapping):
            return dict, frozenset((self(key), self(part)) for key, part in value.items())
        if is_dataclass(value) and not isinstance(value, type):
            parts = (self(getattr(value, field.name)) for field in fields(value))
            return self._class(value), tuple(parts)
        return "object", id(value)

    def _class(self, value: Any) -> Any:
        kind = type(value)
        return (kind.__module__, kind.__qualname__) if self._by_name else kind


class _Reuse:
    def __init__(self, key: Keys, same: Mapping[Any, Derivation]) -> None:
        self._key, self._same = key, same
        self._done: dict[int, tuple[Any, Any]] = {}

    def __call__(self, value: Any) -> Any:
        if id(value) not in self._done:
            self._done[id(value)] = value, self._reused(value)
        return self._done[id(value)][1]

    def _reused(self, value: Any) -> Any:
        if isinstance(value, Derivation):
            found = self._same.get(self._key(value))
            if found is not None:
                return found
        if isinstance(value, tuple) and type(value) is tuple:
            parts = tuple(map(self, value))
            return parts if any(a is not b for a, b in zip(parts, value, strict=True)) else value
        if is_dataclass(value) and not isinstance(value, type):
            return _with_fields(value, self)
        return value
