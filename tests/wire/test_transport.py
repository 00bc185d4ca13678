"""Two ends and a bad network: handshakes, restarts, addresses, and what must never happen."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import ConfigError
from mesh.wire.crypto import LIBSODIUM, Libsodium
from mesh.wire.frames import Frame, Lane
from mesh.wire.handshake import CONNECT, COOKIE, INIT, RESET
from mesh.wire.limits import CLASH_AFTER_S, CREDENTIAL_BYTES_MAX
from mesh.wire.session import DATA
from mesh.wire.transport import IdentityClash, SessionOpened, TransportLimits, Unreachable
from tests.wire.world import MESH_ID, Side, World


def test_first_contact_takes_four_datagrams() -> None:
    world = World()
    a, b = world.pair()
    assert [flight.datagram[0] for flight in world.recorded] == [INIT, COOKIE, CONNECT, DATA]
    assert a.events == [SessionOpened(b.id, b.address, b.public_key)]
    assert b.events == [SessionOpened(a.id, a.address, a.public_key)]
    assert not a.transport.drops
    assert not b.transport.drops
    assert a.transport.deadline == b.transport.deadline == inf


def test_what_is_sent_to_a_known_key_goes_with_the_connect() -> None:
    """One round trip from a cold start to the frame at the receiver: INIT, COOKIE, CONNECT with the frame."""
    world = World(delay=(0.010, 0.010))
    a, b = world.start(1), world.start(2)
    a.route(b)
    a.send(b, b"early")
    world.run(0.0301)
    assert b.payloads == [b"early"]


def test_what_is_sent_before_the_owner_of_the_address_is_known_waits_for_its_credential() -> None:
    """Nothing but our own credential goes to a stranger, and nothing of a stranger is delivered."""
    world = World()
    a, b = world.start(1), world.start(2)
    world.revoked.add(2)
    a.contact(b)
    world.run(30.0)
    assert a.opened == []
    assert a.transport.drops["refused"]
    assert Unreachable(b.address, None) in a.events
    b.send(a, b"of a stranger")
    world.run(1.0)
    assert a.payloads == []


def test_frames_arrive_in_order_with_peer_address_and_kind() -> None:
    world = World()
    a, b = world.pair()
    a.send(b, b"2", Lane.FRESH, Frame.FLOOR)
    a.send(b, b"1", Lane.LIVENESS, Frame.PING)
    a.send(b, b"3", Lane.FRESH, Frame.FLOOR)
    world.run(1.0)
    assert [(received.peer, received.address, received.kind, received.payload) for received in b.got] == [
        (a.id, a.address, Frame.PING, b"1"),
        (a.id, a.address, Frame.FLOOR, b"2"),
        (a.id, a.address, Frame.FLOOR, b"3"),
    ]
    assert len(world.sent_by(a, DATA)) == 1


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_bad_network_delays_but_nothing_is_delivered_twice(seed: int) -> None:
    world = World(seed, loss=0.3, twice=0.3, delay=(0.001, 0.05))
    a, b = world.start(1), world.start(2)
    a.route(b)
    b.route(a)
    sent: dict[Side, list[bytes]] = {a: [], b: []}
    for number in range(60):
        for side, other in ((a, b), (b, a)):
            if world.random.random() < 0.7:
                sent[side].append(b"%d of %d" % (number, side.number))
                side.send(other, sent[side][-1])
        world.run(0.02)
    world.run(20.0)
    for side, other in ((a, b), (b, a)):
        assert other.id in side.opened
        assert len(set(side.payloads)) == len(side.payloads)
        assert set(side.payloads) <= set(sent[other])
        assert all(received.peer == other.id for received in side.got)
        before = len(side.payloads)
        for number in range(60):
            other.send(side, b"open %d" % number)
            world.run(0.01)
        world.run(1.0)
        assert len(side.payloads) - before > 20  # 42 are to be expected


@given(st.integers(0, 2**32), st.lists(st.sampled_from("ab"), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_restarts_of_either_side_heal_and_nothing_of_before_is_taken(seed: int, restarts: list[str]) -> None:
    world = World(seed, loss=0.15, twice=0.1, delay=(0.001, 0.02))
    sides = {"a": world.start(1), "b": world.start(2)}
    sides["a"].route(sides["b"])
    sides["b"].route(sides["a"])
    for count, name in enumerate(restarts):
        for _ in range(10):
            sides["a"].send(sides["b"], b"%d" % count)
            sides["b"].send(sides["a"], b"%d" % count)
            world.run(0.05)
        world.run(5.0)
        other = sides["b" if name == "a" else "a"]
        sides[name] = fresh = world.start(sides[name].number)
        for flight in world.recorded:  # all that went to the former start, and all that the other had
            if flight.arrived or flight.target == fresh.address:
                assert not world.sides[flight.target].receive(flight.datagram, flight.source)
        # The side that knows nothing any more is found again by the other's next words.
        for _ in range(8):
            other.send(fresh, b"are you there")
            world.run(1.0)
        assert b"are you there" in fresh.payloads
        assert fresh.opened
        fresh.route(other)


def test_a_restarted_peer_is_noticed_by_its_reset_and_loses_one_datagram() -> None:
    world = World()
    a, _ = world.pair()
    b = world.start(2)
    a.send(b, b"lost")
    world.run(1.0)
    assert b.payloads == []
    assert world.sent_by(b, RESET)
    a.send(b, b"heard")
    world.run(1.0)
    assert b.payloads == [b"heard"]


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
    tables = (transport._peers, transport._by_key, transport._by_tag, transport._by_tag_out, transport._connected)
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
    a.receive(bytes((COOKIE,)) + bytes(16) + liar + bytes(16), b.address)
    assert a.transport.drops["cookie_unexpected"] == 1
    a.receive(bytes((COOKIE,)) + init.datagram[10:26] + liar + bytes(16), b.address)
    a.receive(bytes((COOKIE,)) + init.datagram[10:26] + bytes(32) + bytes(16), b.address)
    world.run(10.0)
    assert a.opened == [b.id]
    assert b.opened == [a.id]


def test_a_cookie_with_an_impossible_key_is_refused() -> None:
    world = World()
    a, b = world.start(1), world.start(2)
    a.contact(b)
    (init,) = a.transport.flush(world.now)
    a.receive(bytes((COOKIE,)) + init.datagram[10:26] + bytes(32) + bytes(16), b.address)
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


def test_a_refused_credential_opens_nothing() -> None:
    world = World()
    world.revoked.add(1)
    a, b = world.start(1), world.start(2)
    a.route(b)
    a.send(b, b"let me in")
    world.run(30.0)
    assert b.opened == []
    assert b.got == []
    assert b.transport.drops["refused"]
    assert a.transport.drops["unreachable"] == 0  # it went with the CONNECT
    assert a.events == [Unreachable(b.address, b.id)]


def late_hello(*, known: bool) -> tuple[World, Side, Side, bytes]:
    """b answers a's CONNECT with HELLO, which is late, and with a frame, which arrives."""
    world = World()
    a, b = world.start(1), world.start(2)
    a.contact(b)
    world.run(0.0025)
    if known:
        a.route(b)
    (connect,) = world.sent_by(a, CONNECT)
    b.receive(connect, a.address)
    b.send(a, b"before hello")
    hello, frames = b.transport.flush(world.now)
    world.stop(b)
    a.receive(frames.datagram, b.address)
    return world, a, b, hello.datagram


