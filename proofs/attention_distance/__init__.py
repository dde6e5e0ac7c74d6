"""The proof of the theorem `attention_distance`: `proof.PROOF`."""
