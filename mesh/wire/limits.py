"""Budgets and bounds of the transport, each with where its number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mesh.errors import ConfigError
from mesh.wire.handshake import CONNECT_OVERHEAD_BYTES
from mesh.wire.packer import DATAGRAM_BYTES_MAX, FRAME_HEAD_BYTES

BOOT_ID_BYTES: Final = 16
CREDENTIAL_BYTES_MAX: Final = DATAGRAM_BYTES_MAX - CONNECT_OVERHEAD_BYTES - FRAME_HEAD_BYTES - BOOT_ID_BYTES
"""A credential travels in the first datagram of a session, in one piece."""

SESSIONS_PER_PEER: Final = 3
"""The current one, and two replaced ones for what is under way: a crossing handshake and a restart right after it."""
CONNECTS_PER_S: Final = 1.0
CONNECTS_BURST: Final = 16.0
"""New sessions that one peer may open: each has to be remembered for COOKIE_LIFETIME_S, so that its CONNECT opens it only
once."""
RESET_HINTS_PER_S: Final = 100.0
"""RESETs that we send, all together. (Guess: a restart is noticed by a thousand peers in 10 s even if none of them is
contacted.)"""
RESET_OBEYED_S: Final = 2.0
"""How long after a RESET another one of the same peer is ignored, unless what it made us ask is still without an answer."""
MOVES_S: Final = 1.0
"""Between two addresses at which one peer is looked for because it spoke from there. (Guess: a change of access points.)"""
CLASH_AFTER_S: Final = 10.0
"""A session replaced by another start of the peer gets nothing new for so long, unless two agents use one identity."""


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Budgets. The defaults suit a LAN."""

    rate_bytes_per_s: float = 20e6
    """To one peer. More makes a fast sender overrun a slow receiver's socket buffer. (Guess: a sixth of Gigabit Ethernet.)"""
    burst_bytes: float = 128 * 1024.0
    """To one peer at once. (Linux gives a UDP socket 208 KiB of receive buffer by default.)"""
    lane_bytes_max: int = 256 * 1024
    """Frames that wait in one lane for one peer with a session."""
    lane_bytes_max_unopened: int = 16 * 1024
    """The same while there is no session yet."""
    handshake_retry_s: float = 0.1
    """First wait for an answer, doubled each time. (Guess: several round trips of a LAN; RFC 6298 starts at 1 s on the
    Internet.)"""
    handshake_tries: int = 7
    """Datagrams sent without an answer before an address counts as unreachable: 12 s at the default wait."""
    connects_before_init: int = 3
    """CONNECTs without an answer before the handshake starts over with INIT: the cookie may be of another start of the peer."""
    attempts_max: int = 1024
    """Addresses being contacted at once."""
    strangers_per_s: float = 200.0
    """Keys never seen before that may cost us an X25519 (70 us): 1.4% of a core under attack."""
    strangers_burst: float = 500.0

    def __post_init__(self) -> None:
        if self.rate_bytes_per_s <= 0 or self.burst_bytes < DATAGRAM_BYTES_MAX:
            raise ConfigError(f"a byte budget has a rate above 0 and a burst of {DATAGRAM_BYTES_MAX} at least, one datagram")
