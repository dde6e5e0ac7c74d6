"""Gallery of patterns."""

from simulations.experiments.gallery.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
