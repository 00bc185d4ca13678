"""Deltas that go along with the first question of a handshake."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.effects import Address
from mesh.wire.attempts import HURRIES, HURRY_SECONDS_MIN
from mesh.wire.early import EARLY_PER_PEER_BURST, EARLY_PER_S, EARLY_TRIES
from mesh.wire.frames import Frame
from mesh.wire.handshake import CONNECT, COOKIE, INIT, INIT_BYTES
from mesh.wire.limits import TransportLimits
from mesh.wire.sender import Sender
from tests.wire.world import Side, World


def strangers_no_more(world: World) -> tuple[Side, Side]:
    """Two members that know of each other, without a session."""
    a, b = world.start(1), world.start(2)
    a.route(b)
    b.route(a)
    return a, b


def question(world: World, payload: bytes = b"news", kind: Frame = Frame.DELTA) -> tuple[Side, Side, bytes]:
    """The INIT that takes this along."""
    a, b = strangers_no_more(world)
    a.send(b, payload, kind=kind)
    (init,) = world.flush(a)
    return a, b, init.datagram


def test_a_delta_takes_one_way_and_comes_once() -> None:
    world = World(delay=(0.010, 0.010))
    a, b = strangers_no_more(world)
    a.send(b, b"news")
    world.run(0.0101)
    assert b.payloads == [b"news"]
    assert not b.got[0].fresh
    world.run(1.0)
    assert b.payloads == [b"news"]
    assert a.opened == [b.id]


def test_other_frames_wait_for_the_connect() -> None:
    world = World(delay=(0.010, 0.010))
    a, b = strangers_no_more(world)
    a.send(b, b"floor", kind=Frame.FLOOR)
    a.send(b, b"news")
    world.run(0.0101)
    assert b.payloads == [b"news"]
    world.run(0.0201)
    assert b.payloads == [b"news", b"floor"]


def test_who_does_not_know_the_key_hears_it_with_the_connect() -> None:
    world = World(delay=(0.010, 0.010))
    a, b = world.start(1), world.start(2)
    a.route(b)
    a.send(b, b"news")
    world.run(0.0301)
    assert b.payloads == [b"news"]
    assert b.got[0].fresh


def test_what_comes_while_it_is_asked_goes_with_the_connect() -> None:
    world = World(delay=(0.010, 0.010))
    a, b = strangers_no_more(world)
    a.send(b, b"one")
    world.run(0.005)
    a.send(b, b"two")
    world.run(0.026)
    assert b.payloads == [b"one", b"two"]


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_delta_is_lost_by_a_handshake_that_loses_datagrams(seed: int, known: bool) -> None:
    """A CONNECT that got lost took along what waited for the peer: a relay's children heard of it seconds later. Regression."""
    world = World(seed, loss=0.3, delay=(0.001, 0.02))
    a, b = world.start(1), world.start(2)
    a.route(b)
    if known:
        b.route(a)
    sent = {b"news %d" % number for number in range(5)}
    for payload in sorted(sent):
        a.send(b, payload)
    world.run(10.0)
    if a.opened == [b.id] and len(world.sent_by(a, CONNECT)) <= EARLY_TRIES:
        assert set(b.payloads) == sent


def test_a_lost_cookie_brings_nothing_twice() -> None:
    world = World()
    a, b, init = question(world)
    world.flights.clear()
    b.receive(init, a.address)
    b.transport.flush(world.now)  # lost
    world.run(1.0)
    assert len(world.sent_by(a, INIT)) == 2
    assert b.payloads == [b"news"]
    assert a.opened == [b.id]


def test_an_init_that_is_sent_again_is_the_same_bytes() -> None:
    """Its key seals one text, or two of them could be compared."""
    world = World()
    a, b, _ = question(world)
    world.stop(b)
    a.send(b, b"more")
    world.run(20.0)
    inits = world.sent_by(a, INIT)
    assert len(inits) == 7
    assert len({init for init in inits if len(init) > INIT_BYTES}) == 1


class Hole(World):
    """Large datagrams are lost."""

    def _launch(self, source: Address, target: Address, datagram: bytes) -> None:
        if len(datagram) <= 576:
            super()._launch(source, target, datagram)


