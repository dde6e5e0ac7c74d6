"""The proof of the theorem `seasonal`: `proof.PROOF`."""
