"""Mutants: what becomes of a proof when what it proves is wrong in one place."""
