"""The proof of the theorem `proposition_4_1`: `proof.PROOF`."""
