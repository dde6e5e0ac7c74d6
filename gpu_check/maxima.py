"""The local maxima of a head's rows against the displacement the periodic theorem allows.

Where kappa_j < 1, a local maximum at distance j = t - i must lie near the crest of the dominant
channel or near its trough. kappa_j and both angles are generated from the theorem's expressions:
"kappa_j", "crest" and "trough" of `theorems.periodic_sequential`.
"""

from dataclasses import dataclass

import numpy as np
import torch

from gpu_check.pairs import SMALLEST, TiledCheck
from gpu_check.visibility import Visibility
from tappa_theory.arrays import to_numpy
from tappa_theory.separable import evaluate, separate
from tappa_theory.theorems import THEOREMS

MARGIN = 1e-9
"""Angle, radians, by which a maximum must lie outside to count: far above float64 rounding."""
ENTRIES = 2**17, 2**23
"""Pairs looked at together, on a processor and elsewhere."""
GROUP = 16
"""Neighbouring keys that are first bounded together."""
LARGEST = 1e150
"""Features over the dominant one are no larger, so that no product overflows."""


@dataclass(frozen=True)
class Maxima:
    """pairs: interior pairs looked at. binding: those with kappa_j < 1. tested: local maxima among
    the binding ones. outside: tested maxima outside the allowed displacement."""

    pairs: int
    binding: int
    tested: int
    outside: int


def check_maxima(check: TiledCheck, star: int, entries: int | None = None) -> Maxima:
    """Test every local maximum of every row; star: the frequency-dominant channel.

    entries: pairs looked at together, default by device.
    """
    head, length = check.head, check.head.visibility.length
    if length < 3:
        return Maxima(0, 0, 0, 0)
    device = head.z.device
    entries = entries or ENTRIES[device.type != "cpu"]
    features = _Features(check, star)
    counts = torch.zeros(3, dtype=torch.int64, device=device)
    candidates = features.candidates()
    for rows in candidates.split(max(entries // length, 1)) if len(candidates) else ():
        # Keys with both neighbours; `columns` counts from the second key.
        columns = slice(0, min(int(rows[-1]), length - 2))
        counts += features.count(rows, columns)
    return Maxima(_interior_pairs(head.visibility), *counts.tolist())


def _interior_pairs(visibility: Visibility) -> int:
    """Number of pairs (t, i) of which row t sees the keys i - 1, i and i + 1."""
    length = visibility.length
    valid = np.ones(length, dtype=bool) if visibility.valid is None else to_numpy(visibility.valid)
    middle = np.pad(valid[2:] & valid[1:-1] & valid[:-2], 1)
    before = np.concatenate([[0], np.cumsum(middle)])
    rows = np.arange(length)[valid]
    first = np.maximum(rows + 2 - (visibility.window or length + 2), 0)
    return int(np.maximum(before[rows] - before[np.minimum(first, length)], 0).sum())


class _Features:
    """Per-query and per-key factors of kappa_j, the logits and the phases of one head."""

    def __init__(self, check: TiledCheck, star: int) -> None:
        head = check.head
        parts = THEOREMS["periodic_sequential"].auxiliary
        values = dict(check.values)
        minor = torch.ones_like(values["theta"])
        minor[star] = 0.0
        values |= {"minor": minor, "major": 1.0 - minor, "w": head.w[1:-1]}
        slow = separate(parts["slow_rotation"])
        drift = separate(parts["neighbour_drift"])
        dominant = separate(parts["dominant_rotation"])
        after, before = values | {"w_u": head.w[2:]}, values | {"w_u": head.w[:-2]}
        self.check, self.parts = check, parts
        self.queries = slow.query_features(values), drift.query_features(values)
        self.keys = slow.key_features(values), drift.key_features(after), drift.key_features(before)
        self.query_star = dominant.query_features(values)[:, star]
        self.key_star = dominant.key_features(values)[:, star]
        self.theta_star = values["theta"][star]
        turn = torch.exp(1j * values["t"][:, 0] * self.theta_star)
        self.query_phase = torch.angle(head.z[:, star] * turn)
        self.key_phase = torch.angle(head.w[:, star] * turn)

    def candidates(self) -> torch.Tensor:
        """Rows that may have a kappa_j below 1: most rows of most heads are seen to have none.

        kappa_j is no less than with one of the two drifts alone, and that no less than with every
        feature taken at the key of a group that has least of it.
        """
        query = _over(torch.cat(self.queries, dim=1), self.query_star)
        key = _over(torch.cat(self.keys[:2], dim=1), self.key_star)
        key = torch.nn.functional.pad(key, (0, 0, 0, -len(key) % GROUP), value=LARGEST)
        least = query @ key.view(-1, GROUP, key.shape[1]).amin(dim=1).T
        rows = torch.arange(len(query), device=query.device)
        behind = torch.arange(least.shape[1], device=query.device) * GROUP + 2 <= rows[:, None]
        # What rounding does to either side is far below the margin.
        return torch.nonzero(((least < 1 + MARGIN) & behind).any(dim=1))[:, 0]

    def count(self, t: torch.Tensor, columns: slice) -> torch.Tensor:
        """(3,) binding, tested and outside among the pairs of the rows t and these keys."""
        check, head, parts = self.check, self.check.head, self.parts
        queries, keys = self.queries, self.keys
        i = torch.arange(columns.start, columns.stop, device=t.device) + 1
        visible = head.visibility.block(t, i + 1) & head.visibility.block(t, i - 1)
        if head.visibility.valid is not None:
            visible &= head.visibility.block(t, i)
        dominant = self.query_star[t, None] * self.key_star[None, columns]
        least = torch.cat(queries, dim=1)[t] @ torch.cat(keys[:2], dim=1)[columns].T
        some = torch.nonzero((visible & (least < dominant)).any(dim=1))[:, 0]
        if not len(some):
            return torch.zeros(3, dtype=torch.int64, device=t.device)
        t, visible, dominant = t[some], visible[some], dominant[some]
        sums = {
            "slow": queries[0][t] @ keys[0][columns].T,
            # the key before is one position farther from the query
            "drift_next": queries[1][t] @ keys[2][columns].T,
            "drift_before": queries[1][t] @ keys[1][columns].T,
            "dominant": dominant.clamp_(min=SMALLEST),
        }
        kappa = evaluate(parts["kappa_j"], sums)
        binding = visible & (kappa < 1)
        wide = slice(columns.start, columns.stop + 2)
        logits = check.query_logit[t] @ check.key_logit[wide].T
        peak = (logits[:, 1:-1] > logits[:, :-2]) & (logits[:, 1:-1] >= logits[:, 2:]) & binding
        phase = self.query_phase[t, None] - self.key_phase[None, wide][:, 1:-1]
        phase = torch.atan2(torch.sin(phase), torch.cos(phase)).abs()
        limits = {"kappa": kappa.clamp(max=1.0), "theta_*": self.theta_star}
        crest, trough = (evaluate(parts[name], limits) for name in ("crest", "trough"))
        allowed = (phase <= crest + MARGIN) | (torch.pi - phase <= trough + MARGIN)
        return torch.stack([torch.count_nonzero(x) for x in (binding, peak, peak & ~allowed)])


def _over(features: torch.Tensor, dominant: torch.Tensor) -> torch.Tensor:
    """Features over that of the dominant channel, no larger than exact; 0 where there is none."""
    ratio = (features / dominant.clamp(min=SMALLEST)[:, None]).clamp_(max=LARGEST)
    return torch.where((dominant > 0)[:, None], ratio, 0.0)
