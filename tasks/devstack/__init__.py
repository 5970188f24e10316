"""Embedded parts, the sample company, `redrive up` and `redrive demo`: everything that production brings by itself."""
