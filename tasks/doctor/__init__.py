"""Health checks of everything that Redrive depends on. They return findings and print nothing."""
