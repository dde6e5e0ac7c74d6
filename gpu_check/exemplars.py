"""One real head per observed pattern, kept as a small attention map for the figures."""

import math
from collections.abc import Mapping
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

    def offer(self, measured: Measured) -> None:
        """Keep the head if none of its observed pattern showed it more clearly.

        Of equally clear ones the first in the order of texts, layers and heads is kept, in
        whichever order they come.
        """
        result = measured.result
        pattern = result.pattern_observed
        if pattern is None:
            return
        strength = _strength(measured)
        place = {"text": result.text, "layer": result.layer, "head": result.head}
        if not self._clearer(pattern, strength, place):
            return
        block, reduced = reduced_map(measured)
        expected = measured.prediction
        self.strength[pattern] = strength
        self.maps[pattern] = reduced
        self.entries[pattern] = {
            "pattern": pattern,
            **place,
            "map": pattern,
            "block": block,
            "columns": list(expected.lines.columns[:LISTED]) if expected else [],
            "offsets": list(expected.lines.offsets[:LISTED]) if expected else [],
            "spacing": expected.lines.spacing if expected else None,
            "lag": expected.season_lag if expected and pattern == "seasonal" else None,
            "predicted": result.pattern_predicted,
        }

    def merge(self, other: "Exemplars") -> None:
        """Keep those of another set that show their pattern more clearly."""
        for pattern, strength in other.strength.items():
            if self._clearer(pattern, strength, other.entries[pattern]):
                self.strength[pattern] = strength
                self.entries[pattern] = other.entries[pattern]
                self.maps[pattern] = other.maps[pattern]

    def _clearer(self, pattern: str, strength: float, place: Mapping[str, Any]) -> bool:
        if pattern not in self.strength:
            return True
        kept = self.strength[pattern]
        return strength > kept or (
            strength == kept and _order(place) < _order(self.entries[pattern])
        )

    def listed(self) -> list[dict[str, Any]]:
        """The entries in the fixed order of the patterns."""
        return [self.entries[name] for name in PATTERNS if name in self.entries]

    def copy(self) -> "Exemplars":
        """A copy that later offers leave as it is."""
        return Exemplars(dict(self.strength), dict(self.entries), dict(self.maps))


def _order(place: Mapping[str, Any]) -> tuple[int, int, int]:
    return place["text"], place["layer"], place["head"]


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


def reduced_map(measured: Measured) -> tuple[int, np.ndarray]:
    """(positions per cell, (R, R) float32): the attention map, each cell its largest entry."""
    check = measured.check
    length = check.head.visibility.length
    block = math.ceil(length / SIDE)
    cells = math.ceil(length / block)
    device = check.query_logit.device
    reduced = torch.zeros((cells, cells), dtype=torch.float32, device=device)
    features = check.query_logit[None], check.key_logit[None]
    for part in row_blocks(*features, check.head.visibility, measured.softcap):
        _, rows, width = part.attention.shape
        # whole cells: zeros before the first row, behind the last one and behind the last key
        before = part.first % block
        sides = 0, -width % block, before, -(before + rows) % block
        padded = torch.nn.functional.pad(part.attention[0].to(torch.float32), sides)
        largest = padded.unfold(0, block, block).unfold(1, block, block).amax(dim=(2, 3))
        first, (height, width) = part.first // block, largest.shape
        seen = reduced[first : first + height, :width]
        torch.maximum(seen, largest, out=seen)
    return block, reduced.cpu().numpy()
