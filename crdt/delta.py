"""Deltas: what an author signs and sends. The header names the shelf's whole state after it, the body carries the ops."""

from __future__ import annotations

from typing import Final, final

from crdt import codec
from crdt.body import Body, Decode, body_from_bytes_untrusted, same
from crdt.digest import digest_16
from crdt.errors import Malformed
from crdt.ids import ReplicaId, ShelfId, birth_of, shelf_id
from crdt.limits import BIRTH_LIMIT, HASH_BYTES, SEQ_LIMIT
from crdt.ops import Op

FORMAT: Final = 1
NO_HASH: Final = bytes(HASH_BYTES)
"""`prev_hash` of the first delta of a shelf."""
HEADER_BYTES_MIN: Final = 56
HEADER_BYTES_MAX: Final = 76
"""[1, u32, u48, 16 bytes, 16 bytes, u48, 16 bytes]: 1 + 1 + 5 + 9 + 17 + 17 + 9 + 17; with the smallest numbers 20 less."""
_START: Final = bytes((0x87, FORMAT))
_HASH_HEAD: Final = 0x40 | HASH_BYTES
_HASH_FIELD: Final = 1 + HASH_BYTES


@final
class Header:
    """What an author signs. On the wire [format, birth, seq, prev_hash, shelf_digest, gc_floor, body_hash]; the replica id
    travels outside (COSE kid)."""

    __slots__ = ("body_hash", "gc_floor", "prev_hash", "seq", "shelf", "shelf_digest")

    def __init__(self, shelf: ShelfId, seq: int, prev_hash: bytes, shelf_digest: bytes, gc_floor: int, body_hash: bytes) -> None:
        self.shelf = shelf
        self.seq = seq
        self.prev_hash = prev_hash
        self.shelf_digest = shelf_digest
        self.gc_floor = gc_floor
        self.body_hash = body_hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Header) and self.shelf == other.shelf and self.encoded() == other.encoded()

    def __hash__(self) -> int:
        return hash((self.shelf, self.seq, self.body_hash))

    def encoded(self) -> bytes:
        """By its layout, as it is read."""
        numbers = codec.unsigned(birth_of(self.shelf)) + codec.unsigned(self.seq)
        hashes = codec.byte_string(self.prev_hash) + codec.byte_string(self.shelf_digest)
        return _START + numbers + hashes + codec.unsigned(self.gc_floor) + codec.byte_string(self.body_hash)


class Head:
    """A header with its signature: all that is needed to trust the digest of a shelf."""

    __slots__ = ("_hash", "header", "header_bytes", "signature")

    def __init__(self, header: Header, header_bytes: bytes, signature: bytes) -> None:
        self.header = header
        self.header_bytes = header_bytes
        self.signature = signature
        self._hash: bytes | None = None

    @property
    def hash(self) -> bytes:
        """What the successor's `prev_hash` says, 16 bytes. Computed when asked for: not while many wait for the delta."""
        found = self._hash
        if found is None:
            found = self._hash = digest_16(self.header_bytes)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Head) and self.header_bytes == other.header_bytes and self.header.shelf == other.header.shelf

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"Head({self.header.shelf.hex()} {self.header.seq})"


def is_fork(one: Head, other: Head) -> bool:
    """Whether both, if signed, prove a fork: two headers of one number, or a successor of another predecessor."""
    first, second = sorted((one, other), key=lambda head: head.header.seq)
    if first.header.shelf != second.header.shelf or first.hash == second.hash:
        return False
    distance = second.header.seq - first.header.seq
    return distance == 0 or (distance == 1 and second.header.prev_hash != first.hash)


