"""The sample company: employees under optimistic locking, changed by Kafka consumers and healed through a sync API."""
