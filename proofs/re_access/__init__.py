"""The proof of the theorem `re_access`: `proof.PROOF`."""
