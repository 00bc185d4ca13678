"""`quorum.db`: term, vote, log, verdicts, snapshot and proofs of the quorum. Blocking; one thread at a time.

| table | key | holds |
| --- | --- | --- |
| blocks | index | one block of the log, and up to where the log was known to be committed when it was written |
| facts | name | epoch and genesis; term and vote; the newest certificate; that this agent takes part; its `quorum.log` |
| steps | index | a change of voters and what proves it |
| states | name | the snapshot, and the bundle for others |
| verdicts | proposal | this voter's verdicts of the term |

Every row ends with a CRC-32 of its columns. SQLite's write-ahead log undoes a torn commit by itself: nobody was told of it. A
block whose row is damaged is left out with all above it, and the place is reported: a voter that forgot what it acknowledged
must not vote until a leader has told it again (`mesh.quorum.quorum`). Damage anywhere else is an error with the way out.

The newest blocks of a voter may be in `quorum.log` alone (`mesh.store.block_log`): what is found there at a start is taken over
first.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from consensus_escalation.effects import BlocksStored, SnapshotStored, TermAndVote, VerdictStored
from consensus_escalation.kept import Bundle, Proof, Step
from consensus_escalation.verdict import Verdict
from consensus_escalation.wire import (
    acks_from_value_untrusted,
    acks_to_value,
    certificate_from_value_untrusted,
    certificate_to_value,
    verdict_from_value_untrusted,
    verdict_to_value,
)
from crdt.ids import ReplicaId
from mesh.errors import Malformed, StorageCorrupt, StorageError, StorageFull
from mesh.quorum.rows import Begun, Forgot, Joined, Left, QuorumBatch, QuorumRestored, RawBlock, Row
from mesh.store.block_log import LOG_NAME, NO_LOG, SECRET_BYTES, BlockLog, BlockRow, Place, open_ring, read_ring, rows_of
from mesh.store.database import errors_of_sqlite, identity_of, make_whole, require_named, transaction
from mesh.wire import cbor

FILE_NAME: Final = "quorum.db"
APPLICATION_ID: Final = 0x676D6571
"""Says in the file's header whose file it is ("gmeq")."""
SCHEMA_VERSION: Final = 1
CHECKPOINT_PAGES: Final = 4096
"""The write-ahead log is folded into the file every 16 MB: a pause of some milliseconds, seldom. Then it is begun again in its
place."""
_TABLES: Final = {
    "blocks": ("place INTEGER PRIMARY KEY", "header", "signature", "body", "known"),
    "facts": ("name TEXT PRIMARY KEY", "value"),
    "steps": ("place INTEGER PRIMARY KEY", "header", "signature", "body", "certificate"),
    "states": ("name TEXT PRIMARY KEY", "place", "raw"),
    "verdicts": ("proposal BLOB PRIMARY KEY", "raw"),
}


