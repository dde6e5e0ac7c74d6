"""The proof of the theorem `sequential`: `proof.PROOF`."""
