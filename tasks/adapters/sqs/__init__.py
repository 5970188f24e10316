"""SQS as a source, and the queues that Redrive creates."""

from tasks.adapters.sqs.client import Connection, count_messages
from tasks.adapters.sqs.source import SqsQueue, SqsSource

__all__ = ["Connection", "SqsQueue", "SqsSource", "count_messages"]
