"""The frames of dissemination, as tuples, each with its encoding and its one untrusted decoder.

All are deterministic CBOR arrays but BODY, which carries stored bytes untouched. Decoders raise `Malformed` only;
what they return is never longer than the frame was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple, final

from crdt.codec import array_head, byte_string, number_untrusted, unsigned
from crdt.errors import Malformed as CrdtMalformed
from crdt.ids import SHELF_ID_BYTES, ShelfId
from mesh.errors import Malformed
from mesh.wire import cbor
from mesh.wire.packer import FRAME_BYTES_MAX

SHORT_HASH_BYTES: Final = 4
"""Of a header hash, beside a floor: enough to notice a fork, not to prove one (DESIGN section 2)."""
HASH_BYTES: Final = 16
U64: Final = 1 << 64
FLOORS_BYTES_MAX: Final = FRAME_BYTES_MAX - 40
"""Floors in one frame; around them at most [u8, 12 bytes, 12 bytes, array]: 1 + 2 + 13 + 13 + 3."""


@final
class Floor:
    """Where one shelf stands at the sender. seq 0 with an empty hash: nothing held. `loose`: seqs held above the
    floor.
    """

    __slots__ = ("hash4", "loose", "seq", "shelf")

    def __init__(self, shelf: ShelfId, seq: int, hash4: bytes, loose: tuple[int, ...] = ()) -> None:
        self.shelf = shelf
        self.seq = seq
        self.hash4 = hash4
        self.loose = loose

    def naming(self, loose: tuple[int, ...]) -> Floor:
        """The same, with these as what is loose."""
        return Floor(self.shelf, self.seq, self.hash4, loose)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Floor) and _fields(self) == _fields(other)

    def __hash__(self) -> int:
        return hash(_fields(self))

    def __repr__(self) -> str:
        return f"Floor({self.shelf.hex()} {self.seq} {self.hash4.hex()} {self.loose})"


def _fields(floor: Floor) -> tuple[ShelfId, int, bytes, tuple[int, ...]]:
    return floor.shelf, floor.seq, floor.hash4, floor.loose


def _array_untrusted(payload: bytes, length: int) -> Sequence[Any]:
    fields = cbor.decode_untrusted(payload)
    if not isinstance(fields, tuple) or len(fields) != length:
        raise Malformed(f"expected an array of {length}")
    return fields


def _int_untrusted(value: object) -> int:
    if type(value) is not int or not 0 <= value < U64:
        raise Malformed("expected an unsigned integer")
    return value


def _bytes_untrusted(value: object, length: int | None = None) -> bytes:
    if type(value) is not bytes or (length is not None and len(value) != length):
        raise Malformed("expected a byte string of fixed length")
    return value


def _shelf_untrusted(value: object) -> ShelfId:
    return ShelfId(_bytes_untrusted(value, SHELF_ID_BYTES))


def _tuple_untrusted(value: object) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise Malformed("expected an array")
    return value


def _flag_untrusted(value: object) -> bool:
    if not isinstance(value, bool):
        raise Malformed("expected true or false")
    return value


def _pack_floors(floors: Sequence[Floor]) -> list[object]:
    return [[f.shelf, f.seq, f.hash4, *f.loose] for f in floors]


def _floors_untrusted(value: object) -> tuple[Floor, ...]:
    floors = []
    for fields in _tuple_untrusted(value):  # in one piece: a few floors come with every delta
        if type(fields) is not tuple or len(fields) < 3:
            raise Malformed("a floor has a shelf, a seq and a hash")
        shelf, seq, hash4 = fields[:3]
        if type(shelf) is not bytes or len(shelf) != SHELF_ID_BYTES or type(seq) is not int or not 0 <= seq < U64:
            raise Malformed("a floor's shelf or seq cannot be")
        if type(hash4) is not bytes or len(hash4) != (SHORT_HASH_BYTES if seq else 0):
            raise Malformed("a floor's hash cannot be")
        loose = tuple([_int_untrusted(each) for each in fields[3:]]) if len(fields) > 3 else ()
        floors.append(Floor(ShelfId(shelf), seq, hash4, loose))
    return tuple(floors)


def _int_bytes(value: int) -> int:
    """Of an unsigned integer, or of the head before so many bytes or items, in CBOR."""
    return 1 if value < 24 else 2 if value < 1 << 8 else 3 if value < 1 << 16 else 5 if value < 1 << 32 else 9


def _floor_bytes(floor: Floor) -> int:
    loose = sum(map(_int_bytes, floor.loose))
    return _int_bytes(3 + len(floor.loose)) + 1 + SHELF_ID_BYTES + _int_bytes(floor.seq) + 1 + len(floor.hash4) + loose


REPAIRS_PER_WANT: Final = 64
"""Frames sent for one WANT at most; what is named after that is not answered. Bounds what one small datagram can cause."""


def framed(floors: Iterable[Floor], bytes_max: int = FLOORS_BYTES_MAX) -> list[tuple[Floor, ...]]:
    """The floors in the same order, in as many parts as they need so that each fits a frame. Counted in bytes: authors choose
    their seqs, and who is far behind holds many loose ones.
    """
    parts: list[tuple[Floor, ...]] = []
    part: list[Floor] = []
    room = bytes_max
    for floor in floors:
        size = _floor_bytes(floor)
        if size > room and part:
            parts.append(tuple(part))
            part, room = [], bytes_max
        part.append(floor)
        room -= size
    if part:
        parts.append(tuple(part))
    return parts


class Purpose(IntEnum):
    """Why a floor is sent."""

    TELL = 0
    """Shelves stand here: ask for what you lack."""
    ASK_RECEIVED = 1
    """And answer at once when you have it."""
    ASK_DURABLE = 2
    """And answer when you have it as durably as you promise."""
    SAY_RECEIVED = 3
    SAY_DURABLE = 4


PURPOSES: Final = tuple(Purpose)
NOTES_READ_MAX: Final = 256
"""Floor notes kept as they were read. Guess: those that are repeated, or sent by several, within a second or so."""


@final
class FloorNote:
    """FLOOR: "shelves stand here"."""

    __slots__ = ("floors", "purpose")

    def __init__(self, floors: tuple[Floor, ...], purpose: Purpose = Purpose.TELL) -> None:
        self.floors = floors
        self.purpose = purpose

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FloorNote) and self.purpose is other.purpose and self.floors == other.floors

    def __hash__(self) -> int:
        return hash((self.floors, self.purpose))

    def encode(self) -> bytes:
        """By its layout, as most are read: where others wait for a write, floors are encoded before they have it."""
        parts = [array_head(2), array_head(len(self.floors))]
        for floor in self.floors:
            parts += (array_head(3 + len(floor.loose)), byte_string(floor.shelf), unsigned(floor.seq))
            parts += (byte_string(floor.hash4), *[unsigned(seq) for seq in floor.loose])
        parts.append(unsigned(self.purpose))
        return b"".join(parts)

    @staticmethod
    @lru_cache(maxsize=NOTES_READ_MAX)
    def decode_untrusted(payload: bytes) -> FloorNote:
        """One object for the same bytes: floors are repeated until they are answered."""
        plain = _plain_note_untrusted(payload)
        if plain is not None:
            return plain
        floors, purpose = _array_untrusted(payload, 2)
        if _int_untrusted(purpose) >= len(PURPOSES):
            raise Malformed("a floor is sent for a purpose from 0 to 4")
        return FloorNote(_floors_untrusted(floors), PURPOSES[purpose])


def only_tells_untrusted(payload: bytes) -> bool:
    """Whether this floor note, if it is one, wants no answer."""
    return payload.endswith(_TELLS)


_TELLS: Final = bytes((Purpose.TELL,))
_FLOOR_HEAD: Final = bytes((0x83, 0x40 | SHELF_ID_BYTES))
_HASH4_HEAD: Final = 0x40 | SHORT_HASH_BYTES
_NOTE_BYTES_MIN: Final = 2 + len(_FLOOR_HEAD) + SHELF_ID_BYTES + 1 + 1 + SHORT_HASH_BYTES + 1


def _plain_note_untrusted(payload: bytes) -> FloorNote | None:
    """What most floors are, up to 23 with nothing loose, read by their layout: they come beside nearly every delta, and before
    its reader hears of it. None: look at it the general way."""
    end = len(payload) - 1
    if len(payload) < _NOTE_BYTES_MIN or payload[0] != 0x82 or not 0x80 < payload[1] < 0x98 or payload[end] >= len(PURPOSES):
        return None
    floors = []
    at = 2
    for _ in range(payload[1] - 0x80):
        shelf_at = at + len(_FLOOR_HEAD)
        seq_at = shelf_at + SHELF_ID_BYTES
        if seq_at >= end or payload[at:shelf_at] != _FLOOR_HEAD:
            return None
        try:
            seq, at = number_untrusted(payload, seq_at)
        except CrdtMalformed:
            return None
        if at >= end or payload[at] != _HASH4_HEAD or not seq:
            return None
        floors.append(Floor(ShelfId(payload[shelf_at:seq_at]), seq, payload[at + 1 : at + 1 + SHORT_HASH_BYTES]))
        at += 1 + SHORT_HASH_BYTES
    return FloorNote(tuple(floors), PURPOSES[payload[end]]) if at == end else None


class Digest(NamedTuple):
    """DIGEST: one datagram whatever the size of the mesh.

    `acknowledged`: the sender's durable floor of the receiver's shelf. `trust`: 8 bytes of the hash of the sender's
    statement set. `buckets`: one short hash per bucket of shelves. `changed`: floors that moved lately, newest first.
    `request`: answer with your own.
    """

    request: bool
    acknowledged: Floor
    trust: bytes
    buckets: bytes
    changed: tuple[Floor, ...]

    def encode(self) -> bytes:
        return cbor.encode(
            [self.request, _pack_floors([self.acknowledged])[0], self.trust, self.buckets, _pack_floors(self.changed)]
        )

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> Digest:
        request, acknowledged, trust, buckets, changed = _array_untrusted(payload, 5)
        return cls(
            _flag_untrusted(request),
            _floors_untrusted((acknowledged,))[0],
            _bytes_untrusted(trust, 8),
            _bytes_untrusted(buckets),
            _floors_untrusted(changed),
        )


class BucketPage(NamedTuple):
    """BUCKETS: all floors of the sender in `bucket` whose shelf id is in (low, high]; a shelf missing there is one it
    does not hold.
    """

    bucket: int
    low: bytes
    high: bytes
    floors: tuple[Floor, ...]

    def encode(self) -> bytes:
        return cbor.encode([self.bucket, self.low, self.high, _pack_floors(self.floors)])

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> BucketPage:
        bucket, low, high, floors = _array_untrusted(payload, 4)
        return cls(
            _int_untrusted(bucket),
            _bytes_untrusted(low, SHELF_ID_BYTES),
            _bytes_untrusted(high, SHELF_ID_BYTES),
            _floors_untrusted(floors),
        )


class Want(NamedTuple):
    """WANT: "send me what lies above these floors"; the loose seqs named are held already."""

    floors: tuple[Floor, ...]

    def encode(self) -> bytes:
        return cbor.encode(_pack_floors(self.floors))

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> Want:
        return cls(_floors_untrusted(cbor.decode_untrusted(payload)))


class WantListing(NamedTuple):
    """WANT_LISTING: the page from `offset` of the listing of `shelf` above `since` at `head`; head 0 or since 0 mean
    the newest, the whole.
    """

    shelf: ShelfId
    since: int
    head: int
    offset: int

    def encode(self) -> bytes:
        return cbor.encode(list(self))

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> WantListing:
        shelf, since, head, offset = _array_untrusted(payload, 4)
        return cls(_shelf_untrusted(shelf), _int_untrusted(since), _int_untrusted(head), _int_untrusted(offset))


class ListingEntry(NamedTuple):
    """One body of a base and which of its ops are live there: `place` is its seq in the host's chain (crdt.Entry on
    the wire).
    """

    place: int
    shelf: ShelfId
    seq: int
    body_hash: bytes
    mask: int


class ListingPage(NamedTuple):
    """LISTING: entries [offset, offset + len) of `total`, of the live ops of S(head) above `since`, with the signed
    header of the head.
    """

    shelf: ShelfId
    since: int
    header: bytes
    signature: bytes
    total: int
    offset: int
    entries: tuple[ListingEntry, ...]

    def encode(self) -> bytes:
        packed = [
            [e.place, e.body_hash, _mask_bytes(e.mask)] + ([] if e.shelf == self.shelf and e.seq == e.place else [e.shelf, e.seq])
            for e in self.entries
        ]
        return cbor.encode([self.shelf, self.since, self.header, self.signature, self.total, self.offset, packed])

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> ListingPage:
        fields = _array_untrusted(payload, 7)
        shelf = _shelf_untrusted(fields[0])
        return cls(
            shelf,
            _int_untrusted(fields[1]),
            _bytes_untrusted(fields[2]),
            _bytes_untrusted(fields[3], 64),
            _int_untrusted(fields[4]),
            _int_untrusted(fields[5]),
            tuple(_entry_untrusted(shelf, item) for item in _tuple_untrusted(fields[6])),
        )


def _mask_bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "big")


def _entry_untrusted(shelf: ShelfId, item: object) -> ListingEntry:
    fields = _tuple_untrusted(item)
    if len(fields) not in (3, 5):
        raise Malformed("a listing entry has 3 or 5 fields")
    place, body_hash, mask = _int_untrusted(fields[0]), _bytes_untrusted(fields[1], HASH_BYTES), _bytes_untrusted(fields[2])
    if not 1 <= len(mask) <= 32 or not mask[0]:
        raise Malformed("a mask of live ops has 1 to 32 bytes and no leading zero")
    if len(fields) == 3:
        return ListingEntry(place, shelf, place, body_hash, int.from_bytes(mask, "big"))
    return ListingEntry(place, _shelf_untrusted(fields[3]), _int_untrusted(fields[4]), body_hash, int.from_bytes(mask, "big"))


class WantBodies(NamedTuple):
    """WANT_BODIES: (shelf, seq) pairs out of a listing; `host` and `head` name the listing that they come from."""

    host: ShelfId
    head: int
    bodies: tuple[tuple[ShelfId, int], ...]

    def encode(self) -> bytes:
        own = [seq if shelf == self.host else [shelf, seq] for shelf, seq in self.bodies]
        return cbor.encode([self.host, self.head, own])

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> WantBodies:
        fields = _array_untrusted(payload, 3)
        host = _shelf_untrusted(fields[0])
        bodies = []
        for item in _tuple_untrusted(fields[2]):
            if type(item) is int:
                bodies.append((host, _int_untrusted(item)))
            else:
                pair = _tuple_untrusted(item)
                if len(pair) != 2:
                    raise Malformed("a body is named by a shelf and a seq")
                bodies.append((_shelf_untrusted(pair[0]), _int_untrusted(pair[1])))
        return cls(host, _int_untrusted(fields[1]), tuple(bodies))


class BodyNote(NamedTuple):
    """BODY: shelf (12) || seq (u64) || the body as its author encoded it."""

    shelf: ShelfId
    seq: int
    raw: bytes

    def encode(self) -> bytes:
        return self.shelf + self.seq.to_bytes(8, "big") + self.raw

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> BodyNote:
        if len(payload) <= SHELF_ID_BYTES + 8:
            raise Malformed("a body frame is longer than its head")
        return cls(ShelfId(payload[:12]), int.from_bytes(payload[12:20], "big"), payload[20:])


class TrustIds(NamedTuple):
    """TRUST_IDS: the ids (8 bytes each, ascending) of all statements that the sender holds in (low, high]."""

    low: bytes
    high: bytes
    ids: bytes

    def encode(self) -> bytes:
        return cbor.encode(list(self))

    @classmethod
    def decode_untrusted(cls, payload: bytes) -> TrustIds:
        low, high, ids = _array_untrusted(payload, 3)
        page = cls(_bytes_untrusted(low, 8), _bytes_untrusted(high, 8), _bytes_untrusted(ids))
        if len(page.ids) % 8:
            raise Malformed("statement ids have 8 bytes each")
        return page

    def each(self) -> list[bytes]:
        return [self.ids[i : i + 8] for i in range(0, len(self.ids), 8)]
