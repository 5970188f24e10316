"""Kafka's dead-letter topics as a source."""

from tasks.adapters.kafka.client import KafkaTopics
from tasks.adapters.kafka.inspection import Lag, read_lags, sample
from tasks.adapters.kafka.source import KafkaSource

__all__ = ["KafkaSource", "KafkaTopics", "Lag", "read_lags", "sample"]
