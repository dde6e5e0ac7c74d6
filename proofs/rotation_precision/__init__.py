"""The proof of the theorem `rotation_precision`: `proof.PROOF`."""
