"""Checks the topics of a Kafka source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.adapters.kafka import read_lags
from tasks.dlq.text import format_count, join_names
from tasks.doctor.findings import Finding, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.adapters.kafka import KafkaTopics, Lag


def check_topics(topics: KafkaTopics) -> Iterator[Finding]:
    """Check that Kafka answers, and that each topic exists. Raises BrokerUnavailable, ConfigError."""
    yield judge_lags(topics.source, topics.topics, read_lags(topics))


def judge_lags(name: str, topics: Sequence[str], lags: Sequence[Lag]) -> Finding:
    """Judge how far a source is behind."""
    behind = sum(each.lag for each in lags)
    detail = f"Kafka answers; {behind:,} to be read in {format_count(len(lags), 'partition')}"
    if missing := sorted(set(topics) - {each.topic for each in lags}):
        hint = "this is normal before the first failure, if the broker creates topics automatically; otherwise create it"
        detail = f"{detail}; there is no topic {join_names(missing)}"
        return Finding(name=f"source {name}", state=State.WARNING, detail=detail, hint=hint)
    return Finding(name=f"source {name}", detail=detail)
