"""From a record's bytes to a dead letter with its needs."""
