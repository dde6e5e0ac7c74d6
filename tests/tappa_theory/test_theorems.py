"""The registry of theorems, their bounds against (B) typed out, and the known counterexamples."""

import dataclasses

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tappa_theory.energy import channel_energy
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope
from tappa_theory.separable import evaluate
from tappa_theory.shift_identity import BOUND, KEY_DRIFT, SHIFT_DIFFERENCE, bound_at, z, z_s
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS, PublishedForm, theorem

U64 = 2.0**-53
IDS = (
    "shift_bound",
    "proposition_4_1",
    "re_access",
    "sequential",
    "periodic_sequential",
    "seasonal",
    "attention_distance",
    "query_drift",
    "typical_case",
    "similarity_direction",
    "lifetime",
    "kv_reuse",
    "rotation_precision",
)
PUBLISHED = ("proposition_4_1", "re_access", "sequential", "periodic_sequential", "seasonal")
SHIFTS = {
    "re_access": ({}, (1, 0)),
    "sequential": ({}, (1, 1)),
    "periodic_sequential": ({"N": 9}, (0, 9)),
    "seasonal": ({"L": 7}, (7, 0)),
}
quick = settings(max_examples=50)


def test_the_registry_holds_every_theorem_once():
    assert tuple(THEOREMS) == IDS
    assert tuple(SHIFTS) == SHIFT_THEOREMS
    for name, entry in THEOREMS.items():
        assert entry.id == name
        assert theorem(name) is entry
        if name in PUBLISHED:
            assert "2601.21709" in entry.source
            assert entry.published.text.startswith("As publicly summarised")
        else:
            assert "not in the paper" in entry.source
        assert entry.hypotheses
        assert entry.published.reading
        assert entry.bound_latex


def test_an_unknown_id_is_answered_with_the_ids():
    with pytest.raises(InputError) as caught:
        theorem("theorem_9")
    assert "'theorem_9'" in str(caught.value)
    assert all(name in str(caught.value) for name in IDS)


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts_are_integers(name):
    parameters, expected = SHIFTS[name]
    shift = theorem(name).shift(**parameters)
    assert shift == expected
    assert all(type(part) is int for part in shift)


def test_a_shift_that_is_not_there_or_not_given_is_refused():
    with pytest.raises(ValueError, match="no shift"):
        theorem("proposition_4_1").shift()
    with pytest.raises(KeyError):
        theorem("seasonal").shift(N=7)


@pytest.mark.parametrize("name", SHIFTS)
def test_a_theorem_must_carry_bound_b_at_its_shift(name):
    entry = theorem(name)
    assert sp.simplify(entry.bound - bound_at(entry.pattern_shift)) == 0
    for wrong in (BOUND, entry.bound / 2, entry.bound - KEY_DRIFT):
        with pytest.raises(ValueError, match=r"not \(B\) at the shift"):
            dataclasses.replace(entry, bound=wrong)
    with pytest.raises(ValueError, match=r"not \(B\) at the shift"):
        dataclasses.replace(entry, pattern_shift=(sp.Integer(2), sp.Integer(0)))


def test_a_form_counted_in_steps_needs_both_sides():
    with pytest.raises(ValueError, match="both of its sides"):
        PublishedForm("text", "reading", bound=BOUND, counted="steps")


def head(seed, channels=4):
    """One (query, key) pair, numpy: values (M,) of every per-channel symbol."""
    random = np.random.default_rng(seed)
    z, z_s, w, w_u = random.standard_normal((4, channels)) + 1j * random.standard_normal(
        (4, channels)
    )
    near = 10.0 ** random.uniform(-3, 0.5)
    theta = np.sort(random.uniform(0, 1, channels))[::-1]
    values = {"z": z, "z_s": z + near * z_s, "w": w, "w_u": w + near * w_u, "theta": theta}
    values |= {"lambda": np.asarray(0.125), "t": np.asarray(0), "i": np.asarray(0)}
    return values | {"L": np.asarray(7), "N": np.asarray(9), "theta_*": theta[0]}


