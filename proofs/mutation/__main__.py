"""`python -m proofs.mutation`: the mutants of the proofs."""

from proofs.mutation.mutants import main

raise SystemExit(main())
