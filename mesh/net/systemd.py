"""Readiness, stopping and watchdog messages for a service manager (`Type=notify`), by the protocol of sd_notify(3).

One datagram of `NAME=value` lines to the socket named by $NOTIFY_SOCKET. Without that variable nothing is sent: the same
program runs under systemd and in a terminal. A service manager that cannot be reached must not stop a node, so failures are
logged and returned.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

import trio

log: Final = logging.getLogger("mesh.net.systemd")

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"


def notify(*assignments: str) -> bool:
    """Tell the service manager, e.g. `notify(READY, "STATUS=5 members")`. True when there is one and it was told.

    Never blocks: a manager that does not read its socket costs a log line.
    """
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target:
        return False
    if target[0] not in "/@":
        log.warning("NOTIFY_SOCKET=%s is neither a path nor an abstract socket: not notified", target)
        return False
    address = "\0" + target[1:] if target[0] == "@" else target
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
            unix.setblocking(False)
            unix.sendto("\n".join(assignments).encode(), address)
    except OSError as error:
        log.warning("cannot notify the service manager at %s: %s", target, error)
        return False
    return True


def watchdog_interval() -> float | None:
    """Seconds between two signs of life, half of what the service manager asks for (its own advice); None when it asks for
    none."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6 / 2


async def watchdog() -> None:
    """Give signs of life for as long as this event loop runs; returns at once when nobody asks for them."""
    interval = watchdog_interval()
    if interval is None:
        await trio.lowlevel.checkpoint()
        return
    while True:
        notify(WATCHDOG)
        await trio.sleep(interval)
