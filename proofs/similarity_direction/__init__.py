"""The proof of the theorem `similarity_direction`: `proof.PROOF`."""
