"""Precision: relative-position drift of float32, bfloat16 and float16 RoPE."""

from simulations.experiments.precision.experiment import EXPERIMENT

__all__ = ["EXPERIMENT"]
