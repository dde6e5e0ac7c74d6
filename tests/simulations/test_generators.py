"""Generators: default heads show their pattern; dials are met; promises are kept, or refused."""

import json
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.generators import (
    GENERATORS,
    default_rope,
    mixture,
    parts,
    periodic_sequential,
    re_access,
    seasonal,
    sequential,
    unpredictable,
)
from tappa_theory import similarity
from tappa_theory.drift import relative_drift
from tappa_theory.energy import channel_energy
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope

PLAIN = {name: generate for name, generate in GENERATORS.items() if name != "real_like"}
SHOWN = {
    **PLAIN,
    "retrieval": partial(unpredictable.generate, kind="retrieval"),
}
INTENDED = {"mixture": "re_access", "retrieval": "unpredictable"}
SEEDS = st.integers(0, 2**32 - 1)
COSINES = st.one_of(st.sampled_from([-0.5, 0.0, 0.999, 1.0]), st.floats(-0.9, 1))
ROPES = [default_rope(size, base) for size in (32, 64, 128) for base in (1e4, 5e5, 1e6)]


@pytest.mark.parametrize("name", SHOWN)
def test_a_default_head_shows_and_foretells_its_pattern(name):
    """20 seeds as they come, and 27 more over lengths, head sizes and bases."""
    pattern = INTENDED.get(name, name)
    settings = [(256, default_rope())] * 20 + list(product((128, 256, 512), ROPES))
    for seed, (length, rope) in enumerate(settings):
        head = SHOWN[name](np.random.default_rng(seed), length=length, rope=rope)
        told = f"seed {seed}, {length} positions, size {rope.head_dim}, base {rope.base}"
        assert head.intended == pattern
        assert head.observed.pattern == pattern, told
        assert head.predicted.pattern == pattern, told


@pytest.mark.parametrize("name", SHOWN)
def test_the_same_seed_gives_the_same_head(name):
    first, again, other = (SHOWN[name](np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.z.tobytes() == again.z.tobytes()
    assert first.w.tobytes() == again.w.tobytes()
    assert not np.array_equal(first.w, other.w) or not np.array_equal(first.z, other.z)


@pytest.mark.parametrize("name", PLAIN)
def test_noise_has_the_power_that_is_asked_for_and_nothing_is_promised(name):
    plain = PLAIN[name](np.random.default_rng(5))
    head = PLAIN[name](np.random.default_rng(5), snr_db=20.0)
    assert head.hypotheses == ()
    assert head.intended == plain.intended
    for found, signal in ((head.z, plain.z), (head.w, plain.w)):
        power = np.mean(np.abs(found - signal) ** 2) / np.mean(np.abs(signal) ** 2)
        # an exponential variable for each of T M numbers
        assert power == pytest.approx(0.01, rel=6 / np.sqrt(signal.size))


def steps(x: np.ndarray) -> np.ndarray:
    return np.asarray(relative_drift(x))


@given(cosine=COSINES, ratio=st.sampled_from([1.0, 1.2]), share=st.floats(0.5, 1), seed=SEEDS)
def test_re_access_meets_its_dials(cosine, ratio, share, seed):
    head = re_access.generate(
        np.random.default_rng(seed),
        length=40,
        q_similarity=cosine,
        norm_ratio=ratio,
        share=share,
        strength=7.0,
        sinks=(0, 3),
    )
    assert float(similarity.adjacent(head.z)) == pytest.approx(cosine, abs=1e-12)
    assert steps(head.z).max() <= parts.step_for(cosine, ratio) + 1e-9
    energy = channel_energy(head.z, head.w, head.rope)
    assert energy.dominant_channel == 31
    if cosine < 1:
        assert energy.dominant_share == pytest.approx(share, rel=1e-9)
    # the lead, in the logits of the dominant channel alone, before it turns
    norm = np.linalg.norm(head.z, axis=1)
    gap = head.scale * (head.z[:, -1] * (head.w[0, -1] - head.w[1, -1]).conj()).real
    np.testing.assert_allclose(gap, 7.0 * norm, rtol=1e-9)
    assert {promise.name for promise in head.hypotheses} == {
        "query_drift",
        "rotation",
        "dominant_share",
        "gap",
    }


def test_columns_stand_at_the_sinks():
    head = re_access.generate(np.random.default_rng(0), sinks=(0, 50, 90))
    assert head.observed.lines.columns == (0, 50, 90)
    assert head.predicted.lines.columns == (0, 50, 90)


@given(q=COSINES, k=COSINES, ratio=st.sampled_from([1.0, 1.2]), seed=SEEDS)
def test_sequential_meets_its_dials(q, k, ratio, seed):
    head = sequential.generate(
        np.random.default_rng(seed), length=40, q_similarity=q, k_similarity=k, norm_ratio=ratio
    )
    for x, cosine in ((head.z, q), (head.w, k)):
        assert float(similarity.adjacent(x)) == pytest.approx(cosine, abs=1e-12)
        assert steps(x).max() == pytest.approx(parts.step_for(cosine, ratio), abs=1e-7)


@pytest.mark.parametrize("offset", [0, 1, 7, 40])
def test_the_diagonal_leads_by_its_strength_where_nothing_drifts(offset):
    head = sequential.generate(
        np.random.default_rng(0), q_similarity=1.0, k_similarity=1.0, strength=9.0, offset=offset
    )
    row = head.logits[-1][::-1]  # by distance
    far = np.abs(np.arange(row.size) - offset) >= sequential.WIDTH
    assert row.argmax() == offset
    # the least energy that does it: the lead is met, and not exceeded
    assert row[offset] - row[far].max() == pytest.approx(9.0, rel=1e-6)
    assert offset in head.observed.lines.offsets


@given(
    drift=st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0, 2)),
    share=st.floats(0.3, 1),
    seed=SEEDS,
)
def test_periodic_sequential_meets_its_dials(drift, share, seed):
    head = periodic_sequential.generate(
        np.random.default_rng(seed), length=128, drift=drift, share=share
    )
    for x in (head.z, head.w):
        np.testing.assert_allclose(steps(x), drift, atol=1e-7)
    energy = channel_energy(head.z, head.w, head.rope)
    assert energy.energy[6] == pytest.approx(share * sum(energy.energy), rel=1e-9)
    assert energy.frequency_dominant_channel == 6
    kappa = next(promise for promise in head.hypotheses if promise.name == "kappa")
    assert kappa.measured(head) == pytest.approx(kappa.limit, rel=1e-9, abs=1e-12)


