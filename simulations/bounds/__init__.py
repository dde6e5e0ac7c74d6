"""The theorems' bounds on arrays: `BOUNDS`, each with both of its sides and cases of equality."""
