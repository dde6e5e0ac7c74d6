"""Generated features against the plain expression in 40 digits, and what does not separate."""

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tappa_theory.errors import InputError
from tappa_theory.separable import Separable, evaluate, separate
from tappa_theory.shift_identity import (
    BOUND,
    KEY_DRIFT,
    LOGIT,
    QUERY_DRIFT,
    SHIFT_DIFFERENCE,
    SHIFTED_LOGIT,
    i,
    lam,
    t,
    theta,
    w,
    w_u,
    z,
    z_s,
)
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

U64 = 2.0**-53
OF_QUERY, OF_KEY = ("z", "z_s", "t", "n"), ("w", "w_u", "i")

PAIRS = {"logit": LOGIT, "shifted_logit": SHIFTED_LOGIT, "bound_b": BOUND}
PAIRS |= {f"{name}.bound": THEOREMS[name].bound for name in SHIFT_THEOREMS}
PAIRS |= {
    f"{name}.published": THEOREMS[name].published.bound
    for name in ("periodic_sequential", "seasonal")
}
PAIRS |= {
    f"periodic_sequential.{name}": THEOREMS["periodic_sequential"].auxiliary[name]
    for name in ("slow_rotation", "neighbour_drift", "dominant_rotation")
}


def head(seed, queries=2, keys=3, channels=2):
    """Values of every symbol, numpy: z (T, M), t (T, 1), theta (M,), shifts as plain numbers."""
    random = np.random.default_rng(seed)

    def component(length):
        shape = (length, channels)
        return random.standard_normal(shape) + 1j * random.standard_normal(shape)

    return {
        "z": component(queries),
        "z_s": component(queries),
        "w": component(keys),
        "w_u": component(keys),
        "t": random.integers(0, 200, (queries, 1)).astype(np.float64),
        "i": random.integers(0, 200, (keys, 1)).astype(np.float64),
        "theta": random.uniform(0, 1, channels),
        "lambda": random.uniform(0.05, 1, channels),
        "minor": np.array([1.0, 0.0]),
        "major": np.array([0.0, 1.0]),
        "theta_*": 0.7,
        "s": 3,
        "u": 1,
        "L": 44,
        "N": 9,
    }


