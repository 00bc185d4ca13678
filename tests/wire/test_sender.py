"""What waits to be sent, by itself."""

from __future__ import annotations

from math import inf

from crdt.ids import ReplicaId
from mesh.wire.counters import Counters
from mesh.wire.crypto import LIBSODIUM
from mesh.wire.frames import Frame, Lane
from mesh.wire.limits import TransportLimits
from mesh.wire.sender import Sender
from mesh.wire.session import derive
from mesh.wire.tables import Entry, Peer

ADDRESS = ("192.0.2.1", 7946)


def sender_with(limits: TransportLimits) -> tuple[Sender, Peer]:
    sender, peer = Sender(limits, Counters()), Peer(ReplicaId(bytes(8)), bytes(32), ADDRESS, limits)
    session = derive(
        LIBSODIUM,
        bytes(32),
        initiator_key=bytes(32),
        responder_key=bytes(32),
        nonce=bytes(16),
        cookie=bytes(16),
        mesh_id=bytes(16),
        is_initiator=True,
        address=ADDRESS,
    )
    peer.sessions.append(Entry(session))
    return sender, peer


def test_who_loses_its_session_while_its_budget_is_spent_wants_no_tick() -> None:
    """Found by reading: the time when its budget allows more stayed behind, in the past: the driver turned without a pause."""
    limits = TransportLimits(rate_bytes_per_s=1000.0, burst_bytes=1200.0)
    sender, peer = sender_with(limits)
    for _ in range(3):
        sender.send([peer], Lane.FRESH, Frame.DELTA, bytes(1000))
    sender.flush(0.0)
    assert 0.0 < sender.deadline < inf
    peer.sessions.clear()  # its credential ran out
    assert sender.take_unopened() == [peer]
    assert sender.deadline == inf


def test_when_its_budget_allows_the_rest_the_rest_goes() -> None:
    """Found by `mesh sim --preset lora`: the tick that was asked for came some bytes too early, and asked again without end."""
    for size in range(100, 1000, 7):
        sender, peer = sender_with(TransportLimits(rate_bytes_per_s=100.0, burst_bytes=1200.0))
        sender.send([peer], Lane.FRESH, Frame.DELTA, bytes(1100))
        assert len(sender.flush(0.0)) == 1
        sender.send([peer], Lane.FRESH, Frame.DELTA, bytes(size))
        assert not sender.flush(0.0)
        assert len(sender.flush(sender.deadline)) == 1
        assert sender.deadline == inf
