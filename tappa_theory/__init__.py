"""The mathematics of TAPPA's theorems, written once for numpy and torch arrays."""