def size(values):
    moved = np.abs(values["z_s"] * values["w_u"])
    return 0.125 * np.sum(moved + np.abs(values["z"] * values["w"]))


@pytest.mark.parametrize("name", SHIFTS)
@quick
@given(st.integers(0, 2**32 - 1))
def test_every_bound_is_b_as_typed_out_and_holds(name, seed):
    values, (s, u) = head(seed), SHIFTS[name][1]
    z, z_s, w, w_u, theta = (values[key] for key in ("z", "z_s", "w", "w_u", "theta"))
    typed = 0.125 * (
        np.abs(z_s - z) * np.abs(w_u)
        + np.abs(z) * np.abs(w_u - w)
        + 2 * np.abs(np.sin((s - u) * theta / 2)) * np.abs(z) * np.abs(w)
    )
    bound = evaluate(theorem(name).bound, values)
    assert np.all(np.abs(bound - typed) <= 32 * U64 * typed)
    logit = 0.125 * np.real(z * np.conj(w))
    moved = 0.125 * np.real(np.exp(1j * (s - u) * theta) * z_s * np.conj(w_u))
    assert np.all(np.abs(moved - logit) <= bound + 64 * U64 * size(values))


@quick
@given(st.integers(0, 2**32 - 1))
def test_the_published_diagonal_bound_follows_from_b(seed):
    values = head(seed)
    z, z_s, w, w_u = (values[key] for key in ("z", "z_s", "w", "w_u"))
    norms = {
        "query_norm": z,
        "query_step": z_s - z,
        "key_norm_u": w_u,
        "key_step": w_u - w,
    }
    norms = {name: np.linalg.norm(vector) for name, vector in norms.items()}
    published = evaluate(theorem("sequential").published.bound, values | norms)
    assert np.sum(evaluate(theorem("sequential").bound, values)) <= published * (1 + 64 * U64)


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6))
def test_a_query_step_changes_the_logits_between_both_sides(seed, keys, rank):
    random = np.random.default_rng(seed)
    k = random.standard_normal((keys, rank)) @ random.standard_normal((rank, 6))
    dq = random.standard_normal(6)
    _, singular, right = np.linalg.svd(k)
    spanned = right[: min(keys, rank)]  # the rank of k, almost surely
    values = {
        "lambda": np.asarray(0.125),
        "step": np.linalg.norm(spanned @ dq),
        "key_norm_max": np.max(np.linalg.norm(k, axis=-1)),
        "sigma": singular[min(keys, rank) - 1],
        "n": np.asarray(float(keys)),
    }
    entry = theorem("proposition_4_1")
    observed = np.max(np.abs(0.125 * k @ dq))
    rounding = 1e-12 * values["key_norm_max"]
    assert evaluate(entry.auxiliary["lower"], values) <= observed + rounding
    assert observed <= evaluate(entry.bound, values) + rounding


def test_both_sides_of_the_proposition_are_attained():
    values = {"lambda": 0.5, "step": np.asarray(2.0), "n": 4}
    entry = theorem("proposition_4_1")
    # orthogonal keys of norm 3, the step along one of them: |da| = 0.5 * 3 * 2
    assert evaluate(entry.bound, values | {"key_norm_max": 3.0}) == 3.0
    # the same keys, the step spread evenly over four of them: each |da| is half as large
    assert evaluate(entry.auxiliary["lower"], values | {"sigma": 3.0}) == 1.5


ANTI_RESONANT = {
    "z": (sp.Integer(1), sp.Integer(1)),
    "w": (sp.Integer(1), sp.Integer(1)),
    "theta": (sp.pi, sp.pi / 2),
}


def exact_sum(expression, major=1):
    """Sum of `expression` over the channels of the counterexample, exactly, L = 2 and lambda 1."""
    total = 0
    for m in range(2):
        amount = major if m == 0 else 1
        exact = {"z": amount, "z_s": amount, "w": 1, "w_u": 1, "t": 0, "i": 0, "lambda": 1}
        exact |= {"s": 2, "u": 0, "L": 2, "theta": ANTI_RESONANT["theta"][m], "theta_*": sp.pi}
        total += expression.subs({symbol: exact[symbol.name] for symbol in expression.free_symbols})
    return sp.simplify(total)


