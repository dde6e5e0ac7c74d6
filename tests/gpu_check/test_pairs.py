"""The tiled check against the full matrix, what it allocates, and a violation it must report."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, target
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_check.check import check
from gpu_check.comparison import SETTLED
from gpu_check.pairs import Claim, Head, PairStatistics, TiledCheck
from gpu_check.visibility import Visibility
from tappa_theory.energy import channel_gain
from tappa_theory.errors import InputError
from tappa_theory.rope import Rope, rotate, to_vectors
from tappa_theory.shift_identity import ALPHA, KEY_DRIFT, QUERY_DRIFT, bound_at, rotation_residual
from tappa_theory.theorems import SHIFT_THEOREMS, THEOREMS

SCALE = 0.35
PLAIN = Rope(np.array([1.0, 0.4, 0.05]), "half", 6)
PARTIAL = Rope(np.array([0.9, 0.2, 0.0, 0.0]), "half", 4, attention_scaling=1.4, type="yarn")
STAR = 1
RESIDUAL = rotation_residual(ALPHA)


def claims(length: int) -> list[Claim]:
    """Every theorem at every shift of a few that fits."""
    shifts = [("re_access", {}), ("sequential", {})]
    shifts += [("periodic_sequential", {"N": n}) for n in (2, 16)]
    shifts += [("seasonal", {"L": n}) for n in (2, 16, 24)]
    given = [Claim(THEOREMS[name], THEOREMS[name].shift(**values), STAR) for name, values in shifts]
    return [claim for claim in given if max(claim.shift) < length]


def channels(length: int, count: int, seed: int = 0, step: float = 0.3) -> np.ndarray:
    """(T, M) channels that wander: steps that matter, norms that differ."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((2, length, count))
    start = random.standard_normal((2, 1, count)) * 2
    values = start + step * (noise + np.cumsum(noise, axis=1) / 3)
    return values[0] + 1j * values[1]


def head_of(
    z: np.ndarray, w: np.ndarray, rope: Rope = PLAIN, visibility: Visibility | None = None
) -> Head:
    return Head(
        torch.tensor(z), torch.tensor(w), rope, SCALE, visibility or Visibility(len(z), None)
    )


def visible_matrix(visibility: Visibility) -> np.ndarray:
    matrix = np.zeros((visibility.length, visibility.length), dtype=bool)
    for t in range(visibility.length):
        for i in range(t + 1):
            inside = visibility.window is None or t - i < visibility.window
            both = visibility.valid is None or bool(visibility.valid[t] and visibility.valid[i])
            matrix[t, i] = inside and both
    return matrix


