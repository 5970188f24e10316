from confluent_kafka import Consumer

from tasks.devstack.kafka import EmbeddedKafka


def test_a_message_is_stored_when_flush_returns():
    with EmbeddedKafka() as kafka:
        assert kafka.bootstrap.startswith("127.0.0.1:")
        assert kafka.make("topic") == 4
        kafka.produce("topic", b"value", partition=3, headers={"name": "x"})
        kafka.flush()
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["topic"])
        message = consumer.poll(60)
        consumer.close()
    assert (message.value(), message.partition(), message.headers()) == (b"value", 3, [("name", b"x")])