def test_a_black_hole_for_large_datagrams_does_not_stop_a_handshake() -> None:
    world = Hole()
    a, b = strangers_no_more(world)
    a.send(b, bytes(800))
    world.run(10.0)
    assert a.opened == [b.id]
    a.send(b, b"small")
    world.run(1.0)
    assert b.payloads == [b"small"]


@pytest.mark.interpreted
def test_a_frame_that_an_init_may_not_bring_is_not_taken() -> None:
    """A hostile member puts another kind into it: it would be believed without a proof of when it was said."""
    world = World()
    a, b = strangers_no_more(world)
    a.send(b, b"i am alive", kind=Frame.FLOOR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sender, "take_deltas", lambda self, peer, room: [self.take_early(peer, room)])
        (init,) = a.transport.flush(world.now)
    b.receive(init.datagram, a.address)
    assert b.payloads == []
    assert b.transport.drops["early_kind"] == 1


def test_a_recording_is_taken_once_and_of_one_member_few() -> None:
    world = World()
    a, b, init = question(world)
    for _ in range(3):
        b.receive(init, ("6.6.6.6", 666))
    assert b.payloads == [b"news"]
    assert not b.opened
    for number in range(100):  # of former starts
        former = Side(world, 1, a.address)
        former.route(b)
        former.send(b, b"old %d" % number)
        (transmit,) = former.transport.flush(world.now)
        b.receive(transmit.datagram, a.address)
    assert len(b.payloads) == EARLY_PER_PEER_BURST
    assert b.transport.drops["early_rate"] == 101 - EARLY_PER_PEER_BURST


def test_garbage_behind_a_known_key_takes_nothing_from_its_owner() -> None:
    world = World()
    a, b, init = question(world)
    world.flights.clear()
    for number in range(3 * int(EARLY_PER_S)):
        b.receive(init[:-1] + bytes((init[-1] ^ 1 + number % 255,)), ("6.6.6.6", 666))
    assert b.transport.drops["early_forged"] == EARLY_PER_S
    assert b.transport.drops["early_rate"] == 2 * EARLY_PER_S
    assert b.payloads == []
    b.transport.flush(world.now)
    b.receive(init, a.address)  # none is looked at any more, so it goes with the CONNECT
    assert b.payloads == []
    world.run(1.0)
    assert b.payloads == [b"news"]


def test_a_cookie_without_the_receipt_loses_nothing() -> None:
    """Somebody on the path answers in the name of the peer: only who opened what was sealed knows the receipt."""
    world = World()
    a, b, init = question(world)
    world.flights.clear()
    a.receive(bytes((COOKIE,)) + init[10:26] + b.public_key + bytes(16) + b"takenyes", b.address)
    world.run(5.0)
    assert b.payloads[:1] == [b"news"]


def test_who_was_asked_lets_the_other_connect() -> None:
    """An answer to what came along used to begin a second handshake, the other way."""
    world = World(delay=(0.010, 0.010))
    a, b = strangers_no_more(world)
    a.send(b, b"news")
    world.run(0.0101)
    b.send(a, b"thanks")
    world.run(1.0)
    assert a.payloads == [b"thanks"]
    assert not world.sent_by(b, INIT)


def test_who_was_asked_asks_when_no_connect_comes() -> None:
    world = World(delay=(0.010, 0.010))
    a, b = strangers_no_more(world)
    a.send(b, b"news")
    world.run(0.0101)
    world.stop(a)
    b.send(a, b"thanks")
    world.run(0.05)
    assert not world.sent_by(b, INIT)
    world.run(TransportLimits().handshake_retry_s)
    assert len(world.sent_by(b, INIT)) == 1


def test_where_answers_are_fast_a_lost_question_is_asked_again_soon() -> None:
    """A tenth of a second is fifty round trips of a LAN."""
    world = World()
    a, b = world.pair()
    c = Side(world, 3, ("10.0.0.1", 3))
    a.route(c)
    start = world.time
    a.send(c, b"news")
    world.run(60.0)
    times = [flight.at - start for flight in world.recorded if flight.target == c.address]
    assert len(times) == TransportLimits().handshake_tries + HURRIES
    assert times[1] < 1.5 * HURRY_SECONDS_MIN
    assert b.opened == [a.id]
