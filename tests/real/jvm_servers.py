"""ElasticMQ and Apache Kafka as child processes, on loopback, in folders of their own. They keep nothing."""

from __future__ import annotations

import shlex
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from compose_file import ELASTICMQ
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from maven import server_classpath
from waiting import TEST_TIMEOUT

from tasks.devstack import child
from tasks.devstack.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_sqs import SQSClient

#: Small and quick to start, for a server that lives a minute; nothing is written outside of its folder.
JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class ElasticMq(EmbeddedServer):
    """ElasticMQ with the queues of docker-compose. `endpoint` is what boto3 takes as `endpoint_url`; any credentials are good."""

    name = "elasticmq"
    start_timeout = 90.0  # seconds; a JVM on a busy machine
    region: ClassVar[str] = "us-east-1"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> SQSClient:
        return boto3.client(
            "sqs",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id="local",
            aws_secret_access_key="only-here",
            config=Config(connect_timeout=1, read_timeout=25, retries={"total_max_attempts": 1}),
        )

    def _command(self) -> Sequence[str]:
        here = {  # system properties go before the file's own values
            "config.file": ELASTICMQ,
            "rest-sqs.bind-hostname": "127.0.0.1",
            "rest-sqs.bind-port": self.port,
            "messages-storage.uri": f"jdbc:h2:{self.scratch}/messages",
            "java.io.tmpdir": self.scratch,
        }
        settings = [f"-D{name}={value}" for name, value in here.items()]
        return ["java", *JVM, *settings, "-cp", server_classpath("elasticmq"), "org.elasticmq.server.Main"]

    def _environment(self) -> Mapping[str, str]:
        return {}

    def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.list_queues().get("QueueUrls"))
        except (BotoCoreError, ClientError) as error:
            raise OSError(error) from error
        finally:
            client.close()


class KafkaBroker(EmbeddedServer):
    """Apache Kafka, broker and controller in one (KRaft); `bootstrap` is what clients take. Topics are not made by use."""

    name = "kafka"
    start_timeout = 90.0

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "reconnect.backoff.max.ms": 200, "log_level": 0})

    def make_topics(self, *names: str, partitions: int = 1) -> None:
        for made in self.admin.create_topics([NewTopic(name, num_partitions=partitions) for name in names]).values():
            made.result(TEST_TIMEOUT)

    def _command(self) -> Sequence[str]:
        controller = child.free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
            "log.dirs": self.scratch / "log",
            "auto.create.topics.enable": "false",
            "num.partitions": 2,
            "group.initial.rebalance.delay.ms": 0,
            # One node, and as few files as will do.
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
        }
        file = self.scratch / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        properties = [f"-Djava.io.tmpdir={self.scratch}", "-Dlog4j2.level=WARN"]
        java = ["java", *JVM, *properties, "-cp", server_classpath("kafka")]
        format_storage = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", "cmVkcml2ZS10ZXN0cw", "--config", str(file)]
        serve = ["exec", *java, "kafka.Kafka", str(file)]
        return ["/bin/sh", "-c", f"{shlex.join(format_storage)} && {shlex.join(serve)}"]

    def _environment(self) -> Mapping[str, str]:
        return {}

    def _answers(self) -> bool:
        try:
            return bool(self.admin.list_topics(timeout=1).brokers)
        except KafkaException as error:
            raise OSError(error) from error
