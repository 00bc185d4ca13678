"""Bodies: what is packed is what is read, sizes are exact, hostile bytes raise only Malformed."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import Malformed, body_from_bytes_untrusted, codec, delta_from_parts_untrusted
from crdt.body import Body
from crdt.delta import NO_HASH, Head, Header, header_from_bytes_untrusted
from crdt.digest import digest_16
from crdt.frozen import FrozenMap
from crdt.ids import ReplicaId, ShelfId, make_dot
from crdt.limits import BODY_BYTES_LIMIT, SEGMENT_BYTES_MAX
from crdt.ops import DROPPED, LARGE, NO_RIGHTS, REMOVED, TAKEOVER, VALUE, WHILE_ALIVE, Cover, Op, Rights, Segment
from crdt.packer import BodyWriter
from tests.crdt.meshes import replica, shelf_of

ME, OTHER, FORMER = shelf_of("A"), shelf_of("B"), shelf_of("A", 2)
SEQ, TIME, RIGHTS = 7, 1_700_000_000_000_000, Rights(3, 1)

SEGMENTS: st.SearchStrategy[Segment] = st.sampled_from(["robots", "7", "pose", "ü" * 20, b"\x01", b"pose"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(tuple)
SHELVES = st.sampled_from([ME, OTHER, shelf_of("C"), shelf_of("A", 2)])
COVERS = st.lists(st.builds(Cover, SHELVES, st.integers(256, 2**40), st.integers(0, 2**32 - 1)), max_size=3).map(tuple)
PAYLOADS = st.sampled_from([None, True, 1.5, -1, "text", b"bytes", (1, (2.5, "x")), FrozenMap({"a": (1,)})])


@st.composite
def ops(draw: st.DrawFn) -> list[Op]:
    """Fresh ops and ops issued again, of several origins, in any order."""
    drawn = []
    for index in range(draw(st.integers(0, 12))):
        fresh = draw(st.booleans())
        origin = ME if fresh else draw(SHELVES)
        dot = make_dot(SEQ, index) if fresh else make_dot(draw(st.integers(1, SEQ - 1)), draw(st.integers(0, 254)))
        time = TIME if fresh else TIME - draw(st.integers(0, 10**12))
        kind = draw(st.sampled_from([VALUE, REMOVED, VALUE | WHILE_ALIVE]))
        rights = RIGHTS if fresh else draw(st.sampled_from([RIGHTS, Rights(1, 1)]))
        drawn.append(Op(kind, draw(st.integers(1, 9)), draw(PATHS), draw(PAYLOADS), draw(COVERS), origin, dot, time, rights))
    return drawn


def packed(drawn: list[Op], limit: int = 1000, seq: int = SEQ) -> Body:
    writer = BodyWriter(ME, seq, RIGHTS, TIME)
    for op in drawn:
        writer.add(op, limit)
    return writer.finish()


@settings(max_examples=120, deadline=None)
@given(ops(), st.sampled_from([300, 1000]))
def test_what_is_packed_is_what_is_read(drawn: list[Op], limit: int) -> None:
    writer = BodyWriter(ME, SEQ, RIGHTS, TIME)
    taken = [op for op in drawn if writer.add(op, limit)]
    body = writer.finish()
    assert writer.size == len(body.raw) <= limit
    read = body_from_bytes_untrusted(ME, SEQ, body.raw)
    assert read.ops == body.ops == tuple(taken)
    assert read.rights == RIGHTS
    assert codec.encode(codec.decode_untrusted(body.raw)) == body.raw
    assert cbor2.dumps(cbor2.loads(body.raw), canonical=True) == body.raw


@settings(max_examples=100, deadline=None)
@given(ops().filter(bool), st.data())
def test_an_op_in_another_ones_place(drawn: list[Op], data: st.DataObject) -> None:
    writer = BodyWriter(ME, SEQ, RIGHTS, TIME)
    for op in drawn:
        writer.add(op, 1000)
    at = data.draw(st.integers(0, len(writer.ops) - 1))
    kept = list(writer.ops)
    dot, payload = make_dot(SEQ, at), data.draw(st.binary(max_size=900))
    taken = writer.replace(at, kept[at]._replace(origin=ME, dot=dot, time=TIME, rights=RIGHTS, payload=payload), 1000)
    body = writer.finish()
    assert writer.size == len(body.raw) <= 1000
    assert body.ops[at].payload == (payload if taken else kept[at].payload)
    assert body_from_bytes_untrusted(ME, SEQ, body.raw).ops == tuple(writer.ops)
    if not taken:
        assert writer.ops == kept


@settings(max_examples=50, deadline=None)
@given(ops(), st.integers(0, 2**50))
def test_another_time_for_fresh_ops_only(drawn: list[Op], time: int) -> None:
    writer = BodyWriter(ME, SEQ, RIGHTS, TIME)
    for op in drawn:
        writer.add(op, 900)
    before = list(writer.ops)
    assert writer.retime(time, 1000)
    after = body_from_bytes_untrusted(ME, SEQ, writer.finish().raw).ops
    assert [op.time for op in after] == [time if op.origin == ME and op.dot >> 8 == SEQ else op.time for op in before]


def test_neighbours_cost_a_byte_when_issued_again() -> None:
    fresh = [Op(VALUE, 1, ("set", f"e{n}"), True, (), ME, make_dot(SEQ, n), TIME, RIGHTS) for n in range(20)]
    again = BodyWriter(ME, SEQ + 5, RIGHTS, TIME + 10**6)
    for op in fresh:
        assert again.add(op, 1000)
    body = again.finish()
    assert len(body.raw) <= len(packed(fresh).raw) + len(fresh) + 12
    assert body_from_bytes_untrusted(ME, SEQ + 5, body.raw).ops == tuple(fresh)


def test_a_small_op_costs_little() -> None:
    """The bar of the project: a 20-byte path and a float, without covers, in a signed delta of 240 bytes."""
    delta = replica("A").write(1, ("robots", "r7", "battery/v"), 11.7, now_wall=TIME)
    assert len(delta.header_bytes) + len(delta.body) <= 120


# --- hostile bodies

FIELDS: list[Any] = [(0, 0), TIME, (), ()]


def raw_body(*items: Any, rights: Any = (0, 0), time: Any = TIME, origins: Any = (OTHER,), more: tuple[Any, ...] = ()) -> bytes:
    return codec.encode([rights, time, origins, items, *more])


def takeover(former: Any = FORMER, payload: Any = (5, 1)) -> list[Any]:
    return [TAKEOVER, 0, [0, former], payload]


PATH = [0, "p"]
MALFORMED = {
    "not an array": codec.encode({"a": 1}),
    "too few parts": codec.encode([(0, 0), TIME, ()]),
    "too many parts": raw_body(more=(8, 8)),
    "width 1 spelled out": raw_body(more=(1,)),
    "width too large": raw_body(more=(257,)),
    "rights are a number": raw_body(rights=1),
    "rights are bools": raw_body(rights=(True, 0)),
    "negative time": raw_body(time=-1),
    "time of 64 bits": raw_body(time=2**63),
    "origins are text": raw_body(origins=("x" * 12,)),
    "origin too short": raw_body(origins=(b"x" * 11,)),
    "op of three fields": raw_body([0, 1, PATH]),
    "op of ten fields": raw_body([0, 1, PATH, 0, (), 0, 0, 0, (0, 0), 0]),
    "five options without covers": raw_body([0, 1, PATH, 0, 0, 0, 0, (0, 0), 0]),
    "kind of 16": raw_body([16, 1, PATH, 0]),
    "kind is a bool": raw_body([False, 1, PATH, 0]),
    "type of 256": raw_body([0, 256, PATH, 0]),
    "path is empty": raw_body([0, 1, [], 0]),
    "path of no segments": raw_body([0, 1, [0], 0]),
    "path shares what is not there": raw_body([0, 1, [1, "x"], 0]),
    "path of 17 segments": raw_body([0, 1, [0, *"abcdefghijklmnopq"], 0]),
    "segment is a number": raw_body([0, 1, [0, 5], 0]),
    "segment is empty": raw_body([0, 1, [0, ""], 0]),
    "segment of 257 bytes": raw_body([0, 1, [0, "ü" * 128 + "x"], 0]),
    "covers of two fields": raw_body([0, 1, PATH, 0, (1, 256)]),
    "cover of an unknown origin": raw_body([0, 1, PATH, 0, (2, 256, 0)]),
    "cover with a check of 33 bits": raw_body([0, 1, PATH, 0, (1, 256, 2**32)]),
    "dot before the first": raw_body([0, 1, PATH, 0, -SEQ - 1]),
    "dot beyond the last": raw_body([0, 1, PATH, 0, 2**60]),
    "time before 1970": raw_body([0, 1, PATH, 0, -1, -TIME - 1]),
    "unknown origin": raw_body([0, 1, PATH, 0, -1, 0, 2]),
    "dropped with a payload": raw_body([DROPPED, 1, PATH, 0]),
    "dropped with covers": raw_body([DROPPED, 1, PATH, None, (1, 256, 0)]),
    "dropped with a flag": raw_body([DROPPED | WHILE_ALIVE, 1, PATH, None]),
    "two takeovers": raw_body(takeover(), takeover(shelf_of("A", 3))),
    "takeover at a register": raw_body([TAKEOVER, 1, [0, OTHER], (5, 1)]),
    "takeover of text": raw_body(takeover("x" * 12)),
    "takeover of a replica": raw_body(takeover(b"x" * 8)),
    "takeover of half a run": raw_body(takeover(payload=(5, 1, 2))),
    "takeover up to -1": raw_body(takeover(payload=(-1, 1))),
    "large payload of three": raw_body([LARGE, 1, PATH, (0, 5, b"h" * 16)]),
    "large payload of half a hash": raw_body([LARGE, 1, PATH, (0, 5, b"h" * 15, 0)]),
    "chunk of text": raw_body([VALUE, 0, [0, b"h" * 16], "text"]),
    "removed chunk": raw_body([REMOVED, 0, [0, b"h" * 16], b"x"]),
    "larger than a datagram": raw_body([0, 1, PATH, b"x" * BODY_BYTES_LIMIT]),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_hostile_bodies_are_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        body_from_bytes_untrusted(ME, SEQ, raw)


@settings(max_examples=200, deadline=None)
@given(ops(), st.data())
def test_damaged_bodies_raise_only_malformed(drawn: list[Op], data: st.DataObject) -> None:
    raw = bytearray(packed(drawn).raw)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        body = body_from_bytes_untrusted(ME, SEQ, bytes(raw))
    except Malformed:
        return
    assert body.raw == raw


ARRAYS = st.recursive(
    st.integers(-5, 300) | st.sampled_from(["p", b"x" * 12, b"y" * 16, None, True, 1.5]), st.lists, max_leaves=12
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(ARRAYS, max_size=9), max_size=3), ARRAYS)
def test_bodies_of_odd_shapes_raise_only_malformed(items: list[Any], part: Any) -> None:
    for raw in (raw_body(*items), raw_body(*items, rights=part), raw_body(*items, origins=part), raw_body(more=(part,))):
        try:
            body_from_bytes_untrusted(ME, SEQ, raw)
        except Malformed:
            continue


def test_the_longest_segment_is_read() -> None:
    body = body_from_bytes_untrusted(ME, SEQ, raw_body([0, 1, [0, "ü" * (SEGMENT_BYTES_MAX // 2)], 0]))
    assert body.ops[0].path == ("ü" * (SEGMENT_BYTES_MAX // 2),)


def test_content_that_cannot_be_right_is_void_not_malformed() -> None:
    """The chain goes on: only its author is to blame, and only these ops do not count."""
    newer = [0, 1, PATH, "an own op issued again that is not older", 0]
    chunk = [VALUE, 0, [0, b"h" * 16], b"not what the name says"]
    right = [VALUE, 0, [0, digest_16(b"chunk")], b"chunk"]
    body = body_from_bytes_untrusted(ME, SEQ, raw_body([0, 1, [0, "q"], 1], newer, chunk, right))
    assert body.faulty == 0b0110


def test_headers() -> None:
    header = Header(ME, SEQ, b"p" * 16, b"d" * 16, 5, b"b" * 16)
    owner = ReplicaId(ME[:8])
    assert header_from_bytes_untrusted(owner, header.encoded()) == header
    assert len(header.encoded()) <= 76
    wrong: list[tuple[int, Any]] = [
        (0, 2),
        (0, True),
        (1, 2**32),
        (2, 0),
        (2, 2**48),
        (3, b"short"),
        (3, NO_HASH),
        (5, SEQ + 1),
        (6, "x" * 16),
    ]
    for at, value in wrong:
        fields: list[Any] = [*codec.decode_untrusted(header.encoded())]  # type: ignore[misc]
        fields[at] = value
        with pytest.raises(Malformed):
            header_from_bytes_untrusted(owner, codec.encode(fields))


def test_no_number_below_zero_is_written_as_another() -> None:
    for number in (-1, -5, -300):
        with pytest.raises(OverflowError):
            codec.unsigned(number)


def test_a_delta_is_the_body_that_its_header_names() -> None:
    owner, body = ReplicaId(ME[:8]), packed([])
    header = Header(ME, SEQ, b"p" * 16, b"d" * 16, 0, body.hash).encoded()
    delta = delta_from_parts_untrusted(owner, header, b"signature", body.raw)
    assert (delta.shelf, delta.seq, delta.body, delta.signature) == (ME, SEQ, body.raw, b"signature")
    assert delta == delta_from_parts_untrusted(owner, header, b"signature", body.raw)
    assert delta.head == Head(delta.header, header, b"signature")
    with pytest.raises(Malformed, match="not the one"):
        delta_from_parts_untrusted(owner, header, b"signature", packed([], seq=8).raw + b"\x00")


def test_origins_and_rights_are_one_object_however_often_they_come() -> None:
    raw = packed([Op(VALUE, 1, ("p",), 1, (Cover(OTHER, 256, 1),), ME, make_dot(SEQ, 0), TIME, RIGHTS)]).raw
    one, other = (body_from_bytes_untrusted(ShelfId(bytes(ME)), SEQ, raw) for _ in range(2))
    assert one.ops[0].covers[0].origin is other.ops[0].covers[0].origin
    assert one.rights is other.rights
    assert one.ops[0].rights != NO_RIGHTS