def test_diagonals_stand_one_period_apart():
    for channel in (6, 7):
        head = periodic_sequential.generate(np.random.default_rng(1), length=512, channel=channel)
        period = 2 * np.pi / head.rope.frequencies[channel]
        assert head.observed.lines.spacing == pytest.approx(period, abs=0.5)


@given(
    period=st.integers(3, 30),
    error=st.one_of(st.sampled_from([0.0, 2.0]), st.floats(0, 2)),
    jitter=st.integers(0, 2),
    seed=SEEDS,
)
def test_seasonal_meets_its_dials(period, error, jitter, seed):
    head = seasonal.generate(
        np.random.default_rng(seed),
        length=64,
        period=period,
        resonance_error=error,
        jitter=jitter,
    )
    carrying = np.abs(head.z).sum(axis=0) > 0
    found = 2 * np.abs(np.sin(period * head.rope.frequencies / 2))
    np.testing.assert_allclose(found[carrying], error, atol=1e-7)
    plain = default_rope().frequencies
    np.testing.assert_array_equal(head.rope.frequencies[~carrying], plain[~carrying])
    # no frequency is moved by more than half a turn in a period
    assert np.abs(head.rope.frequencies - plain).max() <= np.pi / period + 1e-12
    if not jitter:
        np.testing.assert_array_equal(head.w[period:], head.w[:-period])
        np.testing.assert_array_equal(head.z[period:], head.z[:-period])
    rotation = head.hypotheses[0]
    assert rotation.measured(head) == pytest.approx(error, abs=1e-7)


