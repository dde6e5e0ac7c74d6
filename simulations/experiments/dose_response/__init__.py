"""Dose and response."""

from simulations.experiments.dose_response.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