def test_periodic_inputs_with_an_anti_resonant_channel_break_the_published_season():
    entry = theorem("seasonal")
    assert exact_sum(SHIFT_DIFFERENCE) == -2
    assert exact_sum(entry.published.bound) == 0
    assert exact_sum(entry.bound) == 2
    # the same with the resonant channel the stronger one, so that no tie is broken in its favour
    assert exact_sum(SHIFT_DIFFERENCE, major=2) == -2
    assert exact_sum(entry.published.bound, major=2) == 0
    assert exact_sum(entry.bound, major=2) == 2
    rope = Rope(np.array([np.pi, np.pi / 2]), "half", 4)
    z = np.tile(np.array([2.0, 1.0]) + 0j, (6, 1))
    energy = channel_energy(z, np.ones_like(z), rope)
    assert energy.dominant_channel == energy.frequency_dominant_channel == 0


def test_the_published_spacing_has_no_error_term_for_other_channels():
    entry = theorem("periodic_sequential")
    # theta_* = pi, N = 2 = its period; a second channel turns by half a circle meanwhile
    exact = {"z": 1, "z_s": 1, "w": 1, "w_u": 1, "t": 0, "i": 0, "lambda": 1, "theta_*": sp.pi}
    exact |= {"s": 0, "u": 2, "N": 2, "theta": sp.pi / 2}

    def at(expression):
        return sp.simplify(expression.subs({x: exact[x.name] for x in expression.free_symbols}))

    assert at(SHIFT_DIFFERENCE) == -2
    assert at(entry.published.bound) == 0
    assert at(entry.bound) == 2


@pytest.mark.parametrize("radius", [1, 5])
def test_the_published_arc_is_longer_than_its_chord(radius):
    form = theorem("re_access").published
    exact = {"z": sp.Integer(radius), "z_s": radius * (sp.Integer(1) + sp.sqrt(3) * sp.I) / 2}

    def at(expression):
        return sp.simplify(expression.subs({x: exact[x.name] for x in expression.free_symbols}))

    assert form.counted == "steps"
    assert at(form.observed) == sp.pi / 3
    assert at(form.bound) == 1
    # the smaller of the two norms is what the chord is compared with
    exact["z_s"] *= 3
    assert at(form.observed) == sp.pi / 3
    assert at(form.bound) == sp.sqrt(7)
    assert at(form.bound.subs({z: z_s, z_s: z}, simultaneous=True)) == sp.sqrt(7)


@quick
@given(st.floats(0.01, 3.1), st.floats(0.1, 10.0), st.floats(-3, 3))
def test_the_published_arc_fails_at_every_angle_between_equal_norms(angle, radius, phase):
    z = np.asarray([radius * np.exp(1j * phase)])
    values = {"z": z, "z_s": z * np.exp(1j * angle)}
    form = theorem("re_access").published
    observed, bound = (float(evaluate(side, values)[0]) for side in (form.observed, form.bound))
    assert observed == pytest.approx(angle, abs=1e-14)
    assert bound == pytest.approx(2 * np.sin(angle / 2), abs=1e-14)
    assert observed > bound


def test_the_condition_on_local_maxima_is_generated_per_channel():
    random = np.random.default_rng(8)
    values = head(8) | {"minor": np.array([0, 1, 1, 1.0]), "major": np.array([1.0, 0, 0, 0])}
    values["theta"] = random.uniform(0.1, 1, 4)
    parts = theorem("periodic_sequential").auxiliary
    product = 0.125 * np.abs(values["z"]) * np.abs(values["w"])
    turned = 2 * np.sin(values["theta"] / 2) * product
    assert np.allclose(evaluate(parts["slow_rotation"], values), [0, *turned[1:]], rtol=1e-14)
    assert np.allclose(evaluate(parts["dominant_rotation"], values), [turned[0], 0, 0, 0])
    drift = 0.125 * np.abs(values["z"]) * np.abs(values["w_u"] - values["w"])
    assert np.allclose(evaluate(parts["neighbour_drift"], values), drift, rtol=1e-14)
