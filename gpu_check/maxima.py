"""The local maxima of a head's rows against the displacement the periodic theorem allows.

Where kappa_j < 1, a local maximum at distance j = t - i must lie near the crest of the dominant
channel or near its trough. kappa_j and both angles are generated from the theorem's expressions:
"kappa_j", "crest" and "trough" of `theorems.periodic_sequential`.
"""

from dataclasses import dataclass

import torch

from gpu_check.pairs import SMALLEST, TiledCheck
from tappa_theory.separable import evaluate, separate
from tappa_theory.theorems import THEOREMS

MARGIN = 1e-9
"""Angle, radians, by which a maximum must lie outside to count: far above float64 rounding."""


@dataclass(frozen=True)
class Maxima:
    """pairs: interior pairs looked at. binding: those with kappa_j < 1. tested: local maxima among
    the binding ones. outside: tested maxima outside the allowed displacement."""

    pairs: int
    binding: int
    tested: int
    outside: int


def check_maxima(check: TiledCheck, star: int) -> Maxima:
    """Test every local maximum of every row; star: the frequency-dominant channel."""
    head, length = check.head, check.head.visibility.length
    parts = THEOREMS["periodic_sequential"].auxiliary
    values = dict(check.values)
    minor = torch.ones_like(values["theta"])
    minor[star] = 0.0
    middle = head.w[1:-1]
    values |= {"minor": minor, "major": 1.0 - minor, "w": middle}
    slow = separate(parts["slow_rotation"])
    drift = separate(parts["neighbour_drift"])
    dominant = separate(parts["dominant_rotation"])
    after, before = values | {"w_u": head.w[2:]}, values | {"w_u": head.w[:-2]}
    queries = slow.query_features(values), drift.query_features(values)
    keys = slow.key_features(values), drift.key_features(after), drift.key_features(before)
    one_sided = torch.cat(queries, dim=1), torch.cat(keys[:2], dim=1)
    query_star = dominant.query_features(values)[:, star]
    key_star = dominant.key_features(values)[:, star]
    theta_star = values["theta"][star]
    turn = torch.exp(1j * values["t"][:, 0] * theta_star)
    query_phase = torch.angle(head.z[:, star] * turn)
    key_phase = torch.angle(head.w[:, star] * turn)
    counts = [0, 0, 0, 0]
    for t0 in range(0, length, check.tile):
        rows = slice(t0, min(t0 + check.tile, length))
        # Keys with both neighbours; `columns` counts from the second key.
        for i0 in range(0, min(rows.stop, length - 2), check.tile):
            columns = slice(i0, min(i0 + check.tile, length - 2))
            t = torch.arange(rows.start, rows.stop, device=head.z.device)
            i = torch.arange(columns.start, columns.stop, device=head.z.device) + 1
            visible = head.visibility.block(t, i + 1) & head.visibility.block(t, i - 1)
            if head.visibility.valid is not None:
                visible &= head.visibility.block(t, i)
            pairs = int(torch.count_nonzero(visible))
            if not pairs:
                continue
            counts[0] += pairs
            # One of the two drifts alone leaves few rows with a kappa_j below 1, if any.
            least = one_sided[0][rows] @ one_sided[1][columns].T
            denominator = query_star[rows, None] * key_star[None, columns]
            some = torch.nonzero((visible & (least < denominator)).any(dim=1))[:, 0]
            if not len(some):
                continue
            t = t[some]
            sums = {
                "slow": queries[0][t] @ keys[0][columns].T,
                # the key before is one position farther from the query
                "drift_next": queries[1][t] @ keys[2][columns].T,
                "drift_before": queries[1][t] @ keys[1][columns].T,
                "dominant": denominator[some].clamp(min=SMALLEST),
            }
            kappa = evaluate(parts["kappa_j"], sums)
            binding = visible[some] & (kappa < 1)
            found = int(torch.count_nonzero(binding))
            if not found:
                continue
            counts[1] += found
            wide = slice(columns.start, columns.stop + 2)
            logits = check.query_logit[t] @ check.key_logit[wide].T
            peak = (logits[:, 1:-1] > logits[:, :-2]) & (logits[:, 1:-1] >= logits[:, 2:]) & binding
            phase = query_phase[t, None] - key_phase[None, wide][:, 1:-1]
            phase = torch.atan2(torch.sin(phase), torch.cos(phase)).abs()
            limits = {"kappa": kappa.clamp(max=1.0), "theta_*": theta_star}
            crest, trough = (evaluate(parts[name], limits) for name in ("crest", "trough"))
            allowed = (phase <= crest + MARGIN) | (torch.pi - phase <= trough + MARGIN)
            counts[2] += int(torch.count_nonzero(peak))
            counts[3] += int(torch.count_nonzero(peak & ~allowed))
    return Maxima(*counts)