class Delta:
    """A signed header and its body. Immutable by convention."""

    __slots__ = ("bulk", "content", "head", "wire")

    def __init__(self, head: Head, content: Body, *, bulk: bool = False) -> None:
        self.head = head
        self.content = content
        self.bulk = bulk
        """Not to be pushed eagerly: one of many chunks of a large value, or housekeeping alone. Others pull it."""
        self.wire = b""
        """What it was read from, to be passed on as it is: where replicas in one process share deltas, they share their bytes,
        too. Empty of one that was made here."""

    @property
    def header(self) -> Header:
        return self.head.header

    @property
    def header_bytes(self) -> bytes:
        return self.head.header_bytes

    @property
    def header_hash(self) -> bytes:
        return self.head.hash

    @property
    def signature(self) -> bytes:
        return self.head.signature

    @property
    def body(self) -> bytes:
        return self.content.raw

    @property
    def ops(self) -> tuple[Op, ...]:
        return self.content.ops

    @property
    def shelf(self) -> ShelfId:
        return self.head.header.shelf

    @property
    def seq(self) -> int:
        return self.head.header.seq

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delta) and self.head == other.head

    def __hash__(self) -> int:
        return hash(self.head)

    def __repr__(self) -> str:
        return f"Delta({self.shelf.hex()} {self.seq}, {len(self.ops)} ops)"


def header_from_bytes_untrusted(replica: ReplicaId, raw: bytes) -> Header:
    """The header that `replica` is said to have signed. Raises Malformed.

    Read by its layout: it has but one, so the general way, to decode and then to see whether that was deterministic, asks more
    of a processor that has just woken up than all else about a header.
    """
    if not HEADER_BYTES_MIN <= len(raw) <= HEADER_BYTES_MAX or raw[:2] != _START:
        raise Malformed(f"a header is an array of 7 fields, of format {FORMAT}")
    birth, at = codec.number_untrusted(raw, 2)  # what is sure to be there in the shortest header: no index goes beyond its end
    seq, prev_at = codec.number_untrusted(raw, at)
    digest_at = prev_at + _HASH_FIELD
    gc_floor, body_at = codec.number_untrusted(raw, digest_at + _HASH_FIELD)
    if len(raw) != body_at + _HASH_FIELD or not raw[prev_at] == raw[digest_at] == raw[body_at] == _HASH_HEAD:
        raise Malformed("a header's fields are not where they have to be")
    if birth >= BIRTH_LIMIT:
        raise Malformed("a birth is a number of 32 bits")
    if not 0 < seq < SEQ_LIMIT or gc_floor > seq:
        raise Malformed("a header's seq or gc_floor cannot be")
    prev_hash = raw[prev_at + 1 : digest_at]
    if (seq == 1) != (prev_hash == NO_HASH):
        raise Malformed("a header's hashes cannot be")
    digest = raw[digest_at + 1 : digest_at + _HASH_FIELD]
    return Header(same(shelf_id(replica, birth)), seq, prev_hash, digest, gc_floor, raw[body_at + 1 :])


def seq_of_header(raw: bytes) -> int:
    """The seq of a header that was checked before: of [format, birth, seq, ...] only the numbers are looked at."""
    at, value = 2, 0
    for _ in range(2):  # birth, seq
        first = raw[at]
        size = 1 << first - 24 if first >= 24 else 0  # unsigned: the value itself, or the size of what follows
        value = int.from_bytes(raw[at + 1 : at + 1 + size], "big") if size else first
        at += 1 + size
    return value


def head_from_bytes_untrusted(replica: ReplicaId, raw: bytes, signature: bytes) -> Head:
    """A header with a signature that is still to be verified. Raises Malformed."""
    return Head(header_from_bytes_untrusted(replica, raw), raw, signature)


def delta_from_parts_untrusted(
    replica: ReplicaId, header_bytes: bytes, signature: bytes, body: bytes, decode: Decode = codec.decode_untrusted
) -> Delta:
    """A delta of which all but the signature is checked. Raises Malformed, and what `decode` raises."""
    head = head_from_bytes_untrusted(replica, header_bytes, signature)
    if digest_16(body) != head.header.body_hash:
        raise Malformed("the body is not the one that the header names")
    return Delta(head, body_from_bytes_untrusted(head.header.shelf, head.header.seq, body, decode))
