"""The proof of the theorem `lifetime`: `proof.PROOF`."""
