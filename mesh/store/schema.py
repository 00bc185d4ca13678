"""The tables of `state.db` and the statements on them.

| table | key | row |
| --- | --- | --- |
| heads | shelf | one per base: its head, signed |
| own | shelf, seq, body hash | which ops of a body are live in the base of the shelf that wrote it |
| hosted | host, place, shelf, seq, body hash | the same in the base of a host that took the shelf over |
| bodies | shelf, seq, body hash | one body, once, however many bases and loose deltas refer to it |
| loose | shelf, seq | one delta above a floor |
| peers, meta | replica; name | as in `mesh.store.rows` |
| statements | as they came, numbered | |
| totals | table | how many rows it has, and the sum of their checksums |

Keys are one blob, their parts in fixed width and big-endian, so that a shelf is a range and a list of keys is one `IN`.

Every row ends with a CRC-32 of its columns, and triggers keep `totals` in step. So a load notices a changed row, a lost one, and
pages of different moments side by side: a file that was copied while in use, a write-ahead log next to the wrong file. SQLite's
own check sees none of these as long as the tree is sound. A CRC is enough: this is about damage; against enemies there are
signatures and digests.

Several rows go into one statement, because the interpreter lock is given up and taken back once per statement, and taking it
back can take as long as the event loop has work: 500 rows beside a busy loop take 21 ms so, and 40 ms one by one (measured).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar
from zlib import crc32

APPLICATION_ID: Final = 0x676D6573
"""Says in the file's header whose file it is ("gmes")."""
SCHEMA_VERSION: Final = 1

Key: TypeAlias = Any
"""bytes, or str where the key is a name."""
Row: TypeAlias = tuple[Any, ...]
"""Columns after the key, without the checksum: bytes, int, str or None."""

