"""One real head per observed pattern, kept as a small attention map for the figures."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gpu_check.attention import row_blocks
from gpu_check.heads import LISTED, Measured
from tappa_theory.patterns import PATTERNS

SIDE = 512
"""Cells of a reduced map, per side, at most."""
CLEAR = 0.7
"""Share of attention on columns, less that on offsets, that shows a column and the rest as well."""


@dataclass
class Exemplars:
    """The head that shows each pattern most clearly among those seen so far."""

    strength: dict[str, float] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    def offer(self, measured: Measured, softcap: float | None) -> None:
        """Keep the head if no earlier one of its observed pattern showed it more clearly."""
        result = measured.result
        pattern = result.pattern_observed
        if pattern is None:
            return
        strength = _strength(measured)
        if pattern in self.strength and self.strength[pattern] >= strength:
            return
        block, reduced = reduced_map(measured, softcap)
        expected = measured.prediction
        self.strength[pattern] = strength
        self.maps[pattern] = reduced
        self.entries[pattern] = {
            "pattern": pattern,
            "text": result.text,
            "layer": result.layer,
            "head": result.head,
            "map": pattern,
            "block": block,
            "columns": list(expected.lines.columns[:LISTED]) if expected else [],
            "offsets": list(expected.lines.offsets[:LISTED]) if expected else [],
            "spacing": expected.lines.spacing if expected else None,
            "lag": expected.season_lag if expected and pattern == "seasonal" else None,
            "predicted": result.pattern_predicted,
        }

    def listed(self) -> list[dict[str, Any]]:
        """The entries in the fixed order of the patterns."""
        return [self.entries[name] for name in PATTERNS if name in self.entries]

    def copy(self) -> "Exemplars":
        """A copy that later offers leave as it is."""
        return Exemplars(dict(self.strength), dict(self.entries), dict(self.maps))


def _strength(measured: Measured) -> float:
    """How well the head serves as a picture of its pattern; the larger, the better."""
    lines, season = measured.attention.lines, measured.attention.season or 0.0
    assert lines is not None
    shares = {
        # A head with all its attention on one key makes an empty picture.
        "re_access": -abs(lines.column - lines.diagonal - CLEAR),
        "sequential": lines.diagonal - lines.column,
        "periodic_sequential": lines.diagonal - lines.column,
        "seasonal": season,
        "unpredictable": -max(lines.column, lines.diagonal, season),
    }
    return shares[measured.result.pattern_observed or "unpredictable"]


def reduced_map(measured: Measured, softcap: float | None) -> tuple[int, np.ndarray]:
    """(positions per cell, (R, R) float32): the attention map, each cell its largest entry."""
    check = measured.check
    length = check.head.visibility.length
    block = math.ceil(length / SIDE)
    cells = math.ceil(length / block)
    reduced = np.zeros((cells, cells), dtype=np.float32)
    for part in row_blocks(check.query_logit, check.key_logit, check.head.visibility, softcap):
        attention = part.attention.to(torch.float32).cpu().numpy()
        rows = part.rows.cpu().numpy() // block
        starts = np.arange(0, attention.shape[1], block)
        by_column = np.maximum.reduceat(attention, starts, axis=1)
        np.maximum.at(reduced, (rows[:, None], np.arange(by_column.shape[1])[None, :]), by_column)
    return block, reduced
