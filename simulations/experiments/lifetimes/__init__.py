"""Lifetimes and KV-reuse certificates against what happens afterwards."""

from simulations.experiments.lifetimes.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
