"""Facts that the proofs of several theorems use."""
