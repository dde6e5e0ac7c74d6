"""The rotation precision's derivations, its emulation of number formats, and planted errors."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
import torch

from proofs.engine.attack import run_attack
from proofs.engine.derivation import Derivation
from proofs.rotation_precision import arithmetic as rotation_precision_arithmetic
from proofs.rotation_precision import proof as rotation_precision
from proofs.rotation_precision import table as rotation_precision_table
from proofs.rotation_precision.arithmetic import (
    ARITHMETIC_ERROR,
    BOTH_COMPONENTS,
    CHANNEL,
    CHANNEL_FUSED,
    COMPONENT,
    COMPOSED,
    FUSED,
    INVARIANCE,
    PRODUCT_ERROR,
    SHARP_ARITHMETIC,
    SHARP_FUSED,
    SHARP_INVARIANCE,
)
from proofs.rotation_precision.attacks import (
    ATTACKS,
    FORMATS,
    channel_attack,
    deviation_attack,
    free_attack,
    invariance_attack,
    rotate,
    rounded,
)
from proofs.rotation_precision.proof import PROOF, corner, crossover
from proofs.rotation_precision.table import (
    ANGLE_OF_PAIR,
    BELOW_ONE,
    COMPUTED,
    DEVIATION,
    DEVIATION_SCALED,
    OVERTAKES,
    RELATIVE,
    SCALED_TABLE,
    SHARP_ANGLE,
    SHARP_ARCSINE,
    SHARP_PARTS,
    SHARP_SCALED,
    SHARP_SCALED_NEAREST,
    SHARP_TABLE,
    STORED_SIZE,
    TABLE,
    TURN,
)
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import (
    ANGLE_DEVIATION,
    ANGLE_ERROR,
    ARITHMETIC,
    ARITHMETIC_FUSED,
    CHANNEL_ERROR,
    CHANNEL_ERROR_FUSED,
    HALF_SUBNORMAL,
    INVARIANCE_LOSS,
    TABLE_ERROR,
    TABLE_ERROR_SCALED,
    THEOREM,
    TINY,
    TRIG_ERROR,
    U_TABLE,
    UNIT_ROUNDOFF,
    U,
)

EXACT = [sp.Rational(99, 100), sp.Rational(101, 100)]
TORCH = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def with_end(derivation, right):
    """The derivation with another last term."""
    links = (*derivation.links[:-1], replace(derivation.links[-1], right=right))
    return replace(derivation, links=links)


@pytest.mark.parametrize("claim", PROOF.claims, ids=lambda claim: claim.id)
def test_every_claim_is_certified(claim):
    assert claim.ok, [step for step in claim.steps() if not step.evidence.ok]


def test_what_is_proved_is_what_the_registry_holds():
    ends = {
        "angle_error": COMPUTED,
        "table_error": TABLE,
        "table_error_scaled": SCALED_TABLE,
        "angle_deviation": DEVIATION,
        "angle_deviation_scaled": DEVIATION_SCALED,
        "turn_error": TURN,
        "channel_error_fused": CHANNEL_FUSED,
        "invariance_loss": INVARIANCE,
    }
    for name, derivation in ends.items():
        assert derivation.ok
        assert derivation.end == THEOREM.auxiliary[name], name
    assert CHANNEL.ok
    assert CHANNEL.end == THEOREM.bound == CHANNEL_ERROR
    parts = {"arithmetic", "arithmetic_fused", "relative_error", "relative_error_fused"}
    assert set(ends) | parts | {"crossover"} == set(THEOREM.auxiliary)
    assert PROOF.proving_the_bound() == ("channel",)
    assert PROOF.verdict == "holds"


@pytest.mark.parametrize("factor", EXACT)
def test_no_other_constant_is_certified(factor):
    tables = (SHARP_TABLE, SHARP_SCALED, SHARP_SCALED_NEAREST, SHARP_ARCSINE, OVERTAKES)
    for sharp in (SHARP_ANGLE, *tables, SHARP_FUSED, SHARP_INVARIANCE):
        assert not with_end(sharp, factor * sharp.end).ok


@pytest.mark.parametrize("factor", EXACT)
def test_no_other_constant_of_a_scaled_table_is_attained(factor):
    other = sp.sqrt(2) * TRIG_ERROR + U_TABLE * (factor + sp.sqrt(2) * TRIG_ERROR)
    assert not with_end(SHARP_SCALED, other).ok


@pytest.mark.parametrize("name", FORMATS)
def test_a_scaled_table_rounded_to_nearest_is_that_far_off(name):
    unit = float(UNIT_ROUNDOFF[name])
    exact = 1 + unit
    stored = rounded(np.array([exact, exact]), name)
    assert np.array_equal(stored, [1, 1])
    off = np.linalg.norm(stored - exact) / (np.sqrt(2) * exact)
    values = {"u_table": np.asarray(unit), "trig_error": np.asarray(0.0)}
    assert off * (1 + unit) == pytest.approx(evaluate(TABLE_ERROR_SCALED, values), rel=1e-12)


BOUNDS = (
    *(RELATIVE, BELOW_ONE, COMPUTED, TABLE, SCALED_TABLE, TURN, STORED_SIZE, ANGLE_OF_PAIR),
    *(COMPONENT, BOTH_COMPONENTS, ARITHMETIC_ERROR, FUSED, COMPOSED, PRODUCT_ERROR, INVARIANCE),
)


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.title[:40])
def test_a_smaller_constant_is_not_proved(bound):
    assert not with_end(bound, EXACT[0] * bound.end).ok


def test_the_constant_of_the_arithmetic_is_not_a_hundredth_larger():
    assert SHARP_ARITHMETIC.ok
    assert not replace(SHARP_ARITHMETIC, start=EXACT[1] * SHARP_ARITHMETIC.start).ok


@pytest.mark.parametrize(
    "derivation",
    [
        *(COMPUTED, TABLE, TURN, COMPONENT, COMPOSED, PRODUCT_ERROR, ANGLE_OF_PAIR),
        *(DEVIATION, DEVIATION_SCALED, SHARP_PARTS, SHARP_ARCSINE, OVERTAKES),
    ],
    ids=lambda derivation: derivation.title[:40],
)
def test_every_hypothesis_is_needed(derivation):
    for dropped in derivation.hypotheses:
        kept = tuple(known for known in derivation.hypotheses if known != dropped)
        assert not replace(derivation, hypotheses=kept).ok, dropped


def test_without_the_equal_products_the_components_cost_more():
    assert not replace(BOTH_COMPONENTS, hypotheses=()).ok


def test_a_corner_is_next_to_the_middle_of_two_numbers():
    close = corner("bfloat16", 357, 367, sp.Rational(995, 1000))
    assert all(part.step().evidence.ok for part in close)
    assert not corner("bfloat16", 357, 367, sp.Rational(999, 1000))[2].step().evidence.ok
    odd = np.array([357, 367]) / np.hypot(357, 367)
    stored = torch.tensor(odd).to(torch.bfloat16).double().numpy()
    distance = np.linalg.norm(stored - odd)
    largest = float(TABLE_ERROR.subs({TRIG_ERROR: 0, U_TABLE: UNIT_ROUNDOFF["bfloat16"]}))
    assert 0.995 < distance / largest < 1


def test_the_angle_overtakes_the_table_where_the_claim_says():
    assert float(crossover("bfloat16")) == pytest.approx(46340.95, abs=0.01)


@pytest.mark.parametrize("name", FORMATS)
def test_the_emulated_formats_are_torchs(name):
    random = np.random.default_rng(5)
    x = random.standard_normal(20_000) * 2.0 ** random.integers(-30, 10, 20_000)
    if name == "bfloat16":
        x = np.concatenate([x, x * 2.0**-125])
    unit = float(UNIT_ROUNDOFF[name])
    ties = 1 + unit * np.arange(-9.0, 9)
    x = np.concatenate(
        [x, ties, [0.0, float(HALF_SUBNORMAL[name]), 3 * float(HALF_SUBNORMAL[name])]]
    )
    # torch rounds float64 to 16 bits by way of float32: start from what float32 holds
    x = x if name == "float32" else x.astype(np.float32).astype(np.float64)
    assert np.array_equal(rounded(x, name), torch.tensor(x).to(TORCH[name]).double().numpy())


@pytest.mark.parametrize("name", FORMATS)
def test_the_unit_roundoff_is_the_largest_relative_error(name):
    unit = float(UNIT_ROUNDOFF[name])
    assert unit == torch.finfo(TORCH[name]).eps / 2
    assert float(HALF_SUBNORMAL[name]) == torch.finfo(TORCH[name]).smallest_normal * unit
    x = np.random.default_rng(2).uniform(0.5, 2, 100_000)
    relative = np.abs(rounded(x, name) - x) / x
    assert relative.max() <= unit
    assert relative.max() > 0.98 * unit


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_rotation_in_torch_keeps_the_bound(name):
    """The same cosines, sines and vectors, rotated by torch on the CPU in that type."""
    random = np.random.default_rng(9)
    dtype, count = TORCH[name], 20_000
    positions = random.integers(0, 2**17, count).astype(float)
    theta = float(np.float32(0.83))
    angle = torch.tensor(positions, dtype=torch.float32) * theta
    cosine, sine = angle.cos(), angle.sin()
    true = angle.double()
    trig = max(
        float((cosine.double() - true.cos()).abs().max()),
        float((sine.double() - true.sin()).abs().max()),
    )
    c, s = cosine.to(dtype), sine.to(dtype)
    x, y = (torch.tensor(random.standard_normal(count)).to(dtype) for _ in range(2))
    real, imaginary = (x * c - y * s).double().numpy(), (x * s + y * c).double().numpy()
    emulated = rotate(*(each.double().numpy() for each in (x, y, c, s)), name, fused=False)
    assert np.array_equal(emulated, real + 1j * imaginary)
    z = x.double().numpy() + 1j * y.double().numpy()
    values = {"p": positions, "z": z}
    numbers = {"theta": theta, "frequency_error": 0.0, "u_angle": 2.0**-24, "trig_error": trig}
    numbers |= {"u_table": float(UNIT_ROUNDOFF[name]), "u": float(UNIT_ROUNDOFF[name])}
    numbers |= {"tiny": float(HALF_SUBNORMAL[name])}
    values |= {key: np.asarray(value) for key, value in numbers.items()}
    error = np.abs(real + 1j * imaginary - z * np.exp(1j * positions * theta))
    share = error / evaluate(THEOREM.bound, values)
    assert share.max() <= 1
    assert share.max() > 0.5
    pair = c.double().numpy() + 1j * s.double().numpy()
    turned = np.abs(np.angle(pair * np.exp(-1j * positions * theta)))
    share = turned / evaluate(ANGLE_DEVIATION, values)
    assert share.max() <= 1
    assert share.max() > 0.9


def test_torch_arrays_go_through_the_same_expression():
    values = {"p": torch.arange(4.0, dtype=torch.float64), "theta": 1.0, "frequency_error": 0.0}
    values |= {"u_angle": 2.0**-24, "trig_error": 2.0**-24, "u_table": 2.0**-8}
    found = evaluate(ANGLE_DEVIATION, values)
    assert isinstance(found, torch.Tensor)
    numbers = {name: np.asarray(value) for name, value in values.items()}
    assert np.allclose(found.numpy(), evaluate(ANGLE_DEVIATION, numbers), rtol=1e-15)


LESS = sp.Rational(98, 100)


def test_an_attack_breaks_a_bound_that_is_too_small():
    weakened = (
        deviation_attack(ANGLE_DEVIATION - (1 - LESS) * ANGLE_ERROR, "float32", sharp=True),
        deviation_attack(LESS * ANGLE_DEVIATION, "bfloat16", sharp=False),
        free_attack(LESS * ARITHMETIC),
        free_attack(LESS * ARITHMETIC_FUSED, fused=True),
        invariance_attack(LESS * INVARIANCE_LOSS),
        channel_attack(CHANNEL_ERROR_FUSED.subs(U, 0), "bfloat16", fused=True),
        channel_attack(CHANNEL_ERROR.subs(TINY, 0), "float16"),
    )
    for attack in weakened:
        attacked = run_attack(attack, starts=1)
        assert not attacked.ok, attack.name
        assert attacked.best is None or attacked.best > 1.005


def test_an_attack_notices_a_bound_that_is_too_large():
    for attack in (
        free_attack(EXACT[1] * ARITHMETIC),
        invariance_attack(EXACT[1] * INVARIANCE_LOSS),
    ):
        attacked = run_attack(attack, starts=1)
        assert attacked.best < 0.995
        assert not attacked.ok


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_attacks_take_the_degenerate_corners(attack):
    ratios = [attack.ratio(point) for point in attack.corners]
    assert all(0 <= ratio <= 1 + attack.rounding for ratio in ratios)


def test_every_derivation_is_part_of_a_claim():
    claimed = {id(d) for claim in PROOF.claims for d in claim.derivations}
    modules = (
        rotation_precision,
        rotation_precision_arithmetic,
        rotation_precision_table,
    )
    lemmas = {"REAL_PART", "TRIANGLE", "TRIANGLE_3", "SINE_NONNEGATIVE", "AS_GIVEN", "ARC_AT_MOST"}
    lemmas |= {"SHORT_CHORD", "LONG_CHORD", "POSITIVE_CHORD"}
    lost = [
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Derivation) and id(value) not in claimed and name not in lemmas
    ]
    assert not lost
