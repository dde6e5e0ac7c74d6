"""Derivations of the theorems, certified link by link: no derivation stands here yet."""
