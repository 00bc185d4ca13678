"""A simulated disk gives back what SQLite does."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdt.ids import ReplicaId
from mesh.store.rows import Batch, KnownPeer
from mesh.testing.tables import Tables
from tests.store.journals import Author, plain
from tests.store.test_disk import opened

IDS = [ReplicaId(bytes([number]) * 8) for number in (1, 2, 3)]
SHARED = {replica: KnownPeer(replica, b"key", ("192.0.2.1", 7), 1, "robot", 0) for replica in IDS}
STATEMENTS = {b"one": True, b"two": True}


@pytest.mark.parametrize("seed", range(3))
def test_against_the_store(seed: int, tmp_path: Path) -> None:
    author = Author(seed)
    tables, from_shared = Tables(), Tables(SHARED, STATEMENTS)
    first = Batch(peers=tuple(SHARED.values()), statements=tuple(STATEMENTS))
    tables.apply(first)
    with opened(tmp_path) as it:
        it.write(first)
        for number in range(40):
            batch = author.batch()
            it.write(batch)
            tables.apply(batch)
            from_shared.apply(batch)
            if number % 10 == 9:
                tables, from_shared = tables.copy(), from_shared.copy()
                found = it.disk.load()
                assert plain(tables.restored()) == plain(from_shared.restored()) == plain(found)
                assert len(found.journal) > 3
