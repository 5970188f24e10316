"""Export and import of a whole ledger."""
