"""What hooks into Celery and kombu: transport, delivery, lifecycle, stopping, health."""
