"""The services: what tasks, the command line and pages call."""
