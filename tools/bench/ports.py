"""Ports for programs that listen on UDP and TCP alike, and that call each other by TCP."""

from __future__ import annotations

import itertools
import socket
from typing import Final

HOST: Final = "127.0.0.1"
_NEXT: Final = itertools.count(20_000)
"""Below the range from which the kernel takes the ports of outgoing connections: one of those would be in the way."""
_END: Final = 32_000


def free_ports(count: int) -> list[int]:
    """Ports that are free now for UDP and TCP. None is given twice, so that no connection of an earlier run lingers there."""
    ports: list[int] = []
    while len(ports) < count:
        port = next(_NEXT)
        if port >= _END:
            raise OSError("no port is left below the ephemeral ones")
        if _is_free(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True
