"""Repeats: what a lost delta costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from crdt.ids import ReplicaId, ShelfId
from mesh.effects import Address, Now
from mesh.events import Event
from mesh.sync.messages import Floor, FloorNote, Purpose
from mesh.sync.repeat import SETTLED_FACTOR, Repeats
from mesh.testing import open_mesh
from mesh.wire.frames import Frame, Lane

SHELF = ShelfId(b"author.." + bytes(4))
FRIENDS = [ReplicaId(bytes((number,)) * 8) for number in range(1, 5)]
ROUND_TRIP = 0.02


class Sent:
    """A Port that remembers."""

    def __init__(self) -> None:
        self.frames: list[tuple[ReplicaId, Frame, bytes]] = []
        self.opening: set[ReplicaId] = set()

    def send(self, peer: ReplicaId, lane: Lane, kind: Frame, payload: bytes) -> None:
        self.frames.append((peer, kind, payload))

    def send_all(self, peers: Sequence[ReplicaId], lane: Lane, kind: Frame, payload: bytes) -> None:
        for peer in peers:
            self.send(peer, lane, kind, payload)

    def is_open(self, peer: ReplicaId) -> bool:
        return peer not in self.opening

    def contact(self, address: Address) -> None:
        raise AssertionError("repeats contact nobody")

    def notify(self, event: Event) -> None:
        raise AssertionError("repeats tell the user nothing")

    def take(self) -> dict[Frame, list[ReplicaId]]:
        """Who got which kind."""
        found: dict[Frame, list[ReplicaId]] = {}
        for peer, kind, _ in self.frames:
            found.setdefault(kind, []).append(peer)
        self.frames.clear()
        return found


class Author:
    def __init__(self) -> None:
        self.port = Sent()
        self.seq = 0
        self.repeats = Repeats(self.port, self._floor, lambda _, seq: b"delta %d" % seq, self.port.is_open, 0.001)

    def _floor(self, _: ShelfId) -> Floor:
        return Floor(SHELF, self.seq, b"hash")

    def push(self, at: float, *, lossy: bool = True) -> None:
        self.seq += 1
        self.repeats.schedule(SHELF, FRIENDS, ROUND_TRIP, lossy=lossy, now=Now(at, 0))

    def tick(self, at: float) -> dict[Frame, list[ReplicaId]]:
        self.repeats.tick(Now(at, 0))
        return self.port.take()


def test_where_something_is_lost_a_delta_asks_for_an_answer_and_goes_again_to_who_gives_none() -> None:
    author = Author()
    author.push(0.0)
    assert [FloorNote.decode_untrusted(raw).purpose for _, _, raw in author.port.frames] == [Purpose.ASK_RECEIVED] * 4
    assert author.port.take() == {Frame.FLOOR: FRIENDS}
    for friend in FRIENDS[:2]:
        author.repeats.received(friend, Floor(SHELF, 1, b"hash"))
    author.port.opening = {FRIENDS[2]}
    assert author.tick(1.9 * ROUND_TRIP) == {}
    assert author.tick(2.0 * ROUND_TRIP) == {Frame.DELTA: FRIENDS[3:], Frame.FLOOR: FRIENDS[3:]}, "a handshake tries by itself"
    author.port.opening.clear()
    assert author.tick(4.0 * ROUND_TRIP) == {Frame.DELTA: FRIENDS[2:], Frame.FLOOR: FRIENDS[2:]}
    for friend in FRIENDS:
        author.repeats.received(friend, Floor(SHELF, 1, b"hash"))
    assert author.tick(100.0) == {}


def test_in_a_burst_only_the_last_delta_is_asked_for() -> None:
    """The others show as gaps, and an answer for each would be a datagram for each."""
    author = Author()
    author.push(0.0)
    author.port.take()
    author.push(ROUND_TRIP)
    author.push(2 * ROUND_TRIP)
    assert author.port.take() == {}
    assert author.tick(4 * ROUND_TRIP) == {Frame.FLOOR: FRIENDS}, "nobody was asked yet, so nobody may lack it"
    assert author.tick(6 * ROUND_TRIP) == {Frame.DELTA: FRIENDS, Frame.FLOOR: FRIENDS}


def test_where_nothing_is_lost_nothing_goes_twice() -> None:
    author = Author()
    author.push(0.0, lossy=False)
    assert author.port.take() == {}
    assert author.tick(SETTLED_FACTOR * ROUND_TRIP) == {Frame.FLOOR: FRIENDS}
    assert author.tick(100.0) == {}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_lost_delta_needs_no_question(seed: int) -> None:
    """It used to take a floor, a question and the answer, each of which may be lost in its turn."""
    with open_mesh(4, seed=seed, warm=True) as mesh:
        mesh.cut([0], [1])
        mesh.node(0).register("key").set(1)
        mesh.run(0.005)
        mesh.heal()
        mesh.run(0.1)
        assert mesh.node(1).register("key").value == 1
        assert sum(mesh.peer(number).sync.counters.repairs for number in range(4)) == 0
