"""Rows in, rows out; and what is noticed when somebody else has been at them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from mesh.store import schema
from mesh.store.schema import BODIES, HOSTED, LOOSE, META, OWN, PEERS, STATEMENTS, TABLES, DamageError, Key, Row

SHELF, OTHER = b"A" * 12, b"B" * 12


def ref(shelf: bytes, seq: int, number: int = 0) -> bytes:
    return shelf + seq.to_bytes(8, "big") + number.to_bytes(16, "big")


def place_ref(host: bytes, place: int, body: bytes) -> bytes:
    return host + place.to_bytes(8, "big") + body


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        schema.create(made)
        schema.prepare(made)
        yield made


def bodies(database: sqlite3.Connection) -> list[bytes]:
    return sorted(key for key, _ in schema.stored(database, BODIES))


def test_rows_come_back_as_they_were(database: sqlite3.Connection) -> None:
    rows: list[tuple[Key, Row]] = [
        (b"r%d" % number, (b"key", "host\u1234", number, 2**40, "n\u00e4me", None)) for number in range(200)
    ]
    schema.put(database, PEERS, rows)
    assert sorted(schema.stored(database, PEERS)) == sorted(rows)


def test_a_row_of_the_same_key_replaces(database: sqlite3.Connection) -> None:
    schema.put(database, META, [("a", (b"1",)), ("b", (b"2",))])
    schema.put(database, META, [("a", (b"3",))])
    schema.drop(database, META, ["b", "never there"])
    assert list(schema.stored(database, META)) == [("a", (b"3",))]


def test_numbered_rows_are_kept_once_in_their_order(database: sqlite3.Connection) -> None:
    schema.put(database, STATEMENTS, [(b"z", ()), (b"a", ())])
    schema.put(database, STATEMENTS, [(b"a", ()), (b"m", ())])
    assert list(schema.stored(database, STATEMENTS)) == [(b"z", ()), (b"a", ()), (b"m", ())]


def test_a_body_stays_as_long_as_anything_refers_to_it(database: sqlite3.Connection) -> None:
    body, fork = ref(SHELF, 1), ref(SHELF, 1, 1)
    schema.put(database, BODIES, [(body, (b"raw",)), (fork, (b"other raw",))])
    schema.put(database, OWN, [(body, (b"\1",))])
    schema.put(database, HOSTED, [(place_ref(OTHER, 7, body), (b"\1",)), (place_ref(OTHER, 7, fork), (b"\1",))])
    schema.put(database, LOOSE, [(SHELF + (1).to_bytes(8, "big"), (b"header", b"signature", body, None))])
    schema.doubt(database, [body])
    schema.drop(database, OWN, [body])
    schema.sweep(database)
    assert bodies(database) == [body, fork]
    schema.drop_shelf(database, OTHER)
    schema.sweep(database)
    assert bodies(database) == [body]  # the loose delta still has it
    schema.doubt_loose(database, [SHELF + (1).to_bytes(8, "big")])
    schema.drop(database, LOOSE, [SHELF + (1).to_bytes(8, "big")])
    schema.sweep(database)
    assert bodies(database) == []


def test_dropping_a_shelf_spares_its_neighbours(database: sqlite3.Connection) -> None:
    before, after = b"@" + b"\xff" * 11, b"A" * 11 + b"B"
    for shelf in (before, SHELF, after):
        schema.put(database, OWN, [(ref(shelf, seq), (b"\1",)) for seq in (1, 2**48 - 1)])
        schema.put(database, BODIES, [(ref(shelf, seq), (b"raw",)) for seq in (1, 2**48 - 1)])
    schema.drop_shelf(database, SHELF)
    schema.sweep(database)
    assert {body[:12] for body in bodies(database)} == {before, after}


def test_sweeping_looks_up_bodies_instead_of_reading_them_all(database: sqlite3.Connection) -> None:
    """A commit must not cost as much as the state is large."""
    statements: list[str] = []
    database.set_trace_callback(statements.append)
    schema.drop_shelf(database, SHELF)
    schema.doubt(database, [ref(SHELF, 1)])
    schema.doubt_loose(database, [SHELF])
    schema.drop(database, OWN, [ref(SHELF, 1)])
    schema.sweep(database)
    database.set_trace_callback(None)
    for statement in statements:
        if statement.startswith("--"):
            continue  # inside a trigger
        for *_, step in database.execute(f"EXPLAIN QUERY PLAN {statement}"):
            assert not step.startswith("SCAN") or "doubted" in step or "CONSTANT" in step, (step, statement)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_any_change_by_somebody_else_is_noticed(table: schema.Table, database: sqlite3.Connection) -> None:
    """Values, lost rows, rows of another moment: none of which SQLite's own check would see."""
    key = b"k" * 36
    rows: list[tuple[Key, Row]] = [(key, (b"v",) * len(table.columns)), (b"l" * 36, (b"v",) * len(table.columns))]
    schema.put(database, table, rows)
    assert sorted(schema.stored(database, table)) == sorted(rows)
    for event in ("insert", "update", "delete"):
        database.execute(f"DROP TRIGGER {table.name}_{event}")  # as pages of a file change: nobody keeps the totals
    damages = [
        *(
            f"UPDATE {table.name} SET {column} = x'00' WHERE {table.key} = x'{key.hex()}'"
            for column in (table.key, *table.columns, "crc")
        ),
        f"DELETE FROM {table.name} WHERE {table.key} = x'{key.hex()}'",
        f"DELETE FROM {table.name}",
        f"UPDATE totals SET rows = rows - 1 WHERE name = '{table.name}'",
        f"DELETE FROM totals WHERE name = '{table.name}'",
    ]
    for damage in damages:
        database.execute("BEGIN")
        database.execute(damage)
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with pytest.raises(DamageError, match=table.name):
            list(schema.stored(database, table))
        database.execute("ROLLBACK")
