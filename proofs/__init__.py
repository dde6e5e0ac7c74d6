"""Derivations of the theorems, each link certified by itself, and the ledger of their verdicts."""
