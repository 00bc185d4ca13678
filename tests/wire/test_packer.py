"""Frames into datagrams, and who goes first when not all can."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.wire.frames import Frame, Lane
from mesh.wire.packer import (
    DATAGRAM_BYTES_MAX,
    FRAME_BYTES_MAX,
    PLAIN_BYTES_MAX,
    SHARES,
    Outbox,
    TokenBucket,
    encode_frame,
    frames_untrusted,
    pack,
)
from mesh.wire.transport import TransportLimits
from tests.wire.world import Side, World

FRAMES = st.lists(st.tuples(st.sampled_from(list(Frame)), st.integers(0, FRAME_BYTES_MAX)), max_size=40)


@given(FRAMES)
@settings(max_examples=150, deadline=None)
def test_what_is_packed_comes_out_in_order(frames: list[tuple[Frame, int]]) -> None:
    contents = [(int(kind), bytes((number,)) * size) for number, (kind, size) in enumerate(frames)]
    datagrams = pack([encode_frame(kind, payload) for kind, payload in contents])
    assert all(0 < len(datagram) <= PLAIN_BYTES_MAX for datagram in datagrams)
    read = [frames_untrusted(datagram) for datagram in datagrams]
    assert [frame for frames_read in read if frames_read is not None for frame in frames_read] == contents
    # Next-fit: any two neighbours together fill more than one datagram.
    assert all(len(one) + len(other) > PLAIN_BYTES_MAX for one, other in pairwise(datagrams))


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_frames_are_read_whole_or_not_at_all(plain: bytes) -> None:
    frames = frames_untrusted(plain)
    if frames is not None:
        assert b"".join(encode_frame(kind, payload) for kind, payload in frames) == plain


def test_a_bucket_allows_its_rate_and_its_burst() -> None:
    bucket = TokenBucket(rate=10.0, burst=5.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.ready_at(1.0) == pytest.approx(0.1, rel=1e-4)
    taken = sum(bucket.take(step / 1000) for step in range(1, 10_001))
    assert 99 <= taken <= 100
    assert bucket.refill(1e6) == 5.0
    assert bucket.refill(1e5) == 5.0  # a clock that falls gives nothing and breaks nothing


@given(st.floats(0.1, 1e9), st.floats(0.0, 1e7), st.floats(0.0, 1e4))
@settings(max_examples=200, deadline=None)
def test_a_bucket_is_ready_when_it_said_so(rate: float, start: float, tokens: float) -> None:
    """Else a caller that waits for just that moment asks again and again without the time moving."""
    bucket = TokenBucket(rate, 1e4)
    bucket.refill(start)
    bucket.tokens = 0.0
    assert bucket.refill(bucket.ready_at(tokens)) >= tokens * (1 - 1e-12)


def frame(lane: Lane, number: int, size: int = 100) -> bytes:
    return encode_frame(lane, number.to_bytes(4, "big") * (size // 4))


def test_all_that_fits_goes_by_lane_then_as_it_came() -> None:
    outbox = Outbox()
    for number in range(8):
        outbox.put(Lane(3 - number % 4), frame(Lane(3 - number % 4), number), 10_000)
    assert [taken[0] for taken in outbox.take_all()] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert outbox.size == 0
    assert outbox.take_all() == []


def test_the_newest_goes_first_when_not_all_can() -> None:
    outbox = Outbox()
    frames = [frame(Lane.FRESH, number) for number in range(10)]
    for item in frames:
        outbox.put(Lane.FRESH, item, 10_000)
    assert outbox.take(3 * len(frames[0])) == frames[7:]
    assert outbox.take(2 * len(frames[0]) + 50) == frames[5:7]
    assert outbox.size == 5 * len(frames[0])


def test_a_full_lane_loses_its_oldest_and_leaves_the_others_alone() -> None:
    outbox = Outbox()
    other = frame(Lane.BULK, 0)
    outbox.put(Lane.BULK, other, 1000)
    frames = [frame(Lane.FRESH, number) for number in range(20)]
    dropped = sum(outbox.put(Lane.FRESH, item, 1000) for item in frames)
    assert dropped == 20 - 1000 // len(frames[0])
    assert outbox.take_all() == [*frames[dropped:], other]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_an_outbox_loses_and_invents_nothing(data: st.DataObject) -> None:
    outbox = Outbox()
    waiting: list[bytes] = []
    for number in range(data.draw(st.integers(1, 60))):
        if data.draw(st.booleans()):
            lane = data.draw(st.sampled_from(list(Lane)))
            item = frame(lane, number, data.draw(st.integers(4, FRAME_BYTES_MAX)))
            assert outbox.put(lane, item, 10**9) == 0
            waiting.append(item)
        else:
            room = data.draw(st.integers(0, 4 * PLAIN_BYTES_MAX))
            taken = outbox.take(room)
            assert sum(map(len, taken)) <= room
            for item in taken:
                waiting.remove(item)
        assert outbox.size == sum(map(len, waiting))
    assert sorted(outbox.take_all()) == sorted(waiting)


@pytest.mark.parametrize("flooding", [set(Lane), {Lane.LIVENESS, Lane.BULK}, {Lane.CRITICAL, Lane.FRESH, Lane.BULK}])
@pytest.mark.parametrize("size", [40, 400, FRAME_BYTES_MAX])
def test_every_waiting_lane_gets_its_share_and_the_first_the_rest(flooding: set[Lane], size: int) -> None:
    """Datagram by datagram, also for frames as large as a datagram."""
    outbox = Outbox()
    sent = dict.fromkeys(Lane, 0)
    for number in range(2000):
        for lane in flooding:
            while len(outbox._queues.get(lane, ())) < 40:
                outbox.put(lane, frame(lane, number, size), 10**9)
        for taken in outbox.take(PLAIN_BYTES_MAX):
            sent[Lane(taken[0])] += len(taken)
    total = sum(sent.values())
    for lane in flooding:
        assert sent[lane] >= 0.85 * SHARES[lane] * total, (lane, sent)
    assert sent[min(flooding)] == max(sent.values())
    frame_bytes = len(frame(Lane.FRESH, 0, size))
    assert total >= 0.99 * 2000 * (PLAIN_BYTES_MAX // frame_bytes) * frame_bytes


def test_a_lane_that_does_not_wait_saves_nothing_up() -> None:
    outbox = Outbox()
    large = PLAIN_BYTES_MAX - 9

    def order(liveness: int) -> list[int]:
        for number in range(liveness):
            outbox.put(Lane.LIVENESS, frame(Lane.LIVENESS, number, large), 10**9)
        outbox.put(Lane.BULK, frame(Lane.BULK, 0, large), 10**9)
        return [taken[0] for _ in range(liveness + 1) for taken in outbox.take(PLAIN_BYTES_MAX)]

    assert order(5) == [Lane.LIVENESS] * 5 + [Lane.BULK]  # it went for nothing when it had saved half of its size
    assert order(8) == [Lane.LIVENESS] * 8 + [Lane.BULK]  # and starts again from zero


def test_a_lane_within_its_share_goes_at_once_however_the_others_flood() -> None:
    outbox = Outbox()
    for number in range(20):
        for _ in range(10):
            outbox.put(Lane.LIVENESS, frame(Lane.LIVENESS, number, 400), 10**9)
        outbox.put(Lane.BULK, frame(Lane.BULK, number, 100), 10**9)
        assert Lane.BULK in [taken[0] for taken in outbox.take(PLAIN_BYTES_MAX)]


# ---------------------------------------------------------------------- in the transport

SLOW = TransportLimits(rate_bytes_per_s=12_000.0, burst_bytes=2400.0)


def flood(world: World, side: Side, to: Side, seconds: float, lanes: dict[Lane, Frame]) -> None:
    for _ in range(int(seconds * 100)):
        for lane, kind in lanes.items():
            side.send(to, bytes(300), lane, kind)
        world.run(0.01)


def test_a_budget_holds_back_and_wakes_in_time() -> None:
    world = World()
    a, b = world.pair(limits=SLOW)
    world.run(10.0)
    sent_before = a.transport.counters.bytes_sent
    started = world.time
    for _ in range(60):
        a.send(b, bytes(1000))
    while len(b.got) < 60 and world.time < started + 60:
        world.run(0.1)
    took = world.time - started
    sent = a.transport.counters.bytes_sent - sent_before
    assert len(b.got) == 60
    assert (sent - SLOW.burst_bytes) / SLOW.rate_bytes_per_s <= took + 0.11
    assert took <= sent / SLOW.rate_bytes_per_s + 0.2


def test_shares_hold_on_the_wire() -> None:
    world = World()
    a, b = world.pair(limits=SLOW)
    lanes = {Lane.LIVENESS: Frame.PING, Lane.CRITICAL: Frame.CLAIM, Lane.FRESH: Frame.DELTA, Lane.BULK: Frame.BODY}
    flood(world, a, b, 20.0, lanes)
    count = {lane: sum(received.kind == kind for received in b.got) for lane, kind in lanes.items()}
    for lane in Lane:
        assert count[lane] >= 0.8 * SHARES[lane] * len(b.got), count
    assert count[Lane.LIVENESS] == max(count.values())


def test_queues_are_bounded_and_say_what_they_lost() -> None:
    world = World()
    limits = TransportLimits(rate_bytes_per_s=1200.0, burst_bytes=1200.0, lane_bytes_max=10_000, lane_bytes_max_unopened=5_000)
    a, b = world.pair(limits=limits)
    nobody = Side(world, 9, ("10.0.0.9", 9))
    a.route(nobody)
    for _ in range(100):
        a.send(b, bytes(997), Lane.BULK, Frame.BODY)
        a.send(nobody, bytes(997), Lane.FRESH, Frame.DELTA)
    assert a.transport.drops == {"queue_full_bulk": 90, "queue_full_fresh": 95}
    peer = a.transport._peers.by_id[b.id]
    assert peer.outbox is not None
    assert peer.outbox.size <= 10_000


def test_a_frame_too_large_is_the_callers_error() -> None:
    world = World()
    a, b = world.pair()
    a.send(b, bytes(FRAME_BYTES_MAX))
    with pytest.raises(ValueError, match="DELTA of 1167 bytes"):
        a.send(b, bytes(FRAME_BYTES_MAX + 1))
    world.run(0.1)
    assert [len(payload) for payload in b.payloads] == [FRAME_BYTES_MAX]
    assert max(len(flight.datagram) for flight in world.recorded) == DATAGRAM_BYTES_MAX


def test_one_payload_for_many_peers_is_encoded_once() -> None:
    world = World()
    a = world.start(1)
    others = [world.start(number) for number in range(2, 12)]
    for other in others:
        a.route(other)
    payload = b"one delta for all"
    for other in others:
        a.send(other, payload)
    boxes = [peer.outbox for peer in a.transport._peers.by_id.values()]
    assert len({id(box.take_all()[0]) for box in boxes if box is not None}) == 1


def test_one_payload_in_two_kinds_of_frames_stays_two() -> None:
    world = World()
    a, b = world.pair()
    payload = b"the same object"
    a.send(b, payload, Lane.FRESH, Frame.DELTA)
    a.send(b, payload, Lane.FRESH, Frame.REPAIR)
    world.run(0.1)
    assert [received.kind for received in b.got] == [Frame.DELTA, Frame.REPAIR]


def test_counters_add_up() -> None:
    world = World()
    a, b = world.pair()
    for _ in range(5):
        a.send(b, b"12345", Lane.FRESH, Frame.DELTA)
        a.send(b, b"1", Lane.LIVENESS, Frame.PING)
        world.run(0.1)
    sent, received = a.transport.counters.as_dict(), b.transport.counters.as_dict()
    assert sent["frames_sent"] == {"PING": 5, "DELTA": 5}
    assert sent["bytes_sent_by_lane"] == {"LIVENESS": 20, "CRITICAL": 0, "FRESH": 40, "BULK": 0}
    assert received["frames_received"] == {"HELLO": 1, "PING": 5, "DELTA": 5}
    assert received["frame_bytes_received"] == {"HELLO": 3 + 16 + 8, "PING": 20, "DELTA": 40}
    assert sent["bytes_sent"] == sum(len(flight.datagram) for flight in world.recorded if flight.source == a.address)
    assert sent["bytes_sent"] == received["bytes_received"]
    assert sent["datagrams_sent"] == received["datagrams_received"] == 7
