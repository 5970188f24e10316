"""Redrive: dead letters in, entities synced, proof out. Start reading at `tasks/dlq`."""
