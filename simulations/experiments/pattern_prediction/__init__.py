"""Patterns predicted from queries and keys alone."""

from simulations.experiments.pattern_prediction.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
