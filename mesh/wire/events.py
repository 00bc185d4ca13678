"""What the transport tells the peer core that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, final

from crdt.ids import ReplicaId
from mesh.effects import Address
from mesh.wire.frames import Frame


@final
class Received:
    """One frame of a member."""

    __slots__ = ("address", "fresh", "kind", "payload", "peer")

    def __init__(self, peer: ReplicaId, address: Address, kind: Frame, payload: bytes, *, fresh: bool = True) -> None:
        self.peer = peer
        self.address = address
        self.kind = kind
        self.payload = payload
        self.fresh = fresh
        """False for what came with a first question (mesh.wire.early): it may be a recording, and is no sign of life."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Both credentials are proved; also after a restart or an address change of a peer that was open already."""

    peer: ReplicaId
    address: Address
    public_key: bytes
    round_trip: float | None = None
    """Seconds, where this side asked, once, and was answered."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nobody of this mesh let us in at the address. What waited for `peer` there is gone."""

    address: Address
    peer: ReplicaId | None
    answered: bool
    """Somebody made a cookie, but no session came of it: it does not take our credential, or is of another mesh. A hint only:
    a cookie is not signed."""


@dataclass(frozen=True, slots=True)
class IdentityClash:
    """Two living agents use one identity: a session goes on that another start of the peer replaced."""

    peer: ReplicaId
    addresses: tuple[Address, Address]


@dataclass(frozen=True, slots=True)
class CopySeen:
    """Somebody else holds our own key: it sealed a handshake with it, under another boot id."""

    address: Address


TransportEvent: TypeAlias = SessionOpened | Unreachable | IdentityClash | CopySeen