ROWS_PER_STATEMENT: Final = (64, 8, 1)
"""So that each table needs three statements, which stay prepared. At most 64 x 9 variables; SQLite before 3.32 took 999."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    name: str
    key: str
    columns: tuple[str, ...]
    """After the key, before the checksum."""


HEADS: Final = Table("heads", "shelf", ("header", "signature"))
OWN: Final = Table("own", "ref", ("mask",))
HOSTED: Final = Table("hosted", "place_ref", ("mask",))
LOOSE: Final = Table("loose", "place", ("header", "signature", "ref", "mask"))
PEERS: Final = Table("peers", "replica", ("public_key", "host", "port", "incarnation", "name", "last_seen"))
META: Final = Table("meta", "name", ("value",))
KEYED: Final = (HEADS, OWN, HOSTED, LOOSE, PEERS, META)
BODIES: Final = Table("bodies", "ref", ("raw",))
STATEMENTS: Final = Table("statements", "raw", ())
NUMBERED: Final = (BODIES, STATEMENTS)
"""Rows of about 1 kB: a table of its own order with an index beside it, since a tree of such rows would be deep."""
TABLES: Final = (*KEYED, *NUMBERED)

PLACE_BYTES: Final = 20
"""shelf (12), seq (8)."""
REF_BYTES: Final = 36
"""shelf (12), seq (8), body hash (16)."""
_HOSTED_REF: Final = f"substr(place_ref, {PLACE_BYTES + 1})"


def checksum(key: Key, row: Sequence[Any]) -> int:
    return crc32(b"|".join([cell if cell.__class__ is bytes else str(cell).encode() for cell in (key, *row)]))


def create(database: sqlite3.Connection) -> None:
    """All tables, in one transaction."""
    database.execute("BEGIN EXCLUSIVE")
    database.execute("CREATE TABLE totals (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID")
    for table in TABLES:
        columns = "".join(f", {column}" for column in table.columns)
        number, key, order = (
            ("number INTEGER PRIMARY KEY, ", "UNIQUE", "") if table in NUMBERED else ("", "PRIMARY KEY", " WITHOUT ROWID")
        )
        database.execute(f"CREATE TABLE {table.name} ({number}{table.key} NOT NULL {key}{columns}, crc INTEGER NOT NULL){order}")
        database.execute("INSERT INTO totals VALUES (?, 0, 0)", (table.name,))
        for event, rows, change in (
            ("INSERT", "+ 1", "+ NEW.crc"),
            ("DELETE", "- 1", "- OLD.crc"),
            ("UPDATE", "+ 0", "+ NEW.crc - OLD.crc"),
        ):
            database.execute(
                f"CREATE TRIGGER {table.name}_{event.lower()} AFTER {event} ON {table.name} BEGIN "
                f"UPDATE totals SET rows = rows {rows}, sum = sum {change} WHERE name = '{table.name}'; END"
            )
    database.execute(f"CREATE INDEX hosted_body ON hosted ({_HOSTED_REF})")
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute("COMMIT")


def put(database: sqlite3.Connection, table: Table, rows: Iterable[tuple[Key, Row]]) -> None:
    """Insert rows, or replace those of the same key. Of numbered tables rows never change: what is there stays."""
    names = (*table.columns, "crc")
    changes = "NOTHING" if table in NUMBERED else "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in names)
    place = f"({', '.join('?' * (1 + len(names)))})"
    ordered = list(rows) if table in NUMBERED else sorted(rows)  # neighbours share pages of the tree: a third of the time
    for chunk in _chunks(ordered):
        values = [cell for key, row in chunk for cell in (key, *row, checksum(key, row))]
        database.execute(
            f"INSERT INTO {table.name} ({table.key}, {', '.join(names)}) VALUES {', '.join([place] * len(chunk))} "
            f"ON CONFLICT ({table.key}) DO {changes}",
            values,
        )


def drop(database: sqlite3.Connection, table: Table, keys: Iterable[Key]) -> None:
    """Delete the rows of these keys. What they referred to must have been named to `doubt` before."""
    for chunk in _chunks(list(keys)):
        database.execute(f"DELETE FROM {table.name} WHERE {table.key} IN ({_marks(chunk)})", chunk)


def drop_shelf(database: sqlite3.Connection, shelf: bytes) -> None:
    """Delete the base and the loose deltas of a shelf; their bodies are in doubt."""
    within = (shelf, shelf + b"\xff" * (PLACE_BYTES + REF_BYTES))
    for table, body in ((OWN, "ref"), (HOSTED, _HOSTED_REF), (LOOSE, "ref")):
        database.execute(f"INSERT INTO doubted SELECT {body} FROM {table.name} WHERE {table.key} BETWEEN ? AND ?", within)
        database.execute(f"DELETE FROM {table.name} WHERE {table.key} BETWEEN ? AND ?", within)
    drop(database, HEADS, [shelf])


def prepare(database: sqlite3.Connection) -> None:
    """What a connection needs besides the file: the bodies that this transaction may leave without a reference."""
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("CREATE TEMP TABLE doubted (ref)")


def doubt(database: sqlite3.Connection, refs: Iterable[Key]) -> None:
    for chunk in _chunks(list(refs)):
        database.execute(f"INSERT INTO doubted VALUES {', '.join(['(?)'] * len(chunk))}", chunk)


def doubt_loose(database: sqlite3.Connection, places: Iterable[Key]) -> None:
    """The bodies of the loose deltas that are now at these places."""
    for chunk in _chunks(list(places)):
        database.execute(f"INSERT INTO doubted SELECT ref FROM loose WHERE place IN ({_marks(chunk)})", chunk)


def sweep(database: sqlite3.Connection) -> None:
    """Bodies in doubt that nothing refers to any more go with their last reference."""
    database.execute(
        "DELETE FROM bodies WHERE number IN (SELECT body.number FROM doubted JOIN bodies AS body USING (ref) "
        "WHERE NOT EXISTS (SELECT 1 FROM own WHERE own.ref = body.ref) "
        f"AND NOT EXISTS (SELECT 1 FROM hosted WHERE {_HOSTED_REF} = body.ref) "
        f"AND NOT EXISTS (SELECT 1 FROM loose WHERE loose.place = substr(body.ref, 1, {PLACE_BYTES}) AND loose.ref = body.ref))"
    )
    database.execute("DELETE FROM doubted")


def stored(database: sqlite3.Connection, table: Table) -> Iterator[tuple[Key, Row]]:
    """All rows of a table, in the order of their keys or numbers. DamageError when one does not fit its checksum, or when
    their number or sum is wrong."""
    count = total = 0
    order = "number" if table in NUMBERED else table.key
    for key, *row, crc in database.execute(
        f"SELECT {', '.join((table.key, *table.columns))}, crc FROM {table.name} ORDER BY {order}"
    ):
        if checksum(key, row) != crc:
            raise DamageError(f"a row of {table.name} does not fit its checksum")
        count, total = count + 1, total + crc
        yield key, tuple(row)
    if (count, total) != database.execute("SELECT rows, sum FROM totals WHERE name = ?", (table.name,)).fetchone():
        raise DamageError(f"{table.name} has lost rows, or holds rows of another moment")


class DamageError(Exception):
    """What is in the file is not what was put there."""


def _marks(chunk: Sequence[Key]) -> str:
    return ", ".join("?" * len(chunk))


_T = TypeVar("_T")


def _chunks(items: list[_T]) -> Iterator[list[_T]]:
    """In sizes of which there are few, so that the statements made for them stay prepared."""
    start = 0
    for size in ROWS_PER_STATEMENT:
        while len(items) - start >= size:
            yield items[start : start + size]
            start += size
