"""The parts of a torture run: what is broken, what is observed, and the checker that judges it."""
