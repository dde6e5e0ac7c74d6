"""A synthetic attention head, and the hypotheses of theorems that it is built to meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulations.rounding import logit_error
from tappa_theory.arrays import real_vectors
from tappa_theory.attention import causal, logits, softmax
from tappa_theory.patterns import Observed, Pattern, observe
from tappa_theory.prediction import Prediction, predict
from tappa_theory.rope import Rope, rotate
from tappa_theory.similarity import all_pairs


@dataclass(frozen=True)
class Hypothesis:
    """What a generator promises of its heads: `measure(head)` is at most `limit` (or at least it).

    theorem: id of the theorem whose hypothesis it is. name: of the measured quantity, as in
    check.json where it stands there, too ("query_drift", "key_drift", "kappa", "rotation").
    """

    theorem: str
    name: str
    measure: Callable[[SyntheticHead], float]
    limit: float
    at_least: bool = False

    def measured(self, head: SyntheticHead) -> float:
        """The quantity on that head."""
        return float(self.measure(head))

    def met(self, head: SyntheticHead) -> bool:
        """Does the head keep the promise, up to rounding (1e-9 of the limit)?"""
        slack = 1e-9 * max(abs(self.limit), 1.0)
        found = self.measured(head)
        return found >= self.limit - slack if self.at_least else found <= self.limit + slack


@dataclass(frozen=True, eq=False)
class SyntheticHead:
    """Queries and keys of one causal head as channels before RoPE, with what they were made for.

    z, w: (T, M) complex128, query t and key i at positions t and i. scale: softmax scale.
    intended: the pattern that the generator aims at. hypotheses: what it promises.

    Raises ValueError if shapes do not fit or a promise is not kept: a generator checks itself.
    """

    z: np.ndarray
    w: np.ndarray
    rope: Rope
    scale: float
    intended: Pattern
    hypotheses: tuple[Hypothesis, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.z), self.rope.frequencies.size)
        if self.z.shape != shape or self.w.shape != shape:
            raise ValueError(f"channels {self.z.shape} and {self.w.shape} given, not {shape} twice")
        for promise in self.hypotheses:
            if not promise.met(self):
                raise ValueError(
                    f"{self.intended} head: {promise.name} of {promise.theorem} is"
                    f" {promise.measured(self)}, promised {promise.limit}"
                )

    @property
    def length(self) -> int:
        """Number of positions T."""
        return len(self.z)

    @cached_property
    def query(self) -> np.ndarray:
        """(T, d) queries after RoPE."""
        return real_vectors(rotate(self.z, self.rope, np.arange(self.length)))

    @cached_property
    def key(self) -> np.ndarray:
        """(T, d) keys after RoPE."""
        return real_vectors(rotate(self.w, self.rope, np.arange(self.length)))

    @cached_property
    def logit_error(self) -> float:
        """What float64 can do to a logit, also to one computed from `query` and `key`."""
        return logit_error(self.z, self.w, self.rope, self.scale)

    @cached_property
    def logits(self) -> np.ndarray:
        """(T, T) a_{t,i}, hidden pairs included."""
        return logits(self.z, self.w, self.rope, self.scale)

    @cached_property
    def attention(self) -> np.ndarray:
        """(T, T) P_t, 0 on hidden pairs."""
        return softmax(self.logits, causal(np.arange(self.length), self.length))

    @cached_property
    def observed(self) -> Observed:
        """What the attention map shows; T must be at least `patterns.THRESHOLDS.shortest`."""
        return observe(self.attention)

    @cached_property
    def predicted(self) -> Prediction:
        """The pattern foretold from similarities, norms and channel energies only."""
        return predict(self.z, self.w, self.rope, self.scale, float(all_pairs(self.key)))
