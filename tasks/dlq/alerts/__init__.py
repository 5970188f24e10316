"""Alerts: their kinds, their state in the ledger, and their delivery to sinks."""
