"""The records in the transport's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol, TypeAlias

from crdt.ids import ReplicaId
from mesh.effects import Address, Now
from mesh.wire.frames import Frame, Lane
from mesh.wire.handshake import COOKIE_LIFETIME_S
from mesh.wire.limits import CONNECTS_BURST, CONNECTS_PER_S, MOVES_S, RESET_OBEYED_S, TransportLimits
from mesh.wire.packer import Outbox, Parcel, TokenBucket
from mesh.wire.session import Session


class Peer:
    """Whom we may talk to: a route, what waits for it, and its sessions."""

    __slots__ = (
        "address",
        "bucket",
        "clashed",
        "connects",
        "early",
        "early_nonce",
        "knocked_at",
        "moved_at",
        "opened_at",
        "outbox",
        "parcel",
        "public_key",
        "replica",
        "reset_at",
        "sessions",
        "shared",
    )

    address: Address
    """Where to ask when there is no session; a session knows better."""
    sessions: list[Entry]
    """Newest first: the first one is sent on, all are received on."""
    shared: bytes | None
    """X25519 of both identities, once it was needed."""
    parcel: Parcel | None
    outbox: Outbox | None
    """What waits: the one or the other. Both None while nothing does: most of a thousand peers are quiet at any moment."""
    early: TokenBucket | None
    """How many of its INITs may bring frames along; None before the first did."""
    early_nonce: bytes
    """Of the last INIT whose frames were taken."""
    knocked_at: float
    """When such an INIT came: it is about to connect."""

    def __init__(self, replica: ReplicaId, public_key: bytes, address: Address, limits: TransportLimits) -> None:
        self.replica = replica
        self.public_key = public_key
        self.address = address
        self.shared = None
        self.sessions = []
        self.parcel = None
        self.outbox = None
        self.bucket = TokenBucket(limits.rate_bytes_per_s, limits.burst_bytes)
        self.connects = TokenBucket(CONNECTS_PER_S, CONNECTS_BURST)
        self.early = None
        self.early_nonce = b""
        self.knocked_at = -inf
        self.opened_at = 0.0
        self.moved_at = -MOVES_S
        self.reset_at = -RESET_OBEYED_S
        self.clashed = False


class HoldsSeed(Protocol):
    """An identity: `mesh.trust.Identity`."""

    @property
    def seed(self) -> bytes:
        """Of its Ed25519 key, 32 bytes."""


Admit: TypeAlias = Callable[[bytes, bytes, Now], ReplicaId | None]
"""(public key, credential, now) -> who that is, or None to refuse."""
Tap: TypeAlias = Callable[[ReplicaId, Lane, Frame, bytes], bytes | None]
"""(peer, lane, kind, payload) -> the payload to send, or None for nothing."""
Find: TypeAlias = Callable[[ReplicaId], tuple[bytes, Address] | None]
"""A member -> its public key, and where it lives; None for who is none."""
Holder: TypeAlias = Callable[[bytes], ReplicaId | None]
"""A public key -> whose it is, or would be."""


class Peers:
    """Whom we may talk to, by id and by key. Most of ten thousand members say nothing to us for hours, so an entry is made at the
    first use: until then only those who keep the list of members know of it.
    """

    __slots__ = ("_find", "_holder", "_limits", "by_id", "by_key")

    def __init__(self, limits: TransportLimits, find: Find, holder: Holder) -> None:
        self._limits = limits
        self._find = find
        self._holder = holder
        self.by_id: dict[ReplicaId, Peer] = {}
        self.by_key: dict[bytes, Peer] = {}

    def met(self, replica: ReplicaId) -> Peer | None:
        """Who has an entry."""
        return self.by_id.get(replica)

    def get(self, replica: ReplicaId) -> Peer | None:
        """To talk to it."""
        known = self.by_id.get(replica)
        if known is None and (route := self._find(replica)) is not None:
            known = self.add(replica, *route)
        return known

    def of_key(self, public_key: bytes) -> Peer | None:
        """The member that is known to have this key."""
        known = self.by_key.get(public_key)
        if known is None and (replica := self._holder(public_key)) is not None and replica not in self.by_id:
            route = self._find(replica)
            if route is not None and route[0] == public_key:
                known = self.add(replica, *route)
        return known

    def meet(self, replica: ReplicaId, public_key: bytes, address: Address) -> Peer:
        """It has proved to hold this key, at this address."""
        known = self.by_id.get(replica)
        if known is None:
            route = self._find(replica)
            known = self.add(replica, public_key, address if route is None else route[1])
        return known

    def add(self, replica: ReplicaId, public_key: bytes, address: Address) -> Peer:
        peer = self.by_id[replica] = self.by_key[public_key] = Peer(replica, public_key, address, self._limits)
        return peer

    def rekey(self, peer: Peer, public_key: bytes) -> None:
        del self.by_key[peer.public_key]
        peer.public_key = public_key
        self.by_key[public_key] = peer

    def pop(self, replica: ReplicaId) -> Peer | None:
        peer = self.by_id.pop(replica, None)
        if peer is not None:
            del self.by_key[peer.public_key]
        return peer

    def __iter__(self) -> Iterator[Peer]:
        return iter(self.by_id.values())


class Entry:
    """A session, and whose it is."""

    __slots__ = ("attempt", "boot", "peer", "session")

    session: Session
    peer: Peer | None
    """None until the other end's credential was admitted."""
    boot: bytes
    """Of the other end; empty until its HELLO."""
    attempt: Attempt | None
    """Ours that asked for it, until it is proved."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.peer = None
        self.boot = b""
        self.attempt = None


class Connected(dict[bytes, float]):
    """Tags of sessions that a CONNECT opened -> when it can do so no more."""

    def may_open(self, peer: Peer, entry: Entry, now: float) -> bool:
        """Bounds the sessions that a peer opens, and remembers each as long as its CONNECT could be sent again."""
        if not peer.connects.take(now):
            return False
        while self and self[oldest := next(iter(self))] <= now:
            del self[oldest]
        self[entry.session.tag_in] = now + COOKIE_LIFETIME_S
        return True


class Attempt:
    """An address that we are asking who lives there."""

    __slots__ = (
        "address",
        "answered",
        "asked",
        "asked_at",
        "connect_head",
        "connects",
        "early",
        "entry",
        "hurries",
        "nonce",
        "peer",
        "receipt",
        "round_trip",
        "sealed",
        "tries",
        "wake_at",
    )

    peer: ReplicaId | None
    """Whose frames wait for the answer."""
    entry: Entry | None
    """The session to be, once a cookie came."""
    asked: int
    """Datagrams sent; from the first cookie on, counted anew."""
    early: list[bytes]
    """Frames for `peer` that go along until they were taken (mesh.wire.early)."""
    sealed: bytes
    """What INITs with this nonce bring along: always the same."""
    receipt: bytes
    """What a cookie brings when that was taken."""
    round_trip: float | None
    """Seconds from an INIT to its cookie, where only one was sent."""

    def __init__(self, address: Address, nonce: bytes, peer: ReplicaId | None) -> None:
        self.address = address
        self.nonce = nonce
        self.peer = peer
        self.tries = 0
        self.hurries = 0
        self.answered = False
        self.asked = 0
        self.asked_at = 0.0
        self.wake_at = 0.0
        self.entry = None
        self.connect_head = b""
        self.connects = 0
        self.early = []
        self.sealed = b""
        self.receipt = b""
        self.round_trip = None
