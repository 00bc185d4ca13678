"""`state.db`: the blocking side of the store. Called from one worker thread at a time, never from the event loop.

A database comes into being whole: it is made under another name, synced and renamed. So a file that is there and empty, or has no
tables, was damaged, and is never taken for a fresh start.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from mesh.errors import ConfigError, StorageCorrupt, StorageError, StorageFull
from mesh.store import schema
from mesh.store.database import errors_of_sqlite, identity_of, make_whole, require_named, transaction
from mesh.store.layout import restored
from mesh.store.lock import DirectoryLock
from mesh.store.pending import Pending
from mesh.store.rows import Restored

FILE_NAME: Final = "state.db"
_WAL: Final = "-wal"

WAL_BYTES_KEPT: Final = 8 << 20
"""A longer write-ahead log is cut after a checkpoint. Twice SQLite's usual checkpoint, so that it is not cut and grown in
turns."""

LOCK_SECONDS: Final = 1.0
"""How long to wait for somebody who looks into the file with SQLite's own tools."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Disk:
    """One open data directory. Every method may raise StorageError or a subclass, and nothing else on account of the disk."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._lock = _lock(directory)
        try:
            with self._typed_errors():
                self._database = self._open()
                self._identity = identity_of(self.path)
        except BaseException:
            self._lock.release()
            raise

    def load(self) -> Restored:
        """Everything, checked: the tree, each row, and that none is missing."""
        with self._typed_errors():
            complaint = self._database.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if complaint != "ok":
                raise schema.DamageError(complaint)
            return restored(partial(schema.stored, self._database))

    def write(self, pending: Pending) -> None:
        """One transaction: on return all of it is on the disk; when it raises, none of it is."""
        with self._typed_errors(), transaction(self._database):
            doomed = {table: [key for key, row in rows.items() if row is None] for table, rows in pending.rows.items()}
            for shelf in pending.gone:
                schema.drop_shelf(self._database, shelf)
            schema.doubt_loose(self._database, pending.rows[schema.LOOSE])
            schema.doubt(self._database, doomed[schema.OWN])
            schema.doubt(self._database, [key[schema.PLACE_BYTES :] for key in doomed[schema.HOSTED]])
            for table, rows in pending.rows.items():
                schema.drop(self._database, table, doomed[table])
                schema.put(self._database, table, [(key, row) for key, row in rows.items() if row is not None])
            schema.sweep(self._database)
            require_named(self.path, self._identity)

    def close(self) -> None:
        """Also brings the write-ahead log into the file, as far as the disk allows. Idempotent."""
        try:
            with self._typed_errors():
                self._database.close()
        finally:
            self._lock.release()

    def _open(self) -> sqlite3.Connection:
        self._require_whole()
        if not self.path.exists():
            make_whole(self.path, schema.create)
        database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS)
        database.text_factory = partial(str, encoding="utf-8", errors="replace")  # damaged text: its checksum says so
        try:
            # No other process may look in: its reader would hold up checkpoints. And without readers the index of the write-ahead
            # log is kept on the heap instead of in a mapped file, whose pages on a full disk would kill the process.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._require_ours(database)
            mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StorageError(f"{self.path}: this file system does not take a write-ahead log ({mode}); use a local one")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
            schema.prepare(database)
            self.loose = {key for (key,) in database.execute("SELECT place FROM loose")}
            """Keys of the loose deltas that were here at the start."""
        except BaseException:
            database.close()
            raise
        return database

    def _require_whole(self) -> None:
        """A fresh start is a directory without our files. Anything between that and a whole file is damage."""
        wal = self.path.with_name(FILE_NAME + _WAL)
        if self.path.exists():
            if self.path.stat().st_size == 0:
                raise schema.DamageError("the file is empty")
        elif wal.exists():
            raise schema.DamageError(f"the file is missing, but {wal.name} is there")

    def _require_ours(self, database: sqlite3.Connection) -> None:
        ours = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if ours != schema.APPLICATION_ID or version < 1:
            raise schema.DamageError("this is not a file of gossipmesh")
        if version > schema.SCHEMA_VERSION:
            raise StorageError(
                f"{self.path} was written by a newer gossipmesh (format {version}, this one reads {schema.SCHEMA_VERSION}): "
                "install that one, or give this node another data_dir"
            )

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        """What SQLite and the system say -> our errors, each with the file's name and the way out."""
        try:
            with errors_of_sqlite(self.path, self._corrupt, self._full):
                yield
        except schema.DamageError as error:
            raise self._corrupt(str(error)) from error
        except UnicodeDecodeError as quoted:  # SQLite's own message quotes what it found
            raise self._corrupt("text that is none") from quoted
        except OSError as told:
            if told.errno in _NO_ROOM:
                raise self._full(str(told.strerror)) from told
            raise StorageError(f"{self.path} cannot be used now: {told.strerror}") from told

    def _corrupt(self, complaint: str) -> StorageCorrupt:
        return StorageCorrupt(
            f"{self.path} is damaged ({complaint}). Move {FILE_NAME} and {FILE_NAME}{_WAL} out of {self.path.parent}, "
            "or put a backup in their place, and start again: this agent then begins a new shelf, "
            "and the mesh brings back what any member has"
        )

    def _full(self, complaint: str) -> StorageFull:
        return StorageFull(
            f"{self.path} cannot grow ({complaint}): make room on that disk. "
            "What waits is kept in memory and written as soon as it can be"
        )


def _lock(directory: Path) -> DirectoryLock:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return DirectoryLock(directory)
    except OSError as error:
        raise ConfigError(f"cannot use {directory} as data_dir: {error.strerror}") from error
