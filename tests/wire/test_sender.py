"""What waits to be sent, by itself."""

from __future__ import annotations

import random
from math import inf

import pytest

from crdt.ids import ReplicaId
from mesh.wire.counters import Counters
from mesh.wire.crypto import LIBSODIUM
from mesh.wire.frames import Frame, Lane
from mesh.wire.limits import TransportLimits
from mesh.wire.packer import Outbox
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


def test_what_goes_to_many_is_one_parcel() -> None:
    """31 boxes of 1.6 kB each were made, filled and thrown away for a write."""
    limits = TransportLimits()
    sender, peers = Sender(limits, Counters()), []
    for number in range(3):
        _, peer = sender_with(limits)
        peer.replica = ReplicaId(bytes([number] * 8))
        peers.append(peer)
    sender.send(peers, Lane.FRESH, Frame.DELTA, b"delta")
    sender.send(peers, Lane.FRESH, Frame.FLOOR, b"floor")
    assert len({id(peer.parcel) for peer in peers}) == 1
    assert len(sender.flush(0.0)) == 3
    assert not sender.has_frames


@pytest.mark.parametrize("seed", range(200))
def test_parcels_and_outboxes_send_the_same(seed: int) -> None:
    """Whatever is queued, what waits in a parcel goes as it would from an outbox."""
    rng = random.Random(seed)
    limits = TransportLimits(rate_bytes_per_s=5_000.0, burst_bytes=4_000.0, lane_bytes_max=rng.choice([900, 2_000, 20_000]))
    (one, packed), (other, loose) = sender_with(limits), sender_with(limits)
    sent: list[list[bytes]] = [[], []]
    now = 0.0
    for _ in range(60):
        if rng.random() < 0.7:
            lane = rng.choice([Lane.FRESH, Lane.FRESH, *Lane])
            payload = rng.randbytes(rng.choice([10, 100, 600, 1_100]))
            if loose.outbox is None:
                loose.outbox = Outbox()  # never a parcel
            for sender, peer in ((one, packed), (other, loose)):
                sender.send([peer], lane, Frame.DELTA, payload)
        else:
            now += rng.choice([0.0, 0.01, 0.5])
            for sender, datagrams in zip((one, other), sent, strict=True):
                datagrams += [transmit.datagram for transmit in sender.flush(now)]
            assert one.has_frames == other.has_frames
            assert one.deadline == other.deadline
    assert sent[0] == sent[1]
    assert one._counters.as_dict() == other._counters.as_dict()
