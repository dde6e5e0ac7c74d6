"""The proof of the theorem `query_drift`: `proof.PROOF`."""