class LedgerFile:
    """Every method may raise StorageError or a subclass, and nothing else on account of the disk."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._end = (1 << 63) - 1
        """No block is above this place; unknown at first."""
        self._term = -1
        """Of the verdicts that are kept; as `load` finds it."""
        self._is_new = False
        with self._typed_errors():
            self._database = self._open()
            self._identity = identity_of(self.path)

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            if self.path.with_name(FILE_NAME + "-wal").exists():
                raise self._corrupt("the file is missing, but its write-ahead log is there")
            make_whole(self.path, _create)
            self._is_new = True
        elif not self.path.stat().st_size:
            raise self._corrupt("the file is empty")
        database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            ours = database.execute("PRAGMA application_id").fetchone()[0]
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if ours != APPLICATION_ID or version < 1:
                raise self._corrupt("this is not a file of gossipmesh's quorum")
            if version > SCHEMA_VERSION:
                raise StorageError(f"{self.path} was written by a newer gossipmesh (format {version}): install that one")
            mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StorageError(f"{self.path}: this file system does not take a write-ahead log ({mode}); use a local one")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        except BaseException:
            database.close()
            raise
        return database

    # ---- writing

    def write(self, batches: Sequence[QuorumBatch], place: Place | None = None) -> None:
        """One transaction: on return all of it is on the disk; when it raises, none of it is. `place`: how far these take
        along what is in the log."""
        before = self._end, self._term
        try:
            with self._typed_errors(), transaction(self._database):
                for batch in batches:
                    for row in batch.rows:
                        self._write(row, batch.commit)
                if place is not None:
                    self._put_place(place)
                require_named(self.path, self._identity)
        except BaseException:
            self._end, self._term = before
            raise

    def open_log(self) -> BlockLog:
        """A new one, from here on: to be opened when nothing is in the former one that is not here."""
        secret = os.urandom(SECRET_BYTES)
        with self._typed_errors():
            found = BlockLog(open_ring(self.path.parent, secret), secret)
            try:
                with transaction(self._database):
                    self._put_place(Place(secret, 0))
            except BaseException:
                found.close()
                raise
        return found

    def check_named(self) -> None:
        """Before each record of the log, which is worth nothing without this file."""
        require_named(self.path, self._identity)

    def _write(self, row: Row, commit: int) -> None:
        match row:
            case BlocksStored(blocks):
                if blocks[0].index <= self._end:
                    self._database.execute("DELETE FROM blocks WHERE place >= ?", (blocks[0].index,))
                self._end = blocks[-1].index
                self._insert(rows_of(blocks, commit))
            case TermAndVote(term, vote):
                self._put("facts", "vote", cbor.encode([term, vote]))
                if term > self._term:
                    self._term = term
                    self._database.execute("DELETE FROM verdicts")
            case VerdictStored(verdict):
                self._put("verdicts", verdict.proposal, cbor.encode(verdict_to_value(verdict)))
            case SnapshotStored(index, raw, alone):
                self._put("states", "snapshot", index, raw)
                self._database.execute(
                    "DELETE FROM blocks" if alone else "DELETE FROM blocks WHERE place <= ?", () if alone else (index,)
                )
            case Bundle(index, raw):
                self._put("states", "bundle", index, raw)
            case Proof(index, digest, acks):
                self._put("facts", "proof", cbor.encode([index, digest, acks_to_value(acks)]))
            case Step(block, certificate):
                proof = cbor.encode(certificate_to_value(certificate))
                self._put("steps", block.index, block.header_bytes, block.signature, block.body, proof)
            case Begun(epoch, genesis):
                self._term = 0
                for table in _TABLES:  # a log that was just opened stays: blocks may be on their way there
                    self._database.execute(f"DELETE FROM {table}" + (" WHERE name != 'log'" if table == "facts" else ""))
                self._put("facts", "epoch", cbor.encode([epoch, genesis]))
            case Joined():
                self._put("facts", "joined", cbor.encode(True))
            case Left():
                self._put("facts", "joined", cbor.encode(False))
            case Forgot(is_over):
                self._put("facts", "forgot", cbor.encode(not is_over))

    def _insert(self, rows: Sequence[BlockRow]) -> None:
        self._database.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?)", [(*each, _crc(each)) for each in rows])

    def _put_place(self, place: Place) -> None:
        if place == NO_LOG:
            self._database.execute("DELETE FROM facts WHERE name = 'log'")
        else:
            self._put("facts", "log", cbor.encode(list(place)))

    def _put(self, table: str, *row: object) -> None:
        marks = ", ".join("?" * (len(row) + 1))
        self._database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*row, _crc(row)))

    # ---- reading

    def load(self) -> QuorumRestored:
        """Everything, checked."""
        with self._typed_errors():
            complaint = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if complaint != "ok":
                raise self._corrupt(complaint)
            try:
                self._take_over()
                return self._load()
            except (Malformed, ValueError, TypeError) as error:
                raise self._corrupt(str(error)) from error

    def _take_over(self) -> None:
        """What an earlier start left in the log."""
        if (told := self._facts().get("log")) is None:
            return
        records, is_lost = read_ring(self.path.parent, Place(*told))
        try:
            with transaction(self._database):
                for rows in records:
                    self._insert(rows)
                if is_lost:
                    self._put("facts", "forgot", cbor.encode(True))
                self._put_place(NO_LOG)
        except sqlite3.IntegrityError as error:
            raise self._corrupt(f"it is older than {LOG_NAME}: {error}") from error

    def _facts(self) -> dict[str, Any]:
        return {name: cbor.decode_untrusted(value) for name, value in self._rows("facts")}

    def _load(self) -> QuorumRestored:
        facts = self._facts()
        states = {name: (place, raw) for name, place, raw in self._rows("states")}
        epoch, genesis = facts.get("epoch", (0, b""))
        term, vote = facts.get("vote", (0, None))
        self._term = term
        snapshot = states.get("snapshot")
        blocks, commit, lost = self._blocks(snapshot[0] if snapshot else 0)
        proof = facts.get("proof")
        steps = tuple(
            ((header, signature, body), certificate_from_value_untrusted(cbor.decode_untrusted(certificate)))
            for _, header, signature, body, certificate in self._rows("steps")
        )
        return QuorumRestored(
            epoch,
            genesis,
            facts.get("joined", False) is True,
            term,
            None if vote is None else ReplicaId(vote),
            commit,
            blocks,
            snapshot,
            tuple(self._verdicts()),
            None if proof is None else Proof(proof[0], proof[1], acks_from_value_untrusted(proof[2])),
            steps,
            states.get("bundle"),
            lost or facts.get("forgot", False) is True,
            is_new=self._is_new,
        )

    def _verdicts(self) -> Iterator[Verdict]:
        for _, raw in self._rows("verdicts"):
            yield verdict_from_value_untrusted(cbor.decode_untrusted(raw))

    def _blocks(self, base: int) -> tuple[tuple[RawBlock, ...], int, bool]:
        """(blocks in a row above `base`, known to be committed up to, whether some above them are lost)."""
        found: list[RawBlock] = []
        commit, expected = base, base + 1
        for place, header, signature, body, known, crc in self._database.execute("SELECT * FROM blocks ORDER BY place"):
            if place < expected:
                continue
            if place != expected or crc != _crc((place, header, signature, body, known)):
                return tuple(found), min(commit, expected - 1), True
            found.append((header, signature, body))
            commit, expected = max(commit, known), expected + 1
        return tuple(found), min(commit, expected - 1), False

    def _rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        for *row, crc in self._database.execute(f"SELECT * FROM {table} ORDER BY 1"):
            if crc != _crc(row):
                raise self._corrupt(f"a row of {table} does not fit its checksum")
            yield tuple(row)

    def close(self) -> None:
        with self._typed_errors(), closing(self._database):
            pass

    # ---- errors

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            with errors_of_sqlite(self.path, self._corrupt, self._full):
                yield
        except OSError as error:
            raise StorageError(f"{self.path} cannot be used now: {error.strerror}") from error

    def _full(self, complaint: str) -> StorageFull:
        return StorageFull(f"{self.path} cannot grow ({complaint}): make room on that disk")

    def _corrupt(self, complaint: str) -> StorageCorrupt:
        return StorageCorrupt(
            f"{self.path} is damaged ({complaint}). This agent must not vote with it: move {FILE_NAME} and {FILE_NAME}-wal "
            "away and start again. The mesh brings the state back; as a voter it counts again once the others have replaced it"
        )


def _create(database: sqlite3.Connection) -> None:
    database.execute("BEGIN EXCLUSIVE")
    for table, columns in _TABLES.items():
        order = "" if "INTEGER" in columns[0] else " WITHOUT ROWID"
        database.execute(f"CREATE TABLE {table} ({', '.join(columns)}, crc INTEGER NOT NULL){order}")
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute("COMMIT")


def _crc(row: Sequence[Any]) -> int:
    return crc32(b"|".join([cell if cell.__class__ is bytes else str(cell).encode() for cell in row]))
