"""What every pure sub-core (membership, sync) asks of the peer that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crdt.ids import ReplicaId
from mesh.effects import Address
from mesh.events import Event
from mesh.wire.frames import Frame, Lane


class Port(Protocol):
    """The way out of a pure core. Nothing here blocks, fails or answers."""

    def send(self, peer: ReplicaId, lane: Lane, kind: Frame, payload: bytes) -> None:
        """Queue one frame for a member; frames of one call are packed into few datagrams."""

    def send_all(self, peers: Sequence[ReplicaId], lane: Lane, kind: Frame, payload: bytes) -> None:
        """The same to many."""

    def contact(self, address: Address) -> None:
        """Open a session with whoever lives at this address (seeds, announced address changes)."""

    def notify(self, event: Event) -> None:
        """Tell the node's user."""
