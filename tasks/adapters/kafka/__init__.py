"""Kafka's dead-letter topics as a source."""

from tasks.adapters.kafka.lag import Lag, lags
from tasks.adapters.kafka.source import KafkaSource

__all__ = ["KafkaSource", "Lag", "lags"]