def test_frames_of_an_unknown_key_are_dropped_until_its_hello() -> None:
    _, a, b, hello = late_hello(known=False)
    assert a.payloads == []
    assert a.transport.drops["before_hello"] == 1
    assert not a.transport.is_open(b.id)
    a.receive(hello, b.address)
    assert a.transport.is_open(b.id)


def test_frames_of_a_known_key_are_taken_and_its_credential_is_still_checked() -> None:
    world, a, b, hello = late_hello(known=True)
    assert a.payloads == [b"before hello"]
    assert a.transport.is_open(b.id)
    world.revoked.add(2)
    a.receive(hello, b.address)
    assert not a.transport.is_open(b.id)
    assert a.transport.drops["refused"] == 1


def test_what_does_not_fit_the_connect_follows_when_the_session_is_open() -> None:
    world = World()
    a, b = world.start(1), world.start(2)
    a.route(b)
    sent = [bytes((number,)) * 1000 for number in range(5)]
    for payload in sent:
        a.send(b, payload)
    world.run(1.0)
    assert sorted(b.payloads) == sent


def test_another_mesh_stays_another() -> None:
    world = World()
    a, b = world.start(1), world.start(2, mesh_id=b"another mesh id.")
    a.contact(b)
    world.run(30.0)
    assert b.transport.drops["other_mesh"] == 7
    assert a.events == [Unreachable(b.address, None)]
    assert world.sent_by(b, COOKIE) == []


def test_the_mesh_id_is_in_the_keys_not_only_in_the_tag() -> None:
    world = World()
    a, b = world.start(1), world.start(2, mesh_id=b"another mesh id.")
    b.transport._mesh_tag = a.transport._mesh_tag
    a.contact(b)
    world.run(30.0)
    assert b.transport.drops["forged"]
    assert not b.opened


def test_both_at_once_open_both_ways() -> None:
    world = World()
    a, b = world.start(1), world.start(2)
    a.contact(b)
    b.contact(a)
    world.run(1.0)
    assert set(a.opened) == {b.id}
    assert set(b.opened) == {a.id}
    for _ in range(20):
        a.send(b, b"from a")
        b.send(a, b"from b")
        world.run(0.01)
    assert (len(a.payloads), len(b.payloads)) == (20, 20)
    world.run(CLASH_AFTER_S)  # both sessions stay in use: one agent at each end, no clash
    a.send(b, b"from a")
    b.send(a, b"from b")
    world.run(1.0)
    assert not [event for event in a.events + b.events if isinstance(event, IdentityClash)]
    assert not a.transport.drops
    assert not b.transport.drops


