"""The proofs run, and what came out told: ledger.json, ledger.md, pages, `tappa prove`."""
