"""Exact forms, certificates, derivations and attacks: what a proof is made of."""
