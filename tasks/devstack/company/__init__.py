"""The sample company: employees with optimistic locking, Kafka consumers that change them, and a sync API."""
