"""Making the socket that `mesh.net.udp` serves."""

from __future__ import annotations

import errno
import logging
import socket
import sys
from typing import Final

import trio

from mesh.errors import ConfigError
from mesh.net.endpoint import resolve
from mesh.net.udp import UdpSocket

log: Final = logging.getLogger("mesh.net.udp")

SOCKET_BUFFER_BYTES: Final = 4 << 20
"""Asked of the kernel, which gives what net.core.rmem_max allows (0.2 MiB on most machines: about 90 full datagrams). 4 MiB
hold a burst of a full datagram from each of 1,000 members, at about 2.3 kB of kernel memory each."""
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25


async def open_udp(bind: str) -> UdpSocket:
    """Bind "host:port" (port 0: any free one). ConfigError names what cannot be bound and why; OSError never comes out."""
    try:
        address = (await resolve(bind))[0]
    except OSError as error:
        raise ConfigError(f"cannot bind {bind}: {error.strerror or error}") from error
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        _enlarge_buffers(sock)
        _ask_for_errors(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.bind(address)
    except OSError as error:
        sock.close()
        hint = "; another program uses that port: choose another or stop it" if error.errno == errno.EADDRINUSE else ""
        raise ConfigError(f"cannot bind {bind}: {error.strerror or error}{hint}") from error
    except BaseException:
        sock.close()
        raise
    return UdpSocket(sock, trio.lowlevel.notify_closing)


def _ask_for_errors(sock: socket.socket) -> None:
    """Have the kernel keep what other machines answer to our datagrams by ICMP. A socket for both families needs both."""
    if sys.platform != "linux":
        return
    six = sock.family == socket.AF_INET6
    wanted = [(socket.IPPROTO_IP, _IP_RECVERR), *([(socket.IPPROTO_IPV6, _IPV6_RECVERR)] if six else [])]
    for level, option in wanted:
        try:
            sock.setsockopt(level, option, 1)
        except OSError as error:
            log.debug("this kernel does not pass on ICMP errors: %s", error)


def _enlarge_buffers(sock: socket.socket) -> None:
    """Ask for room for bursts. A process that may do so goes past the system's limit; the others get what the limit allows."""
    for forced, option in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        if sys.platform == "linux":
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
            except PermissionError:
                log.debug("not allowed to go past net.core.rmem_max and wmem_max")
            else:
                continue
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
