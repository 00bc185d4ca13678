"""What both of an agent's database files need: to come into being whole, to change in whole steps, and errors of our own kind."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from mesh.errors import StorageCorrupt, StorageError, StorageFull
from mesh.store.durable import sync_directory

_MAKING: Final = ".new"
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def make_whole(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Under another name first, so that the file is whole as soon as it has its name."""
    making = path.with_name(path.name + _MAKING)
    making.unlink(missing_ok=True)
    making.with_name(making.name + "-journal").unlink(missing_ok=True)
    os.close(os.open(making, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(making, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = FULL")
        fill(database)
    os.replace(making, path)
    sync_directory(path.parent)


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of what is done inside, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def errors_of_sqlite(path: Path, corrupt: Callable[[str], StorageCorrupt], full: Callable[[str], StorageFull]) -> Iterator[None]:
    """What SQLite says -> our errors, each with the file's name and the way out."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not hasattr(error, "sqlite_errorcode"):
            raise  # raised by the module itself: a mistake of ours
        code = error.sqlite_errorcode & 0xFF
        if code in _DAMAGED:
            raise corrupt(str(error)) from error
        if code == sqlite3.SQLITE_FULL:
            raise full(str(error)) from error
        raise StorageError(f"{path} cannot be used now: {error} ({error.sqlite_errorname})") from error


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file has this name now; None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def require_named(path: Path, identity: tuple[int, int] | None) -> None:
    """A file that somebody removed or replaced goes on taking writes, which are gone when this process ends.

    Nor does one without its write-ahead log keep anything. Raises StorageError. Asked before each commit: names, not paths, save
    20 us.
    """
    name = str(path)
    try:
        found, _ = os.stat(name), os.stat(name + "-wal")
        if (found.st_dev, found.st_ino) == identity:
            return
    except FileNotFoundError:
        pass
    raise StorageError(
        f"{path} was removed or replaced while in use: nothing can be kept there any more. "
        "Copy what matters from the running node, stop it, and start it again"
    )
