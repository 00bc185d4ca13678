"""What waits to be sent, and when it may go."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from crdt.ids import ReplicaId
from mesh.effects import Address, Transmit
from mesh.wire.counters import Counters
from mesh.wire.frames import Frame, Lane
from mesh.wire.limits import TransportLimits
from mesh.wire.packer import DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX, PLAIN_BYTES_MAX, Outbox, Parcel, encode_frame, pack
from mesh.wire.session import DATA_OVERHEAD_BYTES
from mesh.wire.tables import Peer

EARLY_KINDS: Final = frozenset((Frame.DELTA,))
"""What may go along with an INIT (mesh.wire.early): signed by its author, numbered, and passed on by anybody anyway, so that to
hear it again, or late, changes nothing."""
_SEALED_PER_PLAIN: Final = DATAGRAM_BYTES_MAX / PLAIN_BYTES_MAX
_NOTHING: Final[tuple[list[bytes], list[bytes]]] = ([], [])


class Sender:
    """The outboxes of all peers. Seals what their byte budgets allow."""

    __slots__ = ("_counters", "_dirty", "_last_frame", "_limits", "_packed", "_parcel_max", "_ready", "_throttled")

    def __init__(self, limits: TransportLimits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._dirty: dict[ReplicaId, Peer] = {}  # something waits; in the order of asking
        self._throttled: dict[ReplicaId, float] = {}  # waits for its byte budget until then
        self._ready: list[Transmit] = []
        self._last_frame: tuple[int, bytes, bytes] = (-1, b"", b"")
        self._packed: tuple[list[bytes], list[bytes]] = _NOTHING
        self._parcel_max = min(PLAIN_BYTES_MAX, limits.lane_bytes_max)

    @property
    def has_frames(self) -> bool:
        return bool(self._dirty or self._ready)

    @property
    def deadline(self) -> float:
        """Monotonic seconds when a byte budget allows the next datagram."""
        return min(self._throttled.values()) if self._throttled else inf

    def send(self, peers: Sequence[Peer], lane: Lane, kind: Frame, payload: bytes) -> None:
        if len(payload) > FRAME_BYTES_MAX:
            raise ValueError(f"a {kind.name} of {len(payload)} bytes fits no datagram: at most {FRAME_BYTES_MAX}")
        # One delta goes to many peers: encode its frame once and let them share the bytes.
        last_kind, last_payload, frame = self._last_frame
        if payload is not last_payload or kind != last_kind:
            frame = encode_frame(kind, payload)
            self._last_frame = (kind, payload, frame)
        limits, counters = self._limits, self._counters
        before: Parcel | None = None
        parcel = self._with(None, lane, frame)
        for peer in peers:
            self._dirty[peer.replica] = peer
            if peer.outbox is None and peer.sessions:
                if peer.parcel is not before:
                    before = peer.parcel
                    parcel = self._with(before, lane, frame)
                if parcel is not None:
                    peer.parcel = parcel
                    continue
            bytes_max = limits.lane_bytes_max if peer.sessions else limits.lane_bytes_max_unopened
            dropped = self._outbox(peer).put(lane, frame, bytes_max)
            if dropped:
                counters.drops[f"queue_full_{lane.name.lower()}"] += dropped
        counters.frames_sent[kind] += len(peers)
        counters.frame_bytes_sent[kind] += len(peers) * len(frame)
        counters.bytes_sent_by_lane[lane] += len(peers) * len(frame)

    def _with(self, before: Parcel | None, lane: int, frame: bytes) -> Parcel | None:
        """A parcel with this frame, too; None where that is none."""
        if before is None:
            return Parcel(lane, (frame,)) if len(frame) <= self._parcel_max else None
        if before.lane != lane or len(before.plain) + len(frame) > self._parcel_max:
            return None
        return Parcel(lane, (*before.frames, frame))

    def _outbox(self, peer: Peer) -> Outbox:
        """What waits for a peer, as something that can be added to and taken from."""
        outbox = peer.outbox
        if outbox is None:
            outbox = peer.outbox = Outbox()
            parcel, peer.parcel = peer.parcel, None
            if parcel is not None:
                for frame in parcel.frames:
                    outbox.put(parcel.lane, frame, self._limits.lane_bytes_max)
        return outbox

    def emit(self, address: Address, datagram: bytes) -> None:
        """A datagram of its own: handshakes and answers."""
        self._ready.append(Transmit(address, datagram))

    def wake(self, peer: Peer) -> None:
        """Its frames may go now."""
        if _waits(peer):
            self._dirty[peer.replica] = peer

    def forget(self, peer: Peer) -> None:
        self._dirty.pop(peer.replica, None)
        self._throttled.pop(peer.replica, None)

    def clear(self, peer: Peer) -> int:
        """Drops what waits. Returns how many frames."""
        self.forget(peer)
        if not _waits(peer):
            return 0
        outbox = self._outbox(peer)
        peer.outbox = None
        return outbox.clear()

    def take_early(self, peer: Peer, room: int) -> bytes:
        """Frames that go along with a CONNECT."""
        if not _waits(peer):
            return b""
        outbox = self._outbox(peer)
        early = b"".join(outbox.take(room))
        if not outbox.size:
            self.clear(peer)
        return early

    def take_deltas(self, peer: Peer, room: int) -> list[bytes]:
        """Frames that go along with an INIT."""
        return self._outbox(peer).take_kinds(Lane.FRESH, EARLY_KINDS, room) if _waits(peer) else []

    def give_back(self, peer: Peer, frames: Sequence[bytes]) -> None:
        """They went along, and were not taken. Where there is no session, they wait for the next handshake."""
        self._outbox(peer).put_back(Lane.FRESH, frames)
        if peer.sessions:
            self.wake(peer)

    def take_unopened(self) -> list[Peer]:
        """Peers that something is queued for and that have no session. Their frames wait for `wake`."""
        unopened = [peer for peer in self._dirty.values() if not peer.sessions]
        for peer in unopened:
            self.forget(peer)
        return unopened

    def flush(self, now: float) -> list[Transmit]:
        dirty, self._dirty = self._dirty, {}
        for peer in dirty.values():
            if not self._flush_peer(peer, now):
                self._dirty[peer.replica] = peer
            elif self._throttled:
                self._throttled.pop(peer.replica, None)
        self._packed = _NOTHING
        ready, self._ready = self._ready, []
        counters = self._counters
        counters.datagrams_sent += len(ready)
        for transmit in ready:
            counters.bytes_sent += len(transmit.datagram)
        return ready

    def _flush_peer(self, peer: Peer, now: float) -> bool:
        """Seals what may go. True when nothing is left."""
        if not _waits(peer):
            return True
        bucket = peer.bucket
        budget = bucket.refill(now)
        parcel = peer.parcel
        if parcel is not None and len(parcel.plain) * _SEALED_PER_PLAIN + DATA_OVERHEAD_BYTES <= budget:
            peer.parcel = None
            self._seal(peer, parcel.plain)
            return True
        outbox = self._outbox(peer)
        if _sealed_bytes(outbox) <= budget:
            frames = outbox.take_all()
            peer.outbox = None
        elif budget >= DATAGRAM_BYTES_MAX:
            frames = outbox.take(int(budget) // DATAGRAM_BYTES_MAX * PLAIN_BYTES_MAX)
        else:
            frames = []
        if len(frames) > 1:
            if frames != self._packed[0]:  # what goes to all is packed once
                self._packed = (frames, pack(frames))
            frames = self._packed[1]
        for plain in frames:
            self._seal(peer, plain)
        if peer.outbox is None:
            return True
        self._throttled[peer.replica] = bucket.ready_at(min(_sealed_bytes(outbox), DATAGRAM_BYTES_MAX))
        return False

    def _seal(self, peer: Peer, plain: bytes) -> None:
        session = peer.sessions[0].session
        datagram = session.seal(plain)
        peer.bucket.tokens -= len(datagram)
        self._ready.append(Transmit(session.address, datagram))


def _waits(peer: Peer) -> bool:
    """Whether there is something for it."""
    return peer.parcel is not None or peer.outbox is not None


def _sealed_bytes(outbox: Outbox) -> float:
    """At most, of all that waits."""
    return outbox.size * _SEALED_PER_PLAIN + DATA_OVERHEAD_BYTES
