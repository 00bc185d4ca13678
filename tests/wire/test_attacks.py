"""What outsiders, recordings, liars on the path and hostile members can do to a transport: be counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.wire.crypto import LIBSODIUM, Libsodium
from mesh.wire.handshake import CONNECT, COOKIE, INIT, RESET
from mesh.wire.limits import CLASH_AFTER_S
from mesh.wire.session import DATA
from mesh.wire.transport import IdentityClash, TransportLimits
from tests.wire.world import MESH_ID, Side, World


def test_replayed_datagrams_are_dropped_at_once() -> None:
    world = World()
    a, b = world.pair()
    for number in range(50):
        a.send(b, b"%d" % number)
        b.send(a, b"%d" % number)
        world.run(0.01)
    opened = len(a.events) + len(b.events)
    for flight in list(world.recorded):
        assert not world.sides[flight.target].receive(flight.datagram, flight.source)
        assert not world.sides[flight.target].receive(flight.datagram, ("6.6.6.6", 666))
    # A CONNECT that is sent again from where it came: no new session, no second delivery.
    world.run(1.0)
    assert len(a.events) + len(b.events) == opened
    assert a.transport.address_of(b.id) == b.address
    assert b.transport.address_of(a.id) == a.address
    assert len(a.payloads) == len(b.payloads) == 50


def test_a_recorded_connect_opens_nothing_after_its_session_was_closed() -> None:
    """The cookie is still good then: the tag is remembered as long as the cookie lives."""
    world = World()
    a, b = world.pair()
    connect = world.sent_by(a, CONNECT)[0]
    b.transport.close(a.id)
    assert not b.receive(connect, a.address)
    assert b.transport.drops["replay"] == 1
    world.run(60.0)
    assert not b.receive(connect, a.address)
    assert b.transport.drops["bad_cookie"] == 1
    assert not b.transport.is_open(a.id)


def test_an_outsider_gets_no_more_bytes_than_it_sends_and_no_memory() -> None:
    world = World()
    a, b = world.pair()
    state = _table_sizes(b)
    templates = [flight.datagram for flight in world.recorded]
    for number in range(3000):
        datagram = bytearray(templates[number % len(templates)])
        if number % 3:
            at = world.random.randrange(1, len(datagram))
            datagram[at] ^= 1 + world.random.randrange(255)
        source = ("6.6.6.6", number)
        assert not b.receive(bytes(datagram), source)
        answers = b.transport.flush(world.now)
        assert sum(len(answer.datagram) for answer in answers) <= len(datagram)
        assert all(answer.address == source for answer in answers)
        world.time += 0.01
    assert _table_sizes(b) == state
    assert not b.transport.take_events()
    a.send(b, b"still here")
    world.run(1.0)
    assert b.payloads == [b"still here"]


def _table_sizes(side: Side) -> list[int]:
    transport = side.transport
    tables = (transport._peers.by_id, transport._peers.by_key, transport._by_tag, transport._by_tag_out, transport._connected)
    return [len(table) for table in tables]


def test_reset_hints_are_limited() -> None:
    world = World()
    a = world.start(1)
    for number in range(1000):
        a.receive(bytes((DATA,)) + b"%030d" % number, ("6.6.6.6", 666))
    assert len(a.transport.flush(world.now)) == 100
    assert a.transport.drops["unknown_session"] == 1000


def test_a_spoofed_reset_costs_one_handshake_and_no_session() -> None:
    """On the path an attacker reads the tag; its RESET makes us ask again, once in a while, and nothing else."""
    world = World()
    a, b = world.pair()
    a.send(b, b"1")
    world.run(0.1)
    tag = world.sent_by(a, DATA)[-1][1:9]
    for _ in range(100):
        a.receive(bytes((RESET,)) + tag, ("6.6.6.6", 666))
        a.receive(bytes((RESET,)) + b"guessed!", b.address)
    assert len(world.flush(a)) == 1
    a.send(b, b"2")
    world.run(1.0)
    assert b.payloads == [b"1", b"2"]
    assert len(world.sent_by(a, INIT)) == 2
    assert a.transport.drops == {"reset_rate": 99, "reset_unexpected": 100}


def test_a_reset_of_a_replaced_session_means_nothing() -> None:
    world = World()
    a, b = world.pair()
    a.send(b, b"1")
    world.run(0.1)
    tag = world.sent_by(a, DATA)[-1][1:9]
    a.contact(b)
    world.run(0.1)
    a.receive(bytes((RESET,)) + tag, b.address)
    assert a.transport.drops == {"reset_unexpected": 1}
    assert world.flush(a) == []


def test_a_key_does_not_take_the_place_of_another() -> None:
    """Two keys with one replica id are refused at enrolment; here the first that is known stays."""
    world = World()
    a, b = world.pair()
    impostor = world.start(3)
    b.transport._admit = lambda *_: a.id
    impostor.contact(b)
    world.run(30.0)
    assert not impostor.opened
    assert b.transport.drops["refused"]
    assert b.transport.address_of(a.id) == a.address


def test_a_spoofed_cookie_does_not_stop_a_handshake() -> None:
    """Off the path the nonce cannot be guessed. On it, a lie costs the time of a few retries."""
    world = World()
    a, b = world.start(1), world.start(2)
    a.contact(b)
    (init,) = world.flush(a)
    liar = LIBSODIUM.keypair(b"\x66" * 32)[0]
    a.receive(bytes((COOKIE,)) + bytes(16) + liar + bytes(24), b.address)
    assert a.transport.drops["cookie_unexpected"] == 1
    a.receive(bytes((COOKIE,)) + init.datagram[10:26] + liar + bytes(24), b.address)
    a.receive(bytes((COOKIE,)) + init.datagram[10:26] + bytes(32) + bytes(24), b.address)
    world.run(10.0)
    assert a.opened == [b.id]
    assert b.opened == [a.id]


def test_a_cookie_with_an_impossible_key_is_refused() -> None:
    world = World()
    a, b = world.start(1), world.start(2)
    a.contact(b)
    (init,) = a.transport.flush(world.now)
    a.receive(bytes((COOKIE,)) + init.datagram[10:26] + bytes(32) + bytes(24), b.address)
    assert a.transport.drops["bad_key"] == 1


def test_nobody_connects_without_being_heard_at_its_address() -> None:
    world = World()
    a, b = world.start(1), world.start(2)
    a.contact(b)
    world.run(0.003)
    (connect,) = world.sent_by(a, CONNECT)
    world.sides[b.address] = b = Side(world, 2, b.address)
    assert not b.receive(connect, ("6.6.6.6", 666))
    assert b.transport.drops["bad_cookie"] == 1
    assert b.transport.flush(world.now) == []


def test_a_peer_that_connects_all_the_time_is_slowed_down() -> None:
    world = World()
    b = world.start(2)
    for _ in range(40):
        a = world.start(1)
        a.contact(b)
        world.run(0.01)
    assert b.transport.drops["connect_rate"] >= 20
    assert len(b.transport._connected) <= 18


@pytest.mark.interpreted
def test_strangers_cost_a_bounded_number_of_key_agreements() -> None:
    class Counting(Libsodium):
        agreements = 0

        def agree(self, secret_key: bytes, public_key: bytes) -> bytes | None:
            self.agreements += 1
            return super().agree(secret_key, public_key)

    world = World()
    crypto = Counting()
    b = world.start(2, crypto=crypto, limits=TransportLimits(strangers_per_s=1.0, strangers_burst=5.0))
    world.revoked |= set(range(10, 60))
    for number in range(10, 60):
        a = world.start(number)
        a.contact(b)
        world.run(0.004)
        world.stop(a)
    assert crypto.agreements <= 6
    assert b.transport.drops["strangers"] >= 40
    # Whoever is known already is not a stranger.
    friend = world.start(3)
    b.route(friend)
    friend.contact(b)
    world.run(1.0)
    assert b.opened == [friend.id]


def test_an_address_is_learned_by_asking_there_only() -> None:
    """A datagram's sender is what whoever sent it wrote there: b sent its answers wherever a sealed one claimed to be from."""
    world = World()
    a, b = world.pair()
    elsewhere = ("10.9.9.9", 9)
    for payload in (b"1", b"2"):
        a.send(b, payload)
    (first,) = a.transport.flush(world.now)
    a.send(b, b"3")
    (second,) = a.transport.flush(world.now)
    forged = second.datagram[:-1] + bytes((second.datagram[-1] ^ 1,))
    b.receive(forged, elsewhere)
    b.receive(second.datagram, elsewhere)
    assert b.transport.address_of(a.id) == a.address
    b.receive(first.datagram, ("10.8.8.8", 8))  # late, not newer
    b.receive(second.datagram, ("6.6.6.6", 666))  # replayed
    assert [(init.address, init.datagram[0]) for init in b.transport.flush(world.now)] == [(elsewhere, INIT)]
    a.send(b, b"4")
    (third,) = a.transport.flush(world.now)
    b.receive(third.datagram, ("10.7.7.7", 7))
    assert not b.transport.flush(world.now)  # one place a second
    world.run(30.0)
    assert b.transport.address_of(a.id) == a.address
    assert len(b.payloads) == 4


