"""Bounds under attack."""

from simulations.experiments.attack.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