class Reference:
    """The full T x T matrices of a head from the definitions, with complex numbers only."""

    def __init__(self, head: Head) -> None:
        self.z, self.w = head.z.numpy(), head.w.numpy()
        self.theta = np.array(head.rope.frequencies)
        rotary = np.arange(len(self.theta)) < head.rope.rotary_dim // 2
        self.gain = head.scale * np.where(rotary, head.rope.attention_scaling**2, 1.0)
        length = len(self.z)
        self.logits = np.zeros((length, length))
        for t in range(length):
            for m, theta in enumerate(self.theta):
                query = self.z[t, m] * np.exp(1j * t * theta)
                key = self.w[:, m] * np.exp(1j * np.arange(length) * theta)
                self.logits[t] += self.gain[m] * (query * key.conjugate()).real
        self.visible = visible_matrix(head.visibility)

    def row_std(self) -> np.ndarray:
        rows = zip(self.logits, self.visible, strict=True)
        return np.array([np.std(row[seen]) if seen.any() else 0.0 for row, seen in rows])

    def bound(self, s: int, u: int, theta: np.ndarray) -> np.ndarray:
        """(T - s, T - u) bound (B), with `theta` in the residual."""
        z, z_s = abs(self.z[: len(self.z) - s]), abs(self.z[s:] - self.z[: len(self.z) - s])
        w, w_u = abs(self.w[: len(self.w) - u]), abs(self.w[u:])
        w_step = abs(self.w[u:] - self.w[: len(self.w) - u])
        total = np.zeros((len(z), len(w)))
        for m in range(len(self.theta)):
            residual = 2 * abs(math.sin((s - u) * theta[m] / 2))
            total += self.gain[m] * (
                np.outer(z_s[:, m], w_u[:, m])
                + np.outer(z[:, m], w_step[:, m])
                + residual * np.outer(z[:, m], w[:, m])
            )
        return total

    def statistics(self, claim: Claim) -> dict[str, Any]:
        s, u = claim.shift
        rows, columns = len(self.z) - s, len(self.w) - u
        both = self.visible[:rows, :columns] & self.visible[s:, u:]
        observed = abs(self.logits[s:, u:] - self.logits[:rows, :columns])[both]
        limit = self.bound(s, u, self.theta)
        spread = np.broadcast_to(self.row_std()[:rows, None], both.shape)
        ratio = np.where(both, abs(self.logits[s:, u:] - self.logits[:rows, :columns]), 0) / limit
        answer = {
            "shift": (s, u),
            "pairs": int(both.sum()),
            "violations": int((observed > limit[both] * (1 + 1e-9)).sum()),
            "undecided": 0,
            "tight": 0,
            "max_ratio": float(ratio.max()),
            "sum_ratio": float(ratio[both].sum()),
            "sum_observed": float(observed.sum()),
            "sum_bound": float(limit[both].sum()),
            "informative": int((limit < spread)[both].sum()),
        }
        if both.any():
            worst = np.unravel_index(ratio.argmax(), ratio.shape)
            answer |= {
                "worst": (int(worst[0]), int(worst[1])),
                "worst_observed": float(
                    abs(self.logits[worst[0] + s, worst[1] + u] - self.logits[worst])
                ),
                "worst_bound": float(limit[worst]),
            }
        return answer | self.published(claim, both, observed)

    def published(self, claim: Claim, both: np.ndarray, observed: np.ndarray) -> dict[str, int]:
        s, u = claim.shift
        if claim.theorem.id == "re_access":
            return self.published_steps()
        if claim.theorem.id == "sequential":
            weighted_q, weighted_k = self.z * self.gain**0.5, self.w * self.gain**0.5
            norm = np.linalg.norm
            q, k = norm(weighted_q, axis=1), norm(weighted_k, axis=1)
            q_step, k_step = (norm(x[1:] - x[:-1], axis=1) for x in (weighted_q, weighted_k))
            limit = (k[None, 1:] + q[:-1, None]) * np.maximum(q_step[:, None], k_step[None, :])
        else:
            limit = self.bound(s, u, np.full_like(self.theta, self.theta[STAR]))
        violated = int((observed > limit[both] * (1 + 1e-9)).sum())
        return {"published_checked": int(both.sum()), "published_violations": violated}

    def published_steps(self) -> dict[str, int]:
        checked = violated = 0
        for t in range(len(self.z) - 1):
            if not (self.visible[t, t] and self.visible[t + 1, t + 1]):
                continue
            for before, after in zip(self.z[t], self.z[t + 1], strict=True):
                if before == 0 or after == 0:
                    continue
                checked += 1
                angle = abs(np.angle(after / before))
                chord = abs(after - before) / min(abs(before), abs(after))
                violated += bool(angle > chord * (1 + 1e-9))
        return {"published_checked": checked, "published_violations": violated}


