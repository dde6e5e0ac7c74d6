"""What is observed of an attention map, against the full softmax in plain loops."""

import numpy as np
import pytest
import torch

from gpu_check import attention
from gpu_check.attention import Attention, observe, row_blocks
from gpu_check.visibility import Visibility
from tappa_theory import patterns
from tappa_theory.patterns import THRESHOLDS, Lines

LENGTH = 160


def logits(kind: str = "mixed", length: int = LENGTH) -> np.ndarray:
    """(T, T) logits, so that every sort of line and step occurs."""
    matrix = np.random.default_rng(0).standard_normal((length, length))
    if kind == "noise":
        return matrix
    matrix[:, 2] += 5
    matrix[:, 11] += 5
    for offset in (1, 13, 25, 37):
        for t in range(offset, length):
            matrix[t, t - offset] += 5
    return matrix


def watch(matrix: np.ndarray, visibility: Visibility | None = None, softcap=None) -> Attention:
    """`observe` with the rows of `matrix` as logits: the keys are unit vectors."""
    length = len(matrix)
    query, key = torch.tensor(matrix), torch.eye(length, dtype=torch.float64)
    (found,) = observe(query[None], key[None], visibility or Visibility(length), softcap)
    return found


class Full:
    """The whole map, row by row; rows of padding stay zero."""

    def __init__(self, matrix: np.ndarray, visibility: Visibility, softcap: float | None) -> None:
        length = self.length = len(matrix)
        self.logits = matrix if softcap is None else softcap * np.tanh(matrix / softcap)
        self.map = np.zeros((length, length))
        self.keys: list[list[int]] = []
        valid = [True] * length if visibility.valid is None else visibility.valid.tolist()
        for t in range(length):
            reach = length if visibility.window is None else visibility.window
            keys = [i for i in range(max(0, t - reach + 1), t + 1) if valid[t] and valid[i]]
            self.keys.append(keys)
            if keys:
                weights = np.exp(self.logits[t, keys])
                self.map[t, keys] = weights / weights.sum()
        self.rows = [t for t in range(length // 4, length) if valid[t]]

    def row_std(self) -> list[float]:
        return [
            float(np.std(self.logits[t, keys])) if keys else 0.0 for t, keys in enumerate(self.keys)
        ]

    def step(self, t: int) -> tuple[float, float, float]:
        """KL, its second order and the oscillation, on the keys that both rows see."""
        keys = [i for i in self.keys[t] if i in self.keys[t + 1]]
        if not keys:
            return 0.0, 0.0, 0.0
        p, q = (self.map[row, keys] / self.map[row, keys].sum() for row in (t, t + 1))
        change = self.logits[t + 1, keys] - self.logits[t, keys]
        mean = (p * change).sum()
        divergence = float((p * np.log(p / q)).sum())
        return divergence, float((p * (change - mean) ** 2).sum() / 2), float(np.ptp(change))

    def recall(self) -> float | None:
        shares = []
        for t in range(max(self.length // 4, 16), self.length - 1):
            if not self.keys[t] or not self.keys[t + 1]:
                continue
            row, following = self.map[t].tolist(), self.map[t + 1].tolist()
            top = sorted(range(self.length), key=lambda i: -row[i])[:16]
            candidates = {*top, *(i + 1 for i in top if i + 1 < self.length)}
            found = sorted((following[i] for i in candidates), reverse=True)[:16]
            shares.append(sum(found) / sum(sorted(following, reverse=True)[:16]))
        return float(np.mean(shares)) if shares else None

    def lines(self) -> Lines:
        uniform = np.mean([1 / (t + 1) for t in self.rows])
        columns, offsets, column, diagonal = [], [], 0.0, 0.0
        for i in range(self.length):
            there = [self.map[t, i] for t in self.rows if t - i >= 32]
            if len(there) >= len(self.rows) / 2 and np.mean(there) >= 8 * uniform:
                columns.append(i)
                column += sum(there)
        profile = []
        for offset in range(self.length):
            rows = [t for t in self.rows if t >= offset]
            there = [
                0.0 if (t - offset in columns and offset >= 32) else self.map[t, t - offset]
                for t in rows
            ]
            if len(there) >= len(self.rows) / 2 and np.mean(there) >= 8 * uniform:
                offsets.append(offset)
                diagonal += sum(there)
                profile.append(np.mean(there))
        gaps = np.diff(offsets)  # the offsets of these maps stand alone: each is a peak
        even = len(offsets) >= 3 and gaps.std() <= 0.2 * gaps.mean()
        return Lines(
            tuple(columns),
            tuple(offsets),
            column / len(self.rows),
            diagonal / len(self.rows),
            float(gaps.mean()) if even else None,
        )


CASES = {
    "plain": (Visibility(LENGTH), None),
    "softcap": (Visibility(LENGTH), 3.0),
    "window": (Visibility(LENGTH, 70), None),
    "narrow window": (Visibility(LENGTH, 1), None),
    "left padding": (Visibility(LENGTH, None, torch.arange(LENGTH) >= 20), None),
    "right padding": (Visibility(LENGTH, None, torch.arange(LENGTH) < 140), None),
    "hole": (Visibility(LENGTH, None, (torch.arange(LENGTH) - 85).abs() > 5), None),
    "window and padding": (Visibility(LENGTH, 50, torch.arange(LENGTH) >= 20), 5.0),
}


@pytest.mark.parametrize("kind", ["mixed", "noise"])
@pytest.mark.parametrize("name", CASES)
def test_the_map_is_observed_as_the_full_softmax_shows_it(name, kind):
    visibility, softcap = CASES[name]
    seen, full = watch(logits(kind), visibility, softcap), Full(logits(kind), visibility, softcap)
    assert seen.row_std.numpy() == pytest.approx(full.row_std(), abs=1e-12)
    steps = np.array([full.step(t) for t in range(LENGTH - 1)])
    for found, expected in zip(
        (seen.divergence, seen.key_metric, seen.oscillation), steps.T, strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert seen.recall == pytest.approx(full.recall(), rel=1e-12)
    lines = full.lines()
    assert seen.lines.columns == lines.columns
    assert seen.lines.offsets == lines.offsets
    assert seen.lines.column == pytest.approx(lines.column, rel=1e-12)
    assert seen.lines.diagonal == pytest.approx(lines.diagonal, rel=1e-12)
    assert seen.lines.spacing == lines.spacing


@pytest.mark.parametrize("block", [1, 7, 128])
@pytest.mark.parametrize("name", CASES)
def test_neighbours_are_compared_at_the_same_distances(name, block, monkeypatch):
    """Across the edges of blocks too, and not across a hole."""
    visibility, softcap = CASES[name]
    given = []
    season = patterns.season
    monkeypatch.setattr(attention, "ROWS", block)
    monkeypatch.setattr(
        patterns, "season", lambda alike, moved: given.append(moved) or season(alike, moved)
    )
    seen, full = watch(logits(), visibility, softcap), Full(logits(), visibility, softcap)
    rest = full.map.copy()
    rest[:, list(seen.lines.columns)] = 0.0
    pairs = [(t, t + 1) for t in full.rows if t + 1 in full.rows]
    moved = np.mean([rest[t, :-1] @ rest[later, 1:] for t, later in pairs])
    energy = np.mean([(rest[t] ** 2).sum() for t in full.rows])
    assert given == [pytest.approx(moved / energy, rel=1e-12)]


def test_the_maps_of_this_test_show_lines():
    seen = watch(logits())
    assert seen.lines.columns == (2, 11)
    assert seen.lines.offsets == (1, 13, 25, 37)
    assert seen.lines.spacing == 12
    assert seen.pattern == "periodic_sequential"
    assert watch(logits("noise")).pattern == "unpredictable"


@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("rows", [1, 7, 64, 159])
def test_blocks_of_any_size_give_the_same(rows, softcap, monkeypatch):
    length = 200
    valid = torch.arange(length) >= 9
    visibility = Visibility(length, 150, valid)
    whole = watch(logits(length=length), visibility, softcap)
    monkeypatch.setattr(attention, "ROWS", rows)
    monkeypatch.setattr(attention, "KEPT", 0)
    parts = watch(logits(length=length), visibility, softcap)
    assert (parts.pattern, parts.season_lag) == (whole.pattern, whole.season_lag)
    assert parts.lines.offsets == whole.lines.offsets
    for name in ("row_std", "divergence", "key_metric", "oscillation", "recall", "season"):
        found, expected = getattr(parts, name), getattr(whole, name)
        assert np.asarray(found) == pytest.approx(np.asarray(expected), abs=1e-11), name


@pytest.mark.parametrize("name", CASES)
def test_blocks_show_every_row_once_and_repeat_the_last_ones(name, monkeypatch):
    monkeypatch.setattr(attention, "ROWS", 23)
    visibility, softcap = CASES[name]
    query, key = torch.tensor(logits()), torch.eye(LENGTH, dtype=torch.float64)
    full, stop = Full(logits(), visibility, softcap), 0
    for block in row_blocks(query[None], key[None], visibility, softcap):
        assert block.first + block.repeated == stop
        assert block.repeated == min(attention.REPEATED, stop)
        stop = block.stop
        (logit,), (shown,) = block.logits, block.attention
        width = logit.shape[1]
        hidden = np.ones((len(block.rows), width), dtype=bool)
        for row, t in enumerate(block.rows.tolist()):
            hidden[row, full.keys[t]] = False
        assert np.array_equal(torch.isneginf(logit).numpy(), hidden)
        assert np.array_equal(~block.visible.numpy(), hidden[:, block.start :])
        assert not hidden[:, : block.start].any()
        assert shown.numpy() == pytest.approx(full.map[block.rows, :width], abs=1e-13)
    assert stop == LENGTH


@pytest.mark.parametrize("length", [100, 1000, 8192, 10**6])
def test_blocks_are_large_on_a_gpu_and_fit_its_memory(length):
    rows = attention.rows_of_block(length, torch.device("cuda"))
    assert rows >= attention.rows_of_block(length, torch.device("cpu")) == attention.ROWS
    assert rows == attention.ROWS or attention.CELLS - length < rows * length <= attention.CELLS


def seasonal(period: int, sink: float = -20.0, length: int = 400) -> np.ndarray:
    """Rows attend to the keys of one phase, another one for every phase of their own."""
    partner = np.random.default_rng(0).permutation(period)
    t = np.arange(length)
    matrix = np.where(partner[t % period][:, None] == t % period, 12.0, 0.0)
    matrix[:, 0] = sink
    return matrix


def test_a_season_is_seen_at_its_period():
    seen = watch(seasonal(20))
    assert seen.pattern == "seasonal"
    assert seen.season_lag == 20
    # Row t has t/20 equal keys: neighbours 20 apart share all but one.
    full = Full(seasonal(20), Visibility(400), None).map[100:]
    at = [(full[: len(full) - lag] * full[lag:]).sum(axis=1).mean() for lag in (0, 10, 20, 30)]
    expected = (at[2] - (at[1] + at[3]) / 2) / at[0]
    assert seen.season == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("sink", [14.0, 17.0, 25.0])
def test_what_lies_on_a_column_has_no_season(sink):
    seen = watch(seasonal(20, sink))
    assert seen.lines.columns == (0,)
    assert seen.season <= 1.2 * seen.lines.rest
    assert (seen.pattern == "re_access") == (sink > 15)


def test_a_text_that_is_too_short_shows_no_pattern():
    shortest = THRESHOLDS.shortest
    assert watch(logits(length=shortest)).pattern is not None
    for visibility in (
        Visibility(shortest - 1),
        Visibility(shortest, None, torch.arange(shortest) > 0),
    ):
        seen = watch(logits(length=visibility.length), visibility)
        assert (seen.pattern, seen.lines, seen.season, seen.season_lag) == (None,) * 4


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17])
def test_short_texts_are_measured_without_nan(length):
    seen, full = (
        watch(logits("noise", length)),
        Full(logits("noise", length), Visibility(length), None),
    )
    assert seen.row_std.numpy() == pytest.approx(full.row_std(), abs=1e-12)
    assert seen.divergence.shape == seen.key_metric.shape == seen.oscillation.shape == (length - 1,)
    assert np.isfinite(seen.divergence).all()
    assert seen.recall == full.recall()


def test_padding_counts_for_nothing():
    """A padded text shows what the text alone shows, and what the padding holds changes nothing."""
    pad, matrix = 40, logits()
    alone = watch(matrix)
    long = np.random.default_rng(1).standard_normal((LENGTH + pad, LENGTH + pad)) * 50
    long[:LENGTH, :LENGTH] = matrix
    valid = torch.arange(LENGTH + pad) < LENGTH
    padded = watch(long, Visibility(LENGTH + pad, None, valid))
    assert padded.pattern == alone.pattern
    assert padded.lines.offsets == alone.lines.offsets
    assert padded.lines.diagonal == pytest.approx(alone.lines.diagonal, rel=0.05)
    assert padded.divergence[: LENGTH - 1] == pytest.approx(alone.divergence, abs=1e-12)
    assert np.all(padded.divergence[LENGTH - 1 :] == 0)
    other = long.copy()
    other[LENGTH:] = 7.0
    other[:, LENGTH:] = -3.0
    again = watch(other, Visibility(LENGTH + pad, None, valid))
    assert again.lines == padded.lines
    assert again.recall == padded.recall
    assert again.season == pytest.approx(padded.season, abs=1e-12)


def test_nothing_but_padding_is_no_number_gone_wrong():
    nothing = Visibility(LENGTH, None, torch.zeros(LENGTH, dtype=torch.bool))
    seen = watch(logits(), nothing)
    assert seen.recall is None
    assert seen.pattern is None
    assert not seen.divergence.any()
    assert not seen.row_std.any()
