"""Checks of the theorems on the heads of real checkpoints: loading, capture, all-pairs check."""
