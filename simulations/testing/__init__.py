"""Property tests for other people's attention code: Hypothesis strategies and laws of RoPE."""

from simulations.testing.heads import heads
from simulations.testing.laws import Law, rope_laws
from simulations.testing.strategies import keys, positions, queries, ropes, shifts

__all__ = ["Law", "heads", "keys", "positions", "queries", "rope_laws", "ropes", "shifts"]
