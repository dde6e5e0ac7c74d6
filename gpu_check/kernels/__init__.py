"""Triton kernels for the check on a CUDA device, each with a plain-torch reference beside it."""
