from pathlib import Path

import boto3
import psutil
from listening import find_listeners

from tasks.devstack.sqs import EmbeddedSqs


def test_sqs_keeps_a_message_and_listens_on_loopback_only(tmp_path: Path):
    with EmbeddedSqs(tmp_path) as sqs:
        client = boto3.client(
            "sqs", endpoint_url=sqs.endpoint, region_name=sqs.region, aws_access_key_id="any", aws_secret_access_key="any"
        )
        url = client.create_queue(QueueName="employees-dlq")["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody='{"employeeId": 1}')
        received = client.receive_message(QueueUrl=url, WaitTimeSeconds=5)
        client.close()
        assert [message["Body"] for message in received["Messages"]] == ['{"employeeId": 1}']
        assert url == sqs.make_queue_url("employees-dlq")
        assert find_listeners(sqs.process.pid) == {("127.0.0.1", sqs.port)}
    assert not psutil.pid_exists(sqs.process.pid)
    assert "Ready" in sqs.log.read_text()
