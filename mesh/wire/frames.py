"""Frame kinds and lanes: what travels inside a sealed datagram.

A sealed datagram holds frames, each `kind (u8) || length (u16, big-endian) || payload`. The payload of a DELTA or BODY frame is
raw bytes that are stored and relayed untouched; every other payload but HELLO is one deterministic CBOR array.
"""

from __future__ import annotations

from enum import IntEnum


class Lane(IntEnum):
    """Priority classes of a datagram, highest first. Each keeps a guaranteed share, so that none starves."""

    LIVENESS = 0
    CRITICAL = 1
    FRESH = 2
    BULK = 3


class Frame(IntEnum):
    # the session itself (mesh.wire.transport)
    HELLO = 0
    """boot id (16) || credential: the first frame of either side in a session."""
    # membership (mesh.swim)
    PING = 1
    ACK = 2
    NACK = 3
    PING_REQUEST = 4
    CLAIM = 5
    LEAVE_CONFIRM = 6
    MEMBERS = 7
    MEMBER_ROWS = 8
    MEMBER_WANT = 9
    # trust (mesh.trust), pulled before deltas
    TRUST_IDS = 16
    TRUST_WANT = 17
    TRUST = 18
    # dissemination (mesh.sync)
    DELTA = 32
    FLOOR = 33
    DIGEST = 34
    BUCKETS = 35
    WANT = 36
    LISTING = 37
    WANT_BODIES = 38
    BODY = 39
    WANT_LISTING = 40
    REPAIR = 41
    """A delta that was asked for: as DELTA, but not relayed further."""
    COLLECT = 42
    HOLDING = 43
    # the quorum (mesh.quorum)
    RAFT = 48
    """What voters say to each other (consensus_escalation.wire)."""
    BLOCK = 49
    PROOF = 50
    STANDING = 51
    WANT_BLOCKS = 52
    BUNDLE = 53
    REQUEST = 54
    ANSWER = 55
