"""The address under which this machine is known to others, as far as it can tell by itself."""

from __future__ import annotations

import socket
from typing import Final

_ELSEWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Reserved for documentation (RFC 5737, RFC 3849): nobody's, so the route to it is the default route."""
_DISCARD: Final = 9


def own_host(family: socket.AddressFamily = socket.AF_INET) -> str | None:
    """The numeric address from which this machine talks to the rest of the world; None without a route. Sends nothing."""
    for each, elsewhere in _ELSEWHERE.items():
        if family in (each, socket.AF_UNSPEC):
            with socket.socket(each, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect((elsewhere, _DISCARD))
                except OSError:
                    continue
                return str(probe.getsockname()[0])
    return None
