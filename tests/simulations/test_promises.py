"""Promises of generators: each is kept, and a head or a generator that breaks it is refused."""

import numpy as np
import pytest

from simulations.generators import (
    GENERATORS,
    periodic_sequential,
    re_access,
    seasonal,
    sequential,
)
from simulations.generators.paths import phases
from simulations.head import SyntheticHead


def jump(x: np.ndarray) -> None:
    """One vector points the other way."""
    x[100] *= -1


def fast(x: np.ndarray) -> None:
    """Energy on the fastest channel."""
    x[:, 0] += 10 * np.abs(x).max()


def rival(x: np.ndarray) -> None:
    """A later key is like the first."""
    x[50] = x[0]


BREAKS = {
    ("re_access", "query_drift"): (jump, None),
    ("re_access", "rotation"): (fast, fast),
    ("re_access", "dominant_share"): (fast, None),
    ("re_access", "gap"): (None, rival),
    ("sequential", "query_drift"): (jump, None),
    ("sequential", "key_drift"): (None, jump),
    ("periodic_sequential", "kappa"): (fast, fast),
    ("periodic_sequential", "curvature"): (fast, fast),
    ("periodic_sequential", "key_drift"): (None, jump),
    ("seasonal", "rotation"): (fast, fast),
    ("seasonal", "query_drift"): (jump, None),
}


@pytest.mark.parametrize(("name", "promised"), BREAKS)
def test_a_head_that_breaks_a_promise_is_refused(name, promised):
    head = GENERATORS[name](np.random.default_rng(0))
    assert {(promise.theorem, promise.name) for promise in head.hypotheses} == {
        entry for entry in BREAKS if entry[0] == name
    }
    (promise,) = (each for each in head.hypotheses if each.name == promised)
    z, w = head.z.copy(), head.w.copy()
    for x, change in zip((z, w), BREAKS[name, promised], strict=True):
        if change is not None:
            change(x)
    with pytest.raises(ValueError, match=f"{promised} of {name}"):
        SyntheticHead(z, w, head.rope, head.scale, head.intended, (promise,))


def less_similar(rng, T, M, cosine, levels=None):
    return phases(rng, T, M, cosine - 0.01, levels)


def slow_louder(rng, T, M, cosine, levels=None):
    return phases(rng, T, M, cosine, levels) * np.linspace(1, 1.1, M)


@pytest.mark.parametrize(
    ("module", "part", "wrong", "dials", "broken"),
    [
        (re_access, "phases", less_similar, {}, "query_drift"),
        (re_access, "gains", lambda rope: np.linspace(1, 2, 32), {}, "dominant_share|gap"),
        (sequential, "phases", less_similar, {}, "query_drift"),
        (periodic_sequential, "phases", less_similar, {}, "key_drift"),
        (periodic_sequential, "phases", slow_louder, {}, "kappa"),
        (seasonal, "_phase", lambda rng, T, L, j: rng.integers(0, L, T), {}, "query_drift"),
        (seasonal, "detuned", lambda rope, *_: rope, {"resonance_error": 0.001}, "rotation"),
    ],
)
def test_a_generator_with_an_error_in_it_refuses_its_own_head(
    monkeypatch, module, part, wrong, dials, broken
):
    module.generate(np.random.default_rng(0), **dials)
    monkeypatch.setattr(module, part, wrong)
    with pytest.raises(ValueError, match=broken):
        module.generate(np.random.default_rng(0), **dials)
