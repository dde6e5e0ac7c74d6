"""Predictability: which similarity or drift foretells what."""

from simulations.experiments.predictability.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
