"""Alerts: kinds, detection, state, delivery and text."""
