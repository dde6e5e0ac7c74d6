"""The proof of the theorem `shift_bound`: `proof.PROOF`."""
