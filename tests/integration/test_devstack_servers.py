import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import boto3
import psutil
import pytest

from tasks.devstack import child
from tasks.devstack.redis import EmbeddedRedis
from tasks.devstack.server import EmbeddedServer
from tasks.devstack.sqs import EmbeddedSqs
from tasks.dlq.errors import OutOfReach


def listening(pid: int) -> set[tuple[str, int]]:
    """Where the process and its children listen."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in tree
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def test_sqs_keeps_a_message_and_listens_on_loopback_alone(tmp_path: Path):
    with EmbeddedSqs(tmp_path) as sqs:
        client = boto3.client(
            "sqs", endpoint_url=sqs.endpoint, region_name=sqs.region, aws_access_key_id="any", aws_secret_access_key="any"
        )
        url = client.create_queue(QueueName="employees-dlq")["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody='{"employeeId": 1}')
        received = client.receive_message(QueueUrl=url, WaitTimeSeconds=5)
        client.close()
        assert [message["Body"] for message in received["Messages"]] == ['{"employeeId": 1}']
        assert url.startswith(sqs.endpoint)
        assert listening(sqs.process.pid) == {("127.0.0.1", sqs.port)}
    assert not psutil.pid_exists(sqs.process.pid)
    assert "Ready" in sqs.log.read_text()


def test_redis_answers_and_listens_on_loopback_alone(tmp_path: Path):
    with EmbeddedRedis(tmp_path) as redis, socket.create_connection(("127.0.0.1", redis.port)) as connection:
        assert redis.url == f"redis://127.0.0.1:{redis.port}/0"
        connection.sendall(b"SET a 1\r\nGET a\r\n")
        answer = b""
        while b"$1" not in answer:
            answer += connection.recv(64)
        assert answer == b"+OK\r\n$1\r\n1\r\n"
        assert listening(redis.process.pid) == {("127.0.0.1", redis.port)}
    assert not psutil.pid_exists(redis.process.pid)


def test_two_servers_stand_side_by_side_without_a_directory_of_ours():
    with EmbeddedSqs() as first, EmbeddedSqs() as second:
        assert first.port != second.port
        directories = [first.directory, second.directory]
        assert all(directory.exists() for directory in directories)
    assert not any(directory.exists() for directory in directories)


class Silent(EmbeddedServer):
    name = "silent"

    def _command(self) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such drive')"]

    def _environment(self) -> dict[str, str]:
        return {}

    def _answers(self) -> bool:
        return False


def test_a_server_that_ends_at_its_start_is_named_with_its_last_words(tmp_path: Path):
    with pytest.raises(OutOfReach, match="embedded silent ended at its start") as raised, Silent(tmp_path):
        pass
    assert "no such drive" in raised.value.hint


def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path):
    script = """
        import sys, time
        from pathlib import Path
        from tasks.devstack.sqs import EmbeddedSqs
        with EmbeddedSqs(Path(sys.argv[1])) as sqs:
            print(sqs.process.pid, flush=True)
            time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with parent:
        server = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    server.wait(timeout=20)  # raises when it is still there


def test_stop_waits_for_a_clean_end_and_kills_what_a_process_leaves_behind():
    script = """
        import signal, subprocess, sys
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        print(grandchild.pid, flush=True)
        signal.pause()
    """
    process = child.spawn([sys.executable, "-c", textwrap.dedent(script)], env=os.environ, output=subprocess.PIPE)
    with process:
        grandchild = psutil.Process(int(process.stdout.readline()))
        child.stop([process], grace=20)
    assert process.returncode == 7
    grandchild.wait(timeout=20)


def test_stop_kills_a_process_that_does_not_listen():
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    process = child.spawn([sys.executable, "-c", script], env=os.environ, output=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"deaf\n"
        child.stop([process], grace=0.3)
    assert process.returncode == -signal.SIGKILL