def on_torch(values):
    return {
        name: torch.asarray(value) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def in_forty_digits(expression, values):
    """`expression` with exact values put in for its symbols, by sympy's own evaluation."""
    exact = {}
    for symbol in expression.free_symbols:
        value = complex(values[symbol.name])
        imaginary = sp.I * sp.Float(value.imag, 40) if value.imag else 0
        exact[symbol] = sp.Float(value.real, 40) + imaginary
    return float(expression.subs(exact, simultaneous=True).evalf(40))


def pair_values(values, row, column, channel):
    """The values of one query, one key and one channel, as numbers."""
    found = {}
    for name, value in values.items():
        value = np.asarray(value)
        position = (row,) if name in OF_QUERY else (column,) if name in OF_KEY else ()
        value = value[position]
        found[name] = value[min(channel, value.size - 1)] if value.ndim else value
    return found


def plain(expression, values):
    """(T, T') sums over channels of the plain expression, pair by pair."""
    rows, channels = values["z"].shape
    columns = len(values["w"])
    found = np.zeros((rows, columns))
    for row, column, channel in np.ndindex(rows, columns, channels):
        found[row, column] += in_forty_digits(expression, pair_values(values, row, column, channel))
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_features_equal_the_plain_expression(name):
    values = head(1)
    expected = plain(PAIRS[name], values)
    assert np.abs(expected).max() > 0.01
    separable = separate(PAIRS[name])
    query, key = separable.query_features(values), separable.key_features(values)
    assert query.shape == (2, 2 * len(separable.query))
    assert key.shape == (3, 2 * len(separable.key))
    # angles up to 200 theta are rounded once before their sine; the rest is a few roundings of
    # products of numbers below 4
    limit = U64 * (2 * 200 + 64) * 2 * 3 * 16
    assert np.allclose(query @ key.T, expected, rtol=0, atol=limit)
    tensors = on_torch(values)
    query, key = separable.query_features(tensors), separable.key_features(tensors)
    assert query.dtype == key.dtype == torch.float64
    assert np.allclose((query @ key.T).numpy(), expected, rtol=0, atol=limit)


OF_ONE_PAIR = {
    "logit": LOGIT,
    "shift_difference": SHIFT_DIFFERENCE,
    "re_access.observed": THEOREMS["re_access"].published.observed,
    "re_access.published": THEOREMS["re_access"].published.bound,
    "sequential.published": THEOREMS["sequential"].published.bound,
    "proposition_4_1.lower": THEOREMS["proposition_4_1"].auxiliary["lower"],
    "proposition_4_1.bound": THEOREMS["proposition_4_1"].bound,
}


@pytest.mark.parametrize("name", OF_ONE_PAIR)
@pytest.mark.parametrize("seed", range(2))
def test_evaluation_equals_forty_digits_on_numpy_and_torch(name, seed):
    expression = OF_ONE_PAIR[name]
    norms = ("query_norm", "query_step", "key_norm_u", "key_step", "step", "sigma", "key_norm_max")
    drawn = np.random.default_rng(100 + seed).uniform(0.1, 3, len(norms))
    values = (
        head(seed) | dict(zip(norms, drawn.tolist(), strict=True)) | {"n": np.array([[5.0], [7.0]])}
    )
    values |= {name: values[name][:2] for name in OF_KEY}  # elementwise: query j with key j
    expected = [
        [in_forty_digits(expression, pair_values(values, j, j, m)) for m in range(2)]
        for j in range(2)
    ]
    for given_values in (values, on_torch(values)):
        found = np.asarray(evaluate(expression, given_values))
        assert np.allclose(np.broadcast_to(found, (2, 2)), expected, rtol=0, atol=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([*PAIRS.values()]))
def test_numpy_and_torch_make_the_same_features(seed, expression):
    values = head(seed, queries=5, keys=4, channels=3) | {"minor": 1.0, "major": 1.0}
    separable, tensors = separate(expression), on_torch(values)
    for side in ("query_features", "key_features"):
        found, other = getattr(separable, side)(values), getattr(separable, side)(tensors)
        assert found.shape == tuple(other.shape)
        # cos and sin differ by an ulp or two between the libraries
        assert np.allclose(found, other.numpy(), rtol=0, atol=64 * U64 * 16)


def test_features_of_a_batch_equal_those_of_its_items():
    items = [head(seed) for seed in range(3)]
    shared = {name: value for name, value in items[0].items() if name not in ("z", "z_s", "w")}
    batch = shared | {name: np.stack([item[name] for item in items]) for name in ("z", "z_s", "w")}
    separable = separate(LOGIT)
    for number, item in enumerate(items):
        expected = separable.query_features(shared | {"z": item["z"], "w": item["w"]})
        assert np.array_equal(separable.query_features(batch)[number], expected)


@pytest.mark.parametrize(
    "expression",
    [
        sp.Abs(z - w),
        sp.sqrt(sp.Abs(z) ** 2 + sp.Abs(w) ** 2),
        sp.Max(sp.Abs(z), sp.Abs(w)),
        BOUND + sp.Abs(z * w - z_s * w_u),
        sp.Abs(z) * sp.sin(t * i * theta),
        sp.cos((t - i) * theta),
        lam * sp.re(z / (z + w)),
        SHIFT_DIFFERENCE,
    ],
    ids=str,
)
def test_what_does_not_separate_is_refused(expression):
    with pytest.raises(ValueError, match=r"does not separate|not a single product"):
        separate(expression)


def test_features_that_do_not_add_up_are_refused():
    good = separate(QUERY_DRIFT + KEY_DRIFT)
    Separable(good.expression, good.query, good.key)
    with pytest.raises(ValueError, match="not the sum of its features"):
        Separable(good.expression, good.query, (good.key[0], 2 * good.key[1]))
    with pytest.raises(ValueError, match="not the sum of its features"):
        Separable(good.expression, good.query[:1], good.key[:1])


def test_a_missing_value_is_named():
    values = head(1)
    del values["lambda"]
    with pytest.raises(KeyError, match="lambda"):
        evaluate(LOGIT, values)
    with pytest.raises(InputError, match="numpy arrays only or torch"):
        evaluate(LOGIT, head(1) | {"z": torch.asarray(head(1)["z"])})
