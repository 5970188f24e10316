"""Finds the addresses on which processes listen."""

import psutil


def find_listeners(pid: int) -> set[tuple[str, int]]:
    """Return the addresses on which the process and its children listen."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in tree
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