@pytest.mark.parametrize("rope", [default_rope(), Rope(np.linspace(0.5, 3, 32), "half", 64)])
def test_partners_meet_at_full_strength_at_every_distance_where_channels_resonate(rope):
    """Slow channels resonate by standing still, fast ones by whole turns in a period."""
    head = seasonal.generate(
        np.random.default_rng(0),
        length=96,
        rope=rope,
        period=16,
        resonance_error=0.0,
        strength=9.0,
    )
    np.testing.assert_allclose(head.logits.max(axis=1), 9.0, atol=1e-9)
    top = head.logits > 9.0 - 1e-6
    np.testing.assert_array_equal(top.sum(axis=1), 96 // 16)
    t, i = np.nonzero(top)
    assert np.unique((t + i) % 16).size == 1


@pytest.mark.parametrize("period", [5, 8, 12, 16, 23])
def test_the_season_is_the_period(period):
    head = seasonal.generate(np.random.default_rng(2), period=period)
    assert head.observed.pattern == "seasonal"
    assert head.observed.season_lag % period == 0
    assert head.predicted.season_lag % period == 0


def test_jitter_blurs_the_season():
    strict, loose = (
        np.mean(
            [
                seasonal.generate(np.random.default_rng(seed), jitter=jitter).observed.season
                for seed in range(5)
            ]
        )
        for jitter in (0, 4)
    )
    assert loose < strict / 2


def test_retrieval_finds_the_planted_key_and_goes_elsewhere_each_time():
    head = unpredictable.generate(np.random.default_rng(0), kind="retrieval")
    top = head.attention.argmax(axis=1)
    assert np.mean(head.attention.max(axis=1) > 0.5) > 0.95
    assert np.unique(top[64:]).size > 96


def test_logits_of_independent_queries_have_the_deviation_asked_for():
    head = unpredictable.generate(np.random.default_rng(0), strength=5.0)
    assert head.logits.std() == pytest.approx(5.0, rel=0.1)


def test_a_mixture_has_the_sum_of_the_logits_of_its_parts():
    rope = default_rope()
    kinds = (seasonal.generate, re_access.generate, sequential.generate)
    leads = (5.0, 12.0, 8.0)
    head = mixture.generate(np.random.default_rng(0), parts=tuple(zip(kinds, leads, strict=True)))
    rng = np.random.default_rng(0)
    total = np.zeros_like(head.logits)
    for number, (generate, lead) in enumerate(zip(kinds, leads, strict=True)):
        own = Rope(
            rope.frequencies[number::3], "half", 2 * len(rope.frequencies[number::3]), base=1e4
        )
        part = generate(rng, length=256, rope=own)
        total += part.logits * lead / mixture.lead_of(part)
    np.testing.assert_allclose(head.logits, total, atol=1e-10)
    assert head.intended == "re_access"
    assert head.rope == rope


def test_the_lead_of_a_mixtures_parts_decides():
    shown = []
    for lead in (6.0, 16.0):
        both = ((re_access.generate, 11.0), (sequential.generate, lead))
        head = mixture.generate(np.random.default_rng(0), parts=both)
        assert head.intended == head.observed.pattern
        shown.append(head.intended)
    assert shown == ["re_access", "sequential"]


def test_a_mixture_promises_the_drift_of_its_parts():
    head = mixture.generate(np.random.default_rng(0))
    (promise,) = head.hypotheses
    assert promise.limit == pytest.approx(np.sqrt(2 - 2 * 0.9))
    assert 0 < promise.measured(head) < promise.limit
    quiet = ((unpredictable.generate, 3.0), (sequential.generate, 8.0))
    assert mixture.generate(np.random.default_rng(0), parts=quiet).hypotheses == ()


@pytest.mark.parametrize(
    ("name", "dials", "what"),
    [
        ("re_access", {"q_similarity": -1.0}, "cosine"),
        ("re_access", {"q_similarity": 1.2}, "cosine"),
        ("re_access", {"strength": 0.0}, "strength"),
        ("re_access", {"share": 0.0}, "share"),
        ("re_access", {"sinks": ()}, "sinks"),
        ("re_access", {"sinks": (400,)}, "sinks"),
        ("re_access", {"channel": 32}, "channel"),
        ("re_access", {"norm_ratio": 0.5}, "norm ratio"),
        ("sequential", {"offset": 300}, "diagonal"),
        ("sequential", {"rope": Rope.none(64)}, "spread"),
        ("periodic_sequential", {"drift": 2.5}, "drift"),
        ("periodic_sequential", {"share": 1.5}, "share"),
        ("periodic_sequential", {"rope": Rope.none(64)}, "turns"),
        ("periodic_sequential", {"rope": Rope.none(64), "channel": 3}, "turn"),
        ("seasonal", {"period": 1}, "period"),
        ("seasonal", {"jitter": -1}, "jitter"),
        ("seasonal", {"resonance_error": 2.1}, "resonance"),
        ("seasonal", {"resonance_error": 0.1, "rope": Rope.none(64)}, "alone"),
        ("unpredictable", {"kind": "wild"}, "kind"),
        ("mixture", {"parts": ()}, "parts"),
        ("mixture", {"parts": ((re_access.generate, 0.0),)}, "lead"),
        (
            "mixture",
            {"parts": ((partial(seasonal.generate, resonance_error=0.5), 1.0),) * 2},
            "frequencies of its own",
        ),
    ],
)
def test_impossible_dials_are_refused_in_one_line(name, dials, what):
    with pytest.raises(InputError, match=what) as refused:
        PLAIN[name](np.random.default_rng(0), **dials)
    assert "\n" not in str(refused.value)


def test_the_default_rope_is_plain():
    rope = default_rope(8, 100.0)
    np.testing.assert_allclose(rope.frequencies, 100.0 ** -np.array([0, 0.25, 0.5, 0.75]))
    assert json.dumps(rope.type) == '"default"'
