"""One UDP socket: datagrams in, datagrams out, never a wait and never an exception for what the network does.

Receiving drains the socket until it would block, up to a bounded number per turn (2 us a datagram instead of 12 us when each
is awaited, measured). Sending is a plain `sendto`: what the kernel does not take is counted by reason and is lost, as on any
link; the core repeats what matters. Addresses are numeric: they come from other members, so resolving one as a name would let
a stranger stop the event loop for the time of a DNS query.

Where the kernel passes on that a machine has nobody at a port (ICMP port unreachable; IP_RECVERR on Linux), the core is told: a
member whose process died is suspected at once instead of after time-outs.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from crdt.known import remember
from mesh.effects import Address

log: Final = logging.getLogger("mesh.net.udp")

DRAIN_MAX: Final = 64
"""Datagrams per turn. At about 60 us each to open and apply, timers wait at most 4 ms (measured figures, chosen number)."""
RECEIVE_BYTES: Final = 2_048
"""Room for one datagram. Ours are at most 1,200 bytes; a longer one arrives too long, or cut, and the core refuses it."""
_SO_MEMINFO: Final = 55
_SK_MEMINFO_DROPS: Final = 8
_ORIGINS: Final = (2, 3)
"""SO_EE_ORIGIN_ICMP and SO_EE_ORIGIN_ICMP6: the word of another machine, or of this one about its own ports."""
_MAPPED: Final = "::ffff:"
SOCKADDRS_MAX: Final = 4_096
"""Addresses whose form for the kernel is remembered: to parse one costs 3 us at each datagram. Guess: more than one agent
talks to in a minute, at 300 bytes each."""
REFUSED_MAX: Final = 64
"""Addresses told in one turn. More are dropped: the next probe asks again."""


def _nobody_waits(_sock: socket.socket) -> None:
    pass


class UdpSocket:
    """A bound non-blocking socket. Used by one task; `with` closes it."""

    def __init__(self, sock: socket.socket, closing: Callable[[socket.socket], None] = _nobody_waits) -> None:
        """`closing`: called before it is closed."""
        self._sock, self._closing = sock, closing
        self._six = sock.family == socket.AF_INET6
        self.address: Address = self._plain(sock.getsockname())
        """(numeric host, port) as bound; the host may be 0.0.0.0 or ::."""
        self._received = self._received_bytes = self._sent = self._sent_bytes = 0
        self._failures: Counter[str] = Counter()
        self._refused: dict[Address, None] = {}
        self.has_refused = False
        """Whether `refused` has something to tell."""
        self._sockaddrs: dict[Address, tuple[str | int, ...]] = {}  # of addresses that were found to be those of one host

    def __enter__(self) -> UdpSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @property
    def family(self) -> socket.AddressFamily:
        """To resolve names for: what this socket can reach (AF_UNSPEC when it serves both)."""
        if self._six and not self._sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            return socket.AF_UNSPEC
        return socket.AF_INET6 if self._six else socket.AF_INET

    def close(self) -> None:
        """Idempotent. A task that waits until it is readable gets trio.ClosedResourceError."""
        if self._sock.fileno() >= 0:
            self._closing(self._sock)
            self._sock.close()

    def fileno(self) -> int:
        """It is readable when a datagram (or an error) is there."""
        return self._sock.fileno()

    @property
    def counts(self) -> Counter[str]:
        """received, sent, refused (datagrams), received_bytes, sent_bytes; send_<reason> and receive_<reason> for what failed.
        Only what is not nought."""
        totals = {
            "received": self._received,
            "received_bytes": self._received_bytes,
            "sent": self._sent,
            "sent_bytes": self._sent_bytes,
        }
        return +Counter({**self._failures, **totals})

    def take(self) -> tuple[bytes, Address] | None:
        """The oldest datagram that has arrived."""
        for _ in range(DRAIN_MAX):  # errors before it
            try:
                datagram, sockaddr = self._sock.recvfrom(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                self._failed("receive", error)
            else:
                self._received += 1
                self._received_bytes += len(datagram)
                return datagram, self._plain(sockaddr) if self._six else sockaddr
        return None

    def drain(self, limit: int = DRAIN_MAX) -> list[tuple[bytes, Address]]:
        """What has arrived, oldest first, at most `limit` datagrams. Anything else waits in the kernel until the next turn."""
        arrived: list[tuple[bytes, Address]] = []
        while len(arrived) < limit and (taken := self.take()) is not None:
            arrived.append(taken)
        return arrived

    def send(self, datagram: bytes, address: Address) -> bool:
        """Hand one datagram to the kernel. False, and counted, when it does not take it or the address is not that of one
        host."""
        sockaddr = self._sockaddrs.get(address) or self._learn(address)
        if sockaddr is None:
            self._failures["send_not_a_host"] += 1
            return False
        try:
            try:
                self._sock.sendto(datagram, sockaddr)
            except ConnectionRefusedError:  # the kernel's word on an earlier datagram to anybody; this one has not been sent
                self._read_errors()
                self._sock.sendto(datagram, sockaddr)
        except OSError as error:
            self._failed("send", error)
            return False
        self._sent += 1
        self._sent_bytes += len(datagram)
        return True

    def refused(self) -> list[Address]:
        """Drain the addresses of which a machine said, since the last call, that nobody listens there. A hint: anybody on the
        path can forge it."""
        told = list(self._refused)
        self._refused.clear()
        self.has_refused = False
        return told

    def kernel_drops(self) -> int:
        """Datagrams that the kernel dropped because this socket's buffer was full; 0 where it does not say (only Linux does)."""
        if sys.platform != "linux":
            return 0
        try:
            figures = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_SK_MEMINFO_DROPS + 1))
        except OSError as error:
            log.debug("this kernel does not count what a full socket drops: %s", error)
            return 0
        return int(struct.unpack_from("=I", figures, 4 * _SK_MEMINFO_DROPS)[0])

    def receive_buffer_bytes(self) -> int:
        """What the kernel granted; its own bookkeeping included, so that a small datagram takes about 770 bytes of it."""
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def _read_errors(self) -> None:
        """Empty the socket's queue of errors; while it holds any, the socket counts as readable."""
        for _ in range(DRAIN_MAX):
            try:
                _, notes, _, sockaddr = self._sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except (BlockingIOError, InterruptedError):
                return
            for _, _, note in notes:
                if len(note) >= 5 and note[4] in _ORIGINS and int.from_bytes(note[:4], sys.byteorder) == errno.ECONNREFUSED:
                    self._failures["refused"] += 1
                    if len(self._refused) < REFUSED_MAX:
                        self._refused[self._plain(sockaddr)] = None
                        self.has_refused = True

    def _failed(self, what: str, error: OSError) -> None:
        """Count what the network or the kernel refused. A closed socket is nobody's network: it comes out."""
        if error.errno == errno.EBADF:
            raise error
        if sys.platform == "linux":
            self._read_errors()
        self._failures[f"{what}_{errno.errorcode.get(error.errno or 0, 'unknown').lower()}"] += 1

    def _plain(self, sockaddr: tuple[Any, ...]) -> Address:
        """The kernel's form -> ours: v4-mapped as plain IPv4, a link-local scope kept in the host as "%number"."""
        host, port = str(sockaddr[0]), int(sockaddr[1])
        if host.startswith(_MAPPED) and "." in host:
            return host[len(_MAPPED) :], port
        if self._six and sockaddr[3]:
            return f"{host.partition('%')[0]}%{sockaddr[3]}", port
        return host, port

    def _learn(self, address: Address) -> tuple[str | int, ...] | None:
        sockaddr = self._sockaddr(address)
        if sockaddr is not None:
            remember(self._sockaddrs, address, sockaddr, SOCKADDRS_MAX)  # once it is full, those in use come back
        return sockaddr

    def _sockaddr(self, address: Address) -> tuple[str | int, ...] | None:
        """Our form -> the kernel's. None when it is not the numeric address of a single host that this kind of socket can
        reach."""
        host, port = address
        if not 0 < port <= 0xFFFF:
            return None
        host, _, scope = host.partition("%")
        if "." in host and ":" not in host:
            if not _single(socket.AF_INET, host):
                return None
            return (_MAPPED + host, port, 0, 0) if self._six else (host, port)
        if not self._six or not _single(socket.AF_INET6, host) or (scope and not scope.isdecimal()):
            return None
        return host, port, 0, int(scope or 0)


def _single(family: socket.AddressFamily, host: str) -> bool:
    """Numeric, and neither "any" nor multicast: a stranger's claim must not make us address a group."""
    try:
        packed = socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    group = packed[0] >> 4 == 0xE if family == socket.AF_INET else packed[0] == 0xFF
    return not group and any(packed)
