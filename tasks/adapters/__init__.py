"""What stands at the edge: HTTP, SQS, Sentry, notifications. Each behind a Protocol in `tasks/dlq/ports.py`."""
