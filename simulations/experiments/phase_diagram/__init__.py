"""Phase diagram: q-similarity and dominant frequency."""

from simulations.experiments.phase_diagram.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
