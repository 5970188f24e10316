import socket
from pathlib import Path

import psutil
from listening import find_listeners

from tasks.devstack.redis import EmbeddedRedis


def test_redis_stores_a_value_and_listens_on_loopback_only(tmp_path: Path):
    with EmbeddedRedis(tmp_path) as redis, socket.create_connection(("127.0.0.1", redis.port)) as connection:
        assert redis.url == f"redis://127.0.0.1:{redis.port}/0"
        connection.sendall(b"SET a 1\r\nGET a\r\n")
        answer = b""
        while b"$1" not in answer:
            answer += connection.recv(64)
        assert answer == b"+OK\r\n$1\r\n1\r\n"
        assert find_listeners(redis.process.pid) == {("127.0.0.1", redis.port)}
    assert not psutil.pid_exists(redis.process.pid)