def test_many_restarts_keep_three_sessions_and_the_newest_is_used() -> None:
    world = World()
    a, b = world.start(1), world.start(2)
    for _ in range(10):
        a = world.start(1)
        a.contact(b)
        world.run(1.0)
    assert len(b.transport._by_tag) == len(b.transport._by_tag_out) == 3
    b.send(a, b"to the newest")
    world.run(1.0)
    assert a.payloads == [b"to the newest"]


def test_a_peer_that_connects_all_the_time_is_slowed_down() -> None:
    world = World()
    b = world.start(2)
    for _ in range(40):
        a = world.start(1)
        a.contact(b)
        world.run(0.01)
    assert b.transport.drops["connect_rate"] >= 20
    assert len(b.transport._connected) <= 18


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


def test_an_address_is_learned_from_the_newest_sealed_datagram_only() -> None:
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
    assert b.transport.address_of(a.id) == a.address
    b.receive(second.datagram, elsewhere)
    assert b.transport.address_of(a.id) == elsewhere
    b.receive(first.datagram, ("10.8.8.8", 8))  # late, not newer
    assert b.transport.address_of(a.id) == elsewhere
    b.receive(second.datagram, ("6.6.6.6", 666))  # replayed
    assert b.transport.address_of(a.id) == elsewhere
    assert len(b.payloads) == 3


def test_a_moved_peer_is_answered_at_its_new_address() -> None:
    world = World()
    a, b = world.pair()
    world.stop(a)
    a.address = ("10.0.0.77", 77)
    world.sides[a.address] = a
    a.send(b, b"I moved")
    world.run(0.1)
    b.send(a, b"welcome")
    world.run(0.1)
    assert a.payloads == [b"welcome"]


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


def test_retries_double_and_end() -> None:
    world = World()
    a = world.start(1)
    a.route(Side(world, 2, ("10.0.0.1", 2)))
    a.transport.send(Side(world, 2, ("10.0.0.1", 2)).id, Lane.FRESH, Frame.DELTA, b"x")
    world.run(60.0)
    times = [flight.at for flight in world.recorded]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == 7
    for power, gap in enumerate(gaps):
        assert 0.74 * 0.1 * 2**power < gap < 1.26 * 0.1 * 2**power
    assert a.transport.drops["unreachable"] == 1
    assert a.transport.deadline == inf


def test_our_own_address_as_seed_is_no_news() -> None:
    world = World()
    a = world.start(1)
    a.contact(a)
    world.run(30.0)
    assert a.events == []
    assert a.transport.drops == {"self": 1}


def test_closing_forgets_a_peer() -> None:
    world = World()
    a, b = world.pair()
    a.send(b, b"never")
    a.transport.close(b.id)
    world.run(1.0)
    assert b.payloads == []
    assert a.transport.address_of(b.id) is None
    b.send(a, b"unheard")
    world.run(1.0)
    assert a.payloads == []
    a.transport.close(b.id)
    a.send(b, b"no route")
    assert a.transport.drops["no_route"] == 1


def test_a_route_keeps_its_key() -> None:
    world = World()
    a, b = world.pair()
    a.transport.route(b.id, bytes(32), ("6.6.6.6", 666))
    assert a.transport.drops["route_other_key"] == 1
    assert a.transport.address_of(b.id) == b.address


def test_agreements_are_computed_once_for_each_known_peer() -> None:
    calls = []

    class Counting(Libsodium):
        def agree(self, secret_key: bytes, public_key: bytes) -> bytes | None:
            calls.append(public_key)
            return super().agree(secret_key, public_key)

    world = World()
    b = world.start(2, crypto=Counting())
    for _ in range(5):
        world.start(1).contact(b)
        world.run(1.0)
    assert len(calls) == 2  # a stranger first; from then on it is known


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
    session = a.transport._peers[b.id].sessions[0].session
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


def test_the_same_seed_gives_the_same_bytes() -> None:
    def history() -> list[tuple[float, bytes]]:
        world = World(7, loss=0.2, twice=0.2, delay=(0.001, 0.05))
        a, b = world.start(1), world.start(2)
        a.route(b)
        for number in range(20):
            a.send(b, b"%d" % number)
            world.run(0.1)
        return [(flight.at, flight.datagram) for flight in world.recorded]

    assert history() == history()


def test_what_cannot_work_is_refused_at_once() -> None:
    world = World()
    with pytest.raises(ConfigError, match="credential"):
        world.start(1, credential=bytes(CREDENTIAL_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="boot id"):
        world.start(1, boot_id=b"short")
    with pytest.raises(ConfigError, match="burst"):
        TransportLimits(burst_bytes=100.0)
    with pytest.raises(ConfigError, match="rate"):
        TransportLimits(rate_bytes_per_s=0.0)


def test_the_largest_credential_fits() -> None:
    world = World()
    credential = b"member " + b"0" * (CREDENTIAL_BYTES_MAX - 8) + b"1"
    a, b = world.start(1, credential=credential), world.start(2)
    a.contact(b)
    world.run(1.0)
    assert b.opened == [a.id]
    assert max(len(flight.datagram) for flight in world.recorded) == 1200


def test_the_mesh_id_does_not_show() -> None:
    world = World()
    world.pair()
    assert not any(MESH_ID in flight.datagram for flight in world.recorded)