def test_two_agents_with_one_identity_are_reported() -> None:
    world = World()
    b = world.start(2)
    a, clone = world.start(1), world.start(1, port=11)
    a.contact(b)
    world.run(1.0)
    clone.contact(b)
    world.run(1.0)
    a.send(b, b"late, but may have been under way")
    world.run(CLASH_AFTER_S)
    assert not [event for event in b.events if isinstance(event, IdentityClash)]
    for _ in range(3):
        a.send(b, b"I am")
        clone.send(b, b"so am I")
        world.run(1.0)
    assert [event for event in b.events if isinstance(event, IdentityClash)] == [
        IdentityClash(b.opened[0], (clone.address, a.address))
    ]


def test_a_restart_is_not_a_clash() -> None:
    world = World()
    _, b = world.pair()
    a = world.start(1)
    a.contact(b)
    for _ in range(30):
        world.run(1.0)
        a.send(b, b"again")
        b.send(a, b"hello")
    assert not [event for event in b.events if isinstance(event, IdentityClash)]


def test_a_route_keeps_its_key() -> None:
    world = World()
    a, b = world.pair()
    a.transport.route(b.id, bytes(32), ("6.6.6.6", 666))
    assert a.transport.drops["route_other_key"] == 1
    assert a.transport.address_of(b.id) == b.address


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_datagram_raises_and_each_is_counted(data: st.DataObject) -> None:
    world = World(data.draw(st.integers(0, 1000)))
    a, b = world.pair()
    a.send(b, b"payload")
    world.run(0.1)
    templates = [flight.datagram for flight in world.recorded]
    before = b.transport.counters.datagrams_received
    drops = b.transport.drops.total()
    taken = 0
    datagrams = data.draw(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from(templates)), min_size=1, max_size=30))
    for datagram in datagrams:
        raw = bytearray(datagram)
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(raw)))
            raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        b.receive(bytes(raw), a.address)
        taken += len(b.transport.flush(world.now))
    assert b.transport.counters.datagrams_received - before == len(datagrams)
    assert len(datagrams) <= b.transport.drops.total() - drops + taken  # INITs are answered, the rest is a drop
    assert b.payloads == [b"payload"]


def test_sealed_nonsense_of_a_member_is_counted_too() -> None:
    world = World()
    a, b = world.pair()
    session = a.transport._peers.by_id[b.id].sessions[0].session
    for plain, reason in (
        (b"\x20", "malformed_frames"),
        (b"\x20\x00", "malformed_frames"),
        (b"\x20\x00\x05abcd", "malformed_frames"),
        (b"\x20\xff\xffabcd", "malformed_frames"),
        (b"\x20\x00\x01ab", "malformed_frames"),
        (b"\xff\x00\x01a", "unknown_frame"),
    ):
        before = b.transport.drops[reason]
        assert not b.receive(session.seal(plain), a.address)
        assert b.transport.drops[reason] == before + 1
    assert not b.receive(session.seal(b""), a.address)
    assert not b.receive(session.seal(b"\x20\x00\x01a" * 2000), a.address)
    assert b.transport.drops["too_long"] == 1


def test_the_mesh_id_does_not_show() -> None:
    world = World()
    world.pair()
    assert not any(MESH_ID in flight.datagram for flight in world.recorded)