def assert_same(found: PairStatistics, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if isinstance(value, float):
            assert getattr(found, name) == pytest.approx(value, rel=1e-9, abs=1e-12), name
        else:
            assert getattr(found, name) == value, name


def run(head: Head, given: list[Claim], tile: int) -> list[PairStatistics]:
    return TiledCheck(head, tile).run(given, torch.tensor(Reference(head).row_std()))


def compare(head: Head, tile: int) -> list[PairStatistics]:
    given = claims(head.visibility.length)
    found = run(head, given, tile)
    reference = Reference(head)
    for statistics, claim in zip(found, given, strict=True):
        assert_same(statistics, reference.statistics(claim))
    return found


SIZES = [(1, 16), (2, 7), (3, 1), (3, 2), (17, 7), (17, 16), (255, 64), (257, 64), (300, 256)]


@pytest.mark.parametrize(("length", "tile"), SIZES)
def test_tiles_give_what_the_full_matrix_gives(length, tile):
    found = compare(head_of(channels(length, 3), channels(length, 3, seed=1)), tile)
    assert len(found) == {1: 0, 2: 2, 3: 4}.get(length, 7 if length > 24 else 6)
    assert all(statistics.pairs > 0 for statistics in found)


@pytest.mark.parametrize("tile", [7, 16, 300])
@pytest.mark.parametrize("window", [1, 5, 16, 20, 150])
def test_a_sliding_window_hides_pairs_before_and_after_the_shift(window, tile):
    visibility = Visibility(61, window)
    found = compare(head_of(channels(61, 3), channels(61, 3, seed=1), PLAIN, visibility), tile)
    assert (found[-1].pairs == 0) == (window <= 24)


VALID = {
    "left": torch.arange(61) >= 20,
    "right": torch.arange(61) < 40,
    "hole": (torch.arange(61) < 30) | (torch.arange(61) > 33),
    "nothing": torch.zeros(61, dtype=torch.bool),
}


@pytest.mark.parametrize("window", [None, 30])
@pytest.mark.parametrize("name", VALID)
def test_padding_is_no_pair(name, window):
    visibility = Visibility(61, window, VALID[name])
    found = compare(head_of(channels(61, 3), channels(61, 3, seed=1), PLAIN, visibility), 16)
    assert any(statistics.pairs for statistics in found) == (name != "nothing")


@pytest.mark.parametrize("name", ["left", "right", "hole"])
def test_padded_vectors_change_nothing(name):
    z, w = channels(61, 3), channels(61, 3, seed=1)
    other_z, other_w = z.copy(), w.copy()
    padded = ~VALID[name].numpy()
    other_z[padded], other_w[padded] = 1e6 - 3e5j, -2e7j
    visibility = Visibility(61, None, VALID[name])
    std = torch.tensor(Reference(head_of(z, w, PLAIN, visibility)).row_std())
    first, second = (
        TiledCheck(head_of(*vectors, PLAIN, visibility), 16).run(claims(61), std)
        for vectors in ((z, w), (other_z, other_w))
    )
    assert first == second


@pytest.mark.parametrize("tile", [16, 64])
def test_partial_rotary_and_attention_scaling(tile):
    found = compare(head_of(channels(80, 4), channels(80, 4, seed=1), PARTIAL), tile)
    assert channel_gain(PARTIAL, 1.0) == pytest.approx([1.96, 1.96, 1, 1])
    assert found[0].published_violations


def test_the_published_forms_fail_somewhere_and_bounds_inform_somewhere():
    smooth = head_of(channels(80, 3, step=0.02), channels(80, 3, seed=1, step=0.5))
    column, _, _, _, _, season, _ = compare(smooth, 16)
    assert season.shift == (16, 0)  # near resonance on the star channel
    assert season.published_violations
    assert 0 < column.informative < column.pairs
    still_keys = head_of(channels(80, 3), channels(80, 3, seed=1, step=0.02))
    column, diagonal, _, spaced, *_ = compare(still_keys, 16)
    assert spaced.shift == (0, 16)
    assert column.published_violations
    assert spaced.published_violations
    assert diagonal.published_violations == 0  # Cauchy-Schwarz on (B)


def test_the_published_diagonal_takes_the_norm_of_the_shifted_key():
    """Where norms grow fast, any other norm would be violated at once."""
    growth = 4.0 ** np.arange(14)[:, None]
    vectors = growth * channels(14, 3, step=0.05)
    _, diagonal, *_ = compare(head_of(vectors, vectors), 7)
    assert diagonal.published_violations == 0


def rotated(z: np.ndarray, rope: Rope) -> np.ndarray:
    return to_vectors(rotate(z, rope, np.arange(len(z))), rope)


def test_grouped_queries_meet_their_own_key_head():
    queries = np.stack([channels(70, 4, seed=seed) for seed in range(4)])
    keys = np.stack([channels(70, 4, seed=seed) for seed in (8, 9)])
    result = check(
        np.stack([rotated(z, PARTIAL) for z in queries]),
        np.stack([rotated(w, PARTIAL) for w in keys]),
        PARTIAL,
        scale=SCALE,
        lag=5,
    )
    assert [head.kv_head for head in result.heads] == [0, 0, 1, 1]
    for index, measured in enumerate(result.heads):
        reference = Reference(head_of(queries[index], keys[index // 2], PARTIAL))
        for name in ("re_access", "sequential", "seasonal"):
            shift = THEOREMS[name].shift(L=5)
            expected = reference.statistics(Claim(THEOREMS[name], shift, STAR))
            found = measured.theorems[name]
            assert found.shift == shift
            assert found.pairs == expected["pairs"]
            assert found.max_ratio == pytest.approx(expected["max_ratio"], rel=1e-9)
            assert found.mean_ratio == pytest.approx(expected["sum_ratio"] / found.pairs, rel=1e-9)
            assert found.mean_bound == pytest.approx(expected["sum_bound"] / found.pairs, rel=1e-9)
            assert found.informative == expected["informative"] / found.pairs
            assert (found.worst["t"], found.worst["i"]) == expected["worst"]


class Sizes(TorchDispatchMode):
    """Remembers the largest tensor that any torch operation returned."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(part, torch.Tensor):
                self.largest = max(self.largest, part.numel())
        return result


def test_no_tensor_grows_with_the_square_of_the_text():
    length, tile = 2048, 64
    head = head_of(channels(length, 3), channels(length, 3, seed=1))
    with Sizes() as sizes:
        TiledCheck(head, tile).run(claims(length), torch.ones(length, dtype=torch.float64))
    features = length * 3 * 4  # four features per channel at most
    assert length * 3 <= sizes.largest <= max(features, tile**2)
    assert 100 * sizes.largest < length**2


def test_a_shift_longer_than_the_text_is_refused():
    head = head_of(channels(5, 3), channels(5, 3))
    with pytest.raises(InputError, match="needs more than 5 positions"):
        TiledCheck(head).run([Claim(THEOREMS["seasonal"], (5, 0), STAR)], torch.ones(5))


# --- a violation must be reportable ---------------------------------------------------------


def weakened(name: str, term: Any) -> Any:
    """The theorem with a tenth of one term of its bound taken away."""
    theorem = copy.copy(THEOREMS[name])
    less = theorem.bound - bound_at(theorem.pattern_shift, term) / 10
    object.__setattr__(theorem, "bound", less)  # a Theorem refuses any bound but (B)
    return theorem


def witness_head(s: int, u: int, t: int, i: int, rope: Rope = PLAIN) -> Head:
    """Random channels, but the pair (t, i) attains (B) at the shift (s, u) on every channel."""
    length = t + max(s, u) + 2
    z, w = channels(length, len(rope.frequencies)), channels(length, len(rope.frequencies), 1)
    for m, theta in enumerate(rope.frequencies):
        turn = np.exp(1j * (s - u) * theta)
        beta, gamma = (0.6 if u else 0.0), (0.7 if s else 0.0)
        w[i, m] = np.exp(2j * m)
        if turn == 1:
            z[t, m] = np.exp(-1j * (t - i) * theta) * w[i, m]
            z[t + s, m], w[i + u, m] = (1 + gamma) * z[t, m], (1 + beta) * w[i, m]
            continue
        w[i + u, m] = w[i, m] * (1 + beta * (1 - turn))
        direction = np.exp(1j * (t - i) * theta) * (turn - 1) * np.conj(w[i, m])
        z[t, m] = np.conj(direction) / abs(direction)
        quotient = np.conj(w[i, m]) / np.conj(w[i + u, m])
        z[t + s, m] = z[t, m] * (1 + gamma * (1 - np.conj(turn)) * quotient)
    return head_of(z, w, rope)


WITNESSES = {
    "re_access": ((1, 0), [QUERY_DRIFT, RESIDUAL]),
    "sequential": ((1, 1), [QUERY_DRIFT, KEY_DRIFT]),
    "periodic_sequential": ((0, 4), [KEY_DRIFT, RESIDUAL]),
    "seasonal": ((7, 0), [QUERY_DRIFT, RESIDUAL]),
}


@pytest.mark.parametrize("name", SHIFT_THEOREMS)
def test_the_witness_attains_the_bound_and_violates_nothing(name):
    shift, _ = WITNESSES[name]
    head = witness_head(*shift, t=9, i=3)
    (found,) = run(head, [Claim(THEOREMS[name], shift, STAR)], tile=7)
    assert found.max_ratio == pytest.approx(1, abs=1e-12)
    assert found.worst == (9, 3)
    # Too close for float64; in balls the rounded witness is just within the bound, or on it.
    assert found.violations == found.undecided == 0


@pytest.mark.parametrize(
    ("name", "term"), [(name, term) for name, (_, terms) in WITNESSES.items() for term in terms]
)
def test_a_bound_that_is_too_small_is_reported(name, term, monkeypatch):
    shift, _ = WITNESSES[name]
    monkeypatch.setitem(THEOREMS, name, weakened(name, term))
    head = witness_head(*shift, t=9, i=3)
    (found,) = run(head, [Claim(THEOREMS[name], shift, STAR)], tile=7)
    assert found.violations >= 1
    assert found.max_ratio > 1.01


def test_a_violation_reaches_the_verdict(monkeypatch):
    head = witness_head(1, 0, t=9, i=3)
    q, k = rotated(head.z.numpy(), PLAIN)[None], rotated(head.w.numpy(), PLAIN)[None]
    assert check(q, k, PLAIN, scale=SCALE).verdict != "violated"
    monkeypatch.setitem(THEOREMS, "re_access", weakened("re_access", QUERY_DRIFT))
    result = check(q, k, PLAIN, scale=SCALE)
    assert result.verdict == "violated"
    assert result.summary["theorems"]["re_access"]["violations"] >= 1
    assert result.summary["theorems"]["re_access"]["worst"]["t"] == 9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_repeated_tokens_violate_nothing(dtype):
    """Drift is nothing but rounding here, and so is what it bounds: float64 decides little."""
    rope = Rope.from_parameters(16, {"rope_theta": 10000.0})
    q = rotated(np.repeat(channels(1, 8), 300, axis=0), rope)
    k = rotated(np.repeat(channels(1, 8, seed=1), 300, axis=0), rope)
    result = check(q[None].astype(dtype), k[None].astype(dtype), rope)
    theorems = result.heads[0].theorems
    assert sum(found.pairs for found in theorems.values()) > 100_000
    assert all(found.violations == 0 for found in theorems.values())
    # Of float64 more pairs are left than are settled.
    assert result.verdict == ("holds" if dtype == np.float32 else "undecided")
    left = theorems["sequential"].undecided
    assert left == (0 if dtype == np.float32 else theorems["sequential"].pairs - SETTLED)
    # Mathematics forbids a violation of these two where nothing moves.
    assert theorems["sequential"].published_violations == 0
    assert theorems["re_access"].published_violations == 0


def test_zero_queries_are_no_numbers_gone_wrong():
    zero, w = np.zeros((20, 3), dtype=complex), channels(20, 3)
    for found in run(head_of(zero, w), claims(20), tile=7):
        assert (found.violations, found.undecided, found.max_ratio) == (0, 0, 0.0)
        assert found.tight == found.pairs
        assert found.sum_observed == found.sum_bound == found.sum_ratio == 0
        assert found.worst is None
        assert found.informative == 0
    half = np.where(np.arange(20)[:, None] < 10, 0, channels(20, 3, seed=1))
    for found in run(head_of(half, w), claims(20), tile=7):
        assert found.violations == 0
        assert 0 < found.max_ratio <= 1
    steps = run(head_of(half, w), claims(20)[:1], tile=7)[0].published_checked
    assert steps == 9 * 3  # from zero or to zero no channel has an angle


# --- no head violates -----------------------------------------------------------------------

numbers = st.integers(-64, 64).map(lambda number: number / 16)
complexes = st.builds(complex, numbers, numbers)
few = st.integers(2, 5)


@st.composite
def heads(draw: Any) -> tuple[Head, list[Claim]]:
    length, count = draw(few), draw(st.integers(1, 2))
    rows = st.lists(complexes, min_size=count, max_size=count)
    z, w = (np.array(draw(st.lists(rows, min_size=length, max_size=length))) for _ in range(2))
    theta = np.array(draw(st.lists(st.floats(0, math.pi), min_size=count, max_size=count)))
    rope = Rope(theta, "half", 2 * count)
    steps = draw(st.integers(1, length - 1))
    given = [("re_access", {}), ("sequential", {}), ("periodic_sequential", {"N": steps})]
    given += [("seasonal", {"L": steps})]
    return head_of(z, w, rope), [Claim(THEOREMS[n], THEOREMS[n].shift(**v), 0) for n, v in given]


@settings(max_examples=120)
@given(heads())
def test_no_head_violates_a_bound(drawn):
    head, given = drawn
    found = TiledCheck(head, 2).run(given, torch.zeros(len(head.z), dtype=torch.float64))
    ratios = [statistics.max_ratio for statistics in found if statistics.worst_bound > 1e-6]
    if ratios:
        target(max(ratios))
        assert max(ratios) <= 1 + 1e-9
    assert all(statistics.violations == 0 for statistics in found)
