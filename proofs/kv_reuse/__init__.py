"""The proof of the theorem `kv_reuse`: `proof.PROOF`."""
