"""The proof of the theorem `periodic_sequential`: `proof.PROOF`."""
