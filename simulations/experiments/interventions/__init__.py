"""Interventions: moved channels and changed bases."""

from simulations.experiments.interventions.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
