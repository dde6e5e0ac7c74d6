"""The proof of the theorem `typical_case`: `proof.PROOF`."""
