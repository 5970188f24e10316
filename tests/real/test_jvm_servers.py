"""The servers of docker-compose and of a company, as their makers ship them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from compose_file import Queue, elasticmq_queues
from confluent_kafka import Consumer, Producer

if TYPE_CHECKING:
    from jvm_servers import ElasticMq, KafkaBroker
    from mypy_boto3_sqs import SQSClient


def test_elasticmq_has_every_queue_of_its_file_with_its_redrive_policy(elasticmq: ElasticMq):
    client = elasticmq.client()
    wanted = elasticmq_queues()
    assert {name: queue_of(client, name) for name in wanted} == wanted
    client.close()


def queue_of(client: SQSClient, name: str) -> Queue:
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    policy = json.loads(found.get("RedrivePolicy", "{}"))
    return Queue(
        visibility_timeout=int(found["VisibilityTimeout"]),
        dead_letters=policy["deadLetterTargetArn"].rpartition(":")[2] if policy else None,
        max_receives=int(policy["maxReceiveCount"]) if policy else None,
    )


def test_kafka_keeps_a_record_with_its_headers(kafka_broker: KafkaBroker):
    kafka_broker.make_topics("round-trip")
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap})
    producer.produce("round-trip", value=b"\x00body", key=b"key", headers={"kafka_dlt-original-offset": b"\x00" * 8})
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": kafka_broker.bootstrap, "group.id": "round-trip", "auto.offset.reset": "earliest"})
    consumer.subscribe(["round-trip"])
    message = consumer.poll(20)
    assert message is not None
    assert (message.value(), message.key(), message.offset()) == (b"\x00body", b"key", 0)
    assert message.headers() == [("kafka_dlt-original-offset", b"\x00" * 8)]
    consumer.close()
