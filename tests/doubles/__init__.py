"""Test doubles: one module for each part of the world that a test replaces."""
