"""What agents say about the quorum beside Raft itself (`consensus_escalation.wire`): blocks and proofs for everybody, questions,
entries for the leader. Each payload is one deterministic CBOR array; all but a block begin with the quorum's epoch."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from consensus_escalation.block import Entry
from consensus_escalation.certificate import Ack
from consensus_escalation.types import HASH_BYTES
from consensus_escalation.wire import acks_from_value_untrusted, acks_to_value, batch_from_value_untrusted, batch_to_value
from crdt.ids import REPLICA_ID_BYTES, ReplicaId
from mesh.errors import Malformed
from mesh.wire import cbor

SHORT_HASH_BYTES: Final = 4
WANTED_MAX: Final = 64
"""Blocks asked for at once: 60 kB, a socket buffer's third."""
REASON_BYTES_MAX: Final = 200
PIECE_BYTES: Final = 1000


class Proof(NamedTuple):
    """A certificate, for whoever has the blocks."""

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    hash: bytes
    acks: tuple[Ack, ...]

    def encode(self) -> bytes:
        return cbor.encode([self.epoch, self.index, self.hash, acks_to_value(self.acks)])

    @classmethod
    def decode_untrusted(cls, raw: bytes) -> Proof:
        """Raises Malformed."""
        epoch, index, digest, acks = _array(raw, 4)
        return cls(_number(epoch), _number(index), _bytes(digest, HASH_BYTES), acks_from_value_untrusted(acks))


class Standing(NamedTuple):
    """How far somebody is, and whom it takes for the leader."""

    epoch: int
    applied: int
    proven: int
    hash: bytes
    """Of the block at `applied`: its beginning."""
    step: int
    """The first change of voters that it applied and could not prove; 0 when there is none."""
    term: int
    leader: ReplicaId | None
    wants_answer: bool

    def encode(self) -> bytes:
        return cbor.encode(list(self))

    @classmethod
    def decode_untrusted(cls, raw: bytes) -> Standing:
        """Raises Malformed."""
        epoch, applied, proven, digest, step, term, leader, wants = _array(raw, 8)
        if type(wants) is not bool:
            raise Malformed("expected true or false")
        return cls(
            _number(epoch),
            _number(applied),
            _number(proven),
            _bytes(digest, SHORT_HASH_BYTES),
            _number(step),
            _number(term),
            None if leader is None else ReplicaId(_bytes(leader, REPLICA_ID_BYTES)),
            wants,
        )


class Want(NamedTuple):
    """Blocks that somebody lacks. With none named: pieces of a bundle, from `offset`."""

    epoch: int
    after: int
    """All up to here is applied; proofs of changes of voters above it are wanted, too."""
    indexes: tuple[int, ...]
    step: int
    """An applied change of voters whose proof is wanted, or 0."""
    bundle: int = 0
    """Pieces of the bundle with the snapshot at this index are wanted, or of any newer one; 0: none."""
    offset: int = 0

    def encode(self) -> bytes:
        return cbor.encode([self.epoch, self.after, list(self.indexes), self.step, self.bundle, self.offset])

    @classmethod
    def decode_untrusted(cls, raw: bytes) -> Want:
        """Raises Malformed."""
        epoch, after, indexes, step, bundle, offset = _array(raw, 6)
        if not isinstance(indexes, tuple) or len(indexes) > WANTED_MAX:
            raise Malformed(f"at most {WANTED_MAX} blocks are asked for at once")
        wanted = tuple(_number(each) for each in indexes)
        return cls(_number(epoch), _number(after), wanted, _number(step), _number(bundle), _number(offset))


class Piece(NamedTuple):
    """Of a bundle (`consensus_escalation.chain`)."""

    epoch: int
    bundle: int
    total: int
    offset: int
    data: bytes

    def encode(self) -> bytes:
        return cbor.encode(list(self))

    @classmethod
    def decode_untrusted(cls, raw: bytes) -> Piece:
        """Raises Malformed."""
        epoch, bundle, total, offset, data = _array(raw, 5)
        if type(data) is not bytes or len(data) > PIECE_BYTES:
            raise Malformed("a piece has another size")
        return cls(_number(epoch), _number(bundle), _number(total), _number(offset), data)


class Request(NamedTuple):
    """Entries for the leader. `forwarded`: somebody passed it on already."""

    epoch: int
    forwarded: bool
    batch: tuple[Entry, ...]

    def encode(self) -> bytes:
        return cbor.encode([self.epoch, self.forwarded, batch_to_value(self.batch)])

    @classmethod
    def decode_untrusted(cls, raw: bytes) -> Request:
        """Raises Malformed."""
        epoch, forwarded, batch = _array(raw, 3)
        if type(forwarded) is not bool:
            raise Malformed("expected true or false")
        return cls(_number(epoch), forwarded, batch_from_value_untrusted(batch))


class Answer(NamedTuple):
    """The entries from (since, number) on, `count` of them, were not put into the log by the sender, and why."""

    epoch: int
    since: int
    number: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which has no use here
    reason: str
    term: int
    leader: ReplicaId | None

    def encode(self) -> bytes:
        reason = self.reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        return cbor.encode(list(self._replace(reason=reason)))

    @classmethod
    def decode_untrusted(cls, raw: bytes) -> Answer:
        """Raises Malformed."""
        epoch, since, number, count, reason, term, leader = _array(raw, 7)
        if type(reason) is not str or len(reason.encode()) > REASON_BYTES_MAX:
            raise Malformed("a reason is a short text")
        who = None if leader is None else ReplicaId(_bytes(leader, REPLICA_ID_BYTES))
        return cls(_number(epoch), _number(since), _number(number), _number(count), reason, _number(term), who)


def _array(raw: bytes, length: int) -> tuple[Any, ...]:
    value = cbor.decode_untrusted(raw)
    if not isinstance(value, tuple) or len(value) != length:
        raise Malformed(f"expected an array of {length}")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise Malformed("a number is not negative and has 64 bits")
    return value


def _bytes(value: object, length: int) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise Malformed(f"expected {length} bytes")
    return value
