"""`quorum.log`: the newest blocks of a voter, before `quorum.db` has them. A ring of records in a file that never grows.

A block that is appended to the log of the quorum is nearly all that a voter's disk is ever asked for, and somebody waits each
time. Here it costs one short write to blocks of the disk that exist already; the database takes hundreds of them at once, later.

    record = mark (8), tag (16), number (8), durable (8), handed (8), length (4), payload

`number` rises by one; `durable` is the newest number that was known to be on the disk when this one was written. So what a power
cut tore off (it was promised to nobody) is told from what was on the disk and can no longer be read. Each transaction of the
database takes along what is here, and has a number; `handed` is the newest that was known to be on the disk. So a database that
somebody put back from an older copy is told: it lacks votes. A log from an older copy lacks what the database knows to be synced,
and counts as damaged. `mark` and the key of `tag`
(BLAKE2b) are drawn for each file and start and kept in the database: nothing that a block holds looks like a record, and what an
earlier start left does not either. The first record is empty, and synced before the database knows of the file: a file in which
none can be read, of zeros or of another time, has lost something.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from consensus_escalation.block import Block
from consensus_escalation.effects import BlocksStored
from mesh.errors import Malformed
from mesh.quorum.rows import QuorumBatch
from mesh.store.durable import sync_directory

LOG_NAME: Final = "quorum.log"
RING_BYTES: Final = 2 << 20
"""About 4,000 blocks of one write each. Guess: at 1,000 writes a second the database is busy with them every other second, for
some 10 ms."""
RECORD_BYTES_MAX: Final = RING_BYTES // 4
"""More goes to the database. So what is written over, perhaps torn, never is all that there was."""
SECRET_BYTES: Final = 24
_MARK_BYTES: Final = 8
_TAG_BYTES: Final = 16
_NUMBERS: Final = Struct(">QQQI")
_BLOCK: Final = Struct(">QQHHH")
_HEAD_BYTES: Final = _MARK_BYTES + _TAG_BYTES + _NUMBERS.size
BlockRow = tuple[int, bytes, bytes, bytes, int]
"""Index, header, signature, body; up to where the log was known to be committed when it was written."""


class Place(NamedTuple):
    """What the database says about its log."""

    secret: bytes
    folded: int
    """Number of the newest record that is in the database, too."""
    handed: int = 0
    """Of the transaction that says so."""
    synced: int = 0
    """Number of the newest record that was on the disk then."""


NO_LOG: Final = Place(b"", 0)
"""All that was in it is in the database."""


def block_rows(batch: QuorumBatch, end: int) -> list[BlockRow] | None:
    """The blocks in it; None when there is anything else in it, or they do not all come after the one at `end`."""
    rows: list[BlockRow] = []
    for row in batch.rows:
        if not isinstance(row, BlocksStored) or row.blocks[0].index <= end:
            return None
        rows += rows_of(row.blocks, batch.commit)
        end = row.blocks[-1].index
    return rows or None


def rows_of(blocks: Sequence[Block], commit: int) -> list[BlockRow]:
    return [(block.index, block.header_bytes, block.signature, block.body, commit) for block in blocks]


class BlockLog:
    """The ring while it is written to. Methods that touch the file may raise OSError."""

    def __init__(self, file: int, secret: bytes) -> None:
        """`file`: as `open_ring` gives it, for this secret. It is closed by `close`."""
        self.file, self.secret = file, secret
        self.number = 0
        """Of the newest record."""
        self.synced = 0
        """The newest that is known to be on the disk, in this file."""
        self._head = _HEAD_BYTES
        """Bytes that were ever written or skipped."""
        self._kept: deque[tuple[int, int, QuorumBatch]] = deque()
        """(number, where it begins, what is in it) of each record that is not in the database yet."""
        self._place = Place(secret, 0)
        """What is with the database, or on its way."""
        self._taken = self._place
        """What the database has."""

    def append(self, batch: QuorumBatch, rows: Sequence[BlockRow]) -> bool:
        """Written, and not yet synced. False: there is no room until the database has taken what is here."""
        payload = b"".join([part for row in rows for part in _pack(row)])
        number, size = self.number + 1, _HEAD_BYTES + len(payload)
        place, start = self._head % RING_BYTES, self._head
        if place + size > RING_BYTES:
            start, place = start + RING_BYTES - place, 0
        oldest = self._kept[0][1] if self._kept else start
        if size > RECORD_BYTES_MAX or start + size - oldest > RING_BYTES:
            return False
        durable = max(self.synced, self._taken.folded)
        _write(self.file, _record(self.secret, number, durable, self._taken.handed, payload), place)
        self.number, self._head = number, start + size
        self._kept.append((number, start, batch))
        return True

    @property
    def is_half_full(self) -> bool:
        """With what is not on its way to the database."""
        return bool(self._kept) and self._kept[-1][0] > self._place.folded and self._head - self._kept[0][1] > RING_BYTES // 2

    def was_synced(self, number: int) -> None:
        """All up to this record is on the disk."""
        self.synced = number

    def hand_over(self) -> tuple[list[QuorumBatch], Place]:
        """What the database has yet to take, oldest first, and what it may say then."""
        found = [batch for number, _, batch in self._kept if number > self._place.folded]
        self._place = Place(self.secret, self.number, self._place.handed + 1, self.synced)
        return found, self._place

    def was_taken(self, place: Place) -> None:
        """The database has all up to there."""
        self._taken = place
        while self._kept and self._kept[0][0] <= place.folded:
            self._kept.popleft()

    @property
    def is_there(self) -> bool:
        """Whether the file still has a name: else what is written to it is gone when this process ends."""
        return os.fstat(self.file).st_nlink > 0

    def close(self) -> None:
        os.close(self.file)


def open_ring(directory: Path, secret: bytes) -> int:
    """A file of zeros, or what was there, for a new log to be written over. All of it is allocated: a sync has no more to note
    than the data. Raises OSError, and then it takes no room."""
    path = directory / LOG_NAME
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        found = os.fstat(file)
        if found.st_size != RING_BYTES or found.st_blocks * 512 < RING_BYTES:
            os.ftruncate(file, 0)
            _write(file, bytes(RING_BYTES), 0)
        _write(file, _record(secret, 0, 0, 0, b""), 0)
        os.fsync(file)
        sync_directory(directory)
    except BaseException:
        os.close(file)
        path.unlink()
        raise
    return file


def read_ring(directory: Path, place: Place) -> tuple[list[list[BlockRow]], bool]:
    """(records that the database lacks, in order, whether there were more, which can no longer be read). Raises OSError, and
    Malformed when it is the database that lacks something: it may have forgotten a vote."""
    try:
        raw = (directory / LOG_NAME).read_bytes()
    except FileNotFoundError:
        return [], True
    found = {record.number: record for record in _records(raw, place.secret)}
    if not found:
        return [], True
    if max(record.handed for record in found.values()) > place.handed:
        raise Malformed(f"it is older than {LOG_NAME}")
    promised = max([place.folded, *(record.durable for record in found.values())])
    number, records = place.folded, list[list[BlockRow]]()
    while (record := found.get(number + 1)) is not None:
        number += 1
        records.append(list(_unpacked(record.payload)))
    return records, number < promised or max(found) < place.synced


class _Record(NamedTuple):
    number: int
    durable: int
    handed: int
    payload: bytes


def _records(raw: bytes, secret: bytes) -> Iterator[_Record]:
    """All that are whole, old ones too."""
    mark, place = _mark(secret), 0
    while (place := raw.find(mark, place)) >= 0:
        start = place + _HEAD_BYTES
        place += 1
        if start > len(raw):
            return
        number, durable, handed, length = _NUMBERS.unpack_from(raw, start - _NUMBERS.size)
        tag = raw[start - _NUMBERS.size - _TAG_BYTES : start - _NUMBERS.size]
        if tag == _tag(secret, raw[start - _NUMBERS.size : start + length]):
            yield _Record(number, durable, handed, raw[start : start + length])
            place = start + length


def _write(file: int, data: bytes, place: int) -> None:
    """All of it. A disk that has room for a part of it takes that, and says nothing."""
    if os.pwrite(file, data, place) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _record(secret: bytes, number: int, durable: int, handed: int, payload: bytes) -> bytes:
    numbers = _NUMBERS.pack(number, durable, handed, len(payload))
    return _mark(secret) + _tag(secret, numbers + payload) + numbers + payload


def _mark(secret: bytes) -> bytes:
    return secret[:_MARK_BYTES]


def _tag(secret: bytes, covered: bytes) -> bytes:
    return blake2b(covered, digest_size=_TAG_BYTES, key=secret[_MARK_BYTES:]).digest()


def _pack(row: BlockRow) -> tuple[bytes, bytes, bytes, bytes]:
    index, header, signature, body, known = row
    return _BLOCK.pack(index, known, len(header), len(signature), len(body)), header, signature, body


def _unpacked(payload: bytes) -> Iterator[BlockRow]:
    place = 0
    while place < len(payload):
        index, known, header, signature, body = _BLOCK.unpack_from(payload, place)
        at = place + _BLOCK.size
        signed, place = at + header, at + header + signature + body
        yield index, payload[at:signed], payload[signed : signed + signature], payload[signed + signature : place], known
