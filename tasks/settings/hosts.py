"""One name for one host, however a person writes it."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

#: This machine: 127.0.0.0/8 in all its spellings, ::1, 0.0.0.0 and *.localhost.
LOOPBACK = "127.0.0.1"


def one_name(host: str) -> str:
    """Return the name by which two spellings of a host (lower case, without brackets) are one; nothing is looked up."""
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return LOOPBACK
    with suppress(OSError, ValueError):  # it is no address
        found = ipaddress.ip_address(name if ":" in name else socket.inet_aton(name))  # which knows 127.1 as well
        address = getattr(found, "ipv4_mapped", None) or found
        return LOOPBACK if address.is_loopback or address.is_unspecified else str(address)
    return name
