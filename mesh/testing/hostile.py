"""Members that mean harm, for tests and measurements: what they say of others' shelves is omitted, kept back, old or made up.

They hold valid credentials, take part in membership as everybody, and write their own shelf honestly: only what they pass on of
others lies. So whatever goes wrong shows in the honest ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from crdt.ids import ReplicaId, replica_of
from mesh.peer import Peer
from mesh.sync.messages import Digest, Floor, FloorNote, ListingPage
from mesh.testing.mesh import Mesh
from mesh.wire.frames import Frame, Lane

KEPT_MAX: Final = 64
"""Old frames that a hostile relay keeps to send again."""


class HostileRelay:
    """Between one peer core and its transport: bends what it sends about others' shelves."""

    def __init__(self, peer: Peer, rng: random.Random) -> None:
        self._peer = peer
        self._rng = rng
        self._old: list[tuple[Frame, bytes]] = []

    def tap(self, peer: ReplicaId, lane: Lane, kind: Frame, payload: bytes) -> bytes | None:
        bent, transport = self._bent(kind, payload), self._peer.transport
        if self._old and self._rng.random() < 0.1:
            old_kind, old = self._rng.choice(self._old)
            transport.tap = None
            transport.send(peer, Lane.FRESH, old_kind, old)
            transport.tap = self.tap
        return bent

    def _bent(self, kind: Frame, payload: bytes) -> bytes | None:
        """What goes out instead; None: nothing does."""
        match kind:
            case Frame.DELTA | Frame.REPAIR | Frame.BODY:
                if payload.find(self._peer.replica_id) >= 0:
                    return payload
                self._keep(kind, payload)
                return None  # others' deltas and bodies are kept back
            case Frame.TRUST | Frame.TRUST_IDS | Frame.TRUST_WANT | Frame.HOLDING:
                return None  # neither proofs nor cuts are passed on
            case Frame.DIGEST:
                digest = Digest.decode_untrusted(payload)
                return digest._replace(changed=self._lies(digest.changed)).encode()
            case Frame.FLOOR:
                note = FloorNote.decode_untrusted(payload)
                return FloorNote(self._lies(note.floors), note.purpose).encode()
            case Frame.LISTING:
                page = ListingPage.decode_untrusted(payload)
                entries = tuple(each._replace(mask=each.mask & each.mask - 1 or 1) for each in page.entries)
                return payload if replica_of(page.shelf) == self._peer.replica_id else page._replace(entries=entries).encode()
            case _:
                return payload

    def _keep(self, kind: Frame, payload: bytes) -> None:
        self._old.append((kind, payload))
        del self._old[:-KEPT_MAX]

    def _lies(self, floors: Iterable[Floor]) -> tuple[Floor, ...]:
        """Claims to have far more than there is of every shelf but its own, under a hash of nothing."""
        me = self._peer.replica_id
        return tuple(
            floor if replica_of(floor.shelf) == me else Floor(floor.shelf, floor.seq + 1000, b"lies", floor.loose)
            for floor in floors
        )


def turn_hostile(mesh: Mesh, hosts: Iterable[int], seed: int = 0) -> None:
    """From now on these hosts lie about all shelves but their own, until they restart."""
    for host in hosts:
        peer = mesh.peer(host)
        peer.transport.tap = HostileRelay(peer, random.Random(seed * 1000 + host)).tap
