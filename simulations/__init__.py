"""Synthetic RoPE queries and keys: no generator stands here yet."""
